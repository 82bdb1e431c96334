//! The environment of a simulated executor.

use std::{cell::Cell, future::Future, io, path::Path, rc::Rc, sync::Arc, task::Poll, time::Duration};

use plinth_base::{Instant, MemberId};
use plinth_env::{DirEntry, DiskSpace, Env, OpenMode, OpenOptions, PageError, PageWant, TaskQueue};

use crate::{
    disk::{Admission, Disk, eio},
    exec::{Fate, HostId, Sleep, World, completion},
    file::{SimFile, stale_handle},
    net::SimPeers,
    options::OpKind,
    pages::SimPages,
};

/// A view of the simulated machine. All environments of a `Sim` share its executor and its disk. One that was made before a
/// crash is stale: its file operations fail and what it spawns never runs.
#[derive(Clone)]
pub struct SimEnv {
    pub(crate) world: Rc<World>,
    pub(crate) host: HostId,
    pub(crate) epoch: u64,
    pub(crate) unix_start: Rc<Cell<Duration>>,
}

impl SimEnv {
    /// The way of `member`, which runs on this machine, to others; they are found where [`crate::url_of`] says.
    #[must_use]
    pub fn peers(&self, member: MemberId) -> SimPeers {
        SimPeers::open(&self.world, self.host, self.epoch, member)
    }

    fn is_stale(&self) -> bool {
        self.epoch != self.world.epoch(self.host)
    }

    /// An operation on names or on the whole disk.
    async fn op<T: 'static>(
        &self,
        kind: OpKind,
        path: &Path,
        action: impl FnOnce(&mut Disk, Admission, Fate) -> io::Result<T> + 'static,
    ) -> io::Result<T> {
        if self.is_stale() {
            return Err(stale_handle());
        }
        let host = self.host;
        let admission = match kind {
            OpKind::Sync => self.world.disk(host).admit_flush(self.world.now().0, (kind, false), path, 0),
            _ => self.world.disk(host).admit(kind, path, 0),
        };
        let (completer, completed) = completion();
        let end = move |world: &Rc<World>, fate| {
            let result = action(&mut world.disk(host), admission, fate);
            completer.complete(result);
        };
        self.world.submit(host, admission.delay_ns, Box::new(end));
        completed.await
    }
}

impl Env for SimEnv {
    type File = SimFile;
    type Pages = SimPages;

    fn now(&self) -> Instant {
        self.world.now_at(self.host)
    }

    fn unix_time(&self) -> Duration {
        self.unix_start.get() + Duration::from_nanos(self.world.elapsed_ns())
    }

    fn random_u64(&self) -> u64 {
        self.world.random_u64()
    }

    fn sleep_until(&self, at: Instant) -> impl Future<Output = ()> + 'static {
        Sleep { world: Rc::clone(&self.world), host: self.host, at, timer: None }
    }

    fn yield_now(&self) -> impl Future<Output = ()> + 'static {
        let mut yielded = false;
        std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[track_caller]
    fn spawn(&self, queue: TaskQueue, task: impl Future<Output = ()> + 'static) {
        if !self.is_stale() {
            self.world.spawn(self.host, queue, Box::pin(task));
        }
    }

    async fn open(&self, path: &Path, options: OpenOptions) -> io::Result<SimFile> {
        let owned = path.to_path_buf();
        let inode = self
            .op(OpKind::Meta, path, move |disk, _, _| {
                if options.direct && disk.faults.direct_unsupported {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                disk.open(&owned, options.mode)
            })
            .await?;
        Ok(SimFile {
            world: Rc::clone(&self.world),
            host: self.host,
            inode,
            epoch: self.epoch,
            path: Rc::from(path),
            writable: options.mode != OpenMode::Read,
            direct: options.direct,
            sync_method: options.sync_method,
        })
    }

    async fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let owned = path.to_path_buf();
        self.op(OpKind::Meta, path, move |disk, _, _| disk.list_dir(&owned)).await
    }

    async fn create_dir(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_path_buf();
        self.op(OpKind::Meta, path, move |disk, _, _| disk.create_dir(&owned)).await
    }

    async fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let owned = (from.to_path_buf(), to.to_path_buf());
        self.op(OpKind::Meta, from, move |disk, _, _| disk.rename(&owned.0, &owned.1)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_path_buf();
        self.op(OpKind::Meta, path, move |disk, _, _| disk.remove_file(&owned)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (owned, seq) = (path.to_path_buf(), self.world.disk(self.host).names_seq());
        self.op(OpKind::Sync, path, move |disk, admission, fate| match fate {
            Fate::Done => disk.sync_dir(&owned, seq, admission.fails),
            Fate::Interrupted => Ok(()),
        })
        .await
    }

    async fn disk_space(&self, path: &Path) -> io::Result<DiskSpace> {
        self.op(OpKind::Meta, path, |disk, _, _| Ok(disk.space())).await
    }

    fn open_pages(&self, file: &SimFile, page_bytes: usize, bytes_max: u64) -> io::Result<Arc<SimPages>> {
        if self.is_stale() || file.epoch != self.epoch || file.host != self.host {
            return Err(stale_handle());
        }
        Ok(Arc::new(SimPages::new(file, page_bytes, bytes_max)))
    }

    fn load_pages(
        &self,
        pages: &Arc<SimPages>,
        wants: Vec<PageWant>,
    ) -> impl Future<Output = Result<(), PageError>> + 'static {
        let (env, pages) = (self.clone(), Arc::clone(pages));
        async move {
            let bytes = wants.iter().map(|want| u64::from(want.bytes)).sum();
            let path = pages.path().to_path_buf();
            if env.is_stale() {
                return Err(PageError::Io(stale_handle()));
            }
            let admission = env.world.disk(env.host).admit(OpKind::Load, &path, bytes);
            let (completer, completed) = completion();
            env.world.submit(env.host, admission.delay_ns, Box::new(move |_, _| completer.complete(())));
            completed.await;
            if admission.fails {
                return Err(PageError::Io(eio()));
            }
            // In the poll that returns: what was loaded is still there when the caller looks.
            pages.finish_load(&wants)
        }
    }
}
