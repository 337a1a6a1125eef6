//! Durability: what is recorded, the log it is written to, and what is read at a start.
//!
//! - `record`: what happened, as bytes.
//! - `disk`, `block`: what the core asks of the disk.
//! - `gate`, `ack`: acknowledgements that wait until what they promise is safe.

mod ack;
mod block;
mod disk;
mod gate;
mod record;

pub use ack::Ack;
pub use block::Block;
pub use disk::{Clocks, DiskDone, DiskError, DiskOp, FileKind, FileName, OpId, Policy};
pub use gate::Gate;
pub use record::{
    AuthorRecord, BodyNo, Changed, DeliveryRange, DeliveryRanges, Footer, MessageRecord, Opened,
    Receiver, ReceiverTerms, Receivers, Record, RecordError, SessionTerms, StoredMessage,
    SubscribedRecord, WillRecord,
};
