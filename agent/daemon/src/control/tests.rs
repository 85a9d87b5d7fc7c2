//! A control with one machine, fed as the aggregator feeds it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::*;
use crate::action::Actions;
use crate::machine::{Machine, Outlet, Parts};
use kilter_monitor::{ChannelConfig, ChannelKind, ConfigError, GroupConfig, MachineConfig};
use kilter_source::{Item, Source, SourceError, Stop};
use kilter_tests::model::{SECRET, Signed, artifact, manifest};
use kilter_types::{ChannelId, GroupKind, Hertz, Manifest, Micros, Role, Unit, Who};
use kilter_wire::{Chunk, Command, CommandKind, CommandResult, Outcome, Plan, SignedManifest, sign};

/// A sensor that never says anything.
struct Silent(Stop);

impl Source for Silent {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        self.0.wait(Duration::from_millis(1));
        Ok(Item::Idle)
    }
}

struct House {
    control: Control,
    fetches: mpsc::Receiver<Vec<u8>>,
    recorded: Receiver<Message>,
    stop: Stop,
    thread: std::thread::JoinHandle<()>,
    dir: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a good name")
}

fn house() -> House {
    let dir = tempfile::tempdir().expect("a folder");
    let (recorder, recorded) = sync_channel(64);
    let board = Board::new(vec![(name("pump-1"), name("pump"))]);
    let clock = SystemClock::new(Micros::from_secs(1));
    let stop = Stop::default();
    let mut config = MachineConfig::new(name("pump"));
    let kind = ChannelKind::Vibration { rate: Hertz(1024.0) };
    config.channels.push(ChannelConfig::new(name("de"), Unit::G, kind)).expect("it fits");
    let channels = heapless::Vec::from_slice(&[ChannelId(0)]).expect("it fits");
    let (kind, window, hop) = (GroupKind::Vibration, 1024, 1024);
    config.groups.push(GroupConfig { kind, point: name("de"), channels, window, hop }).expect("it fits");
    let actions = Arc::new(Actions::new(crate::config::Alarm::default(), board.clone()));
    let (orders, taken) = sync_channel(8);
    let outlet = Outlet { recorder: recorder.clone(), overruns: Arc::default(), board: board.clone(), actions };
    let parts = Parts {
        place: 0,
        asset: name("pump-1"),
        config,
        checkpoint: None,
        alarms: Vec::new(),
        orders: taken,
        outlet,
        clock: clock.clone(),
        checkpoint_us: 1_000_000,
        clips: crate::clip::Clips::new(crate::clip::ClipConfig::default(), Vec::new(), dir.path().join("clips")),
    };
    let source = |_: &[u64]| Ok::<Box<dyn Source>, ConfigError>(Box::new(Silent(stop.clone())));
    let (machine, _) = Machine::new(parts, Vec::new(), source).expect("a good machine");
    let until = stop.clone();
    let thread = std::thread::spawn(move || machine.run(&until));
    let (outgoing, fetches) = mpsc::channel(16);
    let control = Control {
        store: Store::new(dir.path()),
        done: Done::open(dir.path()).expect("a readable folder"),
        machines: vec![Candidate { asset: name("pump-1"), class: name("pump") }],
        orders: vec![orders],
        nodes: vec![false],
        device: DeviceId::new("edge-1").expect("a good id"),
        key: sign::public_key(&SECRET),
        outgoing,
        recorder,
        board,
        clock,
        fetch_bytes: 100,
        remote_reset: false,
        work: Work::default(),
    };
    House { control, fetches, recorded, stop, thread, dir }
}

/// The frame of a signed plan that has this one leader.
fn plan(bytes: &[u8], generation: u64, expires: Micros) -> Vec<u8> {
    plan_of(&[Manifest { expires, ..manifest(bytes, generation) }], generation)
}

/// The frame of a signed plan of these models.
fn plan_of(manifests: &[Manifest], generation: u64) -> Vec<u8> {
    let models: Vec<Signed> = manifests.iter().map(|manifest| Signed::new(manifest, &SECRET)).collect();
    let device = DeviceId::new("edge-1").expect("a good id");
    let models: heapless::Vec<_, _> = models.iter().map(Signed::travel).collect();
    let signatures = models.iter().map(|model: &SignedManifest<'_>| model.signature);
    let signed = sign::sign_plan(&device, Generation(generation), signatures, &SECRET);
    let plan = Plan { device, generation: Generation(generation), models, signature: &signed };
    let mut out = vec![0; 4096];
    frame::encode(Kind::Down, &Down::Plan(plan), &mut out).expect("it fits").to_vec()
}

/// The aggregator answers every fetch from `bytes` under `digest` until the node asks no more.
async fn serve(house: &mut House, digest: Digest, bytes: &[u8]) -> usize {
    let mut parts = 0;
    loop {
        house.control.advance().await;
        let Ok(frame) = house.fetches.try_recv() else { return parts };
        let Ok(Up::Fetch(fetch)) = frame::decode(Kind::Up, &frame) else { continue };
        assert_eq!(fetch.digest, digest);
        let end = bytes.len().min((fetch.offset + fetch.len) as usize);
        let part = &bytes[fetch.offset as usize..end];
        house.control.take_chunk(&Chunk { digest, offset: fetch.offset, total: bytes.len() as u32, bytes: part });
        parts += 1;
    }
}

/// Stops the machine and tells the events that were recorded.
fn events(house: House) -> Vec<Event> {
    house.stop.set();
    house.thread.join().expect("it ends well");
    let event = |message| match message {
        Message::Said(said) => Some(said.payload),
        Message::About { payload, .. } => Some(payload),
        Message::Checkpoint { .. } | Message::Carried(_) | Message::Lost(_) | Message::Report(_) | Message::Flush => {
            None
        }
    };
    let payloads = house.recorded.try_iter().filter_map(event);
    payloads.filter_map(|payload| if let Payload::Event(event) = payload { Some(event) } else { None }).collect()
}

#[tokio::test]
async fn a_signed_model_is_fetched_in_parts_installed_and_told_and_the_next_one_replaces_it() {
    let mut house = house();
    let (one, two) = (artifact(3.0), artifact(4.0));
    house.control.take(&Bytes::from(plan(&one, 1, Micros(i64::MAX))));
    let parts = serve(&mut house, Digest::of(&one), &one).await;
    assert_eq!(parts, one.len().div_ceil(100));
    house.control.take(&Bytes::from(plan(&two, 2, Micros(i64::MAX))));
    serve(&mut house, Digest::of(&two), &two).await;
    let kept = house.control.store.candidates(&name("pump-1"));
    assert_eq!(kept.iter().map(|model| model.digest).collect::<Vec<_>>(), [Digest::of(&two), Digest::of(&one)]);
    let shown = house.control.board.lock().machines[0].models.clone();
    assert_eq!(shown.iter().map(|model| model.running.digest).collect::<Vec<_>>(), [Digest::of(&two)]);
    let switches: Vec<(Digest, Digest)> = events(house)
        .into_iter()
        .map(|event| match event {
            Event::ModelSwitched { from, to, .. } => (from, to),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(switches, [(Digest::NONE, Digest::of(&one)), (Digest::of(&one), Digest::of(&two))]);
}

#[tokio::test]
async fn a_nodes_word_ends_the_offer_and_only_then_a_restart_knows_it() {
    let mut house = house();
    let (orders, taken) = sync_channel(8);
    (house.control.orders, house.control.nodes) = (vec![orders], vec![true]);
    let one = artifact(3.0);
    let digest = Digest::of(&one);
    house.control.take(&Bytes::from(plan(&one, 4, Micros(i64::MAX))));
    serve(&mut house, digest, &one).await;
    let offers = || taken.try_iter().filter(|order| matches!(order, Order::Install(..))).count();
    assert_eq!(offers(), 1);
    assert!(house.control.store.candidates(&name("pump-1")).is_empty(), "the node has not said that it runs");

    // Without its word a restart offers it again.
    house.control.work = Work::default();
    house.control.resume();
    serve(&mut house, digest, &one).await;
    assert_eq!(offers(), 1);

    house.control.take_word(Word::Confirmed { machine: 0, digest: Digest::of(b"another") });
    assert!(house.control.store.candidates(&name("pump-1")).is_empty(), "nobody asked about that one");
    house.control.take_word(Word::Confirmed { machine: 0, digest });
    let kept = house.control.store.candidates(&name("pump-1"));
    assert_eq!(kept.iter().map(|model| (model.digest, model.generation.0)).collect::<Vec<_>>(), [(digest, 4)]);
    house.control.work = Work::default();
    house.control.resume();
    serve(&mut house, digest, &one).await;
    assert_eq!(offers(), 0);
    events(house);
}

#[tokio::test]
async fn a_shadow_for_a_node_is_refused_with_its_reason_and_only_the_leader_is_offered() {
    let mut house = house();
    let (orders, taken) = sync_channel(8);
    (house.control.orders, house.control.nodes) = (vec![orders], vec![true]);
    let (one, two) = (artifact(3.0), artifact(4.0));
    let shadow = Manifest { role: Role::Shadow, ..manifest(&two, 4) };
    house.control.take(&Bytes::from(plan_of(&[manifest(&one, 4), shadow], 4)));
    serve(&mut house, Digest::of(&one), &one).await;
    let offered = |order| match order {
        Order::Install(install, _) => Some((install.role, install.digest)),
        Order::Remove(_) | Order::Command(_) | Order::Event(_) => None,
    };
    assert_eq!(taken.try_iter().filter_map(offered).collect::<Vec<_>>(), [(Role::Leader, Digest::of(&one))]);
    // A restart follows the same plan and says nothing again.
    house.control.work = Work::default();
    house.control.resume();
    let reason = name("leaders_only");
    assert_eq!(events(house), [Event::ModelRefused { model: Digest::of(&two), reason }]);
}

#[tokio::test]
async fn settings_from_afar_are_refused_counted_and_answered_and_change_nothing() {
    let mut house = house();
    let config = kilter_wire::Config { generation: Generation(3), toml: "[[machine]]\nasset = \"pump-1\"" };
    let mut out = [0; 256];
    let frame = frame::encode(Kind::Down, &Down::Config(config), &mut out).expect("it fits").to_vec();
    house.control.take(&Bytes::from(frame));
    let answer = house.fetches.try_recv().expect("an answer");
    let refused = CommandResult { id: 3, outcome: Outcome::Refused };
    assert_eq!(frame::decode::<Up<'_>>(Kind::Up, &answer), Ok(Up::CommandResult(refused)));
    assert_eq!(house.control.board.lock().configs_refused, 1);
    assert!(events(house).is_empty());
}

#[tokio::test]
async fn a_tampered_an_expired_an_irreproducible_and_a_replayed_model_leave_the_one_before_running() {
    let mut house = house();
    let good = artifact(3.0);
    house.control.take(&Bytes::from(plan(&good, 5, Micros(i64::MAX))));
    serve(&mut house, Digest::of(&good), &good).await;

    // Other bytes under the signed digest.
    let wanted = artifact(4.0);
    let mut tampered = wanted.clone();
    tampered[40] ^= 1;
    house.control.take(&Bytes::from(plan(&wanted, 6, Micros(i64::MAX))));
    serve(&mut house, Digest::of(&wanted), &tampered).await;
    // Past its date.
    house.control.take(&Bytes::from(plan(&artifact(5.0), 7, Micros(0))));
    serve(&mut house, Digest::NONE, &[]).await;
    // Golden windows that this kernel does not reproduce, well signed.
    let mut other = artifact(6.0);
    *other.last_mut().expect("bytes") ^= 1;
    house.control.work.paused_until_us = 0;
    house.control.take(&Bytes::from(plan(&other, 8, Micros(i64::MAX))));
    serve(&mut house, Digest::of(&other), &other).await;
    // An older plan once more.
    house.control.take(&Bytes::from(plan(&wanted, 6, Micros(i64::MAX))));
    serve(&mut house, Digest::NONE, &[]).await;

    let running = house.control.board.lock().machines[0].models[0].running.digest;
    assert_eq!(running, Digest::of(&good));
    assert_eq!(house.control.store.candidates(&name("pump-1"))[0].digest, Digest::of(&good));
    let refused: Vec<String> = events(house)
        .into_iter()
        .filter_map(|event| match event {
            Event::ModelRefused { reason, .. } => Some(reason.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(refused.len(), 4, "{refused:?}");
    for word in ["digest", "expired", "not_reproducible", "old_generation"] {
        assert!(refused.iter().any(|reason| reason == word), "{word} in {refused:?}");
    }
}

fn command(id: u64, expires: Micros, kind: CommandKind) -> Bytes {
    let mut out = [0; 256];
    let command = Command { id, expires, kind };
    Bytes::from(frame::encode(Kind::Down, &Down::Command(command), &mut out).expect("it fits").to_vec())
}

fn reset_by(person: &str) -> CommandKind {
    CommandKind::ResetBy { asset: name("pump-1"), by: Who::new(person).expect("a good name") }
}

/// What the aggregator is answered.
fn answers(house: &mut House) -> Vec<(u64, Outcome)> {
    let frames = std::iter::from_fn(|| house.fetches.try_recv().ok());
    let answer = |frame: Vec<u8>| match frame::decode::<Up<'_>>(Kind::Up, &frame) {
        Ok(Up::CommandResult(CommandResult { id, outcome })) => Some((id, outcome)),
        _ => None,
    };
    frames.filter_map(answer).collect()
}

#[tokio::test]
async fn a_reset_from_afar_is_refused_unless_the_agents_own_configuration_allows_it() {
    let mut house = house();
    house.control.take(&command(1, Micros(i64::MAX), reset_by("anna")));
    house.control.take(&command(2, Micros(i64::MAX), CommandKind::Reset { asset: name("pump-1") }));
    house.control.remote_reset = true;
    // A refused one is not done later, when the link brings it again.
    house.control.take(&command(1, Micros(i64::MAX), reset_by("anna")));
    house.control.take(&command(3, Micros(0), reset_by("anna")));
    assert_eq!(
        answers(&mut house),
        [(1, Outcome::Refused), (2, Outcome::Refused), (1, Outcome::Refused), (3, Outcome::Expired)]
    );
    assert!(events(house).is_empty());
}

#[tokio::test]
async fn a_reset_is_journalled_with_who_asked_and_done_once_also_over_a_restart() {
    let mut house = house();
    house.control.remote_reset = true;
    house.control.take(&command(4, Micros(i64::MAX), reset_by("anna")));
    house.control.done = Done::open(house.dir.path()).expect("a readable folder");
    house.control.take(&command(4, Micros(i64::MAX), reset_by("anna")));
    house.control.take(&command(5, Micros(i64::MAX), reset_by("otto")));
    assert_eq!(answers(&mut house), [(4, Outcome::Done), (4, Outcome::Done), (5, Outcome::Done)]);
    let by = |person: &str| Event::Reset { by: Who::new(person).expect("a good name") };
    assert_eq!(events(house), [by("anna"), by("otto")]);
}

#[tokio::test]
async fn maintenance_and_labels_are_journalled_at_their_point_and_told_to_the_machine() {
    let mut house = house();
    let (orders, taken) = sync_channel(8);
    house.control.orders = vec![orders];
    let label = kilter_types::Label::Healthy;
    let given =
        [Event::Maintenance { what: name("greased") }, Event::Labelled { from: Micros(1), to: Micros(2), label }];
    for (asset, event) in [("pump-1", &given[0]), ("pump-1", &given[1]), ("fan", &given[0])] {
        let point = kilter_types::Point::parse(&format!("acme/north/{asset}/de")).expect("a good point");
        let mut out = [0; 256];
        let down = Down::Event { point, event: event.clone() };
        let frame = frame::encode(Kind::Down, &down, &mut out).expect("it fits").to_vec();
        house.control.take(&Bytes::from(frame));
    }
    let told: Vec<Event> = taken
        .try_iter()
        .map(|order| match order {
            Order::Event(event) => event,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, given);
    assert_eq!(events(house), given);
}
