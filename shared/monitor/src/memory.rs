//! Memory that the caller owns: the monitor asks for it while it is built, and never again.
//!
//! A gateway lends `Vec`s, a microcontroller carves static arrays ([`Carve`]). [`needed`] says beforehand how much: for one
//! accelerometer, a temperature and four regimes 23 kB with windows of 1024 samples, 82 kB with 4096, 315 kB with 16384. The
//! monitor itself has 86 kB with the default bounds (8 groups, 1024 values of sequence each) and 9 kB with 1 and 256
//! (`cargo run --release -p kilter-monitor --example fleet` prints them).

use kilter_signal::{extract, fft};
use kilter_types::{GroupKind, Micros};

use crate::{
    baseline,
    config::{ConfigError, GroupConfig, MachineConfig},
    group, tacho, window,
};

/// Who lends the buffers, and what model artifacts are kept in.
pub trait Memory {
    /// A buffer of values.
    type Floats: AsRef<[f32]> + AsMut<[f32]>;
    /// A buffer of times.
    type Times: AsRef<[Micros]> + AsMut<[Micros]>;
    /// An artifact: owned bytes, or a borrowed flash slot.
    type Model: AsRef<[u8]>;

    /// At least `len` values; their content does not matter.
    fn floats(&mut self, len: usize) -> Option<Self::Floats>;
    /// At least `len` times.
    fn times(&mut self, len: usize) -> Option<Self::Times>;
}

/// How much a monitor asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Values of four bytes.
    pub floats: usize,
    /// Times of eight bytes.
    pub times: usize,
}

impl Needed {
    /// In bytes.
    pub fn bytes(self) -> usize {
        4 * self.floats + 8 * self.times
    }
}

/// What [`crate::Monitor::new`] will ask for, over all its requests.
pub fn needed(config: &MachineConfig) -> Result<Needed, ConfigError> {
    config.check()?;
    let mut total = Needed { floats: scratch_len(config) + tracked_len(config), times: tacho::room(config) };
    let groups = &config.groups;
    for (i, group) in groups.iter().enumerate() {
        let shared = groups[..i].iter().any(|g| g.kind == GroupKind::Vibration && g.window == group.window);
        if group.kind == GroupKind::Vibration && !shared {
            total.floats += fft::table_len(group.window as usize);
        }
        let buffers = window::needed(group);
        total.floats += buffers.floats + baseline::floats(group::feature_count(config, group), config.regimes);
        total.times += buffers.times;
    }
    Ok(total)
}

/// Room for one window's work, shared by all groups.
pub(crate) fn scratch_len(config: &MachineConfig) -> usize {
    let need = |group: &GroupConfig| match group.kind {
        GroupKind::Vibration => extract::scratch_len(group.window as usize),
        GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle => 0,
    };
    config.groups.iter().map(need).max().unwrap_or(0)
}

/// Room for a window at even angles of the shaft and for the work on it; none without a tacho.
pub(crate) fn tracked_len(config: &MachineConfig) -> usize {
    if tacho::pulses_per_rev(config).is_none() {
        return 0;
    }
    let vibration = config.groups.iter().filter(|group| group.kind == GroupKind::Vibration);
    vibration.map(|group| group.window as usize + extract::scratch_len(group.window as usize)).max().unwrap_or(0)
}

/// Lends parts of two arrays, from their beginnings on; artifacts stay where they lie.
#[derive(Debug)]
pub struct Carve<'a> {
    floats: &'a mut [f32],
    times: &'a mut [Micros],
}

impl<'a> Carve<'a> {
    /// Lends from these arrays.
    pub fn new(floats: &'a mut [f32], times: &'a mut [Micros]) -> Self {
        Self { floats, times }
    }
}

impl<'a> Memory for Carve<'a> {
    type Floats = &'a mut [f32];
    type Times = &'a mut [Micros];
    type Model = &'a [u8];

    fn floats(&mut self, len: usize) -> Option<&'a mut [f32]> {
        carve(&mut self.floats, len)
    }

    fn times(&mut self, len: usize) -> Option<&'a mut [Micros]> {
        carve(&mut self.times, len)
    }
}

fn carve<'a, T>(rest: &mut &'a mut [T], len: usize) -> Option<&'a mut [T]> {
    if len > rest.len() {
        return None;
    }
    let (part, left) = core::mem::take(rest).split_at_mut(len);
    *rest = left;
    Some(part)
}
