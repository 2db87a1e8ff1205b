//! A bootable system from its parts: manifests are compiled, partitions packed, everything put into TF-A's firmware image
//! package, and that into the flash image from which the machine starts.
//!
//! The flash image is QEMU's first NOR flash, which only the secure world reaches: BL1 at its start, the firmware image
//! package at [`FIP_OFFSET`], near its end the variable store, and last the reset code ([`crate::reset`]). A system has one
//! flash image per clone; assembling it again rewrites firmware only, so that the store survives like on a real board.
//! [`forget_variables`] erases it.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bulkhead_manifests::{AddressRange, PackageFile, Platform, Reserved, SystemFiles, lint};

use crate::exec;
use crate::fip;
use crate::package::{self, Format};
use crate::project::{Project, create_dir};
use crate::reset;

/// Bytes of one NOR flash bank.
const FLASH_SIZE: u64 = 64 << 20;
/// Where BL1 and BL2 look for the firmware image package (PLAT_QEMU_FIP_BASE).
const FIP_OFFSET: u64 = 0x4_0000;
/// Where the variable store lies.
const STORE_OFFSET: u64 = 0x03f0_0000;
/// Node of the SPMC's manifests that describes the normal world's memory, which starts at 0x40000000.
const NORMAL_WORLD_MEMORY: &str = "/memory@40000000";
/// Bytes of the variable store: three erase blocks.
const STORE_SIZE: usize = 0xc_0000;
/// TF-A reserves one page for each configuration blob.
const CONFIG_LIMIT: usize = 4096;
/// TF-A's table has room for so many packages.
const MAX_PARTITIONS: usize = 8;

/// What a system is made of.
#[derive(Clone, Debug)]
pub struct System {
    /// Name of the directory below `out/` where it is assembled and run.
    pub name: String,
    /// Directory with TF-A's `bl1.bin`, `bl2.bin` and `bl31.bin`.
    pub tfa: PathBuf,
    /// The SPMC's flat binary.
    pub spmc: PathBuf,
    /// The SPMC's manifest, as source or compiled.
    pub spmc_manifest: PathBuf,
    /// Partitions of the manifest that this system does without, by their `debug_name`.
    pub without: Vec<String>,
    /// The partitions.
    pub partitions: Vec<Partition>,
    /// BL33: what the normal world starts with, at 0x60000000.
    pub normal_world: PathBuf,
    /// The normal world's memory, in MiB: what the SPMC's manifest says of it is made to fit.
    pub memory: u32,
    /// Whether a problem in a manifest is found here; a test of what the SPMC says about it turns that off.
    pub judged: bool,
}

/// In an [`Edit`]: the SPMC's own manifest.
pub const SPMC: &str = "spmc";

/// A change of a manifest's source, for a boot that shows what is said about it.
#[derive(Clone, Copy, Debug)]
pub struct Edit {
    /// Whose manifest: a partition's name, or [`SPMC`].
    pub of: &'static str,
    /// What is in the source once.
    pub from: &'static str,
    /// What takes its place.
    pub to: &'static str,
}

impl System {
    /// Gives the system copies of its manifests, in its own directory, with `edits` made.
    ///
    /// # Errors
    /// When a source does not have what is to be replaced exactly once, or files cannot be read or written.
    pub fn edit(&mut self, project: &Project, edits: &[Edit]) -> Result<()> {
        let dir = project.out().join(&self.name);
        create_dir(&dir)?;
        for partition in &mut self.partitions {
            edit(&dir, &partition.name, &mut partition.manifest, edits)?;
        }
        edit(&dir, SPMC, &mut self.spmc_manifest, edits)
    }
}

/// A partition of a system.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Name, for files and messages.
    pub name: String,
    /// Its manifest, as source or compiled; not read when the image is a package already.
    pub manifest: PathBuf,
    /// Its flat image, or its package.
    pub image: PathBuf,
    /// Where TF-A puts the package.
    pub load_address: u32,
    /// By which TF-A finds the package in the firmware image package.
    pub uuid: String,
    /// Format of the package.
    pub format: Format,
}

/// A system that can be booted.
#[derive(Clone, Debug)]
pub struct Assembled {
    /// Directory for everything about its runs.
    pub dir: PathBuf,
    /// The flash image.
    pub flash: PathBuf,
    /// The normal world's memory, in MiB.
    pub memory: u32,
}

/// Makes those of `edits` that are of `name` in a copy of its manifest, which takes the place of `source`.
fn edit(dir: &Path, name: &str, source: &mut PathBuf, edits: &[Edit]) -> Result<()> {
    let mut mine = edits.iter().filter(|edit| edit.of == name).peekable();
    if mine.peek().is_none() {
        return Ok(());
    }
    let mut text = with_includes(source)?;
    for edit in mine {
        ensure!(text.matches(edit.from).count() == 1, "{} should have '{}' once", source.display(), edit.from);
        text = text.replacen(edit.from, edit.to, 1);
    }
    *source = dir.join(format!("edited-{name}.dts"));
    fs::write(&source, text).with_context(|| format!("cannot write {}", source.display()))
}

/// A device tree source with the files that it includes in their places.
fn with_includes(source: &Path) -> Result<String> {
    let text = fs::read_to_string(source).with_context(|| format!("cannot read {}", source.display()))?;
    let beside = source.parent().unwrap_or(Path::new("."));
    let line = |line: &str| match line.strip_prefix("/include/ \"").and_then(|rest| rest.strip_suffix('"')) {
        Some(included) => with_includes(&beside.join(included)),
        None => Ok(format!("{line}\n")),
    };
    text.lines().map(line).collect()
}

/// Assembles `system`; its variable store, if it has one from earlier runs, stays.
///
/// # Errors
/// When a part is missing or broken, does not fit, or files cannot be written.
pub fn assemble(project: &Project, system: &System) -> Result<Assembled> {
    let dir = project.out().join(&system.name);
    create_dir(&dir)?;
    if system.partitions.len() > MAX_PARTITIONS {
        bail!("{} has {} partitions; TF-A loads {MAX_PARTITIONS} at most", system.name, system.partitions.len());
    }
    let load_table = compile_text(&dir, "tb_fw_config", &load_table(&system.partitions))?;
    let spmc_manifest = spmc_manifest(&dir, system)?;
    for (what, blob) in [("the table of packages", &load_table), ("the SPMC's manifest", &spmc_manifest)] {
        if blob.len() > CONFIG_LIMIT {
            bail!("{what} has {} bytes; TF-A has {CONFIG_LIMIT} bytes for it", blob.len());
        }
    }
    let mut packages = Vec::new();
    for partition in &system.partitions {
        let image = read(&partition.image)?;
        let package = match partition.format {
            Format::Packed => image,
            format => {
                let manifest = compile(&dir, &partition.name, &partition.manifest)?;
                package::write(format, &manifest, &image).with_context(|| format!("cannot pack {}", partition.name))?
            }
        };
        packages.push((partition, package));
    }
    if system.judged {
        judge(&spmc_manifest, &load_table, &packages).with_context(|| format!("see {} and the partitions' manifests", system.spmc_manifest.display()))?;
    }
    let tfa = |name: &str| read(&system.tfa.join(name));
    let mut images = vec![
        (fip::BL2, tfa("bl2.bin")?),
        (fip::BL31, tfa("bl31.bin")?),
        (fip::BL32, read(&system.spmc)?),
        (fip::BL33, read(&system.normal_world)?),
        (fip::TB_FW_CONFIG, load_table),
        (fip::TOS_FW_CONFIG, spmc_manifest),
    ];
    for (partition, package) in packages {
        images.push((fip::entry_id(&partition.uuid)?, package));
    }
    let flash = dir.join("flash.img");
    write_firmware(&flash, &tfa("bl1.bin")?, &fip::write(&images)?)?;
    Ok(Assembled { dir, flash, memory: system.memory })
}

/// Assembles a system without an SPMC: OP-TEE alone in the secure world, from its flat image, under the TF-A in the directory `tfa`.
///
/// # Errors
/// As [`assemble`].
pub fn assemble_bridge(project: &Project, name: &str, tfa: &Path, op_tee: &Path, normal_world: &Path, memory: u32) -> Result<Assembled> {
    let dir = project.out().join(name);
    create_dir(&dir)?;
    let tfa = |name: &str| read(&tfa.join(name));
    let images = [(fip::BL2, tfa("bl2.bin")?), (fip::BL31, tfa("bl31.bin")?), (fip::BL32, read(op_tee)?), (fip::BL33, read(normal_world)?)];
    let flash = dir.join("flash.img");
    write_firmware(&flash, &tfa("bl1.bin")?, &fip::write(&images)?)?;
    Ok(Assembled { dir, flash, memory })
}

/// Memory that no partition may have: the same as the SPMC takes at boot.
const RESERVED: [Reserved; 3] = [
    Reserved { name: "TF-A's memory", range: mib(0x0e00_0000, 1), emulated: false },
    Reserved { name: "Bulkhead's memory", range: mib(0x0e10_0000, 1), emulated: false },
    Reserved { name: "the interrupt controller", range: mib(0x0800_0000, 16), emulated: true },
];

/// Private interrupts that no partition may have: as in spmc/src/platform.rs, which refuses them with the reason for each.
const INTERRUPTS: [(u32, &str); 7] = {
    let ours = "none of the CPU's own, which Bulkhead and the normal world have";
    [(20, ours), (23, ours), (25, ours), (26, ours), (27, ours), (28, ours), (30, ours)]
};

const fn mib(base: u64, count: u64) -> AddressRange {
    match AddressRange::new(base, count << 20) {
        Some(range) => range,
        None => panic!("it does not wrap"),
    }
}

/// Judges manifests, packages and the table of packages as the SPMC will.
fn judge(spmc: &[u8], load_table: &[u8], packages: &[(&Partition, Vec<u8>)]) -> Result<()> {
    let packages: Vec<PackageFile<'_>> =
        packages.iter().map(|(p, bytes)| PackageFile { load_address: p.load_address.into(), bytes }).collect();
    let mut problems = Vec::new();
    let files = SystemFiles { spmc, load_table, packages: &packages };
    lint(&files, &Platform { reserved: &RESERVED, interrupts: &INTERRUPTS, cores: 0 }, &mut |problem| problems.push(problem.to_string()));
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

/// Erases the variable store of `assembled`.
///
/// # Errors
/// When the flash image cannot be written.
pub fn forget_variables(assembled: &Assembled) -> Result<()> {
    let file = OpenOptions::new().write(true).open(&assembled.flash).with_context(|| format!("cannot open {}", assembled.flash.display()))?;
    erase_store(&file).with_context(|| format!("cannot erase the variable store in {}", assembled.flash.display()))
}

/// NOR flash is erased to ones.
fn erase_store(file: &fs::File) -> std::io::Result<()> {
    file.write_all_at(&vec![0xff; STORE_SIZE], STORE_OFFSET)
}

/// Puts firmware into a flash image, made with an erased store if it is not there yet.
fn write_firmware(flash: &Path, bl1: &[u8], fip: &[u8]) -> Result<()> {
    if bl1.len() as u64 > FIP_OFFSET {
        bail!("BL1 has {} bytes; the firmware image package begins at {FIP_OFFSET:#x}", bl1.len());
    }
    if FIP_OFFSET + fip.len() as u64 > STORE_OFFSET {
        bail!("the firmware image package has {} bytes and would reach the variable store at {STORE_OFFSET:#x}", fip.len());
    }
    let write = || -> std::io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(flash)?;
        if file.metadata()?.len() != FLASH_SIZE {
            file.set_len(0)?;
            file.set_len(FLASH_SIZE)?;
            erase_store(&file)?;
        }
        file.write_all_at(bl1, 0)?;
        file.write_all_at(&reset::code(), reset::OFFSET)?;
        file.write_all_at(fip, FIP_OFFSET)
    };
    write().with_context(|| format!("cannot write the flash image {}", flash.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// First bytes of a compiled device tree.
const DTB_MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Compiles the device tree source file `source` to `<dir>/<name>.dtb`; one that is compiled already is only copied. Sources
/// with preprocessor directives go through the preprocessor first.
///
/// # Errors
/// When the file cannot be read, or dtc refuses it.
pub fn compile(dir: &Path, name: &str, source: &Path) -> Result<Vec<u8>> {
    let blob = dir.join(format!("{name}.dtb"));
    let content = read(source)?;
    if content.starts_with(&DTB_MAGIC) {
        fs::write(&blob, &content).with_context(|| format!("cannot write {}", blob.display()))?;
        return Ok(content);
    }
    let beside = source.parent().unwrap_or(Path::new("."));
    let directive = |line: &[u8]| [b"#include".as_slice(), b"#define", b"#if"].iter().any(|d| line.trim_ascii_start().starts_with(d));
    let plain = if content.split(|byte| *byte == b'\n').any(directive) {
        let path = dir.join(format!("{name}.dts.i"));
        let mut preprocessor = Command::new("aarch64-linux-gnu-gcc");
        preprocessor.args(["-E", "-P", "-nostdinc", "-undef", "-D__DTS__", "-x", "assembler-with-cpp", "-I"]).arg(beside).arg(source).arg("-o").arg(&path);
        exec::output(&mut preprocessor).with_context(|| format!("cannot preprocess {}", source.display()))?;
        path
    } else {
        source.to_path_buf()
    };
    exec::output(Command::new("dtc").args(["-q", "-I", "dts", "-O", "dtb", "-i"]).arg(beside).arg("-o").arg(&blob).arg(plain))
        .with_context(|| format!("cannot compile {}", source.display()))?;
    read(&blob)
}

/// Compiles the SPMC's manifest for the system: its memory, and without the `vmN` nodes of partitions that it leaves out.
fn spmc_manifest(dir: &Path, system: &System) -> Result<Vec<u8>> {
    let source = &system.spmc_manifest;
    compile(dir, "spmc", source)?;
    let blob = dir.join("spmc.dtb");
    // A page beyond the machine's memory is nobody's to share: whoever touched it would get a bus error.
    let size = format!("{:x}", u64::from(system.memory) << 20);
    // Somebody else's manifest may describe it otherwise, and then rightly we hope.
    if exec::output(Command::new("fdtget").arg(&blob).args([NORMAL_WORLD_MEMORY, "reg"])).is_ok() {
        exec::output(Command::new("fdtput").args(["-t", "x"]).arg(&blob).args([NORMAL_WORLD_MEMORY, "reg", "0", "40000000", &size]))?;
    }
    if system.without.is_empty() {
        return read(&blob);
    }
    let nodes = exec::output(Command::new("fdtget").arg("-l").arg(&blob).arg("/hypervisor"))?;
    for name in &system.without {
        let named = |node: &&str| {
            exec::output(Command::new("fdtget").arg(&blob).arg(format!("/hypervisor/{node}")).arg("debug_name")).is_ok_and(|n| n.trim() == name)
        };
        let node = nodes.lines().find(named).with_context(|| format!("{} has no partition '{name}'", source.display()))?;
        exec::output(Command::new("fdtput").arg("-r").arg(&blob).arg(format!("/hypervisor/{node}")))?;
    }
    read(&blob)
}

fn compile_text(dir: &Path, name: &str, text: &str) -> Result<Vec<u8>> {
    let source = dir.join(format!("{name}.dts"));
    fs::write(&source, text).with_context(|| format!("cannot write {}", source.display()))?;
    compile(dir, name, &source)
}

/// TB_FW_CONFIG: which packages BL2 loads where.
fn load_table(partitions: &[Partition]) -> String {
    let mut text = "/dts-v1/;\n\n/ {\n\tcompatible = \"arm,tb_fw\";\n\n\tsecure-partitions {\n\t\tcompatible = \"arm,sp\";\n".to_owned();
    for partition in partitions {
        let _ = write!(
            text,
            "\n\t\t{} {{\n\t\t\tuuid = \"{}\";\n\t\t\tload-address = <{:#010x}>;\n\t\t}};\n",
            partition.name, partition.uuid, partition.load_address
        );
    }
    text + "\t};\n};\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_survives_new_firmware_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let flash = dir.path().join("flash.img");
        let at = |offset: u64| {
            let mut byte = [0];
            fs::File::open(&flash).unwrap().read_exact_at(&mut byte, offset).unwrap();
            byte[0]
        };
        write_firmware(&flash, b"1", b"old").unwrap();
        assert_eq!((fs::metadata(&flash).unwrap().len(), at(STORE_OFFSET), at(STORE_OFFSET + STORE_SIZE as u64)), (FLASH_SIZE, 0xff, 0));
        OpenOptions::new().write(true).open(&flash).unwrap().write_all_at(b"v", STORE_OFFSET).unwrap();
        write_firmware(&flash, b"1", b"new").unwrap();
        assert_eq!((at(FIP_OFFSET), at(STORE_OFFSET)), (b'n', b'v'));
        forget_variables(&Assembled { dir: dir.path().into(), flash: flash.clone(), memory: 1024 }).unwrap();
        assert_eq!((at(FIP_OFFSET), at(STORE_OFFSET)), (b'n', 0xff));
    }

    #[test]
    fn a_manifest_is_edited_in_a_copy_with_its_includes() {
        let dir = tempfile::tempdir().unwrap();
        let (included, original) = (dir.path().join("a.dts"), dir.path().join("b.dts"));
        fs::write(&included, "one\n").unwrap();
        fs::write(&original, "/include/ \"a.dts\"\ntwo\n").unwrap();
        let edits = [Edit { of: SPMC, from: "one", to: "1" }, Edit { of: "stmm", from: "two", to: "2" }];
        let mut source = original.clone();
        edit(dir.path(), SPMC, &mut source, &edits).unwrap();
        assert_eq!((fs::read_to_string(&source).unwrap().as_str(), fs::read_to_string(&included).unwrap().as_str()), ("1\ntwo\n", "one\n"));
        let error = edit(dir.path(), SPMC, &mut original.clone(), &[Edit { of: SPMC, from: "three", to: "" }]).unwrap_err();
        assert!(error.to_string().contains("should have 'three' once"), "{error}");
    }

    #[test]
    fn firmware_that_would_reach_the_store_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = write_firmware(&dir.path().join("flash.img"), b"1", &vec![0; STORE_OFFSET as usize]).unwrap_err();
        assert!(error.to_string().contains("variable store"), "{error}");
        let error = write_firmware(&dir.path().join("flash.img"), &vec![0; FIP_OFFSET as usize + 1], b"2").unwrap_err();
        assert!(error.to_string().contains("BL1"), "{error}");
    }

    #[test]
    fn the_load_table_names_each_package() {
        let partition = Partition {
            name: "stmm".into(),
            manifest: PathBuf::new(),
            image: PathBuf::new(),
            load_address: 0x0e20_0000,
            uuid: "378daedc-f06b-4446-8314-40ab933c87a3".into(),
            format: Format::Sptool,
        };
        let text = load_table(&[partition]);
        assert!(text.contains("stmm {\n\t\t\tuuid = \"378daedc-f06b-4446-8314-40ab933c87a3\";\n\t\t\tload-address = <0x0e200000>;"), "{text}");
    }
}
