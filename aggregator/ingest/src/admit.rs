//! What a payload is and whether it is let in: the last step before the journal, per device and without IO.
//!
//! A payload that can't be read is not the device's to keep for ever: it is journalled as quarantined and acknowledged, so
//! that one bad message never blocks what comes after it. Only too much at once is refused, and never an alarm.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use kilter_types::{Class, Epoch, Micros, Monotonic};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, CommandResult, Fetch, Hello, TimeRequest, Up};

use crate::ack::Refuse;
use crate::gateway::Principal;
use crate::quota::Quota;
use crate::unpack::Unpacker;

/// The door between a link and the journal.
#[derive(Debug)]
pub struct Admission {
    credit_bytes: u32,
    rows_per_day: u64,
    intake: Intake,
    devices: HashMap<Principal, Device>,
    counters: AdmitCounters,
    unpacker: Unpacker,
}

/// What one payload is. What is long is borrowed from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Admit<'a> {
    /// The device introduces itself.
    Hello(Hello),
    /// Records to be journalled; [`Admission::settle`] gives their credit back.
    Batch(Records<'a>),
    /// The device asks for the time, and may have told how its last question ended.
    TimeRequest {
        /// The request.
        request: TimeRequest,
        /// The exchange before, now that its round trip is known.
        exchange: Option<Exchange>,
    },
    /// The device asks for a part of an artifact.
    Fetch(Fetch),
    /// The device tells how a command ended.
    CommandResult(CommandResult),
    /// To be journalled as it is, acknowledged, and never read again.
    Quarantine {
        /// A word for counters and the quarantine table.
        reason: &'static str,
        /// The payload.
        bytes: &'a [u8],
    },
    /// Not now: the device is past its credit. To be passed to [`crate::AckHandle::refuse`].
    Refuse(Refuse),
}

/// Records of one epoch, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<'a> {
    /// Their epoch.
    pub epoch: Epoch,
    /// As in [`Batch`].
    pub records: Cow<'a, [u8]>,
    /// The device has used up its day: all but what is brief belongs into quarantine.
    pub over_quota: bool,
}

/// A question for the time that was asked, answered and answered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// The epoch in which the node asked.
    pub epoch: Epoch,
    /// When the request came in.
    pub received: Micros,
    /// The node's clock when it asked.
    pub monotonic: Monotonic,
    /// How long the node waited, less the time that the answer took here.
    pub round_trip_us: u32,
}

/// How much is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Intake {
    /// Everything within credit.
    #[default]
    Open,
    /// Batches with an alarm only: the journal is at its cap.
    AlarmsOnly,
}

/// What was let in and what not; the numbers only grow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmitCounters {
    /// Batches let in.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of them, unpacked.
    pub bytes: u64,
    /// Bytes of the payloads that they came in.
    pub payload_bytes: u64,
    /// Other messages.
    pub messages: u64,
    /// Batches refused for lack of credit.
    pub refused: u64,
    /// Rows let in for quarantine, because their device had used up its day.
    pub over_quota: u64,
    /// Payloads quarantined, by reason.
    pub quarantined: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Device {
    epoch: Option<Epoch>,
    pending_bytes: u32,
    quota: Quota,
    /// The last question for the time: its id, and the exchange without its end.
    asked: Option<(u32, Exchange)>,
}

impl Admission {
    /// A door that lets each device have so many bytes of records on the way to the journal.
    pub fn new(credit_bytes: u32) -> Self {
        Self {
            credit_bytes,
            rows_per_day: 0,
            intake: Intake::Open,
            devices: HashMap::new(),
            counters: AdmitCounters::default(),
            unpacker: Unpacker::new(),
        }
    }

    /// The same, and so many rows a day from each device; 0: as many as it likes.
    pub fn with_quota(self, rows_per_day: u64) -> Self {
        Self { rows_per_day, ..self }
    }

    /// Reads a payload that came under a device's name at `received`.
    pub fn admit<'a>(&mut self, device: &Principal, payload: &'a [u8], received: Micros) -> Admit<'a> {
        match self.read(device, payload, received) {
            Ok(Admit::Batch(batch)) => self.admit_batch(device, batch, payload.len(), received),
            Ok(other) => {
                self.counters.messages += 1;
                other
            }
            Err(reason) => {
                *self.counters.quarantined.entry(reason).or_default() += 1;
                Admit::Quarantine { reason, bytes: payload }
            }
        }
    }

    /// A batch of so many bytes of records is durable, or was given up: they are credit again.
    pub fn settle(&mut self, device: &Principal, records_bytes: usize) {
        if let Some(device) = self.devices.get_mut(device) {
            device.pending_bytes = device.pending_bytes.saturating_sub(cost(records_bytes));
        }
    }

    /// Opens or narrows the door, for all devices.
    pub fn set_intake(&mut self, intake: Intake) {
        self.intake = intake;
    }

    /// A device is gone for good.
    pub fn forget(&mut self, device: &Principal) {
        self.devices.remove(device);
    }

    /// What an ack may promise the device: how many more bytes of records may come.
    pub fn credit_bytes(&self, device: &Principal) -> u32 {
        match self.intake {
            Intake::AlarmsOnly => 0,
            Intake::Open => {
                let pending = self.devices.get(device).map_or(0, |device| device.pending_bytes);
                self.credit_bytes.saturating_sub(pending)
            }
        }
    }

    /// What has been let in so far.
    pub fn counters(&self) -> &AdmitCounters {
        &self.counters
    }

    fn read<'a>(&mut self, device: &Principal, payload: &'a [u8], received: Micros) -> Result<Admit<'a>, &'static str> {
        let up: Up<'a> = frame::decode(Kind::Up, payload).map_err(|error| error.as_str())?;
        Ok(match up {
            Up::Hello(hello) => {
                if hello.device != device.device {
                    return Err("foreign_device");
                }
                let known = self.devices.entry(device.clone()).or_default();
                if known.epoch != Some(hello.epoch) {
                    (known.epoch, known.asked) = (Some(hello.epoch), None);
                }
                Admit::Hello(hello)
            }
            Up::Batch(batch) => {
                let records = Cow::Borrowed(batch.records);
                Admit::Batch(Records { epoch: batch.epoch, records, over_quota: false })
            }
            Up::Packed(packed) => {
                let records = Cow::Owned(self.unpacker.unpack(&packed)?);
                Admit::Batch(Records { epoch: packed.epoch, records, over_quota: false })
            }
            Up::TimeRequest(request) => {
                let known = self.devices.get_mut(device);
                let exchange = known.and_then(|known| known.time_request(&request, received));
                Admit::TimeRequest { request, exchange }
            }
            Up::Fetch(fetch) => Admit::Fetch(fetch),
            Up::CommandResult(result) => Admit::CommandResult(result),
        })
    }

    fn admit_batch<'a>(
        &mut self,
        principal: &Principal,
        batch: Records<'a>,
        payload_bytes: usize,
        received: Micros,
    ) -> Admit<'a> {
        // A damaged length inside goes to the journal as it is: the fold accounts for the records before it.
        let (mut records, mut rows, mut with_alarm) = (0, 0, false);
        let inner = Batch { epoch: batch.epoch, count: 0, records: &batch.records };
        for record in inner.iter().map_while(Result::ok) {
            records += 1;
            rows += u64::from(!Class::from_u8(record.class).is_some_and(Class::is_brief));
            with_alarm |= record.class == Class::Alarm as u8;
        }
        let room = self.credit_bytes(principal);
        let device = self.devices.entry(principal.clone()).or_default();
        // With nothing pending one batch passes, however large: a device is never stuck behind its own credit.
        let alone = self.intake == Intake::Open && device.pending_bytes == 0;
        if !with_alarm && !alone && cost(batch.records.len()) > room {
            self.counters.refused += 1;
            return Admit::Refuse(Refuse::QuotaExceeded);
        }
        device.pending_bytes = device.pending_bytes.saturating_add(cost(batch.records.len()));
        let over_quota = !device.quota.take(rows, self.rows_per_day, received);
        self.counters.over_quota += if over_quota { rows } else { 0 };
        self.counters.batches += 1;
        self.counters.records += records;
        self.counters.bytes += batch.records.len() as u64;
        self.counters.payload_bytes += payload_bytes as u64;
        Admit::Batch(Records { over_quota, ..batch })
    }
}

impl Device {
    /// The exchange that this request ends: the one with the id before it, if its answer arrived.
    fn time_request(&mut self, request: &TimeRequest, received: Micros) -> Option<Exchange> {
        let epoch = self.epoch?;
        // A copy that the link brought again, or one that was overtaken, says nothing of when its question came first.
        let is_late = |(id, asked): &(u32, Exchange)| {
            asked.epoch == epoch && (request.id == *id || request.sent < asked.monotonic)
        };
        if self.asked.as_ref().is_some_and(is_late) {
            return None;
        }
        let before =
            self.asked.replace((request.id, Exchange { epoch, received, monotonic: request.sent, round_trip_us: 0 }));
        let (id, exchange) = before?;
        let ended = request.last_round_trip_us > 0 && id.wrapping_add(1) == request.id && exchange.epoch == epoch;
        ended.then_some(Exchange { round_trip_us: request.last_round_trip_us, ..exchange })
    }
}

fn cost(records_bytes: usize) -> u32 {
    u32::try_from(records_bytes).unwrap_or(u32::MAX)
}
