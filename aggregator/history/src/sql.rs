//! What is read from a question before Polars parses it: words that are columns here and keywords there, and bounds that tell which
//! files can't hold an answer.
//!
//! Bounds are taken from the plainest shape only (one table, conditions joined by AND, a column compared with a literal). Whatever
//! is not understood narrows nothing: the answer never depends on this file, only the number of files that are opened.

use std::collections::BTreeMap;

use kilter_lake::{Bound, DataFile, TableName, bucket_of, day_of};
use kilter_types::{DeviceId, Micros};

/// A piece of SQL, with where it stands in the text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    pub(crate) start: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bare word or number.
    Word,
    /// A quoted name, without its quotes.
    Name,
    /// A text literal, without its quotes.
    Text,
    /// Anything else, one or two characters.
    Sign,
}

/// What a column must lie between, ends included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bounds {
    columns: BTreeMap<String, (Option<Bound>, Option<Bound>)>,
}

/// The question with `group`, `values` and `schema` quoted where they are columns.
pub(crate) fn quoted(sql: &str) -> String {
    let tokens = tokens(sql);
    let mut out = String::with_capacity(sql.len() + 8);
    let mut done = 0;
    for (at, token) in tokens.iter().enumerate() {
        let next = tokens.get(at + 1);
        let is_column = token.kind == Kind::Word
            && match token.text.to_ascii_lowercase().as_str() {
                "group" => !next.is_some_and(|next| is_word(next, "by")),
                "values" => !next.is_some_and(|next| next.kind == Kind::Sign && next.text == "("),
                "schema" => true,
                _ => false,
            };
        if is_column {
            out.push_str(&sql[done..token.start]);
            out.push('"');
            out.push_str(&token.text.to_ascii_lowercase());
            out.push('"');
            done = token.start + token.text.len();
        }
    }
    out.push_str(&sql[done..]);
    out
}

/// The table and the bounds of a question of the plainest shape.
pub(crate) fn bounds(sql: &str) -> Option<(TableName, Bounds)> {
    let tokens = tokens(sql);
    let count = |word: &str| tokens.iter().filter(|token| is_word(token, word)).count();
    let once = ["select", "from"].into_iter().all(|word| count(word) == 1);
    if !once || ["join", "union", "with", "except", "intersect", "case"].into_iter().any(|word| count(word) > 0) {
        return None;
    }
    let from = tokens.iter().position(|token| is_word(token, "from"))?;
    let table = tokens.get(from + 1).filter(|token| token.kind != Kind::Sign)?;
    let table = TableName::ALL.into_iter().find(|name| name.as_str() == table.text)?;
    let after = &tokens[from + 2..];
    let mut bounds = Bounds::default();
    match after.iter().position(|token| is_word(token, "where")) {
        // Between table and condition stands at most another name for the table.
        Some(at) if after[..at].iter().all(|token| token.kind != Kind::Sign) => {
            let end = after.iter().position(|token| ENDS.into_iter().any(|word| is_word(token, word)));
            bounds.conditions(&after[at + 1..end.unwrap_or(after.len())]);
        }
        Some(_) => return None,
        None => {}
    }
    bounds.derive();
    Some((table, bounds))
}

impl Bounds {
    /// Can this file hold a row within the bounds?
    pub(crate) fn allow(&self, file: &DataFile) -> bool {
        // Partitions first: they stand in the path and cost nothing.
        let partitions = ["day", "bucket"].into_iter().filter_map(|name| self.columns.get_key_value(name));
        let others = self.columns.iter().filter(|(name, _)| !matches!(name.as_str(), "day" | "bucket"));
        partitions.chain(others).all(|(name, (least, most))| file.may_hold(name, least.as_ref(), most.as_ref()))
    }

    fn conditions(&mut self, tokens: &[Token<'_>]) {
        let mut depth = 0_i32;
        let (mut parts, mut part, mut between) = (Vec::new(), Vec::new(), false);
        for token in tokens {
            match token.text {
                "(" if token.kind == Kind::Sign => depth += 1,
                ")" if token.kind == Kind::Sign => depth -= 1,
                _ => {}
            }
            if depth == 0 && is_word(token, "or") {
                return;
            }
            between |= is_word(token, "between");
            if depth == 0 && is_word(token, "and") && !between {
                parts.push(std::mem::take(&mut part));
                continue;
            }
            between &= !is_word(token, "and");
            part.push(token.clone());
        }
        parts.push(part);
        parts.iter().for_each(|part| self.condition(part));
    }

    fn condition(&mut self, tokens: &[Token<'_>]) {
        let bound = |token: &Token<'_>| match token.kind {
            Kind::Text => Some(Bound::Text(token.text.to_owned())),
            Kind::Word => token.text.parse().ok().map(Bound::Whole),
            Kind::Name | Kind::Sign => None,
        };
        match tokens {
            [column, word, least, and, most] if is_word(word, "between") && is_word(and, "and") => {
                if let (Some(least), Some(most)) = (bound(least), bound(most)) {
                    self.narrow(column, Some(least), Some(most));
                }
            }
            [column, sign, value] if sign.kind == Kind::Sign => {
                let Some(value) = bound(value) else { return };
                match sign.text {
                    "=" => self.narrow(column, Some(value.clone()), Some(value)),
                    // Whole numbers have a next one; of texts the end itself is let in, which does no harm. Files know no bounds of
                    // other numbers as whole ones.
                    ">" => self.narrow(column, Some(stepped(value, 1)), None),
                    ">=" => self.narrow(column, Some(value), None),
                    "<" => self.narrow(column, None, Some(stepped(value, -1))),
                    "<=" => self.narrow(column, None, Some(value)),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn narrow(&mut self, column: &Token<'_>, least: Option<Bound>, most: Option<Bound>) {
        if matches!(column.kind, Kind::Text | Kind::Sign) {
            return;
        }
        let (known_least, known_most) = self.columns.entry(column.text.to_owned()).or_default();
        // The first bound of a kind stands; a second one would only narrow further.
        *known_least = known_least.take().or(least);
        *known_most = known_most.take().or(most);
    }

    /// A device lies in one bucket, and an instant in one day.
    fn derive(&mut self) {
        if let Some((Some(Bound::Text(least)), Some(Bound::Text(most)))) = self.columns.get("device")
            && least == most
            && let Ok(device) = DeviceId::new(least)
        {
            let bucket = Bound::Whole(bucket_of(&device).into());
            self.columns.entry("bucket".into()).or_insert((Some(bucket.clone()), Some(bucket)));
        }
        if let Some((least, most)) = self.columns.get("event_time_us").cloned() {
            let day = |bound: Option<Bound>| match bound {
                Some(Bound::Whole(us)) if (0..FAR_FUTURE_US).contains(&us) => Some(Bound::Text(day_of(Micros(us)))),
                _ => None,
            };
            let (known_least, known_most) = self.columns.entry("day".into()).or_default();
            *known_least = known_least.take().or(day(least));
            *known_most = known_most.take().or(day(most));
        }
    }
}

fn stepped(bound: Bound, by: i64) -> Bound {
    match bound {
        Bound::Whole(value) => Bound::Whole(value.saturating_add(by)),
        Bound::Text(text) => Bound::Text(text),
    }
}

fn is_word(token: &Token<'_>, word: &str) -> bool {
    token.kind == Kind::Word && token.text.eq_ignore_ascii_case(word)
}

pub(crate) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let start = sql.len() - rest.len();
        let len = match first {
            '\'' | '"' => {
                let inner = &rest[1..];
                let inner = &inner[..inner.find(first).unwrap_or(inner.len())];
                let kind = if first == '"' { Kind::Name } else { Kind::Text };
                tokens.push(Token { kind, text: inner, start: start + 1 });
                (inner.len() + 2).min(rest.len())
            }
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            _ if first.is_alphanumeric() || first == '_' => {
                let len = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
                tokens.push(Token { kind: Kind::Word, text: &rest[..len], start });
                len
            }
            _ if first.is_whitespace() => first.len_utf8(),
            _ => {
                let two = ["<=", ">=", "<>", "!="].into_iter().find(|two| rest.starts_with(two));
                let len = two.map_or(first.len_utf8(), str::len);
                tokens.push(Token { kind: Kind::Sign, text: &rest[..len], start });
                len
            }
        };
        rest = &rest[len..];
    }
    tokens
}

/// What ends the conditions.
const ENDS: [&str; 6] = ["group", "order", "having", "limit", "offset", "window"];

/// The year 9999 begins: later days have no four-digit year and don't compare as texts.
const FAR_FUTURE_US: i64 = 253_370_764_800_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_are_keywords_are_quoted_and_keywords_are_not() {
        let cases = [
            (
                "SELECT group, values FROM features GROUP BY group",
                "SELECT \"group\", \"values\" FROM features GROUP BY \"group\"",
            ),
            ("select f.schema from features f where Group=1", "select f.\"schema\" from features f where \"group\"=1"),
            ("SELECT 'group' AS a, \"values\" -- group\n FROM x", "SELECT 'group' AS a, \"values\" -- group\n FROM x"),
            (
                "SELECT COUNT(group) /* schema */ FROM t GROUP  BY kind",
                "SELECT COUNT(\"group\") /* schema */ FROM t GROUP  BY kind",
            ),
            ("SELECT it''s, 'open", "SELECT it''s, 'open"),
            ("", ""),
        ];
        for (sql, wanted) in cases {
            assert_eq!(quoted(sql), wanted);
        }
    }

    fn file(day: &str, bucket: i32, asset: (&str, &str)) -> DataFile {
        DataFile {
            path: format!("/lake/features/day={day}/bucket={bucket}/a.parquet").into(),
            bytes: 1,
            rows: None,
            stats: Some(format!(r#"{{"minValues":{{"asset":"{}"}},"maxValues":{{"asset":"{}"}}}}"#, asset.0, asset.1)),
        }
    }

    #[test]
    fn plain_conditions_leave_out_files_and_anything_else_leaves_them_in() {
        let allowed = |sql: &str, file: &DataFile| bounds(sql).is_none_or(|(_, bounds)| bounds.allow(file));
        let january = file("2026-01-31", bucket_of(&DeviceId::new("edge-1").expect("a good name")), ("fan", "press"));
        for sql in [
            "SELECT * FROM features WHERE day = '2026-01-31' AND asset = 'motor'",
            "SELECT * FROM features f WHERE asset BETWEEN 'a' AND 'g' AND day >= '2026-01-01' ORDER BY seq",
            "SELECT * FROM features WHERE device = 'edge-1'",
            "SELECT * FROM features WHERE event_time_us >= 1769817600000000 AND event_time_us < 1769904000000000",
            "SELECT * FROM features WHERE asset = 'valve' OR seq = 1",
            "SELECT * FROM features WHERE NOT asset = 'valve'",
            "SELECT * FROM features WHERE (asset = 'valve' AND seq = 1) IS NULL",
            "SELECT * FROM features WHERE asset <> 'fan' AND asset LIKE 'v%'",
            "SELECT * FROM features WHERE seq IN (SELECT seq FROM features WHERE asset = 'valve')",
            "SELECT * FROM features a JOIN scores b ON a.seq = b.seq WHERE asset = 'valve'",
            "SELECT 1 FROM features WHERE 'valve' = asset",
            "SELECT 1 FROM features WHERE asset = 'v' || 'x'",
        ] {
            assert!(allowed(sql, &january), "{sql}");
        }
        for sql in [
            "SELECT * FROM features WHERE day = '2026-02-01'",
            "SELECT * FROM features WHERE asset = 'valve' AND seq > 3",
            "SELECT asset FROM features WHERE asset BETWEEN 'q' AND 'z' GROUP BY asset",
            "SELECT * FROM features WHERE bucket = 9",
            "SELECT * FROM features WHERE event_time_us >= 1769904000000000",
        ] {
            assert!(!allowed(sql, &january), "{sql}");
        }
        let other = file("2026-01-31", 9, ("fan", "press"));
        assert!(!allowed("SELECT * FROM features WHERE device = 'edge-1'", &other));
    }
}
