//! Any text as an ACL file, and what its rules say of the topics and filters in it: a filter that is
//! granted whole holds no topic that is denied, one that is refused none that is allowed, and no rule
//! that denies is ever overruled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_core::auth::{Acl, Action, Extent, Who, read_acl_file};
use ringmq_core::limits::Limits;
use ringmq_core::topic::{TopicFilter, TopicLimits};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut acl = Acl::new(false);
    if let Err(error) = read_acl_file(text, &mut acl) {
        assert!(error.line <= text.lines().count());
        return;
    }
    // Names and topics out of the file itself are those that its rules are about.
    let words: Vec<&str> = text.split_whitespace().take(24).collect();
    let limits = TopicLimits::of(&Limits::default());
    let filters = words.iter().filter_map(|word| TopicFilter::parse(word, &limits).ok());
    let filters: Vec<TopicFilter> = filters.collect();
    let topics = words.iter().filter(|word| !word.contains(['+', '#']));
    let topics: Vec<&str> = topics.copied().chain(["$SYS/x", "a", "a/b"]).collect();
    for user in [None, words.first().copied(), words.last().copied()] {
        for client_id in [words[words.len() / 2], "c", "#", ""] {
            let who = Who { user, client_id, rules: None };
            for filter in &filters {
                let extent = acl.extent(who, filter);
                for topic in topics.iter().filter(|topic| filter.matches(topic.as_bytes())) {
                    let is_allowed = acl.allows(who, Action::Receive, topic.as_bytes());
                    match extent {
                        Extent::All => assert!(is_allowed, "{who:?} {filter:?} {topic}"),
                        Extent::Nothing => assert!(!is_allowed, "{who:?} {filter:?} {topic}"),
                        Extent::Part => {}
                    }
                }
            }
        }
    }
});
