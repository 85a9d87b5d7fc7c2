//! One node's clock over the world's time: it starts at boot, drifts, and its wall guess is off and jumps.

use kilter_types::{Clock, Micros, Monotonic};

use crate::WorldTime;

/// A clock that is wrong in a stated way.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    world: WorldTime,
    /// Where world time and this clock's were last brought together.
    anchor_us: u64,
    monotonic_us: u64,
    drift_ppm: i32,
    /// The wall's guess at the anchor; `None` without a battery.
    wall: Option<Micros>,
    uncertainty: Micros,
}

impl VirtualClock {
    /// When every world begins: 2023-11-14 22:13:20 UTC.
    pub const BEGINNING: Micros = Micros(1_700_000_000_000_000);

    /// A clock that boots now, without a wall guess.
    pub fn new(world: WorldTime, drift_ppm: i32) -> Self {
        let anchor_us = world.now_us();
        Self { world, anchor_us, monotonic_us: 0, drift_ppm, wall: None, uncertainty: Micros(0) }
    }

    /// The true wall time at an instant of the world.
    pub fn true_wall(world_us: u64) -> Micros {
        Micros(Self::BEGINNING.0.saturating_add_unsigned(world_us))
    }

    /// Sets the wall guess to the truth plus `offset`, believed to `uncertainty`: a jump, back or forth.
    pub fn set_wall(&mut self, offset: Micros, uncertainty: Micros) {
        self.settle();
        self.wall = Some(Self::true_wall(self.anchor_us) + offset);
        self.uncertainty = uncertainty;
    }

    /// From now on the clock gains so many parts per million; what has passed stays.
    pub fn set_drift_ppm(&mut self, drift_ppm: i32) {
        self.settle();
        self.drift_ppm = drift_ppm;
    }

    /// Power was cut: the monotonic time starts again, the wall goes on.
    pub fn reboot(&mut self) {
        self.settle();
        self.monotonic_us = 0;
    }

    /// When this clock will show `at`; now if it already does.
    pub fn world_us_at(&self, at: Monotonic) -> u64 {
        let away = u128::from(at.0.saturating_sub(self.monotonic_us)) * 1_000_000;
        let rate = self.rate();
        let away = u64::try_from(away.div_ceil(rate)).unwrap_or(u64::MAX);
        self.anchor_us.saturating_add(away).max(self.world.now_us())
    }

    fn rate(&self) -> u128 {
        u128::from(1_000_000u64.saturating_add_signed(i64::from(self.drift_ppm)).max(1))
    }

    fn elapsed_us(&self) -> u64 {
        let passed = u128::from(self.world.now_us() - self.anchor_us);
        u64::try_from(passed * self.rate() / 1_000_000).unwrap_or(u64::MAX)
    }

    fn settle(&mut self) {
        let elapsed_us = self.elapsed_us();
        self.monotonic_us += elapsed_us;
        self.wall = self.wall.map(|wall| Micros(wall.0.saturating_add_unsigned(elapsed_us)));
        self.anchor_us = self.world.now_us();
    }
}

impl Clock for VirtualClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(self.monotonic_us + self.elapsed_us())
    }

    fn wall(&self) -> Option<Micros> {
        self.wall.map(|wall| Micros(wall.0.saturating_add_unsigned(self.elapsed_us())))
    }

    fn uncertainty(&self) -> Micros {
        self.uncertainty
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scheduler;

    #[test]
    fn a_fast_clock_gains_jumps_only_its_wall_and_tells_when_it_will_show_an_instant() {
        let mut world = Scheduler::new();
        world.push(1_000_000_000, ());
        world.push(2_000_000_000, ());
        let mut clock = VirtualClock::new(world.time(), 100);
        world.jump();
        assert_eq!(clock.monotonic(), Monotonic(1_000_100_000));
        let before = clock.monotonic();
        clock.set_wall(Micros::from_secs(-1_700_000_000), Micros::from_secs(1));
        clock.set_drift_ppm(-50);
        assert_eq!((clock.monotonic(), clock.wall()), (before, Some(Micros::from_secs(1_000))));
        let due = clock.world_us_at(Monotonic(before.0 + 999_950_000));
        assert_eq!(due, 2_000_000_000);
        world.jump();
        assert_eq!(clock.monotonic(), Monotonic(before.0 + 999_950_000));
        clock.reboot();
        assert_eq!(clock.monotonic(), Monotonic(0));
    }
}
