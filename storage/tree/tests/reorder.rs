//! A proof that the crash tests can fail: an environment that lets the meta page reach the disk before the pages it names
//! must be caught by them.

mod common;

use std::{cell::RefCell, future::Future, io, path::Path, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use common::{SPECS, options};
use plinth_base::{AlignedBuf, Instant};
use plinth_env::{DirEntry, DiskSpace, Env, File, OpenOptions, PageError, PageWant, TaskQueue};
use plinth_sim_env::{Limit, Sim, SimEnv, SimFile, SimOptions, SimPages};
use plinth_tree::{NewBody, NewValue, PAGE_BYTES, Store, TreeId, check};

const METAS_BYTES: u64 = 2 * PAGE_BYTES as u64;

#[derive(Clone)]
struct MetaFirst(SimEnv);

/// Holds page writes back until the meta is durable.
#[derive(Clone)]
struct MetaFirstFile {
    file: SimFile,
    held: Rc<RefCell<Vec<(u64, AlignedBuf)>>>,
}

impl File for MetaFirstFile {
    fn read_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        self.file.read_at(offset, buf)
    }

    fn write_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        let this = self.clone();
        async move {
            if offset >= METAS_BYTES {
                this.held.borrow_mut().push((offset, buf.clone()));
                return (Ok(()), buf);
            }
            let (result, buf) = this.file.write_at(offset, buf).await;
            this.file.sync().await.expect("the disk works");
            let held = std::mem::take(&mut *this.held.borrow_mut());
            for (offset, page) in held {
                this.file.write_at(offset, page).await.0.expect("the disk works");
            }
            (result, buf)
        }
    }

    fn write_durable(
        &self,
        offset: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        self.file.write_durable(offset, buf)
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        self.file.sync()
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
        Ok(MetaFirstFile { file: self.0.open(path, options).await?, held: Rc::default() })
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

async fn change_and_checkpoint<E: Env>(store: &mut Store<E>, round: u32) {
    for i in 0..200u32 {
        let body = Bytes::from(vec![round as u8; 100]);
        let value = NewValue { head: b"", body: NewBody::Bytes(&body) };
        let old = store.put(TreeId(0), &i.to_be_bytes(), value).expect("everything is in memory");
        if let Some(old) = old {
            store.discard(old);
        }
    }
    let _ = store.publish();
    let done = store.begin_checkpoint().expect("there are changes").run(async |_| {}).await;
    store.finish_checkpoint(done).expect("the disk works");
}

/// Whether a crash `events` disk events into a checkpoint leaves a sound file; None if the checkpoint was done before.
fn survives<E: Env>(seed: u64, events: u64, wrap: impl Fn(SimEnv) -> E) -> Option<bool> {
    let sim = Sim::new(seed, SimOptions::default());
    let env = wrap(sim.env());
    let mut store = sim.block_on(async {
        let mut store = Store::create(env, options()).await.expect("the disk is empty");
        change_and_checkpoint(&mut store, 1).await;
        store
    });
    let finished = sim.block_on_within(change_and_checkpoint(&mut store, 2), Limit::DiskEvents(events)).is_ok();
    sim.crash();
    drop(store);
    let env = sim.env();
    (!finished).then(|| {
        sim.block_on(async {
            match Store::open(env.clone(), options(), true).await {
                Ok(store) => {
                    let verified = store.begin_verify().run(async |_| {}).await.is_ok();
                    let checked = check(&env, &options().path, SPECS).await.is_ok();
                    assert!(!verified || checked, "what verification passes must be sound");
                    checked
                }
                Err(_) => false,
            }
        })
    })
}

#[test]
fn a_tree_that_writes_its_meta_first_is_caught() {
    let (mut caught, mut cuts) = (0, 0);
    while let Some(survived) = survives(cuts, cuts, MetaFirst) {
        caught += u64::from(!survived);
        cuts += 1;
    }
    assert!(caught > 0, "none of {cuts} crashes showed that the meta was written first");
    let mut cuts = 0;
    while let Some(survived) = survives(cuts, cuts, |env| env) {
        assert!(survived, "in the right order every crash is survived");
        cuts += 1;
    }
}
