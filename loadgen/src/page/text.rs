//! Numbers as people read them: three significant digits, and a unit.

/// `784 k/s`.
pub(super) fn rate(per_s: f64) -> String {
    format!("{}/s", scaled(per_s))
}

/// `1.24 ms`.
pub(super) fn micros(us: f64) -> String {
    match us {
        us if us < 999.5 => format!("{} µs", digits(us)),
        us if us < 999_500.0 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// `128 ns`, `1.13 µs`.
pub(super) fn nanos(ns: f64) -> String {
    match ns {
        ns if ns < 999.5 => format!("{} ns", digits(ns)),
        ns => micros(ns / 1e3),
    }
}

/// `0.62 KiB`.
pub(super) fn bytes(size: f64) -> String {
    match size {
        size if size < 512.0 => format!("{} B", digits(size)),
        size if size < 1024.0 * 1024.0 => format!("{} KiB", digits(size / 1024.0)),
        size if size < 1024.0 * 1024.0 * 1024.0 => {
            format!("{} MiB", digits(size / (1024.0 * 1024.0)))
        }
        size => format!("{} GiB", digits(size / (1024.0 * 1024.0 * 1024.0))),
    }
}

/// A foreign text in a sentence: its effect on the writing direction ends with it.
pub(super) fn isolated(text: &str) -> String {
    format!("\u{2068}{text}\u{2069}")
}

/// `12,345`.
pub(super) fn count(number: u64) -> String {
    let plain = number.to_string();
    let mut text = String::new();
    for (index, digit) in plain.chars().enumerate() {
        if index > 0 && (plain.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `41 %`.
pub(super) fn share(share: f64) -> String {
    format!("{} %", digits(share * 100.0))
}

/// `5.2 s`, `2 min`.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 120.0 => format!("{} s", digits(s)),
        s => format!("{} min", digits(s / 60.0)),
    }
}

/// `7.39 M`, `784 k`, `12.5`.
pub(super) fn scaled(number: f64) -> String {
    match number.abs() {
        size if size < 999.5 => digits(number),
        size if size < 999_500.0 => format!("{} k", digits(number / 1e3)),
        size if size < 999_500_000.0 => format!("{} M", digits(number / 1e6)),
        _ => format!("{} G", digits(number / 1e9)),
    }
}

/// Three significant digits; no zeros behind the point.
pub(super) fn digits(number: f64) -> String {
    let decimals = match number.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A Unix time as `2026-11-25 10:07 UTC`.
pub(super) fn date(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (year, month, day) = civil(minutes / 1440);
    let (hour, minute) = (minutes / 60 % 24, minutes % 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The date of a day since 1970-01-01: years are counted from March, so that the leap day is the
/// last one, in eras of 400 years, which all have the same days.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // 0000-03-01 is day 0.
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_a_unit() {
        for (text, expected) in [
            (rate(0.0), "0/s"),
            (rate(12.5), "12.5/s"),
            (rate(784_872.0), "785 k/s"),
            (rate(7_392_898.0), "7.39 M/s"),
            (rate(999_600.0), "1 M/s"),
            (micros(85.0), "85 µs"),
            (micros(999.9), "1 ms"),
            (micros(1_240.0), "1.24 ms"),
            (micros(60_000_000.0), "60 s"),
            (nanos(127.4), "127 ns"),
            (nanos(1_129.0), "1.13 µs"),
            (bytes(635.0), "0.62 KiB"),
            (bytes(11.0 * 1024.0 * 1024.0), "11 MiB"),
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (share(0.4127), "41.3 %"),
            (seconds(5.0), "5 s"),
            (seconds(1800.0), "30 min"),
            (digits(0.004), "0"),
        ] {
            assert_eq!(text, expected);
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        for (unix_s, expected) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_798_761_599, "2026-12-31 23:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(unix_s * 1000), expected);
        }
    }
}
