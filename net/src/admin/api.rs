//! All routes, each with what `GET /openapi.json` says of it.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json, Router, middleware};
use serde_json::Value;

use super::describe::{self, Route};
use super::fields as f;
use super::guard::{Caller, guard};
use super::problem::Problem;
use super::server::BODY_SIZE_MAX;
use super::view::ClientView;
use super::{
    Control, bulk, drain, explain, losses, objects, page, profile, routes, settings, topics, traces,
};

/// Everything that is answered, behind the guard.
pub(super) fn router(control: Arc<Control>) -> Router {
    let version = control.facts.version;
    let mut router = Router::new();
    for route in ROUTES {
        let (path, methods) = route.registered();
        router = router.route(path, methods);
    }
    // Clients and topics whose names are those of verbs.
    router = router
        .route("/api/v1/clients/disconnect", get(named_disconnect))
        .route("/api/v1/clients/find", get(named_find))
        .route("/api/v1/sessions/delete", delete(named_delete))
        .route(
            "/api/v1/retained/delete",
            get(topic_delete).delete(topic_delete_away),
        );
    let all = match control.has_page {
        true => {
            let (path, methods) = LIVE.registered();
            router = page::add_to(router.route(path, methods));
            [ROUTES, &[LIVE]].concat()
        }
        false => ROUTES.to_vec(),
    };
    let document = describe::document(&all, version);
    router
        .route(
            DOCUMENT,
            get(move || std::future::ready(Json(document.clone()))),
        )
        .fallback(routes::unknown_route)
        .method_not_allowed_fallback(routes::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_SIZE_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&control), guard))
        .with_state(control)
}

/// What the rows of `list` have in answers with these keys, in the order of their names; `None`: there
/// is no such list.
pub fn row_keys(answer: &[&str], list: &str) -> Option<Vec<&'static str>> {
    ROUTES.iter().find_map(|route| route.row_keys(answer, list))
}

/// Where the description of all this is.
pub(super) const DOCUMENT: &str = "/openapi.json";

const LIVE: Route = Route::get("/api/v1/live", "What the page shows, each second", || {
    get(routes::watch)
})
.events();

/// All but the page, what it shows live, and the description.
const ROUTES: &[Route] = &[
    Route::get("/livez", "The process answers", || get(async || "alive\n")),
    Route::get(
        "/readyz",
        "The broker serves clients, and every shard answers",
        || get(routes::ready),
    )
    .query(&[describe::text("verbose", "Says no more than without").optional()]),
    Route::get("/metrics", "For Prometheus", || get(routes::small_metrics)),
    Route::get("/metrics/shards", "For Prometheus, by shard", || {
        get(routes::shard_metrics)
    }),
    Route::get("/api/v1/broker", "The broker as a whole", || {
        get(routes::broker)
    })
    .object(f::BROKER),
    Route::get("/api/v1/shards", "Its shards", || get(routes::shards)).object(f::SHARDS),
    Route::get(
        "/api/v1/stalls",
        "Turns of shards that took too long",
        || get(routes::stalls),
    )
    .object(f::STALLS),
    Route::get(
        "/api/v1/profile",
        "What clients do, as counts, for `ringload capture`",
        || get(profile::profile),
    )
    .object(f::PROFILE),
    Route::get("/api/v1/clients", "Sessions", || get(routes::clients))
        .query(f::CLIENTS_QUERY)
        .list(f::CLIENTS),
    Route::get("/api/v1/clients/{id}", "One session", || {
        get(routes::client)
    })
    .object(f::CLIENT),
    Route::post(
        "/api/v1/clients/find",
        "One session, whose identifier is too long for a path",
        || post(routes::find_client),
    )
    .body(f::FIND_ORDER)
    .object(f::CLIENT),
    Route::post(
        "/api/v1/clients/{id}/disconnect",
        "Disconnects a client",
        || post(routes::disconnect),
    )
    .body(f::DISCONNECT)
    .object(f::DISCONNECTED),
    Route::post(
        "/api/v1/clients/disconnect",
        "Disconnects many clients",
        || post(bulk::disconnect),
    )
    .body(f::DISCONNECT_MANY)
    .lines(),
    Route::post("/api/v1/sessions/delete", "Ends many sessions", || {
        post(bulk::end_sessions)
    })
    .body(f::DELETE_SESSIONS)
    .lines(),
    Route::get(
        "/api/v1/clients/{id}/losses",
        "What a client has lost",
        || get(losses::losses_of),
    )
    .object(f::LOSSES_OF),
    Route::get(
        "/api/v1/clients/{id}/subscriptions",
        "The subscriptions of a client",
        || get(objects::subscriptions_of),
    )
    .query(f::OF_CLIENT_QUERY)
    .object(f::SUBSCRIPTIONS_OF),
    Route::get(
        "/api/v1/clients/{id}/queue",
        "What waits for a client, without payloads",
        || get(objects::queue_of),
    )
    .query(f::OF_CLIENT_QUERY)
    .object(f::QUEUE),
    Route::delete(
        "/api/v1/sessions/{id}",
        "Ends a session, and its connection",
        || delete(objects::end_session),
    )
    .object(f::DELETED),
    Route::get("/api/v1/losses", "The last losses", || get(losses::losses))
        .query(f::LOSSES_QUERY)
        .object(f::LOSSES),
    Route::get("/api/v1/explain", "What would become of a message", || {
        get(explain::explain)
    })
    .query(f::EXPLAIN_QUERY)
    .object(f::EXPLAIN),
    Route::get(
        "/api/v1/topics/top",
        "The topics on which clients publish most",
        || get(topics::top),
    )
    .query(f::TOPICS_QUERY)
    .object(f::TOPICS),
    Route::get("/api/v1/traces", "Traces that go on", || get(traces::list)).object(f::TRACES),
    Route::post("/api/v1/traces", "Begins a trace", || post(traces::begin))
        .body(f::TRACE_ORDER)
        .object(f::TRACE),
    Route::get(
        "/api/v1/traces/{trace}",
        "What a trace tells, until it ends",
        || get(traces::follow),
    )
    .lines(),
    Route::delete("/api/v1/traces/{trace}", "Ends a trace", || {
        delete(traces::end)
    })
    .object(f::TRACE_ENDED),
    Route::get("/api/v1/subscriptions", "Who is subscribed", || {
        get(routes::subscriptions)
    })
    .query(f::SUBSCRIBERS_QUERY)
    .list(f::SUBSCRIBERS),
    Route::get("/api/v1/retained", "Retained messages", || {
        get(routes::retained)
    })
    .query(f::RETAINED_QUERY)
    .list(f::RETAINED_LIST),
    Route::post(
        "/api/v1/retained/delete",
        "Deletes retained messages",
        || post(bulk::delete_retained),
    )
    .body(f::DELETE_RETAINED)
    .lines(),
    Route::get("/api/v1/retained/{topic}", "A retained message", || {
        get(objects::retained)
    })
    .object(f::RETAINED),
    Route::delete(
        "/api/v1/retained/{topic}",
        "Deletes a retained message",
        || delete(objects::delete_retained),
    )
    .object(f::DELETED),
    Route::get("/api/v1/drain", "How far a drain is", || get(drain::status)).object(f::DRAIN),
    Route::post("/api/v1/drain", "Has all clients leave", || {
        post(drain::start)
    })
    .body(f::DRAIN_ORDER)
    .object(f::DRAIN),
    Route::delete("/api/v1/drain", "Accepts clients again", || {
        delete(drain::cancel)
    })
    .object(f::DRAIN),
    Route::get("/api/v1/config", "Every setting", || get(routes::config)).object(f::CONFIG),
    Route::post(
        "/api/v1/config/check",
        "What a reload with a file would do",
        || post(settings::check),
    )
    .body(f::CHECK_ORDER)
    .object(f::CHECKED),
    Route::post(
        "/api/v1/reload",
        "Reads the settings and their files again",
        || post(settings::reload),
    )
    .body(f::NOTHING)
    .object(f::RELOADED),
    Route::get("/api/v1/log", "The filter of the log", || {
        get(settings::log)
    })
    .object(f::LOG),
    Route::put("/api/v1/log", "Puts another filter in force", || {
        put(settings::set_log)
    })
    .body(f::LOG_ORDER)
    .object(f::LOG),
];

/// A client of the name of a verb.
async fn named_disconnect(control: State<Arc<Control>>) -> Result<Json<ClientView>, Problem> {
    routes::client(control, Ok(Path("disconnect".to_owned()))).await
}

async fn named_find(control: State<Arc<Control>>) -> Result<Json<ClientView>, Problem> {
    routes::client(control, Ok(Path("find".to_owned()))).await
}

async fn named_delete(
    control: State<Arc<Control>>,
    caller: Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    objects::end_session(control, caller, Ok(Path("delete".to_owned()))).await
}

async fn topic_delete(control: State<Arc<Control>>) -> Result<Json<Value>, Problem> {
    objects::retained(control, Ok(Path("delete".to_owned()))).await
}

async fn topic_delete_away(
    control: State<Arc<Control>>,
    caller: Extension<Caller>,
) -> Result<Json<Value>, Problem> {
    objects::delete_retained(control, caller, Ok(Path("delete".to_owned()))).await
}
