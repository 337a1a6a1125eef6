//! Masks passwords and other secrets as `***` before they reach a result, a page or a message.

/// What replaces a secret.
pub const MASK: &str = "***";

/// A command line whose secrets are masked: values of options and keys that are called so, and
/// passwords in URLs.
pub fn masked(command: &[String]) -> Vec<String> {
    let mut shown = Vec::with_capacity(command.len());
    let mut previous = "";
    for argument in command {
        let is_value = previous.starts_with('-') && !previous.contains('=') && is_secret(previous);
        shown.push(if is_value {
            MASK.to_owned()
        } else {
            masked_argument(argument, previous)
        });
        previous = argument;
    }
    shown
}

/// `--group` has several keys in one argument; everywhere else a value goes on to the end.
fn masked_argument(argument: &str, previous: &str) -> String {
    if previous == "--group" || argument.starts_with("--group=") {
        let words = argument.split(' ').map(masked_word);
        return words.collect::<Vec<_>>().join(" ");
    }
    masked_word(argument)
}

fn masked_word(word: &str) -> String {
    // An address may have `=` in its query.
    let is_address = word
        .split_once("://")
        .is_some_and(|(scheme, _)| !scheme.contains('='));
    if is_address {
        return masked_address(word);
    }
    if let Some((name, rest)) = word.split_once('=') {
        // `--set=publishers.password=VALUE` has two of them.
        return if is_secret(name) {
            format!("{name}={MASK}")
        } else {
            format!("{name}={}", masked_word(rest))
        };
    }
    word.to_owned()
}

/// A URL whose password and query are masked, and a user that has no password: it may be a token.
/// What is no URL stays as it is.
pub fn masked_address(address: &str) -> String {
    let Some((scheme, rest)) = address.split_once("://") else {
        return address.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = match path.split_once('?') {
        Some((path, query)) if !query.is_empty() => format!("{path}?{MASK}"),
        _ => path.to_owned(),
    };
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user
                .split_once(':')
                .map_or(String::new(), |(user, _)| format!("{user}:"));
            format!("{scheme}://{user}{MASK}@{host}{path}")
        }
        None => format!("{scheme}://{authority}{path}"),
    }
}

/// A line of a scenario whose value is a secret: the line with the value masked, and where the mask
/// begins, in characters. `None` for other lines.
pub fn masked_line(line: &str) -> Option<(String, usize)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut at = 0;
    for part in line.split_inclusive(|c| !is_word(c)) {
        let word = part.trim_end_matches(|c| !is_word(c));
        let (before, rest) = (&line[..at], &line[at + word.len()..]);
        at += part.len();
        // A line that is wrong may lack the `=`.
        let is_first = before.trim().is_empty() || before.trim() == "\"";
        let value = rest.trim_start_matches(['"', '\'', ' ', '\t']);
        let value = match value.strip_prefix('=') {
            Some(value) => value.trim_start(),
            None if is_first => rest.trim_start(),
            None => continue,
        };
        if is_secret(word) && !value.is_empty() {
            let kept = &line[..line.len() - value.len()];
            return Some((format!("{kept}{MASK}"), kept.chars().count()));
        }
    }
    None
}

/// Whether an option or key of this name holds a secret: `--password`, `publishers.password`,
/// `REDIS_TOKEN`; but not `--password-file`.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let last = name
        .rsplit(['-', '_', '.', '{', ','])
        .next()
        .unwrap_or_default();
    SECRETS.contains(&last) || name.ends_with("api-key") || name.ends_with("api_key")
}

const SECRETS: [&str; 9] = [
    "password",
    "passwd",
    "pass",
    "passphrase",
    "secret",
    "token",
    "cookie",
    "setcookie",
    "requirepass",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_line_is_shown() {
        for (line, expected) in [
            ("password = \"S3", Some("password = ***")),
            ("  password=S3 # why", Some("  password=***")),
            ("password \"S3\"", Some("password ***")),
            ("\"password\" = 'S3", Some("\"password\" = ***")),
            (
                "x = { user = \"u\", password = \"S3\" ",
                Some("x = { user = \"u\", password = ***"),
            ),
            ("password =", None),
            ("password_file = \"p.txt", None),
            ("publish = \"devices/token/x", None),
            ("é = password", None),
        ] {
            let masked = masked_line(line);
            assert_eq!(
                masked.as_ref().map(|(text, _)| text.as_str()),
                expected,
                "{line}"
            );
            if let Some((text, at)) = masked {
                assert_eq!(text.chars().count(), at + MASK.len(), "{line}");
            }
        }
    }

    #[test]
    fn no_secret_of_a_command_line_is_shown() {
        for (line, expected) in [
            ("ringload run pairs", "ringload run pairs"),
            ("x --password S3 --user u", "x --password *** --user u"),
            ("x --password=S3 --qos 1", "x --password=*** --qos 1"),
            ("x --set p.password=S3", "x --set p.password=***"),
            ("x --set=p.password=S3", "x --set=p.password=***"),
            (
                "x --password-file secrets.txt",
                "x --password-file secrets.txt",
            ),
            ("x --json token", "x --json token"),
            ("x mqtt://u:S3@host:1/p", "x mqtt://u:***@host:1/p"),
            ("x --hook=https://u:S3@host", "x --hook=https://u:***@host"),
            ("x https://host/p@q:r", "x https://host/p@q:r"),
            ("x -t ws://h:1/mqtt?token=S3", "x -t ws://h:1/mqtt?***"),
            (
                "x --target=ws://h/mqtt?a=1&k=S3",
                "x --target=ws://h/mqtt?***",
            ),
            ("x wss://S3@h:1/mqtt", "x wss://***@h:1/mqtt"),
            ("beam -setcookie S3 -name b", "beam -setcookie *** -name b"),
            ("x --api-key S3", "x --api-key ***"),
            ("x EMQX_AUTH__TOKEN=S3", "x EMQX_AUTH__TOKEN=***"),
        ] {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(masked(&words).join(" "), expected, "{line}");
        }
        let group = ["--group", "clients=2 password=S3 user=u"].map(str::to_owned);
        assert_eq!(masked(&group)[1], "clients=2 password=*** user=u");
        let spaces = ["--set", "p.password=S3 with spaces"].map(str::to_owned);
        assert_eq!(masked(&spaces)[1], "p.password=***");
    }
}
