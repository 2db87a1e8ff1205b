//! QEMU's fw_cfg items by name: the host's way to tell a boot what to show without changing its disk.

use alloc::string::String;

use crate::efi::fw_cfg_read;

const SIGNATURE: u16 = 0x0000;
const DIRECTORY: u16 = 0x0019;
/// Size and key, big-endian, then a reserved word and a NUL-padded name.
const ENTRY: usize = 64;

/// Content of an item as text, if the machine has fw_cfg and the item is there.
pub fn item(name: &str) -> Option<String> {
    if fw_cfg_read(SIGNATURE, 4) != b"QEMU" {
        return None;
    }
    let count = fw_cfg_read(DIRECTORY, 4);
    let count = u32::from_be_bytes([count[0], count[1], count[2], count[3]]) as usize;
    let directory = fw_cfg_read(DIRECTORY, 4 + count * ENTRY);
    let entry = directory[4..].chunks_exact(ENTRY).find(|entry| {
        let end = entry[8..].iter().position(|&byte| byte == 0).map_or(ENTRY, |end| 8 + end);
        &entry[8..end] == name.as_bytes()
    })?;
    let size = u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]]) as usize;
    let key = u16::from_be_bytes([entry[4], entry[5]]);
    Some(String::from_utf8_lossy(&fw_cfg_read(key, size)).into_owned())
}
