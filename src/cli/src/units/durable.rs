//! The values of the flags of durable sockets.

use std::time::Duration;

use ginnel::Sync;

use super::{ByteString, duration, parse_rfc3339};
use crate::args::Moment;

/// `--declare NAME[=PREFIX,…]`: a durable name and what is kept for it; no prefix is everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declaration {
    pub(crate) name: String,
    pub(crate) prefixes: Vec<ByteString>,
}

/// `NAME` or `NAME=PREFIX[,PREFIX…]`.
pub(crate) fn declaration(text: &str) -> Result<Declaration, String> {
    let (name, prefixes) = match text.split_once('=') {
        None => (text, Vec::new()),
        Some((name, list)) => (name, list.split(',').map(|prefix| ByteString(prefix.into())).collect()),
    };
    if !is_durable_name(name) {
        return Err("a name has 1 to 64 printable ASCII characters, no space; write NAME or NAME=PREFIX,…".to_owned());
    }
    Ok(Declaration { name: name.to_owned(), prefixes })
}

fn is_durable_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `batch`, `never` or a duration.
pub(crate) fn sync(text: &str) -> Result<Sync, String> {
    match text {
        "batch" => Ok(Sync::Batch),
        "never" => Ok(Sync::Never),
        _ => match duration(text) {
            Ok(period) if !period.is_zero() => Ok(Sync::Every(period)),
            _ => Err("write batch, never, or the time between two syncs such as 100ms".to_owned()),
        },
    }
}

/// `oldest`, a record's number, or a time.
pub(crate) fn moment(text: &str) -> Result<Moment, String> {
    if text == "oldest" { Ok(Moment::Oldest) } else { end_moment(text).map_err(|why| format!("{why}, or oldest")) }
}

/// A record's number, or a time.
pub(crate) fn end_moment(text: &str) -> Result<Moment, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(Moment::Sequence).map_err(|_| "no record has such a number".to_owned());
    }
    parse_rfc3339(text).map(Moment::Time).map_err(|why| format!("write a record's number; or {why}"))
}

/// A positive number, such as 0.5 or 10.
pub(crate) fn factor(text: &str) -> Result<f64, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let value = text.parse().ok().filter(|value: &f64| plain && *value > 0.0 && value.is_finite());
    value.ok_or_else(|| "write a number above zero, such as 0.5 or 10".to_owned())
}

/// Milliseconds since 1970 as a span.
pub(crate) fn from_millis(ms: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(ms / 1e3).ok().filter(|time| time.as_secs() < u64::from(u32::MAX) * 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_documented() {
        assert_eq!(sync("batch"), Ok(Sync::Batch));
        assert_eq!(sync("never"), Ok(Sync::Never));
        assert_eq!(sync("100ms"), Ok(Sync::Every(Duration::from_millis(100))));
        assert!(sync("0").is_err() && sync("always").is_err());
        let audit = declaration("audit").expect("a name");
        assert_eq!((audit.name.as_str(), audit.prefixes.len()), ("audit", 0));
        let billing = declaration("billing=orders.,refunds=").expect("a name");
        assert_eq!(billing.name, "billing");
        assert_eq!(billing.prefixes, [ByteString(b"orders.".to_vec()), ByteString(b"refunds=".to_vec())]);
        assert!(declaration("").is_err() && declaration("=x").is_err() && declaration("a b").is_err());
        assert_eq!(moment("oldest"), Ok(Moment::Oldest));
        assert_eq!(moment("17"), Ok(Moment::Sequence(17)));
        assert_eq!(end_moment("1970-01-01T00:00:01Z"), Ok(Moment::Time(Duration::from_secs(1))));
        assert!(end_moment("oldest").is_err() && moment("yesterday").is_err() && moment("").is_err());
        assert_eq!(factor("0.5"), Ok(0.5));
        assert!(factor("0").is_err() && factor("-1").is_err() && factor("inf").is_err() && factor("").is_err());
        assert_eq!(from_millis(1500.0), Some(Duration::from_millis(1500)));
        assert!(from_millis(-1.0).is_none() && from_millis(1e300).is_none());
    }
}
