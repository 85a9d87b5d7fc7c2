//! `kilter-agent analyze FILE`: what one recording says, without agent, server or model.
//!
//! The record is cut into windows that overlap by half, computed by the code that runs on the machines, averaged and diagnosed.
//! Nothing is guessed: rate and unit must be declared unless the file states them.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use kilter_recording::{Declaration, Item, Recording};
use kilter_signal::bearing::Orders;
use kilter_signal::diagnose::{Average, Diagnosis, Limits};
use kilter_signal::envelope::Band;
use kilter_signal::extract::{self, Vibration, VibrationSetup};
use kilter_signal::fft::{self, Plan};
use kilter_signal::table::{self, VIBRATION, at};
use kilter_signal::zone::{Group, Support, Zone};
use kilter_types::{ChannelId, Hertz, Rpm, Unit};
use serde_json::{Value, json};

/// What to analyse.
#[derive(Debug, Args)]
pub(crate) struct Analyze {
    /// The recording: .npy, .wav or .csv
    file: PathBuf,
    /// Samples per second; a .wav states its own
    #[arg(long, value_name = "HZ")]
    rate: Option<f32>,
    /// Unit of the values: g or m/s2
    #[arg(long)]
    unit: Option<String>,
    /// Shaft speed in revolutions per minute; needed to name bearing and shaft faults
    #[arg(long, value_name = "RPM")]
    rpm: Option<f32>,
    /// The bearing: a designation like 6205, or bpfo,bpfi,bsf,ftf per revolution
    #[arg(long)]
    bearing: Option<String>,
    /// Samples per window [default: about a second, at most 16384]
    #[arg(long, value_name = "SAMPLES")]
    window: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What one channel says.
struct Findings {
    name: String,
    rate_hz: f32,
    window: usize,
    windows: u32,
    mean: Vibration,
    diagnosis: Diagnosis,
}

/// Analyses and prints.
pub(crate) fn run(ask: &Analyze) -> anyhow::Result<()> {
    let unit =
        ask.unit.as_deref().map(Unit::parse).transpose().map_err(|error| anyhow::anyhow!("read --unit: {error}"))?;
    let declaration = Declaration { rate: ask.rate.map(Hertz), unit, rpm: ask.rpm.map(Rpm), ..Declaration::default() };
    let recording =
        kilter_recording::open(&ask.file, &declaration).with_context(|| format!("analyse {}", ask.file.display()))?;
    let bearing = ask.bearing.as_deref().map(orders).transpose()?;
    let mut all = Vec::new();
    for (place, channel) in recording.channels.iter().enumerate() {
        let Some(rate) = channel.rate else {
            eprintln!("{}: readings have no spectrum; left out", channel.name);
            continue;
        };
        anyhow::ensure!(
            matches!(channel.unit, Unit::G | Unit::MetrePerSecondSquared),
            "analyse channel {}: its unit is {:?}, vibration is in g or m/s2",
            channel.name,
            channel.unit
        );
        let id = ChannelId(u8::try_from(place).context("too many channels")?);
        let samples: Vec<f32> = samples(&recording, id).into_iter().map(|x| channel.unit.to_house(x)).collect();
        all.push(channel_findings(channel.name.to_string(), &samples, rate, ask.rpm, bearing, ask.window)?);
    }
    if ask.json {
        let channels: Vec<Value> = all.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&json!({ "file": ask.file, "channels": channels }))?);
    } else {
        all.iter().for_each(print);
        let notes = &recording.notes;
        if notes.missing > 0 || notes.clock_back > 0 {
            println!("{} missing values, clock back {} times", notes.missing, notes.clock_back);
        }
    }
    Ok(())
}

fn channel_findings(
    name: String,
    samples: &[f32],
    rate: Hertz,
    rpm: Option<f32>,
    bearing: Option<Orders>,
    window: Option<usize>,
) -> anyhow::Result<Findings> {
    let window = window.unwrap_or_else(|| usual_window(rate, samples.len()));
    anyhow::ensure!(
        fft::is_supported(window) && window <= samples.len(),
        "analyse channel {name}: {} samples do not fill a window of {window} (a multiple of 4 with prime factors 2, 3, 5)",
        samples.len()
    );
    let mut setup =
        VibrationSetup::new(rate).map_err(|refusal| anyhow::anyhow!("analyse channel {name}: {refusal}"))?;
    if let Some(rpm) = rpm {
        setup = setup.with_shaft(Rpm(rpm));
    }
    if let Some(bearing) = bearing {
        setup = setup.with_bearing(bearing);
    }
    let plan = Plan::new(window, vec![0.0; fft::table_len(window)])
        .map_err(|_| anyhow::anyhow!("analyse channel {name}: no plan for a window of {window}"))?;
    let mut scratch = vec![0.0; extract::scratch_len(window)];
    let mut best: Option<(Average, Diagnosis)> = None;
    // Where a housing rings differs from machine to machine: the clearest of several bands counts.
    let mut setups: Vec<VibrationSetup> = Band::candidates(rate).map(|band| setup.with_band(band)).collect();
    if setups.is_empty() {
        setups.push(setup);
    }
    for setup in setups {
        let (mut average, mut out) = (Average::default(), Vibration::default());
        for start in (0..=samples.len() - window).step_by(window / 2) {
            extract::vibration(&samples[start..start + window], &setup, &plan, &mut scratch, &mut out)
                .map_err(|refusal| anyhow::anyhow!("analyse channel {name}: {refusal}"))?;
            average.add(&out);
        }
        let diagnosis = average.diagnose(&Limits::default());
        let clearness = |diagnosis: &Diagnosis| diagnosis.findings().first().map_or(0.0, |finding| finding.score);
        if best.as_ref().is_none_or(|(_, known)| clearness(&diagnosis) > clearness(known)) {
            best = Some((average, diagnosis));
        }
    }
    let (average, diagnosis) = best.context("a band")?;
    Ok(Findings { name, rate_hz: rate.0, window, windows: average.windows(), mean: average.mean(), diagnosis })
}

fn samples(recording: &Recording, channel: ChannelId) -> Vec<f32> {
    debug_assert!(!recording.items.iter().any(|item| matches!(item, Item::Cycle { .. })));
    recording.samples(channel)
}

/// The power of two that is nearest below a second, four windows at least where the record allows it.
fn usual_window(rate: Hertz, len: usize) -> usize {
    let mut window = 16_384;
    while window > 1024 && (window as f32 > rate.0 || window * 4 > len) {
        window /= 2;
    }
    window
}

fn orders(text: &str) -> anyhow::Result<Orders> {
    let numbers: Vec<f32> = text.split(',').filter_map(|part| part.trim().parse().ok()).collect();
    match numbers[..] {
        [bpfo, bpfi, bsf, ftf] => Orders::new(bpfo, bpfi, bsf, ftf),
        _ => Orders::catalogue(text),
    }
    .map_err(|error| anyhow::anyhow!("read --bearing {text}: {error}"))
}

fn zone(findings: &Findings) -> Option<Zone> {
    findings.mean.get(at::VELOCITY_RMS).and_then(|velocity| Zone::of(velocity, Group::Two, Support::Rigid))
}

fn print(findings: &Findings) {
    println!(
        "{}: {} windows of {} samples at {} Hz",
        findings.name, findings.windows, findings.window, findings.rate_hz
    );
    for place in SHOWN {
        if let Some(value) = findings.mean.get(place) {
            println!("  {:<20} {:>10.4} {}", VIBRATION[place].name, value, VIBRATION[place].unit);
        }
    }
    if let Some(zone) = zone(findings) {
        println!("  {:<20} {:>10} (ISO 20816-3, group 2, rigid)", "severity zone", zone.as_str());
    }
    if findings.diagnosis.findings().is_empty() {
        println!("  no clear fault");
    }
    for finding in findings.diagnosis.findings() {
        println!("  {} (clearness {:.2})", finding.cause.as_str(), finding.score);
        for evidence in &finding.evidence {
            let name = table::describe(evidence.feature).map_or_else(String::new, |known| known.name.to_string());
            println!("    {name} {:.4}, limit {:.4}", evidence.value, evidence.limit);
        }
    }
}

fn as_json(findings: &Findings) -> Value {
    let values =
        VIBRATION.iter().enumerate().map(|(i, feature)| (feature.name.to_owned(), json!(findings.mean.get(i))));
    let causes = findings.diagnosis.findings().iter().map(|finding| {
        json!({ "cause": finding.cause, "clearness": finding.score, "evidence": finding.evidence.as_slice() })
    });
    json!({
        "channel": findings.name,
        "rate_hz": findings.rate_hz,
        "window": findings.window,
        "windows": findings.windows,
        "zone": zone(findings).map(Zone::as_str),
        "features": values.collect::<serde_json::Map<_, _>>(),
        "causes": causes.collect::<Vec<_>>(),
    })
}

/// What is printed for people; JSON has everything.
const SHOWN: [usize; 8] = [
    at::RMS,
    at::PEAK,
    at::CREST_FACTOR,
    at::KURTOSIS,
    at::VELOCITY_RMS,
    at::ENVELOPE_RMS,
    at::ENVELOPE_KURTOSIS,
    at::SHAFT_1X,
];
