//! The types of an FF-A partition manifest (`arm,ffa-manifest-1.0`): TF-A's and Hafnium's binding, every property of it.
//!
//! [`PartitionManifest::parse_into`] fills one in place; it stays below 4 KiB, so that the SPMC has room for one of each
//! partition at boot.

use crate::error::Name;
use crate::range::AddressRange;
use arrayvec::ArrayVec;
use bulkhead_ffa::{EndpointId, Uuid, Version};

/// Most UUIDs of one partition.
pub const MAX_UUIDS: usize = 4;
/// Most memory regions of one partition.
pub const MAX_MEMORY_REGIONS: usize = 16;
/// Most device regions of one partition.
pub const MAX_DEVICE_REGIONS: usize = 12;
/// Most interrupts of one partition, over all its devices.
pub const MAX_INTERRUPTS: usize = 32;
/// Most stream ids of one partition, over all its devices, and as many over its memory regions.
pub const MAX_STREAMS: usize = 16;

/// Which messages a partition (or one of its services) takes and sends: `messaging-method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Messaging(pub u32);

impl Messaging {
    /// Receives FFA_MSG_SEND_DIRECT_REQ.
    pub const DIRECT_RECV: Self = Self(1 << 0);
    /// Sends FFA_MSG_SEND_DIRECT_REQ.
    pub const DIRECT_SEND: Self = Self(1 << 1);
    /// Sends and receives indirect messages.
    pub const INDIRECT: Self = Self(1 << 2);
    /// Receives FFA_MSG_SEND_DIRECT_REQ2.
    pub const DIRECT2_RECV: Self = Self(1 << 9);
    /// Sends FFA_MSG_SEND_DIRECT_REQ2.
    pub const DIRECT2_SEND: Self = Self(1 << 10);
    /// All bits that the binding defines.
    pub const ALL: Self = Self(0x607);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One UUID and the messages of the service behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// The UUID.
    pub uuid: Uuid,
    /// Its messages; the same for all unless `messaging-method` has a cell for each UUID.
    pub messaging: Messaging,
}

/// `exception-level` of a secure partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExceptionLevel {
    /// 1.
    SEl0,
    /// 2; 0, a VM's EL1, is taken for it.
    SEl1,
}

/// `xlat-granule`: the unit of `pages-count` and of alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// 0.
    Size4K,
    /// 1.
    Size16K,
    /// 2.
    Size64K,
}

impl Granule {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Size4K => 0x1000,
            Self::Size16K => 0x4000,
            Self::Size64K => 0x1_0000,
        }
    }
}

/// `ns-interrupts-action` (or the old `managed-exit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsInterruptAction {
    /// 0: kept for later.
    Queued,
    /// 1: the partition is told and leaves by itself.
    ManagedExit,
    /// 2: the partition is preempted. What holds when the manifest does not say.
    Signaled,
}

/// `other-s-interrupts-action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSecureInterruptAction {
    /// 0: kept for later.
    Queued,
    /// 1: the partition is preempted. What holds when the manifest does not say.
    Signaled,
}

/// `power-management-messages`: bits 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PowerMessages(pub u32);

impl PowerMessages {
    /// A core goes off.
    pub const CPU_OFF: Self = Self(1 << 0);
    /// A core is suspended.
    pub const CPU_SUSPEND: Self = Self(1 << 1);
    /// A core resumes.
    pub const CPU_SUSPEND_RESUME: Self = Self(1 << 2);
    /// A core comes up (Hafnium's bit, not in TF-A's text of the binding).
    pub const CPU_ON: Self = Self(1 << 3);
    /// All of them.
    pub const ALL: Self = Self(0xF);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `vm-availability-messages`: bits 0 and 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VmMessages(pub u32);

impl VmMessages {
    /// A VM was created.
    pub const CREATED: Self = Self(1 << 0);
    /// A VM was destroyed.
    pub const DESTROYED: Self = Self(1 << 1);
    /// Both.
    pub const ALL: Self = Self(3);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// `attributes` of a region: bits 0 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RegionAttributes(pub u8);

impl RegionAttributes {
    /// Bit 0: may be read.
    pub const READ: Self = Self(1);
    /// Bit 1: may be written.
    pub const WRITE: Self = Self(2);
    /// Bit 2: may be executed.
    pub const EXECUTE: Self = Self(4);
    /// Bit 3: is the normal world's.
    pub const NON_SECURE: Self = Self(8);

    /// Whether it may be written.
    #[must_use]
    pub const fn writable(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// Whether it may be executed.
    #[must_use]
    pub const fn executable(self) -> bool {
        self.0 & Self::EXECUTE.0 != 0
    }

    /// Whether it is the normal world's.
    #[must_use]
    pub const fn non_secure(self) -> bool {
        self.0 & Self::NON_SECURE.0 != 0
    }
}

/// Where a memory region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionBase {
    /// `base-address`.
    Absolute(u64),
    /// `load-address-relative-offset` (or its older name `relative-address`): from the partition's load address.
    LoadRelative(u64),
    /// Neither: the SPMC chooses ([`PartitionManifest::place_regions`]), and writes it into the partition's manifest.
    Unplaced,
    /// What the SPMC chose.
    Chosen(u64),
}

/// One node below `memory-regions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRegion {
    /// The node's name.
    pub name: Name,
    /// Where it is.
    pub base: RegionBase,
    /// Bytes: `pages-count` granules.
    pub size: u64,
    /// `attributes`.
    pub attributes: RegionAttributes,
    /// `bulkhead,shared-with`: the one other partition whose manifest has the same region.
    pub shared_with: Option<EndpointId>,
}

impl MemoryRegion {
    /// Its range for a partition loaded at `load_address`; `None` for one that is not placed yet or would wrap.
    #[must_use]
    pub fn range(&self, load_address: u64) -> Option<AddressRange> {
        match self.base {
            RegionBase::Absolute(base) | RegionBase::Chosen(base) => AddressRange::new(base, self.size),
            RegionBase::LoadRelative(offset) => AddressRange::new(load_address.checked_add(offset)?, self.size),
            RegionBase::Unplaced => None,
        }
    }
}

/// One node below `device-regions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRegion {
    /// The node's name.
    pub name: Name,
    /// Where it is.
    pub range: AddressRange,
    /// `attributes`.
    pub attributes: RegionAttributes,
    /// `exclusive-access`: nobody else may have this device.
    pub exclusive: bool,
    /// `smmu-id`.
    pub smmu: Option<u32>,
}

/// How an interrupt is signalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Bit 9 clear.
    Edge,
    /// Bit 9 set.
    Level,
}

/// What kind of interrupt an `interrupts` cell says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptKind {
    /// Ids 0 to 15.
    Sgi,
    /// Ids 16 to 31.
    Ppi,
    /// Ids 32 to 1019.
    Spi,
}

/// One pair of a device's `interrupts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupt {
    /// Index of the device region it belongs to.
    pub device: u8,
    /// INTID.
    pub id: u32,
    /// Priority as the GIC takes it.
    pub priority: u8,
    /// Whether it is a secure interrupt.
    pub secure: bool,
    /// How it is signalled.
    pub trigger: Trigger,
    /// What it says it is.
    pub kind: InterruptKind,
    /// `interrupts-target`: MPIDR of the core that it is routed to.
    pub target: Option<u64>,
}

/// One entry of `stream-ids`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Index of the region it belongs to.
    pub region: u8,
    /// Stream id.
    pub id: u32,
    /// SMMU that it goes through.
    pub smmu: u32,
    /// `stream-ids-access-permissions` (memory regions only; the region's own where it is absent).
    pub access: RegionAttributes,
}

/// The memory regions that are the RX and TX buffers: `rx_tx-info` (or `rx-tx-buffer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RxTx {
    /// Index of the RX buffer's memory region.
    pub rx: u8,
    /// Index of the TX buffer's memory region.
    pub tx: u8,
}

/// What a manifest says that is taken otherwise than it says, or not at all: no reason to refuse it, but to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Tolerated(pub u16);

impl Tolerated {
    /// `ffa-version` above ours.
    pub const NEWER_VERSION: u16 = 1 << 0;
    /// `exception-level` of a VM at EL1.
    pub const LEVEL_OF_A_VM: u16 = 1 << 1;
    /// `boot-info` without `gp-register-num`.
    pub const NO_BOOT_REGISTER: u16 = 1 << 2;
    /// Bits of `power-management-messages` that mean nothing.
    pub const POWER_BITS: u16 = 1 << 3;
    /// Interrupts of the extended SPI range.
    pub const EXTENDED_SPIS: u16 = 1 << 4;
    /// `abort-action` or `lifecycle-support` of FF-A 1.3.
    pub const LIFECYCLE: u16 = 1 << 5;
    /// `sri-interrupts-policy`.
    pub const SRI_POLICY: u16 = 1 << 6;

    /// Whether one of `bits` is there.
    #[must_use]
    pub const fn has(self, bits: u16) -> bool {
        self.0 & bits != 0
    }

    /// Adds `bits`.
    pub(crate) fn note(&mut self, bits: u16) {
        self.0 |= bits;
    }
}

/// What the `boot-info` node asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BootInfoRequest {
    /// `ffa_manifest`: the manifest itself.
    pub manifest: bool,
    /// `hob_list`: a HOB list, the package's or one that the SPMC makes.
    pub hob_list: bool,
}

/// An FF-A partition manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionManifest {
    /// `description`.
    pub description: Name,
    /// `ffa-version`.
    pub ffa_version: Version,
    /// `uuid` and `messaging-method`: at least one entry.
    pub services: ArrayVec<Service, MAX_UUIDS>,
    /// All messages of all services.
    pub messaging: Messaging,
    /// `id`, as it stands there: some integrators write the endpoint id, others the number of the `vmN` node.
    pub id: Option<u32>,
    /// `auxiliary-id`.
    pub auxiliary_id: Option<EndpointId>,
    /// `execution-ctx-count`.
    pub execution_contexts: u16,
    /// `exception-level`.
    pub exception_level: ExceptionLevel,
    /// `load-address`.
    pub load_address: Option<u64>,
    /// `entrypoint-offset`: from the load address, that is from the start of the package; the image's start where absent.
    pub entrypoint_offset: Option<u64>,
    /// `mem-size`: OP-TEE's addition, which it reads itself.
    pub mem_size: Option<u64>,
    /// `xlat-granule`.
    pub granule: Granule,
    /// `boot-order`: smaller ones first, those without one last.
    pub boot_order: Option<u16>,
    /// `ns-interrupts-action`.
    pub ns_interrupts: NsInterruptAction,
    /// `managed-exit-virq`: managed exit is signalled by IRQ in place of FIQ.
    pub managed_exit_virq: bool,
    /// `other-s-interrupts-action`.
    pub other_secure_interrupts: OtherSecureInterruptAction,
    /// `time-slice-mem`: long memory operations are not to be time-sliced.
    pub no_memory_time_slicing: bool,
    /// `gp-register-num`: the register, 0 to 3, that gets the address of the boot information.
    pub gp_register: Option<u8>,
    /// `boot-info`.
    pub boot_info: BootInfoRequest,
    /// `power-management-messages`; `None` when the manifest does not say.
    pub power_messages: Option<PowerMessages>,
    /// `vm-availability-messages`.
    pub vm_messages: VmMessages,
    /// `notification-support`.
    pub notifications: bool,
    /// What is not taken as it stands there.
    pub tolerated: Tolerated,
    /// `run-time-model` or `runtime-model` of FF-A v1.0, superseded by the interrupt actions: kept for the record.
    pub run_time_model: Option<u32>,
    /// RX and TX buffers that are memory regions.
    pub rx_tx: Option<RxTx>,
    /// `memory-regions`.
    pub memory_regions: ArrayVec<MemoryRegion, MAX_MEMORY_REGIONS>,
    /// `device-regions`.
    pub device_regions: ArrayVec<DeviceRegion, MAX_DEVICE_REGIONS>,
    /// The devices' interrupts.
    pub interrupts: ArrayVec<Interrupt, MAX_INTERRUPTS>,
    /// The devices' stream ids.
    pub device_streams: ArrayVec<Stream, MAX_STREAMS>,
    /// The memory regions' stream ids.
    pub memory_streams: ArrayVec<Stream, MAX_STREAMS>,
}

// The SPMC has eight of them on the stack of its boot.
const _: () = assert!(size_of::<PartitionManifest>() < 4096);

impl PartitionManifest {
    /// An empty manifest, to be filled by [`Self::parse_into`]; all zero bits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            description: Name::EMPTY,
            ffa_version: Version(0),
            services: ArrayVec::new_const(),
            messaging: Messaging(0),
            id: None,
            auxiliary_id: None,
            execution_contexts: 0,
            exception_level: ExceptionLevel::SEl0,
            load_address: None,
            entrypoint_offset: None,
            mem_size: None,
            granule: Granule::Size4K,
            boot_order: None,
            ns_interrupts: NsInterruptAction::Queued,
            managed_exit_virq: false,
            other_secure_interrupts: OtherSecureInterruptAction::Queued,
            no_memory_time_slicing: false,
            gp_register: None,
            boot_info: BootInfoRequest { manifest: false, hob_list: false },
            power_messages: None,
            vm_messages: VmMessages(0),
            notifications: false,
            tolerated: Tolerated(0),
            run_time_model: None,
            rx_tx: None,
            memory_regions: ArrayVec::new_const(),
            device_regions: ArrayVec::new_const(),
            interrupts: ArrayVec::new_const(),
            device_streams: ArrayVec::new_const(),
            memory_streams: ArrayVec::new_const(),
        }
    }

    /// Empties it in place: a fresh value would pass through the stack once more, which the SPMC has little of. The parser sets every
    /// field that is not named here.
    pub(crate) fn clear(&mut self) {
        self.services.clear();
        self.memory_regions.clear();
        self.device_regions.clear();
        self.interrupts.clear();
        self.device_streams.clear();
        self.memory_streams.clear();
        self.messaging = Messaging(0);
        (self.id, self.auxiliary_id, self.load_address, self.mem_size) = (None, None, None, None);
        (self.boot_order, self.gp_register, self.power_messages) = (None, None, None);
        self.boot_info = BootInfoRequest::default();
        (self.run_time_model, self.rx_tx) = (None, None);
        (self.vm_messages, self.notifications, self.no_memory_time_slicing) = (VmMessages(0), false, false);
        self.managed_exit_virq = false;
        self.tolerated = Tolerated(0);
    }

    /// Gives each region without an address a place in the partition's `memory`: as far up as there is one, clear of its other
    /// regions and of its package of `package_size` bytes, behind which an image has data that its package does not have.
    ///
    /// # Errors
    /// The index of the first region for which there is no room, or which is the normal world's.
    #[inline(never)]
    pub fn place_regions(&mut self, memory: AddressRange, package_size: u64) -> Result<(), usize> {
        let granule = self.granule.bytes();
        for index in 0..self.memory_regions.len() {
            let Some(region) = self.memory_regions.get(index).copied().filter(|r| r.base == RegionBase::Unplaced) else { continue };
            let mut end = memory.end();
            let place = loop {
                let base = end.checked_sub(region.size).map(|base| base - base % granule).filter(|base| *base >= memory.base().saturating_add(package_size));
                let place = base.and_then(|base| AddressRange::new(base, region.size)).ok_or(index)?;
                // Each round moves below one of at most MAX_MEMORY_REGIONS regions.
                match self.memory_regions.iter().filter_map(|other| other.range(memory.base())).find(|other| other.overlaps(&place)) {
                    Some(other) => end = other.base(),
                    None => break place,
                }
            };
            match self.memory_regions.get_mut(index) {
                Some(region) if !region.attributes.non_secure() => region.base = RegionBase::Chosen(place.base()),
                _ => return Err(index),
            }
        }
        Ok(())
    }

    /// The interrupts of device region `device`.
    pub fn interrupts_of(&self, device: usize) -> impl Iterator<Item = &Interrupt> {
        self.interrupts.iter().filter(move |i| usize::from(i.device) == device)
    }
}

impl Default for PartitionManifest {
    fn default() -> Self {
        Self::new()
    }
}
