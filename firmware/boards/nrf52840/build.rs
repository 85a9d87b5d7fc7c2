//! The chip's memory without its last 16 pages of flash, which belong to the models, and the linker script.

use std::path::PathBuf;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder"));
    let script =
        "MEMORY\n{\n  FLASH : ORIGIN = 0x00000000, LENGTH = 960K\n  RAM : ORIGIN = 0x20000000, LENGTH = 256K\n}\n";
    std::fs::write(out.join("memory.x"), script).expect("the folder can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    // The fleet's model-signing key, 64 hexadecimal digits, and the node's name.
    println!("cargo::rerun-if-env-changed=KILTER_SIGNING_KEY");
    println!("cargo::rerun-if-env-changed=KILTER_NODE");
    println!("cargo::rerun-if-changed=build.rs");
}
