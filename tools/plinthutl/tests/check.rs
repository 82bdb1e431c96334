//! `plinthutl check`, as a process, on files that are made here.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output},
};

use bytes::Bytes;
use plinth_base::MemberId;
use plinth_env::SyncMethod;
use plinth_kv::trees::{LIVE, TREES};
use plinth_server::marker::Marker;
use plinth_tree::{NewBody, NewValue, Store, StoreOptions};
use plinth_uring::{UringEnv, cores::Available};
use tempfile::TempDir;

/// The stopped directory of a node with a few keys in its tree.
fn data_dir() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    fs::write(dir.path().join("LOCK"), "1\n").expect("written");
    let marker = Marker {
        member_id: MemberId(1),
        cluster_id: 7,
        shards: 1,
        wal_sync_method: SyncMethod::WriteDsync,
        separate_wal: false,
        instance: 1,
    };
    marker.write(dir.path()).expect("written");
    fs::create_dir(dir.path().join("tree")).expect("made");
    let options = StoreOptions {
        path: dir.path().join("tree/group-0.tree"),
        trees: TREES,
        file_bytes_max: 1 << 30,
        grow_bytes: 1 << 20,
    };
    let core = Available::of_this_process().expect("tests run on Linux").affinity[0];
    plinth_uring::run(&[core], move |context| fill(context.env, options.clone())).expect("io_uring works here");
    dir
}

async fn fill(env: UringEnv, options: StoreOptions) {
    let mut store = Store::create(env, options).await.expect("a new file");
    plinth_kv::bootstrap(&mut store, 7, &[]).expect("a new store is in memory");
    let body = Bytes::from_static(b"value");
    for i in 0..2000u32 {
        let value = NewValue { head: b"head", body: NewBody::Bytes(&body) };
        store.put(LIVE, format!("key-{i:05}").as_bytes(), value).expect("in memory");
    }
    store.publish();
    let checkpoint = store.begin_checkpoint().expect("something was published");
    store.finish_checkpoint(checkpoint.run(async |_| {}).await).expect("written");
}

fn plinthutl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_plinthutl")).args(args).output().expect("it runs")
}

fn check(dir: &Path) -> (Option<i32>, String, String) {
    let output = plinthutl(&["check", dir.to_str().expect("a name in UTF-8")]);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_sound_directory_is_proven_and_left_alone() {
    let dir = data_dir();
    let tree = dir.path().join("tree/group-0.tree");
    let before = (fs::read(&tree).expect("readable"), fs::metadata(&tree).expect("there").modified().expect("a time"));
    let (code, out, err) = check(dir.path());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("generation 3: applied to entry 1, revision 1") && out.contains("live 2000"), "{out}");
    assert!(out.contains("generation 2: empty") && out.ends_with("ok\n"), "{out}");
    let after = (fs::read(&tree).expect("readable"), fs::metadata(&tree).expect("there").modified().expect("a time"));
    assert!(before == after, "the file was touched");
    assert_eq!(fs::read_to_string(dir.path().join("LOCK")).expect("readable"), "1\n");
}

#[test]
fn a_flipped_bit_in_a_page_is_named_with_file_and_offset() {
    let dir = data_dir();
    let tree = dir.path().join("tree/group-0.tree");
    let sound = fs::read(&tree).expect("readable");
    let at = sound.windows(9).position(|window| window == b"key-00700").expect("the key is stored as it is");
    let mut flipped = sound;
    flipped[at] ^= 1;
    fs::write(&tree, flipped).expect("writable");
    let (code, _, err) = check(dir.path());
    assert_eq!(code, Some(1), "{err}");
    let want = format!("{} is corrupt at offset {}", tree.display(), at / 4096 * 4096);
    assert!(err.contains(&want) && err.lines().count() == 1, "want {want}, got {err}");
}

#[test]
fn a_directory_in_use_or_of_something_else_is_refused() {
    let dir = data_dir();
    let lock = File::open(dir.path().join("LOCK")).expect("there");
    lock.try_lock().expect("nobody has it");
    let (code, _, err) = check(dir.path());
    assert!(code == Some(1) && err.contains("in use by another plinth (pid 1)"), "{err}");
    drop(lock);
    fs::remove_file(dir.path().join("PLINTH")).expect("it is there");
    let (code, _, err) = check(dir.path());
    assert!(code == Some(1) && err.contains("no marker PLINTH"), "{err}");
    let (code, _, err) = check(Path::new("/nonexistent"));
    assert!(code == Some(1) && err.contains("/nonexistent/LOCK"), "{err}");
}

#[test]
fn help_is_printed_and_a_wrong_call_explained() {
    let help = plinthutl(&["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).starts_with("usage: plinthutl"));
    for args in [&[][..], &["check"], &["check", "--force"], &["mend", "x"]] {
        let output = plinthutl(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("usage: plinthutl"), "{args:?}");
    }
}
