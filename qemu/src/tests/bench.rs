//! The benchmark as a part of `cargo xtask test`: no operation costs more than is recorded, nor a share more beside others.

use anyhow::Result;

use super::Tally;
use crate::bench::{self, record};
use crate::progress::Progress;
use crate::project::Project;

/// Name in reports.
pub const NAME: &str = "bench";

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
    failures.iter().for_each(|failure| count(false, &format!("not measured: {failure}")));
    if compared.iter().any(|one| !one.holds() || matches!(one.change, record::Change::Fell(_))) {
        println!("  {}", record::ADVICE);
    }
    Ok(tally)
}
