//! A question about little reads little, and the answer is the same as if all had been read.

use kilter_history::{View, query};
use kilter_lake::{Table, TableName};
use kilter_types::{OperatingState, Quality};
use serde_json::json;

use crate::sample::{output, rows, table, upto, window};

const DAYS: i64 = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s4_40_a_question_about_one_point_and_one_day_opens_less_than_a_hundredth_of_the_lake() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lake = table(folder.path(), TableName::Features).await;
    let good = |i| window(i, OperatingState::Steady(0), Quality::GOOD);
    let outputs = (0..DAYS * 8).map(|i| {
        let asset = if i % 2 == 0 { "press" } else { "fan" };
        output(asset, i / 8 * 86_400 + i % 8 * 3_600, i as u64, good(i as u64))
    });
    let outputs: Vec<_> = outputs.collect();
    lake.append(&rows(TableName::Features, &outputs), upto(100_000)).await.expect("an append");
    let view = View { snapshot: lake.snapshot().expect("a snapshot"), tail: Vec::new() };
    assert_eq!(view.snapshot.files.len() as i64, DAYS);
    tokio::task::spawn_blocking(move || {
        let views = [view];
        // The same rows, once so that files can be left out and once so that none can.
        let from = 40 * 86_400_000_000_i64;
        let to = from + 86_400_000_000;
        let cases = ["day = '1970-02-10'".to_owned(), format!("event_time_us >= {from} AND event_time_us < {to}")];
        for narrow in cases {
            let ask = |condition: &str| {
                let sql = format!("SELECT seq FROM features WHERE asset = 'press' AND {condition} ORDER BY seq");
                query(&sql, &views, 100).expect("an answer")
            };
            let (little, all) = (ask(&narrow), ask(&format!("(seq < 0 OR {narrow})")));
            assert_eq!(little.rows, all.rows);
            assert_eq!(little.rows, [320, 322, 324, 326].map(|seq| vec![json!(seq)]));
            let scanned = little.scanned;
            assert!(scanned.bytes * 100 < scanned.of_bytes && scanned.files <= 2, "{narrow}: {scanned:?}");
            assert_eq!((all.scanned.files, all.scanned.of_files), (DAYS as usize, DAYS as usize));
        }
        // A device lies in one bucket; another device's questions open nothing of it.
        let nobody = query("SELECT seq FROM features WHERE device = 'agent-17'", &views, 100).expect("an answer");
        assert!(nobody.rows.is_empty() && nobody.scanned.files == 0, "{:?}", nobody.scanned);
    })
    .await
    .expect("no question panics");
}
