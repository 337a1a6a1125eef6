//! `[[listener]]` tables of the file, and what must be consistent across all listeners.

use std::fmt;

use ringmq::transport::Demand;
use ringmq::{Broker, Endpoint, StartError};
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::auth::AccessDefault;
use super::check::NAME_RULES;
use super::file::{Place, Problem, Source};
use super::listen::{Layers, Listen, ListenerTable};
use super::read::read_toml;
use super::value;
use super::value::{Complaint, Value};
use super::{Setting, Settings, TABLE, layers};
use crate::settings;

/// A table as it was written.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its addresses.
    pub listen: Vec<Listen>,
    /// What it sets of the layers.
    pub given: Vec<(&'static Setting, Value)>,
    /// Where its addresses stand.
    place: Place,
}

impl Table {
    /// The table on top of the sections of the file and the options of the command line.
    pub fn resolve(&self, base: &Settings) -> ListenerTable {
        let mut settings = base.clone();
        for (row, value) in &self.given {
            (row.set)(&mut settings, value.clone());
        }
        ListenerTable {
            listen: self.listen.clone(),
            layers: settings.layers,
        }
    }

    /// As it would be written.
    pub fn to_toml(&self) -> String {
        let addresses = Value::Addresses(self.listen.clone());
        let row = settings::by_flag("listen").expect("a setting of the table");
        let listen = row.kind.show_toml(&addresses);
        let mut text = format!("\n[[listener]]\nlisten = {listen}\n");
        for (row, value) in &self.given {
            text += &format!("{} = {}\n", row.name(), row.kind.show_toml(value));
        }
        text
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        write!(f, "[[listener]] at {}", shown.join(", "))?;
        for (row, value) in &self.given {
            write!(f, ", {} = {}", row.name(), row.kind.show_toml(value))?;
        }
        write!(f, "  ({})", self.place)
    }
}

/// Reads every table of the list.
pub fn read_tables(
    source: Source<'_>,
    tables: &DeArray<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Table> {
    let mut all = Vec::new();
    for item in tables {
        match item.get_ref() {
            DeValue::Table(table) => all.extend(read_table(source, table, item, problems)),
            _ => {
                let complaint = Complaint::new("is not a table", "write [[listener]] above it");
                problems.push(source.problem(item.span(), "listener", complaint));
            }
        }
    }
    all
}

fn read_table(
    source: Source<'_>,
    table: &DeTable<'_>,
    whole: &Spanned<DeValue<'_>>,
    problems: &mut Vec<Problem>,
) -> Option<Table> {
    let mut listen = None;
    let mut given = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Table(layer) if layers::SECTIONS.contains(&name) => {
                for (key, value) in layer {
                    let Some(row) = settings::by_key(name, key.get_ref()) else {
                        problems.push(source.unknown_key(name, key.get_ref(), key.span()));
                        continue;
                    };
                    match read_toml(row, value) {
                        Ok(read) => given.push((row, source.locate(row, read))),
                        Err((span, complaint)) => {
                            let subject = format!("listener.{}", row.name());
                            problems.push(source.problem(span, &subject, complaint));
                        }
                    }
                }
            }
            _ if name == "listen" => {
                let row = settings::by_flag("listen").expect("a setting of the table");
                match read_toml(row, value) {
                    Ok(read) => {
                        let place = Place::Line(Box::new(source.place(value.span())));
                        listen = Some((read.addresses(), place));
                    }
                    Err((span, complaint)) => {
                        problems.push(source.problem(span, "listener.listen", complaint));
                        return None;
                    }
                }
            }
            _ => problems.push(unknown_key(source, name, key.span())),
        }
    }
    match listen {
        Some((listen, place)) if !listen.is_empty() => Some(Table {
            listen,
            given,
            place,
        }),
        Some(_) | None => {
            let complaint = Complaint::new(
                "names no address",
                "give it one: listen = [\"mqtts://0.0.0.0:8883\"]",
            );
            problems.push(source.problem(whole.span(), "[[listener]]", complaint));
            None
        }
    }
}

fn unknown_key(source: Source<'_>, name: &str, span: std::ops::Range<usize>) -> Problem {
    let of_layers = TABLE
        .iter()
        .filter(|row| layers::SECTIONS.contains(&row.section));
    let mut exact = of_layers.clone();
    let fix = match exact.find(|row| row.key == name) {
        Some(row) => format!("did you mean {}?", row.name()),
        None => match value::nearest(name, of_layers.map(|row| row.section).chain(["listen"])) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                "a listener has `listen` and the keys of [tls], [websocket] and [proxy], such as \
                     tls.certificate"
                    .to_owned()
            }
        },
    };
    let complaint = Complaint::new("is not a setting of a listener", fix);
    source.problem(span, &format!("listener.{name}"), complaint)
}

/// What is wrong with the listeners together; the place of each complaint is that of its addresses.
pub fn check(settings: &Settings, tables: &[Table], own: &Place) -> Vec<(Place, Complaint)> {
    if settings.all_listeners().next().is_none() {
        let fix = "name an address, such as \"127.0.0.1:1883\", or write a [[listener]]";
        return vec![(own.clone(), Complaint::new("is an empty list", fix))];
    }
    let places = places(settings, tables, own);
    let placed = |(index, complaint): (usize, Complaint)| (places[index].clone(), complaint);
    complaints(settings).into_iter().map(placed).collect()
}

/// The same, each with its index in `Settings::all_listeners`.
pub fn complaints(settings: &Settings) -> Vec<(usize, Complaint)> {
    let mut complaints = Vec::new();
    let mut seen: Vec<&Endpoint> = Vec::new();
    for (index, (listen, layers)) in settings.all_listeners().enumerate() {
        let twin = seen.iter().find(|seen| overlap(seen, &listen.endpoint));
        let complaint = if let Some(&twin) = twin {
            Some(if *twin == listen.endpoint {
                let what = format!("names {twin} twice");
                Complaint::new(what, "name each address once")
            } else {
                let what = format!(
                    "names {twin} and {}, one of which is part of the other",
                    listen.endpoint
                );
                Complaint::new(what, "name one of them, or give them different ports")
            })
        } else {
            check_open(settings, listen, layers)
                .or_else(|| check_tls(listen, layers))
                .or_else(|| check_rules(settings, listen, layers))
        };
        complaints.extend(complaint.map(|complaint| (index, complaint)));
        seen.push(&listen.endpoint);
    }
    complaints
}

/// Both cannot be listened on. IPv4 and IPv6 never stand in each other's way: `[::]` leaves IPv4
/// alone if IPv4 has a listener of its own on that port.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    match (one, other) {
        (Endpoint::Tcp(one), Endpoint::Tcp(other)) => {
            let has_all = one.ip().is_unspecified() || other.ip().is_unspecified();
            let is_same = one.port() == other.port() && one.is_ipv4() == other.is_ipv4();
            one.port() != 0 && (one == other || has_all && is_same)
        }
        (Endpoint::Unix(one), Endpoint::Unix(other)) => one == other,
        (Endpoint::Passed(one), Endpoint::Passed(other)) => one == other,
        (Endpoint::Tcp(_) | Endpoint::Unix(_) | Endpoint::Passed(_), _) => false,
    }
}

/// The place of each of `Settings::all_listeners`.
fn places<'a>(settings: &Settings, tables: &'a [Table], own: &'a Place) -> Vec<&'a Place> {
    let mut places = vec![own; settings.listen.len()];
    for table in tables {
        places.extend(vec![&table.place; table.listen.len()]);
    }
    places
}

/// An address that would let the whole network in.
fn check_open(settings: &Settings, listen: &Listen, layers: &Layers) -> Option<Complaint> {
    let is_guarded = settings.auth.is_on() || listen.proves_clients(layers);
    if listen.is_local(layers) || settings.allow_anonymous || is_guarded {
        return None;
    }
    let (how, instead) = match &listen.endpoint {
        Endpoint::Tcp(address) if layers.proxies.is_empty() => (
            "which other machines can reach",
            format!("listen on 127.0.0.1:{}", address.port()),
        ),
        Endpoint::Passed(_) if layers.proxies.is_empty() => (
            "whose address may be one that other machines can reach",
            "listen on 127.0.0.1:1883".to_owned(),
        ),
        Endpoint::Tcp(_) | Endpoint::Unix(_) | Endpoint::Passed(_) => (
            "to which a proxy brings clients of other machines",
            "remove the proxy (--trusted-proxies)".to_owned(),
        ),
    };
    Some(Complaint::new(
        format!("names {listen}, {how}, but clients need not authenticate"),
        format!(
            "{instead}; or require a password (--password-file FILE), a token \
             (--jwt-key or --jwks-url), a hook (--hook-authentication-url URL) or, over TLS, a \
             client certificate (--client-certificate required); or admit everybody: \
             --allow-anonymous, or allow_anonymous = true under [network]"
        ),
    ))
}

/// Clients that are known by their certificates, and that nothing allows anything. Where others log
/// in besides, the same is said of these.
fn check_rules(settings: &Settings, listen: &Listen, layers: &Layers) -> Option<Complaint> {
    let auth = &settings.auth;
    let is_said = auth.has_users() || auth.has_rules() || auth.default != AccessDefault::Auto;
    if is_said || !listen.proves_clients(layers) {
        return None;
    }
    let what = format!(
        "names {listen}, whose clients present certificates, but there are no rules: they could do \
         nothing"
    );
    Some(Complaint::new(what, NAME_RULES))
}

fn check_tls(listen: &Listen, layers: &Layers) -> Option<Complaint> {
    let tls = &layers.tls;
    if !listen.scheme.has_tls() {
        return None;
    }
    if tls.certificates.is_empty() || tls.certificates.len() != tls.keys.len() {
        return Some(Complaint::new(
            format!(
                "names {listen}, for which there are {} certificates and {} keys",
                tls.certificates.len(),
                tls.keys.len()
            ),
            "name a certificate and its key: --certificate FILE --key FILE, or certificate and key \
             under [tls]",
        ));
    }
    if tls.client_certificate != Demand::None && tls.client_cas.is_empty() {
        return Some(Complaint::new(
            format!("names {listen}, which requests client certificates, but trusts no CA"),
            "name the CA: --client-ca FILE, or client_ca under [tls]",
        ));
    }
    None
}

/// Reads the files that the listeners need, as the start does.
pub fn check_files(settings: &Settings, tables: &[Table], own: &Place) -> Vec<Problem> {
    let configs = settings.listener_configs();
    let Err(errors) = Broker::load_tls(&configs) else {
        return Vec::new();
    };
    let places = places(settings, tables, own);
    let place_of = |endpoint: &Endpoint| {
        let index = configs.iter().position(|c| c.endpoint == *endpoint);
        index.map_or(own, |index| places[index]).clone()
    };
    let mut problems: Vec<Problem> = Vec::new();
    for error in errors {
        let StartError::Tls { endpoint, problem } = error else {
            continue;
        };
        let subject = match &problem.file {
            Some(file) => file.display().to_string(),
            None => format!("TLS on {endpoint}:"),
        };
        let found = Problem {
            place: place_of(&endpoint),
            subject,
            what: problem.what,
            fix: problem.fix,
        };
        if !problems.contains(&found) {
            problems.push(found);
        }
    }
    problems
}
