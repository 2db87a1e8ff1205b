//! The HOB list that EDK2's Standalone MM wants at its entry (PI specification 1.8, volume 3, chapter 5).
//!
//! Packages made by TF-A's sptool carry no such list, so the SPMC builds one from the partition's manifest. What StMM reads
//! of it, and why each piece is there, is in `partitions/stmm/README.md`.
//!
//! The list is a pure function of a [`HobLayout`]; a layout that StMM would answer by hanging or faulting is an error here.

const PAGE: u64 = 4096;

const TYPE_HANDOFF: u16 = 0x0001;
const TYPE_MEMORY_ALLOCATION: u16 = 0x0002;
const TYPE_GUID_EXTENSION: u16 = 0x0004;
const TYPE_FIRMWARE_VOLUME: u16 = 0x0005;
const TYPE_END: u16 = 0xFFFF;

const HANDOFF_VERSION: u32 = 9;
/// Header of every HOB: type, length, reserved.
const HEADER: usize = 8;
const HANDOFF_SIZE: usize = 56;
/// MMRAM descriptor: physical start, CPU start, size, state.
const DESCRIPTOR: usize = 32;
/// State of an MMRAM descriptor whose memory StMM's allocator must not give away (PI 1.8, volume 4, EFI_ALLOCATED).
const ALLOCATED: u64 = 0x10;
/// EfiRuntimeServicesCode. Not "boot services data": StMM copies such allocations to its heap.
const RUNTIME_CODE: u32 = 5;
/// Bytes of the status that follows the communication buffer's description: flag, status, size, padded.
const BUFFER_STATUS: usize = 24;

/// Descriptor of the buffer shared with the normal world.
const NON_SECURE_BUFFER: Guid = Guid(0xf004_97e3, 0xbfa2, 0x41a1, [0x9d, 0x29, 0x54, 0xc2, 0xe9, 0x37, 0x21, 0xc5]);
/// The four regions of a Standalone MM partition.
const MMRAM_RESERVE: Guid = Guid(0x0703_f912, 0xbf8d, 0x4e2a, [0xbe, 0x07, 0xab, 0x27, 0x25, 0x25, 0xc5, 0x92]);
/// Communication buffer as the MM core itself looks for it.
const COMMUNICATION_BUFFER: Guid = Guid(0x6c2a_2520, 0x0131, 0x4aee, [0xa7, 0x50, 0xcc, 0x38, 0x4a, 0xac, 0xe8, 0xc6]);
/// A memory allocation that holds a module.
const ALLOCATION_MODULE: Guid = Guid(0xf8e2_1975, 0x0899, 0x4f58, [0xa4, 0xbe, 0x55, 0x25, 0xa9, 0xc6, 0xd7, 0x7a]);
/// File GUID of EDK2's StandaloneMmCore.
const MM_CORE: Guid = Guid(0x6e14_b6fd, 0x3600, 0x4dd6, [0xa1, 0x7a, 0x20, 0x6b, 0x3b, 0x6d, 0xce, 0x16]);

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HobRegion {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
}

impl HobRegion {
    /// First address after the range; saturates, which the checks below treat as an overlap with everything above.
    const fn end(self) -> u64 {
        self.base.saturating_add(self.size)
    }

    const fn overlaps(self, other: Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    const fn contains(self, other: Self) -> bool {
        self.base <= other.base && other.end() <= self.end()
    }
}

/// What the list tells. Addresses are those that the partition uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HobLayout {
    /// Where the list will lie: 8-byte aligned, readable by the partition.
    pub list: u64,
    /// The partition's image, whole pages.
    pub image: HobRegion,
    /// The firmware volume with the core and its drivers, inside the image: see [`boot_firmware_volume`].
    pub boot_fv: HobRegion,
    /// Buffer for requests from the secure world.
    pub secure_buffer: HobRegion,
    /// Buffer for requests from the normal world.
    pub normal_buffer: HobRegion,
    /// Memory that StMM may allocate from.
    pub heap: HobRegion,
    /// Describe the normal world's buffer to the MM core as well. Images built for debugging assert without it; the page that
    /// holds the list must then stay mapped, because the core reads a status word in it at every request.
    pub core_buffer: bool,
    /// Where the core itself lies, for its own list of loaded images (optional).
    pub core: Option<HobRegion>,
}

/// Why there is no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HobError {
    /// The output is too short; it needs this many bytes.
    TooShort(usize),
    /// The list's own address is not a multiple of 8.
    ListAlignment(u64),
    /// A region is empty, not made of whole pages, or wraps around the end of the address space.
    BadRegion(&'static str, HobRegion),
    /// Two regions overlap; StMM would allocate what it must not.
    Overlap(&'static str, &'static str),
    /// The firmware volume is not inside the image.
    VolumeOutsideImage(HobRegion),
    /// The image does not begin with a firmware volume (or is shorter than its header).
    NotAFirmwareVolume,
}

impl core::fmt::Display for HobError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::TooShort(need) => write!(f, "HOB list needs {need} bytes"),
            Self::ListAlignment(at) => write!(f, "HOB list at {at:#x}: expected a multiple of 8"),
            Self::BadRegion(name, r) => write!(f, "{name} at {:#x}, size {:#x}: expected whole pages of 4 KiB, not empty", r.base, r.size),
            Self::Overlap(a, b) => write!(f, "{a} overlaps {b}"),
            Self::VolumeOutsideImage(r) => write!(f, "firmware volume at {:#x}, size {:#x} does not lie inside the image", r.base, r.size),
            Self::NotAFirmwareVolume => write!(f, "image does not begin with a firmware volume: expected '_FVH' at offset 0x28 and a length that fits"),
        }
    }
}

impl core::error::Error for HobError {}

/// The boot firmware volume of an image that starts with one, as StMM's does: its length stands in its header.
///
/// `start` is the beginning of the image, at least 48 bytes of it.
///
/// # Errors
/// [`HobError::NotAFirmwareVolume`] when the signature is missing or the length does not fit the image.
pub fn boot_firmware_volume(image: HobRegion, start: &[u8]) -> Result<HobRegion, HobError> {
    let length: [u8; 8] = start.get(0x20..0x28).and_then(|b| b.try_into().ok()).ok_or(HobError::NotAFirmwareVolume)?;
    let size = u64::from_le_bytes(length);
    if start.get(0x28..0x2c) != Some(b"_FVH") || size == 0 || size > image.size {
        return Err(HobError::NotAFirmwareVolume);
    }
    Ok(HobRegion { base: image.base, size })
}

/// Writes the list for `layout` to the beginning of `out` and returns its length.
///
/// # Errors
/// When the layout is one that StMM cannot live with, or `out` is too short. Nothing useful is in `out` then.
#[inline(never)]
pub fn stmm_hob_list(layout: &HobLayout, out: &mut [u8]) -> Result<usize, HobError> {
    check(layout)?;
    let need = list_size(layout);
    let out = out.get_mut(..need).ok_or(HobError::TooShort(need))?;
    let mut w = Writer { out, at: 0 };

    w.hob(TYPE_HANDOFF, HANDOFF_SIZE);
    w.u32(HANDOFF_VERSION);
    w.u32(0); // boot mode: full configuration
    w.u64(layout.heap.end()); // memory top
    w.u64(layout.heap.base); // memory bottom
    w.u64(layout.heap.end()); // free memory top
    w.u64(layout.heap.base); // free memory bottom
    w.u64(layout.list + (need - HEADER) as u64); // the end HOB

    w.hob(TYPE_FIRMWARE_VOLUME, HEADER + 16);
    w.u64(layout.boot_fv.base);
    w.u64(layout.boot_fv.size);

    w.guid_hob(NON_SECURE_BUFFER, DESCRIPTOR);
    w.descriptor(layout.normal_buffer, ALLOCATED);

    w.guid_hob(MMRAM_RESERVE, 8 + 4 * DESCRIPTOR);
    w.u32(4);
    w.u32(0);
    w.descriptor(layout.image, ALLOCATED);
    w.descriptor(layout.secure_buffer, ALLOCATED);
    w.descriptor(layout.normal_buffer, ALLOCATED);
    w.descriptor(layout.heap, 0);

    if let Some(core) = layout.core {
        w.hob(TYPE_MEMORY_ALLOCATION, MODULE_SIZE);
        w.guid(ALLOCATION_MODULE);
        w.u64(core.base);
        w.u64(core.size);
        w.u32(RUNTIME_CODE);
        w.u32(0);
        w.guid(MM_CORE);
        w.u64(layout.boot_fv.base); // entry point: the branch at the volume's start
    }

    if layout.core_buffer {
        w.guid_hob(COMMUNICATION_BUFFER, 24 + BUFFER_STATUS);
        w.u64(layout.normal_buffer.base);
        w.u64(layout.normal_buffer.size / PAGE);
        // Address of the status: the zero bytes that follow. Zero means "no message waits here", now and for ever.
        let status = layout.list + (w.at + 8) as u64;
        w.u64(status);
        for _ in 0..BUFFER_STATUS / 8 {
            w.u64(0);
        }
    }

    w.hob(TYPE_END, HEADER);
    debug_assert_eq!(w.at, need);
    Ok(need)
}

const MODULE_SIZE: usize = HEADER + 40 + 16 + 8;

const fn list_size(layout: &HobLayout) -> usize {
    let guid = HEADER + 16;
    let mut size = HANDOFF_SIZE + HEADER + 16 + (guid + DESCRIPTOR) + (guid + 8 + 4 * DESCRIPTOR) + HEADER;
    if layout.core.is_some() {
        size += MODULE_SIZE;
    }
    if layout.core_buffer {
        size += guid + 24 + BUFFER_STATUS;
    }
    size
}

fn check(layout: &HobLayout) -> Result<(), HobError> {
    if !layout.list.is_multiple_of(8) || layout.list.checked_add(PAGE).is_none() {
        return Err(HobError::ListAlignment(layout.list));
    }
    let regions =
        [("image", layout.image), ("secure buffer", layout.secure_buffer), ("normal-world buffer", layout.normal_buffer), ("heap", layout.heap)];
    for (i, &(name, region)) in regions.iter().enumerate() {
        let whole_pages = region.base.is_multiple_of(PAGE) && region.size.is_multiple_of(PAGE);
        if !whole_pages || region.size == 0 || region.base.checked_add(region.size).is_none() {
            return Err(HobError::BadRegion(name, region));
        }
        for &(other_name, other) in &regions[..i] {
            if region.overlaps(other) {
                return Err(HobError::Overlap(other_name, name));
            }
        }
    }
    if layout.boot_fv.size == 0 || !layout.image.contains(layout.boot_fv) {
        return Err(HobError::VolumeOutsideImage(layout.boot_fv));
    }
    Ok(())
}

/// A GUID by its parts; in memory the first three are little endian.
#[derive(Clone, Copy)]
struct Guid(u32, u16, u16, [u8; 8]);

impl Guid {
    fn bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.0.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.1.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.2.to_le_bytes());
        bytes[8..].copy_from_slice(&self.3);
        bytes
    }
}

/// Appends to a slice whose length has been checked.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline(never)]
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    #[inline(never)]
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn guid(&mut self, guid: Guid) {
        self.bytes(&guid.bytes());
    }

    fn hob(&mut self, hob_type: u16, length: usize) {
        self.u32(u32::from(hob_type) | (length as u32) << 16);
        self.u32(0);
    }

    fn guid_hob(&mut self, guid: Guid, data: usize) {
        self.hob(TYPE_GUID_EXTENSION, HEADER + 16 + data);
        self.guid(guid);
    }

    fn descriptor(&mut self, region: HobRegion, state: u64) {
        self.u64(region.base);
        self.u64(region.base);
        self.u64(region.size);
        self.u64(state);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::format;
    use std::vec::Vec;

    const IMAGE: HobRegion = HobRegion { base: 0x0e20_4000, size: 0x12_4000 };

    fn layout() -> HobLayout {
        HobLayout {
            list: 0x0e20_0100,
            image: IMAGE,
            boot_fv: IMAGE,
            secure_buffer: HobRegion { base: 0x0e32_8000, size: 0x8000 },
            normal_buffer: HobRegion { base: 0x5ff0_0000, size: 0x1_0000 },
            heap: HobRegion { base: 0x0e33_0000, size: 0x2d_0000 },
            core_buffer: true,
            core: Some(HobRegion { base: 0x0e20_5000, size: 0x1_c000 }),
        }
    }

    fn build(layout: &HobLayout) -> Vec<u8> {
        let mut out = [0xAA; 1024];
        let length = stmm_hob_list(layout, &mut out).expect("a good layout");
        assert!(out[length..].iter().all(|&b| b == 0xAA), "nothing is written after the list");
        out[..length].to_vec()
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
    }

    /// Walks the list as EDK2 does: by the length in each header, until the end HOB.
    fn walk(list: &[u8]) -> Vec<(u16, &[u8])> {
        let mut hobs = Vec::new();
        let mut at = 0;
        loop {
            let kind = u16::from_le_bytes([list[at], list[at + 1]]);
            let length = usize::from(u16::from_le_bytes([list[at + 2], list[at + 3]]));
            assert!(length >= 8 && length % 8 == 0, "HOB lengths are multiples of 8");
            hobs.push((kind, &list[at + 8..at + length]));
            at += length;
            if kind == TYPE_END {
                assert_eq!(at, list.len());
                return hobs;
            }
        }
    }

    fn guid_hob<'a>(list: &'a [u8], guid: &str) -> Option<&'a [u8]> {
        let name = |b: &[u8]| {
            format!(
                "{:08x}-{:04x}-{:04x}-{}",
                u32::from_le_bytes(b[..4].try_into().expect("4")),
                u16::from_le_bytes(b[4..6].try_into().expect("2")),
                u16::from_le_bytes(b[6..8].try_into().expect("2")),
                b[8..16].iter().map(|b| format!("{b:02x}")).collect::<std::string::String>()
            )
        };
        walk(list).into_iter().find(|(kind, body)| *kind == 4 && name(body) == guid).map(|(_, body)| &body[16..])
    }

    #[test]
    fn list_begins_with_the_handoff_table_and_points_to_its_end() {
        let list = build(&layout());
        let hobs = walk(&list);
        assert_eq!(hobs[0].0, TYPE_HANDOFF);
        assert_eq!(hobs[0].1[..4], 9u32.to_le_bytes());
        assert_eq!(u64_at(hobs[0].1, 40), 0x0e20_0100 + list.len() as u64 - 8);
        assert_eq!(hobs.last().map(|h| h.0), Some(TYPE_END));
    }

    #[test]
    fn firmware_volume_is_the_image() {
        let list = build(&layout());
        let volume = walk(&list).into_iter().find(|h| h.0 == TYPE_FIRMWARE_VOLUME).expect("a volume").1;
        assert_eq!((u64_at(volume, 0), u64_at(volume, 8)), (IMAGE.base, IMAGE.size));
    }

    #[test]
    fn four_regions_in_stmms_order_and_only_the_heap_is_free() {
        let list = build(&layout());
        let data = guid_hob(&list, "0703f912-bf8d-4e2a-be07ab272525c592").expect("the regions");
        assert_eq!(u64_at(data, 0), 4);
        let regions: Vec<_> = (0..4).map(|i| (u64_at(data, 8 + 32 * i), u64_at(data, 16 + 32 * i), u64_at(data, 24 + 32 * i), u64_at(data, 32 + 32 * i))).collect();
        assert_eq!(regions[0], (0x0e20_4000, 0x0e20_4000, 0x12_4000, 0x10));
        assert_eq!(regions[1], (0x0e32_8000, 0x0e32_8000, 0x8000, 0x10));
        assert_eq!(regions[2], (0x5ff0_0000, 0x5ff0_0000, 0x1_0000, 0x10));
        assert_eq!(regions[3], (0x0e33_0000, 0x0e33_0000, 0x2d_0000, 0));
    }

    #[test]
    fn normal_world_buffer_has_its_own_hob() {
        let list = build(&layout());
        let data = guid_hob(&list, "f00497e3-bfa2-41a1-9d2954c2e93721c5").expect("the buffer");
        assert_eq!((u64_at(data, 0), u64_at(data, 16)), (0x5ff0_0000, 0x1_0000));
    }

    #[test]
    fn core_buffer_status_points_to_zero_bytes_in_the_list() {
        let list = build(&layout());
        let data = guid_hob(&list, "6c2a2520-0131-4aee-a750cc384aace8c6").expect("the buffer");
        assert_eq!((u64_at(data, 0), u64_at(data, 8)), (0x5ff0_0000, 16));
        let status = usize::try_from(u64_at(data, 16) - 0x0e20_0100).expect("an offset");
        assert!(list[status..status + 24].iter().all(|&b| b == 0));
    }

    #[test]
    fn optional_hobs_are_left_out() {
        let list = build(&HobLayout { core_buffer: false, core: None, ..layout() });
        assert!(guid_hob(&list, "6c2a2520-0131-4aee-a750cc384aace8c6").is_none());
        assert!(walk(&list).iter().all(|h| h.0 != TYPE_MEMORY_ALLOCATION));
    }

    #[test]
    fn core_module_is_not_boot_services_data() {
        let list = build(&layout());
        let module = walk(&list).into_iter().find(|h| h.0 == TYPE_MEMORY_ALLOCATION).expect("a module").1;
        assert_eq!(module[32..36], 5u32.to_le_bytes());
        assert_eq!(module[40..44], [0xfd, 0xb6, 0x14, 0x6e]);
    }

    #[test]
    fn short_output_is_refused_with_the_size_needed() {
        let need = build(&layout()).len();
        let mut out = std::vec![0; need - 1];
        assert_eq!(stmm_hob_list(&layout(), &mut out), Err(HobError::TooShort(need)));
    }

    #[test]
    fn bad_layouts_are_refused() {
        let mut out = [0; 1024];
        let mut refuse = |layout: HobLayout, error: HobError| assert_eq!(stmm_hob_list(&layout, &mut out), Err(error));
        let good = layout();
        refuse(HobLayout { list: 0x0e20_0104, ..good }, HobError::ListAlignment(0x0e20_0104));
        let odd = HobRegion { base: 0x0e33_0800, size: 0x1000 };
        refuse(HobLayout { heap: odd, ..good }, HobError::BadRegion("heap", odd));
        let empty = HobRegion { base: 0x0e33_0000, size: 0 };
        refuse(HobLayout { heap: empty, ..good }, HobError::BadRegion("heap", empty));
        let wrapping = HobRegion { base: 0xffff_ffff_ffff_f000, size: 0x2000 };
        refuse(HobLayout { normal_buffer: wrapping, ..good }, HobError::BadRegion("normal-world buffer", wrapping));
        refuse(HobLayout { heap: HobRegion { base: 0x0e32_f000, size: 0x2000 }, ..good }, HobError::Overlap("secure buffer", "heap"));
        let outside = HobRegion { base: IMAGE.base, size: IMAGE.size + 1 };
        refuse(HobLayout { boot_fv: outside, ..good }, HobError::VolumeOutsideImage(outside));
    }

    #[test]
    fn volume_length_comes_from_its_header() {
        let mut start = [0; 48];
        start[0x20..0x28].copy_from_slice(&0x11_d000u64.to_le_bytes());
        assert_eq!(boot_firmware_volume(IMAGE, &start), Err(HobError::NotAFirmwareVolume));
        start[0x28..0x2c].copy_from_slice(b"_FVH");
        assert_eq!(boot_firmware_volume(IMAGE, &start), Ok(HobRegion { base: IMAGE.base, size: 0x11_d000 }));
        assert_eq!(boot_firmware_volume(HobRegion { size: 0x1000, ..IMAGE }, &start), Err(HobError::NotAFirmwareVolume));
        assert_eq!(boot_firmware_volume(IMAGE, &start[..40]), Err(HobError::NotAFirmwareVolume));
    }
}
