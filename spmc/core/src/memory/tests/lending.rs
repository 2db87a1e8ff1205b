//! What lenders may send, and what becomes of it when they fail or change their minds.

use super::bench::{Bench, Descriptor, NORMAL_WORLD, id, page, partition};
use crate::machine::Permissions;
use crate::memory::{MemoryType, Owner, PageState, PageTables};
use crate::tables::PAGE;
use bulkhead_ffa::{Status, Version, function};
use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

const SHARE: u32 = function::MEM_SHARE_32;
const LEND: u32 = function::MEM_LEND_32;
const DONATE: u32 = function::MEM_DONATE_32;

/// Two pages of the normal world.
fn two_pages() -> Vec<(u64, u32)> {
    vec![(page(NORMAL_WORLD, 2), 2)]
}

fn share_to_first() -> Descriptor {
    Descriptor::from(NORMAL_WORLD, &[id(0)], &two_pages())
}

/// A descriptor that differs from a right one in one way is refused with `status`, and nothing changes.
fn refused(function: u32, status: Status, change: impl FnOnce(&mut Descriptor)) {
    let mut bench = Bench::new();
    let before = bench.world().holdings().clone();
    let mut descriptor = share_to_first().by(function);
    if function == DONATE {
        descriptor = Descriptor::donation(NORMAL_WORLD, id(0), &two_pages());
    }
    change(&mut descriptor);
    assert_eq!(bench.send(NORMAL_WORLD, function, &descriptor), Err(status));
    assert_eq!(*bench.world().holdings(), before);
}

/// Right bytes with one change are refused with `status`.
fn refused_bytes(version: Version, status: Status, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bench = Bench::new();
    bench.speak(partition(0), version);
    let mut bytes = Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 2), 2)]).bytes(version);
    change(&mut bytes);
    assert_eq!(bench.send_in(partition(0), SHARE, &bytes, &[]), Err(status));
}

#[test]
fn sharing_keeps_the_lender_s_access_and_lending_and_donating_take_it() {
    let kinds = [(function::MEM_SHARE_64, PageState::Shared), (function::MEM_LEND_64, PageState::Lent), (function::MEM_DONATE_64, PageState::Lent)];
    for (function, state) in kinds {
        let mut bench = Bench::new();
        let ranges = [(page(partition(0), 2), 2)];
        let descriptor = match function {
            function::MEM_DONATE_64 => Descriptor::donation(partition(0), id(1), &ranges),
            _ => Descriptor::from(partition(0), &[id(1)], &ranges).by(function),
        };
        bench.send(partition(0), function, &descriptor).unwrap();
        for n in 0..4 {
            let expected = if n < 2 { PageState::Owned } else { state };
            assert_eq!(bench.state(partition(0), page(partition(0), n)), Some(expected));
        }
        bench.world().assert_flushed();
    }
}

#[test]
fn every_handle_is_new() {
    let mut bench = Bench::new();
    let handles: BTreeSet<_> = (0..300)
        .map(|_| {
            let handle = bench.send(NORMAL_WORLD, SHARE, &share_to_first()).unwrap();
            bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
            handle
        })
        .collect();
    assert_eq!(handles.len(), 300);
}

#[test]
fn all_header_layouts_are_understood() {
    for version in [Version::V1_0, Version::V1_1, Version::V1_2] {
        for access_size in [16, 32] {
            let mut bench = Bench::with_normal_world_at(version);
            let descriptor = Descriptor { access_size, ..Descriptor::from(NORMAL_WORLD, &[id(0), id(1), id(2)], &two_pages()) };
            bench.send(NORMAL_WORLD, SHARE, &descriptor).unwrap();
        }
    }
}

#[test]
fn the_sender_must_be_the_caller() {
    refused(SHARE, Status::Denied, |d| d.sender = id(1));
    let mut bench = Bench::new();
    let descriptor = Descriptor { sender: id(2), ..Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 2), 1)]) };
    assert_eq!(bench.send(partition(0), SHARE, &descriptor), Err(Status::Denied));
}

#[test]
fn receivers_must_exist_and_differ() {
    refused(SHARE, Status::InvalidParameters, |d| d.access.clear());
    refused(SHARE, Status::InvalidParameters, |d| d.access = vec![(0x8009, 2)]);
    refused(SHARE, Status::InvalidParameters, |d| d.access = vec![(0x8000, 2)]);
    refused(SHARE, Status::InvalidParameters, |d| d.access = vec![(0, 2)]);
    refused(SHARE, Status::InvalidParameters, |d| d.access = vec![(id(0), 2), (id(1), 2), (id(0), 1)]);
    refused(DONATE, Status::InvalidParameters, |d| d.access.push((id(1), 0)));
    refused(SHARE, Status::InvalidParameters, |d| d.access = (0..9).map(|n| (0x8001 + n, 2)).collect());
}

#[test]
fn a_partition_gives_nothing_to_itself_or_to_the_normal_world() {
    let mut bench = Bench::new();
    for (receiver, status) in [(id(0), Status::InvalidParameters), (0, Status::Denied), (7, Status::Denied)] {
        let descriptor = Descriptor::from(partition(0), &[receiver], &[(page(partition(0), 2), 1)]).by(LEND);
        assert_eq!(bench.send(partition(0), LEND, &descriptor), Err(status));
    }
}

#[test]
fn nothing_is_given_to_a_failed_partition() {
    let mut bench = Bench::new();
    bench.fail(0);
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &share_to_first()), Err(Status::Aborted));
}

#[test]
fn a_failed_partition_gives_nothing() {
    let mut bench = Bench::new();
    bench.fail(0);
    let descriptor = Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 2), 1)]);
    assert_eq!(bench.send(partition(0), SHARE, &descriptor), Err(Status::Aborted));
}

#[test]
fn a_sender_names_no_handle() {
    refused(SHARE, Status::InvalidParameters, |d| d.handle = 1);
}

#[test]
fn flags_are_checked() {
    for flags in [1 << 2, 1 << 5, 1 << 31, 2 << 3, 1] {
        refused(SHARE, Status::InvalidParameters, |d| d.flags = flags);
    }
    refused(LEND, Status::InvalidParameters, |d| (d.flags, d.access[0].1) = (1, 1));
    refused(LEND, Status::InvalidParameters, |d| d.flags = 1 << 3);
    refused(DONATE, Status::InvalidParameters, |d| d.flags = 2 << 3);
    let mut bench = Bench::new();
    // Time slicing, and the right kind.
    bench.send(NORMAL_WORLD, SHARE, &Descriptor { flags: 1 << 1 | 1 << 3, ..share_to_first() }).unwrap();
}

#[test]
fn shared_memory_has_a_type_and_all_memory_is_normal() {
    refused(SHARE, Status::InvalidParameters, |d| d.attributes = 0);
    refused(LEND, Status::InvalidParameters, |d| (d.attributes, d.access) = (0, vec![(id(0), 2), (id(1), 2)]));
    refused(SHARE, Status::InvalidParameters, |d| d.attributes |= 1 << 6);
    refused(SHARE, Status::InvalidParameters, |d| d.attributes |= 1 << 7);
    refused(SHARE, Status::InvalidParameters, |d| d.attributes = 3 << 4);
    refused(SHARE, Status::Denied, |d| d.attributes = 1 << 4);
    refused(SHARE, Status::Denied, |d| d.attributes = 0x27);
    for attributes in [1 << 2, 0x0f, 0x2f | 1 << 6, 0x2f | 1 << 8] {
        refused(SHARE, Status::InvalidParameters, |d| d.attributes = attributes);
    }
}

#[test]
fn one_borrower_of_lent_memory_and_a_new_owner_choose_the_type() {
    for function in [LEND, DONATE] {
        for attributes in [0x2f, 1 << 4, 3 << 4, 1 << 6, 1 << 7, 1 << 8] {
            refused(function, Status::InvalidParameters, |d| d.attributes = attributes);
        }
        // While the type is not specified, the rest means nothing.
        for attributes in [0, 0x0f, 0x0e] {
            let mut bench = Bench::new();
            let lent = match function {
                DONATE => Descriptor::donation(NORMAL_WORLD, id(0), &two_pages()),
                _ => share_to_first(),
            };
            bench.send(NORMAL_WORLD, function, &Descriptor { attributes, ..lent }).unwrap();
        }
    }
}

#[test]
fn permissions_must_fit_the_kind() {
    for permissions in [0, 3, 2 | 1 << 2, 2 | 2 << 2, 2 | 3 << 2, 2 | 1 << 4] {
        refused(SHARE, Status::InvalidParameters, |d| d.access[0].1 = permissions);
    }
    for permissions in [0, 3, 2 | 1 << 2, 2 | 2 << 2] {
        refused(LEND, Status::InvalidParameters, |d| d.access[0].1 = permissions);
    }
    for permissions in [1, 2, 1 << 2, 2 << 2] {
        refused(DONATE, Status::InvalidParameters, |d| d.access[0].1 = permissions);
    }
}

#[test]
fn write_access_to_memory_that_the_lender_may_only_read_is_denied() {
    let mut bench = Bench::new();
    let read_only = Permissions { read: true, write: false, execute: false };
    bench.world().change(Owner::NormalWorld, page(NORMAL_WORLD, 3), |h| h.permissions = read_only);
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &share_to_first()), Err(Status::Denied));
    assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, 2)), Some(PageState::Owned));
    bench.send(NORMAL_WORLD, SHARE, &Descriptor { access: vec![(id(0), 1)], ..share_to_first() }).unwrap();
}

#[test]
fn ranges_are_aligned_not_empty_and_within_the_address_space() {
    refused(SHARE, Status::InvalidParameters, |d| d.ranges[0].0 += 1);
    refused(SHARE, Status::InvalidParameters, |d| d.ranges = vec![(page(NORMAL_WORLD, 2), 1), (page(NORMAL_WORLD, 4), 0)]);
    refused(SHARE, Status::InvalidParameters, |d| d.ranges[0].0 = !0xfff);
    refused(SHARE, Status::Denied, |d| d.ranges[0].0 = 1 << 46);
    refused(SHARE, Status::Denied, |d| d.ranges[0].0 = 1 << 40);
}

#[test]
fn a_page_occurs_once() {
    refused(SHARE, Status::InvalidParameters, |d| d.ranges.push(d.ranges[0]));
    refused(LEND, Status::InvalidParameters, |d| d.ranges = vec![(page(NORMAL_WORLD, 4), 3), (page(NORMAL_WORLD, 2), 3)]);
}

#[test]
fn memory_of_others_is_denied() {
    refused(SHARE, Status::Denied, |d| d.ranges[0].0 = page(partition(0), 2));
    refused(SHARE, Status::Denied, |d| d.ranges.push((0x0900_0000, 1)));
}

#[test]
fn secure_and_non_secure_memory_do_not_mix() {
    let mut bench = Bench::new();
    let donated = bench.send(NORMAL_WORLD, DONATE, &Descriptor::donation(NORMAL_WORLD, id(0), &[(page(NORMAL_WORLD, 2), 1)])).unwrap();
    let request = Descriptor::donation(NORMAL_WORLD, id(0), &[]).request(donated);
    bench.retrieve(partition(0), &request).unwrap();
    let mixed = Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 2), 1), (page(NORMAL_WORLD, 2), 1)]);
    assert_eq!(bench.send(partition(0), SHARE, &mixed), Err(Status::Denied));
    assert_eq!(bench.state(partition(0), page(partition(0), 2)), Some(PageState::Owned));
}

#[test]
fn device_memory_is_denied() {
    let mut bench = Bench::new();
    bench.world().change(Owner::NormalWorld, page(NORMAL_WORLD, 2), |h| h.memory_type = MemoryType::Device);
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &share_to_first()), Err(Status::Denied));
}

#[test]
fn memory_that_is_lent_or_shared_is_denied_until_it_is_reclaimed() {
    for first in [SHARE, LEND] {
        let mut bench = Bench::new();
        let handle = bench.send(NORMAL_WORLD, first, &share_to_first().by(first)).unwrap();
        assert_eq!(bench.send(NORMAL_WORLD, SHARE, &share_to_first()), Err(Status::Denied));
        assert_eq!(bench.send(NORMAL_WORLD, DONATE, &Descriptor::donation(NORMAL_WORLD, id(0), &two_pages())), Err(Status::Denied));
        bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
        bench.send(NORMAL_WORLD, SHARE, &share_to_first()).unwrap();
    }
}

#[test]
fn rx_and_tx_buffers_are_denied() {
    for n in [0, 1] {
        refused(SHARE, Status::Denied, |d| d.ranges[0] = (page(NORMAL_WORLD, n), 1));
    }
    refused(SHARE, Status::Denied, |d| d.ranges[0] = (page(NORMAL_WORLD, 0), 4));
}

#[test]
fn lengths_must_agree() {
    let mut bench = Bench::new();
    let bytes = share_to_first().bytes(Version::V1_2);
    let len = bytes.len() as u64;
    let mut send = |total: u64, fragment: u64, rest: &[u64]| {
        bench.write_tx(NORMAL_WORLD, &bytes);
        bench.call(NORMAL_WORLD, &[&[u64::from(SHARE), total, fragment], rest].concat()).as_error()
    };
    let invalid = Some(Status::InvalidParameters);
    assert_eq!(send(len - 1, len, &[]), invalid, "fragment longer than the whole");
    assert_eq!(send(len + 16, len + 16, &[]), invalid, "longer than its parts");
    assert_eq!(send(len - 16, len - 16, &[]), invalid, "shorter than its parts");
    assert_eq!(send(20, 20, &[]), invalid, "shorter than its header");
    assert_eq!(send(0, 0, &[]), invalid);
    assert_eq!(send(len, PAGE + 16, &[]), invalid);
    assert_eq!(send(2 * PAGE, PAGE + 16, &[]), invalid, "longer than the TX buffer");
    assert_eq!(send(len, len, &[page(NORMAL_WORLD, 4)]), invalid, "a buffer of its own");
    assert_eq!(send(len, len, &[0, 1]), invalid, "pages of a buffer");
    assert_eq!(send(len, len, &[]), None);
}

#[test]
fn offsets_and_sizes_must_lie_inside() {
    let invalid = Status::InvalidParameters;
    let put = |at: usize, value: u32| move |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    for value in [0, 15, 24, 48, u32::MAX] {
        refused_bytes(Version::V1_2, invalid, put(24, value));
    }
    for value in [0, 32, 56, 0x1000, u32::MAX, u32::MAX - 15] {
        refused_bytes(Version::V1_1, invalid, put(32, value));
    }
    // The composite descriptor's offset in the first access descriptor.
    for value in [0, 48, 60, 68, 0xfff8, u32::MAX, u32::MAX - 7] {
        refused_bytes(Version::V1_1, invalid, put(48 + 4, value));
    }
    // All as it should be, but for four bytes more before the composite descriptor.
    refused_bytes(Version::V1_1, invalid, |bytes| {
        bytes[52..56].copy_from_slice(&68u32.to_le_bytes());
        bytes.splice(64..64, [0; 4]);
    });
    // Its page count and range count.
    for value in [0, 1, 3] {
        refused_bytes(Version::V1_1, invalid, put(64, value));
    }
    refused_bytes(Version::V1_1, Status::NoMemory, put(64, u32::MAX));
    for value in [0, 2, u32::MAX] {
        refused_bytes(Version::V1_1, invalid, put(68, value));
    }
}

#[test]
fn reserved_fields_must_be_zero() {
    // Header, access descriptor's flags and tail, composite descriptor, range.
    for at in [36, 47, 51, 56, 63, 72, 79, 92, 95] {
        refused_bytes(Version::V1_1, Status::InvalidParameters, |bytes| bytes[at] = 1);
    }
    for at in [3, 24, 27, 40, 60, 79] {
        refused_bytes(Version::V1_0, Status::InvalidParameters, |bytes| bytes[at] = 1);
    }
}

#[test]
fn a_descriptor_that_the_bus_refuses_is_an_abort() {
    let mut bench = Bench::new();
    bench.write_tx(NORMAL_WORLD, &share_to_first().bytes(Version::V1_2));
    bench.world().remove_memory(page(NORMAL_WORLD, 1), false);
    assert_eq!(bench.call(NORMAL_WORLD, &[u64::from(SHARE), 96, 96]).as_error(), Some(Status::Aborted));
}

#[test]
fn without_buffers_nothing_can_be_described() {
    let mut bench = Bench::new();
    assert_eq!(bench.call(NORMAL_WORLD, &[u64::from(function::RXTX_UNMAP)]).as_error(), None);
    let invalid = Some(Status::InvalidParameters);
    assert_eq!(bench.call(NORMAL_WORLD, &[u64::from(SHARE), 96, 96]).as_error(), invalid);
    assert_eq!(bench.call(NORMAL_WORLD, &[u64::from(function::MEM_FRAG_TX), 0x100, 0, 16]).as_error(), invalid);
}

/// Single pages of the normal world with a gap after each; there is memory for them.
fn scattered(bench: &Bench, count: u64) -> Vec<(u64, u32)> {
    let all = Permissions { read: true, write: true, execute: false };
    bench.world().give(Owner::NormalWorld, 0x5000_0000, 2 * count, all, false);
    (0..count).map(|n| (0x5000_0000 + 2 * n * PAGE, 1)).collect()
}

#[test]
fn a_descriptor_may_come_in_fragments() {
    for pieces in [&[][..], &[80], &[96], &[112, 16, 160], &[80, 16, 16, 16]] {
        let mut bench = Bench::new();
        let ranges = scattered(&bench, 20);
        let bytes = Descriptor::from(NORMAL_WORLD, &[id(0)], &ranges).bytes(Version::V1_2);
        let handle = bench.send_in(NORMAL_WORLD, SHARE, &bytes, pieces).unwrap();
        assert!(ranges.iter().all(|r| bench.state(NORMAL_WORLD, r.0) == Some(PageState::Shared)));
        bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
    }
}

#[test]
fn memory_stays_the_lender_s_until_the_last_fragment() {
    let mut bench = Bench::new();
    let bytes = share_to_first().by(LEND).bytes(Version::V1_2);
    bench.write_tx(NORMAL_WORLD, &bytes[..80]);
    let reply = bench.call(NORMAL_WORLD, &[u64::from(LEND), bytes.len() as u64, 80]);
    assert_eq!((reply.function(), reply.w(3), reply.w(4)), (function::MEM_FRAG_RX, 80, 0));
    assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, 2)), Some(PageState::Owned));
    let handle = reply.0[1] | reply.0[2] << 32;
    let request = share_to_first().request(handle);
    assert_eq!(bench.retrieve(partition(0), &request), Err(Status::InvalidParameters));
    bench.write_tx(NORMAL_WORLD, &bytes[80..]);
    assert_eq!(bench.call(NORMAL_WORLD, &[u64::from(function::MEM_FRAG_TX), reply.0[1], reply.0[2], 16]).0[2], reply.0[1]);
    assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, 2)), Some(PageState::Lent));
}

#[test]
fn a_wrong_fragment_ends_its_transaction() {
    let frag = u64::from(function::MEM_FRAG_TX);
    // Not a whole range, more than promised, nothing of use.
    for (length, reserved) in [(8, 0), (48, 0), (0x2000, 0), (16, 1)] {
        let mut bench = Bench::new();
        let bytes = Descriptor::from(NORMAL_WORLD, &[id(0)], &[(page(NORMAL_WORLD, 2), 1), (page(NORMAL_WORLD, 4), 1)]).bytes(Version::V1_2);
        bench.write_tx(NORMAL_WORLD, &bytes[..80]);
        let reply = bench.call(NORMAL_WORLD, &[u64::from(SHARE), bytes.len() as u64, 80]);
        let mut next = bytes[80..].to_vec();
        next[12] = reserved;
        bench.write_tx(NORMAL_WORLD, &next);
        let invalid = Some(Status::InvalidParameters);
        assert_eq!(bench.call(NORMAL_WORLD, &[frag, reply.0[1], reply.0[2], length]).as_error(), invalid);
        next[12] = 0;
        bench.write_tx(NORMAL_WORLD, &next);
        let ended = length <= PAGE;
        assert_eq!(bench.call(NORMAL_WORLD, &[frag, reply.0[1], reply.0[2], 32]).as_error().is_some(), ended);
    }
}

#[test]
fn fragments_are_taken_from_their_sender_only() {
    let mut bench = Bench::new();
    let bytes = share_to_first().bytes(Version::V1_2);
    bench.write_tx(NORMAL_WORLD, &bytes[..80]);
    let reply = bench.call(NORMAL_WORLD, &[u64::from(SHARE), bytes.len() as u64, 80]);
    bench.write_tx(partition(0), &bytes[80..]);
    bench.write_tx(NORMAL_WORLD, &bytes[80..]);
    let (frag, low, high) = (u64::from(function::MEM_FRAG_TX), reply.0[1], reply.0[2]);
    let invalid = Some(Status::InvalidParameters);
    assert_eq!(bench.call(partition(0), &[frag, low, high, 16]).as_error(), invalid);
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low, high, 16, 5 << 16]).as_error(), invalid, "another virtual machine");
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low, high, 16, 1]).as_error(), invalid, "reserved bits");
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low + 0x100, high, 16]).as_error(), invalid, "no such handle");
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low, high, 0]).as_error(), invalid, "no bytes");
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low, high, 16]).as_error(), None);
    assert_eq!(bench.call(NORMAL_WORLD, &[frag, low, high, 16]).as_error(), invalid, "complete");
}

#[test]
fn a_virtual_machine_s_fragments_carry_its_id() {
    let mut bench = Bench::new();
    let bytes = Descriptor { sender: 5, ..share_to_first() }.bytes(Version::V1_2);
    bench.write_tx(NORMAL_WORLD, &bytes[..80]);
    let reply = bench.call(NORMAL_WORLD, &[u64::from(SHARE), bytes.len() as u64, 80]);
    assert_eq!(reply.w(4), 5 << 16);
    bench.write_tx(NORMAL_WORLD, &bytes[80..]);
    let done = bench.call(NORMAL_WORLD, &[u64::from(function::MEM_FRAG_TX), reply.0[1], reply.0[2], 16, reply.0[4]]);
    assert_eq!(done.function(), function::SUCCESS_32);
}

#[test]
fn reclaiming_an_unfinished_transaction_gives_it_up() {
    let mut bench = Bench::new();
    let bytes = share_to_first().bytes(Version::V1_2);
    bench.write_tx(NORMAL_WORLD, &bytes[..80]);
    let reply = bench.call(NORMAL_WORLD, &[u64::from(SHARE), bytes.len() as u64, 80]);
    let handle = reply.0[1] | reply.0[2] << 32;
    bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
    bench.write_tx(NORMAL_WORLD, &bytes[80..]);
    let late = bench.call(NORMAL_WORLD, &[u64::from(function::MEM_FRAG_TX), reply.0[1], reply.0[2], 16]);
    assert_eq!(late.as_error(), Some(Status::InvalidParameters));
}

#[test]
fn a_transaction_that_needs_more_than_there_is_leaves_nothing_behind() {
    for function in [SHARE, LEND] {
        let ranges = [(page(NORMAL_WORLD, 2), 3), (page(NORMAL_WORLD, 8), 2), (page(NORMAL_WORLD, 6), 1)];
        let mut bench = Bench::new();
        let before = bench.world().holdings().clone();
        for changes in 0..3 {
            bench.world().changes_left = Some(changes);
            assert_eq!(bench.send(NORMAL_WORLD, function, &Descriptor::from(NORMAL_WORLD, &[id(0)], &ranges).by(function)), Err(Status::NoMemory));
            assert_eq!(*bench.world().holdings(), before);
        }
        bench.world().changes_left = Some(3);
        bench.send(NORMAL_WORLD, function, &Descriptor::from(NORMAL_WORLD, &[id(0)], &ranges).by(function)).unwrap();
    }
}

#[test]
fn zeroes_replace_what_the_lender_wrote() {
    let mut bench = Bench::new();
    for n in 2..5 {
        bench.fill(page(NORMAL_WORLD, n), false, 0xa5);
    }
    bench.send(NORMAL_WORLD, LEND, &Descriptor { flags: 1, ..share_to_first().by(LEND) }).unwrap();
    assert!(bench.holds(page(NORMAL_WORLD, 2), false, 0) && bench.holds(page(NORMAL_WORLD, 3), false, 0));
    assert!(bench.holds(page(NORMAL_WORLD, 4), false, 0xa5));
}

#[test]
fn memory_that_cannot_be_zeroed_stays_the_lender_s() {
    let mut bench = Bench::new();
    bench.world().remove_memory(page(NORMAL_WORLD, 3), false);
    assert_eq!(bench.send(NORMAL_WORLD, LEND, &Descriptor { flags: 1, ..share_to_first().by(LEND) }), Err(Status::Aborted));
    assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, 2)), Some(PageState::Owned));
}

#[test]
fn a_greedy_lender_starves_only_itself() {
    let mut bench = Bench::new();
    let one = |n| Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), n), 1)]);
    let all = Permissions { read: true, write: true, execute: true };
    bench.world().give(Owner::Partition(0), page(partition(0), 0), 40, all, true);
    let handles: Vec<_> = (2..34).map(|n| bench.send(partition(0), SHARE, &one(n)).unwrap()).collect();
    assert_eq!(bench.send(partition(0), SHARE, &one(34)), Err(Status::NoMemory));
    bench.send(partition(1), SHARE, &Descriptor::from(partition(1), &[id(0)], &[(page(partition(1), 2), 1)])).unwrap();
    bench.send(NORMAL_WORLD, SHARE, &share_to_first()).unwrap();
    bench.reclaim(partition(0), handles[7], 0).unwrap();
    bench.send(partition(0), SHARE, &one(34)).unwrap();
}

#[test]
fn a_thousand_and_twenty_four_transactions_live_at_a_time() {
    let mut bench = Bench::new();
    let ranges = scattered(&bench, 1025);
    let of = |n: usize| Descriptor { tag: n as u64, ..Descriptor::from(NORMAL_WORLD, &[id(n as u8 % 3)], &ranges[n..=n]) };
    let mut handles: Vec<_> = (0..1024).map(|n| bench.send(NORMAL_WORLD, SHARE, &of(n)).unwrap()).collect();
    assert_eq!(handles.iter().collect::<BTreeSet<_>>().len(), 1024);
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &of(1024)), Err(Status::NoMemory));
    // The normal world starves only itself.
    bench.send(partition(0), SHARE, &Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 2), 1)])).unwrap();
    for (n, handle) in handles.iter().enumerate() {
        bench.retrieve(partition(n as u8 % 3), &of(n).request(*handle)).unwrap();
    }
    // Any of them may end, and its place serves the next.
    for n in [1023, 0, 512] {
        bench.relinquish(partition(n as u8 % 3), handles[n], 0).unwrap();
        bench.reclaim(NORMAL_WORLD, handles[n], 0).unwrap();
        let again = bench.send(NORMAL_WORLD, SHARE, &of(1024)).unwrap();
        assert!(!handles.contains(&again));
        bench.reclaim(NORMAL_WORLD, again, 0).unwrap();
        handles[n] = bench.send(NORMAL_WORLD, SHARE, &of(n)).unwrap();
        bench.retrieve(partition(n as u8 % 3), &of(n).request(handles[n])).unwrap();
    }
    for (n, handle) in handles.iter().enumerate() {
        bench.relinquish(partition(n as u8 % 3), *handle, 0).unwrap();
        bench.reclaim(NORMAL_WORLD, *handle, 0).unwrap();
    }
    assert!(ranges.iter().all(|r| bench.state(NORMAL_WORLD, r.0) == Some(PageState::Owned)));
}

#[test]
fn ranges_and_borrowers_are_limited_for_each_lender() {
    let mut bench = Bench::new();
    let ranges = scattered(&bench, 5121);
    let of = |ranges: &[(u64, u32)]| Descriptor::from(NORMAL_WORLD, &[id(0)], ranges);
    let handle = bench.send(NORMAL_WORLD, SHARE, &of(&ranges[..4096])).unwrap();
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &of(&ranges[4096..])), Err(Status::NoMemory));
    bench.send(NORMAL_WORLD, SHARE, &of(&ranges[4096..5120])).unwrap();
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &of(&ranges[5120..])), Err(Status::NoMemory));
    bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
    let all = |n: usize| Descriptor::from(NORMAL_WORLD, &[id(0), id(1), id(2)], &ranges[n..=n]);
    // One borrower has the 1,024 ranges; 1,151 are left.
    for n in 0..383 {
        bench.send(NORMAL_WORLD, SHARE, &all(n)).unwrap();
    }
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &all(383)), Err(Status::NoMemory), "1,152 borrowers");
}

#[test]
fn borrowers_words_count_as_ranges_do() {
    let mut bench = Bench::new();
    let all = Permissions { read: true, write: true, execute: true };
    bench.world().give(Owner::Partition(0), page(partition(0), 0), 40, all, true);
    let one = |n| {
        let plain = Descriptor::from(partition(0), &[id(1), id(2)], &[(page(partition(0), n), 1)]);
        Descriptor { access_size: 32, implementation_defined: n as u8, ..plain }
    };
    // Seven cells each, of 96.
    let handles: Vec<_> = (2..15).map(|n| bench.send(partition(0), SHARE, &one(n)).unwrap()).collect();
    assert_eq!(bench.send(partition(0), SHARE, &one(15)), Err(Status::NoMemory));
    for (n, handle) in (2..15).zip(handles) {
        assert_eq!(bench.retrieve(partition(2), &one(n + 1).request(handle)), Err(Status::InvalidParameters), "other words");
        let answer = bench.retrieve(partition(2), &one(n).request(handle)).unwrap();
        assert_eq!(answer[48 + 8..48 + 24], [n as u8; 16]);
        bench.relinquish(partition(2), handle, 0).unwrap();
        bench.reclaim(partition(0), handle, 0).unwrap();
    }
    bench.send(partition(0), SHARE, &one(15)).unwrap();
}

#[test]
fn one_transaction_is_limited() {
    let mut bench = Bench::new();
    let huge = Descriptor::from(NORMAL_WORLD, &[id(0)], &[(0x8000_0000, 0x4001)]);
    assert_eq!(bench.send(NORMAL_WORLD, SHARE, &huge), Err(Status::NoMemory));
}

#[test]
fn unfinished_transactions_make_room() {
    let mut bench = Bench::new();
    let bytes = share_to_first().bytes(Version::V1_2);
    for _ in 0..1000 {
        bench.write_tx(NORMAL_WORLD, &bytes[..80]);
        let reply = bench.call(NORMAL_WORLD, &[u64::from(SHARE), bytes.len() as u64, 80]);
        assert_eq!(reply.function(), function::MEM_FRAG_RX);
    }
    bench.send(NORMAL_WORLD, SHARE, &share_to_first()).unwrap();
}

#[test]
fn only_the_lender_reclaims_and_only_once() {
    let mut bench = Bench::new();
    let handle = bench.send(NORMAL_WORLD, LEND, &share_to_first().by(LEND)).unwrap();
    assert_eq!(bench.reclaim(partition(0), handle, 0), Err(Status::InvalidParameters));
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle + 1, 0), Err(Status::InvalidParameters));
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle | 1 << 63, 0), Err(Status::InvalidParameters));
    assert_eq!(bench.reclaim(NORMAL_WORLD, 0, 0), Err(Status::InvalidParameters));
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle, 4), Err(Status::InvalidParameters));
    bench.reclaim(NORMAL_WORLD, handle, 2).unwrap();
    assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, 2)), Some(PageState::Owned));
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle, 0), Err(Status::InvalidParameters));
}

#[test]
fn reclaim_zeroes_on_request() {
    let mut bench = Bench::new();
    bench.fill(page(NORMAL_WORLD, 3), false, 0xa5);
    let handle = bench.send(NORMAL_WORLD, LEND, &share_to_first().by(LEND)).unwrap();
    bench.reclaim(NORMAL_WORLD, handle, 1).unwrap();
    assert!(bench.holds(page(NORMAL_WORLD, 3), false, 0));
}

#[test]
fn reclaim_restores_each_page_s_permissions() {
    let mut bench = Bench::new();
    let read_only = Permissions { read: true, write: false, execute: false };
    bench.world().change(Owner::NormalWorld, page(NORMAL_WORLD, 3), |h| h.permissions = read_only);
    let before = bench.world().holdings().clone();
    let descriptor = Descriptor { access: vec![(id(0), 1)], ranges: vec![(page(NORMAL_WORLD, 2), 3)], ..share_to_first().by(LEND) };
    let handle = bench.send(NORMAL_WORLD, LEND, &descriptor).unwrap();
    bench.retrieve(partition(0), &descriptor.request(handle)).unwrap();
    bench.relinquish(partition(0), handle, 0).unwrap();
    bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
    assert_eq!(*bench.world().holdings(), before);
    assert_eq!(bench.machine.holding(Owner::NormalWorld, page(NORMAL_WORLD, 3)).unwrap().permissions, read_only);
}
