//! What is answered about the broker, its clients and who is subscribed.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use ringmq_core::shard::{Answer, Ask, Disconnected, SessionFilter, Whose};
use ringmq_core::topic::{TopicFilter, TopicLimits, TopicName};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;
use tracing::info;

use super::guard::Caller;
use super::gzip::{self, Effort};
use super::listing::{self, Span};
use super::live;
use super::metrics::{self, Form, Place};
use super::problem::Problem;
use super::scene::Scene;
use super::subject::Subject;
use super::view::{BrokerView, ClientView, ShardView};
use super::{Control, Role, top};

type Shared = State<Arc<Control>>;

pub(super) async fn ready(State(control): Shared) -> Response {
    let scene = Scene::look(&control).await;
    if scene.is_ready() {
        return "ready\n".into_response();
    }
    let mut why = String::new();
    if scene.is_stopping {
        why += "not ready: the broker is stopping\n";
    }
    if scene.is_draining {
        why += "not ready: the broker is being drained\n";
    }
    for (index, shard) in scene.shards.iter().enumerate() {
        if !shard.is_responding {
            why += &format!("not ready: shard {index} does not answer\n");
        }
    }
    (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
}

pub(super) async fn small_metrics(State(control): Shared, headers: HeaderMap) -> Response {
    render(&control, Place::Small, &headers).await
}

pub(super) async fn shard_metrics(State(control): Shared, headers: HeaderMap) -> Response {
    render(&control, Place::Shards, &headers).await
}

async fn render(control: &Control, place: Place, headers: &HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let form = Form::of(accept.unwrap_or_default());
    let scene = Scene::look(control).await;
    let text = metrics::render(&scene, place, form);
    let is_zipped = gzip::is_accepted(headers);
    let text = match is_zipped {
        true => gzip::zip(text.as_bytes(), Effort::Each),
        false => text.into(),
    };
    let mut response = ([(header::CONTENT_TYPE, form.content_type())], text).into_response();
    gzip::note(&mut response, is_zipped);
    response
}

pub(super) async fn broker(State(control): Shared) -> Json<BrokerView> {
    Json(BrokerView::of(&Scene::look(&control).await))
}

pub(super) async fn shards(State(control): Shared) -> Response {
    let scene = Scene::look(&control).await;
    let shards = scene.shards.iter().enumerate().map(ShardView::of);
    let shards: Vec<ShardView> = shards.collect();
    Json(json!({"shards": shards})).into_response()
}

pub(super) async fn stalls(State(control): Shared) -> Response {
    Json(json!({"stalls": control.stalls.recent()})).into_response()
}

pub(super) async fn config(State(control): Shared) -> Response {
    let settings = control.facts.settings.load();
    Json(json!({"settings": &**settings})).into_response()
}

pub(super) async fn watch(
    State(control): Shared,
    Extension(Caller(caller)): Extension<Caller>,
    Extension(role): Extension<Role>,
) -> Result<Response, Problem> {
    live::stream(&control, (&caller, role))
}

/// Which sessions a request asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientsQuery {
    connected: Option<bool>,
    prefix: Option<Box<str>>,
    user: Option<Box<str>>,
    address: Option<IpAddr>,
    queued_min: Option<usize>,
    sort: Option<top::Order>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn clients(
    State(control): Shared,
    query: Result<Query<ClientsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = "connected, prefix, user, address, queued_min, sort, limit and cursor";
    let Query(query) = query.map_err(|error| wrong_query(&error, known))?;
    let filter = SessionFilter {
        is_connected: query.connected,
        client_id: None,
        prefix: query.prefix.unwrap_or_default(),
        user: query.user,
        address: query.address,
        queued_messages_min: query.queued_min.unwrap_or(0),
    };
    let span = Span {
        limit: query.limit,
        cursor: query.cursor,
    };
    match query.sort {
        Some(order) => top::top(&control, &filter, order, &span, form_of(&headers)).await,
        None => listing::list(control, Subject::Clients(filter), &span, form_of(&headers)),
    }
}

/// Whose subscribers a request asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionsQuery {
    topic: Option<String>,
    filter: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn subscriptions(
    State(control): Shared,
    query: Result<Query<SubscriptionsQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|error| wrong_query(&error, "topic or filter, limit and cursor"))?;
    let of = match (&query.topic, &query.filter) {
        (Some(topic), None) => Whose::Topic(read_topic(topic)?.into()),
        (None, Some(filter)) => Whose::Filter(read_filter(filter)?),
        (Some(_), Some(_)) | (None, None) => {
            let what = "either a topic or a filter is needed";
            let fix = "use topic=a/b for those who get a message, filter=a/+ for those who have the filter";
            return Err(Problem::new(StatusCode::BAD_REQUEST, what, fix));
        }
    };
    let span = Span {
        limit: query.limit,
        cursor: query.cursor,
    };
    listing::list(control, Subject::Subscribers(of), &span, form_of(&headers))
}

/// Which retained messages a request asks for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetainedParameters {
    filter: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn retained(
    State(control): Shared,
    query: Result<Query<RetainedParameters>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| wrong_query(&error, "filter, limit and cursor"))?;
    let filter = query.filter.as_deref().map(read_filter).transpose()?;
    let span = Span {
        limit: query.limit,
        cursor: query.cursor,
    };
    listing::list(control, Subject::Retained(filter), &span, form_of(&headers))
}

fn form_of(headers: &HeaderMap) -> listing::Form {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    match accept.is_some_and(|accept| accept.contains("application/x-ndjson")) {
        true => listing::Form::Lines,
        false => listing::Form::Json,
    }
}

pub(super) async fn client(
    State(control): Shared,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ClientView>, Problem> {
    show_client(&control, &read_id(id)?).await
}

/// Which client, if its identifier is too long for a path.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FindOrder {
    client: String,
}

/// `POST /clients/find`.
pub(super) async fn find_client(
    State(control): Shared,
    order: Result<Json<FindOrder>, JsonRejection>,
) -> Result<Json<ClientView>, Problem> {
    let fix = "send {\"client\": \"meter-17\"}";
    let Json(order) = order.map_err(|e| Problem::new(e.status(), e.body_text(), fix))?;
    show_client(&control, &order.client).await
}

async fn show_client(control: &Control, client_id: &str) -> Result<Json<ClientView>, Problem> {
    let ask = Ask::Session {
        client_id: client_id.into(),
    };
    let shard = control.asker.home_of(client_id);
    let Some(Answer::Session(row)) = control.asker.ask_one(shard, ask).await else {
        return Err(no_answer(shard.index()));
    };
    let row = row.ok_or_else(|| no_such_client(client_id))?;
    Ok(Json(ClientView::of(shard.index(), *row)))
}

/// How a client is to be disconnected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DisconnectOrder {
    /// Publish its will.
    #[serde(default = "yes")]
    will: bool,
}

fn yes() -> bool {
    true
}

pub(super) async fn disconnect(
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
    let Some(Answer::Disconnect(outcome)) = control.asker.ask_one(shard, ask).await else {
        info!(target: "ringmq::admin", caller, client, "disconnect: the shard does not answer");
        return Err(no_answer(shard.index()));
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

/// The last part of a path.
pub(super) fn read_id(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let Path(id) = id.map_err(|error| {
        let fix = "write it percent-encoded";
        Problem::new(error.status(), error.body_text(), fix)
    })?;
    Ok(id)
}

/// A topic filter, perhaps with a share name.
pub(super) fn read_filter(text: &str) -> Result<TopicFilter, Problem> {
    TopicFilter::parse(text, &TopicLimits::default()).map_err(|error| {
        let what = format!("{text:?} is not a topic filter: {error}");
        let fix = "write one such as a/+/b or a/#";
        Problem::new(StatusCode::BAD_REQUEST, what, fix)
    })
}

/// A topic, without wildcards.
pub(super) fn read_topic(text: &str) -> Result<String, Problem> {
    match TopicName::parse(text.as_bytes(), &TopicLimits::default()) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => {
            let what = format!("{text:?} is not a topic: {error}");
            let fix = "write one without wildcards, such as a/b";
            Err(Problem::new(StatusCode::BAD_REQUEST, what, fix))
        }
    }
}

/// Leave to list, if not too many do.
pub(super) fn begin_listing(control: &Control) -> Result<OwnedSemaphorePermit, Problem> {
    control.asker.begin_listing().ok_or_else(|| {
        let fix = "wait until one of the others is done";
        let what = "too many listings are under way";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, what, fix)
    })
}

/// How many rows there may be: as many as are asked for, or the usual.
pub(super) fn read_limit(
    asked: Option<usize>,
    (usual, max): (usize, usize),
) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(usual);
    match (1..=max).contains(&limit) {
        true => Ok(limit),
        false => {
            let what = format!("the limit is {limit}");
            let fix = format!("write one from 1 to {max}");
            Err(Problem::new(StatusCode::BAD_REQUEST, what, fix))
        }
    }
}

/// Parameters that are not understood.
pub(super) fn wrong_query(error: &QueryRejection, known: &str) -> Problem {
    let fix = format!("the parameters are {known}");
    Problem::new(StatusCode::BAD_REQUEST, error.body_text(), fix)
}

pub(super) fn no_such_client(client: &str) -> Problem {
    let what = format!("there is no session of {client:?}");
    let fix = "GET /api/v1/clients lists all; identifiers are percent-encoded in paths";
    Problem::new(StatusCode::NOT_FOUND, what, fix).for_ctl("`ringmq ctl clients list` lists all")
}

pub(super) fn no_answer(shard: usize) -> Problem {
    let what = format!("shard {shard} does not answer");
    let fix = "try again; GET /readyz says which shards answer";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, what, fix)
        .for_ctl("try again; `ringmq ctl shards` says which shards answer")
}

pub(super) async fn unknown_route(request: Request) -> Problem {
    let what = format!("there is nothing at {}", request.uri().path());
    let fix = "GET /openapi.json describes all routes, docs/operations.md too";
    Problem::new(StatusCode::NOT_FOUND, what, fix)
}

pub(super) async fn wrong_method(request: Request) -> Problem {
    let what = format!("{} does nothing here", request.method());
    let fix = "GET /openapi.json describes what there is";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, what, fix)
}
