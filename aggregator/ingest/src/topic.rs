//! Topics of a device, from [`kilter_wire::topic`]: they are granted per device, so a credential can neither write in another
//! device's name nor read what is meant for it.

use kilter_wire::topic::{Direction, Topic};

use crate::gateway::Principal;

/// What a device publishes to.
pub fn up(device: &Principal) -> String {
    of(device, Direction::Up)
}

/// What a device subscribes to.
pub fn down(device: &Principal) -> String {
    of(device, Direction::Down)
}

/// Whose up topic this is, if it is one.
pub fn parse_up(text: &str) -> Option<Principal> {
    let topic = Topic::parse(text)?;
    match topic.direction {
        Direction::Up => Some(Principal { tenant: topic.tenant, device: topic.device }),
        Direction::Down => None,
    }
}

fn of(device: &Principal, direction: Direction) -> String {
    Topic { tenant: device.tenant.clone(), device: device.device.clone(), direction }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{DeviceId, Name};

    #[test]
    fn an_up_topic_names_its_device_and_a_down_topic_does_not() {
        let device = Principal {
            tenant: Name::new("acme").expect("a good name"),
            device: DeviceId::new("pump-7").expect("a good name"),
        };
        assert_eq!(parse_up(&up(&device)), Some(device.clone()));
        assert_eq!(parse_up(&down(&device)), None);
        assert_eq!(up(&device), "kilter/v1/acme/pump-7/up");
    }
}
