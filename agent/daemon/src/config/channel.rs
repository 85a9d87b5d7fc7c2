//! One channel as the configuration declares it: what it delivers, and how its sensor sits on the machine.
//!
//! Nothing is guessed, and what can't be is refused with the key: a unit that does not fit, a range the wrong way round, a band beyond what
//! the rate or the mounting carries.

use kilter_monitor::{Bounds, ChannelConfig, ChannelKind};
use kilter_source::ChannelSpec;
use kilter_types::{Axis, Hertz, Micros, Mounting, Name, Unit};
use serde::Deserialize;

/// A channel.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Channel {
    pub(super) name: Name,
    kind: Kind,
    pub(super) unit: Unit,
    #[serde(default)]
    pub(super) rate_hz: Option<f32>,
    #[serde(default)]
    period_secs: Option<f64>,
    #[serde(default)]
    width: Option<u8>,
    #[serde(default)]
    pulses_per_rev: Option<u16>,
    /// What the sensor can measure, least and greatest, in the channel's unit.
    #[serde(default)]
    pub(super) range: Option<[f32; 2]>,
    #[serde(default)]
    axis: Option<Axis>,
    #[serde(default)]
    mounting: Option<Mounting>,
    /// Up to where the channel is meant to be believed.
    #[serde(default)]
    upper_hz: Option<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Vibration,
    Reading,
    Cycle,
    Speed,
    Load,
    Ambient,
    Tacho,
}

impl Channel {
    /// The monitor's form of it, or what does not fit.
    pub(super) fn monitor(&self) -> Result<ChannelConfig, String> {
        let kind = self.kind()?;
        self.check_mounting()?;
        let mut made = ChannelConfig::new(self.name.clone(), self.unit, kind);
        made.axis = self.axis;
        if let Some([low, high]) = self.range {
            made.range = Bounds { low, high };
        }
        Ok(made)
    }

    /// As a source must offer it.
    pub(super) fn spec(&self) -> ChannelSpec {
        ChannelSpec { name: self.name.clone(), unit: self.unit, rate: self.rate_hz.map(Hertz) }
    }

    /// What can be run, but not believed throughout.
    pub(super) fn doubt(&self) -> Option<String> {
        let (mounting, rate_hz) = (self.mounting?, self.rate_hz?);
        let usable_hz = mounting.usable().0;
        // Who declares a band has seen the limit.
        (self.upper_hz.is_none() && rate_hz / 2.0 > usable_hz).then(|| {
            format!(
                "channel {}: mounting {} carries up to about {usable_hz} Hz and the rate reaches {} Hz; what is found above is the \
                 mounting's (declare upper_hz to say that this is known)",
                self.name,
                mounting.as_str(),
                rate_hz / 2.0
            )
        })
    }

    fn check_mounting(&self) -> Result<(), String> {
        let Some(upper_hz) = self.upper_hz else { return Ok(()) };
        let by_rate = ("half of rate_hz", self.rate_hz.map(|rate_hz| rate_hz / 2.0));
        let by_mounting = ("what its mounting carries", self.mounting.map(|mounting| mounting.usable().0));
        for (limit, most_hz) in [by_rate, by_mounting] {
            let most_hz = most_hz.unwrap_or(f32::INFINITY);
            if !(0.0..=most_hz).contains(&upper_hz) {
                return Err(format!(
                    "channel {}: upper_hz = {upper_hz} is beyond {limit} ({most_hz} Hz); lower it, or mount the sensor so that it \
                     carries more (stud 10000, adhesive 8000, magnet 2000, handheld 1000 Hz)",
                    self.name
                ));
            }
        }
        Ok(())
    }

    fn kind(&self) -> Result<ChannelKind, String> {
        let name = &self.name;
        let refuse = |given: bool, key: &str| {
            if given { Err(format!("channel {name}: {key} does not belong to kind {:?}", self.kind)) } else { Ok(()) }
        };
        let sampled = self.kind == Kind::Vibration;
        refuse(self.rate_hz.is_some() && !sampled, "rate_hz")?;
        refuse(self.axis.is_some() && !sampled, "axis")?;
        refuse(self.mounting.is_some() && !sampled, "mounting")?;
        refuse(self.upper_hz.is_some() && !sampled, "upper_hz")?;
        refuse(self.period_secs.is_some() && self.kind != Kind::Reading, "period_secs")?;
        refuse(self.width.is_some() && self.kind != Kind::Cycle, "width")?;
        refuse(self.pulses_per_rev.is_some() && self.kind != Kind::Tacho, "pulses_per_rev")?;
        Ok(match self.kind {
            Kind::Vibration => {
                let rate =
                    self.rate_hz.ok_or_else(|| format!("channel {name}: rate_hz is needed for kind vibration"))?;
                ChannelKind::Vibration { rate: Hertz(rate) }
            }
            Kind::Reading => ChannelKind::Reading { period: self.period_secs.map(|secs| Micros((secs * 1e6) as i64)) },
            Kind::Cycle => {
                let width = self.width.ok_or_else(|| format!("channel {name}: width is needed for kind cycle"))?;
                ChannelKind::Cycle { width }
            }
            Kind::Speed => ChannelKind::Speed,
            Kind::Load => ChannelKind::Load,
            Kind::Ambient => ChannelKind::Ambient,
            Kind::Tacho => {
                let pulses = self.pulses_per_rev;
                let pulses_per_rev =
                    pulses.ok_or_else(|| format!("channel {name}: pulses_per_rev is needed for kind tacho"))?;
                ChannelKind::Tacho { pulses_per_rev }
            }
        })
    }
}
