//! The secure UART as a device of this partition's, and its interrupt (S-EL1 only).
#![expect(unsafe_code, reason = "device registers")]

use crate::place::{MAX_VCPUS, vcpu};
use bulkhead_sdk::interrupts;
use core::sync::atomic::{AtomicU64, Ordering};

/// The secure PL011's interrupt: SPI 8.
const INTERRUPT: u32 = 40;
const BASE: u64 = 0x0904_0000;
const DATA: u64 = 0x00;
const MASK: u64 = 0x38;
const CLEAR: u64 = 0x44;
/// The transmit interrupt's bit in both.
const TRANSMIT: u32 = 1 << 5;

static TAKEN: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

fn write(register: u64, value: u32) {
    // SAFETY: a register of a device that the manifest gives to this partition.
    unsafe { ((BASE + register) as *mut u32).write_volatile(value) };
}

/// Lets the UART's transmit interrupt reach this vCPU from now on.
pub fn listen() -> bool {
    write(CLEAR, TRANSMIT);
    write(MASK, TRANSMIT);
    let enabled = interrupts::enable(INTERRUPT, true);
    // SAFETY: unmasks IRQs at EL1; the vectors save what the handler changes.
    unsafe { core::arch::asm!("msr daifclr, #2", options(nostack)) };
    enabled
}

/// Prints a character, after which the UART raises its transmit interrupt.
pub fn touch() {
    write(DATA, u32::from(b'~'));
}

/// Interrupts that this vCPU took.
pub fn taken() -> u64 {
    TAKEN[vcpu()].load(Ordering::Relaxed)
}

/// IRQ at EL1.
pub fn interrupted() {
    while let Some(interrupt) = interrupts::take() {
        if interrupt == INTERRUPT {
            write(CLEAR, TRANSMIT);
            TAKEN[vcpu()].fetch_add(1, Ordering::Relaxed);
            interrupts::deactivate(interrupt);
        }
    }
}
