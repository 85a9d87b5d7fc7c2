use std::vec::Vec;

use kilter_types::{Name, Unit};

use super::*;
use crate::config::ChannelConfig;

fn tacho(per_rev: u16) -> Tacho<Vec<Micros>> {
    let mut config = MachineConfig::new(Name::new("pump").expect("a good name"));
    let kind = ChannelKind::Tacho { pulses_per_rev: per_rev };
    config.channels.push(ChannelConfig::new(Name::new("t").expect("a good name"), Unit::One, kind)).expect("room");
    config.nominal_rpm = Some(Rpm(1500.0));
    Tacho::new(&config, per_rev, std::vec![Micros(0); 64])
}

fn us(seconds: f64) -> Micros {
    Micros((1e6 * seconds).round() as i64)
}

/// Pulses of a shaft at 25 Hz, one to a revolution, as the test changes them.
fn steady(change: impl Fn(&mut Vec<Micros>)) -> Tacho<Vec<Micros>> {
    let mut pulses: Vec<Micros> = (0..60).map(|n| us(0.04 * f64::from(n))).collect();
    change(&mut pulses);
    let mut tacho = tacho(1);
    for (position, t) in pulses.into_iter().enumerate() {
        tacho.push(position as u64, t);
    }
    tacho
}

/// Flags of each window of 0.2 s over two seconds.
fn flags(tacho: &Tacho<Vec<Micros>>) -> Vec<usize> {
    let window = |i: usize| (us(0.2 * i as f64), us(0.2 * (i + 1) as f64));
    (0..10).filter(|i| tacho.quality(window(*i).0, window(*i).1) == Quality::BAD_PULSES).collect()
}

#[test]
fn pulses_that_no_shaft_gives_are_told_where_they_are_and_nowhere_else() {
    assert_eq!(flags(&steady(|_| {})), [0; 0]);
    // Pulse 22 falls at 0.88 s, in the middle of window 4.
    assert_eq!(flags(&steady(|pulses| pulses.retain(|t| *t != us(0.88)))), [4], "a missing one");
    assert_eq!(flags(&steady(|pulses| pulses.insert(22, us(0.86)))), [4], "one too many in the middle");
    assert_eq!(flags(&steady(|pulses| pulses.insert(22, us(0.85)))), [4], "one too many");
    assert_eq!(flags(&steady(|pulses| pulses.insert(22, us(0.842)))), [4], "a bounce");
    assert_eq!(flags(&steady(|pulses| pulses.swap(22, 23))), [4], "times that go back");
    let cut = steady(|pulses| pulses.truncate(30));
    assert_eq!(flags(&cut), [6, 7, 8, 9], "pulses that break off at 1.16 s");
    assert_eq!(cut.shaft(us(1.6), us(1.8)), Shaft::Unknown);
}

#[test]
fn a_shaft_that_stops_and_starts_again_is_followed_and_not_blamed() {
    // From 25 Hz to rest within 5 s, 5 s of rest, up again within 2 s: angles in closed form.
    let angle = |t: f64| match t {
        t if t < 5.0 => 25.0 * t - 2.5 * t * t,
        t if t < 10.0 => 62.5,
        t => 62.5 + 6.25 * (t - 10.0) * (t - 10.0),
    };
    for per_rev in [1, 6] {
        let mut tacho = tacho(per_rev);
        let (mut next, mut said) = (0, Vec::new());
        let span = |tenth: u32| (us(0.1 * f64::from(tenth)), us(0.1 * f64::from(tenth + 5)));
        for tenth in 0..115u32 {
            let (start, end) = span(tenth);
            for ms in 0..5000 {
                let t = 0.1 * f64::from(tenth) + f64::from(ms) * 1e-4;
                if angle(t) * f64::from(per_rev) >= next as f64 {
                    tacho.push(next, us(t));
                    next += 1;
                }
            }
            said.push((tacho.shaft(start, end), tacho.quality(start, end)));
        }
        assert!(said.iter().all(|(_, quality)| *quality == Quality::GOOD), "{per_rev}: {said:?}");
        for (tenth, (shaft, _)) in said.iter().enumerate() {
            let (from, to) = (0.1 * tenth as f64, 0.1 * tenth as f64 + 0.5);
            let rpm = 120.0 * (angle(to) - angle(from));
            match *shaft {
                Shaft::Turning(found) if rpm > 600.0 => {
                    assert!((f64::from(found.0) / rpm - 1.0).abs() < 0.02, "{per_rev}, {from} s: {found:?} for {rpm}");
                }
                Shaft::Stopping(most) if to < 10.0 => {
                    let now = 60e3 * (angle(to) - angle(to - 1e-3));
                    assert!(now <= f64::from(most.0) + 1.0, "{per_rev}, {to} s: {most:?} for {now}");
                }
                Shaft::Turning(_) | Shaft::Stopping(_) | Shaft::Unknown => {}
            }
        }
        let turning = said.iter().filter(|(shaft, _)| matches!(shaft, Shaft::Turning(_))).count();
        assert!(turning > 45, "{per_rev}: {turning} of 115");
        assert!(matches!(said[90].0, Shaft::Stopping(most) if most.0 < 75.0), "{per_rev}: {:?}", said[90]);
    }
}
