//! How faults show: the table of injected faults, in healthy scales, relative to the feature that shows each most.
//!
//! Not written by hand: each line is what the simulator's physics does to the production features of machines that differ as machines of a
//! kind do (`physics.rs`). The test `the_table_is_what_the_simulators_physics_says_to_the_last_digit` makes it again and prints the whole
//! table where it differs; that is the command to make it anew. Features that a fault moves by less than a twentieth of the most are left out.

use crate::evaluate::Direction;

/// The faults that these features can show, each in proportion to the one of them that shows it most.
pub(crate) fn shown(names: &[&str]) -> Vec<Direction> {
    let of = |(fault, moved): &(&str, &[(&str, f32)])| {
        let by = |name: &&str| moved.iter().find(|(pattern, _)| fits(name, pattern)).map_or(0.0, |(_, by)| *by);
        let shift: Vec<f32> = names.iter().map(by).collect();
        let most = shift.iter().fold(0.0, |most: f32, by| most.max(by.abs()));
        let shift = shift.into_iter().map(|by| by / most.max(SHOWN)).collect();
        (most >= SHOWN).then(|| Direction { name: (*fault).to_owned(), shift })
    };
    FAULTS.iter().filter_map(of).collect()
}

/// `r*.mean` is the mean of any reading; other names stand for themselves.
fn fits(name: &str, pattern: &str) -> bool {
    match (pattern.split_once('*'), name.split_once('.')) {
        (Some((before, after)), Some((channel, statistic))) => {
            channel.starts_with(before) && after.strip_prefix('.') == Some(statistic)
        }
        (Some(_), None) => false,
        (None, _) => name == pattern,
    }
}

/// Part of its strongest feature that a fault must still move to count as shown.
const SHOWN: f32 = 0.2;

/// Made by the simulator's physics; see above.
#[rustfmt::skip]
pub(crate) const FAULTS: [(&str, &[(&str, f32)]); 10] = [
    ("bearing outer race", &[
        ("mean", 0.24), ("rms", 0.23), ("peak", 0.25), ("peak_to_peak", 0.27),
        ("crest_factor", 0.14), ("shape_factor", 0.24), ("impulse_factor", 0.15), ("clearance_factor", 0.16),
        ("skewness", 0.09), ("kurtosis", 0.37), ("zero_crossing_rate", 0.10), ("band_rms_06", 0.11),
        ("band_rms_07", 0.07), ("band_rms_08", 0.15), ("band_rms_09", 0.07), ("band_rms_10", 0.08),
        ("spectral_centroid", 0.12), ("spectral_spread", -0.22), ("spectral_entropy", -0.06), ("peak_2_amplitude", 0.24),
        ("peak_3_amplitude", 0.20), ("envelope_rms", 0.32), ("envelope_kurtosis", 0.39), ("bpfo_amplitude", 1.00),
        ("bpfo_snr", 0.70), ("bpfi_amplitude", 0.35), ("bpfi_snr", 0.15), ("bsf2_amplitude", 0.23),
        ("bsf2_snr", 0.07), ("ftf_amplitude", 0.17),
    ]),
    ("bearing inner race", &[
        ("mean", 0.17), ("rms", 0.20), ("peak", 0.38), ("peak_to_peak", 0.42),
        ("crest_factor", 0.33), ("shape_factor", 0.39), ("impulse_factor", 0.35), ("clearance_factor", 0.36),
        ("skewness", 0.13), ("kurtosis", 0.72), ("zero_crossing_rate", 0.08), ("band_rms_05", 0.05),
        ("band_rms_06", 0.09), ("band_rms_07", 0.07), ("band_rms_08", 0.12), ("band_rms_09", 0.07),
        ("band_rms_10", 0.08), ("spectral_centroid", 0.11), ("spectral_spread", -0.19), ("peak_2_amplitude", 0.17),
        ("peak_3_amplitude", 0.14), ("envelope_rms", 0.28), ("envelope_kurtosis", 1.00), ("bpfo_amplitude", 0.39),
        ("bpfo_snr", 0.12), ("bpfi_amplitude", 0.62), ("bpfi_snr", 0.33), ("bsf2_amplitude", 0.19),
        ("ftf_amplitude", 0.39), ("ftf_snr", 0.17),
    ]),
    ("bearing rolling element", &[
        ("mean", 0.17), ("rms", 0.19), ("peak", 0.39), ("peak_to_peak", 0.43),
        ("crest_factor", 0.36), ("shape_factor", 0.33), ("impulse_factor", 0.37), ("clearance_factor", 0.38),
        ("skewness", 0.10), ("kurtosis", 0.64), ("zero_crossing_rate", 0.07), ("band_rms_05", 0.05),
        ("band_rms_06", 0.07), ("band_rms_07", 0.07), ("band_rms_08", 0.10), ("band_rms_09", 0.06),
        ("band_rms_10", 0.07), ("spectral_centroid", 0.10), ("spectral_spread", -0.17), ("peak_2_amplitude", 0.20),
        ("peak_3_amplitude", 0.19), ("envelope_rms", 0.26), ("envelope_kurtosis", 1.00), ("bpfo_amplitude", 0.11),
        ("bpfo_snr", -0.10), ("bpfi_amplitude", 0.18), ("bsf2_amplitude", 0.51), ("bsf2_snr", 0.23),
        ("ftf_amplitude", 0.28), ("ftf_snr", 0.07),
    ]),
    ("bearing cage", &[
        ("mean", 0.05), ("rms", 0.10), ("peak", 0.43), ("peak_to_peak", 0.45),
        ("crest_factor", 0.48), ("shape_factor", 0.27), ("impulse_factor", 0.49), ("clearance_factor", 0.49),
        ("skewness", 0.08), ("kurtosis", 0.61), ("band_rms_08", 0.06), ("spectral_centroid", 0.05),
        ("spectral_spread", -0.09), ("peak_3_amplitude", 0.13), ("envelope_rms", 0.14), ("envelope_kurtosis", 1.00),
        ("bpfo_amplitude", 0.12), ("bpfo_snr", -0.07), ("bpfi_amplitude", 0.13), ("bsf2_amplitude", 0.14),
        ("ftf_amplitude", 0.11), ("ftf_snr", -0.08),
    ]),
    ("unbalance", &[
        ("rms", 0.26), ("peak", 0.11), ("peak_to_peak", 0.13), ("crest_factor", -0.05),
        ("shape_factor", -0.13), ("impulse_factor", -0.06), ("clearance_factor", -0.06), ("kurtosis", -0.15),
        ("zero_crossing_rate", -0.90), ("band_rms_00", 0.88), ("spectral_centroid", -1.00), ("spectral_spread", 0.51),
        ("spectral_entropy", -0.66), ("peak_1_amplitude", 0.86), ("velocity_rms", 0.84), ("shaft_1x", 0.86),
    ]),
    ("misalignment", &[
        ("rms", 0.09), ("zero_crossing_rate", -0.30), ("band_rms_00", 0.33), ("spectral_centroid", -0.37),
        ("spectral_spread", 0.21), ("spectral_entropy", -0.16), ("peak_1_amplitude", 0.14), ("peak_2_amplitude", 0.53),
        ("peak_3_amplitude", 0.30), ("velocity_rms", 0.18), ("shaft_1x", 0.14), ("shaft_2x", 1.00),
        ("shaft_3x", 0.07),
    ]),
    ("looseness", &[
        ("rms", 0.17), ("peak", 0.09), ("peak_to_peak", 0.11), ("zero_crossing_rate", -0.59),
        ("band_rms_00", 0.61), ("spectral_centroid", -0.68), ("spectral_spread", 0.38), ("spectral_entropy", -0.29),
        ("peak_1_amplitude", 0.37), ("peak_2_amplitude", 0.37), ("peak_3_amplitude", 0.34), ("velocity_rms", 0.44),
        ("shaft_half", 0.33), ("shaft_1x", 0.37), ("shaft_2x", 0.94), ("shaft_3x", 1.00),
    ]),
    ("gear", &[
        ("rms", 0.55), ("peak", 0.13), ("peak_to_peak", 0.16), ("crest_factor", -0.12),
        ("shape_factor", -0.42), ("impulse_factor", -0.15), ("clearance_factor", -0.16), ("kurtosis", -0.40),
        ("zero_crossing_rate", -0.43), ("band_rms_02", 0.98), ("spectral_centroid", -0.37), ("spectral_spread", -0.33),
        ("spectral_entropy", -0.41), ("peak_1_amplitude", 1.00),
    ]),
    ("cavitation", &[
        ("rms", 0.54), ("peak", 0.35), ("peak_to_peak", 0.41), ("shape_factor", 0.08),
        ("kurtosis", 0.13), ("zero_crossing_rate", 0.86), ("band_rms_02", 0.07), ("band_rms_03", 0.13),
        ("band_rms_04", 0.18), ("band_rms_05", 0.26), ("band_rms_06", 0.32), ("band_rms_07", 0.09),
        ("band_rms_08", 0.06), ("band_rms_09", 0.08), ("band_rms_10", 0.44), ("band_rms_11", 0.77),
        ("band_rms_12", 0.76), ("band_rms_13", 0.95), ("band_rms_14", 0.99), ("band_rms_15", 0.96),
        ("spectral_centroid", 1.00), ("spectral_spread", 0.18), ("spectral_entropy", 0.32), ("peak_2_amplitude", 0.06),
        ("peak_3_amplitude", 0.05), ("envelope_rms", 0.59), ("envelope_kurtosis", 0.09), ("bpfi_amplitude", 0.06),
        ("bsf2_amplitude", 0.05), ("ftf_amplitude", 0.07),
    ]),
    ("cooling", &[
        ("temperature_level", 0.39), ("temperature_slope", 0.13), ("temperature_difference", 1.00), ("r*.mean", 0.97),
        ("r*.std", 0.23), ("r*.min", 0.96), ("r*.max", 0.97), ("r*.slope", 0.34),
        ("r*.last", 1.00),
    ]),
];
