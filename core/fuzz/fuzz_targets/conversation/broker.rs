//! Brokers that are short of something, and who may connect to them.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ringmq_core::auth::Access;
use ringmq_core::codec::QoS;
use ringmq_core::limits::{Limits, RateExceeded, Redirect, ShareStrategy};

use super::access;
use super::input::Input;
use super::world::{Feed, Users, World};

/// Users and rules that reloads change to; the first lets everybody do everything.
static ACCESSES: LazyLock<Vec<(Access, Users)>> = LazyLock::new(|| {
    let acl = "topic readwrite a/#\ntopic read $share/#\nuser alice\ntopic readwrite #\ntopic deny a/b\n\
               pattern readwrite %c/#\npattern write %u/+\n";
    let acls = BTreeMap::from([("acl".to_owned(), acl.to_owned())]);
    let accesses: [&[(&str, &str)]; 7] = [
        &[],
        &[("acl", "acl")],
        &[
            ("password", "alice:secret"),
            ("anonymous", "1"),
            ("acl", "acl"),
        ],
        &[
            ("scram", "bob:pencil"),
            ("password", "alice:other"),
            ("anonymous", "1"),
        ],
        &[("scram", "bob:pencil"), ("acl", "acl")],
        &[("tokens", "1"), ("scram", "bob:pencil"), ("acl", "acl")],
        &[
            ("password", "alice:secret"),
            ("rules", "alice:30:publish=#,subscribe=a/#,deny=a/b"),
        ],
    ];
    accesses
        .map(|items| {
            let items: Vec<_> = items
                .iter()
                .map(|(a, b)| (a.to_string(), b.to_string()))
                .collect();
            access::parse(&items, &acls).expect("they are right")
        })
        .into()
});

/// One of them.
pub fn access(index: u8) -> (Access, Users) {
    ACCESSES[usize::from(index) % ACCESSES.len()].clone()
}

/// The broker that the first bytes of the input ask for.
pub fn open(input: &mut Input<'_>) -> World {
    let head = input.byte();
    let shards = 1 + usize::from(head & 3) % 3;
    let feed = if head & 4 == 0 {
        Feed::Whole
    } else {
        Feed::Bytewise
    };
    // Reports a few times in the days that the end takes.
    let sys = if head & 8 == 0 {
        Duration::ZERO
    } else {
        Duration::from_secs(86_400)
    };
    let limits = Arc::new(limits(input));
    let (access, users) = access(input.byte());
    let mut world = World::with_all(shards, &limits, feed, sys, Arc::new(access));
    world.users = users;
    world
}

/// Small ones, so that they are met.
fn limits(input: &mut Input<'_>) -> Limits {
    let choice = input.byte();
    let mut limits = Limits {
        packet_size_max: 512,
        receive_maximum: 3,
        inflight_messages_max: 3,
        queued_messages_max: 4,
        subscriptions_max: 6,
        topic_alias_max: 2,
        topic_alias_outbound_max: 3,
        retained_messages_max: 6,
        retained_page_max: 1 + u32::from(choice & 1),
        unsent_bytes_max: 4096,
        sessions_max: 4,
        share_strategy: input.pick(&ShareStrategy::ALL),
        share_queued_while_away: choice & 2 == 0,
        receive_maximum_enforced: choice & 4 == 0,
        payload_format_checked: choice & 8 != 0,
        ..Limits::default()
    };
    match choice >> 4 {
        1 => limits.qos_max = QoS::AtLeastOnce,
        2 => limits.retain_available = false,
        3 => limits.wildcards_available = false,
        4 => limits.share_available = false,
        5 => {
            (limits.server_reference, limits.server_redirect) =
                ("other:1883".into(), Redirect::WhenFull)
        }
        6 => (limits.message_rate_max, limits.rate_exceeded) = (2, RateExceeded::Slow),
        7 => (limits.byte_rate_max, limits.rate_exceeded) = (64, RateExceeded::Disconnect),
        8 => limits.queued_bytes_max = 128,
        9 => {
            (
                limits.total_queued_messages_max,
                limits.total_queued_bytes_max,
            ) = (3, 512)
        }
        10 => (limits.retained_bytes_max, limits.inflight_bytes_max) = (256, 64),
        11 => limits.response_information = "answers/%c".into(),
        12 => (limits.keep_alive_max_s, limits.session_expiry_max_s) = (5, 10),
        13 => (limits.topic_alias_max, limits.topic_alias_outbound_max) = (0, 0),
        14 => (limits.partial_bytes_max, limits.user_properties_max) = (64, 1),
        15 => (limits.total_unsent_bytes_max, limits.client_id_size_max) = (256, 3),
        _ => {}
    }
    limits
}
