//! The control groups that this process is in, of version 2 and of version 1.

use std::{fs, path::Path};

/// A hierarchy of control groups.
#[derive(Clone, Copy)]
pub(crate) enum Controller {
    /// Version 2: one hierarchy for all.
    Unified,
    /// Version 1: the hierarchy of this controller.
    V1(&'static str),
}

/// What `read` finds in the process's group and in all above it. In a container's own namespace the path may not exist below the mount; the
/// mount's root is then the container's own group. `root` is `/`, except in tests.
pub(crate) fn values<T>(root: &Path, controller: Controller, read: impl Fn(&Path) -> Option<T>) -> Vec<T> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let (name, mount) = match controller {
        Controller::Unified => ("", root.join("sys/fs/cgroup")),
        Controller::V1(name) => (name, root.join("sys/fs/cgroup").join(name)),
    };
    let Some(path) = path_of(&text, name) else { return Vec::new() };
    let full = mount.join(path);
    full.ancestors().take_while(|dir| dir.starts_with(&mount)).filter_map(read).collect()
}

/// The path of the controller's hierarchy in `/proc/self/cgroup`; an empty name means version 2.
fn path_of<'a>(text: &'a str, controller: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        controllers.split(',').any(|c| c == controller).then(|| path.trim_start_matches('/'))
    })
}

/// Writes a file of a made-up `/proc` or `/sys` below `root`.
#[cfg(test)]
pub(crate) fn write_under(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a file in a directory")).expect("created");
    fs::write(path, text).expect("written");
}
