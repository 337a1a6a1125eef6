//! What requests take and answers have, for `GET /openapi.json`.
//!
//! A test compares these with what the broker answers.

use super::describe::{
    Field, count, decimal, flag, numbers, object, objects, one_of, text, texts, within,
};

const QOS: (u64, u64) = (0, 2);
const CLIENT_ORDERS: &[&str] = &[
    "queued",
    "unsent",
    "in",
    "out",
    "dropped",
    "bytes",
    "subscriptions",
];
const TOPIC_ORDERS: &[&str] = &["messages", "bytes"];
const LIMIT: Field = within("limit", (1, 10_000), "At most so many").optional();
const CURSOR: Field = text("cursor", "Of the page before").optional();
const NEXT: Field = text("cursor", "Of the next page; null: this is the last").or_null();
const NEXT_NUMBER: Field = count("cursor", "Of the next page; null: this is the last").or_null();
const MISSING: Field = numbers("missing_shards", "Shards that do not answer");
const SHARD: Field = count("shard", "Which shard, from 0");
const CLIENT_ID: Field = text("client_id", "The client identifier");
const TOPIC: Field = text("topic", "The topic");
const BOUND: &[Field] = &[
    text("name", "The setting, or what the client has stated"),
    count("max", "How much"),
];

pub(super) const BROKER: &[Field] = &[
    text("version", "Of the program"),
    count("pid", "Its process"),
    count("uptime_s", "Seconds since its start"),
    flag("ready", "It serves clients, and every shard answers"),
    texts("listeners", "Where clients connect"),
    text(
        "data_dir",
        "Where sessions and messages are kept; null: in memory",
    )
    .or_null(),
    count("shards", "How many there are"),
    count("shards_responding", "How many of them answer"),
    count("connections", "Open connections"),
    count("connections_max", "Most connections"),
    count("sessions", "Sessions"),
    count("sessions_connected", "Sessions whose clients are connected"),
    count("subscriptions", "Subscriptions, without shared ones"),
    count("shared_subscriptions", "Shared subscriptions"),
    count("retained_messages", "Retained messages"),
    count("queued_messages", "Messages that wait for clients"),
    count("queued_bytes", "Bytes of them"),
    count(
        "publishes_received",
        "Messages from clients since the start",
    ),
    count("publishes_sent", "Messages to clients since the start"),
    count("messages_dropped", "Messages that subscribers missed"),
    count("connects_refused", "Connections that were not let in"),
];

pub(super) const SHARDS: &[Field] = &[objects("shards", ONE_SHARD, "One by one")];

const ONE_SHARD: &[Field] = &[
    SHARD,
    flag("responding", "It answers; otherwise the rest is older"),
    count("connections", "Open connections"),
    count("sessions", "Sessions"),
    count("subscriptions", "Subscriptions, shared ones among them"),
    count("queued_messages", "Messages that wait for clients"),
    count("unsent_bytes", "Bytes that sockets have not taken"),
    count("inbox_messages", "Messages of other shards that wait"),
    count("publishes_received", "Messages from clients"),
    count("publishes_sent", "Messages to clients"),
    count("messages_dropped", "Messages that subscribers missed"),
    count("turns", "Turns"),
    count("parks", "Times it slept"),
    count("stalls", "Turns that took too long"),
    decimal("cpu_s", "Seconds on a core").or_null(),
    decimal("runnable_s", "Seconds ready without a core").or_null(),
];

pub(super) const STALLS: &[Field] = &[objects("stalls", STALL, "The newest first")];

const STALL: &[Field] = &[
    SHARD,
    one_of(
        "kind",
        &["running", "waiting", "blocked"],
        "Why the turn did not end",
    ),
    count("noticed_unix_ms", "Milliseconds since 1970"),
    count("took_ms", "How long it took; so far, if it has not ended"),
    flag("has_ended", "The turn has ended"),
    text("kernel_function", "What it waits in").or_null(),
    texts("functions", "Of one that was running, the innermost first"),
];

pub(super) const PROFILE: &[Field] = &[
    text("version", "Of the program"),
    decimal("uptime_s", "Seconds since its start"),
    count("shards", "How many there are"),
    count("connections", "Open connections"),
    count("sessions", "Sessions"),
    count("subscriptions", "Subscriptions, without shared ones"),
    count("shared_subscriptions", "Shared subscriptions"),
    count("retained_messages", "Retained messages"),
    count(
        "connects",
        "Clients let in; this and what follows since the start",
    ),
    count("connects_refused", "Clients that were not let in"),
    count("connections_closed", "Connections that have ended"),
    count("packets_in", "Packets from clients"),
    count("packets_out", "Packets to clients"),
    numbers("publishes_in", "Messages from clients, by QoS"),
    numbers("publishes_out", "Messages to clients, by QoS"),
    count("payload_bytes_in", "Payload of those from clients"),
    count("payload_bytes_out", "Payload of those to clients"),
    count("dropped", "Messages that subscribers missed"),
    objects(
        "payload_sizes",
        PAYLOAD_SIZE,
        "Of the messages from clients, ascending",
    ),
    MISSING,
];

const PAYLOAD_SIZE: &[Field] = &[
    count("min", "Bytes at least"),
    count("max", "Bytes at most"),
    count("count", "So many messages"),
];

pub(super) const CLIENTS_QUERY: &[Field] = &[
    flag(
        "connected",
        "Only clients that are connected, or that are not",
    )
    .optional(),
    text("prefix", "Only clients whose identifier begins so").optional(),
    text("user", "Only clients of this user").optional(),
    text(
        "address",
        "Only clients that are connected from this address",
    )
    .optional(),
    count(
        "queued_min",
        "Only clients with at least so many queued messages",
    )
    .optional(),
    one_of(
        "sort",
        CLIENT_ORDERS,
        "Those with the most of this, on one page",
    )
    .optional(),
    LIMIT,
    CURSOR,
];

pub(super) const CLIENTS: &[Field] = &[objects("clients", CLIENT, "Sessions"), NEXT, MISSING];

pub(super) const CLIENT: &[Field] = &[
    CLIENT_ID,
    text("user", "Whom the session belongs to").or_null(),
    flag("connected", "The client is connected"),
    SHARD,
    one_of(
        "protocol",
        &["3.1", "3.1.1", "5.0"],
        "Of the present or the last connection",
    ),
    text("peer", "Where the client is").or_null(),
    count("connected_for_s", "Seconds").or_null(),
    count("silent_for_s", "Seconds without a packet").or_null(),
    decimal("silence_max_s", "Silence after which it counts as lost").or_null(),
    flag("bridge", "It says that it is a bridge"),
    flag("paused", "Its connection is not read at the moment"),
    count("unsent_bytes", "Bytes that its socket has not taken"),
    count("in", "Messages from the client, on this connection"),
    count("out", "Messages to it, on this connection"),
    count(
        "dropped",
        "Messages for it that were lost, on this connection",
    ),
    count("bytes", "Both ways, on this connection"),
    count("in_payload_bytes", "Payload of the messages from it"),
    count(
        "in_qos1",
        "Of these messages, those with QoS 1, modulo 2^32",
    ),
    count("in_qos2", "Those with QoS 2, modulo 2^32"),
    text(
        "topic",
        "On which it published last; null: it has not, or that was long ago",
    )
    .or_null(),
    count("subscriptions", "Subscriptions"),
    count("queued_messages", "Messages that wait"),
    count("queued_bytes", "Bytes of them"),
    count(
        "inflight",
        "Messages that were sent and are not acknowledged",
    ),
    count("receipts", "QoS 2 messages from it that are not complete"),
    flag("will", "It has a will"),
    count(
        "expiry_s",
        "How long the session outlives its connection; null: for ever",
    )
    .or_null(),
    count("ends_in_s", "When it ends, if the client stays away").or_null(),
];

pub(super) const FIND_ORDER: &[Field] = &[text("client", "The client identifier")];

pub(super) const DISCONNECT: &[Field] =
    &[flag("will", "Publish its will; true unless said").optional()];
pub(super) const DISCONNECTED: &[Field] = &[text("disconnected", "Which client")];
pub(super) const DELETED: &[Field] = &[text("deleted", "What")];

pub(super) const DISCONNECT_MANY: &[Field] = &[
    CLIENT_NAMED,
    PREFIX,
    USER,
    ADDRESS,
    QUEUED_MIN,
    ALL,
    flag("will", "Publish their wills; true unless said").optional(),
    RATE,
    DRY_RUN,
];
pub(super) const DELETE_SESSIONS: &[Field] = &[
    flag(
        "connected",
        "Only of clients that are connected, or that are not",
    )
    .optional(),
    CLIENT_NAMED,
    PREFIX,
    USER,
    ADDRESS,
    QUEUED_MIN,
    ALL,
    RATE,
    DRY_RUN,
];
pub(super) const DELETE_RETAINED: &[Field] =
    &[text("filter", "On topics that this matches"), RATE, DRY_RUN];

const CLIENT_NAMED: Field = text(
    "client",
    "This client: for identifiers that no URL has room for",
)
.optional();
const PREFIX: Field = text("prefix", "Only clients whose identifier begins so").optional();
const USER: Field = text("user", "Only clients of this user").optional();
const ADDRESS: Field = text(
    "address",
    "Only clients that are connected from this address",
)
.optional();
const QUEUED_MIN: Field = count(
    "queued_min",
    "Only clients with at least so many queued messages",
)
.optional();
const ALL: Field = flag("all", "All of them: needed if nothing else narrows it").optional();
const RATE: Field = within("rate", (1, u32::MAX as u64), "So many a second at most").optional();
const DRY_RUN: Field = flag("dry_run", "Only count them").optional();

pub(super) const OF_CLIENT_QUERY: &[Field] =
    &[LIMIT, count("cursor", "Of the page before").optional()];

pub(super) const SUBSCRIPTIONS_OF: &[Field] = &[
    objects("subscriptions", SUBSCRIPTION, "In no order"),
    NEXT_NUMBER,
];

const SUBSCRIPTION: &[Field] = &[
    text("filter", "With the share name"),
    within("qos", QOS, "Granted"),
    flag("no_local", "It does not get what it publishes itself"),
    flag(
        "retain_as_published",
        "It gets the RETAIN flag of the PUBLISH",
    ),
    count("id", "Subscription Identifier").or_null(),
];

pub(super) const QUEUE: &[Field] = &[objects("queue", QUEUED, "The oldest first"), NEXT_NUMBER];

const QUEUED: &[Field] = &[
    count("number", "Of all that the session ever took"),
    TOPIC,
    within("qos", QOS, "With this QoS"),
    count("payload_bytes", "Bytes of payload"),
    count("expires_in_s", "Seconds").or_null(),
];

pub(super) const LOSSES_OF: &[Field] = &[
    CLIENT_ID,
    flag("connected", "The client is connected"),
    count("away_for_s", "Seconds").or_null(),
    objects("losses", TALLY, "By reason"),
];

const TALLY: &[Field] = &[
    text("reason", "Its name"),
    count("count", "How many"),
    text("first", "When the first was"),
    text("last", "When the last was"),
    text("topic", "Of the last"),
    object("bound", BOUND, "The bound that was reached").or_null(),
    text("meaning", "In a few words"),
    text("fix", "What to do about it"),
];

pub(super) const LOSSES_QUERY: &[Field] = &[
    text("client", "Only of this client").optional(),
    text(
        "topic",
        "Only on this topic, or on topics that this filter matches",
    )
    .optional(),
    text("reason", "Only for this reason").optional(),
    count("since", "Only of the last so many seconds").optional(),
    within("limit", (1, 1000), "At most so many").optional(),
];

pub(super) const LOSSES: &[Field] = &[objects("losses", LOSS, "The newest first"), MISSING];

const LOSS: &[Field] = &[
    SHARD,
    text("at", "When"),
    text("client_id", "Whose; null: nobody in particular").or_null(),
    TOPIC,
    text("reason", "Its name"),
    count("count", "How many, one after the other"),
    object("bound", BOUND, "The bound that was reached").or_null(),
];

pub(super) const EXPLAIN_QUERY: &[Field] = &[
    TOPIC,
    text("from", "Who would publish").optional(),
    within("qos", QOS, "With this QoS").optional(),
    within("size", (0, u32::MAX as u64), "Bytes of payload").optional(),
    LIMIT,
];

pub(super) const EXPLAIN: &[Field] = &[
    TOPIC,
    text("from", "Who would publish").or_null(),
    object("publisher", PUBLISHER, "What the publisher is told").or_null(),
    within("qos", QOS, "With this QoS"),
    objects(
        "subscribers",
        EXPLAINED,
        "Everybody with a matching subscription",
    ),
    count("would_get", "How many would get it; of each group, one"),
    flag("has_more", "There are more subscribers"),
    MISSING,
];

const PUBLISHER: &[Field] = &[
    CLIENT_ID,
    flag("may_publish", "Null: it has no session").or_null(),
    text("why", "In a sentence"),
];

const EXPLAINED: &[Field] = &[
    CLIENT_ID,
    text("user", "Who that is").or_null(),
    flag("connected", "It is connected"),
    SHARD,
    texts("filters", "Its filters that match"),
    text("group", "Share name and filter of its group").or_null(),
    within("qos", QOS, "That it is sent with"),
    flag("no_local", "It does not get what it publishes itself"),
    flag(
        "retain_as_published",
        "It gets the RETAIN flag of the PUBLISH",
    ),
    numbers("ids", "Subscription Identifiers"),
    flag("gets", "It gets the message, at once or later"),
    text("fate", "In a word"),
    text("why", "In a sentence"),
    object("bound", BOUND, "The bound that is reached").or_null(),
];

pub(super) const SUBSCRIBERS_QUERY: &[Field] = &[
    text(
        "topic",
        "Those who get a message on this topic; this or `filter`",
    )
    .optional(),
    text("filter", "Those who have subscribed with this filter").optional(),
    LIMIT,
    CURSOR,
];

pub(super) const SUBSCRIBERS: &[Field] = &[
    objects("subscriptions", SUBSCRIBER, "Subscribers"),
    NEXT,
    MISSING,
];

const SUBSCRIBER: &[Field] = &[
    CLIENT_ID,
    text("user", "Who that is").or_null(),
    flag("connected", "It is connected"),
    SHARD,
    texts("filters", "Its filters that match"),
    text("group", "Share name and filter of its group").or_null(),
    within("qos", QOS, "Granted"),
    flag("no_local", "It does not get what it publishes itself"),
    flag(
        "retain_as_published",
        "It gets the RETAIN flag of the PUBLISH",
    ),
    numbers("ids", "Subscription Identifiers"),
];

pub(super) const TOPICS_QUERY: &[Field] = &[
    one_of("by", TOPIC_ORDERS, "Those with the most of this").optional(),
    within("limit", (1, 1000), "At most so many").optional(),
];

pub(super) const TOPICS: &[Field] = &[
    one_of("by", TOPIC_ORDERS, "By what they are ordered"),
    objects("topics", BUSY_TOPIC, "Those with the most first"),
    decimal("span_s", "Since so many seconds is counted"),
    count("error", "By how much a count may be too low"),
    MISSING,
];

const BUSY_TOPIC: &[Field] = &[
    text("topic", "Its first 256 bytes"),
    count("messages", "Messages of clients"),
    count("bytes", "Bytes of payload"),
    decimal("messages_per_s", "On average"),
    decimal("bytes_per_s", "On average"),
];

pub(super) const TRACE_ORDER: &[Field] = &[
    text("client", "A client; this, `topic` or `address`").optional(),
    text("topic", "A topic, or a filter").optional(),
    text("address", "An IP address").optional(),
    within("for", (1, 86_400), "Seconds; 600 unless said").optional(),
    within(
        "payload",
        (0, 1024),
        "Bytes of each payload; none unless said",
    )
    .optional(),
    flag("stages", "How long things took; false unless said").optional(),
];

pub(super) const TRACES: &[Field] = &[objects("traces", TRACE, "Those that go on")];

pub(super) const TRACE: &[Field] = &[
    count("id", "Its number"),
    text("client", "Of which client").or_null(),
    text("topic", "Of which topics").or_null(),
    text("address", "Of which address").or_null(),
    count("payload", "Bytes of each payload"),
    flag("stages", "How long things took is told too"),
    text("began", "When"),
    count("ends_in_s", "Seconds"),
    count("events", "Events so far"),
    count("left_out", "Events that there was no room for, at most"),
];

pub(super) const TRACE_ENDED: &[Field] = &[
    count("deleted", "Which"),
    count("events", "Events that it has told"),
];

pub(super) const RETAINED_QUERY: &[Field] = &[
    text("filter", "Only on topics that this matches").optional(),
    LIMIT,
    CURSOR,
];

pub(super) const RETAINED_LIST: &[Field] = &[
    objects("retained", RETAINED_ROW, "Without payloads"),
    NEXT,
    MISSING,
];

const RETAINED_ROW: &[Field] = &[
    TOPIC,
    within("qos", QOS, "With this QoS"),
    count("payload_bytes", "Bytes of payload"),
    count("expires_in_s", "Seconds").or_null(),
    text("publisher", "Who, if that is remembered").or_null(),
];

pub(super) const RETAINED: &[Field] = &[
    TOPIC,
    within("qos", QOS, "With this QoS"),
    count("payload_bytes", "Bytes of payload"),
    count("expires_in_s", "Seconds").or_null(),
    text("publisher", "Who, if that is remembered").or_null(),
    text("payload", "If it is UTF-8").optional(),
    text("payload_base64", "If it is not").optional(),
];

pub(super) const DRAIN_ORDER: &[Field] = &[
    within(
        "wait",
        (0, u32::MAX as u64),
        "Seconds until no connection is accepted; 10 unless said",
    )
    .optional(),
    within(
        "over",
        (0, u32::MAX as u64),
        "Seconds over which clients leave; 60 unless said",
    )
    .optional(),
    text("redirect", "The server that MQTT 5.0 clients are to use")
        .optional()
        .or_null(),
    flag("then_stop", "Stop the broker when all have left").optional(),
];

pub(super) const DRAIN: &[Field] = &[
    flag("draining", "It goes on, or is done"),
    one_of(
        "phase",
        &["waiting", "leaving", "drained", "stopping"],
        "Where it is",
    )
    .optional(),
    count("for_s", "Since so many seconds").optional(),
    count("wait", "As ordered").optional(),
    count("over", "As ordered").optional(),
    text("redirect", "As ordered").optional().or_null(),
    flag("then_stop", "As ordered").optional(),
    count("clients", "That were connected when they began to leave").optional(),
    count("left", "That have left").optional(),
];

pub(super) const CONFIG: &[Field] = &[objects("settings", SETTING, "All of them")];

const SETTING: &[Field] = &[
    text("section", "Table of the file"),
    text("key", "Key within it"),
    text(
        "value",
        "In force; user names and queries of URLs are `***`",
    ),
    text("default", "Its default"),
    flag("needs_restart", "A new value needs a restart"),
    text("help", "What it does"),
];

pub(super) const NOTHING: &[Field] = &[];
pub(super) const CHECK_ORDER: &[Field] = &[
    text("toml", "The text of a configuration file"),
    text("name", "What messages call it").optional().or_null(),
];

pub(super) const CHECKED: &[Field] = &[
    flag("valid", "It could be reloaded"),
    objects("problems", FLAW, "What is wrong"),
    texts("changes", "Settings that would take effect"),
    texts("needs_restart", "Settings that would need a restart"),
    texts("warnings", "What is worth a second look"),
];

const FLAW: &[Field] = &[
    text("what", "What is wrong, and where"),
    text("excerpt", "The line of the file, with a mark below").or_null(),
    text("fix", "What to do"),
];

pub(super) const RELOADED: &[Field] = &[
    texts("changes", "Settings that have taken effect"),
    texts("needs_restart", "Settings that need a restart"),
    texts("warnings", "What is worth a second look"),
];

pub(super) const LOG_ORDER: &[Field] = &[
    text("filter", "Such as info,ringmq::clients=debug"),
    within(
        "for",
        (1, 604_800),
        "Seconds; without it, until the next reload",
    )
    .optional(),
];

pub(super) const LOG: &[Field] = &[
    text("filter", "In force"),
    text("configured", "Of the settings"),
    count("for_s", "Seconds until that of the settings comes back").or_null(),
];
