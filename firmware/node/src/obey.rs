//! What the gateway may ask for: commands, the time, settings, and another model.

use kilter_monitor::{Memory, Monitor, Output};
use kilter_types::{Digest, Event, Monotonic, Name, Payload, Role, Who};
use kilter_wire::node::NodeDown;
use kilter_wire::{Command, CommandKind, CommandResult, Down, Fetch, Outcome, Up};

use crate::{
    AlarmOutput, Hardware, Node,
    image::Update,
    line::Heard,
    slots::{Demands, Loaded, Refused},
};

/// What came, as far as it can't be done while the line is being read.
#[derive(Default)]
struct Came {
    /// One at a time: the aggregator repeats a command until its result comes.
    command: Option<Command>,
    refused: Option<(Digest, Refused)>,
    settings: bool,
    model: bool,
}

impl<H, M, const G: usize, const S: usize, const B: usize> Node<H, M, G, S, B>
where
    H: Hardware,
    M: Memory<Model = &'static [u8]>,
{
    /// Resets latched alarms and trips: the button beside the machine.
    pub fn reset(&mut self, now: Monotonic) {
        self.release(now, Who::new("at the node"));
    }

    /// A trip from before the start holds until a person releases it, whatever reset the node (A2).
    pub(crate) fn stay_tripped(&mut self) {
        if self.slots.state().tripped {
            (self.tracks.numbers.tripped, self.tracks.latched) = (true, true);
            self.output.trip();
            self.show();
        }
    }

    /// Lets flash know of a trip or its release, once: the output is set already.
    pub(crate) fn latch(&mut self) {
        let tripped = self.tracks.numbers.tripped;
        if core::mem::replace(&mut self.tracks.latched, tripped) != tripped {
            // A flash that refuses loses the trip at the next reset; a release that it refuses is asked for again then.
            let _ = self.slots.latch(tripped, &mut self.flash);
        }
    }

    /// Takes what the line brought.
    pub(crate) fn obey(&mut self, now: Monotonic) {
        let mut came = Came::default();
        let Self { identity, line, flash, monitor, slots, tracks, images, update, .. } = self;
        line.receive(|message| match message {
            Heard::Down(Down::TimeReply(reply)) => tracks.clock.answer(&reply, now),
            Heard::Down(Down::Command(new)) => came.command = Some(new),
            Heard::Down(Down::Chunk(chunk)) if update.coming().is_some_and(|coming| coming.digest == chunk.digest) => {
                let next = update.coming().is_some_and(|coming| coming.have_bytes == chunk.offset);
                match next.then(|| update.part(chunk.offset, chunk.bytes, images)) {
                    Some(Ok(())) => tracks.fetched_at = None,
                    Some(Err(reason)) => {
                        update.forget();
                        came.refused = Some((chunk.digest, reason));
                    }
                    None => {}
                }
            }
            Heard::Down(Down::Chunk(chunk)) => {
                let Some(incoming) = slots.incoming().filter(|incoming| incoming.digest == chunk.digest) else {
                    return;
                };
                // A repeated part is not wrong, only late.
                if chunk.offset == incoming.have_bytes && chunk.total == incoming.size_bytes {
                    match slots.part(chunk.offset, chunk.bytes, flash) {
                        Ok(()) => tracks.fetched_at = None,
                        Err(reason) => {
                            slots.forget_incoming();
                            came.refused = Some((chunk.digest, reason));
                        }
                    }
                }
            }
            Heard::Node(NodeDown::Model(signed)) => {
                let surely = tracks.clock.wall(now).map(|(wall, uncertainty)| wall - uncertainty);
                let demands = Demands { asset_class: &monitor.config().asset_class, asset: &identity.asset, surely };
                let begun = match slots.verify(&signed) {
                    Ok(manifest) if Update::is_image(&manifest) => {
                        update.begin(&manifest, &demands, images, slots).map_err(|reason| (manifest.digest, reason))
                    }
                    Ok(manifest) => slots.begin_with(&signed, &manifest, &demands, flash),
                    Err(reason) => Err((Digest::NONE, reason)),
                };
                match begun {
                    Ok(()) => came.model = true,
                    // It will be offered again.
                    Err((_, Refused::Busy)) => {}
                    Err(refused) => came.refused = Some(refused),
                }
            }
            Heard::Node(NodeDown::Settings(settings)) => came.settings |= slots.set(settings, flash),
            Heard::Down(Down::Ack(_) | Down::Plan(_) | Down::Config(_) | Down::Event { .. } | Down::Welcome(_)) => {}
            // A node keeps nothing that its gateway has: the gateway answers for it.
            Heard::Down(Down::Refetch(_)) => {}
        });
        if came.model {
            self.tracks.fetched_at = None;
        }
        if let Some((model, reason)) = came.refused {
            self.refuse(now, model, reason.as_str());
        }
        if came.settings {
            self.apply_settings();
            self.status_changed();
        }
        if let Some(command) = came.command {
            let outcome = self.execute(&command, now);
            self.tracks.last_command = Some((command.id, outcome));
            self.line.up(&Up::CommandResult(CommandResult { id: command.id, outcome }));
        }
    }

    /// Lets the status leave with the next turn, because it has changed.
    pub(crate) fn status_changed(&mut self) {
        self.tracks.status_at = None;
    }

    /// Asks for the next part of a model, or runs it when all of it is here.
    pub(crate) fn fetch(&mut self, now: Monotonic) {
        let Some(incoming) = self.slots.incoming() else { return self.fetch_image(now) };
        if incoming.have_bytes == incoming.size_bytes {
            return self.switch(now, incoming.digest);
        }
        let due = self.tracks.fetched_at.is_none_or(|at| now.0.saturating_sub(at.0) >= FETCH_AGAIN_US);
        if due {
            self.tracks.fetched_at = Some(now);
            let fetch = Fetch { digest: incoming.digest, offset: incoming.have_bytes, len: FETCH_BYTES };
            self.line.up(&Up::Fetch(fetch));
        }
    }

    /// Once the model on trial has judged enough windows, it stays.
    pub(crate) fn prove(&mut self) {
        let Some(from) = self.tracks.trial_from else { return };
        if self.monitor.summary().windows >= from + PROVING_WINDOWS && self.slots.confirm(&mut self.flash) {
            self.tracks.trial_from = None;
            self.status_changed();
        }
    }

    /// Trial first, then the monitor: a start that dies in between is counted as an attempt.
    fn switch(&mut self, now: Monotonic, digest: Digest) {
        let loaded = match self.slots.finish(&mut self.flash) {
            Ok(loaded) => loaded,
            Err(reason) => return self.refuse(now, digest, reason.as_str()),
        };
        // A refusal is told by the monitor itself.
        let installed = self.with_monitor(now, |monitor, _, sink| put(monitor, loaded, sink));
        if installed {
            self.tracks.trial_from = Some(self.monitor.summary().windows);
        } else {
            let _ = self.slots.revert(&mut self.flash);
        }
        self.status_changed();
    }

    /// Only a person does this; one who is known is named in a record.
    fn release(&mut self, now: Monotonic, by: Option<Who>) {
        self.tracks.numbers.tripped = false;
        self.with_monitor(now, |monitor, at, sink| monitor.reset(at, sink));
        self.output.release();
        self.show();
        if let Some(by) = by {
            self.tell(now, Payload::Event(Event::Reset { by }));
        }
    }

    pub(crate) fn refuse(&mut self, now: Monotonic, model: Digest, word: &str) {
        if let Ok(reason) = Name::new(word) {
            self.tell(now, Payload::Event(Event::ModelRefused { model, reason }));
        }
    }

    /// Does a command once; without a clock its expiry can't be judged, so it is refused.
    fn execute(&mut self, command: &Command, now: Monotonic) -> Outcome {
        if let Some((_, outcome)) = self.tracks.last_command.filter(|(id, _)| *id == command.id) {
            return outcome;
        }
        let Some((wall, _)) = self.tracks.clock.wall(now) else { return Outcome::Refused };
        if wall > command.expires {
            return Outcome::Expired;
        }
        match &command.kind {
            CommandKind::Reset { asset } if *asset == self.identity.asset => self.release(now, None),
            CommandKind::ResetBy { asset, by } if *asset == self.identity.asset => self.release(now, Some(by.clone())),
            CommandKind::Recommission { asset } if *asset == self.identity.asset => {
                self.with_monitor(now, |monitor, at, sink| monitor.recommission(at, sink));
                self.show();
            }
            CommandKind::Flush => {}
            CommandKind::Reset { .. }
            | CommandKind::ResetBy { .. }
            | CommandKind::Recommission { .. }
            | CommandKind::Clip { .. } => return Outcome::Refused,
        }
        Outcome::Done
    }
}

/// Puts a model into the monitor, alone there: the other role's place is for an agent. One that was made for this very machine is heard
/// without the baseline's consent, as on an agent. `false` when the monitor refuses it.
pub(crate) fn put<M: Memory<Model = &'static [u8]>, const G: usize, const S: usize>(
    monitor: &mut Monitor<M, G, S>,
    model: Loaded,
    sink: &mut dyn FnMut(Output<'_>),
) -> bool {
    let Loaded { bytes, digest, generation, role, own, .. } = model;
    if monitor.install(role, bytes, digest, generation, sink).is_err() {
        return false;
    }
    if own {
        monitor.trust(role);
    }
    monitor.remove(match role {
        Role::Leader => Role::Shadow,
        Role::Shadow => Role::Leader,
    });
    true
}

/// Windows that a model on trial must judge before it stays.
pub const PROVING_WINDOWS: u64 = 8;
/// Bytes per part; a frame of a part must fit into the line.
pub(crate) const FETCH_BYTES: u32 = 512;
pub(crate) const FETCH_AGAIN_US: u64 = 2_000_000;
