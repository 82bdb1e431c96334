//! What knowing about resident pages costs, for `docs/decisions/residency.md`.
//!
//! `cargo run --release -p plinth-uring --example residency_cost -- FILE [MIB]` writes FILE (1024 MiB unless said otherwise), measures, and removes it.
#![allow(unsafe_code)]

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::FileExt},
    ptr::null_mut,
    time::{Duration, Instant},
};

use plinth_base::Prng;

const PAGE_BYTES: usize = 4096;
const SAMPLES: usize = 2000;

struct Map {
    addr: *mut libc::c_void,
    bytes: usize,
}

impl Map {
    fn of(file: &File, bytes: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no existing memory.
        let addr = unsafe { libc::mmap(null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if addr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = Self { addr, bytes };
        map.advise(0, bytes, libc::MADV_RANDOM)?;
        Ok(map)
    }

    fn advise(&self, at: usize, bytes: usize, advice: i32) -> io::Result<()> {
        assert!(at + bytes <= self.bytes, "within the mapping");
        // SAFETY: the range lies in the mapping (asserted); the advice changes no contents.
        let result = unsafe { libc::madvise(self.addr.byte_add(at), bytes, advice) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn mincore(&self, at: usize, bytes: usize, answers: &mut [u8]) {
        assert!(at + bytes <= self.bytes && answers.len() * PAGE_BYTES >= bytes, "within the mapping and the answers");
        // SAFETY: the range lies in the mapping and there is an answer for each page (both asserted).
        let result = unsafe { libc::mincore(self.addr.byte_add(at), bytes, answers.as_mut_ptr()) };
        assert_eq!(result, 0, "mincore of mapped pages");
    }

    fn touch(&self, at: usize) -> u8 {
        assert!(at < self.bytes, "within the mapping");
        // SAFETY: the byte lies in the mapping (asserted) and in the file, which nobody else changes.
        unsafe { self.addr.cast::<u8>().add(at).read_volatile() }
    }
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or_else(|| io::Error::other("usage: residency_cost FILE [MIB]"))?;
    let mib = args.next().map_or(Ok(1024), |text| text.parse::<usize>()).map_err(io::Error::other)?;
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let measured = measure(&file, mib << 20);
    std::fs::remove_file(&path)?;
    measured
}

fn measure(file: &File, bytes: usize) -> io::Result<()> {
    let chunk = vec![0xa5; 1 << 20];
    for _ in 0..bytes >> 20 {
        (&mut &*file).write_all(&chunk)?;
    }
    file.sync_all()?;
    let map = Map::of(file, bytes)?;
    let mut prng = Prng::new(1);

    sweep("mincore, all in the page cache, none mapped", &map);
    map.advise(0, bytes, libc::MADV_POPULATE_READ)?;
    sweep("mincore, all mapped", &map);
    sample("mincore of one mapped page", || {
        map.mincore(page(&mut prng, bytes), PAGE_BYTES, &mut [0]);
    });
    sample("touch of one mapped page", || {
        std::hint::black_box(map.touch(page(&mut prng, bytes)));
    });
    sample("pread of one cached page", || {
        let _ = file.read_at(&mut [0; PAGE_BYTES], page(&mut prng, bytes) as u64);
    });

    drop_cache(&map, file)?;
    sweep("mincore, nothing in memory", &map);
    sample("MADV_POPULATE_READ of one cold page", || {
        let _ = map.advise(page(&mut prng, bytes), PAGE_BYTES, libc::MADV_POPULATE_READ);
    });
    drop_cache(&map, file)?;
    sample("MADV_WILLNEED, then MADV_POPULATE_READ of one cold page", || {
        let at = page(&mut prng, bytes);
        let _ = map.advise(at, PAGE_BYTES, libc::MADV_WILLNEED);
        let _ = map.advise(at, PAGE_BYTES, libc::MADV_POPULATE_READ);
    });
    drop_cache(&map, file)?;
    sample("pread of one cold page", || {
        let _ = file.read_at(&mut [0; PAGE_BYTES], page(&mut prng, bytes) as u64);
    });
    drop_cache(&map, file)?;
    sample("touch of one cold page (major fault)", || {
        std::hint::black_box(map.touch(page(&mut prng, bytes)));
    });
    Ok(())
}

fn page(prng: &mut Prng, bytes: usize) -> usize {
    prng.index(bytes / PAGE_BYTES) * PAGE_BYTES
}

fn drop_cache(map: &Map, file: &File) -> io::Result<()> {
    map.advise(0, map.bytes, libc::MADV_DONTNEED)?;
    // SAFETY: the descriptor is open; the advice changes no contents.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_RANDOM) } {
        0 => {}
        code => return Err(io::Error::from_raw_os_error(code)),
    }
    // SAFETY: as above.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Asks for the whole mapping, in slices as the sweeper does.
fn sweep(name: &str, map: &Map) {
    const SLICE: usize = 64 << 20;
    let mut answers = vec![0; SLICE / PAGE_BYTES];
    let mut resident = 0;
    let start = Instant::now();
    for at in (0..map.bytes).step_by(SLICE) {
        let bytes = SLICE.min(map.bytes - at);
        map.mincore(at, bytes, &mut answers);
        resident += answers[..bytes / PAGE_BYTES].iter().filter(|byte| **byte & 1 != 0).count();
    }
    let per_gib = start.elapsed().as_secs_f64() * (1 << 30) as f64 / map.bytes as f64;
    println!("{name}: {:.2} ms per GiB ({resident} pages in memory)", per_gib * 1e3);
}

fn sample(name: &str, mut operation: impl FnMut()) {
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|_| {
            let start = Instant::now();
            operation();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name}: p50 {:?}, p99 {:?}", times[SAMPLES / 2], times[SAMPLES * 99 / 100]);
}
