//! Every key of a scenario, once: files, options, help, the manual page and messages come from
//! here.

use std::time::Duration;

use ringmq_core::codec::Version;

use super::pattern::Pattern;
use super::payload::Sizes;
use super::rates::Rates;
use super::spans::Spans;
use super::stage::{Load, Stage};
use super::storm::{self, Backoff, Event, Storm};
use super::threshold::{Abort, Threshold};
use super::value;
use super::{Arrivals, Group, Scenario, Start};
use crate::cloud::Service;
use crate::secrets::MASK;
use ringmq_problem::Complaint;

/// A key of a scenario or of a group.
#[derive(Debug)]
pub struct Key<T> {
    /// Its name.
    pub name: &'static str,
    /// The placeholder of its value.
    pub placeholder: &'static str,
    /// What it does, for people; without a full stop at the end.
    pub about: &'static str,
    /// How a value is written in TOML.
    pub form: Form,
    /// Sets a value.
    pub set: fn(&mut T, &[&str]) -> Result<(), Complaint>,
    /// The value, if it is not the default.
    pub show: fn(&T) -> Vec<String>,
}

/// How a value is written in TOML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In quotes.
    Text,
    /// A number, a boolean, or text in quotes if it is neither.
    Bare,
    /// A list of texts.
    List,
}

fn only<'a>(texts: &[&'a str]) -> &'a str {
    texts.first().copied().unwrap_or("")
}

fn shown<T: PartialEq>(value: &T, default: &T, show: impl FnOnce(&T) -> String) -> Vec<String> {
    if value == default {
        Vec::new()
    } else {
        vec![show(value)]
    }
}

fn shown_some<T>(value: &Option<T>, show: impl Fn(&T) -> String) -> Vec<String> {
    value.iter().map(show).collect()
}

macro_rules! key {
    ($form:ident $name:literal $placeholder:literal $about:literal, $set:expr, $show:expr) => {
        Key {
            name: $name,
            placeholder: $placeholder,
            about: $about,
            form: Form::$form,
            set: $set,
            show: $show,
        }
    };
}

/// Keys of the scenario itself.
pub static SCENARIO: &[Key<Scenario>] = &[
    key!(Text "name" "NAME" "Name of the scenario, for reports",
        |s, t| { s.name = only(t).to_owned(); Ok(()) },
        |s| vec![s.name.clone()]),
    key!(Text "about" "TEXT" "One line for people",
        |s, t| { s.about = only(t).to_owned(); Ok(()) },
        |s| shown(&s.about, &String::new(), Clone::clone)),
    key!(Text "warmup" "TIME" "How long to publish before the window; default 2s",
        |s, t| { s.warmup = value::span(only(t))?; Ok(()) },
        |s| shown_span_of_run(s, s.warmup)),
    key!(Text "duration" "TIME" "The measured window; default 10s",
        |s, t| {
            s.duration = value::span(only(t))?;
            if s.duration < Duration::from_millis(10) {
                let what = format!("is {}, which is too short", only(t));
                return Err(Complaint::new(what, "write 10ms or more"));
            }
            Ok(())
        },
        |s| shown_span_of_run(s, s.duration)),
    key!(Text "drain" "TIME" "After the last publication: once nothing has arrived for this long, \
                              the rest counts as lost; default 2s",
        |s, t| { s.drain = value::span(only(t))?; Ok(()) },
        |s| shown(&s.drain, &Scenario::default().drain, |d| value::show_span(*d))),
    key!(Text "answer_timeout" "TIME" "Longest time the broker may take to answer CONNECT, \
                                       SUBSCRIBE or PINGREQ; default 10s",
        |s, t| { s.answer_timeout = value::span(only(t))?; Ok(()) },
        |s| shown(&s.answer_timeout, &Scenario::default().answer_timeout, |d| value::show_span(*d))),
    key!(Bare "restarts" "true|false" "The broker may be restarted during the run, and has to keep \
                                       what it acknowledged: connections that end or fail are no \
                                       trouble, messages that were acknowledged and lost, or came \
                                       twice with QoS 2, are. Every group needs QoS 1 or 2, \
                                       `clean = false` and `reconnect = true`; default false",
        |s, t| { s.restarts = value::switch(only(t))?; Ok(()) },
        |s| shown(&s.restarts, &false, bool::to_string)),
    key!(Text "preset" "SERVICE" "The service of a cloud that the scenario is for: aws-iot-core, \
                                  azure-iot-hub or azure-event-grid. What it wants and the \
                                  scenario leaves open is filled in; what it would refuse or \
                                  throttle is found before anything is sent; default none",
        |s, t| { s.preset = Some(Service::parse(only(t))?); Ok(()) },
        |s| shown_some(&s.preset, |service| service.word().to_owned())),
    key!(Bare "preset_check" "true|false" "Check the scenario against the limits of that service; \
                                           default true",
        |s, t| { s.preset_check = value::switch(only(t))?; Ok(()) },
        |s| shown(&s.preset_check, &true, bool::to_string)),
    key!(Text "arrivals" "constant|poisson|bursts(N)" "How messages of an open loop are spread: \
                                       evenly, at random, or N of a client at a time; default \
                                       constant",
        |s, t| { s.arrivals = Arrivals::parse(only(t))?; Ok(()) },
        |s| shown(&s.arrivals, &Arrivals::Constant, |a| a.show())),
    key!(List "thresholds" "LIMIT" "What the run has to keep to, in a list if there are several: \
                                    \"latency.p99 < 5ms\", \"lost = 0\", \"rate >= 99 %\". A \
                                    limit that is missed makes the exit code 4",
        |s, t| { s.thresholds = parse_thresholds(t)?; Ok(()) },
        |s| s.thresholds.iter().map(|limit| limit.as_str().to_owned()).collect()),
];

/// Stages or a storm say it, if there are some.
fn shown_span_of_run(scenario: &Scenario, span: Duration) -> Vec<String> {
    match scenario.has_parts() {
        false => vec![value::show_span(span)],
        true => Vec::new(),
    }
}

fn parse_topics(text: &str) -> Result<Option<f64>, Complaint> {
    if text == "turns" {
        return Ok(None);
    }
    let inside = text
        .strip_prefix("zipf(")
        .and_then(|text| text.strip_suffix(')'));
    let exponent = inside.and_then(|text| text.trim().parse::<f64>().ok());
    let exponent = exponent.filter(|exponent| (0.0..=10.0).contains(exponent));
    let wrong = || {
        Complaint::new(
            format!("is `{text}`"),
            "write turns, or zipf(S) such as zipf(1.1)",
        )
    };
    exponent.map(Some).ok_or_else(wrong)
}

fn parse_thresholds(texts: &[&str]) -> Result<Vec<Threshold>, Complaint> {
    texts.iter().map(|text| Threshold::parse(text)).collect()
}

/// Keys of a stage.
pub static STAGE: &[Key<Stage>] = &[
    key!(Text "name" "NAME" "Name of the stage, for reports; default: its number",
        |s, t| { s.name = only(t).to_owned(); Ok(()) },
        |s| shown(&s.name, &String::new(), Clone::clone)),
    key!(Text "for" "TIME" "How long the stage takes",
        |s, t| { s.span = value::span(only(t))?; Ok(()) },
        |s| vec![value::show_span(s.span)]),
    key!(Text "rate" "SHARE" "Load, as a share of the rate of each group: \"100 %\", a ramp \
                              \"0..100 %\", or steps \"100..1000 % in 10\", each of which has \
                              figures of its own; default 100 %",
        |s, t| { s.load = Load::parse(only(t))?; Ok(()) },
        |s| vec![s.load.show()]),
    key!(Text "spread" "TIME" "Come to the rate of the stage over this time, from that of the \
                               stage before; default 0s: at once",
        |s, t| { s.spread = value::span(only(t))?; Ok(()) },
        |s| shown(&s.spread, &Duration::ZERO, |d| value::show_span(*d))),
    key!(List "thresholds" "LIMIT" "What the stage has to keep to, as above",
        |s, t| { s.thresholds = parse_thresholds(t)?; Ok(()) },
        |s| s.thresholds.iter().map(|limit| limit.as_str().to_owned()).collect()),
    key!(Text "abort" "LIMIT for TIME" "End the run when this holds in every second for so long: \
                                        \"latency.p99 > 1s for 5s\". It counts as a threshold \
                                        that was missed",
        |s, t| { s.abort = Some(Abort::parse(only(t))?); Ok(()) },
        |s| shown_some(&s.abort, Abort::show)),
];

/// Keys of a storm.
pub static STORM: &[Key<Storm>] = &[
    key!(Text "event" "cut|silence|takeover" "How connections end: they are closed without \
                                              DISCONNECT; their clients say nothing any more, and \
                                              the sockets stay open; or second clients with the \
                                              same identifiers connect. Default cut",
        |s, t| { s.event = Event::parse(only(t))?; Ok(()) },
        |s| vec![s.event.show().to_owned()]),
    key!(Text "share" "SHARE" "Of how many clients; default 100 %",
        |s, t| { s.share = storm::share(only(t))?; Ok(()) },
        |s| shown(&s.share, &1.0, |share| storm::show_share(*share))),
    key!(List "of" "GROUP" "Of which groups, in a list if there are several; default: all",
        |s, t| { s.of = t.iter().map(|&name| name.to_owned()).collect(); Ok(()) },
        |s| s.of.clone()),
    key!(Text "backoff" "exp(BASE, FACTOR, MOST, JITTER)" "How long clients wait before they \
                         return: BASE, and FACTOR times as long after each attempt that failed, \
                         MOST at most. JITTER is full (anything from 0 to that), equal (anything \
                         from half of it) or none. Default exp(1s, 2, 60s, full)",
        |s, t| { s.backoff = Backoff::parse(only(t))?; Ok(()) },
        |s| vec![s.backoff.show()]),
    key!(Text "before" "TIME" "How long is published before it; whole seconds, default 5s",
        |s, t| { s.before = value::span(only(t))?; Ok(()) },
        |s| shown(&s.before, &Storm::default().before, |d| value::show_span(*d))),
    key!(Text "within" "TIME" "How long the recovery may take; whole seconds, default 2m",
        |s, t| { s.within = value::span(only(t))?; Ok(()) },
        |s| shown(&s.within, &Storm::default().within, |d| value::show_span(*d))),
    key!(Text "back" "SHARE" "How many of the clients have to be back in a second for it to be a \
                              good one; default 99 %",
        |s, t| { s.back = storm::share(only(t))?; Ok(()) },
        |s| shown(&s.back, &Storm::default().back, |share| storm::show_share(*share))),
    key!(List "slo" "LIMIT" "What a good second keeps to besides: \"latency.p99 < 5ms\"",
        |s, t| {
            s.limits = t.iter().map(|text| Storm::limit(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        |s| s.limits.iter().map(|limit| limit.as_str().to_owned()).collect()),
];

/// Keys of a group: who its clients are.
pub static WHO: &[Key<Group>] = &[
    key!(Text "name" "NAME" "Name of the group, for reports",
        |g, t| {
            let name = only(t);
            let is_fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if name.is_empty() || !name.bytes().all(is_fit) {
                return Err(Complaint::new(format!("is `{name}`"), "use letters, digits, - and _"));
            }
            g.name = name.to_owned();
            Ok(())
        },
        |g| vec![g.name.clone()]),
    key!(Bare "clients" "N" "Clients of the group; default 1",
        |g, t| { g.clients = value::count(only(t), 1, CLIENTS_MAX)? as u32; Ok(()) },
        |g| vec![g.clients.to_string()]),
    key!(Text "protocol" "3.1.1|5.0" "MQTT version; default 3.1.1",
        |g, t| { g.protocol = value::protocol(only(t))?; Ok(()) },
        |g| shown(&g.protocol, &Version::V311, |v| value::show_protocol(*v).to_owned())),
    key!(Text "client_id" "PATTERN" "Client ids; default ringload-{run}-{group}-{index}",
        |g, t| { g.client_id = Pattern::parse(only(t))?; Ok(()) },
        |g| shown(&g.client_id, &Group::default().client_id, |p| p.as_str().to_owned())),
    key!(Text "user" "PATTERN" "User names; default none",
        |g, t| { g.user = Some(Pattern::parse(only(t))?); Ok(()) },
        |g| shown_some(&g.user, |p| p.as_str().to_owned())),
    key!(Text "password" "PATTERN" "Passwords; default none. Results do not show them",
    |g, t| { g.set_password(only(t)) },
    |g| match g.password_file {
        Some(_) => Vec::new(),
        None => shown_some(&g.password, |_| MASK.to_owned()),
    }),
    key!(Text "password_file" "FILE" "A file whose first line is the password (a pattern)",
        |g, t| { g.read_password_file(only(t)) },
        |g| shown_some(&g.password_file, Clone::clone)),
    key!(Bare "clean" "true|false" "Start with a clean session, and keep none; default true",
        |g, t| { g.clean = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.clean, &true, bool::to_string)),
    key!(Text "session_expiry" "TIME" "With clean = false and MQTT 5.0: how long the session \
                                       outlives a connection; default 1h",
        |g, t| { g.session_expiry = value::span(only(t))?; Ok(()) },
        |g| shown(&g.session_expiry, &Group::default().session_expiry, |d| value::show_span(*d))),
    key!(Text "keep_alive" "TIME" "Keep alive, whole seconds; 0 turns it off; default 60s. The \
                                   broker may set another one (MQTT 5.0)",
        |g, t| {
            let span = value::span(only(t))?;
            let seconds = u16::try_from(span.as_secs()).ok().filter(|_| span.subsec_nanos() == 0);
            g.keep_alive_s = seconds.ok_or_else(|| Complaint::new(
                format!("is {}, which MQTT cannot say", only(t)),
                "write whole seconds up to 65535",
            ))?;
            Ok(())
        },
        |g| shown(&g.keep_alive_s, &60, |s| format!("{s}s"))),
    key!(Bare "tls" "true|false" "Connect over TLS; default false",
        |g, t| { g.tls = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.tls, &false, bool::to_string)),
    key!(Text "tls_ca" "FILE" "CA certificates (PEM) to trust; default: those of the system",
        |g, t| { g.tls_ca = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.tls_ca, Clone::clone)),
    key!(Bare "tls_insecure" "true|false" "Accept any certificate; default false",
        |g, t| { g.tls_insecure = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.tls_insecure, &false, bool::to_string)),
    key!(Text "tls_name" "NAME" "Name expected in the broker's certificate, sent as SNI; default: \
                                 the host of the target",
        |g, t| { g.tls_name = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.tls_name, Clone::clone)),
    key!(Text "tls_cert" "FILE" "Client certificate (PEM); {index} and the like make a file for each client; default none",
        |g, t| { g.tls_cert = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.tls_cert, Clone::clone)),
    key!(Text "tls_key" "FILE" "Its private key (PEM); the same patterns",
        |g, t| { g.tls_key = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.tls_key, Clone::clone)),
    key!(Bare "tls_resume" "true|false" "Resume TLS sessions instead of a full handshake for each \
                                         connection; default false",
        |g, t| { g.tls_resume = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.tls_resume, &false, bool::to_string)),
    key!(Text "tls_alpn" "PROTOCOL" "Protocol to ask for in the TLS handshake (ALPN), such as \
                                     mqtt; default none",
        |g, t| { g.tls_alpn = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.tls_alpn, Clone::clone)),
    key!(Text "sas_key_file" "FILE" "A file whose first line is a key, in base64: passwords are \
                                     tokens for Azure IoT Hub that it signs, made anew for each \
                                     connection",
        |g, t| { g.read_sas_key(only(t)) },
        |g| shown_some(&g.sas_key_file, Clone::clone)),
    key!(Text "sas_policy" "NAME" "The policy of the hub that the key is of; default: it is the \
                                   key of each device",
        |g, t| { g.sas_policy = Some(only(t).to_owned()); Ok(()) },
        |g| shown_some(&g.sas_policy, Clone::clone)),
    key!(Text "sas_expiry" "TIME" "How long a token is valid; default 1h",
        |g, t| { g.sas_expiry = value::span(only(t))?; Ok(()) },
        |g| shown(&g.sas_expiry, &Duration::from_secs(3600), |d| value::show_span(*d))),
];

/// Keys of a group: how its clients connect.
pub static CONNECT: &[Key<Group>] = &[
    key!(Bare "connect_rate" "RATE" "Connections per second of the whole group; default: as fast \
                                     as the broker answers",
        |g, t| { g.connect_rate = Some(value::rate(only(t))?); Ok(()) },
        |g| shown_some(&g.connect_rate, |r| value::show_rate(*r))),
    key!(Bare "connecting_max" "N" "Connections that may wait for CONNACK at the same time; \
                                    default 100",
        |g, t| { g.connecting_max = value::count(only(t), 1, 4096)? as u32; Ok(()) },
        |g| shown(&g.connecting_max, &100, u32::to_string)),
    key!(Text "start" "first|window" "When the group connects: before anything is published, or \
                                      when the window begins; default first",
        |g, t| {
            g.start = match only(t) {
                "first" => Start::First,
                "window" => Start::Window,
                other => {
                    return Err(Complaint::new(format!("is `{other}`"), "write first or window"));
                }
            };
            Ok(())
        },
        |g| shown(&g.start, &Start::First, |_| "window".to_owned())),
    key!(Bare "reconnect" "true|false" "Reconnect after the broker closed the connection; messages \
                                        due meanwhile are sent late; default false",
        |g, t| { g.reconnect = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.reconnect, &false, bool::to_string)),
    key!(Text "cut_every" "TIME" "Cut all connections of the group at once, without DISCONNECT, at \
                                  this interval in the window",
        |g, t| {
            g.cut_every = Some(value::span(only(t))?);
            if g.cut_every < Some(Duration::from_millis(100)) {
                let what = format!("is {}, which is too often", only(t));
                return Err(Complaint::new(what, "write 100ms or more"));
            }
            Ok(())
        },
        |g| shown_some(&g.cut_every, |d| value::show_span(*d))),
    key!(Text "cut_for" "TIME" "How long a cut client stays away; default 0s",
        |g, t| { g.cut_for = value::span(only(t))?; Ok(()) },
        |g| shown(&g.cut_for, &Duration::ZERO, |d| value::show_span(*d))),
    key!(Text "online" "SPAN" "How long each client stays connected before it leaves, while \
                               messages are published: 10m, 1m..10m (any between) or exp(10m) \
                               (with that mean); default: to the end",
        |g, t| { g.online = Some(Spans::parse(only(t))?); Ok(()) },
        |g| shown_some(&g.online, Spans::show)),
    key!(Text "away" "SPAN" "How long it stays away then; its messages of that time are not sent \
                             later; default: it returns at once",
        |g, t| { g.away = Some(Spans::parse(only(t))?); Ok(()) },
        |g| shown_some(&g.away, Spans::show)),
];

/// Keys of a group that publishes.
pub static PUBLISH: &[Key<Group>] = &[
    key!(Text "publish" "PATTERN" "Topics to publish on",
        |g, t| { g.publish = Some(Pattern::parse(only(t))?); Ok(()) },
        |g| shown_some(&g.publish, |p| p.as_str().to_owned())),
    key!(Bare "qos" "0|1|2" "QoS of what the group publishes and of what it subscribes to; default \
                             0",
        |g, t| { g.qos = value::qos(only(t))?; Ok(()) },
        |g| vec![(g.qos as u8).to_string()]),
    key!(Bare "payload" "SIZES" "Payload sizes: 64, or 16..1024 (all equally often), or \
                                 64:90,1KiB..4KiB:10 (with weights); default 64",
        |g, t| { g.payload = Sizes::parse(only(t))?; Ok(()) },
        |g| shown(&g.payload, &Sizes::Fixed(64), Sizes::show)),
    key!(Bare "rate" "RATE" "Open loop: messages per second of each client, by schedule, whatever \
                             the broker does. Clients may differ: 2..20 (any between), \
                             1:90,10:10 (with weights), lognormal(MEDIAN, SIGMA) or zipf(MOST, \
                             EXPONENT)",
        |g, t| { g.rate = Some(Rates::parse(only(t))?); Ok(()) },
        |g| shown_some(&g.rate, Rates::show)),
    key!(Text "topics" "turns|zipf(S)" "Which of a client's topics ({message%N}) is next: one after \
                                        the other, or the k-th a k^S-th as often as the first; \
                                        default turns",
        |g, t| { g.topics_zipf = parse_topics(only(t))?; Ok(()) },
        |g| shown_some(&g.topics_zipf, |s| format!("zipf({s})"))),
    key!(Bare "window" "N" "Closed loop: messages in flight per client, counted over the whole \
                            group",
        |g, t| { g.window = Some(value::count(only(t), 1, 1_000_000)? as u32); Ok(()) },
        |g| shown_some(&g.window, u32::to_string)),
    key!(Text "ramp" "TIME" "Raise the rate from 0 over this time; default 0s",
        |g, t| { g.ramp = value::span(only(t))?; Ok(()) },
        |g| shown(&g.ramp, &Duration::ZERO, |d| value::show_span(*d))),
    key!(Bare "messages" "N" "Stop each client after this many messages. With every publishing \
                              group limited there is no warm-up, and the run ends when all have \
                              arrived",
        |g, t| { g.messages = Some(value::count(only(t), 1, u64::from(u32::MAX))?); Ok(()) },
        |g| shown_some(&g.messages, u64::to_string)),
    key!(Bare "inflight_max" "N" "Unacknowledged QoS 1 and 2 messages per client; default 1000. \
                                  The broker's Receive Maximum may lower it (MQTT 5.0)",
        |g, t| { g.inflight_max = value::count(only(t), 1, 65_535)? as u16; Ok(()) },
        |g| shown(&g.inflight_max, &1000, u16::to_string)),
    key!(Bare "retain" "true|false" "Publish with RETAIN; removed again at the end; default false",
        |g, t| { g.retain = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.retain, &false, bool::to_string)),
    key!(Bare "topic_aliases" "N" "MQTT 5.0: number of topics per client to send by topic alias, \
                                   up to the broker's Topic Alias Maximum; default 0",
        |g, t| { g.topic_aliases = value::count(only(t), 0, 65_535)? as u16; Ok(()) },
        |g| shown(&g.topic_aliases, &0, u16::to_string)),
];

/// Keys of a group that subscribes.
pub static SUBSCRIBE: &[Key<Group>] = &[
    key!(List "subscribe" "PATTERN" "Topic filters to subscribe to, in a list if there are \
                                     several. Filters of one client must not overlap",
        |g, t| {
            g.subscribe = t.iter().map(|text| Pattern::parse(text)).collect::<Result<_, _>>()?;
            Ok(())
        },
        |g| g.subscribe.iter().map(|p| p.as_str().to_owned()).collect()),
    key!(Bare "receive_maximum" "N" "MQTT 5.0: QoS 1 and 2 messages that the broker may have in \
                                     flight to each client; default 65535",
        |g, t| { g.receive_maximum = Some(value::count(only(t), 1, 65_535)? as u16); Ok(()) },
        |g| shown_some(&g.receive_maximum, u16::to_string)),
    key!(Text "receive_rate" "SIZE" "Read at most this many bytes per second; 0 reads nothing \
                                     until the drain; default: no limit",
        |g, t| { g.receive_rate = Some(value::size(only(t), 1 << 40)?); Ok(()) },
        |g| shown_some(&g.receive_rate, u64::to_string)),
    key!(Text "receive_buffer" "SIZE" "Receive buffer of the sockets (SO_RCVBUF); default: the \
                                       kernel's",
        |g, t| { g.receive_buffer = Some(value::size(only(t), 1 << 30)? as u32); Ok(()) },
        |g| shown_some(&g.receive_buffer, u32::to_string)),
    key!(Bare "may_lose" "true|false" "Losses in this group are expected and not counted in the \
                                       totals; default false",
        |g, t| { g.may_lose = value::switch(only(t))?; Ok(()) },
        |g| shown(&g.may_lose, &false, bool::to_string)),
];

/// All keys of a group, by subject.
pub static GROUP: [(&str, &[Key<Group>]); 4] = [
    ("clients", WHO),
    ("connections", CONNECT),
    ("publishing", PUBLISH),
    ("subscribing", SUBSCRIBE),
];

/// The key of a group with this name.
pub fn of_group(name: &str) -> Option<&'static Key<Group>> {
    group_keys().find(|key| key.name == name)
}

/// Every key of a group.
pub fn group_keys() -> impl Iterator<Item = &'static Key<Group>> {
    GROUP.iter().flat_map(|(_, keys)| keys.iter())
}

/// The key of a stage with this name.
pub fn of_stage(name: &str) -> Option<&'static Key<Stage>> {
    STAGE.iter().find(|key| key.name == name)
}

/// The key of a storm with this name.
pub fn of_storm(name: &str) -> Option<&'static Key<Storm>> {
    STORM.iter().find(|key| key.name == name)
}

/// The key of a scenario with this name.
pub fn of_scenario(name: &str) -> Option<&'static Key<Scenario>> {
    SCENARIO.iter().find(|key| key.name == name)
}

/// Streams and clients have numbers of 22 bits in a payload.
const CLIENTS_MAX: u64 = 4_000_000;
