//! An environment that reorders what a tree writes: pages wait until after the meta page that names them, which is durable at once.
//! Tests prove with it that they would notice a tree that does so.

use std::{cell::Cell, future::Future, io, path::Path, rc::Rc, sync::Arc, time::Duration};

use plinth_base::{AlignedBuf, Instant};
use plinth_env::{DirEntry, DiskSpace, Env, File, OpenOptions, PageError, PageWant, SyncMethod, TaskQueue};

use crate::{SimEnv, SimFile, SimPages};

/// Where the pages behind the two metas begin.
const METAS_END: u64 = 2 * 4096;

/// See the module.
#[derive(Clone)]
pub struct MetaFirst(SimEnv);

impl MetaFirst {
    /// Around `env`.
    pub fn new(env: SimEnv) -> Self {
        Self(env)
    }
}

/// A file of a tree, as its name says, or any other one.
#[derive(Clone)]
pub struct MetaFirstFile {
    file: SimFile,
    is_tree: bool,
    /// The meta page was written since the last sync.
    owed: Rc<Cell<bool>>,
}

impl File for MetaFirstFile {
    fn read_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        let this = self.clone();
        async move {
            if this.is_tree && offset < METAS_END {
                this.owed.set(true);
                return this.file.write_durable(offset, buf).await;
            }
            this.file.write_at(offset, buf).await
        }
    }

    fn write_durable(
        &self,
        offset: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        self.file.write_durable(offset, buf)
    }

    /// The sync in front of the meta is left out; the one behind it covers everything.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let this = self.clone();
        async move { if !this.is_tree || this.owed.take() { this.file.sync().await } else { Ok(()) } }
    }

    fn len(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        self.file.len()
    }

    fn allocate(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.allocate(offset, bytes)
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.punch_hole(offset, bytes)
    }

    fn set_len(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.set_len(bytes)
    }

    fn drop_cache(&self) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.drop_cache()
    }
}

impl Env for MetaFirst {
    type File = MetaFirstFile;
    type Pages = SimPages;

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn unix_time(&self) -> Duration {
        self.0.unix_time()
    }

    fn random_u64(&self) -> u64 {
        self.0.random_u64()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + 'static {
        self.0.sleep_until(at)
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        self.0.yield_now()
    }

    fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        self.0.spawn(queue, task);
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<MetaFirstFile> {
        let is_tree = path.file_name().is_some_and(|name| name.to_string_lossy().contains("tree"));
        // A durable write takes nothing else along.
        let options = OpenOptions { sync_method: SyncMethod::WriteDsync, ..options };
        let file = self.0.open(path, options).await?;
        Ok(MetaFirstFile { file, is_tree, owed: Rc::default() })
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list_dir(path).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path).await
    }

    async fn disk_space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.0.disk_space(path).await
    }

    fn open_pages(&self, file: &MetaFirstFile, page_bytes: usize, bytes_max: u64) -> io::Result<Arc<SimPages>> {
        self.0.open_pages(&file.file, page_bytes, bytes_max)
    }

    fn load_pages(
        &self,
        pages: &Arc<SimPages>,
        wants: Vec<PageWant>,
    ) -> impl Future<Output = Result<(), PageError>> + 'static {
        self.0.load_pages(pages, wants)
    }
}
