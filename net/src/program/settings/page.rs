//! `docs/settings.md`, generated from the table: run the test with `UPDATE_DOCS=1` after a change.

use std::fmt::Write as _;
use std::path::Path;

use super::value::Kind;
use super::{SECTIONS, TABLE};

fn page() -> String {
    let mut text = String::from(INTRODUCTION);
    for (section, about) in SECTIONS {
        let _ = write!(
            text,
            "\n## [{section}]\n\n{about}.\n\n\
             | key | option | value | default | what it does |\n|---|---|---|---|---|\n"
        );
        for row in TABLE.iter().filter(|row| row.section == *section) {
            let range = row.kind.range_text();
            let value = match row.kind {
                Kind::Choice(_) => range,
                _ if range.is_empty() => row.kind.noun().to_owned(),
                _ => format!("{}, {range}", row.kind.noun()),
            };
            let default = match row.auto {
                Some(meaning) => format!("`\"auto\"`: {meaning}"),
                None => format!("`{}`", row.kind.show_toml(&row.default_value())),
            };
            let (key, flag, help) = (row.key, row.flag, row.help);
            let reload = if row.needs_restart() {
                ""
            } else {
                " *Reload.*"
            };
            let _ = writeln!(
                text,
                "| `{key}` | `--{flag}` | {value} | {default} | {help}{reload} |"
            );
        }
    }
    text
}

#[test]
fn the_page_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    let update = "run: UPDATE_DOCS=1 cargo test -p ringmq the_page_of_settings";
    assert_eq!(written, page(), "docs/settings.md is out of date: {update}");
}

const INTRODUCTION: &str = "\
# Settings

<!-- Written by a test from the table in net/src/program/settings/mod.rs: \
UPDATE_DOCS=1 cargo test -p ringmq the_page_of_settings -->

Settings come from the command line and from a TOML file given with `--config`. The command line overrides
the file, the file overrides the defaults. No file is read by default, and no environment variables.

A running broker reloads settings marked *Reload*, and the files that they name, when the file changes or
on SIGHUP: all of them or, if there is any problem, none. Other settings need a restart, and the log says
so.

```toml
# ringmq.toml
[network]
listen = [\"127.0.0.1:1883\", \"[::1]:1883\"]

[limits]
packet_size_max = \"256KiB\"
session_expiry_max = \"1d\"
```

The sections `[tls]`, `[websocket]` and `[proxy]` apply to every address. A `[[listener]]` table has its
own addresses, and can override keys of these sections; there may be any number of such tables. If the
file has such tables and no `listen` under `[network]`, the broker listens on their addresses only.

```toml
[tls]
certificate = [\"/etc/ringmq/server.pem\"]
key = [\"/etc/ringmq/server.key\"]

[[listener]]
listen = [\"mqtts://0.0.0.0:8883\"]
tls.client_certificate = \"required\"
tls.client_ca = [\"/etc/ringmq/devices-ca.pem\"]
tls.identity = \"cn\"

[[listener]]
listen = [\"wss://0.0.0.0:8084\"]
websocket.origins = [\"https://app.example\"]
```

- `ringmq --print-config > ringmq.toml` writes a file with every setting, its range and a comment.
- `ringmq --config ringmq.toml --check-config` reports problems, or which settings differ from the
  defaults. It exits with 0 or 2, and does not start the broker.
- A size is a number of bytes, or a number with `B`, `KiB`, `MiB`, `GiB` or `TiB` in quotes.
- A time span is a number of seconds, or a number with `ms`, `s`, `m`, `h` or `d` in quotes.
- On the command line a switch stands alone (`--allow-anonymous`) or has a value
  (`--receive-maximum-enforced=false`).
- Limits of a shard apply to each shard: a broker with four shards keeps up to four times as many retained
  messages.
";
