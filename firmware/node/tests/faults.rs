//! The account of faults over a loss of power: no cut loses what was written, and no storm of faults wears the flash out.

mod bench;

use bench::flash::{BYTES, ModelFlash, Tear};
use bench::{boot, run_from};
use kilter_node::{FaultLog, Faults, KEPT_BYTES, Reset};
use kilter_types::Monotonic;

/// A start without what memory kept: the power was off.
fn powered(flash: &mut ModelFlash) -> Option<FaultLog> {
    FaultLog::start(flash, BYTES, &mut [0; KEPT_BYTES], Reset::Power).ok()
}

/// One life that ends in a hard fault, and the start after it, which writes the account down.
fn life(flash: &mut ModelFlash) -> Option<u32> {
    let kept = &mut [0; KEPT_BYTES];
    FaultLog::start(flash, BYTES, kept, Reset::Power).ok()?;
    Faults::faulted(kept);
    let mut log = FaultLog::start(flash, BYTES, kept, Reset::Software).ok()?;
    log.keep(Monotonic(0), flash);
    Some(log.faults().counters.hard_faults)
}

#[test]
fn a_power_cut_at_any_word_of_the_account_leaves_the_one_before_or_the_new_one_and_it_goes_on() {
    // Two cells fit into a page of this flash, so five lives turn pages twice.
    let mut before = ModelFlash::new();
    for expected in 1..=5 {
        let mut whole = before.clone().powered();
        assert_eq!(life(&mut whole), Some(expected));
        let steps = whole.steps;
        assert!(steps >= 28, "{steps} steps");
        for step in 0..steps {
            for tear in Tear::ALL {
                let mut cut = before.clone().powered().cut_at(step, tear);
                life(&mut cut);
                let mut alive = cut.powered();
                let held = powered(&mut alive).expect("a flash with power reads").faults().counters;
                let old = held.hard_faults == expected - 1 && held.boots == 2 * (expected - 1) + 1;
                let new = held.hard_faults == expected && held.boots == 2 * expected + 1;
                assert!(old || new, "life {expected}, step {step}, {tear:?}: {held:?}");
                let next = life(&mut alive).expect("it is written");
                assert_eq!(next, held.hard_faults + 1, "life {expected}, step {step}, {tear:?}");
                let held = powered(&mut alive.powered()).expect("it reads").faults().counters;
                assert_eq!(held.hard_faults, next, "life {expected}, step {step}, {tear:?}");
            }
        }
        before = whole;
    }
}

#[test]
fn a_node_that_fails_at_every_start_does_not_wear_its_flash_out_and_loses_little() {
    let mut flash = ModelFlash::new();
    let (kept, mut held) = (&mut [0; KEPT_BYTES], 0);
    let lives = 100_000;
    for _ in 0..lives {
        // Memory holds through the resets.
        let mut log = FaultLog::start(&mut flash, BYTES, kept, Reset::Watchdog).expect("it reads");
        log.keep(Monotonic(0), &mut flash);
        held = log.faults().counters.watchdog;
        flash.steps = 0;
    }
    assert_eq!(held, lives);
    let after = powered(&mut flash).expect("it reads").faults().counters;
    assert!(after.watchdog >= lives - lives / 16, "{after:?}");
    // Two cells to a page of this flash; a real page of 4096 bytes holds 36.
    println!("{lives} lives erased {} pages; the power then cost {}", flash.erased, lives - after.watchdog);
    assert!(flash.erased < 175, "{} pages erased", flash.erased);
}

#[test]
fn what_was_not_worth_a_cell_at_once_is_written_ten_minutes_later_and_then_nothing_more() {
    let mut flash = ModelFlash::new();
    let kept = &mut [0; KEPT_BYTES];
    for _ in 0..100 {
        let mut log = FaultLog::start(&mut flash, BYTES, kept, Reset::Software).expect("it reads");
        log.keep(Monotonic(0), &mut flash);
    }
    Faults::faulted(kept);
    let mut log = FaultLog::start(&mut flash, BYTES, kept, Reset::Software).expect("it reads");
    let held = |flash: &ModelFlash| powered(&mut flash.clone()).expect("it reads").faults().counters.hard_faults;
    log.keep(Monotonic(599_999_999), &mut flash);
    assert_eq!(held(&flash), 0);
    log.keep(Monotonic(600_000_000), &mut flash);
    assert_eq!(held(&flash), 1);
    let steps = flash.steps;
    (0..1000).for_each(|minute| log.keep(Monotonic(minute * 60_000_000), &mut flash));
    assert_eq!(flash.steps, steps, "nothing has changed");
}

#[test]
fn a_node_counts_its_starts_over_losses_of_power() {
    let mut node = boot(ModelFlash::new());
    for boots in 1..=4 {
        assert_eq!(node.status().faults.boots, boots);
        run_from(&mut node, 0, 1);
        node = boot(node.into_flash());
    }
}
