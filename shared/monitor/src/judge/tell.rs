//! What a judged window leaves beside its row: scores, and now and then an event, a spectrum, a baseline.

use kilter_signal::extract::Spectra;
use kilter_types::{Digest, Event, KernelId, Role, RowRef, Score, State};

use super::{Judge, LEADER, ROLES, STATE_VERSION};
use crate::{
    baseline::Verdict,
    config::MachineConfig,
    model::{Installed, OUTSIDE_SHARE, Word},
    output::What,
    spectrum::spectrum,
};

impl<F: AsRef<[f32]> + AsMut<[f32]>, const S: usize> Judge<F, S> {
    pub(super) fn tell_regime(&self, bin: u8, verdict: &Verdict, say: &mut dyn FnMut(What<'_>)) {
        if verdict.new_regime && self.baseline.regimes() > 1 {
            say(What::Event(Event::NewRegime { bin }));
        }
        if let Some((from, to)) = verdict.commissioned {
            say(What::Event(Event::Commissioned { from, to }));
        }
    }

    /// How each model fits the regime, and whether it has drifted: the leader's input left what training saw while the machine was
    /// normal, or its word on the remaining life breaks what it promised.
    pub(super) fn tell_drift<B>(
        &mut self,
        (bin, now_h): (u8, f64),
        words: &[Option<Word>; 2],
        verdict: &Verdict,
        trusted: bool,
        models: &[Option<Installed<B>>; 2],
        say: &mut dyn FnMut(What<'_>),
    ) {
        let normal = trusted && verdict.distance.as_ref().is_none_or(|d| d.anomaly <= d.threshold);
        for (slot, (word, model)) in words.iter().zip(models).enumerate() {
            let (Some(word), Some(model)) = (word, model) else { continue };
            let fit = &mut self.sequences[slot].fit;
            if verdict.distance.is_none() && trusted {
                fit.watch_commissioning(word);
            }
            if verdict.commissioned.is_some() {
                fit.commissioned(bin);
            }
            let broken = word.rul.is_some_and(|rul| fit.breaks_promise(now_h, rul));
            let outside = !word.knows || word.outside >= OUTSIDE_SHARE && normal || broken;
            if let (Some(share), LEADER) = (fit.drift(outside), slot) {
                say(What::Event(Event::Drift { model: model.digest, share }));
            }
        }
    }

    pub(super) fn tell_spectra(
        &mut self,
        spectra: Option<&Spectra<'_>>,
        raised: bool,
        input: RowRef,
        config: &MachineConfig,
        say: &mut dyn FnMut(What<'_>),
    ) {
        self.memory.since_spectrum = self.memory.since_spectrum.saturating_add(1);
        let due = config.spectrum_every > 0 && self.memory.since_spectrum >= config.spectrum_every;
        if let (Some(spectra), true) = (spectra, due || raised) {
            self.memory.since_spectrum = 0;
            say(What::Spectrum(&spectrum(&spectra.acceleration, false, input)));
            say(What::Spectrum(&spectrum(&spectra.envelope, true, input)));
        }
    }

    pub(super) fn tell_state(
        &mut self,
        bin: Option<u8>,
        verdict: &Verdict,
        config: &MachineConfig,
        say: &mut dyn FnMut(What<'_>),
    ) {
        self.memory.since_state = self.memory.since_state.saturating_add(1);
        let due = config.state_every > 0 && self.memory.since_state >= config.state_every;
        if (verdict.commissioned.is_some() || due)
            && let Some(bytes) = bin.and_then(|bin| self.baseline.record(bin))
        {
            self.memory.since_state = 0;
            say(What::State(&State { group: self.place, version: STATE_VERSION, bytes }));
        }
    }
}

/// The scores of a window: the models', then the statistic's, which leads where no model does.
pub(super) fn scores<B>(
    words: &[Option<Word>; 2],
    models: &[Option<Installed<B>>; 2],
    verdict: &Verdict,
    leads: bool,
    input: RowRef,
) -> [Option<Score>; 3] {
    let by_model = |slot: usize| {
        let (word, model) = (words[slot].as_ref()?, models[slot].as_ref()?);
        Some(Score {
            input,
            anomaly: word.anomaly,
            threshold: word.threshold,
            rul: word.rul,
            model: model.digest,
            kernel: word.kernel,
            role: ROLES[slot],
            contributions: word.ranking.contributions.clone(),
            rest: word.ranking.rest,
        })
    };
    let by_statistic = verdict.distance.as_ref().map(|distance| Score {
        input,
        anomaly: distance.anomaly,
        threshold: distance.threshold,
        rul: None,
        model: Digest::NONE,
        kernel: KernelId::RULE,
        role: if leads { Role::Shadow } else { Role::Leader },
        contributions: distance.contributions.clone(),
        rest: distance.rest,
    });
    [by_model(LEADER), by_model(1 - LEADER), by_statistic]
}
