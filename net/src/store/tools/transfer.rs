//! Export and import: a data directory as lines of JSON, and another one of these.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;

use ringmq_core::home::Home;
use ringmq_core::ids::{DeliveryNo, SessionNo, ShardId};
use ringmq_core::store::{
    BodyNo, MessageRecord, Opened, Receivers, Record, Recovered, SessionTerms, Shift, Source,
    SubscribedRecord, WillRecord,
};
use ringmq_core::time::Instant;
use serde::Serialize;

use super::super::data_dir::DataDir;
use super::super::recovery::first_manifest;
use super::super::state;
use super::lines::{self, Decoded, Exporter, Line, Terms};
use super::survey::{Totals, read, totals};
use super::{ToolError, ToolErrorKind, epoch_of_tool};

/// What was exported or imported.
#[derive(Debug, Serialize)]
pub struct Transfer {
    /// Sums.
    pub totals: Totals,
    /// Lines.
    pub lines: u64,
}

/// Writes what a sound directory holds.
pub fn export(path: &Path, out: &mut dyn Write) -> Result<Transfer, ToolError> {
    let directory = super::open(path)?;
    let (survey, found) = read(&directory)?;
    if let Some(flaw) = survey.flaws.first() {
        return Err(ToolError::new(
            ToolErrorKind::Damaged,
            format!("{}: {}", flaw.path.display(), flaw.what),
            format!("ringmq log repair {}", path.display()),
        ));
    }
    let mut lines = 0;
    let mut result = Ok(());
    let mut put = |line: &Line| {
        if result.is_ok() {
            let text = serde_json::to_string(line).expect("lines are JSON");
            result = writeln!(out, "{text}");
            lines += 1;
        }
    };
    put(&Line::Header {
        format: lines::FORMAT,
        ringmq: env!("CARGO_PKG_VERSION").to_owned(),
    });
    if let Some((manifest, recovered)) = found {
        let home = Home::new(manifest.secret, 1);
        let sessions = recovered.sessions.values();
        let clients = sessions.map(|session| &*session.client_id);
        let authors = recovered.retained.iter();
        let authors = authors.filter_map(|message| message.author.as_ref());
        let authors = authors.map(|author| &*author.client_id);
        let exporter = Exporter::new(&home, clients.chain(authors));
        recovered.records(&mut |record| {
            if let Some(line) = exporter.line(record) {
                put(&line);
            }
        });
    }
    let end = serde_json::to_string(&Line::End { lines }).expect("lines are JSON");
    let written = result.and_then(|()| writeln!(out, "{end}").and_then(|()| out.flush()));
    written.map_err(|error| {
        let what = format!("the export cannot be written: {error}");
        ToolError::new(ToolErrorKind::Failed, what, "check the space where it goes")
    })?;
    Ok(Transfer {
        totals: survey.totals,
        lines: lines + 1,
    })
}

/// Makes a data directory of an export.
pub fn import(path: &Path, input: &mut dyn BufRead) -> Result<Transfer, ToolError> {
    let is_empty = DataDir::is_unused(path).unwrap_or(!path.exists());
    if !is_empty {
        let what = format!("{} is not an empty directory", path.display());
        let has_state = DataDir::unlocked(path).read_manifest() != Ok(None);
        let fix = match has_state {
            true => "name a directory that does not exist yet",
            false => {
                "name a directory that does not exist yet, or remove this one if it is left of an \
                 import that was cut off: it has no MANIFEST"
            }
        };
        return Err(ToolError::new(ToolErrorKind::Wrong, what, fix));
    }
    let manifest = first_manifest(path)?;
    let mut importer = Importer::new(manifest.secret);
    importer.read(input)?;
    importer.recovered.end_checkpoint();
    importer.recovered.mend();
    let (directory, _) = DataDir::open(path)?;
    let written = state::write(&directory, &manifest, epoch_of_tool(1), &importer.recovered);
    if written.is_err() {
        // It has no manifest: nobody takes it for a whole one.
        let _ = fs::remove_dir_all(directory.epoch_path(1));
    }
    written?;
    Ok(Transfer {
        totals: totals(&importer.recovered),
        lines: importer.lines,
    })
}

struct Importer {
    home: Home,
    recovered: Recovered,
    /// Of the session that the lines are about.
    no: Option<SessionNo>,
    sessions: u64,
    lines: u64,
    /// Numbers of messages that stood in a line.
    bodies: HashSet<u64>,
}

impl Importer {
    fn new(secret: [u64; 2]) -> Importer {
        Importer {
            home: Home::new(secret, 1),
            recovered: Recovered::new(secret),
            no: None,
            sessions: 0,
            lines: 0,
            bodies: HashSet::new(),
        }
    }

    fn read(&mut self, input: &mut dyn BufRead) -> Result<(), ToolError> {
        let fix = "import an export as ringmq log export wrote it";
        let wrong = |line: u64, what: &str| {
            ToolError::new(ToolErrorKind::Wrong, format!("line {line} {what}"), fix)
        };
        let mut is_ended = false;
        for text in input.lines() {
            let number = self.lines + 1;
            let text = text.map_err(|error| wrong(number, &format!("cannot be read: {error}")))?;
            let line: Line = serde_json::from_str(&text)
                .map_err(|error| wrong(number, &format!("is not one of an export: {error}")))?;
            let is_header = matches!(line, Line::Header { .. });
            if is_ended || is_header != (number == 1) {
                return Err(wrong(number, "is not in its place"));
            }
            is_ended = matches!(line, Line::End { .. });
            let taken = self.take(line);
            taken.map_err(|what| wrong(number, &format!("is wrong: {what}")))?;
            self.lines = number;
        }
        if !is_ended {
            return Err(wrong(
                self.lines,
                "is the last one, but not the end of an export",
            ));
        }
        let checked = self.recovered.check();
        checked.map_err(|error| ToolError::new(ToolErrorKind::Wrong, error.to_string(), fix))
    }

    fn apply(&mut self, record: Record<'_>) {
        let source = Source {
            is_checkpoint: true,
            shift: Shift::NONE,
        };
        self.recovered.apply(record, source);
    }

    fn session(&self) -> Result<SessionNo, String> {
        self.no
            .ok_or_else(|| "no session stands before it".to_owned())
    }

    fn take(&mut self, line: Line) -> Result<(), String> {
        match line {
            Line::Header { format, .. } if format == lines::FORMAT => {}
            Line::Header { format, .. } => return Err(format!("format {format} is not known")),
            Line::End { lines } if lines == self.lines => {}
            Line::End { lines } => return Err(format!("{lines} lines were to stand before it")),
            Line::Session {
                client_id,
                user,
                protocol,
                expiry_s,
            } => self.open(&client_id, user.as_deref(), &protocol, expiry_s)?,
            Line::Away { since_ms } => {
                let at = since_ms.map_or(Instant::ZERO, lines::instant);
                let no = self.session()?;
                self.apply(Record::Away { no, at });
            }
            Line::Will {
                message,
                delay_s,
                expiry_s,
            } => {
                let (no, message) = (self.session()?, Decoded::of(message, &self.home)?);
                let message = message.stored(None);
                self.apply(Record::Will(WillRecord {
                    no,
                    message,
                    expiry_s,
                    delay_s,
                }));
            }
            Line::Ended => {
                let no = self.session()?;
                self.apply(Record::Ended(no));
                self.no = None;
            }
            Line::Retained { message, author } => {
                let message = Decoded::of(message, &self.home)?;
                self.apply(Record::Retained(message.stored(author.as_ref())));
            }
            of_session => self.take_of_session(of_session)?,
        }
        Ok(())
    }

    fn take_of_session(&mut self, line: Line) -> Result<(), String> {
        let no = self.session()?;
        match line {
            Line::Subscription {
                filter,
                qos,
                no_local,
                retain_as_published,
                retain_handling,
                identifier,
            } => self.apply(Record::Subscribed(SubscribedRecord {
                no,
                filter: lines::filter(&filter)?,
                options: lines::options(qos, no_local, retain_as_published, retain_handling)?,
                subscription_id: identifier,
            })),
            Line::Gather { filter } => self.apply(Record::Gather {
                no,
                filter: lines::filter(&filter)?,
            }),
            Line::Received { packet_id } => self.apply(Record::Received {
                no,
                id: lines::packet_id(packet_id)?,
            }),
            Line::Queued {
                delivery,
                packet_id: _,
                qos,
                retain,
                may_have_been_sent,
                identifiers,
                share,
                body,
                message,
            } => {
                let terms = Terms {
                    qos,
                    retain,
                    may_have_been_sent,
                    identifiers,
                    share,
                };
                let receivers = [lines::receiver(no, delivery, terms)?];
                self.queue(&Receivers::listed(&receivers), body.map(BodyNo), message)?;
            }
            Line::Release { delivery, .. } if delivery <= lines::DELIVERY_MAX => {
                let delivery = DeliveryNo(delivery);
                self.apply(Record::Phase2 { no, delivery });
            }
            Line::Next { delivery } if delivery <= lines::DELIVERY_MAX => {
                let next_delivery = DeliveryNo(delivery);
                self.apply(Record::Numbers { no, next_delivery });
            }
            Line::Release { .. } | Line::Next { .. } => {
                return Err("delivery is out of range".to_owned());
            }
            Line::Header { .. }
            | Line::Session { .. }
            | Line::Away { .. }
            | Line::Will { .. }
            | Line::Ended
            | Line::Retained { .. }
            | Line::End { .. } => unreachable!("handled by the caller"),
        }
        Ok(())
    }

    fn open(
        &mut self,
        client_id: &str,
        user: Option<&str>,
        protocol: &str,
        expiry_s: Option<u32>,
    ) -> Result<(), String> {
        let no = SessionNo::new(1, ShardId::new(0), self.sessions);
        let terms = SessionTerms {
            user,
            version: lines::version(protocol)?,
            expiry_s: expiry_s.unwrap_or(u32::MAX),
        };
        if terms.expiry_s == 0 {
            return Err("expiry_s is not 0".to_owned());
        }
        self.sessions += 1;
        self.no = Some(no);
        self.apply(Record::Opened(Opened {
            no,
            client_id,
            terms,
        }));
        Ok(())
    }

    fn queue(
        &mut self,
        receivers: &Receivers<'_>,
        body: Option<BodyNo>,
        message: Option<lines::Body>,
    ) -> Result<(), String> {
        let receivers = *receivers;
        match (message, body) {
            (Some(message), body) => {
                let message = Decoded::of(message, &self.home)?;
                let message = message.stored(None);
                self.bodies.extend(body.map(|body| body.0));
                self.apply(Record::Message(MessageRecord {
                    message,
                    body,
                    origin: None,
                    receivers,
                }));
            }
            (None, Some(body)) if !self.bodies.contains(&body.0) => {
                return Err(format!(
                    "no line before it has the message of body {}",
                    body.0
                ));
            }
            (None, Some(body)) => self.apply(Record::MoreReceivers { body, receivers }),
            (None, None) => return Err("it has neither message nor body".to_owned()),
        }
        Ok(())
    }
}
