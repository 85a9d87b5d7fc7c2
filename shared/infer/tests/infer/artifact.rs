//! The layout: released bytes stay readable, damaged bytes are refused, nothing panics.

use std::path::{Path, PathBuf};

use crate::example::{Room, all, statistic};
use kilter_infer::{Artifact, ArtifactError, CertifyError, Scratch, format::HEADER_BYTES};
use proptest::prelude::*;

fn goldens() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new("tests/golden");
    all().into_iter().map(|(name, bytes)| (folder.join(format!("{name}_v1.kltm")), bytes)).collect()
}

#[test]
fn the_golden_artifacts_of_version_1_are_written_read_and_reproduced_bit_for_bit() {
    for (path, written) in goldens() {
        if !path.exists() && std::env::var_os("KILTER_NEW_GOLDENS").is_some() {
            std::fs::write(&path, &written).expect("the folder can be written");
        }
        let golden = std::fs::read(&path).expect("the golden file is there");
        assert!(golden == written, "the writer no longer makes {}", path.display());
        let artifact = Artifact::parse(&golden).expect("version 1 is read");
        assert_eq!(artifact.certify(&mut Room::new(), &mut Scratch::new()), Ok(()));
        assert_eq!(artifact.features().next().map(|f| (f.id.0, f.hash)), Some((100, 0x1234_5678)));
        let rebound = artifact.layout().bind(&golden).expect("the same bytes have the same length");
        assert_eq!(rebound.certify(&mut Room::new(), &mut Scratch::new()), Ok(()));
        assert!(artifact.layout().bind(&golden[1..]).is_none());
    }
}

#[test]
fn a_golden_bit_that_differs_is_found_p3() {
    for (path, bytes) in goldens() {
        let artifact = Artifact::parse(&bytes).expect("the example parses");
        let (n, length) = (artifact.inputs(), artifact.sequence_len());
        let estimate =
            if path.ends_with("rul_head_v1.kltm") || path.ends_with("rul_head_int8_v1.kltm") { 12 } else { 0 };
        let anomaly = bytes.len() - 4 * (1 + n) - estimate;
        assert_eq!((bytes.len() - HEADER_BYTES) % 4, 0);
        let certify = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            let artifact = Artifact::parse(&bytes).expect("the lowest bit of a float may be either");
            artifact.certify(&mut Room::new(), &mut Scratch::new())
        };
        assert_eq!(certify(anomaly), Err(CertifyError::Anomaly(1)));
        assert_eq!(certify(anomaly + 8), Err(CertifyError::Contribution { window: 1, feature: 1 }));
        for place in 0..estimate / 4 {
            assert_eq!(certify(bytes.len() - estimate + 4 * place), Err(CertifyError::Estimate(1)));
        }
        let first_golden = bytes.len() - 2 * (4 * (length * n + 1 + n) + estimate);
        assert!(certify(first_golden + 2).is_err(), "{}: another input row gives another score", path.display());
    }
}

#[test]
fn each_header_field_out_of_bounds_is_named() {
    let bytes = statistic(5, 3);
    let parse = |at: usize, value: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        Artifact::parse(&bytes).map(|_| ())
    };
    assert_eq!(parse(0, b"X"), Err(ArtifactError::Magic));
    assert_eq!(parse(4, &[2, 0]), Err(ArtifactError::Version(2)));
    assert_eq!(parse(6, &[9, 0]), Err(ArtifactError::Kernel(9)));
    assert_eq!(parse(8, &[5]), Err(ArtifactError::Family(5)));
    assert_eq!(parse(6, &[2, 0]), Err(ArtifactError::Kernel(2)), "a statistic has no int8 form");
    for (at, value) in [
        (9, 4),
        (10, 8),
        (11, 3),
        (12, 0),
        (12, 65),
        (13, 0),
        (14, 8),
        (15, 1),
        (16, 17),
        (17, 0),
        (18, 1),
        (19, 1),
        (40, 1),
        (43, 1),
    ] {
        assert_eq!(parse(at, &[value]), Err(ArtifactError::Header(at)), "offset {at} value {value}");
    }
    for (at, value) in [(24, f32::NAN), (24, 0.0), (28, -1.0), (32, f32::INFINITY), (36, 1.5), (44, 0.1)] {
        assert_eq!(parse(at, &value.to_le_bytes()), Err(ArtifactError::Number(at)), "offset {at} value {value}");
    }
    assert!(matches!(parse(12, &[6]), Err(ArtifactError::Size { .. })));
    assert!(matches!(parse(20, &[0]), Err(ArtifactError::Size { .. })));
    assert_eq!(Artifact::parse(&bytes[..47]).map(|_| ()), Err(ArtifactError::Truncated));
}

#[test]
fn every_truncation_is_refused() {
    for (_, bytes) in goldens() {
        for length in 0..bytes.len() {
            assert!(Artifact::parse(&bytes[..length]).is_err());
        }
    }
}

/// Whatever parses can be certified and scored without a panic.
fn exercise(bytes: &[u8]) {
    let Ok(artifact) = Artifact::parse(bytes) else { return };
    let (mut state, mut scratch) = (Room::new(), Scratch::new());
    // The outcome is the bytes' business; not panicking is ours.
    let _ = artifact.certify(&mut state, &mut scratch);
    for value in [0.0, 1e30, -1e30, f32::MAX] {
        let row = vec![value; artifact.inputs()];
        for _ in 0..artifact.sequence_len() {
            if let Ok(Some(scored)) = artifact.push(&row, &mut state, &mut scratch) {
                assert!(scored.anomaly.is_finite(), "anomaly {}", scored.anomaly);
                artifact.rank(&scored);
            }
        }
    }
}

thread_local! {
    static GOLDENS: Vec<(PathBuf, Vec<u8>)> = goldens();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        exercise(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_good_beginning_never_panic(
        header in prop::collection::vec(any::<u8>(), 12..40),
        tail in prop::collection::vec(any::<u8>(), 0..2_000),
    ) {
        let mut bytes = b"KLTM\x01\x00\x01\x00".to_vec();
        bytes.extend(header.iter().map(|b| b % 5));
        bytes.extend(tail);
        exercise(&bytes);
    }

    #[test]
    fn a_damaged_artifact_never_panics(
        which in 0usize..8,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = GOLDENS.with(|goldens| goldens[which].1.clone());
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        exercise(&bytes);
    }

    #[test]
    fn saved_states_that_are_random_bytes_never_panic(
        which in 0usize..8,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let model = GOLDENS.with(|goldens| goldens[which].1.clone());
        let artifact = Artifact::parse(&model).expect("the example parses");
        if let Some((mut state, _)) = Room::load(&artifact, &bytes) {
            let mut scratch = Scratch::new();
            let row = [0.5; 6];
            let scored = artifact.push(&row[..artifact.inputs()], &mut state, &mut scratch).expect("the row is good");
            prop_assert!(scored.is_none_or(|s| s.anomaly.is_finite()));
        }
    }
}
