//! What only the operating system's directory promises.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::super::tests::TempDir;
use super::*;

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
#[test]
fn what_is_made_is_for_the_owner_only() {
    let dir = TempDir::new();
    let path = dir.path().join("deep/spool");
    let storage = RealDir::open(&path, true, true).unwrap();
    storage.open("a", Open::New).unwrap();
    storage.subdir("damaged").unwrap();
    let _lock = storage.lock().unwrap();
    assert_eq!(mode(&dir.path().join("deep")), 0o700);
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("damaged")), 0o700);
    assert_eq!(mode(&path.join("a")), 0o600);
    assert_eq!(mode(&path.join(LOCK)), 0o600);
}

#[test]
fn a_missing_directory_is_made_only_if_asked_for() {
    let dir = TempDir::new();
    let path = dir.path().join("spool");
    match RealDir::open(&path, true, false).map(|_| ()) {
        Err(OpenError::Path { path: named, source }) => {
            assert_eq!((named, source.kind()), (path.clone(), io::ErrorKind::NotFound));
        }
        other => panic!("{other:?}"),
    }
    assert!(!path.exists());
    RealDir::open(&path, true, true).unwrap();
    RealDir::open(&path, true, true).unwrap();
    assert!(path.is_dir());
}

#[test]
fn a_file_is_no_directory() {
    let dir = TempDir::new();
    let path = dir.path().join("file");
    fs::write(&path, "x").unwrap();
    for create in [false, true] {
        assert!(matches!(RealDir::open(&path, true, create), Err(OpenError::Path { .. })));
        assert!(matches!(RealDir::open(&path.join("spool"), true, create), Err(OpenError::Path { .. })));
    }
}

#[cfg(unix)]
#[test]
fn a_directory_whose_rights_were_chosen_keeps_them() {
    use std::os::unix::fs::PermissionsExt;

    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    RealDir::open(dir.path(), true, true).unwrap();
    assert_eq!(mode(dir.path()), 0o750);
}

#[test]
fn only_files_are_listed() {
    let dir = TempDir::new();
    let storage = dir.open();
    fs::create_dir(dir.path().join("directory")).unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        std::os::unix::fs::symlink("nowhere", dir.path().join("dangling")).unwrap();
        std::os::unix::fs::symlink("directory", dir.path().join("link to a directory")).unwrap();
        // Not every file system takes a name that is no text.
        let _ = fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"no\xfftext")), "x");
    }
    assert_eq!(storage.list().unwrap(), ["file"]);
}

#[test]
fn the_lock_file_names_its_holder() {
    let dir = TempDir::new();
    fs::write(dir.path().join(LOCK), "4294967295 1 and a long text of somebody who was here before\n").unwrap();
    let storage = dir.open();
    let lock = storage.lock().unwrap();
    assert!(matches!(lock, Locked::Got(_)), "the text is no lock");
    let text = fs::read_to_string(dir.path().join(LOCK)).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(numbers[0], u64::from(std::process::id()));
    assert!(numbers[1] > 1_577_836_800, "seconds since 1970");
    assert_eq!(numbers.len(), 2);
}

#[test]
fn one_directory_under_two_names_is_one_lock() {
    let dir = TempDir::new();
    let first = dir.open();
    let _lock = first.lock().unwrap();
    let other = RealDir::open(&dir.path().join("..").join(dir.path().file_name().unwrap()), true, false).unwrap();
    assert!(matches!(other.lock(), Ok(Locked::Held { pid: Some(_) })));
}

#[test]
fn another_directory_is_another_lock() {
    let (one, two) = (TempDir::new(), TempDir::new());
    let (one, two) = (one.open(), two.open());
    let _lock = one.lock().unwrap();
    assert!(matches!(two.lock(), Ok(Locked::Got(_))));
}

/// Run as a child process: locks the directory it is told, says so, and waits until its standard input ends.
#[test]
#[ignore = "the child of the next test"]
fn hold_the_lock() {
    let Some(dir) = std::env::var_os("GINNEL_TEST_LOCK") else { return };
    let storage = RealDir::open(Path::new(&dir), true, false).unwrap();
    let lock = storage.lock().unwrap();
    println!("\nlocked {}", matches!(lock, Locked::Got(_)));
    let _ = io::stdin().read_line(&mut String::new());
}

#[test]
fn a_lock_keeps_other_processes_out_and_dies_with_its_own() {
    let dir = TempDir::new();
    let storage = dir.open();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::storage::real::tests::hold_the_lock", "--ignored", "--nocapture"])
        .env("GINNEL_TEST_LOCK", dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.into_iter().find(|line| line.starts_with("locked"));
    assert_eq!(said.as_deref(), Some("locked true"));

    let Ok(Locked::Held { pid }) = storage.lock() else { panic!("held by the child") };
    #[cfg(unix)]
    assert_eq!(pid, Some(child.id()));
    #[cfg(not(unix))]
    let _ = pid;

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(storage.lock(), Ok(Locked::Got(_))));
}

#[test]
fn reserved_space_is_taken_from_the_disk() {
    let dir = TempDir::new();
    let file = dir.open().open("a", Open::New).unwrap();
    file.allocate(1 << 20).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt;
        let plain = fs::File::create(dir.path().join("b")).unwrap();
        if reserve(&plain, 1 << 20).unwrap() {
            assert!(fs::metadata(dir.path().join("a")).unwrap().blocks() * 512 >= 1 << 20);
        }
    }
}

#[test]
fn a_path_stays_the_same_directory_when_the_working_directory_changes() {
    let storage = RealDir::open(Path::new("."), true, false).unwrap();
    assert!(storage.path().is_absolute());
}

#[cfg(target_os = "linux")]
#[test]
fn a_network_file_system_is_looked_for_above_a_directory_that_is_not_there_yet() {
    // The kind of the file system under test is whatever it is; that it is the same for both is what counts.
    let dir = TempDir::new();
    assert_eq!(is_on_network(&dir.path().join("not/there")), is_on_network(dir.path()));
    assert!(!is_on_network(Path::new("/proc/self")));
}
