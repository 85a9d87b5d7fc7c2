//! Every width of register gives the bits of the portable loops.

use kilter_infer::{
    kernel,
    rescore::{GATES, panels},
    simd::{ABREAST, Step, Width, add_pairs_with, add_rows_beside_with, add_rows_with, cell_with, step_with},
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
            (values(ABREAST * inputs), values(inputs * outputs), values(ABREAST * outputs))
        }),
    ) {
        let (rows, width) = (bytes(&rows), (inputs.len() / ABREAST, out.len() / ABREAST));
        let inputs: [&[f32]; ABREAST] = std::array::from_fn(|s| &inputs[s * width.0..][..width.0]);
        let mut expected = out.clone();
        for (inputs, out) in inputs.iter().zip(expected.chunks_mut(width.1)) {
            kernel::add_rows(&rows, inputs, out);
        }
        for registers in [Width::Portable, Width::Half, Width::Full] {
            let mut found = out.clone();
            let mut places = found.chunks_mut(width.1);
            let places: [&mut [f32]; ABREAST] = std::array::from_fn(|_| places.next().expect("one per vector"));
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

    #[test]
    fn a_step_of_many_sequences_has_the_bits_of_a_step_of_each_in_every_width(
        (values, starts, units, inputs, count) in (1usize..=3, 0usize..6, 1usize..=9, any::<bool>()).prop_flat_map(
            |(eights, inputs, count, each)| {
                let (units, entering) = (8 * eights, inputs + 8 * eights);
                let starts = if each { count } else { 1 };
                let values = values(4 * units * entering + count * (entering + units) + starts * 4 * units);
                (values, Just(starts), Just(units), Just(inputs), Just(count))
            },
        ),
    ) {
        let entering = inputs + units;
        let (weights, rest) = values.split_at(4 * units * entering);
        let (entered, rest) = rest.split_at(count * entering);
        let (cells, begun) = rest.split_at(count * units);
        let rows = bytes(weights);
        let (mut expected_cells, mut expected) = (cells.to_vec(), entered.to_vec());
        for s in 0..count {
            let mut gates = begun[s % starts * 4 * units..][..4 * units].to_vec();
            kernel::add_rows(&rows, &entered[s * entering..][..entering], &mut gates);
            let hidden = &mut expected[s * entering + inputs..][..units];
            kernel::cell(&gates, &mut expected_cells[s * units..][..units], hidden);
        }
        let mut laid = vec![0.0; weights.len()];
        prop_assert_eq!(panels::lay(&rows, units, &mut laid), Some(weights.len()));
        let mut start = vec![[0.0; GATES]; starts];
        for (start, begun) in start.iter_mut().zip(begun.chunks(4 * units)) {
            start[..4 * units].copy_from_slice(begun);
        }
        let step = Step { panels: &laid, start: &start, entering: entered, count, inputs, units };
        for width in [Width::Portable, Width::Half, Width::Full] {
            let (mut found_cells, mut found) = (cells.to_vec(), entered.to_vec());
            step_with(width, &step, &mut found_cells, &mut found);
            prop_assert_eq!(bits(&found), bits(&expected), "{:?}", width);
            prop_assert_eq!(bits(&found_cells), bits(&expected_cells), "{:?}", width);
        }
    }
}

#[test]
fn panels_for_which_there_is_no_room_are_not_laid() {
    let rows = vec![0; 4 * 32 * 3];
    assert_eq!(panels::lay(&rows, 8, &mut [0.0; 95]), None);
    assert_eq!(panels::lay(&rows, 12, &mut [0.0; 96]), None);
    assert_eq!(panels::lay(&rows, 0, &mut [0.0; 96]), None);
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
