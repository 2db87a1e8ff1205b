//! Deliberately wrong builds of the SPMC, which the conformance suite must catch: a check that cannot fail is none.
//!
//! The SPMC's own sources carry nothing of this. A copy of them is rewritten: each expression of [`list`] becomes
//! `if mutant(n) { wrong } else { original }`, and one build holds all mutants. Which of them is alive, a number in the image says,
//! which is written into a copy of it for each boot.

mod list;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::limits;
use crate::progress::Progress;
use crate::project::Project;

use super::boots::{BOOTS, Boot};
use super::record::{NOT_STARTED, Record, Verdict};
use super::run::{Plan, Spmc, Suite};
use list::{MUTANTS, Mutant};

/// What the copy is made of.
const SOURCES: &[&str] = &["Cargo.toml", "Cargo.lock", "spmc", "manifests", "linker", "qemu", "partitions", "tests"];

/// Seconds without a word after which a machine is taken for broken: many mutants are.
const SILENCE: u64 = 20;

/// Stands in the image before the number of the mutant that is alive, in words of 32 bits.
const MARK: [u32; 3] = [0x6d75_7461, 0x6e74_5f6e, 0x756d_6265];

/// Boots the mutants that `filter` selects (by a part of their names or group) until the suite catches each, or has passed it.
/// Prints one line for each; returns whether all were caught.
///
/// # Errors
/// When something cannot be built or started, no mutant is selected, or on Ctrl-C.
pub fn command(project: &Project, progress: &Progress, filter: Option<&str>, list: bool) -> Result<bool> {
    let selected = |m: &Mutant| filter.is_none_or(|f| m.name.contains(f) || m.group.contains(f));
    let mutants: Vec<(usize, &Mutant)> = MUTANTS.iter().enumerate().filter(|(_, m)| selected(m)).collect();
    ensure!(!mutants.is_empty(), "no mutant contains '{}': see --mutants --list", filter.unwrap_or_default());
    if list {
        for (_, mutant) in mutants {
            println!("{:16} {} (spmc/{})", mutant.group, mutant.name, mutant.file);
        }
        return Ok(true);
    }
    let suite = Suite::build(project, progress, BOOTS)?;
    let image = build(project, progress)?;
    let mut missed = 0;
    for &(number, mutant) in &mutants {
        let path = project.out().join("mutants").join("spmc.bin");
        fs::write(&path, choose(&image, number)?).with_context(|| format!("cannot write {}", path.display()))?;
        let spmc = Spmc { image: path, manifest: None, judged: true };
        match hunt(project, &suite, &spmc, mutant.group)? {
            Some(record) => println!("  caught {}: {}\n         by {}", mutant.group, mutant.name, record.show()),
            None => {
                missed += 1;
                println!("  MISSED {}: {}", mutant.group, mutant.name);
            }
        }
    }
    println!("{} mutants: {} caught, {missed} missed", mutants.len(), mutants.len() - missed);
    Ok(missed == 0)
}

/// The first check that fails, of a group or of those whose names continue its name.
fn hunt(project: &Project, suite: &Suite, spmc: &Spmc, group: &str) -> Result<Option<Record>> {
    for plan in suite.select(BOOTS, None)? {
        let checks: Vec<_> = plan.checks.into_iter().filter(|check| check.group.starts_with(group)).collect();
        if checks.is_empty() {
            continue;
        }
        let boot = Boot { silence: SILENCE, ..plan.boot };
        let plan = Plan { boot, checks, until_failure: true };
        let outcome = suite.run(project, spmc, &plan, &mut |_| ())?;
        // That a system does not start shows nothing about a check.
        let caught = |record: &Record| record.result == Verdict::Fail && !record.reason.starts_with(NOT_STARTED);
        if let Some(record) = outcome.records.into_iter().find(caught) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Makes the image that holds all mutants; none of them is alive.
///
/// # Errors
/// When an expression of the list is not where it should be, or the compiler refuses.
fn build(project: &Project, progress: &Progress) -> Result<Vec<u8>> {
    let root = project.out().join("mutants").join("source");
    for name in SOURCES {
        copy(&project.root.join(name), &root.join(name), &|path, text| rewrite(&project.root, path, text))?;
    }
    let copy = Project { root, cache: project.cache.clone() };
    // The fast path takes what the mutants of the general one would spoil; that both are the same, a property test of the core says.
    let image = limits::build_general_spmc(&copy, progress).context("cannot build the mutants")?;
    fs::read(&image.bin).with_context(|| format!("cannot read {}", image.bin.display()))
}

/// The image in which mutant `number` is alive (its place in [`MUTANTS`]).
///
/// # Errors
/// When the image has no mark, or several.
fn choose(image: &[u8], number: usize) -> Result<Vec<u8>> {
    let mark: Vec<u8> = MARK.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut places = image.windows(mark.len()).enumerate().filter(|(_, window)| *window == mark).map(|(at, _)| at);
    let (Some(at), None) = (places.next(), places.next()) else { bail!("the image of the mutants does not hold its mark exactly once") };
    let at = at + mark.len();
    let mut chosen = image.to_vec();
    // Zero means none.
    chosen[at..at + 4].copy_from_slice(&(number as u32 + 1).to_le_bytes());
    Ok(chosen)
}

/// What decides at run time, in the core of the copy.
fn chooser() -> String {
    let [a, b, c] = MARK;
    format!(
        "
/// Which mutant is alive.
pub mod mutants {{
    use core::sync::atomic::{{AtomicU32, Ordering}};

    #[used]
    static CHOSEN: [AtomicU32; 4] = [AtomicU32::new({a}), AtomicU32::new({b}), AtomicU32::new({c}), AtomicU32::new(0)];

    /// Whether mutant `number` is alive.
    #[inline(never)]
    pub fn lives(number: u32) -> bool {{
        CHOSEN[3].load(Ordering::Relaxed) == number + 1
    }}
}}
"
    )
}

/// The text of `path` (in the repository at `root`) with the mutants that belong there.
fn rewrite(root: &Path, path: &Path, text: String) -> Result<String> {
    let Ok(file) = path.strip_prefix(root.join("spmc")) else { return Ok(text) };
    let mut text = text;
    for (number, mutant) in MUTANTS.iter().enumerate().filter(|(_, mutant)| Path::new(mutant.file) == file) {
        text = mutate(&text, number, mutant)?;
    }
    if file == Path::new("core/src/lib.rs") {
        text = format!("#![allow(unused_parens, reason = \"of mutants\")]\n{text}{}", chooser());
    }
    Ok(text)
}

fn mutate(text: &str, number: usize, mutant: &Mutant) -> Result<String> {
    let Mutant { name, file, original, wrong, .. } = mutant;
    let (before, rest) = original.split_once('«').unwrap_or(("", original));
    let (expression, after) = rest.split_once('»').unwrap_or((rest, ""));
    let context = format!("{before}{expression}{after}");
    let places = text.matches(&context).count();
    ensure!(places == 1, "mutant '{name}': spmc/{file} holds `{context}` {places} times, not once; correct the list in qemu/src/conformance/mutants/list.rs");
    let core = if file.starts_with("core/") { "crate" } else { "bulkhead_core" };
    let rewritten = format!("{before}(if {core}::mutants::lives({number}) {{ {wrong} }} else {{ {expression} }}){after}");
    Ok(text.replacen(&context, &rewritten, 1))
}

/// Copies a file or a tree, leaving alone what is there already: cargo builds only what changed.
fn copy(from: &Path, to: &Path, change: &dyn Fn(&Path, String) -> Result<String>) -> Result<()> {
    let cannot = |what: &str, path: &PathBuf| format!("cannot {what} {}", path.display());
    let from = from.to_path_buf();
    if from.is_dir() {
        for entry in fs::read_dir(&from).with_context(|| cannot("read", &from))? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name), change)?;
        }
        return Ok(());
    }
    let mut bytes = fs::read(&from).with_context(|| cannot("read", &from))?;
    if from.extension().is_some_and(|e| e == "rs") {
        bytes = change(&from, String::from_utf8(bytes)?)?.into_bytes();
    }
    if fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let directory = to.parent().context("a file without a directory")?;
    fs::create_dir_all(directory).with_context(|| cannot("make", &directory.to_path_buf()))?;
    fs::write(to, bytes).with_context(|| cannot("write", &to.to_path_buf()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mutant_has_its_place_in_the_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut wrong = Vec::new();
        for mutant in MUTANTS {
            let text = fs::read_to_string(root.join("spmc").join(mutant.file)).unwrap();
            wrong.extend(mutate(&text, 0, mutant).err().map(|e| e.to_string()));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(MUTANTS.len() >= 40);
    }

    #[test]
    fn one_mutant_lives_at_a_time() {
        let mark: Vec<u8> = MARK.iter().flat_map(|word| word.to_le_bytes()).collect();
        let image = [b"head".to_vec(), mark, vec![0; 4], b"tail".to_vec()].concat();
        assert_eq!(choose(&image, 6).unwrap()[16..], [7, 0, 0, 0, b't', b'a', b'i', b'l']);
        assert!(choose(b"no mark", 6).is_err());
        assert!(choose(&[image.clone(), image].concat(), 6).is_err());
    }
}
