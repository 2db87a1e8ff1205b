//! Names the linker script for the bare-metal build: a partition at S-EL0.

fn main() {
    let scripts = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../linker");
    println!("cargo:rerun-if-changed={}", scripts.display());
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bins=-L{}", scripts.display());
        println!("cargo:rustc-link-arg-bins=-T{}", scripts.join("s-el0.ld").display());
        for argument in ["-pie", "-znotext", "--no-dynamic-linker"] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
