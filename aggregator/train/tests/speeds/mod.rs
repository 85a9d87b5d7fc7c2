//! What a card says of a speed that was kept from training.

use kilter_train::{Card, Dataset, TrainOptions};

use crate::{dataset, quick, run};

/// The two regimes as speeds on a machine's own grid.
fn two_speeds(mut data: Dataset) -> Dataset {
    data.healthy.regime.iter_mut().for_each(|bin| *bin = 64 + 8 * *bin);
    data
}

#[test]
fn every_card_says_what_its_like_does_at_a_speed_that_was_kept_from_it() {
    let data = two_speeds(dataset(5, 260));
    let trained = run(&data, &TrainOptions { kept_speeds: 2, ..quick() });
    for (model, without) in trained.models.iter().zip(run(&data, &quick()).models) {
        let Card { family, metrics, kept_speeds, why, .. } = &model.card;
        println!("{family}: {metrics:?} {kept_speeds:?} {why}");
        let mut bins: Vec<_> = kept_speeds.iter().flat_map(|score| score.bins.clone()).collect();
        bins.sort_unstable();
        assert_eq!((bins, kept_speeds.len()), (vec![64, 72], 2), "each speed was kept away once");
        for score in kept_speeds {
            assert!(score.kept == "speed" && score.windows >= 20 && score.rpm[0] < score.rpm[1], "{score:?}");
            assert!((0.0..=1.0).contains(&score.detection) && (0.0..=1.0).contains(&score.rule_detection));
            // Its features stand elsewhere at that speed: who has never seen it cries wolf, and the card does not hide it.
            assert!(score.false_alarm_share > metrics["false_alarm_share"] + 0.2, "{score:?}");
        }
        assert!(model.card.no_kept_speed.is_none() && why.contains("its like that never saw it finds"), "{why}");
        // It is a figure about the model and no part of it.
        assert_eq!(model.card.digest, without.card.digest);
        assert_eq!(without.card.no_kept_speed.as_deref(), Some("not asked for"));
        let json = serde_json::to_string(&model.card).expect("a card is JSON");
        let read: Card = serde_json::from_str(&json).expect("its own JSON");
        assert!(read.kept_speeds.iter().map(|score| &score.bins).eq(kept_speeds.iter().map(|score| &score.bins)));
    }
    assert!(kilter_train::report(&trained.models, None).contains("never learned from"));
    let mut alone = data;
    alone.healthy.regime.fill(64);
    for model in run(&alone, &TrainOptions { kept_speeds: 2, ..quick() }).models {
        assert_eq!(model.card.no_kept_speed.as_deref(), Some("not possible: one speed only"));
        assert!(model.card.kept_speeds.is_empty() && model.card.why.contains("one speed only"));
    }
}
