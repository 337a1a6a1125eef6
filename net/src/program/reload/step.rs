//! From the settings in force to those after a reload.
//!
//! Settings that need a restart keep their value, above all listeners: those in the file are not
//! running yet. So a valid file does not mean that the result is valid, and the mixture is checked
//! like the settings at start. In addition, a running listener that differs from the file is not
//! opened up by settings meant for others.

use crate::access;
use crate::settings::file::{Place, Problem};
use crate::settings::listen::{Layers, Listen};
use crate::settings::listeners;
use crate::settings::value::Complaint;
use crate::settings::{Settings, TABLE, layers};

/// What a reload changes.
#[derive(Debug)]
pub struct Step {
    /// The running settings, with all new values that need no restart.
    pub settings: Settings,
    /// Names of settings that take effect.
    pub taken_on: Vec<String>,
    /// Names of settings that have changed in the file and need a restart.
    pub left: Vec<String>,
    /// A listener now asks for client certificates.
    pub demands_certificates: bool,
}

impl Step {
    /// From `running` towards `next`.
    ///
    /// # Errors If a running listener would be more open than any listener of the file.
    pub fn new(running: &Settings, next: &Settings) -> Result<Step, Vec<Problem>> {
        let keeps_listeners = addresses(running).eq(addresses(next));
        let mut step = Step {
            settings: running.clone(),
            taken_on: Vec::new(),
            left: Vec::new(),
            demands_certificates: false,
        };
        for row in TABLE {
            let new = (row.get)(next);
            if (row.get)(running) == new {
                continue;
            }
            // TLS belongs to its listeners: it waits with them.
            // The control plane begins with TLS or without.
            let turns_tls =
                running.admin.certificates.is_empty() != next.admin.certificates.is_empty();
            let waits = match (row.section, row.key) {
                ("tls", _) => !keeps_listeners,
                ("admin", "certificate" | "key") => turns_tls,
                _ => false,
            };
            if row.needs_restart() || waits {
                step.left.push(row.name());
            } else {
                step.taken_on.push(row.name());
                (row.set)(&mut step.settings, new);
            }
        }
        if keeps_listeners {
            step.take_on_tables(running, next);
        } else if running.listen == next.listen {
            step.left.push("listener.listen".to_owned());
        }
        let before = running.all_listeners();
        step.demands_certificates =
            before
                .zip(step.settings.all_listeners())
                .any(|((listen, old), (_, new))| {
                    let asks_anew = !listen.proves_clients(old) && listen.proves_clients(new);
                    asks_anew || !listen.has_certificates(old) && listen.has_certificates(new)
                });
        match step.problems(running, next) {
            problems if problems.is_empty() => Ok(step),
            problems => Err(problems),
        }
    }

    /// TLS of the `[[listener]]` tables. What they have from the sections of the file is named
    /// already.
    fn take_on_tables(&mut self, running: &Settings, next: &Settings) {
        let with = |layers: &Layers| Settings {
            layers: layers.clone(),
            ..Settings::default()
        };
        for (index, table) in running.listeners.iter().enumerate() {
            let (old, new) = (with(&table.layers), with(&next.listeners[index].layers));
            for row in TABLE
                .iter()
                .filter(|r| layers::SECTIONS.contains(&r.section))
            {
                let list = if row.needs_restart() {
                    &mut self.left
                } else {
                    &mut self.taken_on
                };
                let name = format!("listener.{}", row.name());
                let is_named = list.contains(&row.name()) || list.contains(&name);
                if (row.get)(&old) != (row.get)(&new) && !is_named {
                    list.push(name);
                }
            }
            self.settings.listeners[index].layers.tls = new.layers.tls;
        }
    }

    /// Problems of the mixture.
    fn problems(&self, running: &Settings, next: &Settings) -> Vec<Problem> {
        let mut complaints = listeners::complaints(&self.settings);
        let before = running.all_listeners().zip(self.settings.all_listeners());
        for (index, ((listen, old), (_, new))) in before.enumerate() {
            let after = openness(&self.settings, listen, new);
            let is_wanted = |(other, layers): (&Listen, &Layers)| {
                other == listen && openness(next, listen, layers) >= after
            };
            if after > openness(running, listen, old)
                && !next.all_listeners().any(is_wanted)
                && complaints.iter().all(|(known, _)| *known != index)
            {
                let what = match after {
                    Openness::Everything => "everybody could do everything there",
                    Openness::Rules | Openness::Closed => "clients would need no password there",
                };
                let what = format!("names {listen}, which the file does not open: {what}");
                complaints.push((index, Complaint::new(what, "")));
            }
        }
        let listeners = [
            "network.listen",
            "listener.",
            "tls.",
            "proxy.",
            "websocket.",
        ];
        let waiting = self.left.iter().map(String::as_str);
        let waiting: Vec<&str> = waiting
            .filter(|name| listeners.iter().any(|start| name.starts_with(start)))
            .collect();
        let fix = format!(
            "restart the broker, which takes {} on; or leave what guards this listener until then",
            waiting.join(", ")
        );
        let problem = |(index, complaint): (usize, Complaint)| {
            let subject = if index < self.settings.listen.len() {
                "network.listen"
            } else {
                "listener.listen"
            };
            let place = Place::File("the running broker".to_owned());
            Complaint::new(complaint.what, fix.clone()).at(place, subject)
        };
        complaints.into_iter().map(problem).collect()
    }
}

/// The addresses of the settings, and those of each table.
fn addresses(settings: &Settings) -> impl Iterator<Item = &[Listen]> {
    let tables = settings.listeners.iter().map(|table| &table.listen[..]);
    std::iter::once(&settings.listen[..]).chain(tables)
}

/// What a client without credentials may do at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Openness {
    /// It may not connect.
    Closed,
    /// What the rules say.
    Rules,
    /// Everything.
    Everything,
}

fn openness(settings: &Settings, listen: &Listen, layers: &Layers) -> Openness {
    if !settings.lets_in_nameless(listen, layers) {
        Openness::Closed
    } else if access::allows_everything(settings) {
        Openness::Everything
    } else {
        Openness::Rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::file::{Configuration, Source};

    fn settings(text: &str) -> Settings {
        let name = "f.toml";
        let source = Some(Source { name, text });
        Configuration::resolve(source, &[]).unwrap().settings
    }

    const CERTIFICATE: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";
    const DEMAND: &str = "client_ca = \"a\"\nclient_certificate = \"required\"\n";

    #[test]
    fn settings_that_need_no_restart_take_effect() {
        let tls = |listen: &str, rest: &str| {
            format!("[network]\nlisten = \"{listen}\"\n{CERTIFICATE}{rest}")
        };
        let table = |listen: &str, rest: &str| {
            format!("[[listener]]\nlisten = \"{listen}\"\n{rest}\n{CERTIFICATE}")
        };
        let (local, other) = ("mqtts://127.0.0.1:1", "mqtts://127.0.0.1:2");
        let anybody = "[network]\nallow_anonymous = true\n";
        for (running, next, taken_on, left) in [
            (tls(local, ""), tls(local, ""), "", ""),
            (
                tls(local, ""),
                tls(
                    local,
                    "version_min = \"1.3\"\n[limits]\nsubscriptions_max = 7",
                ),
                "tls.version_min",
                "limits.subscriptions_max",
            ),
            // TLS of a listener that does not run yet.
            (
                tls(local, ""),
                tls(other, "version_min = \"1.3\"\n[hooks]\ntimeout = \"1s\""),
                "hooks.timeout",
                "network.listen tls.version_min",
            ),
            (
                tls(local, ""),
                tls("wss://127.0.0.1:1", "version_min = \"1.3\""),
                "",
                "network.listen tls.version_min",
            ),
            (
                table(local, "") + anybody,
                table(
                    local,
                    "tls.version_min = \"1.3\"\nproxy.trusted = [\"::1\"]",
                ) + anybody,
                "listener.tls.version_min",
                "listener.proxy.trusted",
            ),
            (
                table(local, ""),
                table(local, "") + "version_min = \"1.3\"",
                "tls.version_min",
                "",
            ),
            (
                table(local, ""),
                table(other, "tls.version_min = \"1.3\""),
                "",
                "listener.listen",
            ),
            // The same address, but whose TLS it had is another question.
            (table(local, ""), tls(local, ""), "", "network.listen"),
        ] {
            let (running, next) = (settings(&running), settings(&next));
            let step = Step::new(&running, &next).unwrap();
            let found = (step.taken_on.join(" "), step.left.join(" "));
            assert_eq!(found, (taken_on.to_owned(), left.to_owned()));
            let again = Step::new(&step.settings, &next).unwrap();
            let found = (again.taken_on.join(" "), again.left.join(" "));
            assert_eq!(found, (String::new(), left.to_owned()), "only once");
        }
    }

    #[test]
    fn no_listener_that_stays_is_opened() {
        let listen = |listen: &str, rest: &str| format!("[network]\nlisten = {listen:?}\n{rest}");
        let (all, local) = ("0.0.0.0:1", "127.0.0.1:1");
        let users = "[auth]\npassword_file = \"p\"\nacl_file = \"r\"\n";
        let rules = "[auth]\nacl_file = \"r\"\n";
        let anybody = "allow_anonymous = true\n";
        let demand = format!("{CERTIFICATE}{DEMAND}");
        let demand_and_rules = format!("{demand}{rules}");
        let allowed = format!("{demand}[auth]\ndefault = \"allow\"\n");
        let proxy = "[proxy]\ntrusted = \"10.0.0.1\"\ncommon_name = true\n";
        for (running, next, expected) in [
            // Users go: with the listener, or for a listener that does not run yet.
            (listen(local, users), listen(local, ""), ""),
            (
                listen(local, users),
                listen("127.0.0.1:2", ""),
                "does not open",
            ),
            (
                listen(all, users),
                listen(local, ""),
                "other machines can reach",
            ),
            (listen(all, users), listen(all, anybody), ""),
            (listen(all, users), listen(local, anybody), "does not open"),
            (
                listen(all, anybody),
                listen(local, ""),
                "other machines can reach",
            ),
            // Certificates instead of users.
            (
                listen(all, users),
                listen("mqtts://0.0.0.0:1", &allowed),
                "other machines can reach",
            ),
            (
                listen(local, users),
                listen("mqtts://127.0.0.1:1", &allowed),
                "does not open",
            ),
            (
                listen("mqtts://0.0.0.0:1", &format!("{CERTIFICATE}{users}")),
                listen("mqtts://0.0.0.0:1", &allowed),
                "",
            ),
            // Rules go.
            (
                listen("mqtts://0.0.0.0:1", &demand_and_rules),
                listen(local, ""),
                "there are no rules",
            ),
            (
                listen(all, &format!("{anybody}{rules}")),
                listen(local, anybody),
                "everybody could do everything",
            ),
            // Proxies stay.
            (
                listen(local, &format!("{proxy}{rules}")),
                listen(local, ""),
                "there are no rules",
            ),
            // What guards more is taken on at once.
            (listen(local, ""), listen(all, users), ""),
            (
                listen(all, anybody),
                listen("mqtts://0.0.0.0:1", &format!("{CERTIFICATE}{users}")),
                "",
            ),
        ] {
            let step = Step::new(&settings(&running), &settings(&next));
            let found = match step {
                Ok(_) => String::new(),
                Err(problems) => problems[0].to_string(),
            };
            assert_eq!(found.is_empty(), expected.is_empty(), "{next}: {found}");
            assert!(found.contains(expected), "{next}: {found}");
            assert!(expected.is_empty() || found.contains("restart the broker, which takes "));
        }
    }

    #[test]
    fn tls_of_the_control_plane_begins_with_a_start() {
        let tls = |name: &str| format!("[admin]\ncertificate = \"{name}\"\nkey = \"{name}.key\"\n");
        let both = ["admin.certificate", "admin.key"];
        for (running, next, waits) in [
            (String::new(), tls("c"), true),
            (tls("c"), String::new(), true),
            (tls("c"), tls("d"), false),
        ] {
            let step = Step::new(&settings(&running), &settings(&next)).unwrap();
            let (changed, other) = match waits {
                true => (&step.left, &step.taken_on),
                false => (&step.taken_on, &step.left),
            };
            assert_eq!(*changed, both, "{next}");
            assert!(other.is_empty(), "{next}");
        }
    }

    #[test]
    fn listeners_of_tables_are_checked_as_well() {
        let table = |listen: &str, rest: &str| format!("[[listener]]\nlisten = {listen:?}\n{rest}");
        let own = "tls.certificate = \"c\"\ntls.key = \"k\"\n[auth]\nacl_file = \"r\"\n";
        let demand = format!("tls.client_ca = \"a\"\ntls.client_certificate = \"required\"\n{own}");
        let running = settings(&table("mqtts://0.0.0.0:1", &demand));
        let next = settings(&table("mqtts://127.0.0.1:1", own));
        let step = Step::new(&running, &next).unwrap();
        assert_eq!(step.left, ["listener.listen"]);
        assert_eq!(step.settings.listeners, running.listeners);
        let same = settings(&table(
            "mqtts://0.0.0.0:1",
            &own.replace("[auth]", "[network]\nallow_anonymous = true\n[auth]"),
        ));
        let step = Step::new(&running, &same).unwrap();
        assert_eq!(step.settings.listeners, same.listeners);
        assert!(!step.demands_certificates);
        let back = Step::new(&same, &running).unwrap();
        assert!(back.demands_certificates);
        let problems = Step::new(&running, &settings("")).unwrap_err();
        let shown = problems[0].to_string();
        assert!(
            shown.contains("listener.listen names mqtts://0.0.0.0:1, whose"),
            "{shown}"
        );
        assert!(shown.contains("takes network.listen on"), "{shown}");
    }
}
