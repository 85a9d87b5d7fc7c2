//! Errors as problem+json: what went wrong and what to do, for people and programs.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// An expected error.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{what} is not known here"))
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The lab is away, has its hands full or refused; the hot half goes on.
    pub(crate) fn lab(error: &anyhow::Error) -> Self {
        let text = format!("{error:#}");
        let status = match text.split_once(':').map_or(text.as_str(), |(first, _)| first) {
            "the lab is away" => StatusCode::SERVICE_UNAVAILABLE,
            "the lab is busy" => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self::new(status, text)
    }
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let title = self.status.canonical_reason().unwrap_or("error");
        let body = json!({ "status": self.status.as_u16(), "title": title, "detail": self.detail });
        let mut answer =
            (self.status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response();
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
        }
        answer
    }
}

/// Most questions are answered in less.
const RETRY_AFTER_SECS: &str = "2";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_19_a_busy_lab_is_429_with_a_time_to_come_back_and_no_other_answer_is() {
        for (said, status, retry) in [
            ("the lab is busy: 4 questions are being answered and 16 wait; ask again in a moment", 429, Some("2")),
            ("the lab is away: no word from it for 60 s", 503, None),
            ("failed to answer within 30 s: the lab is busy", 422, None),
            ("no such table", 422, None),
        ] {
            let answer = Problem::lab(&anyhow::anyhow!("{said}")).into_response();
            let found = answer.headers().get(header::RETRY_AFTER).map(|value| value.as_bytes());
            assert_eq!((answer.status().as_u16(), found), (status, retry.map(str::as_bytes)), "{said}");
        }
    }
}
