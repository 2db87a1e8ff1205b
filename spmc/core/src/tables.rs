//! Translation tables with a 4 KiB granule and 39-bit input addresses (Arm ARM D8.2): three levels, 1 GiB and 2 MiB
//! blocks where alignment allows, split on demand.
//!
//! One builder serves stage 2 of partitions, stage 1 of S-EL0 partitions and the SPMC's own stage 1: they differ only in
//! the attribute bits of a leaf, which the caller supplies. A leaf may be *invalid yet not zero*: it maps nothing and
//! keeps the software bits (58 to 55), which is how a page that was lent remembers its owner.
//!
//! Invariant: a table entry is either a leaf (valid or not) or points to a table that came from [`TableMemory`].

/// Bytes per page.
pub const PAGE: u64 = 4096;
/// Input address bits.
pub const ADDRESS_BITS: u32 = 39;
/// Valid bit of a descriptor.
pub const VALID: u64 = 1;
/// Output address bits of a descriptor (4 KiB granule, no LPA2).
const OUTPUT: u64 = 0x0000_FFFF_FFFF_F000;
const TABLE_OR_PAGE: u64 = 0b10;

/// Where tables live, and how their entries are written.
pub trait TableMemory {
    /// Entry `index` of the table at `table` (physical address).
    fn read(&self, table: u64, index: usize) -> u64;
    /// Writes entry `index` so that table walks see it once the builder's caller has done its maintenance.
    fn write(&mut self, table: u64, index: usize, descriptor: u64);
    /// A zeroed table, or `None` when the pool or the quota is spent.
    fn allocate(&mut self) -> Option<u64>;
    /// Takes back a table that no entry points to any more.
    fn free(&mut self, table: u64);
    /// Called between removing a valid entry and writing a different valid one in its place (break-before-make, Arm
    /// ARM D8.16.1): must invalidate TLBs for this address space.
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
    /// Tables that a cleared range leaves empty are freed. Work: at most one pass over the entries that the range covers,
    /// and one over each table that it clears a part of.
    ///
    /// # Errors
    /// [`OutOfTables`]: a part of the range may have been changed; clearing it, or writing what was there before, needs
    /// no table that does not exist by then.
    pub fn set(self, memory: &mut impl TableMemory, input: u64, size: u64, mapping: Option<Mapping>) -> Result<(), OutOfTables> {
        let end = input.checked_add(size).filter(|end| *end <= 1 << ADDRESS_BITS).ok_or(OutOfTables)?;
        set_level(memory, self.0, 1, input, end, mapping)
    }

    /// The leaf that covers `input`, valid or not; `None` where nothing was ever set.
    #[must_use]
    pub fn walk(self, memory: &impl TableMemory, input: u64) -> Option<Leaf> {
        if input >> ADDRESS_BITS != 0 {
            return None;
        }
        let mut table = self.0;
        for level in 1..=3 {
            let entry = memory.read(table, index(input, level));
            if is_table(entry, level) {
                table = entry & OUTPUT;
                continue;
            }
            if entry == 0 {
                return None;
            }
            let offset = input & (span(level) - 1) & !(PAGE - 1);
            return Some(Leaf { output: (entry & OUTPUT & !(span(level) - 1)) + offset, attributes: entry & !OUTPUT & !TABLE_OR_PAGE });
        }
        None
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

fn set_level(memory: &mut impl TableMemory, table: u64, level: u32, start: u64, end: u64, mapping: Option<Mapping>) -> Result<(), OutOfTables> {
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
            replace(memory, table, i, level, old, new);
        } else {
            if old == 0 && here.is_none() {
                at = next;
                continue;
            }
            let child = if is_table(old, level) { old & OUTPUT } else { split(memory, table, i, level, old)? };
            set_level(memory, child, level + 1, at, next, here)?;
            if here.is_none() && (0..512).all(|j| memory.read(child, j) == 0) {
                // Nothing is left below: a table kept for every range that ever was mapped would spend the pool.
                replace(memory, table, i, level, memory.read(table, i), 0);
            }
        }
        at = next;
    }
    Ok(())
}

/// Writes `new` over `old`, with break-before-make when both are valid, and frees the tables below `old`.
fn replace(memory: &mut impl TableMemory, table: u64, i: usize, level: u32, old: u64, new: u64) {
    if old & VALID != 0 && new & VALID != 0 && old != new {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, new);
    if is_table(old, level) {
        memory.invalidate();
        free_below(memory, old & OUTPUT, level + 1);
    }
}

fn free_below(memory: &mut impl TableMemory, table: u64, level: u32) {
    for i in 0..512 {
        let entry = memory.read(table, i);
        if is_table(entry, level) {
            free_below(memory, entry & OUTPUT, level + 1);
        }
    }
    memory.free(table);
}

/// Puts a table with the same meaning in place of the leaf `old`.
fn split(memory: &mut impl TableMemory, table: u64, i: usize, level: u32, old: u64) -> Result<u64, OutOfTables> {
    let child = memory.allocate().ok_or(OutOfTables)?;
    if old != 0 {
        let attributes = old & !OUTPUT & !TABLE_OR_PAGE;
        let base = old & OUTPUT & !(span(level) - 1);
        for j in 0..512 {
            memory.write(child, j, leaf(level + 1, base + j as u64 * span(level + 1), attributes));
        }
    }
    if old & VALID != 0 {
        memory.write(table, i, 0);
        memory.invalidate();
    }
    memory.write(table, i, child | VALID | TABLE_OR_PAGE);
    Ok(child)
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
        next: u64,
        limit: usize,
    }

    impl Heap {
        fn new(limit: usize) -> Self {
            Self { tables: BTreeMap::new(), next: 0x1000, limit }
        }
    }

    impl TableMemory for Heap {
        fn read(&self, table: u64, index: usize) -> u64 {
            self.tables[&table][index]
        }
        fn write(&mut self, table: u64, index: usize, descriptor: u64) {
            self.tables.get_mut(&table).expect("a live table")[index] = descriptor;
        }
        fn allocate(&mut self) -> Option<u64> {
            if self.tables.len() == self.limit {
                return None;
            }
            let at = self.next;
            self.next += PAGE;
            self.tables.insert(at, vec![0; 512]);
            Some(at)
        }
        fn free(&mut self, table: u64) {
            self.tables.remove(&table).expect("freed once");
        }
        fn invalidate(&mut self) {}
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
    fn clearing_the_last_page_of_a_table_frees_it() {
        let mut heap = Heap::new(16);
        let root = Root::new(&mut heap).unwrap();
        for page in [0x4000_0000, 0x4020_0000, 0x8000_1000] {
            root.set(&mut heap, page, PAGE, Some(Mapping { output: page, attributes: ATTRIBUTES })).unwrap();
        }
        assert_eq!(heap.tables.len(), 6);
        root.set(&mut heap, 0x4000_0000, PAGE, None).unwrap();
        assert_eq!(heap.tables.len(), 5);
        root.set(&mut heap, 0x4020_0000, PAGE, None).unwrap();
        root.set(&mut heap, 0x8000_1000, PAGE, None).unwrap();
        assert_eq!(heap.tables.len(), 1);
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
            }
        }
    }
}
