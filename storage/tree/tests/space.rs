//! Space: a full disk is an answer, freed space is used again and given back, and files stay small.

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{Bed, assert_same, assert_sound, loaded, options};
use plinth_base::Prng;
use plinth_env::{Env, File, OpenMode, OpenOptions};
use plinth_sim_env::{Sim, SimEnv, SimOptions};
use plinth_tree::{PAGE_BYTES, Store, TreeError, put_pages_max, remove_pages_max};

fn key(i: u32) -> Vec<u8> {
    format!("key/{i:08}").into_bytes()
}

/// Puts until the disk is full; returns how many entries fit.
async fn fill(bed: &mut Bed, body: &Bytes, from: u32) -> u32 {
    let mut count = from;
    loop {
        let pages = put_pages_max(12, body.len()) + remove_pages_max();
        if !bed.store.room(body.len()).admits_put(pages) {
            let Some(grow) = bed.store.begin_grow(pages, body.len()) else { return count };
            let done = grow.run().await;
            match bed.store.finish_grow(done) {
                Ok(()) => continue,
                Err(TreeError::StorageFull) => return count,
                Err(error) => panic!("{error}"),
            }
        }
        let room = bed.store.room(body.len());
        bed.put(0, &key(count), b"h", body).await;
        let after = bed.store.room(body.len());
        assert!(after.needed_pages <= room.needed_pages + pages, "a put needs no more than its estimate");
        count += 1;
        if count.is_multiple_of(500) {
            bed.checkpoint().await;
            bed.store.settle(usize::MAX);
        }
    }
}

#[test]
fn on_a_full_disk_reads_removals_and_checkpoints_go_on_and_space_comes_back() {
    let sim = Sim::new(1, SimOptions { capacity_bytes: 12 << 20, ..SimOptions::default() });
    let env = sim.env();
    let mut prng = Prng::new(1);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        let body = Bytes::from(vec![7; 700]);
        let count = fill(&mut bed, &body, 0).await;
        assert!(count > 3000, "{count} entries fit");
        bed.checkpoint().await;
        assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
        for i in 0..count / 2 {
            assert!(bed.store.room(0).admits_remove(remove_pages_max()), "removals use the reserve");
            bed.remove(0, &key(i)).await;
            if i % 100 == 0 {
                bed.checkpoint().await;
            }
        }
        for _ in 0..3 {
            bed.store.set_state(Bytes::from_static(b"next"));
            bed.checkpoint().await;
        }
        assert_sound(&env).await;
        let more = fill(&mut bed, &body, count).await - count;
        assert!(more > count / 3, "{more} more entries fit after {count}, of which half were removed");
        bed.checkpoint().await;
        assert_sound(&env).await;
        assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
    });
}

/// Removes everything and checkpoints until all of it is free.
async fn empty(bed: &mut Bed) {
    for key in bed.model[0].keys().cloned().collect::<Vec<_>>() {
        bed.remove(0, &key).await;
    }
    for _ in 0..3 {
        bed.store.set_state(Bytes::from_static(b"next"));
        bed.checkpoint().await;
    }
}

async fn punch_all(bed: &mut Bed) -> u64 {
    let mut bytes = 0;
    for _ in 0..4 {
        bed.store.forget_needs();
        if let Some(punch) = bed.store.begin_punch(0, 0) {
            let done = punch.run(async |_| {}).await;
            bytes += bed.store.finish_punch(done).expect("the disk can punch");
        }
        bed.checkpoint().await;
    }
    assert!(!bed.store.has_holes_waiting());
    bytes
}

async fn punch_and_reuse(env: SimEnv) {
    let mut prng = Prng::new(3);
    let mut bed = Bed::create(env.clone()).await;
    let body = Bytes::from(vec![7; 3000]);
    for i in 0..4000 {
        bed.put(0, &key(i), b"h", &body).await;
    }
    bed.checkpoint().await;
    let full = bed.store.sizes();
    assert!(full.in_use_bytes > 12_000_000 && full.total_bytes >= full.in_use_bytes, "{full:?}");
    empty(&mut bed).await;
    let bytes = punch_all(&mut bed).await;
    let empty = bed.store.sizes();
    assert!(bytes > 10_000_000 && empty.total_bytes + bytes <= full.total_bytes, "{bytes} punched, {empty:?}");
    assert_sound(&env).await;
    drop(bed.store);
    bed.store = Store::open(env.clone(), options(), true).await.expect("the file is sound");
    assert_eq!(bed.store.sizes().total_bytes, empty.total_bytes, "holes are remembered");
    for i in 0..3000 {
        bed.put(0, &key(i), b"h", &body).await;
        if i % 700 == 0 {
            bed.checkpoint().await;
        }
    }
    bed.checkpoint().await;
    assert_sound(&env).await;
    assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
    assert!(bed.store.sizes().total_bytes <= full.total_bytes, "growing fills holes first: {:?}", bed.store.sizes());
}

#[test]
fn long_free_runs_are_punched_remembered_and_filled_again() {
    let sim = Sim::new(2, SimOptions::default());
    sim.block_on(punch_and_reuse(sim.env()));
}

/// Holes lose their blocks only after other things were put: what fills a hole meanwhile would be gone.
async fn fill_while_holes_are_punched(env: SimEnv, prng: &mut Prng) {
    let mut bed = Bed::create(env.clone()).await;
    let body = Bytes::from(vec![7; 3000]);
    for i in 0..2000 {
        bed.put(0, &key(i), b"h", &body).await;
    }
    bed.checkpoint().await;
    empty(&mut bed).await;
    let mut running = None;
    for round in 0..4 {
        bed.store.forget_needs();
        running = running.or_else(|| bed.store.begin_punch(0, 0));
        bed.put(0, &key(round), b"h", &body).await;
        bed.checkpoint().await;
    }
    let punch = running.expect("nearly all of it is free");
    // Checkpoints run nearly all the time.
    bed.pace = Duration::from_micros(prng.below(500));
    for i in 0..1500 {
        bed.put(0, &key(i), b"h", &body).await;
        bed.env.sleep(Duration::from_micros(50)).await;
        if bed.poll_checkpoint().expect("the disk works") {
            let _ = bed.publish();
            bed.start_checkpoint();
        }
    }
    bed.checkpoint().await;
    let done = punch.run(async |_| {}).await;
    assert!(bed.store.finish_punch(done).expect("the disk can punch") > 4 << 20);
    bed.wait_checkpoint().await.expect("the disk works");
    assert_sound(&env).await;
    assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, prng).await;
}

#[test]
fn growing_leaves_alone_what_is_being_punched() {
    for seed in 0..4 {
        let sim = Sim::new(seed, SimOptions::default());
        sim.block_on(fill_while_holes_are_punched(sim.env(), &mut Prng::new(seed)));
    }
}

/// Free runs of 1.2 MiB between values that stay: too short for a value of 2 MiB, and long enough to be given back.
async fn make_room_among_short_runs(env: SimEnv) {
    const LONGEST: usize = 2 << 20;
    let mut bed = Bed::create(env.clone()).await;
    for i in 0..16 {
        let bytes = if i % 2 == 0 { 1_200_000 } else { 10_000 };
        bed.put(0, &key(i), b"h", &Bytes::from(vec![7; bytes])).await;
        bed.checkpoint().await;
    }
    for i in (0..16).step_by(2) {
        bed.remove(0, &key(i)).await;
    }
    let mut steps = 0;
    let mut punched_bytes = 0;
    for round in 0..12u8 {
        bed.store.set_state(Bytes::from(vec![round]));
        bed.checkpoint().await;
        let ready_pages = 1024 + 512 * u64::from(round);
        if let Some(punch) = bed.store.begin_punch(ready_pages * PAGE_BYTES as u64, LONGEST) {
            let done = punch.run(async |_| {}).await;
            punched_bytes += bed.store.finish_punch(done).expect("the disk can punch");
        }
        while !bed.store.room(LONGEST).admits_put(ready_pages) {
            let grow = bed.store.begin_grow(1024, LONGEST).expect("the file may grow");
            let done = grow.run().await;
            bed.store.finish_grow(done).expect("the disk has room");
            steps += 1;
        }
    }
    assert!(steps < 10, "{steps} steps of growth: holes that were filled were dug again");
    assert!(punched_bytes > 5 << 20, "{punched_bytes} bytes given back");
    assert_sound(&env).await;
}

#[test]
fn holes_too_short_to_make_room_stay_holes() {
    let sim = Sim::new(7, SimOptions::default());
    sim.block_on(make_room_among_short_runs(sim.env()));
}

/// Puts the same keys anew, in round after round, each durable; what the file takes then.
async fn rewrite(bed: &mut Bed, round: u32) -> u64 {
    let body = Bytes::from(vec![1; 2000]);
    for i in 0..300 {
        bed.put(0, &key(i * 7 % 300), &round.to_le_bytes(), &body).await;
    }
    bed.checkpoint().await;
    bed.store.settle(usize::MAX);
    bed.store.sizes().total_bytes
}

#[test]
fn rewriting_the_same_keys_does_not_grow_the_file_forever() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        let mut sizes = Vec::new();
        for round in 0..12 {
            sizes.push(rewrite(&mut bed, round).await);
        }
        assert_eq!(sizes[5], sizes[11], "{sizes:?}");
    });
}

#[test]
fn beside_a_pin_the_file_grows_by_what_is_pinned_and_no_more() {
    let sim = Sim::new(4, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        let (mut sizes, mut pins) = (Vec::new(), Vec::new());
        for round in 0..48 {
            sizes.push(rewrite(&mut bed, round).await);
            if round % 16 == 15 {
                // One for a copy, and one for a reader.
                pins.push((bed.store.begin_copy(), bed.store.publish(), bed.model.clone()));
            }
        }
        let most = |rounds: std::ops::Range<usize>| *sizes[rounds].iter().max().expect("some");
        assert_eq!(most(4..10), most(10..16), "without one: {sizes:?}");
        assert_eq!(most(20..26), most(26..32), "beside one: {sizes:?}");
        assert_eq!(most(36..42), most(42..48), "beside two: {sizes:?}");
        assert!(most(42..48) <= most(4..10) * 3, "{sizes:?}");
        assert_sound(&env).await;
        let mut prng = Prng::new(4);
        for (_, root, model) in std::mem::take(&mut pins) {
            assert_same(&env, root.view(), root.pages(), &model, &mut prng).await;
        }
        for _ in 0..3 {
            bed.put(0, &key(0), b"", &Bytes::new()).await;
            bed.checkpoint().await;
        }
        assert!(
            bed.store.pending_bytes() < 16 * PAGE_BYTES as u64,
            "only what the last one freed waits for the older meta"
        );
    });
}

/// The longest value that room is kept for beside small ones.
const LONGEST: usize = 64 << 10;

/// As a node does it: checkpoint after checkpoint beside the puts, after each what is free for long is given back, and the file grows before it is needed.
async fn put_for_long(bed: &mut Bed, prng: &mut Prng, seconds: u64, file_bytes: &mut Vec<u64>) -> u64 {
    const READY_PAGES: u64 = 256;
    let (mut punched, mut grows, mut punches) = (0, None, None);
    let file = bed.env.open(&options().path, OpenOptions::cached(OpenMode::Read)).await.expect("it is there");
    for _ in 0..seconds {
        for _ in 0..2500 {
            let i = prng.below(6000) as u32;
            bed.put(0, &key(i), &i.to_le_bytes(), &Bytes::from(vec![1; 700])).await;
            if grows.is_none() && !bed.store.room(LONGEST).admits_put(READY_PAGES) {
                grows = bed.store.begin_grow(READY_PAGES, LONGEST);
            } else if let Some(grow) = grows.take() {
                let done = grow.run().await;
                bed.store.finish_grow(done).expect("the disk has room");
            }
            bed.env.sleep(Duration::from_micros(400)).await;
            if bed.running.is_some() && bed.poll_checkpoint().expect("the disk works") {
                bed.store.settle(usize::MAX);
                punches = bed.store.begin_punch(READY_PAGES * PAGE_BYTES as u64, LONGEST);
            } else if let Some(punch) = punches.take() {
                let done = punch.run(async |_| {}).await;
                punched += bed.store.finish_punch(done).expect("the disk can punch");
            }
        }
        bed.wait_checkpoint().await.expect("the disk works");
        let _ = bed.publish();
        bed.start_checkpoint();
        file_bytes.push(file.len().await.expect("it is open"));
    }
    punched
}

#[test]
fn a_file_that_is_written_for_long_keeps_its_length_and_its_blocks_and_gives_them_back_when_it_is_at_rest() {
    let sim = Sim::new(8, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(8);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        // Checkpoints run nearly all the time.
        bed.pace = Duration::from_micros(600);
        let mut lengths = Vec::new();
        let punched = put_for_long(&mut bed, &mut prng, 40, &mut lengths).await;
        assert!(lengths[39] - lengths[10] <= 2 << 20, "{lengths:?}");
        assert!(punched < 4 << 20, "{punched} bytes were given back while they were needed");
        let busy = bed.env.disk_space(Path::new("/")).await.expect("there is a disk");
        for round in 0..20u8 {
            if let Some(punch) = bed.store.begin_punch(0, LONGEST) {
                let done = punch.run(async |_| {}).await;
                bed.store.finish_punch(done).expect("the disk can punch");
            }
            if bed.store.has_holes_waiting() {
                bed.store.set_state(Bytes::from(vec![round]));
                bed.checkpoint().await;
            }
        }
        assert!(!bed.store.has_holes_waiting());
        let at_rest = bed.env.disk_space(Path::new("/")).await.expect("there is a disk");
        let given_back = at_rest.available_bytes - busy.available_bytes;
        assert!(given_back > 2 << 20, "{given_back} bytes given back of {}", lengths[39]);
        assert_sound(&env).await;
    });
}

#[test]
fn ascending_keys_fill_their_pages() {
    let sim = Sim::new(5, SimOptions::default());
    let env = sim.env();
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        let body = Bytes::from(vec![1; 80]);
        for i in 0..20_000 {
            bed.put(0, &key(i), b"", &body).await;
        }
        bed.checkpoint().await;
        let report = assert_sound(&env).await;
        let entry_bytes = 20_000 * (12 + 80 + 6);
        let used_bytes = report.generations[0].used_pages * 4096;
        assert!(used_bytes < entry_bytes * 11 / 10, "{used_bytes} for {entry_bytes}");
        assert_eq!(report.generations[0].trees[0].1.entries, 20_000);
    });
}

/// What a relocation may leave free at the front.
const SLACK_BYTES: u64 = 4 << 20;

async fn relocate_all(bed: &mut Bed) {
    let mut relocation = bed.store.begin_relocation(SLACK_BYTES).expect("the tail is in use");
    let pages = Arc::clone(bed.store.pages());
    let env = bed.env.clone();
    let store = &mut bed.store;
    while !loaded(&env, &pages, || store.relocate(&mut relocation, 7)).await {}
    for round in 0..4u8 {
        bed.store.set_state(Bytes::from(vec![round]));
        bed.checkpoint().await;
    }
}

#[test]
fn the_tail_of_the_file_is_emptied_and_given_back() {
    let sim = Sim::new(6, SimOptions::default());
    let env = sim.env();
    let mut prng = Prng::new(6);
    sim.block_on(async {
        let mut bed = Bed::create(env.clone()).await;
        for i in 0..6000 {
            let body = Bytes::from(vec![7; if i % 5 == 0 { 5000 } else { 300 }]);
            let mut key = key(i);
            if i % 50 == 0 {
                key.resize(600 + i as usize, b'l');
            }
            let key = key;
            bed.put(0, &key, b"h", &body).await;
        }
        bed.checkpoint().await;
        // What is left is spread over the whole file.
        for (i, key) in bed.model[0].keys().cloned().collect::<Vec<_>>().into_iter().enumerate() {
            if i % 10 != 0 {
                bed.remove(0, &key).await;
            }
        }
        for round in 0..3u8 {
            bed.store.set_state(Bytes::from(vec![round]));
            bed.checkpoint().await;
        }
        assert_sound(&env).await;
        relocate_all(&mut bed).await;
        assert_sound(&env).await;
        assert!(bed.store.begin_relocation(SLACK_BYTES).is_none(), "nothing is left in the tail");
        let before = bed.store.sizes();
        punch_all(&mut bed).await;
        let after = bed.store.sizes();
        // What stays free is the reserve, the slack of the relocation, and runs too short to punch.
        assert!(after.total_bytes + (3 << 20) < before.total_bytes, "{before:?} {after:?}");
        assert!(after.total_bytes < after.in_use_bytes + (6 << 20), "{before:?} {after:?}");
        assert_sound(&env).await;
        assert_same(&env, bed.store.view(), &Arc::clone(bed.store.pages()), &bed.model, &mut prng).await;
    });
}
