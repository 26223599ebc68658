//! The house keeps its rooms apart: what each file under `src` imports, compared with the table below.
//!
//! Code under `#[cfg(test)]` and in files that only exist for tests may import anything.

use std::fs;
use std::path::{Path, PathBuf};

/// Plain values: these may mention each other, and every room may mention them.
const VOCABULARY: &[&str] = &["message", "endpoint", "options", "error", "event"];

/// Room, and what it may import besides the vocabulary and itself: a room, or a path inside one.
const ROOMS: &[(&str, &[&str])] = &[
    ("wire", &[]),
    // A record's body is wire bytes, exactly as they go to a socket.
    ("store", &["wire::frame"]),
    ("queue", &["wire::frame"]),
    ("durable", &["wire::command", "store"]),
    ("transport", &[]),
    ("transport/inproc", &["queue"]),
    // It joins the log to connections: the records from one, their fate from `durable`.
    ("engine", &["wire", "queue", "durable", "store", "transport"]),
    ("socket", &["engine", "queue", "transport", "store::log", "store::record"]),
    // Of the engine, a pattern knows the trait that it implements (and a six-line helper of futures).
    ("pattern", &["socket", "queue", "engine::pattern", "engine::either", "engine::within"]),
    // The same sockets for threads: of the engine, how a thread waits (and the monitor, which is public).
    ("blocking", &["pattern", "socket", "queue::batch", "engine::events", "engine::park"]),
    ("internals", &["wire", "queue"]),
];

#[test]
fn no_room_imports_what_it_may_not() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let door = fs::read_to_string(src.join("lib.rs")).expect("the front door");
    let exports: Vec<String> = mentions(&door, "pub use ").iter().flat_map(|path| expand(path)).collect();
    let mut wrong = Vec::new();
    for (file, text) in library_files(&src) {
        let name = file.strip_prefix(&src).expect("inside src").with_extension("").to_string_lossy().replace('\\', "/");
        if name == "lib" {
            continue; // The front door opens on every room.
        }
        let text = as_seen_from_the_root(&name, &without_tests(&text));
        // `crate::$type` in a macro says nothing here.
        for path in mentions(&text, "crate::").iter().flat_map(|path| expand(path)).filter(|path| !path.is_empty()) {
            // A name re-exported by the front door counts for the room that it comes from.
            let path = exports.iter().find(|export| export.ends_with(&format!("::{path}"))).unwrap_or(&path);
            if !may_import(&name, path) {
                wrong.push(format!("src/{name}.rs: `crate::{path}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "imports that the table in tests/rooms.rs does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_its_sign() {
    let files = library_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let without = files.iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(file, _)| file);
    assert_eq!(without.collect::<Vec<_>>(), Vec::<&PathBuf>::new(), "these files do not open with `//!`");
}

#[test]
fn the_test_itself_reads_imports() {
    let text = "use crate::{\n    wire::{frame, command::{A, B}},\n    event::Reason,\n};\nfn f() -> crate::queue::Outbox {}\n\
                // crate::comment\n#[cfg(test)]\nmod tests {\n    use crate::lib::X;\n}\npub(crate) fn g() {}\n\
                use super::socket::Peer;\n";
    let text = as_seen_from_the_root("engine/mod", &without_tests(text));
    let found: Vec<String> = mentions(&text, "crate::").iter().flat_map(|path| expand(path)).collect();
    let expected =
        ["wire::frame", "wire::command::A", "wire::command::B", "event::Reason", "queue::Outbox", "socket::Peer"];
    assert_eq!(found, expected);
    assert!(may_import("queue/outbox", "wire::frame::Encoder") && !may_import("queue/outbox", "wire::framework"));
    assert!(may_import("transport/inproc", "queue::Outbox") && !may_import("transport/tcp", "queue::Outbox"));
    assert!(!may_import("wire/frame", "engine") && !may_import("error", "wire") && !may_import("attic", "wire"));
}

fn may_import(file: &str, path: &str) -> bool {
    let is_at = |place: &str, allowed: &str, end: char| {
        place.strip_prefix(allowed).is_some_and(|rest| rest.is_empty() || rest.starts_with(end))
    };
    let room = file.split('/').next().unwrap_or(file);
    let known = VOCABULARY.contains(&room) || ROOMS.iter().any(|(name, _)| *name == room);
    let free = VOCABULARY.iter().any(|word| is_at(path, word, ':')) || is_at(path, room, ':');
    let in_table = ROOMS.iter().filter(|(name, _)| is_at(file, name, '/')).flat_map(|(_, allowed)| *allowed);
    known && (free || in_table.copied().any(|allowed| is_at(path, allowed, ':')))
}

/// Every file of the library with its text; not the command's, and no file that exists only for tests.
fn library_files(src: &Path) -> Vec<(PathBuf, String)> {
    let (mut files, mut for_tests, mut folders) = (Vec::new(), Vec::new(), vec![src.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() && !path.join("Cargo.toml").exists() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let text = fs::read_to_string(&path).expect("a readable file");
                let is_root = ["mod", "lib"].iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
                let inside = if is_root { folder.clone() } else { path.with_extension("") };
                for_tests.extend(test_items(&text).iter().filter_map(|item| {
                    let name = item.lines().last()?.trim_start_matches("pub(crate) ").strip_prefix("mod ")?;
                    name.strip_suffix(';').map(|name| inside.join(name))
                }));
                files.push((path, text));
            }
        }
    }
    files.retain(|(path, _)| !for_tests.iter().any(|test| path.with_extension("").starts_with(test)));
    files.sort();
    assert!(files.len() > 5, "looked in the wrong place: {}", src.display());
    files
}

/// The items under `#[cfg(test)]`. Formatted code is assumed: an item ends where its first line's indent ends a line.
fn test_items(text: &str) -> Vec<String> {
    let (mut items, mut lines) = (Vec::new(), text.lines());
    while let Some(line) = lines.next() {
        let (indent, code) = (line.len() - line.trim_start().len(), line.trim_start());
        if code.starts_with("#[cfg(test)]") || code.starts_with("#[cfg(all(test") {
            let mut item = vec![line];
            for line in lines.by_ref() {
                item.push(line);
                if line.len() - line.trim_start().len() == indent && line.ends_with([';', '}', ',']) {
                    break;
                }
            }
            items.push(item.join("\n"));
        }
    }
    items
}

/// The code of a file, without comments and without what exists only for tests.
fn without_tests(text: &str) -> String {
    let text = test_items(text).iter().fold(text.to_string(), |text, item| text.replace(item.as_str(), ""));
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Turns `super::` paths that reach the root and name a room into `crate::` paths.
fn as_seen_from_the_root(file: &str, text: &str) -> String {
    let depth = file.trim_end_matches("/mod").split('/').count();
    let names = VOCABULARY.iter().chain(ROOMS.iter().map(|(room, _)| room));
    names.fold(text.to_string(), |text, name| {
        text.replace(&format!("{}{name}::", "super::".repeat(depth)), &format!("crate::{name}::"))
    })
}

/// What follows each `marker`, up to the end of the path or of its group in braces.
fn mentions(text: &str, marker: &str) -> Vec<String> {
    let in_path = |c: char| c.is_alphanumeric() || "_:*".contains(c);
    text.match_indices(marker)
        .map(|(at, _)| {
            let mut open = 0;
            let goes_on = |c: &char| {
                open += i32::from(*c == '{') - i32::from(*c == '}');
                open > 0 || *c == '}' || in_path(*c)
            };
            text[at + marker.len()..].chars().take_while(goes_on).filter(|c| !c.is_whitespace()).collect::<String>()
        })
        .map(|path| path.trim_end_matches(':').to_string())
        .collect()
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expand(path: &str) -> Vec<String> {
    let Some((head, group)) = path.split_once('{') else { return vec![path.to_string()] };
    let group = group.rfind('}').map_or(group, |end| &group[..end]);
    let mut open = 0;
    let pieces = group.split(|c| {
        open += i32::from(c == '{') - i32::from(c == '}');
        open == 0 && c == ','
    });
    pieces.filter(|piece| !piece.is_empty()).flat_map(|piece| expand(&format!("{head}{piece}"))).collect()
}
