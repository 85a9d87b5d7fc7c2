//! `kilter-agent journal …`: what lies in a journal, for people and, with `--json`, for scripts. Nothing in it is changed.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use kilter_journal::{Gap, Offset, RealFilesystem, Report};
use kilter_types::{Class, Clip, Payload, Record};
use kilter_wire::decode_record;
use kilter_wire::seal::Fingerprint;
use serde_json::{Value, json};

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// Check every entry; ends with 1 when something is damaged.
    Verify {
        /// The journal's folder (`<data>/journal`).
        dir: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// One line per record.
    Dump {
        /// The journal's folder (`<data>/journal`).
        dir: PathBuf,
        /// First offset.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// At most so many records.
        #[arg(long, default_value_t = u64::MAX)]
        limit: u64,
        /// Only this class (alarm, event, gap, report, score, feature, state, spectrum, clip).
        #[arg(long)]
        class: Option<String>,
        /// Print a JSON object for each record.
        #[arg(long)]
        json: bool,
    },
}

/// Looks.
pub(crate) fn journal(look: &Look) -> anyhow::Result<()> {
    match look {
        Look::Verify { dir, json } => {
            let report =
                kilter_journal::verify(RealFilesystem, dir).with_context(|| format!("verify {}", dir.display()))?;
            if *json {
                println!("{}", object(&report));
            } else {
                tell(&report);
            }
            anyhow::ensure!(report.is_sound(), "find the journal sound: see the lines above");
            Ok(())
        }
        Look::Dump { dir, from, limit, class, json } => {
            let wanted = class.as_deref().map(parse_class).transpose()?;
            let mut reader = kilter_journal::follow(RealFilesystem, dir, Offset(*from))
                .with_context(|| format!("open {}", dir.display()))?;
            let mut out = std::io::stdout().lock();
            let mut left = *limit;
            while left > 0 {
                let Some(entry) = reader.next()? else { break };
                if wanted.is_some_and(|class| class as u8 != entry.key.class) {
                    continue;
                }
                left -= 1;
                let (offset, key) = (entry.offset, entry.key);
                let record = decode_record(&entry.bytes);
                let line = match &record {
                    Ok(record) => line(record),
                    Err(error) => format!("class {} seq {}: {error}", key.class, key.seq),
                };
                let said = if *json {
                    let point = record.as_ref().ok().map(|record| record.point.to_string());
                    let wall_us = record.as_ref().ok().and_then(|record| Some(record.wall?.0));
                    let class = Class::from_u8(key.class).map(Class::as_str);
                    json!({
                        "offset": offset.0, "epoch": format!("{:016x}", key.epoch), "class": class, "seq": key.seq,
                        "point": point, "wall_us": wall_us, "said": line,
                    })
                    .to_string()
                } else {
                    format!("{offset:>12} {:016x} {line}", key.epoch)
                };
                // A closed pipe (`| head`) is an end, not an error.
                if writeln!(out, "{said}").is_err() {
                    break;
                }
            }
            Ok(())
        }
    }
}

/// A report as lines.
fn tell(report: &Report) {
    let id = report.journal_id.map_or("none".to_owned(), |id| format!("{id:016x}"));
    println!("journal {id}, durable to {}, released to {}", report.durable, report.released);
    for segment in &report.segments {
        println!(
            "segment {} to {}: {} entries, {} bytes, {} torn, {} damaged ranges",
            segment.base,
            segment.end,
            segment.entries,
            segment.file_bytes,
            segment.torn_bytes,
            segment.damaged.len()
        );
    }
    println!(
        "{} entries, {} losses not yet told, {} quarantined files: {}",
        report.entries(),
        report.losses.len(),
        report.quarantined.len(),
        if report.is_sound() { "sound" } else { "damaged" }
    );
}

/// The same as JSON.
fn object(report: &Report) -> Value {
    let ranges = |gaps: &[Gap]| -> Vec<Value> {
        gaps.iter()
            .map(|gap| json!({ "from": gap.from.0, "to": gap.to.0, "reason": format!("{:?}", gap.reason) }))
            .collect()
    };
    let segments = report.segments.iter().map(|segment| {
        json!({
            "from": segment.base.0, "to": segment.end.0, "entries": segment.entries, "bytes": segment.file_bytes,
            "torn_bytes": segment.torn_bytes, "damaged": ranges(&segment.damaged), "skipped": ranges(&segment.skipped),
        })
    });
    json!({
        "journal": report.journal_id.map(|id| format!("{id:016x}")),
        "sound": report.is_sound(),
        "durable": report.durable.0,
        "released": report.released.0,
        "entries": report.entries(),
        "losses_not_told": report.losses.len(),
        "quarantined": report.quarantined,
        "segments": segments.collect::<Vec<_>>(),
    })
}

fn parse_class(text: &str) -> anyhow::Result<Class> {
    let found = Class::ALL.into_iter().find(|class| class.as_str() == text);
    found.with_context(|| format!("know the class {text:?}"))
}

fn line(record: &Record) -> String {
    let head = format!(
        "{:<8} {:>8} {} {:>16}",
        record.class().as_str(),
        record.seq,
        record.point,
        record.wall.map_or("-".to_owned(), |wall| wall.0.to_string())
    );
    match &record.payload {
        Payload::Features(row) => {
            format!(
                "{head} group {} window {} {:?} {} values",
                row.group,
                row.index,
                row.state,
                row.vector.values.len()
            )
        }
        Payload::Score(score) => format!(
            "{head} group {} window {} {:?} {:.3} of {:.3} by {:.8}",
            score.input.group,
            score.input.index,
            score.role,
            score.anomaly,
            score.threshold,
            score.model.to_string()
        ),
        Payload::Alarm(alarm) => format!(
            "{head} alarm {} {:?} {:?} {} by {:?} at window {}",
            alarm.id,
            alarm.state,
            alarm.severity,
            alarm.cause.as_str(),
            alarm.source,
            alarm.input.index
        ),
        Payload::Spectrum(spectrum) => {
            format!("{head} group {} window {} {} lines", spectrum.group, spectrum.index, spectrum.lines.len())
        }
        Payload::State(state) => format!("{head} group {} {} bytes", state.group, state.bytes.len()),
        Payload::Clip(clip) => {
            let Clip { id, channel, part, parts, .. } = clip;
            format!("{head} clip {id} channel {channel} part {part} of {parts}, {} bytes", clip.samples.len())
        }
        Payload::Event(event) => format!("{head} {event:?}"),
        Payload::Gap(gap) => format!("{head} {gap:?}"),
        Payload::Opening(opening) => format!("{head} {opening:?}"),
        Payload::Report(report) => format!("{head} {report:?}"),
        Payload::Seal(seal) => {
            let records: u64 = seal.ranges.iter().map(|range| range.last_seq - range.first_seq + 1).sum();
            format!("{head} seal over {records} records by {}", Fingerprint::of(&seal.key))
        }
    }
}
