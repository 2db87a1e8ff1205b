//! The Rust toolchain for bare-metal AArch64, and builds of our own crates with it.
//!
//! Two ways, in this order: the toolchain that runs `cargo xtask`, if it has the target installed; else Debian's own
//! compiler, which builds the standard library's freestanding part from its packaged source. Softfloat is the right
//! target for S-EL2: the compiler never touches FP registers on its own.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use object::elf::{EM_AARCH64, PT_LOAD};
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Object, ObjectSymbol};

use crate::exec;
use crate::interrupt::Group;
use crate::progress::Progress;
use crate::project::Project;

/// The target triple of everything that runs on the board, except for UEFI applications.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";
/// What every CPU with Secure EL2 has (Armv8.4), beyond the target's baseline: atomic instructions in place of loops.
const CPU_FEATURES: &str = "+lse";
/// The target triple of UEFI applications.
pub const UEFI_TARGET: &str = "aarch64-unknown-uefi";

/// What Debian's way needs, by package.
pub const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "cargo-web", "lld"];

/// How AArch64 code is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The toolchain that cargo runs in has the target.
    Target,
    /// Debian's compiler in /usr/bin with the standard library's source.
    Debian,
}

/// Which build of our crates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised; what is shipped.
    Release,
    /// With debug assertions and full symbols.
    Debug,
}

impl Profile {
    fn directory(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Debug => "checked",
        }
    }
}

impl Toolchain {
    /// Which toolchain this machine has, if any.
    #[must_use]
    pub fn detect() -> Option<Self> {
        if sysroot().is_some_and(|s| [TARGET, UEFI_TARGET].iter().all(|target| s.join("lib/rustlib").join(target).is_dir())) {
            return Some(Self::Target);
        }
        let debian = ["/usr/bin/rustc", "/usr/bin/cargo", "/usr/bin/ld.lld", "/usr/bin/lld-link", "/usr/lib/rustlib/src/rust/library/core"];
        debian.iter().all(|p| Path::new(p).exists()).then_some(Self::Debian)
    }

    /// Which toolchain this machine has.
    ///
    /// # Errors
    /// When it has none; the message says what to install.
    pub fn require() -> Result<Self> {
        Self::detect().with_context(|| {
            format!(
                "no Rust toolchain for AArch64: run `rustup target add {TARGET} {UEFI_TARGET}`, or on Debian `apt-get install {}`",
                DEBIAN_PACKAGES.join(" ")
            )
        })
    }

    /// Which one, and why.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Target => format!("the active Rust toolchain: it has the targets {TARGET} and {UEFI_TARGET}"),
            Self::Debian => format!(
                "Debian's /usr/bin/rustc with its library source (build-std), because the active Rust toolchain lacks {TARGET} or {UEFI_TARGET}"
            ),
        }
    }

    /// `cargo build` or another `verb` for `target`, to which packages are added.
    fn cargo(self, project: &Project, verb: &str, target: &str, target_dir: &Path, profile: Profile) -> Command {
        let mut command = match self {
            Self::Target => Command::new("cargo"),
            Self::Debian => Command::new("/usr/bin/cargo"),
        };
        // `cargo xtask` runs under cargo, which leaves its own settings in the environment.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            let ours = name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST") || name.starts_with("CARGO_PROFILE_");
            if ours || ["CARGO", "RUSTC", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "LD_LIBRARY_PATH"].contains(&name.as_str()) {
                command.env_remove(&name);
            }
        }
        command.current_dir(&project.root).args([verb, "--quiet", "--target", target]);
        command.arg("--target-dir").arg(target_dir);
        command.args(["--profile", profile.directory()]);
        let mut flags = Vec::new();
        if target == TARGET {
            flags.push(format!("-Ctarget-feature={CPU_FEATURES}"));
            // Whatever has to be inline for a direct request's sake says so (`#[inline(always)]`); the usual threshold of 225, or 75
            // where size counts, makes the image larger and nothing on the way of a message faster.
            flags.push("-Cllvm-args=-inline-threshold=25".to_owned());
        }
        if self == Self::Debian {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("/usr/bin:{path}")).env_remove("RUSTUP_TOOLCHAIN");
            // Packaged compilers carry the standard library's source but call building it unstable.
            let linker = if target == UEFI_TARGET { "lld-link" } else { "ld.lld" };
            command.env("RUSTC_BOOTSTRAP", "1");
            flags.push(format!("-Clinker={linker}"));
            command.args(["-Zbuild-std=core,alloc,compiler_builtins", "-Zbuild-std-features=compiler-builtins-mem"]);
        }
        command.env("RUSTFLAGS", flags.join(" "));
        command
    }
}

/// The sysroot of the rustc that runs here, without starting it when cargo says which toolchain is active.
fn sysroot() -> Option<PathBuf> {
    if let (Some(toolchain), Some(home)) = (std::env::var_os("RUSTUP_TOOLCHAIN"), rustup_home()) {
        let dir = home.join("toolchains").join(toolchain);
        if dir.is_dir() {
            return Some(dir);
        }
    }
    let out = exec::output(Command::new("rustc").args(["--print", "sysroot"])).ok()?;
    Some(PathBuf::from(out.trim()))
}

fn rustup_home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from);
    set("RUSTUP_HOME").or_else(|| set("HOME").map(|h| h.join(".rustup")))
}

/// One of our crates for the board.
#[derive(Clone, Copy, Debug)]
pub struct Crate {
    /// Cargo package.
    pub package: &'static str,
    /// Name of its binary.
    pub binary: &'static str,
    /// Cargo features, `package/feature` form not needed.
    pub features: &'static [&'static str],
    /// The compiler's flags when it makes machine code of the whole program, its dependencies included.
    pub flags: &'static [&'static str],
}

impl Crate {
    /// Whether it can be compiled together with others.
    fn is_plain(&self) -> bool {
        self.features.is_empty() && self.flags.is_empty()
    }
}

/// A linked program for the board.
#[derive(Clone, Debug)]
pub struct Image {
    /// The ELF file, for debuggers.
    pub elf: PathBuf,
    /// The flat binary, for packages.
    pub bin: PathBuf,
    /// Bytes of the flat binary.
    pub bytes: u64,
    /// Address of its first byte.
    pub base: u64,
    /// `__ram_end - __image_start`, if the linker script defines them.
    pub ram_bytes: Option<u64>,
}

/// Compiles `crates` for the board and makes flat binaries of them.
///
/// # Errors
/// When there is no toolchain, or compilation fails; the compiler's messages are printed.
pub fn build(project: &Project, progress: &Progress, profile: Profile, crates: &[Crate]) -> Result<Vec<Image>> {
    let toolchain = Toolchain::require()?;
    // One cargo call per set of features: features of one package must not leak into another's build. Flags are for one program too.
    let plain: Vec<&Crate> = crates.iter().filter(|c| c.is_plain()).collect();
    if !plain.is_empty() {
        compile(project, progress, toolchain, profile, &plain)?;
    }
    let plain: Vec<Image> = plain.into_iter().map(|one| link_result(project, profile, one, "")).collect::<Result<_>>()?;
    let mut plain = plain.into_iter();
    crates
        .iter()
        .map(|one| {
            if one.is_plain() {
                return plain.next().with_context(|| format!("{} was not built", one.binary));
            }
            compile(project, progress, toolchain, profile, &[one])?;
            link_result(project, profile, one, &one.features.join("-"))
        })
        .collect()
}

/// The command that compiles a UEFI application (optimised) to `<target_dir>/<UEFI_TARGET>/release/<binary>.efi`.
///
/// # Errors
/// When there is no toolchain.
pub fn uefi_command(project: &Project, target_dir: &Path, application: &Crate) -> Result<Command> {
    let mut command = Toolchain::require()?.cargo(project, "build", UEFI_TARGET, target_dir, Profile::Release);
    command.args(["--package", application.package, "--bin", application.binary]);
    Ok(command)
}

fn compile(
    project: &Project,
    progress: &Progress,
    toolchain: Toolchain,
    profile: Profile,
    crates: &[&Crate],
) -> Result<()> {
    use std::io::IsTerminal;
    use std::os::unix::process::CommandExt;
    let names = crates.iter().map(|c| c.package).collect::<Vec<_>>().join(", ");
    let flags: Vec<&str> = crates.iter().flat_map(|c| c.flags).copied().collect();
    let mut command = toolchain.cargo(project, if flags.is_empty() { "build" } else { "rustc" }, TARGET, &project.bare_metal_target(), profile);
    for one in crates {
        command.args(["--package", one.package, "--bin", one.binary]);
        if !one.features.is_empty() {
            command.arg("--features").arg(one.features.join(","));
        }
    }
    if std::io::stderr().is_terminal() {
        command.args(["--color", "always"]);
    }
    if !flags.is_empty() {
        command.arg("--").args(flags);
    }
    let start = Instant::now();
    let task = progress.task_bar(&names, "compiling for AArch64");
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
    let group = Group::of(&child);
    let out = child.wait_with_output();
    drop(group);
    drop(task);
    let out = out.context("cannot read cargo's output")?;
    crate::interrupt::check()?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !text.trim().is_empty() {
        progress.line(text.trim_end());
    }
    if !out.status.success() {
        bail!("cannot compile {names} for AArch64 (the compiler's messages are above); the command was\n    {}", exec::show(&command));
    }
    if start.elapsed().as_secs() >= 5 {
        progress.line(&format!("  {names}: compiled for AArch64 ({})", crate::progress::elapsed(start)));
    }
    Ok(())
}

/// Makes the flat binary of a linked program, under a name of its own when features make it a variant.
fn link_result(project: &Project, profile: Profile, one: &Crate, variant: &str) -> Result<Image> {
    let dir = project.bare_metal_target().join(TARGET).join(profile.directory());
    let linked = dir.join(one.binary);
    let bytes = fs::read(&linked).with_context(|| format!("cargo did not make {}", linked.display()))?;
    let mut name = one.binary.to_owned();
    let mut elf = linked.clone();
    if !variant.is_empty() {
        let _ = write!(name, "-{variant}");
        elf = dir.join(format!("{name}.elf"));
        write_if_changed(&elf, &bytes)?;
    }
    let flat = flatten(&bytes).with_context(|| format!("cannot make a flat binary of {}", linked.display()))?;
    let bin = dir.join(format!("{name}.bin"));
    write_if_changed(&bin, &flat.bytes)?;
    Ok(Image { elf, bin, bytes: flat.bytes.len() as u64, base: flat.base, ram_bytes: flat.ram_bytes })
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// What an ELF file loads, as a flat image, and the address of its first byte; `None` for a file of another kind.
///
/// # Errors
/// When it is an ELF file that cannot be flattened.
pub fn flat_image(file: &[u8]) -> Result<Option<(u64, Vec<u8>)>> {
    if !file.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    flatten(file).map(|flat| Some((flat.base, flat.bytes)))
}

/// A flat image of `path`, which may be an ELF file: then it is flattened to `<dir>/<name>.bin`, and must be linked at `base` or 0.
///
/// # Errors
/// When it cannot be read or flattened, or is linked elsewhere.
pub fn flat_file(dir: &Path, name: &str, path: &Path, base: u64) -> Result<PathBuf> {
    let file = fs::read(path).context("cannot read it")?;
    let Some((linked, bytes)) = flat_image(&file)? else { return Ok(path.to_path_buf()) };
    if linked != base && linked != 0 {
        bail!("it is an ELF file linked at {linked:#x}; it will run at {base:#x}");
    }
    let flat = dir.join(format!("{name}.bin"));
    fs::write(&flat, bytes).with_context(|| format!("cannot write {}", flat.display()))?;
    Ok(flat)
}

/// A flat image with its facts.
struct Flat {
    base: u64,
    bytes: Vec<u8>,
    ram_bytes: Option<u64>,
}

/// The loadable content of an ELF file as one block, from its lowest physical address.
fn flatten(elf: &[u8]) -> Result<Flat> {
    let file: ElfFile64<'_> = ElfFile64::parse(elf).context("not a 64-bit ELF file")?;
    let endian = file.endian();
    if file.elf_header().e_machine(endian) != EM_AARCH64 {
        bail!("its code is not AArch64's");
    }
    let mut segments = Vec::new();
    for header in file.elf_program_headers() {
        if header.p_type(endian) == PT_LOAD && header.p_filesz(endian) > 0 {
            let data = header.data(endian, elf).map_err(|()| anyhow::anyhow!("a segment lies outside the file"))?;
            segments.push((header.p_paddr(endian), data));
        }
    }
    segments.sort_by_key(|(address, _)| *address);
    let base = segments.first().context("it has nothing to load")?.0;
    let mut bytes: Vec<u8> = Vec::new();
    for (address, data) in segments {
        let offset = usize::try_from(address - base)?;
        if offset < bytes.len() {
            bail!("segments overlap at {address:#x}");
        }
        if offset > 256 << 20 {
            bail!("segments lie too far apart: {base:#x} and {address:#x}");
        }
        bytes.resize(offset, 0);
        bytes.extend_from_slice(data);
    }
    let symbol = |name: &str| file.symbols().find(|s| s.name() == Ok(name)).map(|s| s.address());
    let ram_bytes = symbol("__ram_end").zip(symbol("__image_start")).map(|(end, start)| end - start);
    Ok(Flat { base, bytes, ram_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little-endian AArch64 ELF file with the given segments: physical address, content, size in memory.
    fn elf(segments: &[(u64, &[u8], u64)]) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0];
        file.resize(16, 0);
        file.extend(2u16.to_le_bytes());
        file.extend(183u16.to_le_bytes());
        file.extend(1u32.to_le_bytes());
        for word in [0u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        file.extend(0u32.to_le_bytes());
        for half in [64u16, 56, segments.len() as u16, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        let mut offset = 64 + 56 * segments.len() as u64;
        for (address, data, memory) in segments {
            file.extend(1u32.to_le_bytes());
            file.extend(7u32.to_le_bytes());
            for word in [offset, *address, *address, data.len() as u64, *memory, 1] {
                file.extend(word.to_le_bytes());
            }
            offset += data.len() as u64;
        }
        segments.iter().for_each(|(_, data, _)| file.extend(*data));
        file
    }

    #[test]
    fn flat_images_keep_gaps_and_leave_bss_out() {
        let flat = flatten(&elf(&[(0x1000, b"text", 4), (0x1008, b"data", 4), (0x2000, b"", 0x100)])).unwrap();
        assert_eq!((flat.base, flat.bytes.as_slice()), (0x1000, b"text\0\0\0\0data".as_slice()));
    }

    #[test]
    fn overlapping_segments_and_rubbish_are_errors() {
        let overlap = flatten(&elf(&[(0x1000, b"text", 4), (0x1002, b"data", 4)])).map(|f| f.bytes).unwrap_err();
        assert!(overlap.to_string().contains("overlap"));
        assert!(flatten(b"not an ELF file").is_err());
        let mut foreign = elf(&[(0x1000, b"text", 4)]);
        foreign[18] = 62;
        assert!(flatten(&foreign).map(|f| f.bytes).unwrap_err().to_string().contains("not AArch64"));
        assert!(flatten(&elf(&[])).is_err());
    }
}
