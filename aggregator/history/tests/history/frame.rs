//! Frames for training: what is learned from, what is left out, and what was not known in time.

use kilter_history::{Asset, Frames, Selection, View, frames};
use kilter_lake::{Rows, Table, TableName};
use kilter_types::{AlarmState, Cause, Label, OperatingState, Quality};

use crate::sample::{alarm, label, output, rows, table, upto, window};

async fn view(folder: &std::path::Path, table_rows: Rows) -> View {
    let mut lake = table(folder, table_rows.table()).await;
    lake.append(&table_rows, upto(10_000)).await.expect("an append");
    View { snapshot: lake.snapshot().expect("a snapshot"), tail: Vec::new() }
}

fn asset(name: &str) -> Asset {
    Asset { tenant: "acme".into(), site: "north".into(), asset: name.into() }
}

async fn gather(known_at_us: Option<i64>) -> Frames {
    let folder = tempfile::tempdir().expect("a folder");
    let steady = |i: u64| window(i, OperatingState::Steady(2), Quality::GOOD);
    // A window a second; rows come in any order.
    let mut outputs: Vec<_> = (0..60).rev().map(|i| output("press", i as i64, i, steady(i))).collect();
    outputs.push(output("press", 60, 60, window(60, OperatingState::Transient, Quality::GOOD)));
    outputs.push(output("press", 61, 61, window(61, OperatingState::Steady(2), Quality::STUCK)));
    outputs.push(output("other", 5, 62, steady(5)));
    let features = view(folder.path(), rows(TableName::Features, &outputs)).await;
    let events = [
        output("press", 40, 100, alarm(1, AlarmState::Raised)),
        output("press", 45, 101, alarm(1, AlarmState::Cleared)),
        output("press", 55, 102, label(10, 12, Label::Faulty(Cause::Cage))),
        output("press", 56, 103, label(42, 43, Label::Healthy)),
    ];
    let events = view(folder.path(), rows(TableName::Events, &events)).await;
    let selection = Selection {
        assets: vec![asset("press")],
        kind: "vibration".into(),
        margin_windows: 5,
        known_at_us,
        recent_us: None,
    };
    let gathered = tokio::task::spawn_blocking(move || frames(&features, &events, &selection));
    gathered.await.expect("no frame panics").expect("frames")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_steady_good_windows_without_alarm_or_faulty_label_are_learned_sorted() {
    let frames = gather(None).await;
    let expected: Vec<u64> = (0..60)
        .filter(|i| !(10..=12).contains(i))
        .filter(|i| ![35, 36, 37, 38, 39, 40, 41, 44, 45].contains(i))
        .collect();
    assert_eq!(frames.healthy.index, expected);
    assert_eq!(frames.faulty.index, [10, 11, 12]);
    assert_eq!((frames.width, frames.schema, frames.period_us), (2, u64::MAX - 1, 1_000_000));
    assert_eq!(frames.unwanted, 9 + 2);
    let values: Vec<f32> = expected.iter().flat_map(|i| [*i as f32, -0.5]).collect();
    assert_eq!(frames.healthy.values, values);
    assert!(frames.healthy.regime.iter().all(|bin| *bin == 2) && frames.healthy.asset.iter().all(|asset| *asset == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_what_came_later_is_not_known_earlier() {
    // At 50 s nobody had labelled anything, and windows beyond were not there.
    let frames = gather(Some(50_000_000)).await;
    let expected: Vec<u64> = (0..=50).filter(|i| !(35..=45).contains(i)).collect();
    assert_eq!(frames.healthy.index, expected);
    assert!(frames.faulty.index.is_empty());
}
