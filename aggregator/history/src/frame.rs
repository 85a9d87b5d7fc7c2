//! Feature frames for training: the windows of one kind of machine, sorted, judged, as plain numbers.
//!
//! Point in time (P1): with `known_at_us` only what the aggregator had received by then takes part, rows and judgements alike.

use std::collections::BTreeMap;

use kilter_lake::TableName;
use polars::prelude::{
    ChunkedArray, DataFrame, DataType, Expr, PolarsError, PolarsNumericType, SortMultipleOptions, col, lit,
};

use crate::{Exclusions, HistoryError, Interval, Verdict, View};

/// A machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asset {
    /// Who owns the data.
    pub tenant: String,
    /// Plant or location.
    pub site: String,
    /// The machine.
    pub asset: String,
}

/// Which windows are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Selection {
    /// Of these machines.
    pub assets: Vec<Asset>,
    /// Of groups of this kind, for example `vibration`.
    pub kind: String,
    /// How many windows before an alarm are not trusted.
    pub margin_windows: u32,
    /// Only what was received up to here; `None`: everything in the views.
    pub known_at_us: Option<i64>,
    /// Only windows of the last so many microseconds of event time, per machine; `None`: all.
    pub recent_us: Option<i64>,
}

/// Windows as plain columns of equal length, sorted by machine, measuring point, epoch, group and window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frame {
    /// Row-major, [`Frames::width`] values a row; 0 where invalid.
    pub values: Vec<f32>,
    /// Bit `i`: value `i` is valid.
    pub valid: Vec<u64>,
    /// Which machine, as a place in [`Selection::assets`].
    pub asset: Vec<u32>,
    /// Which stream of windows.
    pub series: Vec<u32>,
    /// The window on its hop grid.
    pub index: Vec<u64>,
    /// Event time of the window's end.
    pub time_us: Vec<i64>,
    /// The bin of the steady state.
    pub regime: Vec<u8>,
    /// Shaft speed.
    pub rpm: Vec<f32>,
}

impl Frame {
    pub(crate) fn push(&mut self, rows: &Windows, row: usize, (asset, series, bin): (u32, u32, Option<u8>)) {
        self.values.extend(&rows.values[row]);
        self.valid.push(rows.valid[row]);
        self.asset.push(asset);
        self.series.push(series);
        self.index.push(rows.index[row]);
        self.time_us.push(rows.time_us[row]);
        self.regime.push(bin.unwrap_or_default());
        self.rpm.push(rows.rpm[row]);
    }
}

/// What a selection gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Frames {
    /// The feature schema that most rows have; the others are left out and counted.
    pub schema: u64,
    /// Values per row.
    pub width: usize,
    /// Windows to learn from.
    pub healthy: Frame,
    /// Windows that a person called faulty.
    pub faulty: Frame,
    /// Windows that are neither.
    pub unwanted: usize,
    /// Windows of other schemas.
    pub other_schema: usize,
    /// The median distance of two windows of a stream.
    pub period_us: i64,
}

/// Which kind of machine each machine is, as the nodes report it.
pub fn asset_classes(events: &View) -> Result<BTreeMap<Asset, String>, HistoryError> {
    let frame = events
        .scan()?
        .filter(col("kind").eq(lit("report")))
        .select(["tenant", "site", "asset", "label", "received_us", "seq"].map(col))
        .sort(["received_us", "seq"], SortMultipleOptions::default())
        .collect()
        .map_err(|error| events.unreadable(error))?;
    let read = || -> Result<_, PolarsError> {
        let (tenant, site, asset) = (texts(&frame, "tenant")?, texts(&frame, "site")?, texts(&frame, "asset")?);
        let class = texts(&frame, "label")?;
        let keys = tenant.into_iter().zip(site).zip(asset).map(|((tenant, site), asset)| Asset { tenant, site, asset });
        Ok(keys.zip(class).collect())
    };
    read().map_err(|error| events.unreadable(error))
}

/// Gathers and judges the windows of a selection. Reads files: not for an async thread.
pub fn frames(features: &View, events: &View, selection: &Selection) -> Result<Frames, HistoryError> {
    if features.table() != TableName::Features {
        return Err(HistoryError::Missing(TableName::Features));
    }
    if events.table() != TableName::Events {
        return Err(HistoryError::Missing(TableName::Events));
    }
    let exclusions = exclusions(events, selection)?;
    let windows = windows(features, selection)?;
    let read = || sort_out(&windows, &exclusions, selection);
    read().map_err(|error| features.unreadable(error))
}

/// The condition that a row belongs to one of the machines and was known in time.
pub(crate) fn wanted(selection: &Selection) -> Expr {
    let of = |asset: &Asset| {
        col("tenant")
            .eq(lit(asset.tenant.clone()))
            .and(col("site").eq(lit(asset.site.clone())))
            .and(col("asset").eq(lit(asset.asset.clone())))
    };
    let assets = selection.assets.iter().map(of).reduce(Expr::or).unwrap_or_else(|| lit(false));
    match selection.known_at_us {
        Some(known_at_us) => assets.and(col("received_us").lt_eq(lit(known_at_us))),
        None => assets,
    }
}

fn exclusions(events: &View, selection: &Selection) -> Result<Exclusions, HistoryError> {
    const COLUMNS: [&str; 11] = [
        "tenant",
        "site",
        "asset",
        "point",
        "kind",
        "alarm_id",
        "alarm_state",
        "event_time_us",
        "from_us",
        "to_us",
        "label",
    ];
    let judged = col("kind").eq(lit("alarm")).or(col("event").eq(lit("labelled")));
    let frame = events
        .scan()?
        .filter(wanted(selection).and(judged))
        .sort(["event_time_us", "device", "epoch", "seq"], SortMultipleOptions::default())
        .select(COLUMNS.map(col))
        .collect()
        .map_err(|error| events.unreadable(error))?;
    let read = || -> Result<_, PolarsError> {
        let mut exclusions = Exclusions::default();
        let assets = assets(&frame)?;
        let (point, kind, state) = (texts(&frame, "point")?, texts(&frame, "kind")?, texts(&frame, "alarm_state")?);
        let (id, at, label) =
            (numbers(&frame, "alarm_id")?, numbers(&frame, "event_time_us")?, texts(&frame, "label")?);
        let (from, to) = (numbers(&frame, "from_us")?, numbers(&frame, "to_us")?);
        for (row, asset) in assets.iter().enumerate() {
            match (kind[row].as_str(), state[row].as_str()) {
                ("alarm", "cleared") => exclusions.alarm_cleared(asset, &point[row], id[row], at[row]),
                ("alarm", _) => exclusions.alarm_open(asset, &point[row], id[row], at[row]),
                _ => {
                    let range = Interval { from_us: from[row], to_us: to[row] };
                    exclusions.label(asset, range, label[row] == "healthy");
                }
            }
        }
        Ok(exclusions)
    };
    read().map_err(|error| events.unreadable(error))
}

pub(crate) fn windows(features: &View, selection: &Selection) -> Result<DataFrame, HistoryError> {
    const KEY: [&str; 8] = ["tenant", "site", "asset", "point", "device", "epoch", "group", "window_index"];
    const REST: [&str; 7] = ["event_time_us", "state", "rpm", "quality", "schema", "valid", "values"];
    let columns: Vec<Expr> = KEY.into_iter().chain(REST).map(col).collect();
    features
        .scan()?
        .filter(wanted(selection).and(col("kind").eq(lit(selection.kind.clone()))))
        .select(columns)
        .sort(KEY, SortMultipleOptions::default())
        .collect()
        .map_err(|error| features.unreadable(error))
}

fn sort_out(frame: &DataFrame, exclusions: &Exclusions, selection: &Selection) -> Result<Frames, PolarsError> {
    let rows = Windows::read(frame)?;
    let mut frames = Frames { schema: rows.most_frequent_schema(), period_us: rows.period_us(), ..Frames::default() };
    let margin_us = frames.period_us.saturating_mul(i64::from(selection.margin_windows));
    let place: BTreeMap<_, _> = selection.assets.iter().zip(0_u32..).collect();
    let mut newest: BTreeMap<&Asset, i64> = BTreeMap::new();
    for (asset, time_us) in rows.assets.iter().zip(&rows.time_us) {
        let latest = newest.entry(asset).or_insert(i64::MIN);
        *latest = (*latest).max(*time_us);
    }
    for row in 0..rows.assets.len() {
        if rows.schema[row] != frames.schema {
            frames.other_schema += 1;
            continue;
        }
        let (asset, time_us) = (&rows.assets[row], rows.time_us[row]);
        if selection.recent_us.is_some_and(|recent_us| time_us < newest[asset].saturating_sub(recent_us)) {
            continue;
        }
        let bin = rows.good_bin(row);
        let into = match exclusions.judge(asset, time_us, margin_us, bin.is_some()) {
            Verdict::Healthy => &mut frames.healthy,
            Verdict::Faulty => &mut frames.faulty,
            Verdict::Unwanted => {
                frames.unwanted += 1;
                continue;
            }
        };
        frames.width = rows.values[row].len();
        into.push(&rows, row, (place.get(asset).copied().unwrap_or(u32::MAX), rows.series[row], bin));
    }
    Ok(frames)
}

/// The columns of the sorted windows.
pub(crate) struct Windows {
    pub(crate) assets: Vec<Asset>,
    pub(crate) point: Vec<String>,
    pub(crate) group: Vec<i64>,
    series: Vec<u32>,
    pub(crate) index: Vec<u64>,
    pub(crate) time_us: Vec<i64>,
    state: Vec<String>,
    rpm: Vec<f32>,
    quality: Vec<i64>,
    pub(crate) schema: Vec<u64>,
    valid: Vec<u64>,
    pub(crate) values: Vec<Vec<f32>>,
}

impl Windows {
    pub(crate) fn read(frame: &DataFrame) -> Result<Self, PolarsError> {
        let assets = assets(frame)?;
        let (point, device) = (texts(frame, "point")?, texts(frame, "device")?);
        let (epoch, group) = (numbers(frame, "epoch")?, numbers(frame, "group")?);
        let mut series = Vec::with_capacity(assets.len());
        let mut last = 0;
        for row in 0..assets.len() {
            let key = |row: usize| (&assets[row], &point[row], &device[row], epoch[row], group[row]);
            last += u32::from(row > 0 && key(row) != key(row - 1));
            series.push(last);
        }
        let bits = |name| numbers(frame, name).map(|numbers| numbers.into_iter().map(|bits| bits as u64).collect());
        let rpm = frame.column("rpm")?.f32()?.iter().map(Option::unwrap_or_default).collect();
        let lists = frame.column("values")?.list()?;
        let values = (0..lists.len()).map(|row| match lists.get_as_series(row) {
            Some(list) => Ok(list.f32()?.iter().map(Option::unwrap_or_default).collect()),
            None => Ok(Vec::new()),
        });
        Ok(Self {
            series,
            index: bits("window_index")?,
            time_us: numbers(frame, "event_time_us")?,
            state: texts(frame, "state")?,
            rpm,
            quality: numbers(frame, "quality")?,
            schema: bits("schema")?,
            valid: bits("valid")?,
            values: values.collect::<Result<_, PolarsError>>()?,
            assets,
            point,
            group,
        })
    }

    /// The bin of the steady state of a window that nothing is wrong with.
    pub(crate) fn good_bin(&self, row: usize) -> Option<u8> {
        let bin = self.state[row].strip_prefix("steady:")?.parse().ok()?;
        (self.quality[row] == 0).then_some(bin)
    }

    /// The most frequent schema; the smaller hash of two equals.
    pub(crate) fn most_frequent_schema(&self) -> u64 {
        let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
        self.schema.iter().for_each(|schema| *counts.entry(*schema).or_default() += 1);
        counts.into_iter().max_by_key(|(schema, count)| (*count, u64::MAX - schema)).map_or(0, |(schema, _)| schema)
    }

    fn period_us(&self) -> i64 {
        let next =
            |row: &usize| self.series[*row] == self.series[row - 1] && self.index[*row] == self.index[row - 1] + 1;
        let rows = (1..self.index.len()).filter(next);
        let mut periods: Vec<i64> = rows.map(|row| self.time_us[row].saturating_sub(self.time_us[row - 1])).collect();
        periods.sort_unstable();
        periods.get(periods.len() / 2).copied().unwrap_or_default().max(0)
    }
}

pub(crate) fn assets(frame: &DataFrame) -> Result<Vec<Asset>, PolarsError> {
    let (tenant, site, asset) = (texts(frame, "tenant")?, texts(frame, "site")?, texts(frame, "asset")?);
    Ok(tenant.into_iter().zip(site).zip(asset).map(|((tenant, site), asset)| Asset { tenant, site, asset }).collect())
}

pub(crate) fn texts(frame: &DataFrame, name: &str) -> Result<Vec<String>, PolarsError> {
    Ok(frame.column(name)?.str()?.iter().map(|text| text.unwrap_or_default().to_owned()).collect())
}

pub(crate) fn numbers(frame: &DataFrame, name: &str) -> Result<Vec<i64>, PolarsError> {
    let column = frame.column(name)?.cast(&DataType::Int64)?;
    Ok(plain(column.i64()?))
}

/// The numbers of a column, 0 where there is none; chunk by chunk where none is missing, which is nearly always.
pub(crate) fn plain<T: PolarsNumericType>(column: &ChunkedArray<T>) -> Vec<T::Native> {
    if column.null_count() > 0 {
        return column.iter().map(Option::unwrap_or_default).collect();
    }
    let mut numbers = Vec::with_capacity(column.len());
    column.downcast_iter().for_each(|chunk| numbers.extend_from_slice(chunk.values()));
    numbers
}
