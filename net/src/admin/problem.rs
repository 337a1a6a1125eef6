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
