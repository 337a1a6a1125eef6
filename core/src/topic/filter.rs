//! Topic filters.

/// A valid topic filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter {
    text: Box<str>,
}

impl TopicFilter {
    /// The filter as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
