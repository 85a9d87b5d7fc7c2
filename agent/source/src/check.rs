//! Does what a source offers fit what the configuration declares? Units and rates are compared, never converted or guessed.

use std::fmt;
use std::io;

use kilter_recording::RecordingError;
use kilter_types::{ChannelId, Hertz, Name, Unit};
use kilter_wire::FrameError;
use thiserror::Error;

use crate::ChannelSpec;
use crate::message::MessageError;

/// Why a source gives nothing.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The sensor can't be reached or the connection broke.
    #[error("reach the sensor of {asset} at {address}")]
    Connection {
        /// The machine.
        asset: Name,
        /// Where its sensor listens.
        address: String,
        /// The error of the system.
        source: io::Error,
    },
    /// What came is not a message.
    #[error("read the sensor of {asset} at {address}: {reason}")]
    Frame {
        /// The machine.
        asset: Name,
        /// Where its sensor listens.
        address: String,
        /// What is wrong.
        reason: FrameError,
    },
    /// The sensor did not begin with its offer, or offered another machine.
    #[error("talk with the sensor of {asset} at {address}: {reason}")]
    Conversation {
        /// The machine.
        asset: Name,
        /// Where its sensor listens.
        address: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The offer does not fit the configuration.
    #[error("accept the offer for {asset}: {difference}")]
    Offer {
        /// The machine.
        asset: Name,
        /// What does not fit.
        difference: Box<Difference>,
    },
    /// The recording can't be read.
    #[error("replay {path} for {asset}")]
    Recording {
        /// The machine.
        asset: Name,
        /// The file.
        path: String,
        /// Why.
        source: Box<RecordingError>,
    },
    /// The broker can't be reached, or does not do what is asked of it.
    #[error("use the broker of {asset}: {reason}")]
    Broker {
        /// The machine.
        asset: Name,
        /// What is wrong.
        reason: String,
    },
    /// A message is wrong; the ones after it are taken.
    #[error("take a message for {asset} from {from}")]
    Message {
        /// The machine.
        asset: Name,
        /// Its topic.
        from: String,
        /// What is wrong with it.
        source: Box<MessageError>,
    },
}

/// Where an offer and the configuration differ.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// A configured channel is not offered.
    Missing {
        /// The channel.
        channel: Name,
        /// What is offered instead.
        offered: Vec<Name>,
    },
    /// Another unit.
    Unit {
        /// The channel.
        channel: Name,
        /// As configured.
        configured: Unit,
        /// As offered.
        offered: Unit,
    },
    /// Another rate, or a rate on one side only.
    Rate {
        /// The channel.
        channel: Name,
        /// As configured.
        configured: Option<Hertz>,
        /// As offered.
        offered: Option<Hertz>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { channel, offered } => {
                write!(f, "channel {channel} is configured but not offered (offered:")?;
                offered.iter().try_for_each(|name| write!(f, " {name}"))?;
                f.write_str(")")
            }
            Self::Unit { channel, configured, offered } => write!(
                f,
                "channel {channel} comes in {offered:?} but is configured as {configured:?}; correct the unit in the configuration"
            ),
            Self::Rate { channel, configured, offered } => {
                let rate = |rate: &Option<Hertz>| {
                    rate.map_or("no rate (readings)".to_owned(), |rate| format!("{} Hz", rate.0))
                };
                write!(
                    f,
                    "channel {channel} comes with {} but is configured with {}; correct rate_hz in the configuration",
                    rate(offered),
                    rate(configured)
                )
            }
        }
    }
}

/// One offered channel.
pub(crate) struct Offered<'a> {
    pub(crate) name: &'a Name,
    pub(crate) unit: Unit,
    pub(crate) rate: Option<Hertz>,
}

/// For each offered channel its place in the configuration; `None` for one that nobody asked for.
pub(crate) fn map_channels(
    specs: &[ChannelSpec],
    offered: &[Offered<'_>],
) -> Result<Vec<Option<ChannelId>>, Difference> {
    for spec in specs {
        let channel = spec.name.clone();
        let Some(found) = offered.iter().find(|offer| *offer.name == spec.name) else {
            return Err(Difference::Missing {
                channel,
                offered: offered.iter().map(|offer| offer.name.clone()).collect(),
            });
        };
        compare(spec, found)?;
    }
    let place = |offer: &Offered<'_>| {
        let at = specs.iter().position(|spec| spec.name == *offer.name)?;
        u8::try_from(at).ok().map(ChannelId)
    };
    Ok(offered.iter().map(place).collect())
}

/// Does one channel come as it is configured?
pub(crate) fn compare(spec: &ChannelSpec, found: &Offered<'_>) -> Result<(), Difference> {
    let channel = spec.name.clone();
    if found.unit != spec.unit {
        return Err(Difference::Unit { channel, configured: spec.unit, offered: found.unit });
    }
    let same = match (spec.rate, found.rate) {
        (None, None) => true,
        (Some(a), Some(b)) => (a.0 - b.0).abs() <= RATE_TOLERANCE * a.0,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if same { Ok(()) } else { Err(Difference::Rate { channel, configured: spec.rate, offered: found.rate }) }
}

const RATE_TOLERANCE: f32 = 1e-3;
