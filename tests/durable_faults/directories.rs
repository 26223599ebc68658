//! Who may open a directory, and what opening says when it cannot.

use std::path::Path;

use ginnel::*;

use crate::common::*;
use crate::durable::*;

/// A child that has a spool open until it is killed.
pub(crate) async fn own() {
    let asked = asked_to_finish();
    let publisher = publisher(Path::new(&part("dir"))).build().expect("a spool");
    say("ready");
    let _ = asked.await;
    publisher.close().await;
}

fn refusal<T: std::fmt::Debug>(result: Result<T, BuildError>) -> OpenError {
    match result.expect_err("it cannot be opened") {
        BuildError::Spool(error) => error,
        other => panic!("{other}"),
    }
}

fn in_use_by(result: Result<Pub, BuildError>, owner: u32) {
    let error = refusal(result);
    let text = error.to_string();
    let OpenError::InUse { pid, path } = error else { panic!("{error}") };
    assert_eq!(pid, Some(owner));
    assert!(text.contains(&owner.to_string()) && text.contains(&path.display().to_string()), "{text}");
}

#[tokio::test]
async fn d06_one_socket_of_a_process_has_a_spool() {
    let dir = Dir::new();
    let first = publisher(&dir.spool()).build().expect("a spool");
    in_use_by(publisher(&dir.spool()).build(), std::process::id());
    // Whatever the way in and whatever the socket.
    let push = pusher(&dir.spool()).connect("tcp://127.0.0.1:1").expect_err("in use");
    assert!(matches!(push, ConnectError::Spool(OpenError::InUse { .. })), "{push}");
    let bound = publisher(&dir.spool()).bind(place("tcp")).await.expect_err("in use");
    assert!(matches!(bound, BindError::Spool(OpenError::InUse { .. })), "{bound}");
    // The first is none the worse for it.
    soon(first.send("x")).await.expect("accepted");
    soon(first.close()).await;
    soon(publisher(&dir.spool()).build().expect("a spool").close()).await;
}

#[tokio::test]
async fn d06_a_dropped_socket_gives_its_spool_back() {
    let dir = Dir::new();
    drop(publisher(&dir.spool()).build().expect("a spool"));
    until(|| publisher(&dir.spool()).build().is_ok()).await;
}

#[tokio::test]
async fn d06_one_process_has_a_spool_and_its_death_frees_it() {
    let dir = Dir::new();
    let spool = dir.spool();
    let mut owner = Player::start("owner", &[("dir", spool.to_str().expect("a path"))], |_| {});
    owner.ready().await;
    in_use_by(publisher(&spool).build(), owner.pid());
    // A tool may look all the same.
    spool::SpoolFiles::open(&spool).expect("readable").list().expect("a list");
    owner.shoot();
    owner.gone().await;
    soon(publisher(&spool).build().expect("a spool").close()).await;
}

#[tokio::test]
async fn d06_an_ended_process_leaves_a_clean_spool() {
    let dir = Dir::new();
    let spool = dir.spool();
    let mut owner = Player::start("owner", &[("dir", spool.to_str().expect("a path"))], |_| {});
    owner.ready().await;
    owner.finish().await;
    assert!(spool::SpoolFiles::open(&spool).expect("readable").list().expect("a list").clean);
}

fn path_error(result: Result<Pub, BuildError>, named: &Path) {
    let error = refusal(result);
    let text = error.to_string();
    assert!(matches!(error, OpenError::Path { .. }), "{text}");
    assert!(text.contains(&named.display().to_string()), "{text} does not name {}", named.display());
}

#[tokio::test]
async fn d06_a_file_is_no_directory() {
    let dir = Dir::new();
    let file = dir.path("file");
    std::fs::write(&file, "mine").expect("a file");
    path_error(publisher(&file).build(), &file);
    path_error(publisher(&file.join("spool")).build(), &file);
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "mine");
}

#[tokio::test]
async fn d06_a_spool_whose_files_are_directories_is_refused() {
    for name in ["LOCK", "names.a", "names.b"] {
        let dir = Dir::new();
        let inside = dir.spool().join(name);
        std::fs::create_dir_all(&inside).expect("a directory");
        path_error(publisher(&dir.spool()).build(), &dir.spool());
        assert!(inside.is_dir());
        std::fs::remove_dir(&inside).expect("it is ours");
        soon(publisher(&dir.spool()).build().expect("a spool").close()).await;
    }
}

#[tokio::test]
async fn d06_without_permission_nothing_is_opened() {
    use std::os::unix::fs::PermissionsExt;
    let allow = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    let dir = Dir::new();
    let closed = dir.path("closed");
    std::fs::create_dir(&closed).expect("a directory");
    soon(publisher(&dir.spool()).build().expect("a spool").close()).await;
    allow(&closed, 0o500);
    allow(&dir.spool(), 0o500);
    // Who may do everything cannot see this fail.
    if std::fs::write(closed.join("probe"), "").is_err() {
        path_error(publisher(&closed.join("spool")).build(), &closed);
        path_error(publisher(&dir.spool()).build(), &dir.spool());
        spool::SpoolFiles::open(dir.spool()).expect("readable").list().expect("a list");
    }
    allow(&closed, 0o700);
    allow(&dir.spool(), 0o700);
}

#[tokio::test]
async fn a_spool_is_for_its_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let publisher = publisher(&dir.spool()).declare("all", [""]).build().expect("a spool");
    send_words(&publisher, 0..1000).await;
    soon(publisher.close()).await;
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&dir.spool()), 0o700);
    for entry in std::fs::read_dir(dir.spool()).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
    }
}

#[tokio::test]
async fn options_of_a_spool_need_a_spool() {
    let error = Pub::builder().sync(ginnel::Sync::Never).build().expect_err("without a directory");
    assert!(matches!(&error, BuildError::Option(option) if option.name() == "spool"), "{error}");
    let dir = Dir::new();
    for (name, builder) in [
        ("spool_max_bytes", publisher(&dir.spool()).spool_max_bytes(1 << 20)),
        ("segment_bytes", publisher(&dir.spool()).segment_bytes(1)),
        ("segment_bytes", publisher(&dir.spool()).spool_max_bytes(8 << 20).segment_bytes(4 << 20)),
        ("batch_delay", publisher(&dir.spool()).batch_delay(std::time::Duration::from_millis(3))),
        ("conflate", publisher(&dir.spool()).conflate(true)),
        ("declare", publisher(&dir.spool()).declare("two words", [""])),
        ("sync", publisher(&dir.spool()).sync(ginnel::Sync::Every(std::time::Duration::ZERO))),
        ("max_names", publisher(&dir.spool()).max_names(0)),
        ("declare", publisher(&dir.spool()).max_names(1).declare("one", [""]).declare("two", [""])),
    ] {
        let error = builder.build().expect_err("out of range");
        assert!(matches!(&error, BuildError::Option(option) if option.name() == name), "{name}: {error}");
    }
    assert!(!dir.spool().exists(), "refused before anything was made");
    // One name that is declared twice is one.
    let twice = publisher(&dir.spool()).max_names(1).declare("one", ["a"]).declare("one", ["b"]).build();
    assert_eq!(twice.expect("a spool").spool().expect("a spool").names().len(), 1);
}
