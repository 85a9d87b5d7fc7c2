//! Asks the edge for what the lake lost: the lab says what is missing, and each node is asked again until it has come.
//!
//! Nothing is remembered of what was sent: what has not arrived is still missing, and asking twice changes nothing. The pause grows
//! with each time that nothing came of it.

use std::collections::BTreeMap;
use std::path::Path;

use kilter_types::{Class, DeviceId, Epoch, Micros};
use kilter_wire::{Refetch, SeqRange};
use serde::Deserialize;

/// The wire version whose nodes can be asked.
pub(crate) const REFETCH_SINCE: u16 = 4;

/// Missing records of one device, epoch and class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    device: DeviceId,
    epoch: Epoch,
    class: Class,
    ranges: Vec<SeqRange>,
}

/// When who was asked for what.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    last: BTreeMap<(DeviceId, Epoch, Class), Last>,
}

#[derive(Debug)]
struct Last {
    ranges: Vec<SeqRange>,
    at: Micros,
    times: u32,
}

/// What the lab says is missing.
pub(crate) fn missing(data: &Path) -> Vec<Missing> {
    #[derive(Deserialize)]
    struct Stream {
        device: DeviceId,
        epoch: u64,
        class: String,
    }
    let read = || serde_json::from_slice(&std::fs::read(data.join("lab").join("refetch.json")).ok()?).ok();
    let all: Vec<(Stream, BTreeMap<u64, u64>)> = read().unwrap_or_default();
    let missing = |(stream, ranges): (Stream, BTreeMap<u64, u64>)| {
        let Stream { device, epoch, class } = stream;
        let class = Class::ALL.into_iter().find(|known| known.as_str() == class)?;
        let ranges = ranges.into_iter().map(|(first, last)| SeqRange { first, last }).collect();
        Some(Missing { device, epoch: Epoch(epoch), class, ranges })
    };
    all.into_iter().filter_map(missing).collect()
}

impl Asking {
    /// What to ask now of those who are there.
    pub(crate) fn due(
        &mut self,
        missing: Vec<Missing>,
        is_there: impl Fn(&DeviceId) -> bool,
        now: Micros,
    ) -> Vec<(DeviceId, Refetch)> {
        let mut due = Vec::new();
        let mut open = BTreeMap::new();
        for Missing { device, epoch, class, ranges } in missing {
            let key = (device, epoch, class);
            let known = self.last.remove(&key).filter(|last| last.ranges == ranges);
            let wait = |last: &Last| Micros::from_secs(FIRST_PAUSE_SECS << last.times.min(MOST_DOUBLINGS));
            if !is_there(&key.0) || known.as_ref().is_some_and(|last| now < last.at + wait(last)) {
                open.extend(known.map(|last| (key, last)));
                continue;
            }
            for part in ranges.chunks(RANGES).take(MOST_AT_ONCE) {
                let ranges = part.iter().copied().collect();
                due.push((key.0.clone(), Refetch { epoch, class, ranges }));
            }
            open.insert(key, Last { ranges, at: now, times: known.map_or(0, |last| last.times + 1) });
        }
        self.last = open;
        due
    }
}

const FIRST_PAUSE_SECS: i64 = 10;
const MOST_DOUBLINGS: u32 = 8;
/// Ranges in one message.
const RANGES: usize = 16;
/// Messages for one class at once.
const MOST_AT_ONCE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> DeviceId {
        DeviceId::new("press").expect("a good name")
    }

    #[test]
    fn who_is_there_is_asked_at_once_then_ever_more_seldom_and_at_once_again_when_something_has_come() {
        let data = tempfile::tempdir().expect("a folder");
        assert_eq!(missing(data.path()), []);
        std::fs::create_dir(data.path().join("lab")).expect("created");
        let text = r#"[[{"device":"press","epoch":18446744073709551615,"class":"feature"},{"0":9,"20":20}]]"#;
        std::fs::write(data.path().join("lab/refetch.json"), text).expect("written");
        let open = missing(data.path());
        let mut asking = Asking::default();
        let mut ask = |open: &[Missing], there: bool, secs: i64| {
            asking.due(open.to_vec(), |_| there, Micros::from_secs(secs)).into_iter().map(|(_, asked)| asked).collect()
        };
        let none: Vec<Refetch> = ask(&open, false, 0);
        assert_eq!(none, []);
        let first: Vec<Refetch> = ask(&open, true, 1);
        let ranges = [SeqRange { first: 0, last: 9 }, SeqRange { first: 20, last: 20 }];
        let whole = Refetch { epoch: Epoch(u64::MAX), class: Class::Feature, ranges: ranges.into_iter().collect() };
        assert_eq!(first, [whole]);
        let times: Vec<i64> = (2..2_000).filter(|secs| !ask(&open, true, *secs).is_empty()).collect();
        assert_eq!(times, [11, 31, 71, 151, 311, 631, 1271]);
        let less = vec![Missing { ranges: vec![ranges[1]], ..open[0].clone() }];
        assert_eq!(ask(&less, true, 2_000).len(), 1, "something has come");
        let many = (0..40).map(|i| SeqRange { first: 2 * i, last: 2 * i }).collect();
        let many = vec![Missing { device: device(), ranges: many, ..open[0].clone() }];
        let parts = ask(&many, true, 2_001);
        assert_eq!(parts.iter().map(|part| part.ranges.len()).collect::<Vec<_>>(), [16, 16, 8]);
    }
}
