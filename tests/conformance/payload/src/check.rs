//! How checks are chosen, run and reported.

use crate::checks::{self, isolation};
use crate::fw_cfg::Item;
use crate::say;
use bulkhead_sdk::Line;

/// What a check found: a remark on success, what is wrong on failure.
pub type Outcome = Result<Line, Line>;

/// One check.
pub struct Check {
    /// By this word the host chooses it, with its whole group.
    pub group: &'static str,
    /// The behaviour that it checks.
    pub name: &'static str,
    /// The check.
    pub run: fn() -> Outcome,
}

/// Ends a check with a failure unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($argument:tt)*) => {
        if !$condition {
            return Err(bulkhead_sdk::Line::new(format_args!($($argument)*)));
        }
    };
}

/// The remark of a check that holds.
#[macro_export]
macro_rules! pass {
    ($($argument:tt)*) => {
        Ok(bulkhead_sdk::Line::new(format_args!($($argument)*)))
    };
}

/// Runs the groups that `chosen` names: passed and failed ones.
pub fn run_chosen(chosen: &Item) -> (u32, u32) {
    let (mut passed, mut failed) = isolation::tally_of_earlier_boots();
    let named = |group: &str| chosen.words().any(|word| word == group);
    if !isolation::is_under_way() {
        for check in checks::TABLE.iter().flat_map(|list| list.iter()).filter(|check| named(check.group)) {
            report(check.group, check.name, &(check.run)(), &mut passed, &mut failed);
        }
    }
    if named(isolation::GROUP) {
        isolation::run(&mut passed, &mut failed);
    }
    (passed, failed)
}

/// Prints and counts an outcome.
pub fn report(group: &str, name: &str, outcome: &Outcome, passed: &mut u32, failed: &mut u32) {
    match outcome {
        Ok(remark) => {
            *passed += 1;
            say!("STEP {group}.{name} PASS {remark}");
        }
        Err(problem) => {
            *failed += 1;
            say!("STEP {group}.{name} FAIL {problem}");
        }
    }
}
