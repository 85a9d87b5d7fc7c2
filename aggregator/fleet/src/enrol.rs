//! Enrolment: a node's secret is random, shown once in its bundle, and kept here as a hash only.

use kilter_types::Digest;

/// A credential from 32 random bytes, as text for the bundle.
pub fn credential(random: [u8; 32]) -> String {
    Digest(random).to_string()
}

/// What is kept of a credential. It has 256 random bits, so that a plain hash can't be searched.
pub fn hash(credential: &str) -> String {
    Digest::of(credential.as_bytes()).to_string()
}

/// Is this the credential behind the hash? Compares in constant time.
pub fn verify(credential: &str, stored_hash: &str) -> bool {
    let given = hash(credential);
    let pairs = given.bytes().zip(stored_hash.bytes());
    let difference = pairs.fold(given.len() ^ stored_hash.len(), |all, (a, b)| all | usize::from(a ^ b));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_credential_fits_its_hash() {
        let secret = credential([7; 32]);
        let stored = hash(&secret);
        assert!(verify(&secret, &stored));
        assert!(!verify(&credential([8; 32]), &stored));
        assert!(!verify(&secret, &stored[..10]));
        assert!(!stored.contains(&secret));
    }
}
