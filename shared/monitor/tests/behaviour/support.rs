//! A monitor on the heap, a simulated machine that feeds it, and everything that it says, kept.

use kilter_machine::{Axis, Machine, MachineSpec};
use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, Heap, MachineConfig, Monitor, Output, Trip, What};
use kilter_signal::bearing::Orders;
use kilter_types::{
    Alarm, AlarmState, Celsius, ChannelId, Event, FeatureRow, GroupKind, Hertz, Input, MachineEvent, Micros, Name, Rpm,
    Score, Spectrum, State, Unit,
};

pub(crate) type Heaped = Box<Monitor<Heap>>;

pub(crate) fn build(config: MachineConfig) -> Heaped {
    Box::new(Monitor::new(config, &mut Heap).expect("the configuration is good"))
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// An output, owned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    pub(crate) group: u8,
    pub(crate) index: u64,
    pub(crate) at: Micros,
    pub(crate) what: Words,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Words {
    Features(FeatureRow),
    Score(Score),
    Alarm(Alarm),
    Event(Event),
    Spectrum(Spectrum),
    State(State),
    Trip(Trip),
}

impl Said {
    pub(crate) fn of(output: &Output<'_>) -> Self {
        let what = match &output.what {
            What::Features(row) => Words::Features((*row).clone()),
            What::Score(score) => Words::Score((*score).clone()),
            What::Alarm(alarm) => Words::Alarm((*alarm).clone()),
            What::Event(event) => Words::Event(event.clone()),
            What::Spectrum(spectrum) => Words::Spectrum((*spectrum).clone()),
            What::State(state) => Words::State((*state).clone()),
            What::Trip(trip) => Words::Trip(*trip),
        };
        Self { group: output.group, index: output.index, at: output.at, what }
    }
}

pub(crate) fn alarms(said: &[Said]) -> Vec<(u64, Alarm)> {
    said.iter().filter_map(|s| if let Words::Alarm(a) = &s.what { Some((s.index, a.clone())) } else { None }).collect()
}

pub(crate) fn raised(said: &[Said]) -> Vec<(u64, Alarm)> {
    alarms(said).into_iter().filter(|(_, alarm)| alarm.state == AlarmState::Raised).collect()
}

pub(crate) fn events(said: &[Said]) -> Vec<(u64, Event)> {
    said.iter().filter_map(|s| if let Words::Event(e) = &s.what { Some((s.index, e.clone())) } else { None }).collect()
}

pub(crate) fn rows(said: &[Said]) -> Vec<FeatureRow> {
    said.iter().filter_map(|s| if let Words::Features(r) = &s.what { Some(r.clone()) } else { None }).collect()
}

pub(crate) fn scores(said: &[Said]) -> Vec<(u64, Score)> {
    said.iter().filter_map(|s| if let Words::Score(r) = &s.what { Some((s.index, r.clone())) } else { None }).collect()
}

pub(crate) const VIBRATION: ChannelId = ChannelId(0);
pub(crate) const TEMPERATURE: ChannelId = ChannelId(1);
pub(crate) const AMBIENT: ChannelId = ChannelId(2);

/// A pump with one accelerometer, a housing temperature and the ambient's.
pub(crate) fn pump(spec: &MachineSpec, window: u32) -> MachineConfig {
    let mut config = MachineConfig::new(name("pump"));
    let reading = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    let vibration = ChannelKind::Vibration { rate: Hertz(spec.rate_hz as f32) };
    for (channel, unit, kind) in [
        ("vertical", Unit::G, vibration),
        ("housing", Unit::DegreeCelsius, reading),
        ("ambient", Unit::DegreeCelsius, ChannelKind::Ambient),
    ] {
        config.channels.push(ChannelConfig::new(name(channel), unit, kind)).expect("room for channels");
    }
    let groups =
        [(GroupKind::Vibration, vec![VIBRATION], window), (GroupKind::Temperature, vec![TEMPERATURE, AMBIENT], 10)];
    for (kind, channels, window) in groups {
        let group = GroupConfig {
            kind,
            point: name("drive-end"),
            channels: channels.into_iter().collect(),
            window,
            hop: window,
        };
        config.groups.push(group).expect("room for groups");
    }
    config.nominal_rpm = Some(Rpm(spec.nominal_rpm as f32));
    config.bearing = Orders::catalogue("6205").ok();
    config.limits.velocity_alarm_mm_s = Some(2.8);
    config.limits.velocity_danger_mm_s = Some(4.5);
    config.limits.temperature_alarm = Some(Celsius(80.0));
    config.limits.temperature_danger = Some(Celsius(95.0));
    config
}

/// Feeds tenths of a second of a machine.
pub(crate) struct Feeder {
    pub(crate) machine: Machine,
    pub(crate) rate_hz: f64,
    pub(crate) tenths: u64,
    pub(crate) block: Vec<f32>,
}

impl Feeder {
    pub(crate) fn new(spec: MachineSpec, seed: u64) -> Self {
        let rate_hz = spec.rate_hz;
        let machine = Machine::new(spec, seed).expect("a good spec");
        Self { machine, rate_hz, tenths: 0, block: vec![0.0; (rate_hz / 10.0) as usize] }
    }

    /// The next tenth of a second of vibration, not yet fed.
    pub(crate) fn synthesise(&mut self) {
        self.machine.vibration(Axis::Vertical, &mut self.block);
    }

    /// Feeds it with whatever else happens in it, to any number of monitors.
    pub(crate) fn feed(&mut self, monitors: &mut [(&mut Heaped, &mut Vec<Said>)]) {
        let t_s = self.tenths as f64 / 10.0;
        let t = Micros((t_s * 1e6) as i64 + T0);
        let position = self.tenths * self.block.len() as u64;
        let speed = MachineEvent::Speed(Rpm(self.machine.speed(t_s)));
        let load = MachineEvent::Load(100.0 * self.machine.load(t_s));
        let slow = self.tenths.is_multiple_of(10);
        let (housing, ambient) =
            if slow { (self.machine.temperature(t_s), self.machine.ambient(t_s)) } else { (0.0, 0.0) };
        for (monitor, said) in monitors {
            let mut sink = |output: Output<'_>| said.push(Said::of(&output));
            monitor.machine_event(t, speed, &mut sink);
            monitor.machine_event(t, load, &mut sink);
            let second = self.tenths / 10;
            if slow {
                let ambient = Input::Reading { t, value: ambient };
                monitor.push(AMBIENT, second, ambient, &mut sink).expect("ambient fits");
                let housing = Input::Reading { t, value: housing };
                monitor.push(TEMPERATURE, second, housing, &mut sink).expect("a temperature fits");
            }
            let block = Input::Block { t0: t, rate: Hertz(self.rate_hz as f32), samples: &self.block };
            monitor.push(VIBRATION, position, block, &mut sink).expect("a block fits");
        }
        self.tenths += 1;
    }

    pub(crate) fn run(&mut self, seconds: f64, monitor: &mut Heaped, said: &mut Vec<Said>) {
        for _ in 0..(seconds * 10.0).round() as u64 {
            self.synthesise();
            self.feed(&mut [(&mut *monitor, &mut *said)]);
        }
    }
}

pub(crate) const T0: i64 = 1_700_000_000_000_000;
