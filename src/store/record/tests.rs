use super::*;
use quickcheck::{QuickCheck, TestResult};

const SALT: u64 = 0x0123_4567_89ab_cdef;
const ANY: u64 = u64::MAX;

fn sealed(mut out: BytesMut) -> BytesMut {
    fill_checksums(&mut out, SALT);
    out
}

fn encoded(sequence: u64, time: i64, extra: &Extra, message: &Message) -> BytesMut {
    let mut out = BytesMut::new();
    assert_eq!(encode_message(&mut out, sequence, time, extra, message), encoded_len(extra, message));
    assert_eq!(out.len(), encoded_len(extra, message));
    sealed(out)
}

fn record(bytes: &[u8]) -> Record<'_> {
    match parse(bytes, Some(SALT), ANY) {
        Parsed::Record(record) => record,
        other => panic!("{other:?}"),
    }
}

/// By the bits of `which`.
fn extra_of(which: u8, number: u64) -> Extra {
    let there = |bit: u8| which & bit != 0;
    Extra {
        deliver_at: there(1).then_some(number as i64),
        expires_at: there(2).then_some(-(number as i64 >> 1)),
        id: there(4).then_some([number as u8; 16]),
        origin: there(8).then_some(!number),
    }
}

/// The published check value: one well-known buffer documents this CRC and computes another.
#[test]
fn the_checksum_is_crc32c() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
}

/// The byte map, byte by byte.
#[test]
fn a_record_has_the_bytes_of_the_design() {
    let extra = Extra { expires_at: Some(-2), origin: Some(9), ..Extra::default() };
    let bytes = encoded(0x0102, 0x0304, &extra, &Message::from(("top", "body")));
    let body = b"\x01\x03top\x00\x04body";
    let mut want = Vec::new();
    want.extend((24 + 16 + body.len() as u32).to_le_bytes());
    want.extend([0; 4]);
    want.extend(0x0102_u64.to_le_bytes());
    want.extend(0x0304_i64.to_le_bytes());
    want.extend([1, 2 | 8, 2, 0, 3, 0, 0, 0]);
    want.extend((-2_i64).to_le_bytes());
    want.extend(9_u64.to_le_bytes());
    want.extend(body);
    let mut covered = SALT.to_le_bytes().to_vec();
    covered.extend(&want[..4]);
    covered.extend(&want[8..]);
    want[4..8].copy_from_slice(&crc32c(&covered).to_le_bytes());
    want.resize(want.len().next_multiple_of(8), 0);
    assert_eq!(bytes, want);
}

/// 100 bytes cost 36 more, as the design promises: 32, a frame header, padding.
#[test]
fn a_hundred_bytes_cost_thirty_six() {
    assert_eq!(encoded_len(&Extra::default(), &Message::from(vec![0; 100])), 136);
}

#[test]
fn messages_come_back() {
    fn property(parts: Vec<Vec<u8>>, long: bool, sequence: u64, time: i64, which: u8) -> TestResult {
        let mut parts = parts;
        if long && let Some(first) = parts.first_mut() {
            first.resize(300, 7);
        }
        let Some(message) = Message::from_frames(parts) else { return TestResult::discard() };
        let extra = extra_of(which, sequence);
        let bytes = encoded(sequence, time, &extra, &message);
        let back = record(&bytes);
        let mut body = bytes::Bytes::copy_from_slice(back.body);
        assert_eq!(back.topic(), &message[0][..]);
        assert_eq!(back.frames as usize, message.len());
        assert_eq!(&bytes[back.body_at..][..back.body.len()], back.body);
        assert_eq!(back.size, bytes.len());
        assert_eq!((back.sequence, back.time, back.kind, back.extra), (sequence, time, Kind::Message, extra));
        assert_eq!(parse(&bytes, None, ANY), Parsed::Record(back));
        let mut again = BytesMut::new();
        let size = encode_raw(&mut again, sequence, time, &extra, back.frames, back.topic_len, back.body);
        assert_eq!((size, sealed(again)), (bytes.len(), bytes.clone()));
        TestResult::from_bool(frame::take_message(&mut body) == Some(message) && body.is_empty())
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(Vec<Vec<u8>>, bool, u64, i64, u8) -> TestResult);
}

#[test]
fn marks_seals_and_gaps_come_back() {
    fn property(numbers: (u64, u64, u64), sequence: u64, time: i64) -> bool {
        let (a, b, c) = numbers;
        let mut out = BytesMut::new();
        let mark = encode_mark(&mut out, sequence, time, a, b);
        let seal = encode_seal(&mut out, sequence, time, a, b, c as i64, time);
        encode_gap(&mut out, time, a, b, GapReason::Limit);
        let out = sealed(out);
        assert_eq!((mark, seal), (MARK, SEAL));
        let (mark, rest) = out.split_at(mark);
        let (seal, gap) = rest.split_at(seal);
        assert_eq!(record(mark).mark(), Some(Mark { sequence: a, offset: b }));
        assert_eq!(record(seal).seal(), Some(Seal { records: a, last: b, first_time: c as i64, last_time: time }));
        assert_eq!(record(gap).gap(), Some(Gap { from: a, to: b, reason: GapReason::Limit }));
        assert_eq!(record(mark).seal(), None);
        assert_eq!(record(mark).topic(), b"");
        (record(mark).sequence, record(seal).sequence, record(gap).sequence) == (sequence, sequence, b)
    }
    QuickCheck::new().quickcheck(property as fn((u64, u64, u64), u64, i64) -> bool);
}

#[test]
fn every_record_of_a_batch_gets_its_checksum() {
    let mut out = BytesMut::new();
    let sizes: Vec<usize> = (0..50)
        .map(|n| encode_message(&mut out, n, 0, &extra_of(n as u8, n), &Message::from(vec![1; n as usize * 7])))
        .collect();
    let out = sealed(out);
    let mut at = 0;
    for (n, size) in sizes.iter().enumerate() {
        let record = record(&out[at..]);
        assert_eq!((record.sequence, record.size), (n as u64, *size));
        at += size;
    }
    assert_eq!(at, out.len());
    assert_eq!(parse(&out[at..], Some(SALT), ANY), Parsed::Short(HEADER));
}

#[test]
fn a_buffer_of_the_encoded_length_does_not_grow() {
    for (which, size) in [(0, 0), (0, 100), (15, 64), (5, 300)] {
        let (extra, message) = (extra_of(which, 1), Message::from(("t", vec![1; size])));
        let mut out = BytesMut::with_capacity(encoded_len(&extra, &message));
        let before = (out.as_ptr(), out.capacity());
        encode_message(&mut out, 1, 2, &extra, &message);
        assert_eq!((out.as_ptr(), out.capacity()), before);
    }
}

#[test]
fn the_salt_of_another_file_never_fits() {
    let bytes = encoded(1, 2, &Extra::default(), &Message::from("x"));
    for bit in 0..64 {
        assert_eq!(parse(&bytes, Some(SALT ^ (1 << bit)), ANY), Parsed::Bad("checksum"));
    }
}

#[test]
fn no_flipped_bit_goes_unseen() {
    let bytes = encoded(7, 8, &extra_of(15, 3), &Message::from(("topic", "body")));
    let whole = 8 + u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    for bit in 0..whole * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(parse(&flipped, Some(SALT), ANY), Parsed::Record(_)), "bit {bit}");
    }
}

#[test]
fn a_cut_record_says_how_much_it_needs() {
    let bytes = encoded(7, 8, &Extra::default(), &Message::from("some bytes"));
    for end in 0..bytes.len() {
        let need = if end < 4 { HEADER } else { bytes.len() };
        assert_eq!(parse(&bytes[..end], Some(SALT), ANY), Parsed::Short(need));
    }
}

#[test]
fn limits_and_foreign_fields_are_refused() {
    let bytes = encoded(7, 8, &Extra::default(), &Message::from("some bytes"));
    let len = u64::from(u32::from_le_bytes(bytes[..4].try_into().unwrap()));
    assert!(matches!(parse(&bytes, Some(SALT), len), Parsed::Record(_)));
    assert_eq!(parse(&bytes, Some(SALT), len - 1), Parsed::Bad("length"));
    assert_eq!(parse(&[0; 64], Some(SALT), ANY), Parsed::End);
    assert_eq!(parse(&[255; 64], Some(SALT), 1 << 20), Parsed::Bad("length"));
    for (place, value, why) in
        [(24, 0, "kind"), (24, 5, "kind"), (25, 16, "flags"), (26, 0, "body"), (28, 12, "body"), (24, 2, "body")]
    {
        let mut other = bytes.clone();
        other[place] = value;
        fill_checksums(&mut other, SALT);
        assert_eq!(parse(&other, Some(SALT), ANY), Parsed::Bad(why), "{place} {value}");
    }
}

#[test]
fn optional_fields_beyond_the_record_are_refused() {
    let mut bytes = encoded(7, 8, &Extra::default(), &Message::from("x"));
    bytes[25] = 15;
    fill_checksums(&mut bytes, SALT);
    assert_eq!(parse(&bytes, Some(SALT), ANY), Parsed::Bad("optional fields"));
}

#[test]
fn random_bytes_never_panic() {
    fn property(bytes: Vec<u8>, counted: u8) -> bool {
        let mut bytes = bytes;
        // Mostly a length that is there.
        if let Some(len) = bytes.first_chunk_mut::<4>() {
            *len = u32::from(counted).to_le_bytes();
        }
        fill_checksums(&mut bytes.clone(), SALT);
        for salt in [Some(SALT), None] {
            match (parse(&bytes, salt, ANY), peek(&bytes)) {
                (Parsed::Record(record), Peek::Claim { size, kind, sequence }) => {
                    let _ = (record.topic(), record.mark(), record.seal(), record.gap());
                    assert!(record.size <= bytes.len());
                    assert_eq!((record.size, record.kind, record.sequence), (size, kind, sequence));
                }
                (Parsed::Record(_), _) => return false,
                _ => {}
            }
        }
        true
    }
    QuickCheck::new().tests(5000).quickcheck(property as fn(Vec<u8>, u8) -> bool);
}
