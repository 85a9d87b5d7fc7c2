//! Simulated rotating machines: shaft, faults, bearing, noise and heat, deterministic by seed, with the truth beside the signal.
//!
//! The state is `f64`, computed with `libm` and a fixed operation order, and rounded to `f32` at the door: the same spec, seed
//! and commands give the same bits on every host and for every block size. The models are written from the closed forms and share
//! no code with `kilter-signal`, so a test that compares the two compares two independent derivations.
//!
//! A machine walks like this: [`MachineSpec`] → [`Schedule`] (speed, load and severities as functions of time) → one synthesiser
//! per axis (harmonics of the shaft, impact trains through a resonance, noise) → samples in g; the [`Truth`] reads the same schedule.

mod axis;
mod bearing;
mod machine;
mod random;
mod schedule;
mod spec;
mod thermal;
mod truth;

pub use axis::Axis;
pub use bearing::{BearingSpec, Defect};
pub use machine::Machine;
pub use schedule::Schedule;
pub use spec::{DayCycle, FaultChange, FaultKind, GearSpec, Growth, LoadChange, MachineSpec, SpecError, ThermalSpec};
pub use truth::{FaultTruth, MachineState, Truth};
