//! A score's parts by feature, largest first.

use kilter_types::{Contribution, FeatureRef, MAX_CONTRIBUTIONS};

/// The largest terms by name and the sum of the others.
pub(super) fn rank(terms: &[f32], features: &[FeatureRef]) -> (heapless::Vec<Contribution, MAX_CONTRIBUTIONS>, f32) {
    let mut ranked = heapless::Vec::<(usize, f32), MAX_CONTRIBUTIONS>::new();
    for (i, &term) in terms.iter().enumerate() {
        let place = ranked.iter().position(|(_, other)| term > *other).unwrap_or(ranked.len());
        if ranked.is_full() && place < ranked.len() {
            ranked.pop();
        }
        if term > 0.0 && !ranked.is_full() {
            // There is room, and the place is within it.
            let _ = ranked.insert(place, (i, term));
        }
    }
    let listed = |i: usize| ranked.iter().any(|(place, _)| *place == i);
    let rest = terms.iter().enumerate().filter(|(i, _)| !listed(*i)).fold(0.0, |sum, (_, term)| sum + term);
    let named =
        ranked.iter().filter_map(|(i, amount)| Some(Contribution { feature: features.get(*i)?.id, amount: *amount }));
    (named.collect(), rest)
}
