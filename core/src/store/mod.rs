//! Durability: acknowledgements that wait until what they promise is safe.

mod gate;

pub use gate::Gate;
