//! Where scores are heading: told from their own errors, the same on every replay, and nothing before enough is known.

use kilter_fold::Output;
use kilter_live::{FleetRow, Live, MAX_SERIES, MachineView, Outlook};
use kilter_types::{Digest, Event, KernelId, Micros, Name, Payload, Role, RowRef, Score};
use proptest::prelude::*;

use super::{SECOND, key, output};

const WINDOW_S: i64 = 300;
const HOUR_S: i64 = 3_600;

fn score(ratio: f32) -> Score {
    Score {
        input: RowRef { group: 0, index: 0, seq: 0 },
        anomaly: 2.0 * ratio,
        threshold: 2.0,
        rul: None,
        model: Digest::NONE,
        kernel: KernelId::RULE,
        role: Role::Leader,
        contributions: heapless::Vec::new(),
        rest: 2.0 * ratio,
    }
}

fn scored(t_s: i64, ratio: f32) -> Output {
    output(t_s, Payload::Score(score(ratio)))
}

/// Between -0.5 and 0.5, by the number alone.
fn noise(number: i64) -> f32 {
    let bits = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32 - 0.5
}

fn row(live: &Live) -> FleetRow {
    live.fleet(Micros(101 * SECOND)).machines.remove(0)
}

fn page(live: &Live) -> MachineView {
    live.machine_view(&key(), Micros(101 * SECOND)).expect("the machine is known")
}

/// Windows of so many hours, whose score is this at an hour.
fn hours(hours: i64, ratio: impl Fn(f32) -> f32) -> Live {
    let mut live = Live::new();
    for number in 0..hours * HOUR_S / WINDOW_S {
        let t_s = number * WINDOW_S;
        live.apply(&scored(t_s, ratio(t_s as f32 / HOUR_S as f32) * (0.1 * noise(number)).exp()));
    }
    live
}

#[test]
fn s0_26_a_score_that_grows_evenly_tells_the_hour_of_its_limit() {
    // The logarithm grows by 0.03 an hour: from 0.135 to the limit in 66.7 hours.
    let live = hours(56, |hour| (-2.0 + 0.03 * hour).exp());
    let outlook = row(&live).outlook.expect("enough is known");
    let (earliest, estimate, latest) = outlook.limit_h;
    let left_h = 2.0 / 0.03 - 56.0;
    let estimate = estimate.expect("the limit is within what is foreseen");
    assert!((estimate - left_h).abs() < 1.5, "{estimate} of {left_h} hours");
    assert!(earliest.is_some_and(|earliest| earliest <= left_h), "{outlook:?}");
    assert!(latest.is_none_or(|latest| latest >= left_h), "{outlook:?}");
    // What the page draws: ends that hold the forecast, and a forecast that grows.
    let view = page(&live).outlooks.remove(0);
    assert!(view.steps.iter().all(|step| step.low <= step.mid && step.mid <= step.high), "{view:?}");
    assert!(view.steps.windows(2).all(|pair| pair[0].in_h < pair[1].in_h), "{view:?}");
    assert!(view.steps.first().map(|step| step.mid) < view.steps.last().map(|step| step.mid), "{view:?}");
    assert_eq!(view.steps.last().map(|step| step.in_h), Some(outlook.within_h));
}

#[test]
fn s0_26_a_healthy_machine_is_told_not_to_reach_its_limit_within_hours() {
    let outlook = row(&hours(240, |_| 0.4)).outlook.expect("enough is known");
    assert_eq!((outlook.limit_h, outlook.within_h), ((None, None, None), 64.0));
    // The fast demonstration: a window a second, foreseen are minutes.
    let mut live = Live::new();
    (0..600).for_each(|second| drop(live.apply(&scored(second, 0.4 + 0.1 * noise(second)))));
    let outlook = row(&live).outlook.expect("enough is known");
    assert_eq!(outlook.limit_h, (None, None, None));
    assert!((0.02..0.2).contains(&outlook.within_h), "{} hours after ten minutes", outlook.within_h);
}

#[test]
fn s0_26_a_score_above_its_limit_has_reached_it() {
    let mut live = hours(48, |_| 0.4);
    live.apply(&scored(48 * HOUR_S, 1.5));
    live.apply(&scored(49 * HOUR_S, 1.5));
    assert_eq!(row(&live).outlook.map(|outlook| outlook.limit_h), Some((Some(0.0), Some(0.0), Some(0.0))));
}

#[test]
fn nothing_is_told_before_twenty_errors_are_known() {
    let mut live = Live::new();
    let first = (0..100).find(|number| {
        live.apply(&scored(number * 450, 0.4 + 0.1 * noise(*number)));
        row(&live).outlook.is_some()
    });
    // A window in each bin: twenty errors a bin ahead are of twenty-one, and there is one that still fills.
    assert_eq!(first, Some(21));
}

#[test]
fn scores_without_a_threshold_or_that_are_no_number_or_of_a_shadow_change_nothing() {
    let mut live = hours(48, |_| 0.4);
    let before = row(&live).outlook;
    for (number, broken) in [
        Score { threshold: 0.0, ..score(1.0) },
        Score { threshold: -1.0, ..score(1.0) },
        Score { threshold: f32::NAN, ..score(1.0) },
        Score { anomaly: f32::NAN, ..score(1.0) },
        Score { anomaly: f32::INFINITY, ..score(1.0) },
        Score { role: Role::Shadow, ..score(9.0) },
    ]
    .into_iter()
    .enumerate()
    {
        live.apply(&output((48 + number as i64) * HOUR_S, Payload::Score(broken)));
    }
    assert_eq!(row(&live).outlook, before);
}

#[test]
fn late_scores_count_where_they_belong_and_what_is_older_than_all_bins_is_left_out() {
    let mut live = hours(400, |_| 0.4);
    let before = page(&live).outlooks;
    // Older than ten days, then of yesterday: nothing moves until the next bin, and then what is known has changed.
    live.apply(&scored(HOUR_S, 30.0));
    let mut late = live.clone();
    (0..12).for_each(|number| drop(late.apply(&scored(376 * HOUR_S + number * WINDOW_S, 30.0))));
    assert_eq!((&page(&live).outlooks, &page(&late).outlooks), (&before, &before));
    for live in [&mut live, &mut late] {
        (0..13).for_each(|number| drop(live.apply(&scored(400 * HOUR_S + number * WINDOW_S, 0.4))));
    }
    let high = |live: &Live| page(live).outlooks[0].steps[0].high;
    assert!(high(&live) < 0.5, "{}", high(&live));
    assert_ne!(page(&live).outlooks, page(&late).outlooks);
}

#[test]
fn maintenance_begins_anew_and_another_model_has_an_outlook_of_its_own() {
    let mut live = hours(48, |_| 0.4);
    let switched = |number: i64, ratio| {
        let model = Digest::of(&[1]);
        output(48 * HOUR_S + number * WINDOW_S, Payload::Score(Score { model, ..score(ratio) }))
    };
    live.apply(&switched(0, 0.9));
    assert_eq!(row(&live).outlook, None, "its scale is another");
    (1..100).for_each(|number| drop(live.apply(&switched(number, 0.9))));
    let level = page(&live).outlooks[0].level;
    assert!((0.89..0.91).contains(&level), "{level}");
    let what = Name::new("bearing-replaced").expect("a good name");
    live.apply(&output(60 * HOUR_S, Payload::Event(Event::Maintenance { what })));
    assert_eq!((row(&live).outlook, page(&live).outlooks.len()), (None, 0));
}

#[test]
fn a_series_takes_a_few_kilobytes_however_long_it_goes_on() {
    let mut outlook = Outlook::default();
    let size = |outlook: &Outlook| postcard::to_allocvec(outlook).expect("plain numbers").len();
    for number in 0..300 * 288 {
        outlook.take(Micros(number * WINDOW_S * SECOND), &score(0.4 + 0.1 * noise(number)));
    }
    assert!(size(&outlook) < 2_500, "{} bytes", size(&outlook));
    // Models that decided one after the other: the oldest leave.
    let mut live = Live::new();
    let of = |model: u8, number: i64| {
        let t_s = i64::from(model) * HOUR_S + number * WINDOW_S;
        output(t_s, Payload::Score(Score { model: Digest::of(&[model]), ..score(0.4) }))
    };
    let mut sizes = Vec::new();
    for model in 0..4 * MAX_SERIES as u8 {
        (0..4).for_each(|number| drop(live.apply(&of(model, number))));
        let point = live.machine(&key()).and_then(|machine| machine.points.values().next()).expect("it has a point");
        sizes.push(postcard::to_allocvec(&point.outlooks).expect("plain numbers").len());
    }
    let (early, late) = sizes.split_at(2 * MAX_SERIES);
    let most = |sizes: &[usize]| sizes.iter().copied().max().unwrap_or(0);
    assert!(most(late) < most(early) + 64, "{sizes:?}");
}

#[test]
fn an_older_snapshot_is_refused_by_its_version_so_that_the_journal_is_folded_again() {
    let mut snapshot = hours(1, |_| 0.4).snapshot();
    snapshot[0] = 2;
    let told = Live::restore(&snapshot).expect_err("that version had no outlook").to_string();
    assert!(told.contains("version 2"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The same scores give the same outlook, with a snapshot anywhere in between.
    #[test]
    fn a_snapshot_anywhere_goes_on_with_the_same_outlook(
        ratios in prop::collection::vec(0.01f32..3.0, 60..400),
        steps in prop::collection::vec(-2_000i64..4_000, 1..20),
        by in any::<prop::sample::Index>(),
    ) {
        let mut t_s = 0;
        let outputs: Vec<_> = ratios.iter().enumerate().map(|(number, ratio)| {
            t_s += steps[number % steps.len()];
            scored(t_s, *ratio)
        }).collect();
        let (mut straight, mut stopped) = (Live::new(), Live::new());
        let stop = by.index(outputs.len());
        for (number, output) in outputs.iter().enumerate() {
            straight.apply(output);
            if number == stop {
                stopped = Live::restore(&stopped.snapshot()).expect("its own snapshot");
            }
            stopped.apply(output);
        }
        prop_assert_eq!(page(&straight).outlooks, page(&stopped).outlooks);
        prop_assert_eq!(straight, stopped);
    }
}
