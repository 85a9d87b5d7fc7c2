//! Which way the frames go: QUIC where UDP gets through, MQTT where it does not, and back again when it does.
//!
//! Both begin at once, so that a site without UDP loses no time. QUIC takes over when it is up; when it is lost, MQTT takes its
//! place at once and QUIC is tried again now and then, ever more seldom. No IO, no clock.

use kilter_types::Monotonic;

use crate::Backoff;

/// What carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// MQTT v5 over TCP or TLS.
    Mqtt,
    /// QUIC over UDP.
    Quic,
}

/// Decides when to open what.
#[derive(Debug)]
pub struct Path {
    quic: bool,
    mqtt_at: Monotonic,
    quic_at: Monotonic,
    mqtt_wait: Backoff,
    quic_wait: Backoff,
}

impl Path {
    /// A path that may use QUIC or not; `seed` should differ from device to device.
    pub fn new(quic: bool, now: Monotonic, seed: u64) -> Self {
        Self {
            quic,
            mqtt_at: now,
            quic_at: now,
            mqtt_wait: Backoff::new(FIRST_US, MQTT_MOST_US, seed),
            quic_wait: Backoff::new(FIRST_US, QUIC_MOST_US, seed.rotate_left(17)),
        }
    }

    /// Is it time to try this carrier? `carries` is the one that frames go by now, up or nearly: MQTT is not opened beside
    /// another, QUIC is tried beside MQTT.
    pub fn poll(&self, carrier: Carrier, carries: Option<Carrier>, now: Monotonic) -> bool {
        let wanted = match carrier {
            Carrier::Mqtt => carries.is_none(),
            Carrier::Quic => carries != Some(Carrier::Quic),
        };
        wanted && self.due(carrier).is_some_and(|due| now >= due)
    }

    /// When this carrier may be tried; never when it is switched off.
    pub fn due(&self, carrier: Carrier) -> Option<Monotonic> {
        match carrier {
            Carrier::Mqtt => Some(self.mqtt_at),
            Carrier::Quic => self.quic.then_some(self.quic_at),
        }
    }

    /// It carries frames.
    pub fn handle_up(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Mqtt => self.mqtt_wait.reset(),
            // Not yet: a link that comes up and stalls each time must not be tried for ever.
            Carrier::Quic => {}
        }
    }

    /// It moved something: next time it is tried soon.
    pub fn handle_progress(&mut self, carrier: Carrier) {
        match carrier {
            Carrier::Mqtt => self.mqtt_wait.reset(),
            Carrier::Quic => self.quic_wait.reset(),
        }
    }

    /// It does not, or not any more.
    pub fn handle_down(&mut self, carrier: Carrier, now: Monotonic) {
        match carrier {
            Carrier::Mqtt => self.mqtt_at = Monotonic(now.0 + self.mqtt_wait.delay_us()),
            Carrier::Quic => {
                self.quic_at = Monotonic(now.0 + self.quic_wait.delay_us());
                self.mqtt_at = self.mqtt_at.min(now);
            }
        }
    }
}

const FIRST_US: u64 = 200_000;
const MQTT_MOST_US: u64 = 20_000_000;
const QUIC_MOST_US: u64 = 300_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_begin_at_once_and_mqtt_rests_while_quic_carries() {
        let now = Monotonic(5);
        let mut path = Path::new(true, now, 1);
        assert!(path.poll(Carrier::Mqtt, None, now) && path.poll(Carrier::Quic, Some(Carrier::Mqtt), now));
        path.handle_up(Carrier::Quic);
        assert!(!path.poll(Carrier::Mqtt, Some(Carrier::Quic), now), "one link carries");
        path.handle_down(Carrier::Quic, now);
        assert!(path.poll(Carrier::Mqtt, None, now), "MQTT takes its place at once");
        assert!(!path.poll(Carrier::Quic, Some(Carrier::Mqtt), now));
        assert!(path.poll(Carrier::Quic, Some(Carrier::Mqtt), Monotonic(now.0 + FIRST_US)), "and QUIC is tried again");
    }

    #[test]
    fn blocked_udp_is_tried_ever_more_seldom_until_something_moved() {
        let mut path = Path::new(true, Monotonic(0), 1);
        let mut now = Monotonic(0);
        let mut waits = Vec::new();
        for _ in 0..14 {
            path.handle_down(Carrier::Quic, now);
            let due = path.due(Carrier::Quic).expect("QUIC is on");
            waits.push(due.0 - now.0);
            now = due;
        }
        assert!(waits[13] >= QUIC_MOST_US / 2 && waits.iter().all(|wait| *wait <= QUIC_MOST_US), "{waits:?}");
        path.handle_progress(Carrier::Quic);
        path.handle_down(Carrier::Quic, now);
        assert!(path.due(Carrier::Quic).expect("QUIC is on").0 - now.0 <= FIRST_US);
        assert!(!Path::new(false, now, 1).poll(Carrier::Quic, None, now), "switched off");
    }
}
