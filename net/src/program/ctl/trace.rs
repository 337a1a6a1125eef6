//! `ringmq ctl trace`: everything about a client, a topic or an address, as it happens.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::http::Server;
use super::objects::{Console, seconds};
use super::show::{count, missing, short_span, text};
use super::{EXIT_WRONG_USE, Failure, Form};

/// What to trace.
#[derive(Debug, clap::Args)]
#[command(group(ArgGroup::new("what").required(true).args(["client", "topic", "address"])))]
pub(super) struct Trace {
    /// A client, whether it is there or not
    client: Option<String>,
    /// Messages on a topic, or on topics that a filter matches
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    /// Clients of an address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// For so long: 10m unless given, at most 1d
    #[arg(long = "for", value_name = "SPAN", value_parser = seconds)]
    span: Option<u64>,
    /// So many bytes of each payload, at most 1024
    #[arg(long, value_name = "N")]
    payload: Option<usize>,
    /// How long things took too: turns, sends, queues, acknowledgements
    #[arg(long)]
    stages: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Traces {
    /// Traces that go on
    List,
    /// End one
    End {
        /// Its number
        id: u64,
    },
}

/// Where the broker is, for a second connection.
#[derive(Clone, Debug)]
pub(super) struct Whereabouts {
    pub(super) to: Option<String>,
    pub(super) token: Option<PathBuf>,
    pub(super) ca: Vec<PathBuf>,
}

impl Console<'_> {
    /// `trace`: until it ends, or whoever watches has seen enough.
    pub(super) fn trace(&mut self, args: &Trace, place: Whereabouts) -> Result<(), Failure> {
        if self.form == Form::Csv {
            let what = "a trace is no table: its events have different fields";
            return Err(Failure {
                code: EXIT_WRONG_USE,
                ..Failure::new(what, "write -o json, or leave -o out")
            });
        }
        let mut order = json!({});
        let given = [
            ("client", args.client.as_deref().map(Value::from)),
            ("topic", args.topic.as_deref().map(Value::from)),
            ("address", args.address.map(|ip| ip.to_string().into())),
            ("for", args.span.map(Value::from)),
            ("payload", args.payload.map(Value::from)),
            ("stages", args.stages.then_some(Value::Bool(true))),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                order[name] = value;
            }
        }
        let begun = self.server.change("POST", "/api/v1/traces", &order)?;
        let path = format!("/api/v1/traces/{}", begun["id"]);
        let is_ending = end_at_a_signal(path.clone(), place)?;
        let ends_in = short_span(begun["ends_in_s"].as_u64().unwrap_or(0));
        writeln!(
            io::stderr(),
            "trace {}, for {ends_in}; Ctrl-C ends it",
            begun["id"]
        )?;
        let followed = self.follow(&path);
        while is_ending.load(Ordering::Relaxed) {
            std::thread::park(); // The process ends in the other thread.
        }
        if followed.is_err() {
            // Nobody reads it any more.
            let _ = self.server.change("DELETE", &path, &json!({}));
        }
        followed
    }

    fn follow(&mut self, path: &str) -> Result<(), Failure> {
        let answer = self.server.ask("GET", path, None, "application/x-ndjson")?;
        answer.lines(|line| {
            if self.form != Form::Table {
                writeln!(self.out, "{line}")?;
            } else {
                let event: Value = serde_json::from_str(line).map_err(io::Error::from)?;
                self.out.write_all(shown(&event).as_bytes())?;
            }
            Ok(self.out.flush()?)
        })
    }

    /// `traces`.
    pub(super) fn traces(&mut self, verb: &Traces) -> Result<(), Failure> {
        match verb {
            Traces::List => {
                let answer = self.server.get("/api/v1/traces")?;
                self.say(&answer, list)
            }
            Traces::End { id } => {
                let path = format!("/api/v1/traces/{id}");
                let answer = self.server.change("DELETE", &path, &json!({}))?;
                self.say(&answer, |answer| {
                    format!("ended, with {} events\n", count(&answer["events"]))
                })
            }
        }
    }
}

/// The end of this process is the end of its trace. True once it is about to end.
fn end_at_a_signal(path: String, place: Whereabouts) -> io::Result<Arc<AtomicBool>> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let is_ending = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_ending);
    let watch = move || {
        if let Some(signal) = signals.forever().next() {
            ends.store(true, Ordering::Relaxed);
            let server = Server::find(&place);
            // It ends by itself otherwise.
            let _ = server.and_then(|server| server.change("DELETE", &path, &json!({})));
            std::process::exit(128 + signal);
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)?;
    Ok(is_ending)
}

fn list(answer: &Value) -> String {
    let mut shown = String::new();
    for trace in answer["traces"].as_array().into_iter().flatten() {
        if shown.is_empty() {
            shown += " ID  ENDS IN    EVENTS  LEFT OUT  OF\n";
        }
        let of = ["client", "topic", "address"];
        let of = of.iter().find(|name| !trace[**name].is_null());
        let of = of.map(|name| format!("{name} {}", text(&trace[*name])));
        shown += &format!(
            "{:>3}  {:>7}  {:>8}  {:>8}  {}\n",
            text(&trace["id"]),
            short_span(trace["ends_in_s"].as_u64().unwrap_or(0)),
            count(&trace["events"]),
            count(&trace["left_out"]),
            of.unwrap_or_default(),
        );
    }
    match shown.is_empty() {
        true => "nothing is traced\n".to_owned(),
        false => shown + &missing(answer),
    }
}

/// An event as a line.
fn shown(event: &Value) -> String {
    if event["ended"] == true {
        let left_out = match event["left_out"].as_u64() {
            Some(0) | None => String::new(),
            Some(_) => format!(", up to {} left out", count(&event["left_out"])),
        };
        return format!(
            "the trace has ended: {} events{left_out}\n",
            count(&event["events"])
        );
    }
    let at = text(&event["at"]);
    let time = at.split_once('T').map_or(&*at, |(_, time)| time);
    let what = match event["event"].as_str() {
        Some("packet") => packet(event),
        Some("published") => published(event),
        Some("delivery") => delivery(event),
        Some("connected") => format!(
            "connected from {}: MQTT {}, {} session, keep alive {} s",
            text(&event["peer"]),
            text(&event["protocol"]),
            match event["session_present"] == true {
                true => "its earlier",
                false => "a new",
            },
            text(&event["keep_alive_s"]),
        ),
        Some("refused") => format!(
            "refused, from {}: {} ({})",
            text(&event["peer"]),
            text(&event["why"]),
            text(&event["reason"])
        ),
        Some("ended") => format!("connection ended: {}", text(&event["reason"])),
        Some("stage") => stage(event),
        Some("rules") => format!("rules of the hook: {}", text(&event["step"])),
        _ => event.to_string(),
    };
    format!("{time}  {:<16}  {what}\n", text(&event["client_id"]))
}

fn packet(event: &Value) -> String {
    let arrow = match event["direction"] == "in" {
        true => '>',
        false => '<',
    };
    let mut line = format!("{arrow} {}", text(&event["packet"]));
    if !event["packet_id"].is_null() {
        line += &format!(" {}", text(&event["packet_id"]));
    }
    for filter in event["filters"].as_array().into_iter().flatten() {
        line += &format!(" {}", text(filter));
    }
    if event["payload_bytes"].is_number() {
        line += &message(event);
    }
    for reason in event["reasons"].as_array().into_iter().flatten() {
        line += &format!(" 0x{:02X}", reason.as_u64().unwrap_or(0));
    }
    line
}

/// ` a/b qos 1 retain, 12 bytes "payload"`
fn message(event: &Value) -> String {
    let mut line = match (event["topic"].as_str(), &event["topic_alias"]) {
        (Some(""), alias) => format!(" alias {}", text(alias)),
        (_, Value::Null) => format!(" {}", text(&event["topic"])),
        (_, alias) => format!(" {} (alias {})", text(&event["topic"]), text(alias)),
    };
    line += &format!(" qos {}", text(&event["qos"]));
    for flag in ["retain", "dup"] {
        if event[flag] == true {
            line += &format!(" {flag}");
        }
    }
    line += &format!(", {} bytes", count(&event["payload_bytes"]));
    if event["payload"].is_string() {
        line += &format!(" \"{}\"", text(&event["payload"]));
    }
    if event["payload_base64"].is_string() {
        line += &format!(" base64 {}", text(&event["payload_base64"]));
    }
    line
}

fn published(event: &Value) -> String {
    let line = match event["count"].as_u64() {
        Some(1) | None => format!("published{}", message(event)),
        Some(several) => format!("published {several} messages,{}", message(event)),
    };
    if !event["reason"].is_null() {
        let rule = match &event["denied_by"] {
            Value::Null => String::new(),
            rule => format!(", by {}", text(rule)),
        };
        return format!("{line}: refused, {}{rule}", text(&event["reason"]));
    }
    let n = |key: &str| event[key].as_u64().unwrap_or(0);
    format!(
        "{line}: to {} subscribers here, {} groups, {} other shards",
        n("subscribers"),
        n("groups"),
        n("other_shards")
    )
}

fn stage(event: &Value) -> String {
    let took = event["took_us"].as_f64().unwrap_or_default();
    let took = match took < 1000.0 {
        true => format!("{took:.1} us"),
        false => format!("{:.1} ms", took / 1000.0),
    };
    match event["stage"].as_str() {
        Some("turn") => format!("the turn took {took}"),
        Some("queue") => format!("it had waited in the queue for {took}"),
        Some("ack") => format!("the client has acknowledged after {took}"),
        Some("send") => format!("the socket has taken the bytes after {took}"),
        Some("send_wait") => format!("bytes had waited for the send before for {took}"),
        _ => format!("{} took {took}", text(&event["stage"])),
    }
}

fn delivery(event: &Value) -> String {
    let topic = text(&event["topic"]);
    match event["step"].as_str() {
        Some("sent") if event["count"] == 1 => format!("{topic}: sent"),
        Some("sent") => format!("{topic}: {} sent", count(&event["count"])),
        Some("queued") => format!("{topic}: queued behind {}", count(&event["ahead"])),
        Some("sent_from_queue") => format!("{topic}: sent from the queue"),
        _ => {
            let bound = match &event["bound"] {
                Value::Null => String::new(),
                bound => format!(", {} = {}", text(&bound["name"]), count(&bound["max"])),
            };
            format!("{topic}: LOST, {}{bound}", text(&event["reason"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() {
        let base = json!({"at": "2026-11-30T14:02:11.123456Z", "client_id": "meter-17"});
        for (more, expected) in [
            (
                json!({
                    "event": "packet", "direction": "in", "packet": "PUBLISH", "packet_id": 7,
                    "topic": "site/4", "qos": 1, "retain": true, "payload_bytes": 1200,
                    "payload": "a\nb",
                }),
                "> PUBLISH 7 site/4 qos 1 retain, 1,200 bytes \"a\\nb\"",
            ),
            (
                json!({
                    "event": "packet", "direction": "out", "packet": "PUBLISH", "topic": "t",
                    "qos": 0, "payload_bytes": 2, "payload_base64": "//4=",
                }),
                "< PUBLISH t qos 0, 2 bytes base64 //4=",
            ),
            (
                json!({
                    "event": "packet", "direction": "out", "packet": "SUBACK", "packet_id": 1,
                    "reasons": [1, 135],
                }),
                "< SUBACK 1 0x01 0x87",
            ),
            (
                json!({
                    "event": "published", "count": 1, "topic": "t", "qos": 0, "payload_bytes": 3,
                    "reason": "publish_denied", "denied_by": "topic deny t",
                }),
                "published t qos 0, 3 bytes: refused, publish_denied, by topic deny t",
            ),
            (
                json!({
                    "event": "delivery", "step": "lost", "topic": "t", "reason": "queue_full",
                    "bound": {"name": "queued_messages_max", "max": 10000},
                }),
                "t: LOST, queue_full, queued_messages_max = 10,000",
            ),
            (
                json!({"event": "stage", "stage": "ack", "took_us": 1234.5}),
                "the client has acknowledged after 1.2 ms",
            ),
            (
                json!({"event": "stage", "stage": "turn", "took_us": 17.04}),
                "the turn took 17.0 us",
            ),
        ] {
            let mut event = base.clone();
            event
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let line = format!("14:02:11.123456Z  meter-17          {expected}\n");
            assert_eq!(shown(&event), line);
        }
        let end = shown(&json!({"ended": true, "events": 7, "left_out": 3}));
        assert_eq!(end, "the trace has ended: 7 events, up to 3 left out\n");
    }
}
