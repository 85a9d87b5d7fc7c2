//! Conversations with devices: what each message gets as its answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use kilter_fold::{Entry, MAX_EPOCHS};
use kilter_ingest::{Admission, Admit, DeviceLink, Exchange, Inbound, Intake, Principal, Refuse};
use kilter_types::{Class, DeviceId, Digest, Epoch, Micros, Name, Payload};
use kilter_wire::frame::{self, Kind};
use kilter_wire::{
    Ack, Batch, Chunk, ClassAck, Command, CommandResult, Down, Fetch, TimeReply, Welcome, decode_record,
};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::catalogue::Catalogue;
use crate::clock;
use crate::committed::CommittedMarks;
use crate::fleet::FleetHandle;
use crate::refetch::REFETCH_SINCE;
use crate::store::{NotStored, Store};

/// Everything that an answer needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    store: Store,
    link: Arc<dyn DeviceLink>,
    fleet: FleetHandle,
    models: PathBuf,
    admission: Arc<Mutex<Admission>>,
    committed: Arc<RwLock<CommittedMarks>>,
    /// Which epochs each device spoke of since we started.
    epochs: Arc<Mutex<BTreeMap<Principal, Vec<Epoch>>>>,
    catalogue: Catalogue,
    /// The door was narrow when the devices were told last.
    was_near_cap: Arc<AtomicBool>,
    /// The wire version that each device said it speaks.
    versions: Arc<Mutex<BTreeMap<Principal, u16>>>,
    /// Commands that a person asked for and whose end nobody has said.
    asked: Arc<Mutex<BTreeMap<u64, DeviceId>>>,
}

impl Sessions {
    pub(crate) fn new(
        store: Store,
        link: Arc<dyn DeviceLink>,
        fleet: FleetHandle,
        models: PathBuf,
        admission: Admission,
        committed: CommittedMarks,
        catalogue: Catalogue,
    ) -> Self {
        Self {
            store,
            link,
            fleet,
            models,
            admission: Arc::new(Mutex::new(admission)),
            committed: Arc::new(RwLock::new(committed)),
            epochs: Arc::default(),
            catalogue,
            was_near_cap: Arc::default(),
            versions: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Answers messages until the channel ends.
    pub(crate) async fn run(self, mut inbound: mpsc::Receiver<Inbound>) {
        while let Some(message) = inbound.recv().await {
            self.handle(message).await;
        }
    }

    /// The lab has committed more: tells the devices of which something moved, and all when the door has opened again.
    pub(crate) fn committed(&self, marks: CommittedMarks) {
        let before = {
            let mut committed = self.committed.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *committed, marks.clone())
        };
        let near_cap = self.store.near_cap();
        let opened = self.was_near_cap.swap(near_cap, Ordering::Relaxed) && !near_cap;
        let known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (device, epochs) in known {
            let moved = |epoch: &&Epoch| opened || marks.moved(&before, &device.device, **epoch);
            epochs.iter().filter(moved).for_each(|epoch| self.send_ack(&device, *epoch));
        }
    }

    /// How far the lab is in the present journal.
    pub(crate) fn lab_offset(&self) -> u64 {
        let committed = self.committed.read().unwrap_or_else(PoisonError::into_inner);
        committed.offset_in(self.store.journal_id())
    }

    /// Devices that have spoken since we started.
    pub(crate) fn principals(&self) -> BTreeMap<DeviceId, Principal> {
        let known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        known.keys().map(|principal| (principal.device.clone(), principal.clone())).collect()
    }

    /// Devices that have spoken since we started and know this version's messages.
    pub(crate) fn who_reads(&self, version: u16) -> BTreeMap<DeviceId, Principal> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let reads = versions.iter().filter(|(_, spoken)| **spoken >= version);
        reads.map(|(principal, _)| (principal.device.clone(), principal.clone())).collect()
    }

    /// Whether a device can be asked for records again, in words.
    pub(crate) fn can_be_asked(&self, device: &str) -> &'static str {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        match versions.iter().find(|(principal, _)| principal.device.as_str() == device) {
            Some((_, spoken)) if *spoken >= REFETCH_SINCE => "is asked",
            Some(_) => "is too old to be asked; update it",
            None => "is away; it is asked when it is back",
        }
    }

    /// What has been let in so far.
    pub(crate) fn admitted(&self) -> kilter_ingest::AdmitCounters {
        self.admission().counters().clone()
    }

    /// Sends one message down; a device that is away gets it later or asks again.
    pub(crate) fn send(&self, device: &Principal, down: &Down<'_>) {
        let mut room = vec![0; DOWN_BYTES];
        match frame::encode(Kind::Down, down, &mut room) {
            Ok(bytes) => {
                if let Err(error) = self.link.send(device, Bytes::copy_from_slice(bytes)) {
                    debug!(device = %device, %error, "message not sent");
                }
            }
            Err(error) => warn!(device = %device, %error, "message too large to send"),
        }
    }

    /// Sends a command and remembers it, so that its end is audited.
    pub(crate) fn command(&self, device: &Principal, command: Command) {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            asked.insert(command.id, device.device.clone());
            while asked.len() > MOST_ASKED {
                asked.pop_first();
            }
        }
        self.send(device, &Down::Command(command));
    }

    /// The end of a command that somebody asked of this device; every other answer is only told.
    async fn ended(&self, device: &Principal, result: CommandResult, now: Micros) {
        let CommandResult { id, outcome } = result;
        info!(device = %device, command = id, ?outcome, "command ended");
        let known = {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            let known = asked.get(&id) == Some(&device.device);
            known && asked.remove(&id).is_some()
        };
        if known
            && let Err(error) = self
                .catalogue
                .audit(device.device.as_str(), "command ended", &format!("command {id} {outcome:?}"), now)
                .await
        {
            warn!(command = id, %error, "the end of a command is not audited");
        }
    }

    async fn handle(&self, message: Inbound) {
        let Inbound { device, topic, payload, ack } = message;
        let received = clock::now();
        if !self.catalogue.has(&device) {
            // Behind a broker a topic is all that names a device: what is not enrolled, or for another tenant, is nobody's.
            debug!(device = %device, "message of a device that is not enrolled");
            return ack.refuse(Refuse::NotAuthorized);
        }
        let admitted = {
            let mut admission = self.admission();
            admission.set_intake(if self.store.near_cap() { Intake::AlarmsOnly } else { Intake::Open });
            admission.admit(&device, &payload, received)
        };
        match admitted {
            Admit::Hello(hello) => {
                info!(device = %device, epoch = hello.epoch.0, software = %hello.software, "device said hello");
                let epochs: Vec<_> =
                    hello.held.iter().copied().filter(|held| *held != hello.epoch).chain([hello.epoch]).collect();
                self.remember(&device, &epochs);
                self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(device.clone(), hello.wire_version);
                self.link.heard(&device, &topic);
                ack.accept();
                if hello.wire_version >= WELCOME_SINCE {
                    let (wire_version, software) = (u16::from(kilter_wire::VERSION), software());
                    self.send(&device, &Down::Welcome(Welcome { wire_version, software }));
                }
                epochs.iter().for_each(|epoch| self.send_ack(&device, *epoch));
                self.send_plan(&device);
            }
            Admit::Batch(batch) => {
                self.remember(&device, &[batch.epoch]);
                let (epoch, bytes, over_quota) = (batch.epoch, batch.records.len(), batch.over_quota);
                self.hear(&device, epoch, &batch.records);
                let records = batch.records.into_owned();
                let from = device.device.clone();
                let entry = match over_quota {
                    false => Entry::Batch { device: from, received, epoch, records },
                    true => Entry::OverQuota { device: from, received, epoch, records },
                };
                let this = self.clone();
                self.keep(entry, move |stored| {
                    this.admission().settle(&device, bytes);
                    match stored {
                        Ok(()) => ack.accept(),
                        Err(error) => {
                            warn!(device = %device, %error, "batch refused");
                            ack.refuse(Refuse::NotStored);
                        }
                    }
                    this.send_ack(&device, epoch);
                })
                .await;
            }
            Admit::TimeRequest { request, exchange } => {
                ack.accept();
                let reply = TimeReply { id: request.id, sent: request.sent, received, replied: clock::now() };
                self.send(&device, &Down::TimeReply(reply));
                if let Some(Exchange { epoch, received, monotonic, round_trip_us }) = exchange {
                    let asked_by = device.device.clone();
                    let entry = Entry::Exchange { device: asked_by, epoch, received, monotonic, round_trip_us };
                    self.keep(entry, move |stored| {
                        if let Err(error) = stored {
                            debug!(device = %device, %error, "time exchange not kept");
                        }
                    })
                    .await;
                }
            }
            Admit::Fetch(fetch) => {
                ack.accept();
                self.send_chunk(&device, fetch);
            }
            Admit::CommandResult(result) => {
                ack.accept();
                self.ended(&device, result, received).await;
            }
            Admit::Quarantine { reason, bytes } => {
                warn!(device = %device, reason, "payload quarantined");
                let kept = bytes.len().min(Entry::MAX_QUARANTINED_BYTES);
                let entry = Entry::Quarantined {
                    device: device.device.clone(),
                    received,
                    reason: reason.into(),
                    bytes: bytes[..kept].to_vec(),
                };
                self.keep(entry, |stored| match stored {
                    Ok(()) => ack.accept(),
                    Err(_) => ack.refuse(Refuse::NotStored),
                })
                .await;
            }
            Admit::Refuse(reason) => {
                ack.refuse(reason);
                // The device learns how much it may send before it tries again.
                let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned();
                epochs.into_iter().flatten().for_each(|epoch| self.send_ack(&device, epoch));
            }
        }
    }

    /// Entries become durable in the order in which they came; no message waits for another one's sync, and answers may overtake each other.
    async fn keep(&self, entry: Entry, told: impl FnOnce(Result<(), NotStored>) + Send + 'static) {
        let pending = self.store.submit(entry).await;
        tokio::spawn(async move {
            told(match pending {
                Ok(pending) => pending.stored().await,
                Err(error) => Err(error),
            });
        });
    }

    /// Sends what the device shall run, if anything was decided.
    pub(crate) fn send_plan(&self, device: &Principal) {
        self.fleet.with_plan(&device.device, |plan| self.send(device, &Down::Plan(plan)));
    }

    /// Reports say which generation the node follows; one that comes again, perhaps from long ago, says nothing.
    fn hear(&self, device: &Principal, epoch: Epoch, records: &[u8]) {
        let batch = Batch { epoch, count: 0, records };
        let reports = batch.iter().map_while(Result::ok).filter(|record| record.class == Class::Report as u8);
        let mut reports = reports.peekable();
        if reports.peek().is_none() {
            return;
        }
        let acks = self.store.state().fold.acks(&device.device, epoch);
        let known_to = acks.iter().find(|ack| ack.class == Class::Report).map_or(0, |ack| ack.accepted_to);
        let reports = reports.filter(|record| record.seq >= known_to);
        for record in reports.filter_map(|record| decode_record(record.bytes).ok()) {
            if let Payload::Report(report) = record.payload {
                self.fleet.heard(&device.device, report.generation);
            }
        }
    }

    fn send_ack(&self, device: &Principal, epoch: Epoch) {
        let mut classes: BTreeMap<Class, ClassAck> =
            self.store.state().fold.acks(&device.device, epoch).into_iter().map(|ack| (ack.class, ack)).collect();
        {
            let committed = self.committed.read().unwrap_or_else(PoisonError::into_inner);
            for ack in classes.values_mut() {
                ack.committed_to = committed.to(&device.device, epoch, ack.class);
            }
            // An epoch that this journal has never seen may still be in the lake.
            for (class, to) in committed.classes(&device.device, epoch) {
                classes.entry(class).or_insert(ClassAck {
                    class,
                    accepted_to: to,
                    beyond: heapless::Vec::new(),
                    committed_to: to,
                });
            }
        }
        let ack = Ack {
            journal_id: self.store.journal_id(),
            epoch,
            classes: classes.into_values().collect(),
            credit_bytes: if self.store.failed() { 0 } else { self.admission().credit_bytes(device) },
        };
        self.send(device, &Down::Ack(ack));
    }

    fn send_chunk(&self, device: &Principal, fetch: Fetch) {
        let whole = artifact(&self.models, fetch.digest);
        let (total, part) = match &whole {
            Some(bytes) => {
                let start = (fetch.offset as usize).min(bytes.len());
                let len = (fetch.len as usize).min(CHUNK_BYTES).min(bytes.len() - start);
                (u32::try_from(bytes.len()).unwrap_or(0), &bytes[start..start + len])
            }
            None => (0, &[][..]),
        };
        self.send(device, &Down::Chunk(Chunk { digest: fetch.digest, offset: fetch.offset, total, bytes: part }));
    }

    fn remember(&self, device: &Principal, epochs: &[Epoch]) {
        let mut known = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        see(known.entry(device.clone()).or_default(), epochs);
    }

    fn admission(&self) -> std::sync::MutexGuard<'_, Admission> {
        self.admission.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes epochs in the order of last sight, as many as the fold remembers: a node that starts again and again does not push out the
/// epoch of its gateway.
fn see(known: &mut Vec<Epoch>, epochs: &[Epoch]) {
    for epoch in epochs {
        match known.iter().rposition(|known| known == epoch) {
            Some(at) => known[at..].rotate_left(1),
            None => known.push(*epoch),
        }
    }
    known.drain(..known.len().saturating_sub(MAX_EPOCHS));
}

/// An artifact of the registry.
pub(crate) fn artifact(models: &std::path::Path, digest: Digest) -> Option<Vec<u8>> {
    std::fs::read(models.join(format!("{digest}.kltm"))).ok()
}

fn software() -> Name {
    Name::new(env!("CARGO_PKG_VERSION")).expect("a version is a good name")
}

/// People who ask are few.
const MOST_ASKED: usize = 256;
/// The wire version whose nodes know a welcome.
const WELCOME_SINCE: u16 = 2;

/// The largest part of an artifact in one message.
const CHUNK_BYTES: usize = 64 * 1024;

/// Room for one message down.
const DOWN_BYTES: usize = 96 * 1024;

#[cfg(test)]
mod tests;
