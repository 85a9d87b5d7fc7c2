//! The models of a machine: put into its monitor one per role, and what one of them costs here.

use kilter_infer::{Artifact, Scratch};
use kilter_monitor::{ConfigError, Heap, InstallError, MachineConfig, Monitor, Output};
use kilter_types::{Clock as _, Digest, Generation, Micros, Role};
use tracing::warn;

use crate::clock::SystemClock;

/// A model to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Install {
    pub(crate) role: Role,
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) generation: Generation,
    pub(crate) expires: Micros,
    /// Made for this very machine: heard without the baseline's consent ([`Monitor::trust`]).
    pub(crate) own: bool,
    /// The manifest as it was signed and its signature, for a node that checks them itself; `None` of a kept model.
    pub(crate) signed: Option<(Vec<u8>, Vec<u8>)>,
}

/// A monitor with the first model of each role that it accepts.
pub(super) fn build(
    config: &MachineConfig,
    models: &[Install],
    running: &mut Vec<Install>,
) -> Result<Box<Monitor<Heap>>, ConfigError> {
    let mut monitor = Box::new(Monitor::new(config.clone(), &mut Heap)?);
    running.clear();
    for model in models {
        if running.iter().any(|known: &Install| known.role == model.role) {
            continue;
        }
        // Nothing has switched: the model ran before the restart too.
        match put(&mut monitor, model, &mut |_| {}) {
            Ok(()) => running.push(model.clone()),
            Err(error) => warn!(digest = %model.digest, role = ?model.role, %error, "kept model refused"),
        }
    }
    Ok(monitor)
}

/// Puts a model into its slot, unless it is there; one that was made for this very machine has a voice of its own there.
pub(super) fn put(
    monitor: &mut Monitor<Heap>,
    model: &Install,
    sink: &mut dyn FnMut(Output<'_>),
) -> Result<(), InstallError> {
    if monitor.model(model.role).is_none_or(|(running, _)| running != model.digest) {
        monitor.install(model.role, model.bytes.clone(), model.digest, model.generation, sink)?;
    }
    if model.own {
        monitor.trust(model.role);
    }
    Ok(())
}

/// What one score of this model costs on this host: the median of some rounds on a made-up row. A round is many scores, because a
/// small model takes less than the clock's microsecond.
pub(super) fn cost_us(bytes: &[u8], clock: &SystemClock) -> f32 {
    const SCORES: usize = 64;
    let Ok(artifact) = Artifact::parse(bytes) else { return 0.0 };
    let (mut state, mut scratch) = (Box::new(kilter_infer::State::<1024>::new()), Box::new(Scratch::new()));
    let row = vec![0.0; artifact.inputs()];
    let mut score = || matches!(artifact.push(&row, &mut state, &mut scratch), Ok(Some(_)));
    // The first scores only fill the sequence.
    let ready = (0..artifact.sequence_len()).filter(|_| score()).count() > 0;
    let mut costs: Vec<f32> = Vec::new();
    for _ in 0..if ready { 7 } else { 0 } {
        let start = clock.monotonic();
        (0..SCORES).for_each(|_| {
            score();
        });
        costs.push((clock.monotonic().0 - start.0) as f32 / SCORES as f32);
    }
    costs.sort_unstable_by(f32::total_cmp);
    costs.get(costs.len() / 2).copied().unwrap_or_default()
}
