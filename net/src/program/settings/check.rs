//! What no setting shows alone: settings that contradict each other.

use ringmq::auth::http::HttpUrl;
use ringmq_problem::secret::hide_in_url;
use ringmq_problem::{Place, Problem};

use super::auth::{AccessDefault, AuthSettings};
use super::file::{Configuration, count};
use super::runtime::Cores;
use super::value::Complaint;
use crate::settings;

impl Configuration {
    /// What no value shows alone.
    pub(super) fn check_together(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut complain = |flag: &str, complaint: Complaint| {
            let row = settings::by_flag(flag).expect("a setting of the table");
            let place = self.place(row);
            let subject = match &place {
                Place::CommandLine => format!("--{flag}"),
                Place::Default | Place::File(_) | Place::Line(_) => row.name(),
            };
            problems.push(complaint.at(place, subject));
        };
        let settings = &self.settings;
        if let (Some(shards), Cores::Listed(cores)) = (settings.shards, &settings.cores)
            && shards != cores.len()
        {
            let what = format!(
                "names {}, but `shards` asks for {shards}",
                count(cores.len(), "core")
            );
            complain(
                "cores",
                Complaint::new(what, "name one core per shard, or leave out `shards`"),
            );
        }
        if let (None, Cores::Listed(cores)) = (settings.shards, &settings.cores)
            && cores.len() > SHARDS_MAX
        {
            let what = format!(
                "names {}, but shards end at {SHARDS_MAX}",
                count(cores.len(), "core")
            );
            complain(
                "cores",
                Complaint::new(what, format!("name at most {SHARDS_MAX}")),
            );
        }
        let limits = &settings.limits;
        if limits.connect_size_max > limits.packet_size_max {
            let shown = |flag: &str| {
                let row = settings::by_flag(flag).expect("a setting of the table");
                row.show(&(row.get)(settings))
            };
            let what = format!(
                "is {}, which is more than packet_size_max, {}",
                shown("connect-size-max"),
                shown("packet-size-max")
            );
            let fix = "lower connect_size_max or raise packet_size_max";
            complain("connect-size-max", Complaint::new(what, fix));
        }
        if let Some(complaint) = settings.admin.check() {
            complain("admin", complaint);
        }
        let auth = &settings.auth;
        if let Some((flag, complaint)) = check_users(auth) {
            complain(flag, complaint);
        }
        for (flag, url) in auth.hooks.urls() {
            if let (false, Err(what)) = (url.is_empty(), HttpUrl::parse(url)) {
                let what = format!("is `{}`, which {what}", hide_in_url(url));
                let fix = "write http://HOST:PORT/PATH or https://HOST/PATH; secrets belong in \
                           hook headers";
                complain(flag, Complaint::new(what, fix));
            }
        }
        problems.extend(self.check_listeners());
        problems
    }

    fn check_listeners(&self) -> Vec<Problem> {
        let own = self.place(settings::by_flag("listen").expect("a setting of the table"));
        let complaints = super::listeners::check(&self.settings, &self.tables, &own);
        let problem = |(place, complaint): (Place, Complaint)| {
            let subject = match &place {
                Place::CommandLine => "--listen",
                Place::Default | Place::File(_) => "network.listen",
                Place::Line(_) if place == own => "network.listen",
                Place::Line(_) => "listener.listen",
            };
            complaint.at(place, subject)
        };
        complaints.into_iter().map(problem).collect()
    }
}

/// Users without any rule that allows something. Tokens and hooks may supply rules.
fn check_users(auth: &AuthSettings) -> Option<(&'static str, Complaint)> {
    let has_rules = auth.has_rules() || auth.jwt.is_on();
    if !auth.has_users() || has_rules || auth.default != AccessDefault::Auto {
        return None;
    }
    let flag = if auth.password_files.is_empty() {
        "scram-file"
    } else {
        "password-file"
    };
    let what = "admits users, but there are no rules: they could do nothing";
    Some((flag, Complaint::new(what, NAME_RULES)))
}

/// The fix if clients authenticate, and there are no rules.
pub(super) const NAME_RULES: &str = "name rules: --acl-file FILE or --rules-file FILE, or acl_file \
                                     or rules_file under [auth]; or let them do everything: \
                                     --access-default allow, or default = \"allow\" under [auth]";

const SHARDS_MAX: usize = ringmq_core::ids::ShardId::COUNT_MAX;
