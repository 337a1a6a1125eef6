//! `docs/limits.md`: every bound in one table, written from the settings and the names of refusals: run
//! the tests with `UPDATE_DOCS=1` after a change.

use std::fmt::Write as _;
use std::path::Path;

use ringmq_core::shard::{DropReason, Refusal};

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

/// In the order of a client's life. The settings of these sections that are no bounds are in `OTHERS`.
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
        "closed",
        &[Refusal::ConnectMalformed],
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
        "QoS 0 is dropped; QoS 1 and 2 wait in the queue, and retained messages wait, from a quarter of it on; at twice as much the client is read no more",
        &[],
        &[DropReason::SlowSocket],
    ),
    bound(
        "total_unsent_bytes_max",
        "QoS 0 is dropped; QoS 1 and 2 wait in the queue, and retained messages wait, from half of it on",
        &[],
        &[DropReason::SlowSocket],
    ),
    bound("retained_page_max", "sent later", &[], &[]),
    bound(
        "retained_messages_max",
        "PUBACK {} with QoS 1, if the topic belongs to the shard of the publisher; subscribers get the message",
        &[Refusal::RetainedFull],
        &[DropReason::RetainedFull],
    ),
    bound(
        "retained_bytes_max",
        "PUBACK {} with QoS 1, if the topic belongs to the shard of the publisher; subscribers get the message",
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

#[test]
fn every_limit_has_a_row_and_every_reason_a_place_in_the_manual() {
    for row in TABLE {
        let is_limit = row.section == "limits" || row.section == "mqtt";
        let listed = BOUNDS.iter().filter(|bound| bound.key == row.key).count();
        let is_other = OTHERS.contains(&row.key);
        match is_limit {
            true => assert_eq!(listed + usize::from(is_other), 1, "{}", row.key),
            false => assert!(listed <= 1 && !is_other, "{}", row.key),
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

<!-- Written by a test from the table in net/src/settings.rs: \
UPDATE_DOCS=1 cargo test -p ringmq the_page_of_limits -->

Every bound of the broker, in the order in which a client meets them. [settings.md](settings.md) has their ranges and options.
*Beyond it* says what a client of MQTT 5.0 is told; one of MQTT 3.1.1, which knows few codes, is closed instead of getting a
DISCONNECT, gets 3 (server unavailable) or 2 (identifier rejected) in CONNACK, 0x80 in SUBACK, and a PUBACK that does not say
that the message was refused; if its will topic is too long or too deep, it is closed without a CONNACK. *Counted as* is below
`$SYS/broker/shards/N/` ([sys.md](sys.md)); the log names the client ([missing-messages.md](missing-messages.md)). A bound of a
shard holds for each of them, so that a broker of four shards keeps up to four times as many sessions as `sessions_max`.

| limit | default | what it bounds | beyond it | counted as |
|---|---|---|---|---|
";

const REFUSALS: &str = "
## Refusals

Each is counted as `refused/REASON`, logged with that reason, and told to clients of MQTT 5.0 with its code and its sentence,
where there is a packet to tell it in, the client takes a packet of that size, and has not turned problem information off.

| reason | code | sentence |
|---|---|---|
";
