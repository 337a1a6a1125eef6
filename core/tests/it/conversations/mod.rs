//! Protocol behaviour, told as conversations between clients and the broker.
//!
//! Each `*.conv` file beside this one holds conversations in the language that `README.md`
//! explains. Every conversation is played with one, two and three shards, each time with the
//! clients' bytes fed packet by packet and once more byte by byte: all plays have to satisfy the
//! script, and the two ways of feeding have to give the same bytes back. After the last line all
//! clients go, all sessions run out, and nothing may be left in the memory of any shard.
//!
//! The bytes are made and read by `wire.rs`, which shares nothing with the codec of the broker.
//!
//! `CONVERSATION=text` plays only the conversations whose title contains the text.

mod access;
mod lexer;
mod matching;
mod play;
mod properties;
mod script;
mod stage;
mod wire;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ringmq_core::refusal::Refusal;
use ringmq_core::shard::DropReason;

macro_rules! conversations {
    ($($name:ident)*) => {
        /// Every file is played by the test of its name.
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() {
                play_file(concat!(stringify!($name), ".conv"));
            }
        )*
    };
}

conversations! {
    connect malformed session will publish qos retained subscribe shared properties offer rates topics threats
    auth rules tokens leases refusals odd bridge scarce
}

#[test]
fn every_script_passes() {
    let mut found: Vec<String> = std::fs::read_dir(directory())
        .expect("the directory is there")
        .map(|entry| entry.expect("the entry can be read").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conv")
        })
        .map(|path| {
            path.file_stem()
                .expect("it has a name")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    found.sort();
    let mut listed = FILES.to_vec();
    listed.sort();
    assert_eq!(found, listed, "mod.rs lists the files");
}

/// A reason that nothing shows is one that nobody has seen work: each has a conversation that
/// counts it and one that has its record, by its name in a line or in a cell of a table.
#[test]
fn every_reason_code_has_a_conversation() {
    let texts = FILES.iter().map(|name| {
        let path = directory().join(format!("{name}.conv"));
        std::fs::read_to_string(path).expect("the file can be read")
    });
    let text: String = texts.collect();
    let words: HashSet<&str> = text.split_whitespace().collect();
    let logged: HashSet<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("log "))
        .collect();
    let cells: HashSet<&str> = text
        .lines()
        .filter(|line| line.starts_with('|'))
        .flat_map(|line| line.split('|').map(str::trim))
        .collect();
    let refusals = Refusal::ALL.iter().map(|r| ("refused", r.name()));
    let drops = DropReason::ALL.iter().map(|r| ("dropped", r.name()));
    let missing: Vec<_> = refusals
        .chain(drops)
        .filter(|(_, name)| !NOT_COUNTED_HERE.contains(name) && !name.starts_with("token_"))
        .filter(|(kind, name)| {
            let counter = format!("{kind}_{name}=");
            let counts = |word: &&str| word.strip_prefix(&counter).is_some_and(|n| n != "0");
            let is_counted = words.iter().any(counts);
            let is_logged = logged
                .iter()
                .any(|line| line.split(' ').next() == Some(*name));
            !(cells.contains(name) || is_counted && is_logged)
        })
        .collect();
    assert_eq!(
        missing,
        [],
        "reasons without a count or a record in any conversation"
    );
}

/// Refusals that the core only passes on, which `net/tests/it` has (and what is wrong with a token,
/// which `net/src/auth` finds); and those that are not counted, because a broker that ends
/// shows nobody its counters.
const NOT_COUNTED_HERE: [&str; 5] = [
    "connections_full",
    "address_full",
    "address_rate",
    "shutting_down",
    "log_failed",
];

/// What a script gets wrong is found: no line of the language passes whatever the broker does.
#[test]
fn wrong_expectations_fail() {
    for (script, complaint) in [
        ("a > CONNECT\na < CONNACK ok sp=1", "its sp is 0, not 1"),
        ("a > CONNECT\na < CONNACK ok rm=7", "its rm is"),
        (
            "a > CONNECT expiry=9\na < CONNACK ok expiry=8",
            "its expiry is absent",
        ),
        ("a > CONNECT\na < PINGRESP", "it is a CONNACK"),
        ("a > CONNECT\na < nothing", "a got CONNACK"),
        ("a > CONNECT\nall < nothing", "a got CONNACK"),
        ("a > CONNECT\na < closed", "a got CONNACK"),
        ("a > CONNECT", "a got CONNACK"),
        ("a > CONNECT\na < CONNACK\na < closed", "is open"),
        ("a > CONNECT\na < CONNACK\na < PINGRESP", "a got nothing"),
        ("a > CONNECT\na < CONNACK\na <~ PINGRESP", "a got nothing"),
        ("a > CONNECT\na < raw 20 02 00 00", "a got [20"),
        ("a > raw 30 00\na < nothing", "is closed"),
        ("a > raw 30 00", "is closed"),
        ("count connects=1", "connects is 0"),
        ("a > PUBLISH t", "is closed"),
        ("a > JUMP", "no packet JUMP"),
        ("a jumps", "no such line"),
        ("a > CONNECT hat=1", "no field hat"),
        ("b < nothing", "who is b"),
        ("access hat=1", "no access hat"),
        ("shell sleeps", "no such line"),
        (
            "a > CONNECT\na < CONNACK\na > SUBSCRIBE 1 t qos=1\na < SUBACK 1 granted=0",
            "its codes is 0x01",
        ),
        (
            "a > CONNECT\na < CONNACK\na > SUBSCRIBE 1 t & PUBLISH t format=1\n\
             a < SUBACK 1 granted=0\na < PUBLISH t",
            "its format is 1, not absent",
        ),
    ] {
        let conversation = &script::parse(&format!("## A wrong one\n{script}")).unwrap()[0];
        for casting in conversation.castings() {
            let failure = play::play(conversation, &casting).expect_err(script);
            assert!(failure.contains(complaint), "{script}: {failure}");
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/conversations")
}

fn play_file(name: &str) {
    let text = std::fs::read_to_string(directory().join(name)).expect("the file can be read");
    let conversations = script::parse(&text).unwrap_or_else(|error| panic!("{name}:{error}"));
    assert!(!conversations.is_empty(), "{name} holds no conversation");
    let wanted = std::env::var("CONVERSATION").unwrap_or_default();
    let mut failures = Vec::new();
    for conversation in conversations.iter().filter(|c| c.title.contains(&wanted)) {
        for casting in conversation.castings() {
            // Another failure of the same conversation would say the same again.
            if let Err(failure) = play::play(conversation, &casting) {
                failures.push(format!("{name}:{failure}"));
                break;
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} conversation(s) went wrong:\n\n{}",
        failures.len(),
        failures.join("\n")
    );
}
