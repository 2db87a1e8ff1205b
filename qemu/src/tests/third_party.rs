//! `run --bl33 --sp` with a suite as somebody else would bring it (`tests/third-party`): partitions whose manifests use what ours do
//! not, payloads at NS-EL2, NS-EL1 and with VHE, one of which falls silent until it is reset.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use regex::Regex;

use super::Tally;
use crate::chain::Changes;
use crate::console::Port;
use crate::exec;
use crate::machine::CPUS;
use crate::package;
use crate::progress::Progress;
use crate::project::{Project, create_dir};
use crate::system;
use crate::third_party::argument::SpArgument;
use crate::third_party::batch::{Outcome, Rules, follow};
use crate::third_party::{self, Parts};
use crate::toolchain::{self, Profile};

/// Name for reports and filters.
pub const NAME: &str = "third-party";
/// Name of the system; `run` has another.
const SYSTEM: &str = "third-party-example";

/// The payloads, and how often each is reset.
const PAYLOADS: [(&str, u32); 4] = [("el2", 0), ("el1", 0), ("vhe", 0), ("silent", 1)];
/// Image, manifest and load address of each partition.
const PARTITIONS: [(&str, &str, Option<u64>); 5] = [
    ("sp-el1.elf", "first", None),
    ("sp-el1.elf", "second", None),
    ("sp-el0-sections.elf", "third", None),
    (PACKED, "fourth", None),
    ("sp-el0.elf", "fifth", Some(0x0e48_0000)),
];
/// The partition that comes as a package.
const PACKED: &str = "fourth.pkg";
/// What the SPMC must say that it does not act on.
const NOTES: [&str; 7] =
    ["auxiliary-id", "interrupts", "stream-ids", "power-management-messages", "run-time-model", "ffa-version", "exception-level"];

/// Builds the suite and boots it with each payload.
///
/// # Errors
/// When something cannot be built, or on Ctrl-C.
pub fn run(project: &Project, progress: &Progress) -> Result<Tally> {
    println!("Boot '{NAME}': somebody else's payloads and partitions, from their images and manifests");
    let sources = project.root.join("tests/third-party");
    let out = project.out().join(SYSTEM);
    create_dir(&out)?;
    exec::output(Command::new("make").arg("-C").arg(&sources).arg(format!("OUT={}", out.display()))).context("cannot build tests/third-party")?;
    pack(&sources, &out)?;
    let manifest = |name: &str| sources.join(name).with_extension("dts");
    let partitions = PARTITIONS.iter().map(|(image, name, load_address)| SpArgument {
        image: out.join(image),
        manifest: (*image != PACKED).then(|| manifest(name)),
        load_address: *load_address,
    });
    let mut parts = Parts { partitions: partitions.collect(), ..Parts::default() };
    let rules = Rules { until: Some(Regex::new("^SUITE DONE")?), timeout: Duration::from_secs(120), reset_on_silence: Some(Duration::from_secs(5)) };
    let mut tally = Tally::default();
    for (payload, resets) in PAYLOADS {
        parts.bl33 = Some(out.join(format!("payload-{payload}.elf")));
        let (_, _, machine) = third_party::prepare(project, progress, Profile::Release, Changes::default(), &parts, CPUS, SYSTEM)?;
        let mut run = machine.start()?;
        let report = follow(&mut run, &rules, &mut |_, _| ())?;
        let lines = run.console(Port::Normal).text().lines().map(str::trim).collect::<Vec<_>>();
        let results = results(payload, &lines);
        for result in &results {
            println!("  {}", result.1);
        }
        tally.passed += results.iter().filter(|result| result.0).count();
        tally.failed += results.iter().filter(|result| !result.0).count();
        let mut judge = |holds: bool, what: String| {
            println!("  {} {NAME}.{payload} {what}", if holds { "PASS" } else { "FAIL" });
            if holds { tally.passed += 1 } else { tally.failed += 1 }
        };
        let counted = format!("SUITE DONE: {} passed, {} failed", results.iter().filter(|r| r.0).count(), results.iter().filter(|r| !r.0).count());
        let ended = report.outcome == Outcome::Found(counted) && report.resets == resets;
        judge(ended, report.show(&rules));
        if !ended {
            println!("{}", run.last_words());
        }
        let secure = run.console(Port::Secure).text();
        let silent: Vec<_> = NOTES.into_iter().filter(|note| !secure.contains(&format!("its {note} changes nothing"))).collect();
        judge(silent.is_empty(), format!("what is not acted upon is named{}", if silent.is_empty() { String::new() } else { format!(", but for {}", silent.join(", ")) }));
    }
    Ok(tally)
}

/// Makes the package that comes as one, as `sptool` would with the image in the second page.
fn pack(sources: &Path, out: &Path) -> Result<()> {
    let manifest = system::compile(out, "fourth", &sources.join("fourth.dts"))?;
    let path = out.join("sp-el1.elf");
    let elf = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (_, image) = toolchain::flat_image(&elf)?.context("it is an ELF file")?;
    fs::write(out.join(PACKED), package::sptool(&manifest, &image, 0x1000)?).context("cannot write the package")
}

/// The checks of a payload's console: whether each held, and a line about it. `# name` says whose the next ones are.
fn results(payload: &str, lines: &[&str]) -> Vec<(bool, String)> {
    let mut whose = String::new();
    let mut results = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix("# ") {
            whose = format!(" {name}:");
        } else if let Some(what) = line.strip_prefix("ok ") {
            results.push((true, format!("PASS {NAME}.{payload}{whose} {what}")));
        } else if let Some(what) = line.strip_prefix("not ok ") {
            results.push((false, format!("FAIL {NAME}.{payload}{whose} {what}")));
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_told_apart_and_say_whose_they_are() {
        let lines = ["NOTICE: ok", "ok FF-A 1.2", "# first", "not ok answers: found 0x0, expected 0x1", "ok buffers"];
        let found = results("el2", &lines);
        let shown: Vec<_> = found.iter().map(|(holds, line)| (*holds, line.as_str())).collect();
        assert_eq!(shown, [
            (true, "PASS third-party.el2 FF-A 1.2"),
            (false, "FAIL third-party.el2 first: answers: found 0x0, expected 0x1"),
            (true, "PASS third-party.el2 first: buffers"),
        ]);
    }
}
