//! The recorded figures (`docs/performance.json`), and whether others keep to them. Counts are exact, so that a rise is one of the
//! code or its compiler, never of a busy machine.

use std::fmt::Write as _;

use super::figures::Figures;

/// Where they are, in the repository.
pub const PATH: &str = "docs/performance.json";
/// What a rise beyond this many percent is called.
const TOLERANCE: u64 = 5;
/// What to do about a rise, and about a fall.
pub const ADVICE: &str = "`cargo xtask bench FILTER --profile` says where the instructions are; if it has to be so, `cargo xtask bench --write-docs` records it";

/// What is compared: each has to stay, and is the SPMC's alone.
const COMPARED: &[(&str, fn(&Figures) -> u64)] = &[
    ("instructions", |f| f.spmc),
    ("instructions when cold", |f| f.spmc_cold),
    ("exceptions", |f| f.exceptions),
    ("barriers", |f| f.barriers),
    ("TLB invalidations", |f| f.tlb_invalidations),
    ("atomics", |f| f.atomics),
];

/// What is compared, as recorded, and now.
type Difference = (&'static str, u64, u64);

/// What became of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing rose by more than the tolerance.
    Held,
    /// Nothing rose by more than the tolerance, and something fell by as much: which, recorded and now.
    Fell(Vec<Difference>),
    /// Something rose by more than the tolerance: which, recorded and now.
    Rose(Vec<Difference>),
    /// It is not among the recorded ones.
    New,
    /// It is recorded, and was not measured.
    Missing,
}

/// An operation beside its record.
#[derive(Clone, Debug)]
pub struct Compared<'a> {
    /// Now, or as recorded if it was not measured.
    pub figures: &'a Figures,
    /// Instructions of the SPMC as recorded.
    pub recorded: Option<u64>,
    /// What became of it.
    pub change: Change,
}

impl Compared<'_> {
    /// Whether it keeps to what is recorded.
    #[must_use]
    pub fn holds(&self) -> bool {
        !matches!(self.change, Change::Rose(_) | Change::Missing)
    }

    /// In words, in a line.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = format!("{} ({})", self.figures.operation, self.figures.instance);
        let now = self.figures.spmc;
        let _ = match (&self.change, self.recorded) {
            (Change::Missing, _) => write!(text, " is recorded, but was not measured"),
            (Change::New, _) | (_, None) => write!(text, " {now} instructions, none recorded yet"),
            (Change::Held, Some(recorded)) => write!(text, " {now} instructions, {recorded} recorded"),
            (Change::Fell(what), Some(_)) => write!(text, " fell: {}; record it", differences(what)),
            (Change::Rose(what), _) => write!(text, " rose: {}", differences(what)),
        };
        text
    }
}

fn differences(what: &[Difference]) -> String {
    let all: Vec<String> = what.iter().map(|(what, then, now)| format!("{what} {then} -> {now} ({})", percent(*then, *now))).collect();
    all.join(", ")
}

fn percent(then: u64, now: u64) -> String {
    if then == 0 { "none before".into() } else { format!("{:.1}%", now as f64 * 100.0 / then as f64) }
}

/// Whether `more` is more than `less` by more than the tolerance.
fn exceeds(more: u64, less: u64) -> bool {
    more * 100 > less * (100 + TOLERANCE)
}

/// Each operation beside its record: those that were measured, then those of the same systems that were not.
#[must_use]
pub fn compare<'a>(now: &'a [Figures], recorded: &'a [Figures]) -> Vec<Compared<'a>> {
    let measured = now.iter().map(|figures| {
        let Some(before) = recorded.iter().find(|r| r.is_like(figures)) else {
            return Compared { figures, recorded: None, change: Change::New };
        };
        let pairs = COMPARED.iter().map(|(what, of)| (*what, of(before), of(figures)));
        let rises: Vec<_> = pairs.clone().filter(|(_, then, now)| exceeds(*now, *then)).collect();
        let falls: Vec<_> = pairs.filter(|(_, then, now)| exceeds(*then, *now)).collect();
        let change = match (rises.is_empty(), falls.is_empty()) {
            (false, _) => Change::Rose(rises),
            (true, false) => Change::Fell(falls),
            (true, true) => Change::Held,
        };
        Compared { figures, recorded: Some(before.spmc), change }
    });
    let is_missing = |r: &&Figures| now.iter().any(|f| f.system == r.system) && !now.iter().any(|f| f.is_like(r));
    let missing = recorded.iter().filter(is_missing).map(|r| Compared { figures: r, recorded: Some(r.spmc), change: Change::Missing });
    measured.chain(missing).collect()
}

/// What other shares that live meanwhile cost a share: operations with the SPMC's instructions, and with those beside 1,000 others.
#[must_use]
pub fn beside_others(figures: &[Figures]) -> Vec<(String, u64, u64)> {
    let pair = |f: &Figures| {
        let (alone, others) = ["neighbours", "shares"].iter().find_map(|others| Some((f.instance.strip_suffix(&format!(" beside 1,000 {others}"))?, *others)))?;
        // A single neighbour keeps the tables of the neighbourhood, as 1,000 do.
        let alone = if others == "neighbours" { format!("{alone} beside 1 neighbour") } else { alone.to_owned() };
        let least = figures.iter().find(|o| o.operation == f.operation && o.instance == alone)?;
        Some((format!("{}, {}", f.operation, f.instance), least.spmc, f.spmc))
    };
    figures.iter().filter_map(pair).collect()
}

/// Whether a cost grows by no more than the tolerance.
#[must_use]
pub fn stays(least: u64, more: u64) -> bool {
    !exceeds(more, least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{document, figures};
    use crate::project::Project;

    fn one(instance: &str, spmc: u64, barriers: u64) -> Figures {
        let (operation, system) = ("request".into(), "two".into());
        Figures { operation, system, instance: instance.into(), spmc, spmc_cold: spmc, barriers, ..Figures::default() }
    }

    #[test]
    fn five_percent_more_hold_and_beyond_does_not() {
        let recorded = [one("a", 1000, 2), one("b", 1000, 2), one("c", 0, 0), one("d", 1000, 2), one("e", 0, 0)];
        let now = [one("a", 1050, 2), one("b", 1051, 2), one("c", 0, 0), one("d", 1000, 3), one("e", 1, 0)];
        let found = compare(&now, &recorded);
        assert_eq!(found.iter().map(Compared::holds).collect::<Vec<_>>(), [true, false, true, false, false]);
        assert_eq!(found[1].show(), "request (b) rose: instructions 1000 -> 1051 (105.1%), instructions when cold 1000 -> 1051 (105.1%)");
        assert_eq!(found[3].show(), "request (d) rose: barriers 2 -> 3 (150.0%)");
        assert!(found[4].show().contains("instructions 0 -> 1 (none before)"));
    }

    #[test]
    fn falls_never_fail_and_are_told() {
        let recorded = [one("a", 1000, 2), one("b", 1000, 2)];
        let now = [one("a", 960, 2), one("b", 500, 2)];
        let found = compare(&now, &recorded);
        assert_eq!(found[0].change, Change::Held);
        assert!(found[1].holds());
        assert_eq!(found[1].show(), "request (b) fell: instructions 1000 -> 500 (50.0%), instructions when cold 1000 -> 500 (50.0%); record it");
        // What rises does so whatever falls beside it.
        assert!(!compare(&[one("a", 500, 3)], &recorded)[0].holds());
    }

    #[test]
    fn what_is_recorded_must_be_measured_where_its_system_is() {
        let other = Figures { system: "eight".into(), ..one("c", 5, 0) };
        let recorded = [one("a", 1000, 2), one("b", 1000, 2), other];
        let found = compare(&recorded[..1], &recorded);
        assert_eq!(found.len(), 2, "the other system was not booted");
        assert!(!found[1].holds());
        assert_eq!(found[1].show(), "request (b) is recorded, but was not measured");
        let new = [one("new", 7, 0)];
        assert!(compare(&new, &[])[0].holds());
        assert_eq!(compare(&new, &[])[0].show(), "request (new) 7 instructions, none recorded yet");
    }

    #[test]
    fn shares_beside_others_are_held_against_those_alone() {
        let all = [one("1 page", 100, 0), one("1 page beside 1 neighbour", 90, 0), one("1 page beside 1,000 neighbours", 91, 0), one("1 page beside 1,000 shares", 106, 0)];
        let found = beside_others(&all);
        assert_eq!(found.iter().map(|(_, least, more)| (*least, *more)).collect::<Vec<_>>(), [(90, 91), (100, 106)]);
        assert!(stays(90, 91) && !stays(100, 106));
    }

    #[test]
    fn the_document_is_what_the_record_gives() {
        let root = Project::find().unwrap().root;
        let recorded = figures::read(&root.join(PATH)).unwrap();
        assert!(recorded.iter().any(|f| f.operation == "direct request" && f.spmc > 0), "{} operations", recorded.len());
        let document = std::fs::read_to_string(root.join("docs/performance.md")).unwrap();
        assert!(document == document::text(&recorded), "docs/performance.md is not what {PATH} gives: cargo xtask bench --write-docs");
    }
}
