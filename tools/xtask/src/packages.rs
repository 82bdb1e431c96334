//! The Debian packages that tests and benches need: all of them are in this list.

use crate::shell::{command, has_program, run};

/// A program, the package that brings it, and what wants it.
struct Package {
    program: &'static str,
    package: &'static str,
    used_by: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { program: "pip3", package: "python3-pip", used_by: "peers: the wheel that holds etcd 3.5.1" },
    Package { program: "dpkg", package: "dpkg", used_by: "peers: Debian's etcd 3.4" },
    Package { program: "fusermount3", package: "fuse3", used_by: "crash tests: a file system that loses power" },
    Package { program: "mkfs.ext4", package: "e2fsprogs", used_by: "tests of a full disk" },
];

/// Installs what is missing, and says so.
pub(crate) fn install_missing() -> Result<(), String> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !has_program(package.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for Package { program, package, used_by } in &missing {
        println!("{program} is missing ({used_by}): installing the Debian package {package}");
    }
    update_lists()?;
    let mut apt = command("apt-get", &["install", "--yes", "--quiet", "--no-install-recommends"]);
    apt.args(missing.iter().map(|package| package.package)).env("DEBIAN_FRONTEND", "noninteractive");
    run(apt)
}

/// Fresh images come without the lists of packages.
pub(crate) fn update_lists() -> Result<(), String> {
    run(command("apt-get", &["update", "--quiet"]))
}
