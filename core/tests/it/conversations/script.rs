//! A file of conversations, cut into its parts.

use std::collections::BTreeMap;

use super::wire::Version;

/// One conversation.
#[derive(Debug)]
pub struct Conversation {
    pub title: String,
    pub line: usize,
    versions: Vec<Version>,
    /// Bounds of the broker that differ from those of `stage.rs`.
    limits: Vec<(String, String)>,
    /// Who may connect; none: everybody.
    pub access: Vec<(String, String)>,
    /// Sessions are recorded.
    pub has_disk: bool,
    /// Files of rules, by name.
    pub acls: BTreeMap<String, String>,
    /// Names of the table's columns.
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    /// What is said, with line numbers.
    lines: Vec<(usize, String)>,
}

/// One way to play a conversation.
#[derive(Clone, Debug)]
pub struct Casting {
    /// What a CONNECT that names no version speaks.
    pub version: Version,
    pub shards: usize,
    row: Option<usize>,
}

impl Conversation {
    /// Every combination of version, row of the table, and number of shards.
    pub fn castings(&self) -> Vec<Casting> {
        let rows: Vec<Option<usize>> = match self.rows.len() {
            0 => vec![None],
            count => (0..count).map(Some).collect(),
        };
        let mut castings = Vec::new();
        for &version in &self.versions {
            for &row in &rows {
                castings.extend((1..=3).map(|shards| Casting {
                    version,
                    shards,
                    row,
                }));
            }
        }
        castings
    }

    /// The lines to play, with the values of the row filled in and without those of other versions.
    pub fn lines(&self, casting: &Casting) -> Vec<(usize, String)> {
        let mut lines = Vec::new();
        for (number, line) in &self.lines {
            let mut line = line.clone();
            if let Some((word, rest)) = line.split_once(':')
                && let Some(version) = Version::named(word)
            {
                if version != casting.version {
                    continue;
                }
                line = rest.trim().to_string();
            }
            if let Some(row) = casting.row {
                for (column, value) in self.columns.iter().zip(&self.rows[row]) {
                    line = line.replace(&format!("{{{column}}}"), value);
                }
            }
            if !line.is_empty() {
                lines.push((*number, line));
            }
        }
        lines
    }

    /// The bounds of the broker, with the values of the row filled in.
    pub fn limits(&self, casting: &Casting) -> Vec<(String, String)> {
        let fill = |value: &String| match casting.row {
            None => value.clone(),
            Some(row) => {
                let cells = self.columns.iter().zip(&self.rows[row]);
                cells.fold(value.clone(), |value, (column, cell)| {
                    value.replace(&format!("{{{column}}}"), cell)
                })
            }
        };
        let limits = self.limits.iter();
        limits
            .flat_map(|(name, value)| {
                // A cell may be a whole `name=value`.
                let filled = format!("{}={}", fill(name), fill(value));
                let (name, value) = filled.split_once('=')?;
                Some((name.to_string(), value.trim_end_matches('=').to_string()))
            })
            .collect()
    }

    /// How a failure names the casting.
    pub fn describe(&self, casting: &Casting) -> String {
        let row = casting
            .row
            .map(|row| format!(", | {} |", self.rows[row].join(" | ")));
        let Casting {
            version, shards, ..
        } = casting;
        format!("{version:?}, {shards} shard(s){}", row.unwrap_or_default())
    }
}

/// Cuts a file into conversations. An error starts with its line number.
pub fn parse(text: &str) -> Result<Vec<Conversation>, String> {
    let mut conversations: Vec<Conversation> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if let Some(title) = line.strip_prefix("## ") {
            conversations.push(Conversation {
                title: title.into(),
                line: number,
                versions: vec![Version::V5],
                limits: Vec::new(),
                access: Vec::new(),
                has_disk: false,
                acls: BTreeMap::new(),
                columns: Vec::new(),
                rows: Vec::new(),
                lines: Vec::new(),
            });
            continue;
        }
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let conversation = conversations
            .last_mut()
            .ok_or(format!("{number}: no title yet"))?;
        conversation
            .take(number, line)
            .map_err(|error| format!("{number}: {error}"))?;
    }
    Ok(conversations)
}

impl Conversation {
    fn take(&mut self, number: usize, line: &str) -> Result<(), String> {
        if let Some(cells) = line.strip_prefix('|') {
            let cells = cells.strip_suffix('|').ok_or("a row ends in |")?;
            let cells: Vec<String> = cells.split('|').map(|cell| cell.trim().into()).collect();
            if self.columns.is_empty() {
                self.columns = cells;
            } else if cells.len() == self.columns.len() {
                self.rows.push(cells);
            } else {
                return Err(format!(
                    "{} cells, but {} columns",
                    cells.len(),
                    self.columns.len()
                ));
            }
        } else if let Some(versions) = line.strip_prefix("in ") {
            let named = versions.split_whitespace().map(Version::named);
            self.versions = named.collect::<Option<_>>().ok_or("no such version")?;
        } else if let Some(limits) = line.strip_prefix("limits ") {
            for limit in limits.split_whitespace() {
                let (name, value) = limit.split_once('=').unwrap_or((limit, ""));
                self.limits.push((name.into(), value.into()));
            }
        } else if line == "disk" {
            self.has_disk = true;
        } else if let Some(access) = line.strip_prefix("access ") {
            self.access.extend(parse_access(access)?);
        } else if let Some((name @ ("acl" | "acl2"), rule)) = line.split_once(' ') {
            let text = self.acls.entry(name.into()).or_default();
            text.push_str(rule);
            text.push('\n');
        } else {
            self.lines.push((number, line.into()));
        }
        Ok(())
    }
}

/// Reads what stands behind `access`.
pub fn parse_access(items: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |item: &str| {
        let (name, value) = item.split_once('=').ok_or("access is name=value")?;
        Ok((name.into(), value.into()))
    };
    items.split_whitespace().map(pair).collect()
}
