//! The TCG plugins (`qemu/plugin/count.c` and `cores.c`): compiled here, and told which addresses are whose.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::exec;
use crate::limits;
use crate::project::Project;

/// Bytes from a partition's load address on that count as it: the test partitions' `mem_size`.
const PARTITION: u64 = 2 << 20;
/// All memory that TF-A leaves to the secure world, but for partitions: any SPMC is in it, wherever it has put itself.
const SPMC: (u64, u64) = (limits::BASE, 0x0f00_0000);
/// Where this repository's SPMC and all of its memory lie.
const OWN: (u64, u64) = (limits::BASE, limits::BASE + (1 << 20));
const EL3: (u64, u64) = (0x0e00_0000, limits::BASE);
const NORMAL: (u64, u64) = (0x4000_0000, 0x1_0000_0000);

/// Compiles a plugin, by its name, to `dir`.
///
/// # Errors
/// When that fails; the message has the compiler's.
pub fn compile(project: &Project, dir: &Path, name: &str) -> Result<PathBuf> {
    let object = dir.join(format!("{name}.so"));
    let mut command = Command::new("gcc");
    command.args(["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden", "-o"]).arg(&object);
    exec::output(command.arg(project.root.join(format!("qemu/plugin/{name}.c")))).context("cannot compile the plugin for QEMU")?;
    Ok(object)
}

/// Names and address ranges of test partitions, from where their packages are loaded.
#[must_use]
pub fn test_partitions<'a>(partitions: &[(&'a str, u32)]) -> Vec<(&'a str, (u64, u64))> {
    partitions.iter().map(|&(name, address)| (name, (u64::from(address), u64::from(address) + PARTITION))).collect()
}

/// The value of QEMU's `-plugin` option for `count`: what is counted is written to `counts`. Partitions are names and address ranges;
/// `profiled` is the size of the SPMC's image whose instructions are counted one by one.
#[must_use]
pub fn option(object: &Path, counts: &Path, partitions: &[(&str, (u64, u64))], profiled: Option<u64>) -> OsString {
    let mut text = files(object, counts);
    let mut range = |name: &str, (first, end): (u64, u64)| text += &format!(",{name}={first:#x}-{end:#x}");
    for (name, place) in partitions {
        range(name, *place);
    }
    range("spmc", SPMC);
    range("el3", EL3);
    range("normal", NORMAL);
    if let Some(bytes) = profiled {
        range("profile", (limits::BASE, limits::BASE + bytes.next_multiple_of(4096)));
    }
    text.into()
}

/// The same for `cores`, which knows this repository's SPMC.
#[must_use]
pub fn cores_option(object: &Path, counts: &Path) -> OsString {
    let range = |(first, end): (u64, u64)| format!("{first:#x}-{end:#x}");
    format!("{},spmc={},normal={}", files(object, counts), range(OWN), range(NORMAL)).into()
}

fn files(object: &Path, counts: &Path) -> String {
    let path = |path: &Path| path.to_string_lossy().replace(',', ",,");
    format!("file={},out={}", path(object), path(counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugins_compile_without_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["count", "cores"] {
            assert!(compile(&Project::find().unwrap(), dir.path(), name).unwrap().is_file());
        }
    }

    #[test]
    fn every_partition_has_its_range_before_the_spmc_and_commas_are_doubled() {
        let text = option(Path::new("/a,b.so"), Path::new("/out"), &test_partitions(&[("probe-el1", 0x0e60_0000)]), Some(5000)).into_string().unwrap();
        assert!(text.starts_with("file=/a,,b.so,out=/out,probe-el1=0xe600000-0xe800000,spmc=0xe100000-0xf000000,"), "{text}");
        assert!(text.ends_with(",profile=0xe100000-0xe102000"), "{text}");
    }
}
