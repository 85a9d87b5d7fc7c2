//! Bins: how wide, how many, and what late values do.

use proptest::prelude::*;

use super::*;

fn of(times_us: impl IntoIterator<Item = i64>) -> Bins {
    let mut bins = Bins::default();
    for t in times_us {
        bins.add(Micros(t), (t % 7) as f32);
    }
    bins
}

#[test]
fn half_an_hour_is_kept_in_narrow_bins_and_ten_days_in_hours() {
    let seconds = of((0..1_500).map(|second| second * 1_000_000));
    assert_eq!((seconds.width_us, seconds.bins.len()), (NARROWEST_US, 214));
    let days = of((0..10 * 288).map(|number| number * 300_000_000));
    assert_eq!((days.width_us, days.bins.len()), (WIDEST_US, 240));
    let (closed, newest) = days.split().expect("there are some");
    assert!(closed.map(|bin| bin.count()).eq((0..239).map(|_| 12)), "twelve windows an hour");
    assert_eq!(newest.count(), 12);
    let weeks = of((0..60 * 288).map(|number| number * 300_000_000));
    assert_eq!((weeks.width_us, weeks.bins.len()), (WIDEST_US, MAX_BINS), "the oldest left");
}

#[test]
fn bins_are_as_wide_as_values_are_apart_and_a_pause_does_not_widen_them() {
    let slow = of((0..30).map(|number| number * 300_000_000));
    assert_eq!(slow.width_us, 64 * NARROWEST_US, "450 s");
    assert!(slow.bins.iter().all(|bin| bin.count() > 0), "none is empty");
    let mut paused = of((0..60).map(|second| second * 1_000_000));
    for second in 1_200..1_260 {
        paused.add(Micros(second * 1_000_000), 0.0);
    }
    assert_eq!(paused.width_us, NARROWEST_US);
}

#[test]
fn a_mean_is_kept_when_bins_become_wider_and_when_more_comes_than_can_be_counted() {
    let mut bins = Bins::default();
    for number in 0..100_000 {
        bins.add(Micros(number), 2.0);
    }
    let mean = bins.bins[0].mean().expect("it holds values");
    assert!((1.999..2.001).contains(&mean), "{mean}");
    bins.add(Micros(NARROWEST_US), -2.0);
    bins.add(Micros(300 * NARROWEST_US), 0.0);
    assert_eq!(bins.width_us, 2 * NARROWEST_US);
    let mean = bins.bins[0].mean().expect("it holds values");
    assert!((1.99..2.0).contains(&mean), "{mean}");
}

#[test]
fn a_clock_that_stood_elsewhere_leaves_nothing_behind_and_what_is_far_too_late_is_left_out() {
    let mut bins = of([0, 1, 2]);
    let now = 56 * 365 * 24 * WIDEST_US;
    assert_eq!(bins.add(Micros(now), 1.0), Went::Next);
    let mut fresh = Bins::default();
    fresh.add(Micros(now), 1.0);
    assert_eq!(bins, fresh, "as if it had begun now");
    let before = bins.clone();
    assert_eq!(bins.add(Micros(3), 1.0), Went::Nowhere);
    assert_eq!(bins, before);
}

proptest! {
    /// Late values go where they belong, in whatever order they come.
    #[test]
    fn the_order_of_late_values_does_not_matter(
        mut late in prop::collection::vec(0i64..50 * WIDEST_US, 1..100),
        by in any::<prop::sample::Index>(),
    ) {
        let told = of((0..600).map(|number| number * 300_000_000));
        let with = |late: &[i64]| late.iter().fold(told.clone(), |mut bins, t| {
            bins.add(Micros(t % told.newest_us), (t % 7) as f32);
            bins
        });
        let came = with(&late);
        let turn = by.index(late.len());
        late.rotate_left(turn);
        prop_assert_eq!(&with(&late), &came);
        late.sort_unstable();
        prop_assert_eq!(with(&late), came);
    }

    /// No times make them more than they may be.
    #[test]
    fn memory_is_bounded_whatever_the_times(times in prop::collection::vec(any::<i64>(), 1..200), step in 1i64..1 << 40) {
        let mut bins = Bins::default();
        for (number, t) in times.into_iter().enumerate() {
            bins.add(Micros(t), 1.0);
            bins.add(Micros(number as i64 * step), 1.0);
            prop_assert!((1..=MAX_BINS).contains(&bins.bins.len()));
        }
    }
}
