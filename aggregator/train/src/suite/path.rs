//! The production path in this process: a signed artifact into the monitor, a recording through it, every word kept.

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, MachineConfig, Memory, Monitor, Output, What};
use kilter_recording::{Item, Recording};
use kilter_types::{
    ChannelId, Digest, Event, Generation, GroupKind, KernelId, Manifest, Micros, ModelKey, Name, Role, Rul, Unit,
};
use kilter_wire::sign::{SignedManifest, public_key, sign_manifest};

use super::SuiteError;

/// An artifact with its signature checked.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) artifact: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) kernel: KernelId,
}

impl Signed {
    /// Signs with a key of this process and checks it as a node does, before anything is scored.
    pub(crate) fn new(artifact: Vec<u8>, task: &str) -> Result<Self, SuiteError> {
        let parsed = kilter_infer::Artifact::parse(&artifact).map_err(failed)?;
        let digest = Digest::of(&artifact);
        let name = |text: &str| Name::new(text).map_err(failed);
        let manifest = Manifest {
            digest,
            size_bytes: u32::try_from(artifact.len()).map_err(failed)?,
            name: name(task)?,
            version: 1,
            key: ModelKey { task: name(task)?, asset_class: name("recording")?, asset: None },
            role: Role::Leader,
            features: parsed.features().collect(),
            minimum_agent: 1,
            expires: Micros(i64::MAX),
            generation: Generation(1),
        };
        // Who signs an evaluation signs nothing else: the key is made from what it signs.
        let secret = Digest::of(&digest.0).0;
        let mut room = vec![0; 4096];
        let (bytes, signature) = sign_manifest(&manifest, &secret, &mut room).map_err(failed)?;
        let signed = SignedManifest { manifest: bytes, signature: &signature };
        let checked = signed.verify(&public_key(&secret)).map_err(failed)?;
        if checked.digest != digest {
            return Err(SuiteError::Path("the signature is of another artifact".to_owned()));
        }
        Ok(Self { digest, kernel: parsed.kernel(), artifact })
    }
}

/// One word on one window.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// How long is left, by that model.
    Left {
        index: u64,
        model: Digest,
        rul: Rul,
    },
    Alarm {
        index: u64,
        alarm: kilter_types::Alarm,
    },
    /// The leader's input has left what it was trained on.
    Drift,
}

/// Everything that the monitor says of a recording.
pub(crate) fn run(
    config: MachineConfig,
    model: Option<&Signed>,
    recording: &Recording,
) -> Result<Vec<Said>, SuiteError> {
    let mut monitor = Box::new(Monitor::<Heap>::new(config, &mut Heap).map_err(failed)?);
    let mut said = Vec::new();
    if let Some(model) = model {
        monitor
            .install(Role::Leader, model.artifact.clone(), model.digest, Generation(1), &mut |_| {})
            .map_err(failed)?;
    }
    let mut sink = |output: Output<'_>| match output.what {
        What::Score(score) => {
            said.extend(score.rul.map(|rul| Said::Left { index: output.index, model: score.model, rul }));
        }
        What::Alarm(alarm) => said.push(Said::Alarm { index: output.index, alarm: alarm.clone() }),
        What::Event(Event::Drift { .. }) => said.push(Said::Drift),
        What::Features(_) | What::Event(_) | What::Spectrum(_) | What::State(_) | What::Trip(_) => {}
    };
    for item in &recording.items {
        match item {
            Item::Skipped { channel, from, to } => monitor.skipped(*channel, *from, *to, &mut sink),
            Item::Block { .. } | Item::Reading { .. } | Item::Cycle { .. } | Item::Event { .. } => {
                if let Some((channel, position, input)) = item.input(&recording.channels) {
                    monitor.push(channel, position, input, &mut sink).map_err(failed)?;
                }
            }
        }
    }
    Ok(said)
}

/// A machine that counts cycles.
pub(crate) fn cycle_machine(width: usize) -> Result<MachineConfig, SuiteError> {
    let width = u8::try_from(width).map_err(failed)?;
    machine(&[("engine", Unit::One, ChannelKind::Cycle { width })], GroupKind::Cycle, 1, 1)
}

/// A machine with one group over these channels.
pub(crate) fn machine(
    channels: &[(&str, Unit, ChannelKind)],
    kind: GroupKind,
    window: u32,
    hop: u32,
) -> Result<MachineConfig, SuiteError> {
    let name = |text: &str| Name::new(text).map_err(failed);
    let mut config = MachineConfig::new(name("recording")?);
    let mut ids = heapless::Vec::new();
    for (place, (channel, unit, kind)) in channels.iter().enumerate() {
        let declared = ChannelConfig { name: name(channel)?, unit: *unit, kind: *kind };
        config.channels.push(declared).map_err(|_| SuiteError::Path("too many channels".to_owned()))?;
        ids.push(ChannelId(place as u8)).map_err(|_| SuiteError::Path("too many channels".to_owned()))?;
    }
    let group = GroupConfig { kind, point: name("point")?, channels: ids, window, hop };
    config.groups.push(group).map_err(|_| SuiteError::Path("too many groups".to_owned()))?;
    Ok(config)
}

pub(crate) fn failed(error: impl std::fmt::Display) -> SuiteError {
    SuiteError::Path(error.to_string())
}

/// Lends `Vec`s.
struct Heap;

impl Memory for Heap {
    type Floats = Vec<f32>;
    type Times = Vec<Micros>;
    type Model = Vec<u8>;

    fn floats(&mut self, len: usize) -> Option<Vec<f32>> {
        Some(vec![0.0; len])
    }

    fn times(&mut self, len: usize) -> Option<Vec<Micros>> {
        Some(vec![Micros(0); len])
    }
}
