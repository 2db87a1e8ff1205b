//! The host's linter: judges everything that goes into a flash image, before anything boots.
//!
//! It runs the very checks that the SPMC runs at boot, and those that are the host's alone: BL2's table of packages.

use crate::error::{Expected, Found, ManifestError, NodePath};
use crate::load_table::{LoadTable, check_load_table};
use crate::package::Package;
use crate::partition::PartitionManifest;
use crate::spmc::{MAX_PARTITIONS, SpmcManifest};
use crate::system::{LoadedPartition, Platform, check_partition, check_spmc};
use arrayvec::ArrayVec;

/// A partition package, and where BL2 will put it.
#[derive(Clone, Copy, Debug)]
pub struct PackageFile<'a> {
    /// Its load address.
    pub load_address: u64,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// What a flash image is made of, as far as manifests go.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles<'a> {
    /// The SPMC manifest (TOS_FW_CONFIG), compiled.
    pub spmc: &'a [u8],
    /// BL2's table (TB_FW_CONFIG), compiled.
    pub load_table: &'a [u8],
    /// The packages.
    pub packages: &'a [PackageFile<'a>],
}

/// Hands each problem to `report`: of each manifest and package the first, and where they are whole, of each partition's
/// place in the system and of BL2's table.
pub fn lint(files: &SystemFiles<'_>, platform: &Platform<'_>, report: &mut dyn FnMut(&ManifestError)) {
    let mut spmc = SpmcManifest::new();
    let table = LoadTable::read(files.load_table);
    if let Err(error) = &table {
        report(error);
    }
    if let Err(error) = spmc.parse_into(files.spmc) {
        return report(&error);
    }
    if let Err(error) = check_spmc(&spmc, platform) {
        report(&error);
    }
    let mut read = ArrayVec::<_, MAX_PARTITIONS>::new();
    for vm in &spmc.partitions {
        let mut manifest = PartitionManifest::new();
        let package = files.packages.iter().find(|file| file.load_address == vm.load_address).ok_or_else(|| ManifestError {
            subject: vm.subject(),
            path: NodePath::package(),
            property: "",
            found: Found::Missing,
            expected: Expected::HexExactly(vm.load_address, "load_address of its vmN node: a package that BL2 puts there"),
        });
        let package = package.and_then(|file| {
            let package = Package::read(file.bytes, vm.subject())?;
            manifest.parse_into(package.manifest.of(file.bytes), vm.subject())?;
            // What has no place stays without one, which the checks then say.
            let _ = manifest.place_regions(vm.memory(), package.size as u64);
            Ok(package)
        });
        match package {
            Ok(package) => read.push((vm, manifest, package)),
            Err(error) => report(&error),
        }
    }
    let all: ArrayVec<_, MAX_PARTITIONS> = read.iter().map(|(vm, manifest, package)| LoadedPartition { vm, manifest, package: *package }).collect();
    let mut accepted = ArrayVec::<LoadedPartition<'_>, MAX_PARTITIONS>::new();
    for candidate in &all {
        match check_partition(&spmc, &accepted, candidate, platform) {
            Ok(()) => accepted.push(*candidate),
            Err(error) => report(&error),
        }
    }
    // A table that misses a partition whose manifest is broken would be reported for no fault of its own.
    if let Ok(table) = table
        && all.len() == spmc.partitions.len()
        && let Err(error) = check_load_table(&table, &all)
    {
        report(&error);
    }
}
