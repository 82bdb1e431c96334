//! First starts, restarts, and directories that are refused.

use plinth_base::MemberId;
use tempfile::TempDir;

use super::*;
use crate::{
    config,
    flags::{self, Invocation},
};

const IDENTITY: Identity = Identity { member_id: MemberId(1), cluster_id: 2 };

struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn config(&self, data: &str, wal: Option<&str>) -> Config {
        let mut args = vec![format!("--data-dir={}", self.path(data).display())];
        args.extend(wal.map(|wal| format!("--wal-dir={}", self.path(wal).display())));
        let Ok(Invocation::Run(settings)) = flags::parse(&args, &[]) else { panic!("{args:?} asks for a start") };
        config::from_settings(&settings).expect("valid flags").0
    }

    fn open(&self, data: &str, wal: Option<&str>) -> Result<DataDir, String> {
        DataDir::open(&self.config(data, wal)).map(|(dir, _)| dir).map_err(|error| error.to_string())
    }

    fn start(&self, data: &str, wal: Option<&str>) -> DataDir {
        let mut dir = self.open(data, wal).expect("a first start");
        dir.mark(IDENTITY, 1, SyncMethod::WriteDsync, None).expect("writable");
        dir
    }

    fn refused(&self, data: &str, wal: Option<&str>, want: &str) {
        let error = self.open(data, wal).expect_err(want);
        assert!(error.contains(want), "{error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_first_start_makes_the_directory_for_its_owner_only() {
    let place = Place::new();
    let dir = place.open("a/b/data", None).expect("made with its parents");
    assert_eq!(dir.marker(), None);
    let mode = fs::metadata(place.path("a/b/data")).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    assert_eq!(dir.wal_path(), dir.path().join("wal"));
    assert_eq!(dir.tree_path(), dir.path().join("tree"));
}

#[test]
fn an_existing_directory_that_others_may_read_gets_a_warning() {
    let place = Place::new();
    fs::create_dir(place.path("data")).expect("made");
    fs::set_permissions(place.path("data"), fs::Permissions::from_mode(0o755)).expect("changed");
    let (_, notices) = DataDir::open(&place.config("data", None)).expect("it is empty");
    assert!(notices[0].msg.contains("0700"), "{notices:?}");
}

#[test]
fn a_restart_finds_what_the_first_start_decided() {
    let place = Place::new();
    let written = *place.start("data", None).marker().expect("just marked");
    assert_eq!((written.member_id, written.cluster_id, written.shards), (MemberId(1), 2, 1));
    assert_eq!(place.open("data", None).expect("a restart").marker(), Some(&written));
}

#[test]
fn a_second_node_on_the_same_directory_is_refused_with_the_pid_of_the_first() {
    let place = Place::new();
    let _first = place.start("data", None);
    place.refused("data", None, &format!("pid {}", std::process::id()));
}

#[test]
fn two_members_cannot_share_a_log_directory() {
    let place = Place::new();
    let _first = place.start("one", Some("wal"));
    place.refused("two", Some("wal"), &format!("pid {}", std::process::id()));
}

#[test]
fn a_directory_of_etcd_is_refused_and_left_alone() {
    let place = Place::new();
    for name in ["data/member/snap/db", "data2/member/wal/0000000000000000-0000000000000000.wal"] {
        let path = place.path(name);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::write(path, "x").expect("written");
    }
    place.refused("data", None, "holds the data of etcd");
    place.refused("data2", None, "holds the data of etcd");
    place.refused("data3", Some("data2/member/wal"), "holds the data of etcd");
    assert!(!place.path("data").join(LOCK_FILE).exists());
}

#[test]
fn data_without_marker_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.path("data/wal")).expect("made");
    drop(place.open("data", None).expect("an empty wal/ is no data"));
    fs::write(place.path("data/wal/0001"), "x").expect("written");
    place.refused("data", None, "marker PLINTH is missing");
}

#[test]
fn a_member_and_its_log_belong_together() {
    let place = Place::new();
    drop(place.start("one", Some("wal1")));
    drop(place.start("two", Some("wal2")));
    drop(place.start("three", None));
    drop(place.open("one", Some("wal1")).expect("a restart"));
    place.refused("one", None, "name it with --wal-dir");
    place.refused("one", Some("wal2"), "is not the log of the member");
    place.refused("one", Some("fresh"), "is not the log of the member");
    place.refused("three", Some("wal3"), "leave out --wal-dir");
    place.refused("one", Some("one"), "--wal-dir is the data directory itself");
}

#[test]
fn a_first_start_that_died_between_the_markers_can_be_repeated() {
    let place = Place::new();
    drop(place.start("data", Some("wal")));
    fs::remove_file(place.path("data").join(MARKER_FILE)).expect("removed");
    let _again = place.start("data", Some("wal"));
    drop(place.start("other", Some("used")));
    fs::create_dir(place.path("measured")).expect("made");
    fs::write(place.path("measured").join(SCRATCH_FILES[0]), "x").expect("written");
    drop(place.start("later", Some("measured")));
    fs::write(place.path("used/0001"), "x").expect("written");
    place.refused("fresh", Some("used"), "is not empty");
}

#[test]
fn what_is_no_directory_is_refused() {
    let place = Place::new();
    fs::write(place.path("data"), "x").expect("written");
    place.refused("data", None, "--data-dir");
    place.refused("data/below", None, "--data-dir");
}
