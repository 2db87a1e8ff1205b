//! Linux in the normal world: Debian's arm64 kernel, a small userland with xtest, our loader and guest scripts, on a disk
//! image from which UEFI boots.
//!
//! Five recipes, so that a changed script costs seconds: kernel and modules, userland, client, loader, and the disk that has them
//! all. The disk is a FAT volume with `EFI/BOOT/BOOTAA64.EFI` (our loader, see `partitions/linux/loader`), which starts
//! `linux.efi` (the kernel as an EFI program) with the command line in `cmdline.txt`; the kernel's EFI stub loads `initrd.img`.

mod cpio;
mod disk;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::edk2::{self, Uefi};
use crate::build::keys::{self, Keys};
use crate::build::optee::{self, Optee};
use crate::build::second_optee::{self, SecondOptee};
use crate::exec;
use crate::fetch::{DebSet, Pick};
use crate::recipe::{Job, Recipe, Source};
use crate::toolchain::{self, Crate};

const GUEST: &str = "partitions/linux/guest";
const LOADER: &str = "partitions/linux/loader";
const CLIENT: &str = "partitions/linux/client";
/// The commands that clients, TAs and pseudo TAs have in common.
const TA_INTERFACES: [&str; 3] = ["partitions/optee/include", "partitions/optee/overreach", "partitions/second-os/include"];
/// Our clients: one source file each.
const CLIENTS: [&str; 3] = ["ta-variables", "neighbours", "op-tee-load"];
/// The modules that the guest loads, one a line, dependencies first.
const MODULES: &str = "partitions/linux/guest/modules.order";

/// Where TAs lie in the userland, xtest's among them.
pub const TAS: &str = "root/usr/lib/optee_armtz";
/// Where the second OP-TEE's tee-supplicant looks for TAs (`partitions/linux/guest/init`).
const SECOND_TAS: &str = "usr/lib/second-os";
/// Of xtest's TAs, those that the second OP-TEE gets: for cryptography and storage.
const SECOND_XTEST_TAS: [&str; 3] =
    ["cb3e5ba0-adf1-11e0-998b-0002a5d5c51b", "b689f2a7-8adf-477a-9f99-32e90c0ad0a2", "731e279e-aafb-4575-a771-38caa6f0cca6"];

/// The kernel's command line. Its own messages would take a second of boot time each few hundred lines: warnings only.
const COMMAND_LINE: &str = "initrd=\\initrd.img console=ttyAMA0 loglevel=5 rdinit=/bulkhead/init\n";

/// For UEFI's shell, which is first in the boot order after a boot with U-Boot: each of the two firmwares takes the boot options that the other
/// one has made by itself for stale ones of its own, and removes them.
const STARTUP: &[u8] = b"FS0:\\EFI\\BOOT\\BOOTAA64.EFI\r\n";

/// This file and its submodules: what the cache keys are made of.
const TEXT: &str = concat!(include_str!("linux.rs"), include_str!("linux/cpio.rs"), include_str!("linux/disk.rs"));

/// The Linux recipes.
#[must_use]
pub fn all() -> Vec<Box<dyn Recipe>> {
    vec![Box::new(Kernel), Box::new(Userland), Box::new(Client), Box::new(Loader), Box::new(Linux)]
}

/// The newest kernel of sid with its modules; ARM_FFA_TRANSPORT is what older suites lack.
pub struct Kernel;

impl Recipe for Kernel {
    fn name(&self) -> String {
        "linux-kernel".into()
    }

    fn summary(&self) -> String {
        "Debian's arm64 kernel with FF-A and OP-TEE drivers".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        let kernel = Pick::Newest { pattern: r"linux-binary-(\d+(?:\.\d+)+[^-]*)-arm64", companions: &["linux-modules-$1-arm64"] };
        vec![Source::Debs(DebSet { name: "linux-kernel", suite: "sid", picks: vec![kernel] })]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![MODULES.into()]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["linux.efi", "modules/order"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let root = job.work().join("root");
        for deb in job.debs() {
            job.unpack_deb(deb, &root)?;
        }
        let found = find(&root.join("usr/lib/modules"), "vmlinuz")?.context("the kernel's package has no vmlinuz")?;
        let kernel = read(&found)?;
        // An uncompressed Image with an EFI stub is a PE program (MZ) and has the boot protocol's magic at 56.
        if !kernel.starts_with(b"MZ") || kernel.get(56..60) != Some(b"ARM\x64".as_slice()) {
            bail!("{} is not an uncompressed arm64 Image with an EFI stub", found.display());
        }
        write(&job.out().join("linux.efi"), &kernel)?;
        let modules = job.out().join("modules");
        make_dir(&modules)?;
        let order = fs::read_to_string(job.repo(MODULES)).with_context(|| format!("cannot read {MODULES}"))?;
        for module in order.lines() {
            let packed = find(&root.join("usr/lib/modules"), &format!("{module}.ko.xz"))?;
            let packed = packed.with_context(|| format!("the kernel {} has no module {module}", job.debs()[0].version))?;
            let plain = modules.join(format!("{module}.ko"));
            let script = r#"xz -dc "$1" >"$2""#;
            job.run("unpacking modules", Command::new("sh").args(["-c", script, "unpack"]).arg(&packed).arg(&plain))?;
        }
        write(&modules.join("order"), order.as_bytes())
    }
}

/// What runs in Linux: busybox, OP-TEE's client side with its tests, tools for UEFI variables.
pub struct Userland;

/// Parts of the packages that the guest needs; documentation, locales and character sets stay out.
const USERLAND_PARTS: [&str; 4] = ["usr/bin", "usr/sbin", "usr/lib/optee_armtz", "usr/lib/tee-supplicant"];

impl Recipe for Userland {
    fn name(&self) -> String {
        "linux-userland".into()
    }

    fn summary(&self) -> String {
        "busybox, xtest, tee-supplicant and efivar of Debian".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        // All from sid, to match its C library.
        let names = [
            "busybox-static",
            "libc6",
            "libgcc-s1",
            "zlib1g",
            "libssl3t64",
            "libzstd1",
            "libteec2",
            "libckteec0t64",
            "tee-supplicant",
            "optee-test-qemu",
            "efivar",
            "libefivar1t64",
            "libefiboot1t64",
            "libefisec1t64",
        ];
        vec![Source::Debs(DebSet { name: "linux-userland", suite: "sid", picks: names.into_iter().map(Pick::Name).collect() })]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["root/usr/bin/busybox", "root/usr/bin/xtest", "root/usr/sbin/tee-supplicant", "root/usr/lib/ld-linux-aarch64.so.1"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let packages = job.work().join("packages");
        for deb in job.debs() {
            job.unpack_deb(deb, &packages)?;
        }
        let root = job.out().join("root");
        for part in USERLAND_PARTS {
            copy_tree(&packages.join(part), &root.join(part))?;
        }
        // Libraries lie flat in these directories; what is below (character sets, engines) nobody loads here.
        for part in ["usr/lib", "usr/lib/aarch64-linux-gnu"] {
            copy_files(&packages.join(part), &root.join(part))?;
        }
        Ok(())
    }
}

/// Ours: `ta-variables`, the client of the TA for UEFI variables, and `neighbours`, that of two OP-TEEs.
pub struct Client;

impl Recipe for Client {
    fn name(&self) -> String {
        "linux-client".into()
    }

    fn summary(&self) -> String {
        "our clients of TAs".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn sources(&self) -> Vec<Source> {
        vec![Source::Debs(DebSet { name: "linux-client", suite: "sid", picks: vec![Pick::Name("optee-client-dev")] })]
    }

    fn inputs(&self) -> Vec<PathBuf> {
        [CLIENT].iter().chain(&TA_INTERFACES).map(PathBuf::from).collect()
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Userland)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        CLIENTS.to_vec()
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let headers = job.work().join("headers");
        for deb in job.debs() {
            job.unpack_deb(deb, &headers)?;
        }
        let library = job.artifact("linux-userland")?.join("root/usr/lib/aarch64-linux-gnu/libteec.so.2");
        for client in CLIENTS {
            let mut compiler = Command::new("aarch64-linux-gnu-gcc");
            compiler.args(["-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(job.out().join(client)).arg(job.repo(CLIENT).join(format!("{client}.c")));
            for interface in TA_INTERFACES {
                compiler.arg("-I").arg(job.repo(interface));
            }
            compiler.arg("-I").arg(headers.join("usr/include"));
            // The C library that the guest has is newer than the one that this is compiled with.
            job.run("compiling", compiler.arg("-Wl,--allow-shlib-undefined").arg(&library))?;
        }
        Ok(())
    }
}

/// `EFI/BOOT/BOOTAA64.EFI`, ours.
pub struct Loader;

impl Recipe for Loader {
    fn name(&self) -> String {
        "linux-loader".into()
    }

    fn summary(&self) -> String {
        "our UEFI loader with the boot-time steps".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![LOADER.into(), "Cargo.toml".into()]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["loader.efi"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        let one = Crate { package: "bulkhead-loader", binary: "bulkhead-loader", features: &[], flags: &[] };
        let mut command = toolchain::uefi_command(job.project, &job.work().join("target"), &one)?;
        job.task.stage("compiling for UEFI");
        exec::run_logged(&mut command, &job.log, job.task).context("linux-loader: compiling for UEFI")?;
        let built = job.work().join("target").join(toolchain::UEFI_TARGET).join("release/bulkhead-loader.efi");
        write(&job.out().join("loader.efi"), &read(&built)?)
    }
}

/// The disk.
pub struct Linux;

impl Recipe for Linux {
    fn name(&self) -> String {
        "linux".into()
    }

    fn summary(&self) -> String {
        "the disk: loader, kernel, initramfs with our scripts".into()
    }

    fn text(&self) -> &'static str {
        TEXT
    }

    fn inputs(&self) -> Vec<PathBuf> {
        vec![GUEST.into()]
    }

    fn needs(&self) -> Vec<Box<dyn Recipe>> {
        vec![Box::new(Kernel), Box::new(Userland), Box::new(Client), Box::new(Loader), Box::new(Keys), Box::new(Optee), Box::new(SecondOptee), Box::new(Uefi)]
    }

    fn outputs(&self) -> Vec<&'static str> {
        vec!["disk.img"]
    }

    fn build(&self, job: &Job<'_>) -> Result<()> {
        job.task.stage("writing the initramfs");
        let initrd = initramfs(job)?;
        job.task.stage("writing the disk");
        let kernel = job.artifact("linux-kernel")?.join("linux.efi");
        let loader = job.artifact("linux-loader")?.join("loader.efi");
        let (kernel, signed_loader) = (signed(job, "db", &kernel)?, signed(job, "db", &loader)?);
        let (unsigned_loader, rogue_loader) = (read(&loader)?, signed(job, "rogue", &loader)?);
        let optee_list = signed(job, "db", &job.artifact("uefi")?.join(edk2::OPTEE_LIST))?;
        let mut files: Vec<(&str, &[u8])> = vec![
            ("EFI/BOOT/BOOTAA64.EFI", &signed_loader),
            ("linux.efi", &kernel),
            ("initrd.img", &initrd),
            ("cmdline.txt", COMMAND_LINE.as_bytes()),
            ("startup.nsh", STARTUP),
            ("optee-list.efi", &optee_list),
            // Copies of the loader that show what secure boot takes and what it refuses (loader/src/secure_boot.rs).
            ("hello-signed.efi", &signed_loader),
            ("hello-unsigned.efi", &unsigned_loader),
            ("hello-rogue.efi", &rogue_loader),
        ];
        // Enrolled by U-Boot's user.
        let keys = keys::UPDATE_FILES.into_iter().map(|key| Ok((key, read(&job.artifact(keys::NAME)?.join(key))?)));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        files.extend(keys.iter().map(|(key, update)| (*key, update.as_slice())));
        let image = disk::write(&files).context("cannot make the disk's file system")?;
        write(&job.out().join("disk.img"), &image)
    }
}

/// The initramfs, not compressed: UEFI reads it faster than an emulated core unpacks it.
fn initramfs(job: &Job<'_>) -> Result<Vec<u8>> {
    let mut archive = cpio::Archive::default();
    for (link, target) in [("bin", "usr/bin"), ("sbin", "usr/sbin"), ("lib", "usr/lib"), ("init", "bulkhead/init")] {
        archive.link(link, target);
    }
    for mount_point in ["dev", "proc", "root", "sys", "tmp", "var", "etc"] {
        archive.dir(mount_point);
    }
    archive.link("etc/profile", "/bulkhead/profile");
    archive.tree("", &job.artifact("linux-userland")?.join("root"))?;
    archive.tree("usr/lib/modules", &job.artifact("linux-kernel")?.join("modules"))?;
    for client in CLIENTS {
        archive.file(&format!("usr/bin/{client}"), 0o755, &read(&job.artifact("linux-client")?.join(client))?);
    }
    archive.file(&format!("usr/lib/optee_armtz/{}", optee::VARIABLES_TA), 0o644, &read(&job.artifact("optee")?.join(optee::VARIABLES_TA))?);
    // TAs have a directory for each OP-TEE; this one is in both.
    let notes = read(&job.artifact("second-optee")?.join(second_optee::NOTES_TA))?;
    archive.dir(SECOND_TAS);
    for dir in ["usr/lib/optee_armtz", SECOND_TAS] {
        archive.file(&format!("{dir}/{}", second_optee::NOTES_TA), 0o644, &notes);
    }
    for ta in SECOND_XTEST_TAS {
        archive.link(&format!("{SECOND_TAS}/{ta}.ta"), &format!("/usr/lib/optee_armtz/{ta}.ta"));
    }
    archive.tree("bulkhead", &job.repo(GUEST))?;
    archive.dir("bulkhead/keys");
    for update in keys::UPDATE_FILES {
        archive.file(&format!("bulkhead/keys/{update}"), 0o644, &read(&job.artifact(keys::NAME)?.join(update))?);
    }
    Ok(archive.finish())
}

/// An EFI program signed for secure boot with one of the demonstration's keys.
fn signed(job: &Job<'_>, key: &str, program: &Path) -> Result<Vec<u8>> {
    let keys = job.artifact(keys::NAME)?;
    let output = job.work().join("signed.efi");
    let mut command = Command::new("sbsign");
    command.arg("--key").arg(keys.join(format!("{key}.key"))).arg("--cert").arg(keys.join(format!("{key}.crt")));
    job.run("signing", command.arg("--output").arg(&output).arg(program))?;
    read(&output)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn make_dir(dir: &Path) -> Result<()> {
    crate::project::create_dir(dir)
}

/// The entries of a directory, sorted by name: the same inputs make the same image.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let list = || -> std::io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect() };
    let mut paths = list().with_context(|| format!("cannot list {}", dir.display()))?;
    paths.sort();
    Ok(paths)
}

/// The file called `name` somewhere below `dir`.
fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for path in entries(dir)? {
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|n| n == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Copies the files and links of one directory, not its subdirectories.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    make_dir(to)?;
    for path in entries(from)? {
        let Some(name) = path.file_name() else { continue };
        let target = to.join(name);
        if path.is_symlink() {
            let link = fs::read_link(&path).with_context(|| format!("cannot read {}", path.display()))?;
            std::os::unix::fs::symlink(link, &target).with_context(|| format!("cannot make the link {}", target.display()))?;
        } else if path.is_file() {
            fs::copy(&path, &target).with_context(|| format!("cannot copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    copy_files(from, to)?;
    for path in entries(from)? {
        if let (true, Some(name)) = (path.is_dir() && !path.is_symlink(), path.file_name()) {
            copy_tree(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Permission bits of a file.
fn mode(path: &Path) -> Result<u32> {
    Ok(fs::symlink_metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.permissions().mode() & 0o7777)
}
