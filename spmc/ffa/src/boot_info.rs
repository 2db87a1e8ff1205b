//! The boot information blob that a partition gets at its first entry, DEN0077A v1.2 section 5.4.

/// Signature of the blob's header.
pub const SIGNATURE: u32 = 0x0FFA;
/// Bytes of the header.
pub const HEADER_SIZE: usize = 32;
/// Bytes of one descriptor.
pub const DESCRIPTOR_SIZE: usize = 32;
/// Standard type, identifier 0: a flattened device tree.
pub const TYPE_FDT: u8 = 0;
/// Standard type, identifier 1: a HOB list (PI specification).
pub const TYPE_HOB: u8 = 1;
/// Descriptor flags: contents field is an address, name field is a string.
pub const FLAG_ADDRESS: u16 = 0;
