//! Lead time against false alarms: the same words under one threshold after the other, with the decision's own patience.

use std::collections::BTreeMap;

use kilter_history::{Asset, Stream};
use kilter_monitor::{Patience, replay::Watch};
use serde_json::{Value, json};

use super::track::{Track, Word};

/// A range of time that a person called faulty; its end is the failure, or the repair.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) asset: Asset,
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

/// One step per multiple of the threshold, lowest first.
pub(super) fn curve(judged: &BTreeMap<Stream, Track<'_>>, faults: &[Fault]) -> Vec<Value> {
    // A machine with several streams is watched once.
    let mut watched_s: BTreeMap<&Asset, f64> = BTreeMap::new();
    for (stream, track) in judged {
        let seconds = watched_s.entry(&stream.asset).or_default();
        *seconds = seconds.max(track.words.len() as f64 * track.period_s());
    }
    let months = watched_s.values().sum::<f64>() / MONTH_S;
    let step = |times: f32| {
        let mut raised: BTreeMap<&Asset, Vec<i64>> = BTreeMap::new();
        for (stream, track) in judged {
            raised.entry(&stream.asset).or_default().extend(alarms(&track.words, times));
        }
        let within = |asset: &Asset, at_us: i64| {
            faults.iter().any(|fault| fault.asset == *asset && (fault.from_us..=fault.to_us).contains(&at_us))
        };
        let all: usize = raised.values().map(Vec::len).sum();
        let false_alarms: usize =
            raised.iter().map(|(asset, times)| times.iter().filter(|at| !within(asset, **at)).count()).sum();
        let mut leads: Vec<f64> = faults
            .iter()
            .filter_map(|fault| {
                let inside = raised.get(&fault.asset)?.iter().filter(|at| (fault.from_us..=fault.to_us).contains(*at));
                inside.min().map(|first| (fault.to_us - first) as f64 / 3.6e9)
            })
            .collect();
        leads.sort_by(f64::total_cmp);
        json!({
            "times": times, "alarms": all, "false_alarms": false_alarms,
            "per_machine_month": false_alarms as f64 / months.max(f64::MIN_POSITIVE),
            "found": leads.len(), "median_lead_h": leads.get(leads.len() / 2),
        })
    };
    TIMES.into_iter().map(step).collect()
}

/// When alarms were raised.
fn alarms(words: &[Word], times: f32) -> Vec<i64> {
    let mut watch = Watch::new(Patience::default());
    let mut stood = false;
    let mut raised = Vec::new();
    for word in words {
        let stands = watch.step(word.value, times * word.threshold, word.start);
        raised.extend((stands && !stood).then_some(word.at_us));
        stood = stands;
    }
    raised
}

const TIMES: [f32; 9] = [0.25, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 4.0];
const MONTH_S: f64 = 30.0 * 86_400.0;
