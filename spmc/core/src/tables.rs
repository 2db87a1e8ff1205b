//! Translation tables with a 4 KiB granule and input addresses of 31 to 39 bits (Arm ARM D8.2): three levels, 1 GiB and
//! 2 MiB blocks where alignment allows, split on demand. A root has an entry for each GiB, so that several of them may share a page.
//!
//! One builder serves stage 2 of partitions, stage 1 of S-EL0 partitions and the SPMC's own stage 1: they differ only in
//! the attribute bits of a leaf, which the caller supplies. A leaf may be *invalid yet not zero*: it maps nothing and
//! keeps the software bits (58 to 55), which is how a page that was lent remembers its owner.
//!
//! Invariant: a table entry is either a leaf (valid or not) or points to a table that came from [`TableMemory`], which
//! keeps a count of its entries. A few empty tables stay where they are, because what was shared once is shared again.

use core::ops::Range;

/// Bytes per page.
pub const PAGE: u64 = 4096;
/// Input address bits of a regime, at the most: its root is a page then.
pub const MAX_ADDRESS_BITS: u32 = 39;
/// Input address bits of a regime, at the least: with fewer, the first level would be another.
pub const MIN_ADDRESS_BITS: u32 = 31;
/// Valid bit of a descriptor.
pub const VALID: u64 = 1;
/// Output address bits of a descriptor (4 KiB granule, no LPA2).
const OUTPUT: u64 = 0x0000_FFFF_FFFF_F000;
const TABLE_OR_PAGE: u64 = 0b10;
/// Bits that software keeps and no walk reads.
const SOFTWARE: u64 = 0xf << 55;
/// Software bits that say what will become of a leaf: none, it stays; one, it will be set anew as it was set, and is never joined
/// with its neighbours, because that must not fail for want of a table; both, it will be cleared as it was set, and is joined
/// only by [`Cursor::join`].
const PASSING: u64 = 3 << 55;
/// Access permissions and execute-never, of both stages: they change without break-before-make (Arm ARM D8.16.1).
const PERMISSIONS: u64 = 3 << 6 | 3 << 53;
/// Entries of a table.
const ENTRIES: usize = 512;
/// Empty tables that a regime keeps.
const KEPT: u16 = 4;

/// Where tables live, and how their entries are written.
pub trait TableMemory {
    /// Entry `index` of the table at `table` (physical address).
    fn read(&self, table: u64, index: usize) -> u64;
    /// Writes entry `index` so that table walks see it once the builder's caller has done its maintenance.
    fn write(&mut self, table: u64, index: usize, descriptor: u64);
    /// How many entries of a table that came from [`Self::allocate`] are not zero. (Nobody asks for a root's: those that share a
    /// page share the number.)
    fn live(&mut self, table: u64) -> &mut u16;
    /// How many tables below a root are empty.
    fn empty(&mut self, root: Root) -> &mut u16;
    /// A zeroed table without live entries, or `None` when the pool or the quota is spent.
    fn allocate(&mut self) -> Option<u64>;
    /// A zeroed root for so many input address bits, at a multiple of its size, without empty tables; it stays for ever. `None` as in
    /// [`Self::allocate`].
    fn allocate_root(&mut self, address_bits: u32) -> Option<Root>;
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
pub struct Root {
    /// Physical address of the first table.
    pub table: u64,
    /// Input address bits, [`MIN_ADDRESS_BITS`] to [`MAX_ADDRESS_BITS`].
    pub address_bits: u8,
    /// Which of its memory's roots it is.
    pub number: u8,
}

impl Root {
    /// None yet.
    pub const NONE: Self = Self { table: 0, address_bits: 0, number: 0 };

    /// An empty regime for so many input address bits.
    ///
    /// # Errors
    /// [`OutOfTables`] when there is no memory for the root.
    pub fn new(memory: &mut impl TableMemory, address_bits: u32) -> Result<Self, OutOfTables> {
        memory.allocate_root(address_bits).ok_or(OutOfTables)
    }

    /// Entries of the first table: one for each GiB.
    #[must_use]
    pub const fn entries(self) -> usize {
        1 << (self.address_bits as u32).saturating_sub(30)
    }

    /// Whether an address is beyond the regime.
    #[inline(always)]
    const fn ends_before(self, input: u64) -> bool {
        input >> self.address_bits != 0
    }

    /// End of the regime.
    const fn end(self) -> u64 {
        1 << self.address_bits
    }

    /// As [`Cursor::set`], for one range.
    ///
    /// # Errors
    /// As there.
    pub fn set(self, memory: &mut impl TableMemory, input: u64, size: u64, mapping: Option<Mapping>) -> Result<(), OutOfTables> {
        Cursor::new(self).set(memory, input, size, mapping)
    }

    /// The leaf that covers `input`, valid or not; `None` where nothing was ever set.
    #[must_use]
    pub fn walk(self, memory: &impl TableMemory, input: u64) -> Option<Leaf> {
        Cursor::new(self).walk_run(memory, input, 1).0
    }
}

/// A place in a regime: what is near the last one is found without a walk from the root. Nobody else may change the regime
/// meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    root: Root,
    /// The place: bytes from an address on; none at first.
    start: u64,
    size: u64,
    /// The table of pages for all of it; zero where nothing is set.
    table: u64,
}

impl Cursor {
    /// At no place yet.
    #[must_use]
    pub const fn new(root: Root) -> Self {
        Self { root, start: 0, size: 0, table: 0 }
    }

    /// Bytes of the place from `input` on; zero when it is elsewhere.
    #[inline(always)]
    const fn reach(&self, input: u64) -> u64 {
        let offset = input.wrapping_sub(self.start);
        if offset < self.size { self.size - offset } else { 0 }
    }

    /// Maps `size` bytes at `input` (both multiples of the page size) to `mapping`, replacing what was there; `None`
    /// clears the range. Ranges beyond the input address size are refused.
    ///
    /// Where no table is left, those that are empty or could be a block make room. Work: at most two passes over the entries
    /// that the range covers; and one over the regime's tables, when more than a few of them have become empty, or one is wanted.
    ///
    /// # Errors
    /// [`OutOfTables`]: a part of the range may have been changed; clearing it, or writing what was there before, needs
    /// no table that does not exist by then. Nor does it ever for a range that was set as a whole, with software bit 55 or 56,
    /// as long as nobody calls [`Self::join`].
    pub fn set(&mut self, memory: &mut impl TableMemory, input: u64, size: u64, mapping: Option<Mapping>) -> Result<(), OutOfTables> {
        if self.reach(input) == 0 && !self.root.ends_before(input) {
            self.go(memory, input);
        }
        // A whole table's worth becomes a block.
        if size <= self.reach(input) && size < span(2) && self.table != 0 {
            let table = self.table;
            match write_pages(memory, table, index(input, 3), (size / PAGE) as usize, mapping) {
                (0, 1..) => {
                    let empty = memory.empty(self.root);
                    *empty = empty.saturating_sub(1);
                }
                (1.., 0) => {
                    let empty = memory.empty(self.root);
                    *empty = empty.saturating_add(1);
                    if *empty > KEPT {
                        self.prune(memory, false);
                    }
                }
                _ => {}
            }
            return Ok(());
        }
        let end = input.checked_add(size).filter(|end| *end <= self.root.end()).ok_or(OutOfTables)?;
        self.size = 0;
        let root = self.root.table;
        let mut empty = *memory.empty(self.root);
        let mut result = set_level(memory, root, 1, input, end, mapping, &mut empty);
        if result.is_err() || empty > KEPT {
            self.prune(memory, false);
            empty = 0;
            if result.is_err() {
                result = set_level(memory, root, 1, input, end, mapping, &mut empty);
            }
        }
        *memory.empty(self.root) = empty;
        result
    }

    /// Frees what tables can be spared; whether there was one.
    #[inline(never)]
    fn prune(&mut self, memory: &mut impl TableMemory, join: bool) -> bool {
        self.size = 0;
        *memory.empty(self.root) = 0;
        prune(memory, self.root.table, 0..self.root.entries(), 1, join)
    }

    /// Puts blocks also in place of tables that will be cleared in pieces: from now on [`Self::part`] comes before that. Whether a
    /// table came free.
    pub fn join(&mut self, memory: &mut impl TableMemory) -> bool {
        self.prune(memory, true)
    }

    /// Takes blocks apart that are only partly in the `size` bytes from `input` on, which are not beyond the regime. Nothing else
    /// changes.
    ///
    /// # Errors
    /// [`OutOfTables`].
    pub fn part(&mut self, memory: &mut impl TableMemory, input: u64, size: u64) -> Result<(), OutOfTables> {
        let mut pruned = false;
        for edge in [input, input + size] {
            while !self.root.ends_before(edge) {
                let (table, level, entry) = self.go(memory, edge);
                if level == 3 || entry == 0 || edge & (span(level) - 1) == 0 {
                    break;
                }
                if split(memory, table, index(edge, level), level, entry, &mut 0).is_err() {
                    if pruned {
                        return Err(OutOfTables);
                    }
                    self.prune(memory, false);
                    pruned = true;
                }
            }
        }
        Ok(())
    }

    /// Goes to `input`, which is not beyond the regime; not where an entry for more than a page is. What is there: table, level and
    /// entry.
    #[inline(never)]
    fn go(&mut self, memory: &impl TableMemory, input: u64) -> (u64, u32, u64) {
        let (mut table, mut level) = (self.root.table, 1);
        loop {
            let entry = memory.read(table, index(input, level));
            if level < 3 && is_table(entry, level) {
                table = entry & OUTPUT;
                level += 1;
                continue;
            }
            let size = span(if level == 3 { 2 } else { level });
            self.start = input & !(size - 1);
            (self.size, self.table) = match (level, entry) {
                (3, _) => (size, table),
                (_, 0) => (size, 0),
                _ => (0, 0),
            };
            return (table, level, entry);
        }
    }

    /// Whether nothing is set in `size` bytes from `input` on. What is beyond the regime is not free.
    #[inline(always)]
    pub fn is_free(&mut self, memory: &impl TableMemory, input: u64, size: u64) -> bool {
        match self.reach(input) >= size {
            true if self.table == 0 => true,
            true if size == PAGE => memory.read(self.table, index(input, 3)) == 0,
            _ => self.is_all_free(memory, input, size),
        }
    }

    #[inline(never)]
    fn is_all_free(&mut self, memory: &impl TableMemory, input: u64, size: u64) -> bool {
        if input.checked_add(size).is_none_or(|end| end > self.root.end()) {
            return false;
        }
        let (mut at, mut left) = (input, size);
        while left != 0 {
            if self.reach(at) == 0 {
                self.go(memory, at);
            }
            let here = self.reach(at).min(left);
            let first = index(at, 3);
            // Of an entry for more than a page, nothing is in reach.
            if here == 0 || self.table != 0 && (first..first + (here / PAGE) as usize).any(|i| memory.read(self.table, i) != 0) {
                return false;
            }
            at += here;
            left -= here;
        }
        true
    }

    /// The leaf that covers `input`, and how many pages from there on are like it: same attributes, outputs that follow each
    /// other; or have none. At least one and at most `pages`; there may be more of them behind those counted.
    pub fn walk_run(&mut self, memory: &impl TableMemory, input: u64, pages: u64) -> (Option<Leaf>, u64) {
        if self.root.ends_before(input) {
            return (None, pages.max(1));
        }
        let (table, level, entry) = self.go(memory, input);
        let span = span(level);
        let offset = input & (span - 1) & !(PAGE - 1);
        let mut run = (span - offset) / PAGE;
        let step = if entry == 0 { 0 } else { span };
        let mut next = entry.wrapping_add(step);
        for j in index(input, level) + 1..if level == 1 { self.root.entries() } else { ENTRIES } {
            if run >= pages || memory.read(table, j) != next {
                break;
            }
            next = next.wrapping_add(step);
            run += span / PAGE;
        }
        let leaf = Leaf { output: (entry & OUTPUT & !(span - 1)) + offset, attributes: entry & !OUTPUT & !TABLE_OR_PAGE };
        ((entry != 0).then_some(leaf), run.min(pages.max(1)))
    }
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
        write_pages(memory, table, index(start, 3), ((end - start) / PAGE) as usize, mapping);
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
    let before = *memory.live(table);
    let result = set_level(memory, table, level, start, end, mapping, empty);
    match (before, *memory.live(table)) {
        (0, 1..) => *empty = empty.saturating_sub(1),
        (1.., 0) => *empty += 1,
        _ => {}
    }
    result
}

/// Writes `count` entries of a table of pages, the first at index `first`. Returns how many of the table are not zero, before and
/// now.
#[inline(always)]
fn write_pages(memory: &mut impl TableMemory, table: u64, first: usize, count: usize, mapping: Option<Mapping>) -> (u16, u16) {
    let (mut new, step) = mapping.map_or((0, 0), |m| (leaf(3, m.output, m.attributes), PAGE));
    // No more than entries of a table.
    let mut zeroes = 0_u16;
    for i in first..first + count {
        let old = memory.read(table, i);
        if old == 0 {
            zeroes = zeroes.wrapping_add(1);
        } else if needs_maintenance(old, new) {
            zeroes = zeroes.wrapping_add(change_pages(memory, table, i..first + count, new));
            break;
        }
        memory.write(table, i, new);
        new = new.wrapping_add(step);
    }
    let live = memory.live(table);
    let before = *live;
    // Entries that were zero before have become something, or all of them nothing.
    *live = before.wrapping_add(zeroes).wrapping_sub(if step == 0 { count as u16 } else { 0 });
    (before, *live)
}

/// The rest of [`write_pages`], with the maintenance of TLBs that one of the entries needs. Returns how many were zero.
#[inline(never)]
fn change_pages(memory: &mut impl TableMemory, table: u64, entries: Range<usize>, first: u64) -> u16 {
    let (mut breaks, mut zeroes, mut new) = (false, 0, first);
    for i in entries.clone() {
        let old = memory.read(table, i);
        zeroes += u16::from(old == 0);
        breaks |= old & new & VALID != 0 && (old ^ new) & !SOFTWARE & !PERMISSIONS != 0;
        new = new.wrapping_add(PAGE);
    }
    if breaks {
        for i in entries.clone() {
            memory.write(table, i, 0);
        }
        memory.invalidate();
    }
    new = first;
    for i in entries {
        memory.write(table, i, new);
        new = new.wrapping_add(PAGE);
    }
    if !breaks {
        // Other permissions need no break, and count from here on.
        memory.invalidate();
    }
    zeroes
}

/// Whether one entry may take the place of another only with an invalidation of TLBs: both are valid, and walks see a difference.
const fn needs_maintenance(old: u64, new: u64) -> bool {
    old & new & VALID != 0 && (old ^ new) & !SOFTWARE != 0
}

/// Writes `new` in place of an entry above the last level, with break-before-make when both are valid, and frees the tables
/// below the old one.
fn replace(memory: &mut impl TableMemory, table: u64, i: usize, level: u32, new: u64, empty: &mut u16) {
    let old = memory.read(table, i);
    let below = is_table(old, level);
    if below || needs_maintenance(old, new) {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, new);
    match (old, new) {
        (0, 1..) => *memory.live(table) += 1,
        (1.., 0) => *memory.live(table) -= 1,
        _ => {}
    }
    if below {
        free_below(memory, old & OUTPUT, level + 1, empty);
    }
}

fn free_below(memory: &mut impl TableMemory, table: u64, level: u32, empty: &mut u16) {
    if *memory.live(table) == 0 {
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
        *memory.live(table) += 1;
        *empty += 1;
    } else {
        let attributes = old & !OUTPUT & !TABLE_OR_PAGE;
        let base = old & OUTPUT & !(span(level) - 1);
        for j in 0..ENTRIES {
            memory.write(child, j, leaf(level + 1, base + j as u64 * span(level + 1), attributes));
        }
        *memory.live(child) = ENTRIES as u16;
    }
    if old & VALID != 0 {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, child | VALID | TABLE_OR_PAGE);
    Ok(child)
}

/// Frees the tables below this one that are empty, and puts a block in place of each that says no more than one would, with `join`
/// also of what will be cleared in pieces. Whether there was one.
fn prune(memory: &mut impl TableMemory, table: u64, entries: Range<usize>, level: u32, join: bool) -> bool {
    let mut freed = false;
    for i in entries {
        let entry = memory.read(table, i);
        if !is_table(entry, level) {
            continue;
        }
        let child = entry & OUTPUT;
        if level < 2 {
            freed |= prune(memory, child, 0..ENTRIES, level + 1, join);
        }
        let block = match *memory.live(child) {
            0 => 0,
            512 => match block_for(memory, child, level, join) {
                Some(block) => block,
                None => continue,
            },
            _ => continue,
        };
        memory.write(table, i, 0);
        memory.invalidate();
        memory.write(table, i, block);
        if block == 0 {
            *memory.live(table) -= 1;
        }
        memory.free(child);
        freed = true;
    }
    freed
}

/// The block at `level` that means the same as the full table `child` below it, if there may be one.
fn block_for(memory: &impl TableMemory, child: u64, level: u32, join: bool) -> Option<u64> {
    let first = memory.read(child, 0);
    let may = match first & PASSING {
        0 => true,
        PASSING => join,
        _ => false,
    };
    let aligned = may && !is_table(first, level + 1) && first & OUTPUT & (span(level) - 1) == 0;
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
        live: BTreeMap<u64, u16>,
        empty: Vec<u16>,
        /// Removed tables that walks may still reach.
        dropped: bool,
        next: u64,
        limit: usize,
    }

    impl Heap {
        fn new(limit: usize) -> Self {
            Self { tables: BTreeMap::new(), live: BTreeMap::new(), empty: Vec::new(), dropped: false, next: 0x1000, limit }
        }
    }

    impl Heap {
        /// Nothing may be read or written behind its entries.
        fn add(&mut self, entries: usize) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            let at = self.next;
            self.next += PAGE;
            self.tables.insert(at, vec![0; entries]);
            self.live.insert(at, 0);
            Some(at)
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
        fn live(&mut self, table: u64) -> &mut u16 {
            self.live.get_mut(&table).expect("a live table")
        }
        fn empty(&mut self, root: Root) -> &mut u16 {
            &mut self.empty[usize::from(root.number)]
        }
        fn allocate(&mut self) -> Option<u64> {
            self.add(512)
        }
        fn allocate_root(&mut self, address_bits: u32) -> Option<Root> {
            let table = self.add(1 << (address_bits - 30))?;
            self.empty.push(0);
            Some(Root { table, address_bits: address_bits as u8, number: self.empty.len() as u8 - 1 })
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
        let root = Root::new(&mut heap, 39).unwrap();
        root.set(&mut heap, 0x4000_0000, 1 << 30, Some(Mapping { output: 0x4000_0000, attributes: ATTRIBUTES })).unwrap();
        assert_eq!(heap.tables.len(), 1);
        assert_eq!(root.walk(&heap, 0x4123_4567), Some(Leaf { output: 0x4123_4000, attributes: ATTRIBUTES }));
    }

    #[test]
    fn clearing_a_page_of_a_block_keeps_the_rest() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap, 39).unwrap();
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
        let root = Root::new(&mut heap, 39).unwrap();
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
        let root = Root::new(&mut heap, 39).unwrap();
        for n in 0..20 {
            let at = n << 30;
            root.set(&mut heap, at, PAGE, Some(Mapping { output: at, attributes: ATTRIBUTES })).unwrap();
            root.set(&mut heap, at, PAGE, None).unwrap();
        }
    }

    #[test]
    fn blocks_that_were_joined_are_parted_where_they_go() {
        let mut heap = Heap::new(5);
        let mut cursor = Cursor::new(Root::new(&mut heap, 39).unwrap());
        let lent = |at: u64| Some(Mapping { output: at, attributes: ATTRIBUTES | 3 << 55 });
        for at in [0x4000_0000, 0x4010_0000] {
            cursor.set(&mut heap, at, 0x10_0000, lent(at)).unwrap();
        }
        assert!(cursor.join(&mut heap));
        assert_eq!(heap.tables.len(), 2);
        heap.limit = 2;
        assert_eq!(cursor.part(&mut heap, 0x4000_0000, 0x10_0000), Err(OutOfTables));
        assert_eq!(cursor.part(&mut heap, 0x4000_0000, 0x20_0000), Ok(()), "the whole block goes");
        heap.limit = 3;
        assert_eq!(cursor.part(&mut heap, 0x4010_0000, 0x10_0000), Ok(()));
        heap.limit = 2;
        assert_eq!(cursor.set(&mut heap, 0x4010_0000, 0x10_0000, None), Ok(()));
        assert_eq!(cursor.walk_run(&heap, 0x4000_0000, 512).1, 256);
    }

    #[test]
    fn full_tables_become_blocks_where_others_are_wanted() {
        let mut heap = Heap::new(4);
        let root = Root::new(&mut heap, 39).unwrap();
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
        let root = Root::new(&mut heap, 39).unwrap();
        let at = 0x4020_0000;
        root.set(&mut heap, at + 4 * PAGE, 8 * PAGE, Some(Mapping { output: at + 4 * PAGE, attributes: ATTRIBUTES })).unwrap();
        root.set(&mut heap, at + 7 * PAGE, PAGE, Some(Mapping { output: at + 7 * PAGE, attributes: ATTRIBUTES | 1 << 55 })).unwrap();
        let run = |first: u64, pages: u64| Cursor::new(root).walk_run(&heap, at + first * PAGE, pages);
        assert_eq!(run(0, 100), (None, 4));
        assert_eq!(run(0, 2), (None, 2));
        assert_eq!(run(5, 100), (Some(Leaf { output: at + 5 * PAGE, attributes: ATTRIBUTES }), 2));
        assert_eq!(run(7, 100).1, 1);
        assert_eq!(run(12, 1000), (None, 500), "to the end of the table");
        assert_eq!(run(512, 1 << 20).0, None);
        assert_eq!(Cursor::new(root).walk_run(&heap, 1 << 39, 5), (None, 5));
    }

    #[test]
    fn ranges_beyond_the_address_space_are_refused() {
        for bits in MIN_ADDRESS_BITS..=MAX_ADDRESS_BITS {
            let mut heap = Heap::new(16);
            let root = Root::new(&mut heap, bits).unwrap();
            let end = 1 << bits;
            assert_eq!(root.set(&mut heap, end - PAGE, 2 * PAGE, None), Err(OutOfTables));
            assert_eq!(root.set(&mut heap, !(PAGE - 1), 2 * PAGE, None), Err(OutOfTables));
            assert_eq!(root.walk(&heap, end), None);
            assert!(!Cursor::new(root).is_free(&heap, end - PAGE, 2 * PAGE));
            assert_eq!(Cursor::new(root).part(&mut heap, end - PAGE, PAGE), Ok(()));
            // All of it is one run, of blocks, and later of what is left of them.
            root.set(&mut heap, 0, end, Some(Mapping { output: 0, attributes: ATTRIBUTES })).unwrap();
            assert_eq!(Cursor::new(root).walk_run(&heap, 0, u64::MAX).1, end / PAGE);
            root.set(&mut heap, end - PAGE, PAGE, None).unwrap();
            assert_eq!(Cursor::new(root).walk_run(&heap, end - PAGE, 9), (None, 1));
            assert!(!Cursor::new(root).join(&mut heap));
        }
    }

    proptest! {
        /// Access to shared memory ends when it should, however short of tables the pool is.
        #[test]
        fn what_is_not_its_owners_is_cleared_as_it_was_set_without_a_table(
            operations in proptest::collection::vec((0u64..1100, 1u64..600, any::<bool>(), 0u8..7), 1..60),
            limit in 3usize..8,
        ) {
            let mut joined = false;
            let mut heap = Heap::new(limit);
            let mut cursor = Cursor::new(Root::new(&mut heap, 39).unwrap());
            let mut borrowed: Vec<(u64, u64)> = Vec::new();
            for (page, count, aligned, what) in operations {
                let (page, count) = if aligned { (page & !0xff, 256) } else { (page, count) };
                let (input, size) = (page * PAGE, count * PAGE);
                if what == 0 {
                    joined |= cursor.join(&mut heap);
                } else if what < 4 && !borrowed.is_empty() {
                    let n = input as usize / 4096 % borrowed.len();
                    let (page, count) = borrowed[n];
                    if joined && cursor.part(&mut heap, page * PAGE, count * PAGE).is_err() {
                        // There is no table left, and nothing has changed.
                        prop_assert_eq!(heap.tables.len(), limit);
                        for p in page..page + count {
                            prop_assert_eq!(cursor.walk_run(&heap, p * PAGE, 1).0, Some(Leaf { output: p * PAGE, attributes: ATTRIBUTES | 3 << 55 }));
                        }
                        continue;
                    }
                    borrowed.swap_remove(n);
                    prop_assert_eq!(cursor.set(&mut heap, page * PAGE, count * PAGE, None), Ok(()));
                    for p in page..page + count {
                        prop_assert_eq!(cursor.walk_run(&heap, p * PAGE, 1).0, None);
                    }
                } else if borrowed.iter().all(|(p, c)| page + count <= *p || p + c <= page) {
                    match cursor.set(&mut heap, input, size, Some(Mapping { output: input, attributes: ATTRIBUTES | 3 << 55 })) {
                        Ok(()) => borrowed.push((page, count)),
                        Err(OutOfTables) => prop_assert_eq!(cursor.set(&mut heap, input, size, None), Ok(())),
                    }
                }
                for p in 0..1700 {
                    let there = borrowed.iter().any(|(first, count)| (*first..first + count).contains(&p));
                    prop_assert_eq!(cursor.walk_run(&heap, p * PAGE, 1).0.is_some(), there);
                }
            }
        }

        /// Others' memory that is set anew is never joined.
        #[test]
        fn what_will_be_set_anew_needs_no_table(pages in proptest::collection::vec(1u64..511, 1..6), state in 1u64..3) {
            let mut heap = Heap::new(3);
            let mut cursor = Cursor::new(Root::new(&mut heap, 39).unwrap());
            let mapping = |page: u64, state: u64| Some(Mapping { output: page * PAGE, attributes: ATTRIBUTES | state << 55 });
            cursor.set(&mut heap, 0, 1 << 21, mapping(0, 0)).unwrap();
            for page in &pages {
                cursor.set(&mut heap, page * PAGE, PAGE, mapping(*page, state)).unwrap();
            }
            for page in 0..512 {
                cursor.set(&mut heap, page * PAGE, PAGE, mapping(page, state)).unwrap();
            }
            prop_assert!(!cursor.join(&mut heap));
            // There is no other table.
            prop_assert_eq!(heap.tables.len(), heap.limit);
            for page in 0..512 {
                prop_assert_eq!(cursor.set(&mut heap, page * PAGE, PAGE, mapping(page, 0)), Ok(()));
            }
            prop_assert!(cursor.join(&mut heap), "what stays is joined again");
        }

        #[test]
        fn tables_agree_with_a_map_of_pages(operations in proptest::collection::vec((0u64..1200, 1u64..700, 0u8..4), 1..40), limit in 3usize..12) {
            let mut heap = Heap::new(limit);
            let root = Root::new(&mut heap, 39).unwrap();
            let mut cursor = Cursor::new(root);
            let mut model: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
            for (page, count, kind) in operations {
                let mapping = match kind {
                    0 => None,
                    1 => Some(Mapping { output: page * PAGE, attributes: ATTRIBUTES }),
                    2 => Some(Mapping { output: page * PAGE + (512 << 21), attributes: ATTRIBUTES | 1 << 55 }),
                    _ => Some(Mapping { output: page * PAGE, attributes: 1 << 55 }),
                };
                if cursor.set(&mut heap, page * PAGE, count * PAGE, mapping).is_err() {
                    // Part of the range may have changed.
                    cursor.set(&mut heap, page * PAGE, count * PAGE, None).ok();
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
                let count = 1 + p * 7 % 700;
                let free = model.range(p..p + count).next().is_none();
                prop_assert_eq!(cursor.is_free(&heap, p * PAGE, count * PAGE), free, "{} pages from {}", count, p);
                let (leaf, run) = cursor.walk_run(&heap, p * PAGE, 1 + p % 40);
                prop_assert_eq!(leaf.map(|l| (l.output, l.attributes)), found);
                prop_assert!((1..=1 + p % 40).contains(&run));
                for n in [run / 3, run / 2, run - 1] {
                    let next = leaf.map(|l| (l.output + n * PAGE, l.attributes));
                    prop_assert_eq!(next, model.get(&(p + n)).copied());
                }
            }
            // The counts are right, and clearing everything leaves the root and what may be kept.
            let zeroes = |table: u64| heap.tables[&table].iter().filter(|e| **e != 0).count();
            for (table, live) in heap.live.iter().filter(|(t, _)| heap.tables.contains_key(t)) {
                prop_assert_eq!(usize::from(*live), zeroes(*table));
            }
            let empty = heap.tables.iter().filter(|(t, entries)| **t != root.table && entries.iter().all(|e| *e == 0)).count();
            prop_assert_eq!(usize::from(heap.empty[0]), empty);
            prop_assert!(empty <= usize::from(KEPT));
        }
    }
}
