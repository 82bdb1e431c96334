use super::*;

fn data(offset: u64, byte: u8, sectors: u64) -> Change {
    Change::Data { offset, data: Arc::from(vec![byte; (sectors * SECTOR_BYTES) as usize]) }
}

fn bytes(image: &Image, offset: u64, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    image.read(offset, &mut out);
    out
}

#[test]
fn durable_write_does_not_bring_older_unsynced_writes_along() {
    let mut inode = Inode::default();
    inode.change(data(0, 1, 8));
    inode.change_durably(1024, Arc::from(vec![2; 512]));
    assert_eq!(bytes(inode.durable(), 0, 512), vec![0; 512]);
    assert_eq!(bytes(inode.durable(), 1024, 512), vec![2; 512]);
}

#[test]
fn crash_never_brings_an_older_write_back_over_a_durable_one() {
    for seed in 0..200 {
        let mut inode = Inode::default();
        inode.change(data(0, 1, 8));
        inode.change_durably(1024, Arc::from(vec![2; 512]));
        inode.change(data(0, 3, 1));
        inode.crash(&mut Prng::new(seed), &mut Counters::default());
        assert_eq!(bytes(inode.live(), 1024, 512), vec![2; 512]);
        assert_eq!(bytes(inode.live(), 0, 8192), bytes(inode.durable(), 0, 8192));
    }
}

#[test]
fn crash_tears_at_sectors_and_nowhere_else() {
    let (mut torn, mut kept, mut lost) = (0, 0, 0);
    for seed in 0..300 {
        let mut inode = Inode::default();
        inode.change(data(0, 1, 16));
        inode.sync(inode.last_seq());
        inode.change(data(0, 2, 16));
        inode.crash(&mut Prng::new(seed), &mut Counters::default());
        let content = bytes(inode.live(), 0, 8192);
        let sectors: Vec<_> = content.chunks(512).collect();
        assert!(sectors.iter().all(|s| **s == [1; 512] || **s == [2; 512]));
        match sectors.iter().filter(|s| s[0] == 2).count() {
            0 => lost += 1,
            16 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(torn > 50 && kept > 50 && lost > 50, "{torn} torn, {kept} kept, {lost} lost");
}

#[test]
fn sync_covers_what_was_written_before_it_and_nothing_later() {
    let mut inode = Inode::default();
    inode.change(data(0, 1, 1));
    let seq = inode.last_seq();
    inode.change(data(512, 2, 1));
    inode.sync(seq);
    assert_eq!(bytes(inode.durable(), 0, 1024), [vec![1; 512], vec![0; 512]].concat());
    assert_eq!(inode.durable().len(), 512);
}

#[test]
fn sync_that_failed_is_not_made_good_by_the_next_one() {
    let mut inode = Inode::default();
    inode.change(data(0, 1, 1));
    inode.sync_failed(inode.last_seq());
    inode.change(data(512, 2, 1));
    inode.sync(inode.last_seq());
    assert_eq!(bytes(inode.durable(), 0, 1024), [vec![0; 512], vec![2; 512]].concat());
}

#[test]
fn length_of_an_unsynced_extension_may_be_lost() {
    let mut lens = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let mut inode = Inode::default();
        inode.change(data(0, 1, 8));
        inode.sync(inode.last_seq());
        inode.change(data(4096, 2, 8));
        inode.crash(&mut Prng::new(seed), &mut Counters::default());
        lens.insert(inode.live().len());
        assert_eq!(bytes(inode.live(), 0, 4096), vec![1; 4096]);
    }
    assert_eq!(lens.into_iter().collect::<Vec<_>>(), [4096, 8192]);
}

#[test]
fn stale_read_brings_the_bytes_before_the_last_write() {
    let mut inode = Inode::default();
    inode.change(data(0, 1, 16));
    inode.change(data(4096, 2, 8));
    let mut out = vec![9; 8192];
    inode.read_stale(0, &mut out);
    assert_eq!(out, [vec![0; 4096], vec![1; 4096]].concat());
}

#[test]
fn replaying_all_pending_changes_gives_the_live_image() {
    for seed in 0..300 {
        let mut prng = Prng::new(seed);
        let mut inode = Inode::default();
        for step in 0..30u8 {
            let offset = prng.below(16) * 512;
            match prng.below(7) {
                0 => inode.change(Change::Punch { offset, bytes: 2048 }),
                1 => inode.change(Change::Reserve { offset, bytes: 8192 }),
                2 => inode.change(Change::Length(offset)),
                3 => inode.sync(inode.last_seq().saturating_sub(prng.below(4))),
                4 => inode.change_durably(offset, Arc::from(vec![step; 1024])),
                _ => inode.change(data(offset, step, 1 + prng.below(8))),
            }
        }
        inode.sync(inode.last_seq());
        assert_eq!(inode.durable().len(), inode.live().len(), "seed {seed}");
        assert_eq!(bytes(inode.durable(), 0, 20_000), bytes(inode.live(), 0, 20_000), "seed {seed}");
    }
}
