//! Answers that were given before, for as long as nothing has changed in the tables that they are from.
//!
//! An answer is known by its statement and by what each table that the statement names held: the version in the lake and the end of the
//! journal's tail. So an answer is never older than the rows; a statement about alarms stays known while windows pour in. Held in so many
//! bytes; what was not asked for longest goes first.

use std::collections::BTreeMap;

use kilter_history::View;
use kilter_lake::TableName;
use serde_json::Value;

/// What an answer depends on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    sql: String,
    tables: Vec<Held>,
}

/// What a table held: version, seam, and rows and last offset of the tail.
type Held = (TableName, u64, u64, usize, u64);

impl Key {
    /// The key of a statement over these tables. A statement that names a view may speak of any table.
    pub(crate) fn new(sql: &str, views: &[View], named: &BTreeMap<String, String>) -> Self {
        let lower = sql.to_lowercase();
        let any = named.keys().any(|name| lower.contains(name.as_str()));
        let tables = views.iter().filter(|view| any || lower.contains(view.table().as_str()));
        let held = |view: &View| {
            let last = view.tail.iter().rev().find(|rows| !rows.is_empty());
            let last = last.map_or(0, |rows| rows.journal_offset(rows.len() - 1));
            let rows = view.tail.iter().map(|rows| rows.len()).sum();
            (view.table(), view.snapshot.version, view.seam(), rows, last)
        };
        Self { sql: sql.to_owned(), tables: tables.map(held).collect() }
    }

    fn bytes(&self) -> usize {
        self.sql.len() + self.tables.len() * size_of::<Held>()
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    most_bytes: usize,
    bytes: usize,
    answers: BTreeMap<Key, Known>,
    asked: u64,
}

#[derive(Debug)]
struct Known {
    answer: Value,
    bytes: usize,
    /// When it was last asked for, counted in questions.
    asked: u64,
}

impl Cache {
    pub(crate) fn new(most_bytes: usize) -> Self {
        Self { most_bytes, ..Self::default() }
    }

    /// The answer, if it is known.
    pub(crate) fn get(&mut self, key: &Key) -> Option<Value> {
        self.asked += 1;
        let known = self.answers.get_mut(key)?;
        known.asked = self.asked;
        Some(known.answer.clone())
    }

    /// Keeps an answer, and lets go of others for it. One that would take more than a quarter of all is not kept.
    pub(crate) fn put(&mut self, key: Key, answer: &Value) {
        let bytes = key.bytes() + answer.to_string().len();
        if bytes > self.most_bytes / 4 {
            return;
        }
        self.bytes += bytes;
        let known = Known { answer: answer.clone(), bytes, asked: self.asked };
        if let Some(old) = self.answers.insert(key, known) {
            self.bytes -= old.bytes;
        }
        while self.bytes > self.most_bytes {
            let oldest = self.answers.iter().min_by_key(|(_, known)| known.asked).map(|(key, _)| key.clone());
            let Some(gone) = oldest.and_then(|key| self.answers.remove(&key)) else { return };
            self.bytes -= gone.bytes;
        }
    }

    /// Forgets everything: what was erased must not be told from here.
    pub(crate) fn clear(&mut self) {
        self.answers.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kilter_fold::Output;
    use kilter_lake::{Rows, Snapshot};
    use kilter_types::{DeviceId, Micros};
    use serde_json::json;

    use super::*;

    fn view(table: TableName, version: u64, tail: &[u64]) -> View {
        let mut rows = Rows::new(table);
        for offset in tail {
            let device = DeviceId::new("press").expect("a good name");
            let (received, offset) = (Micros(0), *offset);
            rows.push(&Output::Quarantine { device, received, offset, reason: String::new(), bytes: Vec::new() });
        }
        View { snapshot: Snapshot { table, version, offset: None, files: Vec::new() }, tail: vec![Arc::new(rows)] }
    }

    #[test]
    fn s4_40_an_answer_is_known_until_a_row_or_a_commit_changes_a_table_that_it_is_from() {
        let sql = "SELECT COUNT(*) FROM quarantine";
        let key = |sql: &str, version, tail: &[u64], others| {
            let views = [view(TableName::Quarantine, version, tail), view(TableName::Features, others, &[])];
            Key::new(sql, &views, &[("odd".to_owned(), String::new())].into())
        };
        let mut cache = Cache::new(10_000);
        cache.put(key(sql, 3, &[5, 9], 1), &json!([2]));
        assert_eq!(cache.get(&key(sql, 3, &[5, 9], 1)), Some(json!([2])));
        assert_eq!(cache.get(&key(sql, 3, &[5, 9], 2)), Some(json!([2])), "another table has moved on");
        for changed in
            [key(sql, 4, &[5, 9], 1), key(sql, 3, &[5, 9, 11], 1), key(sql, 3, &[5, 8], 1), key(sql, 3, &[], 1)]
        {
            assert_eq!(cache.get(&changed), None);
        }
        assert_ne!(key("SELECT 1 FROM odd", 3, &[], 1), key("SELECT 1 FROM odd", 3, &[], 2), "a view is of any table");
        cache.clear();
        assert_eq!(cache.get(&key(sql, 3, &[5, 9], 1)), None);
    }

    #[test]
    fn s4_40_the_bytes_are_bounded_and_what_was_not_asked_for_longest_goes() {
        let key = |n: usize| Key { sql: format!("{n:04}"), tables: Vec::new() };
        let answer = json!("a".repeat(94));
        let mut cache = Cache::new(1_000);
        for n in 0..50 {
            cache.put(key(n), &answer);
            assert!(cache.get(&key(0)).is_some(), "it is asked for all the time");
            assert!(cache.bytes <= 1_000 && cache.bytes == cache.answers.len() * 100, "{} bytes", cache.bytes);
        }
        assert_eq!(cache.answers.len(), 10);
        assert!(cache.get(&key(49)).is_some() && cache.get(&key(40)).is_none());
        cache.put(key(77), &json!("a".repeat(400)));
        assert!(cache.get(&key(77)).is_none(), "too large to be kept");
        cache.put(key(49), &answer);
        assert_eq!(cache.bytes, 1_000, "kept once");
        let mut none = Cache::new(0);
        none.put(key(1), &json!(1));
        assert!(none.get(&key(1)).is_none());
    }
}
