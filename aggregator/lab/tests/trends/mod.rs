//! Roll-ups by minute, hour and day: what is kept is what a recompute of all rows gives, whatever comes late, goes, or is corrected.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_types::{Digest, Hours, KernelId, Payload, Role, RowRef, Rul, Score};
use serde_json::{Value, json};

use crate::house::{self, Server, ask, config, within};
use crate::settled::{published, settled};

const STEPS: [u32; 3] = [60, 3_600, 86_400];

fn trend(data: &Path, step_s: u32, from_s: i64, to_s: i64) -> Value {
    let (point, from, to) = ("acme/north/press/drive-end", from_s * 1_000_000, to_s * 1_000_000);
    ask(data, &json!({ "op": "trend", "point": point, "step_s": step_s, "from": from, "to": to })).expect("a trend")
}

/// Begin, least, mean, greatest and count by place, as the trend tells.
type Buckets = BTreeMap<u64, Vec<Value>>;

fn told(trend: &Value) -> Buckets {
    let series = trend["series"].as_array().expect("series").iter();
    series
        .map(|series| {
            (series["place"].as_u64().expect("a place"), series["buckets"].as_array().expect("buckets").clone())
        })
        .collect()
}

/// The same from every row.
fn recomputed(data: &Path, step_s: u32) -> Buckets {
    let sql = "SELECT event_time_us, values FROM features WHERE asset = 'press' ORDER BY event_time_us";
    let answer = ask(data, &json!({ "op": "query", "sql": sql })).expect("an answer");
    let step_us = i64::from(step_s) * 1_000_000;
    let mut by: BTreeMap<u64, BTreeMap<i64, Vec<f64>>> = BTreeMap::new();
    for row in answer["rows"].as_array().expect("rows") {
        let t = row[0].as_i64().expect("a time");
        for (place, value) in row[1].as_array().expect("values").iter().enumerate() {
            let values = by.entry(place as u64).or_default().entry(t - t.rem_euclid(step_us)).or_default();
            values.push(value.as_f64().expect("a number"));
        }
    }
    let bucket = |(start, values): (i64, Vec<f64>)| {
        let least = values.iter().copied().fold(f64::MAX, f64::min) as f32;
        let greatest = values.iter().copied().fold(f64::MIN, f64::max) as f32;
        let mean = (values.iter().sum::<f64>() / values.len() as f64) as f32;
        // Through text, as what is told: the last bit of a number may change on that way.
        serde_json::from_str(&json!([start, least, mean, greatest, values.len()]).to_string()).expect("JSON")
    };
    by.into_iter().map(|(place, buckets)| (place, buckets.into_iter().map(bucket).collect())).collect()
}

#[test]
fn f5_roll_ups_are_those_of_a_full_recompute_after_late_rows_compaction_erasure_and_correction() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n[upkeep]\ncompact_files = 4\n");
    let mut server = Server::open(data, 9, Vec::new());
    let running = settled(data, &server);
    let same = |when: &str| {
        for step in STEPS {
            within(60, || {
                let (kept, all) = (told(&trend(data, step, 0, 300_000)), recomputed(data, step));
                // Rows may come between the two questions.
                (kept == all).then_some(())
            });
            assert!(!recomputed(data, step).is_empty(), "{when}");
        }
    };
    // A window each five minutes, two days and a half; later parts come before earlier ones, and one window is held back.
    server.apart_s = 300;
    for part in [0_u64, 3, 1, 2] {
        for hour in part * 15..part * 15 + 15 {
            let windows = (hour * 12..hour * 12 + 12).filter(|seq| *seq != 5);
            server.records("press", windows.map(|seq| (seq, house::features(seq % 64))));
        }
        if part == 1 {
            same("seen, some of it committed");
        }
        published(data, &server);
    }
    same("committed");
    let hours = told(&trend(data, 3_600, 7_200, 18_000));
    assert_eq!(hours[&0].len(), 4, "both ends are part of the range: {hours:?}");
    assert_eq!((&hours[&0][0][0], &hours[&0][0][4]), (&json!(7_200_000_000_i64), &json!(12)));

    // A late row, an erasure and a correction change the buckets that they lie in.
    assert_eq!(told(&trend(data, 60, 1_500, 1_500)), Buckets::new());
    server.records("press", [(5, house::features(40))].into_iter());
    published(data, &server);
    same("a late row");
    assert_eq!(told(&trend(data, 60, 1_500, 1_500))[&0], [json!([1_500_000_000, 40.0, 40.0, 40.0, 1])]);
    let erase =
        json!({ "op": "erase", "from_us": 3_600_000_000_i64, "to_us": 7_199_999_999_i64, "who": "a", "why": "b" });
    ask(data, &erase).expect("erased");
    same("an erasure");
    assert_eq!(told(&trend(data, 3_600, 3_600, 3_600)), Buckets::new(), "the hour is gone");
    let record =
        json!({ "device": "press", "epoch": 5, "class": "feature", "seq": 2, "set": { "values": [63.5, 1.0] } });
    ask(data, &json!({ "op": "correct", "correction": record, "who": "a", "why": "b" })).expect("corrected");
    same("a correction");
    let minute = told(&trend(data, 60, 600, 600));
    assert_eq!(minute[&0], [json!([600_000_000, 63.5, 63.5, 63.5, 1])]);

    // Only files that are part of the table have roll-ups, one for each step.
    let folder = data.join("lab/rollups");
    let files = || std::fs::read_dir(&folder).expect("a folder").count();
    server.records("press", [(720, house::features(1))].into_iter());
    published(data, &server);
    within(60, || {
        let status = ask(data, &json!({ "op": "status" })).ok()?;
        (files() as u64 == 3 * status["tables"]["features"]["files"].as_u64()?).then_some(())
    });
    // What is lost or damaged of them is made again.
    for entry in std::fs::read_dir(&folder).expect("a folder").take(5) {
        std::fs::write(entry.expect("an entry").path(), b"damaged").expect("written");
    }
    same("damaged roll-ups");
    let refused =
        json!({ "op": "trend", "point": "acme/north/press/drive-end", "step_s": 60, "from": 0, "to": i64::MAX });
    assert!(ask(data, &refused).expect_err("too many").contains("wider step"));
    let odd = json!({ "op": "trend", "point": "acme/north/press/drive-end", "step_s": 7, "from": 0, "to": 1 });
    assert!(ask(data, &odd).expect_err("no such step").contains("3600"));
    running.terminate();
}

fn score(window: u64, model: u8, anomaly: f32) -> Payload {
    let rul = (model == 2).then_some(Rul { hours: Hours(anomaly * 10.0), low: Hours(0.0), high: Hours(1e4) });
    Payload::Score(Score {
        input: RowRef { group: 0, index: window, seq: window },
        anomaly,
        threshold: 1.0,
        rul,
        model: Digest([model; 32]),
        kernel: KernelId::PORTABLE_F32,
        role: if model == 1 { Role::Leader } else { Role::Shadow },
        contributions: [].into_iter().collect(),
        rest: 0.0,
    })
}

#[test]
fn f5_what_each_model_said_is_rolled_up_like_features_also_after_a_late_score_and_an_erasure() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path();
    config(data, "[commit]\nmax_wait_ms = 50\n[upkeep]\ncompact_files = 4\n");
    let mut server = Server::open(data, 9, Vec::new());
    let running = settled(data, &server);
    server.apart_s = 600;
    let ask_for = |step_s: u32| {
        let point = "acme/north/press/drive-end";
        let asked = json!({ "op": "trend", "of": "scores", "point": point, "step_s": step_s, "from": 0, "to": 400_000_000_000_i64 });
        ask(data, &asked).expect("a trend")["series"].take()
    };
    // Even numbers are of the leader, odd ones of the shadow; number 10 comes late.
    let anomaly = |seq: u64| (seq % 13) as f32 * 0.25;
    let mut there: Vec<u64> = (0..300).filter(|seq| *seq != 10).collect();
    let same = |there: &[u64], when: &str| {
        for step_s in STEPS {
            let step_us = i64::from(step_s) * 1_000_000;
            let mut wanted = Vec::new();
            for (model, role, name) in [(1, "leader", "anomaly"), (2, "shadow", "anomaly"), (2, "shadow", "rul_h")] {
                let mut buckets: BTreeMap<i64, Vec<f32>> = BTreeMap::new();
                for seq in there.iter().filter(|seq| 1 + **seq % 2 == model) {
                    let value = if name == "anomaly" { anomaly(*seq) } else { anomaly(*seq) * 10.0 };
                    let t = *seq as i64 * 600_000_000;
                    buckets.entry(t - t.rem_euclid(step_us)).or_default().push(value);
                }
                let bucket = |(start, values): (i64, Vec<f32>)| {
                    let least = values.iter().copied().fold(f32::MAX, f32::min);
                    let greatest = values.iter().copied().fold(f32::MIN, f32::max);
                    let mean = (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len() as f64) as f32;
                    serde_json::from_str::<Value>(&json!([start, least, mean, greatest, values.len()]).to_string())
                        .expect("JSON")
                };
                let digest = Digest([model as u8; 32]).to_string();
                wanted.push((role, digest, name, buckets.into_iter().map(bucket).collect::<Vec<_>>()));
            }
            within(60, || {
                let told = ask_for(step_s);
                let found = told.as_array().expect("series").iter().filter(|series| {
                    wanted.iter().any(|(role, model, name, buckets)| {
                        (&series["role"], &series["model"], &series["name"], &series["buckets"])
                            == (&json!(role), &json!(model), &json!(name), &json!(buckets))
                    })
                });
                (found.count() == 3 && told.as_array().is_some_and(|told| told.len() == 3)).then_some(())
            });
            assert!(!wanted[0].3.is_empty(), "{when}");
        }
    };
    for part in there.chunks(60) {
        server.records("press", part.iter().map(|seq| (*seq, score(*seq, 1 + (*seq % 2) as u8, anomaly(*seq)))));
        published(data, &server);
    }
    same(&there, "committed");
    server.records("press", [(10, score(10, 1, anomaly(10)))].into_iter());
    published(data, &server);
    there.push(10);
    same(&there, "a late score");
    let erase =
        json!({ "op": "erase", "from_us": 36_000_000_000_i64, "to_us": 47_999_999_999_i64, "who": "a", "why": "b" });
    ask(data, &erase).expect("erased");
    there.retain(|seq| !(60..80).contains(seq));
    same(&there, "an erasure");
    running.terminate();
}
