//! One fixed example of everything that crosses a wire. A new variant fails to compile here until it has a name and a golden.

mod message;
mod node;
mod record;

use kilter_types::{
    DeviceId, Digest, FeatureId, FeatureRef, Generation, Manifest, Micros, ModelKey, Name, Point, Role, Who,
};
use kilter_wire::bundle::{BUNDLE_VERSION, Bundle};

pub(crate) use message::{downs, greetings, ups};
pub(crate) use node::{node_downs, node_ups, sensor_downs, sensor_ups};
pub(crate) use record::records;

/// A signing key that signs nothing but these samples.
pub(crate) const SECRET: [u8; 32] = [7; 32];

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

pub(crate) fn who() -> Who {
    Who::new("r. meier").expect("a good name")
}

pub(crate) fn device() -> DeviceId {
    DeviceId::new("edge-1").expect("a good id")
}

pub(crate) fn generation() -> Generation {
    Generation(42)
}

/// SHA-256 of `abc`.
pub(crate) fn digest() -> Digest {
    Digest::parse("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad").expect("a good digest")
}

fn point() -> Point {
    Point::parse("acme/north/pump-1/drive-end").expect("a good point")
}

fn list<T: Clone, const N: usize>(items: &[T]) -> heapless::Vec<T, N> {
    heapless::Vec::from_slice(items).expect("it fits")
}

pub(crate) fn manifest() -> Manifest {
    Manifest {
        digest: digest(),
        size_bytes: 12_345,
        name: name("pump-anomaly"),
        version: 3,
        key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: Some(name("pump-1")) },
        role: Role::Leader,
        features: list(&[
            FeatureRef { id: FeatureId(1), hash: 0xdead_beef },
            FeatureRef { id: FeatureId(17), hash: 0x0bad_cafe },
        ]),
        minimum_agent: 1,
        expires: Micros(1_900_000_000_000_000),
        generation: generation(),
    }
}

/// What a manifest says of an image.
pub(crate) fn image_manifest(bytes: &[u8]) -> Manifest {
    Manifest {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u32,
        key: ModelKey { task: name(kilter_wire::image::TASK), asset_class: name("nrf52840"), asset: None },
        features: list(&[]),
        ..manifest()
    }
}

pub(crate) fn bundle() -> Bundle<String> {
    Bundle {
        version: BUNDLE_VERSION,
        tenant: name("acme"),
        device: device(),
        credential: "a-secret-of-one-device".into(),
        server: "kilter.example:8883".into(),
        server_ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
        signing_key: "07".repeat(32),
    }
}
