//! Durability: what is recorded, the log it is written to, and what is read at a start.
//!
//! - `record`: what happened, as bytes; `batch`: what is written and checked as a whole.
//! - `log`: what is written where, and how far it is durable; `disk`, `block`: what it asks of the disk.
//! - `replay`: from bytes to records again; `recovered`: what they add up to; `rewrite`: records of that again.
//! - `salvage`: what can be read of damaged files; `shift`: clocks of earlier boots.
//! - `journal`: what a shard calls; `gate`: which turns are durable, and who waits for them.

mod batch;
mod block;
mod checkpoint;
mod disk;
mod gate;
mod journal;
mod log;
mod part;
mod record;
mod recovered;
mod replay;
mod rewrite;
mod salvage;
mod shift;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use batch::{Batch, FORMAT, LogIdentity, Place, Stamp};
pub use block::Block;
pub use checkpoint::CheckpointWriter;
pub use disk::{Clocks, DiskDone, DiskError, DiskOp, FileKind, FileName, OpId, Policy};
pub use gate::{After, Gate, Released};
pub use journal::{Journal, TurnEnd};
pub use log::{Log, LogConfig};
pub use part::{RecoveredMember, RecoveredPart};
pub use record::{
    AuthorRecord, BodyNo, Changed, DeliveryRange, DeliveryRanges, Footer, MessageRecord, Opened,
    Receiver, ReceiverTerms, Receivers, Record, RecordError, SessionTerms, StoredMessage,
    SubscribedRecord, WillRecord,
};
pub use recovered::{
    Away, Owed, Recovered, RecoveredDelivery, RecoveredRetained, RecoveredSession,
    RecoveredSubscription, Source, TwoSessions,
};
pub use replay::{
    CheckpointReader, Damage, DamageKind, LogEnd, LogReader, ReadConfig, last_clocks,
};
pub use rewrite::Mended;
pub(crate) use rewrite::ticket_records;
pub use salvage::Salvage;
pub use shift::{Downtime, OddClock, Shift};
