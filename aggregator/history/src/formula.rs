//! A feature that a person defines: an expression in the SQL of questions over what one row holds, and over the last rows of its series.
//!
//! Everything is checked before anything is computed: words that are neither a feature nor a column, functions that look at more than one
//! row, and types that do not fit. A value depends on its own row and on rows before it only (P1), so that it never changes because of
//! what comes later.

use std::collections::BTreeSet;

use kilter_signal::table::find;
use kilter_types::FeatureId;
use polars::prelude::{Column as PolarsColumn, DataFrame, DataType, IntoLazy, NamedFrom, Series};
use polars::sql::sql_expr;

use crate::HistoryError;
use crate::sql::{Kind, Token, tokens};

/// A definition that was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    text: String,
    /// The expression with its names quoted and `rolled N` in the place of statistics over rows.
    pub(crate) outer: String,
    pub(crate) rolled: Vec<Rolling>,
    inputs: BTreeSet<String>,
}

/// A statistic over the last rows of a series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rolling {
    pub(crate) what: Statistic,
    /// This row and those before it; for [`Statistic::Before`] how many rows back.
    pub(crate) rows: usize,
    /// Of which expression.
    pub(crate) of: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statistic {
    Mean,
    Deviation,
    Least,
    Greatest,
    Median,
    Before,
}

/// Where a name's value is found in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// A column of numbers.
    Number(&'static str),
    /// A column of texts.
    Text(&'static str),
    /// A feature of the row's schema.
    Feature(FeatureId),
    /// A place of the vector, whatever the schema.
    Place(usize),
}

impl Rolling {
    /// How many values before a row are needed for it.
    pub(crate) fn reach(&self) -> usize {
        match self.what {
            Statistic::Before => self.rows,
            _ => self.rows - 1,
        }
    }
}

impl Formula {
    /// Reads an expression; a refusal says what is wrong, where, and what would do.
    pub fn parse(text: &str) -> Result<Self, HistoryError> {
        if text.len() > MOST_BYTES {
            return refused(format!("{} bytes are more than {MOST_BYTES}", text.len()));
        }
        if text.contains("--") || text.contains("/*") {
            return refused("it holds a comment; leave it out (a minus before a negative number needs a space)".into());
        }
        let mut reading = Reading { text, rolled: Vec::new(), inputs: BTreeSet::new() };
        let outer = reading.rewrite(&tokens(text), 0..text.len(), false)?;
        let Reading { rolled, inputs, .. } = reading;
        if inputs.is_empty() {
            return refused("it reads no feature and no column; for instance peak / rms".into());
        }
        let formula = Self { text: text.to_owned(), outer, rolled, inputs };
        formula.try_out()?;
        Ok(formula)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The features and columns that it reads.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(String::as_str)
    }

    /// Does a value depend on rows before its own?
    pub fn looks_back(&self) -> bool {
        !self.rolled.is_empty()
    }

    /// Two rows of anything: what Polars says of types and functions comes now and not half-way.
    fn try_out(&self) -> Result<(), HistoryError> {
        let column = |name: &String| match input_of(name) {
            Some(Input::Text(_)) => Series::new(name.as_str().into(), ["a", "b"]).into(),
            _ => Series::new(name.as_str().into(), [1.0, 2.0]).into(),
        };
        let mut columns: Vec<PolarsColumn> = self.inputs.iter().map(column).collect();
        let frame = |columns: &[PolarsColumn]| DataFrame::new(2, columns.to_vec()).map_err(said);
        for (place, rolling) in self.rolled.iter().enumerate() {
            let inner = evaluate(&rolling.of, &frame(&columns[..self.inputs.len()])?)?;
            columns.push(Series::new(rolled_name(place).into(), inner).into());
        }
        evaluate(&self.outer, &frame(&columns)?).map(drop)
    }
}

/// One value a row; what is no finite number is NaN.
pub(crate) fn evaluate(expression: &str, frame: &DataFrame) -> Result<Vec<f64>, HistoryError> {
    let value = sql_expr(format!("({expression})")).map_err(said)?.cast(DataType::Float64).alias("value");
    let out = frame.clone().lazy().select([value]).collect().map_err(said)?;
    let values = out.column("value").and_then(|column| column.f64().cloned()).map_err(said)?;
    let values: Vec<f64> =
        values.iter().map(|value| value.filter(|value| value.is_finite()).unwrap_or(f64::NAN)).collect();
    if values.len() != frame.height() {
        return refused(format!("'{expression}' does not give one value a row"));
    }
    Ok(values)
}

/// The column that holds the statistic at this place.
pub(crate) fn rolled_name(place: usize) -> String {
    format!("rolled {place}")
}

/// What a name stands for.
pub(crate) fn input_of(name: &str) -> Option<Input> {
    if let Some(column) = NUMBERS.into_iter().find(|column| *column == name) {
        return Some(Input::Number(column));
    }
    if let Some(column) = TEXTS.into_iter().find(|column| *column == name) {
        return Some(Input::Text(column));
    }
    if let Some(place) = name.strip_prefix("value_").and_then(|place| place.parse().ok()) {
        return (place < kilter_types::MAX_FEATURES).then_some(Input::Place(place));
    }
    find(name).map(Input::Feature)
}

struct Reading<'a> {
    text: &'a str,
    rolled: Vec<Rolling>,
    inputs: BTreeSet<String>,
}

impl Reading<'_> {
    /// The part of the text at `span` with names quoted and statistics taken out; `tokens` are those of the part.
    fn rewrite(
        &mut self,
        tokens: &[Token<'_>],
        span: std::ops::Range<usize>,
        within_rolling: bool,
    ) -> Result<String, HistoryError> {
        let (mut out, mut done, mut at) = (String::new(), span.start, 0);
        while let Some(token) = tokens.get(at) {
            let sign = |at: usize, sign: &str| {
                tokens.get(at).is_some_and(|token: &Token<'_>| token.kind == Kind::Sign && token.text == sign)
            };
            let lower = token.text.to_ascii_lowercase();
            let statistic = statistic(&lower).filter(|_| token.kind == Kind::Word && sign(at + 1, "("));
            if let Some(what) = statistic {
                if within_rolling {
                    return refused(format!(
                        "{}: a statistic within another; define the inner one first",
                        self.place(token)
                    ));
                }
                let (rolling, last) = self.rolling(what, tokens, at)?;
                out.push_str(&self.text[done..token.start]);
                out.push_str(&format!("\"{}\"", rolled_name(self.rolled.len())));
                self.rolled.push(rolling);
                done = tokens[last].start + 1;
                at = last + 1;
                continue;
            }
            match token.kind {
                Kind::Text => {}
                Kind::Name => self.input(token, token.text)?,
                Kind::Sign if SIGNS.contains(&token.text) => {}
                Kind::Sign => return refused(format!("{}: '{}' has no place here", self.place(token), token.text)),
                Kind::Word if token.text.starts_with(|c: char| c.is_ascii_digit()) => {}
                Kind::Word if sign(at + 1, "(") => {
                    if !FUNCTIONS.contains(&lower.as_str()) && !KEYWORDS.contains(&lower.as_str()) {
                        return refused(format!(
                            "{}: {}() is no function of one row; there are {} and, over the last rows of the same point, {}",
                            self.place(token),
                            token.text,
                            FUNCTIONS.join(", "),
                            STATISTICS.map(|(name, _)| name).join(", ")
                        ));
                    }
                }
                Kind::Word if KEYWORDS.contains(&lower.as_str()) => {}
                Kind::Word => {
                    // r2.mean is one name.
                    let joined = match (sign(at + 1, "."), tokens.get(at + 2)) {
                        (true, Some(next)) if next.kind == Kind::Word => {
                            Some((format!("{}.{}", token.text, next.text), at + 2, next.start + next.text.len()))
                        }
                        _ => None,
                    };
                    let (name, last, end) =
                        joined.unwrap_or_else(|| (token.text.to_owned(), at, token.start + token.text.len()));
                    self.input(token, &name)?;
                    out.push_str(&self.text[done..token.start]);
                    out.push_str(&format!("\"{name}\""));
                    (done, at) = (end, last);
                }
            }
            at += 1;
        }
        out.push_str(&self.text[done..span.end]);
        Ok(out)
    }

    /// The call that begins at `at`, and where its closing parenthesis stands.
    fn rolling(&mut self, what: Statistic, tokens: &[Token<'_>], at: usize) -> Result<(Rolling, usize), HistoryError> {
        let (mut depth, mut comma, mut last) = (0_usize, None, None);
        for (place, token) in tokens.iter().enumerate().skip(at + 1).filter(|(_, token)| token.kind == Kind::Sign) {
            match token.text {
                "(" => depth += 1,
                ")" if depth == 1 => {
                    last = Some(place);
                    break;
                }
                ")" => depth = depth.saturating_sub(1),
                "," if depth == 1 => comma = Some(place),
                _ => {}
            }
        }
        let how =
            || format!("{}: it is {}(expression, rows), as in {1}(rms, 12)", self.place(&tokens[at]), tokens[at].text);
        let (Some(comma), Some(last)) = (comma, last) else { return refused(how()) };
        let rows = match &tokens[comma + 1..last] {
            [rows] => rows.text.parse::<usize>().ok().filter(|rows| (1..=MOST_ROWS_BACK).contains(rows)),
            _ => None,
        };
        let Some(rows) = rows else {
            return refused(format!("{}; rows is a number from 1 to {MOST_ROWS_BACK}", how()));
        };
        if self.rolled.len() >= MOST_STATISTICS {
            return refused(format!("{}: more than {MOST_STATISTICS} statistics", self.place(&tokens[at])));
        }
        let span = tokens[at + 1].start + 1..tokens[comma].start;
        let of = self.rewrite(&tokens[at + 2..comma], span, true)?;
        Ok((Rolling { what, rows, of }, last))
    }

    fn input(&mut self, token: &Token<'_>, name: &str) -> Result<(), HistoryError> {
        if input_of(name).is_none() {
            let like = nearest(name).map_or_else(String::new, |like| format!("; is it {like}?"));
            return refused(format!(
                "{}: '{name}' is neither a feature (docs/SIGNALS.md), nor value_0 to value_63, nor one of the columns {}{like}",
                self.place(token),
                NUMBERS.into_iter().chain(TEXTS).collect::<Vec<_>>().join(", ")
            ));
        }
        self.inputs.insert(name.to_owned());
        Ok(())
    }

    fn place(&self, token: &Token<'_>) -> String {
        format!("character {}", self.text[..token.start].chars().count() + 1)
    }
}

/// The feature whose name begins most alike.
fn nearest(name: &str) -> Option<&'static str> {
    let alike = |other: &str| name.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let tables = kilter_signal::table::VIBRATION.iter().chain(&kilter_signal::table::TEMPERATURE);
    let names = tables.map(|feature| feature.name).chain(NUMBERS).chain(TEXTS);
    names
        .max_by_key(|other| (alike(other), std::cmp::Reverse(other.len().abs_diff(name.len()))))
        .filter(|other| alike(other) >= 2)
}

fn statistic(name: &str) -> Option<Statistic> {
    STATISTICS.into_iter().find(|(known, _)| *known == name).map(|(_, statistic)| statistic)
}

fn refused<T>(why: String) -> Result<T, HistoryError> {
    Err(HistoryError::Definition(why))
}

fn said(error: impl std::fmt::Display) -> HistoryError {
    // Behind the first line Polars tells its plan.
    HistoryError::Definition(error.to_string().lines().next().unwrap_or_default().to_owned())
}

const STATISTICS: [(&str, Statistic); 6] = [
    ("rolling_mean", Statistic::Mean),
    ("rolling_std", Statistic::Deviation),
    ("rolling_min", Statistic::Least),
    ("rolling_max", Statistic::Greatest),
    ("rolling_median", Statistic::Median),
    ("previous", Statistic::Before),
];

/// Columns of the features table that hold numbers.
const NUMBERS: [&str; 8] =
    ["rpm", "group", "window_index", "quality", "event_time_us", "received_us", "start_us", "end_us"];
/// Those that hold texts.
const TEXTS: [&str; 7] = ["tenant", "site", "asset", "point", "device", "kind", "state"];
const FUNCTIONS: [&str; 19] = [
    "abs", "sqrt", "cbrt", "exp", "ln", "log10", "log2", "pow", "power", "sign", "round", "floor", "ceil", "sin",
    "cos", "greatest", "least", "coalesce", "nullif",
];
const KEYWORDS: [&str; 15] =
    ["case", "when", "then", "else", "end", "and", "or", "not", "is", "null", "in", "between", "like", "true", "false"];
const SIGNS: [&str; 15] = ["+", "-", "*", "/", "%", "(", ")", ",", ".", "<", ">", "=", "<=", ">=", "<>"];
const MOST_BYTES: usize = 4_096;
const MOST_STATISTICS: usize = 16;
/// The longest look back, in rows: what is kept of each series between two days.
pub const MOST_ROWS_BACK: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_statistics_taken_out_and_numbers_left_alone() {
        let read = |text: &str| Formula::parse(text).map(|formula| formula.outer).expect(text);
        assert_eq!(read("peak / rms"), "\"peak\" / \"rms\"");
        assert_eq!(read("1.5e-3 * POW(rpm, 2) + .5"), "1.5e-3 * POW(\"rpm\", 2) + .5");
        assert_eq!(
            read("CASE WHEN state = 'off' THEN NULL ELSE r1.std END"),
            "CASE WHEN \"state\" = 'off' THEN NULL ELSE \"r1.std\" END"
        );
        assert_eq!(read("\"r1.std\" + group"), "\"r1.std\" + \"group\"");
        let formula = Formula::parse("rms - Rolling_Median(rms * (1 + rpm), 12) / previous(value_3, 1)").expect("good");
        assert_eq!(formula.outer, "\"rms\" - \"rolled 0\" / \"rolled 1\"");
        assert_eq!(
            formula.rolled[0],
            Rolling { what: Statistic::Median, rows: 12, of: "\"rms\" * (1 + \"rpm\")".into() }
        );
        assert_eq!((formula.rolled[0].reach(), formula.rolled[1].reach()), (11, 1));
        assert_eq!(formula.inputs().collect::<Vec<_>>(), ["rms", "rpm", "value_3"]);
    }

    #[test]
    fn a_bad_definition_is_refused_with_what_where_and_remedy() {
        let refusals = [
            ("peek / rms", "character 1: 'peek' is neither a feature"),
            ("peek / rms", "is it peak?"),
            ("1 + 1", "reads no feature"),
            ("AVG(rms)", "character 1: AVG() is no function of one row"),
            ("rms / (SELECT 1)", "'SELECT' is neither"),
            ("SUM(rms) OVER (PARTITION BY asset)", "SUM() is no function"),
            ("rms; DROP", "';' has no place"),
            ("rms -- x", "comment"),
            ("rolling_mean(rms)", "rolling_mean(expression, rows)"),
            ("rolling_mean(rms, 0)", "from 1 to 1024"),
            ("rolling_mean(rms, 5000)", "from 1 to 1024"),
            ("rolling_mean(rolling_min(rms, 2), 3)", "within another"),
            ("rms + state", "read the definition"),
            ("rms +", "read the definition"),
            ("rms rms", "read the definition"),
            ("value_64", "neither"),
        ];
        for (text, wanted) in refusals {
            let said = Formula::parse(text).expect_err(text).to_string();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }
}
