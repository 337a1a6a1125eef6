//! The values of `$SYS` as last published.

/// Topics with a common beginning, and what they say.
pub(in crate::shard) struct Texts {
    prefix: String,
    pub(in crate::shard) all: Vec<(String, String)>,
}

impl Texts {
    pub(in crate::shard) fn new(prefix: String) -> Texts {
        Texts {
            prefix,
            all: Vec::new(),
        }
    }

    pub(in crate::shard) fn say(&mut self, name: &str, value: u64) {
        self.say_text(name, value.to_string());
    }

    pub(in crate::shard) fn say_text(&mut self, name: &str, text: String) {
        let mut topic = self.prefix.clone();
        topic += name;
        self.all.push((topic, text));
    }
}
