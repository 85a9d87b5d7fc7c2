//! Windows and watermarks: what is kept as rows come in is what would be computed again from all of them.

use std::collections::BTreeMap;

use kilter_live::{Allowance, Arrival, Shape, Span, Summary, Told, Watermarks, Windows};
use kilter_types::{DeviceId, Micros};
use proptest::prelude::*;

fn at(t: i64) -> Micros {
    Micros(t)
}

fn span(start: i64, end: i64) -> Span {
    Span { start: at(start), end: at(end) }
}

fn shapes() -> [Shape; 4] {
    [
        Shape::Tumbling { size: at(10) },
        Shape::Sliding { size: at(10), step: at(4) },
        Shape::Session { gap: at(6) },
        Shape::Count { rows: 5 },
    ]
}

/// How many rows a window needs to close.
fn least(shape: Shape) -> u64 {
    if let Shape::Count { rows } = shape { rows } else { 1 }
}

const LATENESS: Micros = Micros(7);

/// The slow way: which windows a row lies in, and what each holds.
fn recompute(shape: Shape, taken: &[(i64, f32, Option<i64>)]) -> BTreeMap<Span, Summary> {
    let mut windows: BTreeMap<Span, Summary> = BTreeMap::new();
    let mut put = |span: Span, value: f32| {
        let summary = windows.get(&span).map_or(Summary::of(value), |known| known.join(Summary::of(value)));
        windows.insert(span, summary);
    };
    match shape {
        Shape::Tumbling { size } => fixed(size, size, taken, &mut put),
        Shape::Sliding { size, step } => fixed(size, step, taken, &mut put),
        Shape::Session { gap } => {
            let mut sessions: Vec<Vec<(i64, f32)>> = Vec::new();
            for (t, value) in in_order(taken) {
                match sessions.last_mut().filter(|session| session.last().is_some_and(|last| t - last.0 < gap.0)) {
                    Some(session) => session.push((t, value)),
                    None => sessions.push(vec![(t, value)]),
                }
            }
            for session in sessions {
                let (first, last) = (session[0].0, session[session.len() - 1].0);
                session.iter().for_each(|(_, value)| put(span(first, last + gap.0), *value));
            }
        }
        Shape::Count { rows } => {
            let mut groups: Vec<Vec<(i64, f32)>> = Vec::new();
            for (t, value) in in_order(taken) {
                match groups.last_mut().filter(|group| (group.len() as u64) < rows || group[group.len() - 1].0 == t) {
                    Some(group) => group.push((t, value)),
                    None => groups.push(vec![(t, value)]),
                }
            }
            for group in groups {
                let (first, last) = (group[0].0, group[group.len() - 1].0);
                group.iter().for_each(|(_, value)| put(span(first, last + 1), *value));
            }
        }
    }
    windows
}

fn in_order(taken: &[(i64, f32, Option<i64>)]) -> Vec<(i64, f32)> {
    let mut sorted: Vec<_> = taken.iter().map(|(t, value, _)| (*t, *value)).collect();
    sorted.sort_by_key(|(t, _)| *t);
    sorted
}

fn fixed(size: Micros, step: Micros, taken: &[(i64, f32, Option<i64>)], put: &mut dyn FnMut(Span, f32)) {
    for (t, value, mark) in taken {
        let near = (t.div_euclid(step.0) - 4)..=(t.div_euclid(step.0) + 1);
        for start in near.map(|k| k * step.0).filter(|start| (*start..start + size.0).contains(t)) {
            // The window takes what comes within the lateness after its end.
            if mark.is_none_or(|mark| start + size.0 + LATENESS.0 > mark) {
                put(span(start, start + size.0), *value);
            }
        }
    }
}

/// Takes the rows one after the other; after each `every`th, what is kept and what was told is what a recompute of all rows gives.
fn holds(shape: Shape, rows: &[(i64, i32)], every: usize) {
    let mut windows = Windows::new(shape, LATENESS).expect("a shape that fits");
    let (mut taken, mut told) = (Vec::new(), BTreeMap::new());
    let (mut too_late, mut latest) = (0, None::<i64>);
    for (i, (delay, value)) in rows.iter().enumerate() {
        // Time moves on by one a row; a row may be older than what came before it.
        let t = i as i64 - delay;
        let value = *value as f32 / 8.0;
        let watermark = latest.map(|latest| latest - 12);
        let mut hear = |what| match what {
            Told::Closed(span, summary) => {
                assert!(told.insert(span, summary).is_none(), "{span:?} closed twice");
            }
            Told::Corrected(span, summary) => drop(told.insert(span, summary)),
            Told::Retracted(span) => assert!(told.remove(&span).is_some(), "{span:?} was never told"),
        };
        match windows.add(at(t), value, watermark.map(at), &mut hear) {
            Arrival::TooLate => too_late += 1,
            Arrival::OnTime | Arrival::Late => taken.push((t, value, watermark)),
        }
        latest = Some(latest.map_or(t, |latest| latest.max(t)));
        let watermark = latest.expect("just set") - 12;
        windows.advance(at(watermark), &mut hear);
        if i % every == every - 1 || i + 1 == rows.len() {
            let all = recompute(shape, &taken);
            let is_closed = |span: &Span, summary: &Summary| span.end <= at(watermark) && summary.count >= least(shape);
            let closed: BTreeMap<_, _> = all.iter().filter(|(s, v)| is_closed(s, v)).map(|(s, v)| (*s, *v)).collect();
            assert_eq!(told, closed, "{shape:?} after {} rows", i + 1);
            let open: Vec<_> = windows.iter().filter(|(_, _, closed)| !closed).collect();
            let expected = all.iter().filter(|(s, v)| !is_closed(s, v));
            let expected: Vec<_> = expected.map(|(span, summary)| (*span, *summary, false)).collect();
            assert_eq!(open, expected);
            // Bounded: what nothing can correct any more is let go.
            assert!(windows.iter().count() <= 24, "{} windows are kept", windows.iter().count());
        }
    }
    assert_eq!(taken.len() + too_late, rows.len(), "each row is taken or counted");
}

#[test]
fn s4_38_windows_in_any_order_are_those_of_a_full_recompute_after_each_of_a_thousand_rows() {
    for (seed, most_delay) in [(1_u64, 40), (2, 9)] {
        let mut state = seed;
        let mut next = |most: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % most
        };
        let rows: Vec<_> = (0..1_000).map(|_| (next(most_delay) as i64, next(16) as i32 - 8)).collect();
        shapes().into_iter().for_each(|shape| holds(shape, &rows, 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn windows_in_any_order_are_those_of_a_full_recompute_again_and_again(
        rows in proptest::collection::vec((0i64..40, -8i32..8), 1..1_000),
    ) {
        shapes().into_iter().for_each(|shape| holds(shape, &rows, 50));
    }

    #[test]
    fn s4_11_the_order_of_arrival_does_not_matter_while_nothing_is_late(
        mut rows in proptest::collection::vec((0i64..300, -8i32..8), 0..60),
    ) {
        for shape in shapes() {
            let mut first = Windows::new(shape, LATENESS).expect("a shape that fits");
            let mut second = first.clone();
            let mut none = |told| panic!("nothing had closed: {told:?}");
            for (t, value) in &rows {
                prop_assert_eq!(first.add(at(*t), *value as f32, None, &mut none), Arrival::OnTime);
            }
            rows.reverse();
            for (t, value) in &rows {
                second.add(at(*t), *value as f32, None, &mut none);
            }
            prop_assert_eq!(&first, &second);
        }
    }
}

#[test]
fn by_count_rows_of_one_instant_stay_together_and_what_comes_before_a_closed_window_is_too_late() {
    let mut windows = Windows::new(Shape::Count { rows: 3 }, at(100)).expect("a shape that fits");
    let mut told = Vec::new();
    let mut none = |told| panic!("nothing had closed: {told:?}");
    for t in [20, 10, 20, 20, 30] {
        assert_eq!(windows.add(at(t), t as f32, None, &mut none), Arrival::OnTime);
    }
    windows.advance(at(20), &mut |what| told.push(what));
    assert_eq!(told, [], "another row of that instant may still come");
    windows.advance(at(1_000), &mut |what| told.push(what));
    let four = Summary { count: 4, min: 10.0, max: 20.0, sum: 70.0 };
    assert_eq!(told, [Told::Closed(span(10, 21), four)], "the next window has a single row");
    assert_eq!(windows.add(at(20), 1.0, Some(at(1_000)), &mut none), Arrival::TooLate);
    assert_eq!(windows.add(at(21), 21.0, Some(at(1_000)), &mut none), Arrival::OnTime);
    let kept: Vec<_> = windows.iter().map(|(span, summary, closed)| (span, summary.count, closed)).collect();
    assert_eq!(kept, [(span(10, 21), 4, true), (span(21, 31), 2, false)]);
    assert!(Windows::new(Shape::Count { rows: 0 }, at(0)).is_none());
}

#[test]
fn a_row_in_between_joins_two_sessions_and_takes_back_what_was_told_of_them() {
    let mut windows = Windows::new(Shape::Session { gap: at(10) }, at(100)).expect("a shape that fits");
    let mut told = Vec::new();
    for t in [0, 15] {
        windows.add(at(t), t as f32, None, &mut |what| told.push(what));
    }
    windows.advance(at(40), &mut |what| told.push(what));
    assert_eq!(windows.add(at(8), 8.0, Some(at(40)), &mut |what| told.push(what)), Arrival::Late);
    let all = Summary { count: 3, min: 0.0, max: 15.0, sum: 23.0 };
    let expected = [
        Told::Closed(span(0, 10), Summary::of(0.0)),
        Told::Closed(span(15, 25), Summary::of(15.0)),
        Told::Retracted(span(15, 25)),
        Told::Retracted(span(0, 10)),
        Told::Corrected(span(0, 25), all),
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_row_is_on_time_late_or_too_late_by_the_watermark_that_it_met() {
    let mut windows = Windows::new(Shape::Tumbling { size: at(10) }, at(5)).expect("a shape that fits");
    let mut told = Vec::new();
    let mut add = |t, mark| windows.add(at(t), 1.0, Some(at(mark)), &mut |what| told.push(what));
    assert_eq!(add(9, 9), Arrival::OnTime);
    assert_eq!(add(9, 10), Arrival::Late);
    assert_eq!(add(9, 14), Arrival::Late);
    assert_eq!(add(9, 15), Arrival::TooLate);
    assert_eq!(told.len(), 2, "each late row corrects once: {told:?}");
    assert!(
        Windows::new(Shape::Sliding { size: at(5), step: at(6) }, at(0)).is_none(),
        "rows would fall between windows"
    );
    // Times without sense are taken like any other.
    assert_eq!(windows.add(Micros(i64::MIN), 1.0, None, &mut |_| ()), Arrival::OnTime);
    assert_eq!(windows.add(Micros(i64::MAX), 1.0, None, &mut |_| ()), Arrival::OnTime);
}

#[test]
fn one_silent_device_holds_the_fleet_back_only_until_it_counts_as_idle() {
    let device = |name: &str| DeviceId::new(name).expect("a good name");
    let allowance = Allowance { disorder: at(5), idle_after: at(60), ahead: at(10) };
    let mut marks = Watermarks::new(allowance);
    assert_eq!(marks.observe(&device("a"), at(100), at(100)), None);
    assert_eq!(
        marks.observe(&device("b"), at(50), at(100)),
        Some(at(95)),
        "b begins behind: it is late, nothing goes back"
    );
    marks.observe(&device("a"), at(140), at(140));
    assert_eq!(marks.reached(), Some(at(95)), "b holds the fleet back");
    marks.observe(&device("a"), at(161), at(161));
    assert_eq!(marks.reached(), Some(at(156)), "b is idle by now");
    assert_eq!(marks.idle(at(161)).collect::<Vec<_>>(), [&device("b")]);
    // It returns with what it kept: late, and the watermark stays.
    assert_eq!(marks.observe(&device("b"), at(60), at(162)), Some(at(156)));
    assert_eq!(marks.reached(), Some(at(156)));
    // A clock that jumped to 2036 is believed for ten beyond the receipt, not for years.
    marks.observe(&device("b"), at(170), at(170));
    marks.observe(&device("a"), at(2_000_000_000), at(170));
    assert_eq!(marks.reached(), Some(at(165)));
    marks.observe(&device("b"), at(171), at(171));
    assert_eq!(marks.reached(), Some(at(166)));
    assert_eq!(marks.advance(at(1_000)), Some(at(166)), "when all are silent it stays where it is");
}
