//! Files of the simulated disk. An operation starts when its future is first polled; from then on it ends whether or not
//! anybody waits for it.

use std::{future::Future, io, path::Path, rc::Rc};

use plinth_base::{AlignedBuf, BLOCK_BYTES, limits::IO_BYTES_MAX};
use plinth_env::{File, SyncMethod};

use crate::{
    disk::{Admission, Change, Disk, Image, InodeId},
    exec::{Completion, Fate, HostId, World, completion},
    options::OpKind,
};

/// An open file. After a crash of the simulation all its operations fail.
#[derive(Clone)]
pub struct SimFile {
    pub(crate) world: Rc<World>,
    pub(crate) host: HostId,
    pub(crate) inode: InodeId,
    pub(crate) epoch: u64,
    pub(crate) path: Rc<Path>,
    pub(crate) writable: bool,
    pub(crate) direct: bool,
    pub(crate) sync_method: SyncMethod,
}

/// The error of handles and environments that were made before the last crash.
pub(crate) fn stale_handle() -> io::Error {
    io::Error::other("made before the simulated machine crashed")
}

impl SimFile {
    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn check(&self) -> io::Result<()> {
        if self.epoch == self.world.epoch(self.host) { Ok(()) } else { Err(stale_handle()) }
    }

    fn check_write(&self) -> io::Result<()> {
        self.check()?;
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn check_range(&self, offset: u64, buf: &AlignedBuf) -> io::Result<()> {
        assert!(buf.len() <= IO_BYTES_MAX, "an operation on {} has {} bytes", self.path.display(), buf.len());
        if self.direct && !offset.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok(())
    }

    /// Starts an operation; `action` is its effect at its end.
    fn start<T: 'static>(
        &self,
        kind: OpKind,
        bytes: usize,
        action: impl FnOnce(&mut Disk, Admission, Fate) -> T + 'static,
    ) -> Completion<T> {
        let admission = self.world.disk(self.host).admit(kind, &self.path, bytes as u64);
        self.start_admitted(admission, action)
    }

    /// The same for what returns when something is durable.
    fn start_flush<T: 'static>(
        &self,
        kind: OpKind,
        bytes: usize,
        action: impl FnOnce(&mut Disk, Admission, Fate) -> T + 'static,
    ) -> Completion<T> {
        let kind = (kind, kind == OpKind::Write);
        let admission = self.world.disk(self.host).admit_flush(self.world.now().0, kind, &self.path, bytes as u64);
        self.start_admitted(admission, action)
    }

    fn start_admitted<T: 'static>(
        &self,
        admission: Admission,
        action: impl FnOnce(&mut Disk, Admission, Fate) -> T + 'static,
    ) -> Completion<T> {
        let host = self.host;
        let (completer, completed) = completion();
        let end = move |world: &Rc<World>, fate| {
            let value = action(&mut world.disk(host), admission, fate);
            completer.complete(value);
        };
        self.world.submit(host, admission.delay_ns, Box::new(end));
        completed
    }

    async fn write(self, offset: u64, buf: AlignedBuf, durably: bool) -> (io::Result<()>, AlignedBuf) {
        if let Err(error) = self.check_write().and_then(|()| self.check_range(offset, &buf)) {
            return (Err(error), buf);
        }
        let inode = self.inode;
        let bytes = buf.len();
        let write = move |disk: &mut Disk, admission: Admission, fate| {
            // Interrupted, it is a write like any other: there whole, in part or not at all.
            let durably = durably && fate == Fate::Done;
            (disk.write(inode, offset, buf.as_slice(), durably, admission.fails), buf)
        };
        if durably {
            self.start_flush(OpKind::Write, bytes, write).await
        } else {
            self.start(OpKind::Write, bytes, write).await
        }
    }

    /// A write with a sync linked to it, which starts even if nobody waits for the write.
    async fn write_linked(self, offset: u64, buf: AlignedBuf) -> (io::Result<()>, AlignedBuf) {
        if let Err(error) = self.check_write().and_then(|()| self.check_range(offset, &buf)) {
            return (Err(error), buf);
        }
        let host = self.host;
        let admission = self.world.disk(host).admit(OpKind::Write, &self.path, buf.len() as u64);
        let (completer, completed) = completion();
        let world = Rc::clone(&self.world);
        let write_end = move |world: &Rc<World>, fate| {
            let written = world.disk(host).write(self.inode, offset, buf.as_slice(), false, admission.fails);
            if written.is_err() || fate == Fate::Interrupted {
                return completer.complete((written, buf));
            }
            let (seq, admission) = {
                let mut disk = world.disk(host);
                (disk.last_seq(self.inode), disk.admit_flush(world.now().0, (OpKind::Sync, true), &self.path, 0))
            };
            let sync_end = move |world: &Rc<World>, fate| {
                let synced = match fate {
                    Fate::Done => world.disk(host).sync(self.inode, seq, admission.fails),
                    Fate::Interrupted => Ok(()),
                };
                completer.complete((synced, buf));
            };
            world.submit(host, admission.delay_ns, Box::new(sync_end));
        };
        world.submit(host, admission.delay_ns, Box::new(write_end));
        completed.await
    }

    /// An operation that changes metadata of the file.
    async fn change(
        self,
        kind: OpKind,
        action: impl FnOnce(&mut Disk, Admission) -> io::Result<()> + 'static,
    ) -> io::Result<()> {
        self.check_write()?;
        self.start(kind, 0, move |disk, admission, _| action(disk, admission)).await
    }
}

impl File for SimFile {
    fn read_at(
        &self,
        offset: u64,
        mut buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        let file = self.clone();
        async move {
            if let Err(error) = file.check().and_then(|()| file.check_range(offset, &buf)) {
                return (Err(error), buf);
            }
            let inode = file.inode;
            let read = file.start(OpKind::Read, buf.len(), move |disk, admission, _| {
                if admission.fails {
                    return (Err(crate::disk::eio()), buf);
                }
                if let Some(image) = disk.live(inode) {
                    image.read(offset, buf.as_mut_slice());
                }
                (Ok(()), buf)
            });
            read.await
        }
    }

    fn write_at(&self, offset: u64, buf: AlignedBuf) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        self.clone().write(offset, buf, false)
    }

    fn write_durable(
        &self,
        offset: u64,
        buf: AlignedBuf,
    ) -> impl Future<Output = (io::Result<()>, AlignedBuf)> + 'static {
        let file = self.clone();
        async move {
            match file.sync_method {
                SyncMethod::WriteDsync | SyncMethod::ThreadDsync => file.write(offset, buf, true).await,
                SyncMethod::LinkedSync => file.write_linked(offset, buf).await,
            }
        }
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        async move {
            file.check()?;
            let (inode, seq) = (file.inode, file.world.disk(file.host).last_seq(file.inode));
            let synced = file.start_flush(OpKind::Sync, 0, move |disk, admission, fate| match fate {
                Fate::Done => disk.sync(inode, seq, admission.fails),
                Fate::Interrupted => Ok(()),
            });
            synced.await
        }
    }

    fn len(&self) -> impl Future<Output = io::Result<u64>> + 'static {
        let file = self.clone();
        async move {
            file.check()?;
            let inode = file.inode;
            Ok(file.start(OpKind::Meta, 0, move |disk, _, _| disk.live(inode).map_or(0, Image::len)).await)
        }
    }

    fn allocate(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = self.inode;
        self.clone()
            .change(OpKind::Allocate, move |disk, admission| disk.allocate(inode, offset, bytes, admission.fails))
    }

    fn punch_hole(&self, offset: u64, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = self.inode;
        self.clone().change(OpKind::Meta, move |disk, _| {
            disk.change(inode, Change::Punch { offset, bytes });
            Ok(())
        })
    }

    fn set_len(&self, bytes: u64) -> impl Future<Output = io::Result<()>> + 'static {
        let inode = self.inode;
        self.clone().change(OpKind::Meta, move |disk, _| {
            disk.change(inode, Change::Length(bytes));
            Ok(())
        })
    }

    fn drop_cache(&self) -> impl Future<Output = io::Result<()>> + 'static {
        let file = self.clone();
        async move {
            file.check()?;
            let inode = file.inode;
            file.start(OpKind::Meta, 0, move |disk, _, _| disk.drop_cache(inode)).await;
            Ok(())
        }
    }
}
