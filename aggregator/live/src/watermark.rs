//! How far event time has come: a fleet's watermark, and what came after it.
//!
//! The watermark stands below the latest event time of every device that is heard of, less the disorder that is allowed for. A device
//! that has been silent for a while is idle and holds nothing back; when it returns with old data, the watermark does not go back:
//! its rows are late. A clock that runs ahead counts as no further than `ahead` beyond the receipt. Nothing is lost by being too
//! late: such rows are counted here and stand in the lake like any other.

use std::collections::BTreeMap;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
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
        Self { allowance, devices: BTreeMap::new(), reached: None }
    }

    /// A row of this event time came in at `now`; returns the watermark that it met, then moves on.
    pub fn observe(&mut self, device: &DeviceId, event_time: Micros, now: Micros) -> Option<Micros> {
        let met = self.reached;
        let believed = event_time.min(now + self.allowance.ahead);
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
        let active = self.devices.values().filter(|progress| now <= progress.heard + self.allowance.idle_after);
        if let Some(least) = active.map(|progress| progress.latest).min() {
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

    pub(crate) fn devices_mut(&mut self) -> &mut BTreeMap<DeviceId, Progress> {
        &mut self.devices
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
