//! The ledger of the normal world's memory: which of its pages are shared or lent. All else of its RAM is exclusively its own, and
//! its tables are its own affair.

use crate::system;
use crate::table_pool::{POOL, Tables, User};
use bulkhead_core::machine::Permissions;
use bulkhead_core::memory::{Holding, Holdings, MemoryType, OutOfMemory, PageState};
use bulkhead_core::page_states::PageStates;
use bulkhead_core::tables::{OutOfTables, PAGE};
use bulkhead_ffa::Status;
use bulkhead_manifests::AddressRange;
use spin::Mutex;

static STATES: Mutex<PageStates> = Mutex::new(PageStates::new());

/// Lets `work` look at and change what the normal world has.
pub fn holdings(work: &mut dyn FnMut(&mut dyn Holdings)) {
    let mut states = STATES.lock();
    let mut pool = POOL.lock();
    work(&mut Ledger { states: &mut states, tables: Tables::new(&mut pool, User::NormalWorld), ram: AddressRange::default() });
}

/// The ledger while it is locked.
struct Ledger<'a> {
    states: &'a mut PageStates,
    tables: Tables<'a>,
    /// The range of RAM that the last page was in.
    ram: AddressRange,
}

impl Ledger<'_> {
    /// How many pages of RAM there are from `page` on, at most `pages`.
    #[inline(always)]
    fn ram(&mut self, page: u64, pages: u64) -> u64 {
        if page < self.ram.base() || self.ram.end() <= page {
            self.ram = system::normal_world_ram(page).unwrap_or_default();
        }
        pages.min(self.ram.end().saturating_sub(page) / PAGE)
    }
}

/// What the normal world has at a page of its RAM.
const fn holding(state: PageState) -> Holding {
    Holding { state, permissions: Permissions { read: true, write: true, execute: true }, secure: false, memory_type: MemoryType::Normal }
}

impl Holdings for Ledger<'_> {
    fn at(&mut self, page: u64, pages: u64) -> (Option<Holding>, u64) {
        match self.ram(page, pages) {
            0 => (None, 1),
            pages => {
                let (state, pages) = self.states.run(&self.tables, page, pages);
                (Some(holding(state)), pages)
            }
        }
    }

    fn mark(&mut self, page: u64, pages: u64, to: PageState, _: bool) -> Result<(Holding, u64), Status> {
        // It may give away what is exclusively its own.
        match self.ram(page, pages) {
            0 => Err(Status::Denied),
            pages => match self.states.mark(&mut self.tables, page, pages, to) {
                Err(OutOfTables) => Err(Status::NoMemory),
                Ok(0) => Err(Status::Denied),
                Ok(pages) => Ok((holding(PageState::Owned), pages)),
            },
        }
    }

    /// Nobody lends the normal world anything that has tables here.
    fn add(&mut self, _: u64, _: u64, _: Holding) -> Result<(), Status> {
        Err(Status::Denied)
    }

    fn set(&mut self, page: u64, pages: u64, holding: Holding) -> Result<(), OutOfMemory> {
        Ok(self.states.set(&mut self.tables, page, pages, holding.state)?)
    }

    /// What the normal world gave away for good stays like what it lent: not its own to share.
    fn clear(&mut self, _: u64, _: u64, _: bool) {}

    fn take_back(&mut self, page: u64, pages: u64) {
        // Clearing states needs no table.
        let _ = self.states.set(&mut self.tables, page, pages, PageState::Owned);
    }

    /// No hardware walks the ledger.
    fn flush(&mut self) {}
}
