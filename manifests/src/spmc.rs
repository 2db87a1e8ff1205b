//! The SPMC's own manifest: TF-A's `attribute` node, the `hypervisor/vmN` nodes that integrators write for Hafnium, the
//! platform's memory and cores.
//!
//! Additions of ours, all optional, inside `hypervisor` (they hold for all partitions) or one `vmN` (for that one):
//!
//! | property | meaning | default |
//! |---|---|---|
//! | `bulkhead,keep-going` (empty) | a partition whose package or manifest is wrong is left out and the others boot | the boot stops |
//! | `bulkhead,init-time-limit-ms` (u32) | time that a partition has from its first entry to its first FFA_MSG_WAIT, and for whatever else the normal world's interrupts wait for; 0 means no limit | 30000 |

use crate::error::{Expected, Found, ManifestError, Name, NodePath, Refused, Subject};
use crate::range::{AddressRange, PAGE_SIZE};
use crate::tree::{Node, read_tree};
use arrayvec::{ArrayString, ArrayVec};
use bulkhead_ffa::{EndpointId, Version};
use core::fmt::Write as _;

/// Most partitions.
pub const MAX_PARTITIONS: usize = 8;
/// Most ranges of memory over all memory nodes.
pub const MAX_MEMORY_RANGES: usize = 16;
/// Most cores.
pub const MAX_CPUS: usize = 8;
/// Largest SPMC manifest: TF-A's SPMD maps no more than the page that it begins in.
pub const MAX_SPMC_DTB: usize = PAGE_SIZE as usize;
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

    /// The partition, for messages about its manifest and package.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        Subject::Partition { number: self.number, name: self.debug_name }
    }

    /// The node's path in the SPMC manifest.
    pub(crate) fn path(&self) -> NodePath {
        // At most three digits, so the name is never cut.
        let mut name = ArrayString::<8>::new();
        let _ = write!(name, "vm{}", u64::from(self.number));
        NodePath::ROOT.child("hypervisor").child(&name)
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

impl MemoryKind {
    pub(crate) fn name(self) -> Name {
        Name::new(match self {
            Self::Secure => "memory",
            Self::NonSecure => "ns-memory",
            Self::SecureDevice => "device-memory",
            Self::NonSecureDevice => "ns-device-memory",
        })
    }

    /// In words, for messages.
    pub(crate) const fn description(self) -> &'static str {
        match self {
            Self::Secure => "the secure memory of the SPMC manifest",
            Self::NonSecure => "the normal world's memory of the SPMC manifest",
            Self::SecureDevice => "the secure devices of the SPMC manifest",
            Self::NonSecureDevice => "the normal world's devices of the SPMC manifest",
        }
    }
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
    /// An empty manifest, to be filled by [`Self::parse_into`]; for statics, in which it is all zero bits and so takes no
    /// room in an image.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            attributes: Attributes {
                spmc_id: EndpointId(0),
                version: Version(0),
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

impl SpmcManifest {
    /// Fills this manifest from the device tree that `dtb` begins with. What it held before is gone, also on an error.
    pub fn parse_into(&mut self, dtb: &[u8]) -> Result<(), ManifestError> {
        *self = Self::new();
        read_tree(dtb, Subject::Spmc, &mut |root| self.parse(root))
    }

    fn parse(&mut self, root: Node<'_>) -> Result<(), Refused> {
        if root.tree_size() > MAX_SPMC_DTB {
            let expected = Expected::AtMost(MAX_SPMC_DTB as u64, "bytes: TF-A's SPMD maps one page of it");
            return Err(root.error("device tree", Found::Bytes(root.tree_size()), expected));
        }
        root.require_compatible("arm,ffa-core-manifest-1.0")?;
        self.attributes = parse_attributes(root)?;
        self.parse_memory(root)?;
        self.parse_cpus(root)?;
        self.parse_partitions(root)
    }

    fn parse_partitions(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let hypervisor = root.required_child("hypervisor", "a node with one vmN node for each partition")?;
        hypervisor.require_compatible("hafnium,hafnium")?;
        let for_all = BootPolicy::parse(hypervisor, BootPolicy::default())?;
        for node in hypervisor.children() {
            let vm = parse_vm(node, for_all)?;
            let place = self.partitions.iter().position(|other| other.number >= vm.number).unwrap_or(self.partitions.len());
            if self.partitions.get(place).is_some_and(|other| other.number == vm.number) {
                return Err(node.error("", Found::Reason("is there twice"), Expected::Text("one node for each number")));
            }
            let full = |_| node.too_many("", Found::Present, MAX_PARTITIONS, "vmN nodes");
            self.partitions.try_insert(place, vm).map_err(full)?;
        }
        if self.partitions.is_empty() {
            return Err(hypervisor.error("", Found::Reason("has no partition"), Expected::Text("at least one vmN node")));
        }
        Ok(())
    }

    /// Memory nodes are told by their `device_type`, whatever their name: integrators write `memory@0` and `s_uart`.
    fn parse_memory(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let address_cells = cell_count(root, "#address-cells", 2)?;
        let size_cells = cell_count(root, "#size-cells", 1)?;
        for node in root.children() {
            let kind = match node.string("device_type")? {
                Some("memory") => MemoryKind::Secure,
                Some("ns-memory") => MemoryKind::NonSecure,
                Some("device-memory") => MemoryKind::SecureDevice,
                Some("ns-device-memory") => MemoryKind::NonSecureDevice,
                Some(other) if other.as_bytes().windows(3).any(|part| part == b"mem") || node.name().starts_with("mem") => {
                    let expected = Expected::Text("\"memory\", \"ns-memory\", \"device-memory\" or \"ns-device-memory\"");
                    return Err(node.error("device_type", Found::Text(Name::new(other)), expected));
                }
                _ => continue,
            };
            let expected = "<base size> pairs with as many cells as the root's #address-cells and #size-cells say";
            let group = address_cells + size_cells;
            let Some(cells) = node.groups("reg", group, expected)?.filter(|cells| cells.len() != 0) else {
                return Err(node.missing("reg", expected));
            };
            for pair in cells.chunks(group) {
                let (base, size) = (pair.number(0, address_cells), pair.number(address_cells, size_cells));
                let range = AddressRange::new(base, size)
                    .ok_or_else(|| node.not_hex("reg", base, "a range that ends inside 64 bits of address"))?;
                if range.is_empty() || !range.is_aligned(PAGE_SIZE) {
                    return Err(node.error("reg", Found::Range(range), Expected::Text("a base and a size that are multiples of 0x1000, size not 0")));
                }
                if let Some(other) = self.memory.iter().find(|other| other.range.overlaps(&range)) {
                    return Err(node.error("reg", Found::Range(range), Expected::ClearOf(Subject::Spmc, other.kind.name(), other.range)));
                }
                let full = |_| node.too_many("reg", Found::Range(range), MAX_MEMORY_RANGES, "ranges over all memory nodes");
                self.memory.try_push(MemoryRange { kind, range }).map_err(full)?;
            }
        }
        if self.memory_of(MemoryKind::Secure).next().is_none() {
            return Err(root.error("", Found::Reason("has no secure memory"), Expected::Text("a node with device_type = \"memory\" and a reg of secure RAM")));
        }
        Ok(())
    }

    fn parse_cpus(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let Some(cpus) = root.child("cpus") else { return Ok(()) };
        let address_cells = cell_count(cpus, "#address-cells", 1)?;
        for node in cpus.children() {
            if node.string("device_type")? != Some("cpu") {
                continue;
            }
            let expected = "the core's MPIDR in as many cells as #address-cells of cpus says";
            let mpidr = match node.cells("reg")? {
                Some(cells) if cells.len() == address_cells => cells.number(0, address_cells),
                Some(cells) => return Err(node.error("reg", Found::Bytes(4 * cells.len()), Expected::Text(expected))),
                None => return Err(node.missing("reg", expected)),
            };
            if self.cpus.contains(&mpidr) {
                return Err(node.not_hex("reg", mpidr, "an MPIDR that no other core has"));
            }
            let full = |_| node.too_many("", Found::Present, MAX_CPUS, "cpu nodes");
            self.cpus.try_push(mpidr).map_err(full)?;
        }
        Ok(())
    }
}

/// What is to be done about a partition that does not come up: ours, on `hypervisor` and on `vmN`.
#[derive(Clone, Copy)]
struct BootPolicy {
    keep_going: bool,
    init_time_limit_ms: Option<u32>,
}

impl Default for BootPolicy {
    fn default() -> Self {
        Self { keep_going: false, init_time_limit_ms: Some(DEFAULT_INIT_TIME_LIMIT_MS) }
    }
}

impl BootPolicy {
    fn parse(node: Node<'_>, inherited: Self) -> Result<Self, Refused> {
        let init_time_limit_ms = match node.number32("bulkhead,init-time-limit-ms")? {
            Some(0) => None,
            Some(ms) => Some(ms),
            None => inherited.init_time_limit_ms,
        };
        Ok(Self { keep_going: inherited.keep_going || node.flag("bulkhead,keep-going")?, init_time_limit_ms })
    }
}

fn parse_attributes(root: Node<'_>) -> Result<Attributes, Refused> {
    let node = root.required_child("attribute", "a node with spmc_id, maj_ver and min_ver, which TF-A's SPMD reads, too")?;
    let half = |property, what| {
        let n = node.cell(property)?.ok_or_else(|| node.missing(property, what))?;
        u16::try_from(n).map_err(|_| node.error(property, Found::Hex(n.into()), Expected::HexAtMost(0xFFFF, "16 bits")))
    };
    let spmc_id = half("spmc_id", "the SPMC's endpoint id, as a rule 0x8000")?;
    if spmc_id & 0x8000 == 0 {
        return Err(node.not_hex("spmc_id", spmc_id.into(), "an id of the secure world: bit 15 set (TF-A insists on it)"));
    }
    let version = Version::new(half("maj_ver", "the FF-A version's major number")?, half("min_ver", "the FF-A version's minor number")?);
    if version.major() != 1 {
        return Err(node.error("maj_ver", Found::Number(version.major().into()), Expected::Exactly(1, "the major number of FF-A")));
    }
    if version > Version::V1_2 {
        return Err(node.error("min_ver", Found::Number(version.minor().into()), Expected::AtMost(2, "(Bulkhead and TF-A 2.12's SPMD know FF-A up to 1.2)")));
    }
    match node.cell("exec_state")? {
        None | Some(0) => {}
        Some(other) => return Err(node.error("exec_state", Found::Number(other.into()), Expected::Exactly(0, "AArch64"))),
    }
    let attributes = Attributes {
        spmc_id: EndpointId(spmc_id),
        version,
        load_address: node.number("load_address")?,
        entrypoint: node.number("entrypoint")?,
        binary_size: node.number("binary_size")?,
    };
    if let (Some(base), Some(entry), Some(size)) = (attributes.load_address, attributes.entrypoint, attributes.binary_size) {
        let Some(image) = AddressRange::new(base, size) else {
            return Err(node.not_hex("binary_size", size, "an end inside 64 bits of address"));
        };
        if entry < image.base() || entry >= image.end() {
            return Err(node.error("entrypoint", Found::Hex(entry), Expected::PointInside(image, "the SPMC's image")));
        }
    }
    Ok(attributes)
}

fn parse_vm(node: Node<'_>, for_all: BootPolicy) -> Result<VmNode, Refused> {
    let number = match node.name().strip_prefix("vm").map(str::parse::<u8>) {
        // The id 0x8000 is the SPMC's own, so N starts at 1. No leading zeros: the text has to be the number's.
        Some(Ok(number)) if number >= 1 && !node.name().starts_with("vm0") => number,
        _ => return Err(node.error("", Found::Present, Expected::Text("the name vmN with N from 1 to 255: the partition's id becomes 0x8000 + N"))),
    };
    let debug_name = node.string("debug_name")?.ok_or_else(|| node.missing("debug_name", "the partition's name"))?;
    if !node.flag("is_ffa_partition")? {
        return Err(node.missing("is_ffa_partition", "the empty property: only FF-A partitions are loaded"));
    }
    let load_address = node.required_number("load_address", "where BL2 puts the package")?;
    let mem_size = node.required_number("mem_size", "bytes of the partition's memory, package included")?;
    if load_address == 0 || !load_address.is_multiple_of(PAGE_SIZE) {
        return Err(node.not_hex("load_address", load_address, "a multiple of 0x1000, not 0"));
    }
    if mem_size == 0 || !mem_size.is_multiple_of(PAGE_SIZE) {
        return Err(node.not_hex("mem_size", mem_size, "a multiple of 0x1000, not 0"));
    }
    if AddressRange::new(load_address, mem_size).is_none() {
        return Err(node.not_hex("mem_size", mem_size, "an end inside 64 bits of address"));
    }
    let vcpu_count = match node.required_number("vcpu_count", "1, or the number of cores")? {
        n @ 1..=8 => n as u16,
        n => return Err(node.not_number("vcpu_count", n, "1 to 8")),
    };
    let mut smc_whitelist = ArrayVec::new();
    if let Some(cells) = node.cells("smc_whitelist")? {
        for id in cells.iter() {
            let full = |_| node.too_many("smc_whitelist", Found::Bytes(4 * cells.len()), MAX_SMCS, "function ids");
            smc_whitelist.try_push(id).map_err(full)?;
        }
    }
    let policy = BootPolicy::parse(node, for_all)?;
    Ok(VmNode {
        number,
        debug_name: Name::new(debug_name),
        is_ffa_partition: true,
        load_address,
        mem_size,
        vcpu_count,
        smc_whitelist,
        smc_whitelist_permissive: node.flag("smc_whitelist_permissive")?,
        keep_going: policy.keep_going,
        init_time_limit_ms: policy.init_time_limit_ms,
    })
}

/// `#address-cells` or `#size-cells`: 1 or 2 cells make a number of ours.
fn cell_count(node: Node<'_>, property: &'static str, default: usize) -> Result<usize, Refused> {
    match node.number(property)? {
        None => Ok(default),
        Some(n @ 1..=2) => Ok(n as usize),
        Some(n) => Err(node.not_number(property, n, "1 or 2")),
    }
}
