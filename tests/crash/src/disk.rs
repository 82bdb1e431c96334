//! Where a run's data lies, and how it is lost.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use plinth_base::Prng;
use tempfile::TempDir;

use crate::{
    options::Mode,
    powerfs::{CutReport, Image, MountError, NameModel, PowerFs},
};

/// Scratch directories are named by this, the process that made them and something random.
const SCRATCH_PREFIX: &str = "plinth-crash-";
/// The directory within the scratch directory that is the disk, or that it is mounted on.
const ROOT: &str = "disk";

fn scratch_prefix(pid: u32) -> String {
    format!("{SCRATCH_PREFIX}{pid}-")
}

/// Removes the scratch directories of the processes that `wanted` names, whose mounts must be gone.
pub fn remove_scratch(wanted: impl Fn(u32) -> bool) {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(SCRATCH_PREFIX)?.split_once('-')?.0.parse().ok());
        if pid.is_some_and(&wanted) {
            // What can't be removed now is tried again by the next run.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// A disk with the data directory of one server.
pub struct Disk {
    // Before the directory it is mounted on, so that it is gone when that is removed.
    power: Option<Power>,
    scratch: TempDir,
}

struct Power {
    fs: Option<PowerFs>,
    /// What the last cut left, to be kept if the run fails.
    survivor: Option<Image>,
    report: CutReport,
}

impl Disk {
    /// A fresh, empty disk.
    pub fn new(mode: Mode, names: NameModel) -> Result<Self, MountError> {
        let scratch = tempfile::Builder::new().prefix(&scratch_prefix(std::process::id())).tempdir();
        let scratch = scratch.map_err(MountError::Failed)?;
        let root = scratch.path().join(ROOT);
        fs::create_dir(&root).map_err(MountError::Failed)?;
        let power = match mode {
            Mode::Kill => None,
            Mode::Power => {
                let fs = PowerFs::mount(Image::with_names(names), &root)?;
                Some(Power { fs: Some(fs), survivor: None, report: CutReport::default() })
            }
        };
        Ok(Self { power, scratch })
    }

    /// The server's data directory, which may not exist yet.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.root().join("data")
    }

    /// Where the server's output goes: beside the disk, so that it survives.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join(ROOT)
    }

    /// Makes the data directory beforehand, durably, as an administrator might.
    pub fn make_data_dir(&self) -> io::Result<()> {
        fs::create_dir(self.data_dir())?;
        fs::File::open(self.root())?.sync_all()
    }

    fn fs(&self) -> Option<&PowerFs> {
        self.power.as_ref().and_then(|power| power.fs.as_ref())
    }

    /// Lets the power go by itself after at most `changes_max` more changes.
    pub fn cut_soon(&self, prng: &mut Prng, changes_max: u64) {
        if let Some(fs) = self.fs() {
            fs.cut_after(1 + prng.below(changes_max), prng.next_u64());
        }
    }

    /// Whether the disk still works.
    #[must_use]
    pub fn has_power(&self) -> bool {
        self.fs().is_none_or(|fs| !fs.is_cut())
    }

    /// Cuts the power at the latest now. A disk without that ability goes on.
    pub fn cut(&mut self, seed: u64) {
        if let Some(power) = &mut self.power
            && let Some(fs) = &power.fs
        {
            let survivor = fs.cut(seed);
            power.report += survivor.report;
            power.survivor = Some(survivor.image);
        }
    }

    /// After a cut, and once the server is gone: brings back what survived.
    pub fn restore_power(&mut self) -> Result<(), MountError> {
        let root = self.root();
        if let Some(power) = &mut self.power
            && let Some(image) = power.survivor.clone()
        {
            power.fs = None;
            power.fs = Some(PowerFs::mount(image, &root)?);
        }
        Ok(())
    }

    /// What all cuts together did.
    #[must_use]
    pub fn cut_report(&self) -> CutReport {
        self.power.as_ref().map_or_else(CutReport::default, |power| power.report)
    }

    /// Copies the data as it is now, and as the last cut left it, to `to`.
    pub fn keep(&self, to: &Path) -> io::Result<()> {
        if to.exists() {
            fs::remove_dir_all(to)?;
        }
        fs::create_dir_all(to)?;
        if let Some(image) = self.power.as_ref().and_then(|power| power.survivor.as_ref()) {
            image.export(&to.join("after-cut"))?;
        }
        if !self.has_power() {
            return Ok(());
        }
        // Reading through a mount of this process is fine here: the threads that answer do nothing else.
        let copied =
            Command::new("cp").args(["-r", "--sparse=always"]).arg(self.data_dir()).arg(to.join("at-end")).status()?;
        if copied.success() { Ok(()) } else { Err(io::Error::other(format!("cp ended with {copied}"))) }
    }
}
