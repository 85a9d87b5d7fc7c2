//! Machines and nodes that are gone: after a long silence the page no longer keeps them. What they sent stays in the lake, and the fold
//! keeps their marks: should one return, nothing is doubled.

use std::collections::BTreeSet;

use kilter_types::{DeviceId, Micros};

use crate::Live;
use crate::machine::AssetKey;

impl Live {
    /// Lets go of every machine and node that said nothing since `after` before `now`; a machine whose alarm is open stays, a person has
    /// to look at it. Says how many went. The same entries of the journal and the same `after` leave the same state.
    pub fn forget(&mut self, now: Micros, after: Micros) -> usize {
        let gone = |heard: Micros| heard + after < now;
        let open: Vec<AssetKey> = self.alarms.open().map(|(_, entry)| AssetKey::of(&entry.point)).collect();
        let before = self.machines.len() + self.devices.len();
        self.machines.retain(|key, machine| !gone(machine.last_received) || open.contains(key));
        let served: BTreeSet<&DeviceId> = self.machines.values().map(|machine| &machine.device).collect();
        self.devices.retain(|device, state| !gone(state.last_received) || served.contains(device));
        self.watermarks.forget(|device| self.devices.contains_key(device));
        before - self.machines.len() - self.devices.len()
    }
}
