//! The agent for ARM64 gateways: built and started under qemu-user.
//!
//! A rustup target is used when it is installed; Debian's own cross packages carry everything otherwise.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::setup::apt;
use crate::step::{self, cargo, exists, target};

const TRIPLE: &str = "aarch64-unknown-linux-gnu";

/// Builds and starts it.
pub(crate) fn run() -> anyhow::Result<()> {
    let rustup = Command::new("rustup")
        .args(["target", "list", "--installed"])
        .output()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(TRIPLE));
    let debian_std = Path::new("/usr/lib/rustlib").join(TRIPLE).exists();
    if !exists("aarch64-linux-gnu-gcc") || !exists("qemu-aarch64-static") || !(rustup || debian_std) {
        step::run(Command::new("dpkg").args(["--add-architecture", "arm64"]))?;
        let mut packages = vec!["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user-static"];
        if !rustup {
            packages.extend(["rustc-web", "libstd-rust-web-dev:arm64"]);
        }
        apt(&packages)?;
    }
    let dir = target().join("arm64");
    let mut build = cargo();
    if !rustup {
        build.env("RUSTC", "/usr/bin/rustc");
    }
    step::run(
        build
            .env("CARGO_TARGET_DIR", &dir)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            .env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_INCREMENTAL", "1")
            .args(["rustc", "--release", "--target", TRIPLE, "-p", "kilter-agent", "--bin", "kilter-agent"])
            .args(["--", "-C", "target-feature=+crt-static"]),
    )?;
    let binary = dir.join(TRIPLE).join("release").join("kilter-agent");
    let output = Command::new("timeout")
        .args(["60", "qemu-aarch64-static"])
        .arg(&binary)
        .arg("--print-config")
        .output()
        .context("failed to start the ARM64 agent")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && text.contains("[uplink]"), "the ARM64 agent does not start: {output:?}");
    let size = std::fs::metadata(&binary).map(|meta| meta.len()).unwrap_or_default();
    println!("the ARM64 agent starts; {:.1} MB, static", size as f64 / 1e6);
    Ok(())
}
