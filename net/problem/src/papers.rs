//! What is made of a command line for others: completions for shells, and man pages.

use std::path::Path;

use clap::{Command, ValueEnum};
use clap_complete::aot::{Bash, Fish, Zsh, generate};
use clap_mangen::Man;

/// A shell that completes command lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// fish
    Fish,
}

/// The script that a shell reads.
pub fn completions(mut command: Command, shell: Shell) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(Fish, &mut command, name, &mut script),
    }
    String::from_utf8(script).expect("names and help texts are text")
}

/// The page of the program itself, in roff.
pub fn man_page(command: Command) -> String {
    let mut page = Vec::new();
    let written = Man::new(command).render(&mut page);
    written.expect("a vector takes what is written");
    String::from_utf8(page).expect("names and help texts are text")
}

/// Writes a page for the program and for each of its commands into a directory, which has to exist; otherwise says what is
/// wrong, with the fix.
pub fn write_man_pages(command: Command, directory: &Path) -> Result<(), String> {
    clap_mangen::generate_to(command, directory).map_err(|error| {
        let place = directory.display();
        format!("cannot write man pages into {place}: {error}\n  fix: name a directory that exists and may be written")
    })
}
