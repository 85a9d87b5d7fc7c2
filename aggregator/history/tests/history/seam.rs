//! The seam between lake and tail: no row missing, none doubled, whatever is committed meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_history::{HistoryError, View, query};
use kilter_lake::{Rows, Table, TableName};
use kilter_types::{OperatingState, Quality};
use serde_json::json;

use crate::sample::{output, rows, table, upto, window};

fn part(range: std::ops::Range<u64>) -> Rows {
    let good = |i| window(i, OperatingState::Steady(0), Quality::GOOD);
    rows(TableName::Features, &range.map(|i| output("press", i as i64, i, good(i))).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_query_at_any_moment_of_a_row_of_commits_sees_each_row_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lake = table(folder.path(), TableName::Features).await;
    let mut views = Vec::new();
    // Rows arrive one by one; a commit takes what is there; between two commits questions are asked.
    let mut tail: Vec<Arc<Rows>> = Vec::new();
    for i in 0..40_u64 {
        tail.push(Arc::new(part(i..i + 1)));
        if i % 7 == 6 {
            let mut all = Rows::new(TableName::Features);
            tail.iter().for_each(|rows| all.extend(rows));
            let before = lake.snapshot().expect("a snapshot");
            lake.append(&all, upto(i + 1)).await.expect("an append");
            // Pinned before the commit with the tail of before; and after it with a tail that still overlaps.
            views.push((i + 1, View { snapshot: before, tail: tail.clone() }));
            views.push((i + 1, View { snapshot: lake.snapshot().expect("a snapshot"), tail: tail.clone() }));
            tail.drain(..4);
        } else {
            views.push((i + 1, View { snapshot: lake.snapshot().expect("a snapshot"), tail: tail.clone() }));
        }
    }
    tokio::task::spawn_blocking(move || {
        for (count, view) in views {
            let answer = query("SELECT seq FROM features", &[view], 1_000).expect("an answer");
            let seqs: Vec<_> = answer.rows.iter().map(|row| row[0].as_u64().expect("a seq")).collect();
            assert_eq!(seqs.len() as u64, count, "{seqs:?}");
            assert_eq!(seqs.into_iter().collect::<BTreeSet<_>>(), (0..count).collect());
        }
    })
    .await
    .expect("no question panics");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lake_and_tail_answer_as_one_table_and_say_when_they_were_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut lake = table(folder.path(), TableName::Features).await;
    lake.append(&part(0..5), upto(5)).await.expect("an append");
    let view = View { snapshot: lake.snapshot().expect("a snapshot"), tail: vec![Arc::new(part(3..8))] };
    let empty =
        View { snapshot: table(folder.path(), TableName::Gaps).await.snapshot().expect("a snapshot"), tail: vec![] };
    tokio::task::spawn_blocking(move || {
        let views = [view, empty];
        let sql = "SELECT asset, day, bucket, \"values\", rpm, recorded_wall_us FROM features ORDER BY seq";
        let answer = query(sql, &views, 6).expect("an answer");
        assert_eq!(answer.columns, ["asset", "day", "bucket", "values", "rpm", "recorded_wall_us"]);
        assert!(answer.truncated);
        assert_eq!((answer.rows.len(), answer.seam_offset), (6, 0));
        let bucket = kilter_lake::bucket_of(&kilter_types::DeviceId::new("gateway").expect("a good name"));
        for (i, row) in answer.rows.iter().enumerate() {
            let values = json!([i as f64, -0.5]);
            assert_eq!(json!(row), json!(["press", "1970-01-01", bucket, values, 1500.0, 1_000_000 * i]));
        }
        let answer =
            query("SELECT COUNT(*) AS n FROM features WHERE day = '1970-01-01'", &views, 6).expect("an answer");
        assert_eq!((answer.rows, answer.truncated), (vec![vec![json!(8)]], false));
        let answer = query("SELECT first_seq FROM gaps", &views, 6).expect("an answer");
        assert!(answer.rows.is_empty());
        let refused = query("SELECT * FROM READ_PARQUET('/etc/passwd')", &views, 6);
        assert!(matches!(refused, Err(HistoryError::Forbidden("read_parquet"))));
        assert!(matches!(query("SELECT nothing FROM features", &views, 6), Err(HistoryError::Query(_))));
    })
    .await
    .expect("no question panics");
}
