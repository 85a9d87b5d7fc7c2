//! The control API: what a person could do to a machine while it runs, over HTTP with JSON.
//!
//! `GET /status`, `GET /truth`, `POST /fault`, `POST /load`, `POST /speed`, `POST /end`. It has no authentication and belongs on
//! loopback.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use kilter_machine::{FaultChange, FaultKind, Growth, LoadChange, SpecError};
use kilter_types::Name;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::asset::Asset;
use crate::ledger::Line;
use crate::stage::Stage;

/// Answers commands until the process ends.
pub(crate) async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    let router = Router::new()
        .route("/status", get(status))
        .route("/truth", get(truth))
        .route("/fault", post(fault))
        .route("/load", post(load))
        .route("/speed", post(speed))
        .route("/end", post(end))
        .with_state(stage);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "control API stopped");
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultCommand {
    asset: Name,
    kind: FaultKind,
    severity: f64,
    #[serde(default)]
    growth_s: f64,
    #[serde(default)]
    growth: Growth,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadCommand {
    asset: Name,
    rpm: f64,
    load: f64,
    #[serde(default)]
    ramp_s: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpeedCommand {
    speed: f64,
}

type Refusal = (StatusCode, Json<Value>);

async fn status(State(stage): State<Arc<Stage>>) -> Json<Value> {
    let assets: Vec<_> = stage.assets.values().map(|asset| asset.standing()).collect();
    Json(json!({ "assets": assets }))
}

async fn truth(State(stage): State<Arc<Stage>>) -> Json<Value> {
    let truth = |asset: &Arc<Asset>| asset.truth().map(|truth| json!({ "asset": asset.name, "truth": truth }));
    Json(json!({ "machines": stage.assets.values().filter_map(truth).collect::<Vec<_>>() }))
}

async fn fault(State(stage): State<Arc<Stage>>, body: String) -> Result<Json<Value>, Refusal> {
    let command: FaultCommand = parse(&body)?;
    let FaultCommand { kind, severity, growth_s, growth, .. } = command;
    let asset = find(&stage, &command.asset)?;
    let outcome = asset.set_fault(FaultChange { kind, start_s: 0.0, growth_s, severity, growth });
    answer(&stage, asset, outcome, &json!(command))
}

async fn load(State(stage): State<Arc<Stage>>, body: String) -> Result<Json<Value>, Refusal> {
    let command: LoadCommand = parse(&body)?;
    let LoadCommand { rpm, load, ramp_s, .. } = command;
    let asset = find(&stage, &command.asset)?;
    let outcome = asset.set_load(LoadChange { at_s: 0.0, rpm, load, ramp_s });
    answer(&stage, asset, outcome, &json!(command))
}

async fn speed(State(stage): State<Arc<Stage>>, body: String) -> Result<Json<Value>, Refusal> {
    let SpeedCommand { speed } = parse(&body)?;
    if !(1e-3..=1e6).contains(&speed) {
        return Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, "a speed is a number from 0.001 to 1000000"));
    }
    stage.pace.set_speed(speed);
    Ok(Json(json!({ "speed": speed })))
}

async fn end(State(stage): State<Arc<Stage>>) -> Json<Value> {
    stage.assets.values().for_each(|asset| asset.end_now(&stage.ledger));
    status(State(stage)).await
}

fn answer(
    stage: &Stage,
    asset: &Asset,
    outcome: Option<Result<f64, SpecError>>,
    command: &Value,
) -> Result<Json<Value>, Refusal> {
    match outcome {
        Some(Ok(t_s)) => {
            let t_us = asset.start_us().saturating_add((t_s * 1e6).round() as i64);
            stage.ledger.log(&Line::Commanded { asset: &asset.name, t_us, command });
            Ok(Json(json!({ "asset": asset.name, "starts_s": t_s, "starts_us": t_us })))
        }
        Some(Err(error)) => Err(refuse(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string())),
        None => Err(refuse(StatusCode::CONFLICT, "a recording takes no commands")),
    }
}

fn find<'s>(stage: &'s Stage, name: &Name) -> Result<&'s Arc<Asset>, Refusal> {
    stage.assets.get(name).ok_or_else(|| {
        let known: Vec<&str> = stage.assets.keys().map(Name::as_str).collect();
        refuse(StatusCode::NOT_FOUND, &format!("no asset {name}; there are {}", known.join(", ")))
    })
}

fn parse<T: for<'de> Deserialize<'de>>(body: &str) -> Result<T, Refusal> {
    serde_json::from_str(body).map_err(|error| refuse(StatusCode::BAD_REQUEST, &error.to_string()))
}

fn refuse(status: StatusCode, reason: &str) -> Refusal {
    (status, Json(json!({ "error": reason })))
}
