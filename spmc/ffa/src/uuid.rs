//! UUIDs in the byte orders that FF-A uses. EDK2's GUID order is a third one and is converted by EDK2 itself.

/// A UUID; the bytes are in the order in which the text form prints them (RFC 4122). Aligned, so that they are compared and
/// moved as words.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(8))]
pub struct Uuid(pub [u8; 16]);

impl PartialEq for Uuid {
    /// As two words: an array of bytes would be compared byte by byte where memory is read with strict alignment.
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        u128::from_ne_bytes(self.0) == u128::from_ne_bytes(other.0)
    }
}

impl Eq for Uuid {}

impl Uuid {
    /// All bytes zero: "any" in a query, "none" in an answer.
    pub const NIL: Self = Self([0; 16]);

    /// From four 32-bit registers (FFA_PARTITION_INFO_GET w1 to w4), or the four cells of a manifest's `uuid`: each holds four bytes, the first in bits 7..0
    /// (SMCCC DEN0028 section 5.3).
    #[must_use]
    pub fn from_words(words: [u32; 4]) -> Self {
        let mut bytes = [0; 16];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        Self(bytes)
    }

    /// As four 32-bit registers, the inverse of [`Self::from_words`].
    #[must_use]
    pub fn words(self) -> [u32; 4] {
        core::array::from_fn(|i| u32::from_le_bytes([self.0[4 * i], self.0[4 * i + 1], self.0[4 * i + 2], self.0[4 * i + 3]]))
    }

    /// From two 64-bit registers (FFA_PARTITION_INFO_GET_REGS x1 and x2, FFA_MSG_SEND_DIRECT_REQ2 x2 and x3): byte 0 in bits 7..0 of the first.
    #[must_use]
    pub fn from_doublewords(lo: u64, hi: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&lo.to_le_bytes());
        bytes[8..].copy_from_slice(&hi.to_le_bytes());
        Self(bytes)
    }

    /// As two 64-bit registers, the inverse of [`Self::from_doublewords`].
    #[must_use]
    pub fn doublewords(self) -> [u64; 2] {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.0;
        [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes(rest)]
    }
}

impl core::fmt::Display for Uuid {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Uuid;
    extern crate std;
    use std::string::ToString;

    const BYTES: [u8; 16] = [0x37, 0x8d, 0xae, 0xdc, 0xf0, 0x6b, 0x44, 0x46, 0x83, 0x14, 0x40, 0xab, 0x93, 0x3c, 0x87, 0xa3];

    #[test]
    fn text_form_prints_bytes_in_order() {
        assert_eq!(Uuid(BYTES).to_string(), "378daedc-f06b-4446-8314-40ab933c87a3");
    }

    #[test]
    fn register_forms_round_trip() {
        let uuid = Uuid(BYTES);
        assert_eq!(Uuid::from_words(uuid.words()), uuid);
        let [lo, hi] = uuid.doublewords();
        assert_eq!(Uuid::from_doublewords(lo, hi), uuid);
        assert_eq!(uuid.words()[0], 0xdcae_8d37);
    }
}
