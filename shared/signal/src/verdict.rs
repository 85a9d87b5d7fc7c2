//! From bearing signs of several demodulations to a named part, or to none.
//!
//! A part is named when, in one demodulation, its comb is no chance ([`Clear::likelihood`], with two lines or more that stand), it
//! holds enough of the envelope's variance ([`Clear::share`]), it holds clearly more than any other part ([`Clear::dominance`]:
//! a damaged ball strikes both races and shows a little of each), and no line that nobody explains stands above all of its own
//! ([`Clear::stranger`]: a bearing that is not the declared one, a gear, the mains).

use kilter_types::{Cause, Evidence};

use crate::{
    bearing_sign::{BearingSign, Comb, LINE_CAP, Part},
    demodulate::Demodulation,
    diagnose::{Diagnosis, Finding, clarity},
    table::sign_id,
};

/// From where on a bearing speaks clearly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clear {
    /// Least likelihood in nats: chance reaches it once in about a million looks.
    pub likelihood: f32,
    /// Least ratio of line to background for a line to stand.
    pub ratio: f32,
    /// Share of the variance of a plain envelope from which a part is named that dominates by `dominance`.
    pub share: f32,
    /// The same of a whitened envelope, where noise has the weight of the whole spectrum.
    pub share_whitened: f32,
    /// Share against that of the next part but the cage. A part with twice the share needs half of it, but never less than half.
    pub dominance: f32,
    /// Least share, in parts of `share`: a single window's small shares come and go by chance, those of an average don't.
    pub floor: f32,
    /// A line without explanation may be this many times as high as the part's highest.
    pub stranger: f32,
}

impl Clear {
    /// For the mean of four windows or more: half the share will do where the part dominates twice as much.
    pub fn averaged() -> Self {
        Self { floor: 0.5, ..Self::default() }
    }
}

impl Default for Clear {
    /// For a single window.
    fn default() -> Self {
        Self {
            likelihood: 22.0,
            ratio: 3.0,
            share: 0.06,
            share_whitened: 0.012,
            dominance: 4.0,
            floor: 1.0,
            stranger: 1.2,
        }
    }
}

/// What one demodulation's sign speaks for.
pub fn of(sign: &BearingSign, demodulation: &Demodulation, clear: &Clear) -> Diagnosis {
    let mut diagnosis = Diagnosis::default();
    let least = match demodulation {
        Demodulation::Plain(_) => clear.share,
        Demodulation::Whitened(_) => clear.share_whitened,
    };
    for part in Part::ALL {
        let Some(comb) = sign.combs[part as usize] else { continue };
        let (least, likelihood) = match part {
            // Damaged balls and races beat with the cage too: it must be far clearer, an impulse, and alone.
            Part::Cage if others_stand(sign) || !comb.is_train() => continue,
            Part::Cage => (2.0 * least, 1.5 * clear.likelihood),
            Part::Outer | Part::Inner | Part::Element => (least, clear.likelihood),
        };
        let dominance = dominance(sign, part, &comb);
        let stranger = sign.stranger.map_or(0.0, |s| s.1) / f32::max(comb.greatest(), f32::MIN_POSITIVE);
        let named = comb.likelihood >= likelihood
            && comb.standing(clear.ratio) >= 2
            && comb.share >= clear.floor * least
            && dominance >= 0.5 * clear.dominance
            && comb.share * dominance >= least * clear.dominance
            && stranger <= clear.stranger;
        if !named {
            continue;
        }
        let strength = libm::sqrtf(comb.share / least * f32::min(dominance / clear.dominance, MUCH));
        let mut evidence = heapless::Vec::new();
        let lines = [
            (Figure::Share, comb.share, clear.floor * least),
            (Figure::Likelihood, comb.likelihood, likelihood),
            (Figure::Dominance, dominance, 0.5 * clear.dominance),
        ];
        for (figure, value, limit) in lines {
            // Three lines always fit.
            let _ = evidence.push(Evidence { feature: sign_id(part, figure), value, limit });
        }
        diagnosis.insert(Finding { cause: cause(part), score: clarity(strength), evidence });
    }
    diagnosis
}

/// The share of a part against that of the next one but the cage; at most `MOST`.
pub fn dominance(sign: &BearingSign, part: Part, comb: &Comb) -> f32 {
    let others = Part::ALL.into_iter().filter(|other| *other != part && *other != Part::Cage);
    let next = others.filter_map(|other| Some(sign.combs[other as usize]?.share)).fold(0.0, f32::max);
    f32::min(comb.share / f32::max(next, f32::MIN_POSITIVE), MOST)
}

/// Does a race or the rolling element show a comb that chance rarely makes?
fn others_stand(sign: &BearingSign) -> bool {
    let others = [Part::Outer, Part::Inner, Part::Element];
    others.into_iter().any(|part| sign.combs[part as usize].is_some_and(|comb| comb.likelihood >= LINE_CAP))
}

/// The figures of a part that evidence can point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    /// Part of the envelope's variance.
    Share,
    /// Nats against chance.
    Likelihood,
    /// Share against the next part's.
    Dominance,
}

fn cause(part: Part) -> Cause {
    match part {
        Part::Outer => Cause::OuterRace,
        Part::Inner => Cause::InnerRace,
        Part::Element => Cause::RollingElement,
        Part::Cage => Cause::Cage,
    }
}

/// So many times the dominance asked for adds nothing to the score.
const MUCH: f32 = 4.0;
/// The greatest dominance that is told.
const MOST: f32 = 1000.0;
