//! What this machine needs before anything can be built or booted, and how it is installed: Debian packages, QEMU 10 (on
//! bookworm from its backports suite) and a Rust toolchain for AArch64.
//!
//! Looking costs a few milliseconds, so that `run`, `build` and `test` begin with it. As root, or with `--install` (then
//! through sudo), what is missing is installed; the backports suite is added on the mirror that apt is configured for.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::apt;
use crate::exec;
use crate::progress::Progress;
use crate::project::{Project, create_dir};
use crate::toolchain::{self, Toolchain};

/// QEMU's oldest version that has what `-cpu max` must offer here (SME, FEAT_FGT at S-EL2).
const QEMU_MAJOR: u32 = 10;
/// The emulator.
pub const QEMU: &str = "qemu-system-aarch64";
const QEMU_PACKAGE: &str = "qemu-system-arm";
/// The file that adds the backports suite to apt's sources.
const BACKPORTS_LIST: &str = "/etc/apt/sources.list.d/bulkhead-backports.list";

/// How we see that a package's content is here.
#[derive(Clone, Copy, Debug)]
enum Probe {
    /// A program on PATH.
    Program(&'static str),
    /// A file or directory.
    File(&'static str),
}

/// A Debian package that a build or a boot uses.
#[derive(Clone, Copy, Debug)]
struct Requirement {
    package: &'static str,
    probe: Probe,
    reason: &'static str,
}

const fn program(package: &'static str, name: &'static str, reason: &'static str) -> Requirement {
    Requirement { package, probe: Probe::Program(name), reason }
}

const fn file(package: &'static str, path: &'static str, reason: &'static str) -> Requirement {
    Requirement { package, probe: Probe::File(path), reason }
}

/// Everything except QEMU and the Rust toolchain.
const REQUIREMENTS: &[Requirement] = &[
    program("make", "make", "builds of TF-A, OP-TEE, EDK2 and U-Boot"),
    program("g++", "g++", "EDK2's build tools, the benchmark's plugins (by the gcc that comes with it)"),
    program("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "AArch64 code of TF-A, OP-TEE, EDK2 and U-Boot"),
    file("libc6-dev-arm64-cross", "/usr/aarch64-linux-gnu/include/errno.h", "our Linux programs (the compiler only recommends it)"),
    program("device-tree-compiler", "dtc", "manifests"),
    program("xz-utils", "xz", "source archives and packages"),
    program("bzip2", "bzip2", "U-Boot's source archive"),
    program("bison", "bison", "U-Boot's configuration"),
    program("flex", "flex", "U-Boot's configuration"),
    program("python3", "python3", "build scripts of OP-TEE and EDK2"),
    file("python3-pyelftools", "/usr/lib/python3/dist-packages/elftools", "OP-TEE's build scripts"),
    file("python3-cryptography", "/usr/lib/python3/dist-packages/cryptography", "OP-TEE's build scripts"),
    program("openssl", "openssl", "keys for secure boot"),
    program("sbsigntool", "sbsign", "EFI binaries signed for secure boot"),
    program("acpica-tools", "iasl", "EDK2's ACPI tables"),
    program("nasm", "nasm", "EDK2's tool definitions"),
    file("uuid-dev", "/usr/include/uuid/uuid.h", "EDK2's build tools"),
];

/// What a look at the machine found.
#[derive(Debug)]
struct Findings {
    packages: Vec<Requirement>,
    /// Why QEMU is not good enough, if so.
    qemu: Option<String>,
    toolchain: Option<Toolchain>,
}

impl Findings {
    fn look() -> Self {
        Self {
            packages: REQUIREMENTS.iter().copied().filter(|r| !r.probe.holds()).collect(),
            qemu: qemu_problem(qemu_version().as_deref()),
            toolchain: Toolchain::detect(),
        }
    }

    fn nothing_missing(&self) -> bool {
        self.packages.is_empty() && self.qemu.is_none() && self.toolchain.is_some()
    }

    /// Packages to install from the machine's own release.
    fn plain_packages(&self) -> Vec<&'static str> {
        let mut names: Vec<&str> = self.packages.iter().map(|r| r.package).collect();
        if self.toolchain.is_none() {
            names.extend(toolchain::DEBIAN_PACKAGES);
        }
        names
    }

    /// One line for each thing that is missing.
    fn list(&self) -> String {
        let mut text = String::new();
        for missing in &self.packages {
            let _ = writeln!(text, "  missing  {:<24} {}", missing.package, missing.reason);
        }
        if let Some(problem) = &self.qemu {
            let _ = writeln!(text, "  missing  {QEMU_PACKAGE:<24} {problem}");
        }
        if self.toolchain.is_none() {
            let _ = writeln!(
                text,
                "  missing  {:<24} the active toolchain lacks {target} or {uefi} (`rustup target add {target} {uefi}` serves as well)",
                "Rust for AArch64",
                target = toolchain::TARGET,
                uefi = toolchain::UEFI_TARGET
            );
        }
        text
    }
}

impl Probe {
    fn holds(self) -> bool {
        match self {
            Self::Program(name) => on_path(name),
            Self::File(path) => Path::new(path).exists(),
        }
    }
}

fn on_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
}

/// QEMU's version line, if it is installed.
fn qemu_version() -> Option<String> {
    exec::output(Command::new(QEMU).arg("--version")).ok()
}

/// Why `version` (the output of `--version`) does not serve.
fn qemu_problem(version: Option<&str>) -> Option<String> {
    let Some(version) = version else { return Some(format!("QEMU {QEMU_MAJOR} or later")) };
    let number = version.split("version ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or("unknown");
    let major = number.split('.').next().and_then(|m| m.parse::<u32>().ok());
    match major {
        Some(major) if major >= QEMU_MAJOR => None,
        _ => Some(format!("QEMU {QEMU_MAJOR} or later; found {number}")),
    }
}

/// Prints what is here and what is missing; installs the latter when allowed. This is `cargo xtask doctor`.
///
/// # Errors
/// When something is missing and not installed, or its installation fails.
pub fn run(project: &Project, progress: &Progress, install: bool) -> Result<()> {
    ensure(project, progress, install)?;
    for have in REQUIREMENTS {
        println!("  ok  {:<24} {}", have.package, have.reason);
    }
    println!("  ok  {:<24} {}", QEMU_PACKAGE, qemu_version().unwrap_or_default().lines().next().unwrap_or_default());
    if let Some(toolchain) = Toolchain::detect() {
        println!("  ok  {:<24} {}", "Rust for AArch64", toolchain.describe());
    }
    println!("Nothing is missing. The cache is {}.", project.cache.display());
    Ok(())
}

/// Sees to it that nothing is missing. Silent when that is so.
///
/// # Errors
/// When something is missing and we may not install it (the message has the command), or its installation fails.
pub fn ensure(project: &Project, progress: &Progress, install: bool) -> Result<()> {
    let findings = Findings::look();
    if findings.nothing_missing() {
        return Ok(());
    }
    let root = rustix::process::geteuid().is_root();
    if !root && !install {
        bail!("this machine lacks:\n{}install it by:\n    cargo xtask doctor --install", findings.list());
    }
    apt::require()?;
    progress.line(&format!("This machine lacks:\n{}Installing it from Debian's archive:", findings.list()));
    installation(project, progress, &findings, root)?;
    let left = Findings::look();
    if !left.nothing_missing() {
        bail!("after the installation still missing:\n{}", left.list());
    }
    Ok(())
}

fn installation(project: &Project, progress: &Progress, findings: &Findings, root: bool) -> Result<()> {
    let task = progress.task("doctor");
    create_dir(&project.logs())?;
    let log = project.logs().join("doctor.log");
    let apt_get = |arguments: &[&str]| {
        let mut command = if root { Command::new("apt-get") } else { Command::new("sudo") };
        if !root {
            command.args(["--non-interactive", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        }
        command.env("DEBIAN_FRONTEND", "noninteractive").args(["-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command
    };
    task.stage("reading the package lists");
    exec::run_logged(&mut apt_get(&["update"]), &log, &task)?;
    let plain = findings.plain_packages();
    if !plain.is_empty() {
        task.stage(&format!("installing {}", plain.join(" ")));
        let arguments: Vec<&str> = ["install", "--yes", "--no-install-recommends"].into_iter().chain(plain).collect();
        exec::run_logged(&mut apt_get(&arguments), &log, &task)?;
    }
    if findings.qemu.is_some() {
        let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
        let suite = backports_suite(&fs::read_to_string("/etc/os-release").unwrap_or_default());
        if let Some(suite) = &suite {
            if !has_suite(suite)? {
                task.stage(&format!("adding the suite {suite} to apt's sources"));
                add_suite(suite, root, &log, &task)?;
                exec::run_logged(&mut apt_get(&["update"]), &log, &task)?;
            }
            arguments.extend(["--target-release", suite]);
        }
        arguments.push(QEMU_PACKAGE);
        task.stage(&format!("installing {QEMU_PACKAGE}"));
        exec::run_logged(&mut apt_get(&arguments), &log, &task)?;
    }
    task.done("installed");
    Ok(())
}

/// The suite that has a newer QEMU than the release itself, for releases where that is needed.
fn backports_suite(os_release: &str) -> Option<String> {
    let codename = os_release.lines().find_map(|l| l.strip_prefix("VERSION_CODENAME="))?;
    (codename.trim_matches('"') == "bookworm").then(|| "bookworm-backports".to_owned())
}

/// Whether apt knows `suite` already.
fn has_suite(suite: &str) -> Result<bool> {
    let releases = exec::output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE)", "Identifier: Packages"]))?;
    Ok(releases.lines().any(|release| release == suite))
}

fn add_suite(suite: &str, root: bool, log: &Path, task: &crate::progress::Task) -> Result<()> {
    let signed = if Path::new(apt::KEYRING).is_file() { format!("[signed-by={}] ", apt::KEYRING) } else { String::new() };
    let line = format!("deb {signed}{} {suite} main\n", apt::mirror()?);
    if root {
        return fs::write(BACKPORTS_LIST, line).with_context(|| format!("cannot write {BACKPORTS_LIST}"));
    }
    let ours = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    fs::write(ours.path(), line).context("cannot write a temporary file")?;
    let mut copy = Command::new("sudo");
    copy.args(["--non-interactive", "install", "-m", "0644"]).arg(ours.path()).arg(BACKPORTS_LIST);
    exec::run_logged(&mut copy, log, task)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_qemu_10_and_later_serves() {
        assert_eq!(qemu_problem(Some("QEMU emulator version 10.0.2 (Debian 1:10.0.2)\nCopyright")), None);
        assert_eq!(qemu_problem(Some("QEMU emulator version 11.1.0\n")), None);
        assert_eq!(qemu_problem(Some("QEMU emulator version 7.2.15 (Debian)")).unwrap(), "QEMU 10 or later; found 7.2.15");
        assert!(qemu_problem(Some("rubbish")).unwrap().contains("found unknown"));
        assert!(qemu_problem(None).is_some());
    }

    #[test]
    fn backports_are_for_bookworm_only() {
        assert_eq!(backports_suite("ID=debian\nVERSION_CODENAME=bookworm\n").as_deref(), Some("bookworm-backports"));
        assert_eq!(backports_suite("ID=debian\nVERSION_CODENAME=trixie\n"), None);
        assert_eq!(backports_suite(""), None);
    }

    #[test]
    fn a_missing_toolchain_adds_debians_and_is_listed_with_the_alternative() {
        let findings = Findings { packages: vec![program("nasm", "nasm", "EDK2")], qemu: None, toolchain: None };
        assert_eq!(findings.plain_packages(), ["nasm", "rustc-web", "rust-web-src", "cargo-web", "lld"]);
        assert!(findings.list().contains("rustup target add aarch64-unknown-none-softfloat"));
        assert!(!findings.nothing_missing());
    }
}
