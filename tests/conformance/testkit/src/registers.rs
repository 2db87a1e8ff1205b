//! System registers that a world must find again as it left it.
//!
//! A register may keep fewer bits than were written (reserved ones). So a check compares with what was read right after
//! the pattern was written.
#![expect(unsafe_code, reason = "writes system registers that nothing in the program uses")]

/// A word that differs for each seed and number (the finaliser of the splitmix64 generator).
#[must_use]
pub const fn pattern(seed: u64, number: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number.wrapping_add(1).wrapping_mul(0xd1b5_4a32_d192_ed03));
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

macro_rules! register_set {
    ($(#[$doc:meta])* $set:ident { $($name:literal & $mask:literal,)* }) => {
        $(#[$doc])*
        pub struct $set;

        impl $set {
            /// Names, in the order of their numbers.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// Writes the pattern of `seed`.
            pub fn fill(seed: u64) {
                let mut number = 0;
                $(
                    let value = pattern(seed, number) & $mask;
                    // SAFETY: the set's registers have no effect on the program that fills them (see the set).
                    unsafe { core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nomem, nostack)) };
                    number += 1;
                )*
                let _ = number;
                // SAFETY: a barrier.
                unsafe { core::arch::asm!("isb", options(nomem, nostack)) };
            }

            /// Gives each register's value to `visit`, by number.
            pub fn read(mut visit: impl FnMut(usize, u64)) {
                let mut number = 0;
                $(
                    let value: u64;
                    // SAFETY: reading has no effect.
                    unsafe { core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
                    visit(number, value & $mask);
                    number += 1;
                )*
                let _ = number;
            }
        }
    };
}

register_set! {
    /// What EL2 may fill: all of EL1, where nothing runs. The timer stays masked.
    BelowEl2 {
        "sctlr_el1" & 0xffff_ffff_ffff_ffff,
        "cpacr_el1" & 0x0330_0000,
        "ttbr0_el1" & 0xffff_ffff_ffff_ffff,
        "ttbr1_el1" & 0xffff_ffff_ffff_ffff,
        "tcr_el1" & 0xffff_ffff_ffff_ffff,
        "mair_el1" & 0xffff_ffff_ffff_ffff,
        "amair_el1" & 0xffff_ffff_ffff_ffff,
        "vbar_el1" & 0xffff_ffff_ffff_ffff,
        "contextidr_el1" & 0xffff_ffff_ffff_ffff,
        "tpidr_el1" & 0xffff_ffff_ffff_ffff,
        "tpidr_el0" & 0xffff_ffff_ffff_ffff,
        "tpidrro_el0" & 0xffff_ffff_ffff_ffff,
        "sp_el0" & 0xffff_ffff_ffff_ffff,
        "sp_el1" & 0xffff_ffff_ffff_ffff,
        "elr_el1" & 0xffff_ffff_ffff_ffff,
        "spsr_el1" & 0xffff_ffff_ffff_ffff,
        "esr_el1" & 0xffff_ffff_ffff_ffff,
        "far_el1" & 0xffff_ffff_ffff_ffff,
        "afsr0_el1" & 0xffff_ffff_ffff_ffff,
        "afsr1_el1" & 0xffff_ffff_ffff_ffff,
        "par_el1" & 0xffff_ffff_ffff_f000,
        "csselr_el1" & 0x1,
        "mdscr_el1" & 0x1000,
        "cntkctl_el1" & 0x3ff,
        "cntv_cval_el0" & 0xffff_ffff_ffff_ffff,
        "cntv_ctl_el0" & 0x2,
        // Pointer authentication keys: instruction A and B, data A and B, generic.
        "S3_0_C2_C1_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_1" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_2" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_3" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_1" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_2" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_3" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C3_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C3_1" & 0xffff_ffff_ffff_ffff,
    }
}

register_set! {
    /// What a program at EL1 may fill while it runs without EL0, with interrupts masked and one translation root.
    OwnEl1 {
        "ttbr1_el1" & 0xffff_ffff_ffff_ffff,
        "amair_el1" & 0xffff_ffff_ffff_ffff,
        "contextidr_el1" & 0xffff_ffff_ffff_ffff,
        "tpidr_el1" & 0xffff_ffff_ffff_ffff,
        "tpidr_el0" & 0xffff_ffff_ffff_ffff,
        "tpidrro_el0" & 0xffff_ffff_ffff_ffff,
        "sp_el0" & 0xffff_ffff_ffff_ffff,
        "elr_el1" & 0xffff_ffff_ffff_ffff,
        "spsr_el1" & 0xffff_ffff_ffff_ffff,
        "esr_el1" & 0xffff_ffff_ffff_ffff,
        "far_el1" & 0xffff_ffff_ffff_ffff,
        "afsr0_el1" & 0xffff_ffff_ffff_ffff,
        "afsr1_el1" & 0xffff_ffff_ffff_ffff,
        "par_el1" & 0xffff_ffff_ffff_f000,
        "csselr_el1" & 0x1,
        "cntv_cval_el0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_1" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_2" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C1_3" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_1" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_2" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C2_3" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C3_0" & 0xffff_ffff_ffff_ffff,
        "S3_0_C2_C3_1" & 0xffff_ffff_ffff_ffff,
    }
}

register_set! {
    /// What a program at EL0 may fill.
    OwnEl0 {
        "tpidr_el0" & 0xffff_ffff_ffff_ffff,
    }
}
