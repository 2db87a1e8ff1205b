//! The board's reset code: where all cores start, before TF-A.
//!
//! The first core goes on to BL1 at address 0. The others would wait for CPU_ON in BL1's loop, which lies in the NOR flash;
//! but while StMM programs the variable store the whole bank answers commands, and a core that fetches from it is lost. So
//! they wait here in the same way (TF-A's mailbox and hold entries for the platform `qemu`), in a copy of the loop in TF-A's
//! own page of secure RAM, behind its hold entries.

/// Where in the flash bank the code lies; the CPUs' reset address.
pub const OFFSET: u64 = 0x03ff_f000;

/// Position-independent AArch64 code, executed at EL3 with the MMU off.
const CODE: [u32; 29] = [
    0xd538_00a0, //       mrs  x0, mpidr_el1
    0x9240_1c01, //       and  x1, x0, #0xff
    0x9278_1c02, //       and  x2, x0, #0xff00
    0x8b42_1021, //       add  x1, x1, x2, lsr #4      x1: TF-A's position of this core
    0xb500_0041, //       cbnz x1, secondary
    0xd61f_03e0, //       br   xzr                     BL1
    0x5281_0600, // secondary: mov w0, #0x0830
    0x72a6_1ca0, //       movk w0, #0x30e5, lsl #16
    0xd51e_1000, //       msr  sctlr_el3, x0           as BL1 does: reserved ones, IESB
    0xd2a1_c005, //       mov  x5, #0x0e000000         mailbox: entry point, then one hold entry per core
    0x9120_00a4, //       add  x4, x5, #0x800
    0x1000_0143, //       adr  x3, wait
    0xd280_0102, //       mov  x2, #8
    0xb840_4460, // copy: ldr  w0, [x3], #4            every core copies the same words
    0xb800_4480, //       str  w0, [x4], #4
    0xd100_0442, //       sub  x2, x2, #1
    0xb5ff_ffa2, //       cbnz x2, copy
    0xd503_3f9f, //       dsb  sy
    0xd503_3fdf, //       isb
    0x9120_00a4, //       add  x4, x5, #0x800
    0xd61f_0080, //       br   x4
    0x8b01_0ca6, // wait: add  x6, x5, x1, lsl #3
    0xf940_04c7, // poll: ldr  x7, [x6, #8]
    0xb500_0067, //       cbnz x7, go
    0xd503_205f, //       wfe
    0x17ff_fffd, //       b    poll
    0xf900_04df, // go:   str  xzr, [x6, #8]           for the next time
    0xf940_00a7, //       ldr  x7, [x5]
    0xd61f_00e0, //       br   x7                      BL31
];

/// The code as bytes.
#[must_use]
pub fn code() -> Vec<u8> {
    CODE.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copied_loop_is_the_end_of_the_code() {
        // `adr x3, wait` in word 11 reaches the loop, and `mov x2` in word 12 counts its words.
        let reach = (CODE[11] >> 5 & 0x7_ffff) << 2 | CODE[11] >> 29 & 3;
        let start = 11 + reach as usize / 4;
        assert_eq!(CODE[start], 0x8b01_0ca6);
        assert_eq!((CODE[12] >> 5 & 0xffff) as usize, CODE.len() - start);
    }
}
