//! One message of pushed inputs: JSON, or the frames that a sensor speaks, each whole in itself.
//!
//! JSON is one object or a list of them, each about one configured channel and with exactly one of `samples`, `value` and `row`:
//!
//! ```json
//! {"channel": "de-x", "position": 25600, "t_us": 1767225600000000, "rate_hz": 25600, "unit": "g", "samples": [0.01, null, 0.02]}
//! {"channel": "bearing-temp", "t_us": 1767225600000000, "unit": "degC", "value": 55.2}
//! {"channel": "test-rig", "n": 17, "row": [518.67, 642.1]}
//! ```
//!
//! `t_us` counts microseconds since 1970 and belongs to the first sample. Unit and rate are those of the configuration; a message may
//! repeat them, and one that says others is refused. `position` counts the channel's samples since the sensor's beginning, so that
//! what is lost on the way is known as a gap and what comes twice is used once: samples must say it. Readings and rows may leave it
//! out, and are then counted here; a reading no later than the one before it is taken for the same one.
//!
//! Frames ([`kilter_wire::sensor`]) begin with an offer in every message, because nobody was asked for one; it may leave out channels.

use kilter_types::{ChannelId, Hertz, Micros, Name, Timeline, Unit};
use kilter_wire::frame::{self, FrameError, Kind};
use kilter_wire::sensor::SensorUp;
use serde::Deserialize;
use thiserror::Error;

use crate::check::{self, Offered};
use crate::conversation::{Places, Ready};
use crate::{ChannelSpec, Difference};

/// The largest message in bytes: as the longest frame.
pub const MAX_MESSAGE_BYTES: usize = kilter_wire::MAX_FRAME_BYTES;

/// How a message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// JSON text.
    #[default]
    Json,
    /// Frames of [`kilter_wire::sensor`], an offer first.
    Frames,
}

/// Why a message is refused, all of it.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Too much at once.
    #[error("{got} bytes are more than the {MAX_MESSAGE_BYTES} that a message may have: send less at a time")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// There is nothing in it.
    #[error("the message says nothing")]
    Empty,
    /// Not such JSON.
    #[error("read it as JSON")]
    Json(#[source] serde_json::Error),
    /// Not such a frame.
    #[error("read a frame: {0}")]
    Frame(FrameError),
    /// The last frame is not whole.
    #[error("the message ends within a frame")]
    Cut,
    /// Frames must say what they are about.
    #[error("its first frame is no offer: say machine, units and rates in every message")]
    NoOffer,
    /// About another machine.
    #[error("it is about machine {offered}")]
    Asset {
        /// Which.
        offered: Name,
    },
    /// Nobody configured this channel.
    #[error("channel {channel:?} is not configured (configured: {configured})")]
    Unknown {
        /// As the message has it.
        channel: String,
        /// All that are.
        configured: String,
    },
    /// Another unit or rate.
    #[error("{0}")]
    Difference(Difference),
    /// A key is missing.
    #[error("channel {channel}: {key} is missing")]
    Missing {
        /// The channel.
        channel: Name,
        /// The key.
        key: &'static str,
    },
    /// Samples for a channel without a rate, or a value for one with.
    #[error("channel {channel}: {want}")]
    Kind {
        /// The channel.
        channel: Name,
        /// What it takes.
        want: &'static str,
    },
}

/// One thing that a message says.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece {
    pub(crate) ready: Ready,
    pub(crate) samples: Vec<f32>,
    /// Its position is still to be counted.
    pub(crate) uncounted: bool,
}

/// Reads a whole message. The first piece tells the timeline.
pub(crate) fn parse(
    asset: &Name,
    channels: &[ChannelSpec],
    encoding: Encoding,
    bytes: &[u8],
) -> Result<Vec<Piece>, MessageError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(MessageError::TooLong { got: bytes.len() });
    }
    let pieces = match encoding {
        Encoding::Json => json(channels, bytes)?,
        Encoding::Frames => frames(asset, channels, bytes)?,
    };
    if pieces.len() < 2 { Err(MessageError::Empty) } else { Ok(pieces) }
}

fn json(channels: &[ChannelSpec], bytes: &[u8]) -> Result<Vec<Piece>, MessageError> {
    let list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let lines: Result<Vec<Line>, _> =
        if list { serde_json::from_slice(bytes) } else { serde_json::from_slice(bytes).map(|line| vec![line]) };
    let lines = lines.map_err(MessageError::Json)?;
    let started = Ok(Piece { ready: Ready::Started(Timeline::Source), samples: Vec::new(), uncounted: false });
    std::iter::once(started).chain(lines.into_iter().map(|line| line.piece(channels))).collect()
}

fn frames(asset: &Name, channels: &[ChannelSpec], mut bytes: &[u8]) -> Result<Vec<Piece>, MessageError> {
    let mut places: Option<Places> = None;
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let total = frame::length(bytes).map_err(MessageError::Frame)?;
        let (head, rest) = total.and_then(|total| bytes.split_at_checked(total)).ok_or(MessageError::Cut)?;
        bytes = rest;
        let message = frame::decode::<SensorUp<'_>>(Kind::SensorUp, head).map_err(MessageError::Frame)?;
        if let SensorUp::Offer(offer) = &message {
            if offer.asset != *asset {
                return Err(MessageError::Asset { offered: offer.asset.clone() });
            }
            let mut map = Vec::new();
            for offered in &offer.channels {
                let found = find(channels, offered.name.as_str());
                if let Some((_, spec)) = found {
                    let offered = Offered { name: &offered.name, unit: offered.unit, rate: offered.rate };
                    check::compare(spec, &offered).map_err(MessageError::Difference)?;
                }
                map.push(found.map(|(channel, _)| channel));
            }
            places = Some(Places::new(map, offer));
        }
        let mut samples = Vec::new();
        let said = places.as_ref().ok_or(MessageError::NoOffer)?.place(&message, &mut samples);
        pieces.extend(said.map(|ready| Piece { ready, samples, uncounted: false }));
    }
    Ok(pieces)
}

/// One object of JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    channel: String,
    #[serde(default)]
    position: Option<u64>,
    #[serde(default)]
    t_us: Option<i64>,
    #[serde(default)]
    unit: Option<Unit>,
    #[serde(default)]
    rate_hz: Option<f32>,
    #[serde(default)]
    samples: Option<Vec<Option<f32>>>,
    #[serde(default)]
    value: Option<f32>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default)]
    row: Option<Vec<Option<f32>>>,
}

impl Line {
    fn piece(self, channels: &[ChannelSpec]) -> Result<Piece, MessageError> {
        let (channel, spec) = find(channels, &self.channel).ok_or_else(|| MessageError::Unknown {
            channel: self.channel.clone(),
            configured: channels.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", "),
        })?;
        let rate = self.rate_hz.map(Hertz).or(spec.rate);
        let said = Offered { name: &spec.name, unit: self.unit.unwrap_or(spec.unit), rate };
        check::compare(spec, &said).map_err(MessageError::Difference)?;
        let missing = |key| MessageError::Missing { channel: spec.name.clone(), key };
        let kind = |want| MessageError::Kind { channel: spec.name.clone(), want };
        let t = self.t_us.map(Micros);
        let position = self.position.unwrap_or_default();
        let (ready, values) = match (self.samples, self.value, self.row) {
            (Some(samples), None, None) => {
                let rate = rate.ok_or_else(|| kind("it is configured without a rate: send value or row"))?;
                self.position.ok_or_else(|| missing("position"))?;
                (Ready::Block { channel, position, t0: t.ok_or_else(|| missing("t_us"))?, rate }, samples)
            }
            (None, Some(_), None) | (None, None, Some(_)) if rate.is_some() => {
                return Err(kind("it is configured with a rate: send samples"));
            }
            (None, Some(value), None) => {
                (Ready::Reading { channel, position, t: t.ok_or_else(|| missing("t_us"))?, value }, Vec::new())
            }
            (None, None, Some(row)) => {
                (Ready::Cycle { channel, position, n: self.n.ok_or_else(|| missing("n"))?, t }, row)
            }
            _ => return Err(kind("give exactly one of samples, value and row")),
        };
        let samples = values.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect();
        Ok(Piece { ready, samples, uncounted: self.position.is_none() })
    }
}

/// A configured channel by its name.
fn find<'a>(channels: &'a [ChannelSpec], name: &str) -> Option<(ChannelId, &'a ChannelSpec)> {
    let place = channels.iter().position(|spec| spec.name.as_str() == name)?;
    Some((ChannelId(u8::try_from(place).ok()?), &channels[place]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a good name")
    }

    fn channels() -> [ChannelSpec; 2] {
        let spec = |channel, unit, rate| ChannelSpec { name: name(channel), unit, rate };
        [spec("temp", Unit::DegreeCelsius, None), spec("de", Unit::G, Some(Hertz(1000.0)))]
    }

    fn refused(text: &str) -> String {
        let error = parse(&name("pump-1"), &channels(), Encoding::Json, text.as_bytes()).expect_err(text);
        let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        format!("{error}{source}")
    }

    #[test]
    fn what_is_wrong_with_a_message_is_named() {
        for (text, said) in [
            ("", "EOF"),
            ("[]", "says nothing"),
            ("{\"channel\": \"de\", \"samples\": [1.0], \"position\": 0}", "de: t_us is missing"),
            ("{\"channel\": \"de\", \"samples\": [1.0], \"t_us\": 0}", "de: position is missing"),
            ("{\"channel\": \"nde\", \"value\": 1.0}", "\"nde\" is not configured (configured: temp, de)"),
            ("{\"channel\": \"de\", \"value\": 1.0, \"t_us\": 0}", "send samples"),
            ("{\"channel\": \"temp\", \"samples\": [1.0], \"t_us\": 0}", "send value or row"),
            ("{\"channel\": \"temp\", \"value\": 1.0}", "temp: t_us is missing"),
            ("{\"channel\": \"temp\", \"row\": [1.0]}", "temp: n is missing"),
            ("{\"channel\": \"temp\", \"t_us\": 0}", "exactly one of"),
            ("{\"channel\": \"temp\", \"value\": 1.0, \"row\": [1.0], \"t_us\": 0}", "exactly one of"),
            ("{\"channel\": \"temp\", \"value\": 1.0, \"t_us\": 0, \"unit\": \"degF\"}", "correct the unit"),
            ("{\"channel\": \"temp\", \"value\": 1.0, \"t_us\": 0, \"unit\": \"K\"}", "unknown variant `K`"),
            ("{\"channel\": \"temp\", \"value\": 1.0, \"t_us\": 0, \"rate_hz\": 1.0}", "comes with 1 Hz"),
            ("{\"channel\": \"de\", \"samples\": [1], \"position\": 0, \"t_us\": 0, \"rate_hz\": 990}", "990 Hz"),
            ("{\"channel\": \"temp\", \"value\": \"hot\", \"t_us\": 0}", "invalid type"),
            ("{\"channel\": \"temp\", \"value\": 1.0, \"time\": 0}", "unknown field `time`"),
        ] {
            let error = refused(text);
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(refused(&" ".repeat(MAX_MESSAGE_BYTES + 1)).contains("send less at a time"));
    }

    #[test]
    fn a_missing_sample_is_not_a_number_and_the_rest_is_as_it_was_sent() {
        let text = "{\"channel\": \"de\", \"position\": 7, \"t_us\": 5, \"rate_hz\": 1000, \"samples\": [0.5, null]}";
        let pieces = parse(&name("pump-1"), &channels(), Encoding::Json, text.as_bytes()).expect("a good message");
        let [started, block] = &pieces[..] else { panic!("{pieces:?}") };
        assert_eq!(started.ready, Ready::Started(Timeline::Source));
        let expected = Ready::Block { channel: ChannelId(1), position: 7, t0: Micros(5), rate: Hertz(1000.0) };
        assert_eq!((block.ready, block.samples[0], block.uncounted), (expected, 0.5, false));
        assert!(block.samples[1].is_nan() && block.samples.len() == 2);
    }

    #[test]
    fn no_bytes_make_reading_a_message_panic() {
        let good = "[{\"channel\": \"de\", \"position\": 7, \"t_us\": 5, \"samples\": [0.5, null, -1e30]}, {\"channel\": \"temp\", \
                    \"value\": 3, \"t_us\": 18446744073709551615}]";
        let mut chance = kilter_tests::Chance::new(7);
        for _ in 0..5000 {
            let mut bytes = good.as_bytes().to_vec();
            for _ in 0..=chance.below(4) {
                let at = chance.place(bytes.len());
                bytes[at] = chance.below(256) as u8;
            }
            bytes.truncate(1 + chance.place(bytes.len()));
            for encoding in [Encoding::Json, Encoding::Frames] {
                let _ = parse(&name("pump-1"), &channels(), encoding, &bytes);
            }
        }
    }
}
