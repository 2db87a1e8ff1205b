//! Moves of page ranges between holders, in their page tables (DEN0140 v1.2 section 1.5: ownership and access states).
//!
//! Each function either does all of its change or none of it. Work is at most one visit and one write per page.

use super::pool::Iter;
use super::transaction::{CELLS, Cell};
use super::{Holding, Holdings, MemoryType, PageState, PageTables};
use crate::machine::{AccessFault, Address};
use crate::tables::PAGE;
use arrayvec::ArrayVec;
use bulkhead_ffa::Status;

/// Contiguous pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Address of the first page.
    pub start: u64,
    /// Number of pages.
    pub pages: u64,
}

impl Run {
    /// The first address after it.
    pub const fn end(self) -> u64 {
        // A cell has room for less than 2^32 pages from an address below 2^44 on.
        self.start.wrapping_add(self.pages.wrapping_mul(PAGE))
    }

    /// Whether `address` lies in it.
    pub const fn contains(self, address: u64) -> bool {
        self.start <= address && address < self.end()
    }
}

/// The ranges of a transaction, those joined that follow each other directly, so that each is one change of the tables.
#[derive(Clone)]
pub(super) struct Runs<'a> {
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
pub(super) struct Terms {
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
#[inline(never)]
pub(super) fn give(lender: &mut dyn Holdings, runs: &Runs<'_>, to: PageState, write: bool, pinned: &[u64]) -> Result<Terms, Status> {
    let mut terms = Terms { write: true, execute: true, secure: false };
    let mut pages_done = 0;
    let mut result = Ok(());
    'runs: for run in runs.clone() {
        let mut at = run.start;
        while at != run.end() {
            let (held, pages) = match lender.mark(at, (run.end() - at) / PAGE, to, write) {
                Ok(marked) => marked,
                Err(status) => {
                    let twice = status == Status::Denied && occurs_before(runs, pages_done, at);
                    result = Err(if twice { Status::InvalidParameters } else { status });
                    break 'runs;
                }
            };
            if pages_done == 0 {
                terms.secure = held.secure;
            }
            at = Run { start: at, pages }.end();
            pages_done += pages;
            terms.write &= held.permissions.write;
            terms.execute &= held.permissions.execute;
            if terms.secure != held.secure {
                result = Err(Status::Denied);
                break 'runs;
            }
        }
        if pinned.iter().any(|page| run.contains(*page)) {
            result = Err(Status::Denied);
            break;
        }
    }
    if result.is_err() {
        // The lender's access is as it was: nothing to flush.
        for run in first_pages(runs, pages_done) {
            lender.take_back(run.start, run.pages);
        }
    } else if to == PageState::Lent {
        lender.flush();
    }
    result.map(|()| terms)
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
#[inline(never)]
pub(super) fn take_back(owner: &mut dyn Holdings, runs: Runs<'_>) {
    for run in runs {
        owner.take_back(run.start, run.pages);
    }
}

/// Takes all access to pages in one of the address spaces from a borrower, effective at once.
///
/// # Errors
/// NO_MEMORY: other pages that it borrowed are part of the same block, and there is no table for what stays.
#[inline(never)]
pub(super) fn withdraw(borrower: &mut dyn Holdings, runs: Runs<'_>, secure: bool) -> Result<(), Status> {
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
#[inline(never)]
pub(super) fn grant(borrower: &mut dyn Holdings, runs: Runs<'_>, holding: Holding) -> Result<(), Status> {
    let mut result = add_all(borrower, &runs, holding);
    // Not earlier: what is given here could be taken again only with more tables.
    if result == Err(Status::NoMemory) && borrower.join() {
        result = add_all(borrower, &runs, holding);
    }
    result
}

/// Gives a borrower all of the runs, or none.
#[inline(never)]
fn add_all(borrower: &mut dyn Holdings, runs: &Runs<'_>, holding: Holding) -> Result<(), Status> {
    for (n, run) in runs.clone().enumerate() {
        if let Err(status) = borrower.add(run.start, run.pages, holding) {
            forget(borrower, runs.clone(), n, holding.secure);
            borrower.flush();
            return Err(status);
        }
    }
    Ok(())
}

/// Clears what a holder has in the first `count` runs, in one of the address spaces; where it had access, it is gone after a flush.
#[inline(never)]
pub(super) fn forget(holder: &mut dyn Holdings, runs: Runs<'_>, count: usize, secure: bool) {
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
