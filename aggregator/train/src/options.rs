//! What a run is asked to do, and how it tells how far it is.

use std::collections::BTreeMap;

use kilter_infer::Family;

use crate::{Augmentation, TrainError, Warm, card::CardKey};

/// Everything but the data that decides the result.
#[derive(Clone, Debug)]
pub struct TrainOptions {
    /// All random choices follow from it (P2).
    pub seed: u64,
    /// Rows in a sequence, 2 to 64.
    pub sequence_len: usize,
    /// The most features of a model, 1 to 64.
    pub max_inputs: usize,
    /// Hidden units; a multiple of 8 up to 64.
    pub hidden: usize,
    /// Size of the code, 1 to 64.
    pub code: usize,
    /// Sequences per step.
    pub batch: usize,
    /// Budget of the network, in steps.
    pub max_steps: usize,
    /// Steps between two looks at the held-out loss.
    pub look_every: usize,
    /// Looks without a better held-out loss after which training stops.
    pub patience: usize,
    /// Step size at the start; it falls to a tenth along a cosine.
    pub learning_rate: f64,
    /// The most sequences to train on; beyond it every second, third, ... is taken.
    pub max_windows: usize,
    /// False alarms that a machine may give in a month.
    pub false_alarms_per_month: f64,
    /// Seconds between two windows of a machine.
    pub window_period_secs: f64,
    /// Which networks are trained beside the statistic.
    pub networks: Networks,
    /// How training windows are changed each time they are drawn.
    pub augment: Augmentation,
    /// A network is sent in int8 if that changes no anomaly of the validation by more than this share of it; 0: only where it is needed.
    pub int8_loss: f32,
    /// The device has no room for the network in f32.
    pub int8_needed: bool,
    /// The most speeds that are kept from training in turn, to say on the cards how a model does at one that it never saw; 0: none.
    /// Each costs about one more training and changes no artifact.
    pub kept_speeds: usize,
    /// The network that training goes on from; from scratch without one, or where it does not fit.
    pub warm: Option<Warm>,
    /// Where the run comes from; written on the cards only.
    pub origin: Origin,
}

/// Which networks are trained beside the statistic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Networks {
    /// None: the statistic alone.
    None,
    /// An LSTM autoencoder.
    Autoencoder,
    /// An LSTM forecaster.
    Forecaster,
    /// Both; the one that does better on the rows that calibrate goes on.
    Both,
}

impl Networks {
    /// As a number on a card: cards from before there was a forecaster say 0 or 1.
    pub fn number(self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Autoencoder => 1.0,
            Self::Forecaster => 2.0,
            Self::Both => 3.0,
        }
    }

    /// From a card.
    pub fn from_number(number: f64) -> Option<Self> {
        [Self::None, Self::Autoencoder, Self::Forecaster, Self::Both].into_iter().find(|kind| kind.number() == number)
    }

    pub(crate) fn families(self) -> &'static [Family] {
        match self {
            Self::None => &[],
            Self::Autoencoder => &[Family::LstmAutoencoder],
            Self::Forecaster => &[Family::LstmForecaster],
            Self::Both => &[Family::LstmAutoencoder, Family::LstmForecaster],
        }
    }
}

/// What the cards say about where a run comes from; it does not change an artifact.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The models' name.
    pub name: String,
    /// What the models may stand in for.
    pub key: CardKey,
    /// `command`, `drift` or `schedule`.
    pub reason: String,
    /// When, in microseconds since 1970.
    pub trained_at_us: i64,
    /// Versions of the tables that the rows were read from, for example `features_version`.
    pub snapshot: BTreeMap<String, i64>,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            seed: 1,
            sequence_len: 12,
            max_inputs: 24,
            hidden: 24,
            code: 8,
            batch: 64,
            max_steps: 800,
            look_every: 40,
            patience: 5,
            learning_rate: 6e-3,
            max_windows: 4_000,
            false_alarms_per_month: 0.1,
            window_period_secs: 10.0,
            networks: Networks::Both,
            augment: Augmentation::default(),
            int8_loss: 0.02,
            int8_needed: false,
            kept_speeds: 2,
            warm: None,
            origin: Origin::default(),
        }
    }
}

impl TrainOptions {
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let option = |good: bool, name| if good { Ok(()) } else { Err(TrainError::Option(name)) };
        option((2..=64).contains(&self.sequence_len), "sequence_len")?;
        option((1..=64).contains(&self.max_inputs), "max_inputs")?;
        option((8..=64).contains(&self.hidden) && self.hidden.is_multiple_of(8), "hidden")?;
        option((1..=64).contains(&self.code), "code")?;
        option(self.batch >= 1 && self.max_windows >= self.batch, "batch")?;
        option(self.max_steps >= 1 && self.look_every >= 1 && self.patience >= 1, "max_steps, look_every or patience")?;
        option(self.learning_rate > 0.0 && self.learning_rate < 1.0, "learning_rate")?;
        option(self.warm.iter().all(|warm| (0.0..=1.0).contains(&warm.rehearsal)), "rehearsal")?;
        option(self.augment.is_sensible(), "augment")?;
        option((0.0..1.0).contains(&self.int8_loss), "int8_loss")?;
        option(self.false_alarms_per_month > 0.0 && self.window_period_secs > 0.0, "false alarm budget")
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Which network.
    pub family: Family,
    /// Steps done.
    pub step: usize,
    /// The budget.
    pub steps: usize,
    /// Loss on the training part since the last report.
    pub loss: f32,
    /// Loss on the part that decides when to stop.
    pub held_out_loss: f32,
    /// Seconds left if the whole budget is used.
    pub eta_secs: f32,
}
