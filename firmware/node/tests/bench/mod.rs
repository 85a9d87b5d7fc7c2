//! Hardware that a test can watch and break, and a fleet's key with models signed by it.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod chip;
pub(crate) mod flash;

use std::collections::VecDeque;

use kilter_monitor::{Carve, ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Monitor, Protection, needed};
use kilter_node::{
    Accelerometer, AlarmOutput, BLOCK, FaultLog, Filled, Hardware, Identity, KEPT_BYTES, Link, Node, Parts, Power,
    Reset, Slots, Thermometer, Turn, Watchdog,
};
use kilter_types::{
    Celsius, ChannelId, DeviceId, Epoch, FeatureId, GroupKind, Hertz, Micros, Monotonic, Name, Payload, Record,
    Severity, Unit,
};
use kilter_wire::node::{NodeDown, NodeStatus, NodeUp};
use kilter_wire::{
    CommandResult, Down, Fetch, Outcome, TimeRequest, Up, cobs, decode_record,
    frame::{self, FrameError, Kind, Message},
};

use flash::ModelFlash;

pub(crate) const RATE: f32 = 3200.0;
pub(crate) const WINDOW: usize = 1024;

/// The key that the nodes of these tests were flashed with.
pub(crate) fn public_key() -> [u8; 32] {
    kilter_wire::sign::public_key(&kilter_tests::model::SECRET)
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

/// Noise of this size, or one value for ever.
pub(crate) struct Sensor {
    state: u32,
    pub(crate) size: f32,
    position: u64,
    pub(crate) lost: u64,
    pub(crate) broken: bool,
    pub(crate) asleep: bool,
}

impl Accelerometer for Sensor {
    type Error = ();

    fn fill(&mut self, samples: &mut [f32]) -> Result<Filled, ()> {
        if self.broken || self.asleep {
            return Err(());
        }
        let lost = std::mem::take(&mut self.lost);
        self.position += lost;
        let t0 = Monotonic(self.position * 1_000_000 / RATE as u64);
        for sample in samples.iter_mut() {
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = self.size * ((self.state >> 8) as f32 / 8_388_608.0 - 1.0);
        }
        self.position += samples.len() as u64;
        Ok(Filled { len: samples.len(), lost, t0 })
    }

    fn sleep(&mut self) -> Result<(), ()> {
        self.asleep = true;
        Ok(())
    }

    fn wake(&mut self) -> Result<(), ()> {
        self.asleep = false;
        Ok(())
    }
}

/// A housing that stays at one temperature.
pub(crate) struct Housing(pub(crate) f32);

impl Thermometer for Housing {
    type Error = ();

    fn read(&mut self) -> Result<Celsius, ()> {
        Ok(Celsius(self.0))
    }
}

#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) sent: Vec<u8>,
    pub(crate) coming: VecDeque<u8>,
    pub(crate) cut: bool,
}

impl Link for Wire {
    type Error = ();

    fn send(&mut self, bytes: &[u8]) -> Result<(), ()> {
        if self.cut {
            return Err(());
        }
        self.sent.extend_from_slice(bytes);
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, ()> {
        let count = bytes.len().min(self.coming.len());
        for (to, from) in bytes.iter_mut().zip(self.coming.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }
}

#[derive(Default)]
pub(crate) struct Lamp {
    pub(crate) shown: Severity,
    pub(crate) trips: u32,
    pub(crate) released: u32,
}

impl AlarmOutput for Lamp {
    fn show(&mut self, severity: Severity) {
        self.shown = severity;
    }

    fn trip(&mut self) {
        self.trips += 1;
    }

    fn release(&mut self) {
        self.released += 1;
    }
}

/// Counts its meals.
#[derive(Clone, Default)]
pub(crate) struct Dog(pub(crate) std::rc::Rc<std::cell::Cell<u32>>);

impl Watchdog for Dog {
    fn feed(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

pub(crate) struct OnHost;

impl Hardware for OnHost {
    type Accelerometer = Sensor;
    type Thermometer = Housing;
    type Link = Wire;
    type Output = Lamp;
    type Flash = ModelFlash;
    type Watchdog = Dog;
    type Images = kilter_node::Absent;
}

pub(crate) type Bench = Node<OnHost, Carve<'static>, 2, 64, 1024>;

pub(crate) fn config() -> MachineConfig {
    let mut config = MachineConfig::new(name("pump"));
    let vibration = ChannelKind::Vibration { rate: Hertz(RATE) };
    let reading = ChannelKind::Reading { period: Some(Micros::from_secs(1)) };
    for (channel, unit, kind) in [("z", Unit::G, vibration), ("housing", Unit::DegreeCelsius, reading)] {
        config.channels.push(ChannelConfig::new(name(channel), unit, kind)).expect("room");
    }
    for (kind, channel, window) in [(GroupKind::Vibration, 0, WINDOW as u32), (GroupKind::Temperature, 1, 4)] {
        let channels = [ChannelId(channel)].into_iter().collect();
        let group = GroupConfig { kind, point: name("drive-end"), channels, window, hop: window };
        config.groups.push(group).expect("room");
    }
    config.regimes = 1;
    config.commissioning_windows = 12;
    // rms
    config.protection.push(Protection { feature: FeatureId(2), above: 2.0, windows: 2 }).expect("room");
    config
}

pub(crate) fn identity() -> Identity {
    Identity {
        device: DeviceId::new("node-1").expect("a good id"),
        software: name("0.1.0"),
        tenant: name("default"),
        site: name("north"),
        asset: name("pump-1"),
        epoch: Epoch(42),
        channel: ChannelId(0),
        rate: Hertz(RATE),
        temperature: Some((ChannelId(1), Micros::from_secs(1))),
        power: Power { active_ua: 6_000, sleep_ua: 5, byte_nc: 500 },
    }
}

/// A node over this flash, as after a reset.
pub(crate) fn boot(flash: ModelFlash) -> Bench {
    assemble(identity(), flash, Wire::default(), kilter_node::Absent, public_key())
}

/// A node of other parts, flashed with this key, as after a reset.
pub(crate) fn assemble<H>(
    identity: Identity,
    mut flash: H::Flash,
    link: H::Link,
    images: H::Images,
    key: [u8; 32],
) -> Node<H, Carve<'static>, 2, 64, 1024>
where
    H: Hardware<Accelerometer = Sensor, Thermometer = Housing, Output = Lamp, Watchdog = Dog>,
{
    let needed = needed(&config()).expect("a good configuration");
    let (floats, times) = (vec![0.0; needed.floats].leak(), vec![Micros(0); needed.times].leak());
    let monitor = Monitor::new(config(), &mut Carve::new(floats, times)).expect("a good configuration");
    let slots = Slots::open(&mut flash, flash::BYTES, key).expect("the flash reads");
    let kept = &mut [0; KEPT_BYTES];
    let faults = FaultLog::start(&mut flash, flash::BYTES, kept, Reset::Power).expect("the flash reads");
    let parts = Parts {
        accelerometer: Sensor { state: 1, size: 0.1, position: 0, lost: 0, broken: false, asleep: false },
        thermometer: Housing(45.0),
        link,
        output: Lamp::default(),
        flash,
        watchdog: Dog::default(),
        images,
    };
    Node::new(identity, parts, slots, monitor, faults)
}

pub(crate) fn node() -> Bench {
    boot(ModelFlash::new())
}

/// Polls until so many windows are through; the clock goes on from `from`.
pub(crate) fn run_from(node: &mut Bench, from: u64, windows: usize) -> u64 {
    let turns = (windows * WINDOW / BLOCK) as u64;
    for turn in 0..turns {
        let _: Turn = node.poll(Monotonic(from + turn * 40_000));
    }
    from + turns * 40_000
}

pub(crate) fn run(node: &mut Bench, windows: usize) {
    run_from(node, 0, windows);
}

/// Everything whole that was sent.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) records: Vec<Record>,
    pub(crate) results: Vec<(u64, Outcome)>,
    pub(crate) fetches: Vec<Fetch>,
    pub(crate) times: Vec<TimeRequest>,
    pub(crate) status: Option<NodeStatus>,
    pub(crate) hellos: u32,
}

impl Sent {
    /// Models of which the node says that it refused them, with its reason.
    pub(crate) fn refusals(&self) -> Vec<String> {
        let refused = self.records.iter().filter_map(|record| match &record.payload {
            Payload::Event(kilter_types::Event::ModelRefused { reason, .. }) => Some(reason.to_string()),
            _ => None,
        });
        refused.collect()
    }
}

pub(crate) fn sent(node: &mut Bench) -> Sent {
    let mut all = Sent::default();
    let bytes = std::mem::take(&mut node.link().sent);
    for part in bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()) {
        let mut part = part.to_vec();
        let frame = cobs::decode(&mut part).expect("a frame that was sent is whole");
        match frame::decode::<Up<'_>>(Kind::Up, frame) {
            Ok(Up::Batch(batch)) => {
                let records = batch.iter().map(|r| decode_record(r.expect("whole").bytes).expect("a good record"));
                all.records.extend(records);
            }
            Ok(Up::CommandResult(CommandResult { id, outcome })) => all.results.push((id, outcome)),
            Ok(Up::Fetch(fetch)) => all.fetches.push(fetch),
            Ok(Up::TimeRequest(request)) => all.times.push(request),
            Ok(Up::Hello(_)) => all.hellos += 1,
            Ok(Up::Packed(_)) => panic!("a node packs nothing"),
            Err(FrameError::Kind(_)) => match frame::decode(Kind::NodeUp, frame).expect("a good frame") {
                NodeUp::Status(status) => all.status = Some(status),
                NodeUp::Image(_) => panic!("this node has no bootloader"),
            },
            Err(error) => panic!("{error}"),
        }
    }
    all
}

pub(crate) fn send_down(node: &mut Bench, message: &Down<'_>) {
    send(node, Kind::Down, message);
}

pub(crate) fn send_node(node: &mut Bench, message: &NodeDown<'_>) {
    send(node, Kind::NodeDown, message);
}

fn send<T: Message>(node: &mut Bench, kind: Kind, message: &T) {
    let (mut plain, mut coded) = (vec![0; 1024], vec![0; 1100]);
    let bytes = frame::encode(kind, message, &mut plain).expect("it fits");
    let coded = cobs::encode(bytes, &mut coded).expect("it fits");
    node.link().coming.extend(coded.iter().copied());
}
