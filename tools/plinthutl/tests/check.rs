//! `plinthutl check`, as a process, on files that are made here.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use bytes::Bytes;
use plinth_base::{GroupId, LogIndex, MemberId, Term};
use plinth_env::SyncMethod;
use plinth_kv::trees::{LIVE, TREES};
use plinth_server::marker::Marker;
use plinth_tree::{NewBody, NewValue, Store, StoreOptions};
use plinth_uring::{UringEnv, cores::Available};
use plinth_wal::{Entry, SEGMENT_BYTES_MIN, Wal, WalOptions};
use tempfile::TempDir;

/// Entries of the log, one batch each; there are several segments.
const LOG_ENTRIES: u64 = 12;

/// The stopped directory of a node with a few keys in its tree and a few entries in its log.
fn data_dir() -> TempDir {
    let dir = TempDir::new().expect("a temporary directory");
    fs::write(dir.path().join("LOCK"), "1\n").expect("written");
    let marker = Marker {
        member_id: MemberId(1),
        cluster_id: 7,
        shards: 1,
        wal_sync_method: SyncMethod::WriteDsync,
        wal_sync_medians: None,
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
    let wal_dir = dir.path().join("wal");
    fs::create_dir(&wal_dir).expect("made");
    let core = Available::of_this_process().expect("tests run on Linux").affinity[0];
    plinth_uring::run(&[core], move |context| {
        let (options, wal_dir) = (options.clone(), wal_dir.clone());
        async move {
            fill(context.env.clone(), options).await;
            log(context.env, wal_dir).await;
        }
    })
    .expect("io_uring works here");
    dir
}

async fn log(env: UringEnv, dir: PathBuf) {
    let options = WalOptions { segment_bytes: SEGMENT_BYTES_MIN, ..WalOptions::new(dir) };
    let mut wal = Wal::create(&env, options).await.expect("a new log");
    wal.start_group(GroupId(0), LogIndex(1), Term(1));
    for index in 2..2 + LOG_ENTRIES {
        let payload = Bytes::from(vec![index as u8; 9000]);
        wal.append(Entry { group: GroupId(0), index: LogIndex(index), term: Term(1), is_change: false, payload });
        let done = wal.begin_flush().expect("an entry waits").run().await;
        wal.finish_flush(done).expect("written");
    }
}

/// Changes one byte of `file`.
fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).expect("readable");
    bytes[at] ^= 1;
    fs::write(file, bytes).expect("writable");
}

/// Where the last batch of a segment begins.
fn last_batch(file: &Path) -> usize {
    let bytes = fs::read(file).expect("readable");
    let begins = |at: &usize| bytes[*at..].starts_with(b"plinthWL");
    (0..bytes.len()).step_by(4096).rfind(begins).expect("a segment has batches")
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
fn the_log_is_proven_with_its_segments_and_entries() {
    let dir = data_dir();
    let (code, out, err) = check(dir.path());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("wal: 3 segments") && out.contains("0000000000000003.wal: from batch"), "{out}");
    assert!(out.contains(&format!("group 0: entries 2 to {}", 1 + LOG_ENTRIES)), "{out}");
}

#[test]
fn a_torn_tail_of_the_log_is_sound_and_named() {
    let dir = data_dir();
    let segment = dir.path().join("wal/0000000000000003.wal");
    let at = last_batch(&segment);
    flip(&segment, at + 100);
    let before = fs::read(&segment).expect("readable");
    let (code, out, err) = check(dir.path());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains("torn tail") && out.contains(&format!("at offset {at} of {}", segment.display())), "{out}");
    assert!(fs::read(&segment).expect("readable") == before, "the checker cuts nothing");
}

#[test]
fn a_flipped_bit_in_an_older_batch_of_the_log_is_named_with_file_and_offset() {
    let dir = data_dir();
    let segment = dir.path().join("wal/0000000000000001.wal");
    let at = last_batch(&segment);
    flip(&segment, at + 5000);
    let (code, _, err) = check(dir.path());
    let want = format!("{} is corrupt at offset {at}", segment.display());
    assert!(code == Some(1) && err.contains(&want) && err.contains("restore the member"), "want {want}, got {err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn a_missing_segment_and_a_missing_log_are_named() {
    let dir = data_dir();
    fs::remove_file(dir.path().join("wal/0000000000000002.wal")).expect("it is there");
    let (code, _, err) = check(dir.path());
    assert!(code == Some(1) && err.contains("0000000000000002.wal is missing"), "{err}");
    let dir = data_dir();
    fs::remove_file(dir.path().join("wal/0000000000000001.wal")).expect("it is there");
    let (code, _, err) = check(dir.path());
    assert!(code == Some(1) && err.contains("group-0.tree is older than the log"), "{err}");
    fs::remove_dir_all(dir.path().join("wal")).expect("it is there");
    fs::create_dir(dir.path().join("wal")).expect("made");
    let (code, out, err) = check(dir.path());
    assert!(code == Some(0) && out.contains("no log yet"), "a member that has seen no entry needs none: {out}{err}");
}

#[test]
fn a_log_in_a_directory_of_its_own_must_be_named_and_belong_to_the_member() {
    let dir = data_dir();
    let other = TempDir::new().expect("a temporary directory");
    let run = |args: &[&str]| String::from_utf8(plinthutl(args).stderr).expect("it prints text");
    let (data, wal) = (dir.path().to_str().expect("UTF-8"), other.path().to_str().expect("UTF-8"));
    assert!(run(&["check", data, "--wal-dir", wal]).contains("leave out --wal-dir"));
    let marker = Marker::read(dir.path()).expect("sound").expect("there");
    let separate = Marker { separate_wal: true, ..marker };
    separate.write(dir.path()).expect("written");
    assert!(run(&["check", data]).contains("name it with --wal-dir"));
    assert!(run(&["check", data, "--wal-dir", wal]).contains("is not the log of the member"));
    fs::remove_dir(other.path()).expect("it is empty");
    fs::rename(dir.path().join("wal"), other.path()).expect("moved");
    separate.write(other.path()).expect("written");
    let output = plinthutl(&["check", data, "--wal-dir", wal]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
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
