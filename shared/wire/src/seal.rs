//! Hashes and signatures of seals: what a device says of its records, and what whoever holds the rows can compute again.
//!
//! ```text
//! record     SHA-256("KLT-record-1\0" ‖ the record as it is journalled, but for the remark that an alarm went unjournaled)
//! range      SHA-256("KLT-range-1\0" ‖ the hash of each record, in the order of seqs), its first half
//! seal       SHA-256("KLT-seal-1\0" ‖ postcard of key, before, epoch, ranges); signed by Ed25519; the next seal names its first half
//! ```
//! Half a hash is 128 bits: whoever wants to change a record has to find a second one with the same hash, in 2^128 tries.

use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use kilter_types::{Epoch, Payload, Record, Seal, SealBefore};
use sha2::{Digest as _, Sha256};

use crate::up::{MAX_RECORD_BYTES, RecordError, encode_record};

/// The hash of one record: of what a row keeps as it was recorded.
pub fn record_hash(record: &Record) -> Result<[u8; 32], RecordError> {
    let mut room = [0; MAX_RECORD_BYTES + 1];
    let plain;
    let record = match &record.payload {
        // Said on the way, not by what was recorded.
        Payload::Alarm(alarm) if alarm.unjournaled => {
            let mut alarm = alarm.clone();
            alarm.unjournaled = false;
            plain = Record { payload: Payload::Alarm(alarm), ..record.clone() };
            &plain
        }
        _ => record,
    };
    let mut hash = Sha256::new();
    hash.update(b"KLT-record-1\0");
    hash.update(encode_record(record, &mut room)?);
    Ok(hash.finalize().into())
}

/// The hash of a range, record by record.
#[derive(Clone, Debug)]
pub struct RangeHash(Sha256);

impl Default for RangeHash {
    fn default() -> Self {
        let mut hash = Sha256::new();
        hash.update(b"KLT-range-1\0");
        Self(hash)
    }
}

impl RangeHash {
    /// The next record's hash.
    pub fn push(&mut self, record: &[u8; 32]) {
        self.0.update(record);
    }

    /// The hash of all that were pushed.
    pub fn finish(self) -> [u8; 16] {
        half(self.0.finalize().into())
    }
}

/// Puts key and signature into a seal.
pub fn sign(seal: &mut Seal, secret: &[u8; 32]) -> Result<(), RecordError> {
    let key = SigningKey::from_bytes(secret);
    seal.key = key.verifying_key().to_bytes();
    let signature = key.sign(&message(seal)?).to_bytes();
    let (first, second) = signature.split_at(32);
    seal.signature[0].copy_from_slice(first);
    seal.signature[1].copy_from_slice(second);
    Ok(())
}

/// Did the holder of the key in it sign this seal?
pub fn is_signed(seal: &Seal) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&seal.key) else { return false };
    let Ok(message) = message(seal) else { return false };
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&seal.signature[0]);
    signature[32..].copy_from_slice(&seal.signature[1]);
    key.verify_strict(&message, &Signature::from_bytes(&signature)).is_ok()
}

/// The seal in the record of this epoch and seq, as the next seal names it.
pub fn named(epoch: Epoch, seq: u64, seal: &Seal) -> Option<SealBefore> {
    Some(SealBefore { epoch, seq, hash: half(message(seal).ok()?) })
}

/// A key as people compare it: half of its SHA-256, in groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of a public key.
    pub fn of(key: &[u8; 32]) -> Self {
        Self(half(Sha256::digest(key).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, pair) in self.0.chunks_exact(2).enumerate() {
            let between = if place == 0 { "" } else { "-" };
            write!(f, "{between}{:02x}{:02x}", pair[0], pair[1])?;
        }
        Ok(())
    }
}

fn message(seal: &Seal) -> Result<[u8; 32], RecordError> {
    let mut room = [0; 1024];
    let signed = (seal.key, seal.before, seal.epoch, &seal.ranges);
    let bytes = postcard::to_slice(&signed, &mut room).map_err(|_| RecordError::TooLong)?;
    let mut hash = Sha256::new();
    hash.update(b"KLT-seal-1\0");
    hash.update(bytes);
    Ok(hash.finalize().into())
}

fn half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&hash[..16]);
    half
}
