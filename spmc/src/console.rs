//! The secure UART (PL011, Arm DDI 0183): whole lines only, so that cores and partitions do not mix.
//!
//! TF-A has set the UART up; only its data and flag registers are used here.
#![expect(unsafe_code, reason = "MMIO of the secure UART")]

use crate::platform::UART_BASE;
use core::fmt::{self, Write};
use spin::Mutex;

const FLAG_TRANSMIT_FULL: u32 = 1 << 5;
/// Looks at a full transmitter before a character is given up: a partition that has the UART as a device may have turned it off.
const PATIENCE: u32 = 50_000;

struct Uart;

static UART: Mutex<Uart> = Mutex::new(Uart);

impl Uart {
    fn put(&mut self, byte: u8) {
        let data = UART_BASE as *mut u32;
        let flags = (UART_BASE + 0x18) as *const u32;
        // SAFETY: the platform has a PL011 at UART_BASE, mapped as device memory (or the MMU is off); the lock around
        // UART makes this core its only user within the SPMC.
        unsafe {
            if (0..PATIENCE).any(|_| flags.read_volatile() & FLAG_TRANSMIT_FULL == 0) {
                data.write_volatile(u32::from(byte));
            }
        }
    }
}

impl Write for Uart {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for byte in s.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

/// Prints one line: `prefix: text`.
pub fn line(prefix: &str, text: fmt::Arguments<'_>) {
    let mut uart = UART.lock();
    // The UART's write never fails.
    let _ = writeln!(uart, "{prefix}: {text}");
}

/// As [`line()`], when this core may hold the lock already: used once, on the way down.
pub fn last_words(text: fmt::Arguments<'_>) {
    let _ = writeln!(Uart, "bulkhead: {text}");
}

/// Prints a line of the SPMC's own.
#[macro_export]
macro_rules! say {
    ($($arg:tt)*) => { $crate::console::line("bulkhead", format_args!($($arg)*)) };
}
