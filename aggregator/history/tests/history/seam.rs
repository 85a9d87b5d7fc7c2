//! The seam between lake and tail: no row missing, none doubled, whatever is committed meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use kilter_history::{HistoryError, View, query};
use kilter_lake::{Rows, Table, TableName};
use kilter_types::{Label, OperatingState, Quality};
use serde_json::json;

use crate::sample::{label, output, rows, table, upto, window};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_08_each_table_has_its_own_exact_seam_whatever_the_order_of_rows_commits_and_questions() {
    for seed in 1..=12_u64 {
        let mut state = seed;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let folder = tempfile::tempdir().expect("a folder");
        let names = [TableName::Features, TableName::Events];
        let mut lakes = [table(folder.path(), names[0]).await, table(folder.path(), names[1]).await];
        let (mut tails, mut expected) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        let mut asked = Vec::new();
        let mut offset = 0;
        for _ in 0..60 {
            let which = next(2) as usize;
            match next(4) {
                // An entry of the journal holds one to three rows of one table.
                0 | 1 => {
                    let entry = (0..=next(3)).map(|k| {
                        let payload = match which {
                            0 => window(offset, OperatingState::Steady(0), Quality::GOOD),
                            _ => label(0, 1, Label::Healthy),
                        };
                        let mut made = output("press", offset as i64, offset, payload);
                        let kilter_fold::Output::Row(row) = &mut made else { unreachable!("records are rows") };
                        row.record.seq = offset * 10 + k;
                        expected[which].push(offset * 10 + k);
                        made
                    });
                    let entry: Vec<_> = entry.collect();
                    tails[which].push(Arc::new(rows(names[which], &entry)));
                    offset += 1;
                }
                // One table commits all that it has; what is committed leaves the tail late, or never.
                2 => {
                    let mut all = Rows::new(names[which]);
                    tails[which].iter().for_each(|rows: &Arc<Rows>| all.extend(rows));
                    lakes[which].append(&all, upto(offset)).await.expect("an append");
                    let keep = next(tails[which].len() as u64 + 1) as usize;
                    let committed = lakes[which].committed().map_or(0, |committed| committed.offset);
                    let old =
                        tails[which].iter().take(keep).take_while(|rows| rows.journal_offset(0) < committed).count();
                    tails[which].drain(..old);
                }
                _ => {
                    let view = |which: usize| View {
                        snapshot: lakes[which].snapshot().expect("a snapshot"),
                        tail: tails[which].clone(),
                    };
                    asked.push(([view(0), view(1)], expected.clone()));
                }
            }
        }
        tokio::task::spawn_blocking(move || {
            for (views, expected) in asked {
                for (name, expected) in names.iter().zip(expected) {
                    let answer =
                        query(&format!("SELECT seq FROM {name} ORDER BY seq"), &views, 1_000).expect("an answer");
                    let seqs: Vec<_> = answer.rows.iter().map(|row| row[0].as_u64().expect("a seq")).collect();
                    assert_eq!(seqs, expected, "{name}, seed {seed}");
                }
            }
        })
        .await
        .expect("no question panics");
    }
}
