//! History: what was measured, asked with SQL or gathered for training. Polars lives here and nowhere else.
//!
//! A question reads a [`View`] of each table: a pinned version of the lake, and the journal's tail beyond it as plain columns.
//! The seam between the two is the offset that the version carries, so that no row is missing or doubled. What goes out is
//! plain as well: JSON for people ([`query`]), `f32` with a shape for training ([`Frame`]).
//!
//! Limits: an answer has a most of rows and says when it was cut; a training frame is held in memory.

mod derive;
mod drift;
mod error;
mod formula;
mod frame;
mod healthy;
mod life;
mod plain;
mod query;
mod recorded;
mod rolling;
mod sql;
mod view;

pub use derive::{Carry, Derivation, derive, schema_of};
pub use drift::{FeatureDrift, drift};
pub use error::HistoryError;
pub use formula::{Formula, MOST_ROWS_BACK};
pub use frame::{Asset, Frame, Frames, Selection, asset_classes, frames};
pub use healthy::{Exclusions, Interval, Verdict};
pub use life::{Lives, RunToFailure, lives, says_failed};
pub use query::{Answer, DERIVED, Derived, Scanned, query, query_named, query_with};
pub use recorded::{Recorded, RecordedScore, ScoresOf, Stream, Window, recorded_scores, recorded_windows};
pub use rolling::{Rolled, rolling};
pub use view::View;
