//! Memory at its physical address: device registers, and what boot reads before any partition runs.
#![expect(unsafe_code, reason = "physical addresses become pointers here, and nowhere else")]

/// Reads a 32-bit device register.
pub fn read32(address: usize) -> u32 {
    // SAFETY: callers name registers of the GIC, which `mmu` maps as device memory; reads of those used have no effect on memory.
    unsafe { (address as *const u32).read_volatile() }
}

/// Writes a 32-bit device register.
pub fn write32(address: usize, value: u32) {
    // SAFETY: as `read32`; the GIC does not write memory.
    unsafe { (address as *mut u32).write_volatile(value) };
}

/// Writes a 64-bit device register.
pub fn write64(address: usize, value: u64) {
    // SAFETY: as `write32`.
    unsafe { (address as *mut u64).write_volatile(value) };
}

/// What firmware put at `start`: manifests and packages. Only for boot: `start` must be mapped for reading, and nobody may
/// write there while the slice lives, which holds until the first partition runs.
pub fn firmware_data(start: u64, bytes: u64) -> &'static [u8] {
    // SAFETY: `boot` maps the range first and drops the slice before any partition or other core runs; every byte
    // pattern is a valid u8.
    unsafe { core::slice::from_raw_parts(start as *const u8, bytes as usize) }
}

/// The same, to be changed before any partition sees it. Nobody else may look at the range meanwhile.
pub fn firmware_data_mut(start: u64, bytes: u64) -> &'static mut [u8] {
    // SAFETY: as `firmware_data`, with the range mapped for writing; `boot` has no other slice of it at that time.
    unsafe { core::slice::from_raw_parts_mut(start as *mut u8, bytes as usize) }
}

/// Writes what S-EL2's caches hold of a range to memory, for a reader whose caches are off.
pub fn clean(start: u64, bytes: u64) {
    let mut line = start & !63;
    while line < start + bytes {
        // SAFETY: cleaning a line changes no data; 64 bytes is no more than any line of the cores supported.
        unsafe { core::arch::asm!("dc cvac, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += 64;
    }
    crate::sysreg::dsb_ish();
}
