//! `cargo xtask test`: the host's tests, then the boots. Each test and each step of a boot counts once in the closing line.

pub mod bench;
pub mod boot;
pub mod bridge;
pub mod host;
pub mod payload;
pub mod refusals;
pub mod shell;
pub mod target;
pub mod third_party;
pub mod uboot;

use std::ops::AddAssign;

use anyhow::Result;

use crate::cli::TestOptions;
use crate::progress::Progress;
use crate::project::Project;

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that held.
    pub passed: usize,
    /// Those that did not.
    pub failed: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Runs what `options` ask for and prints the closing line. Returns whether all tests held.
///
/// # Errors
/// When tests cannot be run at all.
pub fn run(project: &Project, progress: &Progress, options: &TestOptions) -> Result<bool> {
    let mut tally = Tally::default();
    if !options.target {
        tally += host::run(project, progress, options.filter.as_deref())?;
    }
    if !options.host {
        tally += target::run(project, progress, options.filter.as_deref())?;
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0)
}
