//! The used pages of a durable generation, read from its file a window at a time: memory doesn't grow with the file.

use std::{cell::RefCell, path::Path, rc::Rc};

use plinth_base::{crc32c, limits::IO_BYTES_MAX};
use plinth_env::File;

use crate::{
    bitmap::Bitmap,
    error::TreeError,
    layout::{PAGE_BYTES, PAGE_HEADER_BYTES},
    meta::Meta,
    open::{check_bitmap_checksum, check_bitmap_header, check_bitmap_place, corrupt, read_run},
};

/// Pages that a window speaks of, and their bytes in the file: a quarter of a GiB.
pub(crate) const WINDOW_PAGES: u64 = 64 << 10;
const WINDOW_BYTES: u64 = WINDOW_PAGES / 8;

/// See the module.
pub(crate) struct StoredBitmap<F> {
    file: F,
    /// Where the first word is.
    offset: u64,
    pages: u64,
    window: RefCell<Option<(u64, Rc<Bitmap>)>>,
}

impl<F: File> StoredBitmap<F> {
    /// Proves the bitmaps of a generation. After each read `pace` is called with its bytes.
    pub async fn open(file: F, meta: &Meta, path: &Path, pace: &mut impl AsyncFnMut(usize)) -> Result<Self, TreeError> {
        check_bitmap_place(&file, meta, path).await?;
        let offset = meta.bitmap_run().first.0 * PAGE_BYTES as u64;
        let whole = PAGE_HEADER_BYTES + Meta::bitmap_bytes(meta.pages);
        let mut checksum = 0;
        for at in (0..whole).step_by(IO_BYTES_MAX) {
            let piece = read_run(&file, offset + at as u64, (whole - at).min(IO_BYTES_MAX)).await?;
            if at == 0 {
                check_bitmap_header(&piece, meta, path)?;
            }
            checksum = crc32c(checksum, &piece);
            pace(piece.len()).await;
        }
        check_bitmap_checksum(checksum, meta, path)?;
        let offset = offset + PAGE_HEADER_BYTES as u64;
        Ok(Self { file, offset, pages: meta.pages, window: RefCell::default() })
    }

    pub fn file(&self) -> &F {
        &self.file
    }

    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Which pages of the window `number` are used; bit 0 is its first page. Empty behind the last one.
    pub async fn window(&self, number: u64) -> Result<Rc<Bitmap>, TreeError> {
        if let Some((at, window)) = &*self.window.borrow()
            && *at == number
        {
            return Ok(Rc::clone(window));
        }
        let first = number.saturating_mul(WINDOW_PAGES);
        let pages = self.pages.saturating_sub(first).min(WINDOW_PAGES);
        if pages == 0 {
            return Ok(Rc::default());
        }
        // Reads past the page cache begin at pages, the words don't.
        let at = self.offset + number * WINDOW_BYTES;
        let skip = at % PAGE_BYTES as u64;
        let bytes = Bitmap::stored_bytes(pages);
        let read = read_run(&self.file, at - skip, skip as usize + bytes).await?;
        // It was proven when it was opened. What rots between is proven by whoever makes use of it.
        let window = Bitmap::load(&read[skip as usize..], pages);
        let window = Rc::new(window.ok_or_else(|| {
            let (path, want) = (Path::new("a bitmap"), format!("bits for {pages} pages"));
            corrupt(path, at, want, "bits behind the end".to_owned())
        })?);
        *self.window.borrow_mut() = Some((number, Rc::clone(&window)));
        Ok(window)
    }
}
