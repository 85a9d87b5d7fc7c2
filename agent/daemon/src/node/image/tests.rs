//! Images between a technician, this agent and a node that says what it runs.

use super::*;
use kilter_types::{ModelKey, Role};
use kilter_wire::sign::{public_key, sign_manifest};

const SECRET: [u8; 32] = [9; 32];
const WALL: (Micros, Micros) = (Micros(1_000), Micros(100));

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn manifest(bytes: &[u8], generation: u64) -> Manifest {
    let key = ModelKey { task: name("firmware"), asset_class: name("bench"), asset: None };
    let (digest, size_bytes) = (Digest::of(bytes), bytes.len() as u32);
    let (name, expires, generation) = (name("kilter-node"), Micros(10_000), Generation(generation));
    let (features, role) = (heapless::Vec::new(), Role::Leader);
    Manifest { digest, size_bytes, name, version: 1, key, role, features, minimum_agent: 1, expires, generation }
}

fn file(manifest: &Manifest, bytes: &[u8]) -> Vec<u8> {
    let (mut room, mut head) = ([0; 512], [0; 700]);
    let (manifest, signature) = sign_manifest(manifest, &SECRET, &mut room).expect("it fits");
    let signed = SignedManifest { manifest, signature: &signature };
    [SignedImage::head(&signed, &mut head).expect("it fits"), bytes].concat()
}

fn bytes() -> Vec<u8> {
    (0..3000u32).map(|i| (i * 7) as u8).collect()
}

fn image(manifest: &Manifest) -> Image {
    Image::open(file(manifest, &bytes()), &public_key(&SECRET), &name("pump-1"), None).expect("a good file")
}

/// A node that runs this generation.
fn node(runs: u64) -> ImageStatus {
    ImageStatus {
        board: name("bench"),
        runs: Some(Generation(runs)),
        seen: Generation(runs),
        on_trial: false,
        capacity_bytes: 4096,
        coming: None,
    }
}

/// The node fetches from here to the end.
fn fetch(image: &mut Image, from: u32, len: u32) -> Vec<u8> {
    let (mut got, digest) = (Vec::new(), image.manifest.digest);
    loop {
        let fetch = Fetch { digest, offset: from + got.len() as u32, len };
        assert!(image.note_fetch(&fetch));
        let part = image.part(&fetch).expect("a part").bytes.to_vec();
        assert!(part.len() <= MOST_PART_BYTES as usize);
        got.extend(part);
        if image.told.stage == Stage::Sent {
            return got;
        }
    }
}

#[test]
fn an_image_is_offered_until_it_is_fetched_and_ends_when_it_has_proven_itself() {
    let mut image = image(&manifest(&bytes(), 5));
    assert!(image.hear(&node(4), WALL, Monotonic(0)), "it is offered");
    assert!(image.hear(&node(4), WALL, Monotonic(1)), "and again, because the offer was lost");
    let signed = image.offer().expect("a good file");
    assert!(signed.verify(&public_key(&SECRET)).is_ok());
    assert_eq!(fetch(&mut image, 0, u32::MAX), bytes(), "in parts, however much is asked for at once");
    assert!(!image.hear(&ImageStatus { on_trial: true, runs: Some(Generation(5)), ..node(4) }, WALL, Monotonic(2)));
    assert_eq!(image.told.stage, Stage::Trial);
    assert!(!image.hear(&node(5), WALL, Monotonic(3)));
    assert_eq!((image.told.stage, image.told.have_bytes), (Stage::Kept, 3000));
}

#[test]
fn a_node_that_lost_its_power_is_offered_it_again_and_one_that_kept_its_part_goes_on_there() {
    let mut image = image(&manifest(&bytes(), 5));
    let digest = image.manifest.digest;
    assert!(image.hear(&node(4), WALL, Monotonic(0)));
    assert!(image.note_fetch(&Fetch { digest, offset: 512, len: 512 }));
    let half = ImageStatus { coming: Some((digest, 1024)), ..node(4) };
    assert!(!image.hear(&half, WALL, Monotonic(1)), "it has it already");
    assert_eq!((image.told.stage, image.told.have_bytes), (Stage::Fetching, 1024));
    // This agent starts again and knows where it was.
    let told = image.told.clone();
    let mut image = Image::open(image.file, &public_key(&SECRET), &name("pump-1"), Some(told)).expect("a good file");
    assert!(!image.hear(&half, WALL, Monotonic(2)));
    assert_eq!(fetch(&mut image, 1024, 512), bytes()[1024..]);
    // The power went before the bootloader was told.
    assert!(image.hear(&node(4), WALL, Monotonic(3)));
    assert_eq!((image.told.stage, image.told.have_bytes), (Stage::Waiting, 0));
}

#[test]
fn what_can_be_told_before_is_refused_before_it_is_offered() {
    let good = manifest(&bytes(), 5);
    let other = ModelKey { asset_class: name("rp2040"), ..good.key.clone() };
    let cases = [
        (Manifest { key: other, ..good.clone() }, node(4), "for board rp2040, the node is a bench"),
        (Manifest { expires: Micros(899), ..good.clone() }, node(4), "expired"),
        (good.clone(), node(5), "generation 5 runs there already"),
        (good.clone(), node(6), "generation 5 is not above 6"),
        (good.clone(), ImageStatus { capacity_bytes: 2999, ..node(4) }, "room for 2999"),
    ];
    for (manifest, node, why) in cases {
        let mut image = image(&manifest);
        assert!(!image.hear(&node, WALL, Monotonic(0)));
        assert_eq!(image.told.stage, Stage::Refused);
        assert!(image.told.why.contains(why), "{}", image.told.why);
    }
    let mut late = image(&Manifest { expires: Micros(900), ..good });
    assert!(late.hear(&node(4), WALL, Monotonic(0)), "it may still be time");
}

#[test]
fn a_file_of_another_fleet_of_another_machine_or_with_another_image_is_not_opened() {
    let (good, asset) = (manifest(&bytes(), 5), name("pump-1"));
    let open = |file: Vec<u8>, key: [u8; 32]| Image::open(file, &key, &asset, None).map(drop);
    let key = public_key(&SECRET);
    assert_eq!(open(file(&good, &bytes()), key), Ok(()));
    assert!(matches!(open(file(&good, &bytes()), public_key(&[1; 32])), Err(Unfit::File(ImageError::Signature(_)))));
    assert_eq!(open(file(&good, &bytes()[1..]), key), Err(Unfit::File(ImageError::Digest)));
    let own = ModelKey { asset: Some(name("pump-2")), ..good.key.clone() };
    assert_eq!(open(file(&Manifest { key: own, ..good }, &bytes()), key), Err(Unfit::Asset(name("pump-2"))));
}

#[test]
fn a_way_back_and_a_refusal_by_the_node_end_it_and_damage_only_delays_it() {
    let mut image = image(&manifest(&bytes(), 5));
    let digest = image.manifest.digest;
    assert!(!image.refused(Digest::NONE, &name("signature"), Monotonic(0)), "it was not offered yet");
    assert!(image.hear(&node(4), WALL, Monotonic(0)) && image.offer().is_some());
    fetch(&mut image, 0, 512);
    assert!(image.refused(digest, &name("digest"), Monotonic(7)));
    assert_eq!(image.told.stage, Stage::Waiting);
    assert!(!image.hear(&node(4), WALL, Monotonic(8)), "not at once");
    assert!(image.hear(&node(4), WALL, Monotonic(7 + DAMAGED_US)));
    fetch(&mut image, 0, 512);
    assert!(image.refused(Digest::NONE, &name("firmware_reverted"), Monotonic(9)));
    assert!(!image.hear(&ImageStatus { seen: Generation(5), ..node(4) }, WALL, Monotonic(10)));
    assert_eq!(image.told.stage, Stage::GivenUp);
    assert!(image.told.why.contains("generation 4 runs again"), "{}", image.told.why);

    let mut image = self::image(&manifest(&bytes(), 6));
    assert!(image.hear(&node(4), WALL, Monotonic(0)) && image.offer().is_some());
    assert!(!image.refused(Digest::of(b"a model"), &name("size"), Monotonic(1)));
    assert!(image.refused(Digest::NONE, &name("signature"), Monotonic(1)));
    assert!(image.told.stage == Stage::Refused && image.told.why.contains("another key"));
}
