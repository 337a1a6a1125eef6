//! The routes.

use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router, middleware};
use ringmq_core::shard::{Answer, Ask, Disconnected};
use serde::Deserialize;
use serde_json::json;
use tracing::info;

use super::guard::{Caller, guard};
use super::listing::{self, ClientsQuery};
use super::live;
use super::metrics::{self, Form, Place};
use super::page;
use super::problem::Problem;
use super::scene::Scene;
use super::server::HEAD_SIZE_MAX;
use super::view::{BrokerView, ClientView, ShardView};
use super::{Control, Role};

type Shared = State<Arc<Control>>;

/// Everything that is answered, behind the guard.
pub(super) fn router(control: Arc<Control>) -> Router {
    let router = Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(small_metrics))
        .route("/metrics/shards", get(shard_metrics))
        .route("/api/v1/broker", get(broker))
        .route("/api/v1/shards", get(shards))
        .route("/api/v1/clients", get(clients))
        .route("/api/v1/clients/{id}", get(client))
        .route("/api/v1/clients/{id}/disconnect", post(disconnect))
        .route("/api/v1/config", get(config));
    let router = match control.has_page {
        true => page::add_to(router.route("/api/v1/live", get(watch))),
        false => router,
    };
    router
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(HEAD_SIZE_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), guard))
        .with_state(control)
}

async fn ready(State(control): Shared) -> Response {
    let scene = Scene::look(&control).await;
    if scene.is_ready() {
        return "ready\n".into_response();
    }
    let mut why = String::new();
    if scene.is_stopping {
        why += "not ready: the broker is stopping\n";
    }
    for (index, shard) in scene.shards.iter().enumerate() {
        if !shard.is_responding {
            why += &format!("not ready: shard {index} does not answer\n");
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

async fn small_metrics(State(control): Shared, headers: HeaderMap) -> Response {
    render(&control, Place::Small, &headers).await
}

async fn shard_metrics(State(control): Shared, headers: HeaderMap) -> Response {
    render(&control, Place::Shards, &headers).await
}

async fn render(control: &Control, place: Place, headers: &HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let form = Form::of(accept.unwrap_or_default());
    let scene = Scene::look(control).await;
    let text = metrics::render(&scene, place, form);
    ([(header::CONTENT_TYPE, form.content_type())], text).into_response()
}

async fn broker(State(control): Shared) -> Json<BrokerView> {
    Json(BrokerView::of(&Scene::look(&control).await))
}

async fn shards(State(control): Shared) -> Response {
    let scene = Scene::look(&control).await;
    let shards = scene.shards.iter().enumerate().map(ShardView::of);
    let shards: Vec<ShardView> = shards.collect();
    Json(json!({"shards": shards})).into_response()
}

async fn config(State(control): Shared) -> Response {
    let settings = control.facts.settings.load();
    Json(json!({"settings": &**settings})).into_response()
}

async fn watch(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Extension(role): Extension<Role>,
) -> Result<Response, Problem> {
    live::stream(&control, (&caller, role))
}

async fn clients(
    State(control): Shared,
    query: Result<Query<ClientsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| {
        let fix = "the parameters are connected, prefix, user, queued_min, limit and cursor";
        Problem::new(StatusCode::BAD_REQUEST, error.body_text(), fix)
    })?;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let form = match accept.is_some_and(|accept| accept.contains("application/x-ndjson")) {
        true => listing::Form::Lines,
        false => listing::Form::Json,
    };
    listing::list(control, query, form)
}

async fn client(
    State(control): Shared,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ClientView>, Problem> {
    let client_id = read_id(id)?;
    let ask = Ask::Session {
        client_id: client_id.as_str().into(),
    };
    let shard = control.asker.home_of(&client_id);
    match control.asker.ask_one(shard, ask).await {
        Some(Answer::Session(Some(row))) => Ok(Json(ClientView::of(shard.index(), *row))),
        Some(Answer::Session(None)) => Err(no_such_client(&client_id)),
        Some(Answer::Report(_) | Answer::Sessions(_) | Answer::Disconnect(_)) | None => {
            Err(no_answer(shard.index()))
        }
    }
}

/// How a client is to be disconnected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DisconnectOrder {
    /// Publish its will.
    #[serde(default = "yes")]
    will: bool,
}

fn yes() -> bool {
    true
}

async fn disconnect(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
    order: Result<Json<DisconnectOrder>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Problem> {
    let client = read_id(id)?;
    let Json(order) = order.map_err(|error| {
        Problem::new(
            error.status(),
            error.body_text(),
            "send {} or {\"will\": false}",
        )
    })?;
    let ask = Ask::Disconnect {
        client_id: client.as_str().into(),
        with_will: order.will,
    };
    let shard = control.asker.home_of(&client);
    let answer = control.asker.ask_one(shard, ask).await;
    let outcome = match answer {
        Some(Answer::Disconnect(outcome)) => outcome,
        Some(Answer::Report(_) | Answer::Sessions(_) | Answer::Session(_)) | None => {
            info!(target: "ringmq::admin", caller, client, "disconnect: the shard does not answer");
            return Err(no_answer(shard.index()));
        }
    };
    info!(target: "ringmq::admin", caller, client, with_will = order.will, ?outcome, "disconnect");
    match outcome {
        Disconnected::Done => Ok(Json(json!({"disconnected": client}))),
        Disconnected::Away => {
            let what = format!("{client:?} has a session, and is not connected");
            let fix = "there is nothing to disconnect";
            Err(Problem::new(StatusCode::CONFLICT, what, fix))
        }
        Disconnected::Unknown => Err(no_such_client(&client)),
    }
}

fn read_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(id) = id.map_err(|error| {
        let fix = "write the client identifier percent-encoded";
        Problem::new(error.status(), error.body_text(), fix)
    })?;
    Ok(id)
}

fn no_such_client(client: &str) -> Problem {
    let what = format!("there is no session of {client:?}");
    let fix = "GET /api/v1/clients lists all; identifiers are percent-encoded in paths";
    Problem::new(StatusCode::NOT_FOUND, what, fix)
}

fn no_answer(shard: usize) -> Problem {
    let what = format!("shard {shard} does not answer");
    let fix = "try again; GET /readyz says which shards answer";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, what, fix)
}

async fn unknown_route(request: Request) -> Problem {
    let what = format!("there is nothing at {}", request.uri().path());
    let fix = "docs/operations.md lists the routes";
    Problem::new(StatusCode::NOT_FOUND, what, fix)
}

async fn wrong_method(request: Request) -> Problem {
    let what = format!("{} does nothing here", request.method());
    let fix = "GET reads, POST changes something";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, what, fix)
}
