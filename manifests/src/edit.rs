//! Writes into a partition's manifest where the SPMC has put a memory region that had no address (`base-address` of its node),
//! so that the partition finds it in its boot information. The only change that anybody makes to a device tree here.

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
/// The property's name, as it stands in the strings block.
const NAME: &[u8] = b"base-address\0";
/// Bytes of the property in the structure block: token, length, name, eight bytes of value.
const SIZE: usize = 20;

/// Adds `base-address = <base>` (two cells) to region `index` of `memory-regions` in the device tree that `room` begins with; the
/// rest of `room` is what it may grow into. Returns its new size; `None` when there is no such region or no room.
#[must_use]
#[inline(never)]
pub fn add_base_address(room: &mut [u8], index: usize, base: u64) -> Option<usize> {
    let tree = Tree { bytes: room };
    let size = tree.word(4)? as usize;
    let structure = tree.word(8)? as usize;
    let strings = tree.word(12)? as usize;
    let string_bytes = tree.word(32)? as usize;
    let place = tree.region(structure, index)?;
    let strings_end = strings.checked_add(string_bytes)?;
    let known = tree.bytes.get(strings..strings_end)?.windows(NAME.len()).position(|name| name == NAME);
    let (name, added) = match known {
        Some(offset) => (offset, 0),
        None => (string_bytes, NAME.len()),
    };
    // dtc puts the strings last; in another order they could not grow without moving what follows.
    let new_size = strings_end.checked_add(SIZE + added)?;
    if place >= strings || new_size > room.len() || strings_end > size {
        return None;
    }
    room.copy_within(place..strings_end, place + SIZE);
    let value = base.to_be_bytes();
    for (at, byte) in [PROPERTY, 8, name as u32].into_iter().flat_map(u32::to_be_bytes).chain(value).enumerate() {
        *room.get_mut(place + at)? = byte;
    }
    if added != 0 {
        room.get_mut(strings_end + SIZE..new_size)?.copy_from_slice(NAME);
    }
    let structure_bytes = word(room, 36)? as usize;
    for (at, value) in [(4, new_size), (12, strings + SIZE), (32, string_bytes + added), (36, structure_bytes + SIZE)] {
        room.get_mut(at..at + 4)?.copy_from_slice(&(value as u32).to_be_bytes());
    }
    Some(new_size)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_be_bytes(*word))
}

struct Tree<'a> {
    bytes: &'a [u8],
}

impl Tree<'_> {
    fn word(&self, at: usize) -> Option<u32> {
        word(self.bytes, at)
    }

    /// Where the properties of region `index` start.
    fn region(&self, structure: usize, index: usize) -> Option<usize> {
        let (mut at, mut depth, mut regions, mut inside) = (structure, 0usize, 0, false);
        // Each round moves on by a token at the least.
        loop {
            let token = self.word(at)?;
            at += 4;
            match token {
                BEGIN_NODE => {
                    let name = self.bytes.get(at..)?;
                    let name = name.get(..name.iter().position(|byte| *byte == 0)?)?;
                    at = at.checked_add(name.len() + 1)?.next_multiple_of(4);
                    depth += 1;
                    if depth == 2 {
                        inside = name == "memory-regions".as_bytes();
                    } else if depth == 3 && inside {
                        if regions == index {
                            return Some(at);
                        }
                        regions += 1;
                    }
                }
                END_NODE => depth = depth.checked_sub(1)?,
                PROPERTY => at = at.checked_add(8)?.checked_add(self.word(at)? as usize)?.checked_next_multiple_of(4)?,
                NOP => {}
                _ => return None,
            }
        }
    }
}
