//! `docs/limits.md`: every bound in one table, generated from the settings and the names of
//! refusals. Run the tests with `UPDATE_DOCS=1` after a change.

use std::fmt::Write as _;
use std::path::Path;

use ringmq::bounds::FIXED_BOUNDS;
use ringmq_core::refusal::Refusal;
use ringmq_core::shard::DropReason;

use super::TABLE;

/// What happens at a bound.
struct Bound {
    key: &'static str,
    /// In a table cell; `{}` is the reason code of the first refusal.
    beyond: &'static str,
    refused: &'static [Refusal],
    dropped: &'static [DropReason],
}

const fn bound(
    key: &'static str,
    beyond: &'static str,
    refused: &'static [Refusal],
    dropped: &'static [DropReason],
) -> Bound {
    Bound {
        key,
        beyond,
        refused,
        dropped,
    }
}

/// In the order of a client's life. The settings of these sections that are no bounds are in
/// `OTHERS`.
const BOUNDS: &[Bound] = &[
    bound(
        "connections_max",
        "CONNACK {}, or 0x9C with `server_reference`; at once closed if more than 64 wait for that",
        &[Refusal::ConnectionsFull],
        &[],
    ),
    bound(
        "connections_per_address_max",
        "CONNACK {}",
        &[Refusal::AddressFull],
        &[],
    ),
    bound("connect_rate_max", "accepted later", &[], &[]),
    bound(
        "connect_rate_per_address_max",
        "CONNACK {}",
        &[Refusal::AddressRate],
        &[],
    ),
    bound(
        "connect_deadline",
        "closed",
        &[Refusal::ConnectDeadline],
        &[],
    ),
    bound(
        "connect_size_max",
        "CONNACK {}",
        &[Refusal::PacketTooLarge],
        &[],
    ),
    bound(
        "client_id_size_max",
        "CONNACK {}",
        &[Refusal::ClientId],
        &[],
    ),
    bound(
        "sessions_max",
        "CONNACK {}, or 0x9C with `server_reference`",
        &[Refusal::SessionsFull],
        &[],
    ),
    bound(
        "session_expiry_max",
        "CONNACK tells the shorter time",
        &[],
        &[],
    ),
    bound(
        "keep_alive_max",
        "CONNACK tells the shorter time",
        &[Refusal::KeepAlive],
        &[],
    ),
    bound(
        "packet_size_max",
        "DISCONNECT {}",
        &[Refusal::PacketTooLarge],
        &[],
    ),
    bound(
        "partial_bytes_max",
        "DISCONNECT {}",
        &[Refusal::PartialsFull],
        &[],
    ),
    bound(
        "topic_size_max",
        "DISCONNECT {}; in a will CONNACK 0x90, in a filter SUBACK 0x8F",
        &[Refusal::TopicName, Refusal::WillTopic, Refusal::TopicFilter],
        &[],
    ),
    bound(
        "topic_levels_max",
        "as `topic_size_max`",
        &[Refusal::TopicName, Refusal::WillTopic, Refusal::TopicFilter],
        &[],
    ),
    bound(
        "topic_alias_max",
        "DISCONNECT {}",
        &[Refusal::TopicAlias],
        &[],
    ),
    bound(
        "topic_alias_outbound_max",
        "the topic is sent in full",
        &[],
        &[],
    ),
    bound(
        "user_properties_max",
        "DISCONNECT {}; in CONNECT and wills CONNACK 0x97",
        &[Refusal::UserProperties],
        &[],
    ),
    bound(
        "qos_max",
        "DISCONNECT {}; in a will CONNACK 0x9B; SUBACK grants this one",
        &[Refusal::Qos],
        &[],
    ),
    bound(
        "receive_maximum",
        "DISCONNECT {}",
        &[Refusal::ReceiveMaximum],
        &[],
    ),
    bound(
        "message_rate_max",
        "read less; with `rate_exceeded = \"disconnect\"` DISCONNECT {}",
        &[Refusal::MessageRate],
        &[],
    ),
    bound(
        "byte_rate_max",
        "as `message_rate_max`",
        &[Refusal::MessageRate],
        &[],
    ),
    bound(
        "subscriptions_max",
        "SUBACK {}",
        &[Refusal::SubscriptionsFull],
        &[],
    ),
    bound("inflight_messages_max", "wait in the queue", &[], &[]),
    bound("inflight_bytes_max", "wait in the queue", &[], &[]),
    bound(
        "queued_messages_max",
        "the message is dropped",
        &[],
        &[DropReason::QueueFull],
    ),
    bound(
        "queued_bytes_max",
        "the message is dropped",
        &[],
        &[DropReason::QueueFull],
    ),
    bound(
        "total_queued_messages_max",
        "the message is dropped",
        &[],
        &[DropReason::ShardFull],
    ),
    bound(
        "total_queued_bytes_max",
        "the message is dropped",
        &[],
        &[DropReason::ShardFull],
    ),
    bound(
        "unsent_bytes_max",
        "QoS 0 is dropped; QoS 1 and 2 wait in the queue, and retained messages wait, from a \
         quarter of it on; at twice as much the client is not read any more",
        &[],
        &[DropReason::SlowSocket],
    ),
    bound(
        "total_unsent_bytes_max",
        "QoS 0 is dropped; QoS 1 and 2 wait in the queue, and retained messages wait, from half of \
         it on",
        &[],
        &[DropReason::SlowSocket],
    ),
    bound("retained_page_max", "sent later", &[], &[]),
    bound(
        "retained_messages_max",
        "PUBACK {} with QoS 1, if the topic belongs to the shard of the publisher; subscribers get \
         the message",
        &[Refusal::RetainedFull],
        &[DropReason::RetainedFull],
    ),
    bound(
        "retained_bytes_max",
        "PUBACK {} with QoS 1, if the topic belongs to the shard of the publisher; subscribers get \
         the message",
        &[Refusal::RetainedFull],
        &[DropReason::RetainedFull],
    ),
];

/// Rows of the sections `limits` and `mqtt` that bound nothing.
const OTHERS: &[&str] = &[
    "payload_format_checked",
    "rate_exceeded",
    "receive_maximum_enforced",
    "response_information",
    "retain_available",
    "server_redirect",
    "server_reference",
    "wildcards_available",
];

fn page() -> String {
    let mut text = String::from(INTRODUCTION);
    for bound in BOUNDS {
        let row = TABLE.iter().find(|row| row.key == bound.key);
        let row = row.unwrap_or_else(|| panic!("there is no setting {}", bound.key));
        let default = match row.auto {
            Some(meaning) => format!("auto: {meaning}"),
            None => format!("`{}`", row.show(&row.default_value())),
        };
        let code = bound.refused.first().map(|refusal| refusal.code().byte());
        let code = code.map(|code| format!("0x{code:02X}")).unwrap_or_default();
        let beyond = bound.beyond.replace("{}", &code);
        let refused = bound
            .refused
            .iter()
            .map(|r| format!("`refused/{}`", r.name()));
        let dropped = bound
            .dropped
            .iter()
            .map(|r| format!("`dropped/{}`", r.name()));
        let counted: Vec<String> = refused.chain(dropped).collect();
        let (key, help) = (row.key, row.help);
        let _ = writeln!(
            text,
            "| `{key}` | {default} | {help} | {beyond} | {} |",
            counted.join(", ")
        );
    }
    text += FIXED;
    for bound in FIXED_BOUNDS {
        let (what, beyond) = (bound.what, bound.beyond);
        let _ = writeln!(text, "| {what} | {} | {beyond} |", bound.value);
    }
    text += REFUSALS;
    for refusal in Refusal::ALL {
        let code = refusal.code().byte();
        let _ = writeln!(
            text,
            "| `{}` | 0x{code:02X} | {} |",
            refusal.name(),
            refusal.text()
        );
    }
    text
}

#[test]
fn the_page_of_limits_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/limits.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let update = "run: UPDATE_DOCS=1 cargo test -p ringmq the_page_of_limits";
    assert_eq!(written, page(), "docs/limits.md is out of date: {update}");
}

/// Every constant of the sources that is named as a bound has a row in the manual, or is listed as
/// one that nobody outside meets.
#[test]
fn every_fixed_bound_is_in_the_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in [
        "core/src",
        "net/src",
        "net/ring/src",
        "net/problem/src",
        "net/certificates/src",
    ] {
        find_bounds(&root.join(folder), &mut found);
    }
    assert!(found.len() > FIXED_BOUNDS.len(), "the sources are there");
    for name in &found {
        let (_, constant) = name.split_once("::").unwrap();
        let is_fixed = FIXED_BOUNDS.iter().any(|bound| bound.name == name);
        let is_inner = INNER
            .iter()
            .any(|inner| inner == name || *inner == constant);
        assert!(
            is_fixed != is_inner,
            "{name}: give it a row in net/src/bounds.rs if a client can meet it, or list it in \
             INNER here"
        );
    }
    for bound in FIXED_BOUNDS {
        let is_there = found.iter().any(|name| name == bound.name);
        assert!(is_there, "there is no {}", bound.name);
    }
}

/// Adds `MODULE::NAME` of each constant whose name ends with `_MAX`, tests left out.
fn find_bounds(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            find_bounds(&path, found);
        } else if stem != "tests" && path.extension().is_some_and(|extension| extension == "rs") {
            let module = match stem {
                "mod" => path
                    .parent()
                    .unwrap()
                    .file_name()
                    .unwrap()
                    .to_str()
                    .unwrap(),
                _ => stem,
            };
            let text = std::fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let constants = code.split("const ").skip(1).filter_map(|rest| {
                let name = rest.split(':').next()?;
                let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                (name.ends_with("_MAX") && name.chars().all(is_name)).then_some(name)
            });
            found.extend(constants.map(|name| format!("{module}::{name}")));
        }
    }
}

/// Constants that bound what nobody outside can tell: batches and turns, what is kept for reuse,
/// what is logged, what settings may be set to. By name, or with the module where others have the
/// same one.
const INNER: &[&str] = &[
    "ANSWERS_WAIT_MAX",
    "BATCH_MESSAGES_MAX",
    "BYTES_MAX",
    "CALLS_BEFORE_CONNECT_MAX",
    "CALLS_MAX",
    "CALL_SIZE_MAX",
    "CANCEL_ROUNDS_MAX",
    "CLASSIC_EXPONENT_MAX",
    "CLOSES_MAX",
    "COMPARED_MAX",
    "COMPLETIONS_MAX",
    "CORES_MAX",
    "COUNT_MAX",
    "DATE_MAX",
    "DEBT_MAX",
    "DELIVERY_MAX",
    "EPOCHS_MAX",
    "EXPONENT_MAX",
    "FILE_SIZE_MAX",
    "FIRST_PAGE_MAX",
    "FLUSH_TIME_MAX",
    "FRAME_SIZE_MAX",
    "FUNCTIONS_MAX",
    "GIVE_UP_TIME_MAX",
    "GROWTH_MAX",
    "HINTS_MAX",
    "HOLES_KEPT_MAX",
    "HOPS_FOR_BETTER_MAX",
    "HOPS_MAX",
    "IDENTIFIER_MAX",
    "ITERATIONS_MAX",
    "KEPT_CAPACITY_MAX",
    "KEPT_COUNT_MAX",
    "KEPT_SIZE_MAX",
    "LAG_MAX",
    "LANES_MAX",
    "LARGEST_MAX",
    "LAZY_MAX",
    "LOGGED_MAX",
    "MAIL_COUNT_MAX",
    "MAIL_MAX",
    "MEMORY_KIB_MAX",
    "NAME_CHARS_MAX",
    "NAME_SIZE_MAX",
    "NEAREST_CHARS_MAX",
    "OPS_MAX",
    "PACKET_SIZE_MAX",
    "PARCELS_MAX",
    "PASSES_MAX",
    "PER_SHARD_MAX",
    "PIECES_MAX",
    "PLACES_MAX",
    "PREFIX_LEVELS_MAX",
    "PROBLEMS_MAX",
    "PURGED_MAX",
    "QUEUE_LINES_MAX",
    "RECENT_MAX",
    "RECHECKS_MAX",
    "REFUSED_SIZE_MAX",
    "RESTS_MAX",
    "RETRY_MAX",
    "ROUNDS_MAX",
    "ROUTES_MAX",
    "RUN_COUNT_MAX",
    "RUN_SIZE_MAX",
    "SCANNED_MAX",
    "SEND_SIZE_MAX",
    "SHARDS_MAX",
    "SHORT_MAX",
    "SINGLY_KEPT_MAX",
    "SIZE_MAX",
    "SLICE_SIZE_MAX",
    "SPARE_COUNT_MAX",
    "SPARE_SIZE_MAX",
    "STACK_SIZE_MAX",
    "STARVED_MAX",
    "STOP_TIME_MAX",
    "TEXT_SIZE_MAX",
    "TOPIC_SIZE_MAX",
    "U16_MAX",
    "U32_MAX",
    "UNDER_WAY_MAX",
    "VALUE_CHARS_MAX",
    "VARINT_MAX",
    "VARINT_SIZE_MAX",
    "WRITERS_MAX",
    "ask::ROWS_MAX",
    "ask::SLOTS_MAX",
    "asker::ANSWER_TIME_MAX",
    "asker::SINGLES_MAX",
    "backup::TRIES_MAX",
    "feed::TOPICS_MAX",
    "file::READS_MAX",
    "frames::HEADER_SIZE_MAX",
    "keeper::PAUSE_MAX",
    "inbox::ASKS_MAX",
    "keeper::SPARES_MAX",
    "listing::READER_TIME_MAX",
    "live::READER_TIME_MAX",
    "live::SECONDS_MAX",
    "parcel::BODY_SIZE_MAX",
    "recovery::EPOCHS_MAX",
    "shift::AHEAD_MAX",
    "shift::BEHIND_MAX",
    "socket::SOCKETS_MAX",
    "cases::LOOKED_AT_MAX",
    "cases::ROWS_MAX",
    "drain::REDIRECT_SIZE_MAX",
    "explain::LIMIT_MAX",
    "losses::LIMIT_MAX",
    "objects::LIMIT_MAX",
    "subscribers::LOOKS_MAX",
    "top::LIMIT_MAX",
    "topics::LIMIT_MAX",
    "findings::ROWS_MAX",
    "trace::EVENTS_MAX",
    "LIST_SIZE_MAX",
    "LOG_SPAN_MAX",
    "DECISION_TIME_MAX",
    "URL_SIZE_MAX",
    "bulk::READER_TIME_MAX",
    "traces::EVENTS_AT_ONCE_MAX",
    "traces::READER_TIME_MAX",
    "conf::SIZE_MAX",
    "meaning::PACKET_SIZE_MAX",
    "target::CONNECTIONS_MAX",
    "top::CLIENTS_MAX",
    "PATH_SIZE_MAX",
    "WAIT_TIME_MAX",
];

#[test]
fn every_limit_has_a_row_and_every_reason_a_place_in_the_manual() {
    for row in TABLE {
        let is_limit = row.section == "limits" || row.section == "mqtt";
        let listed = BOUNDS.iter().filter(|bound| bound.key == row.key).count();
        let is_other = OTHERS.contains(&row.key);
        if is_limit {
            assert_eq!(listed + usize::from(is_other), 1, "{}", row.key)
        } else {
            assert!(listed <= 1 && !is_other, "{}", row.key)
        }
    }
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/missing-messages.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    for reason in DropReason::ALL {
        let heading = format!("### `{}`\n", reason.name());
        assert!(
            manual.contains(&heading),
            "docs/missing-messages.md lacks {heading}"
        );
    }
    // What it names is there.
    for word in manual.split('`').skip(1).step_by(2) {
        if let Some(key) = word.strip_suffix("_max").map(|_| word) {
            assert!(TABLE.iter().any(|row| row.key == key), "{key}");
        }
        if let Some(name) = word.strip_prefix("refused/") {
            let is_there = name == "REASON" || Refusal::ALL.iter().any(|r| r.name() == name);
            assert!(is_there, "{word}");
        }
        if let Some(name) = word.strip_prefix("dropped/") {
            let is_there = name == "REASON" || DropReason::ALL.iter().any(|r| r.name() == name);
            assert!(is_there, "{word}");
        }
    }
}

const INTRODUCTION: &str = "\
# Limits

<!-- Written by a test from the table in net/src/program/settings/mod.rs: \
UPDATE_DOCS=1 cargo test -p ringmq the_page_of_limits -->

Every limit of the broker, in the order in which a client meets them. [settings.md](settings.md) has their ranges and options.
*Beyond it* is what an MQTT 5.0 client gets. MQTT 3.1.1 has few codes: its clients are disconnected instead of getting a
DISCONNECT, get 3 (server unavailable) or 2 (identifier rejected) in CONNACK, 0x80 in SUBACK, and an ordinary PUBACK for a message that
was refused; if its will topic is too long or has too many levels, such a client is closed without a CONNACK. *Counted as* is below
`$SYS/broker/shards/N/` ([sys.md](sys.md)); the log names the client ([missing-messages.md](missing-messages.md)). A limit of a
shard applies to each shard: a broker with four shards keeps up to four times as many sessions as `sessions_max`.

| limit | default | what it bounds | beyond it | counted as |
|---|---|---|---|---|
";

const FIXED: &str = "
## Fixed bounds

These cannot be changed.

| what | at most | beyond it |
|---|---|---|
";

const REFUSALS: &str = "
## Refusals

Each is counted as `refused/REASON` and logged with that reason. MQTT 5.0 clients get its code and its text as Reason String,
if a packet can carry it, the client accepts a packet of that size, and it has not turned problem information off.

| reason | code | text |
|---|---|---|
";
