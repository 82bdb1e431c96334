//! The Debian packages that tests and benches need: all of them are in this list.

use std::path::Path;

use crate::shell::{command, has_program, run};

/// A program on the PATH or a file, the package that brings it, and what wants it.
struct Package {
    brings: &'static str,
    package: &'static str,
    used_by: &'static str,
}

const PACKAGES: &[Package] = &[
    Package { brings: "pip3", package: "python3-pip", used_by: "peers: the wheel that holds etcd 3.5.1" },
    Package { brings: "dpkg", package: "dpkg", used_by: "peers: Debian's etcd 3.4" },
    Package { brings: "fusermount3", package: "fuse3", used_by: "crash and e2e --stalls: file systems of their own" },
    Package { brings: "mkfs.ext4", package: "e2fsprogs", used_by: "tests of a full disk" },
    Package { brings: "ip", package: "iproute2", used_by: "e2e --cluster: a network namespace for each member" },
    Package { brings: "fio", package: "fio", used_by: "figures: what `plinth-bench fsync` is checked against" },
    Package { brings: "protoc", package: "protobuf-compiler", used_by: "clients: the crate etcd-client" },
    Package {
        brings: "/usr/include/google/protobuf/descriptor.proto",
        package: "libprotobuf-dev",
        used_by: "clients: the crate etcd-client",
    },
];

impl Package {
    fn is_there(&self) -> bool {
        if self.brings.starts_with('/') { Path::new(self.brings).exists() } else { has_program(self.brings) }
    }
}

/// Installs what is missing, and says so.
pub(crate) fn install_missing() -> Result<(), String> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|package| !package.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for Package { brings, package, used_by } in &missing {
        println!("{brings} is missing ({used_by}): installing the Debian package {package}");
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
