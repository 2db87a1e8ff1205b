//! Registers of the normal world and of partitions survive each other, with interrupts on.

use super::prelude::*;
use crate::probes::{ask, resumed};
use crate::{board, cores, gic};
use bulkhead_sdk::Line;
use conformance_testkit::registers::BelowEl2;
use conformance_testkit::vectors::{Sve, check_simd, check_za, fill_simd, fill_za, forget_za, says_streaming, streaming, vector_bytes};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, VICTIM_EL0, VICTIM_EL1};

checks! { "state":
    "4.1" system_registers_survive_partitions [Ns] ANY "no register of EL1 and EL0 changed";
    "11.2" simd_registers_survive_partitions [Ns] ANY "no FP/SIMD register changed";
    "11.2" sve_registers_survive_partitions [Ns] ANY "no SVE register changed";
    "11.2" sme_array_survives_partitions [Ns] ANY "no row of ZA changed";
    "11.2" streaming_mode_survives_partitions [Ns] ANY "streaming mode and its registers as they were";
    "4.1" partitions_keep_their_registers [Ns] ANY "no register of any partition changed";
    "4.1" partitions_keep_their_registers_on_every_core [Ns] ANY "no register of any vCPU changed";
}

/// Rounds of each check.
const ROUNDS: u64 = 6;

/// Lets both partitions fill and use their registers while the timer interrupts them.
fn disturb(seed: u64) -> Result<(), Line> {
    gic::start_timer(400);
    let result = disturbance(seed);
    gic::stop_timer();
    result
}

fn disturbance(seed: u64) -> Result<(), Line> {
    for probe in [PROBE_EL1, PROBE_EL0] {
        ask(&probe, Command::Fill, &[seed ^ 0xaaaa])?;
        let words = ask(&probe, Command::Spin, &[6, seed])?;
        ensure!(words[1] == 0, "{}: {} of its registers changed while it ran", probe.name, words[1]);
    }
    ask(&PROBE_EL1, Command::Nested, &[u64::from(PROBE_EL0.id.0), seed])?;
    Ok(())
}

fn system_registers_survive_partitions(_: Instance) -> Outcome {
    let before = resumed();
    for seed in 1..=ROUNDS {
        let mut filled = [0; 64];
        BelowEl2::fill(seed);
        BelowEl2::read(|n, value| filled[n] = value);
        disturb(seed)?;
        let mut wrong = None;
        BelowEl2::read(|n, value| {
            if filled[n] != value {
                wrong = Some((n, value));
            }
        });
        if let Some((n, value)) = wrong {
            fail!("{} is {value:#x}, was {:#x}", BelowEl2::NAMES[n], filled[n]);
        }
    }
    let interrupts = resumed() - before;
    ensure!(interrupts > 0, "no interrupt came");
    pass!("{} registers, {ROUNDS} rounds, {interrupts} interrupts", BelowEl2::NAMES.len())
}

fn simd_registers_survive_partitions(_: Instance) -> Outcome {
    for seed in 1..=ROUNDS {
        fill_simd(seed);
        disturb(seed)?;
        let wrong = check_simd(seed);
        ensure!(wrong == 0, "{wrong} of 66 words changed");
    }
    pass!("v0 to v31, FPSR, FPCR, {ROUNDS} rounds")
}

fn sve_registers_survive_partitions(_: Instance) -> Outcome {
    if !board::has_sve() {
        skip!("this CPU has no SVE");
    }
    let length = vector_bytes();
    for seed in 1..=ROUNDS {
        let mut filled = Sve::new();
        let mut scratch = Sve::new();
        filled.fill(seed);
        disturb(seed)?;
        let now = vector_bytes();
        ensure!(now == length, "the vector length is {now} bytes, was {length}");
        let wrong = scratch.compare(&filled);
        ensure!(wrong == 0, "{wrong} bytes changed");
    }
    pass!("z0 to z31, p0 to p15, FFR of {length} bytes, {ROUNDS} rounds")
}

fn sme_array_survives_partitions(_: Instance) -> Outcome {
    if !board::has_sme() {
        skip!("this CPU has no SME");
    }
    let mut rows = 0;
    for seed in 1..=2 {
        fill_za(seed);
        let result = disturb(seed);
        let (wrong, all) = check_za(seed);
        forget_za();
        result?;
        ensure!(wrong == 0, "{wrong} of {all} rows changed");
        rows = all;
    }
    pass!("{rows} rows, 2 rounds")
}

fn streaming_mode_survives_partitions(_: Instance) -> Outcome {
    if !board::has_sme() {
        skip!("this CPU has no SME");
    }
    let mut length = 0;
    for seed in 1..=ROUNDS {
        let mut filled = Sve::new();
        let mut scratch = Sve::new();
        streaming(true);
        filled.fill(seed);
        let result = disturb(seed);
        let still = says_streaming();
        length = vector_bytes();
        let wrong = scratch.compare(&filled);
        streaming(false);
        result?;
        ensure!(still, "the CPU left streaming mode");
        ensure!(wrong == 0, "{wrong} bytes changed");
    }
    pass!("z0 to z31, p0 to p15 of {length} bytes, {ROUNDS} rounds")
}

fn partitions_keep_their_registers(_: Instance) -> Outcome {
    let all = [PROBE_EL1, PROBE_EL0, VICTIM_EL1, VICTIM_EL0];
    for round in 1..=ROUNDS {
        for (n, probe) in all.iter().enumerate() {
            ask(probe, Command::Fill, &[round << 8 | n as u64])?;
        }
        BelowEl2::fill(round);
        fill_simd(round);
        gic::start_timer(400);
        let mut result = Ok(());
        for probe in &all {
            match ask(probe, Command::Check, &[]) {
                Ok(words) if words[0] == 0 => {}
                Ok(words) => result = Err(Line::new(format_args!("{}: {} registers changed, first {}", probe.name, words[0], words[1] as i64))),
                Err(problem) => result = Err(problem),
            }
        }
        gic::stop_timer();
        result?;
    }
    pass!("4 partitions, {ROUNDS} rounds")
}

fn fill_el1(seed: u64) -> u64 {
    ask(&PROBE_EL1, Command::Fill, &[seed]).map_or(0, |words| words[0])
}

fn check_el1(_: u64) -> u64 {
    ask(&PROBE_EL1, Command::Check, &[]).map_or(u64::MAX, |words| words[0])
}

fn partitions_keep_their_registers_on_every_core(_: Instance) -> Outcome {
    for core in 1..4 {
        ensure!(cores::start(core), "core {core} did not come");
        cores::ask(core, fill_el1, 0x100 + core as u64);
        ensure!(cores::result(core) == Some(1), "core {core} did not fill");
    }
    ask(&PROBE_EL1, Command::Fill, &[0x100])?;
    for core in 1..4 {
        cores::ask(core, check_el1, 0);
        let result = cores::result(core);
        ensure!(result == Some(0), "vCPU {core}: {result:?} registers changed");
    }
    ensure!(check_el1(0) == 0, "vCPU 0 changed");
    pass!("4 vCPUs")
}
