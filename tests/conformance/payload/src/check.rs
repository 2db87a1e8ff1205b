//! What a check is, and how checks are run and reported. The lines that this module prints are for the host
//! (tests/conformance/README.md).

use crate::checks::TABLE;
use crate::fw_cfg::Item;
use crate::instance::Instance;
use crate::{board, say};
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::Version;

/// What a check found, or why it did not hold.
pub type Outcome = Result<Line, Problem>;

/// Why a check did not hold.
pub enum Problem {
    /// What was found in place of what the table expects.
    Found(Line),
    /// What was expected in this case, and what was found.
    Differs(Line, Line),
    /// The SPMC says that it does not have what the check needs, and need not: why.
    Skip(Line),
    /// The check needs a machine that has just started.
    Again,
}

impl From<Line> for Problem {
    fn from(found: Line) -> Self {
        Self::Found(found)
    }
}

/// One rule of the specification.
pub struct Check {
    /// By this word the host chooses it, with its whole group.
    pub group: &'static str,
    /// The behaviour that it checks.
    pub name: &'static str,
    /// Section of DEN0077A v1.2, or of DEN0140 where it says so.
    pub section: &'static str,
    /// Which sides make the call under test: one check for each.
    pub instances: &'static [Instance],
    /// Versions of that side for which the rule holds.
    pub versions: Versions,
    /// What the specification demands.
    pub expected: &'static str,
    /// The check.
    pub run: fn(Instance) -> Outcome,
}

/// Versions of the caller for which a rule holds.
#[derive(Clone, Copy)]
pub struct Versions {
    /// The first.
    pub from: Version,
    /// The last.
    pub to: Version,
}

/// All versions.
pub const ANY: Versions = Versions { from: Version::V1_0, to: Version::V1_2 };
/// From 1.1 on.
pub const SINCE_1_1: Versions = Versions { from: Version::V1_1, ..ANY };
/// From 1.2 on.
pub const SINCE_1_2: Versions = Versions { from: Version::V1_2, ..ANY };
/// Up to 1.1.
pub const BEFORE_1_2: Versions = Versions { to: Version::V1_1, ..ANY };

/// Ends a check with a failure unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            return Err(bulkhead_sdk::Line::new(format_args!($($argument)*)).into());
        }
    };
}

/// Ends a check with a failure unless `$found` equals `$expected`: both are reported. Further arguments say in which case.
#[macro_export]
macro_rules! expect {
    ($found:expr, $expected:expr) => {
        $crate::expect!($found, $expected, "")
    };
    ($found:expr, $expected:expr, $($argument:tt)*) => {
        match (&$found, &$expected) {
            (found, expected) => {
                if *found != *expected {
                    return Err($crate::check::Problem::Differs(
                        bulkhead_sdk::Line::new(format_args!("{expected:x?}")),
                        bulkhead_sdk::Line::new(format_args!("{found:x?} {}", format_args!($($argument)*))),
                    ));
                }
            }
        }
    };
}

/// Ends a check with a failure.
#[macro_export]
macro_rules! fail {
    ($($argument:tt)*) => {
        return Err(bulkhead_sdk::Line::new(format_args!($($argument)*)).into())
    };
}

/// What a check that holds found.
#[macro_export]
macro_rules! pass {
    ($($argument:tt)*) => {
        Ok(bulkhead_sdk::Line::new(format_args!($($argument)*)))
    };
}

/// Leaves a check out, with the reason.
#[macro_export]
macro_rules! skip {
    ($($argument:tt)*) => {
        return Err($crate::check::Problem::Skip(bulkhead_sdk::Line::new(format_args!($($argument)*))))
    };
}

/// Runs what `plan` names: `<number in the catalogue>:<instance>`, in that order.
pub fn run(mut plan: Item) {
    while let Some(word) = plan.word() {
        let Some((number, check, instance)) = find(word.as_str()) else {
            say!("CRASH the plan has an unknown entry '{}'", word.as_str());
            return;
        };
        say!("BEGIN {number} {}.{} {} {}", check.group, check.name, instance.name(), instance.version());
        match (check.run)(instance) {
            Ok(found) => say!("END pass {found}"),
            Err(Problem::Found(found)) => say!("END fail {found}"),
            Err(Problem::Differs(expected, found)) => {
                say!("EXPECTED {expected}");
                say!("END fail {found}");
            }
            Err(Problem::Skip(reason)) => say!("END skip {reason}"),
            Err(Problem::Again) => {
                say!("AGAIN");
                board::power_off();
            }
        }
    }
    say!("DONE");
}

fn find(word: &str) -> Option<(usize, &'static Check, Instance)> {
    let (number, instance) = word.split_once(':')?;
    let number = number.parse().ok()?;
    let check = TABLE.iter().flat_map(|group| group.iter()).nth(number)?;
    Some((number, check, Instance::from_name(instance)?))
}
