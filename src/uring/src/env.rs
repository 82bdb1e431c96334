//! [`plinth_env::Env`] on a glommio executor.

use std::{
    fs, future::Future, io, os::unix::fs::DirBuilderExt, path::Path, rc::Rc, sync::Arc, time::Duration,
    time::SystemTime,
};

use plinth_base::Instant;
use plinth_env::{DirEntry, DiskSpace, Env, OpenOptions, PageError, PageWant, TaskQueue};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    file::{self, UringFile, retry},
    heartbeat::InFlight,
    pages::MappedPages,
    runtime::Executor,
    scheduler,
};

/// The real environment of one executor. Clones are cheap and name the same executor.
#[derive(Clone)]
pub struct UringEnv(pub(crate) Rc<Executor>);

impl UringEnv {
    /// Says that a request is being served, until the guard is dropped: the permanent timer then ticks every millisecond.
    pub fn in_flight(&self) -> InFlight {
        InFlight::begin(Rc::clone(&self.0))
    }

    /// Runs `job` on a helper thread: for what blocks or computes long (hashing of passwords, reading certificates).
    pub fn on_helper<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.0.counters.helper_jobs.add(1);
        self.0.process.files.call(job)
    }
}

impl Env for UringEnv {
    type File = UringFile;
    type Pages = MappedPages;

    fn now(&self) -> Instant {
        now()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }

    fn random_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
            .expect("getrandom of 8 bytes neither fails nor is cut short once the kernel has started");
        u64::from_le_bytes(bytes)
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + 'static {
        sleep_until(at)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        scheduler::yield_now()
    }

    fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(queue, task);
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<UringFile> {
        let owned = path.to_owned();
        let fd = self.on_helper(move || file::open(&owned, options)).await?;
        UringFile::new(fd, path.to_owned(), options, Rc::clone(&self.0))
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_owned();
        self.on_helper(move || list_dir(&path)).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.on_helper(move || fs::DirBuilder::new().recursive(true).mode(0o700).create(path)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.on_helper(move || fs::rename(from, to)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.on_helper(move || fs::remove_file(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.on_helper(move || fs::File::open(path)?.sync_all()).await
    }

    async fn disk_space(&self, path: &Path) -> io::Result<DiskSpace> {
        let path = path.to_owned();
        self.on_helper(move || {
            let fs = retry(|| rustix::fs::statvfs(&path))?;
            Ok(DiskSpace { total_bytes: fs.f_blocks * fs.f_frsize, available_bytes: fs.f_bavail * fs.f_frsize })
        })
        .await
    }

    fn open_pages(&self, file: &UringFile, page_bytes: usize, bytes_max: u64) -> io::Result<Arc<MappedPages>> {
        let process = &self.0.process;
        let pages = MappedPages::open(file.as_fd(), file.path(), page_bytes, bytes_max, process.features)?;
        process.sweeper.watch(&pages);
        Ok(pages)
    }

    fn load_pages(
        &self,
        pages: &Arc<MappedPages>,
        wants: Vec<PageWant>,
    ) -> impl Future<Output = Result<(), PageError>> + 'static {
        self.0.counters.helper_jobs.add(1);
        let pages = Arc::clone(pages);
        self.0.process.pages.call(move || pages.load(&wants))
    }
}

async fn sleep_until(at: Instant) {
    loop {
        let left = at.since(now());
        if left.is_zero() {
            return;
        }
        scheduler::sleep(left).await;
    }
}

/// CLOCK_MONOTONIC.
pub(crate) fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    // The kernel starts it at 0, and 64 bits of nanoseconds last for 584 years.
    Instant(seconds.unwrap_or(0) * 1_000_000_000 + nanos.unwrap_or(0))
}

fn list_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = match entry.metadata() {
            // Removed while the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let name = entry.file_name().into_string().map_err(|name| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {name:?} is not UTF-8", path.display()))
        })?;
        let bytes = if metadata.is_file() { metadata.len() } else { 0 };
        entries.push(DirEntry { name, is_dir: metadata.is_dir(), bytes });
    }
    entries.sort();
    Ok(entries)
}
