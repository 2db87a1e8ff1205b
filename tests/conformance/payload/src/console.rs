//! The normal world's PL011. Only the boot core prints.
#![expect(unsafe_code, reason = "device registers")]

const BASE: usize = 0x0900_0000;
const FLAGS: usize = 0x18;
const TRANSMIT_FULL: u32 = 1 << 5;

/// Prints text.
pub fn print(text: &str) {
    for byte in text.bytes() {
        // SAFETY: the registers of QEMU virt's first UART, which nobody else uses while this program runs.
        unsafe {
            while ((BASE + FLAGS) as *const u32).read_volatile() & TRANSMIT_FULL != 0 {}
            (BASE as *mut u32).write_volatile(u32::from(byte));
        }
    }
}

/// Prints a line.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {{
        let line = bulkhead_sdk::Line::new(format_args!($($argument)*));
        $crate::console::print(line.as_str());
        $crate::console::print("\r\n");
    }};
}
