//! Another image of the firmware over embassy-boot's own bootloader: believed only as signed, tried, kept or given up, and never lost to a cut.

mod bench;

use std::cell::RefCell;
use std::rc::Rc;

use bench::flash::{ALL_BYTES, BYTES, ModelFlash, PAGE, Tear};
use bench::{name, public_key};
use embassy_boot::{BootLoader, BootLoaderConfig};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use kilter_node::image::Update;
use kilter_node::slots::{Demands, Refused};
use kilter_node::{BootSlots, Flash, Slots};
use kilter_tests::model::{SECRET, Signed, manifest};
use kilter_types::{Generation, Manifest, Micros, ModelKey, Name};

const ACTIVE_PAGES: u32 = 3;
const STATE_AT: u32 = ALL_BYTES as u32;
const ACTIVE_AT: u32 = STATE_AT + PAGE as u32;
const SECOND_AT: u32 = ACTIVE_AT + ACTIVE_PAGES * PAGE as u32;
const BOOT_PAGES: u32 = 1 + ACTIVE_PAGES + ACTIVE_PAGES + 1;

/// A part of one chip's flash, all of which loses its power at once.
#[derive(Clone)]
struct Part {
    flash: Rc<RefCell<ModelFlash>>,
    from: u32,
    len: u32,
}

impl ErrorType for Part {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        self.flash.borrow_mut().read(self.from + offset, bytes)
    }

    fn capacity(&self) -> usize {
        self.len as usize
    }
}

impl NorFlash for Part {
    const WRITE_SIZE: usize = ModelFlash::WRITE_SIZE;
    const ERASE_SIZE: usize = ModelFlash::ERASE_SIZE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        self.flash.borrow_mut().erase(self.from + from, self.from + to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        self.flash.borrow_mut().write(self.from + offset, bytes)
    }
}

impl Flash for Part {
    fn view(&self, offset: u32, len: usize) -> Option<&'static [u8]> {
        self.flash.borrow().view(self.from + offset, len)
    }
}

/// One chip: the node's pages, the bootloader's page, and both slots.
#[derive(Clone)]
struct Chip(Rc<RefCell<ModelFlash>>);

/// What an image sees from within after its start.
struct Running {
    pages: Part,
    slots: Slots,
    images: BootSlots<Part, Part>,
    update: Update,
    given_up: Option<Generation>,
}

impl Chip {
    fn new(image: &[u8]) -> Self {
        let mut flash = ModelFlash::with_boot(BOOT_PAGES);
        flash.program(ACTIVE_AT, image);
        Self(Rc::new(RefCell::new(flash)))
    }

    /// The same chip in another world, with its power back.
    fn again(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone().powered())))
    }

    fn cut_at(&self, step: u64, tear: Tear) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone().powered().cut_at(step, tear))))
    }

    fn part(&self, from: u32, pages: u32) -> Part {
        Part { flash: Rc::clone(&self.0), from, len: pages * PAGE as u32 }
    }

    fn steps(&self) -> u64 {
        self.0.borrow().steps
    }

    fn image(&self) -> Vec<u8> {
        self.0.borrow().bytes(ACTIVE_AT, IMAGE).to_vec()
    }

    /// The bootloader, then the image; `None` when the power went.
    fn start(&self) -> Option<Running> {
        let (active, second) = (self.part(ACTIVE_AT, ACTIVE_PAGES), self.part(SECOND_AT, ACTIVE_PAGES + 1));
        let state = self.part(STATE_AT, 1);
        let config = BootLoaderConfig { active, dfu: second.clone(), state: state.clone() };
        BootLoader::new(config).prepare_boot(&mut [0; PAGE]).ok()?;
        let mut pages = self.part(0, BYTES / PAGE as u32);
        let mut slots = Slots::open(&mut pages, BYTES, public_key()).ok()?;
        let mut images = BootSlots::new(BOARD, second, state, || {});
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

/// An image that tells itself from every other one in each of its words.
fn image(seed: u8) -> Vec<u8> {
    (0..IMAGE).map(|i| (i as u8).wrapping_mul(7) ^ seed ^ (i / 251) as u8).collect()
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
    let (mut cuts, mut kept, mut taken) = (0, 0, 0);
    for step in 0..steps {
        for tear in Tear::ALL {
            let cut = chip.cut_at(step, tear);
            assert!(update(&cut, &new, 5).is_none(), "the power went at step {step}");
            let alive = cut.again();
            let mut running = alive.start().expect("a chip with power starts");
            let now = alive.image();
            assert!(now == old || now == new, "step {step} {tear:?}: neither image is whole");
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
    assert!(kept > 0 && taken > 0);
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

const BOARD: &str = "bench";
/// Not a whole number of pages, words or parts.
const IMAGE: usize = 701;
