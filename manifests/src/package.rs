//! Partition packages as BL2 leaves them in memory: TF-A's sptool format and transfer lists (Firmware Handoff
//! specification) as Hafnium takes them. All fields are hostile until they are checked against the bytes there are.

use crate::error::{Complaint, Expected, Found, ManifestError, NodePath, Refused, Subject};
use crate::range::PAGE_SIZE;
use zerocopy::FromBytes;

/// `SPKG`, the first four bytes of sptool's format.
pub const SPTOOL_MAGIC: [u8; 4] = *b"SPKG";
/// Bytes of sptool's header: magic, version, manifest offset and size, image offset and size.
pub const SPTOOL_HEADER_SIZE: usize = 24;
/// Signature of a transfer list.
pub const TRANSFER_LIST_SIGNATURE: u32 = 0x4A0F_B10B;
/// Bytes of a transfer list's header.
pub const TRANSFER_LIST_HEADER_SIZE: usize = 24;
/// Bytes of the header of a transfer list's entry.
pub const TRANSFER_ENTRY_HEADER_SIZE: usize = 8;
/// Tag of an entry that only fills space.
pub const TAG_EMPTY: u32 = 0;
/// Tag of the HOB list's entry.
pub const TAG_HOB_LIST: u32 = 3;
/// Tag of the image's entry.
pub const TAG_IMAGE: u32 = 0x103;
/// Tag of the partition manifest's entry.
pub const TAG_MANIFEST: u32 = 0x106;

/// The kind of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackageKind {
    /// sptool's format, and its version (1 or 2).
    Sptool(u32),
    /// A transfer list.
    TransferList,
}

/// A part of a package, by its offset from the package's first byte. Lies inside the bytes that were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Bytes before it.
    pub offset: usize,
    /// Bytes of it.
    pub size: usize,
}

impl Extent {
    /// The part's bytes out of the same `package` that it was read from (an empty slice from a shorter one).
    #[must_use]
    pub fn of<'a>(&self, package: &'a [u8]) -> &'a [u8] {
        self.offset.checked_add(self.size).and_then(|end| package.get(self.offset..end)).unwrap_or(&[])
    }

    /// Offset of the first byte after it.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.offset.saturating_add(self.size)
    }

    const fn is_aligned(&self, granule: usize) -> bool {
        self.offset.is_multiple_of(granule)
    }
}

/// The parts of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its kind.
    pub kind: PackageKind,
    /// The partition manifest (a device tree).
    pub manifest: Extent,
    /// The image.
    pub image: Extent,
    /// The HOB list, if there is one (transfer lists only).
    pub hob_list: Option<Extent>,
    /// Whole pages at the package's start that nothing else needs any more: room for the boot information. Empty for
    /// sptool's version 1, whose manifest begins in the first page.
    pub boot_info: Extent,
    /// All bytes of the package.
    pub size: usize,
}

impl Package {
    /// Reads the headers of the package that `bytes` begins with; `bytes` may go on after the package (as the memory of
    /// a partition does). `subject` is for messages.
    #[inline(never)]
    pub fn read(bytes: &[u8], subject: Subject) -> Result<Self, ManifestError> {
        let reader = Reader { bytes, complaint: Complaint::about(subject) };
        reader.complaint.judge(reader.read())
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    complaint: Complaint,
}

impl Reader<'_> {
    fn read(&self) -> Result<Package, Refused> {
        match self.bytes.first_chunk::<4>() {
            Some(&SPTOOL_MAGIC) => self.sptool(),
            Some(&word) if u32::from_le_bytes(word) == TRANSFER_LIST_SIGNATURE => self.transfer_list(),
            Some(&word) => Err(self.error(
                "magic",
                Found::Hex(u32::from_le_bytes(word).into()),
                Expected::Text("0x474b5053 (\"SPKG\", sptool) or 0x4a0fb10b (transfer list): is the package loaded at this address?"),
            )),
            None => Err(self.error("", Found::Bytes(self.bytes.len()), Expected::Text("at least the 24 bytes of a header"))),
        }
    }

    #[cold]
    #[inline(never)]
    fn error(&self, property: &'static str, found: Found, expected: Expected) -> Refused {
        self.complaint.note(NodePath::package(), property, found, expected)
    }

    #[cold]
    #[inline(never)]
    fn not_hex(&self, property: &'static str, found: u64, expected: &'static str) -> Refused {
        self.error(property, Found::Hex(found), Expected::Text(expected))
    }

    #[cold]
    #[inline(never)]
    fn not_number(&self, property: &'static str, found: u64, expected: &'static str) -> Refused {
        self.error(property, Found::Number(found), Expected::Text(expected))
    }

    #[cold]
    #[inline(never)]
    fn missing(&self, property: &'static str, expected: &'static str) -> Refused {
        self.error(property, Found::Missing, Expected::Text(expected))
    }

    #[inline(never)]
    fn word(&self, offset: usize) -> Result<u32, Refused> {
        self.bytes
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map(|word| u32::from_le_bytes(*word))
            .ok_or_else(|| self.error("", Found::Bytes(self.bytes.len()), Expected::Text("at least the bytes of its headers")))
    }

    fn extent(&self, name: &'static str, offset: u32, size: u32) -> Result<Extent, Refused> {
        let (offset, size) = (offset as usize, size as usize);
        match offset.checked_add(size) {
            Some(end) if end <= self.bytes.len() => Ok(Extent { offset, size }),
            _ => Err(self.error(name, Found::Hex((offset as u64).saturating_add(size as u64)), Expected::HexAtMost(self.bytes.len() as u64, "the bytes that the partition's memory or the file has"))),
        }
    }

    fn sptool(&self) -> Result<Package, Refused> {
        let version = self.word(4)?;
        let manifest_offset = self.word(8)?;
        let image_offset = self.word(16)?;
        let manifest = self.extent("end of the manifest", manifest_offset, self.word(12)?)?;
        let image = self.extent("end of the image", image_offset, self.word(20)?)?;
        match version {
            1 if manifest.offset < SPTOOL_HEADER_SIZE => {
                return Err(self.not_hex("manifest offset", manifest_offset.into(), "0x18 or more: after the header"));
            }
            1 => {}
            2 if manifest.offset == 0 || !manifest.is_aligned(PAGE_SIZE as usize) => {
                return Err(self.not_hex("manifest offset", manifest_offset.into(), "a multiple of 0x1000, not 0: the first page is the boot information's"));
            }
            2 => {}
            _ => return Err(self.not_number("version", version.into(), "1 or 2")),
        }
        if !image.is_aligned(PAGE_SIZE as usize) {
            return Err(self.error("image offset", Found::Hex(image_offset.into()), Expected::AlignedTo(PAGE_SIZE)));
        }
        if manifest.end() > image.offset {
            return Err(self.error("end of the manifest", Found::Hex(manifest.end() as u64), Expected::HexAtMost(image.offset as u64, "the image's offset; give sptool a larger --img-offset")));
        }
        self.finish(PackageKind::Sptool(version), manifest, image, None, image.end())
    }

    fn transfer_list(&self) -> Result<Package, Refused> {
        let [_, version, header_size, _] = self.word(4)?.to_le_bytes();
        let size = self.word(8)?;
        let flags = self.word(16)?;
        if version == 0 {
            return Err(self.not_number("version", 0, "1 or more"));
        }
        if usize::from(header_size) < TRANSFER_LIST_HEADER_SIZE || !header_size.is_multiple_of(8) {
            return Err(self.not_number("header size", header_size.into(), "24, or a larger multiple of 8"));
        }
        let whole = self.extent("size", 0, size)?;
        if whole.size < usize::from(header_size) {
            return Err(self.not_hex("size", size.into(), "at least the size of its header"));
        }
        if flags & 1 != 0 && byte_sum(whole.of(self.bytes)) != 0 {
            return Err(self.error("checksum", Found::Reason("does not match"), Expected::Text("bytes that sum up to 0 modulo 256")));
        }
        let (mut manifest, mut image, mut hob_list) = (None, None, None);
        let mut offset = usize::from(header_size);
        // Each round moves on by at least the entry's header, so this ends after size / 8 rounds at the latest.
        while offset + TRANSFER_ENTRY_HEADER_SIZE <= whole.size {
            let tag_and_header = self.word(offset)?;
            let (tag, entry_header) = (tag_and_header & 0x00FF_FFFF, (tag_and_header >> 24) as usize);
            let data_size = self.word(offset + 4)? as usize;
            let end = offset.checked_add(entry_header).and_then(|start| start.checked_add(data_size));
            let Some(end) = end.filter(|end| entry_header >= TRANSFER_ENTRY_HEADER_SIZE && *end <= whole.size) else {
                return Err(self.not_hex("size of an entry", (entry_header as u64).saturating_add(data_size as u64), "a header of 8 bytes or more and data that end inside the transfer list"));
            };
            let (slot, name) = match tag {
                TAG_MANIFEST => (&mut manifest, "manifest entry (tag 0x106)"),
                TAG_IMAGE => (&mut image, "image entry (tag 0x103)"),
                TAG_HOB_LIST => (&mut hob_list, "HOB list entry (tag 3)"),
                _ => {
                    offset = end.next_multiple_of(8);
                    continue;
                }
            };
            let data = Extent { offset: offset + entry_header, size: data_size };
            if !data.is_aligned(PAGE_SIZE as usize) {
                return Err(self.error(name, Found::Hex(data.offset as u64), Expected::AlignedTo(PAGE_SIZE)));
            }
            if slot.replace(data).is_some() {
                return Err(self.error(name, Found::Reason("is there twice"), Expected::Text("one of each")));
            }
            offset = end.next_multiple_of(8);
        }
        let manifest = manifest.ok_or_else(|| self.missing("manifest entry (tag 0x106)", "one of each"))?;
        let image = image.ok_or_else(|| self.missing("image entry (tag 0x103)", "one of each"))?;
        self.finish(PackageKind::TransferList, manifest, image, hob_list, whole.size)
    }

    /// The checks that both kinds share.
    fn finish(&self, kind: PackageKind, manifest: Extent, image: Extent, hob_list: Option<Extent>, size: usize) -> Result<Package, Refused> {
        if image.size == 0 {
            return Err(self.not_number("image size", 0, "1 or more bytes"));
        }
        if manifest.size == 0 {
            return Err(self.not_number("manifest size", 0, "1 or more bytes"));
        }
        let first = manifest.offset.min(image.offset).min(hob_list.map_or(usize::MAX, |hob| hob.offset));
        let boot_info = Extent { offset: 0, size: first - first % PAGE_SIZE as usize };
        Ok(Package { kind, manifest, image, hob_list, boot_info, size })
    }
}

/// The sum of all bytes modulo 256. Images have a million of them, so that eight are added at a time.
fn byte_sum(bytes: &[u8]) -> u8 {
    /// Four lanes of 16 bits, in which 128 times two bytes find room.
    const LANES: u64 = 0x00ff_00ff_00ff_00ff;
    // Packages lie at pages; of other bytes each is a rest.
    let (words, rest) = <[u64]>::ref_from_prefix_with_elems(bytes, bytes.len() / 8).unwrap_or((&[], bytes));
    let mut total = 0;
    for run in words.chunks(128) {
        let lanes = run.iter().fold(0u64, |sum, word| sum.wrapping_add(word & LANES).wrapping_add(word >> 8 & LANES));
        total = (total & LANES).wrapping_add(lanes & LANES);
    }
    total.to_le_bytes().iter().step_by(2).chain(rest).fold(0, |sum, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::byte_sum;
    use std::vec::Vec;

    #[test]
    fn bytes_are_summed_whatever_their_number_and_place() {
        for length in [0, 1, 7, 8, 9, 1023, 1024, 1025, 8 * 128 * 3 + 5] {
            for of in [|_| 0xff, |n: usize| (n * 31 + n / 256) as u8] {
                let bytes: Vec<u8> = (0..length + 8).map(of).collect();
                for first in 0..8 {
                    let bytes = &bytes[first..][..length];
                    assert_eq!(byte_sum(bytes), bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), "{length} bytes from {first} on");
                }
            }
        }
    }
}
