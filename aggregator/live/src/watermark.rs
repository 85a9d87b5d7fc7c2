//! How far event time has come: a fleet's watermark, and what came after it.
//!
//! The watermark stands below the latest event time of every device that is heard of, less the disorder that is allowed for. A device
//! that has been silent for a while is idle and holds nothing back; when it returns with old data, the watermark does not go back:
//! its rows are late. A clock that runs ahead counts as no further than `ahead` beyond the receipt. Nothing is lost by being too
//! late: such rows are counted here and stand in the lake like any other.

use std::collections::{BTreeMap, BTreeSet};

use kilter_types::{DeviceId, Micros};
use serde::{Deserialize, Serialize};

use crate::Arrival;

/// What is allowed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// How far rows of one device may be out of order.
    pub disorder: Micros,
    /// After so long without a row a device is idle.
    pub idle_after: Micros,
    /// A device's clock is believed no further than this beyond the receipt.
    pub ahead: Micros,
}

/// The watermark of a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watermarks {
    allowance: Allowance,
    devices: BTreeMap<DeviceId, Progress>,
    reached: Option<Micros>,
    #[serde(skip)]
    order: Order,
}

/// Which device is furthest behind, without a look at all of them for each row: with 50 devices that took a tenth of the
/// server's time, and it grew with their number. Made again from the devices when there is none yet.
#[derive(Clone, Debug, Default)]
struct Order {
    /// Devices by a latest time that they had once; only the first is brought up to date.
    waiting: BTreeSet<(Micros, DeviceId)>,
    /// Devices that were found idle when they were first, at this time or before.
    idle: BTreeSet<DeviceId>,
    now: Micros,
}

/// Follows from the devices, so it makes no two watermarks differ.
impl PartialEq for Order {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Progress {
    latest: Micros,
    heard: Micros,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { disorder: Micros::from_secs(5), idle_after: Micros::from_secs(60), ahead: Micros::from_secs(60) }
    }
}

impl Default for Watermarks {
    fn default() -> Self {
        Self::new(Allowance::default())
    }
}

impl Watermarks {
    /// Before the first row.
    pub fn new(allowance: Allowance) -> Self {
        Self { allowance, devices: BTreeMap::new(), reached: None, order: Order::default() }
    }

    /// A row of this event time came in at `now`; returns the watermark that it met, then moves on.
    pub fn observe(&mut self, device: &DeviceId, event_time: Micros, now: Micros) -> Option<Micros> {
        let met = self.reached;
        let believed = event_time.min(now + self.allowance.ahead);
        self.order.complete(&self.devices);
        if self.order.idle.remove(device) || !self.devices.contains_key(device) {
            // As early as can be: it is brought up to date with all others.
            self.order.waiting.insert((Micros(i64::MIN), device.clone()));
        }
        match self.devices.get_mut(device) {
            Some(progress) => {
                progress.latest = progress.latest.max(believed);
                progress.heard = progress.heard.max(now);
            }
            None => drop(self.devices.insert(device.clone(), Progress { latest: believed, heard: now })),
        }
        self.advance(now);
        met
    }

    /// Lets idle devices go; returns the watermark at `now`. `None` before the first row.
    pub fn advance(&mut self, now: Micros) -> Option<Micros> {
        self.order.complete(&self.devices);
        if let Some(least) = self.order.least(&self.devices, now, self.allowance.idle_after) {
            let mark = least - self.allowance.disorder;
            self.reached = Some(self.reached.map_or(mark, |reached| reached.max(mark)));
        }
        self.reached
    }

    /// When a row of event time `t` came that met this watermark: late below it, and too late further below than the lateness.
    pub fn arrival(t: Micros, met: Option<Micros>, lateness: Micros) -> Arrival {
        match met {
            Some(mark) if t + lateness < mark => Arrival::TooLate,
            Some(mark) if t < mark => Arrival::Late,
            Some(_) | None => Arrival::OnTime,
        }
    }

    /// Lets go of devices that are not kept. Idle ones held nothing back: where the watermark stands stays.
    pub(crate) fn forget(&mut self, keep: impl Fn(&DeviceId) -> bool) {
        self.devices.retain(|device, _| keep(device));
        self.order = Order::default();
    }

    /// Where it stands.
    pub fn reached(&self) -> Option<Micros> {
        self.reached
    }

    /// The devices that hold nothing back at `now`.
    pub fn idle(&self, now: Micros) -> impl Iterator<Item = &DeviceId> {
        let idle = move |progress: &Progress| now > progress.heard + self.allowance.idle_after;
        self.devices.iter().filter(move |(_, progress)| idle(progress)).map(|(device, _)| device)
    }
}

impl Order {
    fn complete(&mut self, devices: &BTreeMap<DeviceId, Progress>) {
        if self.waiting.is_empty() && self.idle.is_empty() {
            self.waiting = devices.iter().map(|(device, progress)| (progress.latest, device.clone())).collect();
        }
    }

    /// The earliest of the latest times of all devices that are heard of at `now`.
    fn least(&mut self, devices: &BTreeMap<DeviceId, Progress>, now: Micros, idle_after: Micros) -> Option<Micros> {
        if now < self.now {
            // A clock that went back: who was idle may not be so any more.
            self.waiting.extend(std::mem::take(&mut self.idle).into_iter().map(|device| (Micros(i64::MIN), device)));
        }
        self.now = now;
        loop {
            let (known, device) = self.waiting.first()?;
            let progress = devices.get(device)?;
            let active = now <= progress.heard + idle_after;
            if active && *known == progress.latest {
                return Some(progress.latest);
            }
            let (_, device) = self.waiting.pop_first()?;
            if active {
                self.waiting.insert((progress.latest, device));
            } else {
                self.idle.insert(device);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, with a look at every device.
    fn by_all(marks: &Watermarks, now: Micros) -> Option<Micros> {
        let active = marks.devices.values().filter(|progress| now <= progress.heard + marks.allowance.idle_after);
        active.map(|progress| progress.latest).min()
    }

    proptest! {
        #[test]
        fn the_least_is_that_of_all_devices_through_silence_restarts_and_clocks_that_step_back(
            rows in proptest::collection::vec((0..9u8, 0..300i64, -40..90i64, 0..20u8), 1..200),
        ) {
            let mut marks = Watermarks::default();
            let mut now = Micros::from_secs(1_000);
            for (device, behind, passed, chance) in rows {
                now = now + Micros::from_secs(passed);
                if chance == 0 {
                    // A snapshot does not carry the order.
                    let bytes = postcard::to_allocvec(&marks).expect("it has a form");
                    marks = postcard::from_bytes(&bytes).expect("it is whole");
                } else if chance == 1 {
                    marks.forget(|device| device.as_str() != "d3");
                } else {
                    let device = DeviceId::new(&format!("d{device}")).expect("a name");
                    let before = marks.reached;
                    marks.observe(&device, now - Micros::from_secs(behind), now);
                    let expected = by_all(&marks, now).map(|least| least - marks.allowance.disorder);
                    prop_assert_eq!(marks.reached, before.max(expected));
                }
            }
        }
    }
}
