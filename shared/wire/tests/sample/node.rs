//! What sensors and nodes say to their gateway, and what it says to them.

use kilter_types::{ChannelId, Generation, Hertz, MachineEvent, Micros, Monotonic, Rpm, Timeline, Unit};
use kilter_wire::SignedManifest;
use kilter_wire::node::{FaultCounters, ImageStatus, NodeDown, NodeSettings, NodeStatus, NodeUp, PanicNote};
use kilter_wire::sensor::{Block, ChannelOffer, Offer, SensorDown, SensorUp};
use kilter_wire::sign::sign_manifest;

use super::{SECRET, digest, generation, list, manifest, name};

pub(crate) fn sensor_ups(each: &mut dyn FnMut(&str, &SensorUp<'_>)) {
    let channel = |channel: &str, unit, rate| ChannelOffer { name: name(channel), unit, rate, position: 4_096 };
    let offer = Offer {
        asset: name("pump-1"),
        timeline: Timeline::Source,
        channels: list(&[
            channel("de-x", Unit::MetrePerSecondSquared, Some(Hertz(25_600.0))),
            channel("temperature", Unit::DegreeCelsius, None),
        ]),
    };
    let samples: Vec<u8> = [0.5_f32, -1.25, f32::NAN].iter().flat_map(|value| value.to_le_bytes()).collect();
    let t = Micros(1_700_000_000_000_000);
    let event = |event| SensorUp::Event { t, event };
    let messages = [
        SensorUp::Offer(offer),
        SensorUp::Block(Block { channel: ChannelId(0), position: 70_000, t0: t, samples: &samples }),
        SensorUp::Reading { channel: ChannelId(1), position: 12, t, value: 61.5 },
        SensorUp::Cycle { channel: ChannelId(2), position: 3, n: 4, row: &samples[..8] },
        event(MachineEvent::Speed(Rpm(1_480.0))),
        event(MachineEvent::Load(75.0)),
        event(MachineEvent::Interrupted),
        event(MachineEvent::Maintenance),
        SensorUp::Skipped { channel: ChannelId(0), from: 70_003, to: 80_000 },
        SensorUp::End,
        SensorUp::CycleAt { channel: ChannelId(2), position: 3, n: 4, t, row: &samples[..8] },
    ];
    for message in &messages {
        let name = match message {
            SensorUp::Offer(_) => "offer",
            SensorUp::Block(_) => "block",
            SensorUp::Reading { .. } => "reading",
            SensorUp::Cycle { .. } => "cycle",
            SensorUp::Event { event: MachineEvent::Speed(_), .. } => "event_speed",
            SensorUp::Event { event: MachineEvent::Load(_), .. } => "event_load",
            SensorUp::Event { event: MachineEvent::Interrupted, .. } => "event_interrupted",
            SensorUp::Event { event: MachineEvent::Maintenance, .. } => "event_maintenance",
            SensorUp::Skipped { .. } => "skipped",
            SensorUp::End => "end",
            SensorUp::CycleAt { .. } => "cycle_at",
        };
        each(name, message);
    }
}

pub(crate) fn sensor_downs(each: &mut dyn FnMut(&str, &SensorDown)) {
    let from = list(&[(name("de-x"), 70_000), (name("temperature"), 12)]);
    let message = SensorDown::Subscribe { asset: name("pump-1"), from };
    let name = match &message {
        SensorDown::Subscribe { .. } => "subscribe",
    };
    each(name, &message);
}

pub(crate) fn node_ups(each: &mut dyn FnMut(&str, &NodeUp)) {
    let file = "node/src/node.rs".try_into().expect("it fits");
    let status = NodeStatus {
        faults: FaultCounters { boots: 4, watchdog: 1, panics: 2, hard_faults: 0 },
        panic: Some(PanicNote { file, line: 77, at: Monotonic(123_456_789) }),
        lost_samples: 300,
        failed_reads: 2,
        unsent: 5,
        garbled: 1,
        model: Some((digest(), generation())),
        on_trial: true,
        settings: 3,
        charge_uah_per_day: 12_345,
    };
    let image = ImageStatus {
        board: name("nrf52840"),
        runs: Some(Generation(41)),
        seen: generation(),
        on_trial: false,
        capacity_bytes: 430_080,
        coming: Some((digest(), 4_096)),
    };
    for message in [NodeUp::Status(status), NodeUp::Image(image)] {
        let name = match &message {
            NodeUp::Status(_) => "status",
            NodeUp::Image(_) => "image",
        };
        each(name, &message);
    }
}

pub(crate) fn node_downs(each: &mut dyn FnMut(&str, &NodeDown<'_>)) {
    let mut room = [0; 1024];
    let (manifest, signature) = sign_manifest(&manifest(), &SECRET, &mut room).expect("it fits");
    let settings = NodeSettings { generation: 3, nominal_rpm: Rpm(1_480.0), windows: 4, sleep_secs: 600 };
    let messages = [NodeDown::Model(SignedManifest { manifest, signature: &signature }), NodeDown::Settings(settings)];
    for message in &messages {
        let name = match message {
            NodeDown::Model(_) => "model",
            NodeDown::Settings(_) => "settings",
        };
        each(name, message);
    }
}
