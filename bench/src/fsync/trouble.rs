//! Why something wasn't measured.

use std::{fmt, io};

/// The kinds that differ in what follows.
#[derive(Debug)]
pub enum Trouble {
    /// This machine, file system or device can't do it: the cell says so, and the run goes on.
    Impossible(String),
    /// The run ends.
    Io(io::Error),
}

impl Trouble {
    /// Of a write of a cell. A device that doesn't take writes so small, and a file system without RWF_DSYNC, refuse the first one.
    pub fn of_write(error: io::Error, bytes: usize) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidInput => {
                Self::Impossible(format!("direct writes of {bytes} bytes are refused: the device's blocks are larger"))
            }
            io::ErrorKind::Unsupported => Self::Impossible("the file system knows no RWF_DSYNC".to_owned()),
            _ => Self::Io(error),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible(reason) => f.write_str(reason),
            Self::Io(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_refuses_is_not_possible_and_a_full_one_ends_the_run() {
        let of = |code| Trouble::of_write(io::Error::from_raw_os_error(code), 512);
        assert!(matches!(of(22), Trouble::Impossible(reason) if reason.contains("512 bytes")), "EINVAL");
        assert!(matches!(of(95), Trouble::Impossible(reason) if reason.contains("RWF_DSYNC")), "EOPNOTSUPP");
        assert!(matches!(of(28), Trouble::Io(error) if error.kind() == io::ErrorKind::StorageFull), "ENOSPC");
        assert!(matches!(of(5), Trouble::Io(_)), "EIO");
    }
}
