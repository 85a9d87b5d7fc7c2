//! Features that people define over the past: the lab does the work, the audit says who wanted it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};

use super::App;
use super::error::Problem;
use super::principal::Principal;
use crate::clock;

/// What is wanted; the lab knows the words.
#[derive(Deserialize)]
pub(super) struct Request {
    #[serde(default)]
    why: String,
    /// `do` and what belongs to it.
    #[serde(flatten)]
    wish: Value,
}

/// Defines, computes, drops.
pub(super) async fn change(
    who: Principal,
    State(app): State<App>,
    Json(Request { why, wish }): Json<Request>,
) -> Result<Json<Value>, Problem> {
    let why = if why.trim().is_empty() { "asked for".to_owned() } else { why };
    app.catalogue.audit(&who.who, "reprocess", &format!("{wish}: {why}"), clock::now()).await?;
    let ask = json!({ "op": "reprocess", "wish": wish, "who": who.who, "why": why });
    app.lab.ask(&ask, drop).await.map(Json).map_err(|error| Problem::lab(&error))
}

/// Tells every definition and how far it is.
pub(super) async fn list(who: Principal, State(app): State<App>) -> Result<Json<Value>, Problem> {
    let ask = json!({ "op": "reprocess", "wish": { "do": "list" }, "who": who.who, "why": "a look" });
    app.lab.ask(&ask, drop).await.map(Json).map_err(|error| Problem::lab(&error))
}
