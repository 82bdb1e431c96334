//! A minimal log on `powerfs`: what it acknowledged survives every cut, and without its flush it doesn't. A test whose
//! file system never lost anything would prove nothing about the server.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use plinth_base::Prng;
use plinth_crash::powerfs::{Image, MountError, PowerFs};

const CUTS: u64 = 20;

fn probe(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfs_probe"));
    command.arg(args[0]).arg(dir).args(&args[1..]);
    command
}

fn mount(image: Image, dir: &Path) -> Option<PowerFs> {
    match PowerFs::mount(image, dir) {
        Ok(fs) => Some(fs),
        Err(MountError::Unavailable(why)) => {
            eprintln!("skipped: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Records acknowledged before the cut, and whole records after it; `None` where FUSE can't be used.
fn cut_once(args: &[&str], seed: u64) -> Option<(u64, u64)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let fs = mount(Image::new(), dir.path())?;
    let mut child = probe(args, fs.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut acks = BufReader::new(child.stdout.take().expect("it was piped")).lines();
    let mut prng = Prng::new(seed);
    let mut acknowledged = 0;
    let mut next_ack = || {
        let line = acks.next()?.expect("the pipe is readable");
        Some(line.parse::<u64>().expect("a number") + 1)
    };
    for _ in 0..100 + prng.below(100) {
        acknowledged = next_ack().expect("the disk doesn't fail yet");
    }
    std::thread::sleep(Duration::from_micros(prng.below(2000)));
    let survivor = fs.cut(seed);
    while let Some(ack) = next_ack() {
        acknowledged = ack;
    }
    child.wait().expect("it was started");
    drop(fs);
    let fs = mount(survivor.image, dir.path())?;
    let checked = probe(&["check"], fs.path()).output().expect("it starts");
    let whole = String::from_utf8(checked.stdout).expect("a number").trim().parse();
    Some((acknowledged, whole.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&checked.stderr)))))
}

#[test]
fn acknowledged_records_survive_every_power_cut() {
    for seed in 0..CUTS {
        let Some((acknowledged, whole)) = cut_once(&["append"], seed) else { return };
        assert!(whole >= acknowledged, "seed {seed}: {acknowledged} acknowledged, {whole} left");
    }
}

#[test]
fn without_the_flush_acknowledged_records_get_lost() {
    let mut lost = 0;
    for seed in 0..CUTS {
        let Some((acknowledged, whole)) = cut_once(&["append", "--no-flush"], seed) else { return };
        lost += u64::from(whole < acknowledged);
    }
    assert!(lost * 10 >= CUTS * 9, "only {lost} of {CUTS} cuts lost records");
}

#[test]
fn a_cut_by_count_takes_effect_at_that_operation() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(fs) = mount(Image::new(), dir.path()) else { return };
    std::fs::write(dir.path().join("before"), b"x").expect("the power is on");
    fs.cut_after(1, 7);
    assert!(std::fs::write(dir.path().join("after"), b"x").is_err());
    assert!(fs.is_cut());
    assert!(std::fs::File::create(dir.path().join("later")).is_err(), "nothing works without power");
    drop(fs.cut(8));
}

#[test]
fn a_full_disk_says_so_and_a_slow_one_still_answers_reads() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Some(fs) = mount(Image::new(), dir.path()) else { return };
    fs.set_capacity(8192);
    let path = dir.path().join("file");
    std::fs::write(&path, [1; 8192]).expect("it fits");
    let error = std::fs::write(dir.path().join("more"), [1; 1]).expect_err("it does not fit");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    // Far longer than a machine under load keeps a thread waiting: the order is what counts, not the time.
    fs.set_sync_delay(Duration::from_secs(3));
    let file = std::fs::File::open(&path).expect("it is there");
    let sync = std::thread::spawn(move || file.sync_all());
    assert_eq!(std::fs::metadata(&path).expect("it is there").len(), 8192);
    assert!(!sync.is_finished(), "a read waited for a sync");
    sync.join().expect("it ends").expect("it succeeds");
}
