//! Points in time as RFC 3339 text, both ways. Times before 1970 are none.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `2026-01-31T12:00:00.000000Z` for a time since 1970.
pub(crate) fn rfc3339(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        since_epoch.subsec_micros()
    )
}

/// The Gregorian date of a day counted from 1970-01-01, by counting 400-year eras from a March.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The way back.
fn days_from_civil(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year).checked_sub(719_468)
}

/// The wall clock as text.
pub(crate) fn now_rfc3339() -> String {
    rfc3339(since_epoch(SystemTime::now()))
}

/// A time as a span since 1970; zero if it is before.
pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

const TIME_HELP: &str = "write a time such as 2026-01-31T12:00:00Z";

/// `2026-01-31T12:00:00[.5](Z|+01:00)` as a span since 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Result<Duration, String> {
    parse(text).ok_or_else(|| TIME_HELP.to_owned())
}

fn parse(text: &str) -> Option<Duration> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = bytes.get(from..to)?;
        let all_digits = digits.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(digits).ok().filter(|_| all_digits)?.parse().ok()
    };
    let is = |at: usize, set: &[u8]| bytes.get(at).is_some_and(|byte| set.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // A leap second is the one after it.
    if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_from_civil(year, month, day)?;
    if civil_from_days(days) != (year, month, day) {
        return None;
    }
    let (nanos, zone) = fraction(bytes.get(19..)?)?;
    let local = days * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = i64::try_from(local).ok()?.checked_sub(zone)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// The part behind the seconds: nanoseconds, and the zone's distance in seconds.
fn fraction(rest: &[u8]) -> Option<(u32, i64)> {
    let Some(digits) = rest.strip_prefix(b".") else { return Some((0, zone(rest)?)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 {
        return None;
    }
    let nanos = (0..9).fold(0, |sum, place| {
        let digit = digits.get(place).filter(|_| place < count).map_or(0, |digit| u32::from(digit - b'0'));
        sum * 10 + digit
    });
    Some((nanos, zone(digits.get(count..)?)?))
}

fn zone(text: &[u8]) -> Option<i64> {
    match text {
        b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let digit = |byte: &u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
            let (hours, minutes) = (digit(h1)? * 10 + digit(h2)?, digit(m1)? * 10 + digit(m2)?);
            let seconds = hours * 3600 + minutes * 60;
            (hours < 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_rfc3339() {
        assert_eq!(rfc3339(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
        assert_eq!(rfc3339(Duration::from_micros(951_782_400_000_001)), "2000-02-29T00:00:00.000001Z");
        assert_eq!(rfc3339(Duration::from_secs(1_798_761_599)), "2026-12-31T23:59:59.000000Z");
        assert_eq!(rfc3339(Duration::from_secs(4_107_542_400)), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn every_time_is_read_back() {
        fn prop(seconds: u32, micros: u32) -> bool {
            let time = Duration::from_secs(u64::from(seconds)) + Duration::from_micros(u64::from(micros % 1_000_000));
            parse_rfc3339(&rfc3339(time)) == Ok(time)
        }
        quickcheck::QuickCheck::new().tests(2000).quickcheck(prop as fn(u32, u32) -> bool);
    }

    #[test]
    fn zones_and_fractions() {
        let noon = Duration::from_secs(1_798_761_599);
        assert_eq!(parse_rfc3339("2026-12-31T23:59:59Z"), Ok(noon));
        assert_eq!(parse_rfc3339("2027-01-01 01:29:59.5+01:30"), Ok(noon + Duration::from_millis(500)));
        assert_eq!(parse_rfc3339("2026-12-31t18:59:59.000000001-05:00"), Ok(noon + Duration::from_nanos(1)));
        for wrong in [
            "",
            "2026-12-31",
            "2026-12-31T23:59:59",
            "2026-12-31T23:59:59.Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "2026-12-31T23:59:59+1:00",
            "2026-12-31T23:59:59Zx",
            "２026-12-31T23:59:59Z",
            "+026-12-31T23:59:59Z",
        ] {
            assert!(parse_rfc3339(wrong).is_err(), "{wrong}");
        }
    }
}
