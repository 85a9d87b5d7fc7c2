//! A closed window of acceleration: is the sensor well, what are its features, what do its lines speak for.

use kilter_signal::{
    axis, diagnose,
    extract::{self, Spectra, Vibration, VibrationSetup},
    health, order,
    table::{Schema, at},
};
use kilter_types::{Axis, Cause, GroupKind, Hertz, Quality};

use super::{Shared, feature_row};
use crate::{config::MachineConfig, judge::Judge, memory::Memory, regime::Regime, samples::Closed};

pub(super) fn vibration<M: Memory, const S: usize>(
    judge: &mut Judge<M::Floats, S>,
    schema: &Schema,
    plan: usize,
    rate: Hertz,
    closed: &Closed<'_>,
    scratch: &mut [f32],
    shared: &mut Shared<'_, M>,
) {
    let mut quality = closed.quality;
    if !quality.intersects(Quality::OUT_OF_RANGE) {
        quality = quality | health::assess(closed.samples, &health::HealthLimits::default());
    }
    let regime = shared.regime(closed.start, closed.end);
    if let Some(tacho) = shared.tacho {
        quality = quality | tacho.quality(closed.start, closed.end);
    }
    let mut features = Vibration::default();
    let mut spectra = None;
    let mut even = shared.tracked.take();
    if !quality.intersects(UNREADABLE) {
        spectra = extracted::<M>(closed.samples, rate, &regime, plan, shared, scratch, &mut features);
        if let (Some(spectra), Some(even)) = (&mut spectra, &mut even) {
            by_angle::<M>(closed, rate, &regime, plan, shared, even, (spectra, &mut features));
        }
    }
    let declared = axis_of(shared.config, judge.place());
    let contradicts = |mean_g| declared.is_some_and(|axis| axis::contradicts(axis, mean_g));
    if features.get(at::MEAN).is_some_and(|mean_g| judge.has_turned(mean_g) || contradicts(mean_g)) {
        quality = quality | Quality::SWAPPED_AXIS;
    }
    let times = (closed.start, closed.end);
    let row = feature_row(
        judge,
        schema,
        GroupKind::Vibration,
        closed.index,
        times,
        quality,
        &regime,
        &features.values,
        features.valid,
        shared.config.significant_bits,
    );
    let resolved = resolves_cage(closed.samples.len(), rate, &regime, shared.config);
    let finding = (features.valid != 0).then(|| {
        let diagnosis = diagnose::vibration(&features, &judge.limits(shared.config));
        diagnosis.findings().iter().find(|finding| finding.cause != Cause::Cage || resolved).cloned()
    });
    judge.conclude(&row, &regime, finding, spectra.as_ref(), schema, shared);
    shared.tracked = even;
}

/// The axis that a group of vibration measures, as declared.
fn axis_of(config: &MachineConfig, group: u8) -> Option<Axis> {
    let channel = config.groups.get(usize::from(group))?.channels.first()?;
    config.channels.get(usize::from(channel.0))?.axis
}

/// Can the window tell the cage's lines from those of the shaft? They are a tenth of the shaft's speed apart.
fn resolves_cage(samples: usize, rate: Hertz, regime: &Regime, config: &MachineConfig) -> bool {
    let turns = regime.rpm.map_or(0.0, |rpm| rpm.hertz().0) * samples as f32 / rate.0;
    config.bearing.is_some_and(|bearing| bearing.ftf * turns >= CAGE_TURNS)
}

fn extracted<'s, M: Memory>(
    samples: &[f32],
    rate: Hertz,
    regime: &Regime,
    plan: usize,
    shared: &Shared<'_, M>,
    scratch: &'s mut [f32],
    out: &mut Vibration,
) -> Option<Spectra<'s>> {
    let mut setup = VibrationSetup::new(rate).ok()?;
    if let Some(rpm) = regime.rpm {
        setup = setup.with_shaft(rpm);
    }
    if let Some(bearing) = shared.config.bearing {
        setup = setup.with_bearing(bearing);
    }
    extract::vibration(samples, &setup, shared.plans.get(plan)?, scratch, out).ok()
}

/// Reads spectrum and shaft lines at even angles of the shaft, where the tacho tells them: what a changing speed smears is narrow again.
/// Frequencies are those at the window's own speed. The values of the row stay those of the samples as they came.
fn by_angle<'s, M: Memory>(
    closed: &Closed<'_>,
    rate: Hertz,
    regime: &Regime,
    plan: usize,
    shared: &Shared<'_, M>,
    room: &'s mut [f32],
    (spectra, features): (&mut Spectra<'s>, &mut Vibration),
) -> Option<()> {
    let (marks, rpm) = (shared.tacho?.marks(), regime.rpm?);
    let (even, scratch) = room.split_at_mut_checked(closed.samples.len())?;
    let mark_s = |i: usize| marks.get(i).map_or(0.0, |mark| (*mark - closed.start).as_secs_f64());
    let found = order::track(closed.samples, rate, marks.len(), mark_s, even).ok()?;
    // As if the shaft had turned at this one speed.
    let per_rev = even.len() as f32 / found.revolutions as f32;
    let setup = VibrationSetup::new(Hertz(per_rev * rpm.hertz().0)).ok()?.with_shaft(rpm);
    let mut tracked = Vibration::default();
    let found = extract::vibration(even, &setup, shared.plans.get(plan)?, scratch, &mut tracked).ok()?;
    spectra.acceleration = found.acceleration;
    features.lines.shaft = tracked.lines.shaft.or(features.lines.shaft);
    Some(())
}

/// Turns of the cage that a window must hold before its lines are believed.
const CAGE_TURNS: f32 = 8.0;
/// Flags under which no value is computed: the times say nothing about the samples, or samples are missing.
const UNREADABLE: Quality =
    Quality(Quality::NON_FINITE.0 | Quality::WRONG_RATE.0 | Quality::CLOCK_BACK.0 | Quality::OUT_OF_RANGE.0);
