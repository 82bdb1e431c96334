//! Runs a target on input after input.
//!
//! Before an input is tried it lies in a file, and goes when it was survived: so it is there whatever ends the process, a panic, a stack
//! that overflows, memory that runs out or a user who waits in vain.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use plinth_base::Prng;

use crate::{mutate::mutant, target::Target};

/// Inputs that new ones are made of, at most.
const CORPUS_MAX: usize = 64;

/// When to stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Until {
    /// After so many inputs.
    Iterations(u64),
    /// After so long.
    Elapsed(Duration),
}

/// What was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Report {
    /// Inputs tried.
    pub iterations: u64,
    /// Those of them that were taken for sound.
    pub accepted: u64,
}

/// The input that is being tried.
struct Current {
    path: PathBuf,
    /// Open all the time: some file systems flush a file that is closed after it was truncated.
    file: File,
    target: &'static str,
    seed: u64,
    iteration: u64,
}

impl Current {
    fn create(path: PathBuf, target: &'static str, seed: u64) -> io::Result<Self> {
        Ok(Self { file: File::create(&path)?, path, target, seed, iteration: 0 })
    }

    fn keep(&mut self, input: &[u8], iteration: u64) -> io::Result<()> {
        self.iteration = iteration;
        self.file.set_len(input.len() as u64)?;
        self.file.write_all_at(input, 0)
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (Self { target, seed, iteration, .. }, path) = (&self, self.path.display());
            eprintln!("target {target}, seed {seed}, input {iteration}: kept in {path}; to replay:");
            eprintln!("cargo run --package plinth-fuzz -- --target {target} --input {path}");
        } else {
            // A file that stays says nothing wrong.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Fuzzes the target called `name` with the inputs of `seed`. The input that is being tried lies in `folder`.
///
/// # Panics
/// If the target does, or if it refuses what it calls sound.
pub fn fuzz(name: &'static str, target: &mut dyn Target, seed: u64, until: Until, folder: &Path) -> io::Result<Report> {
    fs::create_dir_all(folder)?;
    let mut current = Current::create(folder.join(format!("{name}-{seed}")), name, seed)?;
    let mut prng = Prng::new(seed);
    let mut corpus = target.corpus();
    let originals = corpus.len();
    for input in &corpus {
        current.keep(input, 0)?;
        assert!(target.run(input), "a sound input of the corpus is refused");
    }
    let begin = Instant::now();
    let mut report = Report { iterations: 0, accepted: 0 };
    while until.goes_on(report.iterations, begin) {
        // Half of them from the originals: what was accepted tends to get simpler and simpler.
        let bases = if prng.chance(1, 2) { originals } else { corpus.len() };
        let base = prng.index(bases);
        let mut input = mutant(&mut prng, &corpus[base], &corpus, |input| target.structure(input));
        if prng.chance(3, 4) {
            target.repair(&mut input, &mut prng);
        }
        report.iterations += 1;
        current.keep(&input, report.iterations)?;
        if target.run(&input) {
            report.accepted += 1;
            adopt(&mut prng, &mut corpus, originals, input);
        }
    }
    Ok(report)
}

/// Takes an accepted input into the corpus; a full one loses another for it, but never an original.
fn adopt(prng: &mut Prng, corpus: &mut Vec<Vec<u8>>, originals: usize, input: Vec<u8>) {
    if corpus.len() < CORPUS_MAX {
        corpus.push(input);
    } else if prng.chance(1, 8) {
        let at = originals + prng.index(corpus.len() - originals);
        corpus[at] = input;
    }
}

impl Until {
    fn goes_on(self, iterations: u64, begin: Instant) -> bool {
        match self {
            Self::Iterations(max) => iterations < max,
            Self::Elapsed(max) => begin.elapsed() < max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Refuses what doesn't begin with an `a`, and can't bear a `!`.
    struct Fragile;

    impl Target for Fragile {
        fn corpus(&self) -> Vec<Vec<u8>> {
            vec![b"abc".to_vec()]
        }

        fn run(&mut self, input: &[u8]) -> bool {
            assert!(!input.contains(&b'!'), "found");
            input.starts_with(b"a")
        }
    }

    #[test]
    fn what_breaks_a_target_is_found_and_kept_and_replays() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().to_owned();
        let found = std::thread::spawn(move || fuzz("fragile", &mut Fragile, 1, Until::Iterations(100_000), &path));
        assert!(found.join().is_err(), "the target panics");
        let kept = fs::read(folder.path().join("fragile-1")).expect("the input was kept");
        assert!(kept.contains(&b'!'));
    }

    #[test]
    fn what_was_survived_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let report = fuzz("fragile", &mut Fragile, 1, Until::Iterations(5), folder.path()).expect("writable");
        assert_eq!(report.iterations, 5);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0);
    }
}
