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
    if let Some((name, rest)) = word.split_once('=') {
        // `--set=publishers.password=VALUE` has two of them.
        return if is_secret(name) {
            format!("{name}={MASK}")
        } else {
            format!("{name}={}", masked_word(rest))
        };
    }
    let Some((scheme, rest)) = word.split_once("://") else {
        return word.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:{MASK}@{host}{path}")
        }
        Some(_) | None => word.to_owned(),
    }
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
