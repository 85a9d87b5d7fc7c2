//! The page: files that are part of the program; nothing is loaded from anywhere else.

use axum::extract::Path;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::Problem;

pub(super) async fn index() -> Response {
    file("index.html").unwrap_or_else(|| Problem::not_found("the page").into_response())
}

/// A file by its path; paths of views are the page itself, so that every view is a link.
pub(super) async fn asset(Path(path): Path<String>) -> Response {
    match file(&path) {
        Some(response) => response,
        None if VIEWS.iter().any(|view| path.starts_with(view)) => index().await,
        None => Problem::not_found(&format!("/{path}")).into_response(),
    }
}

fn file(path: &str) -> Option<Response> {
    let (_, kind, bytes) = FILES.iter().find(|(name, ..)| *name == path)?;
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    Some((StatusCode::OK, headers, *bytes).into_response())
}

const VIEWS: [&str; 4] = ["machine/", "alarms", "models", "data"];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Every file of the page.
const FILES: &[(&str, &str, &[u8])] = &[
    ("index.html", "text/html; charset=utf-8", include_bytes!("../../ui/index.html")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("../../ui/style.css")),
    ("app.js", "text/javascript; charset=utf-8", include_bytes!("../../ui/app.js")),
];
