//! The SPMC's image and the limits that it keeps: both are printed by every `cargo xtask build`.

use anyhow::{Context, Result, bail};

use crate::progress::Progress;
use crate::project::Project;
use crate::toolchain::{self, Crate, Image, Profile};

/// Largest flat image, in bytes.
const IMAGE_LIMIT: u64 = 160 * 1024;
/// Largest extent in memory with room for 8 cores, in bytes: image, data, stacks, vCPUs, translation tables.
const RAM_LIMIT: u64 = 768 * 1024;

/// Where TF-A's QEMU port loads and enters BL32.
pub const BASE: u64 = 0x0e10_0000;

/// The SPMC as cargo knows it. Code and data lie within 1 MiB: their addresses take one instruction (`adr`) in place of two.
pub const SPMC: Crate = Crate { package: "bulkhead", binary: "bulkhead", features: &[], flags: &["-Ccode-model=tiny"] };

/// The SPMC without its fast path: every decision is the general path's.
const GENERAL_SPMC: Crate = Crate { features: &["no-fast-path"], ..SPMC };

/// Compiles the SPMC.
///
/// # Errors
/// When that fails.
pub fn build_spmc(project: &Project, progress: &Progress, profile: Profile) -> Result<Image> {
    build_crate(project, progress, profile, SPMC)
}

/// Compiles the SPMC without its fast path, optimised.
///
/// # Errors
/// When that fails.
pub fn build_general_spmc(project: &Project, progress: &Progress) -> Result<Image> {
    build_crate(project, progress, Profile::Release, GENERAL_SPMC)
}

fn build_crate(project: &Project, progress: &Progress, profile: Profile, spmc: Crate) -> Result<Image> {
    let image = toolchain::build(project, progress, profile, &[spmc])?.pop().context("the SPMC was not built")?;
    if image.base != BASE {
        bail!("the SPMC is linked at {:#x}; TF-A enters it at {BASE:#x}", image.base);
    }
    Ok(image)
}

/// Prints the sizes of the SPMC (the release build: what is shipped) and compares them with the limits.
///
/// # Errors
/// When one is exceeded, or the linker script does not say how much memory the image takes.
pub fn check(spmc: &Image) -> Result<()> {
    let ram = spmc.ram_bytes.context("the SPMC's ELF file lacks the symbols __image_start and __ram_end")?;
    println!("spmc: {}", spmc.bin.display());
    println!("image bytes: {} (limit {IMAGE_LIMIT})", spmc.bytes);
    println!("ram bytes for 8 cores: {ram} (limit {RAM_LIMIT})");
    within("image", spmc.bytes, IMAGE_LIMIT)?;
    within("RAM", ram, RAM_LIMIT)
}

fn within(what: &str, bytes: u64, limit: u64) -> Result<()> {
    if bytes > limit {
        bail!("the SPMC's {what} has {bytes} bytes, {} more than its limit of {limit}", bytes - limit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use regex::Regex;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Most files of `spmc/` that may hold unsafe code.
    const UNSAFE_FILES: usize = 10;

    fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                rust_files(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn unsafe_code_of_the_spmc_stays_in_few_files() {
        let root = Project::find().unwrap().root;
        let mut files = Vec::new();
        rust_files(&root.join("spmc"), &mut files);
        let pattern = Regex::new(r"(?m)^[^/\n]*\bunsafe( *\{| fn| impl| extern|\()").unwrap();
        files.retain(|f| pattern.is_match(&fs::read_to_string(f).unwrap()));
        let names: Vec<_> = files.iter().map(|f| f.strip_prefix(&root).unwrap().display().to_string()).collect();
        assert!(!names.is_empty() && names.len() <= UNSAFE_FILES, "{} files: {names:?}", names.len());
        assert!(names.iter().all(|n| n.starts_with("spmc/src/")), "the logic has none: {names:?}");
    }

    #[test]
    fn the_limit_itself_is_allowed_and_one_byte_more_is_not() {
        assert!(within("image", 204_800, 204_800).is_ok());
        let error = within("image", 204_801, 204_800).unwrap_err().to_string();
        assert_eq!(error, "the SPMC's image has 204801 bytes, 1 more than its limit of 204800");
    }
}
