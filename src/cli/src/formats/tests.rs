//! Promises of the formats: lossless ones give every message back, malformed records are named, claims allocate nothing.

use ginnel::{Frame, Message};
use quickcheck::{Arbitrary, Gen, QuickCheck};

use super::{Format, Origin, ReadError, Reader, Writer};

const LOSSLESS: [Format; 5] = [Format::Quoted, Format::Json, Format::Hex, Format::Framed, Format::Envelope];

#[derive(Debug, Clone)]
struct Messages(Vec<Message>);

impl Arbitrary for Messages {
    fn arbitrary(g: &mut Gen) -> Messages {
        let count = usize::arbitrary(g) % 5;
        Messages((0..count).filter_map(|_| Message::from_frames(arbitrary_frames(g))).collect())
    }
}

fn arbitrary_frames(g: &mut Gen) -> Vec<Frame> {
    let count = 1 + usize::arbitrary(g) % 4;
    (0..count)
        .map(|_| if bool::arbitrary(g) { Vec::arbitrary(g) } else { String::arbitrary(g).into_bytes() }.into())
        .collect()
}

fn write(format: Format, null: bool, messages: &[Message]) -> Vec<u8> {
    let mut writer = Writer::new(format, null, false);
    let mut out = Vec::new();
    for message in messages {
        writer.write(&mut out, message, Origin::default());
    }
    out
}

fn read(format: Format, null: bool, bytes: &[u8]) -> Result<Vec<Message>, ReadError> {
    let mut reader = Reader::new(bytes, format, null);
    std::iter::from_fn(|| reader.next().transpose()).collect()
}

#[test]
fn lossless_formats_give_every_message_back() {
    fn prop(messages: Messages, null: bool) -> bool {
        LOSSLESS.into_iter().all(|format| {
            let bytes = write(format, null, &messages.0);
            read(format, null, &bytes).is_ok_and(|back| back == messages.0)
        })
    }
    QuickCheck::new().tests(500).quickcheck(prop as fn(Messages, bool) -> bool);
}

#[test]
fn lossless_formats_carry_every_byte() {
    let all: Vec<u8> = (0..=255).collect();
    let single: Vec<Message> = all.iter().map(|&b| Message::from([b])).collect();
    let mut messages = vec![
        Message::from(all.clone()),
        Message::from(all.iter().rev().copied().collect::<Vec<u8>>()),
        Message::from((Frame::EMPTY, Frame::EMPTY, all)),
        Message::from(Frame::EMPTY),
    ];
    messages.extend(single);
    for format in LOSSLESS {
        for null in [false, true] {
            let back = read(format, null, &write(format, null, &messages)).expect("own output");
            assert_eq!(back, messages, "{format:?}");
        }
    }
}

#[test]
fn formats_look_as_documented() {
    let message = Message::from((&b"a b\t\n\"\\"[..], Frame::EMPTY, &[0u8, 0xff][..]));
    let show = |format| String::from_utf8(write(format, false, std::slice::from_ref(&message))).expect("ASCII");
    assert_eq!(show(Format::Quoted), "\"a b\\t\\n\\\"\\\\\" \"\" \"\\x00\\xff\"\n");
    assert_eq!(show(Format::Json), "[\"a b\\t\\n\\\"\\\\\",\"\",{\"b64\":\"AP8=\"}]\n");
    assert_eq!(show(Format::Hex), "612062090a225c - 00ff\n");
    let framed = write(Format::Framed, false, &[Message::from(("ab", ""))]);
    assert_eq!(framed, [0, 0, 0, 2, 0, 0, 0, 2, b'a', b'b', 0, 0, 0, 0]);
    assert_eq!(write(Format::Raw, false, &[Message::from(("ab", "c"))]), b"abc");
    assert_eq!(write(Format::Text, false, &[Message::from(("ab", "c"))]), b"ab\tc\n");
    assert_eq!(write(Format::Text, true, &[Message::from(("ab", "c"))]), b"ab\tc\0");
}

#[test]
fn an_envelope_says_where_from() {
    let mut out = Vec::new();
    let mut writer = Writer::new(Format::Envelope, false, false);
    writer.write(&mut out, &Message::from("x"), Origin::peer(Some(&[0, 0xab])));
    writer.write(&mut out, &Message::from("y"), Origin { offset: Some(7), ..Origin::default() });
    let lines: Vec<serde_json::Value> = out
        .split(|&b| b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).expect("JSON"))
        .collect();
    assert_eq!(lines[0]["seq"], 1);
    assert_eq!(lines[0]["peer"], "00ab");
    assert_eq!(lines[1]["seq"], 2);
    assert!(lines[1]["peer"].is_null());
    assert_eq!(lines[1]["frames"][0], "y");
    assert_eq!(lines[1]["ts"].as_str().map(str::len), Some("2026-01-31T12:00:00.000000Z".len()));
}

#[test]
fn a_terminal_sees_no_control_bytes() {
    let mut out = Vec::new();
    Writer::new(Format::Text, false, true).write(
        &mut out,
        &Message::from(("a\x1b[2J", "\u{9b}b\n")),
        Origin::default(),
    );
    assert_eq!(String::from_utf8(out).expect("text"), "a\u{fffd}[2J\t\u{fffd}b\u{fffd}\n");
}

#[test]
fn text_is_split_at_tabs_and_line_ends() {
    assert_eq!(
        read(Format::Text, false, b"a\tb\n\nc").expect("text"),
        [Message::from(("a", "b")), Message::from(""), Message::from("c")]
    );
    assert_eq!(read(Format::Text, true, b"a\nb\0c\0").expect("text"), [Message::from("a\nb"), Message::from("c")]);
    assert_eq!(read(Format::Raw, false, b"a\n\tb").expect("raw"), [Message::from("a\n\tb")]);
    assert_eq!(read(Format::Json, false, b"\"one\"\n").expect("json"), [Message::from("one")]);
    assert_eq!(read(Format::Hex, false, b"AbcD -\n").expect("hex"), [Message::from((&[0xab, 0xcd][..], ""))]);
}

#[test]
fn a_malformed_record_is_named() {
    let cases: &[(Format, &[u8], &str)] = &[
        (Format::Quoted, b"\"a\"\nb\n", "line 2"),
        (Format::Quoted, b"\"a", "line 1"),
        (Format::Quoted, b"\"\\q\"\n", "line 1"),
        (Format::Quoted, b"\"\\x0\"\n", "line 1"),
        (Format::Quoted, b"\"a\"  \"b\"\n", "line 1"),
        (Format::Json, b"[\"a\"]\n[\"b\"]\n{}\n", "line 3"),
        (Format::Json, b"[]\n", "line 1"),
        (Format::Json, b"[1]\n", "line 1"),
        (Format::Json, b"[{\"b64\":\"?\"}]\n", "line 1"),
        (Format::Json, b"\n", "line 1"),
        (Format::Envelope, b"[\"a\"]\n", "line 1"),
        (Format::Envelope, b"{\"frames\":\"a\"}\n", "line 1"),
        (Format::Hex, b"00\n0\n", "line 2"),
        (Format::Hex, b"00  00\n", "line 1"),
        (Format::Framed, b"\0\0\0\x01\0\0\0\x01a\0\0\0\0", "record 2"),
        (Format::Framed, b"\0\0", "record 1"),
        (Format::Framed, b"\xff\xff\xff\xff", "record 1"),
        (Format::Framed, b"\0\0\0\x01\xff\xff\xff\xffabc", "record 1"),
        (Format::Framed, b"\0\0\0\x01\x3f\xff\xff\xffabc", "record 1"),
    ];
    for (format, input, expected) in cases {
        match read(*format, false, input) {
            Err(ReadError::Malformed { place, .. }) => assert_eq!(place, *expected, "{format:?} {input:?}"),
            other => panic!("{format:?} {input:?}: {other:?}"),
        }
    }
}

#[test]
fn any_input_is_read_or_refused() {
    fn prop(bytes: Vec<u8>) -> bool {
        LOSSLESS.into_iter().for_each(|format| drop(read(format, false, &bytes)));
        true
    }
    QuickCheck::new().tests(500).quickcheck(prop as fn(Vec<u8>) -> bool);
}
