//! Models on their way: fetched in parts, kept, and then installed here or offered to a node.

use std::time::Duration;

use kilter_types::{Clock as _, Digest, Manifest};
use kilter_uplink::{Fetcher, Progress};
use kilter_wire::{Chunk, Up};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Control;
use crate::machine::{Install, Order};
use crate::models::Wanted;

impl Control {
    /// The next step: fetch what is missing, install what is here.
    pub(super) async fn advance(&mut self) {
        let now = self.clock.monotonic();
        let mut fetching = self.work.fetcher.is_some();
        for wanted in std::mem::take(&mut self.work.wanted) {
            let digest = wanted.manifest.digest;
            match self.store.artifact(digest) {
                Some(bytes) if self.is_node(wanted.machine) => self.offer(wanted, bytes),
                Some(bytes) => self.install(&wanted, bytes).await,
                None => {
                    if !fetching && now.0 >= self.work.paused_until_us {
                        let have = self.store.part_bytes(digest);
                        self.work.fetcher =
                            Some(Fetcher::new(digest, wanted.manifest.size_bytes, have, self.fetch_bytes));
                        fetching = true;
                    }
                    self.work.wanted.push(wanted);
                }
            }
        }
        if let Some(fetcher) = &mut self.work.fetcher {
            if fetcher.is_complete() {
                self.finish_fetch();
            } else if let Some(fetch) = fetcher.poll(now) {
                self.send(&Up::Fetch(fetch));
            }
        }
    }

    pub(super) fn take_chunk(&mut self, chunk: &Chunk<'_>) {
        let Some(fetcher) = &mut self.work.fetcher else { return };
        let digest = fetcher.digest();
        let kept = match fetcher.handle_chunk(chunk) {
            Progress::Ignored => return,
            Progress::Part(bytes) => self.store.append(digest, bytes).map(|()| false),
            Progress::Last(bytes) => self.store.append(digest, bytes).map(|()| true),
            Progress::Unavailable => {
                warn!(model = %digest, "the aggregator does not have this model");
                return self.pause_fetch();
            }
        };
        match kept {
            Ok(true) => self.finish_fetch(),
            Ok(false) => {}
            Err(error) => {
                error!(model = %digest, %error, "model download not written");
                self.pause_fetch();
            }
        }
    }

    fn finish_fetch(&mut self) {
        let Some(fetcher) = self.work.fetcher.take() else { return };
        let digest = fetcher.digest();
        match self.store.finish(digest) {
            Ok(true) => info!(model = %digest, "model fetched"),
            Ok(false) => {
                error!(model = %digest, "model refused: what came has another digest than was signed");
                self.pause_fetch();
                if !self.work.damaged.contains(&digest) {
                    self.work.damaged.push(digest);
                    let machines: Vec<usize> = self
                        .work
                        .wanted
                        .iter()
                        .filter(|wanted| wanted.manifest.digest == digest)
                        .map(|wanted| wanted.machine)
                        .collect();
                    machines.into_iter().for_each(|machine| self.refuse(machine, digest, "digest"));
                }
            }
            Err(error) => {
                error!(model = %digest, %error, "model download not written");
                self.pause_fetch();
            }
        }
    }

    fn pause_fetch(&mut self) {
        self.work.fetcher = None;
        self.work.paused_until_us = self.clock.monotonic().0 + PAUSE_US;
    }

    /// Into the slot that does not run, then onto the machine between two windows; only what runs is confirmed.
    async fn install(&self, wanted: &Wanted, bytes: Vec<u8>) {
        let (manifest, asset) = (&wanted.manifest, &self.machines[wanted.machine].asset);
        if let Err(error) = self.store.stage(asset, manifest, &bytes) {
            return error!(%asset, model = %manifest.digest, %error, "model not written");
        }
        let (digest, generation, expires) = (manifest.digest, manifest.generation, manifest.expires);
        let own = manifest.key.asset.is_some();
        let signed = self.store.signed(digest, &self.key);
        let install = Install { role: manifest.role, bytes, digest, generation, expires, own, signed };
        let (reply, answer) = oneshot::channel();
        if !self.order(wanted.machine, Order::Install(install, reply)) {
            return;
        }
        match tokio::time::timeout(INSTALL_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) => {
                if let Err(error) = self.store.confirm(asset, manifest) {
                    error!(%asset, model = %digest, %error, "model runs, but a restart will not know it");
                }
            }
            // The machine has told the refusal itself.
            Ok(Ok(Err(_))) => {}
            Ok(Err(_)) | Err(_) => warn!(%asset, model = %digest, "the machine did not take the model in time"),
        }
        self.report(wanted.machine);
    }

    /// A node takes its time: it fetches, verifies and tries the model, and its word ends the offer.
    fn offer(&mut self, wanted: Wanted, bytes: Vec<u8>) {
        let (manifest, asset) = (&wanted.manifest, &self.machines[wanted.machine].asset);
        if let Err(error) = self.store.stage(asset, manifest, &bytes) {
            return error!(%asset, model = %manifest.digest, %error, "model not written");
        }
        let Manifest { digest, generation, expires, role, .. } = *manifest;
        let own = manifest.key.asset.is_some();
        let signed = self.store.signed(digest, &self.key);
        let install = Install { role, bytes, digest, generation, expires, own, signed };
        // Its answer is no news: what counts comes as a word later.
        let (reply, _) = oneshot::channel();
        if self.order(wanted.machine, Order::Install(install, reply)) {
            self.work.offered.push(wanted);
        } else {
            self.work.wanted.push(wanted);
        }
    }

    /// A node runs the model and has proven it: the offer ends, and a restart knows it.
    pub(super) fn confirm(&mut self, machine: usize, digest: Digest) {
        let same = |wanted: &Wanted| wanted.machine == machine && wanted.manifest.digest == digest;
        let Some(at) = self.work.offered.iter().position(same) else { return };
        let Wanted { manifest, .. } = self.work.offered.swap_remove(at);
        let asset = &self.machines[machine].asset;
        match self.store.confirm(asset, &manifest) {
            Ok(()) => info!(%asset, model = %digest, generation = manifest.generation.0, "the node runs the model"),
            Err(error) => error!(%asset, model = %digest, %error, "model runs, but a restart will not know it"),
        }
        self.report(machine);
    }
}

const PAUSE_US: u64 = 15_000_000;
const INSTALL_TIMEOUT: Duration = Duration::from_secs(30);
