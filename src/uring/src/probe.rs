//! What this machine offers, found out before anything starts.
//!
//! What plinth can't do without ends in one [`StartError`], whose text says what to do. What newer kernels add is optional: each
//! [`Feature`] is probed, and `PLINTH_HIDE_URING_FEATURES=all` (or a list of names) hides it, for tests of the old paths.

use std::{fmt, io};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue};
use rustix::process::{Resource, getrlimit};

use crate::scheduler::RUNTIME_VAR;

/// The oldest kernel that plinth runs on.
pub const KERNEL_MIN: (u32, u32) = (5, 15);

/// The smallest RLIMIT_MEMLOCK that glommio's rings start with, in bytes.
pub const MEMLOCK_BYTES_MIN: u64 = 512 << 10;

/// The environment variable that hides features.
pub const HIDE_FEATURES_VAR: &str = "PLINTH_HIDE_URING_FEATURES";

/// Something newer than [`KERNEL_MIN`], or that a container may forbid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Feature {
    /// IORING_SETUP_COOP_TASKRUN (5.19): completions don't interrupt the core.
    CoopTaskrun,
    /// IORING_SETUP_SINGLE_ISSUER (6.0).
    SingleIssuer,
    /// IORING_REGISTER_IOWQ_AFF (5.14): kernel workers stay on the server's cores.
    IowqAffinity,
    /// IORING_REGISTER_IOWQ_MAX_WORKERS (5.15).
    IowqMaxWorkers,
    /// The ring's fallocate; else a helper thread does it.
    FallocateOp,
    /// MADV_POPULATE_READ (5.14); else pages are read into scratch memory first.
    PopulateRead,
}

impl Feature {
    /// All of them.
    pub const ALL: [Feature; 6] = [
        Feature::CoopTaskrun,
        Feature::SingleIssuer,
        Feature::IowqAffinity,
        Feature::IowqMaxWorkers,
        Feature::FallocateOp,
        Feature::PopulateRead,
    ];

    /// The name by which it is hidden and logged.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoopTaskrun => "coop_taskrun",
            Self::SingleIssuer => "single_issuer",
            Self::IowqAffinity => "iowq_affinity",
            Self::IowqMaxWorkers => "iowq_max_workers",
            Self::FallocateOp => "fallocate_op",
            Self::PopulateRead => "populate_read",
        }
    }
}

/// A set of features.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Features(u8);

impl Features {
    /// Whether it can be used.
    pub fn has(self, feature: Feature) -> bool {
        self.0 & (1 << feature as u8) != 0
    }

    fn with(self, feature: Feature, present: bool) -> Self {
        if present { Self(self.0 | 1 << feature as u8) } else { self }
    }

    /// Without those that `list` names: `all`, or names with commas between them.
    pub fn hiding(self, list: &str) -> Result<Self, StartError> {
        let mut left = self;
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name == "all" {
                return Ok(Self::default());
            }
            let Some(feature) = Feature::ALL.into_iter().find(|feature| feature.name() == name) else {
                return Err(StartError::UnknownFeature(name.to_owned()));
            };
            left.0 &= !(1 << feature as u8);
        }
        Ok(left)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Feature::ALL.into_iter().filter(|feature| self.has(*feature)).map(Feature::name);
        f.debug_set().entries(names).finish()
    }
}

/// Why plinth can't run here. Its text is one line that says what to do.
#[derive(Debug)]
pub enum StartError {
    /// The kernel is older than [`KERNEL_MIN`].
    KernelTooOld(String),
    /// io_uring_setup doesn't exist.
    NoIoUring,
    /// io_uring_setup is forbidden.
    IoUringForbidden {
        /// `kernel.io_uring_disabled`, if the kernel has it.
        sysctl: Option<String>,
    },
    /// RLIMIT_MEMLOCK is below [`MEMLOCK_BYTES_MIN`], or used up.
    Memlock {
        /// The limit in bytes, none if there is no limit.
        limit: Option<u64>,
    },
    /// The variable that hides features names one that doesn't exist.
    UnknownFeature(String),
    /// `PLINTH_RUNTIME` names none that there is.
    UnknownRuntime(String),
    /// Something else failed.
    Io {
        /// What was tried.
        action: String,
        /// How it failed.
        error: io::Error,
    },
}

impl StartError {
    pub(crate) fn io(action: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Io { action: action.into(), error: error.into() }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KernelTooOld(release) => {
                let (major, minor) = KERNEL_MIN;
                write!(f, "the kernel is {release}, plinth needs Linux {major}.{minor} or newer: upgrade the kernel")
            }
            Self::NoIoUring => {
                write!(
                    f,
                    "the kernel has no io_uring (ENOSYS): use a kernel with CONFIG_IO_URING, or allow the io_uring system calls in the sandbox"
                )
            }
            Self::IoUringForbidden { sysctl: Some(value) } if value != "0" => {
                write!(
                    f,
                    "io_uring is switched off (kernel.io_uring_disabled = {value}): run `sysctl kernel.io_uring_disabled=0`, or join the group of kernel.io_uring_group if the value is 1"
                )
            }
            Self::IoUringForbidden { .. } => {
                write!(
                    f,
                    "io_uring is forbidden here (EPERM): containers need a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
                )
            }
            Self::Memlock { limit } => {
                let kib = limit.map_or("unlimited but used up".to_owned(), |bytes| format!("{} KiB", bytes >> 10));
                let min = MEMLOCK_BYTES_MIN >> 10;
                write!(
                    f,
                    "the limit for locked memory is {kib}, plinth needs {min} KiB or more: raise `ulimit -l`, LimitMEMLOCK= in the unit, or --ulimit memlock of the container"
                )
            }
            Self::UnknownFeature(name) => {
                let known = Feature::ALL.map(Feature::name).join(", ");
                write!(f, "{HIDE_FEATURES_VAR}: no feature is called {name:?}: use \"all\" or some of {known}")
            }
            Self::UnknownRuntime(name) => {
                write!(f, "{RUNTIME_VAR}: no runtime is called {name:?}: use \"own\" or \"glommio\"")
            }
            Self::Io { action, error } => write!(f, "{action} failed: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// Checks what plinth can't do without and probes what it can, in that order.
pub fn check() -> Result<Features, StartError> {
    check_kernel(&rustix::system::uname().release().to_string_lossy())?;
    check_memlock(getrlimit(Resource::Memlock).current)?;
    let uring = IoUring::new(4).map_err(|error| ring_error(error, || read_sysctl("kernel/io_uring_disabled")))?;
    let features = probe(&uring);
    match std::env::var(HIDE_FEATURES_VAR) {
        Ok(list) => features.hiding(&list),
        Err(_) => Ok(features),
    }
}

fn check_kernel(release: &str) -> Result<(), StartError> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < KERNEL_MIN { Err(StartError::KernelTooOld(release.to_owned())) } else { Ok(()) }
}

fn check_memlock(limit: Option<u64>) -> Result<(), StartError> {
    match limit {
        Some(bytes) if bytes < MEMLOCK_BYTES_MIN => Err(StartError::Memlock { limit }),
        _ => Ok(()),
    }
}

fn ring_error(error: io::Error, sysctl: impl FnOnce() -> Option<String>) -> StartError {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => StartError::NoIoUring,
        Some(libc::EPERM | libc::EACCES) => StartError::IoUringForbidden { sysctl: sysctl() },
        Some(libc::ENOMEM) => StartError::Memlock { limit: getrlimit(Resource::Memlock).current },
        _ => StartError::io("setting up an io_uring", error),
    }
}

fn read_sysctl(name: &str) -> Option<String> {
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok().map(|value| value.trim().to_owned())
}

fn probe(uring: &IoUring) -> Features {
    let builder = IoUring::<squeue::Entry, cqueue::Entry>::builder;
    let mut ops = Probe::new();
    let has_ops = uring.submitter().register_probe(&mut ops).is_ok();
    let workers = uring.submitter().register_iowq_max_workers(&mut [0, 0]).is_ok();
    Features::default()
        .with(Feature::CoopTaskrun, builder().setup_coop_taskrun().build(4).is_ok())
        .with(Feature::SingleIssuer, builder().setup_single_issuer().build(4).is_ok())
        // One release older than the limit of workers, and it can't be asked for without changing it.
        .with(Feature::IowqAffinity, workers)
        .with(Feature::IowqMaxWorkers, workers)
        .with(Feature::FallocateOp, has_ops && ops.is_supported(opcode::Fallocate::CODE))
        .with(Feature::PopulateRead, crate::pages::populate_read_works())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_kernels_are_refused_with_their_version() {
        for old in ["5.14.21-generic", "4.19.0", "garbage"] {
            let error = check_kernel(old).expect_err("too old");
            assert!(error.to_string().contains(old) && error.to_string().contains("5.15"), "{error}");
        }
        for new in ["5.15.0-91-generic", "6.1.0", "6.18.44-fc-v445", "7.0"] {
            assert!(check_kernel(new).is_ok(), "{new}");
        }
    }

    #[test]
    fn too_little_lockable_memory_is_refused_with_what_to_do() {
        let error = check_memlock(Some(64 << 10)).expect_err("too little");
        assert!(error.to_string().contains("64 KiB") && error.to_string().contains("ulimit -l"), "{error}");
        assert!(check_memlock(Some(512 << 10)).is_ok());
        assert!(check_memlock(None).is_ok());
    }

    #[test]
    fn each_way_to_have_no_io_uring_has_its_own_line() {
        let error = |code, sysctl: Option<&str>| {
            ring_error(io::Error::from_raw_os_error(code), || sysctl.map(str::to_owned)).to_string()
        };
        assert!(error(libc::ENOSYS, None).contains("ENOSYS"));
        assert!(error(libc::EPERM, Some("2")).contains("kernel.io_uring_disabled = 2"));
        assert!(error(libc::EPERM, Some("0")).contains("seccomp"));
        assert!(error(libc::EPERM, None).contains("seccomp"));
        assert!(error(libc::ENOMEM, None).contains("locked memory"));
        assert!(error(libc::EMFILE, None).contains("setting up an io_uring"));
    }

    #[test]
    fn features_are_hidden_by_name_and_unknown_names_are_refused() {
        let all = Feature::ALL.into_iter().fold(Features::default(), |set, feature| set.with(feature, true));
        assert_eq!(all.hiding("all").expect("known"), Features::default());
        let some = all.hiding("coop_taskrun, populate_read").expect("known");
        assert!(!some.has(Feature::CoopTaskrun) && !some.has(Feature::PopulateRead) && some.has(Feature::SingleIssuer));
        assert!(matches!(all.hiding("nonsense"), Err(StartError::UnknownFeature(_))));
    }
}
