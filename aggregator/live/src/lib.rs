//! The present: what each machine is like now, which alarms are open, and how things have gone lately.
//!
//! [`Live::apply`] takes what the fold gives and nothing else; time comes in as `now` when a view is drawn. Latest is latest
//! by event time, so back-filled history never overwrites a newer value. Everything is bounded: rings per point, a week of
//! ten-minute roll-ups of the leading features, 256 bins of each series of scores (where it is heading), and the last
//! [`MAX_CLOSED_ALARMS`] closed alarms. The whole state is snapshotted with the journal offset that it stands for.

mod alarm;
mod forget;
mod live;
mod machine;
mod outlook;
mod run;
mod trend;
mod view;
mod watermark;
mod window;

pub use alarm::{AlarmBook, AlarmEntry, AlarmStep, MAX_CLOSED_ALARMS};
pub use live::{Change, Live, SnapshotError};
pub use machine::{AssetKey, GroupState, Machine, ModelState, PointState, ScorePoint};
pub use outlook::{Fan, Limit, MAX_SERIES, Outlook, Outlooks, Step};
pub use run::Runs;
pub use trend::{Bucket, RollUp, Sample};
pub use view::{
    AlarmView, ContributionView, DeviceView, EvidenceView, FleetRow, FleetView, LatestView, LimitView, MachineView,
    ModelView, OutlookStep, OutlookView, RunView, SpectrumView, TrendView,
};
pub use watermark::{Allowance, Watermarks};
pub use window::{Arrival, Shape, Span, Summary, Told, Windows};
