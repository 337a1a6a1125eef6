//! One connection: its state, its partial input, its unsent output.

mod egress;
mod pool;
mod table;

pub use egress::{Chunk, Egress, Output, Pending};
pub use pool::{BufferPool, Unsent};
pub use table::{AuthStep, Authenticating, AwaitConnect, Connection, Connections};
