//! Another model on the node: accepted only as signed, tried, confirmed or given up, and never lost to a power cut.

mod bench;

use bench::flash::{BYTES, ModelFlash, Tear};
use bench::public_key;
use bench::{Bench, boot, name, node, run, run_from, send_down, send_node, sent};
use kilter_node::slots::{Demands, MOST_ATTEMPTS, PART, Refused};
use kilter_node::{PROVING_WINDOWS, Slots};
use kilter_tests::model::{SECRET, Signed, artifact, manifest};
use kilter_types::{Alarm, AlarmSource, Digest, Generation, Manifest, Micros, Monotonic, Name, Payload, Role};
use kilter_wire::node::{NodeDown, NodeSettings};
use kilter_wire::{Chunk, Down};

fn open(flash: &mut ModelFlash) -> Result<Slots, Refused> {
    Slots::open(flash, BYTES, public_key())
}

fn demands<'a>(names: &'a (Name, Name)) -> Demands<'a> {
    Demands { asset_class: &names.0, asset: &names.1, surely: Some(Micros(1_000)) }
}

fn names() -> (Name, Name) {
    (name("pump"), name("pump-1"))
}

/// Everything that a node does with its flash to get another model: begin, parts, trial, a start, confirm.
fn update(flash: &mut ModelFlash, bytes: &[u8], signed: &Signed) -> Result<(), Refused> {
    let mut slots = open(flash)?;
    slots.start(flash);
    slots.begin(&signed.travel(), &demands(&names()), flash).map_err(|(_, reason)| reason)?;
    for (i, part) in bytes.chunks(2 * PART).enumerate() {
        slots.part((i * 2 * PART) as u32, part, flash)?;
    }
    slots.finish(flash)?;
    let mut slots = open(flash)?;
    slots.start(flash);
    if slots.confirm(flash) { Ok(()) } else { Err(Refused::Flash) }
}

/// What runs after the power comes back, and the highest generation.
fn after(flash: &ModelFlash) -> (ModelFlash, Option<(Digest, bool)>, Generation) {
    let mut flash = flash.clone().powered();
    let mut slots = open(&mut flash).expect("a flash with power reads");
    let started = slots.start(&mut flash);
    let model = started.model.map(|model| (model.digest, model.on_trial));
    (flash, model, slots.state().generation)
}

struct Two {
    old: Vec<u8>,
    new: Vec<u8>,
    /// The old model runs, confirmed, and the log is almost full, so that the update turns its page.
    flash: ModelFlash,
}

fn two() -> Two {
    let (old, new) = (artifact(2.0), artifact(3.0));
    let mut flash = ModelFlash::new();
    update(&mut flash, &old, &Signed::new(&manifest(&old, 5), &SECRET)).expect("nothing is in the way");
    let mut slots = open(&mut flash).expect("it reads");
    assert!(slots.set(NodeSettings { generation: 1, ..NodeSettings::default() }, &mut flash));
    Two { old, new, flash: flash.powered() }
}

#[test]
fn a_power_cut_at_any_word_leaves_the_old_model_or_the_new_one_and_the_update_can_be_done_again() {
    let Two { old, new, flash } = two();
    let signed = Signed::new(&manifest(&new, 6), &SECRET);
    let again = Signed::new(&manifest(&new, 7), &SECRET);
    let mut whole = flash.clone();
    update(&mut whole, &new, &signed).expect("nothing is in the way");
    assert_eq!(after(&whole).1, Some((Digest::of(&new), false)));
    let steps = whole.steps;
    assert!(steps > 100, "{steps} steps");
    let (mut before, mut trials, mut cuts) = (0, 0, 0);
    for step in 0..steps {
        for tear in Tear::ALL {
            let mut cut = flash.clone().cut_at(step, tear);
            assert!(update(&mut cut, &new, &signed).is_err(), "the power went at step {step}");
            let (mut alive, model, generation) = after(&cut);
            let (digest, on_trial) = model.unwrap_or_else(|| panic!("step {step} {tear:?}: no model is left"));
            assert!(digest == Digest::of(&old) || digest == Digest::of(&new), "step {step} {tear:?}");
            assert!(generation >= Generation(5), "step {step} {tear:?}: the generation went back");
            assert!(digest == Digest::of(&old) || generation == Generation(6), "step {step} {tear:?}");
            before += u32::from(digest == Digest::of(&old));
            trials += u32::from(on_trial);
            cuts += 1;
            // A trial under way is concluded first; then the way is free for the next.
            let mut slots = open(&mut alive).expect("it reads");
            assert!(slots.confirm(&mut alive));
            update(&mut alive, &new, &again).unwrap_or_else(|reason| panic!("step {step} {tear:?}: {reason:?}"));
            assert_eq!(after(&alive).1, Some((Digest::of(&new), false)), "step {step} {tear:?}");
        }
    }
    println!("{cuts} cuts at {steps} words and pages: old model {before} times, on trial {trials} times");
    assert!(before > 0 && trials > 0);
}

#[test]
fn a_second_cut_during_the_start_after_the_first_changes_nothing() {
    let Two { old, new, flash } = two();
    let signed = Signed::new(&manifest(&new, 6), &SECRET);
    let mut whole = flash.clone();
    update(&mut whole, &new, &signed).expect("nothing is in the way");
    for step in 0..whole.steps {
        let mut cut = flash.clone().cut_at(step, Tear::Some);
        let _ = update(&mut cut, &new, &signed);
        for second in 0..64 {
            for tear in [Tear::Before, Tear::Some, Tear::After] {
                let mut flash = cut.clone().powered().cut_at(second, tear);
                if let Ok(mut slots) = open(&mut flash) {
                    slots.start(&mut flash);
                }
                let steps = flash.steps;
                let (_, model, _) = after(&flash);
                let digest = model.expect("a model is left").0;
                assert!(digest == Digest::of(&old) || digest == Digest::of(&new), "step {step}, then {second}");
                if steps <= second {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_model_that_never_lives_to_be_confirmed_is_given_up_for_the_one_before() {
    let Two { old, new, mut flash } = two();
    let mut slots = open(&mut flash).expect("it reads");
    slots.begin(&Signed::new(&manifest(&new, 6), &SECRET).travel(), &demands(&names()), &mut flash).expect("good");
    for (i, part) in new.chunks(PART).enumerate() {
        slots.part((i * PART) as u32, part, &mut flash).expect("in order");
    }
    slots.finish(&mut flash).expect("whole");
    for _ in 1..MOST_ATTEMPTS {
        let (next, model, _) = after(&flash);
        assert_eq!(model, Some((Digest::of(&new), true)));
        flash = next;
    }
    let mut slots = open(&mut flash).expect("it reads");
    let started = slots.start(&mut flash);
    assert_eq!(started.reverted, Some(Digest::of(&new)));
    assert_eq!(started.model.map(|model| (model.digest, model.on_trial)), Some((Digest::of(&old), false)));
    assert_eq!(slots.state().generation, Generation(6), "what was tried can't come again (R5)");
}

#[test]
fn only_what_the_fleet_signed_for_this_machine_and_later_than_the_last_is_taken_r5() {
    let Two { new, mut flash, .. } = two();
    let mut slots = open(&mut flash).expect("it reads");
    let good = manifest(&new, 6);
    let other = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        manifest
    };
    let bad = [
        (other(&|m| m.generation = Generation(5)), Refused::Generation),
        (other(&|m| m.key.asset_class = name("fan")), Refused::Machine),
        (other(&|m| m.key.asset = Some(name("pump-2"))), Refused::Machine),
        (other(&|m| m.role = Role::Shadow), Refused::Shadow),
        (other(&|m| m.minimum_agent = 99), Refused::Software),
        (other(&|m| m.expires = Micros(999)), Refused::Expired),
        (other(&|m| m.size_bytes = 1 << 20), Refused::Size),
    ];
    for (manifest, expected) in bad {
        let refused = slots.begin(&Signed::new(&manifest, &SECRET).travel(), &demands(&names()), &mut flash);
        assert_eq!(refused, Err((manifest.digest, expected)));
    }
    let foreign = Signed::new(&good, &[1; 32]);
    let refused = slots.begin(&foreign.travel(), &demands(&names()), &mut flash);
    assert_eq!(refused, Err((Digest::NONE, Refused::Signature)));
    // Signed well, but what comes is something else.
    slots.begin(&Signed::new(&good, &SECRET).travel(), &demands(&names()), &mut flash).expect("good");
    let mut damaged = new.clone();
    damaged[100] ^= 1;
    for (i, part) in damaged.chunks(PART).enumerate() {
        slots.part((i * PART) as u32, part, &mut flash).expect("in order");
    }
    assert_eq!(slots.finish(&mut flash).err(), Some(Refused::Digest));
    assert_eq!(slots.state().generation, Generation(5));
}

/// Answers the node's fetches until the model is there, as a gateway does.
fn serve(node: &mut Bench, bytes: &[u8], from: u64) -> u64 {
    let mut now = from;
    for _ in 0..64 {
        node.poll(Monotonic(now));
        now += 40_000;
        let fetches = sent(node).fetches;
        for fetch in &fetches {
            let part = &bytes[fetch.offset as usize..(fetch.offset + fetch.len).min(bytes.len() as u32) as usize];
            let (digest, offset, total) = (fetch.digest, fetch.offset, bytes.len() as u32);
            send_down(node, &Down::Chunk(Chunk { digest, offset, total, bytes: part }));
        }
        if node.monitor().model(Role::Leader).is_some_and(|(digest, _)| digest == Digest::of(bytes)) {
            return now;
        }
    }
    panic!("the model did not arrive");
}

#[test]
fn a_model_arrives_in_parts_scores_is_confirmed_and_runs_again_after_a_reset() {
    let bytes = artifact(2.0);
    let mut node = node();
    run(&mut node, 13);
    sent(&mut node);
    send_node(&mut node, &NodeDown::Model(Signed::new(&manifest(&bytes, 6), &SECRET).travel()));
    let now = serve(&mut node, &bytes, 20_000_000);
    assert!(node.status().on_trial);
    let now = run_from(&mut node, now, 2);
    let scored = sent(&mut node).records.iter().any(|record| match &record.payload {
        Payload::Score(score) => score.model == Digest::of(&bytes) && score.role == Role::Leader,
        _ => false,
    });
    assert!(scored, "the new model speaks");
    run_from(&mut node, now, PROVING_WINDOWS as usize);
    assert!(!node.status().on_trial);
    let mut node = boot(node.into_flash());
    assert_eq!(node.monitor().model(Role::Leader), Some((Digest::of(&bytes), Generation(6))));
    send_node(&mut node, &NodeDown::Model(Signed::new(&manifest(&artifact(3.0), 6), &SECRET).travel()));
    run(&mut node, 1);
    assert_eq!(sent(&mut node).refusals(), ["old_generation"]);
    let shadow = Manifest { role: Role::Shadow, ..manifest(&artifact(3.0), 7) };
    send_node(&mut node, &NodeDown::Model(Signed::new(&shadow, &SECRET).travel()));
    run(&mut node, 1);
    assert_eq!(sent(&mut node).refusals(), ["leaders_only"]);
    assert_eq!(node.monitor().model(Role::Shadow), None);
}

#[test]
fn a_model_made_for_this_very_machine_is_heard_without_the_baselines_consent_and_one_for_its_kind_is_not() {
    // It calls every window unusual, and it comes when the baseline is learned, which calls none so.
    let bytes = artifact(0.5);
    let alarms = |asset: Option<Name>| {
        let own = asset.is_some();
        let mut node = node();
        run(&mut node, 40);
        let mut manifest = manifest(&bytes, 6);
        manifest.key.asset = asset;
        send_node(&mut node, &NodeDown::Model(Signed::new(&manifest, &SECRET).travel()));
        let now = serve(&mut node, &bytes, 100_000_000);
        run_from(&mut node, now, 20);
        let records = sent(&mut node).records;
        let mut flash = node.into_flash();
        let found = open(&mut flash).expect("it reads").start(&mut flash).model.expect("a model is left");
        assert_eq!(found.own, own, "a start knows it too");
        let by_it = |alarm: &Alarm| alarm.source == AlarmSource::Model && alarm.model == Digest::of(&bytes);
        records.iter().filter(|record| matches!(&record.payload, Payload::Alarm(alarm) if by_it(alarm))).count()
    };
    assert_eq!(alarms(None), 0);
    assert!(alarms(Some(name("pump-1"))) > 0);
}

#[test]
fn a_model_that_the_monitor_refuses_leaves_the_one_before() {
    let (good, mut bad) = (artifact(2.0), artifact(3.0));
    // The bits of the golden anomaly: the certificate does not hold here.
    let at = bad.len() - 8;
    bad[at] ^= 1;
    let mut node = node();
    for (bytes, generation) in [(&good, 6), (&bad, 7)] {
        send_node(&mut node, &NodeDown::Model(Signed::new(&manifest(bytes, generation), &SECRET).travel()));
        if generation == 6 {
            let now = serve(&mut node, bytes, 0);
            run_from(&mut node, now, PROVING_WINDOWS as usize + 1);
        }
    }
    let mut now = 100_000_000;
    let mut refusals = Vec::new();
    for _ in 0..32 {
        node.poll(Monotonic(now));
        now += 40_000;
        let said = sent(&mut node);
        refusals.extend(said.refusals());
        for fetch in said.fetches {
            let part = &bad[fetch.offset as usize..(fetch.offset + fetch.len).min(bad.len() as u32) as usize];
            let (digest, offset, total) = (fetch.digest, fetch.offset, bad.len() as u32);
            send_down(&mut node, &Down::Chunk(Chunk { digest, offset, total, bytes: part }));
        }
    }
    assert_eq!(refusals, ["not_reproducible"]);
    assert_eq!(node.monitor().model(Role::Leader), Some((Digest::of(&good), Generation(6))));
    let mut node = boot(node.into_flash());
    assert_eq!(node.monitor().model(Role::Leader), Some((Digest::of(&good), Generation(6))));
}
