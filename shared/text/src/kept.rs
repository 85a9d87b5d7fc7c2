//! How a table of the lake keeps what it has no plain columns for: as JSON, and plain variants as one word.
//!
//! JSON has neither NaN nor infinity. So a device asks [`comes_back`] before it vouches for a record (docs/adr/0013-evidence.md): what the lake can't
//! give back bit for bit can't be compared with what was recorded.

use kilter_types::{Payload, Record};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// As a table keeps it.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a record holds nothing that JSON can't write")
}

/// What [`to_json`] wrote; `None` where it can't be read back.
pub fn from_json<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// The one word that stands for a plain variant on the wire and in APIs.
pub fn word(variant: &impl Serialize) -> String {
    to_json(variant).trim_matches('"').to_owned()
}

/// The variant that one word stands for.
pub fn variant<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(Value::from(word)).ok()
}

/// Does a table of the lake give this record back bit for bit?
pub fn comes_back(record: &Record) -> bool {
    match &record.payload {
        Payload::Features(_) | Payload::Gap(_) | Payload::Clip(_) | Payload::Seal(_) => true,
        Payload::Score(score) => is_kept(&score.contributions),
        Payload::Alarm(_)
        | Payload::Event(_)
        | Payload::Opening(_)
        | Payload::Report(_)
        | Payload::State(_)
        | Payload::Spectrum(_) => is_kept(&record.payload),
    }
}

fn is_kept<T: Serialize + DeserializeOwned + PartialEq>(value: &T) -> bool {
    from_json(&to_json(value)).is_some_and(|back: T| back == *value)
}

#[cfg(test)]
mod tests {
    use kilter_types::{Epoch, Event, Micros, Monotonic, Point, Timeline};

    use super::*;

    #[test]
    fn what_json_has_no_number_for_is_known_beforehand() {
        let record = |share: f32| Record {
            point: Point::parse("a/b/c/d").expect("a good point"),
            epoch: Epoch(1),
            seq: 0,
            monotonic: Monotonic(0),
            timeline: Timeline::Device,
            wall: None,
            uncertainty: Micros(0),
            payload: Payload::Event(Event::Drift { model: kilter_types::Digest::NONE, share }),
        };
        for share in [0.1, 1e-7, -0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX] {
            let (record, bits) = (record(share), share.to_bits());
            let back: Payload = from_json(&to_json(&record.payload)).expect("it is read");
            let same = matches!(back, Payload::Event(Event::Drift { share, .. }) if share.to_bits() == bits);
            assert!(same && comes_back(&record), "{share}");
        }
        for share in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!comes_back(&record(share)), "{share}");
        }
        let words: Vec<String> = [Timeline::Device, Timeline::Source].iter().map(word).collect();
        assert_eq!(
            words.iter().filter_map(|word| variant(word)).collect::<Vec<Timeline>>(),
            [Timeline::Device, Timeline::Source]
        );
        assert_eq!(variant::<Timeline>("neither"), None);
    }
}
