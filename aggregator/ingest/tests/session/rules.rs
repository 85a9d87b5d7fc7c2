//! What the listener grants, refuses and closes on.

use bytes::Bytes;
use kilter_ingest::listener::{Limits, Session};
use kilter_ingest::{DeviceLink, Presence, Principal, Refuse, SendError, Sent};
use kilter_types::{DeviceId, Monotonic, Name};
use proptest::prelude::*;
use std::task::Waker;

use crate::bytes_of::{DOWN, Peer, UP, connect, connect_v3, hub, packet, publish, publish_v3, subscribe, text};

const EXPIRY_100_S: &[u8] = &[0x11, 0, 0, 0, 100];

fn pump() -> Principal {
    Principal { tenant: Name::new("acme").expect("a good name"), device: DeviceId::new("pump-1").expect("a good name") }
}

#[test]
fn what_connack_does_not_offer_closes_with_its_reason() {
    let cases: [(&str, Vec<u8>, u8); 13] = [
        ("QoS 2", publish(0b0100, UP, 1, &[], b"x"), 0x9b),
        ("retain", publish(0b0011, UP, 1, &[], b"x"), 0x9a),
        ("a second topic alias", publish(0b0010, UP, 1, &[0x23, 0, 2], b"x"), 0x94),
        ("no topic", publish(0b0010, "", 1, &[], b"x"), 0x90),
        ("wildcard in a topic name", publish(0b0010, "a/+/b", 1, &[], b"x"), 0x90),
        ("packet id zero", publish(0b0010, UP, 0, &[], b"x"), 0x81),
        ("subscription id", subscribe(1, &[0x0b, 1], &[(DOWN, 1)]), 0xa1),
        ("second CONNECT", connect(true, &[]), 0x82),
        ("AUTH", vec![0xf0, 0], 0x82),
        ("a server's packet", vec![0xd0, 0], 0x82),
        ("PUBREL", vec![0x62, 2, 0, 1], 0x82),
        ("endless length", vec![0x30, 0xff, 0xff, 0xff, 0xff], 0x81),
        ("too large", vec![0x32, 0xff, 0xff, 0xff, 0x7f], 0x95),
    ];
    for (name, bytes, reason) in cases {
        let hub = hub(Limits::default());
        let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
        println!("{name}");
        peer.closes_with(&bytes, reason);
        assert_eq!(hub.presence(&pump()), Presence::Offline);
        assert_eq!(hub.counters().refused.get(&reason), Some(&1), "{name}");
    }
}

#[test]
fn a_connect_that_can_not_be_kept_is_refused_in_connack() {
    let mut enhanced = vec![0x15];
    enhanced.extend(text("SCRAM"));
    let mut with_will = b"\x00\x04MQTT\x05\xa6\x00\x3c\x00".to_vec();
    for part in ["pump-1", "", "kilter/v1/acme/pump-1/up", "gone", "pump-1"] {
        // Client id, will properties (empty: one zero byte), will topic, will message, user name.
        with_will.extend(if part.is_empty() { vec![0] } else { text(part) });
    }
    for (bytes, reason) in [(connect(true, &enhanced), 0x8c), (packet(0x10, &with_will), 0x9a)] {
        let hub = hub(Limits::default());
        let mut peer = Peer::new(&hub);
        peer.send(&bytes);
        let said = peer.heard();
        assert_eq!((said[0], said[3]), (0x20, reason), "{said:02x?}");
        assert!(peer.session.is_finished());
    }
}

#[test]
fn a_topic_alias_stands_for_the_topic_that_came_with_it_on_this_connection_and_for_no_other() {
    let hub = hub(Limits::default());
    let mut peer = Peer::new(&hub);
    peer.send(&connect(true, &[]));
    let said = peer.heard();
    assert!(said.windows(3).any(|property| property == [0x22, 0, 1]), "one is offered: {said:02x?}");
    let aliased = |id: u16, topic: &str| publish(0b0010, topic, id, &[0x23, 0, 1], b"x");
    peer.send(&[aliased(1, UP), aliased(2, ""), aliased(3, "")].concat());
    let held = peer.inbound();
    assert_eq!(held.iter().map(|message| &*message.topic).collect::<Vec<_>>(), [UP; 3]);
    // It may come to stand for a topic where the device may not publish, and is refused as that is.
    peer.send(&[aliased(4, "kilter/v1/acme/pump-2/up"), aliased(5, "")].concat());
    assert!(peer.inbound().is_empty());
    held.into_iter().for_each(|message| message.ack.accept());
    peer.wake();
    let reasons: Vec<u8> = peer.heard().chunks(6).map(|puback| puback[4]).collect();
    assert_eq!(reasons, [0, 0, 0, 0x87, 0x87]);
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
    peer.closes_with(&aliased(1, ""), 0x82);
}

#[test]
fn user_properties_and_a_content_type_are_let_through_up_to_four_kilobytes() {
    let hub = hub(Limits::default());
    let user = [&[0x26][..], &text("wire"), &text("4")].concat();
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &user));
    let properties = [&[0x03][..], &text("application/vnd.kilter.frame"), &user].concat();
    let most: Vec<u8> = user.iter().copied().cycle().take(4096 / user.len() * user.len()).collect();
    peer.send(&[publish(0b0010, UP, 1, &properties, b"one"), publish(0b0010, UP, 2, &most, b"two")].concat());
    let held = peer.inbound();
    assert_eq!(held.iter().map(|message| &*message.payload).collect::<Vec<_>>(), [b"one", b"two"]);
    peer.closes_with(&publish(0b0010, UP, 3, &[most, user].concat(), b"three"), 0x97);
}

#[test]
fn one_message_more_than_the_credit_closes_with_receive_maximum_exceeded() {
    let hub = hub(Limits { receive_maximum: 3, ..Limits::default() });
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
    for id in 1..=3 {
        peer.send(&publish(0b0010, UP, id, &[], b"x"));
    }
    let mut held = peer.inbound();
    held.remove(0).ack.accept();
    peer.wake();
    assert_eq!(peer.heard()[..4], [0x40, 4, 0, 1]);
    peer.send(&publish(0b0010, UP, 4, &[], b"x"));
    peer.closes_with(&publish(0b0010, UP, 5, &[], b"x"), 0x93);
}

#[test]
fn messages_without_credit_wait_unread_behind_a_full_window() {
    for (connect, message) in
        [(connect(true, &[]), publish(0, UP, 0, &[], b"x")), (connect_v3(true), publish_v3(0b0010, UP, 1, b"x"))]
    {
        let hub = hub(Limits { receive_maximum: 2, ..Limits::default() });
        let (mut peer, _) = Peer::welcome(&hub, &connect);
        peer.send(&[message.as_slice(); 5].concat());
        let first = peer.inbound();
        assert_eq!(first.len(), 2);
        assert!(!peer.session.wants_read());
        // Silence while we do not read is not the device's.
        peer.advance_secs(1000);
        assert!(!peer.session.is_finished());
        first.into_iter().for_each(|message| message.ack.accept());
        peer.wake();
        let second = peer.inbound();
        assert_eq!(second.len(), 2);
        second.into_iter().for_each(|message| message.ack.accept());
        peer.wake();
        assert_eq!(peer.inbound().len(), 1);
        assert!(peer.session.wants_read());
    }
}

#[test]
fn an_older_protocol_hears_no_reasons_and_is_closed_instead() {
    let hub = hub(Limits::default());
    let (mut peer, _) = Peer::welcome(&hub, &connect_v3(true));
    peer.send(&packet(0x82, &[&[0, 1][..], &text(DOWN), &[1], &text("other"), &[0]].concat()));
    assert_eq!(peer.heard(), [0x90, 4, 0, 1, 1, 0x80]);
    peer.send(&publish_v3(0b0010, UP, 7, b"good"));
    peer.inbound().remove(0).ack.accept();
    peer.wake();
    assert_eq!(peer.heard(), [0x40, 2, 0, 7]);
    peer.send(&publish_v3(0b0010, UP, 8, b"bad"));
    peer.inbound().remove(0).ack.refuse(Refuse::NotStored);
    peer.wake();
    assert_eq!(peer.heard(), []);
    assert!(peer.session.is_finished());
}

#[test]
fn a_kept_session_repeats_unacknowledged_mail_and_an_expired_one_starts_over() {
    let hub = hub(Limits::default());
    let (mut peer, present) = Peer::welcome(&hub, &connect(false, EXPIRY_100_S));
    assert!(!present);
    peer.send(&subscribe(1, &[], &[(DOWN, 1)]));
    let _ = peer.heard();
    for text in ["one", "two"] {
        assert_eq!(hub.send(&pump(), Bytes::from_static(text.as_bytes())), Ok(Sent::Online));
    }
    peer.wake();
    let first = peer.heard();
    assert!(first.ends_with(b"\x00\x02\x00two"), "{first:02x?}");
    peer.send(&[0x40, 2, 0, 1]);
    peer.session.handle_end(peer.now);

    // Session present; then at once, with the same id: dup, QoS 1.
    let mut peer = Peer::new(&hub);
    peer.send(&connect(false, EXPIRY_100_S));
    let again = peer.heard();
    let (connack, mail) = again.split_at(2 + usize::from(again[1]));
    assert_eq!(connack[2..4], [1, 0], "{connack:02x?}");
    assert_eq!(mail[0], 0x3a, "{mail:02x?}");
    assert!(mail.ends_with(b"\x00\x02\x00two"), "{mail:02x?}");
    peer.session.handle_end(peer.now);

    let mut late = Peer::new(&hub);
    late.now = Monotonic(101_000_000);
    late.send(&connect(false, EXPIRY_100_S));
    assert_eq!(late.heard()[2..4], [0, 0]);
    late.send(&subscribe(1, &[], &[(DOWN, 0)]));
    let said = late.heard();
    assert_eq!(said[..6], [0x90, 4, 0, 1, 0, 0], "{said:02x?}");
    assert_eq!(said[6], 0x30, "QoS 0 was granted: {said:02x?}");
    assert!(said.ends_with(b"\x00two"), "{said:02x?}");
    assert_eq!(hub.send(&pump(), Bytes::from_static(b"three")), Ok(Sent::Online));
}

#[test]
fn mail_keeps_to_the_window_and_packet_size_of_the_device() {
    let hub = hub(Limits::default());
    // Receive Maximum 2, Maximum Packet Size 60.
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[0x21, 0, 2, 0x27, 0, 0, 0, 60]));
    peer.send(&subscribe(1, &[], &[(DOWN, 1)]));
    let _ = peer.heard();
    for text in ["a", "b", "c"] {
        let _ = hub.send(&pump(), Bytes::from_static(text.as_bytes()));
        let _ = hub.send(&pump(), Bytes::from_static(&[0; 100]));
    }
    peer.wake();
    let said = peer.heard();
    assert_eq!(said.iter().filter(|byte| **byte == 0x32).count(), 2, "{said:02x?}");
    peer.send(&[0x40, 2, 0, 1]);
    assert!(peer.heard().ends_with(b"\x00\x03\x00c"));
    peer.send(&[0x40, 2, 0, 2]);
    peer.send(&[0x40, 2, 0, 3]);
    assert_eq!(hub.counters().oversize_down, 3);
    assert_eq!(hub.counters().messages_down, 3);
}

#[test]
fn mail_is_bounded_for_one_device_and_for_all() {
    let hub = hub(Limits { parked_messages: 4, parked_bytes: 1000, parked_total_bytes: 1500, ..Limits::default() });
    let send = |device: &Principal, bytes: usize| hub.send(device, Bytes::from(vec![0; bytes]));
    assert!(matches!(send(&pump(), 1001), Err(SendError::TooLarge { limit: 1000, .. })));
    for _ in 0..10 {
        assert_eq!(send(&pump(), 100), Ok(Sent::Parked));
    }
    assert_eq!(hub.counters().dropped_down, 6);
    let other = Principal { device: DeviceId::new("pump-2").expect("a good name"), ..pump() };
    assert_eq!(send(&other, 900), Ok(Sent::Parked));
    assert_eq!(send(&other, 900), Err(SendError::Full { bytes: 900 }));
    hub.evict(&pump());
    assert_eq!(send(&pump(), 500), Ok(Sent::Parked));
}

#[test]
fn strangers_have_little_time_and_little_room() {
    let hub = hub(Limits { connections: 2, ..Limits::default() });
    let mut silent = Peer::new(&hub);
    let mut large = Peer::new(&hub);
    assert!(Session::open(hub.clone(), Waker::noop().clone(), Monotonic(0)).is_none());
    large.send(&[0x10, 0x81, 0x80, 0x08]);
    assert!(large.session.is_finished());
    silent.advance_secs(9);
    assert!(!silent.session.is_finished());
    silent.advance_secs(1);
    assert!(silent.session.is_finished());
    drop((silent, large));
    assert_eq!(hub.counters().connections_now, 0);
}

#[test]
fn a_device_that_takes_nothing_is_cut_off() {
    let hub = hub(Limits::default());
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
    peer.send(&[0xc0, 0]);
    peer.advance_secs(29);
    assert!(!peer.session.is_finished());
    peer.advance_secs(1);
    assert!(peer.session.is_finished());
}

#[test]
fn half_a_message_does_not_hold_its_share_of_the_budget_for_ever() {
    let hub = hub(Limits::default());
    let mut quiet = connect_v3(true);
    quiet[11] = 0;
    let (mut peer, _) = Peer::welcome(&hub, &quiet);
    peer.advance_secs(100_000);
    assert!(!peer.session.is_finished());
    let message = publish_v3(0b0010, UP, 1, &[0; 1000]);
    peer.send(&message[..500]);
    assert_eq!(hub.counters().held_bytes_now, message.len() as u64);
    peer.advance_secs(300);
    assert!(peer.session.is_finished());
    assert_eq!(hub.counters().held_bytes_now, 0);
}

#[test]
fn what_came_before_a_goodbye_still_reaches_the_server() {
    let hub = hub(Limits::default());
    let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
    peer.send(&[publish(0, UP, 0, &[], b"last words"), vec![0xe0, 0]].concat());
    assert!(!peer.session.is_finished());
    assert_eq!(peer.inbound().remove(0).payload, "last words");
    assert!(peer.session.is_finished());
}

proptest! {
    /// Whatever the order of settling, PUBACKs leave in publish order, each as soon as all before it are settled.
    #[test]
    fn pubacks_leave_in_publish_order(order in Just((0..20usize).collect::<Vec<_>>()).prop_shuffle(), refused in prop::collection::vec(any::<bool>(), 20)) {
        let hub = hub(Limits::default());
        let (mut peer, _) = Peer::welcome(&hub, &connect(true, &[]));
        for id in 1..=20 {
            peer.send(&publish(0b0010, UP, id, &[], b"x"));
        }
        let mut held: Vec<_> = peer.inbound().into_iter().map(Some).collect();
        let mut acked = 0;
        for index in order {
            let ack = held[index].take().expect("settled once").ack;
            if refused[index] { ack.refuse(Refuse::QuotaExceeded) } else { ack.accept() }
            peer.wake();
            let settled = held.iter().take_while(|one| one.is_none()).count();
            for puback in peer.heard().chunks(6) {
                let reason = if refused[acked] { 0x97 } else { 0 };
                prop_assert_eq!(puback, &[0x40, 4, 0, u8::try_from(acked + 1).expect("small"), reason, 0]);
                acked += 1;
            }
            prop_assert_eq!(acked, settled);
        }
    }
}
