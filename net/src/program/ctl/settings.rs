//! The verbs about settings and the log.

use std::path::PathBuf;

use clap::{Subcommand, ValueHint};
use ringmq_problem::file::read_text;
use serde_json::{Value, json};

use super::objects::{Console, seconds};
use super::show::{pairs, span, text};
use super::tell::plain;
use super::{EXIT_WRONG_USE, Failure};

#[derive(Debug, Subcommand)]
pub(super) enum Config {
    /// Settings that differ from their defaults
    Show {
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// What a reload with a configuration file would do to this broker
    Check {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum Log {
    /// The filter of the log
    Show,
    /// Put another filter in force, until the next reload
    Set {
        /// Such as debug, or info,ringmq::clients=debug
        filter: String,
        /// For so long; then that of the settings comes back
        #[arg(long = "for", value_name = "SPAN", value_parser = seconds)]
        span: Option<u64>,
    },
}

impl Console<'_> {
    /// `config`.
    pub(super) fn config(&mut self, verb: &Config) -> Result<(), Failure> {
        match verb {
            Config::Show { all } => {
                let answer = self.server.get("/api/v1/config")?;
                self.say(&answer, |answer| settings(answer, *all))
            }
            Config::Check { file } => {
                let toml = read_text(file, CONFIG_FILE_SIZE).map_err(|fault| Failure {
                    code: EXIT_WRONG_USE,
                    ..Failure::new(
                        format!("{} {fault}", file.display()),
                        "name a configuration file",
                    )
                })?;
                let name = file.display().to_string();
                let order = json!({"toml": toml, "name": name});
                let answer = self.server.change("POST", "/api/v1/config/check", &order)?;
                self.say(&answer, checked)?;
                match answer["valid"] == true {
                    true => Ok(()),
                    false => {
                        let what = format!("{} cannot be used", plain(&name));
                        let fix = "mend what is named above, and check again";
                        Err(Failure::new(what, fix))
                    }
                }
            }
        }
    }

    /// `reload`.
    pub(super) fn reload(&mut self) -> Result<(), Failure> {
        let answer = self.server.change("POST", "/api/v1/reload", &json!({}))?;
        self.say(&answer, reloaded)
    }

    /// `log`.
    pub(super) fn log(&mut self, verb: &Log) -> Result<(), Failure> {
        const PATH: &str = "/api/v1/log";
        let answer = match verb {
            Log::Show => self.server.get(PATH)?,
            Log::Set { filter, span } => {
                let mut order = json!({"filter": filter});
                if let Some(span) = span {
                    order["for"] = (*span).into();
                }
                self.server.change("PUT", PATH, &order)?
            }
        };
        self.say(&answer, log)
    }
}

fn settings(answer: &Value, all: bool) -> String {
    let rows = answer["settings"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| all || row["value"] != row["default"]);
    let rows = rows.map(|row| {
        let name = format!("{}.{}", text(&row["section"]), text(&row["key"]));
        (name, text(&row["value"]))
    });
    let rows: Vec<(String, String)> = rows.collect();
    match rows.is_empty() {
        true => "every setting has its default\n".to_owned(),
        false => {
            let rows = rows.iter().map(|(name, value)| (&**name, value.clone()));
            pairs(&rows.collect::<Vec<_>>())
        }
    }
}

fn checked(answer: &Value) -> String {
    let mut shown = String::new();
    for problem in answer["problems"].as_array().into_iter().flatten() {
        let (what, fix) = (text(&problem["what"]), text(&problem["fix"]));
        let lines = problem["excerpt"].as_str().unwrap_or_default().lines();
        let excerpt: String = lines.map(|line| plain(line) + "\n").collect();
        shown += &format!("{what}\n{excerpt}  fix: {fix}\n");
    }
    match answer["valid"] == true {
        true => shown + &changes(answer, "takes effect with a reload"),
        false => shown,
    }
}

fn reloaded(answer: &Value) -> String {
    format!("reloaded\n{}", changes(answer, "has taken effect"))
}

/// A line for each setting that is another one.
fn changes(answer: &Value, verb: &str) -> String {
    let list = |key: &str, what: &str| {
        let names = answer[key].as_array().into_iter().flatten();
        let lines = names.map(|name| format!("{} {what}\n", text(name)));
        lines.collect::<String>()
    };
    let warnings = answer["warnings"].as_array().into_iter().flatten();
    let warnings = warnings.map(|warning| format!("warning: {}\n", text(warning)));
    let shown = list("changes", verb) + &list("needs_restart", "needs a restart");
    let shown = match shown.is_empty() {
        true => "no setting is another one\n".to_owned(),
        false => shown,
    };
    shown + &warnings.collect::<String>()
}

fn log(answer: &Value) -> String {
    let filter = text(&answer["filter"]);
    match (&answer["for_s"], answer["filter"] == answer["configured"]) {
        (_, true) => format!("{filter}\n"),
        (Value::Null, false) => {
            let configured = text(&answer["configured"]);
            format!("{filter}, until the next reload; the settings say {configured}\n")
        }
        (left, false) => {
            let (left, configured) = (span(left), text(&answer["configured"]));
            format!("{filter}, for {left}; then {configured}\n")
        }
    }
}

/// As much as the control plane takes.
const CONFIG_FILE_SIZE: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reload_does_is_said_by_setting() {
        let answer = json!({
            "valid": true, "problems": [], "changes": ["log.filter"],
            "needs_restart": ["network.listen"], "warnings": ["a certificate ends soon"],
        });
        let expected = "log.filter takes effect with a reload\nnetwork.listen needs a restart\n\
                        warning: a certificate ends soon\n";
        assert_eq!(checked(&answer), expected);
        let wrong = json!({"valid": false, "problems": [{"what": "line 3: x", "fix": "y"}]});
        assert_eq!(checked(&wrong), "line 3: x\n  fix: y\n");
        let wrong = json!({"valid": false, "problems": [{
            "what": "f:3:1: x", "excerpt": "  3 | a = 1\n    | ^", "fix": "y",
        }]});
        assert_eq!(
            checked(&wrong),
            "f:3:1: x\n  3 | a = 1\n    | ^\n  fix: y\n"
        );
        assert_eq!(
            reloaded(&json!({})),
            "reloaded\nno setting is another one\n"
        );
    }

    #[test]
    fn a_filter_for_a_while_says_what_comes_then() {
        for (answer, expected) in [
            (
                json!({"filter": "info", "configured": "info", "for_s": null}),
                "info\n",
            ),
            (
                json!({"filter": "debug", "configured": "info", "for_s": 600}),
                "debug, for 10 m 0 s; then info\n",
            ),
            (
                json!({"filter": "debug", "configured": "info", "for_s": null}),
                "debug, until the next reload; the settings say info\n",
            ),
        ] {
            assert_eq!(log(&answer), expected);
        }
    }
}
