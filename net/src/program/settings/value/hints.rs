//! What users are told that a kind of setting holds.

use super::{Items, Kind};

impl Kind {
    /// What stands for the value in a usage line.
    pub fn placeholder(self) -> &'static str {
        match self {
            Kind::Count(_) | Kind::PowerOfTwo(_) => "N",
            Kind::Size(_) => "SIZE",
            Kind::Seconds(_) | Kind::Millis(_) => "TIME",
            Kind::Switch => "",
            Kind::Addresses => "[SCHEME://]IP:PORT",
            Kind::List(Items::Paths) => "FILE",
            Kind::List(Items::Networks) => "IP[/BITS]",
            Kind::List(Items::Origins) => "ORIGIN",
            Kind::List(Items::Keys) => "ALGORITHM[@KID]:FILE",
            Kind::List(Items::Texts) => "TEXT",
            Kind::List(Items::Urls) => "URL",
            Kind::List(Items::AdminAddresses) => "unix:PATH|IP:PORT",
            Kind::Cores => "LIST",
            Kind::Choice(_) => "WORD",
            Kind::LogFilter => "FILTER",
            Kind::Text => "TEXT",
            Kind::Directory => "DIR",
        }
    }

    /// The range in words; empty for kinds without one.
    pub fn range_text(self) -> String {
        match self {
            Kind::Count(range)
            | Kind::PowerOfTwo(range)
            | Kind::Size(range)
            | Kind::Seconds(range)
            | Kind::Millis(range) => {
                format!(
                    "{} to {}",
                    self.show_number(range.min),
                    self.show_number(range.max)
                )
            }
            Kind::Choice(words) => words.join(" or "),
            Kind::Switch
            | Kind::Addresses
            | Kind::List(_)
            | Kind::Cores
            | Kind::LogFilter
            | Kind::Text
            | Kind::Directory => String::new(),
        }
    }

    /// What it has to be, with an article.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Count(_) => "a whole number",
            Kind::PowerOfTwo(_) => "a power of two",
            Kind::Size(_) => "a size",
            Kind::Seconds(_) | Kind::Millis(_) => "a time span",
            Kind::Switch => "true or false",
            Kind::Addresses => "a list of addresses",
            Kind::List(Items::Paths) => "a list of files",
            Kind::List(Items::Networks) => "a list of networks",
            Kind::List(Items::Origins) => "a list of origins",
            Kind::List(Items::Keys) => "a list of keys",
            Kind::List(Items::Texts) => "a list of texts",
            Kind::List(Items::Urls) => "a list of URLs",
            Kind::List(Items::AdminAddresses) => "a list of addresses",
            Kind::Cores => "a list of cores",
            Kind::Choice(_) => "a word",
            Kind::LogFilter => "a log filter",
            Kind::Text => "text",
            Kind::Directory => "a directory",
        }
    }

    /// What may be written, for the end of "write ...".
    pub fn hint(self) -> String {
        match self {
            Kind::Count(_) => format!("a number from {}", self.range_text()),
            Kind::PowerOfTwo(_) => format!("a power of two from {}", self.range_text()),
            Kind::Size(_) => format!(
                "a number of bytes or a size such as \"64KiB\", from {}",
                self.range_text()
            ),
            Kind::Seconds(_) | Kind::Millis(_) => format!(
                "a number of seconds or a time such as \"10s\" or \"7d\", from {}",
                self.range_text()
            ),
            Kind::Switch => "true or false".to_owned(),
            Kind::Addresses => "a list such as [\"127.0.0.1:1883\"]".to_owned(),
            Kind::List(Items::Paths) => "a list such as [\"/etc/ringmq/a.pem\"]".to_owned(),
            Kind::List(Items::Networks) => "a list such as [\"10.0.0.0/8\"]".to_owned(),
            Kind::List(Items::Origins) => "a list such as [\"https://example.com\"]".to_owned(),
            Kind::List(Items::Keys) => {
                "a list such as [\"RS256:/etc/ringmq/issuer.pem\"]".to_owned()
            }
            Kind::List(Items::Texts) => "a list such as [\"one\", \"two\"]".to_owned(),
            Kind::List(Items::Urls) => "a list such as [\"https://login.example/keys\"]".to_owned(),
            Kind::List(Items::AdminAddresses) => "a list such as [\"unix:auto\"]".to_owned(),
            Kind::Cores => "a list such as \"0-3,6\", or none".to_owned(),
            Kind::Choice(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Kind::LogFilter => {
                "a level such as \"info\", or \"info,ringmq::probe=debug\"".to_owned()
            }
            Kind::Text => "text in quotes".to_owned(),
            Kind::Directory => "a path such as \"/var/lib/ringmq\"".to_owned(),
        }
    }
}
