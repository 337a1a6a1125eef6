//! `ringmq ctl`: asks a running broker, and tells it what to do, through its control plane.
//!
//! Exit codes: 0 done, 1 refused or not reachable, 2 wrong use, 4 not found.
//!
//! Not here: the connection (`http`), most verbs (`objects`, `traffic`, `trace`, `top`), what is shown (`show`, `tell`).

mod bulk;
mod csv;
mod http;
mod objects;
mod settings;
mod show;
mod tell;
mod top;
mod trace;
mod traffic;

use std::io::{self, IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum, ValueHint};
use ringmq::admin::{Role, line_of, to_hex};
use rustix::rand::{GetRandomFlags, getrandom};
use serde_json::Value;

use crate::complain;
use bulk::{Disconnect, Sessions};
use http::Server;
use objects::{Console, Drain, Explain, Losses, Retained, Subscriptions};
use settings::{Config, Log};
use top::Top;
use trace::{Trace, Traces, Whereabouts};
use traffic::Topics;

/// Show and control a running broker
#[derive(Debug, Parser)]
#[command(name = "ctl", disable_help_subcommand = true, after_help = EXAMPLES)]
pub struct Line {
    /// The control plane: unix:PATH, http://HOST:PORT or https://HOST:PORT. Without it, the socket of the one broker of
    /// this user
    #[arg(long, global = true, value_name = "ADDRESS")]
    to: Option<String>,
    /// File with a token, for http and https
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token: Option<PathBuf>,
    /// File with the CA that has issued the certificate of the control plane; without it, one that the machine trusts
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Vec<PathBuf>,
    /// How to print
    #[arg(
        long,
        short,
        global = true,
        value_name = "FORM",
        default_value = "table"
    )]
    output: Form,
    #[command(subcommand)]
    verb: Verb,
}

/// How to print an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people
    Table,
    /// As the control plane answers; lists and traces a line for each row
    Json,
    /// For spreadsheets
    Csv,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The broker at a glance
    Status,
    /// Whether it serves clients: exits with 0 or 1
    Ready,
    /// A row for each shard
    Shards {
        /// Again each second
        #[arg(long)]
        watch: bool,
    },
    /// Shards and clients, live, in the terminal
    Top(Top),
    /// Turns of shards that took too long, and why
    Stalls,
    /// Clients and their sessions
    #[command(subcommand)]
    Clients(Clients),
    /// Topics on which clients publish
    #[command(subcommand)]
    Topics(Topics),
    /// Show everything about a client, a topic or an address, as it happens
    Trace(Trace),
    /// Traces that go on
    #[command(subcommand)]
    Traces(Traces),
    /// Messages that were lost: the last cases, or everything about one client
    #[command(alias = "why-dropped")]
    Losses(Losses),
    /// Who would get a message on a topic, and who would not, and why
    Explain(Explain),
    /// Who is subscribed to what
    #[command(subcommand)]
    Subscriptions(Subscriptions),
    /// Retained messages
    #[command(subcommand)]
    Retained(Retained),
    /// Sessions
    #[command(subcommand)]
    Sessions(Sessions),
    /// Settings, and what a file would change
    #[command(subcommand)]
    Config(Config),
    /// Read the settings and their files again, as SIGHUP does
    Reload,
    /// What is logged
    #[command(subcommand)]
    Log(Log),
    /// Have all clients leave, before the broker is stopped
    #[command(subcommand)]
    Drain(Drain),
    /// Make a token: prints it to stderr, and the line for the token file to stdout
    Token {
        /// Whose it is, for the log
        name: String,
        /// metrics, viewer or operator
        role: String,
    },
}

#[derive(Debug, Subcommand)]
enum Clients {
    /// A row for each session
    List {
        /// Only clients that are connected
        #[arg(long, conflicts_with = "away")]
        connected: bool,
        /// Only clients that are not connected
        #[arg(long)]
        away: bool,
        /// Only clients whose identifier begins so
        #[arg(long)]
        prefix: Option<String>,
        /// Only clients of this user
        #[arg(long)]
        user: Option<String>,
        /// Only clients that are connected from this address
        #[arg(long, value_name = "IP")]
        address: Option<IpAddr>,
        /// Only clients with at least so many queued messages
        #[arg(long, value_name = "N")]
        queued_min: Option<usize>,
        /// Those with the most of something
        #[arg(long, value_name = "BY", conflicts_with = "cursor")]
        sort: Option<ClientsBy>,
        /// At most so many; without it, all (sorted: 20)
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Go on where an answer with --limit has ended
        #[arg(long)]
        cursor: Option<String>,
    },
    /// Those with the most of something
    Top {
        /// Of what
        #[arg(long, value_name = "BY", default_value = "queued")]
        by: ClientsBy,
        /// At most so many: 20 unless given
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Everything about one client
    Show {
        /// Its identifier
        client: String,
    },
    /// What waits for one: topics and sizes
    Queue {
        /// Its identifier
        client: String,
    },
    /// Disconnect a client, or many; sessions stay, if they outlive their connections
    Disconnect(Disconnect),
}

/// By what clients are ordered, those with the most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ClientsBy {
    /// Messages in the queue
    Queued,
    /// Bytes that have not left
    Unsent,
    /// Messages from the client, on this connection
    In,
    /// Messages to it, on this connection
    Out,
    /// Messages for it that were lost, on this connection; `losses` has those before
    Dropped,
    /// Bytes both ways, on this connection
    Bytes,
    /// Subscriptions
    Subscriptions,
}

impl ClientsBy {
    /// As the control plane calls it.
    fn name(self) -> &'static str {
        match self {
            ClientsBy::Queued => "queued",
            ClientsBy::Unsent => "unsent",
            ClientsBy::In => "in",
            ClientsBy::Out => "out",
            ClientsBy::Dropped => "dropped",
            ClientsBy::Bytes => "bytes",
            ClientsBy::Subscriptions => "subscriptions",
        }
    }
}

/// Carries out what stands behind `ringmq ctl`.
pub fn run(line: &Line) -> ExitCode {
    match carry_out(line) {
        Ok(()) => ExitCode::SUCCESS,
        // Its reader has seen enough.
        Err(failure) if failure.is_unread => ExitCode::SUCCESS,
        Err(failure) => {
            complain(&failure.what);
            ExitCode::from(failure.code)
        }
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
struct Failure {
    code: u8,
    /// What is wrong, and the fix.
    what: String,
    /// Nobody reads the output any more.
    is_unread: bool,
}

impl Failure {
    fn new(what: impl ToString, fix: &str) -> Failure {
        Failure {
            code: EXIT_FAILED,
            what: format!("{}\n  fix: {fix}", what.to_string()),
            is_unread: false,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure {
            code: EXIT_FAILED,
            what: error.to_string(),
            is_unread: error.kind() == io::ErrorKind::BrokenPipe,
        }
    }
}

fn carry_out(line: &Line) -> Result<(), Failure> {
    if let Verb::Token { name, role } = &line.verb {
        return make_token(name, role);
    }
    let place = Whereabouts {
        to: line.to.clone(),
        token: line.token.clone(),
        ca: line.ca.clone(),
    };
    if let Verb::Top(args) = &line.verb {
        return top::run(args, line.output, place);
    }
    let server = Server::find(&place)?;
    let server = match line.verb {
        Verb::Ready => server.impatient(),
        _ => server,
    };
    let mut out = io::stdout().lock();
    let mut console = Console {
        server: &server,
        form: line.output,
        out: &mut out,
    };
    match &line.verb {
        Verb::Status => console.get("/api/v1/broker", show::status),
        Verb::Ready => console.ready(),
        Verb::Shards { watch } => console.shards(*watch),
        Verb::Top(_) => unreachable!("it has a connection of its own"),
        Verb::Stalls => console.get("/api/v1/stalls", show::stalls),
        Verb::Clients(verb) => console.clients(verb),
        Verb::Topics(verb) => console.topics(verb),
        Verb::Trace(args) => console.trace(args, place),
        Verb::Traces(verb) => console.traces(verb),
        Verb::Losses(args) => console.losses(args),
        Verb::Explain(args) => console.explain(args),
        Verb::Subscriptions(verb) => console.subscriptions(verb),
        Verb::Retained(verb) => console.retained(verb),
        Verb::Sessions(verb) => console.sessions(verb),
        Verb::Config(verb) => console.config(verb),
        Verb::Reload => console.reload(),
        Verb::Log(verb) => console.log(verb),
        Verb::Drain(verb) => console.drain(verb),
        Verb::Token { .. } => unreachable!("it asks no broker"),
    }
}

impl Console<'_> {
    /// Shows what there is at a path.
    fn get(&mut self, path: &str, show: impl Fn(&Value) -> String) -> Result<(), Failure> {
        let answer = self.server.get(path)?;
        self.say(&answer, show)
    }

    fn shards(&mut self, watch: bool) -> Result<(), Failure> {
        loop {
            let answer = self.server.get("/api/v1/shards")?;
            if watch && self.form == Form::Table && io::stdout().is_terminal() {
                self.out.write_all(CLEAR)?;
            }
            self.say(&answer, show::shards)?;
            self.out.flush()?;
            if !watch {
                return Ok(());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let answer = self.server.ask("GET", "/readyz", None, "")?;
        let status = answer.status;
        self.out.write_all(answer.body()?.as_bytes())?;
        match status {
            200 => Ok(()),
            _ => Err(Failure::new(
                "the broker is not ready",
                "`ringmq ctl shards` shows more",
            )),
        }
    }

    fn clients(&mut self, verb: &Clients) -> Result<(), Failure> {
        match verb {
            list @ Clients::List { .. } => self.list_clients(&query_of(list)),
            Clients::Top { by, limit } => self.list_clients(&query([
                ("sort", Some(by.name().to_owned())),
                ("limit", limit.map(|limit| limit.to_string())),
            ])),
            Clients::Show { client } => self.client(client),
            Clients::Queue { client } => self.queue(client),
            Clients::Disconnect(args) => self.disconnect(args),
        }
    }

    fn client(&mut self, client: &str) -> Result<(), Failure> {
        let path = format!("/api/v1/clients/{}", encode(client));
        if path.len() <= PATH_SIZE_MAX {
            return self.get(&path, show::client);
        }
        let order = serde_json::json!({"client": client});
        let answer = self.server.change("POST", "/api/v1/clients/find", &order)?;
        self.say(&answer, show::client)
    }

    fn say(&mut self, answer: &Value, show: impl Fn(&Value) -> String) -> Result<(), Failure> {
        let text = match self.form {
            Form::Table => show(answer),
            Form::Json => format!("{answer:#}\n"),
            Form::Csv => csv::Csv::whole(answer),
        };
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Lines are shown as they come: a table of a million clients is not kept here.
    fn list_clients(&mut self, query: &str) -> Result<(), Failure> {
        let path = format!("/api/v1/clients{query}");
        let answer = self
            .server
            .ask("GET", &path, None, "application/x-ndjson")?;
        let mut rows = show::Rows::default();
        let mut csv = csv::Csv::of("clients");
        answer.lines(|line| {
            if self.form == Form::Json {
                return Ok(writeln!(self.out, "{line}")?);
            }
            let value: Value = serde_json::from_str(line).map_err(|error| {
                let what = format!("the answer is not JSON: {error}");
                Failure::new(what, "use the same version")
            })?;
            let text = match self.form {
                Form::Csv => csv.next(&value),
                Form::Table | Form::Json => rows.next(&value),
            };
            Ok(self.out.write_all(text.as_bytes())?)
        })
    }
}

/// `?connected=true&prefix=...`
fn query_of(list: &Clients) -> String {
    let Clients::List {
        connected,
        away,
        prefix,
        user,
        address,
        queued_min,
        sort,
        limit,
        cursor,
    } = list
    else {
        unreachable!("the caller lists clients");
    };
    let number = |number: &Option<usize>| number.map(|number| number.to_string());
    let parts = [
        (
            "connected",
            (*connected || *away).then(|| connected.to_string()),
        ),
        ("prefix", prefix.clone()),
        ("user", user.clone()),
        ("address", address.map(|address| address.to_string())),
        ("queued_min", number(queued_min)),
        ("sort", sort.map(|by| by.name().to_owned())),
        ("limit", number(limit)),
        ("cursor", cursor.clone()),
    ];
    query(parts)
}

/// `?name=value&...` of what is given.
fn query<const N: usize>(parts: [(&str, Option<String>); N]) -> String {
    let mut query = String::new();
    for (name, value) in parts {
        if let Some(value) = value {
            let sign = if query.is_empty() { '?' } else { '&' };
            query += &format!("{sign}{name}={}", encode(&value));
        }
    }
    query
}

/// Percent-encoded: what is not a letter, a digit or one of `-._~`.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn make_token(name: &str, role: &str) -> Result<(), Failure> {
    if Role::by_name(role).is_none() {
        let fix = "write metrics, viewer or operator";
        return Err(Failure {
            code: EXIT_WRONG_USE,
            ..Failure::new(format!("`{role}` is not a role"), fix)
        });
    }
    if name.is_empty() || name.contains(|c: char| c == ':' || c == '#' || c.is_whitespace()) {
        let fix = "write a name without colons, # and blanks";
        return Err(Failure {
            code: EXIT_WRONG_USE,
            ..Failure::new(format!("`{name}` cannot be a name"), fix)
        });
    }
    let mut secret = [0; 32];
    let filled = getrandom(&mut secret, GetRandomFlags::empty()).map_err(io::Error::from)?;
    assert_eq!(
        filled,
        secret.len(),
        "the kernel gives up to 256 bytes at once"
    );
    let token = to_hex(&secret);
    writeln!(io::stderr(), "{token}")?;
    writeln!(io::stdout(), "{}", line_of(name, role, &token))?;
    Ok(())
}

const EXAMPLES: &str = "\
Examples:
  ringmq ctl status
  ringmq ctl top --by queued
  ringmq ctl clients list --away --queued-min 1000
  ringmq ctl clients top --by dropped
  ringmq ctl topics top --by bytes
  ringmq ctl clients disconnect meter-17
  ringmq ctl clients disconnect --prefix meter- --rate 100
  ringmq ctl losses meter-17
  ringmq ctl trace meter-17 --for 10m
  ringmq ctl trace --topic 'site/4/#' --payload 100
  ringmq ctl explain site/4/power --from meter-17 --qos 1
  ringmq ctl retained delete --filter 'old/#'
  ringmq ctl log set info,ringmq::clients=debug --for 10m
  ringmq ctl drain start --over 5m --then-stop
  ringmq ctl token prometheus metrics >> tokens 2> prometheus.token

Exit codes: 0 done, 1 refused or not reachable, 2 wrong use, 4 not found.";
/// Of a terminal: everything, and the cursor to the top.
const CLEAR: &[u8] = b"\x1b[2J\x1b[H";
/// What a head has room for: 64 KiB, with the headers.
const PATH_SIZE_MAX: usize = 60 * 1024;
const EXIT_FAILED: u8 = 1;
const EXIT_WRONG_USE: u8 = 2;
const EXIT_NOT_FOUND: u8 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_identifiers_are_encoded() {
        for (text, expected) in [
            ("meter-17", "meter-17"),
            ("a/b%2F#?<img>", "a%2Fb%252F%23%3F%3Cimg%3E"),
            ("ä b", "%C3%A4%20b"),
            ("..", ".."),
        ] {
            assert_eq!(encode(text), expected);
        }
    }

    #[test]
    fn filters_go_into_the_query() {
        for (args, expected) in [
            ("clients list", ""),
            ("clients list --connected", "?connected=true"),
            (
                "clients list --away --prefix a&b",
                "?connected=false&prefix=a%26b",
            ),
            ("clients list --limit 5 --cursor 1.7", "?limit=5&cursor=1.7"),
        ] {
            let args = std::iter::once("ctl").chain(args.split(' '));
            let line = Line::try_parse_from(args).unwrap();
            let Verb::Clients(list) = line.verb else {
                panic!("{line:?}")
            };
            assert_eq!(query_of(&list), expected);
        }
    }
}
