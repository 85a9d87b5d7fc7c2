//! The yardstick measures the same thing: the naive version gives the values of the real one.

use kilter_bits::{Bench, ROOTS, SCRATCH, WINDOW, example, naive, setup};
use kilter_signal::table::VIBRATION_LEN;

#[test]
fn the_naive_version_gives_the_same_values_and_every_one_of_them_is_valid() {
    let (mut roots, mut scratch, mut samples) = (vec![0.0; ROOTS], vec![0.0; SCRATCH], [0.0; WINDOW]);
    let head = example(&mut samples);
    let mut bench = Bench::new(&mut roots, &mut scratch).expect("the model is certified");
    bench.extract(&setup(&head).expect("a good head"), &samples).expect("the buffers fit");
    let ours = bench.newest();
    assert_eq!(ours.valid.count_ones() as usize, VIBRATION_LEN, "{:#x}", ours.valid);
    let rough = naive::vibration(&head, &samples, &mut naive::Room::new());
    let difference = naive::difference(ours, &rough);
    for (place, value) in rough.iter().enumerate() {
        println!("{place}: {:?} {value}", ours.get(place));
    }
    // Two ways of rounding in f32, and moments of order four.
    assert!(difference < 1e-3, "{difference}");
}
