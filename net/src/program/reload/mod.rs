//! Reload: what a running broker can change without a restart, all of it or nothing.
//!
//! On SIGHUP, or when one of the files has changed, everything is read again: the configuration,
//! users, certificates. It takes effect only if there is no problem in any of it; otherwise
//! everything stays as it was, and every problem is logged. Settings that need a restart keep their
//! value and are named; the rest has to fit them (`step.rs`).
//!
//! Files are checked by name once a second. That needs no descriptors, and works for files that are
//! replaced, symbolic links that change, and network file systems. What was read counts only if no file
//! has changed for a second, whether a signal asks for it or a change: half a list of users would end the
//! sessions of the others. Whoever pauses for longer while writing in place cannot be told from one who
//! has finished.

mod step;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use ringmq::admin::{AdminConfig, AdminTls, Changes, Flaw, SettingShown, Tokens};
use ringmq::{Broker, Tallies, Tally, TlsReload};
use ringmq_problem::{Place, Problem, printable};
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use crate::access::advice::{advice, on_one_line};
use crate::access::{self, Loaded, control};
use crate::log;
use crate::settings::admin::AdminSettings;
use crate::settings::cli::CommandLine;
use crate::settings::file::{Configuration, Source};
use crate::settings::{Settings, shown};
use step::Step;

/// Where it is said what a reload does.
pub type Reply = oneshot::Sender<Result<Changes, Vec<Flaw>>>;

/// Somebody who waits for a reload.
#[derive(Debug)]
struct Asked {
    /// For the log.
    why: String,
    since: Instant,
    reply: Reply,
}

/// How to read everything again, and what is in force.
#[derive(Debug)]
pub struct Reload {
    line: CommandLine,
    /// Of everything that is remembered of passwords.
    key: [u8; 32],
    /// In force: the settings of the start, and those that a reload took on since.
    settings: Settings,
    /// The same, for whoever looks at the broker.
    shown: Arc<ArcSwap<Vec<SettingShown>>>,
    watch: Watch,
    /// A signal has asked for what the watch is waiting to do.
    is_asked_for: bool,
    /// Those who have asked for it too, and wait for what comes of it.
    asked: Vec<Asked>,
    tallies: Arc<Tallies>,
    /// Of the control plane.
    tokens: Arc<ArcSwap<Tokens>>,
    /// Likewise; a start decides whether there is any.
    admin_tls: Option<Arc<AdminTls>>,
}

impl Reload {
    /// For a broker that was started with these settings.
    pub fn new(
        line: CommandLine,
        settings: Settings,
        key: [u8; 32],
        tallies: Arc<Tallies>,
        admin: &AdminConfig,
    ) -> Reload {
        let watch = Watch::new(files_of(&line, &settings));
        Reload {
            line,
            key,
            shown: Arc::new(ArcSwap::from_pointee(shown::shown(&settings))),
            settings,
            watch,
            is_asked_for: false,
            asked: Vec::new(),
            tallies,
            tokens: Arc::clone(&admin.tokens),
            admin_tls: admin.tls.clone(),
        }
    }

    /// The settings in force, for people: after a reload, those of then.
    pub fn shown(&self) -> Arc<ArcSwap<Vec<SettingShown>>> {
        Arc::clone(&self.shown)
    }

    /// To be called once in [`LOOK_INTERVAL`]. Whether it has done what somebody had asked for.
    pub fn look(&mut self, broker: &Broker) -> bool {
        let is_at_rest = self.watch.look();
        let first = self.asked.first();
        let has_waited = first.is_some_and(|asked| asked.since.elapsed() >= WAIT_TIME_MAX);
        if !is_at_rest && !has_waited {
            return false;
        }
        let changed = self.watch.take_changed();
        let names = changed.iter().map(|path| path.display().to_string());
        let changed = format!("changed: {}", names.collect::<Vec<_>>().join(" "));
        let is_signalled = std::mem::take(&mut self.is_asked_for);
        let asked = std::mem::take(&mut self.asked);
        let why: &str = match (is_signalled, asked.first()) {
            (true, _) => SIGNAL,
            (false, Some(asked)) => &asked.why,
            (false, None) => &changed,
        };
        let read = self.read();
        // What is wrong has been logged.
        let ended = self.take_on(broker, read, why);
        let is_asked_for = is_signalled || !asked.is_empty();
        for Asked { reply, .. } in asked {
            // Who has asked may have gone.
            let _ = reply.send(ended.clone());
        }
        is_asked_for
    }

    /// Somebody asks for it, and waits for what comes of it. False: somebody may be writing to a
    /// file, so `look` is going to do it: once no file has changed for a second, or a few seconds
    /// later.
    pub fn on_request(&mut self, broker: &Broker, why: String, reply: Reply) -> bool {
        let Some(read) = self.read_at_rest() else {
            self.asked.push(Asked {
                why,
                since: Instant::now(),
                reply,
            });
            return false;
        };
        let _ = reply.send(self.take_on(broker, read, &why));
        true
    }

    /// A signal asks for it. False: `look` is going to do it, as above.
    pub fn on_signal(&mut self, broker: &Broker) -> bool {
        let read = self.read_at_rest();
        self.is_asked_for = read.is_none();
        let Some(read) = read else {
            return false;
        };
        let _ = self.take_on(broker, read, SIGNAL);
        true
    }

    /// Reads everything; `None`: a file was written to a moment ago, and may not be whole.
    fn read_at_rest(&mut self) -> Option<Result<Read, Vec<Flaw>>> {
        let read = self.read();
        let files = match &read {
            Ok(read) => files_of(&self.line, &read.step.settings),
            Err(_) => files_of(&self.line, &self.settings),
        };
        let now = SystemTime::now();
        let Some(path) = files.iter().find(|path| is_fresh(path, now)) else {
            return Some(read);
        };
        let why = "the file was written to a moment ago: the reload waits until no file has \
                   changed for a second";
        info!(file = %path.display(), "{why}");
        self.watch.expect();
        None
    }

    /// What was read takes effect, or what is wrong with it is logged.
    fn take_on(
        &mut self,
        broker: &Broker,
        read: Result<Read, Vec<Flaw>>,
        why: &str,
    ) -> Result<Changes, Vec<Flaw>> {
        match read {
            Ok(read) => Ok(self.publish(broker, read, why)),
            Err(problems) => {
                self.tallies.add(Tally::ReloadsFailed);
                for Flaw { what, fix, .. } in &problems {
                    // One line of the log, whatever is in it.
                    let problem = format!("{what} fix: {fix}");
                    error!("reload: {}", problem.replace('\n', " "));
                }
                error!(
                    why,
                    problems = problems.len(),
                    "reload failed: everything stays as it was"
                );
                Err(problems)
            }
        }
    }

    /// What a reload would do if this were the file. Messages call it by its own name, if it has one.
    pub fn check(&self, toml: &str, name: Option<&str>) -> Result<Changes, Vec<Flaw>> {
        let place = self.line.file.as_ref();
        // What it names is looked for where a reload would.
        let place = place.map_or(UNNAMED.to_owned(), |path| path.display().to_string());
        self.check_at(toml, &place).map_err(|mut problems| {
            for problem in &mut problems {
                rename(problem, &place, name.unwrap_or(UNNAMED));
            }
            flaws(problems)
        })
    }

    fn check_at(&self, text: &str, name: &str) -> Result<Changes, Vec<Problem>> {
        let next = Configuration::resolve(Some(Source { name, text }), &self.line.given)?;
        let step = Step::new(&self.settings, &next.settings)?;
        access::check(&step.settings)?;
        Ok(changes_of(&step))
    }

    fn read(&self) -> Result<Read, Vec<Flaw>> {
        let next = Configuration::load(&self.line).map_err(flaws)?.settings;
        let step = Step::new(&self.settings, &next).map_err(flaws)?;
        let access = access::load(&step.settings, self.key, &self.tallies).map_err(flaws)?;
        let tokens = control::tokens(&step.settings.admin).map_err(flaws)?;
        let admin_tls = control::tls(&step.settings.admin).map_err(flaws)?;
        let tls = Broker::load_tls(&step.settings.listener_configs()).map_err(in_words)?;
        Ok(Read {
            step,
            access,
            tls,
            tokens,
            admin_tls,
        })
    }

    fn publish(&mut self, broker: &Broker, read: Read, why: &str) -> Changes {
        let Read {
            step,
            access,
            tls,
            tokens,
            admin_tls,
        } = read;
        let Loaded {
            access,
            authenticators,
        } = access;
        // Certificates may take the place of passwords, or the other way round: what is demanded
        // comes before what is demanded no more.
        if step.demands_certificates {
            broker.publish_tls(tls);
            broker.replace_access(access, authenticators);
        } else {
            broker.replace_access(access, authenticators);
            broker.publish_tls(tls);
        }
        self.tokens.store(Arc::new(tokens));
        if let (Some(running), Some(next)) = (&self.admin_tls, admin_tls) {
            running.replace(next);
        }
        // Also if it is the same: another one may have been chosen meanwhile.
        if step.settings.log_filter != log::filter() {
            log::set_filter(&step.settings.log_filter);
        }
        let changes = changes_of(&step);
        for setting in &step.left {
            warn!(
                setting,
                "the setting has changed in the file: it needs a restart"
            );
        }
        let doubts = advice(&step.settings);
        for problem in &doubts {
            warn!("{}", on_one_line(problem));
        }
        self.tallies.set_warnings(doubts.len());
        self.settings = step.settings;
        self.shown.store(Arc::new(shown::shown(&self.settings)));
        self.watch.follow(files_of(&self.line, &self.settings));
        self.tallies.add(Tally::ReloadsDone);
        info!(why, settings = step.taken_on.join(" "), "reloaded");
        changes
    }
}

/// What a reload has read and found good, as a whole.
struct Read {
    step: Step,
    access: Loaded,
    tls: TlsReload,
    tokens: Tokens,
    admin_tls: Option<AdminTls>,
}

fn changes_of(step: &Step) -> Changes {
    let doubts = advice(&step.settings);
    Changes {
        taken_on: step.taken_on.clone(),
        left: step.left.clone(),
        warnings: doubts.iter().map(on_one_line).collect(),
    }
}

fn flaws(problems: Vec<Problem>) -> Vec<Flaw> {
    let flaw = |problem: Problem| Flaw {
        what: format!("{}: {} {}", problem.place, problem.subject, problem.what),
        excerpt: match &problem.place {
            Place::Line(place) => Some(place.excerpt()),
            Place::Default | Place::CommandLine | Place::File(_) => None,
        },
        fix: problem.fix,
    };
    problems.into_iter().map(flaw).collect()
}

/// Calls the file that was sent by its own name. Of others, no line is shown: who may not read them may
/// ask.
fn rename(problem: &mut Problem, name: &str, other: &str) {
    match &mut problem.place {
        Place::Line(place) if place.file == name => place.file = printable(other),
        Place::Line(_) => problem.place = Place::File(problem.place.to_string()),
        Place::File(file) if file == name => *file = printable(other),
        Place::File(_) | Place::Default | Place::CommandLine => {}
    }
}

fn in_words<T: ToString>(problems: Vec<T>) -> Vec<Flaw> {
    let flaw = |problem: T| {
        let text = problem.to_string();
        let (what, fix) = text
            .split_once("fix:")
            .unwrap_or((&text, "see docs/listeners.md"));
        Flaw {
            what: what.trim().to_owned(),
            excerpt: None,
            fix: fix.trim().to_owned(),
        }
    };
    problems.into_iter().map(flaw).collect()
}

/// Everything that a reload reads.
fn files_of(line: &CommandLine, settings: &Settings) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = line.file.iter().cloned().collect();
    files.extend(settings.auth.files().cloned());
    let AdminSettings {
        token_files,
        certificates,
        keys,
        ..
    } = &settings.admin;
    files.extend(
        [token_files, certificates, keys]
            .into_iter()
            .flatten()
            .cloned(),
    );
    for (_, layers) in settings.all_listeners() {
        let tls = &layers.tls;
        let lists = [
            &tls.certificates,
            &tls.keys,
            &tls.client_cas,
            &tls.client_crls,
        ];
        files.extend(lists.into_iter().flatten().cloned());
    }
    files.sort();
    files.dedup();
    files
}

/// Tells when files have changed and are at rest again.
#[derive(Debug)]
struct Watch {
    files: Vec<(PathBuf, Stamp)>,
    /// Something has changed since the last reload.
    is_unsettled: bool,
    /// What.
    changed: Vec<PathBuf>,
}

/// What changes with a file; `None`: it is not there.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

impl Watch {
    fn new(files: Vec<PathBuf>) -> Watch {
        Watch {
            files: stamp_all(files),
            is_unsettled: false,
            changed: Vec::new(),
        }
    }

    /// True once after each change.
    fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, known) in &mut self.files {
            let stamp = stamp(path);
            if *known != stamp {
                changed = true;
                if !self.changed.contains(path) {
                    self.changed.push(path.clone());
                }
            }
            *known = stamp;
        }
        let is_due = self.is_unsettled && !changed;
        self.is_unsettled = changed;
        is_due
    }

    /// Something may be changing: there is something to read once nothing has changed for a while.
    fn expect(&mut self) {
        self.look();
        self.is_unsettled = true;
    }

    /// What has changed since this was last asked.
    fn take_changed(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.changed)
    }

    /// Other files from here on; those that stay keep what is known of them.
    fn follow(&mut self, files: Vec<PathBuf>) {
        let known = std::mem::take(&mut self.files);
        self.files = stamp_all(files);
        for (path, stamp) in &mut self.files {
            if let Some((_, known)) = known.iter().find(|(other, _)| other == path) {
                *stamp = *known;
            }
        }
    }
}

fn stamp_all(files: Vec<PathBuf>) -> Vec<(PathBuf, Stamp)> {
    let stamped = files.into_iter().map(|path| {
        let stamp = stamp(&path);
        (path, stamp)
    });
    stamped.collect()
}

fn stamp(path: &Path) -> Stamp {
    let file = std::fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.size(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ))
}

/// Waits, for some seconds at most, until nothing has been written for a second to the files that the settings name.
pub fn wait_for_rest(line: &CommandLine, settings: &Settings) {
    let files = files_of(line, settings);
    for _ in 0..RESTS_MAX {
        let now = SystemTime::now();
        if !files.iter().any(|path| is_fresh(path, now)) {
            return;
        }
        std::thread::sleep(LOOK_INTERVAL / 10);
    }
}

/// Whether a file was last written to in the second before `now`, or later, by a clock that is not ours.
fn is_fresh(path: &Path, now: SystemTime) -> bool {
    let written = std::fs::metadata(path).and_then(|file| file.modified());
    let is_old = |written| {
        now.duration_since(written)
            .is_ok_and(|age| age >= LOOK_INTERVAL)
    };
    written.is_ok_and(|written| !is_old(written))
}

/// A file that was sent without a name.
const UNNAMED: &str = "the file";
/// Somebody who waits is answered after so long, even if files go on changing.
const WAIT_TIME_MAX: Duration = Duration::from_secs(3);
/// Why there is a reload.
const SIGNAL: &str = "SIGHUP";
/// A start looks at its files so often.
const RESTS_MAX: usize = 30;
/// How often files are looked at.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_not_while_it_goes_on() {
        let folder = std::env::temp_dir().join(format!("ringmq-watch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (one, other) = (folder.join("one"), folder.join("other"));
        std::fs::write(&one, "a").unwrap();
        let mut watch = Watch::new(vec![one.clone(), other.clone()]);
        assert!(!watch.look());
        std::fs::write(&one, "ab").unwrap();
        assert!(!watch.look(), "it may not be all yet");
        std::fs::write(&one, "abc").unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        assert!(watch.take_changed().iter().eq([&one]));
        assert!(!watch.look());
        // Replaced by a file of the same size, as editors do it.
        std::fs::write(&other, "xyz").unwrap();
        std::fs::rename(&other, &one).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        std::fs::remove_file(&one).unwrap();
        assert!(!watch.look());
        assert!(watch.look());
        watch.expect();
        assert!(watch.look(), "nothing has changed since");
        watch.expect();
        std::fs::write(&one, "again").unwrap();
        assert!(!watch.look());
        assert!(watch.look() && !watch.look());
        // A file that is followed from here on has not changed yet.
        let third = folder.join("third");
        std::fs::write(&third, "x").unwrap();
        watch.follow(vec![third]);
        assert!(!watch.look() && !watch.look());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_is_fresh_for_a_second() {
        let path = std::env::temp_dir().join(format!("ringmq-fresh-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let now = SystemTime::now();
        let second = Duration::from_secs(1);
        for (written, expected) in [
            (now, true),
            (now - second / 2, true),
            (now - second, false),
            (now + 1000 * second, true),
        ] {
            file.set_modified(written).unwrap();
            assert_eq!(is_fresh(&path, now), expected, "{written:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!is_fresh(&path, now), "there is nothing to wait for");
    }
}
