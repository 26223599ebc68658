//! Text to values: durations, sizes, reconnect and heartbeat times, identities.
//!
//! Plain functions for clap and for the configuration of `drive`. Every error says what to write instead.

mod durable;
mod time;

use std::time::Duration;

pub(crate) use durable::{Declaration, declaration, end_moment, factor, from_millis, moment, sync};
pub(crate) use time::{now_rfc3339, parse_rfc3339, rfc3339, since_epoch};

/// A duration flag where `inf` is legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    For(Duration),
    Forever,
}

impl Wait {
    pub(crate) fn limit(self) -> Option<Duration> {
        match self {
            Wait::For(duration) => Some(duration),
            Wait::Forever => None,
        }
    }
}

/// Bytes given as text: an identity or a hex prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ByteString(pub(crate) Vec<u8>);

/// `--reconnect MIN[..MAX]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

/// `--heartbeat IVL[,TIMEOUT]`; interval zero is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

const DURATION_HELP: &str = "write 250ms, 5s, 2m or 1h; a bare number is seconds";

/// The longest accepted time, about 136 years: sums with the clock stay far from overflow.
const MAX_SECONDS: f64 = u32::MAX as f64;

/// `250ms`, `5s`, `2m`, `1h`; a bare number is seconds and may have a fraction.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds_per_unit) = split_duration(text);
    let digits = number.bytes().all(|b| b.is_ascii_digit() || b == b'.') && number.bytes().any(|b| b.is_ascii_digit());
    let value: f64 = number.parse().ok().filter(|_| digits).ok_or_else(|| DURATION_HELP.to_owned())?;
    let seconds = value * seconds_per_unit;
    if seconds > MAX_SECONDS {
        return Err("too long: at most 4294967295 seconds".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| DURATION_HELP.to_owned())
}

fn split_duration(text: &str) -> (&str, f64) {
    const UNITS: [(&str, f64); 6] = [("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    UNITS
        .iter()
        .find_map(|&(unit, seconds)| text.strip_suffix(unit).map(|number| (number, seconds)))
        .unwrap_or((text, 1.0))
}

/// A duration, or `inf`.
pub(crate) fn wait(text: &str) -> Result<Wait, String> {
    if text == "inf" {
        return Ok(Wait::Forever);
    }
    duration(text).map(Wait::For).map_err(|why| format!("{why}; inf waits for ever"))
}

/// `64`, `10k`, `4M`, `1G` (powers of 1000), `Ki`, `Mi`, `Gi` (powers of 1024).
pub(crate) fn size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a number of bytes, or 10k, 4M, 1G (powers of 1000), 64Ki, 64Mi, 1Gi (powers of 1024)";
    const UNITS: [(&str, u64); 6] =
        [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
    let (number, factor) = UNITS
        .iter()
        .find_map(|&(unit, factor)| text.strip_suffix(unit).map(|number| (number, factor)))
        .unwrap_or((text, 1));
    if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HELP.to_owned());
    }
    let number: u64 = number.parse().map_err(|_| HELP.to_owned())?;
    number.checked_mul(factor).ok_or_else(|| "too large".to_owned())
}

/// `MIN[..MAX]`; without MAX every wait is MIN.
pub(crate) fn backoff(text: &str) -> Result<Backoff, String> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let (min, max) = (duration(min)?, duration(max)?);
    if max < min {
        return Err("MAX is smaller than MIN; write MIN..MAX, such as 100ms..30s".to_owned());
    }
    Ok(Backoff { min, max })
}

/// `IVL[,TIMEOUT]`; without TIMEOUT three intervals.
pub(crate) fn heartbeat(text: &str) -> Result<Heartbeat, String> {
    let (interval, timeout) = match text.split_once(',') {
        Some((interval, timeout)) => (duration(interval)?, Some(duration(timeout)?)),
        None => (duration(text)?, None),
    };
    Ok(Heartbeat { interval, timeout: timeout.unwrap_or(interval.saturating_mul(3)) })
}

/// `STR` or `0xHEX`, 1 to 255 bytes.
pub(crate) fn identity(text: &str) -> Result<ByteString, String> {
    let bytes = match text.strip_prefix("0x") {
        Some(digits) => hex(digits)?,
        None => text.as_bytes().to_vec(),
    };
    if bytes.is_empty() || bytes.len() > 255 {
        return Err("an identity has 1 to 255 bytes; write text or 0x followed by hex digits".to_owned());
    }
    Ok(ByteString(bytes))
}

/// A prefix in hex.
pub(crate) fn hex_bytes(text: &str) -> Result<ByteString, String> {
    hex(text).map(ByteString)
}

/// Pairs of hex digits, any case.
pub(crate) fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.ok_or_else(|| "not a hex digit; write pairs of 0-9 a-f".to_owned())?;
    if digits.len() % 2 != 0 {
        return Err("an odd number of hex digits; write two for each byte".to_owned());
    }
    Ok(digits.chunks_exact(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// Lower-case hex of `bytes`.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    let mut text = Vec::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text.into_iter().map(char::from).collect()
}

/// Appends lower-case hex of `bytes`.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(bytes.iter().flat_map(|&b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_documented() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(wait("inf"), Ok(Wait::Forever));
        assert_eq!(wait("1"), Ok(Wait::For(Duration::from_secs(1))));
        for wrong in ["", "s", "-1", "1x", "inf", "nan", "1e3", ".", "1..2", "99999999999h", "+1"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_as_documented() {
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("10k"), Ok(10_000));
        assert_eq!(size("4M"), Ok(4_000_000));
        assert_eq!(size("1G"), Ok(1_000_000_000));
        assert_eq!(size("64Ki"), Ok(65_536));
        assert_eq!(size("64Mi"), Ok(1 << 26));
        assert_eq!(size("1Gi"), Ok(1 << 30));
        for wrong in ["", "k", "-1", "1.5k", "1kb", "0x10", "18446744073709551616", "18446744073709551615G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn backoff_and_heartbeat() {
        let ms = Duration::from_millis;
        assert_eq!(backoff("100ms..30s"), Ok(Backoff { min: ms(100), max: ms(30_000) }));
        assert_eq!(backoff("1s"), Ok(Backoff { min: ms(1000), max: ms(1000) }));
        assert!(backoff("2s..1s").is_err());
        assert_eq!(heartbeat("15s,45s"), Ok(Heartbeat { interval: ms(15_000), timeout: ms(45_000) }));
        assert_eq!(heartbeat("0"), Ok(Heartbeat { interval: ms(0), timeout: ms(0) }));
        assert_eq!(heartbeat("1"), Ok(Heartbeat { interval: ms(1000), timeout: ms(3000) }));
    }

    #[test]
    fn identities() {
        assert_eq!(identity("abc"), Ok(ByteString(b"abc".to_vec())));
        assert_eq!(identity("0x00fF"), Ok(ByteString(vec![0, 255])));
        assert!(identity("").is_err());
        assert!(identity("0x").is_err());
        assert!(identity("0xabc").is_err());
        assert!(identity(&"x".repeat(256)).is_err());
    }
}
