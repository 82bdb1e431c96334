//! Making a new file, and opening one after a clean stop or a crash.
//!
//! A new file gets its name only when it is whole: it is written beside it and renamed.
//!
//! Invariant: before the meta of generation g + 1 is written, generation g is durable. The process that wrote g knows: both syncs
//! came back. One that found g after a crash doesn't know it of the meta: the sync behind it may have failed, or never have been
//! asked for, and reads show it all the same. So opening writes that page once more, as it is, and syncs it. The pages that
//! it names were synced before it was first written. Otherwise a power cut could take g away from under g + 1.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use plinth_base::{AlignedBuf, Corrupt, Mark, crc32c, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions};

use crate::{
    bitmap::Bitmap,
    branch::BranchCount,
    checkpoint::stored_bitmaps,
    error::TreeError,
    layout::{Kind, PAGE_BYTES, PAGE_HEADER_BYTES, PageHeader, run_pages},
    ledger::{Dirty, Ledger},
    meta::{BadMeta, META_PAGES, Meta},
    node::TreeRoot,
    pins::Pins,
    punch::Punching,
    room::Growth,
    space::Space,
    store::{Store, StoreOptions, TreeSpec},
    trim::Trimming,
    view::{Published, Trees},
    writer::PageWriter,
};

/// The smallest file: the metas, two bitmaps, and something to begin with.
const FILE_PAGES_MIN: u64 = 16;

impl<E: Env> Store<E> {
    /// Makes a file with empty trees. A file that has the name is replaced.
    pub async fn create(env: E, options: StoreOptions) -> Result<Self, TreeError> {
        options.assert_valid();
        let fresh = fresh_path(&options.path);
        match env.remove_file(&fresh).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let file = env.open(&fresh, OpenOptions::cached(OpenMode::CreateNew)).await?;
        let file_pages = (options.grow_bytes / PAGE_BYTES as u64).max(FILE_PAGES_MIN);
        file.allocate(0, file_pages * PAGE_BYTES as u64).await?;
        let file_id = env.random_u64();
        let roots = vec![TreeRoot::default(); options.trees.len()];
        let trees = Trees { roots, state: Bytes::new() };
        let mut space = Space::new(file_pages, META_PAGES);
        let mut metas: Vec<Meta> = Vec::new();
        for generation in 1..=META_PAGES {
            if let Some(older) = metas.last() {
                space.free(generation, older.bitmap_run());
            }
            let run = space.allocate(run_pages(Meta::bitmap_bytes(file_pages))).ok_or(TreeError::StorageFull)?;
            let mut writer = PageWriter::new(env.clone(), file.clone(), None, file_id, generation);
            let pace = &mut async |_| {};
            let bitmap = writer.write_run(Kind::Bitmap, run.first, &stored_bitmaps(&space), pace).await?;
            let meta = Meta { generation, file_id, pages: file_pages, bitmap, trees: trees.clone() };
            writer.write_meta(&meta, options.trees, pace).await?;
            metas.push(meta);
        }
        env.rename(&fresh, &options.path).await?;
        let parent = options.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        env.sync_dir(parent.unwrap_or(Path::new("."))).await?;
        let newest = metas.pop().expect("two metas were made");
        Self::start(env, file, options, newest, metas.pop(), space)
    }

    /// Opens a file at its newest usable checkpoint. After a crash the metas are read past the page cache, which is dropped, the one
    /// that was written last is made durable, and the owner verifies the newest checkpoint (`begin_verify`) before it gives up the
    /// log behind it.
    pub async fn open(env: E, options: StoreOptions, after_crash: bool) -> Result<Self, TreeError> {
        options.assert_valid();
        let file = env.open(&options.path, OpenOptions::cached(OpenMode::Write)).await?;
        if after_crash {
            file.drop_cache().await?;
        }
        let metas = MetaPages::read(&env, &options.path, after_crash).await?;
        let mut found = metas.decode(options.trees, &options.path)?.into_iter();
        let newest = found.next().expect("decoding fails without a meta");
        let older = found.next();
        check_pair(&newest, older.as_ref(), &options.path)?;
        if older.is_none() {
            Mark::CheckpointLost.hit();
        }
        let file_pages = file.len().await? / PAGE_BYTES as u64;
        let (used, holes) = read_bitmaps(&file, &newest, &options.path).await?;
        let older_used = match &older {
            Some(older) => Some(read_bitmaps(&file, older, &options.path).await?.0),
            None => None,
        };
        if after_crash {
            metas.confirm_last(&file, &newest, older.is_some()).await?;
        }
        let space = Space::of_checkpoints(used, older_used.as_ref(), holes, newest.generation, file_pages);
        Self::start(env, file, options, newest, older, space)
    }

    fn start(
        env: E,
        file: E::File,
        mut options: StoreOptions,
        newest: Meta,
        older: Option<Meta>,
        space: Space,
    ) -> Result<Self, TreeError> {
        let file_pages = space.pages();
        // A file that is longer already doesn't grow, but all of it is read.
        options.file_bytes_max = options.file_bytes_max.max(file_pages * PAGE_BYTES as u64);
        let pages_end = options.file_bytes_max / PAGE_BYTES as u64;
        let pages = env.open_pages(&file, PAGE_BYTES, options.file_bytes_max)?;
        let pins = Pins::new(newest.generation);
        let punching = Punching::resume(&space);
        let working = newest.trees.clone();
        let branches = BranchCount::default();
        let published = Published {
            trees: working.clone(),
            specs: options.trees,
            pages_end,
            branches: branches.clone(),
            sequence: 0,
            pin: pins.pin(),
        };
        let mut store = Self {
            env,
            file,
            file_id: newest.file_id,
            options,
            pages,
            working,
            changed: false,
            resettled: false,
            newest_change: 0,
            published: Arc::new(published),
            published_dirty: Dirty::default(),
            ledger: Ledger::new(),
            branches,
            pins,
            capacity: space.capacity(),
            space: Some(space),
            frozen: None,
            newest,
            older,
            settling: None,
            unsettled_pages: 0,
            trimming: Trimming::default(),
            growth: Growth { file_pages, ..Growth::default() },
            punching,
            poisoned: false,
        };
        store.release_pages();
        Ok(store)
    }
}

fn fresh_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

pub(crate) fn corrupt(file: &Path, offset: u64, want: String, got: String) -> TreeError {
    Corrupt { file: file.to_path_buf(), offset, want, got }.into()
}

/// Both meta pages as they were read.
pub(crate) struct MetaPages(AlignedBuf);

impl MetaPages {
    pub async fn read<E: Env>(env: &E, path: &Path, direct: bool) -> Result<Self, TreeError> {
        let open = OpenOptions { direct, ..OpenOptions::cached(OpenMode::Read) };
        let file = env.open(path, open).await?;
        let (result, buf) = file.read_at(0, AlignedBuf::zeroed(META_PAGES as usize * PAGE_BYTES)).await;
        result?;
        Ok(Self(buf))
    }

    /// The usable metas, at least one, the newest first.
    pub fn decode(&self, trees: &[TreeSpec], path: &Path) -> Result<Vec<Meta>, TreeError> {
        let mut metas = Vec::new();
        let mut bad = Vec::new();
        for (slot, bytes) in (0u64..).zip(self.0.as_slice().chunks_exact(PAGE_BYTES)) {
            match Meta::decode(bytes, slot, trees, path)? {
                Ok(meta) => metas.push(meta),
                Err(error) => bad.push((slot, error)),
            }
        }
        metas.sort_by_key(|meta| std::cmp::Reverse(meta.generation));
        if metas.is_empty() { Err(no_meta(&bad, path)) } else { Ok(metas) }
    }

    /// Makes durable the page that was written last, with the bytes that it has: the newest meta, or the one that isn't usable, lest the
    /// one that was there before comes back when the pages it names have been used again. A tear leaves the same bytes.
    async fn confirm_last<F: File>(&self, file: &F, newest: &Meta, has_older: bool) -> Result<(), TreeError> {
        let newest_slot = newest.slot().0;
        let slot = if has_older { newest_slot } else { META_PAGES - 1 - newest_slot };
        let offset = slot as usize * PAGE_BYTES;
        let mut page = AlignedBuf::zeroed(PAGE_BYTES);
        page.as_mut_slice().copy_from_slice(&self.0.as_slice()[offset..][..PAGE_BYTES]);
        file.write_at(offset as u64, page).await.0?;
        Ok(file.sync().await?)
    }
}

/// The error for a file without a usable meta.
fn no_meta(bad: &[(u64, BadMeta)], path: &Path) -> TreeError {
    let file = path.to_path_buf();
    for (slot, error) in bad {
        match error {
            BadMeta::Magic => {}
            BadMeta::Version(got) => return TreeError::Version { file, got: *got, want: crate::meta::FORMAT_VERSION },
            BadMeta::Checksum { want, got } => {
                let offset = slot * PAGE_BYTES as u64 + crate::meta::META_CHECKSUM_AT as u64;
                return corrupt(path, offset, format!("meta checksum {want:08x}"), format!("{got:08x}"));
            }
        }
    }
    TreeError::NotATree { file }
}

/// Two usable metas are of one file, and of generations that follow each other.
pub(crate) fn check_pair(newest: &Meta, older: Option<&Meta>, path: &Path) -> Result<(), TreeError> {
    let Some(older) = older else { return Ok(()) };
    let offset = older.slot().0 * PAGE_BYTES as u64;
    if older.file_id != newest.file_id {
        return Err(corrupt(
            path,
            offset,
            format!("file id {:016x}", newest.file_id),
            format!("{:016x}", older.file_id),
        ));
    }
    if older.generation + 1 != newest.generation {
        let want = format!("generation {}", newest.generation - 1);
        return Err(corrupt(path, offset, want, format!("{}", older.generation)));
    }
    Ok(())
}

/// The used pages and the holes of a generation.
pub(crate) async fn read_bitmaps<F: File>(file: &F, meta: &Meta, path: &Path) -> Result<(Bitmap, Bitmap), TreeError> {
    check_bitmap_place(file, meta, path).await?;
    let offset = meta.bitmap_run().first.0 * PAGE_BYTES as u64;
    let payload_bytes = Meta::bitmap_bytes(meta.pages);
    let bytes = read_run(file, offset, PAGE_HEADER_BYTES + payload_bytes).await?;
    check_bitmap_checksum(crc32c(0, &bytes), meta, path)?;
    check_bitmap_header(&bytes, meta, path)?;
    let (used, holes) = bytes[PAGE_HEADER_BYTES..].split_at(payload_bytes / 2);
    match (Bitmap::load(used, meta.pages), Bitmap::load(holes, meta.pages)) {
        (Some(used), Some(holes)) => Ok((used, holes)),
        _ => Err(corrupt(path, offset, format!("bits for {} pages", meta.pages), "bits behind the end".to_owned())),
    }
}

/// The bitmap run of a generation lies inside the file.
pub(crate) async fn check_bitmap_place<F: File>(file: &F, meta: &Meta, path: &Path) -> Result<(), TreeError> {
    let file_pages = file.len().await? / PAGE_BYTES as u64;
    if file_pages < meta.pages {
        let want = format!("at least {} pages", meta.pages);
        return Err(corrupt(path, file_pages * PAGE_BYTES as u64, want, format!("{file_pages} pages")));
    }
    let run = meta.bitmap_run();
    if run.end().0 > meta.pages {
        let offset = run.first.0 * PAGE_BYTES as u64;
        return Err(corrupt(path, offset, "a bitmap inside the file".to_owned(), format!("pages up to {}", run.end())));
    }
    Ok(())
}

/// The checksum of a bitmap run, header and payload, is the one that its meta says.
pub(crate) fn check_bitmap_checksum(got: u32, meta: &Meta, path: &Path) -> Result<(), TreeError> {
    if got == meta.bitmap.checksum {
        return Ok(());
    }
    let offset = meta.bitmap_run().first.0 * PAGE_BYTES as u64;
    Err(corrupt(path, offset, format!("checksum {:08x}", meta.bitmap.checksum), format!("{got:08x}")))
}

/// The header of a bitmap run is its own.
pub(crate) fn check_bitmap_header(bytes: &[u8], meta: &Meta, path: &Path) -> Result<(), TreeError> {
    let first = meta.bitmap_run().first;
    let offset = first.0 * PAGE_BYTES as u64;
    let header =
        PageHeader::decode(bytes).map_err(|error| corrupt(path, offset, "a page".to_owned(), error.0.to_owned()))?;
    if header.kind != Kind::Bitmap || header.page != first || header.file_id != meta.file_id {
        return Err(corrupt(path, offset, "the bitmap of this file".to_owned(), format!("{header:?}")));
    }
    Ok(())
}

/// `bytes` from `offset`, in as many reads as it takes.
pub(crate) async fn read_run<F: File>(file: &F, offset: u64, bytes: usize) -> Result<Vec<u8>, TreeError> {
    let mut out = Vec::new();
    while out.len() < bytes {
        let left = (bytes - out.len()).min(IO_BYTES_MAX);
        let (result, buf) = file.read_at(offset + out.len() as u64, AlignedBuf::zeroed(left)).await;
        result?;
        out.extend_from_slice(&buf.as_slice()[..left]);
    }
    Ok(out)
}
