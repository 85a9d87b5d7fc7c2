//! Windows over event time: tumbling, sliding, session and by count, kept as rows come in.
//!
//! A window closes when the watermark reaches its end, and then tells its result once. A row that comes later but within the
//! lateness is counted in and **corrects** the result; one that comes later still is **too late** for that window. Whether a window
//! takes a row depends on the row's time and the watermark that it met, on nothing else: the windows are therefore the same as if
//! they were computed again from the rows that were taken, in whatever order those came (`tests/windows.rs` does so after each step).
//!
//! ```text
//! tumbling  [0..10) [10..20) …            each instant in one window
//! sliding   [0..10) [5..15) [10..20) …    in size / step windows
//! session   [t₁ .. t₄ + gap)              rows less than a gap apart belong together; a row in between joins two
//! count     [t₁ .. t₃] [t₄ .. t₇]         so many rows in the order of their times; rows of one instant stay together
//! ```
//!
//! By count nothing is corrected: a row before the end of the window that closed last is too late, whatever the lateness, because all
//! windows behind it would move.
//!
//! Memory: windows are let go once nothing can correct them any more.

use std::collections::BTreeMap;

use kilter_types::Micros;
use serde::{Deserialize, Serialize};

/// How time is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// Windows of one size, one behind the other.
    Tumbling {
        /// Their length.
        size: Micros,
    },
    /// Windows of one size, one every `step`; a step no longer than the size.
    Sliding {
        /// Their length.
        size: Micros,
        /// From one beginning to the next.
        step: Micros,
    },
    /// Rows that are less than a gap apart.
    Session {
        /// The least silence between two sessions.
        gap: Micros,
    },
    /// So many rows, or a few more where the last instant has several.
    Count {
        /// How many.
        rows: u64,
    },
}

/// When a row came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arrival {
    /// Before its windows closed.
    OnTime,
    /// After one had closed; its result was corrected.
    Late,
    /// After all of them could be corrected.
    TooLate,
}

/// What is kept of a window's values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The smallest.
    pub min: f32,
    /// The largest.
    pub max: f32,
    /// Their sum.
    pub sum: f64,
}

/// A stretch of time, end excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// Begin.
    pub start: Micros,
    /// End.
    pub end: Micros,
}

/// What a window has to say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// It closed; its first result.
    Closed(Span, Summary),
    /// A late row changed the result of a window that had closed.
    Corrected(Span, Summary),
    /// A late row joined this session to another: what was told of it no longer holds.
    Retracted(Span),
}

/// The windows of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Windows {
    shape: Shape,
    lateness: Micros,
    /// By begin. By count: the window that closed last, and behind it the instants that none has taken yet.
    open: BTreeMap<Micros, Window>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Window {
    end: Micros,
    summary: Summary,
    closed: bool,
}

impl Summary {
    /// Of one value.
    pub fn of(value: f32) -> Self {
        Self { count: 1, min: value, max: value, sum: f64::from(value) }
    }

    /// Both together.
    pub fn join(self, other: Self) -> Self {
        Self {
            count: self.count + other.count,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
            sum: self.sum + other.sum,
        }
    }

    /// The mean.
    pub fn mean(&self) -> f32 {
        (self.sum / self.count.max(1) as f64) as f32
    }
}

impl Windows {
    /// No windows yet. `None` for a shape without length, or with steps longer than its windows.
    pub fn new(shape: Shape, lateness: Micros) -> Option<Self> {
        let fits = match shape {
            Shape::Tumbling { size } => size.0 > 0,
            Shape::Sliding { size, step } => step.0 > 0 && step <= size,
            Shape::Session { gap } => gap.0 > 0,
            Shape::Count { rows } => rows > 0,
        };
        (fits && lateness.0 >= 0).then(|| Self { shape, lateness, open: BTreeMap::new() })
    }

    /// Takes a value of event time `t` that met this watermark; what it changed in windows that had closed goes to `tell`.
    pub fn add(&mut self, t: Micros, value: f32, watermark: Option<Micros>, tell: &mut dyn FnMut(Told)) -> Arrival {
        // Farther than any machine will run; sums of times don't overflow on the way there.
        let t = Micros(t.0.clamp(-FAR_US, FAR_US));
        match self.shape {
            Shape::Tumbling { size } => self.add_to_fixed(t, value, (size, size), watermark, tell),
            Shape::Sliding { size, step } => self.add_to_fixed(t, value, (size, step), watermark, tell),
            Shape::Session { gap } => self.add_to_session(t, value, gap, watermark, tell),
            Shape::Count { .. } => self.add_by_count(t, value),
        }
    }

    /// The watermark moved: tells of windows that close and lets go of those that nothing can correct any more.
    pub fn advance(&mut self, watermark: Micros, tell: &mut dyn FnMut(Told)) {
        if let Shape::Count { rows } = self.shape {
            return self.close_by_count(rows, watermark, tell);
        }
        for (start, window) in &mut self.open {
            if !window.closed && window.end <= watermark {
                window.closed = true;
                tell(Told::Closed(Span { start: *start, end: window.end }, window.summary));
            }
        }
        let keep = self.keep();
        self.open.retain(|_, window| !sealed(window.end, keep, watermark));
    }

    /// The windows that can still change, oldest first, and whether each has closed.
    pub fn iter(&self) -> impl Iterator<Item = (Span, Summary, bool)> {
        let enough = if let Shape::Count { rows } = self.shape { rows } else { 0 };
        let mut entries = self.open.iter();
        std::iter::from_fn(move || {
            let (start, window) = entries.next()?;
            let (mut end, mut summary) = (window.end, window.summary);
            while !window.closed
                && summary.count < enough
                && let Some((_, more)) = entries.next()
            {
                (end, summary) = (more.end, summary.join(more.summary));
            }
            Some((Span { start: *start, end }, summary, window.closed))
        })
    }

    fn add_to_fixed(
        &mut self,
        t: Micros,
        value: f32,
        (size, step): (Micros, Micros),
        watermark: Option<Micros>,
        tell: &mut dyn FnMut(Told),
    ) -> Arrival {
        let last = t.0.div_euclid(step.0) * step.0;
        let (mut start, mut arrival) = (last, Arrival::TooLate);
        // From the last window that holds `t` back to the first.
        while start + size.0 > t.0 {
            let end = Micros(start + size.0);
            let closed = watermark.is_some_and(|mark| end <= mark);
            if !watermark.is_some_and(|mark| sealed(end, self.lateness, mark)) {
                let added = Summary::of(value);
                let window = self
                    .open
                    .entry(Micros(start))
                    .and_modify(|window| window.summary = window.summary.join(added))
                    .or_insert(Window { end, summary: added, closed });
                if closed {
                    window.closed = true;
                    tell(Told::Corrected(Span { start: Micros(start), end }, window.summary));
                }
                let now = if closed { Arrival::Late } else { Arrival::OnTime };
                arrival = if arrival == Arrival::TooLate { now } else { arrival.max(now) };
            }
            start -= step.0;
        }
        arrival
    }

    fn add_to_session(
        &mut self,
        t: Micros,
        value: f32,
        gap: Micros,
        watermark: Option<Micros>,
        tell: &mut dyn FnMut(Told),
    ) -> Arrival {
        let own_end = t + gap;
        if watermark.is_some_and(|mark| sealed(own_end, self.lateness, mark)) {
            return Arrival::TooLate;
        }
        let (mut span, mut summary) = (Span { start: t, end: own_end }, Summary::of(value));
        // Sessions that begin before this one would end, and end after it begins.
        let joined: Vec<Micros> = self
            .open
            .range(..own_end)
            .rev()
            .take_while(|(_, window)| window.end > t)
            .map(|(start, _)| *start)
            .collect();
        for start in joined {
            let Some(window) = self.open.remove(&start) else { continue };
            let end = span.end.max(window.end);
            if window.closed && (start, window.end) != (span.start.min(start), end) {
                tell(Told::Retracted(Span { start, end: window.end }));
            }
            span = Span { start: span.start.min(start), end };
            summary = summary.join(window.summary);
        }
        let closed = watermark.is_some_and(|mark| span.end <= mark);
        self.open.insert(span.start, Window { end: span.end, summary, closed });
        if closed {
            tell(Told::Corrected(span, summary));
            Arrival::Late
        } else {
            Arrival::OnTime
        }
    }

    fn add_by_count(&mut self, t: Micros, value: f32) -> Arrival {
        let last_closed = self.open.first_key_value().filter(|(_, window)| window.closed);
        if last_closed.is_some_and(|(_, window)| t < window.end) {
            return Arrival::TooLate;
        }
        let added = Summary::of(value);
        self.open.entry(t).and_modify(|instant| instant.summary = instant.summary.join(added)).or_insert(Window {
            end: t + Micros(1),
            summary: added,
            closed: false,
        });
        Arrival::OnTime
    }

    fn close_by_count(&mut self, rows: u64, watermark: Micros, tell: &mut dyn FnMut(Told)) {
        loop {
            let next = self.iter().find(|(_, _, closed)| !closed);
            let due = next.filter(|(span, summary, _)| summary.count >= rows && span.end <= watermark);
            let Some((span, summary, _)) = due else { return };
            // Its instants and the window before it go; it stays, to tell what is too late.
            self.open = self.open.split_off(&span.end);
            self.open.insert(span.start, Window { end: span.end, summary, closed: true });
            tell(Told::Closed(span, summary));
        }
    }

    /// How long after its end a window is kept: as long as a row that is taken can touch it.
    fn keep(&self) -> Micros {
        match self.shape {
            Shape::Tumbling { .. } | Shape::Sliding { .. } => self.lateness,
            Shape::Session { gap } => self.lateness + gap,
            Shape::Count { .. } => Micros(0),
        }
    }
}

/// Can nothing change any more what ended then?
fn sealed(end: Micros, keep: Micros, watermark: Micros) -> bool {
    end + keep <= watermark
}

const FAR_US: i64 = 1 << 60;
