//! Recorded rows out of Parquet: a part at a time, with Polars' own sort and per-row texts left out.

use std::collections::{BTreeMap, HashMap};

use kilter_lake::{DataFile, TableName};
use kilter_types::{GroupKind, OperatingState};
use polars::prelude::{DataFrame, Expr, PolarsError, StringChunked, col, lit};

use super::{Recorded, RecordedScore, ScoresOf, Stream};
use crate::{
    Asset, HistoryError, View,
    frame::{numbers, plain},
};

/// Every recorded window up to this event time: parts in the order of time, and of each stream in each part the windows in that order.
///
/// Reads files, each when its part is asked for: not for an async thread.
pub fn recorded_windows(
    features: &View,
    to_us: i64,
) -> Result<impl Iterator<Item = Result<Recorded, HistoryError>>, HistoryError> {
    const COLUMNS: [&str; 12] = [
        "event_time_us",
        "window_index",
        "epoch",
        "kind",
        "start_us",
        "end_us",
        "state",
        "rpm",
        "quality",
        "schema",
        "valid",
        "values",
    ];
    expect(features, TableName::Features)?;
    let part = move |files: Vec<&DataFile>| {
        let frame = collected(features, &files, col("event_time_us").lt_eq(lit(to_us)), &COLUMNS)?;
        windows(&frame).map_err(|error| features.unreadable(error))
    };
    Ok(parts(features).into_iter().map(part))
}

/// What a model (its digest in hexadecimal) said of the windows of each stream up to this event time.
pub fn recorded_scores(scores: &View, model: &str, to_us: i64) -> Result<BTreeMap<Stream, ScoresOf>, HistoryError> {
    const COLUMNS: [&str; 8] =
        ["window_index", "epoch", "anomaly", "threshold", "rul_h", "rul_low_h", "rul_high_h", "kernel"];
    expect(scores, TableName::Scores)?;
    let mut by_stream: BTreeMap<Stream, ScoresOf> = BTreeMap::new();
    for files in parts(scores) {
        let wanted = col("model").eq(lit(model.to_owned())).and(col("event_time_us").lt_eq(lit(to_us)));
        let frame = collected(scores, &files, wanted, &COLUMNS)?;
        said(&frame, &mut by_stream).map_err(|error| scores.unreadable(error))?;
    }
    for ScoresOf(scores) in by_stream.values_mut() {
        scores.sort_by_key(|(key, _)| *key);
    }
    Ok(by_stream)
}

fn expect(view: &View, table: TableName) -> Result<(), HistoryError> {
    if view.table() == table { Ok(()) } else { Err(HistoryError::Missing(table)) }
}

/// The files by day and bucket, in the order of days: a row's day is that of its event time. All at once where rows come from a tail too.
fn parts(view: &View) -> Vec<Vec<&DataFile>> {
    let files = &view.snapshot.files;
    if !view.tail.is_empty() {
        return vec![files.iter().collect()];
    }
    let mut parts: BTreeMap<Option<(&str, &str)>, Vec<&DataFile>> = BTreeMap::new();
    for file in files {
        let named = |name: &str| file.path.iter().rev().find_map(|part| part.to_str()?.strip_prefix(name));
        parts.entry(named("day=").zip(named("bucket="))).or_default().push(file);
    }
    if parts.contains_key(&None) {
        return vec![files.iter().collect()];
    }
    parts.into_values().collect()
}

/// The columns that tell a stream, and these.
fn collected(view: &View, files: &[&DataFile], wanted: Expr, columns: &[&str]) -> Result<DataFrame, HistoryError> {
    let columns: Vec<Expr> = TEXTS.iter().chain(&["group"]).chain(columns).map(|name| col(*name)).collect();
    view.scan_files(files)?.filter(wanted).select(columns).collect().map_err(|error| view.unreadable(error))
}

/// The streams of a frame in the order in which they come up, and which one each row is of.
///
/// Rows of a stream lie together mostly, so that a look at the row before is enough for most.
fn streams(frame: &DataFrame) -> Result<(Vec<Stream>, Vec<u32>), PolarsError> {
    let columns = TEXTS.map(|name| text(frame, name));
    let mut texts = Vec::new();
    for column in columns {
        texts.push(column?.iter());
    }
    let mut known: HashMap<([&str; TEXTS.len()], i64), u32> = HashMap::new();
    let (mut found, mut of_rows) = (Vec::new(), Vec::with_capacity(frame.height()));
    let mut last = None;
    for group in numbers(frame, "group")? {
        let mut words = [""; TEXTS.len()];
        words.iter_mut().zip(&mut texts).for_each(|(word, texts)| *word = texts.next().flatten().unwrap_or_default());
        let key = (words, group);
        let place = match last {
            Some((before, place)) if before == key => place,
            Some(_) | None => *known.entry(key).or_insert_with(|| {
                let [tenant, site, asset, point, device] = words.map(str::to_owned);
                found.push(Stream { asset: Asset { tenant, site, asset }, point, device, group: group as u8 });
                (found.len() - 1) as u32
            }),
        };
        last = Some((key, place));
        of_rows.push(place);
    }
    Ok((found, of_rows))
}

fn windows(frame: &DataFrame) -> Result<Recorded, PolarsError> {
    let number = |name| numbers(frame, name);
    let (at_us, index, epoch) = (number("event_time_us")?, number("window_index")?, number("epoch")?);
    let (found, of_rows) = streams(frame)?;
    let mut streams: Vec<(Stream, Vec<u32>)> = found.into_iter().map(|stream| (stream, Vec::new())).collect();
    for (row, stream) in (0..).zip(of_rows) {
        streams[stream as usize].1.push(row);
    }
    for (_, rows) in &mut streams {
        rows.sort_by_key(|row| {
            let row = *row as usize;
            (at_us[row], index[row], epoch[row])
        });
    }
    streams.sort_by(|(a, _), (b, _)| a.cmp(b));
    let kind = text(frame, "kind")?.iter().map(|word| kind_of(word.unwrap_or_default())).collect();
    let state = text(frame, "state")?.iter().map(|word| state_of(word.unwrap_or_default())).collect();
    let (values, bounds) = lists(frame, "values")?;
    Ok(Recorded {
        streams,
        epoch,
        at_us,
        index,
        start_us: number("start_us")?,
        end_us: number("end_us")?,
        kind,
        state,
        rpm: plain(frame.column("rpm")?.f32()?),
        quality: number("quality")?,
        schema: number("schema")?,
        valid: number("valid")?,
        values,
        bounds,
    })
}

/// Adds the scores of a part; each stream's stay unsorted.
fn said(frame: &DataFrame, by_stream: &mut BTreeMap<Stream, ScoresOf>) -> Result<(), PolarsError> {
    let (found, of_rows) = streams(frame)?;
    let mut told: Vec<Vec<((u64, u64), RecordedScore)>> = found.iter().map(|_| Vec::new()).collect();
    let (index, epoch, kernel) = (numbers(frame, "window_index")?, numbers(frame, "epoch")?, numbers(frame, "kernel")?);
    let (mut anomaly, mut threshold) = (floats(frame, "anomaly")?, floats(frame, "threshold")?);
    let (mut hours, mut low, mut high) =
        (floats(frame, "rul_h")?, floats(frame, "rul_low_h")?, floats(frame, "rul_high_h")?);
    for (row, stream) in of_rows.into_iter().enumerate() {
        let [left, least, most] = [&mut hours, &mut low, &mut high].map(|column| column.next().flatten());
        let score = RecordedScore {
            anomaly: anomaly.next().flatten().unwrap_or(f32::NAN),
            threshold: threshold.next().flatten().unwrap_or(f32::NAN),
            rul_h: left.zip(least).zip(most).map(|((left, least), most)| [left, least, most]),
            kernel: u16::try_from(kernel[row]).unwrap_or(u16::MAX),
        };
        told[stream as usize].push(((epoch[row] as u64, index[row] as u64), score));
    }
    for (stream, scores) in found.into_iter().zip(told) {
        by_stream.entry(stream).or_default().0.extend(scores);
    }
    Ok(())
}

fn text<'f>(frame: &'f DataFrame, name: &str) -> Result<&'f StringChunked, PolarsError> {
    frame.column(name)?.str()
}

fn floats<'f>(frame: &'f DataFrame, name: &str) -> Result<impl Iterator<Item = Option<f32>> + use<'f>, PolarsError> {
    Ok(frame.column(name)?.f32()?.iter())
}

/// All lists one after the other, and where each begins; the last bound is where the last one ends.
fn lists(frame: &DataFrame, name: &str) -> Result<(Vec<f32>, Vec<usize>), PolarsError> {
    let lists = frame.column(name)?.list()?;
    let inner = lists.get_inner();
    let inner = inner.f32()?;
    let all = plain(inner);
    let (mut values, mut bounds) = (Vec::with_capacity(all.len()), vec![0]);
    let mut base = 0;
    for (chunk, length) in lists.downcast_iter().zip(inner.chunk_lengths()) {
        for pair in chunk.offsets().windows(2) {
            values.extend_from_slice(&all[base + pair[0] as usize..base + pair[1] as usize]);
            bounds.push(values.len());
        }
        base += length;
    }
    Ok((values, bounds))
}

fn kind_of(word: &str) -> Option<GroupKind> {
    Some(match word {
        "vibration" => GroupKind::Vibration,
        "temperature" => GroupKind::Temperature,
        "reading" => GroupKind::Reading,
        "cycle" => GroupKind::Cycle,
        _ => return None,
    })
}

fn state_of(word: &str) -> OperatingState {
    match word {
        "off" => OperatingState::Off,
        "transient" => OperatingState::Transient,
        _ => match word.strip_prefix("steady:").and_then(|bin| bin.parse().ok()) {
            Some(bin) => OperatingState::Steady(bin),
            None => OperatingState::Unknown,
        },
    }
}

/// What tells a stream, beside the group.
const TEXTS: [&str; 5] = ["tenant", "site", "asset", "point", "device"];
