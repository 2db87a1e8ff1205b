//! QEMU's `virt` machine with `secure=on,virtualization=on,gic-version=3`: the addresses that no manifest gives.

/// PL011 of the secure world.
pub const UART_BASE: usize = 0x0904_0000;
/// GICv3 distributor.
pub const GICD_BASE: usize = 0x0800_0000;
/// GICv3 redistributors, one frame pair of 128 KiB per core in the order of core indices.
pub const GICR_BASE: usize = 0x080A_0000;
/// Bytes of a core's redistributor frames.
pub const GICR_STRIDE: usize = 0x2_0000;
/// Bytes of the region that [`GICD_BASE`] starts and that holds both.
pub const GIC_SIZE: u64 = 0x0100_0000;
/// Secure EL2 physical timer's private interrupt (FEAT_SEL2 PPI).
pub const SECURE_EL2_TIMER: u32 = 20;
/// What TF-A occupies of the secure RAM; no partition may claim it.
pub const TRUSTED_FIRMWARE: core::ops::Range<u64> = 0x0E00_0000..0x0E10_0000;
/// What Bulkhead occupies.
pub const OWN_RAM: core::ops::Range<u64> = 0x0E10_0000..0x0E20_0000;
