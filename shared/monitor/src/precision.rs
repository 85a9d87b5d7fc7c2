//! Fewer bits for each value of a feature row: fewer bytes on disk and line, at a stated error, and the same bits for everybody.
//!
//! A row is rounded before anything else sees it, so the limits, the baseline, the models, the journal and the lake all have the very values
//! that a score names, and scoring the lake's rows again gives the device's score. The diagnosis works on the spectrum itself.

/// Every bit of an f32.
pub const EXACT_BITS: u8 = 24;
/// Fewer would leave no digit: 8 bits are 0.4 % of a value.
pub const LEAST_BITS: u8 = 8;

/// The nearest value with so many significant bits, ties to even: off by at most 2^-bits of the value.
pub(crate) fn rounded(value: f32, bits: u8) -> f32 {
    let drop = u32::from(EXACT_BITS.saturating_sub(bits));
    if drop == 0 || !value.is_normal() {
        return value;
    }
    let plain = value.to_bits();
    let half = (1 << (drop - 1)) - 1 + (plain >> drop & 1);
    let near = f32::from_bits((plain + half) & !((1 << drop) - 1));
    // At the very end of the range nearest would be infinity.
    if near.is_finite() { near } else { f32::from_bits(plain & !((1 << drop) - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_moves_by_at_most_its_declared_part_and_keeps_only_its_bits() {
        let mut state = 7u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(state);
            if !value.is_normal() {
                continue;
            }
            assert_eq!(rounded(value, EXACT_BITS).to_bits(), value.to_bits());
            for bits in [LEAST_BITS, 11, 16] {
                let near = rounded(value, bits);
                assert!(near.is_finite());
                let clear = near.to_bits() & ((1 << (EXACT_BITS - bits)) - 1);
                assert_eq!(clear, 0, "{value} keeps more than {bits} bits");
                let bound = f64::from(value).abs() / f64::from(1u32 << bits);
                let end = f64::from(value).abs() > f64::from(f32::MAX) * 0.99;
                assert!(end || (f64::from(near) - f64::from(value)).abs() <= bound, "{value} became {near}");
                assert_eq!(rounded(near, bits).to_bits(), near.to_bits(), "once is enough");
            }
        }
    }

    #[test]
    fn what_has_no_digits_to_lose_is_left_alone_and_ties_go_to_even() {
        for value in [0.0, -0.0, f32::INFINITY, f32::MIN_POSITIVE / 2.0] {
            assert_eq!(rounded(value, 8).to_bits(), value.to_bits());
        }
        assert!(rounded(f32::NAN, 8).is_nan());
        assert!(rounded(f32::MAX, 8).is_finite());
        assert_eq!(rounded(1.0 + 1.0 / 256.0, 8), 1.0);
        assert_eq!(rounded(1.0 + 3.0 / 256.0, 8), 1.0 + 4.0 / 256.0);
    }
}
