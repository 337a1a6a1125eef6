//! `ringmq --import-mosquitto FILE`: prints a `ringmq.toml` that does what a `mosquitto.conf` does.
//!
//! Every line of it is taken on, or named with the reason and what to do instead: on the terminal,
//! and as a comment of the result.
//!
//! Not here: Mosquitto's syntax (`conf`), what its options mean (`meaning`), the settings that come
//! of it (`target`).

mod conf;
mod meaning;
mod target;

use std::fmt::Write as _;
use std::path::Path;

use crate::settings::file::{Configuration, Problem, Source};
use conf::Statement;
use target::Target;

/// What comes of a file.
#[derive(Debug)]
pub struct Imported {
    /// The text of a configuration file.
    pub toml: String,
    /// What is to be known about it.
    pub said: String,
}

/// A line that is not taken on, or not quite.
#[derive(Debug, PartialEq, Eq)]
struct Note {
    statement: Statement,
    /// Why, and what to do.
    why: String,
}

/// Reads a file of Mosquitto, and those that it includes.
pub fn run(path: &Path) -> Result<Imported, Problem> {
    let name = path.display().to_string();
    Ok(import(&name, conf::read(path)?))
}

fn import(name: &str, statements: Vec<Statement>) -> Imported {
    let count = statements.len();
    let mut target = Target::default();
    let mut notes = Vec::new();
    for statement in statements {
        if let Err(why) = meaning::take(&mut target, &statement) {
            notes.push(Note { statement, why });
        }
    }
    let settled = target.settle();
    let mut toml = format!(
        "# From {}, by `ringmq --import-mosquitto`: read it before it is used.\n",
        ringmq_problem::printable(name)
    );
    toml += &settled.toml;
    if !notes.is_empty() {
        toml += "\n# What is not taken on:\n";
        for note in &notes {
            let _ = write!(toml, "# {}\n#   {}\n", note.statement, note.why);
        }
    }
    let mut said = String::new();
    for note in &notes {
        let _ = writeln!(said, "{}\n  {}", note.statement, note.why);
    }
    for remark in &settled.remarks {
        let _ = writeln!(said, "note: {remark}");
    }
    let source = Source {
        name: "ringmq.toml",
        text: &toml,
    };
    for problem in Configuration::resolve(Some(source), &[])
        .err()
        .into_iter()
        .flatten()
    {
        let _ = writeln!(said, "this needs a hand: {problem}");
    }
    let left = notes.len();
    let _ = writeln!(
        said,
        "{count} lines with settings, {left} of them not taken on. Before it is used: \
         ringmq --config FILE --check-config; \
         docs/mosquitto.md says what clients may notice"
    );
    Imported { toml, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str) -> Imported {
        import("mosquitto.conf", conf::parse("mosquitto.conf", text))
    }

    /// The settings alone.
    fn settings(text: &str) -> String {
        let toml = imported(text).toml;
        let lines = toml
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_debian_ships_listens_on_this_machine_and_lets_in_everybody() {
        let debian = "# Place your local configuration in /etc/mosquitto/conf.d/\n\n\
            pid_file /run/mosquitto/mosquitto.pid\n\npersistence true\n\
            persistence_location /var/lib/mosquitto/\n\n\
            log_dest file /var/log/mosquitto/mosquitto.log\n";
        let Imported { toml, said } = imported(debian);
        assert!(
            toml.contains(
                "[network]\nlisten = [\"127.0.0.1:1883\", \"[::1]:1883\"]\nallow_anonymous = true\n"
            ),
            "{toml}"
        );
        assert!(
            toml.contains("[store]\ndata_dir = \"/var/lib/ringmq\"\n"),
            "{toml}"
        );
        assert!(
            said.contains("mosquitto.conf:3: pid_file /run/mosquitto/mosquitto.pid\n"),
            "{said}"
        );
        assert!(said.contains("mosquitto.conf:8: log_dest file"), "{said}");
        assert!(
            said.contains("4 lines with settings, 3 of them not taken on"),
            "{said}"
        );
        assert!(toml.contains("# mosquitto.conf:8: log_dest file"), "{toml}");
        assert!(!said.contains("needs a hand"), "{said}");
    }

    #[test]
    fn listeners_have_their_layers() {
        let text = "password_file /etc/mosquitto/passwd\nacl_file /etc/mosquitto/acl\n\
            listener 1883 127.0.0.1\n\
            listener 8883\ncertfile /c/server.pem\nkeyfile /c/server.key\n\
            cafile /c/ca.pem\nrequire_certificate true\nuse_identity_as_username true\n\
            crlfile /c/list.crl\ntls_version tlsv1.3\n\
            listener 9001 ::1\nprotocol websockets\n\
            listener 0 /run/mosquitto.sock\n";
        let expected = r#"[network]
listen = ["127.0.0.1:1883", "ws://[::1]:9001", "unix:/run/mosquitto.sock"]
[auth]
password_file = ["/etc/mosquitto/passwd"]
acl_file = ["/etc/mosquitto/acl"]
[[listener]]
listen = ["mqtts://[::]:8883"]
tls.certificate = ["/c/server.pem"]
tls.key = ["/c/server.key"]
tls.client_certificate = "required"
tls.client_ca = ["/c/ca.pem"]
tls.client_crl = ["/c/list.crl"]
tls.identity = "cn"
tls.version_min = "1.3""#;
        assert_eq!(settings(text), expected);
        assert!(
            imported(text)
                .said
                .contains("lines with settings, 0 of them"),
            "{:?}",
            imported(text).said
        );
    }

    #[test]
    fn limits_are_taken_over_with_what_zero_means() {
        let text = "listener 1883 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n\
            max_queued_messages 0\nmax_queued_bytes 5000\nmessage_size_limit 1000\n\
            max_keepalive 600\npersistent_client_expiration 2w\nretain_available false\n\
            max_qos 1\nsys_interval 0\nmax_connections 500\nlog_type error\nlog_type notice\n";
        let expected = r#"[network]
listen = ["127.0.0.1:1883"]
allow_anonymous = true
connections_max = 500
[runtime]
sys_interval = 0
[log]
filter = "info"
[limits]
inflight_messages_max = 65535
keep_alive_max = "600s"
packet_size_max = 5096
queued_bytes_max = 5000
queued_messages_max = 1000000000
session_expiry_max = "14d"
[mqtt]
qos_max = 1
retain_available = false"#;
        assert_eq!(settings(text), expected);
    }

    #[test]
    fn every_line_without_an_equal_is_named_with_a_reason() {
        for (line, expected) in [
            ("upgrade_outgoing_qos true", "QoS of the message"),
            ("queue_qos0_messages true", "QoS 0"),
            ("psk_file /x", "pre-shared keys"),
            (
                "plugin /usr/lib/mosquitto_dynamic_security.so",
                "docs/hooks.md",
            ),
            ("plugin_opt_config_file /x", "docs/hooks.md"),
            ("auth_opt_backends files", "docs/hooks.md"),
            ("capath /etc/ssl/certs", "client_ca"),
            ("mount_point a/", "mount points"),
            ("bind_interface eth0", "address"),
            ("memory_limit 1000000", "total_queued_bytes_max"),
            ("listener 1883 broker.example", "host name"),
            ("listener nonsense", "is not a port"),
            ("max_queued_messages many", "is not a whole number"),
            ("allow_anonymous yes", "neither true nor false"),
            ("persistent_client_expiration 3x", "is not a time span"),
            (
                "per_listener_setting true",
                "did you mean per_listener_settings?",
            ),
            ("check_retain_source false", "publisher"),
            ("include_dir /nowhere/at/all", "cannot be read"),
            ("use_subject_as_username true", "identity"),
        ] {
            let said = imported(&format!("{line}\n")).said;
            let first = format!("mosquitto.conf:1: {line}\n  ");
            assert!(said.starts_with(&first), "{line}: {said}");
            assert!(said.contains(expected), "{line}: {said}");
        }
    }

    #[test]
    fn a_bridge_is_named_as_a_whole() {
        let text = "connection cloud\naddress mqtt.example:8883\ntopic # both 1\n\
            remote_password secret\nlistener 1883 127.0.0.1\nallow_anonymous true\n";
        let Imported { toml, said } = imported(text);
        assert!(
            said.contains(":1: connection cloud\n  outgoing bridges"),
            "{said}"
        );
        for line in 2..=4 {
            assert!(said.contains(&format!("mosquitto.conf:{line}: ")), "{said}");
        }
        assert!(
            !toml.contains("secret") && !said.contains("secret"),
            "{toml}"
        );
        assert!(settings(text).starts_with("[network]\nlisten = [\"127.0.0.1:1883\"]"));
    }

    #[test]
    fn settings_of_listeners_that_differ_are_not_mixed() {
        let text = "per_listener_settings true\n\
            listener 1883 127.0.0.1\nallow_anonymous true\n\
            listener 1884 127.0.0.1\npassword_file /p\n";
        let Imported { toml, said } = imported(text);
        assert!(!toml.contains("allow_anonymous = true"), "{toml}");
        assert!(!toml.contains("password_file = ["), "{toml}");
        assert!(said.contains("per_listener_settings"), "{said}");
        let same = "per_listener_settings true\n\
            listener 1883 127.0.0.1\npassword_file /p\n\
            listener 1884 127.0.0.1\npassword_file /p\n";
        assert!(settings(same).contains("password_file = [\"/p\"]"));
    }

    #[test]
    fn defaults_that_differ_are_there_to_be_chosen() {
        let toml = imported("listener 1883 127.0.0.1\nallow_anonymous true\n").toml;
        for line in [
            "# session_expiry_max = \"4294967295s\"",
            "# queued_messages_max = 1000",
            "# inflight_messages_max = 20",
        ] {
            assert!(toml.contains(line), "{toml}");
        }
        let chosen = toml.replace("# queued_", "queued_");
        let chosen = chosen.replace("# [limits]", "[limits]");
        let source = Source {
            name: "x",
            text: &chosen,
        };
        assert!(
            Configuration::resolve(Some(source), &[]).is_ok(),
            "{chosen}"
        );
    }
}
