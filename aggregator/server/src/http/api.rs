//! The JSON API.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use kilter_live::AssetKey;
use kilter_types::{Cause, DeviceId, Event, Label, MAX_WHO, Micros, Name, Point, Who};
use kilter_wire::{Command, CommandKind, Down};
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::Problem;
use super::principal::Principal;
use crate::clock;

type Answer = Result<Json<Value>, Problem>;

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(app): State<App>) -> Result<&'static str, Problem> {
    if app.store.failed() {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the journal has failed; restart after mending its disk",
        ));
    }
    Ok("ready\n")
}

pub(super) async fn fleet(_: Principal, State(app): State<App>) -> Answer {
    let mut view = to_json(&app.store.state().live.fleet(clock::now()))?;
    view["enrolled"] = json!(app.catalogue.devices());
    view["journal_bytes"] = json!(app.store.bytes());
    view["lag_bytes"] = json!(app.store.next_offset().saturating_sub(app.sessions.lab_offset()));
    Ok(Json(view))
}

pub(super) async fn machine(
    _: Principal,
    State(app): State<App>,
    Path((tenant, site, asset)): Path<(String, String, String)>,
) -> Answer {
    let key = asset_key(&tenant, &site, &asset)?;
    let view = app.store.state().live.machine_view(&key, clock::now());
    let view = view.ok_or_else(|| Problem::not_found(&format!("machine {tenant}/{site}/{asset}")))?;
    Ok(Json(to_json(&view)?))
}

pub(super) async fn alarms(_: Principal, State(app): State<App>) -> Answer {
    Ok(Json(json!({ "alarms": app.store.state().live.alarm_views() })))
}

pub(super) async fn acknowledge(who: Principal, State(app): State<App>, Path(key): Path<String>) -> Answer {
    let now = clock::now();
    if !app.store.state_mut().live.alarms_mut().acknowledge(&key, &who.who, now) {
        return Err(Problem::not_found(&format!("alarm {key}")));
    }
    app.catalogue.audit(&who.who, "acknowledge", &key, now).await?;
    app.feed.alarm(&app.store, &key);
    Ok(Json(json!({ "acknowledged": key, "by": who.who })))
}

/// A person's judgement on a range of time of one machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabelRequest {
    point: String,
    from_us: i64,
    to_us: i64,
    /// `healthy`, or a cause.
    label: String,
}

pub(super) async fn label(who: Principal, State(app): State<App>, Json(request): Json<LabelRequest>) -> Answer {
    let label = match request.label.as_str() {
        "healthy" => Label::Healthy,
        cause => Label::Faulty(
            serde_json::from_value::<Cause>(json!(cause)).map_err(|error| Problem::bad(format!("label: {error}")))?,
        ),
    };
    if request.to_us <= request.from_us {
        return Err(Problem::bad("to_us must lie after from_us"));
    }
    let event = Event::Labelled { from: Micros(request.from_us), to: Micros(request.to_us), label };
    send_event(&app, &who, &request.point, event, "label").await
}

/// Maintenance that was done.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaintenanceRequest {
    point: String,
    what: Name,
}

pub(super) async fn maintenance(
    who: Principal,
    State(app): State<App>,
    Json(request): Json<MaintenanceRequest>,
) -> Answer {
    send_event(&app, &who, &request.point, Event::Maintenance { what: request.what }, "maintenance").await
}

/// Of which machine a raw clip is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClipRequest {
    tenant: Name,
    site: Name,
    asset: Name,
}

/// Asks the machine's node for a raw clip; it comes as records of class clip, within the node's daily budget.
pub(super) async fn clip(who: Principal, State(app): State<App>, Json(request): Json<ClipRequest>) -> Answer {
    let ClipRequest { tenant, site, asset } = request;
    let ask = Ask { what: "clip", kind: CommandKind::Clip { asset: asset.clone() }, id: None, secs: 60 };
    send_command(&app, &who, AssetKey { tenant, site, asset }, ask).await
}

/// Which machine's latched alarms and trips are to be released.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResetRequest {
    tenant: Name,
    site: Name,
    asset: Name,
    /// The same id again is the same reset: it is done once.
    id: Option<u64>,
    /// Not to be done after so many seconds.
    #[serde(default = "reset_secs")]
    expires_secs: u32,
}

/// Asks the machine's agent to release it in this person's name. The agent refuses unless its own configuration allows it
/// (`alarm.remote_reset`); nothing but a request of a person comes this way.
pub(super) async fn reset(who: Principal, State(app): State<App>, Json(request): Json<ResetRequest>) -> Answer {
    let ResetRequest { tenant, site, asset, id, expires_secs: secs } = request;
    if !(1..=MOST_RESET_SECS).contains(&secs) {
        return Err(Problem::bad(format!("expires_secs must be 1 to {MOST_RESET_SECS}")));
    }
    let by = Who::new(&who.who).ok_or_else(|| {
        Problem::bad(format!(
            "{:?} can't stand in a record: a token's name for this has at most {MAX_WHO} bytes",
            who.who
        ))
    })?;
    let ask = Ask { what: "reset", kind: CommandKind::ResetBy { asset: asset.clone(), by }, id, secs };
    send_command(&app, &who, AssetKey { tenant, site, asset }, ask).await
}

pub(super) async fn models(_: Principal, State(app): State<App>) -> Answer {
    Ok(Json(to_json(&app.fleet.view())?))
}

/// What to train.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct TrainRequest {
    asset_class: Option<Name>,
    seed: Option<u64>,
}

pub(super) async fn train(who: Principal, State(app): State<App>, Json(request): Json<TrainRequest>) -> Answer {
    app.catalogue.audit(&who.who, "train", &format!("{:?}", request.asset_class), clock::now()).await?;
    let ask = json!({ "op": "train", "reason": "command", "asset_class": request.asset_class, "seed": request.seed });
    let answer = app.lab.ask(&ask, |progress| app.feed.run(&progress)).await;
    answer.map(Json).map_err(|error| Problem::lab(&error))
}

/// What to take back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RollbackRequest {
    asset_class: Name,
    #[serde(default)]
    why: String,
}

pub(super) async fn rollback(who: Principal, State(app): State<App>, Json(request): Json<RollbackRequest>) -> Answer {
    let why = if request.why.is_empty() { "asked for" } else { &request.why };
    let generation = app.fleet.roll_back(&request.asset_class, &who.who, why).await?;
    Ok(Json(json!({ "generation": generation })))
}

/// What to ask history.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryRequest {
    sql: String,
    /// As the lake stood then, by the lab's clock.
    as_of_us: Option<i64>,
}

pub(super) async fn query(_: Principal, State(app): State<App>, Json(request): Json<QueryRequest>) -> Answer {
    let ask = json!({ "op": "query", "sql": request.sql, "as_of_us": request.as_of_us });
    app.lab.ask(&ask, drop).await.map(Json).map_err(|error| Problem::lab(&error))
}

/// Which range to account for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CompletenessRequest {
    point: String,
    from: i64,
    to: i64,
}

pub(super) async fn completeness(
    _: Principal,
    State(app): State<App>,
    Query(request): Query<CompletenessRequest>,
) -> Answer {
    let ask = json!({ "op": "completeness", "point": request.point, "from": request.from, "to": request.to });
    app.lab.ask(&ask, drop).await.map(Json).map_err(|error| Problem::lab(&error))
}

/// Of what the edge is to be asked again.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RefetchRequest {
    point: Option<String>,
    device: Option<DeviceId>,
    from: i64,
    to: i64,
    #[serde(default)]
    why: String,
}

/// Has the edge asked for what the lake lost of a range. The lab finds what that is; the nodes are asked until it has come.
pub(super) async fn refetch(who: Principal, State(app): State<App>, Json(request): Json<RefetchRequest>) -> Answer {
    let RefetchRequest { point, device, from, to, why } = request;
    if to < from {
        return Err(Problem::bad("the time ends before it begins"));
    }
    let served_by = match &point {
        Some(text) => {
            let point = Point::parse(text).map_err(|error| Problem::bad(format!("point {text:?}: {error}")))?;
            // When nothing is left of a point in the lake, the page still knows its node.
            app.store.state().live.machine(&AssetKey::of(&point)).map(|machine| machine.device.clone())
        }
        None => None,
    };
    let device = device.or(served_by);
    let why = if why.is_empty() { "asked for".to_owned() } else { why };
    let detail = format!(
        "{} {} {from}..{to}: {why}",
        point.as_deref().unwrap_or("-"),
        device.as_ref().map_or("-", |device| device.as_str())
    );
    app.catalogue.audit(&who.who, "refetch", &detail, clock::now()).await?;
    let asked = json!({ "point": point, "device": device, "from": from, "to": to });
    let ask = json!({ "op": "refetch", "asked": asked, "who": who.who, "why": why });
    let mut told = app.lab.ask(&ask, drop).await.map_err(|error| Problem::lab(&error))?;
    let wanted = told["wanted"].as_array().into_iter().flatten();
    let devices: BTreeMap<String, &str> = wanted
        .filter_map(|range| range["device"].as_str())
        .map(|device| (device.to_owned(), app.sessions.can_be_asked(device)))
        .collect();
    told["devices"] = json!(devices);
    Ok(Json(told))
}

/// Which trend over a long range.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrendRequest {
    point: String,
    /// features or scores; features if not told.
    of: Option<String>,
    /// 60, 3600 or 86400.
    step_s: u32,
    from: i64,
    to: i64,
}

pub(super) async fn trend(_: Principal, State(app): State<App>, Query(request): Query<TrendRequest>) -> Answer {
    let TrendRequest { point, of, step_s, from, to } = request;
    let of = of.unwrap_or_else(|| "features".into());
    let ask = json!({ "op": "trend", "point": point, "of": of, "step_s": step_s, "from": from, "to": to });
    app.lab.ask(&ask, drop).await.map(Json).map_err(|error| Problem::lab(&error))
}

pub(super) async fn lab(_: Principal, State(app): State<App>) -> Answer {
    app.lab.ask(&json!({ "op": "status" }), drop).await.map(Json).map_err(|error| Problem::lab(&error))
}

/// A command for one machine.
struct Ask {
    what: &'static str,
    kind: CommandKind,
    id: Option<u64>,
    secs: u32,
}

/// Sends a command to the node of a machine; how it ended is audited when the node says it.
async fn send_command(app: &App, who: &Principal, key: AssetKey, ask: Ask) -> Answer {
    let now = clock::now();
    let device = app.store.state().live.machine(&key).map(|machine| machine.device.clone());
    let AssetKey { tenant, site, asset } = key;
    let device = device.ok_or_else(|| Problem::not_found(&format!("machine {tenant}/{site}/{asset}")))?;
    let node = app.sessions.principals().remove(&device).ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("node {device} is away; say it again when it is back"))
    })?;
    let Ask { what, kind, id, secs } = ask;
    let id = id.unwrap_or(now.0.unsigned_abs());
    let expires = now + Micros::from_secs(i64::from(secs));
    app.catalogue.audit(&who.who, what, &format!("{tenant}/{site}/{asset} command {id}"), now).await?;
    app.sessions.command(&node, Command { id, expires, kind });
    Ok(Json(json!({ "command": id, "device": device, "expires_us": expires.0 })))
}

/// Tells the node, which records the event: like everything else it comes back through the journal.
async fn send_event(app: &App, who: &Principal, point: &str, event: Event, what: &str) -> Answer {
    let point = Point::parse(point).map_err(|error| Problem::bad(format!("point {point:?}: {error}")))?;
    let device = {
        let state = app.store.state();
        let machine = state.live.machine(&AssetKey::of(&point));
        machine
            .map(|machine| machine.device.clone())
            .ok_or_else(|| Problem::not_found(&format!("machine of {point}")))?
    };
    let principal = app.sessions.principals().remove(&device).ok_or_else(|| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("node {device} is away; say it again when it is back"))
    })?;
    app.catalogue.audit(&who.who, what, &point.to_string(), clock::now()).await?;
    app.sessions.send(&principal, &Down::Event { point, event });
    Ok(Json(json!({ "sent_to": device })))
}

fn reset_secs() -> u32 {
    60
}

fn asset_key(tenant: &str, site: &str, asset: &str) -> Result<AssetKey, Problem> {
    let name = |text: &str| Name::new(text).map_err(|error| Problem::bad(format!("{text:?}: {error}")));
    Ok(AssetKey { tenant: name(tenant)?, site: name(site)?, asset: name(asset)? })
}

fn to_json(value: &impl serde::Serialize) -> Result<Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

/// Nobody remembers for longer what they asked for.
const MOST_RESET_SECS: u32 = 300;
