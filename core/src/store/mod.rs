//! Durability: acknowledgements that wait until what they promise is safe.

mod ack;
mod gate;

pub use ack::Ack;
pub use gate::Gate;
