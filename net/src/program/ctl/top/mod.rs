//! `ringmq ctl top`: shards and clients, live, in the terminal.
//!
//! One thread looks at the broker each second, this one draws and takes keys: a broker that does
//! not answer does not keep anybody from leaving.
//!
//! Not here: what is known (`picture`), how it is drawn (`screen`).

mod picture;
mod screen;

use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde::de::DeserializeOwned;
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGTERM};
use signal_hook::flag::register_usize;

use super::http::Server;
use super::trace::Whereabouts;
use super::{ClientsBy, EXIT_WRONG_USE, Failure, Form, query};
use picture::{Clients, Look, Picture};

/// What comes first.
#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// Clients with the most of this come first; `s` in it takes the next
    #[arg(long, value_name = "BY", default_value = "out")]
    by: ClientsBy,
}

/// What is on the screen.
#[derive(Debug)]
struct View {
    picture: Option<Picture>,
    /// Why there is nothing newer.
    trouble: Option<String>,
    by: ClientsBy,
    /// The first row of the clients.
    first: usize,
    is_paused: bool,
    has_color: bool,
}

/// `top`: until somebody leaves it.
pub(super) fn run(top: &Top, form: Form, place: Whereabouts) -> Result<(), Failure> {
    check_terminal(form)?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGTERM, SIGHUP] {
        register_usize(number, Arc::clone(&signal), number as usize)?;
    }
    let by = Arc::new(Mutex::new(top.by));
    // Before the screen is taken: a broker that cannot be reached is said as by all other verbs.
    let server = Server::find(&place)?;
    let mut clients = None;
    let first = look(&server, top.by, &mut clients)?;
    let looks = start_looking(server, Arc::clone(&by), clients)?;
    let mut view = View {
        picture: Some(Picture::of(first)),
        trouble: None,
        by: top.by,
        first: 0,
        is_paused: false,
        has_color: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, &mut view, (&looks, &by), &signal);
    let restored = ratatui::try_restore();
    match signal.load(Ordering::Relaxed) {
        0 => Ok(shown.and(restored)?),
        signal => std::process::exit(128 + signal as i32),
    }
}

fn check_terminal(form: Form) -> Result<(), Failure> {
    const INSTEAD: &str = "`ringmq ctl shards` and `ringmq ctl clients top` print the same once, \
                           for files and pipes too";
    if form != Form::Table {
        return Err(Failure {
            code: EXIT_WRONG_USE,
            ..Failure::new("top is for people: it has one form", INSTEAD)
        });
    }
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() || is_dumb {
        return Err(Failure::new("top needs a terminal", INSTEAD));
    }
    Ok(())
}

/// Draws what is new, until a key or a signal ends it.
fn show(
    terminal: &mut DefaultTerminal,
    view: &mut View,
    (looks, by): (&Receiver<Result<Look, Failure>>, &Mutex<ClientsBy>),
    signal: &AtomicUsize,
) -> io::Result<()> {
    while signal.load(Ordering::Relaxed) == 0 {
        terminal.draw(|frame| screen::draw(frame, view))?;
        // Nothing new, or nobody who looks: what has ended it has been said.
        while let Ok(look) = looks.try_recv() {
            view.take(look);
        }
        if event::poll(KEYS_TIME)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !view.press(key)
        {
            return Ok(());
        }
        *by.lock().unwrap_or_else(PoisonError::into_inner) = view.by;
    }
    Ok(())
}

impl View {
    fn take(&mut self, look: Result<Look, Failure>) {
        match look {
            Ok(_) if self.is_paused => {}
            Ok(look) => {
                self.trouble = None;
                self.picture = Some(match self.picture.take() {
                    Some(picture) => picture.followed_by(look),
                    None => Picture::of(look),
                });
            }
            Err(failure) => self.trouble = Some(failure.what.replace("\n  fix: ", "; ")),
        }
    }

    /// False: it is enough.
    fn press(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c' | 'd') if is_control => return false,
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('s') | KeyCode::Right | KeyCode::Tab => self.turn_order(1),
            KeyCode::Char('S') | KeyCode::Left | KeyCode::BackTab => self.turn_order(-1),
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            KeyCode::Char('j') | KeyCode::Down => self.first = self.first.saturating_add(1),
            KeyCode::Char('k') | KeyCode::Up => self.first = self.first.saturating_sub(1),
            KeyCode::PageDown => self.first = self.first.saturating_add(PAGE),
            KeyCode::PageUp => self.first = self.first.saturating_sub(PAGE),
            KeyCode::Home => self.first = 0,
            _ => {}
        }
        let rows = self.picture.as_ref().map_or(0, Picture::clients_count);
        self.first = self.first.min(rows.saturating_sub(1));
        true
    }

    fn turn_order(&mut self, step: isize) {
        let all = ClientsBy::value_variants();
        let at = all.iter().position(|by| *by == self.by).unwrap_or(0);
        let next = (at as isize + step).rem_euclid(all.len() as isize);
        self.by = all[next as usize];
        self.first = 0;
    }
}

/// Looks each second, for as long as somebody takes what was seen.
fn start_looking(
    server: Server,
    by: Arc<Mutex<ClientsBy>>,
    mut clients: Option<Clients>,
) -> io::Result<Receiver<Result<Look, Failure>>> {
    let (sender, looks) = channel();
    let watch = move || {
        loop {
            std::thread::sleep(LOOK_TIME);
            let by = *by.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.send(look(&server, by, &mut clients)).is_err() {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("looks".to_owned());
    thread.spawn(watch).map(|_| looks)
}

/// The broker and its shards, and clients unless those that are known are new enough.
fn look(server: &Server, by: ClientsBy, clients: &mut Option<Clients>) -> Result<Look, Failure> {
    let broker = read(server.get("/api/v1/broker")?)?;
    let shards = read(server.get("/api/v1/shards")?["shards"].take())?;
    let clients = match clients {
        Some(known) if known.will_do(by) => known.clone(),
        _ => clients.insert(look_at_clients(server, by)?).clone(),
    };
    Ok(Look::new(broker, shards, clients))
}

fn look_at_clients(server: &Server, by: ClientsBy) -> Result<Clients, Failure> {
    let query = query([
        ("sort", Some(by.name().to_owned())),
        ("limit", Some(CLIENTS_MAX.to_string())),
    ]);
    let began = Instant::now();
    let mut answer = server.get(&format!("/api/v1/clients{query}"))?;
    let rows = read(answer["clients"].take())?;
    let missing = read(answer["missing_shards"].take())?;
    Ok(Clients::new(by, began, (rows, missing)))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, Failure> {
    serde_json::from_value(value).map_err(|error| {
        let what = format!("the answer is not that of this version: {error}");
        Failure::new(what, "use the version of the broker")
    })
}

/// Between two looks at the broker.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// Between two looks at what has come, while no key is pressed.
const KEYS_TIME: Duration = Duration::from_millis(100);
/// Clients that are asked for.
const CLIENTS_MAX: usize = 100;
/// Rows that a key goes on.
const PAGE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            picture: None,
            trouble: None,
            by: ClientsBy::Out,
            first: 0,
            is_paused: false,
            has_color: true,
        }
    }

    #[test]
    fn keys_change_the_order_pause_and_leave() {
        let mut view = view();
        let press = |view: &mut View, code| view.press(KeyEvent::from(code));
        assert!(press(&mut view, KeyCode::Char('s')));
        assert_eq!(view.by, ClientsBy::Dropped);
        for _ in 0..ClientsBy::value_variants().len() {
            press(&mut view, KeyCode::Left);
        }
        assert_eq!(view.by, ClientsBy::Dropped, "all the way round");
        press(&mut view, KeyCode::Char(' '));
        assert!(view.is_paused);
        press(&mut view, KeyCode::PageDown);
        assert_eq!(view.first, 0, "there are no rows");
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert!(!press(&mut view, code));
        }
        assert!(press(&mut view, KeyCode::Char('c')));
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert!(!view.press(key));
    }

    #[test]
    fn what_is_wrong_stays_until_the_broker_answers() {
        let mut view = view();
        view.take(Err(Failure::new("it cannot be reached", "start it")));
        let trouble = view.trouble.as_deref();
        assert_eq!(trouble, Some("it cannot be reached; start it"));
        view.take(Ok(picture::tests::look(0)));
        assert!(view.trouble.is_none() && view.picture.is_some());
        view.is_paused = true;
        view.take(Ok(picture::tests::look(7)));
        let picture = view.picture.as_ref().unwrap();
        assert_eq!(picture.now().broker.publishes_received, 0);
    }
}
