//! What the SPMC does in an operation, by step: each instruction belongs to the step of the innermost function at its address
//! that one of them claims, inlined functions first, by the symbols and line tables of the SPMC's ELF file.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::figures::Figures;
use crate::exec;

/// A step with the instructions that it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub step: String,
    /// Instructions of the SPMC.
    pub instructions: u64,
}

/// Steps in the order in which a request meets them first, and who belongs to them: `file.rs function`, `file.rs` alone, or ` function`
/// of assembly, which has no file. For each function at an address, from the innermost one outwards, the first line that names
/// it decides: so a line for a function stands before the one for its file.
const STEPS: &[(&str, &[&str])] = &[
    ("entry from EL3 and exit to it: x0 to x17", &["context.rs call_el3", "context.rs smc", "life.rs"]),
    ("exception vector, x0 to x30, PC, PSTATE, syndrome", &[" vectors", " enter_guest", "context.rs enter", "context.rs note_syndrome"]),
    (
        "EL1 and EL0 registers",
        &[
            "context.rs save_at", "context.rs load_at", "context.rs save", "context.rs load", "context.rs save_el0", "context.rs save_for_el0",
            "cpu.rs release_common", "cpu.rs release_el1",
        ],
    ),
    ("pointer authentication keys", &["cpu.rs release_keys"]),
    ("FP/SIMD", &["simd.rs", "cpu.rs release_simd", "cpu.rs take_simd"]),
    ("timers", &["virtual_timer.rs", "timer.rs", "cpu.rs set_timer"]),
    ("interrupts: what waits, lines, priority mask", &["interrupts.rs", "virtual_interrupts.rs", "gic.rs", "cpu.rs set_virtual_lines", "cpu.rs take_interface_back"]),
    ("message: x0 to x17 between the parties", &["fast.rs passed", "fast.rs pass_extended", "fast.rs narrow", "fast.rs bare", "cpu.rs last_message", "cpu.rs regs_in"]),
    ("vCPU: claim, conversation, publish", &["vcpu.rs"]),
    ("what the exception means", &["exit.rs"]),
    ("stage 2 and traps: registers of S-EL2", &["sysreg.rs", "stage2.rs", "traps.rs"]),
    ("machine: what has to move, whose it is, where it lies", &["context.rs", "cpu.rs"]),
    ("copies of memory and of structures", &[" memcpy", " memset"]),
    ("deciding", &["fast.rs", "spmc.rs", "partition.rs", "messaging.rs", "chain.rs", "mailbox.rs"]),
];

/// Instructions that no step names.
const OTHER: &str = "other";

/// A function at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    function: String,
    /// Its file's name; empty for assembly.
    file: String,
}

impl Frame {
    /// As `addr2line` prints them: a name, and a path with a line.
    fn parse(function: &str, place: &str) -> Self {
        let path = place.rsplit_once(':').map_or(place, |(path, _)| path);
        let file = path.rsplit('/').next().unwrap_or_default();
        let is_known = file.ends_with(".rs");
        Self { function: short(&format!("{:#}", rustc_demangle::demangle(function))), file: if is_known { file.to_owned() } else { String::new() } }
    }

    /// Its step and how well it is named: a function is, before a file.
    fn step(&self) -> Option<usize> {
        let named = format!("{} {}", self.file, self.function);
        let position = |wanted: &str| STEPS.iter().position(|(_, members)| members.contains(&wanted));
        position(&named).or_else(|| position(&self.file))
    }
}

/// The last word of a function's path, without parameters: `run` of `<a::B as c::D>::run::<e::F>`.
fn short(path: &str) -> String {
    let mut depth = 0;
    let mut words = vec![String::new()];
    for c in path.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            ':' if depth == 0 => words.push(String::new()),
            _ if depth == 0 => words.last_mut().expect("there is one").push(c),
            _ => {}
        }
    }
    words.into_iter().rev().find(|word| !word.is_empty() && !word.starts_with('{')).unwrap_or_default()
}

/// Whether an operation is broken down: those that the steps describe.
#[must_use]
pub fn describe(figures: &Figures) -> bool {
    figures.operation == "direct request"
}

/// An operation's steps, in lines.
#[must_use]
pub fn show(steps: &[Step]) -> String {
    let head = if steps.is_empty() { "" } else { "by step:\n" };
    steps.iter().fold(head.to_owned(), |text, step| text + &format!("{:>8}  {}\n", step.instructions, step.step))
}

/// Names of all steps, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    STEPS.iter().map(|(name, _)| *name).chain([OTHER])
}

/// The steps of a profile: instructions of the SPMC's ELF file `elf` by address. All instructions are in them.
///
/// # Errors
/// When `addr2line` cannot be run, or does not answer for each address.
pub fn of(elf: &Path, profile: &BTreeMap<u64, u64>) -> Result<Vec<Step>> {
    let mut command = Command::new("aarch64-linux-gnu-addr2line");
    command.args(["-f", "-i", "-a", "-e"]).arg(elf).args(profile.keys().map(|address| format!("{address:#x}")));
    let answer = exec::output(&mut command).context("cannot look up the functions of a profile")?;
    let frames = frames(&answer)?;
    if let Some(address) = profile.keys().find(|address| !frames.contains_key(address)) {
        bail!("addr2line says nothing of {address:#x} in {}", elf.display());
    }
    Ok(sum(profile, &frames))
}

/// What `addr2line -f -i -a` says: functions by address, the innermost first.
fn frames(answer: &str) -> Result<BTreeMap<u64, Vec<Frame>>> {
    let mut found: BTreeMap<u64, Vec<Frame>> = BTreeMap::new();
    let mut current = None;
    let mut lines = answer.lines();
    while let Some(line) = lines.next() {
        if let Some(digits) = line.strip_prefix("0x") {
            let address = u64::from_str_radix(digits, 16).with_context(|| format!("addr2line wrote '{line}'"))?;
            current = Some(found.entry(address).or_default());
            continue;
        }
        let place = lines.next().with_context(|| format!("addr2line wrote '{line}' and no place"))?;
        current.as_mut().with_context(|| format!("addr2line wrote '{line}' before an address"))?.push(Frame::parse(line, place));
    }
    Ok(found)
}

fn sum(profile: &BTreeMap<u64, u64>, frames: &BTreeMap<u64, Vec<Frame>>) -> Vec<Step> {
    let mut sums = vec![0; STEPS.len() + 1];
    for (address, times) in profile {
        let step = frames.get(address).and_then(|frames| frames.iter().find_map(Frame::step));
        sums[step.unwrap_or(STEPS.len())] += times;
    }
    names().zip(sums).filter(|(_, sum)| *sum > 0).map(|(name, instructions)| Step { step: name.into(), instructions }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Project;
    use std::fs;

    #[test]
    fn functions_lose_paths_and_parameters() {
        for (path, last) in [
            ("<bulkhead_core::spmc::Spmc>::fast_conversation::<bulkhead::cpu::Cpu>", "fast_conversation"),
            ("<bulkhead::cpu::Cpu as bulkhead_core::machine::Machine>::run", "run"),
            ("bulkhead::life::serve", "serve"),
            ("<bulkhead_core::vcpu::Vcpu>::due::{closure#0}", "due"),
            ("guest_exit", "guest_exit"),
        ] {
            assert_eq!(short(path), last);
        }
    }

    #[test]
    fn an_instruction_belongs_to_the_innermost_function_that_is_named() {
        let answer = "\
0x000000000e100000\nenter_guest\n??:?\n\
0x000000000e100004\nload\n/x/core/src/sync/atomic.rs:77\nclaim\n/w/spmc/core/src/vcpu.rs:139\nfast_path\n/w/spmc/core/src/fast.rs:1 (discriminator 2)\n\
0x000000000e100008\nsave\n/w/spmc/src/context.rs:4\nrelease_el1\n/w/spmc/src/cpu.rs:9\n\
0x000000000e10000c\nswitch_to\n/w/spmc/src/cpu.rs:9\n\
0x000000000e100010\nnobody\n/w/spmc/src/nobody.rs:1\n";
        let profile = BTreeMap::from([(0x0e10_0000, 1), (0x0e10_0004, 2), (0x0e10_0008, 4), (0x0e10_000c, 8), (0x0e10_0010, 16)]);
        let frames = frames(answer).unwrap();
        assert_eq!(frames[&0x0e10_0004][0], Frame { function: "load".into(), file: "atomic.rs".into() });
        let steps: Vec<(String, u64)> = sum(&profile, &frames).into_iter().map(|s| (s.step, s.instructions)).collect();
        let named = |name: &str| steps.iter().find(|(step, _)| step.starts_with(name)).map(|(_, n)| *n);
        assert_eq!((named("exception vector"), named("vCPU"), named("EL1"), named("machine"), named("other")), (Some(1), Some(2), Some(4), Some(8), Some(16)));
        assert_eq!(steps.iter().map(|(_, n)| n).sum::<u64>(), 31, "nothing is lost");
        assert!(super::frames("nonsense\n").is_err());
    }

    /// A function that is renamed would go to its file's step without a word.
    #[test]
    fn whoever_is_named_exists() {
        let root = Project::find().unwrap().root;
        let read = |file: &str| ["spmc/src", "spmc/core/src"].iter().find_map(|dir| fs::read_to_string(root.join(dir).join(file)).ok());
        let assembly = ["entry.s", "mem.s"].map(|file| read(file).unwrap()).concat();
        let is_there = |member: &&str| match member.split_once(' ') {
            None => read(member).is_some(),
            Some(("", function)) => assembly.contains(&format!("\n{function}:")),
            Some((file, function)) => read(file).is_some_and(|source| source.contains(&format!("fn {function}"))),
        };
        let wrong: Vec<&&str> = STEPS.iter().flat_map(|(_, members)| *members).filter(|member| !is_there(member)).collect();
        assert!(wrong.is_empty(), "not in the SPMC's sources: {wrong:?}; mend STEPS in qemu/src/bench/steps.rs");
    }
}
