//! SP packages: a partition's manifest and image in one blob, which TF-A's BL2 loads and the SPMC opens.
//!
//! Two formats exist and both are written here: TF-A's `sptool` format (a 24-byte header, manifest and image at page
//! boundaries) and the transfer list of the Firmware Handoff specification, which can carry a HOB list as well.

use anyhow::{Result, bail};
use bulkhead_manifests::package::{SPTOOL_HEADER_SIZE as SPTOOL_HEADER, SPTOOL_MAGIC, TRANSFER_LIST_SIGNATURE};

/// Granule of all offsets.
const PAGE: usize = 4096;
/// Where `sptool` puts the manifest unless told otherwise.
pub const MANIFEST_OFFSET: usize = 0x1000;
/// Where `sptool` puts the image unless told otherwise.
pub const IMAGE_OFFSET: usize = 0x4000;
/// TF-A's QEMU port loads packages up to this size.
pub const MAX_SIZE: usize = 4 << 20;

/// Format of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TF-A's `sptool`, version 2 of the header.
    Sptool,
    /// Transfer list (Firmware Handoff specification), manifest and image as page-aligned entries.
    TransferList,
    /// None to be made: the image is a package.
    Packed,
}

/// Packs `manifest` (a device tree blob) and `image`.
///
/// # Errors
/// When they do not fit the format.
pub fn write(format: Format, manifest: &[u8], image: &[u8]) -> Result<Vec<u8>> {
    match format {
        Format::Sptool => sptool(manifest, image, IMAGE_OFFSET),
        Format::TransferList => {
            room_for(manifest, IMAGE_OFFSET - MANIFEST_OFFSET)?;
            check_size(transfer_list(manifest, image))
        }
        Format::Packed => check_size(image.to_vec()),
    }
}

fn room_for(manifest: &[u8], room: usize) -> Result<()> {
    if manifest.len() > room {
        bail!("the manifest has {} bytes; a package has room for {room}", manifest.len());
    }
    Ok(())
}

/// Whether TF-A loads a package of this size.
fn check_size(package: Vec<u8>) -> Result<Vec<u8>> {
    if package.len() > MAX_SIZE {
        bail!("the package has {} bytes; TF-A's QEMU port loads {MAX_SIZE} at most", package.len());
    }
    Ok(package)
}

/// Packs in `sptool`'s format, with the image at `image_offset` (a multiple of 4096, not 0). An image in the second page
/// leaves the manifest only the rest of the first one: version 1 of the header, without room for boot information.
///
/// # Errors
/// When manifest and image do not fit.
pub fn sptool(manifest: &[u8], image: &[u8], image_offset: usize) -> Result<Vec<u8>> {
    let (version, manifest_offset) = if image_offset > MANIFEST_OFFSET { (2, MANIFEST_OFFSET) } else { (1, SPTOOL_HEADER) };
    room_for(manifest, image_offset.saturating_sub(manifest_offset))?;
    let mut package = SPTOOL_MAGIC.to_vec();
    for word in [version, manifest_offset, manifest.len(), image_offset, image.len()] {
        package.extend(u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes());
    }
    package.resize(manifest_offset, 0);
    package.extend(manifest);
    package.resize(image_offset, 0);
    package.extend(image);
    check_size(package)
}

/// Whether `bytes` are a package of one of the two formats.
#[must_use]
pub fn is_package(bytes: &[u8]) -> bool {
    bytes.starts_with(&SPTOOL_MAGIC) || bytes.starts_with(&TRANSFER_LIST_SIGNATURE.to_le_bytes())
}

/// Tag of an entry without meaning: padding here.
const TL_EMPTY: u32 = 0;
/// Tag of a partition's image.
const TL_SP_BINARY: u32 = 0x103;
/// Tag of a partition's manifest.
const TL_FFA_MANIFEST: u32 = 0x106;
const TL_HEADER: usize = 24;
const TL_ENTRY_HEADER: usize = 8;

/// Transfer list version 1: header, then entries whose data lie at page boundaries; the gaps are empty entries. The image
/// lies at the same offset as in an `sptool` package, so that one link address serves both formats.
fn transfer_list(manifest: &[u8], image: &[u8]) -> Vec<u8> {
    let mut list = vec![0; TL_HEADER];
    pad_to(&mut list, MANIFEST_OFFSET);
    entry(&mut list, TL_FFA_MANIFEST, manifest);
    pad_to(&mut list, IMAGE_OFFSET);
    entry(&mut list, TL_SP_BINARY, image);
    list.resize(list.len().next_multiple_of(8), 0);
    let size = u32::try_from(list.len()).unwrap_or(u32::MAX);
    list[0..4].copy_from_slice(&TRANSFER_LIST_SIGNATURE.to_le_bytes());
    list[5] = 1; // version
    list[6] = TL_HEADER as u8;
    list[7] = PAGE.trailing_zeros() as u8; // alignment, as a power of two
    list[8..12].copy_from_slice(&size.to_le_bytes()); // used
    list[12..16].copy_from_slice(&size.to_le_bytes()); // in total
    list[16..20].copy_from_slice(&1u32.to_le_bytes()); // flags: has a checksum
    let sum = list.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    list[4] = sum.wrapping_neg();
    list
}

/// Fills up with an empty entry so that the data of the next entry start at `offset`.
fn pad_to(list: &mut Vec<u8>, offset: usize) {
    list.resize(list.len().next_multiple_of(8), 0);
    let gap = offset - TL_ENTRY_HEADER - list.len();
    entry(list, TL_EMPTY, &vec![0; gap - TL_ENTRY_HEADER]);
}

/// Adds an entry at the next multiple of eight.
fn entry(list: &mut Vec<u8>, tag: u32, data: &[u8]) {
    list.resize(list.len().next_multiple_of(8), 0);
    // The tag takes three bytes, the size of this header the fourth.
    list.extend((tag | (TL_ENTRY_HEADER as u32) << 24).to_le_bytes());
    list.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes());
    list.extend(data);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    #[test]
    fn sptool_header_points_at_manifest_and_image() {
        let package = write(Format::Sptool, b"manifest", b"image").unwrap();
        assert_eq!((&package[..4], word(&package, 4)), (b"SPKG".as_slice(), 2));
        let part = |at: usize| &package[word(&package, at)..][..word(&package, at + 4)];
        assert_eq!(part(8), b"manifest");
        assert_eq!(part(16), b"image");
    }

    #[test]
    fn transfer_list_is_walkable_sums_to_zero_and_has_aligned_data() {
        for manifest in [b"manifest".as_slice(), b"odd"] {
            check_transfer_list(manifest);
        }
    }

    fn check_transfer_list(manifest: &[u8]) {
        let package = write(Format::TransferList, manifest, &[7; 5000]).unwrap();
        assert_eq!(word(&package, 0), TRANSFER_LIST_SIGNATURE as usize);
        assert_eq!(package.iter().fold(0u8, |s, b| s.wrapping_add(*b)), 0);
        assert_eq!(word(&package, 8), package.len());
        let mut found = Vec::new();
        let mut at = usize::from(package[6]);
        while at < word(&package, 8) {
            let (tag, size) = (word(&package, at) & 0xff_ffff, word(&package, at + 4));
            let data = at + usize::from(package[at + 3]);
            if tag != 0 {
                assert_eq!(data % PAGE, 0);
                found.push((tag, package[data..data + size].to_vec()));
            }
            at = (data + size).next_multiple_of(8);
        }
        assert_eq!(found, [(0x106, manifest.to_vec()), (0x103, vec![7; 5000])]);
    }

    #[test]
    fn an_image_in_the_second_page_has_its_manifest_in_the_first() {
        let package = sptool(b"manifest", b"image", 0x1000).unwrap();
        assert_eq!((word(&package, 4), word(&package, 8), word(&package, 16)), (1, 24, 0x1000));
        assert_eq!((&package[24..32], &package[0x1000..]), (b"manifest".as_slice(), b"image".as_slice()));
        assert_eq!(word(&sptool(&[0; 0x1000], b"image", 0x2000).unwrap(), 4), 2);
        assert!(sptool(&[0; 0x1001], b"image", 0x2000).is_err() && sptool(&[0; 0xfe9], b"image", 0x1000).is_err());
    }

    #[test]
    fn packages_are_told_from_images() {
        for format in [Format::Sptool, Format::TransferList] {
            let package = write(format, b"manifest", b"image").unwrap();
            assert!(is_package(&package));
            assert_eq!(write(Format::Packed, b"another manifest", &package).unwrap(), package);
        }
        assert!(!is_package(b"image") && !is_package(b""));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert!(write(Format::Sptool, &[0; 0x3001], b"").is_err());
        assert!(write(Format::Sptool, b"", &vec![0; MAX_SIZE]).is_err());
    }
}
