//! Shapes of topics: which levels are always the same, and which differ from topic to topic.
//!
//! A level with more than [`SAME_MAX`] values below one place is one that differs: `site/+/power` for a
//! thousand meters.

use std::collections::{BTreeMap, BTreeSet};

use ringmq_core::topic::TopicFilter;

use crate::plan::TOPIC_LIMITS;

/// The shape of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) levels: Vec<Level>,
}

/// A level of a shape.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Level {
    /// What all topics have there; `None`: they differ.
    pub(super) text: Option<String>,
    /// Bytes, in the mean.
    pub(super) size: usize,
    /// How many values were seen.
    pub(super) values: u32,
}

/// How much of the topics of a shape a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    None,
    /// Some, perhaps.
    Part,
    All,
}

/// The shapes of these topics, and for each topic which it has.
pub(super) fn shapes_of(topics: &[&str]) -> (Vec<Shape>, Vec<usize>) {
    let split: Vec<Vec<&str>> = topics
        .iter()
        .map(|topic| topic.split('/').collect())
        .collect();
    let mut by_depth: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, levels) in split.iter().enumerate() {
        by_depth.entry(levels.len()).or_default().push(at);
    }
    let mut found = Found {
        split: &split,
        shapes: Vec::new(),
        of: vec![0; topics.len()],
    };
    for members in by_depth.values() {
        found.divide(members, Vec::new());
    }
    (found.shapes, found.of)
}

struct Found<'a> {
    split: &'a [Vec<&'a str>],
    shapes: Vec<Shape>,
    of: Vec<usize>,
}

impl Found<'_> {
    /// Divides topics of one depth by their next level, if there are few values of it.
    fn divide(&mut self, members: &[usize], levels: Vec<Level>) {
        let depth = levels.len();
        if depth == self.split[members[0]].len() {
            for member in members {
                self.of[*member] = self.shapes.len();
            }
            self.shapes.push(Shape { levels });
            return;
        }
        let mut by_text: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for member in members {
            let text = self.split[*member][depth];
            by_text.entry(text).or_default().push(*member);
        }
        let with = |level: Level| [levels.clone(), vec![level]].concat();
        if by_text.len() > SAME_MAX {
            let sizes = members
                .iter()
                .map(|member| self.split[*member][depth].len());
            let size = sizes.sum::<usize>().div_ceil(members.len());
            let level = Level {
                text: None,
                size,
                values: by_text.len() as u32,
            };
            return self.divide(members, with(level));
        }
        for (text, members) in by_text {
            let level = Level {
                text: Some(text.to_owned()),
                size: text.len(),
                values: 1,
            };
            self.divide(&members, with(level));
        }
    }
}

impl Shape {
    /// What a filter, without a share name, matches of such topics.
    pub(super) fn cover(&self, filter: &str) -> Cover {
        let mut levels = self.levels.iter();
        let mut cover = Cover::All;
        for part in filter.split('/') {
            if part == "#" {
                return cover;
            }
            let Some(level) = levels.next() else {
                return Cover::None;
            };
            match (&level.text, part) {
                (_, "+") => {}
                (Some(text), part) if text == part => {}
                (Some(_), _) => return Cover::None,
                (None, _) => cover = Cover::Part,
            }
        }
        match levels.next() {
            None => cover,
            Some(_) => Cover::None,
        }
    }

    /// Levels that differ.
    #[cfg(test)]
    fn shown(&self) -> String {
        let levels = self.levels.iter();
        let levels = levels.map(|level| level.text.as_deref().unwrap_or("+"));
        levels.collect::<Vec<_>>().join("/")
    }
}

/// How much of some topics a filter matches, 0 to 1; nothing of what is no filter.
pub(super) fn matched_share(filter: &str, topics: &BTreeSet<String>) -> f64 {
    let Ok(filter) = TopicFilter::parse(filter, &TOPIC_LIMITS) else {
        return 0.0;
    };
    let matches = |topic: &&String| filter.matches(topic.as_bytes());
    let count = topics.iter().filter(matches).count();
    count as f64 / topics.len().max(1) as f64
}

/// With more values a level differs.
const SAME_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_with_many_values_differ() {
        let mut topics: Vec<String> = Vec::new();
        for number in 0..40 {
            topics.push(format!("telemetry/{}/{number}", number % 10));
            topics.push(format!("command/{number}"));
        }
        topics.extend([
            "alarm".to_owned(),
            "site/a/x".to_owned(),
            "site/b/x".to_owned(),
        ]);
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let (shapes, of) = shapes_of(&topics);
        let shown: Vec<String> = shapes.iter().map(Shape::shown).collect();
        let expected = [
            "alarm",
            "command/+",
            "site/a/x",
            "site/b/x",
            "telemetry/+/+",
        ];
        assert_eq!(shown, expected);
        assert_eq!((of[0], of[1], of[80]), (4, 1, 0));
        let values: Vec<u32> = shapes[4].levels.iter().map(|level| level.values).collect();
        assert_eq!((values, shapes[4].levels[2].size), (vec![1, 10, 40], 2));
        for (filter, shape, expected) in [
            ("#", 4, Cover::All),
            ("telemetry/#", 4, Cover::All),
            ("telemetry/+/+", 4, Cover::All),
            ("telemetry/3/+", 4, Cover::Part),
            ("telemetry/+", 4, Cover::None),
            ("telemetry/+/+/+", 4, Cover::None),
            ("command/7", 1, Cover::Part),
            ("command/7", 4, Cover::None),
            ("alarm", 0, Cover::All),
            ("alarm/#", 0, Cover::All),
        ] {
            assert_eq!(shapes[shape].cover(filter), expected, "{filter}");
        }
        let seen = ["a/1", "a/2", "a/b/c", "x"].map(str::to_owned).into();
        for (filter, expected) in [("a/+", 0.5), ("a/1", 0.25), ("#", 1.0), ("a/#", 0.75)] {
            assert_eq!(matched_share(filter, &seen), expected, "{filter}");
        }
    }
}
