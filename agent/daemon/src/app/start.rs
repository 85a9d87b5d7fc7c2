//! One machine of the configuration: what it is built from, and its thread.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use anyhow::Context as _;
use kilter_monitor::ChannelKind;
use kilter_source::{Door, FileSource, MqttSource, SerialLine, SocketSource, Source, Stop};
use kilter_types::{Alarm, Event, Name, Payload, Role};
use tokio::sync::mpsc;
use tracing::warn;

use super::thread;
use crate::checkpoint::Checkpoint;
use crate::clip::Clips;
use crate::clock::SystemClock;
use crate::config::{self, Config, SourceConfig};
use crate::file;
use crate::machine::{Install, Machine, Order, Outlet, Parts};
use crate::models::Store;
use crate::node::{self, Carrier, Word};
use crate::post::Post;
use crate::recorder::Message;

/// What every machine is built with.
pub(super) struct Shared<'a> {
    pub(super) config: &'a Config,
    pub(super) data: &'a Path,
    pub(super) store: &'a Store,
    pub(super) outlet: &'a Outlet,
    pub(super) clock: &'a SystemClock,
    pub(super) stop: &'a Stop,
    /// The fleet's model-signing key; `None` for an agent that works alone.
    pub(super) key: Option<[u8; 32]>,
    pub(super) words: &'a mpsc::Sender<Word>,
}

/// Builds one machine and starts its thread; `alarms` is what the journal says last of each of its alarms.
pub(super) fn start(
    place: usize,
    machine: &config::Machine,
    alarms: Vec<(Name, Alarm)>,
    shared: &Shared<'_>,
) -> anyhow::Result<(SyncSender<Order>, JoinHandle<()>, Option<Post>)> {
    let Shared { config, data, store, outlet, clock, stop, .. } = *shared;
    let asset = machine.asset.clone();
    let (order, orders) = sync_channel(ORDERS);
    let path = Checkpoint::path(data, &asset);
    let checkpoint = Checkpoint::load(&path).with_context(|| format!("read {}", path.display()))?;
    if let SourceConfig::Node { address, baud, settings } = &machine.source {
        let confirmed = store.candidates(&asset).into_iter().find(|install| install.role == Role::Leader);
        let signed = |install: Install| {
            let signed = store.signed(install.digest, &shared.key?)?;
            Some(Install { signed: Some(signed), ..install })
        };
        let parts = node::Parts {
            place,
            asset: asset.clone(),
            line: SerialLine::new(address, *baud, stop.clone()),
            checkpoint,
            alarms,
            orders,
            words: shared.words.clone(),
            outlet: outlet.clone(),
            clock: clock.clone(),
            checkpoint_us: (config.checkpoint_secs * 1e6) as u64,
            settings: settings.unwrap_or_default().wire(),
            offered: confirmed.and_then(signed),
            shelf: node::Shelf::of(data, &machine.asset),
            key: shared.key,
        };
        let (carrier, stop) = (Carrier::new(parts), stop.clone());
        return Ok((order, thread(asset.as_str(), move || carrier.run(&stop))?, None));
    }
    let models = store.candidates(&asset);
    let monitor = machine.monitor().map_err(anyhow::Error::msg)?;
    for doubt in machine.doubts() {
        warn!(%asset, doubt, "declared, and not to be believed throughout");
    }
    let sampled = monitor.channels.iter().map(|channel| match channel.kind {
        ChannelKind::Vibration { rate } => Some((channel.name.clone(), channel.unit, rate)),
        ChannelKind::Reading { .. }
        | ChannelKind::Cycle { .. }
        | ChannelKind::Speed
        | ChannelKind::Tacho { .. }
        | ChannelKind::Load
        | ChannelKind::Ambient => None,
    });
    let sampled = sampled.collect();
    let parts = Parts {
        place,
        asset: asset.clone(),
        config: monitor,
        checkpoint,
        alarms,
        orders,
        outlet: outlet.clone(),
        clock: clock.clone(),
        checkpoint_us: (config.checkpoint_secs * 1e6) as u64,
        clips: Clips::new(config.clip.clone(), sampled, data.join("clips").join(asset.as_str())),
    };
    let mut post = None;
    let source = |positions: &[u64]| -> anyhow::Result<Box<dyn Source>> {
        let (specs, positions) = (machine.specs(), positions.to_vec());
        Ok(match &machine.source {
            SourceConfig::Socket { address } => {
                Box::new(SocketSource::new(address, asset.clone(), specs, positions, stop.clone()))
            }
            SourceConfig::Mqtt { .. } => {
                let read = |path: &Path| file::secret(path).with_context(|| format!("read {}", path.display()));
                let broker = machine.source.broker(&asset, read)?.context("a broker")?;
                Box::new(MqttSource::start(broker, asset.clone(), specs, positions, stop.clone())?)
            }
            SourceConfig::Http { token_file } => {
                let (door, source) = Door::open(asset.clone(), specs, positions, stop.clone());
                post = Some(Post::new(door, token_file)?);
                Box::new(source)
            }
            SourceConfig::File { .. } | SourceConfig::Node { .. } => {
                let file = machine.source.file().context("a file source")?;
                Box::new(FileSource::open(&file, &asset, &specs, positions, stop.clone())?)
            }
        })
    };
    let (built, running) =
        Machine::new(parts, models.clone(), source).with_context(|| format!("start machine {asset}"))?;
    for install in &running {
        if store.fell_back(&asset, install).with_context(|| format!("save the models of {asset}"))? {
            warn!(%asset, digest = %install.digest, role = ?install.role, "the model before runs again");
            let failed = models.iter().find(|model| model.role == install.role && model.digest != install.digest);
            let model = failed.map_or(kilter_types::Digest::NONE, |model| model.digest);
            let reason = Name::new("reverted").context("a good name")?;
            let payload = Payload::Event(Event::ModelRefused { model, reason });
            let _ = outlet.recorder.try_send(Message::About { machine: place, payload });
        }
    }
    let stop = stop.clone();
    Ok((order, thread(asset.as_str(), move || built.run(&stop))?, post))
}

const ORDERS: usize = 16;
