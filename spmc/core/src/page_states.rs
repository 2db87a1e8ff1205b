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
}

impl PageStates {
    /// All pages are their owner's.
    #[must_use]
    pub const fn new() -> Self {
        Self { chunks: ArrayVec::new_const() }
    }

    /// The state of the page at address `page`, and how many pages from there on have it: at least one, at most `pages`; there
    /// may be more of them behind those counted.
    pub fn run(&self, memory: &impl TableMemory, page: u64, pages: u64) -> (PageState, u64) {
        let first = page / PAGE % TABLE_PAGES;
        let end = (first + pages.max(1)).min(TABLE_PAGES);
        let Ok(place) = self.find(page / PAGE / TABLE_PAGES) else { return (PageState::Owned, end - first) };
        let table = self.chunks[place].table;
        let state = memory.read(table, (first / WORD_PAGES) as usize) >> (2 * (first % WORD_PAGES)) & 3;
        let mut at = first;
        while at < end {
            // Pairs that differ, from `at` on.
            let different = (memory.read(table, (at / WORD_PAGES) as usize) ^ LOW * state) >> (2 * (at % WORD_PAGES));
            let left = WORD_PAGES - at % WORD_PAGES;
            let alike = u64::from(different.trailing_zeros() / 2).min(left);
            at += alike;
            if alike < left {
                break;
            }
        }
        (PageState::from_bits(state), at.min(end) - first)
    }

    /// Sets the state of `pages` pages.
    ///
    /// # Errors
    /// [`OutOfTables`]: a part of the range may have changed; making it its owner's needs no table.
    pub fn set(&mut self, memory: &mut impl TableMemory, page: u64, pages: u64, state: PageState) -> Result<(), OutOfTables> {
        let (mut at, end) = (page / PAGE, page / PAGE + pages);
        while at < end {
            let number = at / TABLE_PAGES;
            let next = end.min((number + 1) * TABLE_PAGES);
            let place = match self.find(number) {
                Ok(place) => place,
                Err(_) if state == PageState::Owned => {
                    at = next;
                    continue;
                }
                Err(_) => self.add(memory, number)?,
            };
            fill(memory, self.chunks[place].table, at % TABLE_PAGES, next - at, LOW * state as u64);
            at = next;
        }
        if state == PageState::Owned && self.chunks.iter().filter(|c| memory.note(c.table).live == 0).count() > KEPT {
            self.prune(memory);
        }
        Ok(())
    }

    fn find(&self, number: u64) -> Result<usize, usize> {
        self.chunks.binary_search_by_key(&number, |chunk| chunk.number)
    }

    fn add(&mut self, memory: &mut impl TableMemory, number: u64) -> Result<usize, OutOfTables> {
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
        Ok(place)
    }

    /// Frees the tables that say nothing.
    fn prune(&mut self, memory: &mut impl TableMemory) {
        self.chunks.retain(|chunk| {
            let live = memory.note(chunk.table).live != 0;
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

/// Gives `pages` pages of a table, from page `first` on, the pairs of `pattern`.
fn fill(memory: &mut impl TableMemory, table: u64, first: u64, pages: u64, pattern: u64) {
    let (mut at, end) = (first, first + pages);
    let mut live = memory.note(table).live;
    while at < end {
        let (word, offset) = ((at / WORD_PAGES) as usize, at % WORD_PAGES);
        let count = (WORD_PAGES - offset).min(end - at);
        let mask = (u64::MAX >> (2 * (WORD_PAGES - count))) << (2 * offset);
        let old = memory.read(table, word);
        let new = old & !mask | pattern & mask;
        memory.write(table, word, new);
        live = live - states(old) + states(new);
        at += count;
    }
    memory.note(table).live = live;
}

/// How many pairs of a word are not zero.
const fn states(word: u64) -> u16 {
    ((word | word >> 1) & LOW).count_ones() as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Note;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    struct Heap {
        tables: BTreeMap<u64, (Vec<u64>, Note)>,
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
        fn note(&mut self, table: u64) -> &mut Note {
            &mut self.tables.get_mut(&table).expect("a live table").1
        }
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            self.next += PAGE;
            self.tables.insert(self.next, (vec![0; 512], Note::default()));
            Some(self.next)
        }
        fn free(&mut self, table: u64) {
            self.tables.remove(&table).expect("freed once");
        }
        fn invalidate(&mut self) {}
    }

    proptest! {
        #[test]
        fn states_agree_with_a_map_of_pages(
            operations in proptest::collection::vec((0u64..5, 0u64..90, 1u64..200, 0u64..3, any::<bool>()), 1..40),
            limit in 1usize..7,
        ) {
            let mut heap = Heap { tables: BTreeMap::new(), next: 0, limit };
            let mut states = PageStates::new();
            let mut model: BTreeMap<u64, PageState> = BTreeMap::new();
            for (chunk, offset, pages, state, across) in operations {
                // Around the start of a chunk, or its end.
                let page = 0x10_0000 + chunk * TABLE_PAGES + if across { TABLE_PAGES - offset } else { offset };
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
