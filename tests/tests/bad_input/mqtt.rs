//! Bad payloads and strangers at the MQTT listener.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, ensure};
use kilter_tests::{House, installed, request};
use kilter_types::{DeviceId, Epoch, Name};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{Batch, Hello, Up};

use crate::kept::Kept;
use crate::stage::{self, PATIENCE, goes_on, nothing_is_lost, says};

#[test]
fn bad_payloads_are_quarantined_strangers_are_refused_and_the_fleet_goes_on() {
    if installed("mosquitto_pub").is_none() {
        return;
    }
    stage::journey(4.0, |house| {
        stage::open(house)?;
        goes_on(house, 5)?;
        let rogue = Client::enrolled(house, "rogue")?;
        let reasons = payloads()?;
        for (what, payload, _) in &reasons {
            let sent = rogue.publish(house, "kilter/v1/default/rogue/up", payload)?;
            // Quarantined is acknowledged: a payload that can't be read must not be sent for ever.
            ensure!(sent.status.success(), "{what} was not acknowledged: {}", stderr(&sent));
        }
        let count = reasons.len() as u64;
        house.wait_for("the quarantine", PATIENCE, |house| (quarantined(house)? >= count).then_some(()))?;
        let kept = Kept::read(house)?;
        for (what, _, reason) in &reasons {
            let found = kept.quarantined.iter().any(|(device, why)| device == "rogue" && why == reason);
            ensure!(found, "{what} is not in quarantine as {reason:?}: {:?}", kept.quarantined);
        }
        strangers(house, &rogue)?;
        ensure!(quarantined(house) == Some(count), "a stranger's payload came in: {:?}", quarantined(house));
        goes_on(house, 5)?;
        nothing_is_lost(house)
    });
}

/// Those who may not even speak.
fn strangers(house: &House, rogue: &Client) -> anyhow::Result<()> {
    let hello = hello("edge-1")?;
    let unknown = Client { id: "nobody".to_owned(), password: "guess".to_owned(), dir: house.dir.clone() };
    let sent = unknown.publish(house, "kilter/v1/default/nobody/up", &hello)?;
    ensure!(!sent.status.success(), "an unknown device got in");
    says(&stderr(&sent).to_lowercase(), &["bad user name or password"])?;
    let guess = Client { id: "edge-1".to_owned(), password: "guess".to_owned(), dir: house.dir.clone() };
    let sent = guess.publish(house, "kilter/v1/default/edge-1/up", &hello)?;
    ensure!(!sent.status.success(), "a guessed credential got in");
    says(&stderr(&sent).to_lowercase(), &["bad user name or password"])?;
    for topic in ["kilter/v1/default/edge-1/up", "kilter/v1/default/rogue/down", "somewhere/else"] {
        let sent = rogue.publish(house, topic, &hello)?;
        says(&stderr(&sent).to_lowercase(), &["not authorized"]).with_context(|| format!("publish to {topic}"))?;
    }
    Ok(())
}

/// What it is, its bytes, and the word under which it goes into quarantine.
fn payloads() -> anyhow::Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let good = hello("rogue")?;
    let mut newer = good[..good.len() - 4].to_vec();
    newer[1] = frame::VERSION + 1;
    let crc = crc32fast::hash(&newer).to_le_bytes();
    newer.extend(crc);
    let mut damaged = good.clone();
    damaged[12] ^= 0x40;
    let mut noise: u64 = 0x5eed;
    let random = (0..700)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 56) as u8
        })
        .collect();
    let garbage = Batch { epoch: Epoch(9), count: 3, records: &[0xAA; 90] };
    Ok(vec![
        ("a truncated frame", good[..good.len() - 5].to_vec(), "truncated"),
        ("half a header", good[..5].to_vec(), "truncated"),
        ("random bytes", random, "magic"),
        ("a damaged frame", damaged, "crc"),
        ("a frame of a newer version", newer, "version"),
        ("the hello of a foreign device", hello("edge-1")?, "foreign_device"),
        ("a batch of garbage", encode(&Up::Batch(garbage))?, "record_truncated"),
    ])
}

fn hello(device: &str) -> anyhow::Result<Vec<u8>> {
    encode(&Up::Hello(Hello {
        device: DeviceId::new(device).context("a good name")?,
        wire_version: u16::from(frame::VERSION),
        software: Name::new("0.0.0").context("a good name")?,
        epoch: Epoch(1),
        held: Default::default(),
    }))
}

fn encode(up: &Up<'_>) -> anyhow::Result<Vec<u8>> {
    let mut room = vec![0; 4096];
    let frame = frame::encode(Kind::Up, up, &mut room).map_err(|error| anyhow::anyhow!("encode: {error}"))?;
    Ok(frame.to_vec())
}

/// How many payloads and records the aggregator has in quarantine.
fn quarantined(house: &House) -> Option<u64> {
    let (_, text) = request(house.ports.http, "GET", "/metrics", "").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("kilter_quarantined_total "))?;
    line.trim().parse().ok()
}

/// Another program with a credential.
struct Client {
    id: String,
    password: String,
    dir: PathBuf,
}

impl Client {
    fn enrolled(house: &mut House, id: &str) -> anyhow::Result<Self> {
        let path = house.dir.join(format!("{id}.toml"));
        house.enrol(id, &path)?;
        let password = credential(&path)?;
        // The listener reads the devices once a second.
        let id = id.to_owned();
        house.wait_for("the enrolled device", PATIENCE, |house| {
            let fleet = house.fleet().ok()?;
            fleet["enrolled"].as_array()?.iter().any(|device| device.as_str() == Some(&id)).then_some(())
        })?;
        Ok(Self { id, password, dir: house.dir.clone() })
    }

    fn publish(&self, house: &House, topic: &str, payload: &[u8]) -> anyhow::Result<Output> {
        let file = self.dir.join("payload");
        std::fs::write(&file, payload).context("write a payload")?;
        let port = house.ports.mqtt.port().to_string();
        let arguments = ["-h", "127.0.0.1", "-p", &port, "-V", "5", "-q", "1", "-i", &self.id, "-u", &self.id];
        let mut command = Command::new("timeout");
        command.args(["20", "mosquitto_pub"]).args(arguments).args(["-P", &self.password, "-t", topic, "-f"]);
        command.arg(file).output().context("start mosquitto_pub")
    }
}

fn credential(bundle: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(bundle).context("read a bundle")?;
    let bundle: toml::Table = toml::from_str(&text).context("parse a bundle")?;
    Ok(bundle["credential"].as_str().context("find the credential")?.to_owned())
}

fn stderr(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
