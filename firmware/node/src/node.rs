//! The application: one turn of the loop hears the gateway, reads a block, judges it, sets the output and tells the gateway.

use kilter_monitor::{Memory, Monitor, Output};
use kilter_types::{
    ChannelId, DeviceId, Epoch, Event, Hertz, Input, MachineEvent, Micros, Monotonic, Name, Payload, Role, Severity,
};
use kilter_wire::node::NodeStatus;
use kilter_wire::{Hello, Up, VERSION};

use crate::{
    Accelerometer, AlarmOutput, Duty, FaultLog, Hardware, Line, Meter, Parts, Power, Slots, Thermometer, Watchdog,
    image::Update,
    obey::put,
    slots::Loaded,
    time::{Clock, micros},
    voice::{Numbers, Voice},
};

/// Who the node is and what it measures.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The node.
    pub device: DeviceId,
    /// Version of the firmware.
    pub software: Name,
    /// Who owns the data.
    pub tenant: Name,
    /// Plant or location.
    pub site: Name,
    /// The machine.
    pub asset: Name,
    /// Drawn at this boot, or made of device id and boot counter.
    pub epoch: Epoch,
    /// The accelerometer's channel in the monitor's configuration.
    pub channel: ChannelId,
    /// Its rate.
    pub rate: Hertz,
    /// The thermometer's channel and how often it is read.
    pub temperature: Option<(ChannelId, Micros)>,
    /// What the board draws.
    pub power: Power,
}

/// What went wrong since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Samples lost in the ring.
    pub lost: u64,
    /// Reads that a sensor refused.
    pub failed_reads: u32,
    /// Frames that the line did not take.
    pub unsent: u32,
    /// Stretches on the line that were no frame.
    pub garbled: u32,
}

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Samples taken; 0: there were none, so the board may rest until the next interrupt.
    pub taken: usize,
    /// Sleep so long before the next turn.
    pub sleep: Option<Micros>,
}

/// One node. `G`, `S`: see [`Monitor`]; `B`: longest frame in bytes.
pub struct Node<H: Hardware, M: Memory, const G: usize, const S: usize, const B: usize> {
    pub(crate) identity: Identity,
    pub(crate) accelerometer: H::Accelerometer,
    pub(crate) thermometer: H::Thermometer,
    pub(crate) line: Line<H::Link, B>,
    pub(crate) output: H::Output,
    pub(crate) flash: H::Flash,
    watchdog: H::Watchdog,
    pub(crate) monitor: Monitor<M, G, S>,
    pub(crate) slots: Slots,
    faults: FaultLog,
    pub(crate) images: H::Images,
    pub(crate) update: Update,
    pub(crate) tracks: Tracks,
    block: [f32; BLOCK],
}

/// The node's own life beside its monitor.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tracks {
    /// Samples since boot, lost and slept ones included.
    position: u64,
    /// Temperatures since boot.
    readings: u64,
    read_at: Option<Monotonic>,
    pub(crate) numbers: Numbers,
    pub(crate) clock: Clock,
    pub(crate) last_command: Option<(u64, kilter_wire::Outcome)>,
    /// When the next part of a model was asked for.
    pub(crate) fetched_at: Option<Monotonic>,
    /// The trip that flash was told of.
    pub(crate) latched: bool,
    /// Windows when the model on trial was installed.
    pub(crate) trial_from: Option<u64>,
    lost: u64,
    failed_reads: u32,
    greeted_at: Option<Monotonic>,
    pub(crate) status_at: Option<Monotonic>,
    /// Windows when measuring began after the last sleep.
    awake_from: u64,
    asleep_until: Option<Monotonic>,
    slept_at: Monotonic,
    meter: Meter,
    metered_bytes: u64,
}

impl<H, M, const G: usize, const S: usize, const B: usize> Node<H, M, G, S, B>
where
    H: Hardware,
    M: Memory<Model = &'static [u8]>,
{
    /// A node from its parts; `faults` is what survived the reset. Takes up the model that lies in flash, and a trip that nobody released.
    pub fn new(identity: Identity, parts: Parts<H>, slots: Slots, monitor: Monitor<M, G, S>, faults: FaultLog) -> Self {
        let Parts { accelerometer, thermometer, link, output, flash, watchdog, images } = parts;
        let mut node = Self {
            identity,
            accelerometer,
            thermometer,
            line: Line::new(link),
            output,
            flash,
            watchdog,
            monitor,
            slots,
            faults,
            images,
            update: Update::default(),
            tracks: Tracks::default(),
            block: [0.0; BLOCK],
        };
        node.take_up();
        node.stay_tripped();
        node.take_up_image();
        node
    }

    /// One turn: does what the gateway sent, takes the samples that wait (at most [`BLOCK`]), judges them.
    pub fn poll(&mut self, now: Monotonic) -> Turn {
        if let Some(until) = self.tracks.asleep_until {
            if now < until {
                self.watchdog.feed();
                return Turn { taken: 0, sleep: Some(Micros((until.0 - now.0) as i64)) };
            }
            self.wake(now);
        }
        self.tracks.meter.awake(now);
        // Before it is told: what the gateway heard, a loss of power does not take back.
        self.faults.keep(now, &mut self.flash);
        self.greet(now);
        self.obey(now);
        self.fetch(now);
        let taken = self.measure(now);
        self.read_temperature(now);
        self.show();
        self.prove();
        self.prove_image(now);
        self.latch();
        let sent = self.line.sent_bytes;
        self.tracks.meter.sent((sent - core::mem::replace(&mut self.tracks.metered_bytes, sent)) as usize);
        let sleep = self.rest(now);
        self.watchdog.feed();
        Turn { taken, sleep }
    }

    /// The monitor, for a summary.
    pub fn monitor(&mut self) -> &mut Monitor<M, G, S> {
        &mut self.monitor
    }

    /// The accelerometer, for example to set its range.
    pub fn accelerometer(&mut self) -> &mut H::Accelerometer {
        &mut self.accelerometer
    }

    /// The thermometer.
    pub fn thermometer(&mut self) -> &mut H::Thermometer {
        &mut self.thermometer
    }

    /// The link.
    pub fn link(&mut self) -> &mut H::Link {
        self.line.link()
    }

    /// The alarm output.
    pub fn output(&self) -> &H::Output {
        &self.output
    }

    /// Gives the flash back, for example to start again from it.
    pub fn into_flash(self) -> H::Flash {
        self.flash
    }

    /// What went wrong since boot.
    pub fn counters(&self) -> Counters {
        Counters {
            lost: self.tracks.lost,
            failed_reads: self.tracks.failed_reads,
            unsent: self.line.unsent,
            garbled: self.line.garbled,
        }
    }

    /// How the node is, as it tells its gateway.
    pub fn status(&self) -> NodeStatus {
        let Counters { lost, failed_reads, unsent, garbled } = self.counters();
        NodeStatus {
            faults: self.faults.faults().counters,
            panic: self.faults.faults().panic.clone(),
            lost_samples: lost,
            failed_reads,
            unsent,
            garbled,
            model: [Role::Leader, Role::Shadow].into_iter().find_map(|role| self.monitor.model(role)),
            on_trial: self.slots.state().trial.is_some(),
            settings: self.slots.state().settings.generation,
            charge_uah_per_day: self.tracks.meter.uah_per_day(&self.identity.power),
        }
    }

    /// The model and the settings that flash holds.
    fn take_up(&mut self) {
        let started = self.slots.start(&mut self.flash);
        let mut model = started.model;
        if let Some(Loaded { on_trial: true, .. }) = model
            && !self.run(model)
        {
            model = self.slots.revert(&mut self.flash);
        }
        match model {
            Some(Loaded { on_trial: true, .. }) => self.tracks.trial_from = Some(0),
            Some(_) | None => drop(self.run(model)),
        }
        if let Some(model) = started.reverted
            && let Ok(reason) = Name::new("reverted")
        {
            self.tell(Monotonic(0), Payload::Event(Event::ModelRefused { model, reason }));
        }
        self.apply_settings();
    }

    /// Puts what flash holds into the monitor; `false` when it is refused there. Nothing switches: it ran before the start too.
    fn run(&mut self, model: Option<Loaded>) -> bool {
        model.is_none_or(|model| put(&mut self.monitor, model, &mut |_| {}))
    }

    pub(crate) fn apply_settings(&mut self) {
        let rpm = self.slots.state().settings.nominal_rpm;
        if rpm.0 > 0.0 {
            self.monitor.machine_event(Micros(0), MachineEvent::Speed(rpm), &mut |_| {});
        }
    }

    fn measure(&mut self, now: Monotonic) -> usize {
        let Ok(filled) = self.accelerometer.fill(&mut self.block) else {
            self.tracks.failed_reads = self.tracks.failed_reads.saturating_add(1);
            return 0;
        };
        let Self { identity, line, output, monitor, tracks, block, .. } = self;
        let samples = block.get(..filled.len).unwrap_or(&block[..]);
        let from = tracks.position;
        let first = from.saturating_add(filled.lost);
        tracks.position = first.saturating_add(samples.len() as u64);
        tracks.lost = tracks.lost.saturating_add(filled.lost);
        let (channel, rate) = (identity.channel, identity.rate);
        let mut voice = Voice { identity, now, clock: &tracks.clock, numbers: &mut tracks.numbers, line, output };
        let mut sink = |said: Output<'_>| voice.say(&said);
        monitor.skipped(channel, from, first, &mut sink);
        // The channel is the one that the node was built for; a block of another kind is refused and changes nothing.
        let taken = monitor.push(channel, first, Input::Block { t0: micros(filled.t0), rate, samples }, &mut sink);
        if taken.is_ok() { samples.len() } else { 0 }
    }

    fn read_temperature(&mut self, now: Monotonic) {
        let Some((channel, every)) = self.identity.temperature else { return };
        let due = self.tracks.read_at.is_none_or(|at| now.0.saturating_sub(at.0) >= every.0.max(0).unsigned_abs());
        if !due {
            return;
        }
        self.tracks.read_at = Some(now);
        match self.thermometer.read() {
            Ok(temperature) => {
                let position = self.tracks.readings;
                self.tracks.readings += 1;
                self.with_monitor(now, |monitor, t, sink| {
                    let input = Input::Reading { t, value: temperature.0 };
                    // A channel of another kind refuses it and changes nothing.
                    let _ = monitor.push(channel, position, input, sink);
                });
            }
            Err(_) => self.tracks.failed_reads = self.tracks.failed_reads.saturating_add(1),
        }
    }

    pub(crate) fn show(&mut self) {
        let now = self.monitor.summary().severity;
        let severity = if self.tracks.numbers.tripped { Severity::Danger } else { now };
        if severity != self.tracks.numbers.shown {
            self.tracks.numbers.shown = severity;
            self.output.show(severity);
        }
    }

    pub(crate) fn with_monitor<T>(
        &mut self,
        now: Monotonic,
        f: impl FnOnce(&mut Monitor<M, G, S>, Micros, &mut dyn FnMut(Output<'_>)) -> T,
    ) -> T {
        let Self { identity, line, output, monitor, tracks, .. } = self;
        let mut voice = Voice { identity, now, clock: &tracks.clock, numbers: &mut tracks.numbers, line, output };
        f(monitor, micros(now), &mut |said| voice.say(&said))
    }

    /// Records something about the node itself.
    pub(crate) fn tell(&mut self, now: Monotonic, payload: Payload) {
        let Self { identity, line, output, tracks, .. } = self;
        let mut voice = Voice { identity, now, clock: &tracks.clock, numbers: &mut tracks.numbers, line, output };
        if let Ok(point) = Name::new("node") {
            voice.record(point, payload);
        }
    }

    /// Says who it is, how it is, and asks for the time, each when it is due.
    fn greet(&mut self, now: Monotonic) {
        let due = |at: Option<Monotonic>, every: u64| at.is_none_or(|at| now.0.saturating_sub(at.0) >= every);
        if due(self.tracks.greeted_at, HELLO_US) {
            self.tracks.greeted_at = Some(now);
            self.line.up(&Up::Hello(Hello {
                device: self.identity.device.clone(),
                wire_version: u16::from(VERSION),
                software: self.identity.software.clone(),
                epoch: self.identity.epoch,
                held: heapless::Vec::new(),
            }));
        }
        if due(self.tracks.status_at, STATUS_US) {
            self.tracks.status_at = Some(now);
            self.tell_status();
        }
        if let Some(request) = self.tracks.clock.poll(now) {
            self.line.up(&Up::TimeRequest(request));
        }
    }

    /// Goes to sleep when the duty cycle says so and nothing is under way.
    fn rest(&mut self, now: Monotonic) -> Option<Micros> {
        let duty = Duty::of(&self.slots.state().settings)?;
        let summary = self.monitor.summary();
        let measured = summary.windows.saturating_sub(self.tracks.awake_from);
        let fetching = self.slots.incoming().is_some() || self.update.coming().is_some();
        let busy = fetching || self.update.on_trial() || summary.severity >= Severity::Alarm;
        if measured < u64::from(duty.windows) || busy || self.accelerometer.sleep().is_err() {
            return None;
        }
        self.tracks.slept_at = now;
        self.tracks.asleep_until = Some(Monotonic(now.0.saturating_add(duty.sleep.0.max(0).unsigned_abs())));
        Some(duty.sleep)
    }

    /// Samples that were not taken are skipped, so that positions go on as if time had.
    fn wake(&mut self, now: Monotonic) {
        if self.accelerometer.wake().is_err() {
            self.tracks.failed_reads = self.tracks.failed_reads.saturating_add(1);
        }
        self.tracks.asleep_until = None;
        self.tracks.awake_from = self.monitor.summary().windows;
        self.tracks.meter.slept(now);
        let slept_us = now.0.saturating_sub(self.tracks.slept_at.0);
        let from = self.tracks.position;
        let rate_hz = self.identity.rate.0 as u64;
        let to = from.saturating_add(slept_us.saturating_mul(rate_hz) / 1_000_000);
        self.tracks.position = to;
        let channel = self.identity.channel;
        self.with_monitor(now, |monitor, _, sink| monitor.skipped(channel, from, to, sink));
    }
}

/// Samples per turn.
pub const BLOCK: usize = 128;
const HELLO_US: u64 = 10_000_000;
const STATUS_US: u64 = 10_000_000;
