//! `cargo demo`: real processes, told step by step, until Ctrl-C.
#![expect(clippy::disallowed_methods, reason = "a demonstration may look at the clock and wait")]

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use kilter_tests::{Bins, House, Interrupted, Options as HouseOptions, Ports, Tuning, story};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{build, step};

/// How to show it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Port of the web page.
    #[arg(long, default_value_t = 18080)]
    port: u16,
    /// First of the other ports: devices, sensors, control, then one per agent.
    #[arg(long, default_value_t = 18830)]
    first_port: u16,
    /// Seed of the simulation.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Simulated seconds per second.
    #[arg(long, default_value_t = 1.0)]
    speed: f64,
    /// Folder for everything that it writes; emptied first.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// End after the story instead of waiting for Ctrl-C.
    #[arg(long)]
    exit: bool,
}

/// Builds, starts, tells.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let begin = Instant::now();
    let say = |line: &str| {
        println!("{:>6.1} s  {line}", begin.elapsed().as_secs_f64());
        let _ = std::io::stdout().flush();
    };
    let ports = ports(options)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted)).context("failed to listen for Ctrl-C")?;
    }
    say("building agent, aggregator and simulator (a few minutes the first time)");
    if let Err(error) = build::light() {
        if interrupted.load(Ordering::Relaxed) {
            say("stopped while building; nothing was started");
            return Ok(());
        }
        return Err(error);
    }
    let bins = Bins::in_dir(step::target().join("house"));
    let dir = options.dir.clone().unwrap_or_else(|| step::target().join("demo"));
    clear(&dir)?;
    let house_options = HouseOptions {
        seed: options.seed,
        speed: options.speed,
        spec: None,
        tuning: Tuning {
            commissioning_windows: 40,
            window: 4096,
            temperature_window: 10,
            period_secs: 1.0,
            report_secs: 2.0,
        },
        probation_secs: 5,
        lab_arguments: Vec::new(),
        broker: String::new(),
    };
    let mut house = House::new(bins, &dir, ports, house_options)?;
    house.interrupt_with(interrupted);
    let shown = show(&mut house, options, &say);
    let ended = house.stop();
    if let Err(error) = shown
        && !error.is::<Interrupted>()
    {
        return Err(error);
    }
    ended?;
    say("everything has ended");
    Ok(())
}

/// Starts everything, tells the story, and stays until Ctrl-C.
fn show(house: &mut House, options: &Options, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    house.start_aggregator()?;
    say(&format!("the page is open: http://127.0.0.1:{}/", options.port));
    let mut lab = build_lab()?;
    house.start_plant()?;
    for agent in house.install_agents()? {
        house.start_agent(&agent)?;
    }
    say("a plant of 8 machines runs; 7 agents watch it, one of them a gateway with two machines");
    if let Err(error) = tell(house, options, &mut lab, say) {
        let _ = lab.kill();
        let _ = lab.wait();
        return Err(error);
    }
    if options.exit {
        return Ok(());
    }
    say("the plant goes on; Ctrl-C ends everything");
    house.wait_for("Ctrl-C", Duration::MAX, |_| None::<()>)
}

/// Every port that will be used, asked for before anything is built.
fn ports(options: &Options) -> anyhow::Result<Ports> {
    let last =
        options.first_port.checked_add(LAST_PORT).context("failed to place the ports: --first-port is too high")?;
    for port in [options.port].into_iter().chain(options.first_port..=last) {
        if let Err(error) = TcpListener::bind(("127.0.0.1", port)) {
            let option = if port == options.port { "--port" } else { "--first-port" };
            anyhow::bail!(
                "port {port} can't be used ({error}): end what uses it, perhaps another demo, or choose other ports with {option}"
            );
        }
    }
    let address = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Ok(Ports {
        http: address(options.port),
        mqtt: address(options.first_port),
        sensor: address(options.first_port + 1),
        control: address(options.first_port + 2),
        agents: options.first_port + 3,
    })
}

fn tell(house: &mut House, options: &Options, lab: &mut Child, say: &dyn Fn(&str)) -> anyhow::Result<()> {
    let pace = story::Pace { patience: Duration::from_secs_f64(120.0 / options.speed.min(1.0)), growth_s: 30.0 };
    say("each machine's first windows become its baseline; fixed limits and diagnosis watch from the first one");
    story::baselines(house, &pace)?;
    say("baselines learned on every machine");
    if lab.try_wait().context("look at the lab's build")?.is_none() {
        say("the lab (Polars, Burn, Delta) is still being built; training starts when it is there");
    }
    let built = house.wait_for("the lab's build", Duration::MAX, |_| lab.try_wait().transpose())?;
    anyhow::ensure!(built.context("wait for the lab's build")?.success(), "the lab was not built; its output is above");
    say("training the first models on the lake");
    let first = story::first_models(house, &pace, options.seed)?;
    say(&format!("first models lead on every machine: {}", short(&first)));
    story::faults(house, &pace)?;
    say("faults begin to grow: outer race of pump-1, inner race of motor-2");
    for alarm in story::alarms(house, &pace)? {
        say(&format!(
            "ALARM {}: {} ({} lines of evidence)",
            text(&alarm["asset"]),
            text(&alarm["cause"]),
            count(&alarm["evidence"])
        ));
    }
    story::load_change(house)?;
    say("the plant goes to a higher production rate: a healthy change that no model has seen");
    story::drift(house, &pace)?;
    say("drift noticed; the lab trains again by itself, without the windows under alarm");
    let second = story::new_models(house, &pace, options.seed, &first)?;
    say(&format!("the new version runs on every agent: {}", short(&second)));
    story::verdict(house)?;
    say("both faulty machines still alarm, the others are quiet");
    Ok(())
}

/// Builds the lab beside the running plant.
fn build_lab() -> anyhow::Result<Child> {
    build::lab_command().stdin(Stdio::null()).spawn().context("failed to start building the lab")
}

/// Empties the demo's own folder, recognised by its mark.
fn clear(dir: &std::path::Path) -> anyhow::Result<()> {
    let mark = dir.join(".kilter-demo");
    if dir.exists() {
        let ours = mark.exists() || std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
        anyhow::ensure!(ours, "{} holds something else; name another folder with --dir", dir.display());
        std::fs::remove_dir_all(dir).with_context(|| format!("failed to empty {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(mark, b""))
        .with_context(|| format!("failed to create {}", dir.display()))
}

/// Devices, sensors, control, and the pages of seven agents.
const LAST_PORT: u16 = 9;

fn short(leaders: &std::collections::BTreeMap<String, String>) -> String {
    leaders
        .iter()
        .map(|(class, digest)| format!("{class} {}", &digest[..8.min(digest.len())]))
        .collect::<Vec<_>>()
        .join(", ")
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn count(value: &serde_json::Value) -> usize {
    value.as_array().map_or(0, Vec::len)
}
