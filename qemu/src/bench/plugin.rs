//! The TCG plugin (`qemu/plugin/count.c`): compiled here, and told which addresses are whose.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::project::Project;

/// Bytes from a partition's load address on that count as it: the test partitions' `mem_size`.
const PARTITION: u64 = 2 << 20;
const SPMC: (u64, u64) = (0x0e10_0000, 0x0e20_0000);
const EL3: (u64, u64) = (0x0e00_0000, 0x0e10_0000);
const NORMAL: (u64, u64) = (0x4000_0000, 0x1_0000_0000);

/// Compiles the plugin to `dir`.
///
/// # Errors
/// When that fails; the message has the compiler's.
pub fn compile(project: &Project, dir: &Path) -> Result<PathBuf> {
    let object = dir.join("count.so");
    let mut command = Command::new("gcc");
    command.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(&object);
    exec::output(command.arg(project.root.join("qemu/plugin/count.c"))).context("cannot compile the plugin for QEMU")?;
    Ok(object)
}

/// The value of QEMU's `-plugin` option: what is counted is written to `counts`.
#[must_use]
pub fn option(object: &Path, counts: &Path, partitions: &[u32], profile: bool) -> OsString {
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    let mut text = format!("file={},out={}", path(object), path(counts));
    let mut range = |class: &str, (first, end): (u64, u64)| text += &format!(",{class}={first:#x}-{end:#x}");
    range("spmc", SPMC);
    range("el3", EL3);
    for address in partitions.iter().map(|&address| u64::from(address)) {
        range("partition", (address, address + PARTITION));
    }
    range("normal", NORMAL);
    if profile {
        text += ",profile=on";
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_range_and_commas_are_doubled() {
        let text = option(Path::new("/a,b.so"), Path::new("/out"), &[0x0e60_0000], true).into_string().unwrap();
        assert!(text.starts_with("file=/a,,b.so,out=/out,spmc=0xe100000-0xe200000,"), "{text}");
        assert!(text.contains(",partition=0xe600000-0xe800000,") && text.ends_with(",profile=on"), "{text}");
    }
}
