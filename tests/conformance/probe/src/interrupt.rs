//! Interrupts of a partition at S-EL1: the secure UART's, as that of a device of its own, and requests for a managed exit.
#![expect(unsafe_code, reason = "device registers, and the interrupt mask")]

use crate::drive;
use crate::place::{MAX_VCPUS, vcpu};
use bulkhead_sdk::interrupts;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The secure PL011's interrupt: SPI 8.
const INTERRUPT: u32 = 40;
/// The virtual interrupt that asks for a managed exit.
const MANAGED_EXIT: u32 = 4;
/// The one that says that a notification is pending: a reason to end what is computed, too.
const NOTIFICATION_PENDING: u32 = 5;
const BASE: u64 = 0x0904_0000;
const DATA: u64 = 0x00;
const MASK: u64 = 0x38;
const CLEAR: u64 = 0x44;
/// The transmit interrupt's bit in both.
const TRANSMIT: u32 = 1 << 5;

static TAKEN: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];

static EXIT_REQUESTED: [AtomicBool; MAX_VCPUS] = [const { AtomicBool::new(false) }; MAX_VCPUS];

/// Lets requests for a managed exit in, which come as FIQ.
pub fn admit_exit_requests() {
    // SAFETY: unmasks FIQs at EL1; the vectors save what the handler changes.
    unsafe { core::arch::asm!("msr daifclr, #1", options(nostack)) };
}

/// Whether a managed exit was asked for on this vCPU.
pub fn exit_is_requested() -> bool {
    EXIT_REQUESTED[vcpu()].load(Ordering::Relaxed)
}

/// The request ends, and with it what was asked for while it was served.
pub fn forget_exit_request() {
    EXIT_REQUESTED[vcpu()].store(false, Ordering::Relaxed);
}

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

/// Has the UART raise its transmit interrupt from now on, of which an S-EL0 partition is told.
pub fn expect_messages() -> bool {
    write(CLEAR, TRANSMIT);
    write(MASK, TRANSMIT);
    true
}

/// FFA_INTERRUPT with this interrupt, at S-EL0.
pub fn told(interrupt: u32) {
    if interrupt == INTERRUPT {
        write(CLEAR, TRANSMIT);
        TAKEN[vcpu()].fetch_add(1, Ordering::Relaxed);
    }
    drive::note(interrupt);
}

/// Prints a character, after which the UART raises its transmit interrupt.
pub fn touch() {
    write(DATA, u32::from(b'~'));
}

/// Does to the interrupt interface what would silence it.
pub fn silence() {
    // SAFETY: what the payload asks for; the registers that this partition has here hold nothing that it needs.
    unsafe {
        core::arch::asm!(
            "mrs {0}, S3_0_C12_C12_0", // ICC_IAR1_EL1
            "msr S3_0_C12_C12_4, xzr", // ICC_CTLR_EL1
            "msr S3_0_C12_C12_7, xzr", // ICC_IGRPEN1_EL1
            "msr S3_0_C4_C6_0, xzr", // ICC_PMR_EL1
            "isb",
            out(reg) _,
            options(nostack)
        );
    }
}

/// Interrupts that this vCPU took.
pub fn taken() -> u64 {
    TAKEN[vcpu()].load(Ordering::Relaxed)
}

/// IRQ or FIQ at EL1.
pub fn interrupted() {
    while let Some(interrupt) = drive::take() {
        match interrupt {
            INTERRUPT => {
                write(CLEAR, TRANSMIT);
                TAKEN[vcpu()].fetch_add(1, Ordering::Relaxed);
            }
            MANAGED_EXIT | NOTIFICATION_PENDING => EXIT_REQUESTED[vcpu()].store(true, Ordering::Relaxed),
            _ => drive::silence_timer(interrupt),
        }
        drive::end(interrupt);
    }
}
