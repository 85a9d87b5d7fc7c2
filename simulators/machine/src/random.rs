//! Randomness that repeats: a keyed hash for draws by name and a xoshiro256++ stream for noise.
//!
//! Draws by key (`unit`, `normal`) do not depend on the order in which axes and blocks are asked for, which keeps impacts at the
//! same instant on every axis. The stream is for white noise, one stream per axis.

use std::sync::OnceLock;

/// A sequential generator (xoshiro256++), seeded through splitmix64.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    state: [u64; 4],
}

impl Stream {
    pub(crate) fn new(seed: u64, key: u64) -> Self {
        let state = [0, 1, 2, 3].map(|lane| hash(seed, key, lane));
        // All zero is the one state that never leaves itself.
        let state = if state == [0; 4] { [1, 2, 3, 4] } else { state };
        Self { state }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// Uniform in (0, 1).
    fn unit(&mut self) -> f64 {
        to_unit(self.next_u64())
    }

    /// Standard normal by the ziggurat method: one draw and one comparison in 99 of 100 cases.
    pub(crate) fn normal(&mut self) -> f64 {
        let table = ziggurat();
        loop {
            let bits = self.next_u64();
            let layer = (bits & 127) as usize;
            // 53 signed bits, independent of the layer's seven.
            let signed = ((bits as i64) >> 10) as f64 * SIGNED_53;
            let x = signed * table.edge[layer];
            if x.abs() < table.edge[layer + 1] {
                return x;
            }
            if layer == 0 {
                return self.tail(signed < 0.0);
            }
            let (low, high) = (table.height[layer], table.height[layer + 1]);
            if low + (high - low) * self.unit() < libm::exp(-0.5 * x * x) {
                return x;
            }
        }
    }

    fn tail(&mut self, negative: bool) -> f64 {
        loop {
            let x = -libm::log(self.unit()) / EDGE;
            let y = -libm::log(self.unit());
            if 2.0 * y > x * x {
                return if negative { -(EDGE + x) } else { EDGE + x };
            }
        }
    }
}

/// A uniform value in (0, 1) that belongs to `(seed, key, index)`.
pub(crate) fn unit(seed: u64, key: u64, index: u64) -> f64 {
    to_unit(hash(seed, key, index))
}

/// A standard normal value that belongs to `(seed, key, index)` (Box-Muller).
pub(crate) fn normal(seed: u64, key: u64, index: u64) -> f64 {
    let radius = libm::sqrt(-2.0 * libm::log(unit(seed, key, index)));
    let turn = unit(seed, key ^ 0x5bd1_e995_9d1b_5e0d, index);
    radius * libm::cos(std::f64::consts::TAU * turn)
}

/// A smooth random function of time: normal values on a grid of `period_s`, joined by a cubic step.
pub(crate) fn drifting(seed: u64, key: u64, t_s: f64, period_s: f64) -> f64 {
    let position = t_s.max(0.0) / period_s;
    let cell = libm::floor(position);
    let x = position - cell;
    let blend = x * x * (3.0 - 2.0 * x);
    let from = normal(seed, key, cell as u64);
    let to = normal(seed, key, cell as u64 + 1);
    from + (to - from) * blend
}

fn hash(seed: u64, key: u64, index: u64) -> u64 {
    mix(mix(mix(seed).wrapping_add(key)).wrapping_add(index))
}

/// The splitmix64 step: golden-ratio increment and finaliser.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn to_unit(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) * (1.0 / (1u64 << 53) as f64)
}

/// Layer edges (descending, the virtual base layer first) and densities at those edges, for 128 layers of equal area.
struct Ziggurat {
    edge: [f64; LAYERS + 1],
    height: [f64; LAYERS + 1],
}

fn ziggurat() -> &'static Ziggurat {
    static TABLE: OnceLock<Ziggurat> = OnceLock::new();
    TABLE.get_or_init(|| {
        let density = |x: f64| libm::exp(-0.5 * x * x);
        let mut edge = [0.0; LAYERS + 1];
        edge[0] = AREA / density(EDGE);
        edge[1] = EDGE;
        for layer in 2..LAYERS {
            let above = edge[layer - 1];
            edge[layer] = libm::sqrt(-2.0 * libm::log(AREA / above + density(above)));
        }
        edge[LAYERS] = 0.0;
        Ziggurat { edge, height: edge.map(density) }
    })
}

const LAYERS: usize = 128;
/// Where the tail begins, and the area of each layer, for 128 layers (Marsaglia and Tsang 2000).
const EDGE: f64 = 3.442_619_855_899;
const AREA: f64 = 9.912_563_035_262_17e-3;
const SIGNED_53: f64 = 1.0 / (1u64 << 53) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_draws_have_the_moments_of_a_normal_distribution() {
        let mut stream = Stream::new(7, 1);
        let n = 400_000;
        let mut sums = [0.0f64; 4];
        let mut beyond_two = 0u32;
        for _ in 0..n {
            let x = stream.normal();
            for (power, sum) in sums.iter_mut().enumerate() {
                *sum += libm::pow(x, power as f64 + 1.0);
            }
            beyond_two += u32::from(x.abs() > 2.0);
        }
        let [mean, square, cube, fourth] = sums.map(|s| s / n as f64);
        // Five standard errors of each moment.
        assert!(mean.abs() < 5.0 / 632.0, "mean {mean}");
        assert!((square - 1.0).abs() < 5.0 * 1.41 / 632.0, "variance {square}");
        assert!(cube.abs() < 5.0 * 3.87 / 632.0, "third moment {cube}");
        assert!((fourth - 3.0).abs() < 5.0 * 9.8 / 632.0, "fourth moment {fourth}");
        let share = f64::from(beyond_two) / n as f64;
        assert!((share - 0.045_5).abs() < 0.002, "share beyond two sigma {share}");
    }

    #[test]
    fn keyed_draws_do_not_depend_on_order() {
        let forward: Vec<f64> = (0..50).map(|i| normal(3, 9, i)).collect();
        let mut backward: Vec<f64> = (0..50).rev().map(|i| normal(3, 9, i)).collect();
        backward.reverse();
        assert_eq!(forward, backward);
        assert_ne!(normal(3, 9, 0), normal(3, 10, 0));
    }
}
