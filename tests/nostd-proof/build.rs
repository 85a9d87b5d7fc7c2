//! Link arguments of the proof: no start-up files, nothing shared; libc only for `memcpy` and its kin.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("CARGO_FEATURE_PROOF").is_some() {
        for argument in ["-nostartfiles", "-static", "-no-pie", "-lc"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
