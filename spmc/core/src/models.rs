//! Random conversations against models: each is a page of rules written from the specification, knows nothing of the code, and
//! predicts every answer and what it changes. Where several things are wrong with a call, any of their errors will do.
//!
//! `PROPTEST_CASES` sets how many conversations; a failing one is shrunk to the shortest that fails.

mod buffers;
mod notifications;
mod running;

use bulkhead_ffa::{Regs, Status};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::fmt::Debug;
use std::vec::Vec;

/// What is wrong with a call; nothing, and it has to succeed.
#[derive(Default, Debug)]
struct Wrong(Vec<Status>);

impl Wrong {
    /// Notes an error if it applies.
    fn when(&mut self, applies: bool, status: Status) -> &mut Self {
        if applies {
            self.0.push(status);
        }
        self
    }

    /// Compares with the answer; whether the call succeeded.
    fn judge(&self, answer: &Regs, call: impl Debug) -> Result<bool, TestCaseError> {
        match answer.as_error() {
            None => prop_assert!(self.0.is_empty(), "{call:x?} succeeded in spite of {:?}", self.0),
            Some(status) => prop_assert!(self.0.contains(&status), "{call:x?} ended in {status:?}, wrong with it: {:?}", self.0),
        }
        Ok(answer.as_error().is_none())
    }
}

/// How many cases a property test has: as many as `PROPTEST_CASES` says, or `default`.
pub(crate) fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}
