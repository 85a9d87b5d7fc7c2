//! Any bytes, in any pieces: the session may close, it may not panic, and it never holds more than its bounds.

use kilter_ingest::DeviceLink;
use kilter_ingest::listener::Limits;
use proptest::prelude::*;

use crate::bytes_of::{DOWN, Peer, UP, connect, connect_v3, hub, publish, publish_v3, subscribe};

/// A conversation that is all right.
fn conversation(v3: bool) -> Vec<u8> {
    if v3 {
        let parts = [connect_v3(false), publish_v3(0b0010, UP, 3, b"payload"), vec![0xc0, 0], vec![0x40, 2, 0, 1]];
        return parts.concat();
    }
    [
        connect(false, &[0x11, 0, 0, 1, 0, 0x21, 0, 9]),
        subscribe(1, &[], &[(DOWN, 1), ("elsewhere", 0)]),
        publish(0b0010, UP, 2, &[], b"payload"),
        publish(0, UP, 0, &[0x01, 1, 0x26, 0, 1, b'k', 0, 1, b'v'], b"payload"),
        vec![0xa2, 5, 0, 4, 0, 0, 0],
        vec![0xc0, 0],
        vec![0x40, 2, 0, 1],
        publish(0b0010, "kilter/v1/acme/pump-2/up", 5, &[], b"payload"),
        vec![0xe0, 0],
    ]
    .concat()
}

fn feed(bytes: &[u8], pieces: &[usize]) {
    let limits = Limits { packet_bytes: 4096, budget_bytes: 8192, receive_maximum: 4, ..Limits::default() };
    let hub = hub(limits);
    let mut peer = Peer::new(&hub);
    let mut rest = bytes;
    for size in pieces.iter().cycle() {
        let (piece, tail) = rest.split_at((*size).min(rest.len()));
        peer.send(piece);
        rest = tail;
        for message in peer.inbound() {
            message.ack.accept();
        }
        peer.wake();
        peer.heard();
        assert!(hub.counters().held_bytes_now <= 8192);
        if rest.is_empty() || peer.session.is_finished() {
            break;
        }
    }
    peer.advance_secs(10_000);
    peer.session.handle_end(peer.now);
    drop(peer);
    assert_eq!((hub.counters().connections_now, hub.counters().held_bytes_now), (0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000), pieces in prop::collection::vec(1usize..300, 1..8)) {
        feed(&bytes, &pieces);
    }

    #[test]
    fn random_bytes_after_a_good_connect_never_panic(v3 in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..2000), pieces in prop::collection::vec(1usize..300, 1..8)) {
        let start = if v3 { connect_v3(true) } else { connect(true, &[]) };
        feed(&[start, bytes].concat(), &pieces);
    }

    #[test]
    fn a_mutated_conversation_never_panics(
        v3 in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        pieces in prop::collection::vec(1usize..60, 1..8),
    ) {
        let mut bytes = conversation(v3);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let cut = cut.index(bytes.len());
        feed(&bytes, &pieces);
        feed(&bytes[..cut], &pieces);
    }
}
