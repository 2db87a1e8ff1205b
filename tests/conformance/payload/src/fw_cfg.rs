//! QEMU's fw_cfg: the host chooses what this boot checks.
#![expect(unsafe_code, reason = "device registers")]

use core::fmt::Write as _;

const DATA: usize = 0x0902_0000;
const SELECTOR: usize = 0x0902_0008;
const DIRECTORY: u16 = 0x0019;

/// A word of an item.
pub type Word = bulkhead_sdk::Cut<24>;

/// An item that is being read; one at a time, because the device has one selector.
pub struct Item {
    left: usize,
}

impl Item {
    /// The next word.
    pub fn word(&mut self) -> Option<Word> {
        let mut word = Word::default();
        while self.left > 0 {
            self.left -= 1;
            let [byte] = next();
            if !byte.is_ascii_whitespace() {
                // What does not fit is cut off, and is then no word that anybody knows.
                let _ = word.write_char(char::from(byte));
            } else if !word.as_str().is_empty() {
                break;
            }
        }
        (!word.as_str().is_empty()).then_some(word)
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

/// The item with this name, if there is one.
pub fn item(name: &[u8]) -> Option<Item> {
    select(DIRECTORY);
    let count = u32::from_be_bytes(next());
    for _ in 0..count {
        let size = u32::from_be_bytes(next()) as usize;
        let key = u16::from_be_bytes(next());
        let _: [u8; 2] = next();
        let entry: [u8; 56] = next();
        if entry.starts_with(name) && entry[name.len()] == 0 {
            select(key);
            return Some(Item { left: size });
        }
    }
    None
}
