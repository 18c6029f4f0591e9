//! Words to values and back: sizes, durations, switches. What is printed reads back as itself.

use std::time::Duration;

/// Largest first within each system, so that printing finds the shortest exact form.
const BINARY: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
const DECIMAL: [(&str, u64); 4] =
    [("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1_000), ("B", 1)];

/// Reads `16MiB`, `500kB`, `64 KiB` or a plain number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is not a size (as in \"16MiB\", \"500kB\" or 1048576)");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().or(Err(expected()))?;
    let factor = match unit.trim_start() {
        // `1 ` and `1` alike have no unit, but a blank that ends the text is a slip.
        "" if unit.is_empty() => 1,
        unit => {
            let known = BINARY.iter().chain(&DECIMAL).find(|(name, _)| *name == unit);
            known.ok_or_else(expected)?.1
        }
    };
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too large"))
}

/// The shortest exact form in binary units: `16MiB`, `1000B`.
pub(super) fn print_size(bytes: u64) -> String {
    let (unit, factor) = BINARY
        .into_iter()
        .find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads `600ms`, `3s`, `1m 30s`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    // The crate takes a bare 0 too; a number without a unit is a slip whatever the number.
    let bare = text.chars().all(|c| c.is_ascii_digit());
    humantime::parse_duration(text).ok().filter(|_| !bare).ok_or_else(|| {
        format!("{text:?} is not a duration (as in \"600ms\", \"3s\" or \"1m 30s\")")
    })
}

/// In the largest single unit that is exact, seconds at most: `600ms`, `90s`.
pub(super) fn print_duration(duration: Duration) -> String {
    const UNITS: [(&str, u128); 4] =
        [("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000), ("ns", 1)];
    let nanos = duration.as_nanos();
    let (unit, factor) =
        UNITS.into_iter().find(|(_, factor)| nanos.is_multiple_of(*factor)).unwrap_or(("ns", 1));
    format!("{}{unit}", nanos / factor)
}

/// Reads `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().or(Err(format!("{text:?} is neither true nor false")))
}

/// Reads a whole number; underscores as TOML has them.
pub(super) fn number(text: &str) -> Result<u64, String> {
    text.replace('_', "")
        .parse()
        .ok()
        .filter(|_| text.starts_with(|c: char| c.is_ascii_digit()))
        .ok_or_else(|| format!("{text:?} is not a whole number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1024", 1024),
            ("16MiB", 16 << 20),
            ("64 KiB", 64 << 10),
            ("2GiB", 2 << 30),
            ("500kB", 500_000),
            ("1MB", 1_000_000),
            ("3GB", 3_000_000_000),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "MiB", "16mib", "16M", "1.5MiB", "-1", "16MiB ", "1 ", "0x10", "99999999999GiB"]
        {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("600ms"), Ok(Duration::from_millis(600)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "600", "0", "1 parsec", "-1s"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_and_switches() {
        assert_eq!(number("24_000_000"), Ok(24_000_000));
        assert_eq!(switch("true"), Ok(true));
        for bad in ["", "+1", "-1", "1.0", "many", "_1"] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
        assert!(switch("yes").is_err());
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(bytes in 0_u64.., millis in 0_u64..1 << 40) {
            assert_eq!(size(&print_size(bytes)), Ok(bytes));
            let span = Duration::from_millis(millis);
            assert_eq!(duration(&print_duration(span)), Ok(span));
        }
    }
}
