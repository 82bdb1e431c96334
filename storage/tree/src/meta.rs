//! The two meta pages, 0 and 1. Generation g has its meta in page g mod 2, so the older one stays whole while the newer one is
//! written.

use std::path::Path;

use bytes::Bytes;
use plinth_base::{
    Corrupt, PageId, PageRun,
    codec::{Malformed, Reader},
    crc32c,
};

use crate::{
    bitmap::Bitmap,
    error::TreeError,
    layout::{DEPTH_MAX, NAME_BYTES_MAX, PAGE_BYTES, PAGE_ID_END, STATE_BYTES_MAX, TREES_MAX, run_pages},
    node::{Link, PageRef, Totals, TreeRoot},
    store::TreeSpec,
    view::Trees,
};

/// The first bytes of both metas.
pub(crate) const META_MAGIC: [u8; 8] = *b"plnttree";
/// Goes up with every change of the layout.
pub const FORMAT_VERSION: u32 = 2;
/// Pages 0 and 1.
pub(crate) const META_PAGES: u64 = 2;

/// Where the fixed parts begin.
pub(crate) const META_TREES_AT: usize = 64;
pub(crate) const META_TREE_BYTES: usize = 48;
pub(crate) const META_STATE_AT: usize = META_TREES_AT + TREES_MAX * META_TREE_BYTES;
pub(crate) const META_CHECKSUM_AT: usize = PAGE_BYTES - 4;

const _: () = assert!(META_STATE_AT + STATE_BYTES_MAX <= META_CHECKSUM_AT);

/// A durable root and what is needed to go on from it.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub generation: u64,
    pub file_id: u64,
    /// Pages that the bitmaps speak of; the file may be longer.
    pub pages: u64,
    /// The run with the bitmaps: used pages, then holes.
    pub bitmap: PageRef,
    pub trees: Trees,
}

impl Meta {
    pub fn slot(&self) -> PageId {
        PageId(self.generation % META_PAGES)
    }

    /// Bytes of both bitmaps.
    pub fn bitmap_bytes(pages: u64) -> usize {
        2 * Bitmap::stored_bytes(pages)
    }

    pub fn bitmap_run(&self) -> PageRun {
        PageRun { first: self.bitmap.page, count: run_pages(Self::bitmap_bytes(self.pages)) }
    }

    /// The page, checksum included. All roots have their pages.
    pub fn encode(&self, specs: &[TreeSpec]) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAGE_BYTES);
        out.extend_from_slice(&META_MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&(PAGE_BYTES as u32).to_le_bytes());
        for field in [self.file_id, self.generation, self.pages, self.bitmap.page.0] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.bitmap.checksum.to_le_bytes());
        out.extend_from_slice(&u32::try_from(self.trees.state.len()).expect("the state is small").to_le_bytes());
        out.push(u8::try_from(specs.len()).expect("at most TREES_MAX"));
        out.resize(META_TREES_AT, 0);
        for (spec, root) in specs.iter().zip(&self.trees.roots) {
            encode_root(&mut out, spec.name, root);
        }
        out.resize(META_STATE_AT, 0);
        out.extend_from_slice(&self.trees.state);
        out.resize(META_CHECKSUM_AT, 0);
        out.extend_from_slice(&crc32c(0, &out).to_le_bytes());
        out
    }

    /// Reads the meta in `slot`. `Ok(Err(_))` is a meta that is not usable: a crash may have torn it.
    pub fn decode(
        bytes: &[u8],
        slot: u64,
        specs: &[TreeSpec],
        file: &Path,
    ) -> Result<Result<Self, BadMeta>, TreeError> {
        if bytes[..8] != META_MAGIC {
            return Ok(Err(BadMeta::Magic));
        }
        let field = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let (version, want, got) = (field(8), crc32c(0, &bytes[..META_CHECKSUM_AT]), field(META_CHECKSUM_AT));
        if version != FORMAT_VERSION {
            return Ok(Err(BadMeta::Version(version)));
        }
        if want != got {
            return Ok(Err(BadMeta::Checksum { want, got }));
        }
        let corrupt = |offset: usize, want: String, got: String| Corrupt {
            file: file.to_path_buf(),
            offset: slot * PAGE_BYTES as u64 + offset as u64,
            want,
            got,
        };
        let (meta, names) = Self::decode_fields(bytes)
            .map_err(|malformed| corrupt(0, "a meta page".to_owned(), malformed.0.to_owned()))?;
        if names.iter().map(String::as_str).ne(specs.iter().map(|spec| spec.name)) {
            return Err(TreeError::Trees { file: file.to_path_buf(), got: names });
        }
        if meta.generation % META_PAGES != slot {
            let got = format!("generation {}", meta.generation);
            return Err(corrupt(24, format!("a generation that is {slot} mod {META_PAGES}"), got).into());
        }
        Ok(Ok(meta))
    }

    fn decode_fields(bytes: &[u8]) -> Result<(Self, Vec<String>), Malformed> {
        let mut reader = Reader::new(bytes);
        reader.take(12)?;
        if reader.u32()? as usize != PAGE_BYTES {
            return Err(Malformed("another page size"));
        }
        let (file_id, generation, pages) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let bitmap = PageRef { page: page_id(&mut reader)?, checksum: reader.u32()? };
        let state_bytes = reader.u32()? as usize;
        let trees = usize::from(reader.u8()?);
        if pages > PAGE_ID_END || trees > TREES_MAX || state_bytes > STATE_BYTES_MAX {
            return Err(Malformed("a number beyond its limit"));
        }
        let mut names = Vec::new();
        let mut roots = Vec::new();
        for at in 0..trees {
            let (name, root) = decode_root(&bytes[META_TREES_AT + at * META_TREE_BYTES..][..META_TREE_BYTES], pages)?;
            names.push(name);
            roots.push(root);
        }
        let state = Bytes::copy_from_slice(&bytes[META_STATE_AT..META_STATE_AT + state_bytes]);
        Ok((Self { generation, file_id, pages, bitmap, trees: Trees { roots, state } }, names))
    }
}

/// Why a meta page is not usable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum BadMeta {
    Magic,
    Version(u32),
    Checksum { want: u32, got: u32 },
}

fn page_id(reader: &mut Reader<'_>) -> Result<PageId, Malformed> {
    match reader.u64()? {
        page if page < PAGE_ID_END => Ok(PageId(page)),
        _ => Err(Malformed("page id too large")),
    }
}

fn encode_root(out: &mut Vec<u8>, name: &str, root: &TreeRoot) {
    let end = out.len() + META_TREE_BYTES;
    out.extend_from_slice(name.as_bytes());
    out.resize(end - META_TREE_BYTES + NAME_BYTES_MAX, 0);
    if let Some(link) = &root.link {
        let page = link.disk().expect("the root is written before the meta");
        out.extend_from_slice(&page.page.0.to_le_bytes());
        out.extend_from_slice(&link.totals.entries.to_le_bytes());
        out.extend_from_slice(&link.totals.weight.to_le_bytes());
        out.extend_from_slice(&page.checksum.to_le_bytes());
        out.push(u8::try_from(root.depth).expect("at most DEPTH_MAX"));
    }
    out.resize(end, 0);
}

fn decode_root(bytes: &[u8], pages: u64) -> Result<(String, TreeRoot), Malformed> {
    let mut reader = Reader::new(bytes);
    let name = reader.take(NAME_BYTES_MAX)?;
    let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
    let page = page_id(&mut reader)?;
    let totals = Totals { entries: reader.u64()?, weight: reader.u64()? };
    let page = PageRef { page, checksum: reader.u32()? };
    let depth = usize::from(reader.u8()?);
    if depth > DEPTH_MAX || page.page.0 >= pages || (depth == 0 && totals != Totals::default()) {
        return Err(Malformed("an impossible root"));
    }
    let link = (depth > 0).then(|| Link::of_page(page, totals));
    Ok((name, TreeRoot { link, depth }))
}
