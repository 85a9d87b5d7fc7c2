//! F1: the same rows give the same bits on every target, by each family and kernel; these digests were computed on x86-64 and must come
//! out anywhere. (`tests/bits` does the same behind set S, on every core.)

use crate::example::{Numbers, Room, all};
use kilter_infer::{Artifact, Scratch};

#[test]
fn ten_thousand_rows_give_the_recorded_bits_by_each_family_and_kernel() {
    let found: Vec<_> = all().into_iter().map(|(name, bytes)| (name, digest(&bytes))).collect();
    assert_eq!(found, DIGESTS, "{found:#x?}");
}

/// FNV-1a over everything that comes out: anomaly, contributions, a life, and what a forecaster announces.
fn digest(bytes: &[u8]) -> u64 {
    let artifact = Artifact::parse(bytes).expect("the example parses");
    let (mut state, mut scratch, mut numbers) = (Room::new(), Scratch::new(), Numbers(71));
    let mut announced = vec![0.0; artifact.inputs()];
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    let mut take = |value: f32| digest = (digest ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3);
    for _ in 0..10_000 {
        let row = numbers.take(artifact.inputs(), 4.0);
        if let Some(scored) = artifact.push(&row, &mut state, &mut scratch).expect("the row is good") {
            take(scored.anomaly);
            scored.contributions.iter().for_each(|part| take(*part));
            scored.rul.iter().flat_map(|life| [life.value, life.low, life.high]).for_each(&mut take);
        }
        if artifact.forecast(&state, &mut scratch, &mut announced).is_some() {
            announced.iter().for_each(|value| take(*value));
        }
    }
    digest
}

/// Change only together with a kernel's id.
const DIGESTS: [(&str, u64); 8] = [
    ("statistic", 0xdda5_a748_a68e_e533),
    ("lstm_autoencoder", 0x6e1a_b03d_3b3b_f268),
    ("lstm_forecaster", 0xd6fc_fbb1_2608_9915),
    ("rul_head", 0x60da_3578_b9bf_951e),
    ("quadratic", 0x2122_71ac_0f19_8cab),
    ("lstm_autoencoder_int8", 0x9f1e_f2a9_9d2e_1e0d),
    ("lstm_forecaster_int8", 0x3fa6_c5cc_6fc0_3de2),
    ("rul_head_int8", 0x70a8_acff_fb8a_7d5a),
];
