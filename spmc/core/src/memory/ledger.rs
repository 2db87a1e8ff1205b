//! Moves of page ranges between holders, in their page tables (DEN0140 v1.2 section 1.5: ownership and access states).
//!
//! Each function either does all of its change or none of it. Work is at most one visit and one write per page.

use super::pool::Iter;
use super::transaction::{CELLS, Cell};
use super::{Holding, Holdings, MemoryType, OutOfMemory, PageState, PageTables};
use crate::machine::{AccessFault, Address};
use crate::tables::PAGE;
use arrayvec::ArrayVec;
use bulkhead_ffa::Status;

/// Contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
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

/// The ranges of a transaction, those joined that follow each other directly, so that each is one change of the tables.
#[derive(Clone)]
pub struct Runs<'a> {
    cells: Iter<'a, Cell, CELLS>,
    /// The first range that was not given out.
    next: Option<Run>,
}

impl<'a> Runs<'a> {
    /// Of the ranges in `cells`.
    pub(super) fn new(cells: Iter<'a, Cell, CELLS>) -> Self {
        let mut runs = Self { cells, next: None };
        runs.next = runs.range();
        runs
    }

    fn range(&mut self) -> Option<Run> {
        self.cells.next().map(|(_, cell)| cell.run())
    }
}

impl Iterator for Runs<'_> {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        let mut run = self.next?;
        loop {
            self.next = self.range();
            match self.next {
                Some(next) if next.start == run.end() => run.pages += next.pages,
                _ => return Some(run),
            }
        }
    }
}

/// What all pages of a transaction have in common: no borrower gets more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The lender may write all of them.
    pub write: bool,
    /// The lender may execute all of them.
    pub execute: bool,
    /// They are in the secure address space.
    pub secure: bool,
}

/// Pages that the SPMC itself reads and writes: the lender's RX and TX buffers.
pub(crate) type Pinned = ArrayVec<u64, { 2 + crate::vms::VM_PAGES }>;

/// Marks pages that a lender owns as shared or lent; in the latter case it has no access any more. `write`: some borrower shall
/// write, or the pages are to be zeroed.
///
/// # Errors
/// DENIED when the lender may not give them; INVALID_PARAMETERS when a page occurs twice; NO_MEMORY.
pub(super) fn give<H: Holdings + ?Sized>(lender: &mut H, runs: &Runs<'_>, to: PageState, write: bool, pinned: &[u64]) -> Result<Terms, Status> {
    let mut terms: Option<Terms> = None;
    let mut pages_done = 0;
    let mut result = Ok(());
    'runs: for run in runs.clone() {
        let mut left = run;
        while left.pages != 0 {
            let (held, pages) = match lender.mark(left.start, left.pages, to, write) {
                Ok(marked) => marked,
                Err(status) => {
                    let twice = status == Status::Denied && occurs_before(runs, pages_done, left.start);
                    result = Err(if twice { Status::InvalidParameters } else { status });
                    break 'runs;
                }
            };
            pages_done += pages;
            left = Run { start: left.start + pages * PAGE, pages: left.pages - pages };
            let so_far = terms.get_or_insert(Terms { write: true, execute: true, secure: held.secure });
            so_far.write &= held.permissions.write;
            so_far.execute &= held.permissions.execute;
            if so_far.secure != held.secure {
                result = Err(Status::Denied);
                break 'runs;
            }
        }
        if pinned.iter().any(|page| run.contains(*page)) {
            result = Err(Status::Denied);
            break;
        }
    }
    match (result, terms) {
        (Ok(()), Some(terms)) => {
            if to == PageState::Lent {
                lender.flush();
            }
            Ok(terms)
        }
        (result, _) => {
            // The lender's access is as it was: nothing to flush.
            for run in first_pages(runs, pages_done) {
                lender.take_back(run.start, run.pages);
            }
            // An empty transaction has no terms.
            Err(result.err().unwrap_or(Status::InvalidParameters))
        }
    }
}

/// Whether a lender with this holding may give the page away.
pub(super) fn givable(holding: Option<Holding>, write: bool) -> Result<Holding, Status> {
    let held = holding.ok_or(Status::Denied)?;
    let accessible = held.permissions.read && (held.permissions.write || !write);
    let allowed = held.is_exclusive() && held.memory_type == MemoryType::Normal && accessible;
    if allowed { Ok(held) } else { Err(Status::Denied) }
}

#[inline(never)]
fn occurs_before(runs: &Runs<'_>, pages: u64, address: u64) -> bool {
    first_pages(runs, pages).any(|run| run.contains(address))
}

/// The first `pages` pages of `runs`.
fn first_pages(runs: &Runs<'_>, pages: u64) -> impl Iterator<Item = Run> {
    runs.clone().scan(pages, |left, run| {
        let taken = run.pages.min(*left);
        *left -= taken;
        (taken != 0).then_some(Run { pages: taken, ..run })
    })
}

/// Makes pages that a lender shared or lent exclusively its own again, or a new owner's.
pub(super) fn take_back<H: Holdings + ?Sized>(owner: &mut H, runs: Runs<'_>) {
    for run in runs {
        owner.take_back(run.start, run.pages);
    }
}

/// Takes all access to pages in one of the address spaces from a borrower, effective at once.
///
/// # Errors
/// NO_MEMORY: other pages that it borrowed are part of the same block, and there is no table for what stays.
pub(super) fn withdraw<H: Holdings + ?Sized>(borrower: &mut H, runs: Runs<'_>, secure: bool) -> Result<(), Status> {
    if borrower.is_joined() {
        for run in runs.clone() {
            borrower.part(run.start, run.pages, secure)?;
        }
    }
    forget(borrower, runs, usize::MAX, secure);
    borrower.flush();
    Ok(())
}

/// Gives a borrower access, in a state other than [`PageState::Owned`]. It holds nothing at any of the pages before.
///
/// # Errors
/// DENIED when it does; NO_MEMORY.
pub(super) fn grant<H: Holdings + ?Sized>(borrower: &mut H, runs: Runs<'_>, holding: Holding) -> Result<(), Status> {
    for run in runs.clone() {
        if !borrower.is_free(run.start, run.pages) {
            return Err(Status::Denied);
        }
    }
    let mut result = set_all(borrower, runs.clone(), holding);
    // Not earlier: what is set here could be cleared again only with more tables.
    if result.is_err() && borrower.join() {
        result = set_all(borrower, runs, holding);
    }
    Ok(result?)
}

/// Sets all of the runs, or none.
fn set_all<H: Holdings + ?Sized>(borrower: &mut H, runs: Runs<'_>, holding: Holding) -> Result<(), OutOfMemory> {
    for (n, run) in runs.clone().enumerate() {
        if let Err(error) = borrower.set(run.start, run.pages, holding) {
            forget(borrower, runs, n + 1, holding.secure);
            borrower.flush();
            return Err(error);
        }
    }
    Ok(())
}

/// Clears what a holder has in the first `count` runs, in one of the address spaces; where it had access, it is gone after a flush.
pub(super) fn forget<H: Holdings + ?Sized>(holder: &mut H, runs: Runs<'_>, count: usize, secure: bool) {
    for run in runs.take(count) {
        holder.clear(run.start, run.pages, secure);
    }
}

/// Fills pages with zeroes.
pub(super) fn zero<T: PageTables>(tables: &mut T, runs: impl Iterator<Item = Run>, secure: bool) -> Result<(), AccessFault> {
    for run in runs {
        tables.zero(Address { pa: run.start, secure }, run.pages)?;
    }
    Ok(())
}
