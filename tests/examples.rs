//! Every example tells its whole story, in one process and in several, and says so in its last line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The names of all files in `examples`.
fn names() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let files = fs::read_dir(folder).expect("the folder of examples").map(|entry| entry.expect("an entry").path());
    let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
    let mut names: Vec<String> =
        sources.map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned()).collect();
    // Built with its feature only.
    names.retain(|name| name != "blocking" || cfg!(feature = "blocking"));
    names.sort();
    assert!(names.len() >= 10, "only {names:?}");
    names
}

/// Where Cargo puts examples: beside the folder that this test runs from.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a path of this test");
    let profile = test.parent().and_then(Path::parent).expect("a target directory");
    let program = profile.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(program.exists(), "{} is missing: `cargo test` and `cargo build --examples` make it", program.display());
    program
}

fn run(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program(name));
    command.args(arguments).stdin(Stdio::null()).output().expect("it starts")
}

fn tells_its_story(name: &str, arguments: &[&str]) {
    let output = run(name, arguments);
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    assert!(
        output.status.success() && last == format!("OK {name}"),
        "{name} {arguments:?}: {}\n{said}\n{complained}",
        output.status
    );
    assert!(complained.is_empty(), "{name} {arguments:?}: {complained}");
}

#[test]
fn every_example_works_in_one_process() {
    names().iter().for_each(|name| tells_its_story(name, &[]));
}

#[test]
fn every_example_works_in_several_processes() {
    names().iter().for_each(|name| tells_its_story(name, &["--procs"]));
}

#[test]
fn every_example_explains_itself() {
    for name in names() {
        let help = run(&name, &["--help"]);
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(help.status.success(), "{name} --help: {}", help.status);
        for word in ["--procs", "--role", "--endpoint", "roles: "] {
            assert!(text.contains(word), "{name} --help does not mention {word}");
        }
        for wrong in [&["--no-such-flag"][..], &["--role", "nobody"], &["--role"], &["--endpoint", "tcp://*:*"]] {
            let output = run(&name, wrong);
            assert_eq!(output.status.code(), Some(2), "{name} {wrong:?}");
            assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{name} {wrong:?} says why, on stderr");
        }
    }
}

#[test]
fn the_readme_lists_every_example() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README");
    for name in names() {
        assert!(readme.contains(&format!("| `{name}` |")), "the README's table of examples lacks {name}");
    }
}
