use super::*;
use quickcheck::QuickCheck;

const HEADER: Header =
    Header { spool: SpoolId([7; 16]), base: 41_873, created: 1_700_000_000_000_000, salt: 0xfeed_face_cafe_beef };

fn unknown(found: &str) -> Result<Header, HeaderError> {
    Err(HeaderError::Unknown { found: found.to_owned() })
}

/// A whole header of `length` bytes with these versions, twice.
fn later(major: u16, minor: u16, length: usize) -> Vec<u8> {
    let mut copy = MAGIC.to_vec();
    copy.extend(major.to_le_bytes());
    copy.extend(minor.to_le_bytes());
    copy.extend((length as u32).to_le_bytes());
    copy.resize(length - CRC, 9);
    let crc = crc32c(&copy);
    copy.extend(crc.to_le_bytes());
    copy.repeat(2)
}

#[test]
fn a_header_has_the_bytes_of_the_design() {
    let bytes = HEADER.encode();
    assert_eq!(bytes[..8], *b"SPOOLSEG");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 64, 0, 0, 0]);
    assert_eq!(bytes[16..32], [7; 16]);
    assert_eq!(bytes[32..40], 41_873_u64.to_le_bytes());
    assert_eq!(bytes[40..48], 1_700_000_000_000_000_i64.to_le_bytes());
    assert_eq!(bytes[48..52], [0; 4]);
    assert_eq!(bytes[52..60], 0xfeed_face_cafe_beef_u64.to_le_bytes());
    assert_eq!(bytes[60..64], crc32c(&bytes[..60]).to_le_bytes());
    assert_eq!(bytes[..64], bytes[64..]);
    assert_eq!(Header::parse(&bytes), Ok(HEADER));
}

#[test]
fn one_good_copy_is_enough() {
    let bytes = HEADER.encode();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(Header::parse(&flipped), Ok(HEADER), "bit {bit}");
    }
    let mut second = bytes;
    second[..64].fill(0);
    assert_eq!(Header::parse(&second), Ok(HEADER));
    second[64..].fill(0);
    assert_eq!(Header::parse(&second), Err(HeaderError::Bad));
    for end in 0..64 {
        assert_eq!(Header::parse(&bytes[..end]), Err(HeaderError::Bad));
    }
}

#[test]
fn another_format_is_told_from_a_broken_one() {
    assert_eq!(Header::parse(&later(2, 3, 64)), unknown("2.3"));
    assert_eq!(Header::parse(&later(2, 0, 200)), unknown("2.0"));
    // Its first copy broken, but said twice.
    let mut broken = later(3, 1, 100);
    broken[50] ^= 1;
    assert_eq!(Header::parse(&broken), unknown("3.1"));
    // A broken version number of ours, in both copies, is no other format.
    let mut ours = HEADER.encode();
    ours[8] ^= 2;
    ours[64 + 20] ^= 1;
    assert_eq!(Header::parse(&ours), Err(HeaderError::Bad));
}

#[test]
fn flags_that_must_be_understood_are_not_passed_over() {
    let mut bytes = HEADER.encode();
    for copy in bytes.chunks_mut(COPY) {
        copy[48] = 4;
        let crc = crc32c(&copy[..60]);
        copy[60..].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(Header::parse(&bytes), unknown("1.0 with flags 0x4"));
}

#[test]
fn a_later_minor_version_is_read() {
    let mut bytes = HEADER.encode();
    for copy in bytes.chunks_mut(COPY) {
        copy[10] = 9;
        let crc = crc32c(&copy[..60]);
        copy[60..].copy_from_slice(&crc.to_le_bytes());
    }
    assert_eq!(Header::parse(&bytes), Ok(HEADER));
}

#[test]
fn names_are_twenty_digits() {
    assert_eq!(file_name(1), "00000000000000000001.seg");
    assert_eq!(file_name(u64::MAX), "18446744073709551615.seg");
    for base in [0, 1, 41_873, u64::MAX / 2] {
        assert_eq!(base_of(&file_name(base)), Some(base));
    }
    for name in [
        "",
        ".seg",
        "1.seg",
        "18446744073709551615.seg",
        "0000000000000000000a.seg",
        "99999999999999999999.seg",
        "+0000000000000000001.seg",
    ] {
        assert_eq!(base_of(name), None, "{name}");
    }
    assert_eq!(base_of("00000000000000000001.seg.damaged"), None);
}

#[test]
fn random_bytes_never_panic() {
    fn property(bytes: Vec<u8>, magic: bool) -> bool {
        let mut bytes = bytes;
        if magic {
            bytes.splice(0..0, MAGIC);
        }
        Header::parse(&bytes).is_err()
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(Vec<u8>, bool) -> bool);
}
