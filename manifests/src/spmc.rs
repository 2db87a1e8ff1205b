//! The SPMC's own manifest: TF-A's `attribute` node, the `hypervisor/vmN` nodes that integrators write for Hafnium, the
//! platform's memory and cores.
//!
//! Additions of ours, all optional, inside `hypervisor` (they hold for all partitions) or one `vmN` (for that one):
//!
//! | property | meaning | default |
//! |---|---|---|
//! | `bulkhead,keep-going` (empty) | a partition whose package or manifest is wrong is left out and the others boot | the boot stops |
//! | `bulkhead,init-time-limit-ms` (u32) | time that a partition has from its first entry to its first FFA_MSG_WAIT; 0 means no limit | 30000 |

use crate::error::Name;
use crate::range::AddressRange;
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Version};

/// Most partitions.
pub const MAX_PARTITIONS: usize = 8;
/// Most ranges of memory over all memory nodes.
pub const MAX_MEMORY_RANGES: usize = 16;
/// Most cores.
pub const MAX_CPUS: usize = 8;
/// Most non-FF-A SMCs that a partition may be allowed.
pub const MAX_SMCS: usize = 8;
/// `bulkhead,init-time-limit-ms` when the manifest does not say.
pub const DEFAULT_INIT_TIME_LIMIT_MS: u32 = 30_000;

/// What TF-A's SPMD reads from the `attribute` node, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// `spmc_id`: the SPMC's endpoint id.
    pub spmc_id: EndpointId,
    /// `maj_ver` and `min_ver`.
    pub version: Version,
    /// `load_address`: where the SPMC's image is; TF-A takes its own default when it is absent.
    pub load_address: Option<u64>,
    /// `entrypoint`.
    pub entrypoint: Option<u64>,
    /// `binary_size`.
    pub binary_size: Option<u64>,
}

/// One `hypervisor/vmN` node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmNode {
    /// N.
    pub number: u8,
    /// `debug_name`.
    pub debug_name: Name,
    /// `is_ffa_partition`: the memory at `load_address` holds a package.
    pub is_ffa_partition: bool,
    /// `load_address`: where BL2 puts the package.
    pub load_address: u64,
    /// `mem_size`: bytes of the partition's own memory from `load_address`, package included.
    pub mem_size: u64,
    /// `vcpu_count`.
    pub vcpu_count: u16,
    /// `smc_whitelist`: SMC function ids that are passed on to EL3.
    pub smc_whitelist: ArrayVec<u32, MAX_SMCS>,
    /// `smc_whitelist_permissive`: all of them are.
    pub smc_whitelist_permissive: bool,
    /// `bulkhead,keep-going`, here or for all.
    pub keep_going: bool,
    /// `bulkhead,init-time-limit-ms`, here or for all; `None` means no limit.
    pub init_time_limit_ms: Option<u32>,
}

impl VmNode {
    /// The endpoint id: 0x8000 + N.
    #[must_use]
    pub const fn id(&self) -> EndpointId {
        EndpointId(0x8000 | self.number as u16)
    }

    /// The partition's own memory, from `load_address`.
    #[must_use]
    pub const fn memory(&self) -> AddressRange {
        match AddressRange::new(self.load_address, self.mem_size) {
            Some(range) => range,
            // The parser refuses such nodes; a hand-made one is given nothing.
            None => match AddressRange::new(self.load_address, 0) {
                Some(empty) => empty,
                None => unreachable!(),
            },
        }
    }
}

/// What a memory node describes, its `device_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryKind {
    /// `memory`: secure RAM that partitions may get.
    Secure,
    /// `ns-memory`: the normal world's RAM.
    NonSecure,
    /// `device-memory`: secure devices that partitions may get.
    SecureDevice,
    /// `ns-device-memory`: the normal world's devices.
    NonSecureDevice,
}

/// One range of a memory node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    /// What it is.
    pub kind: MemoryKind,
    /// Where it is.
    pub range: AddressRange,
}

/// The SPMC's manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpmcManifest {
    /// The `attribute` node.
    pub attributes: Attributes,
    /// The partitions, in the order of their numbers.
    pub partitions: ArrayVec<VmNode, MAX_PARTITIONS>,
    /// The platform's memory.
    pub memory: ArrayVec<MemoryRange, MAX_MEMORY_RANGES>,
    /// MPIDR affinity fields of the cores, in the order of the `cpus` node; empty when there is no such node.
    pub cpus: ArrayVec<u64, MAX_CPUS>,
}

impl SpmcManifest {
    /// An empty manifest, to be filled by [`Self::parse_into`]; for statics.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attributes: Attributes {
                spmc_id: EndpointId(0x8000),
                version: Version::V1_2,
                load_address: None,
                entrypoint: None,
                binary_size: None,
            },
            partitions: ArrayVec::new_const(),
            memory: ArrayVec::new_const(),
            cpus: ArrayVec::new_const(),
        }
    }

    /// The ranges of one kind.
    pub fn memory_of(&self, kind: MemoryKind) -> impl Iterator<Item = AddressRange> + '_ {
        self.memory.iter().filter(move |m| m.kind == kind).map(|m| m.range)
    }
}

impl Default for SpmcManifest {
    fn default() -> Self {
        Self::new()
    }
}
