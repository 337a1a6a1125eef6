//! Units of sizes and times.

/// A unit, as it stands behind a number.
#[derive(Debug)]
pub(super) struct Unit {
    /// Its name.
    pub name: &'static str,
    /// How many of the smallest unit it is.
    pub factor: u64,
    /// What people write who mean this unit, in lower case.
    pub lookalikes: &'static [&'static str],
}

/// A number in the largest unit that divides it.
pub(super) fn show_units(number: u64, units: &[Unit]) -> String {
    let fits = |unit: &&Unit| number.is_multiple_of(unit.factor);
    match units.iter().rev().find(fits) {
        Some(unit) if number > 0 && unit.factor > 1 => {
            format!("{}{}", number / unit.factor, unit.name)
        }
        Some(unit) if number > 0 && unit.name == "ms" => format!("{number}ms"),
        Some(_) | None => number.to_string(),
    }
}

const fn unit(name: &'static str, factor: u64, lookalikes: &'static [&'static str]) -> Unit {
    Unit {
        name,
        factor,
        lookalikes,
    }
}

/// Powers of 1024 only: `KB` means 1000 to some and 1024 to others.
pub(super) const SIZE_UNITS: &[Unit] = &[
    unit("B", 1, &["byte", "bytes"]),
    unit("KiB", 1 << 10, &["k", "kb", "ki"]),
    unit("MiB", 1 << 20, &["m", "mb", "mi"]),
    unit("GiB", 1 << 30, &["g", "gb", "gi"]),
    unit("TiB", 1 << 40, &["t", "tb", "ti"]),
];

/// In milliseconds.
pub(super) const TIME_UNITS: &[Unit] = &[
    unit("ms", 1, &["msec", "millis", "milliseconds"]),
    unit("s", 1000, &["sec", "secs", "second", "seconds"]),
    unit("m", 60 * 1000, &["min", "mins", "minute", "minutes"]),
    unit("h", 3600 * 1000, &["hour", "hours", "hr"]),
    unit("d", 24 * 3600 * 1000, &["day", "days"]),
];
