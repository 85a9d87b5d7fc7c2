//! How many QoS 1 messages a second a listener acknowledges: one process listens, another sends.
//!
//! ```text
//! rate listen PORT [COMMIT_MS]                 acknowledges at once, or in groups as a journal would
//! rate load PORT CLIENTS SECONDS PAYLOAD_BYTES keeps 64 messages of each client on the way
//! rate connect PORT CLIENTS                    opens that many connections and says how long the last CONNACK took
//! ```
//! `load` and `connect` work on any MQTT 5 broker that lets `pump-N` in, so that another one can be measured the same way.
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kilter_ingest::DeviceLink;
use kilter_ingest::listener::{AnyDevice, Hub, Limits, serve};
use kilter_types::Name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |index: usize| -> Result<u64, Box<dyn Error>> { Ok(args.get(index).ok_or("an argument is missing")?.parse()?) };
    match args.first().map(String::as_str) {
        Some("listen") => listen(u16::try_from(number(1)?)?, number(2).unwrap_or(0)).await,
        Some("load") => load(u16::try_from(number(1)?)?, number(2)?, number(3)?, usize::try_from(number(4)?)?).await,
        Some("connect") => connect_all(u16::try_from(number(1)?)?, number(2)?).await,
        _ => Err("say `listen`, `load` or `connect`".into()),
    }
}

async fn listen(port: u16, commit_ms: u64) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let tenant = Name::new("acme")?;
    let hub = Hub::new(Limits::default(), Arc::new(AnyDevice { tenant }))?;
    let (sender, mut inbound) = mpsc::channel(16_384);
    let seen = hub.clone();
    tokio::spawn(async move {
        let mut batch: Vec<kilter_ingest::Inbound> = Vec::new();
        while inbound.recv_many(&mut batch, 16_384).await > 0 {
            if commit_ms > 0 {
                tokio::time::sleep(Duration::from_millis(commit_ms)).await;
                while let Ok(message) = inbound.try_recv() {
                    batch.push(message);
                }
            }
            batch.drain(..).for_each(|message| message.ack.accept());
        }
    });
    serve(listener, None, hub, sender, async {
        let _ = tokio::signal::ctrl_c().await;
    })
    .await;
    println!("{:?}", seen.counters());
    println!("cpu_s={:.2} rss_kb={}", cpu_secs()?, rss_kb()?);
    Ok(())
}

async fn load(port: u16, clients: u64, secs: u64, payload_bytes: usize) -> Result<(), Box<dyn Error>> {
    let acked = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(send(port, client, payload_bytes, Arc::clone(&acked)));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (from, began) = (acked.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs(secs)).await;
    let count = acked.load(Ordering::Relaxed) - from;
    let rate = count as f64 / began.elapsed().as_secs_f64();
    println!("clients={clients} payload_bytes={payload_bytes} acked_per_s={rate:.0} load_cpu_s={:.2}", cpu_secs()?);
    // A client that was thrown out would make the figure worthless.
    if let Some(ended) = tasks.try_join_next() {
        ended??;
    }
    tasks.shutdown().await;
    Ok(())
}

async fn send(port: u16, client: u64, payload_bytes: usize, acked: Arc<AtomicU64>) -> std::io::Result<()> {
    let (mut stream, mut input) = welcome(port, client).await?;
    let topic = format!("kilter/v1/acme/pump-{client}/up");
    let mut body = text(&topic);
    let id_at = body.len();
    body.extend([0, 0, 0]);
    body.resize(body.len() + payload_bytes, b'x');
    let publish = packet(0x32, &body);
    let id_at = publish.len() - body.len() + id_at;
    let (mut id, mut open, mut output) = (0u16, 0u32, Vec::new());
    loop {
        output.clear();
        while open < 64 {
            id = id.checked_add(1).unwrap_or(1);
            let at = output.len() + id_at;
            output.extend(&publish);
            output[at..at + 2].copy_from_slice(&id.to_be_bytes());
            open += 1;
        }
        stream.write_all(&output).await?;
        let acks = read_packets(&mut stream, &mut input).await?;
        open -= acks;
        acked.fetch_add(acks.into(), Ordering::Relaxed);
    }
}

async fn connect_all(port: u16, clients: u64) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        tasks.spawn(async move { welcome(port, client).await.map(|open| (open, began.elapsed())) });
    }
    let mut open = Vec::new();
    let mut last = Duration::ZERO;
    while let Some(one) = tasks.join_next().await {
        let (connection, took) = one??;
        last = last.max(took);
        open.push(connection);
    }
    println!("connections={} last_connack_ms={}", open.len(), last.as_millis());
    Ok(())
}

async fn welcome(port: u16, client: u64) -> std::io::Result<(TcpStream, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let name = text(&format!("pump-{client}"));
    let connect = [b"\x00\x04MQTT\x05\x82\x00\x3c\x00", &name[..], &name[..]].concat();
    stream.write_all(&packet(0x10, &connect)).await?;
    let mut input = Vec::new();
    read_packets(&mut stream, &mut input).await?;
    Ok((stream, input))
}

/// Reads once or more, until at least one packet is whole; returns how many are, all of them short.
async fn read_packets(stream: &mut TcpStream, input: &mut Vec<u8>) -> std::io::Result<u32> {
    loop {
        if stream.read_buf(input).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let (mut at, mut count) = (0, 0);
        while let Some(len) = input.get(at + 1)
            && at + 2 + usize::from(*len) <= input.len()
        {
            at += 2 + usize::from(*len);
            count += 1;
        }
        input.drain(..at);
        if count > 0 {
            return Ok(count);
        }
    }
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let mut bytes = vec![first];
    if len >= 128 {
        bytes.push((len & 0x7f) as u8 | 0x80);
        bytes.push((len >> 7) as u8);
    } else {
        bytes.push(len as u8);
    }
    bytes.extend(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

fn cpu_secs() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().ok_or("no stat")?;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|word| word.parse().unwrap_or(0)).sum();
    Ok(ticks as f64 / 100.0)
}

fn rss_kb() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
}
