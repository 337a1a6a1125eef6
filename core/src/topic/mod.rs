//! Topic names and filters, and the indexes over them.

mod filter;
mod interest;

pub use filter::TopicFilter;
pub use interest::InterestTable;
