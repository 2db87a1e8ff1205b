//! Somebody else's software on this machine: a payload for the normal world, partitions that come as image and manifest, perhaps
//! another SPMC. Everything that TF-A and the SPMC need to know of them is made from their manifests.
//!
//! | step | where |
//! |---|---|
//! | read `--sp IMAGE:MANIFEST[@LOAD_ADDRESS]` | [`argument`] |
//! | read what the manifest says, pack what is not packed | [`guest`] |
//! | where each partition's memory is | [`layout`] |
//! | the SPMC's manifest, when none is given | [`spmc_manifest`] |
//! | boot until a pattern, with resets | [`batch`] |

pub mod argument;
pub mod batch;
mod guest;
mod layout;
mod spmc_manifest;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::chain::{Chain, Changes, OPTEE, STMM, StmmImage};
use crate::cli::RunOptions;
use crate::machine::Machine;
use crate::package::Format;
use crate::progress::Progress;
use crate::project::{Project, create_dir};
use crate::system::{self, Assembled, Partition, System};
use crate::toolchain::{self, Profile};

use argument::SpArgument;
use guest::Guest;

/// Name of the system, and of its directory.
pub const SYSTEM: &str = "third-party";
/// Where TF-A loads and enters BL33.
const BL33: u64 = 0x6000_0000;

/// What is booted in place of parts of the chain.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// The partitions, in place of OP-TEE and StMM; empty to keep those.
    pub partitions: Vec<SpArgument>,
    /// What the normal world starts with, in place of UEFI and Linux.
    pub bl33: Option<PathBuf>,
    /// The SPMC, in place of Bulkhead.
    pub spmc: Option<PathBuf>,
    /// The SPMC's manifest, in place of one that is made from the partitions'.
    pub spmc_manifest: Option<PathBuf>,
}

impl Parts {
    /// The parts that the command line names.
    #[must_use]
    pub fn of(options: &RunOptions) -> Self {
        Self {
            partitions: options.sp.clone(),
            bl33: options.bl33.clone(),
            spmc: options.spmc.clone(),
            spmc_manifest: options.spmc_manifest.clone(),
        }
    }
}

/// Builds what is missing of the chain and assembles it with `parts` as system `name`.
///
/// # Errors
/// When a part cannot be built, read or packed, or the parts do not fit together; messages name the argument.
pub fn prepare(project: &Project, progress: &Progress, profile: Profile, changes: Changes, parts: &Parts, cpus: u32, name: &str) -> Result<(Chain, Assembled, Machine)> {
    let dir = project.out().join(name);
    create_dir(&dir)?;
    let mut changes = changes;
    if !parts.partitions.is_empty() {
        changes.without = vec![OPTEE.to_owned(), STMM.to_owned()];
    }
    if let Some(bl33) = &parts.bl33 {
        changes.normal_world = Some(toolchain::flat_file(&dir, "bl33", bl33, BL33).with_context(|| format!("--bl33 {}", bl33.display()))?);
    }
    let chain = Chain::build(project, progress, profile, changes)?;
    let mut system = chain.system(project, name, StmmImage::Plain)?;
    if let Some(spmc) = &parts.spmc {
        system.spmc = toolchain::flat_file(&dir, "spmc-image", spmc, crate::limits::BASE).with_context(|| format!("--spmc {}", spmc.display()))?;
        // Another SPMC has other rules.
        system.judged = false;
    }
    let guests = if parts.partitions.is_empty() { Vec::new() } else { replace_partitions(&mut system, parts, &dir, cpus)? };
    if let Some(manifest) = &parts.spmc_manifest {
        system::compile(&dir, "spmc", manifest).with_context(|| format!("--spmc-manifest {}", manifest.display()))?;
        system.spmc_manifest.clone_from(manifest);
        system.without.clear();
    }
    let assembled = system::assemble(project, &system).map_err(|error| {
        // The linter knows partitions by their names.
        let text = format!("{error:#}");
        let numbers = guest::numbers(&guests).unwrap_or_default();
        // Whose problem it is comes first; with whom, later.
        let at = |guest: &Guest, n: u8| text.find(&format!("partition vm{n} ({}): ", guest.name));
        match guests.iter().zip(numbers).filter_map(|(guest, n)| Some((at(guest, n)?, guest))).min_by_key(|(at, _)| *at).map(|(_, guest)| guest) {
            Some(guest) => error.context(guest.argument.to_string()),
            None => error,
        }
    })?;
    let machine = Machine { cpus, ..chain.machine(&assembled)? };
    Ok((chain, assembled, machine))
}

/// Puts the partitions of `parts` in place of the chain's.
fn replace_partitions(system: &mut System, parts: &Parts, dir: &Path, cpus: u32) -> Result<Vec<Guest>> {
    let mut guests = Vec::new();
    for argument in &parts.partitions {
        guests.push(Guest::read(argument, dir, guests.len() + 1).with_context(|| argument.to_string())?);
    }
    let places = layout::place(&guests)?;
    system.partitions.clear();
    for ((guest, place), key) in guests.iter().zip(&places).zip(guest::keys(&guests)?) {
        let package = guest.package(place.address).with_context(|| guest.argument.to_string())?;
        let path = dir.join(format!("{}.pkg", guest.file));
        fs::write(&path, &package).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}: {} bytes at {:#x} to {:#x}, UUID {}", guest.name, package.len(), place.address, place.address + place.size - 1, guest.uuid);
        system.partitions.push(Partition {
            name: guest.file.clone(),
            manifest: PathBuf::new(),
            image: path,
            load_address: u32::try_from(place.address)?,
            uuid: key,
            format: Format::Packed,
        });
    }
    if parts.spmc_manifest.is_none() {
        system.spmc_manifest = dir.join("spmc-generated.dts");
        let text = spmc_manifest::text(&guests, &places, cpus, system.memory)?;
        fs::write(&system.spmc_manifest, text).with_context(|| format!("cannot write {}", system.spmc_manifest.display()))?;
        println!("SPMC manifest made for them: {}", system.spmc_manifest.display());
    }
    system.without.clear();
    Ok(guests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bulkhead_manifests::{Package, SpmcManifest, Subject};

    /// A manifest with a UUID that ends in `n`, and further properties.
    fn manifest(n: u8, more: &str) -> String {
        format!(
            "/dts-v1/; / {{ compatible = \"arm,ffa-manifest-1.0\"; ffa-version = <0x10001>; uuid = <0x33221100 0x77665544 0xbbaa9988 {:#x}>;
             exception-level = <2>; execution-state = <0>; messaging-method = <3>; {more} }};",
            u32::from(n) << 24
        )
    }

    struct Files(tempfile::TempDir);

    impl Files {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, content: &[u8]) -> PathBuf {
            let path = self.0.path().join(name);
            fs::write(&path, content).unwrap();
            path
        }

        /// An argument for an image of `bytes` bytes and a manifest.
        fn sp(&self, n: u8, more: &str, bytes: usize, address: &str) -> SpArgument {
            let image = self.write(&format!("image{n}.bin"), &vec![n; bytes]);
            let source = self.write(&format!("manifest{n}.dts"), manifest(n, more).as_bytes());
            format!("{}:{}{address}", image.display(), source.display()).parse().unwrap()
        }

        fn read(&self, arguments: &[SpArgument]) -> Vec<Guest> {
            arguments.iter().enumerate().map(|(n, a)| Guest::read(a, self.0.path(), n + 1).unwrap()).collect()
        }
    }

    #[test]
    fn an_image_and_its_manifest_become_a_package_at_their_address() {
        let files = Files::new();
        let more = "execution-ctx-count = <4>; load-address = <0xe400000>; entrypoint-offset = <0x2008>; description = \"one\"; id = <0x8003>;";
        let guests = files.read(&[files.sp(1, more, 100, "@0xe300000")]);
        let places = layout::place(&guests).unwrap();
        assert_eq!(places, [layout::Place { address: 0x0e30_0000, size: 0xd0_0000 }]);
        assert_eq!((guests[0].uuid.as_str(), guests[0].number, guests[0].contexts), ("00112233-4455-6677-8899-aabb00000001", Some(3), 4));
        let package = guests[0].package(places[0].address).unwrap();
        let parts = Package::read(&package, Subject::Spmc).unwrap();
        assert_eq!((parts.image.offset, parts.image.of(&package)), (0x2000, [1; 100].as_slice()));
        let mut parsed = bulkhead_manifests::PartitionManifest::new();
        parsed.parse_into(parts.manifest.of(&package), Subject::Spmc).unwrap();
        assert_eq!(parsed.load_address, Some(0x0e30_0000), "the manifest is made to say what the command line says");
        let source = files.write("spmc.dts", spmc_manifest::text(&guests, &places, 4, 2048).unwrap().as_bytes());
        let mut spmc = SpmcManifest::new();
        spmc.parse_into(&system::compile(files.0.path(), "made", &source).unwrap()).unwrap();
        let vm = &spmc.partitions[0];
        assert_eq!((vm.number, vm.debug_name.as_str(), vm.load_address, vm.mem_size, vm.vcpu_count), (3, "one", 0x0e30_0000, 0xd0_0000, 4));
        assert_eq!(spmc.cpus.len(), 4);
    }

    #[test]
    fn a_package_is_used_as_it_is() {
        let files = Files::new();
        let guests = files.read(&[files.sp(7, "load-address = <0xe500000>; entrypoint-offset = <0x4000>;", 5000, "")]);
        let package = guests[0].package(0x0e50_0000).unwrap();
        let path = files.write("sp.pkg", &package);
        let again = files.read(&[path.display().to_string().parse().unwrap()]);
        assert_eq!((again[0].load_address, again[0].uuid == guests[0].uuid, again[0].package(0).unwrap() == package), (Some(0x0e50_0000), true, true));
        let other = files.sp(8, "", 1, "");
        let wrong = format!("{}:{}", path.display(), other.manifest.unwrap().display()).parse().unwrap();
        let error = Guest::read(&wrong, files.0.path(), 1).err().unwrap().to_string();
        assert!(error.contains("it is a package, whose own manifest has the UUID"), "{error}");
    }

    #[test]
    fn memory_reaches_to_the_next_partition_or_region_and_ids_fill_gaps() {
        let files = Files::new();
        let region = "memory-regions { compatible = \"arm,ffa-manifest-memory-regions\"; buffer { base-address = <0x0 0xe480000>; pages-count = <2>; attributes = <3>; };
                      ns { base-address = <0x0 0x50000000>; pages-count = <1>; attributes = <0xb>; }; };";
        let arguments = [
            files.sp(1, &format!("load-address = <0xe400000>; id = <1>; {region}"), 100, ""),
            files.sp(2, "mem-size = <0x80000>;", 100, "@0xe200000"),
            files.sp(3, "", 100, ""),
            files.sp(4, "", 100, "@0xe280000"),
        ];
        let guests = files.read(&arguments);
        let places = layout::place(&guests).unwrap();
        let shown: Vec<_> = places.iter().map(|p| (p.address, p.size)).collect();
        // The third fits behind the second's region-free memory only above the first partition's.
        assert_eq!(shown, [(0x0e40_0000, 0x10_0000), (0x0e20_0000, 0x8_0000), (0x0e50_0000, 0xb0_0000), (0x0e28_0000, 0x18_0000)]);
        assert_eq!(guest::numbers(&guests).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn what_does_not_fit_names_its_argument() {
        let files = Files::new();
        let place = |arguments: &[SpArgument]| layout::place(&files.read(arguments)).unwrap_err().to_string();
        let error = place(&[files.sp(1, "", 100, "@0x7000000")]);
        assert!(error.contains("image1.bin") && error.contains("0x7000000 is not in the secure RAM for partitions, 0xe200000 to 0xeffffff"), "{error}");
        let error = place(&[files.sp(1, "", 0x20_0000, "@0xe200000"), files.sp(2, "", 1, "@0xe300000")]);
        assert!(error.contains("image1.bin") && error.contains("at 0xe300000 something else begins"), "{error}");
        let error = Guest::read(&files.sp(3, "entrypoint-offset = <0x100>;", 1, ""), files.0.path(), 1).err().unwrap().to_string();
        assert!(error.contains("entrypoint-offset is 0x100"), "{error}");
        let image: SpArgument = files.write("alone.bin", b"image").display().to_string().parse().unwrap();
        let error = Guest::read(&image, files.0.path(), 1).err().unwrap().to_string();
        assert!(error.contains("--sp IMAGE:MANIFEST"), "{error}");
    }

    #[test]
    fn ids_and_uuids_that_several_have_go_to_the_first() {
        let files = Files::new();
        let mut arguments = vec![files.sp(0xff, "", 1, ""), files.sp(2, "id = <5>;", 1, ""), files.sp(3, "id = <0x8005>;", 1, ""), files.sp(4, "id = <1>;", 1, "")];
        arguments.push(arguments[0].clone());
        let guests = files.read(&arguments);
        assert_eq!(guest::numbers(&guests).unwrap(), [2, 5, 3, 1, 4]);
        let keys = guest::keys(&guests).unwrap();
        assert_eq!((keys[0].as_str(), keys[4].as_str()), ("00112233-4455-6677-8899-aabb000000ff", "00112233-4455-6677-8899-aabb00000100"));
        assert_eq!(keys[1], guests[1].uuid);
    }

    /// An ELF file with one segment of four bytes at `base`.
    fn elf(base: u64) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend([2u16, 183].map(u16::to_le_bytes).concat());
        file.extend(1u32.to_le_bytes());
        file.extend([0u64, 64, 0].map(u64::to_le_bytes).concat());
        file.extend(0u32.to_le_bytes());
        file.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
        file.extend([1u32, 7].map(u32::to_le_bytes).concat());
        file.extend([120, base, base, 4, 4, 1].map(u64::to_le_bytes).concat());
        file.extend(b"code");
        file
    }

    #[test]
    fn an_elf_file_runs_where_it_is_linked_or_anywhere() {
        let files = Files::new();
        let package = |base: u64, address: u64| {
            let mut argument = files.sp(1, "entrypoint-offset = <0x4000>;", 1, "");
            argument.image = files.write("image.elf", &elf(base));
            files.read(&[argument])[0].package(address).map(|package| package[0x4000..].to_vec())
        };
        assert_eq!(package(0x0e30_4000, 0x0e30_0000).unwrap(), b"code");
        assert_eq!(package(0, 0x0e30_0000).unwrap(), b"code");
        let error = package(0x0e30_0000, 0x0e30_0000).unwrap_err().to_string();
        assert!(error.contains("linked at 0xe300000, but will run at 0xe304000"), "{error}");
    }

    #[test]
    fn uuids_are_read_in_each_form() {
        let files = Files::new();
        let uuid = |root: &str| {
            let source = format!("/dts-v1/; / {{ compatible = \"arm,ffa-manifest-1.1\"; {root} }};");
            let manifest = files.write("form.dts", source.as_bytes());
            let image = files.write("form.bin", b"image");
            Guest::read(&format!("{}:{}", image.display(), manifest.display()).parse().unwrap(), files.0.path(), 1).map(|guest| guest.uuid)
        };
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        assert_eq!(uuid("uuid = <0x33221100 0x77665544 0xbbaa9988 0xffeeddcc 1 2 3 4>;").unwrap(), text);
        assert_eq!(uuid(&format!("uuid = \"{text}\", \"{}\";", text.replace('0', "f"))).unwrap(), text);
        let services = format!("services {{ compatible = \"arm,ffa-manifest-services\"; one {{ uuid = \"{text}\"; messaging-method = <3>; }}; }};");
        assert_eq!(uuid(&services).unwrap(), text);
        assert!(uuid("uuid = <1>;").is_err() && uuid("").is_err());
    }
}
