//! From a budget of false alarms per machine and month to how seldom a healthy window may exceed its threshold.
//!
//! An alarm takes at least [`crate::Patience::raise`] windows above the threshold, so `n` alarms are `raise * n` such windows or more,
//! however much windows depend on each other: the expected alarms are at most the expected windows above divided by `raise`. The
//! budget is shared out evenly among the machine's groups and, in each, between the quick and the slow score of its baseline.
//!
//! Limits: a tail that was followed over 2,000 windows says little beyond four decades, so no rate below [`LEAST`] is asked for. A
//! machine with a window every few seconds exceeds its threshold more often than its share; there the patience has to do the rest.

use kilter_types::GroupKind;

use crate::config::{ChannelKind, GroupConfig, MachineConfig};

/// The probability with which a score of this group's baseline may lie above its threshold.
pub(crate) fn rate(config: &MachineConfig, group: &GroupConfig) -> f32 {
    let Some(period_s) = period_s(config, group) else { return LEAST };
    let windows = MONTH_S / period_s;
    let shares = SCORES * config.groups.len().max(1) as f32;
    let allowed = config.false_alarms_per_month * f32::from(config.patience.raise);
    (allowed / (windows * shares)).clamp(LEAST, MOST)
}

/// Seconds from one window to the next; nothing where the sensor says nothing about time.
fn period_s(config: &MachineConfig, group: &GroupConfig) -> Option<f32> {
    let channel = config.channels.get(usize::from(group.channels.first()?.0))?;
    let hop = group.hop as f32;
    match (group.kind, channel.kind) {
        (GroupKind::Vibration, ChannelKind::Vibration { rate }) => Some(hop / rate.0),
        (GroupKind::Temperature | GroupKind::Reading, ChannelKind::Reading { period }) => {
            period.filter(|period| period.0 > 0).map(|period| hop * period.as_secs_f64() as f32)
        }
        (GroupKind::Vibration | GroupKind::Temperature | GroupKind::Reading | GroupKind::Cycle, _) => None,
    }
}

const MONTH_S: f32 = 30.0 * 86_400.0;
/// The quick and the slow one.
const SCORES: f32 = 2.0;
/// The least rate that a followed tail can be asked for.
const LEAST: f32 = 1.0e-5;
const MOST: f32 = 1.0e-2;

#[cfg(test)]
mod tests {
    use kilter_types::{ChannelId, Hertz, Name, Unit};

    use super::*;
    use crate::config::ChannelConfig;

    fn machine(budget: f32, groups: usize, period_s: f32) -> MachineConfig {
        let name = |text: &str| Name::new(text).expect("a good name");
        let mut config = MachineConfig::new(name("pump"));
        let kind = ChannelKind::Vibration { rate: Hertz(1_000.0) };
        config.channels.push(ChannelConfig::new(name("v"), Unit::G, kind)).expect("room");
        for _ in 0..groups {
            let channels = [ChannelId(0)].into_iter().collect();
            let hop = (1_000.0 * period_s) as u32;
            let group = GroupConfig { kind: GroupKind::Vibration, point: name("p"), channels, window: 1_024, hop };
            config.groups.push(group).expect("room");
        }
        config.false_alarms_per_month = budget;
        config
    }

    fn of(budget: f32, groups: usize, period_s: f32) -> f32 {
        let config = machine(budget, groups, period_s);
        rate(&config, &config.groups[0])
    }

    #[test]
    fn a_budget_is_five_windows_above_per_alarm_shared_by_groups_and_scores() {
        // 8,640 windows a month and a tenth of an alarm: half a window may lie above, a quarter of it per score.
        assert!((of(0.1, 1, 300.0) - 0.25 / 8_640.0).abs() < 1e-9, "{}", of(0.1, 1, 300.0));
        assert!((of(0.1, 2, 300.0) - 0.125 / 8_640.0).abs() < 1e-9);
        assert!((of(1.0, 1, 300.0) / of(0.1, 1, 300.0) - 10.0).abs() < 1e-3);
        assert!((of(0.1, 1, 3_600.0) / of(0.1, 1, 300.0) - 12.0).abs() < 1e-3);
    }

    #[test]
    fn no_rate_is_asked_for_that_a_followed_tail_can_not_tell() {
        assert_eq!(of(0.1, 1, 1.0), LEAST);
        assert_eq!(of(100.0, 1, 3_600.0), MOST);
    }
}
