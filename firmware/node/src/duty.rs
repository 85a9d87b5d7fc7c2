//! Measure a while, sleep a while: when to do which, and what it costs the battery.
//!
//! The estimate is `24 h * (I_active * active + I_sleep * asleep) / (active + asleep) + Q_byte * bytes per day`; the currents
//! come from the board's data sheet or, better, from a meter.

use kilter_types::{Micros, Monotonic};
use kilter_wire::node::NodeSettings;

/// How long to measure and how long to sleep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duty {
    /// Windows in a row before a sleep.
    pub windows: u16,
    /// How long a sleep lasts; 0: never.
    pub sleep: Micros,
}

impl Duty {
    /// As the gateway set it; `None` when that is to measure all the time.
    pub fn of(settings: &NodeSettings) -> Option<Self> {
        let NodeSettings { windows, sleep_secs, .. } = *settings;
        (windows > 0 && sleep_secs > 0).then_some(Self { windows, sleep: Micros::from_secs(i64::from(sleep_secs)) })
    }
}

/// What a board draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Power {
    /// While it measures, sensor included.
    pub active_ua: u32,
    /// While it sleeps.
    pub sleep_ua: u32,
    /// Charge per byte on the line, in nanocoulombs.
    pub byte_nc: u32,
}

/// What was done since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    active_us: u64,
    asleep_us: u64,
    bytes: u64,
    since: Option<Monotonic>,
}

impl Meter {
    /// The node has been awake until now.
    pub fn awake(&mut self, now: Monotonic) {
        let since = self.since.replace(now).unwrap_or(now);
        self.active_us = self.active_us.saturating_add(now.0.saturating_sub(since.0));
    }

    /// The node has slept until now.
    pub fn slept(&mut self, now: Monotonic) {
        let since = self.since.replace(now).unwrap_or(now);
        self.asleep_us = self.asleep_us.saturating_add(now.0.saturating_sub(since.0));
    }

    /// So many bytes went over the line.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Charge per day at this rate, in microampere hours.
    pub fn uah_per_day(&self, power: &Power) -> u32 {
        uah_per_day(self.active_us, self.asleep_us, self.bytes, power)
    }
}

/// Charge per day of a duty cycle, in microampere hours: `window_us` of signal and `bytes` on the line per window.
pub fn estimate_uah_per_day(duty: Option<Duty>, window_us: u64, bytes: u64, power: &Power) -> u32 {
    let windows = duty.map_or(1, |duty| u64::from(duty.windows));
    let asleep_us = duty.map_or(0, |duty| duty.sleep.0.max(0).unsigned_abs());
    uah_per_day(windows * window_us, asleep_us, windows * bytes, power)
}

fn uah_per_day(active_us: u64, asleep_us: u64, bytes: u64, power: &Power) -> u32 {
    let total_us = u128::from(active_us) + u128::from(asleep_us);
    if total_us == 0 {
        return 0;
    }
    let drawn =
        u128::from(active_us) * u128::from(power.active_ua) + u128::from(asleep_us) * u128::from(power.sleep_ua);
    // One microampere hour is 3600 microcoulombs, so 3.6e6 nanocoulombs.
    let line = u128::from(bytes) * u128::from(power.byte_nc) * 86_400_000_000 / total_us / 3_600_000;
    u32::try_from(drawn * 24 / total_us + line).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POWER: Power = Power { active_ua: 6_000, sleep_ua: 5, byte_nc: 500 };

    #[test]
    fn a_day_costs_what_currents_and_times_say() {
        // All the time: 6 mA for 24 h, and 1000 bytes per 0.32 s of 500 nC each.
        let always = estimate_uah_per_day(None, 320_000, 1000, &POWER);
        assert_eq!(always, 144_000 + 37_500);
        // 4 windows in 10 minutes: 1.28 s of 601.28 s.
        let duty = Some(Duty { windows: 4, sleep: Micros::from_secs(600) });
        let seldom = estimate_uah_per_day(duty, 320_000, 1000, &POWER);
        let expected = (1.28 * 144_000.0 + 600.0 * 120.0) / 601.28 + 4000.0 * 500.0 / 601.28 * 86_400.0 / 3.6e6;
        assert!((f64::from(seldom) - expected).abs() <= 2.0, "{seldom} {expected}");
    }

    #[test]
    fn the_meter_agrees_with_the_estimate_of_what_it_saw() {
        let mut meter = Meter::default();
        meter.awake(Monotonic(0));
        for cycle in 0..10u64 {
            meter.awake(Monotonic(cycle * 601_280_000 + 1_280_000));
            meter.slept(Monotonic((cycle + 1) * 601_280_000));
            meter.sent(4000);
        }
        let duty = Some(Duty { windows: 4, sleep: Micros::from_secs(600) });
        assert_eq!(meter.uah_per_day(&POWER), estimate_uah_per_day(duty, 320_000, 1000, &POWER));
    }
}
