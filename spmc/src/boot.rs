//! Boot, after the MMU is on: read and judge the manifests, give each partition its memory, and say what was found.
//!
//! A wrong manifest or package stops the boot with its message, or, where `bulkhead,keep-going` says so, leaves that
//! partition out.
//!
//! The steps are kept out of line, so that the frame of one is gone from the stack when the next runs.

use crate::boot_info;
use crate::mmu::{self, Use};
use crate::system::{FACTS, Facts, MANIFEST, MAX_REGIONS, MAX_SECURE_RANGES, PartitionFacts, RegionFacts, SPMC};
use crate::{context, gic, image, interface_calls, normal_world, physical, platform, say, stage2};
use arrayvec::ArrayVec;
use bulkhead_core::machine::{Address, Permissions};
use bulkhead_core::mailbox::Buffers;
use bulkhead_core::memory::{Holding, MemoryType, OutOfMemory, PageState};
use bulkhead_core::partition::{MAX_INTERRUPTS, Methods, NormalWorldInterrupts, PartitionConfig, PowerMessages, Service, VmMessages};
use bulkhead_core::tables::PAGE;
use bulkhead_core::{MAX_CORES, MAX_PARTITIONS};
use bulkhead_ffa::EndpointId;
use bulkhead_manifests::edit::add_base_address;
use bulkhead_manifests::partition::{
    ExceptionLevel, NsInterruptAction, OtherSecureInterruptAction, PartitionManifest, PowerMessages as PowerBits, RegionBase, RxTx, Trigger,
    VmMessages as VmBits,
};
use bulkhead_manifests::spmc::{MemoryKind, VmNode};
use bulkhead_manifests::{AddressRange, LoadedPartition, ManifestError, Package, Platform, Reserved, SpmcManifest, Subject, check_partition, check_spmc, unserved};

/// Bytes that the SPMC manifest may have: TF-A maps one page for it.
pub const MAX_MANIFEST: u64 = PAGE;

/// Why the boot stops.
#[derive(Debug)]
pub enum BootError {
    /// A manifest or package is wrong.
    Manifest(ManifestError),
    /// There are not enough translation tables for a partition's regions.
    Tables(&'static str),
    /// The HOB list that a partition asks for cannot be made.
    Hob(bulkhead_manifests::hob::HobError),
}

impl BootError {
    /// Whether it is the SPMC manifest that is wrong: no partition's fault.
    fn is_about_spmc(&self) -> bool {
        matches!(self, Self::Manifest(ManifestError { subject: Subject::Spmc, .. }))
    }
}

impl From<ManifestError> for BootError {
    fn from(error: ManifestError) -> Self {
        Self::Manifest(error)
    }
}

impl core::fmt::Display for BootError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Manifest(error) => write!(f, "{error}"),
            Self::Tables(what) => write!(f, "no translation tables left for {what}: give it fewer or better aligned regions"),
            Self::Hob(error) => write!(f, "HOB list: {error}"),
        }
    }
}

fn tables(what: &'static str) -> impl Fn(OutOfMemory) -> BootError {
    move |OutOfMemory| BootError::Tables(what)
}

/// Reads all manifests, builds all address spaces, and adds the partitions to [`SPMC`].
///
/// # Errors
/// The first thing that is wrong.
#[inline(never)]
pub fn load(manifest_address: u64) -> Result<(), BootError> {
    MANIFEST.lock().parse_into(physical::firmware_data(manifest_address, MAX_MANIFEST))?;
    let manifest = MANIFEST.lock();
    // Before anything that it names is mapped: that might be Bulkhead itself.
    check_spmc(&manifest, &Platform { reserved: &reserved(), interrupts: &platform::RESERVED_INTERRUPTS, cores: 0 })?;
    let mut normal_world = ArrayVec::new();
    for memory in manifest.memory.iter().filter(|m| m.kind == MemoryKind::NonSecure) {
        let range = memory.range;
        mmu::map(range.base(), range.size(), Use::WriteNonSecure).map_err(|_| BootError::Tables("the normal world's RAM"))?;
        // More ranges than that are of no use to anybody: the rest cannot be shared.
        let _ = normal_world.try_push(range);
    }
    let mut manifests = [const { PartitionManifest::new() }; MAX_PARTITIONS];
    let mut found: ArrayVec<LoadedPartition<'_>, MAX_PARTITIONS> = ArrayVec::new();
    for (vm, place) in manifest.partitions.iter().zip(&mut manifests) {
        match read_partition(vm, place).and_then(|one| judge(&manifest, &found, one)) {
            Ok(one) => found.push(one),
            Err(error) if vm.keep_going && !error.is_about_spmc() => say!("left out: {error}"),
            Err(error) => return Err(error),
        }
    }
    keep_facts(&found, normal_world)?;
    let vcpus: ArrayVec<usize, MAX_PARTITIONS> = found.iter().map(|one| usize::from(vcpus(one))).collect();
    if !context::make(&vcpus) {
        return Err(BootError::Tables("the registers of vCPUs"));
    }
    stage2::reach(manifest.memory.iter().map(|memory| memory.range.end()).max().unwrap_or(0));
    let interface_calls = !found.is_empty() && interface_calls::are_needed();
    for (index, one) in found.iter().enumerate() {
        add(index as u8, one)?;
        if interface_calls && one.manifest.exception_level == ExceptionLevel::SEl1 {
            replace_interface_accesses(one);
        }
    }
    set_boot_order(&found);
    print_table(&found);
    Ok(())
}

/// Maps a partition's memory, reads its package and parses its manifest into `place`.
#[inline(never)]
fn read_partition<'a>(vm: &'a VmNode, place: &'a mut PartitionManifest) -> Result<LoadedPartition<'a>, BootError> {
    let subject = Subject::Partition { number: vm.number, name: vm.debug_name };
    let memory = vm.memory();
    mmu::map(memory.base(), memory.size(), Use::Write).map_err(|_| BootError::Tables("a partition's memory"))?;
    let bytes = physical::firmware_data(memory.base(), memory.size());
    let mut package = Package::read(bytes, subject)?;
    place.parse_into(package.manifest.of(bytes), subject)?;
    // What finds no place stays without one, which `judge` then refuses.
    let _ = place.place_regions(memory, package.size as u64);
    let mut room = package.image.offset.checked_sub(package.manifest.offset).unwrap_or(package.manifest.size);
    if let Some(list) = package.hob_list.filter(|list| list.offset > package.manifest.offset) {
        room = room.min(list.offset - package.manifest.offset);
    }
    for (index, region) in place.memory_regions.iter().enumerate() {
        if let RegionBase::Chosen(base) = region.base {
            let tree = physical::firmware_data_mut(memory.base() + package.manifest.offset as u64, room as u64);
            match add_base_address(tree, index, base) {
                Some(size) => package.manifest.size = size,
                None => say!("{subject}: no room in its package to tell it that {} is at {base:#x}", region.name),
            }
        }
    }
    Ok(LoadedPartition { vm, manifest: place, package })
}

/// Keeps what is asked for as long as the system runs, and maps the secure regions that a partition has outside its own
/// memory: buffers may lie there, and what it shares.
#[inline(never)]
fn keep_facts(found: &[LoadedPartition<'_>], normal_world: ArrayVec<AddressRange, MAX_PARTITIONS>) -> Result<(), BootError> {
    let mut partitions = ArrayVec::new();
    let mut secure: ArrayVec<AddressRange, MAX_SECURE_RANGES> = found.iter().map(|one| one.vm.memory()).collect();
    let mut regions: ArrayVec<RegionFacts, MAX_REGIONS> = ArrayVec::new();
    for (partition, one) in found.iter().enumerate() {
        let (partition, memory) = (partition as u8, one.vm.memory());
        partitions.push(PartitionFacts {
            name: one.vm.debug_name,
            number: one.vm.number,
            memory,
            boot_register: one.manifest.gp_register.map_or(0, usize::from),
        });
        for region in &one.manifest.memory_regions {
            let Some(range) = region.range(memory.base()) else { continue };
            let _ = regions.try_push(RegionFacts { partition, kind: "memory", name: region.name, range });
            if !region.attributes.non_secure() && !memory.contains(&range) {
                mmu::map(range.base(), range.size(), Use::Write).map_err(|_| BootError::Tables("memory-regions"))?;
                secure.try_push(range).map_err(|_| BootError::Tables("memory-regions"))?;
            }
        }
        for region in &one.manifest.device_regions {
            let _ = regions.try_push(RegionFacts { partition, kind: "device", name: region.name, range: region.range });
        }
    }
    FACTS.call_once(|| Facts { partitions, secure, normal_world, regions });
    Ok(())
}

/// What no partition may have.
fn reserved() -> [Reserved; 3] {
    let range = |r: core::ops::Range<u64>| AddressRange::new(r.start, r.end - r.start).unwrap_or_default();
    [
        Reserved { name: "TF-A's memory", range: range(platform::TRUSTED_FIRMWARE), emulated: false },
        Reserved { name: "Bulkhead's memory", range: range(platform::OWN_RAM), emulated: false },
        Reserved { name: "the interrupt controller", range: range(platform::INTERRUPT_CONTROLLER), emulated: true },
    ]
}

/// Judges a partition on its own, and beside those before it.
fn judge<'a>(manifest: &SpmcManifest, before: &[LoadedPartition<'_>], one: LoadedPartition<'a>) -> Result<LoadedPartition<'a>, BootError> {
    let platform = Platform { reserved: &reserved(), interrupts: &platform::RESERVED_INTERRUPTS, cores: 0 };
    check_partition(manifest, before, &one, &platform)?;
    Ok(one)
}

/// How many vCPUs a partition gets.
fn vcpus(one: &LoadedPartition<'_>) -> u8 {
    one.vm.vcpu_count.min(MAX_CORES as u16) as u8
}

/// Builds a partition's address space and configuration.
#[inline(never)]
fn add(index: u8, one: &LoadedPartition<'_>) -> Result<(), BootError> {
    let manifest = one.manifest;
    let s_el0 = manifest.exception_level == ExceptionLevel::SEl0;
    let memory = one.vm.memory();
    stage2::create(index, s_el0).map_err(tables("a partition"))?;
    let hold = |range: AddressRange, state, permissions, secure, memory_type| {
        let holding = Holding { state, permissions, secure, memory_type };
        let start = range.base() & !(PAGE - 1);
        let pages = (range.end().next_multiple_of(PAGE) - start) / PAGE;
        let mut result = Err(OutOfMemory);
        stage2::holdings(index, &mut |holdings| result = holdings.set(start, pages, holding));
        result
    };
    let own = |range, permissions, secure, memory_type| hold(range, PageState::Owned, permissions, secure, memory_type);
    let all = Permissions { read: true, write: true, execute: !s_el0 };
    own(memory, all, true, MemoryType::Normal).map_err(tables("a partition's memory"))?;
    if s_el0 {
        // Its code, as it is until it asks for something else; and the package's head, with the boot information.
        let image = AddressRange::new(memory.base() + one.package.image.offset as u64, one.package.image.size as u64).unwrap_or_default();
        let head = AddressRange::new(memory.base(), one.package.image.offset as u64).unwrap_or_default();
        own(image, Permissions { read: true, write: false, execute: true }, true, MemoryType::Normal).map_err(tables("an image"))?;
        own(head, Permissions { read: true, write: false, execute: false }, true, MemoryType::Normal).map_err(tables("a package"))?;
        stage2::map_vectors(index, image::forward_vectors() & !(PAGE - 1)).map_err(tables("the vectors"))?;
    }
    let permissions = |a: bulkhead_manifests::partition::RegionAttributes| Permissions { read: true, write: a.writable(), execute: a.executable() };
    for region in &manifest.memory_regions {
        let Some(range) = region.range(memory.base()) else { continue };
        let secure = !region.attributes.non_secure();
        // What two partitions have from the start stays with both: neither may give it away.
        let state = match region.shared_with {
            None => PageState::Owned,
            Some(_) if memory.contains(&range) => PageState::Shared,
            Some(_) => PageState::Borrowed,
        };
        hold(range, state, permissions(region.attributes), secure, MemoryType::Normal).map_err(tables("memory-regions"))?;
        if !secure {
            // The partition's to share, as its manifest gives it; the normal world keeps its access, and may not give the pages away as
            // if they were its alone.
            let holding = Holding { state: PageState::Shared, permissions: all, secure, memory_type: MemoryType::Normal };
            let mut result = Err(OutOfMemory);
            normal_world::holdings(&mut |holdings| result = holdings.set(range.base(), range.size() / PAGE, holding));
            result.map_err(tables("memory-regions"))?;
        }
    }
    let mut distributor = false;
    for region in &manifest.device_regions {
        if platform::INTERRUPT_CONTROLLER.contains(&region.range.base()) {
            // Nothing is mapped there: its accesses are emulated.
            distributor = true;
            continue;
        }
        own(region.range, permissions(region.attributes), !region.attributes.non_secure(), MemoryType::Device)
            .map_err(tables("device-regions"))?;
    }
    let (mut priorities, mut routed) = ([0; MAX_INTERRUPTS], 0);
    for (n, interrupt) in manifest.interrupts.iter().enumerate() {
        priorities[n] = interrupt.priority;
        routed |= u32::from(interrupt.target.is_some()) << n;
        gic::configure(0, interrupt.id, interrupt.trigger == Trigger::Level, interrupt.target);
    }
    let boot_argument = boot_info::write(one)?;
    // Everything that was loaded or written is in memory before a partition without caches reads it.
    physical::clean(memory.base(), one.package.size as u64);
    let services = manifest.services.iter().map(|s| Service { uuid: s.uuid, methods: Methods(s.messaging.0) }).collect();
    SPMC.add(PartitionConfig {
        id: EndpointId(one.vm.id().0),
        services,
        methods: Methods(manifest.messaging.0),
        vcpus: vcpus(one),
        s_el0,
        notifications: manifest.notifications,
        power_messages: PowerMessages {
            off: manifest.power_messages.is_some_and(|p| p.contains(PowerBits::CPU_OFF)),
            suspend: manifest.power_messages.is_some_and(|p| p.contains(PowerBits::CPU_SUSPEND)),
            resume: manifest.power_messages.is_some_and(|p| p.contains(PowerBits::CPU_SUSPEND_RESUME)),
        },
        vm_messages: VmMessages {
            created: manifest.vm_messages.contains(VmBits::CREATED),
            destroyed: manifest.vm_messages.contains(VmBits::DESTROYED),
        },
        version: manifest.ffa_version,
        normal_world_interrupts: match manifest.ns_interrupts {
            NsInterruptAction::Queued => NormalWorldInterrupts::Queued,
            NsInterruptAction::ManagedExit => NormalWorldInterrupts::ManagedExit { irq: manifest.managed_exit_virq },
            NsInterruptAction::Signaled => NormalWorldInterrupts::Signaled,
        },
        holds_other_secure: manifest.other_secure_interrupts == OtherSecureInterruptAction::Queued,
        interrupts: manifest.interrupts.iter().map(|i| i.id).collect(),
        priorities,
        routed,
        distributor,
        entry: memory.base() + manifest.entrypoint_offset.unwrap_or(one.package.image.offset as u64),
        boot_argument,
        init_time_limit_ms: one.vm.init_time_limit_ms.unwrap_or(0),
    });
    if let (Some(RxTx { rx, tx }), Some((partition, _))) = (manifest.rx_tx, SPMC.partition(index)) {
        let place = |region: u8| {
            let region = manifest.memory_regions.get(usize::from(region))?;
            Some(Address { pa: region.range(memory.base())?.base(), secure: !region.attributes.non_secure() })
        };
        if let (Some(rx), Some(tx)) = (place(rx), place(tx)) {
            partition.endpoint.mailbox.lock().map(Buffers { rx, tx });
        }
    }
    Ok(())
}

/// On a CPU that does not trap them.
fn replace_interface_accesses(one: &LoadedPartition<'_>) {
    let start = one.vm.memory().base() + one.package.image.offset as u64;
    let replaced = interface_calls::replace(start, one.package.image.size as u64);
    if replaced != 0 {
        say!("{}: {replaced} accesses to the interrupt interface became calls: this CPU does not trap them", one.vm.debug_name);
        physical::clean(start, one.package.image.size as u64);
    }
}

/// Smaller `boot-order` first, those without one last, equal ones in the order of their numbers.
#[inline(never)]
fn set_boot_order(found: &[LoadedPartition<'_>]) {
    let mut order: ArrayVec<(u16, u8), MAX_PARTITIONS> = ArrayVec::new();
    for index in 0..found.len() as u8 {
        let wanted = found[usize::from(index)].manifest.boot_order.unwrap_or(u16::MAX);
        let place = order.iter().position(|(other, _)| *other > wanted).unwrap_or(order.len());
        order.insert(place, (wanted, index));
    }
    let order: ArrayVec<u8, MAX_PARTITIONS> = order.into_iter().map(|(_, index)| index).collect();
    SPMC.set_boot_order(&order);
}

/// The table of what was found.
#[inline(never)]
fn print_table(found: &[LoadedPartition<'_>]) {
    say!("{:<12} {:<6} {:<36} {:<5} {:<6} {:<5} {:<5} memory", "partition", "id", "service", "FF-A", "level", "vCPUs", "order");
    for one in found {
        let manifest = one.manifest;
        let level = if manifest.exception_level == ExceptionLevel::SEl0 { "S-EL0" } else { "S-EL1" };
        let order = manifest.boot_order.unwrap_or(u16::MAX);
        for (n, service) in manifest.services.iter().enumerate() {
            if n == 0 {
                say!(
                    "{:<12} {:#06x} {} {}   {:<6} {:<5} {:<5} {}",
                    one.vm.debug_name, one.vm.id().0, service.uuid, manifest.ffa_version, level, u64::from(one.vm.vcpu_count), u64::from(order), one.vm.memory()
                );
            } else {
                say!("{:<12} {:<6} {}", "", "", service.uuid);
            }
        }
        for region in &manifest.memory_regions {
            if let Some(range) = region.range(one.vm.load_address) {
                let world = if region.attributes.non_secure() { "non-secure" } else { "secure" };
                say!("{:<12} {:<6} {} memory {}: {}", "", "", world, region.name, range);
            }
        }
        for region in &manifest.device_regions {
            say!("{:<12} {:<6} device {}: {}", "", "", region.name, region.range);
        }
        for (property, note) in unserved(one.vm, manifest) {
            say!("{:<12} {:<6} its {} changes nothing: {}", "", "", property, note);
        }
    }
}
