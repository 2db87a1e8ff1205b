//! The boot information (DEN0077A v1.2 section 5.4), and the partition's own manifest in it.
#![expect(unsafe_code, reason = "the SPMC hands over memory by its address")]

use bulkhead_ffa::boot_info;

/// Largest manifest that is believed.
const MAX_MANIFEST: usize = 0x4000;
const FDT_MAGIC: u32 = 0xd00d_feed;
const FDT_BEGIN_NODE: u32 = 1;
const FDT_END_NODE: u32 = 2;
const FDT_PROPERTY: u32 = 3;
const FDT_NOP: u32 = 4;

/// What a partition is told at its entry.
#[derive(Clone, Copy, Debug)]
pub struct BootInformation(&'static [u8]);

impl BootInformation {
    /// The boot information at `address`, if there is some.
    ///
    /// # Safety
    /// `address` is what the SPMC passed at entry: 0, or the address of boot information that nobody changes any more.
    #[must_use]
    pub unsafe fn at(address: u64) -> Option<Self> {
        if address == 0 || !address.is_multiple_of(8) {
            return None;
        }
        // SAFETY: the caller vouches for the header.
        let header = unsafe { bytes(address, boot_info::HEADER_SIZE) };
        if word(header, 0)? != boot_info::SIGNATURE {
            return None;
        }
        let size = word(header, 8)? as usize;
        // SAFETY: the SPMC wrote the whole of it.
        Some(Self(unsafe { bytes(address, size.clamp(boot_info::HEADER_SIZE, MAX_MANIFEST)) }))
    }

    /// The partition's manifest, if it asked for it (`boot-info { ffa_manifest; }`).
    #[must_use]
    pub fn manifest(&self) -> Option<Manifest> {
        let (size, count, first) = (word(self.0, 12)? as usize, word(self.0, 16)? as usize, word(self.0, 20)? as usize);
        for n in 0..count.min(16) {
            let descriptor = self.0.get(first + n * size..)?.get(..boot_info::DESCRIPTOR_SIZE)?;
            if descriptor[16] != boot_info::TYPE_FDT {
                continue;
            }
            let address = u64::from(word(descriptor, 24)?) | u64::from(word(descriptor, 28)?) << 32;
            let length = (word(descriptor, 20)? as usize).min(MAX_MANIFEST);
            // SAFETY: the SPMC says that the manifest is there, in this partition's own memory.
            return Some(Manifest(unsafe { bytes(address, length) }));
        }
        None
    }
}

/// The manifest: a flattened device tree.
#[derive(Clone, Copy, Debug)]
pub struct Manifest(&'static [u8]);

impl Manifest {
    /// The value of a property of the root node.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'static [u8]> {
        let be = |at: usize| self.0.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        if be(0)? != FDT_MAGIC {
            return None;
        }
        let (mut at, strings) = (be(8)? as usize, be(12)? as usize);
        let mut depth = 0;
        loop {
            let token = be(at)?;
            at += 4;
            match token {
                FDT_BEGIN_NODE => {
                    let length = self.0.get(at..)?.iter().position(|b| *b == 0)?;
                    at = (at + length + 4) & !3;
                    depth += 1;
                }
                FDT_END_NODE => depth -= 1,
                FDT_PROPERTY => {
                    let (length, offset) = (be(at)? as usize, be(at + 4)? as usize);
                    let value = self.0.get(at + 8..)?.get(..length)?;
                    let found = self.0.get(strings + offset..)?;
                    if depth == 1 && found.starts_with(name.as_bytes()) && found.get(name.len()) == Some(&0) {
                        return Some(value);
                    }
                    at = (at + 8 + length + 3) & !3;
                }
                FDT_NOP => {}
                _ => return None,
            }
        }
    }

    /// A property of one cell.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        let value: [u8; 4] = self.property(name)?.try_into().ok()?;
        Some(u32::from_be_bytes(value))
    }

    /// A property that is text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&'static str> {
        let value = self.property(name)?;
        core::str::from_utf8(value.strip_suffix(&[0])?).ok()
    }
}

/// Memory of the SPMC's making.
///
/// # Safety
/// It exists, is readable, and nobody changes it.
unsafe fn bytes(address: u64, length: usize) -> &'static [u8] {
    // SAFETY: the caller vouches for it.
    unsafe { core::slice::from_raw_parts(address as *const u8, length) }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}
