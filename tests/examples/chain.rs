//! How many rows a second a chain of other people's parts takes: many clients publish batches to an MQTT broker, a bridge posts them to a
//! time series database, until the database has taken all.
//!
//! ```sh
//! mosquitto -c mosquitto.conf &              # listener, allow_anonymous true, max_inflight_messages 0, max_queued_messages 0
//! victoria-metrics -httpListenAddr 127.0.0.1:8428 -storageDataPath vm &
//! cargo run --profile house -p kilter-tests --example chain -- 1883 127.0.0.1:8428 /write 50 10000 60 4 16
//! ```
//! Broker's port, database, path, clients, rows of 32 features for each, rows in a message, connections of the bridge, messages in a request.
//! Rows are the same as in `load`, written as InfluxDB lines by the clients, so that the bridge only puts them together. QoS 1 on both legs; a
//! message is acknowledged to the broker after the database has answered. (Neither database syncs before it answers; our figure does.)
#![expect(clippy::disallowed_methods, reason = "a measurement looks at the clock and waits")]

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, database, path, numbers @ ..] = arguments.as_slice() else { bail!("name broker, database and path") };
    let numbers = numbers.iter().map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    let [clients, rows, per_message, bridges, per_request] = numbers[..] else { bail!("five numbers are missing") };
    let port: u16 = port.parse()?;
    let stored = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for bridge in 0..bridges {
        let bridge = Bridge::start(port, database, path, bridge, per_request).await?;
        tasks.spawn(bridge.run(Arc::clone(&stored)));
    }
    // Made before the clock runs, as the agents' journals are.
    let messages: Vec<Vec<Vec<u8>>> = (0..clients).map(|client| messages(client, rows, per_message)).collect();
    let bytes: usize = messages.iter().flatten().map(Vec::len).sum();
    let (begun, before) = (Instant::now(), processor_secs()?);
    for (client, messages) in messages.into_iter().enumerate() {
        tasks.spawn(publish(port, client, messages));
    }
    let all = clients * rows;
    while stored.load(Ordering::Relaxed) < all {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(5)) => {}
            Some(ended) = tasks.join_next() => ended??,
        }
        ensure!(
            begun.elapsed() < Duration::from_secs(300),
            "{} of {all} rows after five minutes",
            stored.load(Ordering::Relaxed)
        );
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{clients} clients, {all} rows stored in {seconds:.2} s: {:.0} rows/s, {:.1} bytes a row, clients and bridge {:.2} of a core",
        all as f64 / seconds,
        bytes as f64 / all as f64,
        (processor_secs()? - before) / seconds
    );
    Ok(())
}

/// Whole PUBLISH packets, their ids still missing.
fn messages(client: u64, rows: u64, per_message: u64) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for first in (0..rows).step_by(usize::try_from(per_message).unwrap_or(1)) {
        let mut lines = String::new();
        for seq in first..rows.min(first + per_message) {
            line(&mut lines, client, seq);
        }
        let topic = text(&format!("rows/{client}"));
        let body = [&topic[..], &[0, 0], &[0], lines.as_bytes()].concat();
        messages.push(packet(0x32, &body));
    }
    messages
}

fn line(lines: &mut String, client: u64, seq: u64) {
    let mut random = (client << 32 | seq).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut noise = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 40) as f32 / (1 << 24) as f32
    };
    let _ = write!(lines, "features,device=load-{client},point=de ");
    for place in 1..=32 {
        let comma = if place == 1 { "" } else { "," };
        let _ = write!(lines, "{comma}f{place}={}", place as f32 * (1.0 + 0.1 * noise()));
    }
    let _ = writeln!(lines, " {}", 1_700_000_000_000_000_000 + seq * 200_000_000);
}

/// Keeps 20 messages on the way, as many as the broker takes by default.
async fn publish(port: u16, client: usize, messages: Vec<Vec<u8>>) -> anyhow::Result<()> {
    let mut mqtt = Mqtt::connect(port, &format!("load-{client}")).await?;
    let mut open = 0;
    for (number, mut message) in messages.into_iter().enumerate() {
        let at = message.len() - body_len(&message)? + 2 + usize::from(u16::from_be_bytes(topic_len(&message)?));
        let id = u16::try_from(number % 60_000 + 1)?;
        message[at..at + 2].copy_from_slice(&id.to_be_bytes());
        mqtt.stream.write_all(&message).await?;
        open += 1;
        while open >= 20 {
            let (kind, _) = mqtt.packet().await?;
            open -= u32::from(kind >> 4 == 4);
        }
    }
    while open > 0 {
        let (kind, _) = mqtt.packet().await?;
        open -= u32::from(kind >> 4 == 4);
    }
    // Its connection stays: others may still be at work.
    std::future::pending().await
}

/// From the broker to the database.
struct Bridge {
    mqtt: Mqtt,
    database: TcpStream,
    head: String,
    per_request: usize,
}

impl Bridge {
    async fn start(port: u16, database: &str, path: &str, number: u64, per_request: u64) -> anyhow::Result<Self> {
        let mut mqtt = Mqtt::connect(port, &format!("bridge-{number}")).await?;
        let body = [&[0, 1, 0][..], &text("$share/bridge/rows/#"), &[1]].concat();
        mqtt.stream.write_all(&packet(0x82, &body)).await?;
        let (kind, _) = mqtt.packet().await?;
        ensure!(kind >> 4 == 9, "the broker does not let the bridge subscribe");
        let stream = TcpStream::connect(database).await.context("connect to the database")?;
        stream.set_nodelay(true)?;
        let head = format!("POST {path} HTTP/1.1\r\nHost: {database}\r\nContent-Length: ");
        Ok(Self { mqtt, database: stream, head, per_request: usize::try_from(per_request)? })
    }

    async fn run(mut self, stored: Arc<AtomicU64>) -> anyhow::Result<()> {
        loop {
            let (mut lines, mut acks) = (Vec::new(), Vec::new());
            // One is waited for; more are taken when they are there.
            while acks.is_empty() || (acks.len() / 4 < self.per_request && self.mqtt.has_packet()) {
                let (kind, body) = self.mqtt.packet().await?;
                if kind >> 4 != 3 {
                    continue;
                }
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let rest = &body[2 + topic..];
                acks.extend([0x40, 2, rest[0], rest[1]]);
                // No properties but an empty list.
                lines.extend_from_slice(&rest[3 + usize::from(rest[2])..]);
            }
            let rows = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.database.write_all(format!("{}{}\r\n\r\n", self.head, lines.len()).as_bytes()).await?;
            self.database.write_all(&lines).await.context("post to the database")?;
            let answer = self.answer().await?;
            ensure!(
                answer.starts_with("HTTP/1.1 204") || answer.starts_with("HTTP/1.1 200"),
                "the database says {answer}"
            );
            stored.fetch_add(rows, Ordering::Relaxed);
            self.mqtt.stream.write_all(&acks).await.context("acknowledge to the broker")?;
        }
    }

    async fn answer(&mut self) -> anyhow::Result<String> {
        let mut answer = Vec::new();
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            ensure!(self.database.read_buf(&mut answer).await? > 0, "the database hung up");
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// As much of MQTT 5 as it takes.
struct Mqtt {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Mqtt {
    async fn connect(port: u16, name: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect to the broker")?;
        stream.set_nodelay(true)?;
        let mut mqtt = Self { stream, input: Vec::new() };
        // Clean start, a minute's keep-alive, no properties.
        let body = [b"\x00\x04MQTT\x05\x02\x00\x3c\x00", &text(name)[..]].concat();
        mqtt.stream.write_all(&packet(0x10, &body)).await?;
        let (kind, body) = mqtt.packet().await?;
        ensure!(kind >> 4 == 2 && body.get(1) == Some(&0), "the broker does not let {name} in");
        Ok(mqtt)
    }

    /// Is a whole one there already?
    fn has_packet(&self) -> bool {
        length(&self.input).is_some_and(|(head, body)| self.input.len() >= head + body)
    }

    async fn packet(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        loop {
            if let Some((head, body)) = length(&self.input).filter(|(head, body)| self.input.len() >= head + body) {
                let packet: Vec<u8> = self.input.drain(..head + body).collect();
                return Ok((packet[0], packet[head..].to_vec()));
            }
            ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the broker hung up");
        }
    }
}

/// Bytes before the body, and of it.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut body = 0;
    for (at, byte) in bytes.get(1..)?.iter().take(4).enumerate() {
        body |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((at + 2, body));
        }
    }
    None
}

fn body_len(packet: &[u8]) -> anyhow::Result<usize> {
    length(packet).map(|(_, body)| body).context("a packet of ours is whole")
}

fn topic_len(packet: &[u8]) -> anyhow::Result<[u8; 2]> {
    let (head, _) = length(packet).context("a packet of ours is whole")?;
    Ok([packet[head], packet[head + 1]])
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut bytes, mut rest) = (vec![first], body.len());
    loop {
        let more = u8::from(rest >= 128) << 7;
        bytes.push((rest & 0x7f) as u8 | more);
        rest >>= 7;
        if more == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// User and system time of this process; the kernel counts in hundredths of a second.
fn processor_secs() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) / 100.0)
}
