//! One simulated machine on the production monitor: configured as an agent would, fed one window at a time.
//!
//! A machine is made anew for each window with the state of that moment, so a month costs its windows and not its seconds.

use kilter_machine::{Axis, Machine, MachineSpec};
use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, Heap, MachineConfig, Monitor, Output};
use kilter_signal::bearing::Orders;
use kilter_types::{Celsius, ChannelId, GroupKind, Hertz, Input, MachineEvent, Micros, Name, Rpm, Unit};

/// A monitor with its sensors.
pub(super) struct Bench {
    pub(super) monitor: Box<Monitor<Heap>>,
    /// What the vibration sensor makes of what it feels.
    pub(super) gain: f32,
    block: Vec<f32>,
    period_s: f64,
}

/// How a machine is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    /// Samples per window.
    pub(super) window: u32,
    /// From one window to the next.
    pub(super) period_s: f64,
    /// Windows that teach a baseline.
    pub(super) commissioning: u32,
    /// False alarms that are allowed per month.
    pub(super) budget: f32,
}

impl Bench {
    pub(super) fn new(class: &str, spec: &MachineSpec, watch: Watch) -> anyhow::Result<Self> {
        let config = config(class, spec, watch)?;
        let monitor = Monitor::new(config, &mut Heap).map_err(|error| anyhow::anyhow!("build the monitor: {error}"))?;
        let block = vec![0.0; watch.window as usize];
        Ok(Self { monitor: Box::new(monitor), gain: 1.0, block, period_s: watch.period_s })
    }

    /// When a window begins.
    pub(super) fn time(&self, number: u64) -> Micros {
        Micros((number as f64 * self.period_s * 1e6) as i64)
    }

    /// One window of a machine that is in this state at that moment.
    pub(super) fn window(
        &mut self,
        number: u64,
        spec: MachineSpec,
        seed: u64,
        sink: &mut dyn FnMut(Output<'_>),
    ) -> anyhow::Result<()> {
        let rate_hz = spec.rate_hz;
        let mut machine = Machine::new(spec, seed).map_err(|error| anyhow::anyhow!("{error}"))?;
        machine.vibration(Axis::Vertical, &mut self.block);
        self.block.iter_mut().for_each(|x| *x *= self.gain);
        let t = self.time(number);
        let hop = (self.period_s * rate_hz) as u64;
        let Self { monitor, block, .. } = self;
        monitor.machine_event(t, MachineEvent::Speed(Rpm(machine.speed(0.0))), sink);
        monitor.machine_event(t, MachineEvent::Load(100.0 * machine.load(0.0)), sink);
        let mut push = |channel: u8, position: u64, input: Input<'_>| {
            monitor
                .push(ChannelId(channel), position, input, sink)
                .map_err(|error| anyhow::anyhow!("push into channel {channel}: {error}"))
        };
        push(2, number, Input::Reading { t, value: machine.ambient(0.0) })?;
        push(1, number, Input::Reading { t, value: machine.temperature(0.0) })?;
        push(0, number * hop, Input::Block { t0: t, rate: Hertz(rate_hz as f32), samples: block })
    }
}

fn config(class: &str, spec: &MachineSpec, watch: Watch) -> anyhow::Result<MachineConfig> {
    let name = |text: &str| Name::new(text).map_err(|error| anyhow::anyhow!("{error}"));
    let mut config = MachineConfig::new(name(class)?);
    let reading = ChannelKind::Reading { period: Some(Micros((watch.period_s * 1e6) as i64)) };
    let vibration = ChannelKind::Vibration { rate: Hertz(spec.rate_hz as f32) };
    let channels = [
        ("vertical", Unit::G, vibration),
        ("housing", Unit::DegreeCelsius, reading),
        ("ambient", Unit::DegreeCelsius, ChannelKind::Ambient),
    ];
    for (channel, unit, kind) in channels {
        let channel = ChannelConfig::new(name(channel)?, unit, kind);
        config.channels.push(channel).map_err(|_| anyhow::anyhow!("too many channels"))?;
    }
    let hop = (watch.period_s * spec.rate_hz) as u32;
    for (kind, ids, window, hop) in
        [(GroupKind::Vibration, &[0u8][..], watch.window, hop), (GroupKind::Temperature, &[1, 2], 12, 12)]
    {
        let channels = ids.iter().map(|id| ChannelId(*id)).collect();
        let group = GroupConfig { kind, point: name("drive-end")?, channels, window, hop };
        config.groups.push(group).map_err(|_| anyhow::anyhow!("too many groups"))?;
    }
    config.commissioning_windows = watch.commissioning;
    config.false_alarms_per_month = watch.budget;
    config.nominal_rpm = Some(Rpm(spec.nominal_rpm as f32));
    config.bearing = Orders::catalogue("6205").ok();
    config.limits.velocity_alarm_mm_s = Some(2.8);
    config.limits.velocity_danger_mm_s = Some(4.5);
    config.limits.temperature_alarm = Some(Celsius(80.0));
    config.limits.temperature_danger = Some(Celsius(95.0));
    Ok(config)
}
