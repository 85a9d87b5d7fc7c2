//! What a payload is and whether it is let in: the last step before the journal, per device and without IO.
//!
//! A payload that can't be read is not the device's to keep for ever: it is journalled as quarantined and acknowledged, so
//! that one bad message never blocks what comes after it. Only too much at once is refused, and never an alarm.

use std::collections::{BTreeMap, HashMap};

use kilter_types::{Class, Epoch};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, CommandResult, Fetch, Hello, TimeRequest, Up};

use crate::ack::Refuse;
use crate::gateway::Principal;

/// The door between a link and the journal.
#[derive(Debug)]
pub struct Admission {
    credit_bytes: u32,
    intake: Intake,
    devices: HashMap<Principal, Device>,
    counters: AdmitCounters,
}

/// What one payload is. What is long is borrowed from it.
#[derive(Clone, Debug, PartialEq)]
pub enum Admit<'a> {
    /// The device introduces itself.
    Hello(Hello),
    /// Records to be journalled; [`Admission::settle`] gives their credit back.
    Batch(Batch<'a>),
    /// The device asks for the time. The epoch is the one of its hello; without it there is a reply but no exchange.
    TimeRequest {
        /// The epoch in which it asked.
        epoch: Option<Epoch>,
        /// The request.
        request: TimeRequest,
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
    /// Bytes of them.
    pub bytes: u64,
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
}

impl Admission {
    /// A door that lets each device have so many bytes of records on the way to the journal.
    pub fn new(credit_bytes: u32) -> Self {
        Self { credit_bytes, intake: Intake::Open, devices: HashMap::new(), counters: AdmitCounters::default() }
    }

    /// Reads a payload that came under a device's name.
    pub fn admit<'a>(&mut self, device: &Principal, payload: &'a [u8]) -> Admit<'a> {
        match self.read(device, payload) {
            Ok(Admit::Batch(batch)) => self.admit_batch(device, batch),
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

    /// A batch is durable, or was given up: its bytes are credit again.
    pub fn settle(&mut self, device: &Principal, batch: &Batch<'_>) {
        if let Some(device) = self.devices.get_mut(device) {
            device.pending_bytes = device.pending_bytes.saturating_sub(cost(batch));
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

    fn read<'a>(&mut self, device: &Principal, payload: &'a [u8]) -> Result<Admit<'a>, &'static str> {
        let up: Up<'a> = frame::decode(Kind::Up, payload).map_err(|error| error.as_str())?;
        Ok(match up {
            Up::Hello(hello) => {
                if hello.device != device.device {
                    return Err("foreign_device");
                }
                self.devices.entry(device.clone()).or_default().epoch = Some(hello.epoch);
                Admit::Hello(hello)
            }
            Up::Batch(batch) => Admit::Batch(batch),
            Up::TimeRequest(request) => {
                let epoch = self.devices.get(device).and_then(|device| device.epoch);
                Admit::TimeRequest { epoch, request }
            }
            Up::Fetch(fetch) => Admit::Fetch(fetch),
            Up::CommandResult(result) => Admit::CommandResult(result),
        })
    }

    fn admit_batch<'a>(&mut self, principal: &Principal, batch: Batch<'a>) -> Admit<'a> {
        // A damaged length inside goes to the journal as it is: the fold accounts for the records before it.
        let mut records = 0;
        let mut with_alarm = false;
        for record in batch.iter().map_while(Result::ok) {
            records += 1;
            with_alarm |= record.class == Class::Alarm as u8;
        }
        let room = self.credit_bytes(principal);
        let device = self.devices.entry(principal.clone()).or_default();
        // With nothing pending one batch passes, however large: a device is never stuck behind its own credit.
        let alone = self.intake == Intake::Open && device.pending_bytes == 0;
        if !with_alarm && !alone && cost(&batch) > room {
            self.counters.refused += 1;
            return Admit::Refuse(Refuse::QuotaExceeded);
        }
        device.pending_bytes = device.pending_bytes.saturating_add(cost(&batch));
        self.counters.batches += 1;
        self.counters.records += records;
        self.counters.bytes += batch.records.len() as u64;
        Admit::Batch(batch)
    }
}

fn cost(batch: &Batch<'_>) -> u32 {
    u32::try_from(batch.records.len()).unwrap_or(u32::MAX)
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
        let request = TimeRequest { id: 1, sent: Monotonic(5), last_round_trip_us: 0 };
        let time = frame(&Up::TimeRequest(request));
        assert_eq!(admission.admit(&pump(), &time), Admit::TimeRequest { epoch: None, request });
        let foreign = hello("pump-2");
        assert!(matches!(admission.admit(&pump(), &foreign), Admit::Quarantine { reason: "foreign_device", .. }));
        let own = hello("pump-1");
        assert!(matches!(admission.admit(&pump(), &own), Admit::Hello(_)));
        assert_eq!(admission.admit(&pump(), &time), Admit::TimeRequest { epoch: Some(Epoch(7)), request });
    }

    #[test]
    fn a_batch_past_credit_is_refused_until_others_are_durable_but_an_alarm_never() {
        let mut admission = Admission::new(1000);
        let large = batch(Class::Feature, 800);
        let Admit::Batch(first) = admission.admit(&pump(), &large) else {
            panic!("within credit");
        };
        assert_eq!(admission.credit_bytes(&pump()), 1000 - 811);
        assert_eq!(admission.admit(&pump(), &large), Admit::Refuse(Refuse::QuotaExceeded));
        let alarm = batch(Class::Alarm, 800);
        assert!(matches!(admission.admit(&pump(), &alarm), Admit::Batch(_)));
        admission.settle(&pump(), &first);
        admission.settle(&pump(), &first);
        assert!(matches!(admission.admit(&pump(), &large), Admit::Batch(_)));
        assert_eq!((admission.counters().batches, admission.counters().refused), (3, 1));
    }

    #[test]
    fn with_the_journal_at_its_cap_only_alarms_come_in() {
        let mut admission = Admission::new(1000);
        admission.set_intake(Intake::AlarmsOnly);
        assert_eq!(admission.credit_bytes(&pump()), 0);
        let feature = batch(Class::Feature, 8);
        assert!(matches!(admission.admit(&pump(), &feature), Admit::Refuse(_)));
        let alarm = batch(Class::Alarm, 8);
        assert!(matches!(admission.admit(&pump(), &alarm), Admit::Batch(_)));
    }

    #[test]
    fn an_unknown_version_is_quarantined_and_counted() {
        let mut admission = Admission::new(1000);
        let mut payload = hello("pump-1");
        payload[1] = 9;
        let end = payload.len() - 4;
        let crc = crc32(&payload[..end]);
        payload[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(admission.admit(&pump(), &payload), Admit::Quarantine { reason: "version", bytes: &payload });
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
            let random = admission.admit(&pump(), &bytes);
            let is_quarantined = matches!(random, Admit::Quarantine { .. });
            prop_assert!(is_quarantined);
        }

        #[test]
        fn a_damaged_message_is_quarantined(at in 0usize..60, flip in 1u8..) {
            let mut payload = batch(Class::Feature, 40);
            let at = at % payload.len();
            payload[at] ^= flip;
            let is_quarantined = matches!(Admission::new(1000).admit(&pump(), &payload), Admit::Quarantine { .. });
            prop_assert!(is_quarantined);
        }
    }
}
