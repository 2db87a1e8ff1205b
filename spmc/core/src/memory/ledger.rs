//! Moves of page ranges between holders, in their page tables (DEN0140 v1.2 section 1.5: ownership and access states).
//!
//! Each function either does all of its change or none of it. Work is at most one visit and one write per page.

use super::{Holding, MemoryType, OutOfMemory, Owner, PageState, PageTables};
use crate::machine::{AccessFault, Address};
use crate::tables::PAGE;
use bulkhead_ffa::Status;

/// Contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Address of the first page.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
}

impl Run {
    /// The first address after it.
    pub const fn end(self) -> u64 {
        self.start + self.pages * PAGE
    }

    /// Whether `address` lies in it.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end()
    }
}

/// Joins ranges that follow each other directly, so that each is one change of the tables.
#[derive(Clone)]
pub(crate) struct Joined<I: Iterator<Item = Run>> {
    ranges: core::iter::Peekable<I>,
}

impl<I: Iterator<Item = Run>> Joined<I> {
    pub fn new(ranges: I) -> Self {
        Self { ranges: ranges.peekable() }
    }
}

impl<I: Iterator<Item = Run>> Iterator for Joined<I> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        let mut run = self.ranges.next()?;
        while let Some(next) = self.ranges.next_if(|next| next.start == run.end()) {
            run.pages += next.pages;
        }
        Some(run)
    }
}

/// What all pages of a transaction have in common: no borrower gets more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The lender may write all of them.
    pub write: bool,
    /// The lender may execute all of them.
    pub execute: bool,
    /// They are in the secure address space.
    pub secure: bool,
}

/// The parts of `run` in each of which `owner` holds all pages alike, one after the other.
fn parts<T: PageTables>(
    tables: &mut T,
    owner: Owner,
    run: Run,
    mut each: impl FnMut(&mut T, Run, Option<Holding>) -> Result<(), Status>,
) -> Result<(), Status> {
    let mut at = run.start;
    while at < run.end() {
        let (holding, pages) = tables.holdings(owner, at, (run.end() - at) / PAGE);
        let part = Run { start: at, pages };
        each(tables, part, holding)?;
        at = part.end();
    }
    Ok(())
}

fn no_memory(_: OutOfMemory) -> Status {
    Status::NoMemory
}

/// Pages that the SPMC itself reads and writes: the lender's RX and TX buffers.
pub(crate) type Pinned = [u64; 2 + crate::vms::VM_PAGES];

/// Marks pages that `lender` owns as shared or lent. `write`: some borrower shall write, or the pages are to be zeroed.
///
/// # Errors
/// DENIED when the lender may not give them; INVALID_PARAMETERS when a page occurs twice; NO_MEMORY.
pub(crate) fn give<T: PageTables>(
    tables: &mut T,
    lender: Owner,
    runs: impl Iterator<Item = Run> + Clone,
    to: PageState,
    write: bool,
    pinned: &Pinned,
) -> Result<Terms, Status> {
    let mut terms: Option<Terms> = None;
    let mut pages_done = 0;
    let mut result = Ok(());
    for run in runs.clone() {
        result = parts(tables, lender, run, |tables, part, holding| {
            let twice = |status| if occurs_before(runs.clone(), pages_done, part.start) { Status::InvalidParameters } else { status };
            let held = givable(holding, write).map_err(twice)?;
            let so_far = terms.get_or_insert(Terms { write: true, execute: true, secure: held.secure });
            if so_far.secure != held.secure || pinned.iter().any(|page| part.contains(*page)) {
                return Err(Status::Denied);
            }
            so_far.write &= held.permissions.write;
            so_far.execute &= held.permissions.execute;
            if let Err(error) = tables.set_holding(lender, part.start, part.pages, Some(Holding { state: to, ..held })) {
                // Writing what was there before needs no table.
                let _ = tables.set_holding(lender, part.start, part.pages, Some(held));
                return Err(no_memory(error));
            }
            pages_done += part.pages;
            Ok(())
        });
        if result.is_err() {
            break;
        }
    }
    match (result, terms) {
        (Ok(()), Some(terms)) => Ok(terms),
        (result, _) => {
            // The lender's access is as it was: nothing to flush.
            take_back(tables, lender, first_pages(runs, pages_done));
            // An empty transaction has no terms.
            Err(result.err().unwrap_or(Status::InvalidParameters))
        }
    }
}

/// Whether a lender with this holding may give the page away.
fn givable(holding: Option<Holding>, write: bool) -> Result<Holding, Status> {
    let held = holding.ok_or(Status::Denied)?;
    let accessible = held.permissions.read && (held.permissions.write || !write);
    let allowed = held.is_exclusive() && held.memory_type == MemoryType::Normal && accessible;
    if allowed { Ok(held) } else { Err(Status::Denied) }
}

fn occurs_before(runs: impl Iterator<Item = Run> + Clone, pages: u64, address: u64) -> bool {
    first_pages(runs, pages).any(|run| run.contains(address))
}

/// The first `pages` pages of `runs`.
fn first_pages(runs: impl Iterator<Item = Run> + Clone, pages: u64) -> impl Iterator<Item = Run> + Clone {
    runs.scan(pages, |left, run| {
        let taken = run.pages.min(*left);
        *left -= taken;
        (taken != 0).then_some(Run { pages: taken, ..run })
    })
}

/// Makes pages that `lender` shared or lent exclusively its own again.
pub(crate) fn take_back<T: PageTables>(tables: &mut T, lender: Owner, runs: impl Iterator<Item = Run>) {
    for run in runs {
        tables.take_back(lender, run.start, run.pages);
    }
}

/// Gives `borrower` access. It holds nothing at any of the pages before.
///
/// # Errors
/// DENIED when it does; NO_MEMORY.
pub(crate) fn grant<T: PageTables>(
    tables: &mut T,
    borrower: Owner,
    runs: impl Iterator<Item = Run> + Clone,
    holding: Holding,
) -> Result<(), Status> {
    for run in runs.clone() {
        parts(tables, borrower, run, |_, _, there| if there.is_none() { Ok(()) } else { Err(Status::Denied) })?;
    }
    for (n, run) in runs.clone().enumerate() {
        if let Err(error) = tables.set_holding(borrower, run.start, run.pages, Some(holding)) {
            withdraw(tables, borrower, runs.take(n + 1));
            return Err(no_memory(error));
        }
    }
    Ok(())
}

/// Takes all access from a holder, effective at once.
pub(crate) fn withdraw<T: PageTables>(tables: &mut T, holder: Owner, runs: impl Iterator<Item = Run>) {
    forget(tables, holder, runs);
    tables.flush(holder);
}

/// Clears the entries of a holder that has no access.
pub(crate) fn forget<T: PageTables>(tables: &mut T, holder: Owner, runs: impl Iterator<Item = Run>) {
    for run in runs {
        // Clearing a range that was written as one needs no table.
        let _ = tables.set_holding(holder, run.start, run.pages, None);
    }
}

/// Fills pages with zeroes.
pub(crate) fn zero<T: PageTables>(tables: &mut T, runs: impl Iterator<Item = Run>, secure: bool) -> Result<(), AccessFault> {
    for run in runs {
        tables.zero(Address { pa: run.start, secure }, run.pages)?;
    }
    Ok(())
}
