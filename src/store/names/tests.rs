use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::slot::{FORMAT, encode, parse};
use super::*;

impl Arbitrary for NameRecord {
    fn arbitrary(g: &mut Gen) -> NameRecord {
        let cursor = u64::arbitrary(g) >> (u8::arbitrary(g) % 64);
        NameRecord {
            name: String::arbitrary(g),
            kind: if bool::arbitrary(g) { NameKind::Topic } else { NameKind::Outbox },
            owner: Option::arbitrary(g),
            created: i64::arbitrary(g),
            seen: i64::arbitrary(g),
            expiry_s: u32::arbitrary(g),
            cursor,
            done: ranges(g, cursor),
            filters: (0..usize::arbitrary(g) % 4).map(|_| Arbitrary::arbitrary(g)).collect(),
            lost_records: u64::arbitrary(g),
            lost_bytes: u64::arbitrary(g),
            lost: Option::arbitrary(g),
            declared: bool::arbitrary(g),
        }
    }
}

/// Ascending ranges above `cursor`, steps and lengths of every size.
fn ranges(g: &mut Gen, cursor: u64) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut end = cursor;
    for _ in 0..usize::arbitrary(g) % 20 {
        let mut step = || u64::arbitrary(g) >> (u8::arbitrary(g) % 64);
        let Some(from) = end.checked_add(step().max(1)) else { break };
        let Some(to) = from.checked_add(step()) else { break };
        ranges.push((from, to));
        end = to;
    }
    ranges
}

impl Arbitrary for Registry {
    fn arbitrary(g: &mut Gen) -> Registry {
        let names: Vec<NameRecord> = (0..usize::arbitrary(g) % 6).map(|_| NameRecord::arbitrary(g)).collect();
        Registry {
            spool: SpoolId(std::array::from_fn(|_| u8::arbitrary(g))),
            clean: bool::arbitrary(g),
            last: u64::arbitrary(g),
            reserved_until: u64::arbitrary(g),
            head: u64::arbitrary(g),
            checked: u64::arbitrary(g),
            names: names.into_iter().map(|name| (name.name.clone(), name)).collect(),
        }
    }
}

fn of(spool: u8, last: u64) -> Registry {
    Registry { spool: SpoolId([spool; 16]), last, reserved_until: 1 << 20, ..Registry::default() }
}

fn named(mut registry: Registry, name: &str, cursor: u64, done: Vec<(u64, u64)>) -> Registry {
    let record = NameRecord { name: name.into(), cursor, done, ..NameRecord::default() };
    registry.names.insert(name.into(), record);
    registry
}

#[test]
fn a_registry_comes_back() {
    fn property(registry: Registry) -> bool {
        parse(&encode(&registry, true)) == Some(registry)
    }
    QuickCheck::new().quickcheck(property as fn(Registry) -> bool);
}

#[test]
fn random_and_bent_bytes_never_panic() {
    fn property(bytes: Vec<u8>, registry: Registry, at: usize, bits: u8) -> bool {
        let _ = parse(&bytes);
        let mut bent = encode(&registry, true);
        let at = at % bent.len();
        bent[at] ^= bits;
        let _ = parse(&bent);
        let _ = parse(&bent[..at]);
        true
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(Vec<u8>, Registry, usize, u8) -> bool);
}

/// Every count says "as many as there can be", and nothing follows.
#[test]
fn counts_promise_nothing() {
    let mut body = encode(&of(1, 2), true);
    let count = body.len() - 4;
    body[count..].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse(&body), None);
    let mut body = encode(&named(of(1, 2), "a", 3, vec![(5, 6)]), true);
    let ranges = body.len() - 6;
    body[ranges..ranges + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(parse(&body), None);
}

#[test]
fn a_newer_minor_version_may_say_more() {
    let registry = named(of(1, 2), "a", 3, vec![(5, 6)]);
    let mut body = encode(&registry, true);
    let name = 16 + 4 + 4 * 8 + 4;
    let length = u32::from_le_bytes(body[name..name + 4].try_into().unwrap());
    body[name..name + 4].copy_from_slice(&(length + 3).to_le_bytes());
    body.extend(b"newa lot of news");
    assert_eq!(parse(&body), Some(registry));
}

#[test]
fn ranges_out_of_order_are_left_out_and_there_is_an_end_to_them() {
    let kept = |cursor, done: &[(u64, u64)]| {
        parse(&encode(&named(of(1, 2), "a", cursor, done.to_vec()), true)).unwrap().names["a"].done.clone()
    };
    assert_eq!(kept(10, &[(3, 4), (10, 12), (12, 13), (13, 13), (20, 19), (30, u64::MAX)]), [(12, 13), (30, u64::MAX)]);
    let many: Vec<(u64, u64)> = (1..=5000).map(|n| (n * 2, n * 2)).collect();
    assert_eq!(kept(0, &many), many[..MOST_RANGES]);
}

#[test]
fn positions_prove_nothing_about_what_is_on_disk() {
    assert_eq!(of(1, 7).proven(), 7);
    assert_eq!(named(of(1, 7), "a", 9, vec![]).proven(), 7);
    assert_eq!(named(of(1, 7), "a", 3, vec![(5, 6), (8, 12)]).proven(), 7);
}

mod slots;
