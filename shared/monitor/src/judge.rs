//! From one window's features to scores, events, alarms and trips, in the stated order.

mod tell;

use kilter_signal::{
    axis,
    diagnose::{self, Finding},
    extract::Spectra,
    table::{Schema, at},
    temperature,
};
use kilter_types::{
    AlarmState, Cause, Digest, Evidence, FeatureRow, GroupKind, OperatingState, Quality, Role, RowRef, Rpm, Severity,
};
use serde::{Deserialize, Serialize};

use crate::{
    baseline::{Baseline, Verdict, Window},
    config::MachineConfig,
    decision::{Bench, Decision, Signs},
    group::Shared,
    hysteresis::Sign,
    memory::Memory,
    model::{Installed, Row, Sequence, Word, hours_of, is_usable},
    output::{Output, What},
    protection::Runs,
    regime::Regime,
    rule::rule,
    snapshot::{Reader, RestoreError, Writer},
    thermal::{Excess, Housing, Thermal},
};

/// What a group has learned and what it is deciding.
pub(crate) struct Judge<F, const S: usize> {
    place: u8,
    baseline: Baseline<F>,
    pub(crate) sequences: [Sequence<S>; 2],
    memory: Short,
}

/// Whose word decides on a window.
#[derive(Clone, Copy, PartialEq)]
enum Voice {
    /// The baseline learned here.
    Statistic,
    /// The leading model, where the baseline leans the same way.
    Corroborated,
    /// The leading model, made for this very machine.
    Alone,
}

/// The small part.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Short {
    decision: Decision,
    runs: Runs,
    /// Windows since the last spectrum and baseline record.
    since_spectrum: u32,
    since_state: u32,
    /// Temperature: the level, slowly following.
    slow_level: Option<f32>,
    /// Temperature: what the housing should have.
    thermal: Thermal,
    /// The newest window's bin, and whether its baseline stands.
    ready: bool,
}

impl<F: AsRef<[f32]> + AsMut<[f32]>, const S: usize> Judge<F, S> {
    pub(crate) fn new(place: u8, baseline: Baseline<F>) -> Self {
        Self { place, baseline, sequences: Default::default(), memory: Short::default() }
    }

    /// `finding`: `None` where nothing was diagnosed, otherwise the clearest cause if there is one.
    pub(crate) fn conclude<M: Memory<Floats = F>>(
        &mut self,
        row: &FeatureRow,
        regime: &Regime,
        finding: Option<Option<Finding>>,
        spectra: Option<&Spectra<'_>>,
        schema: &Schema,
        shared: &mut Shared<'_, M>,
    ) {
        shared.tally.windows += 1;
        shared.tally.at = row.end;
        let input = RowRef { group: self.place, index: row.index, seq: 0 };
        let config = shared.config;
        let Some(group) = config.groups.get(usize::from(self.place)) else { return };
        let sink = &mut *shared.sink;
        let mut say = |what: What<'_>| {
            sink(Output { point: &group.point, group: input.group, index: row.index, at: row.end, what });
        };
        let trip = shared.protector.push(row, schema, &config.protection, &mut self.memory.runs);
        if let Some(trip) = trip {
            say(What::Trip(trip));
        }
        say(What::Features(row));

        let mut signs = self.signs(row, finding, schema, config);
        let words = self.words(row, regime, shared.models, shared.kernel);
        let settled = self.is_settled(row);
        let bin = match row.state {
            OperatingState::Steady(bin) if is_usable(row) => Some(bin),
            OperatingState::Steady(_) | OperatingState::Unknown | OperatingState::Off | OperatingState::Transient => {
                None
            }
        };
        // What is learned was measured: filled samples are scored, but teach nothing.
        let measured = !row.quality.intersects(Quality::IMPUTED);
        let trusted = settled && measured && !self.memory.decision.is_suspicious(&signs);
        let verdict = self.compare(row, bin, trusted, schema);
        // The model of the housing learns from warming and cooling too.
        if row.kind == GroupKind::Temperature
            && measured
            && is_usable(row)
            && !self.memory.decision.is_suspicious(&signs)
        {
            self.memory.thermal.learn(row.end);
        }
        // Where no baseline knows the regime, nothing learned raises an alarm.
        let leads = verdict.distance.is_some() && words[LEADER].as_ref().is_some_and(|word| word.knows);
        let own = shared.models[LEADER].as_ref().is_some_and(|model| model.own);
        let voice = match (leads, own) {
            (false, _) => Voice::Statistic,
            (true, false) => Voice::Corroborated,
            (true, true) => Voice::Alone,
        };
        self.weigh(&words, &verdict, voice, settled, config, &mut signs);
        signs.digest = shared.models[LEADER].as_ref().map(|model| model.digest);
        for score in tell::scores(&words, shared.models, &verdict, leads, input).iter().flatten() {
            if score.role == Role::Leader {
                shared.tally.score = Some((score.anomaly, score.threshold));
            }
            say(What::Score(score));
        }

        let mut raised = trip.is_some();
        let mut bench = Bench {
            patience: &config.patience,
            next_id: &mut shared.tally.next_alarm,
            input,
            start: row.start,
            emit: &mut |alarm| {
                raised |= alarm.state == AlarmState::Raised;
                say(What::Alarm(alarm));
            },
        };
        if let Some(trip) = trip {
            let evidence = Evidence { feature: trip.feature, value: trip.value, limit: trip.limit };
            self.memory.decision.trip(evidence, &mut bench);
        }
        self.memory.decision.step(&signs, &mut bench);
        if let Some(bin) = bin {
            self.tell_regime(bin, &verdict, &mut say);
            self.tell_drift((bin, hours_of(row)), &words, &verdict, trusted, shared.models, &mut say);
        }
        self.tell_spectra(spectra, raised, input, config, &mut say);
        self.tell_state(bin, &verdict, config, &mut say);
    }

    /// The window against what is normal in its regime.
    fn compare(&mut self, row: &FeatureRow, bin: Option<u8>, trusted: bool, schema: &Schema) -> Verdict {
        if self.memory.decision.is_faulty() {
            self.baseline.distrust();
        }
        let Some(bin) = bin else { return Verdict::default() };
        let FeatureRow { start, end, .. } = *row;
        let window = Window { bin, start, end, values: &row.vector.values, valid: row.vector.valid, trusted };
        let verdict = self.baseline.push(&window, schema.features());
        self.memory.ready = self.baseline.is_ready(bin);
        verdict
    }

    /// What rules and diagnosis say of the window.
    fn signs(
        &self,
        row: &FeatureRow,
        finding: Option<Option<Finding>>,
        schema: &Schema,
        config: &MachineConfig,
    ) -> Signs {
        let off = row.state == OperatingState::Off;
        // A machine that stands still may be as quiet as a dead sensor.
        let quality = if off { Quality(row.quality.0 & !Quality::NOISE_FLOOR.0) } else { row.quality };
        let mut signs = Signs { quality, ..Signs::default() };
        let judged = matches!(row.state, OperatingState::Steady(_) | OperatingState::Unknown);
        if !judged || !is_usable(row) {
            return signs;
        }
        signs.rule = rule(row, schema, &config.limits, config.patience.clear_ratio);
        signs.physics = finding.map(|finding| finding.map_or_else(Default::default, |f| (f.cause, f.evidence)));
        signs
    }

    fn words<B: AsRef<[u8]>>(
        &mut self,
        row: &FeatureRow,
        regime: &Regime,
        models: &[Option<Installed<B>>; 2],
        kernel: &mut kilter_infer::Scratch,
    ) -> [Option<Word>; 2] {
        let row = Row::of(row, *regime);
        let mut words = [None, None];
        for ((word, sequence), model) in words.iter_mut().zip(&mut self.sequences).zip(models) {
            if let Some(artifact) = model.as_ref().and_then(Installed::artifact) {
                *word = sequence.push(&row, &artifact, kernel);
            }
        }
        words
    }

    /// Model and statistic: who decides, and what the other one does meanwhile.
    fn weigh(
        &self,
        words: &[Option<Word>; 2],
        verdict: &Verdict,
        voice: Voice,
        settled: bool,
        config: &MachineConfig,
        signs: &mut Signs,
    ) {
        let ratio = config.patience.clear_ratio;
        // The one that does not decide raises nothing, and what it had raised ends when the other is quiet.
        let silent = |sign: Sign| Some(Sign { severity: Severity::Healthy, ..sign });
        match (&words[LEADER], &verdict.distance) {
            (Some(word), Some(distance)) if voice != Voice::Statistic => {
                let sign = Sign::score(word.anomaly, word.threshold, ratio);
                // A fleet's model may be young where this machine's own baseline is not: it is heard when both lean one way. One
                // that was made for this very machine needs no consent.
                let heard = voice == Voice::Alone || distance.anomaly >= CORROBORATED * distance.threshold;
                let sign = if heard { sign } else { Sign { severity: Severity::Healthy, ..sign } };
                (signs.model, signs.statistic) = (Some(sign), silent(sign));
                signs.contributions = word.ranking.contributions.clone();
            }
            (_, Some(distance)) if settled => {
                let sign = Sign::score(distance.anomaly, distance.threshold, ratio);
                (signs.statistic, signs.model) = (Some(sign), silent(sign));
                signs.contributions = distance.contributions.clone();
            }
            _ => {}
        }
    }

    /// A temperature that is still moving to another level says nothing about the machine's health yet.
    fn is_settled(&mut self, row: &FeatureRow) -> bool {
        if row.kind != GroupKind::Temperature {
            return true;
        }
        let Some(level) = row.vector.get(temperature::at::LEVEL) else { return false };
        let slow = self.memory.slow_level.get_or_insert(level);
        *slow += (level - *slow) * SLOW;
        (level - *slow).abs() < SETTLED_K
    }

    /// How much warmer than its own model expects a housing is; `None` where nothing can be said.
    pub(crate) fn expect(&mut self, row: &FeatureRow, regime: &Regime, config: &MachineConfig) -> Option<Excess> {
        let level_c = row.vector.get(temperature::at::LEVEL).filter(|_| is_usable(row))?;
        let difference_k = row.vector.get(temperature::at::DIFFERENCE)?;
        let nominal = config.nominal_rpm.map_or(Rpm(1500.0), |rpm| rpm);
        let speed = regime.rpm.map_or(1.0, |rpm| rpm.0 / nominal.0);
        let load = regime.load.map_or(0.0, |percent| 0.01 * percent);
        self.memory.thermal.push(&Housing { at: row.end, level_c, difference_k, speed, load })
    }

    /// Forgets what was learned: after maintenance or on command.
    pub(crate) fn recommission(&mut self, bench: &mut Bench<'_>) {
        self.baseline.restart();
        self.memory.thermal = Thermal::default();
        self.memory.ready = false;
        self.memory.decision.restart(bench);
    }

    pub(crate) fn reset(&mut self, bench: &mut Bench<'_>) {
        self.memory.decision.reset(bench);
        self.memory.runs = Runs::default();
    }

    /// Does gravity lie along another axis than the baseline learned?
    pub(crate) fn has_turned(&self, mean_g: f32) -> bool {
        self.baseline.first_location(at::MEAN).is_some_and(|learned_g| axis::has_turned(learned_g, mean_g))
    }

    pub(crate) fn worst(&self) -> Option<(Severity, Cause)> {
        self.memory.decision.worst()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.memory.ready
    }

    /// The diagnosis with this machine's limits. A slope alone is no fault: a healthy machine under more load warms up too.
    pub(crate) fn limits(&self, config: &MachineConfig) -> diagnose::Limits {
        let usual = diagnose::Limits::default();
        diagnose::Limits {
            velocity_mm_s: config.limits.velocity_alarm_mm_s.unwrap_or(usual.velocity_mm_s),
            level_deg_c: config.limits.temperature_alarm.map_or(usual.level_deg_c, |t| t.0),
            slope_k_per_h: f32::INFINITY,
            ..usual
        }
    }

    pub(crate) fn save<B: AsRef<[u8]>>(&self, models: &[Option<Installed<B>>; 2], out: &mut Writer<'_>) {
        self.baseline.save(out);
        out.value(&self.memory);
        for (sequence, model) in self.sequences.iter().zip(models) {
            sequence.save(installed(model), out);
        }
    }

    pub(crate) fn load<B: AsRef<[u8]>>(
        &mut self,
        models: &[Option<Installed<B>>; 2],
        bytes: &mut Reader<'_>,
    ) -> Result<(), RestoreError> {
        self.baseline.load(bytes)?;
        self.memory = bytes.value()?;
        self.sequences.iter_mut().zip(models).try_for_each(|(sequence, model)| sequence.load(installed(model), bytes))
    }
}

impl<F, const S: usize> Judge<F, S> {
    pub(crate) fn place(&self) -> u8 {
        self.place
    }
}

fn installed<B: AsRef<[u8]>>(model: &Option<Installed<B>>) -> Option<(&Digest, kilter_infer::Artifact<'_>)> {
    model.as_ref().and_then(|model| Some((&model.digest, model.artifact()?)))
}

pub(crate) const LEADER: usize = 0;
pub(crate) const ROLES: [Role; 2] = [Role::Leader, Role::Shadow];
const STATE_VERSION: u8 = 1;
/// A model alarms only where the baseline's distance is at least this part of its own threshold.
const CORROBORATED: f32 = 0.8;
/// How fast the slow temperature follows: weight of a window.
const SLOW: f32 = 1.0 / 30.0;
/// A temperature nearer than this to its slow self is settled.
const SETTLED_K: f32 = 1.0;
