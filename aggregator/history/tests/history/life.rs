//! Machines that ran to failure: where a life begins and ends, and what is not one.

use kilter_fold::Output;
use kilter_history::{Asset, Lives, Selection, View, lives};
use kilter_lake::{Rows, Table, TableName};
use kilter_types::{AlarmState, Event, Name, OperatingState, Payload, Quality};

use crate::sample::{alarm, output, rows, table, upto, window};

async fn view(folder: &std::path::Path, table_rows: Rows) -> View {
    let mut lake = table(folder, table_rows.table()).await;
    lake.append(&table_rows, upto(10_000)).await.expect("an append");
    View { snapshot: lake.snapshot().expect("a snapshot"), tail: Vec::new() }
}

fn done(asset: &str, secs: i64, what: &str) -> Output {
    let what = Name::new(what).expect("a good name");
    output(asset, secs, 1_000 + secs as u64, Payload::Event(Event::Maintenance { what }))
}

async fn gather(events: &[Output], known_at_us: Option<i64>) -> Lives {
    let folder = tempfile::tempdir().expect("a folder");
    // A window a second; the machine stands still from second 40 to 49.
    let state = |i: u64| if (40..50).contains(&i) { OperatingState::Off } else { OperatingState::Steady(2) };
    let of = |asset: &'static str| (0..80).map(move |i| output(asset, i as i64, i, window(i, state(i), Quality::GOOD)));
    let outputs: Vec<Output> = of("press").chain(of("pump")).collect();
    let features = view(folder.path(), rows(TableName::Features, &outputs)).await;
    let events = view(folder.path(), rows(TableName::Events, events)).await;
    let asset = |name: &str| Asset { tenant: "acme".into(), site: "north".into(), asset: name.into() };
    let selection = Selection {
        assets: vec![asset("press"), asset("pump")],
        kind: "vibration".into(),
        margin_windows: 10,
        known_at_us,
        recent_us: Some(1),
    };
    let gathered = tokio::task::spawn_blocking(move || lives(&features, &events, &selection));
    gathered.await.expect("no life panics").expect("lives")
}

fn plain(lives: &Lives) -> Vec<(u32, u64, u64)> {
    let of = |index: &[u64]| (index[0], index[index.len() - 1]);
    let strands = lives.lives.iter().flat_map(|life| life.strands.iter().map(|strand| (life.asset, of(&strand.index))));
    strands.map(|(asset, (first, last))| (asset, first, last)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_goes_from_the_last_maintenance_to_the_last_window_before_the_failure() {
    let events = [
        done("press", 10, "greased"),
        // Noted while it stood still; an alarm before is no end, and the windows under it belong to the life.
        output("press", 30, 30, alarm(1, AlarmState::Raised)),
        done("press", 47, "failed-outer-race"),
        done("press", 48, "replaced"),
        done("pump", 70, "failure"),
    ];
    let found = gather(&events, None).await;
    // What ran after the last of them has not failed.
    assert_eq!(plain(&found), [(0, 10, 39), (1, 0, 69)]);
    assert_eq!((found.lives[0].end_us, found.width), (39_000_000, 2));
    assert_eq!(found.lives[1].strands[0].index.len(), 60, "what stood still is no row of a life");
    assert_eq!(found.lives[0].strands[0].values.len(), 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_a_failure_that_was_told_later_is_not_known_earlier_and_without_one_there_is_no_life() {
    let events = [done("press", 20, "failed"), done("pump", 70, "failed")];
    assert_eq!(plain(&gather(&events, Some(50_000_000)).await), [(0, 0, 19)]);
    let events = [done("press", 20, "greased"), done("pump", 70, "replaced")];
    assert_eq!(gather(&events, None).await, Lives::default());
}
