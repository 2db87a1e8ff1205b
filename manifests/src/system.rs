//! The checks over a whole system: whether all partitions, the SPMC and TF-A fit together.
//!
//! Who may have what twice:
//!
//! | range or number | two partitions | why |
//! |---|---|---|
//! | own memory, secure memory regions | never | isolation; memory is shared at run time, by FFA_MEM_SHARE |
//! | regions with `bulkhead,shared-with` | the two that name each other there, and give the same range | a buffer for a partition that does not retrieve memory |
//! | non-secure memory regions | yes | the normal world has them in any case, so nobody has them to himself |
//! | device regions | if neither says `exclusive-access` | an integrator may want one register page read by two |
//! | interrupts, stream ids | never | one owner is what they mean |
//! | UUIDs | yes | FF-A lets several partitions offer one service |
//! | boot orders | yes | those of the same one come in the order of their ids |
//!
//! Nothing of this overlaps what [`Platform::reserved`] lists. Where the SPMC manifest has no memory node of a kind
//! (Hafnium does not insist on those for devices and the normal world) a region of that kind has to keep clear of the
//! ranges of the other kinds.

use crate::error::{Complaint, Expected, Found, ManifestError, Name, NodePath, Refused, Subject};
use crate::package::Package;
use crate::partition::{DeviceRegion, ExceptionLevel, InterruptKind, MemoryRegion, PartitionManifest, RegionBase};
use crate::range::AddressRange;
use crate::spmc::{MemoryKind, SpmcManifest, VmNode};

/// Memory that no partition may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Whose it is, for messages.
    pub name: &'static str,
    /// Where it is.
    pub range: AddressRange,
    /// A partition at S-EL1 may name it as its device all the same: it finds an emulated one there.
    pub emulated: bool,
}

/// What the platform says about itself.
#[derive(Clone, Copy, Debug)]
pub struct Platform<'a> {
    /// TF-A's memory, the SPMC's, and whatever else is taken (the GIC's registers, say).
    pub reserved: &'a [Reserved],
    /// Interrupts that no partition may have, each with what is expected instead.
    pub interrupts: &'a [(u32, &'static str)],
    /// Cores; 0 where that is not known (then those of the SPMC manifest's `cpus` node count, if it has one).
    pub cores: u16,
}

/// A partition with all that was read about it.
#[derive(Clone, Copy, Debug)]
pub struct LoadedPartition<'a> {
    /// Its `vmN` node.
    pub vm: &'a VmNode,
    /// Its manifest.
    pub manifest: &'a PartitionManifest,
    /// Its package.
    pub package: Package,
}

/// Checks what the SPMC manifest says of memory, against itself and what is reserved. This comes before the packages are
/// looked at: until then nobody knows that they are not in the SPMC's own memory.
#[inline(never)]
pub fn check_spmc(spmc: &SpmcManifest, platform: &Platform<'_>) -> Result<(), ManifestError> {
    for (index, vm) in spmc.partitions.iter().enumerate() {
        let memory = vm.memory();
        let error = |expected| Err(ManifestError { subject: Subject::Spmc, path: vm.path(), property: "mem_size", found: Found::Range(memory), expected });
        clear_of_reserved(platform, &memory).or_else(error)?;
        inside(spmc, MemoryKind::Secure, &memory).or_else(error)?;
        if let Some(other) = spmc.partitions.iter().take(index).find(|other| other.memory().overlaps(&memory)) {
            return error(Expected::ClearOf(other.subject(), Name::EMPTY, other.memory()));
        }
    }
    for range in spmc.memory_of(MemoryKind::NonSecure) {
        if let Err(expected) = clear_of_reserved(platform, &range) {
            return Err(ManifestError { subject: Subject::Spmc, path: NodePath::ROOT, property: "ns-memory", found: Found::Range(range), expected });
        }
    }
    Ok(())
}

/// Checks the SPMC manifest by [`check_spmc`] and `partitions` by [`check_partition`], each one against those before it.
pub fn check_system(spmc: &SpmcManifest, partitions: &[LoadedPartition<'_>], platform: &Platform<'_>) -> Result<(), ManifestError> {
    check_spmc(spmc, platform)?;
    let mut accepted: &[LoadedPartition<'_>] = &[];
    for (index, candidate) in partitions.iter().enumerate() {
        check_partition(spmc, accepted, candidate, platform)?;
        accepted = partitions.get(..=index).unwrap_or(partitions);
    }
    Ok(())
}

/// Checks `candidate` on its own, against the platform's memory as `spmc` describes it and what is reserved, and against
/// those that are `accepted` already. A boot that keeps going without a partition adds them one by one.
#[inline(never)]
pub fn check_partition(
    spmc: &SpmcManifest,
    accepted: &[LoadedPartition<'_>],
    candidate: &LoadedPartition<'_>,
    platform: &Platform<'_>,
) -> Result<(), ManifestError> {
    let check = Check { spmc, accepted, it: *candidate, platform, complaint: Complaint::about(candidate.vm.subject()) };
    check.complaint.judge(check.all())
}

struct Check<'a> {
    spmc: &'a SpmcManifest,
    accepted: &'a [LoadedPartition<'a>],
    it: LoadedPartition<'a>,
    platform: &'a Platform<'a>,
    complaint: Complaint,
}

impl<'a> Check<'a> {
    fn all(&self) -> Result<(), Refused> {
        self.identity()?;
        self.image()?;
        self.execution_contexts()?;
        for (index, region) in self.it.manifest.memory_regions.iter().enumerate() {
            self.memory_region(index, region)?;
        }
        self.shared_memory()?;
        for (index, region) in self.it.manifest.device_regions.iter().enumerate() {
            self.device_region(index, region)?;
        }
        self.interrupts()?;
        self.streams()
    }

    fn identity(&self) -> Result<(), Refused> {
        let Some(auxiliary) = self.it.manifest.auxiliary_id else { return Ok(()) };
        match self.spmc.partitions.iter().find(|vm| vm.id() == auxiliary) {
            Some(vm) => Err(self.error(NodePath::ROOT, "auxiliary-id", Found::Hex(auxiliary.0.into()), Expected::UniqueAmong(vm.subject(), Name::EMPTY))),
            None => Ok(()),
        }
    }

    /// The package, and what the partition's manifest says of where it lies.
    fn image(&self) -> Result<(), Refused> {
        let LoadedPartition { vm, manifest, package } = self.it;
        if let Some(size) = manifest.mem_size
            && size > vm.mem_size
        {
            return Err(self.error(NodePath::ROOT, "mem-size", Found::Hex(size), Expected::HexAtMost(vm.mem_size, "mem_size of its vmN node")));
        }
        if package.size as u64 > vm.mem_size {
            return Err(self.error(NodePath::package(), "size", Found::Hex(package.size as u64), Expected::HexAtMost(vm.mem_size, "mem_size of its vmN node")));
        }
        let entry = manifest.entrypoint_offset.unwrap_or(package.image.offset as u64);
        if entry < package.image.offset as u64 || entry >= package.image.end() as u64 {
            let image = AddressRange::new(package.image.offset as u64, package.image.size as u64).unwrap_or_default();
            return Err(self.error(NodePath::ROOT, "entrypoint-offset", Found::Hex(entry), Expected::PointInside(image, "the image in the package")));
        }
        Ok(())
    }

    /// A partition of several vCPUs has one for each core; its manifest may allow for more.
    fn execution_contexts(&self) -> Result<(), Refused> {
        let (vcpus, contexts) = (self.it.vm.vcpu_count, self.it.manifest.execution_contexts);
        if vcpus > contexts {
            return Err(self.vm_error("vcpu_count", Found::Number(vcpus.into()), Expected::AtMost(contexts.into(), "(execution-ctx-count of its manifest)")));
        }
        let cores = if self.platform.cores != 0 { self.platform.cores } else { self.spmc.cpus.len() as u16 };
        if contexts > 1 && contexts < cores {
            return Err(self.error(NodePath::ROOT, "execution-ctx-count", Found::Number(contexts.into()), Expected::AtLeast(cores.into(), "(the cores), or exactly 1")));
        }
        if contexts > 1 && vcpus < cores {
            return Err(self.vm_error("vcpu_count", Found::Number(vcpus.into()), Expected::AtLeast(cores.into(), "(the cores), as execution-ctx-count is not 1")));
        }
        Ok(())
    }

    fn memory_region(&self, index: usize, region: &MemoryRegion) -> Result<(), Refused> {
        let path = region_path("memory-regions", region.name);
        if region.base == RegionBase::Unplaced {
            let expected = if region.attributes.non_secure() {
                Expected::Text("base-address: the normal world's memory is not Bulkhead's to choose from")
            } else {
                Expected::AtLeast(region.size, "free bytes behind the package in mem_size of its vmN node, or base-address")
            };
            return Err(self.error(path, "base-address", Found::Missing, expected));
        }
        let load_address = self.it.vm.load_address;
        let property = match region.base {
            RegionBase::LoadRelative(_) => "load-address-relative-offset",
            _ => "base-address",
        };
        let Some(range) = region.range(load_address) else {
            return Err(self.error(path, property, Found::Hex(region.size), Expected::Text("an end inside 64 bits of address")));
        };
        let error = |expected| Err(self.error(path, property, Found::Range(range), expected));
        clear_of_reserved(self.platform, &range).or_else(error)?;
        let kind = if region.attributes.non_secure() { MemoryKind::NonSecure } else { MemoryKind::Secure };
        inside(self.spmc, kind, &range).or_else(error)?;
        let package = AddressRange::new(load_address, self.it.package.size as u64).unwrap_or_default();
        // The image's own sections are given by their offsets; a range for data that the image has grown into is a mistake.
        let section = matches!(region.base, RegionBase::LoadRelative(_)) || !region.attributes.writable();
        if package.overlaps(&range) && !section {
            return error(Expected::ClearOfReserved("the partition's own package", package));
        }
        for before in self.it.manifest.memory_regions.iter().take(index) {
            if let Some(other) = before.range(load_address).filter(|other| other.overlaps(&range)) {
                return error(Expected::ClearOf(self.it.vm.subject(), before.name, other));
            }
        }
        if region.attributes.non_secure() {
            return Ok(());
        }
        // Also the memory of partitions that are yet to come: theirs by the SPMC manifest. The one that a region is shared with has
        // to agree when it comes.
        for vm in self.spmc.partitions.iter().filter(|vm| vm.number != self.it.vm.number) {
            let shared = region.shared_with == Some(vm.id()) && vm.memory().contains(&range);
            if vm.memory().overlaps(&range) && !shared {
                return error(Expected::ClearOf(vm.subject(), Name::EMPTY, vm.memory()));
            }
        }
        for other in self.accepted {
            let shared = |theirs: &MemoryRegion, their_range| {
                their_range == range && region.shared_with == Some(other.vm.id()) && theirs.shared_with == Some(self.it.vm.id())
            };
            if let Some((theirs, their_range)) = secure_regions(other).find(|(r, theirs)| theirs.overlaps(&range) && !shared(r, *theirs)) {
                return error(Expected::ClearOf(other.vm.subject(), theirs.name, their_range));
            }
        }
        Ok(())
    }

    /// Regions of those that were accepted, in this partition's memory: it has to share them, too.
    fn shared_memory(&self) -> Result<(), Refused> {
        let memory = self.it.vm.memory();
        for other in self.accepted {
            let mut theirs = secure_regions(other).filter(|(_, range)| range.overlaps(&memory));
            if let Some((region, range)) = theirs.find(|(_, range)| !secure_regions(&self.it).any(|(_, own)| own == *range)) {
                let (subject, path) = (other.vm.subject(), region_path("memory-regions", region.name));
                let expected = Expected::Text("the same range in the other partition's manifest, shared with this one");
                return Err(self.complaint.note_about(subject, path, "bulkhead,shared-with", Found::Range(range), expected));
            }
        }
        Ok(())
    }

    fn device_region(&self, index: usize, region: &DeviceRegion) -> Result<(), Refused> {
        let path = region_path("device-regions", region.name);
        let error = |expected| Err(self.error(path, "base-address", Found::Range(region.range), expected));
        let emulated = self.platform.reserved.iter().any(|reserved| reserved.emulated && reserved.range.contains(&region.range));
        if emulated && self.it.manifest.exception_level == ExceptionLevel::SEl1 {
            return Ok(());
        }
        clear_of_reserved(self.platform, &region.range).or_else(error)?;
        let kind = if region.attributes.non_secure() { MemoryKind::NonSecureDevice } else { MemoryKind::SecureDevice };
        inside(self.spmc, kind, &region.range).or_else(error)?;
        if let Some(before) = self.it.manifest.device_regions.iter().take(index).find(|before| before.range.overlaps(&region.range)) {
            return error(Expected::ClearOf(self.it.vm.subject(), before.name, before.range));
        }
        for other in self.accepted {
            let taken = |theirs: &&DeviceRegion| theirs.range.overlaps(&region.range) && (theirs.exclusive || region.exclusive);
            if let Some(theirs) = other.manifest.device_regions.iter().find(taken) {
                return error(Expected::ClearOfExclusive(other.vm.subject(), theirs.name, theirs.range));
            }
        }
        Ok(())
    }

    fn interrupts(&self) -> Result<(), Refused> {
        for interrupt in &self.it.manifest.interrupts {
            let path = self.device_path(interrupt.device);
            let refuse = |text| Err(self.error(path, "interrupts", Found::Number(interrupt.id.into()), Expected::Text(text)));
            if interrupt.kind == InterruptKind::Sgi {
                return refuse("a PPI or an SPI: no device raises an SGI, and the normal world's cores send them to each other");
            }
            if let Some((_, expected)) = self.platform.interrupts.iter().find(|(id, _)| *id == interrupt.id) {
                return refuse(expected);
            }
            for other in self.accepted {
                if let Some(theirs) = other.manifest.interrupts.iter().find(|theirs| theirs.id == interrupt.id) {
                    let expected = Expected::UniqueAmong(other.vm.subject(), device_name(other.manifest, theirs.device));
                    return Err(self.error(path, "interrupts", Found::Number(interrupt.id.into()), expected));
                }
            }
            if let Some(target) = interrupt.target
                && !self.spmc.cpus.is_empty()
                && !self.spmc.cpus.contains(&target)
            {
                let expected = Expected::Text("the MPIDR of a core in the SPMC manifest's cpus node");
                return Err(self.error(path, "interrupts-target", Found::Hex(target), expected));
            }
        }
        Ok(())
    }

    fn streams(&self) -> Result<(), Refused> {
        for stream in &self.it.manifest.device_streams {
            for other in self.accepted {
                if let Some(theirs) = other.manifest.device_streams.iter().find(|theirs| theirs.id == stream.id && theirs.smmu == stream.smmu) {
                    let expected = Expected::UniqueAmong(other.vm.subject(), device_name(other.manifest, theirs.region));
                    return Err(self.error(self.device_path(stream.region), "stream-ids", Found::Number(stream.id.into()), expected));
                }
            }
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn error(&self, path: NodePath, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.complaint.note(path, property, found, expected)
    }

    /// About the `vmN` node, which stands in the SPMC's manifest.
    #[cold]
    #[inline(never)]
    fn vm_error(&self, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.complaint.note_about(Subject::Spmc, self.it.vm.path(), property, found, expected)
    }

    fn device_path(&self, device: u8) -> NodePath {
        region_path("device-regions", device_name(self.it.manifest, device))
    }
}

/// What is expected of a range that overlaps a reserved one.
fn clear_of_reserved(platform: &Platform<'_>, range: &AddressRange) -> Result<(), Expected> {
    match platform.reserved.iter().find(|reserved| reserved.range.overlaps(range)) {
        Some(reserved) => Err(Expected::ClearOfReserved(reserved.name, reserved.range)),
        None => Ok(()),
    }
}

/// Whether `range` lies in one of the platform's ranges of this kind; what is expected where it does not.
fn inside(spmc: &SpmcManifest, kind: MemoryKind, range: &AddressRange) -> Result<(), Expected> {
    let mut ranges = spmc.memory_of(kind);
    let Some(first) = ranges.next() else {
        return match spmc.memory.iter().find(|other| other.range.overlaps(range)) {
            Some(other) => Err(Expected::ClearOf(Subject::Spmc, other.kind.name(), other.range)),
            None => Ok(()),
        };
    };
    if first.contains(range) || ranges.any(|other| other.contains(range)) {
        return Ok(());
    }
    // The range that it sticks out of, or the first one.
    let near = spmc.memory_of(kind).find(|other| other.overlaps(range)).unwrap_or(first);
    Err(Expected::Inside(near, kind.description()))
}

/// The secure memory regions of a partition, inside its own memory and outside.
fn secure_regions<'a>(partition: &LoadedPartition<'a>) -> impl Iterator<Item = (&'a MemoryRegion, AddressRange)> + use<'a> {
    let LoadedPartition { vm, manifest, .. } = *partition;
    manifest.memory_regions.iter().filter(|region| !region.attributes.non_secure()).filter_map(|region| Some((region, region.range(vm.load_address)?)))
}

fn region_path(parent: &str, name: Name) -> NodePath {
    NodePath::ROOT.child(parent).child(name.as_str())
}

fn device_name(manifest: &PartitionManifest, device: u8) -> Name {
    manifest.device_regions.get(usize::from(device)).map_or(Name::EMPTY, |region| region.name)
}
