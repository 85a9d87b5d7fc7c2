//! The bootloader's place at the beginning of the chip's flash, and the linker script.

use std::path::PathBuf;

#[path = "../nrf52840/src/layout.rs"]
#[expect(dead_code, reason = "the script needs the bootloader's place only")]
mod layout;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder"));
    let bytes = layout::BOOT_BYTES;
    let script =
        format!("MEMORY\n{{\n  FLASH : ORIGIN = 0, LENGTH = {bytes}\n  RAM : ORIGIN = 0x20000000, LENGTH = 256K\n}}\n");
    std::fs::write(out.join("memory.x"), script).expect("the folder can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../nrf52840/src/layout.rs");
}
