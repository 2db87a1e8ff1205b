//! QEMU's `virt` machine with `secure=on,virtualization=on,gic-version=3`: the addresses that no manifest gives.

/// PL011 of the secure world.
pub const UART_BASE: usize = 0x0904_0000;
/// GICv3 distributor.
pub const GICD_BASE: usize = 0x0800_0000;
/// GICv3 redistributors, one frame pair of 128 KiB per core in the order of core indices.
pub const GICR_BASE: usize = 0x080A_0000;
/// Bytes of a core's redistributor frames.
pub const GICR_STRIDE: usize = 0x2_0000;
/// The region that holds both.
pub const INTERRUPT_CONTROLLER: core::ops::Range<u64> = 0x0800_0000..0x0900_0000;
/// Secure EL2 physical timer's private interrupt (FEAT_SEL2 PPI).
pub const SECURE_EL2_TIMER: u32 = 20;
/// What TF-A occupies of the secure RAM; no partition may claim it.
pub const TRUSTED_FIRMWARE: core::ops::Range<u64> = 0x0E00_0000..0x0E10_0000;
/// What Bulkhead occupies.
pub const OWN_RAM: core::ops::Range<u64> = 0x0E10_0000..0x0E20_0000;
/// Private interrupts that no partition may have: the CPU's own, for Bulkhead and the normal world.
pub const RESERVED_INTERRUPTS: [(u32, &str); 7] = [
    (SECURE_EL2_TIMER, "not Bulkhead's own timer"),
    (23, "not the PMU, which the normal world has"),
    (25, "not the interrupt controller's own, which the normal world's EL2 has"),
    (26, "not the timer of the normal world's EL2"),
    (27, "not the virtual timer, which the normal world has"),
    (28, "not the virtual timer of the normal world's EL2"),
    (30, "not the timer of the normal world's EL1"),
];
