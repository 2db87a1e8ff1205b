//! Chains of small records in one static array: what a transaction has a varying number of.
//!
//! Invariant: every record is in exactly one chain, in the free list, or was never used. An all-zero pool is an empty one, so
//! that it costs nothing in the image.

/// A list of records in a [`Pool`]. Its owner empties it with [`Pool::clear`] before it forgets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    first: Link,
    last: Link,
    len: u16,
}

impl Chain {
    /// No records.
    pub const EMPTY: Self = Self { first: Link::NONE, last: Link::NONE, len: 0 };

    /// Number of records.
    pub const fn len(&self) -> usize {
        self.len as usize
    }
}

/// The place of a record: its index plus one; zero for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link(u16);

impl Link {
    /// No record.
    pub const NONE: Self = Self(0);

    /// The record at `index`.
    pub const fn to(index: usize) -> Self {
        Self(index as u16 + 1)
    }

    /// The record's index.
    pub const fn index(self) -> Option<usize> {
        (self.0 as usize).checked_sub(1)
    }
}

/// No record is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// `N` records that chains share.
pub(crate) struct Pool<T, const N: usize> {
    nodes: [Node<T>; N],
    free: Link,
    /// Records from here on were never used.
    fresh: u16,
}

#[derive(Clone, Copy)]
struct Node<T> {
    value: T,
    next: Link,
}

impl<T: Copy, const N: usize> Pool<T, N> {
    /// All records free; `blank` is what an unused one holds.
    pub const fn new(blank: T) -> Self {
        assert!(N < u16::MAX as usize);
        Self { nodes: [Node { value: blank, next: Link::NONE }; N], free: Link::NONE, fresh: 0 }
    }

    /// Adds a record at the end of `chain`.
    pub fn push(&mut self, chain: &mut Chain, value: T) -> Result<(), Full> {
        let link = self.take_free()?;
        if let Some(node) = self.node_mut(link) {
            *node = Node { value, next: Link::NONE };
        }
        match self.node_mut(chain.last) {
            Some(last) => last.next = link,
            None => chain.first = link,
        }
        chain.last = link;
        chain.len += 1;
        Ok(())
    }

    fn take_free(&mut self) -> Result<Link, Full> {
        if let Some(node) = self.node_mut(self.free) {
            let next = node.next;
            return Ok(core::mem::replace(&mut self.free, next));
        }
        if usize::from(self.fresh) == N {
            return Err(Full);
        }
        self.fresh += 1;
        Ok(Link(self.fresh))
    }

    /// Frees all records of `chain`, in constant time.
    pub fn clear(&mut self, chain: &mut Chain) {
        let free = self.free;
        if let Some(last) = self.node_mut(chain.last) {
            last.next = free;
            self.free = chain.first;
        }
        *chain = Chain::EMPTY;
    }

    /// The records of `chain` in order, with their places.
    pub fn iter(&self, chain: Chain) -> Iter<'_, T, N> {
        Iter { pool: self, at: chain.first }
    }

    /// The same, from number `first` on.
    pub fn iter_from(&self, chain: Chain, first: usize) -> Iter<'_, T, N> {
        let mut records = self.iter(chain);
        for _ in 0..first {
            records.next();
        }
        records
    }

    /// The record at `link`.
    pub fn get_mut(&mut self, link: Link) -> Option<&mut T> {
        self.node_mut(link).map(|n| &mut n.value)
    }

    fn node(&self, link: Link) -> Option<&Node<T>> {
        self.nodes.get(link.index()?)
    }

    fn node_mut(&mut self, link: Link) -> Option<&mut Node<T>> {
        self.nodes.get_mut(link.index()?)
    }
}

/// Iterator over a chain.
pub(crate) struct Iter<'a, T, const N: usize> {
    pool: &'a Pool<T, N>,
    at: Link,
}

impl<T, const N: usize> Clone for Iter<'_, T, N> {
    fn clone(&self) -> Self {
        Self { pool: self.pool, at: self.at }
    }
}

impl<T: Copy, const N: usize> Iterator for Iter<'_, T, N> {
    type Item = (Link, T);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.pool.node(self.at)?;
        let link = core::mem::replace(&mut self.at, node.next);
        Some((link, node.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    #[test]
    fn a_full_pool_refuses_and_a_cleared_chain_makes_room() {
        let mut pool = Pool::<u8, 3>::new(0);
        let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
        pool.push(&mut a, 1).unwrap();
        pool.push(&mut a, 2).unwrap();
        pool.push(&mut b, 3).unwrap();
        assert_eq!(pool.push(&mut b, 4), Err(Full));
        pool.clear(&mut a);
        pool.push(&mut b, 4).unwrap();
        assert_eq!(pool.iter(b).map(|(_, v)| v).collect::<Vec<_>>(), [3, 4]);
    }

    proptest! {
        #[test]
        fn chains_agree_with_vectors(operations in proptest::collection::vec((0usize..4, any::<bool>(), any::<u16>()), 0..200)) {
            let mut pool = Pool::<u16, 16>::new(0);
            let mut chains = [Chain::EMPTY; 4];
            let mut model = vec![Vec::new(); 4];
            for (which, clear, value) in operations {
                if clear {
                    pool.clear(&mut chains[which]);
                    model[which].clear();
                } else {
                    let room = model.iter().map(Vec::len).sum::<usize>() < 16;
                    prop_assert_eq!(pool.push(&mut chains[which], value).is_ok(), room);
                    if room {
                        model[which].push(value);
                    }
                }
                for (chain, expected) in chains.iter().zip(&model) {
                    prop_assert_eq!(chain.len(), expected.len());
                    prop_assert_eq!(&pool.iter(*chain).map(|(_, v)| v).collect::<Vec<_>>(), expected);
                }
            }
        }
    }
}
