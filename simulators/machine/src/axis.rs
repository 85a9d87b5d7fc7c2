//! One measuring direction: the sum of shaft harmonics, gear mesh, impact trains through a resonance, and noise.
//!
//! Slow quantities (speed, load, severities) are read from the schedule once per [`CHUNK`] samples, on a grid of absolute sample
//! numbers, so the size of the blocks asked for changes no bit. Inside a chunk the shaft advances evenly and its harmonics are
//! powers of one rotating phasor at half the shaft's angle, which carries the sub-harmonics of looseness too.

use serde::{Deserialize, Serialize};

use crate::bearing::{Defect, ImpactTrain};
use crate::random::{self, Stream};
use crate::schedule::Schedule;
use crate::spec::{FaultKind, MachineSpec};

/// Direction of a vibration sensor on the bearing housing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Radial, horizontal: softest support, strongest unbalance.
    Horizontal,
    /// Radial, vertical: in the bearing's load zone, strongest impacts and looseness.
    Vertical,
    /// Along the shaft: strongest misalignment.
    Axial,
}

impl Axis {
    /// Every axis, in the order of their indices.
    pub const ALL: [Self; 3] = [Self::Horizontal, Self::Vertical, Self::Axial];

    /// The word used in plant files and channel names.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Horizontal => "horizontal",
            Self::Vertical => "vertical",
            Self::Axial => "axial",
        }
    }

    const fn gain(self) -> Gain {
        match self {
            Self::Horizontal => Gain { unbalance: 1.0, misalignment: 0.6, looseness: 0.7, gear: 1.0, impact: 0.8 },
            Self::Vertical => Gain { unbalance: 0.8, misalignment: 0.5, looseness: 1.0, gear: 0.8, impact: 1.0 },
            Self::Axial => Gain { unbalance: 0.15, misalignment: 1.0, looseness: 0.3, gear: 0.5, impact: 0.4 },
        }
    }
}

/// Sequential synthesis of one axis.
#[derive(Debug, Clone)]
pub(crate) struct Synthesiser {
    axis: Axis,
    seed: u64,
    index: u64,
    noise: Stream,
    trains: [ImpactTrain; 4],
    /// The ringing housing: rotates and decays by `pole` each sample; its imaginary part is the acceleration.
    ring: Complex,
    pole: Complex,
    /// Standard deviation of the ring's output for unit white noise at its input.
    ring_gain: f64,
    last_white: f64,
    chunk: Chunk,
}

impl Synthesiser {
    pub(crate) fn new(axis: Axis, spec: &MachineSpec, seed: u64) -> Self {
        let natural = std::f64::consts::TAU * spec.bearing.resonance_hz / spec.rate_hz;
        let damping = spec.bearing.damping;
        let damped = natural * libm::sqrt(1.0 - damping * damping);
        let decay = libm::exp(-damping * natural);
        let pole = Complex::polar(decay, damped);
        let square = decay * decay;
        let turned = Complex { re: 1.0 - square * libm::cos(2.0 * damped), im: -square * libm::sin(2.0 * damped) };
        let energy = 0.5 * (1.0 / (1.0 - square) - turned.re / turned.norm_square());
        Self {
            axis,
            seed,
            index: 0,
            noise: Stream::new(seed, KEY_NOISE + axis as u64),
            trains: Defect::ALL.map(|defect| ImpactTrain::new(defect, &spec.bearing, seed)),
            ring: Complex::ZERO,
            pole,
            ring_gain: libm::sqrt(energy).max(1e-9),
            last_white: 0.0,
            chunk: Chunk::default(),
        }
    }

    /// Number of the next sample.
    pub(crate) fn index(&self) -> u64 {
        self.index
    }

    /// Number of the first sample whose surroundings have not been read from the schedule yet.
    pub(crate) fn settled(&self) -> u64 {
        self.index.div_ceil(CHUNK) * CHUNK
    }

    pub(crate) fn fill(&mut self, out: &mut [f32], spec: &MachineSpec, schedule: &Schedule) {
        for sample in out {
            if self.index.is_multiple_of(CHUNK) {
                self.chunk = Chunk::read(self.axis, self.index, self.seed, spec, schedule);
            }
            *sample = self.next() as f32;
            self.index += 1;
        }
    }

    fn next(&mut self) -> f64 {
        let Self { chunk, ring, pole, trains, noise, .. } = self;
        *ring = ring.times(*pole);
        for (train, impact_g) in trains.iter_mut().zip(chunk.impact_g) {
            while let Some((at_rev, strength)) = train.poll(chunk.rev) {
                let age =
                    if chunk.rev_step > 0.0 { ((chunk.rev - at_rev) / chunk.rev_step).clamp(0.0, 1.0) } else { 0.0 };
                if impact_g > 0.0 {
                    *ring = ring.plus(decayed(*pole, age, impact_g * strength));
                }
            }
        }
        let (white, process) = (noise.normal(), noise.normal());
        ring.re += chunk.process_g / self.ring_gain * process;
        let hiss = (white - self.last_white) * chunk.hiss_g;
        self.last_white = white;
        let mesh = chunk.mesh_g * (1.0 + chunk.mesh_depth * chunk.half.times(chunk.half).re) * chunk.mesh.im;
        let value = chunk.harmonics() + mesh + ring.im + chunk.noise_g * white + hiss;
        chunk.advance();
        value
    }
}

/// What holds for one stretch of samples, and the phasors that run through it.
#[derive(Debug, Clone, Default)]
struct Chunk {
    rev: f64,
    rev_step: f64,
    half: Complex,
    half_step: Complex,
    mesh: Complex,
    mesh_step: Complex,
    /// Complex amplitudes at 0.5x, 1x, … 5x.
    lines: [Complex; HALF_ORDERS],
    impact_g: [f64; 4],
    mesh_g: f64,
    mesh_depth: f64,
    noise_g: f64,
    process_g: f64,
    hiss_g: f64,
}

impl Chunk {
    fn read(axis: Axis, index: u64, seed: u64, spec: &MachineSpec, schedule: &Schedule) -> Self {
        let (t_s, until_s) = (index as f64 / spec.rate_hz, (index + CHUNK) as f64 / spec.rate_hz);
        let gain = axis.gain();
        let speed = schedule.speed_ratio(t_s);
        let load = schedule.load(t_s);
        let severity = |kind| schedule.severity(kind, t_s);
        let loaded = 0.5 + 0.5 * load;
        let force = speed * speed;

        let rev = schedule.revolutions(t_s);
        let rev_step = (schedule.revolutions(until_s) - rev) / CHUNK as f64;
        let half_turn = |rev: f64| std::f64::consts::PI * (rev - 2.0 * libm::floor(rev / 2.0));

        let looseness = severity(FaultKind::Looseness) * gain.looseness * force;
        let misalignment = severity(FaultKind::Misalignment) * gain.misalignment * force * loaded;
        let unbalance = (spec.unbalance_g + UNBALANCE_G * severity(FaultKind::Unbalance)) * gain.unbalance * force;
        let mut amplitude = LOOSENESS_G.map(|g| g * looseness);
        amplitude[1] += unbalance + 0.3 * MISALIGNMENT_G * misalignment;
        amplitude[3] += MISALIGNMENT_G * misalignment + spec.misalignment_g * gain.misalignment * force * loaded;
        amplitude[5] += 0.2 * MISALIGNMENT_G * misalignment;
        let mut lines = [Complex::ZERO; HALF_ORDERS];
        for (order, line) in lines.iter_mut().enumerate() {
            // Radial axes see a turning force a quarter turn apart.
            let quarter = if axis == Axis::Vertical { 0.25 } else { 0.0 };
            let turn = random::unit(seed, KEY_PHASE, order as u64) + quarter;
            *line = Complex::polar(amplitude[order], std::f64::consts::TAU * turn);
        }

        let worst_bearing = Defect::ALL.iter().map(|defect| severity(defect.fault())).fold(0.0, f64::max);
        let hit = spec.bearing.impact_g * gain.impact * speed * (0.4 + 0.6 * load);
        let (mesh_g, mesh_depth, teeth) = spec.gear.map_or((0.0, 0.0, 0.0), |gear| {
            let wear = severity(FaultKind::Gear);
            (gear.mesh_g * gain.gear * speed * loaded * (1.0 + 2.0 * wear), 0.05 + 0.8 * wear, f64::from(gear.teeth))
        });
        let mesh_turn = |rev: f64| std::f64::consts::TAU * (teeth * rev - libm::floor(teeth * rev));
        let burst = libm::exp(0.4 * random::normal(seed, KEY_BURST + axis as u64, index / CHUNK).clamp(-3.0, 3.0));
        Self {
            rev,
            rev_step,
            half: Complex::polar(1.0, half_turn(rev)),
            half_step: Complex::polar(1.0, std::f64::consts::PI * rev_step),
            mesh: Complex::polar(1.0, mesh_turn(rev)),
            mesh_step: Complex::polar(1.0, std::f64::consts::TAU * teeth * rev_step),
            lines,
            impact_g: Defect::ALL.map(|defect| hit * severity(defect.fault())),
            mesh_g,
            mesh_depth,
            noise_g: spec.noise_g * (0.2 + 0.8 * speed * loaded),
            process_g: spec.resonant_noise_g * speed * loaded * (1.0 + 2.0 * worst_bearing * worst_bearing),
            hiss_g: CAVITATION_G * severity(FaultKind::Cavitation) * speed * burst,
        }
    }

    /// Imaginary part of the polynomial in `half` (Horner).
    fn harmonics(&self) -> f64 {
        let sum = self.lines.iter().rev().fold(Complex::ZERO, |sum, line| sum.plus(*line).times(self.half));
        sum.im
    }

    fn advance(&mut self) {
        self.rev += self.rev_step;
        self.half = self.half.times(self.half_step);
        self.mesh = self.mesh.times(self.mesh_step);
    }
}

/// How strongly one axis answers to each cause.
struct Gain {
    unbalance: f64,
    misalignment: f64,
    looseness: f64,
    gear: f64,
    impact: f64,
}

/// `f64` complex arithmetic in a fixed order.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Complex {
    re: f64,
    im: f64,
}

impl Complex {
    const ZERO: Self = Self { re: 0.0, im: 0.0 };

    fn polar(radius: f64, angle: f64) -> Self {
        Self { re: radius * libm::cos(angle), im: radius * libm::sin(angle) }
    }

    fn times(self, other: Self) -> Self {
        Self { re: self.re * other.re - self.im * other.im, im: self.re * other.im + self.im * other.re }
    }

    fn plus(self, other: Self) -> Self {
        Self { re: self.re + other.re, im: self.im + other.im }
    }

    fn norm_square(self) -> f64 {
        self.re * self.re + self.im * self.im
    }
}

/// The ringing that an impact `age` samples ago has left by now.
fn decayed(pole: Complex, age: f64, amplitude: f64) -> Complex {
    let radius = libm::sqrt(pole.norm_square());
    let angle = libm::atan2(pole.im, pole.re);
    Complex::polar(amplitude * libm::pow(radius, age), angle * age)
}

/// Samples between two looks at the schedule.
const CHUNK: u64 = 64;
const HALF_ORDERS: usize = 10;
const UNBALANCE_G: f64 = 0.3;
const MISALIGNMENT_G: f64 = 0.4;
const CAVITATION_G: f64 = 0.6;
/// Looseness at severity 1, from 0.5x to 5x in halves.
const LOOSENESS_G: [f64; HALF_ORDERS] = [0.06, 0.12, 0.10, 0.14, 0.08, 0.12, 0.05, 0.10, 0.03, 0.07];
const KEY_NOISE: u64 = 0x6e6f_6973_0000;
const KEY_PHASE: u64 = 0x7068_6173_0000;
const KEY_BURST: u64 = 0x6275_7273_0000;
