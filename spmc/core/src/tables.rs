//! Translation tables with a 4 KiB granule and 39-bit input addresses (Arm ARM D8.2): three levels, 1 GiB and 2 MiB
//! blocks where alignment allows, split on demand.
//!
//! One builder serves stage 2 of partitions, stage 1 of S-EL0 partitions and the SPMC's own stage 1: they differ only in
//! the attribute bits of a leaf, which the caller supplies. A leaf may be *invalid yet not zero*: it maps nothing and
//! keeps the software bits (58 to 55), which is how a page that was lent remembers its owner.
//!
//! Invariant: a table entry is either a leaf (valid or not) or points to a table that came from [`TableMemory`], whose
//! [`Note`] counts its entries. A few empty tables stay where they are, because what was shared once is shared again.

/// Bytes per page.
pub const PAGE: u64 = 4096;
/// Input address bits.
pub const ADDRESS_BITS: u32 = 39;
/// Valid bit of a descriptor.
pub const VALID: u64 = 1;
/// Output address bits of a descriptor (4 KiB granule, no LPA2).
const OUTPUT: u64 = 0x0000_FFFF_FFFF_F000;
const TABLE_OR_PAGE: u64 = 0b10;
/// Bits that software keeps and no walk reads.
const SOFTWARE: u64 = 0xf << 55;
/// Access permissions and execute-never, of both stages: they change without break-before-make (Arm ARM D8.16.1).
const PERMISSIONS: u64 = 3 << 6 | 3 << 53;
/// Entries of a table.
const ENTRIES: usize = 512;
/// Empty tables that a regime keeps.
const KEPT: u16 = 4;

/// What is remembered of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// Entries that are not zero.
    pub live: u16,
    /// Of a root: tables below it that are empty.
    pub empty: u16,
}

/// Where tables live, and how their entries are written.
pub trait TableMemory {
    /// Entry `index` of the table at `table` (physical address).
    fn read(&self, table: u64, index: usize) -> u64;
    /// Writes entry `index` so that table walks see it once the builder's caller has done its maintenance.
    fn write(&mut self, table: u64, index: usize, descriptor: u64);
    /// The note of a table.
    fn note(&mut self, table: u64) -> &mut Note;
    /// A zeroed table with a blank note, or `None` when the pool or the quota is spent.
    fn allocate(&mut self) -> Option<u64>;
    /// Takes back a table that no entry points to any more.
    fn free(&mut self, table: u64);
    /// Called between removing a valid entry and writing a different valid one in its place (break-before-make, Arm
    /// ARM D8.16.1), and before a table that was pointed to is freed: must invalidate TLBs for this address space.
    fn invalidate(&mut self);
}

/// No memory for a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTables;

/// What a range is mapped to: output address and attribute bits of each leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Output address of the first byte.
    pub output: u64,
    /// Attribute and software bits; with [`VALID`] or without.
    pub attributes: u64,
}

/// What a walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Output address that corresponds to the input address (page aligned).
    pub output: u64,
    /// The leaf's attribute and software bits, and [`VALID`].
    pub attributes: u64,
}

/// The root of a translation regime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Root(pub u64);

impl Root {
    /// An empty regime.
    ///
    /// # Errors
    /// [`OutOfTables`] when there is no page for the root.
    pub fn new(memory: &mut impl TableMemory) -> Result<Self, OutOfTables> {
        memory.allocate().map(Self).ok_or(OutOfTables)
    }

    /// Maps `size` bytes at `input` (both multiples of the page size) to `mapping`, replacing what was there; `None`
    /// clears the range. Ranges beyond the input address size are refused.
    ///
    /// Where no table is left, those that are empty or could be a block make room. Work: at most two passes over the entries
    /// that the range covers; and one over the regime's tables, when more than a few of them have become empty, or one is wanted.
    ///
    /// # Errors
    /// [`OutOfTables`]: a part of the range may have been changed; clearing it, or writing what was there before, needs
    /// no table that does not exist by then.
    pub fn set(self, memory: &mut impl TableMemory, input: u64, size: u64, mapping: Option<Mapping>) -> Result<(), OutOfTables> {
        let end = input.checked_add(size).filter(|end| *end <= 1 << ADDRESS_BITS).ok_or(OutOfTables)?;
        let mut empty = memory.note(self.0).empty;
        let mut result = match self.below(memory, input, size) {
            Below::Pages(table) => set_child(memory, table, 3, input, end, mapping, &mut empty),
            Below::Nothing if mapping.is_none() => return Ok(()),
            Below::Nothing | Below::More => set_level(memory, self.0, 1, input, end, mapping, &mut empty),
        };
        if result.is_err() || empty > KEPT {
            prune(memory, self.0, 1);
            empty = 0;
            if result.is_err() {
                result = set_level(memory, self.0, 1, input, end, mapping, &mut empty);
            }
        }
        memory.note(self.0).empty = empty;
        result
    }

    /// What is there for a range, if that takes one look at each level: most ranges lie in one table of pages.
    fn below(self, memory: &impl TableMemory, input: u64, size: u64) -> Below {
        let mut table = self.0;
        for level in 1..3 {
            let entry = memory.read(table, index(input, level));
            if (input & (span(level) - 1)) + size > span(level) {
                return Below::More;
            }
            if !is_table(entry, level) {
                return if entry == 0 { Below::Nothing } else { Below::More };
            }
            table = entry & OUTPUT;
        }
        if size < span(2) { Below::Pages(table) } else { Below::More }
    }

    /// The leaf that covers `input`, valid or not; `None` where nothing was ever set.
    #[must_use]
    pub fn walk(self, memory: &impl TableMemory, input: u64) -> Option<Leaf> {
        self.walk_run(memory, input, 1).0
    }

    /// The leaf that covers `input`, and how many pages from there on are like it: same attributes, outputs that follow each
    /// other; or have none. At least one and at most `pages`; there may be more of them behind those counted.
    #[must_use]
    pub fn walk_run(self, memory: &impl TableMemory, input: u64, pages: u64) -> (Option<Leaf>, u64) {
        if input >> ADDRESS_BITS != 0 {
            return (None, pages.max(1));
        }
        let mut table = self.0;
        let mut level = 1;
        loop {
            let i = index(input, level);
            let entry = memory.read(table, i);
            if is_table(entry, level) {
                table = entry & OUTPUT;
                level += 1;
                continue;
            }
            let span = span(level);
            let offset = input & (span - 1) & !(PAGE - 1);
            let mut run = (span - offset) / PAGE;
            let step = if entry == 0 { 0 } else { span };
            let mut next = entry.wrapping_add(step);
            for j in i + 1..ENTRIES {
                if run >= pages || memory.read(table, j) != next {
                    break;
                }
                next = next.wrapping_add(step);
                run += span / PAGE;
            }
            let leaf = Leaf { output: (entry & OUTPUT & !(span - 1)) + offset, attributes: entry & !OUTPUT & !TABLE_OR_PAGE };
            return ((entry != 0).then_some(leaf), run.min(pages.max(1)));
        }
    }
}

/// What a regime has for a range.
enum Below {
    /// All of it lies in this table of pages.
    Pages(u64),
    /// Nothing, and no table.
    Nothing,
    /// A block, or several entries of a table.
    More,
}

/// Bytes that one entry of `level` spans.
const fn span(level: u32) -> u64 {
    PAGE << (9 * (3 - level))
}

const fn index(input: u64, level: u32) -> usize {
    ((input / span(level)) & 511) as usize
}

const fn is_table(entry: u64, level: u32) -> bool {
    level < 3 && entry & (VALID | TABLE_OR_PAGE) == VALID | TABLE_OR_PAGE
}

/// The descriptor of a leaf at `level`.
const fn leaf(level: u32, output: u64, attributes: u64) -> u64 {
    let kind = if level == 3 && attributes & VALID != 0 { TABLE_OR_PAGE } else { 0 };
    (output & OUTPUT) | attributes | kind
}

/// `empty` counts the empty tables below the root.
fn set_level(
    memory: &mut impl TableMemory,
    table: u64,
    level: u32,
    start: u64,
    end: u64,
    mapping: Option<Mapping>,
    empty: &mut u16,
) -> Result<(), OutOfTables> {
    if level == 3 {
        set_pages(memory, table, index(start, 3), ((end - start) / PAGE) as usize, mapping);
        return Ok(());
    }
    let span = span(level);
    let mut at = start;
    while at < end {
        let next = ((at & !(span - 1)) + span).min(end);
        let i = index(at, level);
        let old = memory.read(table, i);
        let here = mapping.map(|m| Mapping { output: m.output.wrapping_add(at - start), ..m });
        let whole = next - at == span && here.is_none_or(|m| m.output & (span - 1) == 0);
        if whole {
            let new = here.map_or(0, |m| leaf(level, m.output, m.attributes));
            replace(memory, table, i, level, new, empty);
        } else if old != 0 || here.is_some() {
            let child = if is_table(old, level) { old & OUTPUT } else { split(memory, table, i, level, old, empty)? };
            set_child(memory, child, level + 1, at, next, here, empty)?;
        }
        at = next;
    }
    Ok(())
}

/// The same for a table below the root, which may become empty, or no longer be.
fn set_child(
    memory: &mut impl TableMemory,
    table: u64,
    level: u32,
    start: u64,
    end: u64,
    mapping: Option<Mapping>,
    empty: &mut u16,
) -> Result<(), OutOfTables> {
    let before = memory.note(table).live;
    let result = set_level(memory, table, level, start, end, mapping, empty);
    match (before, memory.note(table).live) {
        (0, 1..) => *empty = empty.saturating_sub(1),
        (1.., 0) => *empty += 1,
        _ => {}
    }
    result
}

/// Writes `count` entries of a table of pages, the first at index `first`.
fn set_pages(memory: &mut impl TableMemory, table: u64, first: usize, count: usize, mapping: Option<Mapping>) {
    let (mut new, step) = mapping.map_or((0, 0), |m| (leaf(3, m.output, m.attributes), PAGE));
    let start = new;
    let (mut breaks, mut restricts, mut live) = (false, false, 0);
    for i in first..first + count {
        let old = memory.read(table, i);
        if old == 0 {
            live += 1;
        } else if old & new & VALID != 0 {
            let change = (old ^ new) & !SOFTWARE;
            breaks |= change & !PERMISSIONS != 0;
            restricts |= change != 0;
        }
        new = new.wrapping_add(step);
    }
    if breaks {
        for i in first..first + count {
            memory.write(table, i, 0);
        }
        memory.invalidate();
    }
    new = start;
    for i in first..first + count {
        memory.write(table, i, new);
        new = new.wrapping_add(step);
    }
    if restricts && !breaks {
        memory.invalidate();
    }
    let note = memory.note(table);
    // Entries that were zero before have become something, or all of them nothing.
    if start == 0 { note.live -= count as u16 - live } else { note.live += live }
}

/// Writes `new` in place of an entry above the last level, with break-before-make when both are valid, and frees the tables
/// below the old one.
fn replace(memory: &mut impl TableMemory, table: u64, i: usize, level: u32, new: u64, empty: &mut u16) {
    let old = memory.read(table, i);
    let below = is_table(old, level);
    if below || old & new & VALID != 0 && (old ^ new) & !SOFTWARE != 0 {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, new);
    match (old, new) {
        (0, 1..) => memory.note(table).live += 1,
        (1.., 0) => memory.note(table).live -= 1,
        _ => {}
    }
    if below {
        free_below(memory, old & OUTPUT, level + 1, empty);
    }
}

fn free_below(memory: &mut impl TableMemory, table: u64, level: u32, empty: &mut u16) {
    if memory.note(table).live == 0 {
        *empty = empty.saturating_sub(1);
    }
    for i in 0..if level < 3 { ENTRIES } else { 0 } {
        let entry = memory.read(table, i);
        if is_table(entry, level) {
            free_below(memory, entry & OUTPUT, level + 1, empty);
        }
    }
    memory.free(table);
}

/// Puts a table with the same meaning in place of the leaf `old`.
fn split(memory: &mut impl TableMemory, table: u64, i: usize, level: u32, old: u64, empty: &mut u16) -> Result<u64, OutOfTables> {
    let child = memory.allocate().ok_or(OutOfTables)?;
    if old == 0 {
        memory.note(table).live += 1;
        *empty += 1;
    } else {
        let attributes = old & !OUTPUT & !TABLE_OR_PAGE;
        let base = old & OUTPUT & !(span(level) - 1);
        for j in 0..ENTRIES {
            memory.write(child, j, leaf(level + 1, base + j as u64 * span(level + 1), attributes));
        }
        memory.note(child).live = ENTRIES as u16;
    }
    if old & VALID != 0 {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, child | VALID | TABLE_OR_PAGE);
    Ok(child)
}

/// Frees the tables below this one that are empty, and puts a block in place of each that says no more than one would.
fn prune(memory: &mut impl TableMemory, table: u64, level: u32) {
    for i in 0..ENTRIES {
        let entry = memory.read(table, i);
        if !is_table(entry, level) {
            continue;
        }
        let child = entry & OUTPUT;
        if level < 2 {
            prune(memory, child, level + 1);
        }
        let block = match memory.note(child).live {
            0 => 0,
            512 => match block_for(memory, child, level) {
                Some(block) => block,
                None => continue,
            },
            _ => continue,
        };
        memory.write(table, i, 0);
        memory.invalidate();
        memory.write(table, i, block);
        if block == 0 {
            memory.note(table).live -= 1;
        }
        memory.free(child);
    }
}

/// The block at `level` that means the same as the full table `child` below it.
fn block_for(memory: &impl TableMemory, child: u64, level: u32) -> Option<u64> {
    let first = memory.read(child, 0);
    let aligned = !is_table(first, level + 1) && first & OUTPUT & (span(level) - 1) == 0;
    let alike = |j: usize| memory.read(child, j) == first.wrapping_add(j as u64 * span(level + 1));
    let attributes = first & !OUTPUT & !TABLE_OR_PAGE;
    (aligned && (1..ENTRIES).all(alike)).then(|| leaf(level, first & OUTPUT, attributes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec;
    use std::vec::Vec;

    struct Heap {
        tables: BTreeMap<u64, Vec<u64>>,
        notes: BTreeMap<u64, Note>,
        /// Removed tables that walks may still reach.
        dropped: bool,
        next: u64,
        limit: usize,
    }

    impl Heap {
        fn new(limit: usize) -> Self {
            Self { tables: BTreeMap::new(), notes: BTreeMap::new(), dropped: false, next: 0x1000, limit }
        }
    }

    impl TableMemory for Heap {
        fn read(&self, table: u64, index: usize) -> u64 {
            self.tables[&table][index]
        }
        fn write(&mut self, table: u64, index: usize, descriptor: u64) {
            let entry = &mut self.tables.get_mut(&table).expect("a live table")[index];
            let changed = *entry & descriptor & VALID != 0 && (*entry ^ descriptor) & !SOFTWARE & !PERMISSIONS != 0;
            assert!(!changed, "{entry:x} becomes {descriptor:x} without a break");
            // Any entry with both low bits may have been a table.
            self.dropped |= *entry & 3 == 3;
            *entry = descriptor;
        }
        fn note(&mut self, table: u64) -> &mut Note {
            self.notes.get_mut(&table).expect("a live table")
        }
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            let at = self.next;
            self.next += PAGE;
            self.tables.insert(at, vec![0; 512]);
            self.notes.insert(at, Note::default());
            Some(at)
        }
        fn free(&mut self, table: u64) {
            assert!(!self.dropped, "walks may still reach the table");
            self.tables.remove(&table).expect("freed once");
        }
        fn invalidate(&mut self) {
            self.dropped = false;
        }
    }

    const ATTRIBUTES: u64 = VALID | 1 << 10;

    #[test]
    fn aligned_ranges_become_blocks() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap).unwrap();
        root.set(&mut heap, 0x4000_0000, 1 << 30, Some(Mapping { output: 0x4000_0000, attributes: ATTRIBUTES })).unwrap();
        assert_eq!(heap.tables.len(), 1);
        assert_eq!(root.walk(&heap, 0x4123_4567), Some(Leaf { output: 0x4123_4000, attributes: ATTRIBUTES }));
    }

    #[test]
    fn clearing_a_page_of_a_block_keeps_the_rest() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap).unwrap();
        root.set(&mut heap, 0x4000_0000, 1 << 30, Some(Mapping { output: 0x4000_0000, attributes: ATTRIBUTES })).unwrap();
        root.set(&mut heap, 0x4020_1000, PAGE, None).unwrap();
        assert_eq!(root.walk(&heap, 0x4020_1000), None);
        assert_eq!(root.walk(&heap, 0x4020_2000).unwrap().output, 0x4020_2000);
        root.set(&mut heap, 0x4000_0000, 1 << 30, None).unwrap();
        assert_eq!(heap.tables.len(), 1, "tables below a cleared block are freed");
    }

    #[test]
    fn a_few_empty_tables_are_kept() {
        let mut heap = Heap::new(64);
        let root = Root::new(&mut heap).unwrap();
        let page = |n: u64| 0x4000_0000 + (n << 21);
        for n in 0..18 {
            root.set(&mut heap, page(n), PAGE, Some(Mapping { output: page(n), attributes: ATTRIBUTES })).unwrap();
            root.set(&mut heap, page(n), PAGE, None).unwrap();
            assert!(heap.tables.len() <= 2 + usize::from(KEPT), "{} tables", heap.tables.len());
        }
        // One that is kept is used again.
        let before = heap.tables.len();
        root.set(&mut heap, page(17), PAGE, Some(Mapping { output: page(17), attributes: ATTRIBUTES })).unwrap();
        assert_eq!(heap.tables.len(), before);
    }

    #[test]
    fn empty_tables_make_room_for_others() {
        let mut heap = Heap::new(4);
        let root = Root::new(&mut heap).unwrap();
        for n in 0..20 {
            let at = n << 30;
            root.set(&mut heap, at, PAGE, Some(Mapping { output: at, attributes: ATTRIBUTES })).unwrap();
            root.set(&mut heap, at, PAGE, None).unwrap();
        }
    }

    #[test]
    fn full_tables_become_blocks_where_others_are_wanted() {
        let mut heap = Heap::new(4);
        let root = Root::new(&mut heap).unwrap();
        // 2 MiB at a time, in pieces of 64 KiB: there is no room for a table each.
        for n in 0..512 {
            let at = 0x4000_0000 + n * 0x1_0000;
            root.set(&mut heap, at, 0x1_0000, Some(Mapping { output: at, attributes: ATTRIBUTES })).unwrap();
        }
        for n in 0..8192 {
            let at = 0x4000_0000 + n * PAGE;
            assert_eq!(root.walk(&heap, at), Some(Leaf { output: at, attributes: ATTRIBUTES }));
        }
    }

    #[test]
    fn a_run_ends_where_something_changes() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap).unwrap();
        let at = 0x4020_0000;
        root.set(&mut heap, at + 4 * PAGE, 8 * PAGE, Some(Mapping { output: at + 4 * PAGE, attributes: ATTRIBUTES })).unwrap();
        root.set(&mut heap, at + 7 * PAGE, PAGE, Some(Mapping { output: at + 7 * PAGE, attributes: ATTRIBUTES | 1 << 55 })).unwrap();
        let run = |first: u64, pages: u64| root.walk_run(&heap, at + first * PAGE, pages);
        assert_eq!(run(0, 100), (None, 4));
        assert_eq!(run(0, 2), (None, 2));
        assert_eq!(run(5, 100), (Some(Leaf { output: at + 5 * PAGE, attributes: ATTRIBUTES }), 2));
        assert_eq!(run(7, 100).1, 1);
        assert_eq!(run(12, 1000), (None, 500), "to the end of the table");
        assert_eq!(run(512, 1 << 20).0, None);
        assert_eq!(root.walk_run(&heap, 1 << 39, 5), (None, 5));
    }

    #[test]
    fn ranges_beyond_the_address_space_are_refused() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap).unwrap();
        assert_eq!(root.set(&mut heap, (1 << 39) - PAGE, 2 * PAGE, None), Err(OutOfTables));
        assert_eq!(root.set(&mut heap, !(PAGE - 1), 2 * PAGE, None), Err(OutOfTables));
        assert_eq!(root.walk(&heap, 1 << 39), None);
    }

    proptest! {
        #[test]
        fn tables_agree_with_a_map_of_pages(operations in proptest::collection::vec((0u64..1200, 1u64..700, 0u8..4), 1..40), limit in 3usize..12) {
            let mut heap = Heap::new(limit);
            let root = Root::new(&mut heap).unwrap();
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (page, count, kind) in operations {
                let mapping = match kind {
                    0 => None,
                    1 => Some(Mapping { output: page * PAGE, attributes: ATTRIBUTES }),
                    2 => Some(Mapping { output: page * PAGE + (512 << 21), attributes: ATTRIBUTES | 1 << 55 }),
                    _ => Some(Mapping { output: page * PAGE, attributes: 1 << 55 }),
                };
                if root.set(&mut heap, page * PAGE, count * PAGE, mapping).is_err() {
                    // Part of the range may have changed, and clearing it must always work.
                    root.set(&mut heap, page * PAGE, count * PAGE, None).ok();
                    for p in page..page + count {
                        if root.walk(&heap, p * PAGE).is_none() { model.remove(&p); }
                    }
                    continue;
                }
                for p in page..page + count {
                    match mapping {
                        None => { model.remove(&p); }
                        Some(m) => { model.insert(p, (m.output + (p - page) * PAGE, m.attributes)); }
                    }
                }
            }
            for p in 0..2000 {
                let found = root.walk(&heap, p * PAGE).map(|l| (l.output, l.attributes));
                prop_assert_eq!(found, model.get(&p).copied());
                let (leaf, run) = root.walk_run(&heap, p * PAGE, 1 + p % 40);
                prop_assert!((1..=1 + p % 40).contains(&run));
                for n in [run / 3, run / 2, run - 1] {
                    let next = leaf.map(|l| (l.output + n * PAGE, l.attributes));
                    prop_assert_eq!(next, model.get(&(p + n)).copied());
                }
            }
            // The notes are right, and clearing everything leaves the root and what may be kept.
            let zeroes = |table: u64| heap.tables[&table].iter().filter(|e| **e != 0).count();
            let notes: Vec<_> = heap.notes.iter().filter(|(t, _)| heap.tables.contains_key(t)).map(|(t, n)| (*t, usize::from(n.live))).collect();
            for (table, live) in notes {
                prop_assert_eq!(live, zeroes(table));
            }
            let empty = heap.tables.iter().filter(|(t, entries)| **t != root.0 && entries.iter().all(|e| *e == 0)).count();
            prop_assert_eq!(usize::from(heap.notes[&root.0].empty), empty);
            prop_assert!(empty <= usize::from(KEPT));
        }
    }
}
