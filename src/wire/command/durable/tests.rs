use super::*;
use crate::options::Limits;
use crate::wire::command::{self, Command};
use crate::wire::frame::peek_header;
use quickcheck::{Arbitrary, Gen, QuickCheck};

const NAMES: [&[u8]; 8] = [START, STARTED, REFUSAL, DELIVERIES, ACKS, NACK, HEAD, END];

/// Name and data of an encoded command.
fn encoded(command: &Durable) -> (Vec<u8>, Vec<u8>) {
    let mut out = BytesMut::new();
    encode(&mut out, command);
    let header = peek_header(&out).unwrap();
    assert!(header.command() && !header.more() && header.len as u64 + header.body == out.len() as u64);
    assert!(header.body <= MAX_COMMAND as u64);
    let (name, data) = command::split(&out[header.len..]).unwrap();
    (name.to_vec(), data.to_vec())
}

fn read(name: &[u8], data: &[u8]) -> Result<Durable, Reason> {
    parse(name, data).expect("a name of the extension")
}

fn some_text(g: &mut Gen) -> String {
    let text: String = String::arbitrary(g).chars().filter(|&symbol| is_plain(symbol)).collect();
    text.chars().take(60).collect()
}

fn some_number(g: &mut Gen) -> u64 {
    match u8::arbitrary(g) % 4 {
        0 => u64::from(u8::arbitrary(g)),
        1 => u64::from(u32::arbitrary(g)),
        _ => u64::arbitrary(g) >> (u8::arbitrary(g) % 64),
    }
}

fn some_entries(g: &mut Gen, prev: u64) -> Vec<Entry> {
    let (tries, times) = (bool::arbitrary(g), bool::arbitrary(g));
    let (mut sequence, mut time) = (prev, some_number(g) as i64 & i64::MAX >> 2);
    let steps: Vec<u8> = Vec::arbitrary(g);
    let mut entries = Vec::new();
    for step in steps.iter().take(MAX_ENTRIES).chain([&7]).take(MAX_ENTRIES) {
        sequence += u64::from(*step) * u64::from(*step) + 1;
        entries.push(Entry { sequence, tries: tries.then(|| u32::arbitrary(g).max(1)), time: times.then_some(time) });
        time += i64::from(u32::arbitrary(g));
    }
    entries
}

fn some_acks(g: &mut Gen) -> Acks {
    let cumulative = some_number(g) >> 8;
    let mut end = cumulative;
    let mut ranges = Vec::new();
    for (gap, length) in Vec::<(u32, u16)>::arbitrary(g) {
        let (start, length) = (end + 1 + u64::from(gap), u64::from(length) + 1);
        end = start + length - 1;
        ranges.push((start, length));
    }
    Acks { cumulative, ranges }
}

impl Arbitrary for Durable {
    fn arbitrary(g: &mut Gen) -> Durable {
        match u8::arbitrary(g) % 8 {
            0 => Durable::Start(Start {
                manual: bool::arbitrary(g),
                oldest: bool::arbitrary(g),
                take_over: bool::arbitrary(g),
                window: u32::arbitrary(g),
                window_bytes: u32::arbitrary(g),
                spool: SpoolId(u128::arbitrary(g).to_be_bytes()),
                done: some_number(g),
                expiry_s: u32::arbitrary(g),
            }),
            1 => {
                let loss = bool::arbitrary(g);
                let from = some_number(g) >> 1 | 1;
                Durable::Started(Started {
                    new: bool::arbitrary(g),
                    changed: bool::arbitrary(g),
                    loss,
                    spool: SpoolId(u128::arbitrary(g).to_be_bytes()),
                    resume_after: some_number(g),
                    head: some_number(g),
                    oldest: some_number(g),
                    lost: if loss { (from, from + u64::from(u8::arbitrary(g))) } else { (0, 0) },
                })
            }
            2 => Durable::Refusal(Refusal { code: u16::arbitrary(g), retry_ms: u32::arbitrary(g), text: some_text(g) }),
            3 => {
                let prev = some_number(g) >> 1;
                Durable::Deliveries(Deliveries { again: bool::arbitrary(g), prev, entries: some_entries(g, prev) })
            }
            4 => Durable::Acks(some_acks(g)),
            5 => Durable::Nack(Nack {
                sequence: some_number(g).max(1),
                delay_ms: u32::arbitrary(g),
                reason: u8::arbitrary(g),
                text: some_text(g),
            }),
            6 => Durable::Head(Head { newest: some_number(g), time: (some_number(g) >> 1) as i64 }),
            _ => Durable::End,
        }
    }
}

#[test]
fn every_command_has_its_bytes() {
    let start = Start { manual: true, take_over: true, window: 1000, window_bytes: 4 << 20, ..Start::default() };
    let start = Start { spool: SpoolId([0xab; 16]), done: 258, expiry_s: 3600, ..start };
    let started = Started { loss: true, resume_after: 9, head: 12, oldest: 3, lost: (1, 2), ..Started::default() };
    let entry = |sequence, tries, time| Entry { sequence, tries: Some(tries), time: Some(time) };
    let deliveries = Deliveries { again: false, prev: 9, entries: vec![entry(10, 1, 1000), entry(310, 200, 1001)] };
    let plain = Entry { sequence: 3, ..Entry::default() };
    let again = Deliveries { again: true, prev: 2, entries: vec![plain] };
    let number = |low: u8| [0, 0, 0, 0, 0, 0, 0, low];
    let numbers = |numbers: &[u8]| numbers.iter().flat_map(|&low| number(low)).collect::<Vec<u8>>();
    let cases: [(Durable, &[u8], Vec<u8>); 8] = [
        (
            Durable::Start(start),
            b"DSTART",
            [&[5, 0, 0, 3, 0xe8, 0, 0x40, 0, 0][..], &[0xab; 16], &[0, 0, 0, 0, 0, 0, 1, 2], &[0, 0, 14, 16]].concat(),
        ),
        (Durable::Started(started), b"DOK", [&[4][..], &[0; 16], &numbers(&[9, 12, 3, 1, 2])].concat()),
        (
            Durable::Refusal(Refusal { code: 1, retry_ms: 256, text: "in use".into() }),
            b"DERR",
            b"\0\x01\0\0\x01\0in use".to_vec(),
        ),
        (
            Durable::Deliveries(deliveries),
            b"DLV",
            [&[3, 2][..], &number(9), &[1, 0xac, 2], &[1, 0xc8, 1], &[0, 0, 0, 0, 0, 0, 3, 0xe8], &[0, 1]].concat(),
        ),
        (Durable::Deliveries(again), b"DLV", [&[4, 1][..], &number(2), &[1]].concat()),
        (
            Durable::Acks(Acks { cumulative: 5, ranges: vec![(7, 1), (9, 128)] }),
            b"DACK",
            [&number(5)[..], &[0, 2], &number(7), &[1], &number(9), &[0x80, 1]].concat(),
        ),
        (
            Durable::Nack(Nack { sequence: 7, delay_ms: 1, reason: 2, text: "no".into() }),
            b"DNACK",
            [&number(7)[..], b"\0\0\0\x01\x02no"].concat(),
        ),
        (Durable::Head(Head { newest: 8, time: 9 }), b"DHEAD", numbers(&[8, 9])),
    ];
    for (command, name, data) in cases {
        assert_eq!(encoded(&command), (name.to_vec(), data.clone()), "{command:?}");
        assert_eq!(read(name, &data), Ok(command));
    }
    assert_eq!(encoded(&Durable::End), (b"DEND".to_vec(), Vec::new()));
    assert_eq!(read(b"DEND", b""), Ok(Durable::End));
}

#[test]
fn what_is_written_is_read() {
    fn property(command: Durable) -> bool {
        let (name, data) = encoded(&command);
        read(&name, &data) == Ok(command)
    }
    QuickCheck::new().tests(2000).quickcheck(property as fn(Durable) -> bool);
}

#[test]
fn every_truncation_and_every_byte_more_is_refused() {
    fn property(command: Durable) -> bool {
        let (name, data) = encoded(&command);
        // A text has no length of its own: it may be cut anywhere behind the numbers.
        let text = match &command {
            Durable::Refusal(refusal) => Some(refusal.text.len()),
            Durable::Nack(nack) => Some(nack.text.len()),
            _ => None,
        };
        let numbers = data.len() - text.unwrap_or(0);
        let step = 1 + numbers / 200;
        (0..numbers).step_by(step).all(|end| read(&name, &data[..end]).is_err())
            && (text.is_some() || read(&name, &[&data[..], &[0]].concat()).is_err())
    }
    QuickCheck::new().tests(500).quickcheck(property as fn(Durable) -> bool);
}

#[test]
fn accepted_bytes_are_the_canonical_ones_and_random_ones_never_panic() {
    fn canonical(name: &[u8], data: &[u8]) -> bool {
        read(name, data).is_ok_and(|command| encoded(&command) == (name.to_vec(), data.to_vec()))
    }
    fn property(command: Durable, flips: Vec<(usize, u8)>, noise: Vec<u8>) -> bool {
        let (name, mut data) = encoded(&command);
        for (at, value) in flips.into_iter().take(3) {
            let at = at % data.len().max(1);
            if let Some(byte) = data.get_mut(at) {
                *byte = value;
            }
            assert!(read(&name, &data).is_err() || canonical(&name, &data), "{name:?} {data:?}");
        }
        NAMES.iter().all(|name| read(name, &noise).is_err() || canonical(name, &noise))
    }
    QuickCheck::new().tests(3000).quickcheck(property as fn(Durable, Vec<(usize, u8)>, Vec<u8>) -> bool);
}

#[test]
fn unknown_flags_are_told_from_broken_bytes() {
    for name in [START, STARTED, DELIVERIES] {
        for flags in [8_u8, 0x10, 0x80, 0xff] {
            assert_eq!(read(name, &[flags]), Err(UNKNOWN_FLAGS), "whatever follows");
        }
        assert!(matches!(read(name, &[7]), Err(reason) if reason != UNKNOWN_FLAGS));
    }
}

#[test]
fn numbers_have_one_form_only() {
    let number = |bytes: &[u8]| Reader(bytes).varint();
    for (bytes, value) in [(&[0_u8][..], 0), (&[0x7f], 127), (&[0x80, 1], 128), (&[0xff, 0x7f], 16383)] {
        assert_eq!(number(bytes), Ok(value));
    }
    assert_eq!(number(&[[0xff; 9].as_slice(), &[1]].concat()), Ok(u64::MAX));
    let wrong: [&[u8]; 7] =
        [&[], &[0x80], &[0x80, 0], &[0xff, 0x80, 0], &[0xff; 10], &[0x80; 11], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]];
    for bytes in wrong {
        assert!(number(bytes).is_err(), "{bytes:?}");
    }
    for tenth in [0, 2, 0x80, 0x81] {
        assert!(number(&[[0xff; 9].as_slice(), &[tenth, 1]].concat()).is_err(), "{tenth}");
    }
}

#[test]
fn impossible_numbers_are_refused() {
    let deliveries = |flags: u8, n: u8, prev: u64, rest: &[u8]| {
        read(DELIVERIES, &[&[flags, n][..], &prev.to_be_bytes(), rest].concat())
    };
    assert!(deliveries(0, 1, u64::MAX - 1, &[1]).is_ok());
    assert!(deliveries(0, 1, u64::MAX, &[1]).is_err());
    assert!(deliveries(0, 1, 1, &[0]).is_err());
    assert!(deliveries(0, 0, 1, &[]).is_err());
    assert!(deliveries(1, 1, 1, &[1, 0]).is_err(), "no tries");
    let times = |base: u64, rest: &[u8]| deliveries(2, 2, 1, &[&[1, 1][..], &base.to_be_bytes(), rest].concat());
    assert!(times(i64::MAX as u64, &[0, 0]).is_ok());
    assert!(times(i64::MAX as u64, &[0, 1]).is_err());
    assert!(times(1 << 63, &[0, 0]).is_err());
    assert!(times(5, &[1, 0]).is_err(), "the base is the first");
    let acks = |cumulative: u64, ranges: &[(u64, u8)]| {
        let list: Vec<u8> = ranges.iter().flat_map(|&(start, n)| [&start.to_be_bytes()[..], &[n]].concat()).collect();
        read(ACKS, &[&cumulative.to_be_bytes()[..], &(ranges.len() as u16).to_be_bytes(), &list].concat())
    };
    assert!(acks(4, &[(5, 2), (7, 1)]).is_ok());
    for ranges in [&[(4, 1)][..], &[(5, 0)], &[(5, 2), (6, 1)], &[(7, 1), (5, 1)], &[(u64::MAX, 2)]] {
        assert!(acks(4, ranges).is_err(), "{ranges:?}");
    }
    assert!(read(NACK, &[0; 13]).is_err());
    let mut started = [0; 57];
    started[56] = 1;
    assert!(read(STARTED, &started).is_err(), "a loss without its flag");
    assert!(read(STARTED, &[4; 1].iter().chain(&[0; 56]).copied().collect::<Vec<_>>()).is_err());
}

#[test]
fn counts_reserve_no_more_than_the_bytes_hold() {
    let mut data = [0_u8; 10];
    data[8..].copy_from_slice(&[0xff, 0xff]);
    assert!(read(ACKS, &data).is_err());
    let long = vec![b'x'; MAX_COMMAND];
    for name in NAMES {
        assert_eq!(read(name, &long), Err(Reason::LimitExceeded { which: "max_command", limit: MAX_COMMAND as u64 }));
    }
}

#[test]
fn the_longest_acknowledgement_fits() {
    let ranges = (0..MAX_RANGES as u64 + 10).map(|n| ((1 << 62) + n * (1 << 50), 1 << 49)).collect();
    let (name, data) = encoded(&Durable::Acks(Acks { cumulative: 1, ranges }));
    let Ok(Durable::Acks(acks)) = read(&name, &data) else { panic!("its own acknowledgement") };
    assert_eq!(acks.ranges.len(), MAX_RANGES);
}

#[test]
fn texts_are_safe_to_show() {
    let refusal = |text: &str| Durable::Refusal(Refusal { code: 7, retry_ms: 0, text: text.into() });
    let (name, data) = encoded(&refusal("a\x1b[2Jb\n\"c\\d\u{202e}é"));
    assert_eq!(read(&name, &data), Ok(refusal("a?[2Jb?\"c\\d?é")));
    for text in [&b"\x1b[2J"[..], b"\n", b"\xff", &[b'x'; 256], "\u{202e}".as_bytes()] {
        assert!(read(REFUSAL, &[&[0; 6][..], text].concat()).is_err(), "{text:?}");
    }
    let (_, data) = encoded(&refusal(&"é".repeat(200)));
    assert_eq!(data.len(), 6 + 254);
}

#[test]
fn partial_tries_and_times_are_filled_up() {
    let entry = |sequence, tries, time| Entry { sequence, tries, time };
    let given = vec![entry(1, None, None), entry(2, Some(3), Some(9)), entry(3, None, Some(7)), entry(4, None, None)];
    let (name, data) = encoded(&Durable::Deliveries(Deliveries { again: false, prev: 0, entries: given }));
    let full = |sequence, tries| entry(sequence, Some(tries), Some(9));
    let entries = vec![full(1, 1), full(2, 3), full(3, 1), full(4, 1)];
    assert_eq!(read(&name, &data), Ok(Durable::Deliveries(Deliveries { again: false, prev: 0, entries })));
}

#[test]
fn d10_without_the_extension_its_commands_are_unknown() {
    for name in NAMES {
        let body = [&[name.len() as u8][..], name].concat();
        let read = |durable| command::parse(&body, &Limits::default(), durable);
        assert_eq!(read(false), Ok(Command::Unknown));
        assert_ne!(read(true), Ok(Command::Unknown));
    }
    let limits = Limits::default();
    assert_eq!(command::parse(b"\x05DLATE", &limits, true), Ok(Command::Unknown));
    assert_eq!(command::parse(b"\x04PING\0\x07", &limits, true), command::parse(b"\x04PING\0\x07", &limits, false));
}
