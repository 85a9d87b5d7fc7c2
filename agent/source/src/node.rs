//! What nodes on one line say, in order: their records as they made them, what is missing, and how far their clocks are off.
//!
//! A core without IO. A node is known by its epoch, which each of its batches and its hello carry, so several may share a line.
//! Records stay the node's: point, epoch, seq and times are not touched; only the wall clock is filled in, from the exchanges
//! that the node itself began: a request that came at `r` and whose exchange took `t` left between `r - t` and `r`.

use std::collections::BTreeMap;

use kilter_types::{Class, DeviceId, Epoch, Gap, GapReason, Micros, Monotonic, Record, Timeline};
use kilter_wire::frame::{self, FrameError, Kind, Message};
use kilter_wire::node::{ImageStatus, NodeStatus, NodeUp};
use kilter_wire::{CommandResult, Fetch, Hello, TimeReply, TimeRequest, Up, cobs, decode_record};

use crate::line::Deframer;

/// One line and the nodes on it.
#[derive(Debug, Default)]
pub struct Nodes {
    line: Deframer,
    known: BTreeMap<Epoch, Known>,
    /// Who spoke last: what has no sender of its own is theirs.
    speaker: Option<Epoch>,
}

/// What is known of one node since its boot.
#[derive(Clone, Debug, Default)]
struct Known {
    device: Option<DeviceId>,
    /// Per class: the first seq that has not come.
    next: BTreeMap<Class, u64>,
    clock: ClockEstimate,
}

/// How a node's clock stands to ours.
#[derive(Clone, Copy, Debug, Default)]
struct ClockEstimate {
    /// The request whose exchange the next one tells of: its id, its time there and here.
    last: Option<(u32, Monotonic, Micros)>,
    best: Option<Offset>,
}

/// Our wall clock less the node's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The estimate.
    pub offset: Micros,
    /// How far it may be off, as of `at`.
    pub uncertainty: Micros,
    /// When it was taken, on the node's clock.
    pub at: Monotonic,
}

/// When something is heard: our wall clock and how far it may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub wall: Micros,
    /// Its bound.
    pub uncertainty: Micros,
}

/// One thing that a node said, or did not.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A node introduces itself.
    Hello(Hello),
    /// A record of a node.
    Record(Box<Record>),
    /// Records of a node that were lost on the line (J3).
    Lost(Gap),
    /// How a node is.
    Status(Box<NodeStatus>),
    /// Which image of the firmware a node runs.
    Image(Box<ImageStatus>),
    /// A node asks for a part of a model.
    Fetch(Fetch),
    /// How a command ended.
    Result(CommandResult),
    /// To be sent back at once.
    Reply(TimeReply),
}

impl Nodes {
    /// A line on which these were the last records that came before a restart: what lies between is told as lost.
    pub fn resume(last: impl IntoIterator<Item = (Epoch, Class, u64)>) -> Self {
        let mut nodes = Self::default();
        for (epoch, class, seq) in last {
            nodes.known.entry(epoch).or_default().next.insert(class, seq.saturating_add(1));
        }
        nodes
    }

    /// Takes bytes from the line.
    pub fn feed(&mut self, bytes: &[u8], now: Now, heard: &mut dyn FnMut(Heard)) {
        let Self { line, known, speaker } = self;
        line.feed(bytes, |frame| match frame::decode::<Up<'_>>(Kind::Up, frame) {
            Ok(up) => take(known, speaker, up, now, heard),
            Err(FrameError::Kind(_)) => match frame::decode::<NodeUp>(Kind::NodeUp, frame) {
                Ok(NodeUp::Status(status)) => {
                    heard(Heard::Status(Box::new(status)));
                    true
                }
                Ok(NodeUp::Image(image)) => {
                    heard(Heard::Image(Box::new(image)));
                    true
                }
                Err(_) => false,
            },
            Err(_) => false,
        });
        while self.known.len() > MOST_NODES {
            self.known.pop_first();
        }
    }

    /// The last record of each class of each node, to be kept over a restart.
    pub fn last(&self) -> Vec<(Epoch, Class, u64)> {
        let all =
            self.known.iter().flat_map(|(epoch, known)| known.next.iter().map(|(class, next)| (*epoch, *class, *next)));
        all.filter_map(|(epoch, class, next)| Some((epoch, class, next.checked_sub(1)?))).collect()
    }

    /// How a node's clock stands to ours, if an exchange told.
    pub fn offset(&self, epoch: Epoch) -> Option<Offset> {
        self.known.get(&epoch)?.clock.best
    }

    /// Stretches on the line that were no frame.
    pub fn garbled(&self) -> u64 {
        self.line.garbled()
    }
}

/// A frame for the line.
pub fn encode<T: Message>(kind: Kind, message: &T) -> Option<Vec<u8>> {
    let mut plain = vec![0; MOST_DOWN_BYTES];
    let bytes = frame::encode(kind, message, &mut plain).ok()?;
    let mut coded = vec![0; cobs::max_encoded(bytes.len())];
    cobs::encode(bytes, &mut coded).map(<[u8]>::to_vec)
}

fn take(
    known: &mut BTreeMap<Epoch, Known>,
    speaker: &mut Option<Epoch>,
    up: Up<'_>,
    now: Now,
    heard: &mut dyn FnMut(Heard),
) -> bool {
    match up {
        Up::Hello(hello) => {
            *speaker = Some(hello.epoch);
            let node = known.entry(hello.epoch).or_default();
            node.device = Some(hello.device.clone());
            heard(Heard::Hello(hello));
        }
        Up::Batch(batch) => {
            *speaker = Some(batch.epoch);
            let node = known.entry(batch.epoch).or_default();
            for raw in batch.iter() {
                let Some(mut record) = raw.ok().and_then(|raw| decode_record(raw.bytes).ok()) else { return false };
                if record.epoch == batch.epoch && node.follows(&record, heard) {
                    node.clock.date(&mut record);
                    heard(Heard::Record(Box::new(record)));
                }
            }
        }
        Up::TimeRequest(request) => {
            if let Some(node) = speaker.and_then(|epoch| known.get_mut(&epoch)) {
                node.clock.asked(&request, now);
            }
            let TimeRequest { id, sent, .. } = request;
            heard(Heard::Reply(TimeReply { id, sent, received: now.wall, replied: now.wall }));
        }
        Up::Fetch(fetch) => heard(Heard::Fetch(fetch)),
        Up::CommandResult(result) => heard(Heard::Result(result)),
        // A node packs nothing: its line is short and its memory small.
        Up::Packed(_) => return false,
    }
    true
}

impl Known {
    /// Does this record come next? Tells what was lost before it; one that came already is left out.
    fn follows(&mut self, record: &Record, heard: &mut dyn FnMut(Heard)) -> bool {
        let (class, epoch, seq) = (record.class(), record.epoch, record.seq);
        let next = self.next.entry(class).or_default();
        if seq < *next {
            return false;
        }
        if seq > *next {
            let (first_seq, last_seq) = (*next, seq - 1);
            heard(Heard::Lost(Gap { class, epoch, first_seq, last_seq, reason: GapReason::SourceSilent }));
        }
        *next = seq.saturating_add(1);
        true
    }
}

impl ClockEstimate {
    /// A request tells how long the exchange before it took, and we know when that one came.
    fn asked(&mut self, request: &TimeRequest, now: Now) {
        let before = self.last.replace((request.id, request.sent, now.wall));
        let Some((id, sent, received)) = before else { return };
        let took = i64::from(request.last_round_trip_us);
        if took == 0 || request.id != id.wrapping_add(1) || request.sent < sent {
            return;
        }
        let half = took / 2;
        let offset = Micros(received.0.saturating_sub(node_us(sent)).saturating_sub(half));
        let fresh = Offset { offset, uncertainty: Micros(half + 1) + now.uncertainty, at: sent };
        let old = self.best.filter(|old| old.bound(request.sent) < fresh.bound(request.sent));
        self.best = Some(old.unwrap_or(fresh));
    }

    /// Dates a record by our clock; without an exchange it keeps what the node knew.
    fn date(&self, record: &mut Record) {
        if let (Timeline::Device, Some(best)) = (record.timeline, self.best) {
            record.wall = Some(Micros(node_us(record.monotonic)) + best.offset);
            record.uncertainty = best.bound(record.monotonic);
        }
    }
}

impl Offset {
    /// The bound at another time of the node: its clock drifts.
    fn bound(&self, at: Monotonic) -> Micros {
        let age = i64::try_from(at.0.abs_diff(self.at.0)).unwrap_or(i64::MAX);
        self.uncertainty + Micros(age / (1_000_000 / DRIFT_PPM))
    }
}

fn node_us(at: Monotonic) -> i64 {
    i64::try_from(at.0).unwrap_or(i64::MAX)
}

/// How fast a node's clock may drift.
const DRIFT_PPM: i64 = 100;
/// Boots that are remembered per line.
const MOST_NODES: usize = 64;
const MOST_DOWN_BYTES: usize = 4096;
