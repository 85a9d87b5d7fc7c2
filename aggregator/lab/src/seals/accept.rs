//! A person says that a device may seal with another key: it was set up anew, or its disk was replaced.

use anyhow::{Context, bail};
use kilter_lake::{Audit, Ranges, Stream, Streams};
use kilter_types::Digest;
use kilter_wire::seal::Fingerprint;
use serde::Serialize;
use serde_json::{Value, json};
use tracing::info;

use super::collect::{Asked, collect};
use crate::commit::{Committer, lock};

/// A line of the audit: a key was accepted.
#[derive(Serialize)]
struct Accepted<'a> {
    device: &'a str,
    accepted_key: &'a str,
    audit: &'a Audit,
}

impl Committer {
    /// Accepts the key with this fingerprint, with which the device has sealed already.
    pub(crate) async fn accept(&mut self, device: &str, key: &str, audit: &Audit) -> anyhow::Result<Value> {
        if kilter_types::DeviceId::new(device).is_err() {
            bail!("failed to accept a key: '{device}' is no name of a device");
        }
        let views = lock(&self.state).views();
        let any = Stream { device: device.to_owned(), epoch: 0, class: String::new() };
        let asked = Asked::Of(Streams::from([(any, Ranges::default())]));
        let found = tokio::task::spawn_blocking(move || collect(&views, &asked)).await??;
        let signed = found.into_iter().filter(|found| found.signed).map(|found| found.seal.key);
        let new = signed.into_iter().find(|seen| Fingerprint::of(seen).to_string() == key);
        let new = new.with_context(|| format!("failed to accept a key: {device} has sealed nothing with {key}"))?;
        let mut keys = lock(&self.state).keys().clone();
        let of_device = keys.entry(device.to_owned()).or_default();
        let new = Digest(new).to_string();
        if !of_device.contains(&new) {
            of_device.push(new);
        }
        let of_device = of_device.clone();
        self.files.audit(&Accepted { device, accepted_key: key, audit })?;
        self.files.keep_keys(&keys)?;
        lock(&self.state).keep_keys(keys);
        info!(device, key, who = audit.who, why = audit.why, "another key is accepted");
        Ok(json!({ "device": device, "keys": of_device }))
    }
}
