use super::*;

fn file() -> Node {
    node(Body::File(FileImage::default()))
}

fn node(body: Body) -> Node {
    Node { body, perm: 0o600, owner: (0, 0), modified: SystemTime::UNIX_EPOCH, opens: 0 }
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

/// Of 64 cuts, in how many `path` names something.
fn survivals(image: &Image, dir: u64, text: &str) -> usize {
    (0..64).filter(|seed| image.clone().cut(*seed).0.lookup(dir, name(text)).is_ok()).count()
}

#[test]
fn a_new_name_needs_a_sync_of_its_directory_not_of_its_file() {
    let mut image = Image::new();
    let ino = image.create(ROOT, name("a"), file()).expect("the name is free");
    image.file_mut(ino).expect("a file").write(0, b"x");
    image.file_mut(ino).expect("a file").flush();
    let kept = survivals(&image, ROOT, "a");
    assert!(kept > 0 && kept < 64, "unsynced names go either way, kept {kept} of 64");
    image.sync_dir(ROOT).expect("a directory");
    assert_eq!(survivals(&image, ROOT, "a"), 64);
}

#[test]
fn in_the_journal_model_a_sync_of_any_file_commits_all_names() {
    let mut image = Image::with_names(NameModel::Journal);
    let ino = image.create(ROOT, name("a"), file()).expect("free");
    image.create(ROOT, name("b"), file()).expect("free");
    image.sync_file(ino).expect("a file");
    assert_eq!((survivals(&image, ROOT, "a"), survivals(&image, ROOT, "b")), (64, 64));
}

#[test]
fn unsynced_name_changes_survive_as_a_prefix() {
    let mut image = Image::new();
    for i in 0..10 {
        image.create(ROOT, name(&i.to_string()), file()).expect("the name is free");
    }
    for seed in 0..64 {
        let (after, report) = image.clone().cut(seed);
        let left = after.entries(ROOT).expect("the root").len() as u64;
        assert_eq!(left, report.dir_ops_kept);
        assert!((0..left).all(|i| after.lookup(ROOT, name(&i.to_string())).is_ok()));
    }
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    let mut image = Image::new();
    image.create(ROOT, name("old"), file()).expect("the name is free");
    let target = image.create(ROOT, name("new"), file()).expect("the name is free");
    image.sync_dir(ROOT).expect("a directory");
    image.rename((ROOT, name("old")), (ROOT, name("new")), false).expect("both exist");
    for seed in 0..64 {
        let (after, _) = image.clone().cut(seed);
        let new = after.lookup(ROOT, name("new")).expect("one of the two has the name");
        assert_eq!(after.lookup(ROOT, name("old")).is_ok(), new == target);
    }
    assert_eq!(
        image.rename((ROOT, name("gone")), (ROOT, name("new")), false),
        Err(FsError::NotFound),
        "a rename needs its source"
    );
}

#[test]
fn syncing_a_directory_that_has_no_durable_name_saves_nothing_by_itself() {
    let mut image = Image::new();
    let dir = image.create(ROOT, name("dir"), node(Body::Dir(DirImage::default()))).expect("free");
    image.create(dir, name("a"), file()).expect("free");
    image.sync_dir(dir).expect("a directory");
    assert!(survivals(&image, ROOT, "dir") < 64);
    image.sync_dir(ROOT).expect("a directory");
    assert_eq!(survivals(&image, dir, "a"), 64);
}

#[test]
fn a_removed_file_keeps_its_space_while_it_is_open_or_may_come_back() {
    let mut image = Image::new();
    let ino = image.create(ROOT, name("a"), file()).expect("free");
    image.file_mut(ino).expect("a file").write(0, &[1; 8192]);
    image.file_mut(ino).expect("a file").flush();
    image.sync_dir(ROOT).expect("a directory");
    image.node_mut(ino).expect("there").opens = 1;
    image.remove(ROOT, name("a"), false).expect("there");
    let back = survivals(&image, ROOT, "a");
    assert!(back > 0 && back < 64);
    image.sync_dir(ROOT).expect("a directory");
    assert_eq!(survivals(&image, ROOT, "a"), 0);
    assert_eq!(image.blocks().1, 2);
    image.node_mut(ino).expect("there").opens = 0;
    image.collect();
    assert_eq!(image.blocks().1, 0);
}

#[test]
fn a_full_disk_refuses_new_blocks_only() {
    let mut image = Image::new();
    image.set_capacity(8192);
    let ino = image.create(ROOT, name("a"), file()).expect("free");
    let need = image.file(ino).expect("a file").missing_blocks(0..8192);
    assert_eq!(image.check_room(need), Ok(()));
    image.file_mut(ino).expect("a file").allocate(0..8192, false);
    assert_eq!(image.check_room(1), Err(FsError::NoSpace));
    assert_eq!(image.check_room(image.file(ino).expect("a file").missing_blocks(0..8192)), Ok(()));
}
