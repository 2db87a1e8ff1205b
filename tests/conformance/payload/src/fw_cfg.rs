//! QEMU's fw_cfg: the host chooses what this boot checks.
#![expect(unsafe_code, reason = "device registers")]

const DATA: usize = 0x0902_0000;
const SELECTOR: usize = 0x0902_0008;
const DIRECTORY: u16 = 0x0019;
/// Bytes of an item that are looked at.
pub const MAX: usize = 256;

/// Content of an item; empty where there is none.
#[derive(Clone, Copy)]
pub struct Item {
    bytes: [u8; MAX],
    length: usize,
}

impl Item {
    /// The words of the item.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        core::str::from_utf8(&self.bytes[..self.length]).unwrap_or("").split_ascii_whitespace()
    }
}

fn select(key: u16) {
    // SAFETY: QEMU virt's fw_cfg device; the register is big-endian.
    unsafe { (SELECTOR as *mut u16).write_volatile(key.to_be()) };
}

fn next<const N: usize>() -> [u8; N] {
    // SAFETY: reading the data register gives the next byte of the selected item, for ever.
    core::array::from_fn(|_| unsafe { (DATA as *const u8).read_volatile() })
}

/// The item with this name.
pub fn item(name: &[u8]) -> Item {
    let mut found = Item { bytes: [0; MAX], length: 0 };
    select(DIRECTORY);
    let count = u32::from_be_bytes(next());
    for _ in 0..count {
        let size = u32::from_be_bytes(next()) as usize;
        let key = u16::from_be_bytes(next());
        let _: [u8; 2] = next();
        let entry: [u8; 56] = next();
        if entry.starts_with(name) && entry[name.len()] == 0 {
            select(key);
            found.length = size.min(MAX);
            for byte in &mut found.bytes[..found.length] {
                [*byte] = next();
            }
            return found;
        }
    }
    found
}
