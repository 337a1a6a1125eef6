//! Plays a conversation line by line.

use ringmq_core::auth::Verdict;
use ringmq_core::refusal::Refusal;

use super::access::Scram;
use super::lexer::{self, Word};
use super::matching;
use super::properties::Value;
use super::script::{self, Casting, Conversation};
use super::stage::Stage;
use crate::world::Feed;

/// Plays a conversation in both ways of feeding.
///
/// # Errors
/// A report that starts with the line number.
pub fn play(conversation: &Conversation, casting: &Casting) -> Result<(), String> {
    let whole = play_fed(conversation, casting, Feed::Whole)?;
    let bytewise = play_fed(conversation, casting, Feed::Bytewise)?;
    if whole != bytewise {
        return Err(format!(
            "{}: {}\n  {}: the broker says other bytes when it is fed byte by byte\n",
            conversation.line,
            conversation.title,
            conversation.describe(casting)
        ));
    }
    Ok(())
}

/// Returns everything that the broker sent on each connection.
fn play_fed(
    conversation: &Conversation,
    casting: &Casting,
    feed: Feed,
) -> Result<Vec<Vec<u8>>, String> {
    let mut said: Vec<String> = Vec::new();
    let report = |line: usize, error: &str, said: &[String]| {
        let casting = conversation.describe(casting);
        let said = said.join("\n      ");
        let title = &conversation.title;
        format!("{line}: {title}\n  {casting}, {feed:?}: {error}\n    so far:\n      {said}\n")
    };
    let mut stage = Stage::new(conversation, casting, feed)
        .map_err(|error| report(conversation.line, &error, &said))?;
    for (number, line) in conversation.lines(casting) {
        let played = play_line(&mut stage, &line);
        said.push(format!("{:>8.3}s {line}", stage.elapsed().as_secs_f64()));
        played
            .and_then(|()| stage.keeps_the_rules())
            .map_err(|error| report(number, &error, &said))?;
    }
    stage
        .finish()
        .map_err(|error| report(conversation.line, &format!("at the end: {error}"), &said))?;
    Ok(stage.transcript())
}

fn play_line(stage: &mut Stage, line: &str) -> Result<(), String> {
    let words = lexer::words(line)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["wait", span] => stage.wait(lexer::span(span)?),
        ["broker", "sleeps", span] => {
            stage.oversleep(lexer::span(span)?);
            Ok(())
        }
        ["broker", "ends"] => stage.shut_down(),
        ["operator", "disconnects", client_id] => stage.disconnect(client_id, true),
        ["operator", "disconnects", client_id, "without", "will"] => {
            stage.disconnect(client_id, false)
        }
        ["operator", "ends", "the", "session", "of", client_id] => stage.end_session(client_id),
        ["operator", "deletes", topic] => stage.unretain(topic),
        ["operator", "drains"] => stage.drain(None),
        ["operator", "drains", "to", server] => stage.drain(Some(server)),
        ["lost", client_id, ref counts @ ..] => counts.iter().try_for_each(|count| {
            let (reason, value) = lexer::key_value(count).ok_or("a loss is reason=count")?;
            stage.expect_loss(client_id, reason, lexer::number(value)?)
        }),
        ["broker", "reloads", ref items @ ..] => {
            stage.replace_access(&script::parse_access(&items.join(" "))?)
        }
        ["shell", "waits"] => {
            stage.set_slow(true);
            Ok(())
        }
        ["shell", "gives", ref items @ ..] => {
            stage.set_rules(items);
            Ok(())
        }
        ["shell", "answers"] => stage.answer(None),
        ["shell", "denies"] => stage.answer(Some(Verdict::Denied(Refusal::BadPassword))),
        ["shell", "fails"] => stage.answer(Some(Verdict::Unavailable)),
        ["disk", "fills"] => stage.tell_space(true),
        ["disk", "empties"] => stage.tell_space(false),
        ["count", ref counts @ ..] => counts.iter().try_for_each(|count| {
            let (name, value) = lexer::key_value(count).ok_or("a count is name=value")?;
            stage.expect_count(name, lexer::number(value)?)
        }),
        ["log", reason, ref fields @ ..] => {
            let fields: Vec<(&str, &str)> = fields
                .iter()
                .map(|field| lexer::key_value(field).ok_or("a field is name=value"))
                .collect::<Result<_, _>>()?;
            stage.expect_record(reason, &fields)
        }
        ["all", "<", "nothing"] => stage.expect_nothing_for_anybody(),
        [name, "opens"] => stage.open(name),
        [name, "cut"] => stage.cut(name, true),
        [name, "closes"] => stage.cut(name, false),
        [name, "stalls"] => stage.stall(name, true),
        [name, "reads"] => stage.stall(name, false),
        [name, ">", ref packets @ ..] => {
            let packets: Vec<Vec<Word>> = packets
                .split(|word| *word == "&")
                .map(|packet| packet.iter().map(|word| fill_in(stage, word)).collect())
                .collect::<Result<_, _>>()?;
            stage.say(name, &packets)
        }
        [name, "<", "nothing"] => stage.expect_nothing(name),
        [name, "<", "anything"] => stage.forget(name),
        [name, "<", "closed"] => stage.expect_closed(name),
        [name, "<", "raw", ref bytes @ ..] => {
            let bytes: Vec<Word> = bytes.iter().map(|word| word.to_string()).collect();
            stage.expect_raw(name, &lexer::raw(&bytes)?)
        }
        [name, direction @ ("<" | "<~"), ref packet @ ..] => {
            let packet = packet
                .iter()
                .map(|word| compute(stage, word))
                .collect::<Result<Vec<Word>, String>>()?;
            stage.expect(name, &matching::parse(&packet)?, direction == "<~")
        }
        _ => Err("no such line".into()),
    }
}

/// `auth_data=proof:user:password:@first` and `auth_data=verifier:user:password:@first`: what the
/// two sides say last in SCRAM, if `@first` is what the broker said first.
fn compute(stage: &Stage, word: &str) -> Result<Word, String> {
    let Some(("auth_data", value)) = lexer::key_value(word) else {
        return Ok(word.into());
    };
    let parts: Vec<&str> = value.split(':').collect();
    let [what @ ("proof" | "verifier"), user, password, first] = parts[..] else {
        return Ok(word.into());
    };
    let first = first.strip_prefix('@').ok_or("a variable is expected")?;
    let Some(Value::Text(first)) = stage.variable(first) else {
        return Err(format!("@{first} was not met yet"));
    };
    let scram = Scram::of(user, password, first)?;
    Ok(match what {
        "proof" => format!("auth_data={}", scram.proof),
        _ => format!("auth_data={}", scram.verifier),
    })
}

/// A variable in what a client says.
fn fill_in(stage: &Stage, word: &str) -> Result<Word, String> {
    let (key, name) = match lexer::key_value(word) {
        Some((key, value)) => (format!("{key}="), value),
        None => (String::new(), word),
    };
    let Some(name) = name.strip_prefix('@') else {
        return compute(stage, word);
    };
    match stage.variable(name) {
        Some(Value::Number(number)) => Ok(format!("{key}{number}")),
        Some(Value::Text(text)) => Ok(format!("{key}{}", String::from_utf8_lossy(text))),
        Some(other) => Err(format!("@{name} cannot be said: {other:?}")),
        None => Err(format!("@{name} was not met yet")),
    }
}
