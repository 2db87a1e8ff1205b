//! The life of a core: from `entry.s` through boot into the loop that serves the normal world; and its end, if S-EL2
//! itself fails.
#![expect(unsafe_code, reason = "entry points that assembly calls by name")]

use crate::cpu::Cpu;
use crate::system::SPMC;
use crate::table_pool::POOL;
use crate::{boot, console, context, gic, image, mmu, say, sysreg, system};
use bulkhead_core::OUR_VERSION;
use bulkhead_core::fault::Syndrome;
use bulkhead_ffa::{Regs, function};

unsafe extern "C" {
    /// Turns the MMU on, on this core; others follow when they start (`entry.s`).
    fn enable_mmu(root: u64);
}

/// The boot core on boot's stack, MMU off: makes everything ready. `manifest` is the address that TF-A gave.
#[unsafe(no_mangle)]
extern "C" fn primary_main(manifest: u64) {
    // SAFETY: the root is that of a map in which all that runs and is used from here on is at its own address.
    if mmu::start(manifest, |root| unsafe { enable_mmu(root.table) }).is_err() {
        halt(format_args!("the image does not fit its own translation tables"));
    }
    say!("Bulkhead {}, FF-A {OUR_VERSION}, at S-EL2", env!("CARGO_PKG_VERSION"));
    gic::start();
    if let Err(error) = boot::load(manifest) {
        halt(format_args!("boot stopped: {error}"));
    }
}

/// The boot core on its own stack: starts the partitions, then serves.
#[unsafe(no_mangle)]
extern "C" fn primary_serve() -> ! {
    register_secondary_entry();
    let mut cpu = Cpu::start(core_index());
    let failed = usize::from(SPMC.initialise(&mut cpu));
    POOL.lock().settle();
    let (named, loaded) = system::counts();
    if loaded - failed == named {
        say!("all partitions are up");
    } else {
        say!("{} of {named} partitions are up", loaded - failed);
    }
    serve(cpu)
}

/// Any other core, and the boot core when it comes back from CPU_OFF.
#[unsafe(no_mangle)]
extern "C" fn secondary_main() -> ! {
    let mut cpu = Cpu::start(core_index());
    SPMC.core_on(&mut cpu);
    serve(cpu)
}

fn core_index() -> usize {
    sysreg::tpidr_el2::read() as usize % bulkhead_core::MAX_CORES
}

/// Tells the SPMD where cores enter that PSCI turns on.
fn register_secondary_entry() {
    let mut reply = Regs::new(&[u64::from(function::SECONDARY_EP_REGISTER_64), image::secondary_entry()]);
    context::smc(&mut reply);
    if reply.function() != function::SUCCESS_32 && reply.function() != function::SUCCESS_64 {
        say!("the SPMD refused the entry point of further cores ({:#x}, {:#x}): they will not come up", reply.0[0], reply.0[2]);
    }
}

/// Answers what the SPMD delivers, for ever. The first answer says that this core is ready.
fn serve(mut cpu: Cpu) -> ! {
    let mut regs = Regs::new(&[u64::from(function::MSG_WAIT)]);
    let mut x = context::call_el3(regs.message(), &mut regs);
    loop {
        x = SPMC.handle_normal_world(&mut cpu, x, &mut regs, context::call_el3);
    }
}

/// An exception of S-EL2 itself, from `entry.s`: a fault of Bulkhead. Reported once, then this core stops.
#[unsafe(no_mangle)]
extern "C" fn fatal_report(kind: u64, esr: u64, pc: u64, far: u64, sp: u64) -> ! {
    let what = ["synchronous exception", "IRQ", "FIQ", "system error"][kind as usize % 4];
    console::last_words(format_args!(
        "internal error: {what} in Bulkhead: {}, pc {pc:#x}, address {far:#x}, esr {esr:#x}, sp {sp:#x}, called from{}",
        Syndrome(esr),
        Callers(sp)
    ));
    stop()
}

fn halt(why: core::fmt::Arguments<'_>) -> ! {
    console::last_words(why);
    stop()
}

fn stop() -> ! {
    loop {
        sysreg::wait_for_interrupt();
    }
}

/// What a stack says of who called whom: each word from an address on that points into the code, the last call first. Some
/// may be left from calls that have returned. `addr2line` on the ELF file turns them into lines.
struct Callers(u64);

impl core::fmt::Display for Callers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let code = mmu::stack_above(self.0).step_by(8).filter_map(|at| {
            // SAFETY: `at` is on a stack of this image, above its guard page: mapped. Whatever is there is a number to look at.
            let word = unsafe { (at as *const u64).read_volatile() };
            (image::start()..image::text_end()).contains(&word).then_some(word)
        });
        for word in code.take(MAX_CALLERS) {
            write!(f, " {word:#x}")?;
        }
        Ok(())
    }
}

/// Return addresses that are printed.
const MAX_CALLERS: usize = 12;

/// A panic is a fault of Bulkhead. The image has no room for the places and texts of all its checks: a release prints where
/// it came from as addresses, a debug build in words.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if cfg!(debug_assertions) {
        halt(format_args!("internal error: {info}"));
    }
    let here = 0u64;
    check_failed(Callers(core::ptr::from_ref(&here) as u64))
}

/// A function of its own, so that the stack above `callers` holds nothing of the printing.
#[inline(never)]
fn check_failed(callers: Callers) -> ! {
    halt(format_args!("internal error: a check failed, called from{callers}"))
}
