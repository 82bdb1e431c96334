//! The checker: proves a whole file that nobody has open.
//!
//! For each usable meta: every page is reached exactly once or free, and the stored bitmap says the same; checksums, headers,
//! counts, weights and the order of keys are right.

use std::path::Path;

use plinth_env::{Env, File, OpenMode, OpenOptions};

use crate::{
    error::TreeError,
    layout::PAGE_BYTES,
    meta::{META_PAGES, Meta},
    node::{PageRef, Totals},
    open::{MetaPages, check_pair, read_bitmaps},
    store::TreeSpec,
    walk::{Ahead, Walk, Whole},
};

/// What the checker found in a sound file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Pages of the file.
    pub file_pages: u64,
    /// The usable generations, the newest first.
    pub generations: Vec<GenerationReport>,
}

/// A generation that was proven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GenerationReport {
    /// Its number.
    pub generation: u64,
    /// Pages it reaches, metas and bitmap included.
    pub used_pages: u64,
    /// Pages whose blocks were or will be given back.
    pub hole_pages: u64,
    /// Totals of each tree.
    pub trees: Vec<(&'static str, Totals)>,
    /// The owner's record.
    pub state: bytes::Bytes,
}

/// Proves the file at `path`, which holds `trees`. The first thing that is wrong is returned as `Corrupt`, with its offset.
pub async fn check<E: Env>(env: &E, path: &Path, trees: &'static [TreeSpec]) -> Result<Report, TreeError> {
    let file = env.open(path, OpenOptions::cached(OpenMode::Read)).await?;
    let metas = MetaPages::read(env, path, false).await?.decode(trees, path)?;
    check_pair(&metas[0], metas.get(1), path)?;
    let file_pages = file.len().await? / PAGE_BYTES as u64;
    let mut generations = Vec::new();
    for meta in &metas {
        generations.push(check_generation(&file, path, meta, trees).await?);
    }
    Ok(Report { file_pages, generations })
}

async fn check_generation<F: File>(
    file: &F,
    path: &Path,
    meta: &Meta,
    trees: &'static [TreeSpec],
) -> Result<GenerationReport, TreeError> {
    let (used, holes) = read_bitmaps(file, meta, path).await?;
    let mut scope = Whole { skip: None, reached: crate::bitmap::Bitmap::new(meta.pages) };
    let run = meta.bitmap_run();
    for page in (0..META_PAGES).chain(run.first.0..run.end().0) {
        scope.reached.set(page);
    }
    let mut walk = Walk { file, path, meta, specs: trees, scope, ahead: Ahead::default() };
    walk.run(&mut async |_| {}).await?;
    let reached = &walk.scope.reached;
    let wrong = |page: &u64| used.get(*page) != reached.get(*page) || (used.get(*page) && holes.get(*page));
    if let Some(page) = (0..meta.pages).find(wrong) {
        let at = PageRef { page: plinth_base::PageId(page), checksum: 0 };
        let state = |used: bool| if used { "used" } else { "free" };
        let want = format!("page {page} {} in the bitmap, as it is reached", state(reached.get(page)));
        return Err(walk.corrupt(at, want, format!("{}, hole: {}", state(used.get(page)), holes.get(page))));
    }
    let totals = meta.trees.roots.iter().map(crate::node::TreeRoot::totals);
    Ok(GenerationReport {
        generation: meta.generation,
        used_pages: used.ones(),
        hole_pages: holes.ones(),
        trees: trees.iter().map(|spec| spec.name).zip(totals).collect(),
        state: meta.trees.state.clone(),
    })
}
