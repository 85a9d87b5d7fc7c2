//! Where this checkout lies and where cargo builds. Asked for at run time: several checkouts may share one build folder.

use std::path::PathBuf;

/// The workspace's root: cargo names the package that it runs, and those that ask lie in the root.
pub fn workspace() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(package).parent().expect("a package of the workspace's root").to_owned()
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}
