//! The benchmark as a part of `cargo xtask test`: no operation costs more than is recorded, nor a share more beside others, nor any more
//! in a larger system; and cores that ask different vCPUs cost each other nothing.

use anyhow::Result;

use super::Tally;
use crate::bench::{self, record, scaling};
use crate::progress::Progress;
use crate::project::Project;

/// Name in reports.
pub const NAME: &str = "bench";
/// Of the boot with several cores.
pub const CORES: &str = "bench-cores";

/// Measures and compares; one test for each operation.
///
/// # Errors
/// When something cannot be built or started, or the record cannot be read.
pub fn run(project: &Project, progress: &Progress) -> Result<Tally> {
    println!("Boot '{NAME}': what each operation costs the SPMC, beside {}", record::PATH);
    let (figures, failures) = bench::own(project, progress)?;
    let recorded = bench::recorded(project)?;
    let mut tally = Tally::default();
    let mut count = |holds: bool, text: &str| {
        println!("  {} bench {text}", if holds { "PASS" } else { "FAIL" });
        if holds { tally.passed += 1 } else { tally.failed += 1 }
    };
    let compared = record::compare(&figures, &recorded);
    compared.iter().for_each(|one| count(one.holds(), &one.show()));
    for (name, alone, beside) in record::beside_others(&figures) {
        count(record::stays(alone, beside), &format!("{name}: {beside} instructions, {alone} without them"));
    }
    // Who asks and who answers is a handful of instructions here: a plugin that miscounts is found out.
    for f in figures.iter().filter(|f| f.operation == "direct request, bare") {
        let found = (f.normal, f.partition, f.exceptions, f.eret, f.smc);
        let text = format!("{} ({}): SMC, six instructions, one exception, one ERET, one SMC of the SPMC: counted {found:?}", f.operation, f.instance);
        count(found == (1, 6, 1, 1, 1), &text);
    }
    for (name, percents) in scaling::in_percent(&figures) {
        let holds = percents.iter().all(|percent| *percent <= scaling::GROWTH_LIMIT);
        count(holds, &format!("{name}: {} % with 4 and 8 partitions, and beside 7 idle cores", percents.map(|p| p.to_string()).join(", ")));
    }
    failures.iter().for_each(|failure| count(false, &format!("not measured: {failure}")));
    if compared.iter().any(|one| !one.holds() || matches!(one.change, record::Change::Fell(_))) {
        println!("  {}", record::ADVICE);
    }
    Ok(tally)
}

/// Requests of several cores: one test for each way in which they are made.
///
/// # Errors
/// When something cannot be built, or the boot does not do all that it should.
pub fn run_cores(project: &Project, progress: &Progress) -> Result<Tally> {
    println!("Boot '{CORES}': what cores cost each other that make requests in turns and at once");
    let (sharing, names) = bench::cores(project, progress)?;
    let mut tally = Tally::default();
    for (holds, text) in scaling::judge(&sharing) {
        println!("  {} cores {text}", if holds { "PASS" } else { "FAIL" });
        if holds { tally.passed += 1 } else { tally.failed += 1 }
    }
    if tally.failed > 0 {
        println!("{names}");
    }
    Ok(tally)
}
