//! Microcontrollers: the same bits everywhere, images that fit, instructions per window, and the whole node in QEMU.
//!
//! A rustup target is used when it is there (and added when rustup can); otherwise Debian's own compiler builds `core` from its
//! source. Boards are workspaces of their own (`firmware/boards/*`), so a host build never sees them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::setup::apt;
use crate::step::{self, cargo, exists, root, target};

/// A machine of QEMU and what runs on it.
struct Machine {
    core: &'static str,
    name: &'static str,
    triple: &'static str,
    arguments: &'static [&'static str],
}

const M4F: Machine =
    Machine { core: "Cortex-M4F", name: "mps2-an386", triple: "thumbv7em-none-eabihf", arguments: &[] };

const OTHERS: [Machine; 3] = [
    Machine { core: "Cortex-M7", name: "mps2-an500", triple: "thumbv7em-none-eabihf", arguments: &[] },
    Machine { core: "Cortex-M3", name: "lm3s6965evb", triple: "thumbv7m-none-eabi", arguments: &[] },
    Machine {
        core: "Cortex-M0",
        name: "microbit",
        triple: "thumbv6m-none-eabi",
        arguments: &["-global", "nrf51-soc.sram-size=65536"],
    },
];

/// What CI runs: M4F and ARM64 against x86-64, images within their bounds, instructions, the node's own image.
pub(crate) fn run() -> anyhow::Result<()> {
    tools(&[M4F.triple])?;
    let expected = windows()?;
    same(&M4F, &expected)?;
    arm64(&expected)?;
    images()?;
    cost()?;
    node(&[])?;
    real_board()
}

/// The other cores, and x86-64 with wider registers and with none.
pub(crate) fn proof() -> anyhow::Result<()> {
    tools(&[M4F.triple, OTHERS[1].triple, OTHERS[2].triple])?;
    let expected = windows()?;
    same(&M4F, &expected)?;
    OTHERS.iter().try_for_each(|machine| same(machine, &expected))?;
    arm64(&expected)?;
    node(&["--include-ignored", "--nocapture"])?;
    for (name, flags) in [
        ("x86-64-v3 (AVX2 and FMA at hand)", "-C target-cpu=x86-64-v3"),
        ("x86-64 without vectors", "-C no-vectorize-loops -C no-vectorize-slp"),
    ] {
        let triple = "x86_64-unknown-linux-gnu";
        let mut build = cargo();
        build.env("RUSTFLAGS", flags);
        let binary = host_bits(&mut build, triple)?;
        compare(name, Command::new(binary).arg(folder()?.join("windows.bin")), &expected)?;
    }
    Ok(())
}

/// The whole node in QEMU, its faults and a real agent at its line.
fn node(more: &[&str]) -> anyhow::Result<()> {
    let programs = board("qemu", M4F.triple, &["--features", "node", "--bin", "node"])?;
    let mut test = cargo();
    crate::build::whole(
        test.arg("test").env("KILTER_FIRMWARE", programs.join("node")).env("KILTER_BIN", target().join("house")),
    );
    step::run(test.args(["--profile", "house", "--test", "firmware", "--"]).args(more))
}

/// Where programs of the targets leave and find their files.
pub(crate) fn folder() -> anyhow::Result<PathBuf> {
    let folder = target().join("firmware");
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    Ok(folder)
}

/// QEMU and a compiler for these targets.
fn tools(triples: &[&str]) -> anyhow::Result<()> {
    if !exists("qemu-system-arm") {
        apt(&["qemu-system-arm"])?;
    }
    for triple in triples.iter().filter(|triple| !has(triple)) {
        let added = exists("rustup") && Command::new("rustup").args(["target", "add", triple]).status()?.success();
        let debian = exists("ld.lld-22") && std::path::Path::new("/usr/src/rustc-1.96.0").exists();
        if !(added || debian) {
            apt(&["rustc-web", "rust-web-src", "lld-22"])?;
        }
    }
    Ok(())
}

/// Does rustup have this target?
fn has(triple: &str) -> bool {
    let output = Command::new("rustup").args(["target", "list", "--installed"]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line == triple))
}

/// Builds programs of a board; where they lie.
pub(crate) fn board(name: &str, triple: &str, arguments: &[&str]) -> anyhow::Result<PathBuf> {
    let mut build = cargo();
    build.current_dir(root().join("firmware").join("boards").join(name));
    build.env("CARGO_TARGET_DIR", target()).args(["build", "--release", "--target", triple]).args(arguments);
    if !has(triple) {
        let linker = format!("CARGO_TARGET_{}_LINKER", triple.to_uppercase().replace('-', "_"));
        build.env("RUSTC", "/usr/bin/rustc").env("RUSTC_BOOTSTRAP", "1").env(linker, "ld.lld-22");
        build.args(["-Z", "build-std=core"]);
    }
    step::run(&mut build)?;
    Ok(target().join(triple).join("release"))
}

/// Writes the windows and computes their digest here.
fn windows() -> anyhow::Result<String> {
    let file = folder()?.join("windows.bin");
    let programs = ["--bin", "kilter-bits", "--bin", "kilter-bits-windows"];
    step::run(crate::build::whole(cargo().args(["build", "--profile", "house"])).args(programs))?;
    let house = target().join("house");
    step::run(Command::new(house.join("kilter-bits-windows")).arg(&file))?;
    let output = Command::new(house.join("kilter-bits")).arg(&file).output().context("failed to start kilter-bits")?;
    ensure!(output.status.success(), "kilter-bits: {}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    println!("x86-64: {said}");
    let count: u32 = said.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_default();
    ensure!(count >= 1000, "only {count} windows; the same bits are to be shown on at least 1000");
    Ok(said)
}

/// The digest on a machine of QEMU.
fn same(machine: &Machine, expected: &str) -> anyhow::Result<()> {
    let programs = board("qemu", machine.triple, &["--bin", "bits"])?;
    let mut qemu = qemu(machine, &[]);
    compare(machine.core, qemu.arg(programs.join("bits")), expected)
}

/// The digest of the ARM64 program under qemu-user.
fn arm64(expected: &str) -> anyhow::Result<()> {
    if !exists("qemu-aarch64-static") {
        apt(&["qemu-user-static"])?;
    }
    let musl = "aarch64-unknown-linux-musl";
    let mut build = cargo();
    let triple = if has(musl) {
        build.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        musl
    } else {
        // What the step `arm64` has installed.
        build
            .env("RUSTC", "/usr/bin/rustc")
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc")
            .env("RUSTFLAGS", "-C target-feature=+crt-static");
        "aarch64-unknown-linux-gnu"
    };
    let binary = host_bits(&mut build, triple)?;
    let mut command = Command::new("timeout");
    compare(
        "ARM64",
        command.args(["120", "qemu-aarch64-static"]).arg(binary).arg(folder()?.join("windows.bin")),
        expected,
    )
}

/// Builds the digest program alone for a target with an operating system.
fn host_bits(build: &mut Command, triple: &str) -> anyhow::Result<PathBuf> {
    step::run(
        build
            .env("CARGO_TARGET_DIR", target())
            .args(["build", "--release", "--target", triple, "-p", "kilter-bits", "--no-default-features"])
            .args(["--bin", "kilter-bits"]),
    )?;
    Ok(target().join(triple).join("release").join("kilter-bits"))
}

fn compare(what: &str, command: &mut Command, expected: &str) -> anyhow::Result<()> {
    let said = output(command)?;
    ensure!(said.trim() == expected, "{what} says `{}` where x86-64 says `{expected}`", said.trim());
    println!("{what}: {}", said.trim());
    Ok(())
}

/// Flash and RAM of set S with a small model and framing; the signature check apart.
fn images() -> anyhow::Result<()> {
    let programs = board("qemu", M4F.triple, &["--bin", "size", "--bin", "signature"])?;
    output(qemu(&M4F, &[]).arg(programs.join("size")))?;
    let bytes = std::fs::read(folder()?.join("size.bin")).context("failed to read what the image measured")?;
    let figures: Vec<usize> =
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let [fixed, stack, sent] = figures[..] else { bail!("size.bin holds {} bytes", bytes.len()) };
    let (flash, signature) = (flash_bytes(&programs.join("size"))?, flash_bytes(&programs.join("signature"))?);
    println!(
        "S, a small model and framing on {}: flash {flash} bytes, RAM {} bytes ({fixed} static, {stack} stack), {sent} bytes on the \
         line; the signature check by itself {signature} bytes",
        M4F.core,
        fixed + stack
    );
    ensure!(flash < FLASH_BYTES, "{flash} bytes of flash; the bound is {FLASH_BYTES}");
    ensure!(fixed + stack < RAM_BYTES, "{} bytes of RAM; the bound is {RAM_BYTES}", fixed + stack);
    Ok(())
}

/// Instructions per window against the naive version.
fn cost() -> anyhow::Result<()> {
    let programs = board("qemu", M4F.triple, &["--bin", "cost"])?;
    let said = output(qemu(&M4F, &["-icount", "shift=0"]).arg(programs.join("cost")))?;
    println!("{}: {}", M4F.core, said.trim());
    let numbers: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [ours, naive, ..] = numbers[..] else { bail!("the cost program says `{said}`") };
    ensure!(ours > 0.0 && 3.0 * ours <= naive, "{ours} instructions against {naive} of the naive version");
    Ok(())
}

/// The board that can be bought: it links the whole node, and its image stays within its bound.
fn real_board() -> anyhow::Result<()> {
    let programs = board("nrf52840", M4F.triple, &[])?;
    let flash = flash_bytes(&programs.join("kilter-board-nrf52840"))?;
    println!("nRF52840: the whole node is {flash} bytes of flash");
    ensure!(flash < NODE_FLASH_BYTES, "{flash} bytes of flash; the bound is {NODE_FLASH_BYTES}");
    let programs = board("nrf52840-boot", M4F.triple, &[])?;
    let boot = flash_bytes(&programs.join("kilter-board-nrf52840-boot"))?;
    println!("nRF52840: its bootloader is {boot} bytes of flash");
    ensure!(boot < BOOT_FLASH_BYTES, "{boot} bytes of flash; the bound is {BOOT_FLASH_BYTES}");
    Ok(())
}

/// Bytes that an image takes in flash: all that is loaded.
fn flash_bytes(image: &std::path::Path) -> anyhow::Result<usize> {
    let output = Command::new("size").arg(image).output().context("failed to start size (package binutils)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let fields: Vec<usize> =
        text.lines().nth(1).unwrap_or("").split_whitespace().take(2).filter_map(|n| n.parse().ok()).collect();
    let [code, data] = fields[..] else { bail!("size says `{text}` of {}", image.display()) };
    Ok(code + data)
}

fn qemu(machine: &Machine, more: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["900", "qemu-system-arm", "-M", machine.name])
        .args(machine.arguments)
        .args(["-nographic", "-monitor", "none", "-serial", "null"])
        .args(["-semihosting-config", "enable=on,target=native"])
        .args(more)
        .arg("-kernel");
    command
}

/// Runs to its end in the folder of files; what it said.
fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.current_dir(folder()?).output().with_context(|| format!("failed to start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

const FLASH_BYTES: usize = 64_000;
const RAM_BYTES: usize = 24_000;
const NODE_FLASH_BYTES: usize = 256 * 1024;
/// The place that the board's layout gives it.
const BOOT_FLASH_BYTES: usize = 24 * 1024;
