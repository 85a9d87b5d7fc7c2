//! Every width of register gives the bits of the portable loops.

use kilter_infer::{
    kernel,
    rescore::SIDE,
    simd::{Width, add_pairs_with, add_rows_beside_with, add_rows_with, cell_with},
};
use proptest::prelude::*;

const WIDTHS: [Width; 2] = [Width::Half, Width::Full];

/// Finite, from the smallest to what weights and inputs may be, both signs, both zeros, subnormals.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -10.0f32..10.0,
        1 => -1e6f32..1e6,
        1 => prop::num::f32::ANY.prop_map(|v| if v.is_finite() { v.clamp(-1e6, 1e6) } else { 0.0 }),
    ]
}

fn values(count: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(value(), count)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_product_of_rows_has_the_portable_bits_in_every_width_and_at_every_address(
        (inputs, rows, out) in (0usize..20, 1usize..140)
            .prop_flat_map(|(inputs, outputs)| (values(inputs), values(inputs * outputs), values(outputs))),
        shift in 0usize..4,
    ) {
        let mut shifted = vec![0; shift];
        shifted.extend(bytes(&rows));
        let mut expected = out.clone();
        kernel::add_rows(&shifted[shift..], &inputs, &mut expected);
        for width in WIDTHS {
            let mut found = out.clone();
            add_rows_with(width, &shifted[shift..], &inputs, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", width);
        }
    }

    #[test]
    fn products_side_by_side_have_the_portable_bits_in_every_width(
        (inputs, rows, out) in (0usize..12, 1usize..90).prop_flat_map(|(inputs, outputs)| {
            (values(SIDE * inputs), values(inputs * outputs), values(SIDE * outputs))
        }),
    ) {
        let (rows, width) = (bytes(&rows), (inputs.len() / SIDE, out.len() / SIDE));
        let inputs: [&[f32]; SIDE] = std::array::from_fn(|s| &inputs[s * width.0..][..width.0]);
        let mut expected = out.clone();
        for (inputs, out) in inputs.iter().zip(expected.chunks_mut(width.1)) {
            kernel::add_rows(&rows, inputs, out);
        }
        for registers in [Width::Portable, Width::Half, Width::Full] {
            let mut found = out.clone();
            let mut places = found.chunks_mut(width.1);
            let places: [&mut [f32]; SIDE] = std::array::from_fn(|_| places.next().expect("one per vector"));
            add_rows_beside_with(registers, &rows, inputs, places);
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", registers);
        }
    }

    #[test]
    fn a_product_of_integers_has_the_portable_bits_in_every_width(
        (inputs, pairs, scales, out) in (0usize..12, 1usize..140).prop_flat_map(|(twos, outputs)| (
            prop::collection::vec(-32_767i16..=32_767, 2 * twos),
            prop::collection::vec(any::<u8>(), 2 * twos * outputs),
            prop::collection::vec(0.0f32..7_874.0, outputs),
            values(outputs),
        )),
    ) {
        let scales = bytes(&scales);
        let mut expected = out.clone();
        kernel::add_pairs(&pairs, &inputs, &scales, 0.000_3, &mut expected);
        for width in WIDTHS {
            let mut found = out.clone();
            add_pairs_with(width, &pairs, &inputs, &scales, 0.000_3, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", width);
        }
    }

    #[test]
    fn a_cell_has_the_portable_bits_in_every_width(
        (gates, cell) in (1usize..=8).prop_flat_map(|eights| (values(32 * eights), values(8 * eights))),
    ) {
        let (mut expected, mut expected_hidden) = (cell.clone(), vec![0.0; cell.len()]);
        kernel::cell(&gates, &mut expected, &mut expected_hidden);
        for width in WIDTHS {
            let (mut found, mut hidden) = (cell.clone(), vec![0.0; cell.len()]);
            cell_with(width, &gates, &mut found, &mut hidden);
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", width);
            prop_assert_eq!(bits(&hidden), bits(&expected_hidden), "{:?}", width);
        }
    }
}

#[test]
fn the_largest_integer_sums_stay_within_32_bits_in_every_width() {
    let outputs = 9;
    let (inputs, pairs, scales) = (vec![-32_767i16; 320], vec![0x80u8; 320 * outputs], bytes(&vec![1.0; outputs]));
    for width in [Width::Portable, Width::Half, Width::Full] {
        let mut out = vec![0.0; outputs];
        add_pairs_with(width, &pairs, &inputs, &scales, 1.0, &mut out);
        assert_eq!(out, vec![1_342_136_320.0; outputs], "{width:?}");
    }
}
