//! The program's own pages: code and constants of the executable and its libraries.
//!
//! They are read from a file like everything mapped, so the first run of a path of code, or the first one after memory became scarce, is a major
//! page fault on the executor that runs it. They are a few megabytes: all are brought in before anything is served, and locked as far as
//! the process may lock memory.

use std::{fs, io, ops::Range};

use rustix::{
    mm::{Advice, madvise, mlock},
    process::{Resource, getrlimit},
};

use crate::probe::MEMLOCK_BYTES_MIN;

/// Brings the program's pages into memory, and keeps them there: the executable's first, then its libraries', as far as RLIMIT_MEMLOCK goes with what
/// the rings of the executors may need left over. All are about 8 MiB.
///
/// # Errors
/// The process can't look at its own mappings.
#[allow(unsafe_code)]
pub fn hold_program() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let mut lockable_bytes = limit.saturating_sub(MEMLOCK_BYTES_MIN);
    for range in maps.lines().filter_map(program_range) {
        let (start, len) = (range.start as *mut std::ffi::c_void, range.len());
        // SAFETY: reading pages in changes nothing about a mapping. It may be refused by kernels before 5.14; nothing is lost then.
        let _ = unsafe { madvise(start, len, Advice::LinuxPopulateRead) };
        if let Some(left) = lockable_bytes.checked_sub(len as u64) {
            lockable_bytes = left;
            // SAFETY: nor does locking them. Code is never unmapped: libraries are not closed.
            let _ = unsafe { mlock(start, len) };
        }
    }
    Ok(())
}

/// The addresses of a mapping of code or constants: `start-end perms offset device inode path`, with a path and not writable.
fn program_range(line: &str) -> Option<Range<usize>> {
    let mut fields = line.split_ascii_whitespace();
    let (addresses, permissions, path) = (fields.next()?, fields.next()?, fields.nth(3)?);
    if !path.starts_with('/') || !permissions.starts_with('r') || permissions.contains('w') {
        return None;
    }
    let (start, end) = addresses.split_once('-')?;
    Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_constants_are_taken_and_everything_else_is_left() {
        let code = "55a750d19000-55a750d1a000 r-xp 00001000 fe:00 12 /usr/bin/plinth";
        assert_eq!(program_range(code), Some(0x55a7_50d1_9000..0x55a7_50d1_a000));
        for other in [
            "55a750d19000-55a750d1a000 rw-p 00001000 fe:00 12 /usr/bin/plinth",
            "55a750d19000-55a750d1a000 ---p 00001000 fe:00 12 /usr/bin/plinth",
            "7ffd1c5c1000-7ffd1c5c3000 r-xp 00000000 00:00 0 [vdso]",
            "7ffd1c5c1000-7ffd1c5c3000 r--p 00000000 00:00 0",
            "",
        ] {
            assert_eq!(program_range(other), None, "{other}");
        }
    }

    #[test]
    fn the_program_is_held_as_far_as_it_may_be() {
        hold_program().expect("a process can look at its own mappings");
        let here = program_range as fn(&str) -> Option<Range<usize>> as usize;
        let maps = fs::read_to_string("/proc/self/maps").expect("proc is mounted");
        assert!(maps.lines().filter_map(program_range).any(|range| range.contains(&here)), "our own code is among it");
    }
}
