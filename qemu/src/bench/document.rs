//! `docs/performance.md`, written from the figures.

use std::fmt::Write as _;

use super::figures::Figures;
use super::{record, scaling, steps};

/// What another SPMC needs for an operation, and what Bulkhead is to need.
struct Reference {
    operation: &'static str,
    instance: &'static str,
    /// What is compared: the SPMC's instructions, or all.
    of: fn(&Figures) -> u64,
    /// Instructions of Hafnium v2.15 as it is.
    hafnium: u64,
    /// With its byte-wise memcpy replaced, where that was measured.
    patched: Option<u64>,
    /// The aim.
    target: u64,
}

impl Reference {
    /// Its figures, if they were measured: what is compared.
    fn find(&self, figures: &[Figures]) -> Option<u64> {
        figures.iter().find(|f| f.operation == self.operation && f.instance == self.instance).map(self.of)
    }
}

const fn reference(operation: &'static str, instance: &'static str, hafnium: u64, patched: Option<u64>, target: u64) -> Reference {
    Reference { operation, instance, of: |f| f.spmc, hafnium, patched, target }
}

/// Measured with clang 19, QEMU 10 and TF-A 2.12.1, by `-icount shift=0`.
const REFERENCES: &[Reference] = &[
    reference("boot", "two partitions", 2_034_439, Some(1_910_112), 600_000),
    reference("FFA_FEATURES", "-", 1_585, Some(1_130), 200),
    reference("direct request", "S-EL1", 5_546, Some(3_421), 400),
    reference("direct request", "S-EL0", 5_474, Some(3_349), 280),
    Reference { of: |f| f.total, ..reference("direct request, bare", "S-EL1", 6_889, None, 1_750) },
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

/// Why a target is not reached, in a line: operation, instance, where the instructions go and what the floor is. It is told as long as
/// the target is not reached.
const FLOORS: &[(&str, &str, &str)] = &[];

const HEAD: &str = "\
# What operations cost

Written by `cargo xtask bench --write-docs` from docs/performance.json, which the same command records; do not edit. `cargo xtask bench` prints
the figures, `--json FILE` keeps them, `--compare FILE` compares with earlier ones (docs/performance.json, say), `--profile` says which functions of the
SPMC execute them, `--bl32 IMAGE --spmc-manifest DTS` measures another SPMC with the same programs. `cargo xtask test --target bench` fails when a
figure of the SPMC is more than 5 % above the recorded one.

The figures are executed instructions, counted exactly by a plugin of QEMU (`qemu/plugin/count.c`) on one core with
`-icount shift=0`, with the release build as it is shipped and all checks on. The system is TF-A, Bulkhead, one test partition at S-EL1 and one
at S-EL0, and the normal world's test program (`tests/conformance/payload/src/bench.rs`), which executes each operation 16 times; operations of OP-TEE and
StMM are counted in a system with these two.
";

const READING: &str = "
- *SPMC* is S-EL2, *EL3* is TF-A's BL31 with its SPMD. *Partition* and *normal world* are test programs: what a partition does with
  a request, and how the normal world writes a descriptor, is in their columns. docs/performance.json has each partition by itself.
- Warm is the last repetition, cold the first of all since power-on, the median that of all 16 in the SPMC.
- FFA_ID_GET is answered by the SPMD: no SPMC sees it.
- A *bare* request is one between parties that do nothing else: one SMC there, six instructions here. What is left is what carries it.
- A *share cycle* is MEM_SHARE, a request to the partition that retrieves, a request to it that relinquishes, and MEM_RECLAIM: the
  SPMC's share of two direct requests is in it. The 4,096 pages are 512 ranges in three fragments. Beside *neighbours* the tables of the
  neighbourhood exist already, which a lone share makes and frees; other *shares* are far away.
- *FFA_RUN, then FFA_YIELD* resumes a partition that yielded and ends where it yields again. A request *between partitions* is counted from
  the call of the one that asks to its return.
- *interrupt, then FFA_RUN* is a direct request that an interrupt of the normal world keeps from starting: FFA_INTERRUPT comes back,
  the normal world takes the interrupt and resumes the partition, which answers.
- *secure interrupt, waiting* is one that fires in the normal world, here while that sleeps, and belongs to a partition that waits:
  the partition is run, takes it, waits again, and the normal world goes on.
- *FFA_MSG_SEND2* carries eight bytes.
- OP-TEE takes no direct request 2, as its manifest says.
- *boot* is counted from power-on to the normal world's first instruction; what it has outside SPMC, EL3 and partitions is BL1 in flash.
";

const UNSEEN: &str = "
## What the counts do not show

QEMU counts an instruction as one, whatever it costs on hardware. What may take many times as long there is counted by itself, of the
SPMC alone and warm:

- *Exceptions* are entries of S-EL2 by an exception, *ERET* its returns, *SMC* its calls of EL3, an answer to it being one. Each lets the
  pipeline run empty. EL3 adds its own: a request from the normal world is an SMC and an ERET at each end of the SPMC's part.
- *ISB* lets the pipeline run empty too; *DSB* waits until earlier accesses and TLB invalidations are complete, on all cores where it says so;
  *DMB* orders accesses, and waits for none. Each has a comment that names what it orders.
- *TLBI*: what is invalidated has to be walked for again. The tables of stage 2 stay the same from request to request, and security states
  and VMIDs keep the translations of all parties apart, so a request needs none.
- *Registers* are system registers. Reading one may wait for the instructions before it, writing one for those behind it.
- *Atomics* are exclusive stores and the like: their line has to be this core's alone.
- *Lines* are different cache lines of 64 bytes, of code and of data; those that are *written* are among the data. If everything is warm they
  are in the first cache; at worst each is a miss. *Pages* are the pages of 4 KiB with these lines: at worst each is a miss of the TLB
  for the SPMC's own translation.
- Each figure is what the last repetition has; branches that are mispredicted are not seen at all.
";

/// The whole document.
#[must_use]
pub fn text(figures: &[Figures]) -> String {
    let figures_of_rows: Vec<&Figures> = figures.iter().filter(|f| !scaling::is_of_larger_system(f)).collect();
    let mut text = HEAD.to_owned();
    text += "\n## Figures\n\n";
    let columns: &[Column] = &[
        ("SPMC", |f| f.spmc),
        ("EL3", |f| f.el3),
        ("partition", |f| f.partition),
        ("normal world", |f| f.normal),
        ("total", |f| f.total),
        ("SPMC, median", |f| f.spmc_median),
        ("SPMC, cold", |f| f.spmc_cold),
    ];
    text += &table(&figures_of_rows, columns);
    text += READING;
    text += &beside_another(figures);
    text += &not_reached(figures);
    text += &by_step(figures);
    text += &beside_others(figures);
    text += &scaling::document(figures);
    text += UNSEEN;
    text += &round_trip(figures);
    let columns: &[Column] = &[
        ("exceptions", |f| f.exceptions),
        ("ERET", |f| f.eret),
        ("SMC", |f| f.smc),
        ("ISB", |f| f.isb),
        ("DSB", |f| f.dsb),
        ("DMB", |f| f.dmb),
        ("SB", |f| f.sb),
        ("TLBI", |f| f.tlb_invalidations),
        ("cache maintenance", |f| f.cache_maintenance),
        ("registers written", |f| f.system_registers_written),
        ("read", |f| f.system_registers_read),
        ("atomics", |f| f.atomics),
        ("lines of code", |f| f.code_lines),
        ("of data", |f| f.data_lines),
        ("written", |f| f.data_lines_written),
        ("pages", |f| f.pages),
    ];
    // Where the SPMC does nothing there is nothing to count, and a boot is not warm.
    let counted: Vec<&Figures> = figures_of_rows.into_iter().filter(|f| f.spmc > 0 && f.operation != "boot").collect();
    text + "\n" + &table(&counted, columns)
}

/// A column of a table: its head, and which figure stands there.
type Column = (&'static str, fn(&Figures) -> u64);

fn table(figures: &[&Figures], columns: &[Column]) -> String {
    let mut text = "| operation | instance |".to_owned();
    columns.iter().for_each(|(name, _)| text += &format!(" {name} |"));
    text += "\n|---|---|";
    text += &"--:|".repeat(columns.len());
    text.push('\n');
    for f in figures {
        let _ = write!(text, "| {} | {} |", f.operation, f.instance);
        columns.iter().for_each(|(_, of)| text += &format!(" {} |", thousands(of(f))));
        text.push('\n');
    }
    text
}

fn beside_another(figures: &[Figures]) -> String {
    let mut text = "\n## Beside another SPMC\n\nInstructions of the SPMC alone, warm; of the bare request all, whoever executes them. The reference is Hafnium v2.15 \
                    (clang 19, the same QEMU\nand TF-A), as it is and, where that was measured, with its byte-wise memcpy replaced. Its payload was another one, so that \
                    share cycles compare\nroughly. The target is this project's own.\n\n"
        .to_owned();
    text += "| operation | instance | Bulkhead | reference | ratio | reference, patched | ratio | target | ratio |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n";
    for r in REFERENCES {
        let Some(ours) = r.find(figures) else { continue };
        let _ = write!(text, "| {} | {} | {} |", r.operation, r.instance, thousands(ours));
        for other in [Some(r.hafnium), r.patched, Some(r.target)] {
            let _ = match other {
                Some(other) => write!(text, " {} | {} |", thousands(other), ratio(ours, other)),
                None => write!(text, " - | - |"),
            };
        }
        text.push('\n');
    }
    text
}

/// The targets that are not reached, each with what is known of why; nothing if all are.
fn not_reached(figures: &[Figures]) -> String {
    let mut text = String::new();
    for r in REFERENCES {
        let Some(ours) = r.find(figures).filter(|ours| *ours > r.target) else { continue };
        if text.is_empty() {
            text += "\n## Targets that are not reached\n\n| operation | instance | Bulkhead | target | ratio | why |\n|---|---|--:|--:|--:|---|\n";
        }
        let why = FLOORS.iter().find(|(operation, instance, _)| *operation == r.operation && *instance == r.instance).map_or("-", |(_, _, why)| why);
        let _ = writeln!(text, "| {} | {} | {} | {} | {} | {why} |", r.operation, r.instance, thousands(ours), thousands(r.target), ratio(ours, r.target));
    }
    text
}

/// Where the instructions of operations go that are broken down; nothing if none is.
fn by_step(figures: &[Figures]) -> String {
    let all: Vec<&Figures> = figures.iter().filter(|f| !f.steps.is_empty()).collect();
    if all.is_empty() {
        return String::new();
    }
    let mut text = "\n## A direct request by step\n\nInstructions of the SPMC, warm, by the functions in which they lie (`qemu/src/bench/steps.rs`).\n\n| step |"
        .to_owned();
    all.iter().for_each(|f| text += &format!(" {} |", f.instance));
    text += "\n|---|";
    text += &"--:|".repeat(all.len());
    text.push('\n');
    for step in steps::names() {
        let counts: Vec<u64> = all.iter().map(|f| f.steps.iter().filter(|s| s.step == step).map(|s| s.instructions).sum()).collect();
        if counts.iter().any(|count| *count > 0) {
            let _ = writeln!(text, "| {step} | {} |", counts.iter().map(|count| thousands(*count)).collect::<Vec<_>>().join(" | "));
        }
    }
    let sums: Vec<String> = all.iter().map(|f| thousands(f.spmc)).collect();
    text + &format!("| all | {} |\n", sums.join(" | "))
}

/// What a share costs beside many others.
fn beside_others(figures: &[Figures]) -> String {
    let rows = record::beside_others(figures);
    if rows.is_empty() {
        return String::new();
    }
    let mut text = "\n## Beside other shares\n\nInstructions of the SPMC, warm, without 1,000 other shares that live meanwhile and with them.\n\n| operation | without | with | ratio |\n|---|--:|--:|--:|\n".to_owned();
    for (name, alone, beside) in rows {
        let _ = writeln!(text, "| {name} | {} | {} | {} |", thousands(alone), thousands(beside), ratio(beside, alone));
    }
    text
}

/// What a round trip has of each, in a sentence for each kind of partition.
fn round_trip(figures: &[Figures]) -> String {
    let mut text = String::new();
    for f in figures.iter().filter(|f| f.operation == "direct request" && ["S-EL1", "S-EL0"].contains(&f.instance.as_str())) {
        let _ = write!(
            text,
            "\nA direct request to {} and its answer: S-EL2 is {} entered by an exception and {} left by ERET, {} SMC, {} ISB, {} DSB, {} DMB, {} TLB invalidations, \
             {} system registers\nwritten and {} read, {} atomic; {} lines of code, and {} of data of which {} are written, in {} pages.\n",
            f.instance, times(f.exceptions), times(f.eret), f.smc, f.isb, f.dsb, f.dmb, f.tlb_invalidations, f.system_registers_written,
            f.system_registers_read, f.atomics, f.code_lines, f.data_lines, f.data_lines_written, f.pages
        );
    }
    text
}

fn times(number: u64) -> String {
    if number == 1 { "once".into() } else { format!("{number} times") }
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
    use crate::bench::steps::Step;

    fn one(operation: &str, instance: &str, spmc: u64) -> Figures {
        Figures { operation: operation.into(), instance: instance.into(), spmc, ..Figures::default() }
    }

    #[test]
    fn figures_stand_beside_their_reference() {
        let bare = Figures { total: 1_800, ..one("direct request, bare", "S-EL1", 400) };
        let text = text(&[one("direct request", "S-EL1", 2_773), one("direct request 2", "S-EL1", 2_776), one("something else", "-", 1_234_567), bare]);
        assert!(text.contains("| direct request | S-EL1 | 2,773 | 5,546 | 0.50 | 3,421 | 0.81 | 400 | 6.93 |\n"), "{text}");
        assert!(text.contains("| direct request 2 | S-EL1 | 2,776 | 5,552 | 0.50 | - | - | 440 | 6.31 |\n"), "{text}");
        assert!(text.contains("| direct request, bare | S-EL1 | 1,800 | 6,889 | 0.26 | - | - | 1,750 | 1.03 |\n"), "all instructions: {text}");
        assert!(text.contains("| something else | - | 1,234,567 | 0 |"), "{text}");
        assert!(!text.contains("| share cycle | S-EL1"), "what was not measured is left out: {text}");
    }

    #[test]
    fn only_targets_that_are_not_reached_are_named_so() {
        let missed = not_reached(&[one("direct request", "S-EL1", 401), one("direct request", "S-EL0", 280), one("FFA_FEATURES", "-", 100)]);
        assert!(missed.contains("| direct request | S-EL1 | 401 | 400 | 1.00 |"), "{missed}");
        assert!(!missed.contains("S-EL0") && !missed.contains("FEATURES"), "{missed}");
        assert_eq!(not_reached(&[one("direct request", "S-EL1", 400)]), "");
    }

    #[test]
    fn explanations_are_of_targets() {
        for (operation, instance, why) in FLOORS {
            assert!(REFERENCES.iter().any(|r| r.operation == *operation && r.instance == *instance), "{operation} ({instance}) has no target");
            assert!(!why.contains('|') && !why.contains('\n'), "it stands in a table: {why}");
        }
    }

    #[test]
    fn costs_and_steps_of_a_round_trip_are_told() {
        let steps = vec![Step { step: steps::names().next().unwrap().into(), instructions: 7 }];
        let f = Figures { steps, exceptions: 1, eret: 2, isb: 3, tlb_invalidations: 4, code_lines: 55, pages: 9, ..one("direct request", "S-EL0", 7) };
        let text = text(&[f, one("FFA_ID_GET", "-", 0)]);
        assert!(text.contains("to S-EL0 and its answer: S-EL2 is once entered by an exception"), "{text}");
        assert!(text.contains("2 times left by ERET, 0 SMC, 3 ISB, 0 DSB, 0 DMB, 4 TLB invalidations") && text.contains("55 lines of code"), "{text}");
        assert!(text.contains(" | 7 |\n| all | 7 |\n"), "{text}");
        assert_eq!(text.matches("| FFA_ID_GET | - |").count(), 1, "not among what hardware takes longer for: {text}");
    }
}
