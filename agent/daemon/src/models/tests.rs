//! Slots, plans and manifests on disk.

use super::*;
use kilter_signal::table;
use kilter_types::{DeviceId, FeatureId, FeatureRef, ModelKey};
use kilter_wire::{Plan, SignError, VERSION, sign};

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn manifest(bytes: &[u8], generation: u64, role: Role, asset: Option<&str>) -> Manifest {
    Manifest {
        digest: Digest::of(bytes),
        size_bytes: bytes.len() as u32,
        name: name("anomaly"),
        version: 1,
        key: ModelKey { task: name("anomaly"), asset_class: name("pump"), asset: asset.map(name) },
        role,
        features: heapless::Vec::new(),
        minimum_agent: 1,
        expires: Micros(1000),
        generation: Generation(generation),
    }
}

fn running(store: &Store, asset: &Name) -> Vec<(Role, Vec<u8>)> {
    store.candidates(asset).into_iter().map(|install| (install.role, install.bytes)).collect()
}

#[test]
fn a_model_is_switched_in_the_other_slot_and_a_damaged_one_falls_back_to_the_one_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, asset) = (Store::new(dir.path()), name("pump-1"));
    for (generation, bytes) in [(1, b"one"), (2, b"two"), (3, b"six")] {
        let manifest = manifest(bytes, generation, Role::Leader, None);
        assert_eq!(store.may_follow(&asset, &manifest), Ok(true));
        let before = running(&store, &asset);
        store.stage(&asset, &manifest, bytes).expect("the disk works");
        // Until it is confirmed, a restart runs what ran before.
        assert_eq!(running(&store, &asset).first(), before.first());
        store.confirm(&asset, &manifest).expect("the disk works");
        assert_eq!(running(&store, &asset)[0].1, bytes);
        assert_eq!(store.may_follow(&asset, &manifest), Ok(false), "it runs already");
    }
    assert_eq!(running(&store, &asset)[1].1, b"two", "the one before is kept");
    let active = fs::read_dir(dir.path().join("models/pump-1")).expect("a folder").flatten();
    let six = active.map(|file| file.path()).find(|path| fs::read(path).is_ok_and(|bytes| bytes == b"six"));
    fs::write(six.expect("it is there"), b"tampered").expect("the disk works");
    assert_eq!(running(&store, &asset), [(Role::Leader, b"two".to_vec())]);
    let two = store.candidates(&asset).remove(0);
    assert!(store.fell_back(&asset, &two).expect("the disk works"));
    assert!(!store.fell_back(&asset, &two).expect("the disk works"));
    let six = manifest(b"six", 3, Role::Leader, None);
    assert_eq!(store.may_follow(&asset, &six), Ok(true), "what was damaged may be fetched again");
}

#[test]
fn r5_an_older_manifest_is_refused_even_after_a_fall_back_and_a_newer_one_may_name_an_older_artifact() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, asset) = (Store::new(dir.path()), name("pump-1"));
    for (generation, bytes) in [(4, b"one"), (5, b"two")] {
        let manifest = manifest(bytes, generation, Role::Leader, None);
        store.stage(&asset, &manifest, bytes).expect("the disk works");
        store.confirm(&asset, &manifest).expect("the disk works");
    }
    let replayed = manifest(b"one", 4, Role::Leader, None);
    assert_eq!(store.may_follow(&asset, &replayed), Err(Refusal::Generation { found: 4, last: 5 }));
    assert_eq!(store.may_follow(&asset, &manifest(b"one", 6, Role::Leader, None)), Ok(true), "a rollback");
    assert_eq!(store.may_follow(&asset, &manifest(b"one", 1, Role::Shadow, None)), Ok(true), "another role");
}

#[test]
fn r5_only_a_newer_plan_for_this_device_with_the_fleets_signature_is_followed() {
    let secret = [7; 32];
    let key = sign::public_key(&secret);
    let device = DeviceId::new("edge-1").expect("a good id");
    let mut room = [0; 2048];
    let (bytes, signature) =
        sign::sign_manifest(&manifest(b"one", 1, Role::Leader, None), &secret, &mut room).expect("it fits");
    let mut tampered = bytes.to_vec();
    tampered[0] ^= 1;
    let plan = |device: &DeviceId, generation: u64, bytes| {
        let model = SignedManifest { manifest: bytes, signature: &signature };
        let models = heapless::Vec::from_slice(&[model]).expect("it fits");
        let signed = sign::sign_plan(device, Generation(generation), [&signature[..]].into_iter(), &secret);
        (device.clone(), Generation(generation), models, signed)
    };
    let check = |parts: (DeviceId, Generation, _, [u8; 64]), key: &[u8; 32]| {
        let (to, generation, models, signed) = parts;
        let plan = Plan { device: to, generation, models, signature: &signed };
        check_plan(&plan, &device, key, Generation(5))
    };
    let good = check(plan(&device, 6, bytes), &key).expect("a good plan");
    assert_eq!(good, [Ok(manifest(b"one", 1, Role::Leader, None))]);
    let bad = check(plan(&device, 6, &tampered), &key).expect("the plan itself is good");
    assert_eq!(bad, [Err(Refusal::Signature(SignError::Signature))]);
    let other = DeviceId::new("edge-2").expect("a good id");
    assert_eq!(check(plan(&other, 6, bytes), &key), Err(Refusal::Device(other.clone())));
    assert_eq!(check(plan(&device, 5, bytes), &key), Err(Refusal::Generation { found: 5, last: 5 }));
    let stranger = sign::public_key(&[8; 32]);
    assert_eq!(check(plan(&device, 6, bytes), &stranger), Err(Refusal::Signature(SignError::Signature)));
}

#[test]
fn a_manifest_is_refused_only_when_it_has_surely_expired_or_asks_for_what_is_not_here() {
    let mut manifest = manifest(b"one", 1, Role::Leader, None);
    assert_eq!(check_manifest(&manifest, Micros(1100), Micros(100)), Ok(()), "it may still be time");
    assert_eq!(check_manifest(&manifest, Micros(1101), Micros(100)), Err(Refusal::Expired));
    let kurtosis = table::vibration_id(table::at::KURTOSIS);
    let hash = table::describe(kurtosis).expect("it is known").feature.hash();
    manifest.features.push(FeatureRef { id: kurtosis, hash }).expect("it fits");
    assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Ok(()));
    manifest.features.push(FeatureRef { id: FeatureId(kurtosis.0), hash: hash ^ 1 }).expect("it fits");
    assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Err(Refusal::Feature(kurtosis.0)));
    manifest.minimum_agent = u16::from(VERSION) + 1;
    assert_eq!(check_manifest(&manifest, Micros(0), Micros(0)), Err(Refusal::Agent(u16::from(VERSION) + 1)));
}

#[test]
fn a_manifest_for_the_asset_goes_before_the_one_for_its_class() {
    let machine = |asset: &str, class: &str| Candidate { asset: name(asset), class: name(class) };
    let machines = [machine("pump-1", "pump"), machine("pump-2", "pump"), machine("fan-1", "fan")];
    let manifests = [
        manifest(b"class", 1, Role::Leader, None),
        manifest(b"asset", 2, Role::Leader, Some("pump-2")),
        manifest(b"shadow", 3, Role::Shadow, None),
    ];
    let wanted = assign(&machines, &manifests);
    let plain: Vec<(usize, Digest)> = wanted.iter().map(|w| (w.machine, w.manifest.digest)).collect();
    let [class, asset, shadow] = [b"class".as_slice(), b"asset", b"shadow"].map(Digest::of);
    assert_eq!(plain, [(0, class), (0, shadow), (1, asset), (1, shadow)]);
}

#[test]
fn a_restart_knows_which_model_was_made_for_this_very_machine() {
    let dir = tempfile::tempdir().expect("a folder");
    let (store, asset) = (Store::new(dir.path()), name("pump-1"));
    for (generation, own) in [(1, None), (2, Some("pump-1"))] {
        let bytes = [generation as u8];
        let manifest = manifest(&bytes, generation, Role::Leader, own);
        store.stage(&asset, &manifest, &bytes).expect("the disk works");
        store.confirm(&asset, &manifest).expect("the disk works");
    }
    let owned: Vec<bool> = store.candidates(&asset).iter().map(|install| install.own).collect();
    assert_eq!(owned, [true, false], "the one that runs, and the one before");
}

#[test]
fn a_download_is_kept_only_when_its_digest_fits() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::new(dir.path());
    let digest = Digest::of(b"artifact");
    store.append(digest, b"arti").expect("the disk works");
    assert_eq!(store.part_bytes(digest), 4);
    store.append(digest, b"fact").expect("the disk works");
    assert!(store.finish(digest).expect("the disk works"));
    assert_eq!(store.artifact(digest).as_deref(), Some(b"artifact".as_slice()));
    let other = Digest::of(b"other");
    store.append(other, b"tampered").expect("the disk works");
    assert!(!store.finish(other).expect("the disk works"));
    assert_eq!((store.part_bytes(other), store.artifact(other)), (0, None));
    store.tidy(&[]);
    assert_eq!(store.artifact(digest), None);
}
