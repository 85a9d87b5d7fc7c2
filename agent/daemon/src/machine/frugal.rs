//! What a window costs the running agent in allocations: on the machine's thread and on the recorder's, each counted for itself.
//!
//! Two runs that differ only in their length are compared, so that what a start costs is not in the figure. A window of 0.32 s here comes
//! with its share of what the clock brings in life: a look at the board after each, a checkpoint after every third.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::thread;

use allocation_counter::measure;
use kilter_journal::RealFilesystem;
use kilter_types::{Class, Epoch, Hertz};
use tokio::sync::{mpsc, watch};

use super::*;
use crate::action::Actions;
use crate::board::Board;
use crate::config::Config;
use crate::number::{Numbering, Place, Stamp};
use crate::recorder::{self, Recorder};
use crate::spooler::Spooler;

#[test]
fn s4_18_a_window_costs_the_running_agent_hardly_an_allocation() {
    let (short, long) = (run(50), run(250));
    let a_window = |short: u64, long: u64| (long - short) as f64 / 200.0;
    let (machine, recorder) = (a_window(short.0, long.0), a_window(short.1, long.1));
    println!("allocations a window: {machine:.2} on the machine's thread, {recorder:.2} on the recorder's");
    assert!(machine <= MACHINE_MOST, "{machine} allocations a window on the machine's thread");
    assert!(recorder <= RECORDER_MOST, "{recorder} allocations a window on the recorder's thread");
}

/// The allocations of both threads over so many windows.
fn run(windows: u64) -> (u64, u64) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = Config::parse(CONFIG).expect("a good configuration");
    let (declared, clock) = (&config.machine[0], SystemClock::new(Micros(0)));
    let asset = declared.asset.clone();
    let board = Board::new(vec![(asset.clone(), declared.class.clone())]);
    let (recorder, inbox) = sync_channel(4096);
    let overruns: Arc<[AtomicU64; Class::ALL.len()]> = Arc::default();
    let name = |text: &str| Name::new(text).expect("a good name");
    let places = vec![Place { site: name("north"), asset: asset.clone() }];
    let (spooler, found) = Spooler::open(
        RealFilesystem,
        &dir.path().join("journal"),
        config.journal.config(),
        Vec::new(),
        name("1.0"),
        7,
        None,
        Some(crate::sealer::Sealer::load(dir.path()).expect("a key")),
        |suppress| Numbering::new(name("default"), name("edge-1"), places, Epoch(1), suppress),
        Stamp::now(&clock),
    )
    .expect("an empty folder opens");
    let (durable, _durable) = watch::channel(0);
    let (notes, _notes) = mpsc::channel(8);
    let (_released, released) = watch::channel(0);
    let (_lost, lost) = mpsc::channel(8);
    let writer = Recorder::new(recorder::Parts {
        spooler,
        inbox,
        overruns: Arc::clone(&overruns),
        checkpoints: vec![dir.path().join("checkpoint")],
        durable,
        notes,
        released,
        lost,
        board: board.clone(),
        clock: clock.clone(),
        version: name("1.0"),
        report_us: 3_600_000_000,
        first: found.first,
    });
    let writer = thread::spawn(move || measure(|| writer.run()).count_total);

    let actions = Arc::new(Actions::new(config.alarm.clone(), board.clone()));
    let (_orders, orders) = sync_channel(1);
    let monitor = declared.monitor().expect("a good machine");
    let channels = vec![Some((name("vertical"), declared.specs()[0].unit, Hertz(RATE_HZ)))];
    let parts = Parts {
        place: 0,
        asset,
        config: monitor,
        checkpoint: None,
        alarms: Vec::new(),
        orders,
        outlet: Outlet { recorder, overruns, board, actions },
        clock,
        checkpoint_us: 3_600_000_000,
        clips: Clips::new(config.clip.clone(), channels, dir.path().join("clips")),
    };
    let source = |_: &[u64]| Ok::<Box<dyn Source>, ConfigError>(Box::new(Shaken::default()));
    let (mut machine, _) = Machine::new(parts, Vec::new(), source).expect("it starts");
    // The conversation begins.
    machine.step();
    let counted = measure(|| {
        for window in 0..windows {
            machine.step();
            machine.board_due = Monotonic(0);
            machine.checkpoint_due = if window % 3 == 0 { Monotonic(0) } else { Monotonic(u64::MAX) };
            machine.keep_up();
        }
    });
    drop(machine);
    (counted.count_total, writer.join().expect("the recorder ends"))
}

/// A sensor that feels noise, a window at a time.
#[derive(Default)]
struct Shaken {
    block: Vec<f32>,
    position: u64,
    random: u32,
}

impl Source for Shaken {
    fn next(&mut self) -> Result<Item<'_>, SourceError> {
        if self.block.is_empty() {
            self.block = vec![0.0; WINDOW];
            return Ok(Item::Started(Timeline::Source));
        }
        for sample in &mut self.block {
            self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (self.random >> 8) as f32 / (1 << 24) as f32 - 0.5;
        }
        let position = self.position;
        self.position += WINDOW as u64;
        let t0 = Micros(1_700_000_000_000_000 + (position as f64 * 1e6 / f64::from(RATE_HZ)) as i64);
        let input = Input::Block { t0, rate: Hertz(RATE_HZ), samples: &self.block };
        Ok(Item::Input { channel: ChannelId(0), position, input })
    }
}

const WINDOW: usize = 4096;
const RATE_HZ: f32 = 12_800.0;
/// A third of a checkpoint: its snapshot and its positions. Windows, rows, scores and decisions take none.
const MACHINE_MOST: f64 = 0.75;
/// A third of a checkpoint on its way to its file, and what a commit takes.
const RECORDER_MOST: f64 = 6.0;
const CONFIG: &str = r#"
[[machine]]
asset = "pump-1"
class = "pump"
source = { kind = "socket", address = "127.0.0.1:1" }
commissioning_windows = 20

[[machine.channel]]
name = "vertical"
kind = "vibration"
unit = "g"
rate_hz = 12800.0

[[machine.group]]
point = "vertical"
kind = "vibration"
channels = ["vertical"]
window = 4096
"#;
