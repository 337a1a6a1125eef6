//! The settings in force, as the control plane shows them.

use ringmq::admin::SettingShown;
use ringmq_problem::secret::hide_in_url;

use super::{Settings, TABLE};

/// Every setting with its value.
pub fn shown(settings: &Settings) -> Vec<SettingShown> {
    let row = |row: &super::Setting| {
        let value = row.show(&(row.get)(settings));
        SettingShown {
            section: row.section,
            key: row.key,
            // What a service wants to be told in its URL may be a secret. All others are in files.
            value: match row.key.ends_with("url") {
                true => without_secrets(&value),
                false => value,
            },
            default: row.show(&row.default_value()),
            needs_restart: row.needs_restart(),
            help: row.help,
        }
    };
    TABLE.iter().map(row).collect()
}

fn without_secrets(urls: &str) -> String {
    let shown: Vec<String> = urls.split(", ").map(hide_in_url).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_shown_without_what_may_be_secret() {
        let mut settings = Settings::default();
        settings.auth.hooks.authentication_url = "https://a.example/x?key=1234".to_owned();
        settings.auth.jwt.jwks_urls = vec!["https://b.example/?t=1234".to_owned()];
        settings.limits.topic_levels_max = 7;
        let shown = shown(&settings);
        assert_eq!(shown.len(), TABLE.len());
        let value = |section: &str, key: &str| {
            let mut rows = shown.iter();
            let row = rows.find(|row| (row.section, row.key) == (section, key));
            row.map(|row| (&*row.value, &*row.default)).unwrap()
        };
        assert_eq!(value("limits", "topic_levels_max"), ("7", "128"));
        assert_eq!(value("jwt", "jwks_url").0, "https://b.example/?***");
        let url = value("hooks", "authentication_url").0;
        assert_eq!(url, "https://a.example/x?***");
        assert!(shown.iter().all(|row| !row.value.contains("1234")));
        assert_eq!(
            without_secrets("http://a/?x, http://b/"),
            "http://a/?***, http://b/"
        );
    }
}
