//! Sessions that are away over a start: what their users may have is decided by what holds then.

use std::sync::Arc;
use std::time::Duration;

use super::client::Client;
use super::{START, crash, disk, read_all};
use crate::dice::Dice;
use crate::world::{Leases, Tokens, Users, World};
use ringmq_core::auth::{
    Access, Acl, Effect, Identity, Lease, Pattern, Proof, Rule, Verdict, read_acl_file,
};
use ringmq_core::limits::Limits;
use ringmq_core::time::Instant;

const ISSUER: u64 = 7;

fn acl(text: &str) -> Option<Arc<Acl>> {
    let mut acl = Acl::new(false);
    if !text.is_empty() {
        read_acl_file(text, &mut acl).expect("the rules are right");
    }
    Some(Arc::new(acl))
}

/// Nobody is asked for anything.
fn open(rules: &str) -> (Access, Users) {
    let access = Access {
        acl: acl(rules),
        ..Access::default()
    };
    (access, Users::default())
}

fn rules_for(topic: &str) -> Arc<[Rule]> {
    let rule = Rule {
        effect: Effect::Allow,
        publish: true,
        receive: true,
        pattern: Pattern::parse(topic, false).expect("a filter"),
    };
    [rule].into()
}

/// Everybody shows a token, which names the topic that its client may use.
fn tokens(rules: &str) -> (Access, Users) {
    let access = Access {
        asks_shell: true,
        allow_anonymous: false,
        token_issuers: [ISSUER].into(),
        acl: acl(rules),
        ..Access::default()
    };
    let judge = |topic: &str, issuer, _: Instant| {
        Verdict::Granted(Identity {
            user: Some("u".into()),
            proof: Proof::Token { issuer },
            rules: Some(rules_for(topic)),
            ..Identity::default()
        })
    };
    let users = Users {
        tokens: Some(Tokens {
            issuer: ISSUER,
            judge,
        }),
        ..Users::default()
    };
    (access, users)
}

/// A hook gives everybody rules for a while.
fn leases(topic: &str) -> (Access, Users) {
    let (mut access, mut users) = tokens("");
    access.asks_rules = true;
    users.rules = Some(Leases {
        items: vec![format!("u:{topic}")],
        judge: |line, now| Lease {
            rules: line.split(':').nth(1).map(rules_for),
            renew_at: now + Duration::from_secs(3000),
            ends_at: now + Duration::from_secs(3600),
        },
    });
    (access, users)
}

struct Play {
    world: World,
    subscriber: Client,
    publisher: Client,
}

impl Play {
    /// A subscriber of this filter, who is away.
    fn begin(setting: (Access, Users), filter: &str) -> Play {
        let limits = Arc::new(Limits::default());
        let mut play = Play {
            world: World::with_disk_for(2, &limits, disk(), START, setting),
            subscriber: Client::new("s"),
            publisher: Client::new("p"),
        };
        play.subscriber.password = Some("token:t");
        play.publisher.password = Some("token:t");
        play.publisher.is_clean = true;
        play.subscriber.connect(&mut play.world);
        read_all(&mut play.world, &mut [&mut play.subscriber]);
        play.subscriber.subscribe(&mut play.world, filter, 1);
        read_all(&mut play.world, &mut [&mut play.subscriber]);
        assert!(play.subscriber.is_subscribed);
        play.subscriber.cut(&mut play.world);
        play.publisher.connect(&mut play.world);
        read_all(&mut play.world, &mut [&mut play.publisher]);
        play
    }

    fn publish(&mut self, number: u32) {
        self.publisher.publish(&mut self.world, number, 1);
        read_all(&mut self.world, &mut [&mut self.publisher]);
        assert!(self.publisher.acked.contains(&number), "{number}");
    }

    /// The broker is started again, with other users and rules, and has looked at its sessions.
    fn restart(&mut self, setting: (Access, Users)) {
        let now = self.world.now() + Duration::from_secs(1);
        let mut disk = self.world.disk.take().expect("there is a disk");
        crash(&mut disk, &mut Dice::new(1));
        let limits = Arc::new(Limits::default());
        self.world = World::with_disk_for(2, &limits, disk, now, setting);
        self.world.wait(Duration::from_secs(1));
        self.publisher.lose();
        self.publisher.connect(&mut self.world);
        read_all(&mut self.world, &mut [&mut self.publisher]);
    }

    fn kept(&self) -> usize {
        let gauges = self.world.gauges();
        gauges.iter().map(|of| of.queued_messages).sum()
    }

    /// What the subscriber gets when it is back.
    fn got(&mut self) -> Vec<u32> {
        self.subscriber.connect(&mut self.world);
        read_all(&mut self.world, &mut [&mut self.subscriber]);
        self.subscriber.got.keys().copied().collect()
    }
}

#[test]
fn who_has_lost_its_right_gets_nothing_more_after_a_restart() {
    let both = "topic t";
    let write_only = "topic write t";
    for (rules, kept, got) in [(both, 2, vec![1, 2]), (write_only, 1, vec![])] {
        let mut play = Play::begin(open(both), "t");
        play.publish(1);
        play.restart(open(rules));
        play.publish(2);
        assert_eq!(play.kept(), kept, "{rules}");
        assert_eq!(play.got(), got, "{rules}");
    }
    // A right that was given back in time.
    let mut play = Play::begin(open(both), "t");
    play.publish(1);
    play.restart(open(write_only));
    play.publish(2);
    play.restart(open(both));
    assert_eq!(play.got(), [1]);
}

// (threat 72)
#[test]
fn who_has_lost_its_right_leaves_shared_subscriptions_at_the_start() {
    let mut play = Play::begin(open("topic #"), "$share/g/t");
    play.restart(open("topic write #"));
    let groups = play
        .world
        .gauges()
        .iter()
        .map(|of| of.groups)
        .sum::<usize>();
    assert_eq!(groups, 0);
    play.publish(1);
    assert_eq!(play.kept(), 0);
    assert_eq!(play.got(), [0; 0]);
}

// (threat 73)
#[test]
fn sessions_of_everybody_end_where_everybody_needs_a_name() {
    let mut play = Play::begin(open("topic #"), "t");
    play.publish(1);
    play.restart(tokens("topic #"));
    assert_eq!(play.kept(), 0);
    let sessions: usize = play.world.gauges().iter().map(|of| of.sessions).sum();
    assert_eq!(sessions, 1, "the publisher's");
}

#[test]
fn what_waits_for_clients_with_rules_of_their_own_is_judged_when_they_are_back() {
    // What the token or the hook says when the client is back.
    for (password, topic, got) in [
        ("token:t", "t", vec![1, 2]),
        ("token:other", "other", vec![]),
    ] {
        for of_hook in [false, true] {
            let before = if of_hook { leases("t") } else { tokens("") };
            let mut play = Play::begin(before, "t");
            play.publish(1);
            play.restart(if of_hook { leases("t") } else { tokens("") });
            play.publish(2);
            assert_eq!(play.kept(), 2, "nothing is lost meanwhile");
            if of_hook {
                play.world.users = leases(topic).1;
            }
            play.subscriber.password = Some(password);
            assert_eq!(play.got(), got, "{topic}, by a hook: {of_hook}");
        }
    }
    // What the configured rules deny is denied at once.
    let denied = "user u\ntopic deny t";
    let mut play = Play::begin(tokens(""), "t");
    play.publish(1);
    play.restart(tokens(""));
    let (access, _) = tokens(denied);
    play.world.replace_access(access);
    assert_eq!(play.got(), [0; 0]);
}
