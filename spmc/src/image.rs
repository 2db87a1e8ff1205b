//! Where the linker put the parts of this image (`linker/spmc.ld`, `entry.s`).
#![expect(unsafe_code, reason = "symbols that the linker script defines")]

macro_rules! symbols {
    ($($(#[$doc:meta])* $function:ident = $symbol:ident;)*) => {
        unsafe extern "C" {
            $(safe static $symbol: u8;)*
        }
        $(
            $(#[$doc])*
            pub fn $function() -> u64 {
                core::ptr::from_ref(&$symbol) as u64
            }
        )*
    };
}

symbols! {
    /// First byte of the image, and of its code.
    start = __image_start;
    /// EL1 vectors of S-EL0 partitions, within the code.
    forward_vectors = __forward_vectors;
    /// End of the code, start of constants.
    text_end = __text_end;
    /// End of constants, start of data.
    rodata_end = __rodata_end;
    /// End of data.
    bss_end = __bss_end;
    /// First guard page of the stacks.
    stacks = __stacks_start;
    /// The pool of translation tables.
    tables_start = __tables_start;
    /// End of the pool.
    tables_end = __tables_end;
    /// A read of the GIC's interface, then a call: a trial at EL1.
    interface_access = __interface_access;
    /// Where cores enter that PSCI turns on.
    secondary_entry = _secondary_start;
}
