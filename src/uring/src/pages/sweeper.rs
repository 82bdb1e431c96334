//! The thread that lets knowledge about pages age.
//!
//! It asks for a bounded number of pages per tick, so neither its CPU time nor its hold on the address space grows with
//! the data. Reads don't depend on its pace: they ask for themselves when a stamp is old. What it adds is that pages which the kernel dropped
//! are verified again when they come back.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak},
    thread::JoinHandle,
    time::Duration,
};

use super::MappedPages;
use crate::thread::{Class, enter};

/// Time between two slices.
const TICK: Duration = Duration::from_millis(100);

/// Pages looked at in one slice: with 4 KiB pages a file of 1 GiB is swept in 1.6 s.
const SLICE_PAGES_MAX: usize = 16 << 10;

#[derive(Default)]
struct Watched {
    files: Vec<Weak<MappedPages>>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watched> {
        // Nothing panics under the lock.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The files, or nothing when it is over. Sleeps as long as there are none, else one tick.
    fn next_files(&self) -> Option<Vec<Arc<MappedPages>>> {
        let mut watched = self.lock();
        if !watched.closed && !watched.files.is_empty() {
            watched = self.changed.wait_timeout(watched, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
        while !watched.closed && watched.files.is_empty() {
            watched = self.changed.wait(watched).unwrap_or_else(PoisonError::into_inner);
        }
        watched.files.retain(|file| file.strong_count() > 0);
        (!watched.closed).then(|| watched.files.iter().filter_map(Weak::upgrade).collect())
    }
}

/// Stops the thread when dropped.
pub(crate) struct Sweeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Sweeper {
    /// Starts the thread, on `cores` only.
    pub(crate) fn start(cores: &[usize]) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (in_thread, cores) = (Arc::clone(&shared), cores.to_vec());
        let thread = std::thread::Builder::new().name("plinth-sweep".to_owned()).spawn(move || {
            enter(Class::Patient, &cores);
            sweep_all(&in_thread);
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Sweeps `pages` as long as somebody holds them.
    pub(crate) fn watch(&self, pages: &Arc<MappedPages>) {
        self.shared.lock().files.push(Arc::downgrade(pages));
        self.shared.changed.notify_one();
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sweep_all(shared: &Shared) {
    // A place in the concatenation of all files; files that come or go only shift where the next slice begins.
    let mut cursor = 0;
    while let Some(files) = shared.next_files() {
        cursor = sweep_slice(&files, cursor);
    }
}

/// Sweeps the next slice from `cursor` on; gives where the one after it begins, 0 at the end.
fn sweep_slice(files: &[Arc<MappedPages>], cursor: usize) -> usize {
    let mut start_of_file = 0;
    for file in files {
        let pages = file.residency.pages();
        if cursor < start_of_file + pages {
            let first = cursor - start_of_file;
            let last = pages.min(first + SLICE_PAGES_MAX);
            file.sweep(first..last);
            return start_of_file + last;
        }
        start_of_file += pages;
    }
    0
}
