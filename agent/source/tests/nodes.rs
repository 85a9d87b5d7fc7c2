//! Nodes on a line: order, loss, garbage, clocks, and a terminal that is pulled out and put in again.

use std::io::{Read as _, Write as _};

use kilter_source::{Heard, LineTurn, Nodes, Now, Offset, SerialLine, Stop, encode};
use kilter_types::{
    Class, DeviceId, Epoch, Event, Gap, GapReason, Micros, Monotonic, Name, Payload, Point, Record, Timeline,
};
use kilter_wire::frame::Kind;
use kilter_wire::{Batch, BatchRecord, Hello, TimeRequest, Up, encode_record};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn record(epoch: u64, seq: u64) -> Record {
    Record {
        point: Point::parse("default/north/pump-1/node").expect("a good point"),
        epoch: Epoch(epoch),
        seq,
        monotonic: Monotonic(1_000_000 + seq * 1000),
        timeline: Timeline::Device,
        wall: None,
        uncertainty: Micros(0),
        payload: Payload::Event(Event::NewRegime { bin: seq as u8 }),
    }
}

/// A record as a node sends it.
fn sent(record: &Record) -> Vec<u8> {
    let (mut bytes, mut body) = ([0; 512], [0; 600]);
    let len = encode_record(record, &mut bytes).expect("it fits").len();
    let mut used = 0;
    let entry = BatchRecord { class: record.class() as u8, seq: record.seq, bytes: &bytes[..len] };
    assert!(Batch::push(&mut body, &mut used, entry));
    let batch = Batch { epoch: record.epoch, count: 1, records: &body[..used] };
    encode(Kind::Up, &Up::Batch(batch)).expect("it fits")
}

fn feed(nodes: &mut Nodes, bytes: &[u8], wall: i64) -> Vec<Heard> {
    let mut heard = Vec::new();
    nodes.feed(bytes, Now { wall: Micros(wall), uncertainty: Micros(50) }, &mut |said| heard.push(said));
    heard
}

fn lost(epoch: u64, first_seq: u64, last_seq: u64) -> Heard {
    let (class, epoch, reason) = (Class::Event, Epoch(epoch), GapReason::SourceSilent);
    Heard::Lost(Gap { class, epoch, first_seq, last_seq, reason })
}

#[test]
fn a_lost_frame_becomes_a_gap_and_the_record_stays_the_nodes_own() {
    let mut nodes = Nodes::default();
    for seq in [0, 1, 4, 4, 5] {
        let heard = feed(&mut nodes, &sent(&record(7, seq)), 0);
        let own = || Heard::Record(Box::new(record(7, seq)));
        match (seq, nodes.last()) {
            (4, _) if heard.is_empty() => {}
            (4, _) => assert_eq!(heard, [lost(7, 2, 3), own()]),
            _ => assert_eq!(heard, [own()]),
        }
    }
    assert_eq!(nodes.last(), [(Epoch(7), Class::Event, 5)]);
    // After a restart of the gateway the loss in between is told too.
    let mut nodes = Nodes::resume(nodes.last());
    assert_eq!(feed(&mut nodes, &sent(&record(7, 8)), 0)[0], lost(7, 6, 7));
}

#[test]
fn garbage_costs_the_frames_that_it_hits_and_nothing_after() {
    let mut nodes = Nodes::default();
    let mut stream = vec![1, 2, 3, 200, 9];
    stream.extend(sent(&record(7, 0)));
    stream.extend(sent(&record(7, 1)));
    let mut damaged = sent(&record(7, 2));
    damaged[20] ^= 0x10;
    stream.extend(damaged);
    stream.extend(std::iter::repeat_n(0x55, 20_000));
    stream.push(0);
    stream.extend(sent(&record(7, 3)));
    // Bytes come as they like.
    let heard: Vec<Heard> = stream.chunks(11).flat_map(|part| feed(&mut nodes, part, 0)).collect();
    let own = |seq| Heard::Record(Box::new(record(7, seq)));
    assert_eq!(heard, [lost(7, 0, 0), own(1), lost(7, 2, 2), own(3)]);
    assert_eq!(nodes.garbled(), 3);
}

#[test]
fn several_nodes_on_one_line_are_told_apart_by_their_epochs() {
    let mut nodes = Nodes::default();
    let stream: Vec<u8> =
        [(7, 0), (8, 0), (7, 1), (9, 2), (8, 1)].iter().flat_map(|(e, s)| sent(&record(*e, *s))).collect();
    let heard = feed(&mut nodes, &stream, 0);
    assert_eq!(heard.iter().filter(|said| matches!(said, Heard::Record(_))).count(), 5);
    assert_eq!(heard.iter().filter(|said| matches!(said, Heard::Lost(_))).count(), 1);
    assert_eq!(nodes.last().len(), 3);
}

#[test]
fn an_exchange_dates_the_nodes_clock_within_its_bound() {
    let mut nodes = Nodes::default();
    let epoch = Epoch(7);
    let (device, software) = (DeviceId::new("node-1").expect("a good id"), name("0.1.0"));
    let hello = Hello { device, wire_version: 2, software, epoch, held: heapless::Vec::new() };
    feed(&mut nodes, &encode(Kind::Up, &Up::Hello(hello)).expect("it fits"), 0);
    // The truth: our clock is 5 s ahead of the node's; a request takes 3 ms to us, the reply 1 ms back.
    let ask = |id: u32, node_us: u64, took_us: u32| {
        let request = TimeRequest { id, sent: Monotonic(node_us), last_round_trip_us: took_us };
        (encode(Kind::Up, &Up::TimeRequest(request)).expect("it fits"), node_us as i64 + 5_000_000 + 3_000)
    };
    for (id, node_us, took_us) in [(0, 1_000_000, 0), (1, 2_000_000, 4_000), (2, 3_000_000, 4_000)] {
        let (bytes, wall) = ask(id, node_us, took_us);
        let heard = feed(&mut nodes, &bytes, wall);
        assert!(matches!(heard[..], [Heard::Reply(reply)] if reply.id == id));
    }
    let Offset { offset, uncertainty, .. } = nodes.offset(epoch).expect("an exchange told");
    assert!((offset.0 - 5_000_000).abs() <= uncertainty.0, "{offset:?} within {uncertainty:?}");
    assert_eq!(uncertainty, Micros(2_000 + 1 + 50));
    let heard = feed(&mut nodes, &sent(&record(7, 0)), 0);
    let [Heard::Record(record)] = &heard[..] else { panic!("{heard:?}") };
    let wall = record.wall.expect("it is dated").0;
    assert!((wall - (1_000_000 + 5_000_000)).abs() <= record.uncertainty.0 && record.uncertainty >= uncertainty);
}

#[test]
fn a_terminal_that_is_pulled_out_and_put_in_again_goes_on() {
    let dir = std::env::temp_dir().join(format!("kilter-tty-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = dir.join("ttyNODE");
    let mut line = SerialLine::new(path.to_str().expect("a plain path"), 115_200, Stop::default());
    let mut room = [0; 64];
    assert!(line.read(&mut room).is_err(), "nothing is plugged in");
    for round in 0..2u8 {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).expect("ours");
        unlockpt(&master).expect("ours");
        let slave = ptsname(&master, Vec::new()).expect("it has a name");
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(slave.to_str().expect("a plain path"), &path).expect("a link");
        let mut master = std::fs::File::from(master);
        let mut got = Vec::new();
        let mut opened = false;
        while got.len() < 4 {
            match line.read(&mut room) {
                Ok(LineTurn::Opened) => {
                    opened = true;
                    master.write_all(&[round, 0, 0x0D, 0x11]).expect("the line takes it");
                }
                Ok(LineTurn::Bytes(count)) => got.extend_from_slice(&room[..count]),
                Ok(LineTurn::Quiet) | Err(_) => {}
            }
        }
        assert!(opened);
        assert_eq!(got, [round, 0, 0x0D, 0x11], "bytes come raw");
        line.write(&[9, 8]).expect("it is open");
        let mut back = [0; 2];
        master.read_exact(&mut back).expect("the other end hears");
        assert_eq!(back, [9, 8]);
        drop(master);
        std::fs::remove_file(&path).expect("pulled out");
    }
    std::fs::remove_dir_all(&dir).expect("cleaned up");
}
