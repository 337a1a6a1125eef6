//! The verbs about what clients have, lose and would get, about retained messages, and about
//! draining.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Subcommand;
use serde_json::{Value, json};

use super::bulk::{self, Pace};
use super::csv::Csv;
use super::http::Server;
use super::tell;
use super::{EXIT_WRONG_USE, Failure, Form, encode, query};

/// Where answers go, and in which form.
pub(super) struct Console<'a> {
    pub(super) server: &'a Server,
    pub(super) form: Form,
    pub(super) out: &'a mut dyn io::Write,
}

/// Which losses.
#[derive(Debug, clap::Args)]
pub(super) struct Losses {
    /// Only of this client: exact counts, with what to do
    client: Option<String>,
    /// Only on this topic, or on topics that this filter matches
    #[arg(long)]
    topic: Option<String>,
    /// Only for this reason, such as queue_full
    #[arg(long)]
    reason: Option<String>,
    /// Only of the last so long: 90s, 10m, 2h, 1d
    #[arg(long, value_name = "SPAN", value_parser = seconds)]
    since: Option<u64>,
    /// At most so many cases
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// Which message.
#[derive(Debug, clap::Args)]
pub(super) struct Explain {
    /// The topic
    topic: String,
    /// The client that would publish: for No Local and the access rules
    #[arg(long, value_name = "CLIENT")]
    from: Option<String>,
    /// Its QoS: 0, 1 or 2
    #[arg(long, value_name = "N")]
    qos: Option<u8>,
    /// Bytes of its payload
    #[arg(long, value_name = "BYTES")]
    size: Option<u32>,
    /// At most so many subscribers
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Subscriptions {
    /// The subscriptions of a client, or the clients that have a filter
    List {
        /// Its identifier
        #[arg(required_unless_present = "filter", conflicts_with = "filter")]
        client: Option<String>,
        /// A filter, as it was subscribed to
        #[arg(long)]
        filter: Option<String>,
    },
    /// The clients that have a subscription that matches a topic
    Match {
        /// The topic
        topic: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Retained {
    /// A row for each retained message
    List {
        /// Only on topics that this matches
        #[arg(long)]
        filter: Option<String>,
        /// At most so many; without it, all
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Go on where an answer with --limit has ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// One message, with its payload
    Get {
        /// Its topic
        topic: String,
    },
    /// Delete a message, or all on topics that a filter matches
    Delete {
        /// Its topic
        #[arg(required_unless_present = "filter", conflicts_with = "filter")]
        topic: Option<String>,
        /// All on topics that this matches
        #[arg(long)]
        filter: Option<String>,
        #[command(flatten)]
        pace: Pace,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Drain {
    /// Have all clients leave, evenly, those first that have been silent for longest
    Start {
        /// Until no connection is accepted, for load balancers: 10s unless given
        #[arg(long, value_name = "SPAN", value_parser = seconds)]
        wait: Option<u64>,
        /// Over how long clients leave: 60s unless given
        #[arg(long, value_name = "SPAN", value_parser = seconds)]
        over: Option<u64>,
        /// The server that MQTT 5.0 clients are to use
        #[arg(long, value_name = "SERVER")]
        redirect: Option<String>,
        /// Stop the broker when all have left
        #[arg(long)]
        then_stop: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// How far it is
    Status,
    /// Accept clients again
    Cancel,
}

impl Console<'_> {
    /// `losses`.
    pub(super) fn losses(&mut self, args: &Losses) -> Result<(), Failure> {
        let Losses {
            client,
            topic,
            reason,
            since,
            limit,
        } = args;
        let is_narrowed = topic.is_some() || reason.is_some() || since.is_some() || limit.is_some();
        if let (Some(client), false) = (client, is_narrowed) {
            let path = format!("/api/v1/clients/{}/losses", encode(client));
            let answer = self.server.get(&path)?;
            return self.say(&answer, tell::losses_of);
        }
        let path = "/api/v1/losses".to_owned()
            + &query([
                ("client", client.clone()),
                ("topic", topic.clone()),
                ("reason", reason.clone()),
                ("since", since.map(|since| since.to_string())),
                ("limit", limit.map(|limit| limit.to_string())),
            ]);
        let answer = self.server.get(&path)?;
        self.say(&answer, tell::losses)
    }

    /// `explain`.
    pub(super) fn explain(&mut self, args: &Explain) -> Result<(), Failure> {
        let path = "/api/v1/explain".to_owned()
            + &query([
                ("topic", Some(args.topic.clone())),
                ("from", args.from.clone()),
                ("qos", args.qos.map(|qos| qos.to_string())),
                ("size", args.size.map(|size| size.to_string())),
                ("limit", args.limit.map(|limit| limit.to_string())),
            ]);
        let answer = self.server.get(&path)?;
        self.say(&answer, tell::explain)
    }

    /// `clients queue`.
    pub(super) fn queue(&mut self, client: &str) -> Result<(), Failure> {
        let path = format!("/api/v1/clients/{}/queue", encode(client));
        self.pages(&path, "queue", &tell::QUEUE)
    }

    /// `subscriptions`.
    pub(super) fn subscriptions(&mut self, verb: &Subscriptions) -> Result<(), Failure> {
        let parameter = match verb {
            Subscriptions::List {
                client: Some(client),
                ..
            } => {
                let path = format!("/api/v1/clients/{}/subscriptions", encode(client));
                return self.pages(&path, "subscriptions", &tell::SUBSCRIPTIONS);
            }
            Subscriptions::List { filter, .. } => ("filter", filter.clone()),
            Subscriptions::Match { topic } => ("topic", Some(topic.clone())),
        };
        let path = format!("/api/v1/subscriptions{}", query([parameter]));
        self.stream(&path, "subscriptions", &tell::SUBSCRIBERS)
    }

    /// `retained`.
    pub(super) fn retained(&mut self, verb: &Retained) -> Result<(), Failure> {
        match verb {
            Retained::List {
                filter,
                limit,
                cursor,
            } => {
                let parameters = query([
                    ("filter", filter.clone()),
                    ("limit", limit.map(|limit| limit.to_string())),
                    ("cursor", cursor.clone()),
                ]);
                let path = format!("/api/v1/retained{parameters}");
                self.stream(&path, "retained", &tell::RETAINED)
            }
            Retained::Get { topic } => {
                let answer = self
                    .server
                    .get(&format!("/api/v1/retained/{}", encode(topic)))?;
                self.say(&answer, tell::retained)
            }
            Retained::Delete {
                topic: Some(topic), ..
            } => {
                let path = format!("/api/v1/retained/{}", encode(topic));
                let answer = self.server.change("DELETE", &path, &json!({}))?;
                let shown = format!("deleted {}\n", tell::plain(topic));
                self.say(&answer, |_| shown.clone())
            }
            Retained::Delete {
                filter, pace, yes, ..
            } => {
                let filter = filter.as_deref().expect("clap wants a topic or a filter");
                let order = json!({"filter": filter});
                let what = format!("retained messages that match {}", tell::plain(filter));
                self.sweep(&bulk::RETAINED, order, &what, (*pace, *yes))
            }
        }
    }

    /// `drain`.
    pub(super) fn drain(&mut self, verb: &Drain) -> Result<(), Failure> {
        const PATH: &str = "/api/v1/drain";
        let answer = match verb {
            Drain::Start {
                wait,
                over,
                redirect,
                then_stop,
                yes,
            } => {
                if !yes {
                    confirm("disconnect all clients of this broker")?;
                }
                let mut order = json!({"then_stop": then_stop});
                let given = [
                    ("wait", wait.map(Value::from)),
                    ("over", over.map(Value::from)),
                    ("redirect", redirect.as_deref().map(Value::from)),
                ];
                for (name, value) in given {
                    if let Some(value) = value {
                        order[name] = value;
                    }
                }
                self.server.change("POST", PATH, &order)?
            }
            Drain::Status => self.server.get(PATH)?,
            Drain::Cancel => self.server.change("DELETE", PATH, &json!({}))?,
        };
        self.say(&answer, tell::drain)
    }

    /// Rows as they come.
    fn stream(
        &mut self,
        path: &str,
        name: &str,
        columns: &'static tell::Columns,
    ) -> Result<(), Failure> {
        let answer = self.server.ask("GET", path, None, "application/x-ndjson")?;
        let mut table = tell::Table::of(columns);
        let mut csv = Csv::of(name);
        answer.lines(|line| {
            if self.form == Form::Json {
                return Ok(writeln!(self.out, "{line}")?);
            }
            let row: Value = serde_json::from_str(line).map_err(io::Error::from)?;
            let text = match self.form {
                Form::Csv => csv.next(&row),
                Form::Table | Form::Json => table.next(&row),
            };
            Ok(self.out.write_all(text.as_bytes())?)
        })
    }

    /// All pages of a list about one client, row by row.
    fn pages(
        &mut self,
        path: &str,
        name: &str,
        columns: &'static tell::Columns,
    ) -> Result<(), Failure> {
        let mut table = tell::Table::of(columns);
        let mut csv = Csv::of_client(name);
        let mut cursor = None;
        loop {
            let page = query([("limit", Some("1000".to_owned())), ("cursor", cursor)]);
            let answer = self.server.get(&format!("{path}{page}"))?;
            for row in answer[name].as_array().into_iter().flatten() {
                match self.form {
                    Form::Json => writeln!(self.out, "{row}")?,
                    Form::Csv => self.out.write_all(csv.next(row).as_bytes())?,
                    Form::Table => self.out.write_all(table.next(row).as_bytes())?,
                }
            }
            cursor = answer["cursor"].as_u64().map(|cursor| cursor.to_string());
            if cursor.is_none() {
                let end = match self.form {
                    Form::Json => String::new(),
                    Form::Csv => csv.end(),
                    Form::Table => table.end(&answer),
                };
                return Ok(self.out.write_all(end.as_bytes())?);
            }
        }
    }
}

/// Asks whoever sits there; without anybody, `--yes` is needed.
pub(super) fn confirm(what: &str) -> Result<(), Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure {
            code: EXIT_WRONG_USE,
            ..Failure::new(format!("this would {what}"), "say so: --yes")
        });
    }
    write!(io::stderr(), "{what}? [y/N] ")?;
    let mut answer = String::new();
    stdin.read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::new("nothing was done", "answer y to go on")),
    }
}

/// `90`, `90s`, `10m`, `2h` or `1d`, in seconds.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        Some((at, 'd')) => (&text[..at], 86_400),
        Some(_) | None => (text, 1),
    };
    let number: Option<u64> = digits.parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(unit));
    seconds.ok_or_else(|| "write a span such as 90s, 10m, 2h or 1d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("10m", Some(600)),
            ("2h", Some(7200)),
            ("1d", Some(86_400)),
            ("", None),
            ("m", None),
            ("-1s", None),
            ("1w", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(seconds(text).ok(), expected, "{text}");
        }
    }
}
