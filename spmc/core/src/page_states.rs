//! The states of the normal world's pages: two bits each, in tables of 64 MiB that no hardware walks. A page that no table
//! covers is exclusively its owner's. A few tables that say nothing stay, because what was shared once is shared again.

use crate::memory::PageState;
use crate::tables::{OutOfTables, PAGE, TableMemory};
use arrayvec::ArrayVec;

/// Tables at the most: what the pool gives one user.
const MAX_TABLES: usize = crate::shares::LIMIT as usize;
/// Pages that one word describes, one table describes, and tables that stay though they say nothing.
const WORD_PAGES: u64 = 32;
const TABLE_PAGES: u64 = 512 * WORD_PAGES;
const KEPT: usize = 2;
/// The low bit of each pair.
const LOW: u64 = 0x5555_5555_5555_5555;

/// A table and the 64 MiB that it is about, counted from address zero.
#[derive(Clone, Copy)]
struct Chunk {
    number: u64,
    table: u64,
}

/// The states of all pages.
pub struct PageStates {
    /// By number.
    chunks: ArrayVec<Chunk, MAX_TABLES>,
    /// Where the last one was: the next page is mostly about there.
    last: usize,
}

impl PageStates {
    /// All pages are their owner's.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: ArrayVec::new_const(), last: 0 }
    }

    /// The state of the page at address `page`, and how many pages from there on have it: at least one, at most `pages`; there
    /// may be more of them behind those counted.
    pub fn run(&mut self, memory: &impl TableMemory, page: u64, pages: u64) -> (PageState, u64) {
        let first = page / PAGE % TABLE_PAGES;
        let end = (first + pages.max(1)).min(TABLE_PAGES);
        let Ok(table) = self.table(page / PAGE / TABLE_PAGES) else { return (PageState::Owned, end - first) };
        let mut word = memory.read(table, (first / WORD_PAGES) as usize);
        let state = word >> (2 * (first % WORD_PAGES)) & 3;
        let mut at = first;
        loop {
            // Pairs that differ, from `at` on.
            let different = (word ^ LOW * state) >> (2 * (at % WORD_PAGES));
            let left = WORD_PAGES - at % WORD_PAGES;
            let alike = u64::from(different.trailing_zeros() / 2).min(left);
            at += alike;
            if alike < left || at >= end {
                break;
            }
            word = memory.read(table, (at / WORD_PAGES) as usize);
        }
        (PageState::from_bits(state), at.min(end) - first)
    }

    /// Gives `state` to pages from `page` on that are their owner's, up to the first that is not: how many that were, at most
    /// `pages`. There may be more behind the end of a table.
    ///
    /// # Errors
    /// [`OutOfTables`]: nothing has changed.
    pub fn mark(&mut self, memory: &mut impl TableMemory, page: u64, pages: u64, state: PageState) -> Result<u64, OutOfTables> {
        let (number, first) = (page / PAGE / TABLE_PAGES, page / PAGE % TABLE_PAGES);
        let table = self.table(number).or_else(|_| self.add(memory, number))?;
        let end = TABLE_PAGES.min(first + pages);
        let mut at = first;
        while at < end {
            let (word, offset) = ((at / WORD_PAGES) as usize, at % WORD_PAGES);
            let old = memory.read(table, word);
            // As many as are free, up to the end of the word.
            let free = u64::from((old >> (2 * offset)).trailing_zeros() / 2).min(WORD_PAGES - offset);
            let count = free.min(end - at);
            if count == 0 {
                break;
            }
            memory.write(table, word, old | LOW * state as u64 & mask(offset, count));
            at += count;
        }
        let live = memory.live(table);
        *live = live.wrapping_add((at - first) as u16);
        Ok(at - first)
    }

    /// Sets the state of `pages` pages.
    ///
    /// # Errors
    /// [`OutOfTables`]: a part of the range may have changed; making it its owner's needs no table.
    pub fn set(&mut self, memory: &mut impl TableMemory, page: u64, pages: u64, state: PageState) -> Result<(), OutOfTables> {
        let (mut at, mut left) = (page / PAGE, pages);
        while left != 0 {
            let offset = at % TABLE_PAGES;
            let here = left.min(TABLE_PAGES - offset);
            match self.table(at / TABLE_PAGES) {
                Err(_) if state == PageState::Owned => {}
                table => {
                    let table = table.or_else(|_| self.add(memory, at / TABLE_PAGES))?;
                    if fill(memory, table, offset, here, LOW * state as u64) {
                        self.prune_if_many(memory);
                    }
                }
            }
            at += here;
            left -= here;
        }
        Ok(())
    }

    /// The table that has this number; or where it would be.
    #[inline]
    fn table(&mut self, number: u64) -> Result<u64, usize> {
        if let Some(chunk) = self.chunks.get(self.last).filter(|chunk| chunk.number == number) {
            return Ok(chunk.table);
        }
        self.last = self.find(number)?;
        Ok(self.chunks[self.last].table)
    }

    #[inline(never)]
    fn find(&self, number: u64) -> Result<usize, usize> {
        self.chunks.binary_search_by_key(&number, |chunk| chunk.number)
    }

    #[inline(never)]
    fn add(&mut self, memory: &mut impl TableMemory, number: u64) -> Result<u64, OutOfTables> {
        let mut table = memory.allocate();
        if table.is_none() || self.chunks.is_full() {
            self.prune(memory);
            table = table.or_else(|| memory.allocate());
        }
        let table = table.ok_or(OutOfTables)?;
        let place = self.find(number).unwrap_or_else(|place| place);
        if self.chunks.try_insert(place, Chunk { number, table }).is_err() {
            memory.free(table);
            return Err(OutOfTables);
        }
        Ok(table)
    }

    /// Frees the tables that say nothing, if there are more than may stay.
    #[inline(never)]
    fn prune_if_many(&mut self, memory: &mut impl TableMemory) {
        if self.chunks.iter().filter(|chunk| *memory.live(chunk.table) == 0).count() > KEPT {
            self.prune(memory);
        }
    }

    /// Frees the tables that say nothing.
    #[inline(never)]
    fn prune(&mut self, memory: &mut impl TableMemory) {
        self.chunks.retain(|chunk| {
            let live = *memory.live(chunk.table) != 0;
            if !live {
                memory.free(chunk.table);
            }
            live
        });
    }
}

impl Default for PageStates {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives `pages` pages of a table, from page `first` on, the pairs of `pattern`. Whether the table says nothing any more.
#[inline(always)]
fn fill(memory: &mut impl TableMemory, table: u64, first: u64, pages: u64, pattern: u64) -> bool {
    let (mut at, mut left) = (first, pages);
    // No more than pages of a table.
    let mut cleared = 0_u16;
    while left != 0 {
        let (word, offset) = ((at / WORD_PAGES) as usize, at % WORD_PAGES);
        let count = left.min(WORD_PAGES - offset);
        let mask = mask(offset, count);
        let old = memory.read(table, word);
        memory.write(table, word, old & !mask | pattern & mask);
        cleared = cleared.wrapping_add(states(old & mask));
        at += count;
        left -= count;
    }
    let live = memory.live(table);
    let written = if pattern == 0 { 0 } else { pages as u16 };
    *live = live.wrapping_add(written).wrapping_sub(cleared);
    *live == 0 && cleared != 0
}

/// `count` pairs, at least one, from pair `offset` on.
const fn mask(offset: u64, count: u64) -> u64 {
    (u64::MAX >> (2 * (WORD_PAGES - count))) << (2 * offset)
}

/// How many pairs of a word are not zero.
const fn states(word: u64) -> u16 {
    let some = (word | word >> 1) & LOW;
    // Mostly there are none or one, and counting takes a while.
    if some & some.wrapping_sub(1) == 0 { (some != 0) as u16 } else { some.count_ones() as u16 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Root;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    struct Heap {
        tables: BTreeMap<u64, (Vec<u64>, u16)>,
        next: u64,
        limit: usize,
    }

    impl TableMemory for Heap {
        fn read(&self, table: u64, index: usize) -> u64 {
            self.tables[&table].0[index]
        }
        fn write(&mut self, table: u64, index: usize, value: u64) {
            self.tables.get_mut(&table).expect("a live table").0[index] = value;
        }
        fn live(&mut self, table: u64) -> &mut u16 {
            &mut self.tables.get_mut(&table).expect("a live table").1
        }
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            self.next += PAGE;
            self.tables.insert(self.next, (vec![0; 512], 0));
            Some(self.next)
        }
        fn empty(&mut self, _: Root) -> &mut u16 {
            unreachable!("there is no root")
        }
        fn allocate_root(&mut self, _: u32) -> Option<Root> {
            unreachable!("there is no root")
        }
        fn free(&mut self, table: u64) {
            self.tables.remove(&table).expect("freed once");
        }
        fn invalidate(&mut self) {}
    }

    proptest! {
        #[test]
        fn states_agree_with_a_map_of_pages(
            operations in proptest::collection::vec((0u64..5, 0u64..90, 1u64..200, 0u64..4, any::<bool>()), 1..40),
            limit in 1usize..7,
        ) {
            let mut heap = Heap { tables: BTreeMap::new(), next: 0, limit };
            let mut states = PageStates::new();
            let mut model: BTreeMap<u64, PageState> = BTreeMap::new();
            for (chunk, offset, pages, state, across) in operations {
                // Around the start of a chunk, or its end.
                let page = 0x10_0000 + chunk * TABLE_PAGES + if across { TABLE_PAGES - offset } else { offset };
                if state == 3 {
                    // No further than a table reaches.
                    let reach = pages.min(TABLE_PAGES - page % TABLE_PAGES);
                    let free = (page..page + reach).take_while(|p| model.get(p).is_none_or(|s| *s == PageState::Owned)).count() as u64;
                    let marked = states.mark(&mut heap, page * PAGE, pages, PageState::Shared);
                    prop_assert!(marked == Ok(free) || marked == Err(OutOfTables) && heap.tables.len() == limit);
                    (page..page + marked.unwrap_or(0)).for_each(|p| _ = model.insert(p, PageState::Shared));
                    continue;
                }
                let state = PageState::from_bits(state);
                let mut done = states.set(&mut heap, page * PAGE, pages, state);
                if done.is_err() {
                    done = states.set(&mut heap, page * PAGE, pages, PageState::Owned);
                    prop_assert_eq!(done, Ok(()));
                    (page..page + pages).for_each(|p| _ = model.remove(&p));
                } else {
                    (page..page + pages).for_each(|p| _ = model.insert(p, state));
                }
                let of = |p: u64| model.get(&p).copied().unwrap_or(PageState::Owned);
                for p in (page - 40..page + pages + 40).step_by(3) {
                    let (state, run) = states.run(&heap, p * PAGE, 100);
                    prop_assert!((1..=100).contains(&run));
                    prop_assert!((p..p + run).all(|q| of(q) == state), "{run} pages from {p:#x}");
                    let stops_early = run < 100 && (p + run) % TABLE_PAGES != 0;
                    prop_assert!(!stops_early || of(p + run) != state, "only {run} pages from {p:#x}");
                }
            }
            let pages: Vec<u64> = model.keys().copied().collect();
            for p in pages {
                states.set(&mut heap, p * PAGE, 1, PageState::Owned).unwrap();
            }
            prop_assert!(heap.tables.len() <= KEPT);
        }
    }
}
