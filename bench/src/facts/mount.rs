//! The file system that holds a directory.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A mount, as /proc/self/mountinfo has it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Its type, such as `ext4`.
    pub file_system: String,
    /// Options of the mount and of the file system, each once.
    pub options: String,
    /// What is mounted: a device, a host's directory, or just a word.
    pub source: String,
    /// `major:minor`; the major number is 0 where there is no block device, or several.
    pub number: String,
}

impl Mount {
    /// Whether an option is set, whatever value it has.
    #[must_use]
    pub fn has_option(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name || option.split('=').next() == Some(name))
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it lies in memory: nothing of it outlives the machine.
    #[must_use]
    pub fn is_memory(&self) -> bool {
        matches!(self.file_system.as_str(), "tmpfs" | "ramfs" | "rootfs" | "devtmpfs" | "hugetlbfs")
    }

    /// Whether it lies on top of other file systems, and which layer a file is in isn't seen from above.
    #[must_use]
    pub fn is_overlay(&self) -> bool {
        matches!(self.file_system.as_str(), "overlay" | "aufs" | "fuse-overlayfs" | "fuse.fuse-overlayfs")
    }

    /// Whether another machine stores it.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        let names = ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "virtiofs", "lustre", "gfs2", "ocfs2"];
        names.contains(&self.file_system.as_str()) || self.file_system.starts_with("fuse.")
    }
}

/// The mount with a number, or the innermost one that holds `dir`: of several at the same place the last one hides the others.
pub fn find(mountinfo: &str, id: Option<u64>, dir: &Path) -> Option<Mount> {
    let lines: Vec<Line> = mountinfo.lines().filter_map(Line::parse).collect();
    let by_id = lines.iter().find(|line| Some(line.id) == id);
    let innermost = || {
        let holding = lines.iter().filter(|line| dir.starts_with(&line.point));
        holding.max_by_key(|line| line.point.components().count())
    };
    by_id.or_else(innermost).map(|line| line.mount.clone())
}

struct Line {
    id: u64,
    point: PathBuf,
    mount: Mount,
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let mut rest = file_system.split(' ');
        let (file_system, source) = (rest.next()?, rest.next()?);
        let mut options: Vec<&str> = mount.get(5)?.split(',').collect();
        for option in rest.next().unwrap_or_default().split(',').filter(|option| !option.is_empty()) {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        Some(Self {
            id: mount.first()?.parse().ok()?,
            point: PathBuf::from(unescape(mount.get(4)?)),
            mount: Mount {
                file_system: file_system.to_owned(),
                options: options.join(","),
                source: unescape(source),
                number: (*mount.get(2)?).to_owned(),
            },
        })
    }
}

/// Spaces and the like are written as `\040`.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain += &part[3..];
            }
            None => {
                plain.push('\\');
                plain += part;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "21 1 0:19 / /proc rw - proc proc rw\n\
        27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,nobarrier,commit=30\n\
        36 27 98:0 /a /mnt\\040x rw,noatime master:1 - ext4 /dev/root rw,errors=continue\n\
        37 27 0:40 / /mnt\\040x/b rw - tmpfs none rw,size=4k\n";

    #[test]
    fn a_mount_is_found_by_its_number_or_by_the_innermost_place() {
        let found = |id, dir: &str| find(MOUNTINFO, id, Path::new(dir)).expect("there is one");
        assert_eq!(found(Some(36), "/").options, "rw,noatime,errors=continue");
        assert_eq!(found(None, "/mnt x/a").number, "98:0");
        assert_eq!(found(None, "/mnt x/b/c").file_system, "tmpfs");
        assert_eq!(found(None, "/mnt xyz").source, "/dev/vda");
        assert_eq!(find("", None, Path::new("/")), None);
    }

    #[test]
    fn options_have_names_and_values() {
        let mount = find(MOUNTINFO, Some(27), Path::new("/")).expect("there");
        assert!(mount.has_option("nobarrier") && mount.has_option("commit") && !mount.has_option("comm"));
        assert_eq!((mount.option("commit"), mount.option("barrier")), (Some("30"), None));
        assert!(!mount.is_memory() && !mount.is_overlay() && !mount.is_remote());
    }
}
