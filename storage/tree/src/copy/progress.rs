//! How far a copy has come, in a file beside it, so that it survives the process.
//!
//! `magic (8 bytes) | bytes of the blocks (8) | checksum of all that follows (4) | padding to a page | meta | blocks`. Written anew and renamed; whatever is wrong with
//! it, the copy begins from the start.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::{Buf, BufMut};
use plinth_base::{AlignedBuf, crc32c, limits::IO_BYTES_MAX};
use plinth_env::{Env, File, OpenMode, OpenOptions};

use super::{CopyMeta, blocks::Blocks};
use crate::{layout::PAGE_BYTES, meta::Meta, open::read_run, store::TreeSpec};

const MAGIC: [u8; 8] = *b"plntcopy";

/// Room for the fixed fields.
const HEADER_BYTES: usize = 20;

/// What is known of a copy.
pub(super) struct Progress {
    pub meta: Meta,
    pub missing: Blocks,
}

fn with_suffix(copy: &Path, suffix: &str) -> PathBuf {
    let mut name = copy.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn path_of(copy: &Path) -> PathBuf {
    with_suffix(copy, ".progress")
}

/// Removes a file that may not be there.
pub(super) async fn remove_if_there<E: Env>(env: &E, path: &Path) -> io::Result<()> {
    match env.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Progress {
    /// Stores what is known of the copy at `copy`, whose pages are durable.
    pub async fn save<E: Env>(env: &E, copy: &Path, meta: &[u8], missing: &Blocks) -> io::Result<()> {
        let blocks = missing.encode();
        let mut body = Vec::with_capacity(PAGE_BYTES + blocks.len());
        body.put_slice(meta);
        body.put_slice(&blocks);
        let mut out = AlignedBuf::zeroed(PAGE_BYTES + body.len());
        let mut header = &mut out.as_mut_slice()[..HEADER_BYTES];
        header.put_slice(&MAGIC);
        header.put_u64_le(blocks.len() as u64);
        header.put_u32_le(crc32c(0, &body));
        out.as_mut_slice()[PAGE_BYTES..][..body.len()].copy_from_slice(&body);
        let fresh = with_suffix(copy, ".progress.new");
        remove_if_there(env, &fresh).await?;
        let file = env.open(&fresh, OpenOptions::direct(OpenMode::CreateNew)).await?;
        for (at, piece) in out.as_slice().chunks(IO_BYTES_MAX).enumerate() {
            let mut buf = AlignedBuf::zeroed(piece.len());
            buf.as_mut_slice().copy_from_slice(piece);
            file.write_at((at * IO_BYTES_MAX) as u64, buf).await.0?;
        }
        file.sync().await?;
        env.rename(&fresh, &path_of(copy)).await
    }

    /// What was stored, if anything was and it is whole.
    pub async fn load<E: Env>(env: &E, copy: &Path, trees: &[TreeSpec]) -> Option<Self> {
        let file = env.open(&path_of(copy), OpenOptions::direct(OpenMode::Read)).await.ok()?;
        let file_bytes = file.len().await.ok()?;
        let header = read_run(&file, 0, HEADER_BYTES).await.ok()?;
        let mut rest = header.strip_prefix(&MAGIC)?;
        let (length, checksum) = (rest.get_u64_le(), rest.get_u32_le());
        if length > file_bytes {
            return None;
        }
        let bytes = PAGE_BYTES + usize::try_from(length).ok()?;
        let body = read_run(&file, PAGE_BYTES as u64, bytes).await.ok()?;
        if crc32c(0, &body) != checksum {
            return None;
        }
        let (meta, blocks) = body.split_at(PAGE_BYTES);
        let CopyMeta(meta) = CopyMeta::decode(meta, trees).ok()??;
        let missing = Blocks::decode(blocks).ok().filter(|missing| missing.file_pages() == meta.pages)?;
        Some(Self { meta, missing })
    }

    /// Forgets what is known of the copy at `copy`.
    pub async fn remove<E: Env>(env: &E, copy: &Path) -> io::Result<()> {
        remove_if_there(env, &path_of(copy)).await
    }
}
