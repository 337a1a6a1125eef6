//! The command line of `capture`. Some options are those of `run`, which are understood there.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command as Clap, ValueHint, value_parser};
use ringmq_core::topic::{TopicFilter, TopicLimits};
use ringmq_problem::{Complaint, Problem};

use super::forecast::passed;
use super::given::{admin_of, check_file};
use super::help::with_some;
use super::{Command, at, problem};
use crate::capture::{Assumed, Request, Source};
use crate::scenario::value;

pub(super) fn with_capture(command: Clap) -> Clap {
    let text = |name: &'static str, value: &'static str, about: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_parser(value_parser!(String))
            .allow_hyphen_values(true)
            .help(about)
    };
    let command = command.long_about(
        "Watches a running broker, and writes a scenario that puts the same load on any broker. \
         Topics and identifiers are replaced: the file says nothing about whose they were.",
    );
    let command = with_some(command, &WITH_ADMIN)
        .mut_arg("admin", |arg| {
            arg.help("Control plane of a Ringmq: unix:PATH, http://HOST:PORT or https://HOST:PORT")
        })
        .arg(
            text(
                "subscribe",
                "FILTER",
                "Watch any broker (--target) as a subscriber with this filter, such as `#`. Who \
                 publishes, and who else subscribes, is not seen this way",
            )
            .conflicts_with("admin"),
        )
        .arg(text("for", "TIME", "How long; default 1m"))
        .arg(
            Arg::new("out")
                .short('o')
                .long("out")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .value_hint(ValueHint::FilePath)
                .help("Write the profile to this file [default: profile.toml]"),
        )
        .arg(
            text(
                "assume",
                "NAME=N",
                "With --subscribe: fanout=N (deliveries per message; default: from $SYS) or \
                 publishers=N (default: one for each topic); repeatable",
            )
            .action(ArgAction::Append),
        );
    let command = with_some(command, &PASSED);
    with_some(command, &["quiet"])
        .override_usage(
            "ringload capture --admin URL [OPTION]...\n       ringload capture --subscribe FILTER \
             [OPTION]...",
        )
        .next_line_help(true)
}

pub(super) fn capture(matches: &ArgMatches) -> Result<Command, Vec<Problem>> {
    let one = |problem| vec![problem];
    let out = matches.get_one::<PathBuf>("out").cloned();
    let out = out.unwrap_or_else(|| PathBuf::from("profile.toml"));
    check_file("out", &out).map_err(one)?;
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let span = value::span(text("for").unwrap_or("1m")).map_err(|c| one(at("for", c)))?;
    if span.as_secs() < 1 {
        let complaint = Complaint::new("is too short", "write 1s or more; some minutes are better");
        return Err(one(at("for", complaint)));
    }
    let assumed = assumed(matches.get_many::<String>("assume").unwrap_or_default());
    let assumed = assumed.map_err(one)?;
    let [address, token, ca] = WITH_ADMIN.map(|name| {
        let given = matches.get_one::<OsString>(name);
        given.map(|text| text.to_string_lossy().into_owned())
    });
    let admin = admin_of(address.as_deref(), token.as_deref(), ca.as_deref()).map_err(one)?;
    let source = match (admin, text("subscribe")) {
        (Some(admin), _) => {
            for name in PASSED.into_iter().chain(["assume"]) {
                if matches.contains_id(name) {
                    let complaint =
                        Complaint::new("is for --subscribe, and --admin is given", "leave it out");
                    return Err(one(at(name, complaint)));
                }
            }
            Source::Admin(admin)
        }
        (None, Some(filter)) => subscribe(matches, filter)?,
        (None, None) => {
            let fix = "write --admin URL for a Ringmq, or --subscribe FILTER for any broker";
            return Err(one(problem("capture", "needs a source", fix.to_owned())));
        }
    };
    Ok(Command::Capture(Request {
        source,
        span,
        out,
        assumed,
        is_quiet: matches.get_count("quiet") > 0,
    }))
}

fn subscribe(matches: &ArgMatches, filter: &str) -> Result<Source, Vec<Problem>> {
    if let Err(error) = TopicFilter::parse(filter, &TopicLimits::default()) {
        let what = format!("is `{filter}`, which is not a topic filter: {error}");
        let complaint = Complaint::new(what, "write one such as `#` or `site/+/power`");
        return Err(vec![at("subscribe", complaint)]);
    }
    let group = "name=capture qos=2 protocol=5.0 subscribe=#";
    let arguments = ["run", "--group", group].map(OsString::from);
    let arguments = arguments.into_iter().chain(passed(matches, &PASSED));
    let Command::Run(options) = Command::parse(arguments)? else {
        unreachable!("no option of these makes it another command");
    };
    if options.websocket.is_some() {
        let what = format!("is `{}`, a WebSocket", options.target);
        let complaint = Complaint::new(what, "capture by mqtt://, mqtts:// or unix:");
        return Err(vec![at("target", complaint)]);
    }
    Ok(Source::Subscribe {
        options,
        filter: filter.to_owned(),
    })
}

fn assumed<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Assumed, Problem> {
    let mut assumed = Assumed::default();
    for text in texts {
        let wrong = || {
            let what = format!("is `{text}`, which is nothing to assume");
            at(
                "assume",
                Complaint::new(what, "write fanout=N or publishers=N"),
            )
        };
        let (name, number) = text.split_once('=').ok_or_else(wrong)?;
        match name {
            "fanout" => {
                let number = number.parse::<f64>().ok();
                let number = number.filter(|number| (0.0..=FANOUT_MAX).contains(number));
                assumed.fanout = Some(number.ok_or_else(wrong)?);
            }
            "publishers" => {
                let number = value::count(number, 1, PUBLISHERS_MAX);
                assumed.publishers = Some(number.map_err(|c| at("assume", c))? as u32);
            }
            _ => return Err(wrong()),
        }
    }
    Ok(assumed)
}

const WITH_ADMIN: [&str; 3] = ["admin", "admin-token", "admin-ca"];
/// Where a subscriber connects, and how it gets in.
const PASSED: [&str; 6] = [
    "target",
    "protocol",
    "user",
    "password",
    "password-file",
    "tls",
];
const FANOUT_MAX: f64 = 100_000.0;
const PUBLISHERS_MAX: u64 = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, Vec<Problem>> {
        Command::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn a_capture_has_one_source() {
        let line = "capture --admin unix:/run/x.sock --for 10m -o x.toml -q";
        let Ok(Command::Capture(request)) = parse(line) else {
            panic!("no capture");
        };
        assert!(
            matches!(&request.source, Source::Admin(admin) if admin.shown() == "unix:/run/x.sock")
        );
        assert_eq!((request.span.as_secs(), request.is_quiet), (600, true));
        let line = "capture --subscribe a/# --target mqtts://127.0.0.1 --tls insecure --user me --assume \
                    fanout=2.5 --assume publishers=7";
        let Ok(Command::Capture(request)) = parse(line) else {
            panic!("no capture");
        };
        assert_eq!(
            (request.assumed.fanout, request.assumed.publishers),
            (Some(2.5), Some(7))
        );
        let Source::Subscribe { options, filter } = request.source else {
            panic!("it subscribes");
        };
        let group = &options.scenario.groups[0];
        assert_eq!(
            (&*filter, &*options.host, group.tls),
            ("a/#", "127.0.0.1", true)
        );
        assert!(group.user.is_some() && request.out.as_os_str() == "profile.toml");
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        for (line, expected) in [
            (
                "capture",
                "capture needs a source\n  fix: write --admin URL",
            ),
            ("capture --admin x", "--admin is `x`"),
            (
                "capture --admin unix:/x --assume fanout=2",
                "--assume is for --subscribe",
            ),
            (
                "capture --admin unix:/x --target h",
                "--target is for --subscribe",
            ),
            (
                "capture --subscribe a#",
                "--subscribe is `a#`, which is not a topic filter",
            ),
            ("capture --subscribe # --for 0", "--for is too short"),
            (
                "capture --subscribe # --assume x=1",
                "--assume is `x=1`, which is nothing",
            ),
            (
                "capture --subscribe # --admin-token x",
                "--admin-token is given without --admin",
            ),
            (
                "capture --subscribe # --target ws://127.0.0.1",
                "--target is `ws://127.0.0.1:8083/mqtt`, a WebSocket",
            ),
            ("capture --subscribe # -o /does/not/exist/x", "--out is"),
        ] {
            let problem = parse(line).unwrap_err()[0].to_string();
            assert!(
                problem.starts_with(&format!("command line: {expected}")),
                "{line}\n{problem}"
            );
        }
        let both = parse("capture --subscribe # --admin unix:/x").unwrap_err();
        assert!(both[0].to_string().contains("--admin"), "{}", both[0]);
    }
}
