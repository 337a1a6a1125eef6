//! One connection: its states, what it received in part, what it still has to send.

mod egress;
mod pool;
mod table;

pub use egress::{Chunk, Egress, Output};
pub use pool::{BufferPool, Unsent};
pub use table::{AuthStep, Authenticating, AwaitConnect, Connection, Connections};
