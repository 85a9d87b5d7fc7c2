//! More than the aggregator may hold: its memory stays below a cap, the rest is on its disk or still with the devices, and nothing is lost.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, bail, ensure};
use kilter_tests::{House, request};
use kilter_types::{Class, Clip, ClipCause, Epoch, Hertz, Micros, Monotonic, Payload, Point, Record, Timeline, Unit};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, BatchRecord, Up, encode_record};

use crate::stage::{self, PATIENCE};

const DEVICES: u64 = 64;
const BATCHES: u64 = 72;
const RECORDS: u64 = 60;
/// Messages that a device has on the way before it waits for an answer.
const WINDOW: u64 = 48;
/// Resident memory that the aggregator may reach: 24 MB at rest, its byte budget of 64 MB as records and once more on their way into the journal,
/// and a quarter for the rest. The devices together push more than that at once, and half as much again in all.
const CAP_BYTES: u64 = 192 << 20;

#[test]
fn s1_19_pushed_beyond_its_memory_the_aggregator_stays_below_its_cap_and_the_disk_has_everything() {
    stage::journey(1.0, |house| {
        // Credit is not what bounds it here: each device may have more on the way than it has.
        house.set("journal", "credit_bytes", 8 << 20)?;
        house.start_aggregator()?;
        let at_rest = peak_bytes(house)?;
        let devices =
            (0..DEVICES).map(|i| credential(house, &format!("pump-{i}"))).collect::<anyhow::Result<Vec<_>>>()?;
        let enrolled = |house: &House| Some(house.fleet().ok()?["enrolled"].as_array()?.len() as u64 == DEVICES);
        house.wait_for("the enrolled devices", PATIENCE, |house| enrolled(house)?.then_some(()))?;
        let address = house.ports.mqtt;
        let flood = |i: u64, secret: &str| Device::connect(address, i, secret)?.flood();
        let sent = std::thread::scope(|scope| {
            let flood = &flood;
            let running: Vec<_> =
                (0..).zip(&devices).map(|(i, secret)| scope.spawn(move || flood(i, secret))).collect();
            let ended = running.into_iter().map(|device| device.join().expect("a device does not panic"));
            ended.sum::<anyhow::Result<u64>>()
        })?;
        ensure!(sent > CAP_BYTES * 3 / 2, "only {sent} bytes were pushed: that tells nothing");
        let wanted = (DEVICES * BATCHES * RECORDS) as f64;
        house.wait_for("every record in its row", PATIENCE, |house| {
            (metric(house, "kilter_rows_total{class=\"clip\"}")? >= wanted).then_some(())
        })?;
        let figure = |name: &str| metric(house, name).with_context(|| format!("read {name}"));
        let (peak, stalls) = (peak_bytes(house)?, figure("kilter_mqtt_stalls_total")?);
        println!("{sent} bytes pushed; {at_rest} bytes resident at rest, {peak} at most; not read {stalls} times");
        ensure!(figure("kilter_rows_total{class=\"clip\"}")? == wanted, "a record is there twice");
        ensure!(figure("kilter_journal_bytes")? > sent as f64 * 0.9, "what is not in memory is not on the disk either");
        ensure!(stalls > 0.0, "the devices were never held back: there was no pressure");
        ensure!(peak <= CAP_BYTES, "{peak} bytes were resident, the cap is {CAP_BYTES}");
        Ok(())
    });
}

/// The most that was ever resident.
fn peak_bytes(house: &House) -> anyhow::Result<u64> {
    let pid = house.aggregator().context("it runs")?.pid();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("find VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>().context("read VmHWM")? * 1024)
}

fn metric(house: &House, name: &str) -> Option<f64> {
    let (_, text) = request(house.ports.http, "GET", "/metrics", "").ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn credential(house: &House, id: &str) -> anyhow::Result<String> {
    let path = house.dir.join("bundle.toml");
    house.enrol(id, &path)?;
    let bundle: toml::Table = toml::from_str(&std::fs::read_to_string(path).context("read a bundle")?)?;
    Ok(bundle["credential"].as_str().context("find the credential")?.to_owned())
}

/// A device that knows of MQTT what it needs to push.
struct Device {
    stream: TcpStream,
    topic: String,
    record: Record,
}

impl Device {
    fn connect(address: SocketAddr, i: u64, secret: &str) -> anyhow::Result<Self> {
        let id = format!("pump-{i}");
        let mut stream = TcpStream::connect(address).context("connect")?;
        stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.set_write_timeout(Some(PATIENCE)))?;
        // Version 5, user name and password, clean start; a minute's keep alive; no properties.
        let mut connect = b"\0\x04MQTT\x05\xc2\0\x3c\0".to_vec();
        [id.as_str(), &id, secret].iter().for_each(|text| push_text(&mut connect, text));
        stream.write_all(&packet(0x10, &connect)).context("greet")?;
        let (kind, answer) = read(&mut stream)?;
        ensure!(kind == 0x20 && answer.get(1) == Some(&0), "not let in: {kind:#x} {answer:x?}");
        let t0 = Micros(1_700_000_000_000_000);
        let point = Point::parse(&format!("default/plant/{id}/vertical"))?;
        let clip = Clip {
            id: 1,
            cause: ClipCause::Command(1),
            channel: point.point.clone(),
            unit: Unit::G,
            rate: Hertz(25_600.0),
            position: 0,
            t0,
            part: 0,
            parts: 1,
            samples: (0..1024_u64).map(|at| (at * 31 + i) as u8).collect(),
        };
        let (epoch, uncertainty) = (Epoch(1 + i), Micros(0));
        let (monotonic, timeline, payload) = (Monotonic(0), Timeline::Source, Payload::Clip(clip));
        let record = Record { point, epoch, seq: 0, monotonic, timeline, wall: Some(t0), uncertainty, payload };
        Ok(Self { stream, topic: format!("kilter/v1/default/{id}/up"), record })
    }

    /// Sends everything, many messages at once, until each is answered; the bytes of the records.
    fn flood(mut self) -> anyhow::Result<u64> {
        let (mut bytes, mut answered) = (0, 0);
        for sent in 0..BATCHES {
            if sent - answered == WINDOW {
                self.answer()?;
                answered += 1;
            }
            bytes += self.publish(sent).with_context(|| format!("push message {sent}"))?;
        }
        (answered..BATCHES).try_for_each(|_| self.answer())?;
        Ok(bytes)
    }

    fn publish(&mut self, number: u64) -> anyhow::Result<u64> {
        let (mut records, mut used) = (vec![0; 100 << 10], 0);
        for _ in 0..RECORDS {
            let mut room = [0; 4097];
            let bytes = encode_record(&self.record, &mut room).map_err(|error| anyhow::anyhow!("encode: {error}"))?;
            let record = BatchRecord { class: Class::Clip as u8, seq: self.record.seq, bytes };
            ensure!(Batch::push(&mut records, &mut used, record), "a batch has room");
            self.record.seq += 1;
        }
        let batch = Batch { epoch: self.record.epoch, count: RECORDS as u16, records: &records[..used] };
        let mut room = vec![0; 128 << 10];
        let frame = frame::encode(Kind::Up, &Up::Batch(batch), &mut room);
        let frame = frame.map_err(|error| anyhow::anyhow!("encode: {error}"))?;
        let mut publish = Vec::with_capacity(frame.len() + 64);
        push_text(&mut publish, &self.topic);
        publish.extend((number as u16 + 1).to_be_bytes());
        publish.push(0);
        publish.extend(frame);
        self.stream.write_all(&packet(0x32, &publish)).context("write")?;
        Ok(used as u64)
    }

    /// The next message is durable.
    fn answer(&mut self) -> anyhow::Result<()> {
        match read(&mut self.stream)? {
            (0x40, ack) if ack.get(2).is_none_or(|reason| *reason == 0) => Ok(()),
            (kind, body) => bail!("instead of an acknowledgement came {kind:#x} {body:x?}"),
        }
    }
}

/// A control packet: its kind, its length, its body.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let (mut packet, mut left) = (vec![kind], body.len());
    loop {
        let more = if left > 0x7f { 0x80 } else { 0 };
        packet.push((left & 0x7f) as u8 | more);
        left >>= 7;
        if more == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn read(stream: &mut TcpStream) -> anyhow::Result<(u8, Vec<u8>)> {
    // What the listener says is short: its length is one byte.
    let mut head = [0; 2];
    stream.read_exact(&mut head).context("read an answer")?;
    ensure!(head[1] < 0x80, "a long answer: {head:x?}");
    let mut body = vec![0; usize::from(head[1])];
    stream.read_exact(&mut body).context("read an answer")?;
    Ok((head[0], body))
}

fn push_text(packet: &mut Vec<u8>, text: &str) {
    packet.extend((text.len() as u16).to_be_bytes());
    packet.extend(text.as_bytes());
}
