//! History again from the edge: what the lake had and lost is named, asked for, and put back as it comes.
//!
//! Nothing is doubled, because a row is put back only where the newest version of its table does not hold it, and only the committer,
//! which looks, changes tables. It happens before the offset is published, so the journal keeps what came until it is put back. What
//! was erased stays erased, and what was corrected says the correction.

use anyhow::bail;
use kilter_history::{View, query};
use kilter_lake::{Aside, Audit, Ranges, Rows, Stream, Streams, TableName, collect, gaps};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::{info, warn};

use crate::commit::{Committer, lock};
use crate::completeness::{parts, per_device, whole};
use crate::files::Erasure;
use crate::mending::{listed, table_of};

/// Whose records, and of which time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// A measuring point: the nodes that serve it are meant.
    point: Option<String>,
    /// A node.
    device: Option<String>,
    /// First microsecond of event time.
    from: i64,
    /// Last microsecond of event time.
    to: i64,
}

/// A line of the audit: the edge was asked.
#[derive(Serialize)]
struct Refetched<'a> {
    asked: &'a Asked,
    audit: &'a Audit,
    /// The files that are gone or damaged and were taken out of their tables.
    set_aside: &'a [Value],
    wanted: Vec<Value>,
}

impl Committer {
    /// Finds what the lake lost of this, puts back what the journal still holds, and has the edge asked for the rest.
    pub(crate) async fn refetch(&mut self, asked: Asked, audit: Audit) -> anyhow::Result<Value> {
        if asked.point.is_none() && asked.device.is_none() {
            bail!("failed to fetch again: neither a point nor a device is named");
        }
        let mut compared = self.compare(true).await?;
        let aside = self.set_aside(&compared).await?;
        let mut restored = compared.restored;
        if !aside.is_empty() {
            // What a damaged file had kept the journal from mending.
            compared = self.compare(true).await?;
            restored += compared.restored;
        }
        if let Some(damage) = compared.report.damage.first() {
            bail!(
                "failed to fetch again: {}: {}; it may be whole, so it stays: look at the disk, or move the file away when nothing else can \
                 mend it, then ask again",
                damage.path.display(),
                damage.what
            );
        }
        let (lost, views, of) = (compared.report.lost, lock(&self.state).views(), asked.clone());
        let wanted = tokio::task::spawn_blocking(move || lost_within(&views, lost, &of)).await??;
        let aside: Vec<Value> = aside.iter().map(told).collect();
        self.files.audit(&Refetched { asked: &asked, audit: &audit, set_aside: &aside, wanted: listed(&wanted) })?;
        let mut all = self.files.lost();
        add(&mut all, &wanted);
        self.want(all)?;
        info!(
            who = audit.who,
            why = audit.why,
            records = wanted.values().map(Ranges::count).sum::<u64>(),
            "edge asked"
        );
        Ok(json!({ "wanted": listed(&wanted), "restored_rows": restored, "set_aside": aside }))
    }

    /// Puts back what has come again, and counts as settled what the edge says it does not hold any more.
    pub(crate) async fn put_back_again(&mut self, rows: &[Rows]) -> anyhow::Result<()> {
        let (open, again) = {
            let mut state = lock(&self.state);
            (state.lost.wanted().clone(), state.lost.batch())
        };
        if open.is_empty() {
            return Ok(());
        }
        let mut settled = Streams::new();
        rows.iter().for_each(|rows| gaps(rows, &mut settled));
        let mut failed = None;
        for rows in &again {
            match self.put_back_rows(rows).await {
                Ok(done) => add(&mut settled, &done),
                Err(error) => failed = Some(error),
            }
        }
        if let Some(error) = failed {
            lock(&self.state).lost.give_back(again);
            return Err(error);
        }
        let none = Ranges::default();
        let left =
            open.iter().map(|(stream, open)| (stream.clone(), open.without(settled.get(stream).unwrap_or(&none))));
        let left: Streams = left.filter(|(_, ranges)| !ranges.is_empty()).collect();
        if left != open {
            self.want(left)?;
        }
        Ok(())
    }

    /// Says which of these records need not be asked for any more.
    async fn put_back_rows(&mut self, rows: &Rows) -> anyhow::Result<Streams> {
        let mut came = Streams::new();
        collect(rows, &mut came);
        let Some(table) = self.tables.get_mut(&rows.table()) else { return Ok(Streams::new()) };
        let held = match table.holds(&came).await {
            Ok(held) => held,
            Err(error) => {
                // Commits must not wait for a person.
                warn!(table = %rows.table(), %error, "records came again and the table can't be read; they are not put back");
                lock(&self.state).lost.miss(&came);
                return Ok(Streams::new());
            }
        };
        let missing = self.not_erased(&without(rows, &held))?;
        let table = self.tables.get_mut(&rows.table()).expect("it was there");
        if !missing.is_empty() {
            table.restore(&missing, &[]).await?;
            info!(table = %rows.table(), rows = missing.len(), "rows that came again from the edge are put back");
        }
        for corrected in self.files.corrections() {
            let of = &corrected.correction;
            let stream = Stream { device: of.device.clone(), epoch: of.epoch, class: of.class.clone() };
            if came.get(&stream).is_some_and(|came| came.contains(of.seq)) {
                table.correct(of, &corrected.audit).await?;
            }
        }
        let snapshot = table.current().await?;
        lock(&self.state).committed(snapshot);
        Ok(came)
    }

    /// Leaves out what a person has wanted erased since it happened, and tells it with that erasure: it is gone like the rest.
    fn not_erased(&self, rows: &Rows) -> anyhow::Result<Rows> {
        let (mut kept, erasures) = (Rows::new(rows.table()), self.files.erasures());
        let mut erased: Vec<(Erasure, Rows)> = Vec::new();
        for row in 0..rows.len() {
            let means = |line: &&Erasure| {
                let before = rows.int64("event_time_us", row).is_none_or(|us| us <= line.audit.at_us);
                before && line.subject.means(rows, row)
            };
            // An erasure that is done tells what went; one that is only begun has no such line yet.
            let by = erasures.iter().filter(means).max_by_key(|line| line.done.is_some());
            match (by, erased.iter_mut().find(|(line, _)| Some(&line.audit) == by.map(|by| &by.audit))) {
                (None, _) => kept.copy(rows, row),
                (Some(_), Some((_, gone))) => gone.copy(rows, row),
                (Some(by), None) => {
                    let mut gone = Rows::new(rows.table());
                    gone.copy(rows, row);
                    erased.push((by.clone(), gone));
                }
            }
        }
        for (mut line, gone) in erased.into_iter().filter(|(line, _)| line.done.is_some()) {
            let mut records = Streams::new();
            collect(&gone, &mut records);
            (line.done, line.records) = (Some(Vec::new()), records.into_iter().collect());
            self.files.audit(&line)?;
        }
        Ok(kept)
    }

    /// The server reads what is wanted; the journal's reader picks it out.
    fn want(&self, wanted: Streams) -> anyhow::Result<()> {
        self.files.keep_lost(&wanted)?;
        lock(&self.state).lost.want(wanted);
        Ok(())
    }
}

fn told(aside: &Aside) -> Value {
    let Aside { path, kept, rows, what } = aside;
    let kept = kept.as_ref().map(|kept| kept.display().to_string());
    json!({ "path": path.display().to_string(), "kept": kept, "rows": rows, "what": what })
}

/// Those of the lost records that may belong to what is asked: a range counts when the records on both sides of it do not lie
/// before or behind the time.
fn lost_within(views: &[View], lost: Streams, asked: &Asked) -> anyhow::Result<Streams> {
    let mut devices: Vec<String> = asked.device.iter().cloned().collect();
    if let Some(point) = &asked.point {
        let [tenant, site, asset, place] = parts(point)?;
        let at = format!("tenant = '{tenant}' AND site = '{site}' AND asset = '{asset}' AND point = '{place}'");
        devices.extend(per_device(views, &at)?.into_keys());
    }
    let mut wanted = Streams::new();
    for (stream, ranges) in lost.into_iter().filter(|(stream, _)| devices.contains(&stream.device)) {
        let Some(table) = table_of(&stream) else { continue };
        for (first, last) in ranges.iter() {
            let before = time(views, table, &stream, "MAX", &format!("seq < {first}"))?;
            let after = time(views, table, &stream, "MIN", &format!("seq > {last}"))?;
            if before.is_none_or(|us| us <= asked.to) && after.is_none_or(|us| us >= asked.from) {
                wanted.entry(stream.clone()).or_default().cover(first, last);
            }
        }
    }
    Ok(wanted)
}

/// The least or greatest event time of these records of a stream.
fn time(views: &[View], table: TableName, stream: &Stream, what: &str, of: &str) -> anyhow::Result<Option<i64>> {
    let Stream { device, epoch, class } = stream;
    let sql = format!(
        "SELECT {what}(event_time_us) AS us FROM {table} WHERE device = '{device}' AND epoch = {} AND class = '{class}' AND {of}",
        *epoch as i64
    );
    let answer = query(&sql, views, 1)?;
    let value = answer.rows.first().and_then(|row| row.first()).filter(|value| !value.is_null());
    value.map(|value| whole(value).map(|bits| bits as i64)).transpose()
}

/// The rows whose records are not among these.
fn without(rows: &Rows, held: &Streams) -> Rows {
    let mut left = Rows::new(rows.table());
    for row in 0..rows.len() {
        let (mut record, mut one) = (Streams::new(), Rows::new(rows.table()));
        one.copy(rows, row);
        collect(&one, &mut record);
        let is_held = record.iter().any(|(stream, ranges)| {
            held.get(stream).is_some_and(|held| ranges.iter().any(|(seq, _)| held.contains(seq)))
        });
        if !is_held {
            left.copy(rows, row);
        }
    }
    left
}

fn add(to: &mut Streams, more: &Streams) {
    for (stream, ranges) in more {
        to.entry(stream.clone()).or_default().join(ranges);
    }
}
