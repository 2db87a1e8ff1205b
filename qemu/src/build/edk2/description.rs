//! UEFI's platform description, derived from EDK2's own ArmVirtQemuKernel.
//!
//! What EDK2 boots at a place of the loader's choice is what we need, except for its variable services: those go to StMM.
//! So its three files are taken over with a handful of edits, each of which must find exactly what it expects: another
//! version of EDK2 fails here by name instead of building something else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The modules that keep variables in the normal world's flash.
const NORMAL_WORLD_VARIABLES: [&str; 3] = [
    "MdeModulePkg/Universal/Variable/RuntimeDxe/VariableRuntimeDxe.inf",
    "MdeModulePkg/Universal/FaultTolerantWriteDxe/FaultTolerantWriteDxe.inf",
    "OvmfPkg/VirtNorFlashDxe/VirtNorFlashDxe.inf",
];

/// Writes `BulkheadUefi.dsc`, `BulkheadUefi.fdf` and `BulkheadUefiFvMain.fdf.inc` into `package`, from the files in `arm_virt`.
///
/// # Errors
/// When a file or a line in it is not there, or is there more than once.
pub fn derive(arm_virt: &Path, package: &Path) -> Result<()> {
    let edit = |from: &str, to: &str, edit: fn(&str) -> Result<String>| -> Result<()> {
        let path = arm_virt.join(from);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let text = edit(&text).with_context(|| format!("{} is not the file that this recipe was written for", path.display()))?;
        fs::write(package.join(to), text).with_context(|| format!("cannot write {}", package.join(to).display()))
    };
    edit("ArmVirtQemuKernel.dsc", "BulkheadUefi.dsc", platform)?;
    edit("ArmVirtQemuKernel.fdf", "BulkheadUefi.fdf", flash)?;
    edit("ArmVirtQemuFvMain.fdf.inc", "BulkheadUefiFvMain.fdf.inc", volume)
}

/// The platform: our names and places, no variable services of its own, our additions at the end (where they win).
fn platform(text: &str) -> Result<String> {
    let text = without_components(text, &NORMAL_WORLD_VARIABLES)?;
    let text = with_value(&text, "PLATFORM_NAME", "BulkheadUefi")?;
    let text = with_value(&text, "OUTPUT_DIRECTORY", "Build/BulkheadUefi")?;
    let text = with_value(&text, "FLASH_DEFINITION", "BulkheadUefiPkg/BulkheadUefi.fdf")?;
    Ok(text + "\n!include BulkheadUefiPkg/BulkheadUefi.dsc.inc\n")
}

/// The image: our list of modules, and no store of variables beside it.
fn flash(text: &str) -> Result<String> {
    let text = with_line(text, "!include ArmVirtQemuFvMain.fdf.inc", "!include BulkheadUefiPkg/BulkheadUefiFvMain.fdf.inc")?;
    let text = with_line(&text, "!include ArmVirtRules.fdf.inc", "!include ArmVirtPkg/ArmVirtRules.fdf.inc")?;
    without_line(&text, "!include VarStore.fdf.inc")
}

/// The list of modules.
fn volume(text: &str) -> Result<String> {
    let mut text = text.to_owned();
    for module in NORMAL_WORLD_VARIABLES {
        text = without_line(&text, &format!("  INF {module}"))?;
    }
    Ok(text + "\n!include BulkheadUefiPkg/BulkheadUefiFv.fdf.inc\n")
}

/// `text` without the one line that reads `line`.
///
/// # Errors
/// When there is no such line, or more than one.
pub fn without_line(text: &str, line: &str) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let at = only(&lines, line, |l| l.trim_end() == line)?;
    Ok(join(lines[..at].iter().chain(&lines[at + 1..])))
}

/// `text` with the one line that reads `line` replaced.
fn with_line(text: &str, line: &str, new: &str) -> Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = only(&lines, line, |l| l.trim_end() == line)?;
    lines[at] = new;
    Ok(join(lines.iter()))
}

/// `text` with another value in the one line `  NAME = value`.
fn with_value(text: &str, name: &str, value: &str) -> Result<String> {
    let mut lines: Vec<&str> = text.lines().collect();
    let at = only(&lines, &format!("{name} ="), |l| l.split_once('=').is_some_and(|(left, _)| left.trim() == name))?;
    let new = format!("  {name} = {value}");
    lines[at] = &new;
    Ok(join(lines.iter()))
}

/// `text` without the components `modules` (each must be there once), their blocks of overrides included.
fn without_components(text: &str, modules: &[&str]) -> Result<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut keep = vec![true; lines.len()];
    for module in modules {
        let at = only(&lines, module, |l| l.split_whitespace().next() == Some(module))?;
        let mut end = at + 1;
        if lines[at].trim_end().ends_with('{') {
            match lines[end..].iter().position(|l| l.trim() == "}") {
                Some(length) => end += length + 1,
                None => bail!("the block of {module} (line {}) has no end", at + 1),
            }
        }
        keep[at..end].fill(false);
    }
    Ok(join(lines.iter().zip(keep).filter(|(_, keep)| *keep).map(|(line, _)| line)))
}

/// Index of the one line that matches.
fn only(lines: &[&str], what: &str, matches: impl Fn(&str) -> bool) -> Result<usize> {
    let mut found = lines.iter().enumerate().filter(|(_, line)| matches(line)).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (None, _) => bail!("no line with '{}', expected one", what.trim()),
        (Some(first), Some(second)) => bail!("'{}' in lines {} and {}, expected one", what.trim(), first + 1, second + 1),
    }
}

fn join<'a>(lines: impl Iterator<Item = &'a &'a str>) -> String {
    lines.fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: &str = "\
[Defines]
  PLATFORM_NAME                  = ArmVirtQemu
  OUTPUT_DIRECTORY               = Build/ArmVirtQemuKernel-$(ARCH)
  FLASH_DEFINITION               = ArmVirtPkg/ArmVirtQemuKernel.fdf

[Components.common]
  MdeModulePkg/Core/RuntimeDxe/RuntimeDxe.inf
  MdeModulePkg/Universal/Variable/RuntimeDxe/VariableRuntimeDxe.inf {
    <LibraryClasses>
      NULL|A.inf
  }
  MdeModulePkg/Universal/FaultTolerantWriteDxe/FaultTolerantWriteDxe.inf {
    <LibraryClasses>
      NULL|B.inf
  }
  EmbeddedPkg/MetronomeDxe/MetronomeDxe.inf
  OvmfPkg/VirtNorFlashDxe/VirtNorFlashDxe.inf
";

    #[test]
    fn platform_loses_its_variable_services_and_gains_ours() {
        let expected = "\
[Defines]
  PLATFORM_NAME = BulkheadUefi
  OUTPUT_DIRECTORY = Build/BulkheadUefi
  FLASH_DEFINITION = BulkheadUefiPkg/BulkheadUefi.fdf

[Components.common]
  MdeModulePkg/Core/RuntimeDxe/RuntimeDxe.inf
  EmbeddedPkg/MetronomeDxe/MetronomeDxe.inf

!include BulkheadUefiPkg/BulkheadUefi.dsc.inc
";
        assert_eq!(platform(PLATFORM).expect("a good description"), expected);
    }

    #[test]
    fn missing_line_is_named() {
        let error = platform(&PLATFORM.replace("OUTPUT_DIRECTORY", "OUTPUT")).expect_err("a line is missing");
        assert_eq!(error.to_string(), "no line with 'OUTPUT_DIRECTORY =', expected one");
    }

    #[test]
    fn repeated_component_is_refused_with_both_places() {
        let twice = format!("{PLATFORM}  OvmfPkg/VirtNorFlashDxe/VirtNorFlashDxe.inf\n");
        let error = platform(&twice).expect_err("a component is there twice");
        assert_eq!(error.to_string(), "'OvmfPkg/VirtNorFlashDxe/VirtNorFlashDxe.inf' in lines 17 and 18, expected one");
    }

    #[test]
    fn block_without_end_is_refused() {
        let open = PLATFORM.replace("  }\n", "");
        let error = platform(&open).expect_err("a block is open");
        assert!(error.to_string().ends_with("VariableRuntimeDxe.inf (line 8) has no end"), "{error}");
    }

    #[test]
    fn volume_swaps_modules() {
        let list = "[FV.FvMain]\n  INF A.inf\n  INF OvmfPkg/VirtNorFlashDxe/VirtNorFlashDxe.inf\n  INF MdeModulePkg/Universal/FaultTolerantWriteDxe/FaultTolerantWriteDxe.inf\n  INF MdeModulePkg/Universal/Variable/RuntimeDxe/VariableRuntimeDxe.inf\n";
        assert_eq!(volume(list).expect("a good list"), "[FV.FvMain]\n  INF A.inf\n\n!include BulkheadUefiPkg/BulkheadUefiFv.fdf.inc\n");
    }
}
