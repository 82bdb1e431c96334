//! The versions that plinth states, each in one place.

/// The etcd version that plinth claims in `--version`, Status and `/version`.
///
/// Not above what is implemented: RangeStream (3.7) and downgrades by storage version (3.6) are not there. Not below
/// 3.5.13: from there on kube-apiserver trusts progress requests, and scripts pass `--snapshot-catchup-entries` from
/// 3.5.14 on. Below 3.6, scripts use the `--experimental-*` names, which plinth takes. So: a late release of 3.5.
pub const ETCD_VERSION: &str = "3.5.21";

/// The cluster version, and the version of what is stored: the minor release that is claimed.
pub const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// The cluster version as metrics label it.
pub const ETCD_CLUSTER_VERSION_SHORT: &str = "3.5";

/// plinth's own version.
pub const PLINTH_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The text of `--version`. Scripts take the version from the first line and expect the other three to be there.
#[must_use]
pub fn text() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: plinth-{PLINTH_VERSION}\nGo Version: none (plinth is written in Rust)\n\
         Go OS/Arch: {}/{}\n",
        std::env::consts::OS,
        go_arch()
    )
}

/// The processor as Go names it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_text_has_the_four_lines_that_scripts_know() {
        let text = text();
        let starts: Vec<_> = text.lines().map(|line| line.split(": ").next().unwrap_or_default()).collect();
        assert_eq!(starts, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
        assert!(text.starts_with(&format!("etcd Version: {ETCD_VERSION}\n")));
        assert!(text.contains(PLINTH_VERSION));
    }

    #[test]
    fn claimed_version_lets_kubernetes_use_progress_requests() {
        let parts: Vec<u32> = ETCD_VERSION.split('.').map(|part| part.parse().expect("digits")).collect();
        assert!(parts >= vec![3, 5, 13]);
        assert!(ETCD_CLUSTER_VERSION.starts_with(ETCD_CLUSTER_VERSION_SHORT));
        assert!(ETCD_VERSION.starts_with(ETCD_CLUSTER_VERSION_SHORT));
    }
}
