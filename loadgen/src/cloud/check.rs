//! What a service would refuse or throttle of a scenario, found before anything is sent.

use ringmq_core::codec::{QoS, Version};
use ringmq_problem::{Complaint, Problem};

use super::fill::{ALPN_AUTHORIZER, ALPN_CERTIFICATE};
use super::limits::{Limits, Rule};
use super::{Endpoint, Service, quota};
use crate::scenario::pattern::{Filling, Pattern};
use crate::scenario::rates::Rates;
use crate::scenario::value::{show_protocol, show_span};
use crate::scenario::{Group, Scenario};
use crate::scenario::{Keyed as _, stage};

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What the service refuses, or slows down so that the schedule cannot be kept.
    pub refused: Vec<(Rule, Problem)>,
    /// What is slow or dear.
    pub warnings: Vec<Problem>,
}

/// Checks a scenario whose open settings are filled; nothing without a preset.
pub fn check(scenario: &Scenario, endpoint: &Endpoint) -> Findings {
    let mut findings = Findings::default();
    let Some(service) = scenario.preset else {
        return findings;
    };
    for group in &scenario.groups {
        let mut look = Look {
            scenario,
            service,
            limits: service.limits(),
            endpoint,
            group,
            findings: &mut findings,
        };
        look.at_connection();
        look.at_identity();
        look.at_session();
        look.at_publishing();
        look.at_pace();
        look.at_subscribing();
    }
    check_twice(scenario, service, &mut findings);
    quota::warn(scenario, service, &mut findings.warnings);
    findings
}

/// A group before a service.
struct Look<'a> {
    scenario: &'a Scenario,
    service: Service,
    limits: &'static Limits,
    endpoint: &'a Endpoint,
    group: &'a Group,
    findings: &'a mut Findings,
}

impl Look<'_> {
    fn refuse(&mut self, rule: Rule, key: &str, what: String, fix: impl Into<String>) {
        let what = format!("{what} ({}: {})", self.limits.name, self.limits.source);
        let problem = self.group.problem(key, Complaint::new(what, fix));
        self.findings.refused.push((rule, problem));
    }

    fn warn(&mut self, key: &str, what: String, fix: &str) {
        let what = format!("{what} ({}: {})", self.limits.name, self.limits.source);
        let problem = self.group.problem(key, Complaint::new(what, fix));
        self.findings.warnings.push(problem);
    }

    fn at_connection(&mut self) {
        let group = self.group;
        if !group.tls {
            let what = "is off, and the service takes connections over TLS only".to_owned();
            return self.refuse(Rule::Tls, "tls", what, "write tls = true");
        }
        let name = group.tls_name.as_deref().unwrap_or(&self.endpoint.host);
        if name.parse::<std::net::IpAddr>().is_ok() {
            let what = format!("is {name}, and the service wants the name of the endpoint (SNI)");
            self.refuse(
                Rule::Sni,
                "tls_name",
                what,
                "write the name of your endpoint",
            );
        }
        let is_shared_port = self.endpoint.port == 443 && !self.endpoint.is_websocket;
        if self.service == Service::AwsIotCore && is_shared_port {
            let is_certificate = group.tls_cert.is_some();
            let wanted = if is_certificate {
                ALPN_CERTIFICATE
            } else {
                ALPN_AUTHORIZER
            };
            if group.tls_alpn.as_deref() != Some(wanted) {
                let what = format!("is not `{wanted}`, which port 443 asks for");
                self.refuse(
                    Rule::Alpn,
                    "tls_alpn",
                    what,
                    format!("write tls_alpn = \"{wanted}\""),
                );
            }
        }
        if !self.limits.versions.contains(&group.protocol) {
            let versions = self.limits.versions.iter().map(|v| show_protocol(*v));
            let versions = versions.collect::<Vec<_>>().join(" or ");
            let what = format!(
                "is {}, and the service speaks {versions}",
                show_protocol(group.protocol)
            );
            self.refuse(
                Rule::Protocol,
                "protocol",
                what,
                format!("write {versions}"),
            );
        }
    }

    fn at_identity(&mut self) {
        let group = self.group;
        let has_certificate = group.tls_cert.is_some();
        let (is_known, fix) = match self.service {
            Service::AwsIotCore => (
                has_certificate || group.user.is_some(),
                "name a certificate with tls_cert and tls_key, or give `user` and `password` for \
                 an authorizer",
            ),
            Service::AzureIotHub => (
                has_certificate || group.sas_key.is_some() || group.password.is_some(),
                "name a key with sas_key_file, or a certificate with tls_cert and tls_key",
            ),
            Service::AzureEventGrid => (
                has_certificate,
                "name a certificate with tls_cert and tls_key",
            ),
        };
        if !is_known {
            let key = match self.service {
                Service::AzureIotHub => "sas_key_file",
                Service::AwsIotCore | Service::AzureEventGrid => "tls_cert",
            };
            let what = "is not set, so clients do not say who they are".to_owned();
            self.refuse(Rule::Identity, key, what, fix);
        }
        for id in self.examples(&group.client_id, 0) {
            let limit = self.limits.client_id_size_max;
            if id.len() > limit {
                let what = format!(
                    "becomes `{id}`, of {} bytes; {limit} are accepted",
                    id.len()
                );
                return self.refuse(Rule::ClientId, "client_id", what, "write a shorter pattern");
            }
            let is_anonymous = id.is_empty() && self.service != Service::AwsIotCore;
            if is_anonymous || id.starts_with('$') {
                let what = format!("becomes `{id}`, which is not the name of a client");
                let fix = "write the names under which clients are registered";
                return self.refuse(Rule::ClientId, "client_id", what, fix);
            }
        }
        if self.service == Service::AzureIotHub {
            self.at_hub_identity();
        }
    }

    /// A hub wants its own name and the device in the user name, and ends connections with their
    /// tokens.
    fn at_hub_identity(&mut self) {
        let group = self.group;
        let host = group.tls_name.as_deref().unwrap_or(&self.endpoint.host);
        let user = group.user.as_ref().map(|user| self.examples(user, 0));
        let ids = self.examples(&group.client_id, 0);
        let is_wrong = |(user, id): (&String, &String)| {
            !user.starts_with(&format!("{host}/{id}/?api-version="))
        };
        if let Some(users) = user
            && users.iter().zip(&ids).any(is_wrong)
        {
            let what = format!(
                "becomes `{}`, which is not HUB/DEVICE/?api-version=",
                users[0]
            );
            self.refuse(
                Rule::User,
                "user",
                what,
                "leave it out: the preset makes it",
            );
        }
        let span = self.scenario.warmup_span() + self.scenario.window_span();
        if group.sas_key.is_some() && span > group.sas_expiry && !group.reconnect {
            let what = format!(
                "is {}, and the hub ends a connection with its token; the run takes {}",
                show_span(group.sas_expiry),
                show_span(span)
            );
            let fix = "make it longer, or write reconnect = true: each connection has a new token";
            self.refuse(Rule::Token, "sas_expiry", what, fix);
        }
    }

    fn at_session(&mut self) {
        let (group, limits) = (self.group, self.limits);
        let most = limits.keep_alive_max_s;
        if group.keep_alive_s > most {
            let what = format!("is {} s; {most} s are accepted", group.keep_alive_s);
            let fix = format!("write {most}s or less");
            match limits.rules.contains(&Rule::KeepAlive) {
                true => self.refuse(Rule::KeepAlive, "keep_alive", what, fix),
                false => self.warn("keep_alive", what, "it becomes that"),
            }
        }
        let kept_s = group.session_expiry.as_secs();
        if let Some(most) = limits.session_max_s
            && !group.clean
            && group.protocol >= Version::V5
            && kept_s > most
        {
            let what = format!("is {kept_s} s, and sessions are kept for {most} s");
            self.refuse(
                Rule::Session,
                "session_expiry",
                what,
                format!("write {most}s or less"),
            );
        }
        if group.qos == QoS::ExactlyOnce {
            let what = "is 2, and the service has 0 and 1".to_owned();
            self.refuse(Rule::Qos, "qos", what, "write qos = 1");
        }
    }

    fn at_publishing(&mut self) {
        let (group, limits) = (self.group, self.limits);
        let Some(publish) = &group.publish else {
            return;
        };
        let size = u64::from(group.payload.max());
        if size > limits.payload_max {
            let most = limits.payload_max;
            let what = format!("has up to {size} bytes; {most} are accepted");
            self.refuse(
                Rule::Payload,
                "payload",
                what,
                format!("write {most} or less"),
            );
        }
        let ids = self.examples(&group.client_id, 0);
        let last = publish.message_count().saturating_sub(1);
        let topics = [0, last].map(|message| self.examples(publish, message));
        let topics = topics.iter().flat_map(|topics| topics.iter().zip(&ids));
        let wrong = topics
            .into_iter()
            .find_map(|(topic, id)| self.wrong_topic(topic, id));
        if let Some((what, fix)) = wrong {
            self.refuse(Rule::Topic, "publish", what, fix);
        }
        if let Some(most) = limits.retained_max
            && group.retain
            && size > most
        {
            let what = format!("is set, with payloads of {size} bytes; {most} are retained");
            self.refuse(
                Rule::Retain,
                "retain",
                what,
                format!("write payload = {most} or less"),
            );
        }
        if group.retain && self.service == Service::AzureIotHub {
            let what = "is set, and a hub retains nothing".to_owned();
            self.warn("retain", what, "leave it out");
        }
        if let Some(most) = limits.inflight_max
            && group.qos > QoS::AtMostOnce
            && group.inflight_max > most
        {
            let what = format!("is {}; {most} may be without PUBACK", group.inflight_max);
            self.refuse(
                Rule::Inflight,
                "inflight_max",
                what,
                format!("write {most} or less"),
            );
        }
    }

    /// What is wrong with a topic, and what to do about it.
    fn wrong_topic(&self, topic: &str, id: &str) -> Option<(String, String)> {
        let limits = self.limits;
        if topic.len() > limits.topic_size_max {
            let (size, most) = (topic.len(), limits.topic_size_max);
            let what = format!("becomes `{topic}`, of {size} bytes; {most} are accepted");
            return Some((what, "write a shorter topic".to_owned()));
        }
        if let Some((what, fix)) = self.too_deep(topic) {
            return Some((what, fix));
        }
        let own = format!("devices/{id}/messages/events/");
        if self.service == Service::AzureIotHub && !topic.starts_with(&own) {
            let what = format!("becomes `{topic}`, and a device publishes on {own} only");
            let device = self.group.client_id.as_str();
            return Some((what, format!("write devices/{device}/messages/events/")));
        }
        None
    }

    fn too_deep(&self, topic: &str) -> Option<(String, String)> {
        let most = self.limits.slashes_max?;
        let slashes = topic.bytes().filter(|byte| *byte == b'/').count();
        let what = format!("becomes `{topic}`, with {slashes} slashes; {most} are accepted");
        (slashes > most).then(|| (what, "use fewer levels".to_owned()))
    }

    fn at_pace(&mut self) {
        let (group, limits) = (self.group, self.limits);
        if group.publish.is_none() {
            return;
        }
        let Some(rates) = &group.rate else {
            if let Some(most) = limits.rate_max {
                let what = format!("is a closed loop: beyond {most} messages/s it is slowed down");
                self.warn("window", what, "write a `rate` that a connection may have");
            }
            return;
        };
        let peak = peak_of(self.scenario);
        let most_of = (0..sampled(group)).map(|client| rates.of(client, 0));
        let fastest = most_of.fold(0.0, f64::max) * peak;
        if let Some(most) = limits.rate_max
            && fastest > most
        {
            let what = format!("comes to {fastest:.0} messages/s of a client; {most} are accepted");
            self.refuse(
                Rule::Rate,
                "rate",
                what,
                "use more clients with a lower rate each",
            );
        }
        let bytes = fastest * f64::from(group.payload.max());
        if let Some(most) = limits.bandwidth_max
            && bytes > most
        {
            let what = format!("comes to {bytes:.0} bytes/s of a client; {most} are accepted");
            let fix = "use smaller payloads, or more clients with a lower rate each";
            self.refuse(Rule::Bandwidth, "payload", what, fix);
        }
    }

    fn at_subscribing(&mut self) {
        let (group, limits) = (self.group, self.limits);
        if let Some(most) = limits.filters_max
            && group.subscribe.len() > most
        {
            let what = format!(
                "has {} filters; a SUBSCRIBE may have {most}",
                group.subscribe.len()
            );
            self.refuse(
                Rule::Filter,
                "subscribe",
                what,
                "spread them over more clients",
            );
        }
        let ids = self.examples(&group.client_id, 0);
        for pattern in &group.subscribe {
            let filters = self.examples(pattern, 0);
            let wrong = filters
                .iter()
                .zip(&ids)
                .find_map(|(f, id)| self.wrong_filter(f, id));
            if let Some((what, fix)) = wrong {
                return self.refuse(Rule::Filter, "subscribe", what, fix);
            }
        }
    }

    fn wrong_filter(&self, filter: &str, id: &str) -> Option<(String, String)> {
        let shared = filter.starts_with("$share/");
        match self.service {
            Service::AwsIotCore => self.too_deep(filter),
            Service::AzureEventGrid if shared => {
                let what = "is a shared subscription, which the service does not have".to_owned();
                Some((what, "use filters without $share".to_owned()))
            }
            Service::AzureEventGrid => None,
            Service::AzureIotHub => {
                let own = format!("devices/{id}/messages/devicebound/#");
                let is_known = filter == own || HUB_FILTERS.contains(&filter);
                let what = format!("becomes `{filter}`, to which no device may subscribe");
                let fix = format!("write {own}, or {}", HUB_FILTERS.join(", "));
                (!is_known).then_some((what, fix))
            }
        }
    }

    /// What a pattern becomes for the first client of the group, and for the last.
    fn examples(&self, pattern: &Pattern, message: u32) -> Vec<String> {
        let clients = [0, self.group.clients.saturating_sub(1)];
        let fill = |index| {
            let mut text = String::new();
            let filling = Filling {
                run: "0000",
                group: &self.group.name,
                index,
                message,
            };
            pattern.fill(filling, &mut text);
            text
        };
        clients.map(fill).into()
    }
}

/// A client id is that of one connection: a second one ends the first.
fn check_twice(scenario: &Scenario, service: Service, findings: &mut Findings) {
    for (at, group) in scenario.groups.iter().enumerate() {
        let id = group.client_id.as_str();
        let is_same = |other: &&Group| other.client_id.as_str() == id && !id.contains("{group}");
        if let Some(other) = scenario.groups[..at].iter().find(is_same) {
            let limits = service.limits();
            let what = format!(
                "is that of the group {}, and a second connection with the same ends the first \
                 ({}: {})",
                other.name, limits.name, limits.source
            );
            let fix = "give each group names of its own, or make one group of both";
            let problem = group.problem("client_id", Complaint::new(what, fix));
            findings.refused.push((Rule::Twice, problem));
        }
    }
}

/// The largest load there is, as a share of the rates.
pub(super) fn peak_of(scenario: &Scenario) -> f64 {
    match stage::parts(&scenario.stages).as_slice() {
        [] => 1.0,
        parts => parts
            .iter()
            .map(|part| part.from.max(part.to))
            .fold(0.0, f64::max),
    }
}

/// Clients whose rates are looked at: one, if all have the same.
fn sampled(group: &Group) -> u32 {
    match group.rate {
        Some(Rates::Same(_)) | None => 1,
        Some(_) => group.clients,
    }
}

/// What a device may subscribe to besides its messages: twin, its desired properties, methods.
const HUB_FILTERS: [&str; 3] = [
    "$iothub/twin/res/#",
    "$iothub/twin/PATCH/properties/desired/#",
    "$iothub/methods/POST/#",
];
