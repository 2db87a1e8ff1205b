//! Memory transaction descriptors, DEN0140 v1.2 chapter 2. All integers little-endian.
//!
//! The layouts are given as byte offsets: every field of a guest's descriptor is read from a private copy.

/// Bytes per page of every address range in FF-A.
pub const PAGE_SIZE: u64 = 4096;

/// Memory transaction descriptor from v1.1 on, table 1.20.
pub mod transaction {
    /// u16: sender endpoint.
    pub const SENDER: usize = 0;
    /// u16: memory region attributes.
    pub const ATTRIBUTES: usize = 2;
    /// u32: flags.
    pub const FLAGS: usize = 4;
    /// u64: handle.
    pub const HANDLE: usize = 8;
    /// u64: tag.
    pub const TAG: usize = 16;
    /// u32: size of each endpoint memory access descriptor (v1.1 on).
    pub const ACCESS_SIZE: usize = 24;
    /// u32: number of endpoint memory access descriptors (v1.1 on).
    pub const ACCESS_COUNT: usize = 28;
    /// u32: offset of the endpoint memory access array from the start of this descriptor (v1.1 on).
    pub const ACCESS_OFFSET: usize = 32;
    /// Bytes of the header from v1.1 on; 12 reserved bytes at the end.
    pub const SIZE: usize = 48;
}

/// Memory transaction descriptor of v1.0: attributes are one byte, the access array follows at once.
pub mod transaction_v1_0 {
    /// u8: memory region attributes; a reserved byte follows.
    pub const ATTRIBUTES: usize = 2;
    /// u32: number of endpoint memory access descriptors, which start at [`SIZE`].
    pub const ACCESS_COUNT: usize = 28;
    /// Bytes of the header.
    pub const SIZE: usize = 32;
}

/// Endpoint memory access descriptor, 16 bytes up to v1.1, 32 (with 16 implementation-defined) from v1.2.
pub mod access {
    /// u16: endpoint.
    pub const ENDPOINT: usize = 0;
    /// u8: memory access permissions: bits 1..0 data, bits 3..2 instruction.
    pub const PERMISSIONS: usize = 2;
    /// u8: flags; bit 0: non-retrieval borrower.
    pub const FLAGS: usize = 3;
    /// u32: offset of the composite memory region descriptor from the transaction descriptor.
    pub const COMPOSITE_OFFSET: usize = 4;
    /// Two u64, implementation defined: only in the 32-byte form.
    pub const IMPDEF: usize = 8;
    /// u64, reserved: its offset in the 16-byte form.
    pub const RESERVED_V1_1: usize = 8;
    /// Bytes up to v1.1.
    pub const SIZE_V1_1: usize = 16;
    /// Bytes from v1.2.
    pub const SIZE_V1_2: usize = 32;
}

/// Composite memory region descriptor.
pub mod composite {
    /// u32: total pages of all ranges.
    pub const PAGE_COUNT: usize = 0;
    /// u32: number of address ranges.
    pub const RANGE_COUNT: usize = 4;
    /// Bytes before the first range; 8 reserved bytes at the end.
    pub const SIZE: usize = 16;
}

/// Constituent memory region descriptor: one address range.
pub mod range {
    /// u64: address, page aligned.
    pub const ADDRESS: usize = 0;
    /// u32: pages.
    pub const PAGE_COUNT: usize = 8;
    /// Bytes of a range; 4 reserved bytes at the end.
    pub const SIZE: usize = 16;
}

/// FFA_MEM_RELINQUISH's descriptor.
pub mod relinquish {
    /// u64: handle.
    pub const HANDLE: usize = 0;
    /// u32: flags; bit 0 zero memory after.
    pub const FLAGS: usize = 8;
    /// u32: number of endpoints.
    pub const ENDPOINT_COUNT: usize = 12;
    /// u16 each: the endpoints.
    pub const ENDPOINTS: usize = 16;
}

/// Endpoint RX/TX descriptor: the buffers of a virtual machine, in its hypervisor's TX buffer.
pub mod endpoint_buffers {
    /// u16: endpoint; a reserved u16 follows.
    pub const ID: usize = 0;
    /// u32: offset of the composite memory region descriptor of the RX buffer from the start of this descriptor.
    pub const RX_OFFSET: usize = 4;
    /// u32: the same of the TX buffer.
    pub const TX_OFFSET: usize = 8;
    /// Bytes; 4 reserved bytes at the end.
    pub const SIZE: usize = 16;
}

/// Header of an indirect message, at the start of the TX and RX buffers.
pub mod message {
    /// u32: flags, zero.
    pub const FLAGS: usize = 0;
    /// u32: offset of the payload from the start of the buffer; a reserved u32 stands before it.
    pub const OFFSET: usize = 8;
    /// u32: receiver in the lower half, sender in the upper.
    pub const ENDS: usize = 12;
    /// u32: bytes of payload.
    pub const SIZE: usize = 16;
    /// 16 bytes: the service that it is for (v1.2).
    pub const UUID: usize = 24;
    /// Bytes of the header at v1.1.
    pub const HEADER_SIZE_V1_1: usize = 20;
    /// Bytes of the header from v1.2 on.
    pub const HEADER_SIZE_V1_2: usize = 40;
}

/// Partition information descriptor of FFA_PARTITION_INFO_GET.
pub mod partition_info {
    /// u16: endpoint.
    pub const ID: usize = 0;
    /// u16: number of execution contexts.
    pub const EXECUTION_CONTEXTS: usize = 2;
    /// u32: properties.
    pub const PROPERTIES: usize = 4;
    /// 16 bytes: protocol UUID (v1.1 on; zero when the caller asked for one).
    pub const UUID: usize = 8;
    /// Bytes at v1.0.
    pub const SIZE_V1_0: usize = 8;
    /// Bytes from v1.1 on.
    pub const SIZE: usize = 24;
}
