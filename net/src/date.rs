//! Dates for people.

use std::time::Duration;

use x509_cert::der::DateTime;

/// A time since 1970, as `2026-11-30T12:00:00Z`.
pub(crate) fn date(since_1970: Duration) -> String {
    match DateTime::from_unix_duration(since_1970) {
        Ok(date) => date.to_string(),
        Err(_) => format!("{} s after 1970", since_1970.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }
}
