//! The reference values of the data folder (numpy and scipy in f64), where the definitions are the same.

mod support;

use kilter_signal::{
    extract::VibrationSetup,
    table::{VIBRATION, at},
};
use kilter_types::Hertz;
use support::Analyser;

const SAME: [(&str, usize); 11] = [
    ("mean", at::MEAN),
    ("rms_ac", at::RMS),
    ("peak", at::PEAK),
    ("p2p", at::PEAK_TO_PEAK),
    ("skewness", at::SKEWNESS),
    ("kurtosis_pearson", at::KURTOSIS),
    ("crest", at::CREST_FACTOR),
    ("shape", at::SHAPE_FACTOR),
    ("impulse", at::IMPULSE_FACTOR),
    ("clearance", at::CLEARANCE_FACTOR),
    ("velocity_rms_mm_s_10_1000", at::VELOCITY_RMS),
];

#[test]
fn moments_and_velocity_agree_with_the_golden_file_within_one_in_ten_thousand() {
    let Some(root) = support::data(9 * SAME.len()) else { return };
    let golden = support::json(root.join("golden_features.json"));
    let meta = support::json(root.join("cwru/meta.json"));
    let mut worst = ("", 0.0f64);
    let mut checked = 0;
    for (key, entry) in golden.as_object().expect("an object") {
        let Some(name) = key.strip_prefix("cwru/") else { continue };
        let reference = &entry["first_12000"];
        let rate = meta[name]["fs_hz"].as_f64().expect("a number") as f32;
        let samples = support::npy(root.join(format!("cwru/{name}.npy")));
        let setup = VibrationSetup::new(Hertz(rate)).expect("a sound rate");
        let mut analyser = Analyser::new(12_000);
        let window = analyser.run(&samples, &setup);
        for (field, place) in SAME {
            let expected = reference[field].as_f64().expect("a number");
            let got = f64::from(window.get(place).expect("valid"));
            let scale = f64::from(VIBRATION[place].scale);
            let error = (got - expected).abs() / expected.abs().max(scale);
            assert!(error <= 1e-4, "{name} {field}: {got} for {expected}");
            if error > worst.1 {
                worst = (field, error);
            }
            checked += 1;
        }
    }
    println!("{checked} values, greatest error {:.1e} ({})", worst.1, worst.0);
    assert_eq!(checked, 9 * SAME.len());
}
