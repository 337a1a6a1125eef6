//! What the tools found, for people.

use std::fmt::Write as _;
use std::path::Path;

use ringmq::store::tools::{Backup, Flaw, Repair, Shard, Survey, Totals};
use serde::Serialize;

use crate::settings::file::count;

/// One document on one line.
pub fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string(value).expect("results are JSON");
    format!("{text}\n")
}

/// "3 sessions with 2 subscriptions, 9 queued messages (1,234 bytes), 1 retained message".
pub fn sums(totals: &Totals) -> String {
    let number = |number: u64, noun| count(usize::try_from(number).unwrap_or(usize::MAX), noun);
    let mut text = format!(
        "{} with {}, {} ({}), {}",
        number(totals.sessions, "session"),
        number(totals.subscriptions, "subscription"),
        number(totals.queued_messages, "queued message"),
        number(totals.queued_bytes, "byte"),
        number(totals.retained_messages, "retained message"),
    );
    if totals.owed_wills > 0 {
        let _ = write!(text, ", {} to publish", number(totals.owed_wills, "will"));
    }
    text
}

/// The text of `inspect`.
pub fn inspected(survey: &Survey) -> String {
    let mut text = format!("{}: {}\n", survey.directory.display(), sums(&survey.totals));
    for epoch in &survey.epochs {
        let state = if epoch.is_sealed {
            "read by a later start"
        } else {
            "written last"
        };
        let _ = writeln!(text, "epoch {}, {state}", epoch.number);
        for shard in &epoch.shards {
            push_shard(&mut text, shard);
        }
    }
    if !survey.totals.largest.is_empty() {
        text += "sessions with the most messages\n";
    }
    for session in &survey.totals.largest {
        let (messages, bytes) = (session.queued_messages, session.queued_bytes);
        let _ = writeln!(
            text,
            "  {messages:>10} {bytes:>14} B  {:?}",
            session.client_id
        );
    }
    push_flaws(&mut text, &survey.flaws);
    text
}

fn push_shard(text: &mut String, shard: &Shard) {
    let written = shard
        .written_ms
        .map_or("never written".to_owned(), |millis| {
            format!(
                "last written at {} (date -d @{})",
                millis / 1000,
                millis / 1000
            )
        });
    let _ = writeln!(
        text,
        "  shard {}: log ends at {:#x}, {written}",
        shard.number, shard.end
    );
    for file in shard.checkpoint.iter().chain(&shard.segments) {
        let _ = writeln!(text, "    {} {:>14} B", file.name, file.size);
    }
    let records = shard.records.iter();
    let records: Vec<String> = records
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    if !records.is_empty() {
        let _ = writeln!(text, "    records: {}", records.join(", "));
    }
    if shard.has_torn_end {
        text.push_str("    behind its end stands an unfinished write, which a start cuts off\n");
    }
    for stray in &shard.strays {
        let _ = writeln!(text, "    {stray:?} is not a file of ringmq");
    }
}

/// The text of `verify`.
pub fn verified(survey: &Survey) -> String {
    let directory = survey.directory.display();
    if survey.is_empty {
        return format!("{directory}: ok, nothing was ever stored here\n");
    }
    let mut text = String::new();
    if survey.flaws.is_empty() {
        let _ = writeln!(
            text,
            "{directory}: ok, a start recovers {}",
            sums(&survey.totals)
        );
        let shards = survey.epochs.iter().flat_map(|epoch| &epoch.shards);
        if shards.clone().any(|shard| shard.has_torn_end) {
            text += "a write that was under way at the end is cut off: nobody was told of it\n";
        }
        return text;
    }
    push_flaws(&mut text, &survey.flaws);
    let _ = writeln!(
        text,
        "a start refuses {directory}; without what is damaged it has {}\n\
         fix: restore a backup, or leave out what is damaged: ringmq log repair {directory}",
        sums(&survey.totals)
    );
    text
}

/// The text of `repair`.
pub fn repaired(repair: &Repair) -> String {
    let directory = repair.survey.directory.display();
    let Some(copy) = &repair.copy else {
        return format!("{directory}: nothing is damaged, and nothing was changed\n");
    };
    let mut text = String::new();
    push_flaws(&mut text, &repair.survey.flaws);
    for client in &repair.doubled_clients {
        let _ = writeln!(text, "{client:?} had two sessions: the newer one is kept");
    }
    if repair.dropped_exchanges > 0 {
        let dropped = repair.dropped_exchanges;
        let _ = writeln!(
            text,
            "{dropped} QoS 2 exchanges contradicted others and are dropped"
        );
    }
    let _ = writeln!(
        text,
        "{directory}: repaired. What is damaged was left out; kept: {}\n\
         what was deleted or acknowledged in the damaged parts may be back\n\
         the files as they were: {} (remove them when you are content: they take up space)",
        sums(&repair.survey.totals),
        copy.display()
    );
    text
}

/// The text of `backup`.
pub fn backed_up(backup: &Backup, target: &Path) -> String {
    format!(
        "{}: {} bytes copied and read again; it holds {}\n",
        target.display(),
        backup.copied_bytes,
        sums(&backup.survey.totals)
    )
}

fn push_flaws(text: &mut String, flaws: &[Flaw]) {
    for flaw in flaws {
        let _ = writeln!(text, "damaged: {} at byte {}", flaw.path.display(), flaw.at);
        let _ = write!(text, "  {}", flaw.what);
        if flaw.size > 0 {
            let _ = write!(text, "; {} bytes cannot be read", flaw.size);
        }
        text.push('\n');
        let hints = &flaw.hints;
        if hints.records > 0 {
            let _ = writeln!(text, "  seems to have held {} records", hints.records);
        }
        for (what, names) in [("clients", &hints.clients), ("topics", &hints.topics)] {
            if !names.is_empty() {
                let shown: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
                let _ = writeln!(text, "  {what}: {}", shown.join(", "));
            }
        }
    }
}
