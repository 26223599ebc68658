//! The first 64 bytes each way (RFC 37, "Greeting"): written at once, read as far as they have come.
//!
//! A verdict falls at the first byte that decides it, so a port scanner is refused without waiting. Which
//! bytes are sent when is decided in `session`. ZMTP 1.0 is recognised only to be refused.

use super::Version;
use crate::event::Reason;

/// Bytes of a whole greeting.
pub(crate) const LEN: usize = 64;
/// Bytes before the version: all that a peer which may turn out to speak 2.0 must see first.
pub(crate) const SIGNATURE: usize = 10;
/// Bytes of the NUL-padded mechanism name.
const MECHANISM: usize = 20;

/// What the peer's greeting says so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is wrong yet; more bytes are needed.
    More,
    /// ZMTP 2.0: the signature and the revision are all of its greeting that has this shape.
    Old,
    /// A whole greeting of ZMTP 3 with our mechanism.
    Whole(Version),
}

/// Our greeting. The padding is the length of our identity plus one, as in ZMTP 1.0: some old peers read it.
pub(crate) fn encode(mechanism: &str, as_server: bool, identity: usize) -> [u8; LEN] {
    let mut out = [0; LEN];
    let head = [0xff].into_iter().chain((identity as u64).saturating_add(1).to_be_bytes()).chain([0x7f, 3, 1]);
    let name = padded(mechanism);
    for (place, byte) in out.iter_mut().zip(head.chain(name).chain([u8::from(as_server)])) {
        *place = byte;
    }
    out
}

fn padded(mechanism: &str) -> [u8; MECHANISM] {
    let mut name = [0; MECHANISM];
    for (place, byte) in name.iter_mut().zip(mechanism.bytes()) {
        *place = byte;
    }
    name
}

/// Judges what has come of the peer's greeting. Its as-server bit and filler are not looked at: roles are
/// local configuration, and libzmq always sends 0.
pub(crate) fn examine(bytes: &[u8], mechanism: &str) -> Result<Verdict, Reason> {
    let at = |index: usize| bytes.get(index).copied();
    if at(0).is_some_and(|byte| byte != 0xff) || at(9).is_some_and(|byte| byte & 1 == 0) {
        return Err(Reason::NotZmtp);
    }
    let version = match (at(10), at(11)) {
        (Some(0), _) => return Err(Reason::UnsupportedVersion),
        (Some(1), _) => return Ok(Verdict::Old),
        (Some(3), Some(0)) => Version::V3_0,
        // libzmq takes 2 and everything above 3 for 3.1.
        (Some(_), Some(_)) => Version::V3_1,
        _ => return Ok(Verdict::More),
    };
    let Some(name) = bytes.get(12..32) else { return Ok(Verdict::More) };
    if name != padded(mechanism) {
        return Err(Reason::MechanismMismatch);
    }
    Ok(if bytes.len() < LEN { Verdict::More } else { Verdict::Whole(version) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(major: u8, minor: u8, mechanism: &str) -> [u8; LEN] {
        let mut out = encode(mechanism, false, 0);
        out[10] = major;
        out[11] = minor;
        out
    }

    #[test]
    fn ours_matches_the_recorded_bytes() {
        let mut want = b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL".to_vec();
        want.resize(LEN, 0);
        assert_eq!(encode("NULL", false, 0)[..], want);
        assert_eq!(encode("PLAIN", true, 255)[..20], *b"\xff\0\0\0\0\0\0\x01\0\x7f\x03\x01PLAIN\0\0\0");
        assert_eq!(encode("PLAIN", true, 0)[32], 1);
    }

    #[test]
    fn g03_g04_strangers_are_refused_at_the_first_wrong_byte() {
        let http = b"GET / HTTP/1.1\r\n";
        for input in [&http[..], b"\x16\x03\x01", b"SSH-2.0", b"\r\n", &[0; 64], b"G", &[0]] {
            assert_eq!(examine(input, "NULL"), Err(Reason::NotZmtp));
        }
        assert_eq!(examine(b"\xff12345678\x7e", "NULL"), Err(Reason::NotZmtp));
        assert_eq!(examine(b"\xff12345678\x01", "NULL"), Ok(Verdict::More));
        assert_eq!(examine(b"", "NULL"), Ok(Verdict::More));
    }

    #[test]
    fn g05_g06_versions() {
        let version = |major, minor| examine(&bytes(major, minor, "NULL"), "NULL");
        assert_eq!(version(0, 0), Err(Reason::UnsupportedVersion));
        assert_eq!(version(1, 0), Ok(Verdict::Old));
        assert_eq!(version(3, 0), Ok(Verdict::Whole(Version::V3_0)));
        for (major, minor) in [(3, 1), (3, 7), (3, 255), (2, 0), (4, 0), (9, 3), (255, 255)] {
            assert_eq!(version(major, minor), Ok(Verdict::Whole(Version::V3_1)));
        }
    }

    #[test]
    fn g07_only_the_same_mechanism_in_all_twenty_bytes() {
        for (own, theirs) in [("NULL", "CURVE"), ("PLAIN", "CURVE"), ("NULL", "null"), ("NULL", "NULLX"), ("PLAIN", "")]
        {
            assert_eq!(examine(&bytes(3, 1, theirs), own), Err(Reason::MechanismMismatch), "{own} {theirs}");
        }
        let mut dirty = bytes(3, 1, "NULL");
        dirty[31] = 1;
        assert_eq!(examine(&dirty, "NULL"), Err(Reason::MechanismMismatch));
        dirty[12..32].fill(0xff);
        assert_eq!(examine(&dirty[..32], "NULL"), Err(Reason::MechanismMismatch));
    }

    #[test]
    fn g08_padding_role_and_filler_are_not_looked_at() {
        let mut odd = bytes(3, 1, "NULL");
        odd[1..9].fill(0xaa);
        odd[32..].fill(0xbb);
        assert_eq!(examine(&odd, "NULL"), Ok(Verdict::Whole(Version::V3_1)));
    }

    #[test]
    fn every_cut_asks_for_more() {
        let whole = bytes(3, 1, "NULL");
        for end in 0..LEN {
            assert_eq!(examine(&whole[..end], "NULL"), Ok(Verdict::More));
        }
    }
}
