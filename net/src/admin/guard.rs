//! Who may do what: looked at before any route.
//!
//! A Unix socket lets in its own user and root, who may do everything. Over TCP, a page of a browser and every user of the
//! machine can connect: there, the name of the host has to be ours (DNS rebinding), and who asks needs a token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use tracing::info;

use super::problem::Problem;
use super::{Control, Role, api, page};

/// How somebody came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visitor {
    pub(super) door: Door,
}

/// A listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    /// A Unix socket, with the user at its other end.
    Unix { uid: u32 },
    /// A TCP address, perhaps with TLS.
    Tcp { address: SocketAddr, is_tls: bool },
}

/// Who asks, for the log: `uid 1000`, `token ada`.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub(super) String);

/// Lets a request through, or answers it.
pub(super) async fn guard(
    State(control): State<Arc<Control>>,
    mut request: Request,
    next: Next,
) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("other", MatchedPath::as_str).to_owned();
    let mut response = match admit(&control, &route, &request) {
        Ok((caller, role)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(role);
            next.run(request).await
        }
        Err(refused) => {
            let (door, method) = (door_of(&request), request.method());
            let why = refused.problem.detail();
            info!(target: "ringmq::admin", door, %method, route, why, "refused");
            if refused.is_wrong_token {
                tokio::time::sleep(WRONG_TOKEN_PAUSE).await;
            }
            refused.problem.into_response()
        }
    };
    control.count(page::counted_as(&route), response.status().as_u16());
    let headers = response.headers_mut();
    for (name, value) in UNLESS_SAID {
        let value = HeaderValue::from_static(value);
        headers
            .entry(HeaderName::from_static(name))
            .or_insert(value);
    }
    response
}

/// Where a request came in.
fn door_of(request: &Request) -> String {
    let visitor = request.extensions().get::<Visitor>();
    match visitor.map(|visitor| visitor.door) {
        Some(Door::Tcp { address, .. }) => address.to_string(),
        Some(Door::Unix { uid }) => format!("unix, uid {uid}"),
        None => String::new(),
    }
}

/// Why somebody is not let in.
struct Refused {
    problem: Problem,
    is_wrong_token: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Refused {
        Refused {
            problem,
            is_wrong_token: false,
        }
    }
}

fn admit(control: &Control, route: &str, request: &Request) -> Result<(Caller, Role), Refused> {
    let visitor = request.extensions().get::<Visitor>();
    let Visitor { door } = visitor.expect("the server says how somebody came");
    let is_change = request.method() != Method::GET && request.method() != Method::HEAD;
    let caller = match door {
        Door::Unix { uid } => {
            check_host_forwarded(request.headers())?;
            (Caller(format!("uid {uid}")), Role::Operator)
        }
        Door::Tcp { address, is_tls } => {
            // A page of another name has no certificate for it.
            if !is_tls {
                check_host(request.headers(), *address)?;
            }
            check_token(control, route, request, is_change)?
        }
    };
    let is_tls = matches!(door, Door::Tcp { is_tls: true, .. });
    check_origin(request.headers(), is_tls, is_change)?;
    let content = request.headers().get(header::CONTENT_TYPE);
    let is_json = content.is_some_and(|value| value.as_bytes().starts_with(b"application/json"));
    // A form of a web page cannot send that, nor DELETE at all.
    if is_change && request.method() != Method::DELETE && !is_json {
        let fix = "send `Content-Type: application/json`";
        let what = "what changes something wants JSON";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, what, fix).into());
    }
    Ok(caller)
}

/// The address that we listen on, or its name on this machine.
fn check_host(headers: &HeaderMap, address: SocketAddr) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let names = [address.to_string(), format!("localhost:{}", address.port())];
    if host.is_some_and(|host| names.iter().any(|name| name.eq_ignore_ascii_case(host))) {
        return Ok(());
    }
    // All addresses of the machine: an address is nobody else's name.
    let is_address = |host: &str| {
        host.parse()
            .is_ok_and(|at: SocketAddr| at.port() == address.port())
    };
    if address.ip().is_unspecified() && host.is_some_and(is_address) {
        return Ok(());
    }
    let fix = format!("use http://{address}");
    let what = "the Host header does not name this server";
    Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, what, fix))
}

/// A browser may come through a port that is forwarded to the socket (`ssh -L`): a page whose name was pointed at that port is
/// not ours.
fn check_host_forwarded(headers: &HeaderMap) -> Result<(), Problem> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let is_local = authority.is_some_and(|authority| {
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
    });
    match is_local {
        true => Ok(()),
        false => {
            let what = "the Host header names another server";
            let fix = "use http://localhost";
            Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, what, fix))
        }
    }
}

/// A page of another server changes nothing. What it reads, its browser does not show it: there is no CORS.
fn check_origin(headers: &HeaderMap, is_tls: bool, is_change: bool) -> Result<(), Problem> {
    let Some(origin) = headers.get(header::ORIGIN).filter(|_| is_change) else {
        return Ok(());
    };
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let scheme = if is_tls { "https" } else { "http" };
    let ours = host.map(|host| format!("{scheme}://{host}"));
    if ours.is_some_and(|ours| ours.as_bytes() == origin.as_bytes()) {
        return Ok(());
    }
    let what = "the request comes from a page of another server";
    Err(Problem::new(
        StatusCode::FORBIDDEN,
        what,
        "use the page of this server",
    ))
}

fn check_token(
    control: &Control,
    route: &str,
    request: &Request,
    is_change: bool,
) -> Result<(Caller, Role), Refused> {
    let is_metrics = route.starts_with("/metrics");
    let is_open = matches!(route, "/livez" | "/readyz" | api::DOCUMENT) || page::has(route);
    if is_open || is_metrics && control.has_open_metrics {
        return Ok((Caller("anybody".to_owned()), Role::Metrics));
    }
    // What may be asked for without a change looks at the role itself.
    let is_perhaps_dry = request.method() == Method::POST && FOR_VIEWERS.contains(&route);
    let needed = match (is_change, is_metrics) {
        (true, _) if is_perhaps_dry => Role::Viewer,
        (true, _) => Role::Operator,
        (false, true) => Role::Metrics,
        (false, false) => Role::Viewer,
    };
    let presented = request.headers().get(header::AUTHORIZATION);
    let presented = presented.and_then(|value| {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("Bearer").then_some(token) // RFC 9110, 11.1.
    });
    let Some(presented) = presented else {
        let fix = "send `Authorization: Bearer TOKEN`, or use the Unix socket";
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "a token is needed", fix);
        let problem = problem.for_ctl("name a file with one: --token FILE; or use the Unix socket");
        return Err(problem.into());
    };
    match control.tokens.load().find(presented.trim()) {
        Some((name, role)) => {
            let caller = Caller(format!("token {name}"));
            match role >= needed {
                true => Ok((caller, role)),
                false => Err(not_permitted(&caller).into()),
            }
        }
        None => {
            let fix = "look into the token file; `ringmq ctl token` makes a line for it";
            Err(Refused {
                problem: Problem::new(StatusCode::UNAUTHORIZED, "the token is not known", fix),
                is_wrong_token: true,
            })
        }
    }
}

/// The role of a token is not enough.
fn not_permitted(Caller(caller): &Caller) -> Problem {
    let what = format!("the role of the {caller} does not permit this");
    let fix = "use a token of another role: viewer reads everything, operator changes things";
    Problem::new(StatusCode::FORBIDDEN, what, fix)
}

/// A change that is only looked at is for everybody who may read; all others are for operators.
pub(super) fn permit(caller: &Caller, role: Role, is_dry: bool) -> Result<(), Problem> {
    if is_dry || role >= Role::Operator {
        return Ok(());
    }
    let problem = not_permitted(caller);
    info!(target: "ringmq::admin", caller = caller.0, why = problem.detail(), "refused");
    Err(problem)
}

/// Routes that change nothing, or may be asked to change nothing: those [`permit`].
const FOR_VIEWERS: [&str; 4] = [
    "/api/v1/clients/find",
    "/api/v1/clients/disconnect",
    "/api/v1/sessions/delete",
    "/api/v1/retained/delete",
];
/// Of every answer that does not say otherwise: nothing is kept, nor shown as part of another page.
const UNLESS_SAID: [(&str, &str); 3] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
];
/// For whoever tries tokens, of which there are 2^256.
const WRONG_TOKEN_PAUSE: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_our_own_host_is_served() {
        let address = SocketAddr::from(([127, 0, 0, 1], 18830));
        for (host, is_ours) in [
            ("127.0.0.1:18830", true),
            ("localhost:18830", true),
            ("LOCALHOST:18830", true),
            ("127.0.0.1", false),
            ("127.0.0.1:18831", false),
            ("evil.example:18830", false),
            ("localhost.evil.example:18830", false),
            ("", false),
        ] {
            let checked = check_host(&headers(&[("host", host)]), address);
            assert_eq!(checked.is_ok(), is_ours, "{host}");
        }
        assert!(check_host(&HeaderMap::new(), address).is_err());
    }

    #[test]
    fn through_a_forwarded_port_only_local_names_are_served() {
        for (host, is_ours) in [
            ("localhost", true),
            ("localhost:18830", true),
            ("LocalHost:1", true),
            ("127.0.0.1:18830", true),
            ("[::1]:18830", true),
            ("evil.example", false),
            ("evil.example:18830", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
            ("a b", false),
        ] {
            let checked = check_host_forwarded(&headers(&[("host", host)]));
            assert_eq!(checked.is_ok(), is_ours, "{host}");
        }
        assert!(check_host_forwarded(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_page_of_another_server_changes_nothing() {
        for (origin, is_change, is_right) in [
            ("http://localhost:1", true, true),
            ("http://localhost:1", false, true),
            ("https://localhost:1", true, false),
            ("http://evil.example", true, false),
            ("null", true, false),
            ("http://evil.example", false, true),
        ] {
            let headers = headers(&[("host", "localhost:1"), ("origin", origin)]);
            let checked = check_origin(&headers, false, is_change);
            assert_eq!(checked.is_ok(), is_right, "{origin} {is_change}");
        }
        assert!(check_origin(&HeaderMap::new(), false, true).is_ok());
        let headers = headers(&[("host", "a:1"), ("origin", "https://a:1")]);
        assert!(check_origin(&headers, true, true).is_ok());
    }
}
