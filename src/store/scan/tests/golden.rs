//! Files of format 1.0 as they were written once: every later version reads them, and writes the same.

use super::*;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "vectors", "spool", name].iter().collect()
}

/// All kinds, all optional fields, short and long frames.
fn finished() -> Vec<u8> {
    let mut make = Make::new(1);
    let out = &mut make.bytes;
    let some = Extra { deliver_at: Some(-1), expires_at: Some(1 << 60), id: Some([0xab; 16]), origin: Some(77) };
    let mut add = |number, extra: &Extra, message: Message| {
        record::encode_message(out, number, Make::time(number), extra, &message);
    };
    add(1, &Extra::default(), Message::from("one frame"));
    add(2, &Extra::default(), Message::from(("topic", "", vec![7; 300])));
    add(3, &some, Message::from((vec![b't'; 256], "all fields")));
    add(5, &Extra { id: Some([1; 16]), ..Extra::default() }, Message::from(""));
    record::encode_mark(out, 5, Make::time(5), 5, out.len() as u64);
    record::encode_gap(out, Make::time(6), 6, 9, GapReason::Recovery);
    record::encode_seal(out, 10, Make::time(10), 4, 9, Make::time(1), Make::time(5));
    make.bytes()
}

/// The one that is written to, with room behind its end.
fn open_one() -> Vec<u8> {
    let mut bytes = Make::new(11).messages(11..=14).mark().messages([15]).bytes();
    bytes.resize(1024, 0);
    bytes
}

#[test]
#[ignore = "writes the golden files; they are written once for each version of the format"]
fn write_golden_files() {
    std::fs::create_dir_all(path("")).unwrap();
    std::fs::write(path("1.0-finished.seg"), finished()).unwrap();
    std::fs::write(path("1.0-open.seg"), open_one()).unwrap();
}

#[test]
fn format_1_0_is_written_byte_for_byte() {
    assert_eq!(std::fs::read(path("1.0-finished.seg")).unwrap(), finished());
    assert_eq!(std::fs::read(path("1.0-open.seg")).unwrap(), open_one());
}

#[test]
fn format_1_0_is_read() {
    let sim = SimStorage::new(1);
    sim.put(&segment::file_name(1), &std::fs::read(path("1.0-finished.seg")).unwrap());
    sim.put(&segment::file_name(11), &std::fs::read(path("1.0-open.seg")).unwrap());
    let recovered = settled(&sim, NOTHING);
    assert!(recovered.damage.is_empty());
    assert_eq!((recovered.last, recovered.records, &recovered.origins[..]), (15, 5, &[150][..]));
    assert_eq!(read(&recovered).0, [1, 2, 3, 5, 11, 12, 13, 14, 15]);
    let segment = &recovered.segments[0];
    assert_eq!((segment.records, segment.last, segment.last_time), (4, 10, Make::time(5)));
    let mut seen = Vec::new();
    let show = &mut |_, record: &Record<'_>| {
        seen.push((record.kind, record.sequence, record.extra, record.frames, record.topic().len()));
        true
    };
    assert_eq!(scan(&*segment.file, segment.salt, SEGMENT_HEADER, show).unwrap().why, Why::Eof);
    let none = Extra::default();
    let some = Extra { deliver_at: Some(-1), expires_at: Some(1 << 60), id: Some([0xab; 16]), origin: Some(77) };
    let id = Extra { id: Some([1; 16]), ..none };
    let want = [
        (Kind::Message, 1, none, 1, 9),
        (Kind::Message, 2, none, 3, 5),
        (Kind::Message, 3, some, 2, 256),
        (Kind::Message, 5, id, 1, 0),
        (Kind::Mark, 5, none, 0, 0),
        (Kind::Gap, 9, none, 0, 0),
        (Kind::Seal, 10, none, 0, 0),
    ];
    assert_eq!(seen, want);
}
