//! Spools of tests: what is in them, and how they are broken.

use std::path::PathBuf;

use serde_json::Value;

use super::run;

/// Flags that make a spool small and independent of how full this machine's disk is.
pub(crate) const ANY_DISK: [&str; 4] = ["-o", "min_free_disk=0", "-o", "segment_bytes=256Ki"];

/// What `spool list` says.
pub(crate) fn list(spool: &str) -> Value {
    serde_json::from_str(run(&["spool", "list", spool]).expect_ok().text()).expect("JSON")
}

/// Waits until record `number` is in the spool of a running socket, by asking.
pub(crate) fn wait_for_record(spool: &str, number: u64) {
    while list(spool)["newest"].as_u64() < Some(number) {}
}

/// Waits until `name` has done everything up to `number`, by asking: cursors are saved once a second.
pub(crate) fn wait_for_cursor(spool: &str, name: &str, number: u64) {
    while cursor(spool, name) < Some(number) {}
}

pub(crate) fn cursor(spool: &str, name: &str) -> Option<u64> {
    let list = list(spool);
    let name = list["names"].as_array()?.iter().find(|known| known["name"] == name)?;
    name["cursor"].as_u64()
}

/// The segment files, the oldest first.
pub(crate) fn segments(spool: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(spool).expect("a spool");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    files.sort();
    files
}

/// Flips a bit in the middle of the first `needle` in the first segment.
pub(crate) fn flip(spool: &str, needle: &[u8]) {
    let path = &segments(spool)[0];
    let mut bytes = std::fs::read(path).expect("a segment");
    let at = bytes.windows(needle.len()).position(|window| window == needle).expect("the record");
    bytes[at + needle.len() / 2] ^= 1;
    std::fs::write(path, bytes).expect("the segment is writable");
}

/// Makes the first segment one of a format that does not exist yet.
pub(crate) fn age_format(spool: &str) {
    let path = &segments(spool)[0];
    let mut bytes = std::fs::read(path).expect("a segment");
    for copy in [0, 64] {
        let header = &mut bytes[copy..copy + 64];
        header[8..10].copy_from_slice(&9u16.to_le_bytes());
        let sum = crc32c(&header[..60]);
        header[60..].copy_from_slice(&sum.to_le_bytes());
    }
    std::fs::write(path, bytes).expect("the segment is writable");
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 { sum >> 1 ^ 0x82f6_3b78 } else { sum >> 1 };
        }
    }
    !sum
}
