//! What a user of the library has to build, name by name; and facts that are written in more than one place.

use std::path::Path;
use std::process::Command;

/// Every crate of others in the default build, build scripts included, with its reason.
const CRATES: &[(&str, &str)] = &[
    ("bitflags", "what rustix names the system's flags with"),
    ("bytes", "shared, sliceable buffers: wire bytes are queued, cut and lent without copies"),
    ("crc32c", "the checksum of every record on disk, by hardware where there is one"),
    ("futures-core", "the Stream trait, so that receivers fit futures code"),
    ("futures-sink", "the Sink trait, so that senders fit futures code"),
    ("libc", "what tokio, mio and socket2 call the system through"),
    ("linux-raw-sys", "what rustix calls Linux through"),
    ("mio", "tokio's readiness polling"),
    ("once_cell", "tracing-core's lazy registry of call sites"),
    ("pin-project-lite", "pinning inside tokio and tracing, without a procedural macro"),
    ("rustc_version", "crc32c's build script"),
    ("rustix", "space ahead of writes and free space on a disk, without unsafe code of our own"),
    ("semver", "crc32c's build script"),
    ("socket2", "socket options that std and tokio do not offer; tokio needs it too"),
    ("tokio", "the runtime"),
    ("tracing", "one span per connection"),
    ("tracing-core", "what tracing is made of"),
];

/// Crates of others; the library itself is not counted.
const MOST: usize = 18;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> Option<String> {
    std::fs::read_to_string(root().join(file)).ok()
}

/// The list is for Linux, where the continuous integration runs; other systems swap `libc` for their own.
#[cfg(target_os = "linux")]
#[test]
fn the_default_build_is_exactly_these_crates() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let asked = ["tree", "--package", "ginnel", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"];
    let output = Command::new(cargo).args(asked).args(["--locked", "--offline"]).current_dir(root()).output();
    let output = output.expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names are text");
    let mut found: Vec<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    found.retain(|name| *name != env!("CARGO_PKG_NAME"));
    found.sort_unstable();
    found.dedup();
    let expected: Vec<&str> = CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, expected, "a dependency came or went: say why in CRATES, or leave it out");
    assert!(found.len() <= MOST, "{} crates of others, at most {MOST}", found.len());
}

#[test]
fn every_crate_has_its_reason_and_its_place_in_the_order() {
    assert!(CRATES.iter().all(|(_, reason)| !reason.is_empty()));
    assert!(CRATES.is_sorted_by(|a, b| a.0 < b.0));
}

/// A text need not name the oldest compiler, but what it names is what Cargo.toml promises.
#[test]
fn texts_name_the_oldest_rust_that_is_promised() {
    let manifests = ["Cargo.toml", "src/cli/Cargo.toml", "interop/Cargo.toml"];
    let promised = |file: &str| {
        let text = read(file).unwrap_or_else(|| panic!("{file} is readable"));
        let line = text.lines().find_map(|line| line.strip_prefix("rust-version = ").map(str::to_string));
        line.unwrap_or_else(|| panic!("{file} has a rust-version")).trim_matches('"').to_string()
    };
    let oldest = promised("Cargo.toml");
    assert_eq!(manifests.map(promised), [oldest.as_str(); 3]);
    for file in ["README.md", "CONTRIBUTING.md", "src/lib.rs", "src/design.md"] {
        let Some(text) = read(file) else { continue };
        for stated in rust_versions(&text) {
            assert_eq!(stated, oldest, "{file} names another Rust than Cargo.toml");
        }
    }
}

#[test]
fn versions_are_found_in_prose() {
    let text = "Rust 1.89 or newer (MSRV: 1.90), rustc 1.7. Trust 1.2 is another word, so is Rust 2024.";
    assert_eq!(rust_versions(text), ["1.89", "1.90", "1.7"]);
}

/// Versions such as 1.89 that follow the words Rust, rustc or MSRV.
fn rust_versions(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || "()[]`*\",:+".contains(c)).collect();
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let named = words.windows(2).filter(|pair| ["Rust", "rustc", "MSRV"].contains(&pair[0]));
    let versions = named.map(|pair| pair[1].trim_end_matches('.'));
    versions.filter(|word| word.starts_with("1.")).map(str::to_string).collect()
}

#[test]
fn no_file_of_the_library_or_the_command_is_unsafe() {
    let (mut folders, mut seen, mut wrong) = (vec![root().join("src")], 0, Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                seen += 1;
                let text = std::fs::read_to_string(&path).expect("a readable file");
                let is_unsafe = |line: &&str| {
                    let code = line.split("//").next().unwrap_or_default();
                    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
                };
                wrong.extend(text.lines().filter(is_unsafe).map(|line| format!("{}: {line}", path.display())));
            }
        }
    }
    assert!(seen > 5, "looked in the wrong place");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let manifest = read("Cargo.toml").expect("the manifest is readable");
    assert!(manifest.contains("unsafe_code = \"forbid\""), "Cargo.toml does not forbid unsafe code");
}
