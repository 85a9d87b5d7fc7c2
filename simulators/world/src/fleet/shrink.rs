//! From a seed that breaks a promise to the smallest fleet in which it still does.

use super::{Fleet, FleetConfig, Violation};

/// Looks for a smaller fleet and a shorter time in which the same seed still breaks a promise.
pub fn shrink(seed: u64, config: &FleetConfig) -> Option<(FleetConfig, Violation)> {
    let mut best = (config.clone(), Fleet::new(seed, config.clone()).run().err()?);
    loop {
        let (known, _) = &best;
        let fewer = FleetConfig { agents: known.agents / 2, ..known.clone() };
        let shorter = FleetConfig { weather_us: known.weather_us / 2, ..known.clone() };
        let smaller =
            [fewer, shorter].into_iter().filter(|smaller| smaller.agents > 0 && smaller.weather_us > 60_000_000);
        let found = smaller.into_iter().find_map(|smaller| {
            let violation = Fleet::new(seed, smaller.clone()).run().err()?;
            Some((smaller, violation))
        });
        match found {
            Some(found) => best = found,
            None => return Some(best),
        }
    }
}
