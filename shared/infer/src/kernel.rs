//! The arithmetic of `KernelId::PORTABLE_F32`: additions, multiplications and divisions in a fixed order, nothing else.
//!
//! Each of eight lanes adds its own products one after the other and no multiply-add is fused, so the bits do not depend on
//! how wide the target's registers are. `tanh` and the logistic function are one rational approximation, because a
//! target's own `exp` differs in the last bits. Changing any bit here means a new kernel id.

/// How many sums run side by side.
pub const LANES: usize = 8;

/// The sum of the values: lane `l` takes values `l`, `l + 8`, ...; then halves are added pairwise.
pub fn sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for chunk in values.chunks(LANES) {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// The hyperbolic tangent within 4e-7 of the true value; never outside [-1, 1].
pub fn tanh(x: f32) -> f32 {
    let x = x.clamp(-9.0, 9.0);
    let u = x * x;
    let p = (((P[4] * u + P[3]) * u + P[2]) * u + P[1]) * u + P[0];
    let q = (((Q[4] * u + Q[3]) * u + Q[2]) * u + Q[1]) * u + Q[0];
    (x * p / q).clamp(-1.0, 1.0)
}

/// The logistic function within 2e-7 of the true value; never outside [0, 1].
pub fn sigmoid(x: f32) -> f32 {
    0.5 * tanh(0.5 * x) + 0.5
}

/// How many bytes a matrix with its biases takes in an artifact.
pub(crate) fn matrix_bytes(outputs: usize, inputs: usize) -> usize {
    outputs.div_ceil(LANES) * LANES * (inputs + 1) * 4
}

/// `out = bias + matrix * [first, second]`, the matrix as panels of eight outputs; padding outputs are dropped.
pub(crate) fn affine(matrix: &[u8], first: &[f32], second: &[f32], out: &mut [f32]) {
    let inputs = first.len() + second.len();
    let panels = out.len().div_ceil(LANES);
    let (weights, biases) = matrix.split_at(panels * inputs * PANEL_BYTES);
    let biases = biases.as_chunks::<PANEL_BYTES>().0;
    let mut panel = 0;
    // Several panels side by side hide the latency of an addition; every lane's own order stays.
    while panel + 4 <= panels {
        rows::<4>(weights, biases, panel, first, second, out);
        panel += 4;
    }
    while panel < panels {
        rows::<1>(weights, biases, panel, first, second, out);
        panel += 1;
    }
}

fn rows<const N: usize>(
    weights: &[u8],
    biases: &[[u8; PANEL_BYTES]],
    panel: usize,
    first: &[f32],
    second: &[f32],
    out: &mut [f32],
) {
    let inputs = first.len() + second.len();
    let weights = weights.as_chunks::<PANEL_BYTES>().0;
    let columns: [&[[u8; PANEL_BYTES]]; N] =
        core::array::from_fn(|i| &weights[(panel + i) * inputs..(panel + i + 1) * inputs]);
    let mut sums: [[f32; LANES]; N] = core::array::from_fn(|i| lanes(&biases[panel + i]));
    for (k, value) in first.iter().chain(second).enumerate() {
        for (sum, column) in sums.iter_mut().zip(&columns) {
            let weight = lanes(&column[k]);
            for lane in 0..LANES {
                sum[lane] += weight[lane] * value;
            }
        }
    }
    for (out, sum) in out[panel * LANES..].chunks_mut(LANES).zip(&sums) {
        out.copy_from_slice(&sum[..out.len()]);
    }
}

fn lanes(bytes: &[u8; PANEL_BYTES]) -> [f32; LANES] {
    let (numbers, _) = bytes.as_chunks::<4>();
    core::array::from_fn(|lane| f32::from_le_bytes(numbers[lane]))
}

const PANEL_BYTES: usize = LANES * 4;

// tanh(x) / x = P(x^2) / Q(x^2) on [-9, 9]; a weighted least-squares fit, iterated until the largest relative error was even.
const P: [f32; 5] = [1.0, 0.133_810_2, 0.003_495_583, 2.060_9e-5, 1.335_455_2e-8];
const Q: [f32; 5] = [1.0, 0.467_143_36, 0.025_876_964, 0.000_328_562_66, 7.776_513e-7];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_and_sigmoid_stay_within_their_stated_errors() {
        let (mut worst_tanh, mut worst_sigmoid) = (0.0f64, 0.0f64);
        for i in -120_000i32..=120_000 {
            let x = i as f32 / 8_000.0;
            worst_tanh = worst_tanh.max((f64::from(tanh(x)) - f64::from(x).tanh()).abs());
            worst_sigmoid = worst_sigmoid.max((f64::from(sigmoid(x)) - 1.0 / (1.0 + (-f64::from(x)).exp())).abs());
        }
        assert!(worst_tanh < 4e-7 && worst_sigmoid < 2e-7, "tanh {worst_tanh:e}, sigmoid {worst_sigmoid:e}");
        assert_eq!((tanh(f32::MAX), tanh(f32::MIN), tanh(0.0)), (1.0, -1.0, 0.0));
    }

    #[test]
    fn tanh_rises_but_for_its_stated_error_and_is_odd() {
        let mut last = -1.0;
        for i in -20_000i32..=20_000 {
            let x = i as f32 / 2_000.0;
            let y = tanh(x);
            assert!(y >= last - 8e-7, "tanh fell at {x}");
            assert_eq!(tanh(-x).to_bits(), (-y).to_bits());
            last = y;
        }
    }

    #[test]
    fn the_sum_has_the_bits_of_its_written_order() {
        let values: std::vec::Vec<f32> = (0..19).map(|i| 0.1 * i as f32 - 0.7).collect();
        let lane = |l: usize| values.iter().skip(l).step_by(8).fold(0.0f32, |sum, v| sum + v);
        let expected = ((lane(0) + lane(4)) + (lane(2) + lane(6))) + ((lane(1) + lane(5)) + (lane(3) + lane(7)));
        assert_eq!(sum(&values).to_bits(), expected.to_bits());
    }

    #[test]
    fn blocks_of_panels_do_not_change_a_bit() {
        for outputs in [1usize, 7, 8, 20, 32, 33, 64] {
            let (first, second) = ([0.3f32, -1.7, 2.5], [0.01f32, 9.0]);
            let padded = outputs.div_ceil(8) * 8;
            let weight = |out: usize, k: usize| ((out * 31 + k * 17) % 23) as f32 * 0.137 - 1.1;
            let mut bytes = std::vec::Vec::new();
            for panel in 0..padded / 8 {
                for k in 0..5 {
                    for lane in 0..8 {
                        bytes.extend(weight(panel * 8 + lane, k).to_le_bytes());
                    }
                }
            }
            for out in 0..padded {
                bytes.extend((out as f32 * 0.5).to_le_bytes());
            }
            assert_eq!(bytes.len(), matrix_bytes(outputs, 5));
            let mut out = std::vec![0.0f32; outputs];
            affine(&bytes, &first, &second, &mut out);
            for (o, value) in out.iter().enumerate() {
                let x = [first[0], first[1], first[2], second[0], second[1]];
                let expected = (0..5).fold(o as f32 * 0.5, |sum, k| sum + weight(o, k) * x[k]);
                assert_eq!(value.to_bits(), expected.to_bits());
            }
        }
    }
}
