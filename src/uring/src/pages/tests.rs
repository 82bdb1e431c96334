use std::{fs::File, os::fd::AsFd, os::unix::fs::FileExt, thread::sleep, time::Duration};

use plinth_base::PageId;

use super::*;
use crate::probe::check;

const PAGE_BYTES: usize = 8192;
const PAGES: usize = 64;

/// Longer than a stamp is trusted.
const AGED: Duration = Duration::from_millis(40);

struct Fixture {
    pages: Arc<MappedPages>,
    file: File,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

/// A file of `PAGES` pages in a reservation for four times as many.
fn fixture(features: Features) -> Fixture {
    let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR").to_owned() + "/../../target").expect("a directory");
    let path = dir.path().join("tree");
    let file = File::options().read(true).write(true).create_new(true).open(&path).expect("created");
    for page in 0..PAGES {
        file.write_all_at(&content(page), (page * PAGE_BYTES) as u64).expect("written");
    }
    file.sync_all().expect("synced");
    let bytes_max = (4 * PAGES * PAGE_BYTES) as u64;
    let pages = MappedPages::open(file.as_fd(), &path, PAGE_BYTES, bytes_max, features).expect("mapped");
    Fixture { pages, file, path, _dir: dir }
}

fn features() -> Features {
    check().expect("the tests run where plinth runs")
}

fn content(page: usize) -> Vec<u8> {
    (0..PAGE_BYTES).map(|i| (page * 31 + i * 7) as u8).collect()
}

fn want(page: usize) -> PageWant {
    let run = PageRun::one(PageId(page as u64));
    PageWant { run, bytes: PAGE_BYTES as u32, checksum: crc32c(0, &content(page)) }
}

#[test]
fn a_page_is_missing_until_it_is_loaded_and_then_its_bytes_are_there() {
    for features in [features(), Features::default()] {
        let f = fixture(features);
        f.pages.evict_all().expect("evicted");
        assert!(f.pages.get(&want(3)).is_none());
        f.pages.load(&[want(3), want(60)]).expect("loaded");
        assert_eq!(f.pages.get(&want(3)), Some(content(3).as_slice()));
        assert_eq!(f.pages.get(&want(60)), Some(content(60).as_slice()));
        assert!(f.pages.get(&want(4)).is_none());
    }
}

#[test]
fn an_evicted_page_is_missing_again_for_the_reader_and_for_the_sweep() {
    let f = fixture(features());
    f.pages.load(&[want(1), want(2)]).expect("loaded");
    f.pages.evict_all().expect("evicted");
    sleep(AGED);
    assert!(f.pages.get(&want(1)).is_none(), "asked for, because its stamp is old");
    f.pages.sweep(0..PAGES);
    // Somebody else reads the file: in memory again, but not verified.
    f.file.read_exact_at(&mut vec![0; PAGE_BYTES], 2 * PAGE_BYTES as u64).expect("read");
    assert!(f.pages.get(&want(2)).is_none(), "the sweep forgot it");
    f.pages.load(&[want(2)]).expect("loaded");
    assert!(f.pages.get(&want(2)).is_some());
}

#[test]
fn pages_that_stayed_in_memory_are_there_after_a_sweep() {
    let f = fixture(features());
    f.pages.load(&[want(5)]).expect("loaded");
    sleep(AGED);
    f.pages.sweep(0..4 * PAGES);
    assert_eq!(f.pages.get(&want(5)), Some(content(5).as_slice()));
}

#[test]
fn wrong_bytes_are_corrupt_with_file_and_offset() {
    let f = fixture(features());
    f.file.write_all_at(b"!", 7 * PAGE_BYTES as u64 + 100).expect("written");
    let Err(PageError::Corrupt(corrupt)) = f.pages.load(&[want(6), want(7)]) else { panic!("page 7 is wrong") };
    assert_eq!(corrupt.file, f.path);
    assert_eq!(corrupt.offset, 7 * PAGE_BYTES as u64);
    assert!(f.pages.get(&want(7)).is_none());
    assert!(f.pages.get(&want(6)).is_some());
}

#[test]
fn pages_beyond_the_file_or_the_reservation_are_corrupt_and_never_touched() {
    let f = fixture(features());
    for page in [PAGES, 4 * PAGES - 1, 4 * PAGES, usize::MAX / PAGE_BYTES] {
        let wanted = PageWant { run: PageRun::one(PageId(page as u64)), bytes: 1, checksum: 0 };
        assert!(matches!(f.pages.load(&[wanted]), Err(PageError::Corrupt(_))), "page {page}");
        assert!(f.pages.get(&wanted).is_none());
    }
    let too_long = PageWant { bytes: PAGE_BYTES as u32 + 1, ..want(0) };
    assert!(matches!(f.pages.load(&[too_long]), Err(PageError::Corrupt(_))));
}

#[test]
fn a_checkpoint_forgets_and_then_knows_the_pages_that_it_writes_even_new_ones() {
    let f = fixture(features());
    f.pages.load(&[want(8)]).expect("loaded");
    let run = PageRun { first: PageId(8), count: 2 };
    f.pages.forget(run);
    assert!(f.pages.get(&want(8)).is_none());
    f.file.write_all_at(&content(8), 8 * PAGE_BYTES as u64).expect("written");
    f.pages.note_written(run);
    assert!(f.pages.get(&want(8)).is_some());

    let new = PAGES + 5;
    f.file.write_all_at(&content(new), (new * PAGE_BYTES) as u64).expect("written");
    f.pages.note_written(PageRun::one(PageId(new as u64)));
    assert_eq!(f.pages.get(&want(new)), Some(content(new).as_slice()));
}

#[test]
fn runs_of_pages_are_one_slice_and_need_only_the_pages_that_their_bytes_touch() {
    let f = fixture(features());
    let bytes: Vec<u8> = [content(10), content(11)].concat()[..PAGE_BYTES + 10].to_vec();
    let run = PageRun { first: PageId(10), count: 3 };
    let wanted = PageWant { run, bytes: bytes.len() as u32, checksum: crc32c(0, &bytes) };
    f.pages.load(&[wanted]).expect("loaded");
    assert_eq!(f.pages.get(&wanted), Some(bytes.as_slice()));
    assert!(f.pages.get(&want(12)).is_none());
    f.pages.forget(PageRun::one(PageId(11)));
    assert!(f.pages.get(&wanted).is_none());
}

#[test]
fn page_sizes_that_the_system_can_not_map_are_refused() {
    let f = fixture(features());
    for (page_bytes, bytes_max) in [(1024, 1 << 20), (5000, 1 << 20), (0, 1 << 20), (4096, 100)] {
        let opened = MappedPages::open(f.file.as_fd(), &f.path, page_bytes, bytes_max, features());
        assert_eq!(opened.err().expect("refused").kind(), io::ErrorKind::InvalidInput);
    }
}
