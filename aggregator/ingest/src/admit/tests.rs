//! What is let in, what waits, what goes into quarantine.

use super::*;
use kilter_types::{DeviceId, Monotonic, Name};
use kilter_wire::BatchRecord;
use proptest::prelude::*;

fn pump() -> Principal {
    Principal { tenant: Name::new("acme").expect("a good name"), device: DeviceId::new("pump-1").expect("a good name") }
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
    let request =
        |id, last_round_trip_us| frame(&Up::TimeRequest(TimeRequest { id, sent: Monotonic(5), last_round_trip_us }));
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
    assert_eq!(ask(6, 600, 20, 9_000), None, "it came twice");
    assert_eq!(ask(5, 500, 30, 9_100), None, "it was overtaken");
    assert_eq!(ask(7, 700, 25, 9_200), Some((1_500, 600, 25)), "and neither has moved what came first");
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
fn rows_beyond_a_devices_day_are_over_quota_alarms_and_other_devices_are_not() {
    const DAY: i64 = 86_400_000_000;
    let mut admission = Admission::new(100_000).with_quota(2);
    let other = Principal { device: DeviceId::new("pump-2").expect("a good name"), ..pump() };
    let mut over = |device: &Principal, class, at| match admission.admit(device, &batch(class, 8), Micros(at)) {
        Admit::Batch(batch) => batch.over_quota,
        refused => panic!("{refused:?}"),
    };
    assert_eq!([1, 2, 3].map(|at| over(&pump(), Class::Feature, at)), [false, false, true]);
    for brief in [Class::Alarm, Class::Event, Class::Gap, Class::Report] {
        assert!(!over(&pump(), brief, 4), "{brief:?}");
    }
    assert!(!over(&other, Class::Clip, 5), "each device has its own");
    assert!(over(&pump(), Class::Clip, DAY - 1));
    assert!(!over(&pump(), Class::Clip, DAY), "a new day");
    assert_eq!(admission.counters().over_quota, 2);
    let mut free = Admission::new(100_000);
    let all = (0..100)
        .map(|_| free.admit(&pump(), &batch(Class::Feature, 8), Micros(0)) == Admit::Refuse(Refuse::QuotaExceeded));
    assert_eq!((all.filter(|refused| *refused).count(), free.counters().over_quota), (0, 0));
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
    assert_eq!(admission.admit(&pump(), &payload, Micros(0)), Admit::Quarantine { reason: "version", bytes: &payload });
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
