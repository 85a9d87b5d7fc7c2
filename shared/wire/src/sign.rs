//! Signatures over manifests and plans: what a node checks before it believes.
//!
//! A manifest is signed as the exact bytes that travel (`KLT-manifest-1` ‖ bytes), so no canonical form is needed. A plan is
//! signed over its device, its generation and the manifests' signatures.

use core::fmt;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use kilter_types::{DeviceId, Generation, Manifest};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Plan;

/// A manifest as it travels: its bytes and the signature over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedManifest<'a> {
    /// Postcard of [`Manifest`].
    #[serde(borrow)]
    pub manifest: &'a [u8],
    /// Ed25519, 64 bytes.
    #[serde(borrow)]
    pub signature: &'a [u8],
}

impl SignedManifest<'_> {
    /// The manifest, if the key signed it.
    pub fn verify(&self, key: &[u8; 32]) -> Result<Manifest, SignError> {
        check(key, &manifest_message(self.manifest), self.signature)?;
        match postcard::take_from_bytes(self.manifest) {
            Ok((manifest, [])) => Ok(manifest),
            Ok(_) | Err(_) => Err(SignError::Body),
        }
    }
}

impl Plan<'_> {
    /// Checks the plan's own signature; its manifests are checked one by one with [`SignedManifest::verify`].
    pub fn verify(&self, key: &[u8; 32]) -> Result<(), SignError> {
        let signatures = self.models.iter().map(|model| model.signature);
        check(key, &plan_message(&self.device, self.generation, signatures), self.signature)
    }
}

/// Writes a manifest's bytes into `out`, and its signature by this secret key.
pub fn sign_manifest<'o>(
    manifest: &Manifest,
    secret: &[u8; 32],
    out: &'o mut [u8],
) -> Result<(&'o [u8], [u8; 64]), SignError> {
    let bytes = postcard::to_slice(manifest, out).map_err(|_| SignError::Body)?;
    let signature = SigningKey::from_bytes(secret).sign(&manifest_message(bytes));
    Ok((bytes, signature.to_bytes()))
}

/// The signature of a plan by this secret key.
pub fn sign_plan<'a>(
    device: &DeviceId,
    generation: Generation,
    manifest_signatures: impl Iterator<Item = &'a [u8]>,
    secret: &[u8; 32],
) -> [u8; 64] {
    SigningKey::from_bytes(secret).sign(&plan_message(device, generation, manifest_signatures)).to_bytes()
}

/// The public key that belongs to a secret one.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

/// What is signed for a plan: SHA-256 over a domain, the device, the generation and the manifests' signatures in order.
pub fn plan_message<'a>(
    device: &DeviceId,
    generation: Generation,
    manifest_signatures: impl Iterator<Item = &'a [u8]>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"KLT-plan-1\0");
    hash.update(device.as_str().as_bytes());
    hash.update(b"\0");
    hash.update(generation.0.to_le_bytes());
    for signature in manifest_signatures {
        hash.update(signature);
    }
    hash.finalize().into()
}

fn manifest_message(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"KLT-manifest-1\0");
    hash.update(bytes);
    hash.finalize().into()
}

fn check(key: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), SignError> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| SignError::Key)?;
    let signature = Signature::from_slice(signature).map_err(|_| SignError::Signature)?;
    key.verify_strict(message, &signature).map_err(|_| SignError::Signature)
}

/// Why something signed is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignError {
    /// The public key is not one.
    Key,
    /// The signature does not belong to these bytes and this key.
    Signature,
    /// Signed well, but not readable.
    Body,
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key => "the model-signing key of the enrolment bundle is not an Ed25519 key",
            Self::Signature => "the signature was not made by this fleet's model-signing key",
            Self::Body => "the signed bytes can't be read",
        })
    }
}

impl core::error::Error for SignError {}
