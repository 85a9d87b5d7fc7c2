//! The first image's place in the chip's flash, and the linker script.

use std::path::PathBuf;

#[path = "src/layout.rs"]
#[expect(dead_code, reason = "the script needs the image's place only")]
mod layout;

fn main() {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo names a folder"));
    let (at, bytes) = (layout::IMAGE_AT, layout::IMAGE_BYTES);
    let script = format!(
        "MEMORY\n{{\n  FLASH : ORIGIN = {at:#x}, LENGTH = {bytes}\n  RAM : ORIGIN = 0x20000000, LENGTH = 256K\n}}\n"
    );
    std::fs::write(out.join("memory.x"), script).expect("the folder can be written");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    // The fleet's model-signing key, 64 hexadecimal digits, and the node's name.
    println!("cargo::rerun-if-env-changed=KILTER_SIGNING_KEY");
    println!("cargo::rerun-if-env-changed=KILTER_NODE");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/layout.rs");
}
