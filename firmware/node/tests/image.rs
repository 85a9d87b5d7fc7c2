//! Another image of the firmware over embassy-boot's own bootloader: believed only as signed, tried, kept or given up, and never lost to a cut.

mod bench;

use bench::chip::{ACTIVE_PAGES, BOARD, Chip, Part, image};
use bench::flash::{BYTES, PAGE, Tear};
use bench::{name, public_key};
use kilter_node::image::Update;
use kilter_node::slots::{Demands, Refused};
use kilter_node::{BootSlots, Slots};
use kilter_tests::model::{SECRET, Signed, manifest};
use kilter_types::{Generation, Manifest, Micros, ModelKey, Name};

/// What an image sees from within after its start.
struct Running {
    pages: Part,
    slots: Slots,
    images: BootSlots<Part, Part>,
    update: Update,
    given_up: Option<Generation>,
}

impl Chip {
    /// The bootloader, then the image; `None` when the power went.
    fn start(&self) -> Option<Running> {
        let (mut pages, mut images) = self.boot(|| {})?;
        let mut slots = Slots::open(&mut pages, BYTES, public_key()).ok()?;
        let mut update = Update::default();
        let given_up = update.start(&mut images, &mut slots, &mut pages);
        Some(Running { pages, slots, images, update, given_up })
    }
}

impl Running {
    fn begin(&mut self, signed: &Signed) -> Result<(), Refused> {
        let manifest = self.slots.verify(&signed.travel())?;
        assert!(Update::is_image(&manifest));
        let (class, asset) = names();
        let demands = Demands { asset_class: &class, asset: &asset, surely: Some(Micros(1_000)) };
        self.update.begin(&manifest, &demands, &self.images, &self.slots)
    }

    fn take(&mut self, image: &[u8], signed: &Signed) -> Result<(), Refused> {
        self.begin(signed)?;
        for (i, part) in image.chunks(128).enumerate() {
            self.update.part((i * 128) as u32, part, &mut self.images)?;
        }
        self.update.finish(&mut self.images, &mut self.slots, &mut self.pages)
    }

    fn confirm(&mut self) -> bool {
        self.update.confirm(&mut self.images, &mut self.slots, &mut self.pages)
    }
}

fn names() -> (Name, Name) {
    (name("pump"), name("pump-1"))
}

fn of(image: &[u8], generation: u64) -> Manifest {
    let key = ModelKey { task: name("firmware"), asset_class: name(BOARD), asset: None };
    Manifest { name: name("kilter-node"), key, ..manifest(image, generation) }
}

fn signed(image: &[u8], generation: u64) -> Signed {
    Signed::new(&of(image, generation), &SECRET)
}

/// A whole update: fetch, swap, trial, kept.
fn update(chip: &Chip, image: &[u8], generation: u64) -> Option<()> {
    chip.start()?.take(image, &signed(image, generation)).ok()?;
    chip.start()?.confirm().then_some(())
}

#[test]
fn a_power_cut_at_any_word_leaves_the_old_image_or_the_new_one_and_the_update_can_be_done_again() {
    let (old, new) = (image(0x11), image(0xA5));
    let chip = Chip::new(&old);
    update(&chip, &old, 4).expect("nothing is in the way");
    let whole = chip.again();
    update(&whole, &new, 5).expect("nothing is in the way");
    assert_eq!(whole.image(), new);
    let steps = whole.steps();
    assert!(steps > 500, "{steps} steps");
    let (mut cuts, mut kept, mut taken, mut unnamed) = (0, 0, 0, 0);
    for step in 0..steps {
        for tear in Tear::ALL {
            let cut = chip.cut_at(step, tear);
            assert!(update(&cut, &new, 5).is_none(), "the power went at step {step}");
            let alive = cut.again();
            let mut running = alive.start().expect("a chip with power starts");
            let now = alive.image();
            assert!(now == old || now == new, "step {step} {tear:?}: neither image is whole");
            let runs = running.update.runs(&running.slots);
            let right = runs.is_none_or(|runs| runs.0 == 4 + u64::from(now == new));
            assert!(right, "step {step} {tear:?}: the node names {runs:?}");
            unnamed += u32::from(runs.is_none());
            kept += u32::from(now == old);
            taken += u32::from(now == new);
            cuts += 1;
            // What is on trial is concluded first; then the way is free.
            assert!(running.confirm(), "step {step} {tear:?}");
            let known = running.slots.state().firmware;
            assert!((4..=5).contains(&known.0), "step {step} {tear:?}: generation {known:?}");
            update(&alive, &new, known.0 + 1).unwrap_or_else(|| panic!("step {step} {tear:?}: not done again"));
            assert_eq!(alive.image(), new, "step {step} {tear:?}");
            let running = alive.start().expect("it starts");
            assert!(alive.image() == new && !running.update.on_trial(), "step {step} {tear:?}: it does not stay");
        }
    }
    println!("{cuts} cuts at {steps} words and pages: the old image {kept} times, the new one {taken} times");
    println!("{unnamed} times the node can't tell which of them runs");
    assert!(kept > 0 && taken > 0 && unnamed * 50 < cuts);
}

#[test]
fn an_image_that_does_not_prove_itself_is_given_up_at_the_next_start_and_its_generation_is_used_up() {
    let (old, new) = (image(0x11), image(0xA5));
    let chip = Chip::new(&old);
    chip.start().expect("it starts").take(&new, &signed(&new, 5)).expect("good");
    let running = chip.start().expect("it starts");
    assert!(running.update.on_trial() && chip.image() == new);
    // It hangs, and the watchdog bites.
    let mut running = chip.start().expect("it starts");
    assert_eq!((chip.image(), running.given_up), (old.clone(), Some(Generation(5))));
    assert_eq!(running.update.runs(&running.slots), Some(Generation(0)), "as it was flashed");
    assert_eq!(running.begin(&signed(&new, 5)), Err(Refused::Generation));
    let running = chip.start().expect("it starts");
    assert_eq!((chip.image(), running.given_up), (old, None), "it is told once");
    update(&chip, &new, 6).expect("the next one may come");
    assert_eq!(chip.image(), new);
}

#[test]
fn only_what_the_fleet_signed_for_this_board_and_later_than_the_last_is_taken_r5() {
    let (old, new) = (image(0x11), image(0xA5));
    let chip = Chip::new(&old);
    update(&chip, &old, 5).expect("nothing is in the way");
    let mut running = chip.start().expect("it starts");
    let good = of(&new, 6);
    let other = |class: &str, asset: Option<&str>| ModelKey {
        task: name("firmware"),
        asset_class: name(class),
        asset: asset.map(name),
    };
    let bad = [
        (of(&new, 5), Refused::Generation),
        (of(&new, 4), Refused::Generation),
        (Manifest { key: other("rp2040", None), ..good.clone() }, Refused::Machine),
        (Manifest { key: other(BOARD, Some("pump-2")), ..good.clone() }, Refused::Machine),
        (Manifest { minimum_agent: 99, ..good.clone() }, Refused::Software),
        (Manifest { expires: Micros(999), ..good.clone() }, Refused::Expired),
        (Manifest { size_bytes: ACTIVE_PAGES * PAGE as u32 + 1, ..good.clone() }, Refused::Size),
    ];
    for (manifest, expected) in bad {
        assert_eq!(running.begin(&Signed::new(&manifest, &SECRET)), Err(expected));
    }
    assert_eq!(running.begin(&Signed::new(&good, &[1; 32])), Err(Refused::Signature));
    // Signed well, but what comes is something else, or not in order.
    let mut damaged = new.clone();
    damaged[300] ^= 1;
    assert_eq!(running.take(&damaged, &signed(&new, 6)), Err(Refused::Digest));
    running.begin(&signed(&new, 6)).expect("good");
    assert_eq!(running.update.part(128, &new[128..256], &mut running.images), Err(Refused::Order));
    assert_eq!(running.slots.state().firmware, Generation(5));
    chip.start().expect("it starts");
    assert_eq!(chip.image(), old);
}
