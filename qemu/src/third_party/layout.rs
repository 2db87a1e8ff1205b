//! Where partitions lie in secure RAM: at their own load addresses, the others at the first free place; each has the memory up to
//! whatever comes next, unless its manifest's `mem-size` says how much it wants.

use anyhow::{Result, bail};

use super::guest::Guest;

/// What partitions can have: the secure RAM behind TF-A and the SPMC.
const FIRST: u64 = 0x0e20_0000;
const END: u64 = 0x0f00_0000;
/// Alignment of places that are chosen here.
const ALIGNMENT: u64 = 0x1_0000;
/// What a partition without an address gets at the least: images count on some memory behind them.
const LEAST: u64 = 0x10_0000;
const PAGE: u64 = 4096;

/// A partition's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Load address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// Places for `guests`, in their order.
///
/// # Errors
/// When one does not fit; the message names its argument.
pub fn place(guests: &[Guest]) -> Result<Vec<Place>> {
    let mut addresses: Vec<Option<u64>> = guests.iter().map(|guest| guest.load_address).collect();
    for n in 0..guests.len() {
        let guest = &guests[n];
        if addresses[n].is_none() {
            let wanted = guest.extent.max(guest.mem_size.unwrap_or(LEAST));
            let taken = taken(guests, &addresses, n);
            let Some(free) = first_fit(&taken, wanted) else {
                bail!("{}: no {wanted:#x} bytes of secure RAM are free between {FIRST:#x} and {END:#x}", guest.argument);
            };
            addresses[n] = Some(free);
        }
    }
    let mut places = Vec::new();
    for (n, guest) in guests.iter().enumerate() {
        let address = addresses[n].unwrap_or(FIRST);
        if !(FIRST..END).contains(&address) {
            bail!(
                "{}: its load address {address:#x} is not in the secure RAM for partitions, {FIRST:#x} to {:#x}: link it elsewhere, or, if it is \
                 position-independent, put @0x0e300000, say, behind its manifest",
                guest.argument,
                END - 1
            );
        }
        let next = taken(guests, &addresses, n).iter().map(|(from, _)| *from).filter(|from| *from >= address).min().unwrap_or(END).min(END);
        let least = guest.extent.max(guest.mem_size.unwrap_or(0)).next_multiple_of(PAGE);
        if address + least > next {
            bail!("{}: it needs {least:#x} bytes from {address:#x} on, but at {next:#x} something else begins", guest.argument);
        }
        places.push(Place { address, size: if guest.mem_size.is_some() { least } else { next - address } });
    }
    Ok(places)
}

/// What others than guest `n` have: first byte and bytes.
fn taken(guests: &[Guest], addresses: &[Option<u64>], n: usize) -> Vec<(u64, u64)> {
    let others = || guests.iter().zip(addresses).enumerate().filter(|(other, _)| *other != n).map(|(_, both)| both);
    let placed = others().filter_map(|(guest, address)| Some(((*address)?, guest.extent.max(guest.mem_size.unwrap_or(LEAST)))));
    // What has no address here keeps clear of everybody's regions, its own too: they are chosen by whoever wrote the manifest.
    let own = addresses[n].is_none().then_some(&guests[n].regions);
    let regions = others().map(|(guest, _)| &guest.regions).chain(own).flatten().copied();
    placed.chain(regions).collect()
}

/// The lowest aligned address with `size` bytes that are nobody's.
fn first_fit(taken: &[(u64, u64)], size: u64) -> Option<u64> {
    let mut at = FIRST;
    while at.checked_add(size)? <= END {
        match taken.iter().filter(|(from, bytes)| *from < at + size && at < from.saturating_add(*bytes)).map(|(from, bytes)| from + bytes).max() {
            None => return Some(at),
            Some(behind) => at = behind.next_multiple_of(ALIGNMENT),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gap_that_is_large_enough_is_taken() {
        assert_eq!(first_fit(&[], 0x1000), Some(FIRST));
        assert_eq!(first_fit(&[(FIRST, 0x1000)], 0x1000), Some(FIRST + ALIGNMENT));
        assert_eq!(first_fit(&[(FIRST + 0x10_0000, 0x1000), (FIRST + 0x20_0000, 0x1000)], 0x10_0001), Some(FIRST + 0x21_0000));
        assert_eq!(first_fit(&[(FIRST, END - FIRST)], 1), None);
        assert_eq!(first_fit(&[], END - FIRST + 1), None);
    }
}
