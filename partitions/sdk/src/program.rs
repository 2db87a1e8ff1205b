//! What a program must and may define, and the macro that makes the symbols that the entry code calls.

use crate::{Line, call, log};
use bulkhead_ffa::{Regs, function};
use core::panic::PanicInfo;

/// A program made with this library.
pub trait Program {
    /// Where the first (or only) vCPU starts. `boot_argument` is x0 at its entry: the address of the boot information.
    fn main(boot_argument: u64) -> !;

    /// Where the other vCPUs of a partition, or the other cores of the normal world, start.
    fn secondary(_index: usize) -> ! {
        loop {
            let _ = crate::message::wait();
        }
    }

    /// An interrupt was signalled (not at S-EL0).
    fn interrupt() {}

    /// The program itself did something wrong, and sees it (S-EL1 and the normal world): it ends.
    fn exception(esr: u64, pc: u64, address: u64) -> ! {
        log!("exception: esr {esr:#x}, pc {pc:#x}, address {address:#x}");
        abort()
    }

    /// The program panicked: it ends.
    fn panic(info: &PanicInfo<'_>) -> ! {
        log!("panic: {}", Line::new(format_args!("{info}")));
        abort()
    }
}

/// Ends the partition by FFA_ABORT.
pub fn abort() -> ! {
    loop {
        let _ = call(Regs::new(&[u64::from(function::ABORT_64)]));
    }
}

/// Makes the type the program: `program!(Echo);` once, in the root of the binary.
#[macro_export]
macro_rules! program {
    ($program:ty) => {
        #[expect(unsafe_code, reason = "symbols that the SDK's entry code calls")]
        mod bulkhead_program_symbols {
            use super::*;

            #[unsafe(no_mangle)]
            extern "C" fn program_main(boot_argument: u64) -> ! {
                <$program as $crate::Program>::main(boot_argument)
            }

            #[unsafe(no_mangle)]
            extern "C" fn program_secondary(index: usize) -> ! {
                <$program as $crate::Program>::secondary(index)
            }

            #[unsafe(no_mangle)]
            extern "C" fn program_interrupt() {
                <$program as $crate::Program>::interrupt()
            }

            #[unsafe(no_mangle)]
            extern "C" fn program_exception(esr: u64, pc: u64, address: u64) -> ! {
                <$program as $crate::Program>::exception(esr, pc, address)
            }

            #[panic_handler]
            fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
                <$program as $crate::Program>::panic(info)
            }
        }
    };
}
