//! `kilter-agent node-image`: a technician hands a signed image to the running agent, which brings it to the node.
//!
//! The command believes the file as the agent will, so that what is wrong with it is said on the spot, and leaves it in the agent's data
//! folder. With `--follow` it tells how far the node is, and ends as the update does.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use kilter_source::Stop;

use super::Shelf;
use super::image::{Image, Stage, Told};
use crate::config::Config;
use crate::identity::Enrolled;

/// Bring another image of its firmware to a node.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct NodeImage {
    /// The signed image, as `kilter-aggregator sign-image` writes it.
    file: PathBuf,
    /// The machine that the node watches.
    #[arg(long)]
    node: String,
    /// The configuration that the agent runs with.
    #[arg(long)]
    config: PathBuf,
    /// Where the agent keeps its data, if it was started with --data.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Wait until the image runs and has proven itself; ends with 1 when it does not.
    #[arg(long)]
    follow: bool,
}

/// Hands it over and waits until the agent has taken it.
pub(crate) fn run(ask: &NodeImage) -> anyhow::Result<()> {
    let config = Config::load(&ask.config)?;
    let nodes = || config.machine.iter().filter(|machine| machine.is_node());
    let Some(machine) = nodes().find(|machine| machine.asset.as_str() == ask.node) else {
        let known: Vec<&str> = nodes().map(|machine| machine.asset.as_str()).collect();
        bail!("find node {:?} in {}: there are [{}]", ask.node, ask.config.display(), known.join(", "));
    };
    let bundle = !config.bundle.as_os_str().is_empty();
    ensure!(bundle, "believe an image: this agent has no enrolment bundle, so it knows no fleet's key");
    let key = Enrolled::load(&config.bundle)?.key;
    let found = fs::metadata(&ask.file).with_context(|| format!("read {}", ask.file.display()))?;
    ensure!(found.len() <= MOST_FILE_BYTES, "read {}: it is larger than any node's flash", ask.file.display());
    let bytes = fs::read(&ask.file).with_context(|| format!("read {}", ask.file.display()))?;
    let image = Image::open(bytes.clone(), &key, &machine.asset, None)
        .with_context(|| format!("believe {}", ask.file.display()))?;
    let shelf = Shelf::of(ask.data.as_ref().unwrap_or(&config.data), &machine.asset);
    if let Some(Told { generation, .. }) = shelf.told().filter(|told| told.stage.is_tried()) {
        bail!("offer an image: the node of {} is starting with generation {generation} just now", machine.asset);
    }
    shelf.put(&bytes).context("hand the image to the agent")?;
    if !taken(&shelf).context("withdraw the image")? {
        bail!("offer an image: no agent took it (is it running with these data?); it is withdrawn");
    }
    let Told { generation, .. } = *image.told();
    if !shelf.told().is_some_and(|told| told.is_of(image.told())) {
        bail!(
            "offer generation {generation}: the agent took it away, because it does not believe it or has just started; its log says which"
        );
    }
    println!("the agent offers generation {generation} to the node of {}", machine.asset);
    if ask.follow { follow(&shelf, image.told()) } else { Ok(()) }
}

/// Has the agent taken it? It is gone in any case.
fn taken(shelf: &Shelf) -> std::io::Result<bool> {
    let patience = Stop::default();
    for _ in 0..ATTEMPTS {
        if !shelf.is_waiting()? {
            return Ok(true);
        }
        patience.wait(POLL);
    }
    Ok(!shelf.withdraw()?)
}

/// Tells each step, until the last.
fn follow(shelf: &Shelf, offered: &Told) -> anyhow::Result<()> {
    let patience = Stop::default();
    let mut said = None;
    loop {
        let told = shelf.told().with_context(|| "read how far the image is")?;
        let place = (offered.generation, told.generation);
        ensure!(told.is_of(offered), "follow generation {}: generation {} took its place", place.0, place.1);
        let line = line(&told);
        if said.as_ref() != Some(&line) {
            println!("{line}");
            said = Some(line);
        }
        match told.stage {
            Stage::Kept => return Ok(()),
            Stage::GivenUp | Stage::Refused => bail!("update the node: {}", told.why),
            Stage::Waiting | Stage::Fetching | Stage::Sent | Stage::Trial => {
                patience.wait(POLL);
            }
        }
    }
}

fn line(told: &Told) -> String {
    let Told { generation, stage, have_bytes, size_bytes, why, .. } = told;
    let step = match stage {
        Stage::Waiting => "waits for the node".to_owned(),
        Stage::Fetching => format!("{have_bytes} of {size_bytes} bytes are on the node"),
        Stage::Sent => "is sent; the node checks it and starts with it".to_owned(),
        Stage::Trial => "runs and has to prove itself".to_owned(),
        Stage::Kept => "runs and stays".to_owned(),
        Stage::GivenUp => "was given up".to_owned(),
        Stage::Refused => "was refused".to_owned(),
    };
    if why.is_empty() {
        format!("generation {generation} {step}")
    } else {
        format!("generation {generation} {step}: {why}")
    }
}

/// Larger than the flash of any microcontroller that a node runs on.
const MOST_FILE_BYTES: u64 = 16 << 20;
const POLL: Duration = Duration::from_millis(200);
const ATTEMPTS: u32 = 50;
const EXAMPLES: &str = "\
Example:
  kilter-aggregator sign-image node.bin --board nrf52840 --generation 7 --out node-7.kltimage
  kilter-agent node-image node-7.kltimage --node pump-1 --config agent.toml --follow";
