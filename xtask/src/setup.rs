//! What the checks need beyond Rust: installed when we may, named with the command when we may not.

use std::process::Command;

use anyhow::{Context, bail};

use crate::step::{self, cargo, exists, root, target};

/// Programs that Debian packages bring.
const DEBIAN: &[(&str, &str)] = &[
    ("mosquitto", "mosquitto"),
    ("mosquitto_pub", "mosquitto-clients"),
    ("chromium", "chromium"),
    ("cc", "gcc"),
    ("c++", "g++"),
    ("pgrep", "procps"),
];

/// Installs, or says what is missing.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut missing: Vec<_> = DEBIAN
        .iter()
        .filter(|(program, _)| !exists(program) && !std::path::Path::new("/usr/sbin").join(program).exists())
        .map(|(_, package)| *package)
        .collect();
    if !Command::new("python3").args(["-c", "import ensurepip"]).output().is_ok_and(|output| output.status.success()) {
        missing.push("python3-venv");
    }
    if !missing.is_empty() {
        apt(&missing)?;
    }
    if !exists("cargo-nextest") {
        step::run(cargo().args(["install", "--locked", "--debug", "cargo-nextest"]))?;
    }
    python()
}

/// A Python environment with the packages that check us from outside.
fn python() -> anyhow::Result<()> {
    let venv = target().join("python");
    let python = venv.join("bin").join("python");
    if !python.exists() {
        step::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let stamp = venv.join("installed.txt");
    let lists = ["requirements.txt", "requirements-alone.txt"].map(|name| root().join("tests").join(name));
    let wanted = lists.iter().map(std::fs::read_to_string).collect::<Result<String, _>>();
    let wanted = wanted.context("failed to read tests/requirements*.txt")?;
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    for (list, alone) in lists.iter().zip([None, Some("--no-deps")]) {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        step::run(Command::new(&python).args(pip).args(alone).arg("-r").arg(list))?;
    }
    std::fs::write(&stamp, wanted).context("failed to note what is installed")
}

/// Installs Debian packages as root; says the command otherwise.
pub(crate) fn apt(packages: &[&str]) -> anyhow::Result<()> {
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !root || !exists("apt-get") {
        bail!("these Debian packages are missing: {}; run `sudo {line}`", packages.join(", "));
    }
    step::run(Command::new("apt-get").args(["update", "-qq"]))?;
    step::run(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(packages),
    )
}
