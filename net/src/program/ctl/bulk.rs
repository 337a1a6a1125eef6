//! The verbs that deal with many clients or messages at once: they ask first, or want `--yes`.

use std::io::{self, Write as _};
use std::net::IpAddr;

use clap::Subcommand;
use serde_json::{Value, json};

use super::objects::{Console, confirm};
use super::show::{count, missing};
use super::{EXIT_WRONG_USE, Failure, encode, tell};

/// Whom to disconnect.
#[derive(Debug, clap::Args)]
pub(super) struct Disconnect {
    /// Its identifier
    client: Option<String>,
    #[command(flatten)]
    which: Which,
    /// Do not publish wills
    #[arg(long)]
    without_will: bool,
    #[command(flatten)]
    pace: Pace,
    /// Do not ask, if there are several
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Sessions {
    /// End sessions, with their subscriptions and what waits; connections end too
    Delete {
        /// Client identifiers
        clients: Vec<String>,
        #[command(flatten)]
        which: Which,
        /// Only sessions whose clients are not connected
        #[arg(long)]
        away: bool,
        #[command(flatten)]
        pace: Pace,
        /// Do not ask, if there are several
        #[arg(long)]
        yes: bool,
    },
}

/// Which clients.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Clients whose identifier begins so
    #[arg(long)]
    prefix: Option<String>,
    /// Clients of this user
    #[arg(long)]
    user: Option<String>,
    /// Clients that are connected from this address
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Clients with at least so many queued messages
    #[arg(long, value_name = "N")]
    queued_min: Option<usize>,
    /// All clients
    #[arg(long)]
    all: bool,
}

/// How fast, if at all.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Pace {
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// So many a second at most
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<u32>,
}

impl Which {
    /// It names somebody.
    fn is_given(&self) -> bool {
        let Which {
            prefix,
            user,
            address,
            queued_min,
            all,
        } = self;
        *all || prefix.is_some() || user.is_some() || address.is_some() || queued_min.is_some()
    }

    fn order(&self) -> Value {
        let mut order = json!({"all": self.all});
        let given = [
            ("prefix", self.prefix.as_deref().map(Value::from)),
            ("user", self.user.as_deref().map(Value::from)),
            ("address", self.address.map(|ip| ip.to_string().into())),
            ("queued_min", self.queued_min.map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                order[name] = value;
            }
        }
        order
    }
}

/// A verb of the control plane that deals with many.
pub(super) struct Many {
    path: &'static str,
    /// To do it, and what has been done.
    verb: &'static str,
    done: &'static str,
    would: &'static str,
}

/// Retained messages.
pub(super) const RETAINED: Many = Many {
    path: "/api/v1/retained/delete",
    verb: "delete",
    done: "deleted",
    would: "would_delete",
};
const SESSIONS: Many = Many {
    path: "/api/v1/sessions/delete",
    verb: "end",
    done: "deleted",
    would: "would_delete",
};
const CONNECTIONS: Many = Many {
    path: "/api/v1/clients/disconnect",
    verb: "disconnect",
    done: "disconnected",
    would: "would_disconnect",
};

impl Console<'_> {
    /// `clients disconnect`.
    pub(super) fn disconnect(&mut self, args: &Disconnect) -> Result<(), Failure> {
        let Disconnect {
            client,
            which,
            without_will,
            pace,
            yes,
        } = args;
        match (client, which.is_given()) {
            (Some(client), false) if client.len() > URL_SIZE_MAX => {
                let order = json!({"client": client, "will": !without_will});
                self.sweep(&CONNECTIONS, order, "clients", (*pace, true))
            }
            (Some(client), false) => {
                let path = format!("/api/v1/clients/{}/disconnect", encode(client));
                let order = json!({"will": !without_will});
                let answer = self.server.change("POST", &path, &order)?;
                let shown = format!("disconnected {}\n", tell::plain(client));
                self.say(&answer, |_| shown.clone())
            }
            (None, true) => {
                let mut order = which.order();
                order["will"] = (!without_will).into();
                self.sweep(&CONNECTIONS, order, "clients", (*pace, *yes))
            }
            (Some(_), true) | (None, false) => Err(neither("clients disconnect")),
        }
    }

    /// `sessions`.
    pub(super) fn sessions(&mut self, verb: &Sessions) -> Result<(), Failure> {
        let Sessions::Delete {
            clients,
            which,
            away,
            pace,
            yes,
        } = verb;
        let is_given = which.is_given() || *away;
        match (clients.is_empty(), is_given) {
            (true, true) => {
                let mut order = which.order();
                if *away {
                    order["connected"] = false.into();
                }
                return self.sweep(&SESSIONS, order, "sessions", (*pace, *yes));
            }
            (false, false) => {}
            (true, false) | (false, true) => return Err(neither("sessions delete")),
        }
        if clients.len() > 1 && !yes {
            confirm(&format!("end {} sessions", clients.len()))?;
        }
        for client in clients {
            if client.len() > URL_SIZE_MAX {
                let order = json!({"client": client});
                self.sweep(&SESSIONS, order, "sessions", (*pace, true))?;
                continue;
            }
            let path = format!("/api/v1/sessions/{}", encode(client));
            let answer = self.server.change("DELETE", &path, &json!({}))?;
            let shown = format!("ended the session of {}\n", tell::plain(client));
            self.say(&answer, |_| shown.clone())?;
        }
        Ok(())
    }

    /// Deals with many, if whoever sits there agrees to the number.
    pub(super) fn sweep(
        &mut self,
        many: &Many,
        mut order: Value,
        what: &str,
        (pace, yes): (Pace, bool),
    ) -> Result<(), Failure> {
        if pace.dry_run || !yes {
            order["dry_run"] = true.into();
            let found = self.sweep_once(many, &order)?;
            if pace.dry_run {
                let verb = many.done;
                return self.say(&found, |answer| {
                    let number = count(&answer[many.would]);
                    format!("{number} {what} would be {verb}\n{}", missing(answer))
                });
            }
            let number = count(&found[many.would]);
            confirm(&format!("{} {number} {what}", many.verb))?;
        }
        order["dry_run"] = false.into();
        order["rate"] = pace.rate.into();
        let done = self.sweep_once(many, &order)?;
        self.say(&done, |answer| {
            let number = count(&answer[many.done]);
            format!("{number} {what} {}\n{}", many.done, missing(answer))
        })
    }

    /// Gives the last line of the answer. Others go to stderr, as they come.
    fn sweep_once(&mut self, many: &Many, order: &Value) -> Result<Value, Failure> {
        let answer = self.server.ask("POST", many.path, Some(order), "")?;
        let so_far = format!("{}_so_far", many.done);
        let mut last = Value::Null;
        answer.lines(|line| {
            last = serde_json::from_str(line).map_err(io::Error::from)?;
            if let Some(count) = last[&so_far].as_u64() {
                writeln!(io::stderr(), "{count} {} so far", many.done)?;
            }
            Ok(())
        })?;
        match last.get("missing_shards") {
            Some(_) => Ok(last),
            None => Err(Failure::new("the answer broke off", "try again")),
        }
    }
}

fn rate(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) => {
            Err("nothing would ever be done; leave --rate out for as fast as it goes".to_owned())
        }
        Ok(rate) => Ok(rate),
        Err(_) => Err("it is a number from 1".to_owned()),
    }
}

/// Bytes of an identifier that fit a URL, however they are written.
const URL_SIZE_MAX: usize = 20_000;

fn neither(verb: &str) -> Failure {
    Failure {
        code: EXIT_WRONG_USE,
        ..Failure::new(
            format!("{verb} needs either clients by name, or what they have in common"),
            "name some, or use --prefix, --user, --address, --queued-min or --all",
        )
    }
}
