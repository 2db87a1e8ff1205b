//! TF-A's firmware image package: a table of contents and the images, as BL1 and BL2 read them from flash.
//!
//! TF-A's own `fiptool` makes the same; writing it here takes a millisecond and needs no build of that tool.

use anyhow::{Context, Result, bail};

/// First word of a package.
const MAGIC: u32 = 0xAA64_0001;
/// Second word; the reader wants it to be non-zero.
const SERIAL: u32 = 0x1234_5678;
const HEADER_SIZE: u64 = 16;
const ENTRY_SIZE: u64 = 40;

/// UUID of a package's entry, in the byte order of the file.
pub type EntryId = [u8; 16];

/// BL2.
pub const BL2: EntryId = [0x5f, 0xf9, 0xec, 0x0b, 0x4d, 0x22, 0x3e, 0x4d, 0xa5, 0x44, 0xc3, 0x9d, 0x81, 0xc7, 0x3f, 0x0a];
/// BL31: EL3 with the SPMD.
pub const BL31: EntryId = [0x47, 0xd4, 0x08, 0x6d, 0x4c, 0xfe, 0x98, 0x46, 0x9b, 0x95, 0x29, 0x50, 0xcb, 0xbd, 0x5a, 0x00];
/// BL32: the SPMC.
pub const BL32: EntryId = [0x05, 0xd0, 0xe1, 0x89, 0x53, 0xdc, 0x13, 0x47, 0x8d, 0x2b, 0x50, 0x0a, 0x4b, 0x7a, 0x3e, 0x38];
/// BL33: what the normal world starts with.
pub const BL33: EntryId = [0xd6, 0xd0, 0xee, 0xa7, 0xfc, 0xea, 0xd5, 0x4b, 0x97, 0x82, 0x99, 0x34, 0xf2, 0x34, 0xb6, 0xe4];
/// BL2's configuration: which SP packages to load where.
pub const TB_FW_CONFIG: EntryId = [0x6c, 0x04, 0x58, 0xff, 0xaf, 0x6b, 0x7d, 0x4f, 0x82, 0xed, 0xaa, 0x27, 0xbc, 0x69, 0xbf, 0xd2];
/// BL32's configuration: the SPMC manifest.
pub const TOS_FW_CONFIG: EntryId = [0x26, 0x25, 0x7c, 0x1a, 0xdb, 0xc6, 0x7f, 0x47, 0x8d, 0x96, 0xc4, 0xc4, 0xb0, 0x24, 0x80, 0x21];

/// The entry id for a UUID in text form (SP packages): the bytes in the order in which they are written.
///
/// # Errors
/// When the text is not a UUID.
pub fn entry_id(uuid: &str) -> Result<EntryId> {
    let groups: Vec<&str> = uuid.split('-').collect();
    if groups.iter().map(|g| g.len()).ne([8, 4, 4, 4, 12]) {
        bail!("'{uuid}' is not a UUID (8-4-4-4-12 hex digits)");
    }
    let digits = groups.concat();
    let mut id = [0; 16];
    for (i, byte) in id.iter_mut().enumerate() {
        let pair = digits.get(2 * i..2 * i + 2).with_context(|| format!("'{uuid}' is not a UUID"))?;
        *byte = u8::from_str_radix(pair, 16).with_context(|| format!("'{uuid}' is not a UUID"))?;
    }
    Ok(id)
}

/// Makes a package of `images`.
///
/// # Errors
/// When two entries have the same id.
pub fn write(images: &[(EntryId, Vec<u8>)]) -> Result<Vec<u8>> {
    for (i, (id, _)) in images.iter().enumerate() {
        if images[..i].iter().any(|(other, _)| other == id) {
            bail!("two images have the id {}", crate::fetch::hex(id));
        }
    }
    let contents_end = HEADER_SIZE + ENTRY_SIZE * (images.len() as u64 + 1);
    let mut package = Vec::new();
    package.extend(MAGIC.to_le_bytes());
    package.extend(SERIAL.to_le_bytes());
    package.extend(0u64.to_le_bytes());
    let mut offset = contents_end;
    for (id, image) in images {
        entry(&mut package, id, offset, image.len() as u64);
        offset += image.len() as u64;
    }
    // The end marker's offset is the size of the whole package.
    entry(&mut package, &[0; 16], offset, 0);
    images.iter().for_each(|(_, image)| package.extend(image));
    Ok(package)
}

fn entry(package: &mut Vec<u8>, id: &EntryId, offset: u64, size: u64) {
    package.extend(id);
    for word in [offset, size, 0] {
        package.extend(word.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(package: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(package[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn entries_point_at_their_images_and_the_marker_at_the_end() {
        let package = write(&[(BL2, b"two".to_vec()), (BL33, b"thirty-three".to_vec())]).unwrap();
        assert_eq!(package[..4], MAGIC.to_le_bytes());
        for (n, content) in [b"two".as_slice(), b"thirty-three"].iter().enumerate() {
            let at = 16 + 40 * n;
            let (offset, size) = (word(&package, at + 16) as usize, word(&package, at + 24) as usize);
            assert_eq!(&package[offset..offset + size], *content);
        }
        assert_eq!(package[16..32], BL2);
        assert_eq!(package[96..112], [0; 16]);
        assert_eq!(word(&package, 112), package.len() as u64);
    }

    #[test]
    fn a_double_entry_is_an_error() {
        assert!(write(&[(BL2, vec![]), (BL2, vec![])]).is_err());
    }

    #[test]
    fn uuids_become_bytes_in_the_order_of_the_text() {
        let id = entry_id("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(id, [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff]);
        for bad in ["", "00112233445566778899aabbccddeeff", "0011223-4455-6677-8899-aabbccddeeff0", "zz112233-4455-6677-8899-aabbccddeeff"] {
            assert!(entry_id(bad).is_err(), "{bad}");
        }
    }
}
