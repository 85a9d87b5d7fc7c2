//! Places of the vibration features in their vector; the number of a feature is its place plus one.

/// `mean`
pub const MEAN: usize = 0;
/// `rms`
pub const RMS: usize = 1;
/// `peak`
pub const PEAK: usize = 2;
/// `peak_to_peak`
pub const PEAK_TO_PEAK: usize = 3;
/// `crest_factor`
pub const CREST_FACTOR: usize = 4;
/// `shape_factor`
pub const SHAPE_FACTOR: usize = 5;
/// `impulse_factor`
pub const IMPULSE_FACTOR: usize = 6;
/// `clearance_factor`
pub const CLEARANCE_FACTOR: usize = 7;
/// `skewness`
pub const SKEWNESS: usize = 8;
/// `kurtosis`
pub const KURTOSIS: usize = 9;
/// `zero_crossing_rate`
pub const ZERO_CROSSING_RATE: usize = 10;
/// `band_rms_00`
pub const BAND_RMS_00: usize = 11;
/// `band_rms_01`
pub const BAND_RMS_01: usize = 12;
/// `band_rms_02`
pub const BAND_RMS_02: usize = 13;
/// `band_rms_03`
pub const BAND_RMS_03: usize = 14;
/// `band_rms_04`
pub const BAND_RMS_04: usize = 15;
/// `band_rms_05`
pub const BAND_RMS_05: usize = 16;
/// `band_rms_06`
pub const BAND_RMS_06: usize = 17;
/// `band_rms_07`
pub const BAND_RMS_07: usize = 18;
/// `band_rms_08`
pub const BAND_RMS_08: usize = 19;
/// `band_rms_09`
pub const BAND_RMS_09: usize = 20;
/// `band_rms_10`
pub const BAND_RMS_10: usize = 21;
/// `band_rms_11`
pub const BAND_RMS_11: usize = 22;
/// `band_rms_12`
pub const BAND_RMS_12: usize = 23;
/// `band_rms_13`
pub const BAND_RMS_13: usize = 24;
/// `band_rms_14`
pub const BAND_RMS_14: usize = 25;
/// `band_rms_15`
pub const BAND_RMS_15: usize = 26;
/// `spectral_centroid`
pub const SPECTRAL_CENTROID: usize = 27;
/// `spectral_spread`
pub const SPECTRAL_SPREAD: usize = 28;
/// `spectral_entropy`
pub const SPECTRAL_ENTROPY: usize = 29;
/// `peak_1_frequency`
pub const PEAK_1_FREQUENCY: usize = 30;
/// `peak_1_amplitude`
pub const PEAK_1_AMPLITUDE: usize = 31;
/// `peak_2_frequency`
pub const PEAK_2_FREQUENCY: usize = 32;
/// `peak_2_amplitude`
pub const PEAK_2_AMPLITUDE: usize = 33;
/// `peak_3_frequency`
pub const PEAK_3_FREQUENCY: usize = 34;
/// `peak_3_amplitude`
pub const PEAK_3_AMPLITUDE: usize = 35;
/// `velocity_rms`
pub const VELOCITY_RMS: usize = 36;
/// `envelope_rms`
pub const ENVELOPE_RMS: usize = 37;
/// `envelope_kurtosis`
pub const ENVELOPE_KURTOSIS: usize = 38;
/// `bpfo_amplitude`
pub const BPFO_AMPLITUDE: usize = 39;
/// `bpfo_snr`
pub const BPFO_SNR: usize = 40;
/// `bpfi_amplitude`
pub const BPFI_AMPLITUDE: usize = 41;
/// `bpfi_snr`
pub const BPFI_SNR: usize = 42;
/// `bsf2_amplitude`
pub const BSF2_AMPLITUDE: usize = 43;
/// `bsf2_snr`
pub const BSF2_SNR: usize = 44;
/// `ftf_amplitude`
pub const FTF_AMPLITUDE: usize = 45;
/// `ftf_snr`
pub const FTF_SNR: usize = 46;
/// `shaft_half`
pub const SHAFT_HALF: usize = 47;
/// `shaft_1x`
pub const SHAFT_1X: usize = 48;
/// `shaft_2x`
pub const SHAFT_2X: usize = 49;
/// `shaft_3x`
pub const SHAFT_3X: usize = 50;
