//! `ringmq passwd`: adds users to a file, changes their passwords, removes them.
//!
//! Invariants:
//! - a file is replaced as a whole or not at all, and keeps its owner and mode; only its owner can
//!   read a new one, and its group where the folder passes its own group on (`chmod g+s`).
//! - a file that the broker would reject is not touched.
//! - a password is on the command line only with `--batch`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead as _, IsTerminal as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueHint};
use ringmq_core::auth::{
    ITERATIONS_DEFAULT, ITERATIONS_MIN, Method, Password, PasswordFault, Passwords,
    ScramCredential, check_user_name, file_lines, trim_blanks,
};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::access::files;
use crate::access::files::What;
use crate::settings::file::{Place, Problem};

/// What to do with which file.
#[derive(Debug)]
struct Order {
    file: PathBuf,
    user: String,
    /// The password, if it stands on the command line.
    batch: Option<Vec<u8>>,
    create: bool,
    delete: bool,
    hash: Hash,
}

/// What is stored of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Argon2id,
    Pbkdf2 { rounds: Option<u32> },
    Scram { rounds: Option<u32> },
}

/// Enter a user into a password file, or give the user another password
#[derive(Debug, Parser)]
#[command(name = "passwd", after_help = AFTER_HELP)]
pub struct Line {
    /// The password file, in the format of Mosquitto
    #[arg(value_hint = ValueHint::FilePath)]
    file: PathBuf,
    /// The user's name
    user: String,
    /// The password, with --batch
    #[arg(value_name = "PASSWORD")]
    rest: Vec<OsString>,
    /// Make FILE, which must not be there; only its owner can read it, and its group if its folder has the set-group-ID bit, as
    /// /etc/ringmq has
    #[arg(long, short)]
    create: bool,
    /// Remove USER
    #[arg(long, short = 'D', conflicts_with = "create")]
    delete: bool,
    /// FILE holds credentials for SCRAM-SHA-256 (setting scram_file)
    #[arg(long, conflicts_with = "pbkdf2")]
    scram: bool,
    /// Hash with PBKDF2, which Mosquitto 2.0 reads too, and not with Argon2id
    #[arg(long)]
    pbkdf2: bool,
    /// Of PBKDF2 [default: 210000] or SCRAM [default: 15000]
    #[arg(long, value_name = "N")]
    iterations: Option<u32>,
    /// The password stands behind USER, where other users of this machine may see it
    #[arg(long, short)]
    batch: bool,
}

/// Carries out what stands behind `ringmq passwd`; gives what there is to say.
pub fn run(line: Line) -> Result<String, Problem> {
    let order = Order::of(line)?;
    let text = match order.create {
        false => files::read(&order.file, order.what())?,
        true if order.file.exists() => {
            return Err(order.problem("is there already", "leave out --create, or remove it first"));
        }
        true => String::new(),
    };
    let known = order.check(&text)?;
    if order.delete && !known {
        return Err(order.problem("has no such user", "check the name"));
    }
    let line = if order.delete {
        None
    } else {
        Some(order.line(&order.password()?)?)
    };
    let changed = replace_line(&text, &order.user, line.as_deref());
    let written = write(&order.file, &changed, order.create);
    written.map_err(|error| {
        order.problem(
            &format!("cannot be written: {error}"),
            "check the folder: it has to be writable and to have room",
        )
    })?;
    let done = match (order.delete, known) {
        (true, _) => "removed",
        (false, true) => "has another password",
        (false, false) => "entered",
    };
    let mut said = format!("{}: {} {done}\n", order.file.display(), order.user);
    if users(&changed).next().is_none() {
        said += "nobody is left in it: the broker will not take the file\n";
    }
    Ok(said)
}

fn with_rounds(hash: Hash, rounds: Option<u32>) -> Result<Hash, Problem> {
    match (hash, rounds) {
        (Hash::Argon2id, Some(_)) => Err(usage("--iterations goes with --pbkdf2 or --scram")),
        (Hash::Argon2id, None) => Ok(hash),
        (_, Some(rounds)) if !(ITERATIONS_MIN..=10_000_000).contains(&rounds) => Err(usage(
            &format!("--iterations takes a number from {ITERATIONS_MIN} to 10000000"),
        )),
        (Hash::Pbkdf2 { .. }, rounds) => Ok(Hash::Pbkdf2 { rounds }),
        (Hash::Scram { .. }, rounds) => Ok(Hash::Scram { rounds }),
    }
}

impl Order {
    fn of(line: Line) -> Result<Order, Problem> {
        check_user_name(&line.user).map_err(|error| usage(&error.to_string()))?;
        let mut rest = line.rest.into_iter();
        let mut batch = None;
        if line.batch && !line.delete {
            let password = rest.next();
            let password =
                password.ok_or_else(|| usage("--batch takes the password behind USER"))?;
            batch = Some(password.into_encoded_bytes());
        }
        if rest.next().is_some() {
            return Err(usage(
                "there is something behind USER; a password needs --batch",
            ));
        }
        let hash = match (line.scram, line.pbkdf2) {
            (true, _) => Hash::Scram { rounds: None },
            (false, true) => Hash::Pbkdf2 { rounds: None },
            (false, false) => Hash::Argon2id,
        };
        Ok(Order {
            file: line.file,
            user: line.user,
            batch,
            create: line.create,
            delete: line.delete,
            hash: with_rounds(hash, line.iterations)?,
        })
    }

    /// What the file is for.
    fn what(&self) -> What {
        match self.hash {
            Hash::Argon2id | Hash::Pbkdf2 { .. } => What::PasswordFile,
            Hash::Scram { .. } => What::ScramFile,
        }
    }

    /// Whether the user is in the file, which has to be one that the broker reads.
    fn check(&self, text: &str) -> Result<bool, Problem> {
        match self.hash {
            Hash::Argon2id | Hash::Pbkdf2 { .. } => match Passwords::parse(text) {
                Ok(_) => {}
                Err(error) if error.fault == PasswordFault::Empty => {}
                Err(error) => {
                    let what = format!(
                        "has a wrong line, number {}: it {}",
                        error.line, error.fault
                    );
                    return Err(self.problem(&what, "mend or remove the line first"));
                }
            },
            Hash::Scram { .. } => {
                for (number, line) in file_lines(text) {
                    if let Err(error) = ScramCredential::parse_line(line) {
                        let what = format!("has a wrong line, number {number}: {error}");
                        return Err(self.problem(&what, "mend or remove the line first"));
                    }
                }
            }
        }
        Ok(users(text).any(|user| user == self.user))
    }

    fn password(&self) -> Result<Vec<u8>, Problem> {
        let password = match &self.batch {
            Some(password) => password.clone(),
            None if io::stdin().is_terminal() => {
                let first = prompt("Password: ").map_err(no_terminal)?;
                let second = prompt("Once more: ").map_err(no_terminal)?;
                if first != second {
                    return Err(usage("the two passwords differ: nothing was changed"));
                }
                first
            }
            None => read_password().map_err(no_terminal)?,
        };
        match password.len() {
            0 => Err(usage("an empty password is none")),
            // What a CONNECT has room for.
            size if size > usize::from(u16::MAX) => Err(usage("the password is too long")),
            _ => Ok(password),
        }
    }

    /// The line of the user, without its end.
    fn line(&self, password: &[u8]) -> Result<String, Problem> {
        let salt = |size: usize| {
            let mut salt = vec![0; size];
            match getrandom(&mut salt, GetRandomFlags::empty()) {
                Ok(filled) if filled == size => Ok(salt),
                Ok(_) | Err(_) => Err(usage("the kernel gives no random numbers")),
            }
        };
        let stored = match self.hash {
            Hash::Argon2id => Password::new(Method::ARGON2ID, password, &salt(SALT_SIZE)?),
            Hash::Pbkdf2 { rounds } => {
                let method = match rounds {
                    Some(rounds) => Method::Pbkdf2 { rounds },
                    None => Method::PBKDF2,
                };
                Password::new(method, password, &salt(MOSQUITTO_SALT_SIZE)?)
            }
            Hash::Scram { rounds } => {
                let rounds = rounds.unwrap_or(ITERATIONS_DEFAULT);
                let salt = salt(SALT_SIZE)?;
                let credential = ScramCredential::of_password(password, &salt, rounds);
                return Ok(credential.to_line(&self.user));
            }
        };
        Ok(format!("{}:{stored}", self.user))
    }

    fn problem(&self, what: &str, fix: &str) -> Problem {
        Problem {
            place: Place::File(self.file.display().to_string()),
            subject: "the file".to_owned(),
            what: what.to_owned(),
            fix: fix.to_owned(),
        }
    }
}

/// The names in a file, of either kind.
fn users(text: &str) -> impl Iterator<Item = &str> {
    let split = file_lines(text).filter_map(|(_, line)| line.split_once(':'));
    split.map(|(user, _)| trim_blanks(user))
}

/// The text with another line for a user, or a new one at the end, or none; all else stays.
fn replace_line(text: &str, user: &str, line: Option<&str>) -> String {
    let mut changed = String::new();
    let mut is_due = line;
    for old in text.lines() {
        let is_theirs = users(old).next() == Some(user);
        let kept = if is_theirs { is_due.take() } else { Some(old) };
        if let Some(kept) = kept {
            changed += kept;
            changed.push('\n');
        }
    }
    if let Some(line) = is_due {
        changed += line;
        changed.push('\n');
    }
    changed
}

/// Puts another file in the place of the one that there is.
fn write(path: &Path, text: &str, is_new: bool) -> io::Result<()> {
    // Behind a symbolic link lies the file that is meant.
    let path = if is_new {
        path.to_owned()
    } else {
        fs::canonicalize(path)?
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let aside = path.with_file_name(name);
    let written = write_aside(&aside, &path, text, is_new);
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written
}

fn write_aside(aside: &Path, path: &Path, text: &str, is_new: bool) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(aside)?;
    if is_new {
        if fs::metadata(folder_of(path))?.mode() & SET_GROUP != 0 {
            file.set_permissions(Permissions::from_mode(0o640))?;
        }
    } else {
        let old = fs::metadata(path)?;
        file.set_permissions(old.permissions())?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    if is_new {
        // Fails if somebody made the file meanwhile.
        fs::hard_link(aside, path).and_then(|()| fs::remove_file(aside))?
    } else {
        fs::rename(aside, path)?
    }
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let named = folder.filter(|folder| !folder.as_os_str().is_empty());
    named.unwrap_or(Path::new("."))
}

/// Asks at the terminal, which does not show what is typed.
fn prompt(question: &str) -> io::Result<Vec<u8>> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    restore_at_signals(shown.clone());
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let _ = write!(io::stderr(), "{question}");
    let read = read_password();
    tcsetattr(&stdin, OptionalActions::Now, &shown)?;
    let _ = writeln!(io::stderr());
    read
}

/// Ctrl-C at the prompt does not leave the terminal mute.
fn restore_at_signals(shown: Termios) {
    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        return;
    };
    let thread = std::thread::Builder::new();
    let _ = thread.spawn(move || {
        if let Some(signal) = signals.forever().next() {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &shown);
            std::process::exit(128 + signal);
        }
    });
}

/// One line of stdin, without its end.
fn read_password() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    io::stdin().lock().read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(line)
}

fn no_terminal(error: io::Error) -> Problem {
    usage(&format!("the password cannot be read: {error}"))
}

fn usage(what: &str) -> Problem {
    Problem {
        place: Place::CommandLine,
        subject: "passwd:".to_owned(),
        what: what.to_owned(),
        fix: "`ringmq passwd --help` says how".to_owned(),
    }
}

const AFTER_HELP: &str = "\
Without --batch, the password is asked for at the terminal, or read from the first line of stdin. A running broker takes on a \
changed file by itself.";

/// S_ISGID: the files of a folder get its group.
const SET_GROUP: u32 = 0o2000;
const SALT_SIZE: usize = 16;
/// Mosquitto 2.0 takes no other.
const MOSQUITTO_SALT_SIZE: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line;

    fn passwd(line: &str) -> Result<String, String> {
        passwd_of(line.split_whitespace())
    }

    fn passwd_of<'a>(args: impl Iterator<Item = &'a str>) -> Result<String, String> {
        let args = std::iter::once("passwd").chain(args).map(OsString::from);
        let done = match line::parse(args) {
            Ok(line::Order::Passwd(line)) => run(line),
            Ok(line::Order::Say(text)) => Ok(text),
            Ok(other) => panic!("{other:?}"),
            Err(mut problems) => Err(problems.remove(0)),
        };
        done.map_err(|problem| problem.what)
    }

    #[test]
    fn users_are_entered_changed_and_removed_and_the_rest_of_the_file_stays() {
        let folder = std::env::temp_dir().join(format!("ringmq-passwd-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("file");
        let file = path.display();
        let fast = "--pbkdf2 --iterations 4096 -b";
        assert_eq!(
            passwd(&format!("{fast} {file} alice one")).unwrap_err(),
            "does not exist"
        );
        passwd(&format!("{fast} -c {file} alice one")).unwrap();
        // Threat 92: nobody else reads it.
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(
            passwd(&format!("{fast} -c {file} bob two")).unwrap_err(),
            "is there already"
        );
        let text = format!("# People\n{}", fs::read_to_string(&path).unwrap());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        passwd(&format!("{fast} {file} bob two")).unwrap();
        passwd(&format!("{fast} {file} alice three")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# People\nalice:$7$4096$"), "{text}");
        let passwords = Passwords::parse(&text).unwrap();
        assert!(passwords.check("alice", b"three") && passwords.check("bob", b"two"));
        assert!(!passwords.check("alice", b"one"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        passwd(&format!("-D {file} alice")).unwrap();
        assert_eq!(
            passwd(&format!("-D {file} alice")).unwrap_err(),
            "has no such user"
        );
        assert!(
            passwd(&format!("-D {file} bob"))
                .unwrap()
                .contains("nobody is left")
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "# People\n");
        fs::write(&path, "alice:secret\n").unwrap();
        let refused = passwd(&format!("{fast} {file} bob two")).unwrap_err();
        assert!(refused.contains("wrong line, number 1") && !refused.contains("secret"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "alice:secret\n");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_for_a_group_makes_files_for_the_group() {
        let folder =
            std::env::temp_dir().join(format!("ringmq-passwd-group-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o2750)).unwrap();
        let path = folder.join("users");
        passwd(&format!(
            "--pbkdf2 --iterations 4096 -b -c {} alice one",
            path.display()
        ))
        .unwrap();
        let (file, folder_meta) = (fs::metadata(&path).unwrap(), fs::metadata(&folder).unwrap());
        assert_eq!(file.mode() & 0o777, 0o640);
        assert_eq!(file.gid(), folder_meta.gid());
        fs::remove_dir_all(&folder).unwrap();
    }

    /// As editors of Windows and people leave files behind.
    #[test]
    fn byte_order_marks_and_blanks_in_a_file_are_not_part_of_names() {
        let path = std::env::temp_dir().join(format!("ringmq-passwd-bom-{}", std::process::id()));
        let file = path.display();
        for kind in ["--pbkdf2", "--scram"] {
            let fast = format!("{kind} --iterations 4096 -b");
            passwd(&format!("{fast} -c {file} alice old")).unwrap();
            let line = fs::read_to_string(&path).unwrap();
            for text in [
                format!("\u{FEFF}{line}"),
                format!("\u{FEFF}# People\r\n\t{line}"),
                line.replacen("alice:", " alice :", 1),
            ] {
                fs::write(&path, &text).unwrap();
                let done = passwd(&format!("{fast} {file} alice new")).unwrap();
                assert!(done.contains("has another password"), "{text:?}: {done}");
                let changed = fs::read_to_string(&path).unwrap();
                assert!(!changed.starts_with('\u{FEFF}'), "{changed:?}");
                assert_eq!(users(&changed).collect::<Vec<_>>(), ["alice"]);
                passwd(&format!("{kind} -D {file} alice")).unwrap();
            }
            fs::remove_file(&path).unwrap();
        }
        // Blanks around a name would be taken off when the file is read.
        for name in [" alice", "alice ", "al\u{200B}ice", "alice\u{A0}"] {
            let what = passwd_of(["-b", "file", name, "secret"].into_iter()).unwrap_err();
            assert!(what.contains("user name"), "{name:?}: {what}");
        }
    }

    #[test]
    fn scram_credentials_are_written_to_a_file_of_their_own() {
        let path = std::env::temp_dir().join(format!("ringmq-scram-{}", std::process::id()));
        let file = path.display();
        passwd(&format!("--scram --iterations 4096 -bc {file} alice one")).unwrap();
        passwd(&format!("--scram --iterations 4096 -b {file} bob two")).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let read: Vec<&str> = text
            .lines()
            .map(|line| ScramCredential::parse_line(line).unwrap().0)
            .collect();
        assert_eq!(read, ["alice", "bob"]);
        assert!(
            passwd(&format!("-b {file} carol three")).is_err(),
            "the other kind"
        );
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn mistakes_in_a_command_are_reported() {
        for (line, expected) in [
            ("", "FILE and USER are needed"),
            ("file", "FILE and USER are needed"),
            ("file alice secret", "a password needs --batch"),
            ("-b file alice", "--batch takes the password"),
            ("-b file alice secret more", "something behind USER"),
            ("-c -D file alice", "do not go together"),
            ("--iterations 5000 file alice", "goes with"),
            ("--pbkdf2 --iterations 5 file alice", "from 4096"),
            ("--pbkdf2 --iterations x file alice", "takes a number"),
            ("file al:ice", "user name"),
            ("--frob file alice", "--frob"),
        ] {
            let what = passwd(line).unwrap_err();
            assert!(what.contains(expected), "{line}: {what}");
        }
        assert!(
            passwd("--help")
                .unwrap()
                .starts_with("Usage: ringmq passwd")
        );
    }
}
