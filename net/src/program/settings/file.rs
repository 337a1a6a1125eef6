//! From the command line and the configuration file to [`Settings`], with all problems.
//!
//! The command line overrides the file, the file overrides the defaults. All problems of a file are
//! reported at once, each with its place and a fix.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use ringmq_problem::{LinePlace, printable};
pub use ringmq_problem::{Place, Problem};
use toml::de::{DeTable, DeValue};

use super::cli::{CommandLine, wrap};
use super::jwt::KeyFile;
use super::listeners::Table;
use super::read::read_toml;
use super::value;
use super::value::{Complaint, Items, Kind, Value};
use super::{SECTIONS, Setting, Settings, TABLE};
use crate::access::files;
use crate::access::files::What;
use crate::settings;

/// Settings, and where each came from.
#[derive(Debug, Default)]
pub struct Configuration {
    /// The settings in force.
    pub settings: Settings,
    /// By option name: where each given setting was set.
    places: HashMap<&'static str, Place>,
    /// The `[[listener]]` tables of the file.
    pub tables: Vec<Table>,
}

impl Configuration {
    /// Reads the file, if one is named, and lays the command line over it.
    pub fn load(line: &CommandLine) -> Result<Configuration, Vec<Problem>> {
        let source = match &line.file {
            None => None,
            Some(path) => Some((
                path.display().to_string(),
                files::read(path, What::Configuration).map_err(|problem| vec![problem])?,
            )),
        };
        let source = source.as_ref().map(|(name, text)| Source { name, text });
        let configuration = Configuration::resolve(source, &line.given)?;
        let own = configuration.place(settings::by_flag("listen").expect("a setting of the table"));
        let settings = &configuration.settings;
        match super::listeners::check_files(settings, &configuration.tables, &own) {
            problems if problems.is_empty() => Ok(configuration),
            problems => Err(problems),
        }
    }

    /// As [`Configuration::load`], without touching the file system.
    pub fn resolve(
        source: Option<Source<'_>>,
        given: &[(&'static Setting, Value)],
    ) -> Result<Configuration, Vec<Problem>> {
        let mut configuration = Configuration::default();
        let mut problems = match source {
            Some(source) => configuration.apply_file(source),
            None => Vec::new(),
        };
        for (row, value) in given {
            configuration.apply(row, value.clone(), Place::CommandLine);
        }
        configuration.resolve_listeners();
        if problems.is_empty() {
            problems = configuration.check_together();
        }
        if problems.is_empty() {
            Ok(configuration)
        } else {
            Err(problems)
        }
    }

    /// The settings whose value is not the default, with their value and place.
    pub fn changed(&self) -> impl Iterator<Item = (&'static Setting, Value, Place)> {
        TABLE.iter().filter_map(|row| {
            let value = (row.get)(&self.settings);
            (value != row.default_value()).then(|| (row, value, self.place(row)))
        })
    }

    /// All settings as a configuration file with comments.
    pub fn to_toml(&self) -> String {
        let mut text = String::from("# Settings of ringmq; `ringmq --help` says more.\n");
        for (section, about) in SECTIONS {
            text += &format!("\n# {about}.\n[{section}]\n");
            for row in TABLE.iter().filter(|row| row.section == *section) {
                let value = (row.get)(&self.settings);
                for line in wrap(&row.about(), COMMENT_COLUMNS) {
                    text += &format!("# {line}\n");
                }
                text += &format!("{} = {}\n", row.key, row.kind.show_toml(&value));
            }
        }
        text + &self.tables.iter().map(Table::to_toml).collect::<String>()
    }

    /// Applies the `[[listener]]` tables. If there are any, the default address is not listened on.
    fn resolve_listeners(&mut self) {
        if !self.tables.is_empty() && !self.places.contains_key("listen") {
            self.settings.listen.clear();
        }
        let base = &self.settings;
        let resolved = self.tables.iter().map(|table| table.resolve(base));
        self.settings.listeners = resolved.collect();
    }

    pub(super) fn place(&self, row: &Setting) -> Place {
        self.places.get(row.flag).cloned().unwrap_or(Place::Default)
    }

    fn apply(&mut self, row: &'static Setting, value: Value, place: Place) {
        (row.set)(&mut self.settings, value);
        self.places.insert(row.flag, place);
    }

    fn apply_file(&mut self, source: Source<'_>) -> Vec<Problem> {
        let (root, errors) = DeTable::parse_recoverable(source.text);
        if !errors.is_empty() {
            // After a syntax error the rest of the table is a guess: no consequential errors.
            let syntax = |error: &toml::de::Error| source.syntax_problem(error);
            return errors.iter().take(PROBLEMS_MAX).map(syntax).collect();
        }
        let mut problems = Vec::new();
        for (key, value) in root.get_ref() {
            let section = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(table) if SECTIONS.iter().any(|(name, _)| *name == section) => {
                    for (key, value) in table {
                        let name = key.get_ref().as_ref();
                        match settings::by_key(section, name) {
                            None => problems.push(source.unknown_key(section, name, key.span())),
                            Some(row) => match read_toml(row, value) {
                                Ok(read) => {
                                    let place = Place::Line(Box::new(source.place(value.span())));
                                    self.apply(row, source.locate(row, read), place);
                                }
                                Err((span, complaint)) => {
                                    problems.push(source.problem(span, &row.name(), complaint));
                                }
                            },
                        }
                    }
                }
                DeValue::Array(tables) if section == "listener" => {
                    self.tables = super::listeners::read_tables(source, tables, &mut problems);
                }
                DeValue::Table(_) => problems.push(source.unknown_section(section, key.span())),
                DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_) => problems.push(source.unknown_key("", section, key.span())),
            }
        }
        // The table is sorted by name: people read from top to bottom.
        problems.sort_by_key(|problem| match &problem.place {
            Place::Line(place) => (place.line, place.column),
            Place::Default | Place::CommandLine | Place::File(_) => (0, 0),
        });
        problems.truncate(PROBLEMS_MAX);
        problems
    }
}

/// A configuration file that was read.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name in messages.
    pub name: &'a str,
    /// What it says.
    pub text: &'a str,
}

impl Source<'_> {
    /// A path that is not absolute is seen from the folder of the file that names it.
    pub(crate) fn locate(&self, row: &Setting, value: Value) -> Value {
        let folder = Path::new(self.name).parent();
        match (row.kind, value, folder) {
            (Kind::List(Items::Paths), Value::List(paths), Some(folder)) => {
                let locate = |path: String| folder.join(path).display().to_string();
                Value::List(paths.into_iter().map(locate).collect())
            }
            (Kind::List(Items::Keys), Value::List(keys), Some(folder)) => {
                let locate = |text: String| match text.parse::<KeyFile>() {
                    Ok(mut key) => {
                        key.path = folder.join(&key.path);
                        key.to_string()
                    }
                    Err(_) => text,
                };
                Value::List(keys.into_iter().map(locate).collect())
            }
            (Kind::Directory, Value::Text(path), Some(folder)) if !path.is_empty() => {
                Value::Text(folder.join(path).display().to_string())
            }
            (_, value, _) => value,
        }
    }

    pub(crate) fn problem(
        &self,
        span: Range<usize>,
        subject: &str,
        complaint: Complaint,
    ) -> Problem {
        complaint.at(Place::Line(Box::new(self.place(span))), subject)
    }

    fn syntax_problem(&self, error: &toml::de::Error) -> Problem {
        let span = error.span().unwrap_or(0..0);
        let message = error.message();
        if message.contains("duplicate key") {
            let key = printable(self.text.get(span.clone()).unwrap_or("the key"));
            let what = "is set more than once".to_owned();
            return self.problem(span, &key, Complaint::new(what, "keep one of them"));
        }
        let what = format!("is not TOML: {message}");
        let fix = "write KEY = VALUE lines under [SECTION] lines, with text in \"quotes\"";
        self.problem(span, "this line", Complaint::new(what, fix))
    }

    fn unknown_section(&self, section: &str, span: Range<usize>) -> Problem {
        let names = SECTIONS.iter().map(|(name, _)| *name);
        if section == "listener" {
            let complaint = Complaint::new("is not a section", "did you mean [[listener]]?");
            return self.problem(span, "[listener]", complaint);
        }
        let fix = match value::nearest(section, names.clone()) {
            Some(name) => format!("did you mean [{name}]?"),
            None => format!("the sections are {}", names.collect::<Vec<_>>().join(", ")),
        };
        let complaint = Complaint::new("is not a section", fix);
        self.problem(span, &format!("[{}]", printable(section)), complaint)
    }

    /// `section` is empty for a key outside of any.
    pub(crate) fn unknown_key(&self, section: &str, key: &str, span: Range<usize>) -> Problem {
        let here = TABLE.iter().filter(|row| row.section == section);
        let elsewhere = TABLE.iter().find(|row| row.key == key);
        let all = TABLE.iter().map(|row| row.key);
        let fix = if let Some(row) = elsewhere {
            format!("`{key}` belongs under [{}]", row.section)
        } else if let Some(near) = value::nearest(key, here.map(|row| row.key)) {
            format!("did you mean `{near}`?")
        } else if let Some(near) = value::nearest(key, all) {
            let row = TABLE.iter().find(|row| row.key == near);
            let section = row.map_or("", |row| row.section);
            format!("did you mean `{near}` under [{section}]?")
        } else {
            "`ringmq --print-config` lists every key".to_owned()
        };
        let (subject, what) = match section {
            "" => (printable(key), "is not a setting"),
            _ => (format!("{section}.{}", printable(key)), "is not a setting"),
        };
        self.problem(span, &subject, Complaint::new(what, fix))
    }

    pub(crate) fn place(&self, span: Range<usize>) -> LinePlace {
        LinePlace::of(self.name, self.text, span)
    }
}

/// "1 core", "2 cores".
pub fn count(number: usize, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

const COMMENT_COLUMNS: usize = 90;

/// More problems than these are one problem: the wrong file.
const PROBLEMS_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::super::check::NAME_RULES;
    use super::*;

    fn resolve(text: &str) -> Result<Configuration, Vec<Problem>> {
        Configuration::resolve(
            Some(Source {
                name: "f.toml",
                text,
            }),
            &[],
        )
    }

    fn only_problem(text: &str) -> String {
        let problems = resolve(text).expect_err(text);
        assert_eq!(problems.len(), 1, "{text}: {problems:?}");
        problems[0].to_string()
    }

    #[test]
    fn a_file_sets_what_it_names_and_nothing_else() {
        let configuration = resolve(
            "[network]\nlisten = [\"127.0.0.1:1\", \"[::1]:2\"]\nconnections_max = \"auto\"\n\
             [runtime]\nshards = 2\ncores = [0, \"3\"]\n[log]\nformat = \"json\"\n\
             [limits]\npacket_size_max = \"2MiB\"\nconnect_deadline = \"1500ms\"\n\
             keep_alive_max = \"1h\"\nreceive_maximum_enforced = false\nqueued_bytes_max = 0x10\n",
        )
        .unwrap();
        let shown: Vec<String> = configuration
            .changed()
            .map(|(row, value, place)| format!("{} {} {place}", row.name(), row.show(&value)))
            .collect();
        assert_eq!(
            shown,
            [
                "network.listen 127.0.0.1:1, [::1]:2 f.toml:2:10",
                "runtime.shards 2 f.toml:5:10",
                "runtime.cores 0,3 f.toml:6:9",
                "log.format json f.toml:8:10",
                "limits.connect_deadline 1500ms f.toml:11:20",
                "limits.packet_size_max 2MiB f.toml:10:19",
                "limits.keep_alive_max 1h f.toml:12:18",
                "limits.receive_maximum_enforced false f.toml:13:28",
                "limits.queued_bytes_max 16 f.toml:14:20",
            ]
        );
    }

    #[test]
    fn a_wrong_value_is_shown_in_its_line() {
        assert_eq!(
            only_problem("[network]\n\nlisten = [\"[::1]:1\", \"localhost:1883\"]\n"),
            "f.toml:3:22: network.listen holds `localhost:1883`, which is not IP:PORT\n\
             \x20 3 | listen = [\"[::1]:1\", \"localhost:1883\"]\n\
             \x20   |                      ^^^^^^^^^^^^^^^^\n\
             \x20 fix: did you mean 127.0.0.1:1883? Host names are not resolved"
        );
    }

    #[test]
    fn listeners_have_layers_of_their_own_on_top_of_the_sections() {
        let text = "[tls]\ncertificate = [\"a.pem\"]\nkey = [\"a.key\"]\n\
                    [[listener]]\nlisten = [\"mqtts://127.0.0.1:1\"]\n\
                    [[listener]]\nlisten = \"wss://127.0.0.1:2\"\ntls.certificate = \"b.pem\"\n\
                    [listener.websocket]\norigins = [\"*\"]\n";
        let configuration = resolve(text).unwrap();
        let settings = &configuration.settings;
        let shown: Vec<String> = settings
            .all_listeners()
            .map(|(listen, layers)| {
                let certificate = layers.tls.certificates[0].display();
                format!("{listen} {certificate} {}", layers.origins.len())
            })
            .collect();
        assert_eq!(
            shown,
            ["mqtts://127.0.0.1:1 a.pem 0", "wss://127.0.0.1:2 b.pem 1"],
            "the address that holds if nobody says anything is gone"
        );
        let again = resolve(&configuration.to_toml()).unwrap();
        assert_eq!(again.settings.listeners, settings.listeners);
        assert_eq!(again.settings.listen, settings.listen);
        let row = settings::by_flag("tls-version-min").unwrap();
        let given = [(row, Value::Text("1.3".to_owned()))];
        let source = Source {
            name: "f.toml",
            text,
        };
        let configuration = Configuration::resolve(Some(source), &given).unwrap();
        let listeners = &configuration.settings.listeners;
        assert!(
            listeners.iter().all(|l| l.layers.tls.only_tls13),
            "options of the command line reach the tables"
        );
    }

    #[test]
    fn every_mistake_has_its_message() {
        for (text, head, fix) in [
            (
                "[limits]\npacket_size = 1",
                "2:1: limits.packet_size is not a setting",
                "did you mean `packet_size_max`?",
            ),
            (
                "[limits]\nshards = 1",
                "2:1: limits.shards is not a setting",
                "`shards` belongs under [runtime]",
            ),
            (
                "[limits]\nwombat = 1",
                "2:1: limits.wombat is not a setting",
                "`ringmq --print-config` lists every key",
            ),
            (
                "[runtime]\nlistem = 1",
                "2:1: runtime.listem is not a setting",
                "did you mean `listen` under [network]?",
            ),
            (
                "shards = 1",
                "1:1: shards is not a setting",
                "`shards` belongs under [runtime]",
            ),
            (
                "[limit]\nx = 1",
                "1:2: [limit] is not a section",
                "did you mean [limits]?",
            ),
            (
                "[mesh]\nx = 1",
                "1:2: [mesh] is not a section",
                "the sections are network, auth, hooks, jwt, tls, websocket, proxy, runtime, store, \
                 admin, log, limits, mqtt, shared",
            ),
            (
                "[runtime]\nshards = \"2\"",
                "2:10: runtime.shards is text in quotes, but has to be a whole number",
                "write a number from 1 to 64",
            ),
            (
                "[runtime]\nshards = 2.5",
                "2:10: runtime.shards is a number with a point, but has to be a whole number",
                "write a number from 1 to 64",
            ),
            (
                "[runtime]\nshards = 65",
                "2:10: runtime.shards is 65, which is out of range",
                "write a value from 1 to 64",
            ),
            (
                "[runtime]\nshards = -1",
                "2:10: runtime.shards is -1, which is out of range",
                "write a number from 1 to 64",
            ),
            (
                "[runtime]\nshards = [1]",
                "2:10: runtime.shards is a list, but has to be a whole number",
                "write a number from 1 to 64",
            ),
            (
                "[runtime]\nshards.max = 1",
                "2:1: runtime.shards is a table, but has to be a whole number",
                "write a number from 1 to 64",
            ),
            (
                "[runtime]\ncores = [0, 0]",
                "2:13: runtime.cores names core 0 twice",
                "name each core once",
            ),
            (
                "[runtime]\ncores = [[0]]",
                "2:10: runtime.cores holds a list in a list",
                "write a list such as \"0-3,6\", or none",
            ),
            (
                "[runtime]\ncores = []",
                "2:9: runtime.cores is an empty list",
                "write a list such as \"0-3,6\", or none",
            ),
            (
                "[runtime]\ncores = [\"auto\"]",
                "2:10: runtime.cores holds auto in a list",
                "write a list such as \"0-3,6\", or none",
            ),
            (
                "[runtime]\nshards = 1\nshards = 2",
                "3:1: shards is set more than once",
                "keep one of them",
            ),
            (
                "[limits]\n[limits]",
                "2:2: limits is set more than once",
                "keep one of them",
            ),
            (
                "[runtime]\nshards 1",
                "2:8: this line is not TOML: key with no value, expected `=`",
                "write KEY = VALUE lines under [SECTION] lines, with text in \"quotes\"",
            ),
            (
                "[network]\nallow_anonymous = \"true\"",
                "2:19: network.allow_anonymous is text in quotes, but has to be true or false",
                "write true or false",
            ),
            (
                "[network]\nlisten = 1883",
                "2:10: network.listen is a number, but has to be a list of addresses",
                "write a list such as [\"127.0.0.1:1883\"]",
            ),
            (
                "[network]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
                "2:10: network.listen names 127.0.0.1:1 twice",
                "name each address once",
            ),
            (
                "[network]\nlisten = \"0.0.0.0:1883\"",
                "2:10: network.listen names 0.0.0.0:1883, which other machines can reach, but \
                 clients need not authenticate",
                "listen on 127.0.0.1:1883; or require a password (--password-file FILE), a token \
                 (--jwt-key or --jwks-url), a hook (--hook-authentication-url URL) or, over TLS, a \
                 client certificate (--client-certificate required); or admit everybody: \
                 --allow-anonymous, or allow_anonymous = true under [network]",
            ),
            (
                "[network]\nlisten = [\"mqtts://127.0.0.1:1\"]",
                "2:10: network.listen names mqtts://127.0.0.1:1, for which there are 0 \
                 certificates and 0 keys",
                "name a certificate and its key: --certificate FILE --key FILE, or certificate and \
                 key under [tls]",
            ),
            (
                "[auth]\npassword_file = \"p\"",
                "2:17: auth.password_file admits users, but there are no rules: they could do \
                 nothing",
                NAME_RULES,
            ),
            (
                "[[listener]]\nlisten = \"mqtts://0.0.0.0:1\"\n[listener.tls]\ncertificate = \"c\"\nkey = \"k\"\n\
                 client_certificate = \"required\"\nclient_ca = \"a\"",
                "2:10: listener.listen names mqtts://0.0.0.0:1, whose clients present \
                 certificates, but there are no rules: they could do nothing",
                NAME_RULES,
            ),
            (
                "[network]\nlisten = \"mqtts://127.0.0.1:1\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n\
                 client_certificate = \"optional\"\nclient_ca = \"a\"\nidentity = \"cn\"",
                "2:10: network.listen names mqtts://127.0.0.1:1, whose clients present \
                 certificates, but there are no rules: they could do nothing",
                NAME_RULES,
            ),
            (
                "[network]\nlisten = \"127.0.0.1:1\"\n[proxy]\ntrusted = \"127.0.0.1\"\n\
                 common_name = true",
                "2:10: network.listen names 127.0.0.1:1, whose clients present certificates, but \
                 there are no rules: they could do nothing",
                NAME_RULES,
            ),
            (
                "[network]\nlisten = \"127.0.0.1:1\"\n[proxy]\ntrusted = \"127.0.0.1\"",
                "2:10: network.listen names 127.0.0.1:1, to which a proxy brings clients of other \
                 machines, but clients need not authenticate",
                "remove the proxy (--trusted-proxies); or require a password (--password-file \
                 FILE), a token (--jwt-key or --jwks-url), a hook (--hook-authentication-url URL) \
                 or, over TLS, a client certificate (--client-certificate required); or admit \
                 everybody: --allow-anonymous, or allow_anonymous = true under [network]",
            ),
            (
                "[network]\nlisten = \"unix:/x\"\n[proxy]\ntrusted = \"127.0.0.1\"",
                "2:10: network.listen names unix:/x, to which a proxy brings clients of other \
                 machines, but clients need not authenticate",
                "remove the proxy (--trusted-proxies); or require a password (--password-file \
                 FILE), a token (--jwt-key or --jwks-url), a hook (--hook-authentication-url URL) \
                 or, over TLS, a client certificate (--client-certificate required); or admit \
                 everybody: --allow-anonymous, or allow_anonymous = true under [network]",
            ),
            (
                "[network]\nlisten = \"mqtts://127.0.0.1:1\"\n[tls]\ncertificate = \"c\"\nkey = \"k\"\n\
                 client_certificate = \"optional\"\nclient_ca = \"a\"",
                "2:10: network.listen names mqtts://127.0.0.1:1, whose clients present \
                 certificates, but there are no rules: they could do nothing",
                NAME_RULES,
            ),
            (
                "[network]\nlisten = []",
                "2:10: network.listen is an empty list",
                "name an address, such as \"127.0.0.1:1883\", or write a [[listener]]",
            ),
            (
                "[[listener]]\nlisten = [\"127.0.0.1:1\", \"ws://127.0.0.1:1\"]",
                "2:10: listener.listen names 127.0.0.1:1 twice",
                "name each address once",
            ),
            (
                "[network]\nlisten = [\"127.0.0.1:1\", \"0.0.0.0:1\"]\nallow_anonymous = true",
                "2:10: network.listen names 127.0.0.1:1 and 0.0.0.0:1, one of which is part of the \
                 other",
                "name one of them, or give them different ports",
            ),
            (
                "[websocket]\norigins = [\"https://*.app.example\"]",
                "2:12: websocket.origins holds `https://*.app.example`, which has a wildcard in \
                 it, which would never match",
                "list each origin in full; \"*\" alone admits every page",
            ),
            (
                "[websocket]\norigins = [\"https://app.example/\"]",
                "2:12: websocket.origins holds `https://app.example/`, which has a path, which \
                 browsers do not send",
                "did you mean https://app.example?",
            ),
            (
                "[[listener]]\nlisten = \"ws://0.0.0.0:1\"",
                "2:10: listener.listen names ws://0.0.0.0:1, which other machines can reach, but \
                 clients need not authenticate",
                "listen on 127.0.0.1:1; or require a password (--password-file FILE), a token \
                 (--jwt-key or --jwks-url), a hook (--hook-authentication-url URL) or, over TLS, a \
                 client certificate (--client-certificate required); or admit everybody: \
                 --allow-anonymous, or allow_anonymous = true under [network]",
            ),
            (
                "[[listener]]\nlisten = \"127.0.0.1:1\"\ncertificate = \"x\"",
                "3:1: listener.certificate is not a setting of a listener",
                "did you mean tls.certificate?",
            ),
            (
                "[[listener]]\nlisten = \"127.0.0.1:1\"\ntls.identity = \"dn\"",
                "3:16: listener.tls.identity is `dn`, which is not an allowed value",
                "write none or cn or san-dns or san-email or san-uri",
            ),
            (
                "[[listener]]\ntls.identity = \"cn\"",
                "1:1: [[listener]] names no address",
                "give it one: listen = [\"mqtts://0.0.0.0:8883\"]",
            ),
            (
                "[listener]\nlisten = \"127.0.0.1:1\"",
                "1:2: [listener] is not a section",
                "did you mean [[listener]]?",
            ),
            (
                "[proxy]\ntrusted = [\"10.0.0.0/8\", \"proxy.example\"]",
                "2:26: proxy.trusted holds `proxy.example`, which is neither an address nor a \
                 network",
                "write a list such as [\"10.0.0.0/8\", \"::1\"]",
            ),
            (
                "[websocket]\norigins = \"example.com\"",
                "2:11: websocket.origins holds `example.com`, which has no scheme",
                "write https://HOST or https://HOST:PORT; \"*\" admits every page",
            ),
            (
                "[log]\nfilter = 2024-01-01",
                "2:10: log.filter is a date or time, but has to be a log filter",
                "write a level such as \"info\", or \"info,ringmq::probe=debug\"",
            ),
            (
                "[limits]\nconnect_deadline = true",
                "2:20: limits.connect_deadline is true or false, but has to be a time span",
                "write a number of seconds or a time such as \"10s\" or \"7d\", from 100ms to 5m",
            ),
            (
                "[limits]\npacket_size_max = \"16KiB\"\nconnect_size_max = \"32KiB\"",
                "3:20: limits.connect_size_max is 32KiB, which is more than packet_size_max, 16KiB",
                "lower connect_size_max or raise packet_size_max",
            ),
            (
                "[runtime]\nshards = 1\ncores = \"0-1\"",
                "3:9: runtime.cores names 2 cores, but `shards` asks for 1",
                "name one core per shard, or leave out `shards`",
            ),
        ] {
            let message = only_problem(text);
            let first = message.lines().next().unwrap();
            assert_eq!(first, format!("f.toml:{head}"), "{text}");
            assert_eq!(
                message.lines().last().unwrap(),
                format!("  fix: {fix}"),
                "{text}"
            );
        }
    }

    #[test]
    fn all_problems_are_reported_from_top_to_bottom() {
        let problems = resolve("[runtime]\nshards = 0\n[limits]\nx = 1\n[aaa]\n").unwrap_err();
        let lines: Vec<String> = problems.iter().map(|p| p.place.to_string()).collect();
        assert_eq!(lines, ["f.toml:2:10", "f.toml:4:1", "f.toml:5:2"]);
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let row = settings::by_flag("shards").unwrap();
        let source = Source {
            name: "f.toml",
            text: "[runtime]\nshards = 2\n",
        };
        let given = [(row, Value::Number(3))];
        let configuration = Configuration::resolve(Some(source), &given).unwrap();
        assert_eq!(configuration.settings.shards, Some(3));
        assert_eq!(configuration.place(row), Place::CommandLine);
    }

    #[test]
    fn what_is_printed_as_a_file_reads_back() {
        let text = "[network]\nlisten = [\"[::1]:1\"]\n[runtime]\ncores = \"0,2\"\n\
                    [limits]\nsession_expiry_max = \"1d\"\nreceive_maximum = 7\n";
        let configuration = resolve(text).unwrap();
        let again = resolve(&configuration.to_toml()).unwrap();
        for row in TABLE {
            assert_eq!(
                (row.get)(&again.settings),
                (row.get)(&configuration.settings)
            );
        }
    }

    #[test]
    fn secrets_of_urls_are_in_no_message() {
        for text in [
            "[hooks]\nauthentication_url = \"http://u:SECRET@h/x?key=SECRET\"",
            "[hooks]\nauthorization_url = \"ftp://h/x?key=SECRET\"",
            "[hooks]\nauthorization_url = http://u:SECRET@h/?SECRET",
            "[jwt]\njwks_url = [\"https://h/\", \"https://u:SECRET@h/?key=SECRET\"]",
            "[jwt]\nurl = \"http://h/?SECRET\"",
        ] {
            let message = only_problem(text);
            assert!(!message.contains("SECRET"), "{message}");
        }
    }

    #[test]
    fn control_characters_of_the_file_do_not_reach_the_terminal() {
        let message = only_problem("[limits]\n\"a\\u001bb\" = 1 # \u{9b}");
        assert!(!message.contains(['\u{1b}', '\u{9b}']), "{message:?}");
    }

    #[test]
    fn loopback_needs_no_permission() {
        for (address, expected) in [
            ("127.0.0.1:1", true),
            ("127.9.9.9:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("192.0.2.1:1", false),
        ] {
            let text = format!("[network]\nlisten = \"{address}\"\n");
            assert_eq!(resolve(&text).is_ok(), expected, "{address}");
            let open = format!("{text}allow_anonymous = true\n");
            assert!(resolve(&open).is_ok(), "{address}");
        }
    }
}
