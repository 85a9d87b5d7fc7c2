//! The bytes of each wire version: what is written equals the golden files, and the golden files are read to the same values.
//!
//! Golden files are added, never edited: a released version stays readable for ever. `KILTER_WRITE_GOLDEN=1` writes the files
//! that are missing and leaves the others alone.

mod columns;
mod sample;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use kilter_types::{Digest, Manifest, Record};
use kilter_wire::bundle::Bundle;
use kilter_wire::frame::{self, Kind};
use kilter_wire::image::{ImageError, SignedImage};
use kilter_wire::link::Greeting;
use kilter_wire::node::{NodeDown, NodeUp};
use kilter_wire::sensor::{SensorDown, SensorUp};
use kilter_wire::sign::{public_key, sign_manifest, sign_plan};
use kilter_wire::{
    Down, FrameError, Message, RecordError, SignError, SignedManifest, Up, VERSION, decode_record, encode_record,
};

fn folder(version: u8) -> PathBuf {
    PathBuf::from(format!("tests/golden/v{version}"))
}

/// The golden bytes of this name in version 1; written first if they are missing and that is asked for.
fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    golden_of(1, name, written)
}

fn golden_of(version: u8, name: &str, written: &[u8]) -> Vec<u8> {
    let path = folder(version).join(name);
    if std::env::var_os("KILTER_WRITE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, written).expect("the golden folder can be written");
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}; KILTER_WRITE_GOLDEN=1 writes what is missing"))
}

/// The golden bytes of the version that they name at `version_at`, which are the written ones.
fn same_bytes(name: &str, version_at: usize, written: &[u8]) -> Vec<u8> {
    let golden = golden_of(written[version_at], name, written);
    assert_eq!(written, golden, "{name} is written otherwise than before");
    golden
}

fn encoded<T: Message>(kind: Kind, message: &T) -> Vec<u8> {
    let mut room = vec![0; 8192];
    frame::encode(kind, message, &mut room).expect("the sample fits").to_vec()
}

/// Every golden frame with its kind.
fn frames() -> Vec<(String, Kind, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add =
        |kind, name: &str, written: Vec<u8>| all.push((name.to_owned(), kind, golden_of(written[1], name, &written)));
    sample::ups(&mut |name, up| add(Kind::Up, &format!("up_{name}.bin"), encoded(Kind::Up, up)));
    sample::downs(&mut |name, down| add(Kind::Down, &format!("down_{name}.bin"), encoded(Kind::Down, down)));
    sample::sensor_ups(&mut |name, up| {
        add(Kind::SensorUp, &format!("sensor_up_{name}.bin"), encoded(Kind::SensorUp, up))
    });
    sample::greetings(&mut |name, greeting| {
        add(Kind::Link, &format!("link_{name}.bin"), encoded(Kind::Link, greeting));
    });
    sample::sensor_downs(&mut |name, down| {
        add(Kind::SensorDown, &format!("sensor_down_{name}.bin"), encoded(Kind::SensorDown, down));
    });
    sample::node_ups(&mut |name, up| add(Kind::NodeUp, &format!("node_up_{name}.bin"), encoded(Kind::NodeUp, up)));
    sample::node_downs(&mut |name, down| {
        add(Kind::NodeDown, &format!("node_down_{name}.bin"), encoded(Kind::NodeDown, down));
    });
    all
}

fn record_bytes(record: &Record) -> Vec<u8> {
    let mut room = [0; 4097];
    encode_record(record, &mut room).expect("the sample fits").to_vec()
}

/// Reads a frame of any kind and forgets what it said.
fn read(kind: Kind, bytes: &[u8]) -> Result<(), FrameError> {
    match kind {
        Kind::Up => frame::decode::<Up<'_>>(kind, bytes).map(drop),
        Kind::Down => frame::decode::<Down<'_>>(kind, bytes).map(drop),
        Kind::SensorUp => frame::decode::<SensorUp<'_>>(kind, bytes).map(drop),
        Kind::Link => frame::decode::<Greeting<'_>>(kind, bytes).map(drop),
        Kind::SensorDown => frame::decode::<SensorDown>(kind, bytes).map(drop),
        Kind::NodeUp => frame::decode::<NodeUp>(kind, bytes).map(drop),
        Kind::NodeDown => frame::decode::<NodeDown<'_>>(kind, bytes).map(drop),
    }
}

/// Puts the right checksum behind a changed frame.
fn reseal(frame: &mut [u8]) {
    let end = frame.len() - 4;
    let crc = crc32fast::hash(&frame[..end]);
    frame[end..].copy_from_slice(&crc.to_le_bytes());
}

#[test]
fn every_message_up_is_written_and_read_byte_for_byte() {
    sample::ups(&mut |name, up| {
        let bytes = same_bytes(&format!("up_{name}.bin"), 1, &encoded(Kind::Up, up));
        assert_eq!(frame::decode::<Up<'_>>(Kind::Up, &bytes).as_ref(), Ok(up));
    });
}

#[test]
fn every_message_down_is_written_and_read_byte_for_byte() {
    sample::downs(&mut |name, down| {
        let bytes = same_bytes(&format!("down_{name}.bin"), 1, &encoded(Kind::Down, down));
        assert_eq!(frame::decode::<Down<'_>>(Kind::Down, &bytes).as_ref(), Ok(down));
    });
}

#[test]
fn every_node_message_is_written_and_read_byte_for_byte() {
    sample::node_ups(&mut |name, up| {
        let bytes = same_bytes(&format!("node_up_{name}.bin"), 1, &encoded(Kind::NodeUp, up));
        assert_eq!(frame::decode::<NodeUp>(Kind::NodeUp, &bytes).as_ref(), Ok(up));
    });
    sample::node_downs(&mut |name, down| {
        let bytes = same_bytes(&format!("node_down_{name}.bin"), 1, &encoded(Kind::NodeDown, down));
        assert_eq!(frame::decode::<NodeDown<'_>>(Kind::NodeDown, &bytes).as_ref(), Ok(down));
    });
}

#[test]
fn every_greeting_is_written_and_read_byte_for_byte() {
    sample::greetings(&mut |name, greeting| {
        let bytes = same_bytes(&format!("link_{name}.bin"), 1, &encoded(Kind::Link, greeting));
        assert_eq!(frame::decode::<Greeting<'_>>(Kind::Link, &bytes).as_ref(), Ok(greeting));
    });
}

#[test]
fn every_sensor_message_is_written_and_read_byte_for_byte() {
    sample::sensor_ups(&mut |name, up| {
        let bytes = same_bytes(&format!("sensor_up_{name}.bin"), 1, &encoded(Kind::SensorUp, up));
        assert_eq!(frame::decode::<SensorUp<'_>>(Kind::SensorUp, &bytes).as_ref(), Ok(up));
    });
    sample::sensor_downs(&mut |name, down| {
        let bytes = same_bytes(&format!("sensor_down_{name}.bin"), 1, &encoded(Kind::SensorDown, down));
        assert_eq!(frame::decode::<SensorDown>(Kind::SensorDown, &bytes).as_ref(), Ok(down));
    });
}

#[test]
fn every_payload_is_journalled_and_read_back_byte_for_byte() {
    for (name, record) in sample::records() {
        let bytes = same_bytes(&format!("record_{name}.bin"), 0, &record_bytes(&record));
        assert_eq!(decode_record(&bytes).as_ref(), Ok(&record), "{name} is read otherwise than before");
    }
}

#[test]
fn a_manifest_and_a_plan_are_signed_byte_for_byte_and_believed() {
    let manifest = sample::manifest();
    let mut room = [0; 1024];
    let (bytes, signature) = sign_manifest(&manifest, &sample::SECRET, &mut room).expect("it fits");
    assert_eq!(bytes, golden("manifest.bin", bytes));
    let signature = golden("manifest.signature.bin", &signature);
    let signed = SignedManifest { manifest: bytes, signature: &signature };
    let key = public_key(&sample::SECRET);
    assert_eq!(key.to_vec(), golden("public_key.bin", &key));
    assert_eq!(signed.verify(&key).as_ref(), Ok(&manifest));
    let (device, generation) = (sample::device(), sample::generation());
    let plan = sign_plan(&device, generation, [signature.as_slice()].into_iter(), &sample::SECRET);
    assert_eq!(plan.to_vec(), golden("plan.signature.bin", &plan));
}

#[test]
fn a_signed_manifest_is_believed_with_no_bit_of_it_changed() {
    let bytes = fs::read(folder(1).join("manifest.bin")).expect("golden file");
    let signature = fs::read(folder(1).join("manifest.signature.bin")).expect("golden file");
    let key = public_key(&sample::SECRET);
    // One bit of each byte: an Ed25519 check is slow in a build without optimisation.
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let signed = SignedManifest { manifest: &changed, signature: &signature };
        assert_eq!(signed.verify(&key), Err::<Manifest, _>(SignError::Signature), "byte {at}");
    }
}

/// A file that holds this image, signed by the samples' key.
fn image_file(manifest: &Manifest, bytes: &[u8]) -> Vec<u8> {
    let (mut room, mut head) = ([0; 1024], [0; 1200]);
    let (manifest, signature) = sign_manifest(manifest, &sample::SECRET, &mut room).expect("it fits");
    let signed = SignedManifest { manifest, signature: &signature };
    [SignedImage::head(&signed, &mut head).expect("it fits"), bytes].concat()
}

#[test]
fn a_signed_image_is_the_same_file_and_believed_only_whole_and_as_what_it_is() {
    let bytes: Vec<u8> = (0..=255).collect();
    let manifest = sample::image_manifest(&bytes);
    let file = golden_of(4, "image.kltimage", &image_file(&manifest, &bytes));
    assert_eq!(file, image_file(&manifest, &bytes));
    let key = public_key(&sample::SECRET);
    let image = SignedImage::parse(&file).expect("a good file");
    assert_eq!((image.bytes, image.verify(&key)), (&bytes[..], Ok(manifest)));
    assert_eq!(image.verify(&public_key(&[1; 32])), Err(ImageError::Signature(SignError::Signature)));
    for len in (0..file.len()).step_by(19) {
        assert!(SignedImage::parse(&file[..len]).and_then(|image| image.verify(&key)).is_err(), "cut to {len}");
    }
    let mut changed = file.clone();
    *changed.last_mut().expect("bytes") ^= 1;
    assert_eq!(SignedImage::parse(&changed).and_then(|image| image.verify(&key)), Err(ImageError::Digest));
    changed[4] = 2;
    assert_eq!(SignedImage::parse(&changed), Err(ImageError::Version(2)));
    let model = image_file(&Manifest { key: sample::manifest().key, ..sample::image_manifest(&bytes) }, &bytes);
    assert_eq!(SignedImage::parse(&model).and_then(|image| image.verify(&key)), Err(ImageError::Task));
}

#[test]
fn the_enrolment_bundle_is_the_same_text_both_ways_and_an_unknown_key_is_refused() {
    let bundle = sample::bundle();
    let text = toml::to_string(&bundle).expect("a bundle is TOML");
    let kept = golden("bundle.toml", text.as_bytes());
    assert_eq!(text.as_bytes(), kept);
    let kept = String::from_utf8(kept).expect("text");
    assert_eq!(toml::from_str::<Bundle<String>>(&kept).as_ref(), Ok(&bundle));
    let error = toml::from_str::<Bundle<String>>(&format!("{kept}colour = \"red\"\n")).expect_err("an unknown key");
    assert!(error.to_string().contains("colour"), "{error}");
}

#[test]
fn a_newer_version_is_refused_by_its_number() {
    for (name, kind, mut frame) in frames() {
        for version in [0, VERSION + 1, 9, 255] {
            frame[1] = version;
            reseal(&mut frame);
            assert_eq!(read(kind, &frame), Err(FrameError::Version(version)), "{name}");
        }
    }
    assert!(FrameError::Version(9).to_string().contains("version 9"));
    for (name, record) in sample::records() {
        let mut bytes = record_bytes(&record);
        bytes[0] = 5;
        assert_eq!(decode_record(&bytes), Err(RecordError::Version(5)), "{name}");
    }
}

/// A reader of version 1 that was frozen with it: header, length, checksum, kind.
fn version_one_takes(frame: &[u8]) -> bool {
    frame[1] == 1
}

#[test]
fn what_version_one_knew_is_still_said_in_version_one_and_what_is_new_in_the_version_that_brought_it() {
    let new = ["up_packed.bin", "down_welcome.bin", "down_command_clip.bin", "sensor_up_cycle_at.bin"];
    let third = ["down_command_reset_by.bin"];
    let fourth = ["node_up_image.bin", "down_refetch.bin"];
    for (name, _, frame) in frames() {
        let is_third = third.contains(&name.as_str());
        let is_new = is_third
            || fourth.contains(&name.as_str())
            || new.contains(&name.as_str())
            || name.starts_with("node_")
            || name.starts_with("link_");
        assert_eq!(version_one_takes(&frame), !is_new, "{name}");
        assert_eq!(frame[1] == 3, is_third, "{name}");
        assert_eq!(frame[1] == 4, fourth.contains(&name.as_str()), "{name}");
    }
    for (name, record) in sample::records() {
        let version = match name {
            "clip" => 2,
            "event_reset" => 3,
            "seal" => 4,
            _ => 1,
        };
        assert_eq!(record_bytes(&record)[0], version, "{name}");
    }
}

#[test]
fn every_flipped_bit_of_a_frame_is_refused() {
    for (name, kind, frame) in frames() {
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(read(kind, &changed).is_err(), "{name}: bit {bit} was flipped and nobody minds");
        }
    }
}

#[test]
fn every_truncation_and_every_byte_too_many_is_refused() {
    for (name, kind, frame) in frames() {
        for len in 0..frame.len() {
            assert_eq!(read(kind, &frame[..len]), Err(FrameError::Truncated), "{name} cut to {len}");
        }
        let longer = [frame.as_slice(), &[0]].concat();
        assert_eq!(read(kind, &longer), Err(FrameError::TooLong), "{name} with a byte more");
    }
    for (name, record) in sample::records() {
        let bytes = record_bytes(&record);
        assert!((0..bytes.len()).all(|len| decode_record(&bytes[..len]).is_err()), "{name} was cut and believed");
        assert!(decode_record(&[bytes.as_slice(), &[0]].concat()).is_err(), "{name} with a byte more was believed");
    }
}

#[test]
fn a_flipped_bit_in_a_bare_record_is_refused_or_gives_a_record_that_can_be_written_again() {
    // A record has no checksum of its own: frame and journal entry around it have.
    for (name, record) in sample::records() {
        let bytes = record_bytes(&record);
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = decode_record(&changed) {
                let again = record_bytes(&other);
                assert!(decode_record(&again).is_ok(), "{name}: bit {bit} gives a record that can't be read back");
            }
        }
    }
}

#[test]
fn another_kind_of_frame_is_refused_by_its_number() {
    for (name, kind, frame) in frames() {
        let other = if kind == Kind::Up { Kind::Down } else { Kind::Up };
        assert_eq!(read(other, &frame), Err(FrameError::Kind(kind as u8)), "{name}");
    }
}

#[test]
fn no_golden_file_is_left_without_its_sample() {
    let mut expected: BTreeSet<String> = frames().into_iter().map(|(name, _, _)| name).collect();
    expected.extend(sample::records().into_iter().map(|(name, _)| format!("record_{name}.bin")));
    let signed = ["manifest.bin", "manifest.signature.bin", "plan.signature.bin", "public_key.bin", "bundle.toml"];
    expected.extend(signed.map(str::to_owned));
    expected.insert("image.kltimage".to_owned());
    let listed = (1..=VERSION).flat_map(|version| fs::read_dir(folder(version)).expect("the golden folder"));
    let found: BTreeSet<String> =
        listed.map(|file| file.expect("listed").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(found.difference(&expected).collect::<Vec<_>>(), Vec::<&String>::new());
    assert_eq!(Digest::of(b"abc"), sample::digest(), "the samples speak of a known digest");
}
