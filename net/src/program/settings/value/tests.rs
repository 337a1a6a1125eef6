//! Values as users write them, and what is said of those that are wrong.

use super::*;

const SIZE: Kind = Kind::Size(Range {
    min: 1,
    max: 1 << 40,
});
const COUNT: Kind = Kind::Count(Range { min: 1, max: 100 });
const POWER: Kind = Kind::PowerOfTwo(Range { min: 16, max: 256 });
const SECONDS: Kind = Kind::Seconds(Range {
    min: 0,
    max: 30 * 86_400,
});
const MILLIS: Kind = Kind::Millis(Range {
    min: 100,
    max: 60_000,
});

#[test]
fn numbers_with_units_are_read() {
    for (kind, text, expected) in [
        (SIZE, "512", 512),
        (SIZE, "1_000", 1000),
        (SIZE, "64KiB", 65_536),
        (SIZE, "64 kib", 65_536),
        (SIZE, "1TiB", 1 << 40),
        (COUNT, "100", 100),
        (SECONDS, "90", 90),
        (SECONDS, "7d", 7 * 86_400),
        (SECONDS, "2000ms", 2),
        (MILLIS, "250ms", 250),
        (MILLIS, "1m", 60_000),
        (MILLIS, "10", 10_000),
    ] {
        assert_eq!(kind.parse(text), Ok(Value::Number(expected)), "{text}");
    }
}

#[test]
fn what_is_shown_reads_back() {
    for (kind, number, shown) in [
        (SIZE, 65_536, "64KiB"),
        (SIZE, 1000, "1000"),
        (SIZE, 1 << 30, "1GiB"),
        (SECONDS, 7 * 86_400, "7d"),
        (SECONDS, 90, "90s"),
        (SECONDS, 0, "0"),
        (MILLIS, 1500, "1500ms"),
        (MILLIS, 10_000, "10s"),
        (COUNT, 7, "7"),
    ] {
        let value = Value::Number(number);
        assert_eq!(kind.show(&value), shown);
        assert_eq!(kind.parse(shown), Ok(value));
    }
}

#[test]
fn a_wrong_value_is_named_with_its_fix() {
    for (kind, text, what, fix) in [
        (
            SIZE,
            "64KB",
            "is `64KB`, whose unit `KB` is not known",
            "did you mean 64KiB?",
        ),
        (
            SIZE,
            "64parsec",
            "is `64parsec`, whose unit `parsec` is not known",
            "use one of B, KiB, MiB, GiB, TiB",
        ),
        (
            SIZE,
            "0",
            "is 0, which is out of range",
            "write a value from 1 to 1TiB",
        ),
        (
            SIZE,
            "99999999TiB",
            "is 99999999TiB, which is out of range",
            "write a value from 1 to 1TiB",
        ),
        (
            SIZE,
            "99999999999999999999999",
            "is 99999999999999999999999, which is out of range",
            "write a value from 1 to 1TiB",
        ),
        (
            SIZE,
            "big",
            "is `big`, which is not a size",
            "write a number of bytes or a size such as \"64KiB\", from 1 to 1TiB",
        ),
        (
            SIZE,
            "-1",
            "is `-1`, which is not a size",
            "write a number of bytes or a size such as \"64KiB\", from 1 to 1TiB",
        ),
        (
            COUNT,
            "1.5",
            "is `1.5`, which is not a whole number",
            "write a number from 1 to 100",
        ),
        (
            COUNT,
            "",
            "is ``, which is not a whole number",
            "write a number from 1 to 100",
        ),
        (
            SECONDS,
            "1500ms",
            "is `1500ms`, which is not a whole number of seconds",
            "write a number of seconds or a time such as \"10s\" or \"7d\", from 0 to 30d",
        ),
        (
            SECONDS,
            "5min",
            "is `5min`, whose unit `min` is not known",
            "did you mean 5m?",
        ),
        (
            MILLIS,
            "2m",
            "is 2m, which is out of range",
            "write a value from 100ms to 1m",
        ),
        (
            POWER,
            "100",
            "is 100, which is not a power of two",
            "did you mean 128?",
        ),
        (
            POWER,
            "512",
            "is 512, which is out of range",
            "write a value from 16 to 256",
        ),
        (
            POWER,
            "x",
            "is `x`, which is not a whole number",
            "write a power of two from 16 to 256",
        ),
        (
            Kind::Switch,
            "yes",
            "is `yes`, which is neither true nor false",
            "write true or false",
        ),
        (
            Kind::Choice(&["text", "json"]),
            "xml",
            "is `xml`, which is not an allowed value",
            "write text or json",
        ),
        (
            Kind::Cores,
            "0-",
            "holds `0-`, which is neither a core nor a range of cores",
            "write a list such as \"0-3,6\", or none",
        ),
        (
            Kind::Cores,
            "3-1",
            "holds `3-1`, which is not a range within 0-1023",
            "write a list such as \"0-3,6\", or none",
        ),
        (
            Kind::Cores,
            "0-2,1",
            "names core 1 twice",
            "name each core once",
        ),
        (
            Kind::LogFilter,
            "inof",
            "holds `inof`, which is not a log level",
            "did you mean `info`?",
        ),
        (
            Kind::LogFilter,
            "ringmq=loud",
            "holds `ringmq=loud`, which is not a log level",
            "use off, error, warn, info, debug, trace, or MODULE=LEVEL",
        ),
        (
            Kind::LogFilter,
            "info,rinqmq::probe=debug",
            "holds `rinqmq::probe=debug`, whose module logs nothing",
            "name a module of ringmq, such as ringmq::probe=debug",
        ),
    ] {
        assert_eq!(kind.parse(text), Err(Complaint::new(what, fix)), "{text}");
    }
}

#[test]
fn an_address_that_is_almost_right_is_put_right() {
    for (text, fix) in [
        ("127.0.0.1", "did you mean 127.0.0.1:1883?"),
        ("::1", "did you mean [::1]:1883?"),
        (
            "1883",
            "did you mean 127.0.0.1:1883 (this machine only) or 0.0.0.0:1883 (every interface)?",
        ),
        (
            ":1884",
            "did you mean 127.0.0.1:1884 (this machine only) or 0.0.0.0:1884 (every interface)?",
        ),
        (
            "localhost:1883",
            "did you mean 127.0.0.1:1883? Host names are not resolved",
        ),
        (
            "broker.example:1883",
            "write an address such as \"127.0.0.1:1883\"; host names are not resolved",
        ),
        (
            "127.0.0.1:70000",
            "write an address such as \"127.0.0.1:1883\"",
        ),
    ] {
        let complaint = Kind::Addresses.parse(text).unwrap_err();
        assert_eq!(complaint.fix, fix, "{text}");
    }
}

#[test]
fn cores_are_numbers_and_ranges() {
    for (text, expected) in [
        ("0", vec![0]),
        ("0-3,6", vec![0, 1, 2, 3, 6]),
        (" 4 , 2-3 ", vec![4, 2, 3]),
        ("none", vec![]),
    ] {
        assert_eq!(Kind::Cores.parse(text), Ok(Value::Cores(expected)));
    }
}
