//! Which files can hold what is asked for: the least and greatest value of each column, as the log keeps them.

use serde_json::Value;

use crate::DataFile;

/// A value that a column is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// Of a text column.
    Text(String),
    /// Of a column of whole numbers.
    Whole(i64),
}

impl DataFile {
    /// Can a row of this file have a value of `column` within these bounds, ends included? What the log does not tell is taken
    /// as possible.
    pub fn may_hold(&self, column: &str, least: Option<&Bound>, greatest: Option<&Bound>) -> bool {
        let partition = format!("{column}=");
        let in_path = self.path.iter().filter_map(|part| part.to_str()?.strip_prefix(partition.as_str())).next_back();
        if let Some(value) = in_path {
            let value = match least.or(greatest) {
                Some(Bound::Whole(_)) => value.parse::<i64>().map_or(Value::Null, Value::from),
                _ => Value::from(value),
            };
            return within(&value, &value, least, greatest);
        }
        let Some(stats) = self.stats.as_deref().and_then(|stats| serde_json::from_str::<Value>(stats).ok()) else {
            return true;
        };
        within(&stats["minValues"][column], &stats["maxValues"][column], least, greatest)
    }

    /// The greatest value of a column of whole numbers, where the log tells.
    pub fn greatest(&self, column: &str) -> Option<i64> {
        let stats = serde_json::from_str::<Value>(self.stats.as_deref()?).ok()?;
        stats["maxValues"][column].as_i64()
    }
}

fn within(min: &Value, max: &Value, least: Option<&Bound>, greatest: Option<&Bound>) -> bool {
    let reaches = match (least, max) {
        // Long texts are cut in the log; a cut one stands for all that begin with it.
        (Some(Bound::Text(least)), Value::String(max)) => max >= least || least.starts_with(max.as_str()),
        (Some(Bound::Whole(least)), Value::Number(max)) => max.as_i64().is_none_or(|max| max >= *least),
        _ => true,
    };
    let begins = match (greatest, min) {
        (Some(Bound::Text(greatest)), Value::String(min)) => min <= greatest,
        (Some(Bound::Whole(greatest)), Value::Number(min)) => min.as_i64().is_none_or(|min| min <= *greatest),
        _ => true,
    };
    reaches && begins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_left_out_only_when_the_log_says_that_it_can_hold_nothing() {
        let stats = r#"{"numRecords":3,"minValues":{"asset":"press","event_time_us":10},"maxValues":{"asset":"pump","event_time_us":20}}"#;
        let file = DataFile {
            path: "/lake/features/day=2026-01-02/bucket=3/a.parquet".into(),
            bytes: 1,
            rows: Some(3),
            stats: Some(stats.into()),
        };
        let text = |text: &str| Some(Bound::Text(text.into()));
        let equal = |column: &str, text: Option<Bound>| file.may_hold(column, text.as_ref(), text.as_ref());
        assert!(equal("asset", text("press")) && equal("asset", text("pump-7")) && equal("asset", text("pu")));
        assert!(!equal("asset", text("fan")) && !equal("asset", text("valve")));
        assert!(equal("day", text("2026-01-02")) && !equal("day", text("2026-01-03")));
        assert!(equal("bucket", Some(Bound::Whole(3))) && !equal("bucket", Some(Bound::Whole(2))));
        assert!(file.may_hold("event_time_us", Some(&Bound::Whole(20)), None));
        assert!(!file.may_hold("event_time_us", Some(&Bound::Whole(21)), None));
        assert!(!file.may_hold("event_time_us", None, Some(&Bound::Whole(9))));
        assert_eq!(
            (file.greatest("event_time_us"), file.greatest("asset"), file.greatest("rpm")),
            (Some(20), None, None)
        );
        assert!(equal("rpm", Some(Bound::Whole(9))), "unknown columns may hold anything");
        assert!(DataFile { stats: None, ..file.clone() }.may_hold("asset", text("fan").as_ref(), None));
    }
}
