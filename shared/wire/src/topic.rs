//! MQTT topics as types: `kilter/v1/<tenant>/<device>/up` and `…/down`, nothing else.

use core::fmt;

use kilter_types::{DeviceId, Name};

/// Which way a topic leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Published by the device.
    Up,
    /// Subscribed to by the device.
    Down,
}

/// One device's topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Who owns the device.
    pub tenant: Name,
    /// The device.
    pub device: DeviceId,
    /// Which way.
    pub direction: Direction,
}

impl Topic {
    /// What the aggregator subscribes to at an external broker: every device's way up.
    pub const ALL_UP: &'static str = "kilter/v1/+/+/up";

    /// Parses a topic; `None` for anything that is not a device's.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("kilter/v1/")?;
        let mut parts = rest.split('/');
        let tenant = Name::new(parts.next()?).ok()?;
        let device = DeviceId::new(parts.next()?).ok()?;
        let direction = match parts.next()? {
            "up" => Direction::Up,
            "down" => Direction::Down,
            _ => return None,
        };
        if parts.next().is_some() { None } else { Some(Self { tenant, device, direction }) }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        write!(f, "kilter/v1/{}/{}/{direction}", self.tenant, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_topic_survives_text_and_nothing_else_is_a_topic() {
        let topic = Topic::parse("kilter/v1/default/edge-1/up").expect("a good topic");
        assert_eq!(topic.to_string(), "kilter/v1/default/edge-1/up");
        for bad in ["kilter/v1/default/edge-1", "kilter/v1/+/edge-1/up", "kilter/v2/a/b/up", "kilter/v1/a/b/up/x"] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
