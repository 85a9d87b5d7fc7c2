//! The production path in this process: a signed artifact into the monitor, a recording through it, every word kept.

use kilter_monitor::{ChannelConfig, ChannelKind, GroupConfig, Heap, MachineConfig, Monitor, Output, What};
use kilter_recording::{Item, Recording};
use kilter_types::{
    ChannelId, Digest, Event, Generation, GroupKind, KernelId, MAX_NAME, Manifest, Micros, ModelKey, Name, Role, Score,
    Unit,
};
use kilter_wire::sign::{SignedManifest, public_key, sign_manifest};

use super::SuiteError;

/// An artifact with its signature checked.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) artifact: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) kernel: KernelId,
    pub(crate) key: ModelKey,
    pub(crate) manifest: Vec<u8>,
    pub(crate) signature: [u8; 64],
    pub(crate) public_key: [u8; 32],
    /// Largest difference between kernel and trainer (P3); 0 where no network was trained.
    pub(crate) parity: f64,
}

/// What an artifact is for: its task, the kind of machine, perhaps one machine alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct For<'a> {
    pub(crate) task: &'a str,
    pub(crate) class: &'a str,
    pub(crate) asset: Option<&'a str>,
}

impl Signed {
    /// Signs with a key of this process and checks it as a node does, before anything is scored.
    pub(crate) fn new(artifact: Vec<u8>, made: For<'_>) -> Result<Self, SuiteError> {
        let parsed = kilter_infer::Artifact::parse(&artifact).map_err(failed)?;
        let digest = Digest::of(&artifact);
        let name = |text: &str| Name::new(text).map_err(failed);
        let key = ModelKey {
            task: name(made.task)?,
            asset_class: name(made.class)?,
            asset: made.asset.map(asset_name).transpose()?,
        };
        let manifest = Manifest {
            digest,
            size_bytes: u32::try_from(artifact.len()).map_err(failed)?,
            name: name(made.task)?,
            version: 1,
            key: key.clone(),
            role: Role::Leader,
            features: parsed.features().collect(),
            minimum_agent: 1,
            expires: Micros(i64::MAX),
            generation: Generation(1),
        };
        // Who signs an evaluation signs nothing else: the key is made from what it signs.
        let secret = Digest::of(&digest.0).0;
        let public_key = public_key(&secret);
        let mut room = vec![0; 4096];
        let (bytes, signature) = sign_manifest(&manifest, &secret, &mut room).map_err(failed)?;
        let signed = SignedManifest { manifest: bytes, signature: &signature };
        let checked = signed.verify(&public_key).map_err(failed)?;
        if checked.digest != digest {
            return Err(SuiteError::Path("the signature is of another artifact".to_owned()));
        }
        let (manifest, kernel) = (bytes.to_vec(), parsed.kernel());
        Ok(Self { digest, kernel, key, manifest, signature, public_key, artifact, parity: 0.0 })
    }
}

/// A recording's name as an asset's, as a replay makes it.
fn asset_name(name: &str) -> Result<Name, SuiteError> {
    let allowed = |c: char| if matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.') { c } else { '-' };
    let word: String = name.chars().map(|c| allowed(c.to_ascii_lowercase())).take(MAX_NAME).collect();
    Name::new(&word).map_err(failed)
}

/// One word on one window.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// The score of the model that was installed.
    Score(Score),
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
        if model.key.asset.is_some() {
            monitor.trust(Role::Leader);
        }
    }
    let mut sink = |output: Output<'_>| match output.what {
        What::Score(score) => {
            // Of the statistic on the device nothing is reported.
            said.extend((score.model != Digest::NONE).then(|| Said::Score(score.clone())));
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
        let declared = ChannelConfig::new(name(channel)?, *unit, *kind);
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
