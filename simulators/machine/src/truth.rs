//! What is really the matter with a machine at a moment: the label beside the signal.

use serde::Serialize;

use crate::schedule::Schedule;
use crate::spec::FaultKind;

/// The truth at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    /// When, in seconds of simulated time.
    pub t_s: f64,
    /// Shaft speed.
    pub rpm: f64,
    /// Load; 1 is full load.
    pub load: f64,
    /// What the shaft is doing.
    pub state: MachineState,
    /// Faults with a severity above zero, worst first.
    pub faults: Vec<FaultTruth>,
}

impl Truth {
    pub(crate) fn read(t_s: f64, schedule: &Schedule) -> Self {
        let mut faults: Vec<FaultTruth> =
            FaultKind::ALL.into_iter().filter_map(|kind| FaultTruth::read(kind, t_s, schedule)).collect();
        faults.sort_by(|a, b| b.severity.total_cmp(&a.severity));
        Self { t_s, rpm: schedule.rpm(t_s), load: schedule.load(t_s), state: MachineState::read(t_s, schedule), faults }
    }

    /// The worst fault, if there is one.
    pub fn worst(&self) -> Option<&FaultTruth> {
        self.faults.first()
    }
}

/// One fault at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FaultTruth {
    /// Which fault.
    pub kind: FaultKind,
    /// 0 healthy to 1 end of life.
    pub severity: f64,
    /// Since when it has been above zero.
    pub since_s: f64,
    /// Time left until severity 1 by the present schedule; absent where it never gets there.
    pub rul_s: Option<f64>,
}

impl FaultTruth {
    fn read(kind: FaultKind, t_s: f64, schedule: &Schedule) -> Option<Self> {
        let (severity, since_s) = schedule.trace(kind, t_s);
        let rul_s = schedule.end_of_life(kind, t_s).map(|end_s| (end_s - t_s).max(0.0));
        (severity > 0.0).then_some(Self { kind, severity, since_s, rul_s })
    }
}

/// What the shaft is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineState {
    /// Below one hundredth of nominal speed and not starting.
    Off,
    /// Speeding up.
    RunUp,
    /// At its speed.
    Steady,
    /// Slowing down.
    CoastDown,
}

impl MachineState {
    fn read(t_s: f64, schedule: &Schedule) -> Self {
        let acceleration = schedule.acceleration(t_s);
        if acceleration > 0.0 {
            Self::RunUp
        } else if schedule.speed_ratio(t_s) < 0.01 {
            Self::Off
        } else if acceleration < 0.0 {
            Self::CoastDown
        } else {
            Self::Steady
        }
    }
}
