//! What a payload is and whether it is let in: the last step before the journal, per device and without IO.
//!
//! A payload that can't be read is not the device's to keep for ever: it is journalled as quarantined and acknowledged, so
//! that one bad message never blocks what comes after it. Only too much at once is refused, and never an alarm.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use kilter_types::{Class, Epoch, Micros, Monotonic};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, CommandResult, Fetch, Hello, TimeRequest, Up};

use crate::ack::Refuse;
use crate::gateway::Principal;
use crate::unpack::Unpacker;

/// The door between a link and the journal.
#[derive(Debug)]
pub struct Admission {
    credit_bytes: u32,
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
    /// Payloads quarantined, by reason.
    pub quarantined: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Default)]
struct Device {
    epoch: Option<Epoch>,
    pending_bytes: u32,
    /// The last question for the time: its id, and the exchange without its end.
    asked: Option<(u32, Exchange)>,
}

impl Admission {
    /// A door that lets each device have so many bytes of records on the way to the journal.
    pub fn new(credit_bytes: u32) -> Self {
        Self {
            credit_bytes,
            intake: Intake::Open,
            devices: HashMap::new(),
            counters: AdmitCounters::default(),
            unpacker: Unpacker::new(),
        }
    }

    /// Reads a payload that came under a device's name at `received`.
    pub fn admit<'a>(&mut self, device: &Principal, payload: &'a [u8], received: Micros) -> Admit<'a> {
        match self.read(device, payload, received) {
            Ok(Admit::Batch(batch)) => self.admit_batch(device, batch, payload.len()),
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
            Up::Batch(batch) => Admit::Batch(Records { epoch: batch.epoch, records: Cow::Borrowed(batch.records) }),
            Up::Packed(packed) => {
                let records = self.unpacker.unpack(&packed)?;
                Admit::Batch(Records { epoch: packed.epoch, records: Cow::Owned(records) })
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

    fn admit_batch<'a>(&mut self, principal: &Principal, batch: Records<'a>, payload_bytes: usize) -> Admit<'a> {
        // A damaged length inside goes to the journal as it is: the fold accounts for the records before it.
        let mut records = 0;
        let mut with_alarm = false;
        let inner = Batch { epoch: batch.epoch, count: 0, records: &batch.records };
        for record in inner.iter().map_while(Result::ok) {
            records += 1;
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
        self.counters.batches += 1;
        self.counters.records += records;
        self.counters.bytes += batch.records.len() as u64;
        self.counters.payload_bytes += payload_bytes as u64;
        Admit::Batch(batch)
    }
}

impl Device {
    /// The exchange that this request ends: the one with the id before it, if its answer arrived.
    fn time_request(&mut self, request: &TimeRequest, received: Micros) -> Option<Exchange> {
        let epoch = self.epoch?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_types::{DeviceId, Monotonic, Name};
    use kilter_wire::BatchRecord;
    use proptest::prelude::*;

    fn pump() -> Principal {
        Principal {
            tenant: Name::new("acme").expect("a good name"),
            device: DeviceId::new("pump-1").expect("a good name"),
        }
    }

    fn frame(up: &Up<'_>) -> Vec<u8> {
        let mut room = vec![0; 4096];
        frame::encode(Kind::Up, up, &mut room).expect("it fits").to_vec()
    }

    fn hello(device: &str) -> Vec<u8> {
        frame(&Up::Hello(Hello {
            device: DeviceId::new(device).expect("a good name"),
            wire_version: 1,
            software: Name::new("0.1.0").expect("a good name"),
            epoch: Epoch(7),
            held: Default::default(),
        }))
    }

    fn batch(class: Class, bytes: usize) -> Vec<u8> {
        let mut records = vec![0; 2048];
        let mut used = 0;
        let record = BatchRecord { class: class as u8, seq: 1, bytes: &vec![1; bytes] };
        assert!(Batch::push(&mut records, &mut used, record));
        frame(&Up::Batch(Batch { epoch: Epoch(7), count: 1, records: &records[..used] }))
    }

    #[test]
    fn a_hello_is_let_in_only_under_its_own_name_and_gives_later_requests_their_epoch() {
        let mut admission = Admission::new(1000);
        let mut ask = |payload: &[u8]| format!("{:?}", admission.admit(&pump(), payload, Micros(9)));
        let request = |id, last_round_trip_us| {
            frame(&Up::TimeRequest(TimeRequest { id, sent: Monotonic(5), last_round_trip_us }))
        };
        for id in 1..3 {
            assert!(ask(&request(id, 40)).contains("exchange: None"), "nobody has said hello");
        }
        assert!(ask(&hello("pump-2")).contains("foreign_device"));
        assert!(ask(&hello("pump-1")).starts_with("Hello"));
        assert!(ask(&request(3, 40)).contains("exchange: None"));
        assert!(ask(&request(4, 40)).contains("Exchange { epoch: Epoch(7)"));
    }

    #[test]
    fn a_round_trip_dates_the_request_before_it_and_no_other() {
        let mut admission = Admission::new(1000);
        admission.admit(&pump(), &hello("pump-1"), Micros(0));
        let mut ask = |id, sent, last_round_trip_us, received| {
            let request = frame(&Up::TimeRequest(TimeRequest { id, sent: Monotonic(sent), last_round_trip_us }));
            match admission.admit(&pump(), &request, Micros(received)) {
                Admit::TimeRequest { exchange, .. } => {
                    exchange.map(|found| (found.received.0, found.monotonic.0, found.round_trip_us))
                }
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(ask(1, 100, 0, 1_000), None);
        assert_eq!(ask(2, 200, 30, 1_100), Some((1_000, 100, 30)));
        assert_eq!(ask(3, 300, 0, 1_200), None, "the second was not answered");
        assert_eq!(ask(5, 500, 30, 1_400), None, "the fourth never came: its receipt is not known");
        assert_eq!(ask(6, 600, 20, 1_500), Some((1_400, 500, 20)));
    }

    #[test]
    fn a_batch_past_credit_is_refused_until_others_are_durable_but_an_alarm_never() {
        let mut admission = Admission::new(1000);
        let large = batch(Class::Feature, 800);
        let Admit::Batch(first) = admission.admit(&pump(), &large, Micros(0)) else {
            panic!("within credit");
        };
        assert_eq!(admission.credit_bytes(&pump()), 1000 - 811);
        assert_eq!(admission.admit(&pump(), &large, Micros(0)), Admit::Refuse(Refuse::QuotaExceeded));
        let alarm = batch(Class::Alarm, 800);
        assert!(matches!(admission.admit(&pump(), &alarm, Micros(0)), Admit::Batch(_)));
        admission.settle(&pump(), first.records.len());
        admission.settle(&pump(), first.records.len());
        assert!(matches!(admission.admit(&pump(), &large, Micros(0)), Admit::Batch(_)));
        assert_eq!((admission.counters().batches, admission.counters().refused), (3, 1));
    }

    #[test]
    fn with_the_journal_at_its_cap_only_alarms_come_in() {
        let mut admission = Admission::new(1000);
        admission.set_intake(Intake::AlarmsOnly);
        assert_eq!(admission.credit_bytes(&pump()), 0);
        let feature = batch(Class::Feature, 8);
        assert!(matches!(admission.admit(&pump(), &feature, Micros(0)), Admit::Refuse(_)));
        let alarm = batch(Class::Alarm, 8);
        assert!(matches!(admission.admit(&pump(), &alarm, Micros(0)), Admit::Batch(_)));
    }

    #[test]
    fn an_unknown_version_is_quarantined_and_counted() {
        let mut admission = Admission::new(1000);
        let mut payload = hello("pump-1");
        payload[1] = 9;
        let end = payload.len() - 4;
        let crc = crc32(&payload[..end]);
        payload[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(
            admission.admit(&pump(), &payload, Micros(0)),
            Admit::Quarantine { reason: "version", bytes: &payload }
        );
        assert_eq!(admission.counters().quarantined.get("version"), Some(&1));
    }

    /// IEEE CRC-32, bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (0u32.wrapping_sub(crc & 1))))
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_admitted_or_quarantined_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut admission = Admission::new(1000);
            let random = admission.admit(&pump(), &bytes, Micros(0));
            let is_quarantined = matches!(random, Admit::Quarantine { .. });
            prop_assert!(is_quarantined);
        }

        #[test]
        fn a_damaged_message_is_quarantined(at in 0usize..60, flip in 1u8..) {
            let mut payload = batch(Class::Feature, 40);
            let at = at % payload.len();
            payload[at] ^= flip;
            let is_quarantined = matches!(Admission::new(1000).admit(&pump(), &payload, Micros(0)), Admit::Quarantine { .. });
            prop_assert!(is_quarantined);
        }
    }
}
