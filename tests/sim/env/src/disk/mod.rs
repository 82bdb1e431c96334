//! The simulated disk: files by path that outlive crashes, with what can go wrong on the way to them.
//!
//! Everything here happens at one point of virtual time; the executor decides when. Invariant: an inode that a handle of the
//! current run names exists; only a crash forgets inodes, those that no name leads to any more.

mod counters;
mod flushes;
mod image;
mod inode;
mod names;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use plinth_base::{Prng, crc32c};
use plinth_env::{DirEntry, DiskSpace, OpenMode};

pub(crate) use image::{Block, Image};
pub(crate) use inode::Change;
pub(crate) use names::InodeId;

use self::{counters::Counters, flushes::Flushes, inode::Inode, names::NameOp, names::Names};
use crate::{
    options::{Chance, Faults, Latencies, OpKind, SimOptions, as_ns},
    trace::Trace,
};

/// The device moves a byte in a nanosecond: 1 GB/s.
const NS_PER_BYTE: u64 = 1;

/// The device failed.
pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// What a planned fault does to the operation that it meets.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    Fail,
    Delay(Duration),
}

#[derive(Debug)]
struct Planned {
    kind: OpKind,
    path_part: String,
    /// Matching operations that still pass before it strikes.
    skip: u64,
    effect: Effect,
}

/// How an operation will go, drawn when it is submitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) delay_ns: u64,
    pub(crate) fails: bool,
}

/// The disk of one simulation.
#[derive(Debug)]
pub(crate) struct Disk {
    names: Names,
    inodes: BTreeMap<InodeId, Inode>,
    next_inode: u64,
    capacity_bytes: u64,
    pub(crate) faults: Faults,
    latencies: Latencies,
    planned: Vec<Planned>,
    pub(crate) flushes: Flushes,
    prng: Prng,
    pub(crate) counters: Counters,
    pub(crate) trace: Trace,
}

impl Disk {
    pub(crate) fn new(options: &SimOptions, prng: Prng) -> Self {
        Self {
            names: Names::default(),
            inodes: BTreeMap::new(),
            next_inode: 1,
            capacity_bytes: options.capacity_bytes,
            faults: options.faults.clone(),
            latencies: options.latencies,
            planned: Vec::new(),
            flushes: Flushes::default(),
            prng,
            counters: Counters::default(),
            trace: Trace::default(),
        }
    }

    pub(crate) fn plan(&mut self, kind: OpKind, path_part: &str, skip: u64, effect: Effect) {
        self.planned.push(Planned { kind, path_part: path_part.to_owned(), skip, effect });
    }

    pub(crate) fn cancel_plans(&mut self) {
        self.planned.clear();
    }

    pub(crate) fn set_capacity(&mut self, bytes: u64) {
        self.capacity_bytes = bytes;
    }

    /// Draws how an operation will go.
    pub(crate) fn admit(&mut self, kind: OpKind, path: &Path, bytes: u64) -> Admission {
        let (latency, chance, name) = match kind {
            OpKind::Read => (self.latencies.read, self.faults.read_error, "read error"),
            OpKind::Load => (self.latencies.read, self.faults.page_load_error, "page load error"),
            OpKind::Write => (self.latencies.write, self.faults.write_error, "write error"),
            OpKind::Sync => (self.latencies.sync, self.faults.sync_error, "sync error"),
            OpKind::Allocate => (self.latencies.meta, self.faults.storage_full, "storage full"),
            OpKind::Meta => (self.latencies.meta, Chance::NEVER, "operation error"),
        };
        let mut delay_ns = latency.draw_ns(&mut self.prng) + bytes * NS_PER_BYTE;
        let mut fails = chance.happens(&mut self.prng);
        for planned in
            self.planned.iter_mut().filter(|p| p.kind == kind && path.to_string_lossy().contains(&p.path_part))
        {
            if planned.skip == 0 {
                match planned.effect {
                    Effect::Fail => fails = true,
                    Effect::Delay(delay) => {
                        delay_ns += as_ns(delay);
                        self.counters.add("stall");
                    }
                }
            }
            planned.skip = planned.skip.wrapping_sub(1);
        }
        // One that has struck wrapped around.
        self.planned.retain(|p| p.skip != u64::MAX);
        if fails {
            self.counters.add(name);
        }
        Admission { delay_ns, fails }
    }

    /// The same for what returns when something is durable: a durable write, in one piece or as a write and a sync, or a sync by itself.
    pub(crate) fn admit_flush(
        &mut self,
        now_ns: u64,
        (kind, is_write): (OpKind, bool),
        path: &Path,
        bytes: u64,
    ) -> Admission {
        let Admission { delay_ns, fails } = self.admit(kind, path, bytes);
        let (delay_ns, what) = self.flushes.delay(now_ns, path, is_write, delay_ns, &mut self.prng);
        if let Some(what) = what {
            self.counters.add(what);
        }
        Admission { delay_ns, fails }
    }

    /// Draws whether a fault strikes, and counts it.
    pub(crate) fn strikes(&mut self, chance: impl FnOnce(&Faults) -> Chance, name: &'static str) -> bool {
        let strikes = chance(&self.faults).happens(&mut self.prng);
        if strikes {
            self.counters.add(name);
        }
        strikes
    }

    fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        self.inodes.get_mut(&id).expect("inodes exist until a crash, and handles don't outlive one")
    }

    /// What reads of the file see; none after a crash that took the file away.
    pub(crate) fn live(&self, id: InodeId) -> Option<&Image> {
        self.inodes.get(&id).map(Inode::live)
    }

    pub(crate) fn cache_epoch(&self, id: InodeId) -> u64 {
        self.inodes.get(&id).map_or(0, Inode::cache_epoch)
    }

    pub(crate) fn last_seq(&self, id: InodeId) -> u64 {
        self.inodes.get(&id).map_or(0, Inode::last_seq)
    }

    pub(crate) fn drop_cache(&mut self, id: InodeId) {
        self.inode_mut(id).drop_cache();
    }

    /// Drops the page cache of all files.
    pub(crate) fn drop_caches(&mut self) {
        self.inodes.values_mut().for_each(Inode::drop_cache);
    }

    pub(crate) fn read_stale(&mut self, id: InodeId, offset: u64, out: &mut [u8]) {
        self.inode_mut(id).read_stale(offset, out);
    }

    fn available_blocks(&self) -> u64 {
        // A file without a name gives its room back, even while it is open: simpler than counting handles.
        let named = self.names.live().files.values();
        let used: u64 = named.filter_map(|id| self.live(*id)).map(Image::block_count).sum();
        (self.capacity_bytes / plinth_base::BLOCK_BYTES as u64).saturating_sub(used)
    }

    /// Room on the disk in bytes: all of it, what is left.
    pub(crate) fn space(&self) -> DiskSpace {
        let available_bytes = self.available_blocks() * plinth_base::BLOCK_BYTES as u64;
        DiskSpace { total_bytes: self.capacity_bytes, available_bytes }
    }

    /// Writes bytes, durably or not; a failed write leaves none, some or all of its sectors.
    pub(crate) fn write(
        &mut self,
        id: InodeId,
        offset: u64,
        data: &[u8],
        durably: bool,
        fails: bool,
    ) -> io::Result<()> {
        self.trace.note([id.0, offset, u64::from(crc32c(u32::from(durably), data))]);
        let holes = self.live(id).map_or(0, |image| image.holes(offset, data.len() as u64));
        if holes > 0 && holes > self.available_blocks() {
            self.counters.add("storage full");
            return Err(enospc());
        }
        if fails {
            let sectors = data.len() / inode::SECTOR_BYTES as usize;
            let written = self.prng.index(sectors + 1) * inode::SECTOR_BYTES as usize;
            let data = Arc::from(&data[..written]);
            self.inode_mut(id).change(Change::Data { offset, data });
            return Err(eio());
        }
        if durably && !self.faults.lie_about_flush {
            self.inode_mut(id).change_durably(offset, Arc::from(data));
        } else {
            self.inode_mut(id).change(Change::Data { offset, data: Arc::from(data) });
        }
        Ok(())
    }

    /// Makes a change of a file that isn't a write.
    pub(crate) fn change(&mut self, id: InodeId, change: Change) {
        self.trace.note([id.0, 3, self.last_seq(id)]);
        self.inode_mut(id).change(change);
    }

    pub(crate) fn allocate(&mut self, id: InodeId, offset: u64, bytes: u64, fails: bool) -> io::Result<()> {
        let holes = self.live(id).map_or(0, |image| image.holes(offset, bytes));
        if fails {
            return Err(enospc());
        }
        if holes > self.available_blocks() {
            self.counters.add("storage full");
            return Err(enospc());
        }
        self.change(id, Change::Reserve { offset, bytes });
        Ok(())
    }

    /// Makes the changes of a file up to `seq` durable.
    pub(crate) fn sync(&mut self, id: InodeId, seq: u64, fails: bool) -> io::Result<()> {
        self.trace.note([id.0, 4, seq]);
        if fails {
            self.inode_mut(id).sync_failed(seq);
            return Err(eio());
        }
        if !self.faults.lie_about_flush {
            self.inode_mut(id).sync(seq);
        }
        Ok(())
    }

    pub(crate) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<InodeId> {
        match (mode, self.names.live().files.get(path)) {
            (OpenMode::CreateNew, Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => self.create(path),
            (OpenMode::Read | OpenMode::Write, Some(id)) => Ok(*id),
            (OpenMode::Read | OpenMode::Write, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create(&mut self, path: &Path) -> io::Result<InodeId> {
        if self.names.live().has_dir(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !self.names.live().has_dir(&names::parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = InodeId(self.next_inode);
        self.next_inode += 1;
        self.inodes.insert(inode, Inode::default());
        self.trace.note([inode.0, 5, u64::from(crc32c(0, path.as_os_str().as_encoded_bytes()))]);
        self.names.change(NameOp::Create { path: path.to_path_buf(), inode });
        Ok(inode)
    }

    pub(crate) fn list_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.names.live();
        if !names.has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dirs = names.dirs_in(path).map(|dir| DirEntry { name: name(dir), is_dir: true, bytes: 0 });
        let files = names.files.iter().filter(|(file, _)| file.parent() == Some(path)).map(|(file, id)| {
            let bytes = self.live(*id).map_or(0, Image::len);
            DirEntry { name: name(file), is_dir: false, bytes }
        });
        let mut entries: Vec<_> = dirs.chain(files).collect();
        entries.sort();
        Ok(entries)
    }

    /// Makes a directory and its missing parents.
    pub(crate) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> =
            path.ancestors().take_while(|dir| !self.names.live().has_dir(dir)).map(Path::to_path_buf).collect();
        for dir in missing.into_iter().rev() {
            if self.names.live().files.contains_key(&dir) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            self.names.change(NameOp::MakeDir { path: dir });
        }
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let names = self.names.live();
        let inode = *names.files.get(from).ok_or(io::ErrorKind::NotFound)?;
        if !names.has_dir(&names::parent(to)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if from != to {
            self.trace.note([inode.0, 6, u64::from(crc32c(0, to.as_os_str().as_encoded_bytes()))]);
            self.names.change(NameOp::Rename { from: from.to_path_buf(), to: to.to_path_buf(), inode });
        }
        Ok(())
    }

    pub(crate) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let inode = *self.names.live().files.get(path).ok_or(io::ErrorKind::NotFound)?;
        self.trace.note([inode.0, 7, 0]);
        self.names.change(NameOp::Remove { path: path.to_path_buf() });
        Ok(())
    }

    /// The number of the newest change of names.
    pub(crate) fn names_seq(&self) -> u64 {
        self.names.last_seq()
    }

    pub(crate) fn sync_dir(&mut self, path: &Path, seq: u64, fails: bool) -> io::Result<()> {
        if !self.names.live().has_dir(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if fails {
            return Err(eio());
        }
        self.names.sync_dir(path, seq);
        Ok(())
    }

    /// Loses power.
    pub(crate) fn crash(&mut self) {
        self.counters.add("power cut");
        self.names.crash(&mut self.prng, &mut self.counters);
        let named: std::collections::BTreeSet<_> = self.names.live().files.values().copied().collect();
        self.inodes.retain(|id, _| named.contains(id));
        for inode in self.inodes.values_mut() {
            inode.crash(&mut self.prng, &mut self.counters);
        }
        self.planned.clear();
        if self.faults.crash_bit_flip.happens(&mut self.prng) {
            self.flip_random_bit();
        }
        self.trace.note([8, self.inodes.len() as u64, self.names.last_seq()]);
    }

    /// The process dies, the machine goes on: nothing that was written is lost.
    pub(crate) fn kill(&mut self) {
        self.counters.add("process killed");
        self.planned.clear();
        self.trace.note([9, self.inodes.len() as u64, self.names.last_seq()]);
    }

    fn flip_random_bit(&mut self) {
        let ids: Vec<_> = self.inodes.keys().copied().collect();
        if ids.is_empty() {
            return;
        }
        let id = ids[self.prng.index(ids.len())];
        let len = self.inode_mut(id).durable().len();
        if len > 0 {
            let (offset, bit) = (self.prng.below(len), self.prng.below(8) as u8);
            if self.inode_mut(id).flip_bit(offset, bit) {
                self.counters.add("bit flip");
            }
        }
    }

    /// Flips the lowest bit of a byte; false where there is none.
    pub(crate) fn flip_bit(&mut self, path: &Path, offset: u64) -> bool {
        let Some(id) = self.names.live().files.get(path).copied() else { return false };
        let flipped = self.inode_mut(id).flip_bit(offset, 0);
        if flipped {
            self.counters.add("bit flip");
        }
        flipped
    }

    /// A file's bytes: as reads see them, or as they certainly are on the device.
    pub(crate) fn content(&self, path: &Path, durable: bool) -> Option<Vec<u8>> {
        let inode = self.inodes.get(self.names.live().files.get(path)?)?;
        let image = if durable { inode.durable() } else { inode.live() };
        let mut out = vec![0; usize::try_from(image.len()).expect("simulated files fit memory")];
        image.read(0, &mut out);
        Some(out)
    }

    /// Puts a file there, durable at once with its name and directories.
    pub(crate) fn plant(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.create_dir(&names::parent(path))?;
        if self.names.live().files.contains_key(path) {
            self.remove_file(path)?;
        }
        let id = self.create(path)?;
        self.inode_mut(id).change(Change::Data { offset: 0, data: Arc::from(bytes) });
        let seq = self.last_seq(id);
        self.inode_mut(id).sync(seq);
        for dir in path.ancestors().skip(1) {
            self.names.sync_dir(dir, self.names.last_seq());
        }
        Ok(())
    }

    /// All files, by path, with their lengths.
    pub(crate) fn files(&self) -> Vec<(PathBuf, u64)> {
        let files = self.names.live().files.iter();
        files.map(|(path, id)| (path.clone(), self.live(*id).map_or(0, Image::len))).collect()
    }
}
