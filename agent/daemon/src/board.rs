//! What the agent knows of itself, for the local page, the metrics and the reports.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kilter_monitor::Summary;
use kilter_types::{FeatureRow, Generation, Micros, Name, Role, RunningModel, Severity};
use kilter_wire::node::NodeStatus;

use crate::latency::Latency;
use crate::node::Firmware;

/// Shared by every thread; held for moments only.
#[derive(Clone, Debug)]
pub(crate) struct Board(Arc<Mutex<State>>);

/// Everything on the board.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) machines: Vec<Machine>,
    pub(crate) journal: Journal,
    pub(crate) generation: Generation,
    pub(crate) plans_refused: u64,
    /// Configurations that somebody sent from afar.
    pub(crate) configs_refused: u64,
}

/// One machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) asset: Name,
    pub(crate) class: Name,
    pub(crate) summary: Summary,
    /// Whoever watches it has said since the start how it is.
    pub(crate) known: bool,
    /// A conversation with the source is open.
    pub(crate) connected: bool,
    /// The recording has ended.
    pub(crate) ended: bool,
    pub(crate) error: Option<String>,
    /// Event time of the newest window.
    pub(crate) newest: Micros,
    pub(crate) positions: Vec<(Name, u64)>,
    pub(crate) refused_inputs: u64,
    pub(crate) alarms: u64,
    pub(crate) trips: u64,
    pub(crate) models: Vec<Model>,
    /// From an input's arrival to the last output that it led to, where it closed a window.
    pub(crate) decisions: Latency,
    /// What a node says of itself.
    pub(crate) node: Option<NodeStatus>,
    /// A node's firmware.
    pub(crate) image: Option<Firmware>,
    /// The newest feature rows with their point, newest last.
    pub(crate) rows: VecDeque<(Name, FeatureRow)>,
}

/// A model on a machine.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    pub(crate) running: RunningModel,
    pub(crate) expires: Micros,
}

/// The journal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Journal {
    pub(crate) bytes: u64,
    pub(crate) dropped: u64,
    /// Damaged segments that were set aside since the start.
    pub(crate) quarantined: u64,
    pub(crate) dead: bool,
    pub(crate) durable: u64,
    pub(crate) released: u64,
    pub(crate) records: u64,
    /// Windows that were left out since the start because they said nothing new.
    pub(crate) unchanged: u64,
}

impl Board {
    pub(crate) fn new(machines: Vec<(Name, Name)>) -> Self {
        let machine = |(asset, class)| Machine {
            asset,
            class,
            summary: Summary::default(),
            known: false,
            connected: false,
            ended: false,
            error: None,
            newest: Micros(0),
            positions: Vec::new(),
            refused_inputs: 0,
            alarms: 0,
            trips: 0,
            models: Vec::new(),
            decisions: Latency::default(),
            node: None,
            image: None,
            rows: VecDeque::new(),
        };
        let machines = machines.into_iter().map(machine).collect();
        Self(Arc::new(Mutex::new(State { machines, ..State::default() })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes one machine.
    pub(crate) fn machine(&self, at: usize, change: impl FnOnce(&mut Machine)) {
        if let Some(machine) = self.lock().machines.get_mut(at) {
            change(machine);
        }
    }

    /// Keeps the newest rows of each group.
    pub(crate) fn row(&self, at: usize, point: &Name, row: &FeatureRow) {
        self.machine(at, |machine| {
            machine.newest = row.end;
            let same = machine.rows.iter().filter(|(_, kept)| kept.group == row.group).count();
            if same >= ROWS_PER_GROUP
                && let Some(oldest) = machine.rows.iter().position(|(_, kept)| kept.group == row.group)
            {
                machine.rows.remove(oldest);
            }
            machine.rows.push_back((point.clone(), row.clone()));
        });
    }
}

impl Machine {
    /// Puts a model into its role's place, or takes it out.
    pub(crate) fn model(&mut self, role: Role, model: Option<Model>) {
        self.models.retain(|known| known.running.role != role);
        self.models.extend(model);
        self.models.sort_by_key(|model| model.running.role);
    }

    /// Is it as bad as `severity`, or tripped?
    pub(crate) fn is_alarmed(&self, severity: Severity) -> bool {
        self.summary.tripped || self.summary.severity >= severity
    }
}

const ROWS_PER_GROUP: usize = 4;
