//! Signs an image of a node's firmware with the key that signs models, for the agent beside the node to offer it.
//!
//! The key stays where it is: the command runs beside the server's data, as `enroll` does, and asks the server nothing.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use kilter_types::{Digest, Generation, Manifest, Micros, ModelKey, Name, Role};
use kilter_wire::SignedManifest;
use kilter_wire::image::{SignedImage, TASK};
use kilter_wire::sign::sign_manifest;

use crate::disk;

/// Signs an image of a node's firmware, for `kilter-agent node-image`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The image as the chip's flash holds it: `objcopy -O binary` makes it of what cargo built.
    image: PathBuf,
    /// The board that it was built for, as the board's firmware names itself, for example nrf52840.
    #[arg(long)]
    board: Name,
    /// Place in order, above that of every image before it: a node takes none that is not above what it has had.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    generation: u64,
    /// For the node of this machine only.
    #[arg(long)]
    asset: Option<Name>,
    /// Days from now after which no node begins to take it.
    #[arg(long, default_value_t = 365)]
    days: u32,
    /// Where the signed image goes.
    #[arg(long)]
    out: PathBuf,
}

impl Sign {
    /// Reads, signs and writes; says what was signed.
    pub(crate) fn run(&self, secret: &[u8; 32], now: Micros) -> anyhow::Result<String> {
        let bytes = fs::read(&self.image).with_context(|| format!("failed to read {}", self.image.display()))?;
        let manifest =
            self.manifest(&bytes, now).with_context(|| format!("failed to sign {}", self.image.display()))?;
        let mut room = [0; 1024];
        let (signed, signature) = sign_manifest(&manifest, secret, &mut room).context("failed to sign the manifest")?;
        let mut head = [0; 1200];
        let signed = SignedManifest { manifest: signed, signature: &signature };
        let head = SignedImage::head(&signed, &mut head).context("failed to write the manifest: it is too long")?;
        disk::replace(&self.out, &[head, &bytes].concat())?;
        let Self { board, generation, days, out, .. } = self;
        let (size, digest) = (manifest.size_bytes, manifest.digest);
        Ok(format!(
            "signed generation {generation} for {board}: {size} bytes, sha256 {digest}, for {days} days; it is {}",
            out.display()
        ))
    }

    fn manifest(&self, bytes: &[u8], now: Micros) -> anyhow::Result<Manifest> {
        ensure!(!bytes.is_empty(), "it is empty");
        ensure!(
            !bytes.starts_with(b"\x7fELF"),
            "it is an ELF file, which no flash holds: `objcopy -O binary FILE node.bin` makes an image of it"
        );
        ensure!(bytes.len() <= MOST_BYTES, "it has {} bytes, more than any node's flash", bytes.len());
        let key = ModelKey {
            task: Name::new(TASK).context("a good name")?,
            asset_class: self.board.clone(),
            asset: self.asset.clone(),
        };
        Ok(Manifest {
            digest: Digest::of(bytes),
            size_bytes: u32::try_from(bytes.len()).context("its size")?,
            name: Name::new("kilter-node").context("a good name")?,
            version: u32::try_from(self.generation).unwrap_or(u32::MAX),
            key,
            role: Role::Leader,
            features: heapless::Vec::new(),
            minimum_agent: 1,
            expires: now + Micros::from_secs(i64::from(self.days) * 86_400),
            generation: Generation(self.generation),
        })
    }
}

const MOST_BYTES: usize = 15 << 20;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kilter_wire::sign::public_key;

    use super::*;

    const SECRET: [u8; 32] = [3; 32];

    fn sign(dir: &Path, image: &[u8]) -> anyhow::Result<String> {
        let path = dir.join("node.bin");
        fs::write(&path, image).expect("a temporary folder");
        let (board, out) = (Name::new("nrf52840").expect("a good name"), dir.join("node.kltimage"));
        Sign { image: path, board, generation: 7, asset: None, days: 2, out }.run(&SECRET, Micros(1_000_000))
    }

    #[test]
    fn a_signed_image_is_believed_with_the_fleets_key_and_says_what_it_is_for_and_until_when() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let said = sign(dir.path(), b"an image").expect("it is signed");
        let file = fs::read(dir.path().join("node.kltimage")).expect("it was written");
        let image = SignedImage::parse(&file).expect("a good file");
        let manifest = image.verify(&public_key(&SECRET)).expect("the fleet's key");
        assert_eq!((manifest.key.asset_class.as_str(), manifest.generation.0), ("nrf52840", 7));
        assert!(said.contains(&Digest::of(image.bytes).to_string()) && image.bytes == b"an image", "{said}");
        assert_eq!(manifest.expires, Micros(1_000_000 + 2 * 86_400_000_000));
    }

    #[test]
    fn a_file_that_no_flash_holds_is_not_signed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (image, why) in [(b"\x7fELF...".as_slice(), "objcopy"), (b"", "empty")] {
            let error = sign(dir.path(), image).expect_err("it is refused");
            assert!(format!("{error:#}").contains(why), "{error:#}");
        }
        assert!(!dir.path().join("node.kltimage").exists());
    }
}
