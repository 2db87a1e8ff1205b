//! The boot information of a partition (DEN0077A v1.2 section 5.4), written into the head of its package.

use crate::boot::BootError;
use crate::context;
use bulkhead_core::tables::PAGE;
use bulkhead_ffa::{Version, boot_info};
use bulkhead_manifests::hob::{HobLayout, HobRegion, boot_firmware_volume, stmm_hob_list};
use bulkhead_manifests::partition::MemoryRegion;
use bulkhead_manifests::{Expected, Found, LoadedPartition, ManifestError, NodePath, Subject};

/// The blob with room for a header, two descriptors and a HOB list.
const ROOM: usize = 1024;
/// Descriptors at the most.
const DESCRIPTORS: usize = 2;
/// Where a HOB list that is made here starts in the blob: after the descriptors.
const CONTENTS: usize = boot_info::HEADER_SIZE + DESCRIPTORS * boot_info::DESCRIPTOR_SIZE;

/// Writes what the manifest asks for, and returns its address; 0 when it asks for nothing.
///
/// # Errors
/// The package has no room for it, or the HOB list that it asks for cannot be made from the manifest.
#[inline(never)]
pub fn write(partition: &LoadedPartition<'_>) -> Result<u64, BootError> {
    let LoadedPartition { vm, manifest, package } = partition;
    let request = manifest.boot_info;
    if !request.manifest && !request.hob_list {
        return Ok(0);
    }
    let subject = Subject::Partition { number: vm.number, name: vm.debug_name };
    if package.boot_info.size < PAGE as usize {
        let expected = Expected::Text("a free page at the package's start, as in sptool packages of version 2 and transfer lists");
        return Err(ManifestError { subject, path: NodePath::package(), property: "pm_offset", found: Found::Bytes(package.boot_info.size), expected }.into());
    }
    let base = vm.load_address + package.boot_info.offset as u64;
    let mut blob = [0; ROOM];
    let mut size = CONTENTS;
    let mut count = 0;
    let mut describe = |blob: &mut [u8; ROOM], kind: u8, bytes: usize, address: u64| {
        let descriptor = &mut blob[boot_info::HEADER_SIZE + count * boot_info::DESCRIPTOR_SIZE..][..boot_info::DESCRIPTOR_SIZE];
        descriptor[16] = kind;
        descriptor[18..20].copy_from_slice(&boot_info::FLAG_ADDRESS.to_le_bytes());
        descriptor[20..24].copy_from_slice(&(bytes as u32).to_le_bytes());
        descriptor[24..32].copy_from_slice(&address.to_le_bytes());
        count += 1;
    };
    if request.manifest {
        describe(&mut blob, boot_info::TYPE_FDT, package.manifest.size, vm.load_address + package.manifest.offset as u64);
    }
    if request.hob_list {
        let (address, bytes) = match package.hob_list {
            Some(list) => (vm.load_address + list.offset as u64, list.size),
            None => {
                let list = base + CONTENTS as u64;
                let layout = layout(list, partition, subject)?;
                let bytes = stmm_hob_list(&layout, &mut blob[CONTENTS..]).map_err(BootError::Hob)?;
                size += bytes;
                (list, bytes)
            }
        };
        describe(&mut blob, boot_info::TYPE_HOB, bytes, address);
    }
    let words = [boot_info::SIGNATURE, Version::V1_2.0, size as u32, boot_info::DESCRIPTOR_SIZE as u32, count as u32, boot_info::HEADER_SIZE as u32];
    for (n, word) in words.into_iter().enumerate() {
        blob[4 * n..][..4].copy_from_slice(&word.to_le_bytes());
    }
    // The package's head is the partition's memory, mapped by `boot`, so the copy cannot fail.
    let _ = context::copy_to_guest(base, &blob);
    Ok(base)
}

/// StMM's regions, by the names that StMM manifests give them.
fn layout(list: u64, partition: &LoadedPartition<'_>, subject: Subject) -> Result<HobLayout, BootError> {
    let LoadedPartition { vm, manifest, package } = partition;
    let region = |names: [&'static str; 2], what: &'static str| {
        let named = |r: &&MemoryRegion| names.contains(&r.name.as_str());
        let range = manifest.memory_regions.iter().find(named).and_then(|r| r.range(vm.load_address));
        let path = NodePath::ROOT.child("memory-regions");
        range.map(|r| HobRegion { base: r.base(), size: r.size() }).ok_or(ManifestError {
            subject,
            path,
            property: names[0],
            found: Found::Missing,
            expected: Expected::Text(what),
        })
    };
    let start = vm.load_address + package.image.offset as u64;
    let image = HobRegion { base: start, size: (package.image.size as u64).next_multiple_of(PAGE) };
    let mut head = [0; 64];
    // Mapped by `boot`, so the copy cannot fail; a short image is refused by the next line.
    let _ = context::copy_from_guest(start, &mut head[..package.image.size.min(64)]);
    Ok(HobLayout {
        list,
        image,
        boot_fv: boot_firmware_volume(image, &head).map_err(BootError::Hob)?,
        secure_buffer: region(["rx-tx-buffers", "rx_tx_buffers"], "the buffer for requests from the secure world, as the HOB list needs it")?,
        normal_buffer: region(["ns_comm_buffer", "ns-comm-buffer"], "the buffer for requests from the normal world, as the HOB list needs it")?,
        heap: region(["heap", "heap"], "the partition's heap, as the HOB list needs it")?,
        core_buffer: true,
        core: None,
    })
}
