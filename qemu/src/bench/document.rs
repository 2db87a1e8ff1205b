//! `docs/performance.md`, written from the figures.

use std::fmt::Write as _;

use super::figures::Figures;
use super::scaling;

/// What another SPMC needs for an operation, and what Bulkhead is to need.
struct Reference {
    operation: &'static str,
    instance: &'static str,
    /// Instructions of Hafnium v2.15 as it is.
    hafnium: u64,
    /// With its byte-wise memcpy replaced, where that was measured.
    patched: Option<u64>,
    /// The aim.
    target: u64,
}

const fn reference(operation: &'static str, instance: &'static str, hafnium: u64, patched: Option<u64>, target: u64) -> Reference {
    Reference { operation, instance, hafnium, patched, target }
}

/// Measured with clang 19, QEMU 10 and TF-A 2.12.1, by `-icount shift=0`.
const REFERENCES: &[Reference] = &[
    reference("boot", "two partitions", 2_034_439, Some(1_910_112), 600_000),
    reference("FFA_FEATURES", "-", 1_585, Some(1_130), 200),
    reference("direct request", "S-EL1", 5_546, Some(3_421), 400),
    reference("direct request", "S-EL0", 5_474, Some(3_349), 280),
    reference("direct request 2", "S-EL1", 5_552, None, 440),
    reference("direct request 2", "S-EL0", 5_480, None, 320),
    reference("FFA_RUN, waiting", "S-EL1", 5_312, None, 400),
    reference("FFA_RUN, waiting", "S-EL0", 5_224, None, 280),
    reference("interrupt, then FFA_RUN", "S-EL1", 8_897, None, 1_000),
    reference("FFA_NOTIFICATION_SET", "to S-EL1", 2_814, None, 300),
    reference("share cycle", "S-EL1, 1 page", 923_531, Some(907_939), 10_000),
    reference("share cycle", "S-EL1, 512 pages at 2 MiB", 748_625, None, 40_000),
    reference("share cycle", "S-EL1, 512 pages at 2 MiB + 4 KiB", 1_451_099, None, 60_000),
    reference("share cycle", "S-EL1, 128 scattered pages", 2_492_428, Some(2_206_959), 120_000),
];

const HEAD: &str = "\
# What operations cost

Written by `cargo xtask bench --write-docs`; do not edit. `cargo xtask bench` prints the same figures, `--json FILE` keeps them,
`--compare FILE` compares with earlier ones, `--profile` says which functions of the SPMC execute them.

The figures are executed instructions, counted exactly by a plugin of QEMU (`qemu/plugin/count.c`) on one core with
`-icount shift=0`, with the release build as it is shipped and all checks on. The system is TF-A, Bulkhead, one test partition at S-EL1 and one
at S-EL0, and the normal world's test program (`tests/conformance/payload/src/checks/bench.rs`), which executes each operation 16 times.
";

const READING: &str = "
- *SPMC* is S-EL2, *EL3* is TF-A's BL31 with its SPMD. *Partition* and *normal world* are test programs: what a partition does with
  a request, and how the normal world writes a descriptor, is in their columns.
- *Exceptions* are entries of S-EL2 by an exception; a return of EL3 to it is none.
- Warm is the last repetition, cold the first of all since power-on, the median that of all 16 in the SPMC.
- A *share cycle* is MEM_SHARE, a request to the partition that retrieves, a request to it that relinquishes, and MEM_RECLAIM: the
  SPMC's share of two direct requests is in it. The 4,096 pages are 512 ranges in three fragments. *Beside* others the tables of the
  neighbourhood exist already, which a lone share makes and frees: growth is the difference between the last two of these rows.
- *FFA_RUN, then FFA_YIELD* resumes a partition that yielded and ends where it yields again. A nested request is one from the
  normal world to a partition, which sends one to the other: both are counted.
- *interrupt, then FFA_RUN* is a direct request that an interrupt of the normal world keeps from starting: FFA_INTERRUPT comes back,
  the normal world takes the interrupt and resumes the partition, which answers.
- *FFA_MSG_SEND2* carries eight bytes.
- *boot* is counted from power-on to the normal world's first instruction; what it has outside SPMC, EL3 and partitions is BL1 in flash.
";

const UNSEEN: &str = "
## What the counts do not show

QEMU counts an instruction as one, whatever it costs on hardware. Exceptions, barriers and TLB invalidations are therefore counted
by themselves in the tables; cache and TLB misses are not seen at all.
";

/// The whole document.
#[must_use]
pub fn text(figures: &[Figures]) -> String {
    let mut text = HEAD.to_owned();
    text += "\n## Figures\n\n| operation | instance | SPMC | EL3 | partition | normal world | total | exceptions | barriers | TLB invalidations | SPMC, median | SPMC, cold |\n";
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for f in figures.iter().filter(|f| !scaling::is_of_larger_system(f)) {
        let _ = write!(text, "| {} | {} |", f.operation, f.instance);
        let columns = [
            f.spmc, f.el3, f.partition, f.normal, f.total, f.exceptions, f.barriers, f.tlb_invalidations, f.spmc_median, f.spmc_cold,
        ];
        for number in columns {
            let _ = write!(text, " {} |", thousands(number));
        }
        text.push('\n');
    }
    text += READING;
    text += "\n## Beside another SPMC\n\nInstructions of the SPMC alone, warm. The reference is Hafnium v2.15 (clang 19, the same QEMU and TF-A), as it is and, where \
             that was\nmeasured, with its byte-wise memcpy replaced. Its payload was another one, so that share cycles compare roughly. \
             The target is this project's own.\n\n";
    text += "| operation | instance | Bulkhead | reference | ratio | reference, patched | ratio | target | ratio |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for r in REFERENCES {
        let Some(f) = figures.iter().find(|f| f.operation == r.operation && f.instance == r.instance) else { continue };
        let _ = write!(text, "| {} | {} | {} |", r.operation, r.instance, thousands(f.spmc));
        for other in [Some(r.hafnium), r.patched, Some(r.target)] {
            let _ = match other {
                Some(other) => write!(text, " {} | {} |", thousands(other), ratio(f.spmc, other)),
                None => write!(text, " - | - |"),
            };
        }
        text.push('\n');
    }
    text += &scaling::document(figures);
    text + UNSEEN
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio(ours: u64, theirs: u64) -> String {
    format!("{:.2}", ours as f64 / theirs as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_beside_their_reference() {
        let one = |operation: &str, instance: &str, spmc| Figures { operation: operation.into(), instance: instance.into(), spmc, ..Figures::default() };
        let text = text(&[one("direct request", "S-EL1", 2_773), one("direct request 2", "S-EL1", 2_776), one("something else", "-", 1_234_567)]);
        assert!(text.contains("| direct request | S-EL1 | 2,773 | 5,546 | 0.50 | 3,421 | 0.81 | 400 | 6.93 |\n"), "{text}");
        assert!(text.contains("| direct request 2 | S-EL1 | 2,776 | 5,552 | 0.50 | - | - | 440 | 6.31 |\n"), "{text}");
        assert!(text.contains("| something else | - | 1,234,567 | 0 |"), "{text}");
        assert!(!text.contains("| share cycle | S-EL1"), "what was not measured is left out: {text}");
    }
}
