//! What the control plane has the program do: reload, look at a configuration, choose what is logged.

use std::sync::Mutex;
use std::sync::mpsc::Sender;

use ringmq::admin::{Decision, Flaw, Steward};
use tokio::sync::oneshot;

use crate::log;
use crate::settings;
use crate::start::Request;

/// Passes on to the thread that has the settings.
#[derive(Debug)]
pub struct Passes(Mutex<Sender<Request>>);

impl Passes {
    /// To whoever receives what is sent here.
    pub fn to(requests: Sender<Request>) -> Passes {
        Passes(Mutex::new(requests))
    }

    fn send(&self, request: Request) {
        let requests = self.0.lock().expect("nobody panics with it");
        // If the other end is gone, the broker ends, and whoever waits hears that.
        let _ = requests.send(request);
    }
}

impl Steward for Passes {
    fn log_filter(&self) -> String {
        log::filter()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), Flaw> {
        let row = settings::by_flag("log").expect("a setting of the table");
        let checked = row.parse(filter);
        checked.map_err(|complaint| Flaw {
            what: format!("the filter {}", complaint.what),
            excerpt: None,
            fix: complaint.fix,
        })?;
        log::set_filter(filter);
        Ok(())
    }

    fn check(&self, toml: String, name: Option<String>) -> Decision {
        let (reply, decision) = oneshot::channel();
        self.send(Request::Check { toml, name, reply });
        decision
    }

    fn reload(&self, why: String) -> Decision {
        let (reply, decision) = oneshot::channel();
        self.send(Request::ReloadFor { why, reply });
        decision
    }
}
