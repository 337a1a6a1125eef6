//! The settings of what outlives the process.

use std::path::PathBuf;

use super::value::{Kind, Value};
use super::{Setting, Settings};

/// The rows of `[store]`.
pub const ROWS: &[Setting] = &[Setting {
    section: "store",
    key: "data_dir",
    flag: "data-dir",
    kind: Kind::Directory,
    auto: None,
    help: "Directory for sessions, their messages, and retained messages, which then survive crashes \
           and power failures: acknowledgements are sent once what they promise is on disk. It is made \
           if it does not exist. Empty: nothing outlives the process.",
    get: |settings| {
        let path = settings.data_dir.as_ref();
        Value::Text(path.map_or_else(String::new, |path| path.display().to_string()))
    },
    set: set_data_dir,
}];

fn set_data_dir(settings: &mut Settings, value: Value) {
    let text = value.text();
    settings.data_dir = (!text.is_empty()).then(|| PathBuf::from(text));
}
