//! The manifest: what a data directory holds, in one small file that is replaced as a whole.
//!
//! It is one line of JSON, and a line with the SHA-256 of the first. A reader looks at the number of the format
//! before anything else, so that a newer file is named as such.
//!
//! Invariants:
//! - epochs ascend; all but the last are sealed: for each of their shards it is known where the log ends.
//! - a manifest is durable before anything is written to the directories it names first.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use ringmq_core::ids::{LogPosition, ShardId};

use super::error::StoreFault;

/// What a data directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Stands in each batch of the logs, and nowhere else: no payload can pose as a batch.
    pub(crate) log_id: u128,
    /// The secret of `Home`: clients and topics keep their homes.
    pub(crate) secret: [u64; 2],
    /// Bytes of a block, the unit of writing.
    pub(crate) block_size: u32,
    /// At least one, ascending.
    pub(crate) epochs: Vec<Epoch>,
}

/// The logs between two starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// From 1, never used twice.
    pub(crate) number: u32,
    /// How many shards the broker had.
    pub(crate) shards: usize,
    /// Which boot of the machine; on another one, its clock began anew.
    pub(crate) boot_id: String,
    /// Where the log of each shard ends. `None`: it is being written, or was when the broker ended.
    pub(crate) cut: Option<Vec<LogPosition>>,
}

impl Manifest {
    /// The epoch that is being written.
    pub(crate) fn last(&self) -> &Epoch {
        self.epochs.last().expect("a manifest has an epoch")
    }

    /// The two lines.
    pub(crate) fn to_text(&self) -> String {
        self.assert_invariants();
        let written = Written {
            format: FORMAT,
            log_id: format!("{:032x}", self.log_id),
            secret: self.secret.map(|word| format!("{word:016x}")),
            block_size: self.block_size,
            epochs: self.epochs.iter().map(WrittenEpoch::of).collect(),
        };
        let line = serde_json::to_string(&written).expect("numbers and text are JSON");
        let checksum = checksum(&line);
        format!("{line}\n{checksum}\n")
    }

    /// Reads the two lines.
    pub(crate) fn parse(text: &str) -> Result<Manifest, StoreFault> {
        let damaged = |what: &str| StoreFault::DamagedManifest {
            what: what.to_owned(),
        };
        let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
        let outline: Outline =
            serde_json::from_str(line).map_err(|_| damaged("its first line is no JSON of ours"))?;
        if outline.format > FORMAT {
            return Err(StoreFault::Newer {
                format: outline.format,
            });
        }
        if rest != format!("{}\n", checksum(line)) {
            return Err(damaged("its checksum does not fit"));
        }
        let written: Written =
            serde_json::from_str(line).map_err(|_| damaged("a value is missing or wrong"))?;
        written
            .read()
            .ok_or_else(|| damaged("a value is out of range"))
    }

    fn assert_invariants(&self) {
        assert!(
            self.epochs.is_sorted_by(|a, b| a.number < b.number),
            "epochs ascend"
        );
        let (last, sealed) = self.epochs.split_last().expect("a manifest has an epoch");
        assert!(last.cut.is_none(), "the last epoch is being written");
        for epoch in sealed {
            let cut = epoch
                .cut
                .as_ref()
                .expect("an epoch is sealed by the next start");
            assert_eq!(cut.len(), epoch.shards, "each shard has an end");
        }
    }
}

/// What every format has.
#[derive(Deserialize)]
struct Outline {
    format: u64,
}

/// The manifest as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u64,
    log_id: String,
    secret: [String; 2],
    block_size: u32,
    epochs: Vec<WrittenEpoch>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEpoch {
    number: u32,
    shards: usize,
    boot_id: String,
    cut: Option<Vec<u64>>,
}

impl WrittenEpoch {
    fn of(epoch: &Epoch) -> WrittenEpoch {
        let cut = epoch.cut.as_ref();
        WrittenEpoch {
            number: epoch.number,
            shards: epoch.shards,
            boot_id: epoch.boot_id.clone(),
            cut: cut.map(|cut| cut.iter().map(|end| end.0).collect()),
        }
    }

    fn read(self, is_last: bool) -> Option<Epoch> {
        let cut = match self.cut {
            None if is_last => None,
            Some(cut) if !is_last && cut.len() == self.shards => {
                Some(cut.into_iter().map(LogPosition).collect())
            }
            None | Some(_) => return None,
        };
        (1..=ShardId::COUNT_MAX)
            .contains(&self.shards)
            .then_some(Epoch {
                number: self.number,
                shards: self.shards,
                boot_id: self.boot_id,
                cut,
            })
    }
}

impl Written {
    fn read(self) -> Option<Manifest> {
        let hex = |text: &String| u64::from_str_radix(text, 16).ok();
        let count = self.epochs.len();
        let epochs = self.epochs.into_iter().enumerate();
        let epochs: Option<Vec<Epoch>> = epochs
            .map(|(index, epoch)| epoch.read(index + 1 == count))
            .collect();
        let epochs = epochs?;
        let ascend = epochs.is_sorted_by(|a, b| a.number < b.number);
        let is_sound = ascend && count > 0 && self.block_size.is_power_of_two();
        is_sound.then_some(Manifest {
            log_id: u128::from_str_radix(&self.log_id, 16).ok()?,
            secret: [hex(&self.secret[0])?, hex(&self.secret[1])?],
            block_size: self.block_size,
            epochs,
        })
    }
}

fn checksum(line: &str) -> String {
    let digest = Sha256::digest(line.as_bytes());
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {hex}")
}

/// The only one so far.
const FORMAT: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn manifest() -> Manifest {
        let epoch = |number, shards, cut: Option<&[u64]>| Epoch {
            number,
            shards,
            boot_id: "b".to_owned(),
            cut: cut.map(|cut| cut.iter().copied().map(LogPosition).collect()),
        };
        Manifest {
            log_id: 1 << 100 | 7,
            secret: [3, u64::MAX],
            block_size: 4096,
            epochs: vec![epoch(4, 2, Some(&[4096, 0])), epoch(7, 1, None)],
        }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        let text = manifest().to_text();
        assert_eq!(Manifest::parse(&text), Ok(manifest()));
        assert_eq!(text.lines().count(), 2);
    }

    #[test]
    fn any_damage_is_noticed() {
        let text = manifest().to_text();
        for index in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[index] ^= 1;
            let damaged = String::from_utf8(bytes).unwrap();
            assert!(
                Manifest::parse(&damaged).is_err(),
                "byte {index}: {damaged}"
            );
            let cut = Manifest::parse(&text[..index]);
            let is_damaged = matches!(cut, Err(StoreFault::DamagedManifest { .. }));
            assert!(is_damaged, "cut at {index}: {cut:?}");
        }
    }

    #[test]
    fn a_newer_format_is_named_even_if_nothing_else_is_understood() {
        let text = "{\"format\":2,\"shape\":\"unheard of\"}\nxxh3 1234\n";
        let newer = StoreFault::Newer { format: 2 };
        assert_eq!(Manifest::parse(text), Err(newer));
    }

    #[test]
    fn values_out_of_range_are_refused_though_the_checksum_fits() {
        let line = manifest().to_text().lines().next().unwrap().to_owned();
        for (from, to) in [
            ("\"shards\":1", "\"shards\":0"),
            ("\"shards\":2", "\"shards\":3"),
            ("\"block_size\":4096", "\"block_size\":4095"),
            ("\"number\":7", "\"number\":4"),
            ("\"cut\":null", "\"cut\":[1]"),
            ("\"cut\":[4096,0]", "\"cut\":null"),
            ("\"boot_id\":\"b\",", ""),
            ("{\"format\":1,", "{\"format\":1,\"more\":1,"),
        ] {
            let wrong = line.replacen(from, to, 1);
            assert_ne!(wrong, line, "{from}");
            let text = format!("{wrong}\n{}\n", checksum(&wrong));
            let fault = Manifest::parse(&text).unwrap_err();
            assert!(matches!(fault, StoreFault::DamagedManifest { .. }), "{to}");
        }
    }
}
