//! Errors as problem details (RFC 9457), with a fix.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// An error for whoever asked.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    fix: String,
    /// The fix for users of `ringmq ctl`, if it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    ctl: Option<&'static str>,
}

impl Problem {
    /// What is wrong, and what to do about it.
    pub(super) fn new(
        status: StatusCode,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Problem {
        Problem {
            title: status.canonical_reason().unwrap_or("error"),
            status: status.as_u16(),
            detail: detail.into(),
            fix: fix.into(),
            ctl: None,
        }
    }

    /// What is wrong.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// What to do about it with `ringmq ctl`.
    pub(super) fn for_ctl(self, fix: &'static str) -> Problem {
        Problem {
            ctl: Some(fix),
            ..self
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).expect("it was one");
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        (status, kind, Json(self)).into_response()
    }
}
