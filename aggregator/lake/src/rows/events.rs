//! What the table of events holds of alarms, events and everything else that has a record of its own there.

use kilter_text::{to_json, word};
use kilter_types::{Alarm, AlarmState, Event, Label, Payload};

use super::RowWriter;

/// The columns of `events`, before they are written in order.
#[derive(Default)]
pub(super) struct EventRow {
    pub(super) kind: &'static str,
    pub(super) event: Option<&'static str>,
    pub(super) alarm: Option<(i64, String, String, String, &'static str)>,
    pub(super) model: Option<String>,
    pub(super) group: Option<i32>,
    pub(super) window: Option<i64>,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) label: Option<String>,
}

impl EventRow {
    pub(super) fn of(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    pub(super) fn alarm(alarm: &Alarm) -> Self {
        let state = match alarm.state {
            AlarmState::Raised => "raised",
            AlarmState::Changed => "changed",
            AlarmState::Cleared => "cleared",
        };
        Self {
            alarm: Some((
                i64::from(alarm.id),
                state.into(),
                word(&alarm.severity),
                word(&alarm.source),
                alarm.cause.as_str(),
            )),
            model: Some(alarm.model.to_string()),
            group: Some(i32::from(alarm.input.group)),
            window: Some(alarm.input.index as i64),
            from: Some(alarm.since.0),
            ..Self::of("alarm")
        }
    }

    pub(super) fn event(event: &Event) -> Self {
        let of = |name| Self { event: Some(name), ..Self::of("event") };
        match event {
            Event::Commissioned { from, to } => Self { from: Some(from.0), to: Some(to.0), ..of("commissioned") },
            Event::NewRegime { bin } => Self { label: Some(bin.to_string()), ..of("new_regime") },
            Event::Drift { model, .. } => Self { model: Some(model.to_string()), ..of("drift") },
            Event::ModelSwitched { to, first, .. } => Self {
                model: Some(to.to_string()),
                group: Some(i32::from(first.group)),
                window: Some(first.index as i64),
                ..of("model_switched")
            },
            Event::ModelRefused { model, reason } => {
                Self { model: Some(model.to_string()), label: Some(reason.to_string()), ..of("model_refused") }
            }
            Event::Maintenance { what } => Self { label: Some(what.to_string()), ..of("maintenance") },
            Event::Reset { by } => Self { label: Some(by.to_string()), ..of("reset") },
            Event::Labelled { from, to, label } => Self {
                from: Some(from.0),
                to: Some(to.0),
                label: Some(match label {
                    Label::Healthy => "healthy".into(),
                    Label::Faulty(cause) => format!("faulty:{}", cause.as_str()),
                }),
                ..of("labelled")
            },
        }
    }
}

pub(super) fn event(row: &mut RowWriter<'_>, event: &EventRow, payload: &Payload) {
    let alarm = event.alarm.as_ref();
    row.text("kind", event.kind);
    row.text("event", event.event);
    row.int64("alarm_id", alarm.map(|alarm| alarm.0));
    row.text("alarm_state", alarm.map(|alarm| alarm.1.as_str()));
    row.text("severity", alarm.map(|alarm| alarm.2.as_str()));
    row.text("source", alarm.map(|alarm| alarm.3.as_str()));
    row.text("cause", alarm.map(|alarm| alarm.4));
    row.text("model", event.model.as_deref());
    row.int32("group", event.group);
    row.int64("window_index", event.window);
    row.int64("from_us", event.from);
    row.int64("to_us", event.to);
    row.text("label", event.label.as_deref());
    row.text("json", to_json(payload).as_str());
}
