//! The memory of the machine that the target stands for (see `cargo xt firmware`), and the linker script.

use std::path::PathBuf;

fn main() {
    let target = std::env::var("TARGET").expect("cargo names the target");
    // mps2-an386 and -an500 have 4 MB each; lm3s6965evb and microbit (with 64 kB of RAM) the least of the others.
    let (flash_kb, ram_kb) = if target.starts_with("thumbv7em") { (4096, 4096) } else { (256, 64) };
    let script = format!(
        "MEMORY\n{{\n  FLASH : ORIGIN = 0x00000000, LENGTH = {flash_kb}K\n  RAM : ORIGIN = 0x20000000, LENGTH = {ram_kb}K\n}}\n"
    );
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder"));
    std::fs::write(out.join("memory.x"), script).expect("the folder can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rerun-if-changed=build.rs");
}
