//! What the manifests said, kept for as long as the system runs: names, memory, and who has what, for reports.

use crate::{console, platform};
use arrayvec::ArrayVec;
use bulkhead_core::fault::Fault;
use bulkhead_core::{Address, MAX_PARTITIONS, Spmc, VcpuId};
use bulkhead_manifests::spmc::MemoryKind;
use bulkhead_manifests::{AddressRange, Name, SpmcManifest};
use spin::{Mutex, Once};

/// The core logic's state.
pub static SPMC: Spmc = Spmc::new();
/// The SPMC's own manifest, as parsed.
pub static MANIFEST: Mutex<SpmcManifest> = Mutex::new(SpmcManifest::new());
/// What never changes after boot.
pub static FACTS: Once<Facts> = Once::new();

/// What never changes after boot.
pub struct Facts {
    /// The partitions, by index.
    pub partitions: ArrayVec<PartitionFacts, MAX_PARTITIONS>,
    /// Secure RAM of partitions: the memory of each, and the regions that their manifests give them elsewhere.
    pub secure: ArrayVec<AddressRange, MAX_SECURE_RANGES>,
    /// RAM of the normal world, which it may share.
    pub normal_world: ArrayVec<AddressRange, MAX_PARTITIONS>,
    /// Regions of all partitions, for reports.
    pub regions: ArrayVec<RegionFacts, MAX_REGIONS>,
}

/// Ranges of secure RAM over all partitions, at the most.
pub const MAX_SECURE_RANGES: usize = 64;

/// Regions that reports know by name, over all partitions: of more, they say no more than whose memory they are in.
pub const MAX_REGIONS: usize = 64;

/// A region of a partition's manifest.
pub struct RegionFacts {
    /// Index of the partition.
    pub partition: u8,
    /// `memory` or `device`.
    pub kind: &'static str,
    /// The name of its node.
    pub name: Name,
    /// Where it is.
    pub range: AddressRange,
}

/// What never changes of one partition.
pub struct PartitionFacts {
    /// `debug_name` of its `vmN` node.
    pub name: Name,
    /// N.
    pub number: u8,
    /// Its own memory, package included.
    pub memory: AddressRange,
    /// The register that has the boot information at its first entry.
    pub boot_register: usize,
}

fn facts(partition: u8) -> Option<&'static PartitionFacts> {
    FACTS.get()?.partitions.get(usize::from(partition))
}

/// How many partitions the SPMC manifest names, and how many of them were loaded.
pub fn counts() -> (usize, usize) {
    let loaded = FACTS.get().map_or(0, |facts| facts.partitions.len());
    (MANIFEST.lock().partitions.len(), loaded)
}

/// A partition's name.
pub fn name(partition: u8) -> &'static str {
    facts(partition).map_or("partition", |facts| facts.name.as_str())
}

/// The register that has the boot information at its first entry.
pub fn boot_register(partition: u8) -> usize {
    facts(partition).map_or(0, |facts| facts.boot_register)
}

/// Whether a partition runs at S-EL0.
pub fn is_s_el0(partition: u8) -> bool {
    SPMC.partition(partition).is_some_and(|(_, config)| config.s_el0)
}

/// Whether a page lies in the memory that the SPMC manifest gives a partition.
pub fn is_memory_of(partition: u8, page: u64) -> bool {
    facts(partition).is_some_and(|facts| holds(&facts.memory, page, 1))
}

/// The range of RAM that the normal world may share in which a page is.
pub fn normal_world_ram(page: u64) -> Option<AddressRange> {
    FACTS.get()?.normal_world.iter().find(|range| holds(range, page, bulkhead_core::tables::PAGE)).copied()
}

fn holds(range: &AddressRange, start: u64, bytes: u64) -> bool {
    AddressRange::new(start, bytes).is_some_and(|wanted| range.contains(&wanted))
}

/// Whether S-EL2 may copy to and from a range: memory of partitions, and the normal world's RAM, each in its address space.
pub fn is_reachable(start: Address, bytes: u64) -> bool {
    FACTS.get().is_some_and(|facts| {
        let ranges = if start.secure { facts.secure.as_slice() } else { facts.normal_world.as_slice() };
        ranges.iter().any(|range| holds(range, start.pa, bytes))
    })
}

/// Prints what a partition did wrong, and whose memory it touched.
pub fn report_fault(vcpu: VcpuId, fault: &Fault) {
    let name = name(vcpu.partition);
    console::line("bulkhead", format_args!("partition {name}, vCPU {}: ended: {fault}", u64::from(vcpu.index)));
    if let Some(address) = fault.address {
        console::line("bulkhead", format_args!("partition {name}: {address:#x} is {}", Whose { address, asker: vcpu.partition }));
    }
}

/// Says whose an address is.
struct Whose {
    address: u64,
    asker: u8,
}

impl core::fmt::Display for Whose {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let at = self.address;
        let Some(facts) = FACTS.get() else { return f.write_str("not known yet") };
        if platform::TRUSTED_FIRMWARE.contains(&at) {
            return f.write_str("in TF-A's memory (EL3)");
        }
        if platform::OWN_RAM.contains(&at) {
            return f.write_str("in Bulkhead's own memory (S-EL2)");
        }
        for (index, partition) in facts.partitions.iter().enumerate() {
            let own = index == usize::from(self.asker);
            let mut regions = facts.regions.iter().filter(|region| usize::from(region.partition) == index);
            if let Some(RegionFacts { kind, name: node, range, .. }) = regions.find(|region| holds(&region.range, at, 1)) {
                let whose = if own { "its own" } else { partition.name.as_str() };
                return match own {
                    true => write!(f, "in {whose} /{kind}-regions/{node} ({range}), which does not give this access"),
                    false => write!(f, "in /{kind}-regions/{node} ({range}) of {whose}"),
                };
            }
            if holds(&partition.memory, at, 1) {
                return match own {
                    true => write!(f, "in its own memory (hypervisor/vm{}, {}), where it has no such access", u64::from(partition.number), partition.memory),
                    false => write!(f, "in the memory of {} (hypervisor/vm{}, {})", partition.name, u64::from(partition.number), partition.memory),
                };
            }
        }
        let kind = MANIFEST.try_lock().and_then(|m| m.memory.iter().find(|m| holds(&m.range, at, 1)).map(|m| m.kind));
        f.write_str(match kind {
            Some(MemoryKind::Secure) => "secure RAM that no manifest gives to a partition",
            Some(MemoryKind::NonSecure) => "the normal world's RAM, which nobody shared with it",
            Some(MemoryKind::SecureDevice) => "a secure device that its manifest's device-regions do not list",
            Some(MemoryKind::NonSecureDevice) => "a device of the normal world that its manifest's device-regions do not list",
            None => "no memory that the SPMC manifest describes",
        })
    }
}
