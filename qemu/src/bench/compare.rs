//! `cargo xtask compare-bridge`: the same variable workload (`partitions/linux/loader/src/compare.rs`) on the bridge and on Bulkhead, with one
//! StMM image, counted by who executes what.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};

use super::figures::{self, Figures, Measured};
use super::measure;
use crate::bridge::{self, Bridge};
use crate::chain::{Chain, Changes, Firmware, GATEWAY, OPTEE, STMM, StmmImage};
use crate::console::Port;
use crate::demonstration::item;
use crate::machine::{Limits, Machine, Run};
use crate::progress::Progress;
use crate::project::Project;
use crate::tests::uboot;
use crate::toolchain::Profile;

/// OP-TEE's core, and the memory where it has StMM, by physical address: PLATFORM vexpress-qemu_armv8a.
const ON_THE_BRIDGE: [(&str, (u64, u64)); 2] = [(OPTEE, (0x0e10_0000, 0x0e30_0000)), (STMM, (0x0e30_0000, 0x0f00_0000))];
/// Partitions, as in manifests/spmc-u-boot.dts.
const ON_BULKHEAD: [(&str, (u64, u64)); 3] = [(OPTEE, (0x0e60_0000, 0x0ef0_0000)), (STMM, (0x0e20_0000, 0x0e60_0000)), (GATEWAY, (0x0ef0_0000, 0x0f00_0000))];

/// Names of the systems in figures.
const BRIDGE: &str = "bridge, U-Boot";
const BULKHEAD: &str = "Bulkhead, U-Boot";
const BULKHEAD_UEFI: &str = "Bulkhead, UEFI";

/// A firmware's own waits are counted, too: instructions are time here.
const LIMITS: Limits = Limits { silence: Duration::from_secs(300), total: Duration::from_secs(1200) };

/// Builds, boots three systems, and prints the table. Returns whether every operation was done on each.
///
/// # Errors
/// When something cannot be built or booted, the two StMM images are not the same, or the file cannot be written.
pub fn run(project: &Project, progress: &Progress, json: Option<&Path>) -> Result<bool> {
    let bridge = Bridge::build(project, progress)?;
    let mut measured = Measured::default();
    let inside = bridge::checksum(&bridge.stmm()?)?;
    println!("StMM inside OP-TEE: {inside}");
    println!("Counting on the bridge, with U-Boot ...");
    measured.extend(count(project, bridge.machine(project, "compare-bridge")?, BRIDGE, &ON_THE_BRIDGE, &mut start_from_u_boot)?);
    for (firmware, system, name) in [(Firmware::UBoot, BULKHEAD, "compare-u-boot"), (Firmware::Uefi, BULKHEAD_UEFI, "compare-uefi")] {
        let chain = Chain::build(project, progress, Profile::Release, Changes { firmware, store_in_ram: true, ..Changes::default() })?;
        let checksum = bridge::checksum(&chain.stmm()?)?;
        println!("StMM as a partition: {checksum}");
        if checksum != inside {
            bail!("the two StMM images differ, so there is nothing to compare: partitions/stmm has changed meanwhile; run the command again");
        }
        println!("Counting on {system} ...");
        let machine = chain.machine(&chain.assemble(project, name, StmmImage::Plain)?)?;
        let mut typing: fn(&mut Run) -> Result<()> = if firmware == Firmware::UBoot { start_from_u_boot } else { |_| Ok(()) };
        measured.extend(count(project, machine, system, &ON_BULKHEAD, &mut typing)?);
    }
    let all: Vec<Figures> = measured.operations.into_iter().map(|operation| operation.figures).filter(|f| f.operation != "boot").collect();
    print!("{}", table(&all));
    for failure in &measured.failures {
        println!("not measured: {failure}");
    }
    if let Some(path) = json {
        figures::write(path, &all)?;
    }
    Ok(measured.failures.is_empty())
}

fn count(project: &Project, machine: Machine, system: &str, partitions: &[(&str, (u64, u64))], typing: &mut dyn FnMut(&mut Run) -> Result<()>) -> Result<Measured> {
    let steps = item("uefi", "compare power-off");
    let machine = Machine { cpus: 1, resets: false, fw_cfg: vec![steps], ..machine };
    let mut measured = measure::count_typed(project, machine, system, partitions, None, &LIMITS, typing)?;
    measured.failures.iter_mut().for_each(|failure| *failure = format!("{system}: {failure}"));
    Ok(measured)
}

/// Starts the loader by hand: U-Boot would look for it on every device first.
fn start_from_u_boot(run: &mut Run) -> Result<()> {
    uboot::prompt_at(run)?;
    run.send(Port::Normal, "load virtio 0 ${kernel_addr_r} EFI/BOOT/BOOTAA64.EFI; bootefi ${kernel_addr_r}\n")
}

/// Who executes instructions, as columns: a name, and how many of them.
type Column = (&'static str, fn(&Figures) -> u64);

const COLUMNS: [Column; 7] = [
    ("firmware", |f| f.normal),
    ("EL3", |f| f.el3),
    ("OP-TEE", |f| of(f, OPTEE)),
    ("Bulkhead", |f| f.spmc),
    ("gateway", |f| of(f, GATEWAY)),
    ("StMM", |f| of(f, STMM)),
    ("all", |f| f.total),
];

fn of(figures: &Figures, partition: &str) -> u64 {
    figures.partitions.get(partition).copied().unwrap_or_default()
}

/// What runs between the normal world and StMM.
fn between(figures: &Figures) -> u64 {
    figures.total - figures.normal - of(figures, STMM)
}

/// A table in Markdown: each operation on each system, and what is between firmware and StMM in percent of the bridge's.
fn table(figures: &[Figures]) -> String {
    let mut text = "| operation | system |".to_owned();
    for (name, _) in COLUMNS {
        let _ = write!(text, " {name} |");
    }
    text += " between firmware and StMM | of the bridge's |\n|---|---|";
    text += &"--:|".repeat(COLUMNS.len() + 2);
    text.push('\n');
    let is_first = |(n, f): &(usize, &Figures)| !figures[..*n].iter().any(|before| before.is_like(f));
    for (_, f) in figures.iter().enumerate().filter(is_first) {
        let bridge = figures.iter().find(|other| other.is_like(f) && other.system == BRIDGE).map(between);
        for one in figures.iter().filter(|one| one.is_like(f)) {
            let _ = write!(text, "| {} | {} |", one.operation, one.system);
            for (_, count) in COLUMNS {
                let _ = write!(text, " {} |", count(one));
            }
            let share = bridge.map_or_else(|| "-".to_owned(), |bridge| format!("{} %", (between(one) * 100).div_ceil(bridge.max(1))));
            let _ = writeln!(text, " {} | {share} |", between(one));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(system: &str, partitions: &[(&str, u64)], [normal, el3, spmc]: [u64; 3]) -> Figures {
        let partitions: std::collections::BTreeMap<String, u64> = partitions.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect();
        let total = normal + el3 + spmc + partitions.values().sum::<u64>();
        Figures { operation: "read".into(), instance: "64 bytes".into(), system: system.into(), normal, el3, spmc, partitions, total, ..Figures::default() }
    }

    #[test]
    fn each_operation_is_beside_the_bridges_and_what_is_between_is_compared() {
        let all = [
            figures(BRIDGE, &[(OPTEE, 900), (STMM, 70)], [50, 100, 0]),
            figures(BULKHEAD, &[(GATEWAY, 20), (STMM, 70)], [40, 80, 100]),
            Figures { operation: "write".into(), ..figures(BULKHEAD, &[(STMM, 70)], [40, 80, 100]) },
        ];
        let text = table(&all);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[2], "| read | bridge, U-Boot | 50 | 100 | 900 | 0 | 0 | 70 | 1120 | 1000 | 100 % |");
        assert_eq!(rows[3], "| read | Bulkhead, U-Boot | 40 | 80 | 0 | 100 | 20 | 70 | 310 | 200 | 20 % |");
        assert_eq!(rows[4], "| write | Bulkhead, U-Boot | 40 | 80 | 0 | 100 | 0 | 70 | 290 | 180 | - |", "the bridge could not");
        assert_eq!(rows.len(), 5, "{text}");
    }
}
