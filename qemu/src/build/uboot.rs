//! U-Boot 2025.01 for QEMU's virt machine, as BL33 in UEFI's place; sources unpatched. What differs from U-Boot's own
//! configuration of the machine is in `partitions/u-boot/bulkhead.config`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::recipe::{Job, Recipe, Source, Tarball};

/// Name of the recipe.
pub const NAME: &str = "u-boot";

/// The sources.
pub const SOURCE: Tarball = Tarball {
    pool_path: "u/u-boot/u-boot_2025.01.orig.tar.bz2",
    sha256: "cdef7d507c93f1bbd9f015ea9bc21fa074268481405501945abc6f854d5b686f",
    size: 32_890_299,
};

const FRAGMENT: &str = "partitions/u-boot/bulkhead.config";

/// The recipe.
pub struct UBoot;

impl Recipe for UBoot {
    fn name(&self) -> String {
        NAME.into()
    }

    fn summary(&self) -> String {
        "U-Boot 2025.01 with its UEFI variables over FF-A".into()
    }

    fn text(&self) -> &'static str {
        include_str!("uboot.rs")
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Tarball(SOURCE)]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![FRAGMENT.into()]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["u-boot.bin", "u-boot"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let source = job.unpack(&SOURCE, "u-boot")?;
        let make = |goals: &[&str]| {
            let mut command = Command::new("make");
            command.current_dir(&source).arg(format!("-j{}", job.cores())).arg("CROSS_COMPILE=aarch64-linux-gnu-").args(goals);
            // A fixed stamp (that of the release): the same inputs give the same image.
            command.env("SOURCE_DATE_EPOCH", "1736208000");
            command
        };
        job.run("configuring", &mut make(&["qemu_arm64_defconfig"]))?;
        let config = source.join(".config");
        let fragment = job.repo(FRAGMENT);
        job.run("configuring", Command::new("scripts/kconfig/merge_config.sh").current_dir(&source).arg("-m").arg(&config).arg(&fragment))?;
        job.run("configuring", &mut make(&["olddefconfig"]))?;
        let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
        if let Some(line) = not_taken(&read(&fragment)?, &read(&config)?) {
            bail!("U-Boot's configuration did not take '{line}' of {FRAGMENT}: does it depend on another option?");
        }
        job.run("compiling", &mut make(&["u-boot.bin"]))?;
        for name in ["u-boot.bin", "u-boot"] {
            let path = source.join(name);
            fs::copy(&path, job.out().join(name)).with_context(|| format!("U-Boot's build did not make {}", path.display()))?;
        }
        Ok(())
    }
}

/// The first setting of `fragment` that `config` does not have: Kconfig drops silently what depends on something else.
fn not_taken<'a>(fragment: &'a str, config: &str) -> Option<&'a str> {
    let has = |line: &str| {
        // An option that does not even exist is as good as one that is off.
        line.strip_prefix("# ").and_then(|off| off.strip_suffix(" is not set")).map_or_else(
            || config.lines().any(|l| l == line),
            |option| !config.lines().any(|l| l.strip_prefix(option).is_some_and(|rest| rest.starts_with('='))),
        )
    };
    let is_setting = |line: &&str| line.starts_with("CONFIG_") || (line.starts_with("# CONFIG_") && line.ends_with(" is not set"));
    fragment.lines().filter(is_setting).find(|line| !has(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_was_dropped_is_named() {
        let config = "CONFIG_A=y\nCONFIG_AB=y\n# CONFIG_B is not set\n";
        assert_eq!(not_taken("# why\nCONFIG_A=y\n\n# CONFIG_B is not set\n# CONFIG_C is not set\n", config), None);
        assert_eq!(not_taken("CONFIG_A=y\nCONFIG_D=y\n", config), Some("CONFIG_D=y"));
        assert_eq!(not_taken("# CONFIG_AB is not set\n", config), Some("# CONFIG_AB is not set"));
    }
}
