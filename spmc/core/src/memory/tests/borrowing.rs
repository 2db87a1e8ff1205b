//! What borrowers may do with memory that was sent to them: retrieve, relinquish, and the descriptions that they get.

use super::bench::{Answer, Bench, Descriptor, NORMAL_WORLD, id, page, partition};
use crate::calls::From;
use crate::machine::Permissions;
use crate::memory::{Owner, PageState, PageTables};
use crate::tables::PAGE;
use bulkhead_ffa::{Status, Version, function};
use std::vec;
use std::vec::Vec;

const SHARE: u32 = function::MEM_SHARE_64;
const LEND: u32 = function::MEM_LEND_64;
const DONATE: u32 = function::MEM_DONATE_64;
const READ: Permissions = Permissions { read: true, write: false, execute: false };
const WRITE: Permissions = Permissions { read: true, write: true, execute: false };

fn pages_of(lender: From) -> [(u64, u32); 2] {
    [(page(lender, 2), 2), (page(lender, 6), 1)]
}

/// A bench in which `lender` has sent `pages_of` it to `receivers`, and what was sent.
fn sent(lender: From, function: u32, receivers: &[u16]) -> (Bench, Descriptor) {
    sent_as(lender, function, receivers, |_| ())
}

/// The same with a change to what is sent.
fn sent_as(lender: From, function: u32, receivers: &[u16], change: impl FnOnce(&mut Descriptor)) -> (Bench, Descriptor) {
    let mut bench = Bench::new();
    let mut descriptor = Descriptor::from(lender, receivers, &pages_of(lender)).by(function);
    if function == DONATE {
        descriptor = Descriptor::donation(lender, receivers[0], &pages_of(lender));
    }
    change(&mut descriptor);
    let handle = bench.send(lender, function, &descriptor).unwrap();
    (bench, descriptor.request(handle))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn holding_of(bench: &Bench, borrower: u8, page: u64) -> Option<(PageState, Permissions)> {
    bench.machine.clone().holding(Owner::Partition(borrower), page).map(|h| (h.state, h.permissions))
}

/// A request that differs from a right one in one way is refused, and gives no access; the right one still works.
fn refused(function: u32, status: Status, change: impl FnOnce(&mut Descriptor)) {
    let (mut bench, request) = sent(partition(0), function, &[id(1)]);
    let mut wrong = request.clone();
    change(&mut wrong);
    let before = bench.world().holdings().clone();
    assert_eq!(bench.retrieve(partition(1), &wrong), Err(status));
    assert_eq!(*bench.world().holdings(), before);
    bench.retrieve(partition(1), &request).unwrap();
}

#[test]
fn what_optee_sends_is_accepted() {
    // Share with tag 0 by Linux; the retrieve request names kind and attributes, and one 16-byte access descriptor.
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    let request = Descriptor { flags: 1 << 3, access_size: 16, ..request };
    let answer = bench.retrieve(partition(0), &request).unwrap();
    let composite = word(&answer, word(&answer, 32) as usize + 4) as usize;
    assert_eq!((word(&answer, composite), word(&answer, composite + 4)), (3, 2));
    bench.relinquish(partition(0), request.handle, 0).unwrap();
    bench.reclaim(NORMAL_WORLD, request.handle, 0).unwrap();
}

#[test]
fn retrieved_memory_is_the_borrower_s_until_it_is_relinquished() {
    for lender in [NORMAL_WORLD, partition(1)] {
        let (mut bench, request) = sent(lender, LEND, &[id(0)]);
        assert_eq!(holding_of(&bench, 0, page(lender, 2)), None);
        bench.retrieve(partition(0), &request).unwrap();
        for n in [2, 3, 6] {
            assert_eq!(holding_of(&bench, 0, page(lender, n)), Some((PageState::Borrowed, WRITE)));
            assert_eq!(bench.machine.holding(Owner::Partition(0), page(lender, n)).unwrap().secure, lender != NORMAL_WORLD);
        }
        assert_eq!(holding_of(&bench, 0, page(lender, 4)), None);
        bench.relinquish(partition(0), request.handle, 0).unwrap();
        assert_eq!(holding_of(&bench, 0, page(lender, 2)), None);
        bench.world().assert_flushed();
        bench.reclaim(lender, request.handle, 0).unwrap();
        assert_eq!(bench.state(lender, page(lender, 2)), Some(PageState::Owned));
    }
}

#[test]
fn donated_memory_has_a_new_owner() {
    let (mut bench, request) = sent(partition(0), DONATE, &[id(1)]);
    bench.retrieve(partition(1), &request).unwrap();
    assert_eq!(holding_of(&bench, 0, page(partition(0), 2)), None);
    assert_eq!(holding_of(&bench, 1, page(partition(0), 2)), Some((PageState::Owned, WRITE)));
    assert_eq!(bench.reclaim(partition(0), request.handle, 0), Err(Status::Denied));
    assert_eq!(bench.relinquish(partition(1), request.handle, 0), Err(Status::Denied));
    assert_eq!(bench.retrieve(partition(1), &request), Err(Status::Denied));
    // The new owner gives it on.
    let on = Descriptor::from(partition(1), &[id(2)], &pages_of(partition(0))).by(LEND);
    let handle = bench.send(partition(1), LEND, &on).unwrap();
    bench.retrieve(partition(2), &on.request(handle)).unwrap();
    bench.world().assert_flushed();
}

#[test]
fn a_lender_s_old_donations_make_room() {
    let mut bench = Bench::new();
    let all = Permissions { read: true, write: true, execute: true };
    bench.world().give(Owner::Partition(0), page(partition(0), 16), 40, all, true);
    for n in 2..40 {
        let donation = Descriptor::donation(partition(0), id(1), &[(page(partition(0), n), 1)]);
        let handle = bench.send(partition(0), DONATE, &donation).unwrap();
        bench.retrieve(partition(1), &donation.request(handle)).unwrap();
    }
}

#[test]
fn memory_is_retrieved_once() {
    for function in [SHARE, LEND] {
        let (mut bench, request) = sent(NORMAL_WORLD, function, &[id(0)]);
        bench.retrieve(partition(0), &request).unwrap();
        assert_eq!(bench.retrieve(partition(0), &request), Err(Status::Denied));
        bench.relinquish(partition(0), request.handle, 0).unwrap();
        bench.retrieve(partition(0), &request).unwrap();
    }
}

#[test]
fn only_borrowers_retrieve() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    assert_eq!(bench.retrieve(partition(1), &request), Err(Status::Denied));
    assert_eq!(bench.retrieve(NORMAL_WORLD, &request), Err(Status::Denied));
    let as_other = Descriptor { access: vec![(id(1), 2)], ..request };
    assert_eq!(bench.retrieve(partition(1), &as_other), Err(Status::Denied));
}

#[test]
fn a_request_must_match_what_was_sent() {
    refused(SHARE, Status::InvalidParameters, |d| d.handle += 0x100);
    refused(SHARE, Status::InvalidParameters, |d| d.handle = 0);
    refused(SHARE, Status::Denied, |d| d.sender = id(2));
    refused(SHARE, Status::InvalidParameters, |d| d.tag = 1);
    refused(SHARE, Status::InvalidParameters, |d| d.flags = 2 << 3);
    refused(LEND, Status::InvalidParameters, |d| d.flags = 3 << 3);
    refused(DONATE, Status::InvalidParameters, |d| d.flags = 1 << 3);
    refused(SHARE, Status::InvalidParameters, |d| d.access.clear());
    refused(SHARE, Status::InvalidParameters, |d| d.access.push((id(2), 2)));
    refused(SHARE, Status::InvalidParameters, |d| d.access[0].0 = id(2));
}

#[test]
fn reserved_request_flags_are_refused() {
    for flags in [1 << 11, 1 << 31, 1 << 5, 1 << 8] {
        refused(LEND, Status::InvalidParameters, |d| d.flags = flags);
    }
}

#[test]
fn the_borrower_chooses_no_place() {
    refused(SHARE, Status::InvalidParameters, |d| d.ranges = vec![(0x7000_0000, 3)]);
}

#[test]
fn alignment_hints_are_heeded() {
    // Page 2 is aligned to two pages, not to four.
    refused(SHARE, Status::Denied, |d| d.flags = 1 << 9 | 2 << 5);
    refused(SHARE, Status::Denied, |d| d.flags = 1 << 9 | 15 << 5);
    for hint in [0, 1] {
        let (mut bench, request) = sent(partition(0), SHARE, &[id(1)]);
        bench.retrieve(partition(1), &Descriptor { flags: 1 << 9 | hint << 5, ..request }).unwrap();
    }
}

#[test]
fn attributes_may_be_left_open_and_nothing_else_than_normal_memory() {
    refused(SHARE, Status::Denied, |d| d.attributes = 1 << 4);
    refused(SHARE, Status::Denied, |d| d.attributes = 0x27);
    refused(SHARE, Status::InvalidParameters, |d| d.attributes = 0x2f | 1 << 6);
    refused(SHARE, Status::InvalidParameters, |d| d.attributes = 0x30);
    refused(SHARE, Status::InvalidParameters, |d| (d.attributes, d.access[0].1) = (0x27, 2 | 1 << 2));
    let (mut bench, request) = sent(partition(0), LEND, &[id(1)]);
    bench.retrieve(partition(1), &Descriptor { attributes: 0, ..request }).unwrap();
}

/// What DEN0140 v1.2 section 1.9 has of a borrower's request for `wanted`, of memory that the lender gave as `given`.
fn permitted(function: u32, several: bool, given: u8, wanted: u8, version: Version, secure: bool) -> Answer<Permissions> {
    let (data, instruction) = (wanted & 3, wanted >> 2);
    let limit = if function == DONATE { 2 } else { given };
    let write = match data {
        0 => limit == 2,
        3 => return Err(Status::InvalidParameters),
        data if data > limit => return Err(Status::Denied),
        data => data == 2,
    };
    let alone = function != SHARE && !several;
    let execute = match instruction {
        0 if alone && version > Version::V1_0 => return Err(Status::InvalidParameters),
        0 => false,
        1 | 2 if !alone => return Err(Status::InvalidParameters),
        1 => false,
        2 if secure => true,
        2 => return Err(Status::Denied),
        _ => return Err(Status::InvalidParameters),
    };
    Ok(Permissions { read: true, write, execute })
}

#[test]
fn every_request_for_access_is_answered_as_the_table_has_it() {
    let mut tried = 0;
    for (function, several) in [(SHARE, false), (SHARE, true), (LEND, false), (LEND, true), (DONATE, false)] {
        for given in if function == DONATE { 0..=0 } else { 1..=2 } {
            for (lender, version) in [(partition(0), Version::V1_0), (partition(0), Version::V1_1), (NORMAL_WORLD, Version::V1_2)] {
                let mut bench = Bench::new();
                bench.speak(partition(1), version);
                let receivers = if several { vec![id(1), id(2)] } else { vec![id(1)] };
                let mut sent = Descriptor::from(lender, &receivers, &pages_of(lender)).by(function);
                if function == DONATE {
                    sent = Descriptor::donation(lender, id(1), &pages_of(lender));
                }
                sent.access.iter_mut().for_each(|a| a.1 = given);
                for wanted in 0..16 {
                    let handle = bench.send(lender, function, &sent).unwrap();
                    let request = Descriptor { access: vec![(id(1), wanted)], flags: 1 << 10, ..sent.request(handle) };
                    let answer = bench.retrieve(partition(1), &request);
                    // A part of the composite's permissions that is reserved makes the whole request malformed.
                    let malformed = wanted & 3 == 3 || wanted >> 2 == 3;
                    let expected = permitted(function, several, given, wanted, version, lender != NORMAL_WORLD);
                    let expected = if malformed { Err(Status::InvalidParameters) } else { expected };
                    let case = std::format!("{function:#x}, several {several}, given {given}, wanted {wanted:#06b}, {version}");
                    let at = if version == Version::V1_0 { 32 } else { 48 };
                    let told = answer.as_ref().ok().map(|bytes| bytes[at + 2]);
                    let holds = answer.map(|_| holding_of(&bench, 1, page(lender, 2)).unwrap().1);
                    assert_eq!(holds, expected, "{case}");
                    let code = |p: Permissions| if p.write { 2 } else { 1 } | if p.execute { 2 << 2 } else { 1 << 2 };
                    assert_eq!(told, expected.ok().map(code), "{case}");
                    tried += 1;
                    if expected.is_ok() && function == DONATE {
                        bench = Bench::new();
                        bench.speak(partition(1), version);
                    } else if expected.is_ok() {
                        bench.relinquish(partition(1), handle, 0).unwrap();
                    }
                    if !(expected.is_ok() && function == DONATE) {
                        bench.reclaim(lender, handle, 0).unwrap();
                    }
                }
            }
        }
    }
    assert_eq!(tried, 9 * 3 * 16);
}

#[test]
fn nobody_executes_normal_world_memory() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0)]);
    assert_eq!(bench.retrieve(partition(0), &Descriptor { access: vec![(id(0), 2 | 2 << 2)], ..request }), Err(Status::Denied));
}

#[test]
fn a_new_owner_gets_no_more_than_the_old_one_had() {
    for (wanted, expected) in [(1 << 2, Ok(READ)), (1 | 1 << 2, Ok(READ)), (2 | 1 << 2, Err(Status::Denied)), (1 | 2 << 2, Err(Status::Denied))] {
        let mut bench = Bench::new();
        bench.world().change(Owner::Partition(0), page(partition(0), 2), |h| h.permissions = READ);
        let donation = Descriptor::donation(partition(0), id(1), &[(page(partition(0), 2), 1)]);
        let handle = bench.send(partition(0), DONATE, &donation).unwrap();
        let request = Descriptor { access: vec![(id(1), wanted)], ..donation.request(handle) };
        let result = bench.retrieve(partition(1), &request).map(|_| holding_of(&bench, 1, page(partition(0), 2)).unwrap().1);
        assert_eq!(result, expected);
    }
}

#[test]
fn several_borrowers_name_each_other_or_ask_not_to() {
    let both = [id(0), id(1)];
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &both);
    let alone = Descriptor { access: vec![(id(0), 2)], ..request.clone() };
    assert_eq!(bench.retrieve(partition(0), &alone), Err(Status::InvalidParameters));
    let other_only = Descriptor { access: vec![(id(1), 2)], flags: 1 << 10, ..request.clone() };
    assert_eq!(bench.retrieve(partition(0), &other_only), Err(Status::InvalidParameters));
    for execution in [1, 2] {
        let greedy = Descriptor { access: vec![(id(0), 2), (id(1), 2 | execution << 2)], ..request.clone() };
        assert_eq!(bench.retrieve(partition(0), &greedy), Err(Status::InvalidParameters), "who executes is not theirs to say");
    }
    let twice = Descriptor { access: vec![(id(0), 2), (id(0), 2)], ..request.clone() };
    assert_eq!(bench.retrieve(partition(0), &twice), Err(Status::InvalidParameters));
    let answer = bench.retrieve(partition(0), &Descriptor { flags: 1 << 10, ..alone }).unwrap();
    assert_eq!(word(&answer, 28), 1);
    let answer = bench.retrieve(partition(1), &request).unwrap();
    assert_eq!((word(&answer, 28), answer[48], answer[50]), (1, 2, 2 | 1 << 2), "only its own access descriptor");
    for n in 0..2 {
        assert_eq!(holding_of(&bench, n, page(NORMAL_WORLD, 2)), Some((PageState::Borrowed, WRITE)));
    }
}

#[test]
fn a_borrower_may_say_that_it_does_not_retrieve_for_another() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0), id(1)]);
    let with = |at: usize, flags: u8| {
        let mut bytes = request.bytes(Version::V1_2);
        bytes[48 + at * 16 + 3] = flags;
        bytes
    };
    assert_eq!(bench.retrieve_raw(partition(0), &with(0, 1)), Err(Status::InvalidParameters), "not for itself");
    assert_eq!(bench.retrieve_raw(partition(0), &with(1, 2)), Err(Status::InvalidParameters), "a reserved flag");
    bench.retrieve_raw(partition(0), &with(1, 1)).unwrap();
    assert_eq!(holding_of(&bench, 1, page(NORMAL_WORLD, 2)), None);
}

#[test]
fn a_hypervisor_gives_its_rx_buffer_back_when_it_asks_for_more() {
    let (mut bench, sent) = long(SHARE);
    let request = Descriptor { access: Vec::new(), ..sent.request(sent.handle) }.bytes(Version::V1_2);
    bench.write_tx(NORMAL_WORLD, &request);
    let len = request.len() as u64;
    let reply = bench.call(NORMAL_WORLD, &[u64::from(function::MEM_RETRIEVE_REQ_64), len, len]);
    let mut offset = reply.0[2];
    assert!(offset < reply.0[1]);
    while offset < reply.0[1] {
        let fragment = bench.call(NORMAL_WORLD, &[u64::from(function::MEM_FRAG_RX), sent.handle & 0xffff_ffff, sent.handle >> 32, offset]);
        assert_eq!(fragment.function(), function::MEM_FRAG_TX);
        offset += fragment.0[3];
    }
    bench.release(NORMAL_WORLD);
}

#[test]
fn a_virtual_machine_borrows_beside_a_partition() {
    let (machine, other) = (3, 4);
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[machine, id(0)]);
    let handle = request.handle;
    let before = bench.world().holdings().clone();
    assert_eq!(bench.relinquish_as(NORMAL_WORLD, handle, 0, &[machine]), Err(Status::Denied), "not retrieved");
    let unnamed = Descriptor { access: vec![(id(0), 2)], flags: 1 << 10, ..request.clone() };
    assert_eq!(bench.retrieve(NORMAL_WORLD, &unnamed), Err(Status::Denied), "in no machine's name");
    let stranger = Descriptor { access: vec![(other, 2), (id(0), 2)], ..request.clone() };
    assert_eq!(bench.retrieve(NORMAL_WORLD, &stranger), Err(Status::Denied), "another machine");
    let answer = bench.retrieve(NORMAL_WORLD, &request).unwrap();
    assert_eq!((word(&answer, 28), answer[48]), (1, machine as u8));
    assert_eq!(*bench.world().holdings(), before, "its tables are the hypervisor's");
    assert_eq!(bench.retrieve(NORMAL_WORLD, &request), Err(Status::Denied), "twice");
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle, 0), Err(Status::Denied));
    assert_eq!(bench.relinquish_as(NORMAL_WORLD, handle, 0, &[id(0)]), Err(Status::InvalidParameters), "a partition speaks for itself");
    bench.retrieve(partition(0), &request).unwrap();
    bench.relinquish_as(NORMAL_WORLD, handle, 0, &[machine]).unwrap();
    assert_eq!(bench.reclaim(NORMAL_WORLD, handle, 0), Err(Status::Denied));
    bench.relinquish(partition(0), handle, 0).unwrap();
    bench.reclaim(NORMAL_WORLD, handle, 0).unwrap();
}

#[test]
fn an_address_range_is_refused_before_an_alignment_that_it_rules_out() {
    refused(LEND, Status::InvalidParameters, |d| (d.flags, d.ranges) = (1 << 9 | 15 << 5, vec![(0x7000_0000, 3)]));
}

#[test]
fn memory_returns_when_the_last_borrower_lets_go() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0), id(1)]);
    bench.retrieve(partition(0), &request).unwrap();
    bench.retrieve(partition(1), &request).unwrap();
    bench.relinquish(partition(0), request.handle, 0).unwrap();
    assert_eq!(bench.reclaim(NORMAL_WORLD, request.handle, 0), Err(Status::Denied));
    assert_eq!(holding_of(&bench, 1, page(NORMAL_WORLD, 2)), Some((PageState::Borrowed, WRITE)));
    bench.relinquish(partition(1), request.handle, 0).unwrap();
    bench.reclaim(NORMAL_WORLD, request.handle, 0).unwrap();
    assert_eq!(bench.retrieve(partition(0), &request), Err(Status::InvalidParameters));
}

#[test]
fn relinquishing_needs_a_borrowing() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0)]);
    let handle = request.handle;
    assert_eq!(bench.relinquish(partition(0), handle, 0), Err(Status::Denied), "not retrieved");
    bench.retrieve(partition(0), &request).unwrap();
    let invalid = Err(Status::InvalidParameters);
    assert_eq!(bench.relinquish(partition(0), handle + 0x100, 0), invalid);
    assert_eq!(bench.relinquish(partition(0), handle, 1 << 2), invalid);
    assert_eq!(bench.relinquish_as(partition(0), handle, 0, &[]), invalid);
    assert_eq!(bench.relinquish_as(partition(0), handle, 0, &[id(1)]), invalid);
    assert_eq!(bench.relinquish_as(partition(0), handle, 0, &[id(0), id(1)]), invalid);
    assert_eq!(bench.relinquish(partition(1), handle, 0), Err(Status::Denied), "not a borrower");
    bench.relinquish(partition(0), handle, 1 << 1).unwrap();
    assert_eq!(bench.relinquish(partition(0), handle, 0), Err(Status::Denied), "twice");
}

#[test]
fn zeroes_are_promised_only_when_the_lender_asked_for_them() {
    let with = |flags: u32, wanted: u32, permissions: u8| -> Answer<u32> {
        let (mut bench, request) = sent_as(partition(0), LEND, &[id(1)], |d| d.flags = flags);
        let answer = bench.retrieve(partition(1), &Descriptor { flags: wanted, access: vec![(id(1), permissions | 1 << 2)], ..request })?;
        Ok(word(&answer, 4))
    };
    assert_eq!(with(0, 1, 2), Err(Status::Denied));
    assert_eq!(with(1, 1, 2), Ok(1 | 2 << 3));
    assert_eq!(with(1, 0, 2), Ok(1 | 2 << 3));
    assert_eq!(with(0, 0, 2), Ok(2 << 3));
    assert_eq!(with(1, 1, 1), Err(Status::Denied), "for reading only");
    assert_eq!(with(0, 4, 1), Err(Status::Denied), "for reading only");
    for flags in [1, 4] {
        refused(SHARE, Status::InvalidParameters, |d| d.flags = flags);
    }
    refused(DONATE, Status::InvalidParameters, |d| d.flags = 4);
}

#[test]
fn memory_is_zeroed_after_use_on_request() {
    // Asked for when it is retrieved, or when it is relinquished.
    for (at_first, at_last) in [(4, 0), (0, 1)] {
        let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0)]);
        bench.fill(page(NORMAL_WORLD, 3), false, 0xa5);
        bench.retrieve(partition(0), &Descriptor { flags: at_first, ..request.clone() }).unwrap();
        assert!(bench.holds(page(NORMAL_WORLD, 3), false, 0xa5));
        bench.relinquish(partition(0), request.handle, at_last).unwrap();
        assert!(bench.holds(page(NORMAL_WORLD, 3), false, 0));
    }
}

#[test]
fn others_keep_their_data_when_one_borrower_asks_for_zeroes() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0), id(1)]);
    bench.fill(page(NORMAL_WORLD, 3), false, 0xa5);
    bench.retrieve(partition(0), &request).unwrap();
    bench.retrieve(partition(1), &request).unwrap();
    bench.relinquish(partition(0), request.handle, 1).unwrap();
    assert!(bench.holds(page(NORMAL_WORLD, 3), false, 0xa5));
    bench.relinquish(partition(1), request.handle, 0).unwrap();
    assert!(bench.holds(page(NORMAL_WORLD, 3), false, 0));
}

#[test]
fn a_borrower_that_may_not_write_may_not_have_zeroes_written() {
    let (mut bench, request) = sent_as(NORMAL_WORLD, LEND, &[id(0)], |d| d.access[0].1 = 1);
    bench.retrieve(partition(0), &request).unwrap();
    assert_eq!(bench.relinquish(partition(0), request.handle, 1), Err(Status::Denied));
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    bench.retrieve(partition(0), &request).unwrap();
    assert_eq!(bench.relinquish(partition(0), request.handle, 1), Err(Status::InvalidParameters));
    bench.relinquish(partition(0), request.handle, 0).unwrap();
}

#[test]
fn descriptions_have_the_borrower_s_layout() {
    for (version, access_size) in [(Version::V1_0, 16), (Version::V1_1, 16), (Version::V1_2, 16), (Version::V1_2, 32)] {
        let mut bench = Bench::new();
        bench.speak(partition(0), version);
        let shared = Descriptor { tag: 0x1122_3344_5566_7788, ..Descriptor::from(NORMAL_WORLD, &[id(0), id(1)], &pages_of(NORMAL_WORLD)) };
        let handle = bench.send(NORMAL_WORLD, SHARE, &shared).unwrap();
        let request = Descriptor { access_size, ..shared.request(handle) };
        let non_secure = if version == Version::V1_0 { 0 } else { 1 << 6 };
        let granted = vec![(id(0), 2 | 1 << 2)];
        let expected = Descriptor { access_size, handle, flags: 1 << 3, attributes: 0x2f | non_secure, access: granted, ..shared };
        assert_eq!(bench.retrieve(partition(0), &request).unwrap(), expected.bytes(version));
    }
}

#[test]
fn secure_memory_is_described_as_such() {
    let (mut bench, request) = sent(partition(1), SHARE, &[id(0)]);
    let answer = bench.retrieve(partition(0), &request).unwrap();
    assert_eq!(answer[2], 0x2f);
}

#[test]
fn implementation_defined_words_pass_and_must_match() {
    let wide = |d: &mut Descriptor| (d.access_size, d.implementation_defined) = (32, 0x5a);
    let (mut bench, request) = sent_as(NORMAL_WORLD, SHARE, &[id(0)], wide);
    assert_eq!(bench.retrieve(partition(0), &Descriptor { implementation_defined: 0x5b, ..request.clone() }), Err(Status::InvalidParameters));
    let answer = bench.retrieve(partition(0), &request).unwrap();
    assert_eq!(answer[48 + 8..48 + 24], [0x5a; 16]);
    // A borrower that does not know them need not repeat them.
    let (mut bench, request) = sent_as(NORMAL_WORLD, SHARE, &[id(0)], wide);
    bench.retrieve(partition(0), &Descriptor { access_size: 16, ..request }).unwrap();
}

/// 600 single pages of the normal world, shared with the first partition.
fn long(function: u32) -> (Bench, Descriptor) {
    let mut bench = Bench::new();
    bench.world().give(Owner::NormalWorld, 0x5000_0000, 1200, WRITE, false);
    let ranges: Vec<_> = (0..600).map(|n| (0x5000_0000 + 2 * n * PAGE, 1)).collect();
    let mut sent = Descriptor::from(NORMAL_WORLD, &[id(0)], &ranges);
    if function == DONATE {
        sent = Descriptor::donation(NORMAL_WORLD, id(0), &ranges);
    }
    sent.handle = bench.send(NORMAL_WORLD, function, &sent).unwrap();
    (bench, sent)
}

#[test]
fn long_descriptions_come_in_fragments() {
    for function in [SHARE, DONATE] {
        let (mut bench, sent) = long(function);
        let answer = bench.retrieve(partition(0), &sent.request(sent.handle)).unwrap();
        let expected = sent.bytes(Version::V1_2);
        assert_eq!(answer.len(), expected.len());
        assert_eq!(answer[64..], expected[64..]);
        assert!(holding_of(&bench, 0, 0x5000_0000).is_some() && holding_of(&bench, 0, 0x5000_0000 + 1198 * PAGE).is_some());
        assert!(holding_of(&bench, 0, 0x5000_0000 + PAGE).is_none());
    }
}

#[test]
fn fragments_are_asked_for_in_order_with_a_free_rx_buffer() {
    let (mut bench, sent) = long(SHARE);
    let request = sent.request(sent.handle).bytes(Version::V1_2);
    bench.write_tx(partition(0), &request);
    let len = request.len() as u64;
    let reply = bench.call(partition(0), &[u64::from(function::MEM_RETRIEVE_REQ_64), len, len]);
    let (more, low, high) = (u64::from(function::MEM_FRAG_RX), sent.handle & 0xffff_ffff, sent.handle >> 32);
    assert_eq!(bench.call(partition(0), &[more, low, high, reply.0[2]]).as_error(), Some(Status::Busy));
    bench.release(partition(0));
    let invalid = Some(Status::InvalidParameters);
    for (caller, call) in [
        (partition(0), [more, low, high, reply.0[2] - 16, 0]),
        (partition(0), [more, low, high, 0, 0]),
        (partition(0), [more, low + 0x100, high, reply.0[2], 0]),
        (partition(0), [more, low, high, reply.0[2], 1 << 16]),
        (partition(1), [more, low, high, reply.0[2], 0]),
        (NORMAL_WORLD, [more, low, high, reply.0[2], 0]),
    ] {
        assert_eq!(bench.call(caller, &call).as_error(), invalid);
    }
    let mut offset = reply.0[2];
    while offset < reply.0[1] {
        let fragment = bench.call(partition(0), &[more, low, high, offset]);
        assert_eq!((fragment.function(), fragment.0[4]), (function::MEM_FRAG_TX, 0));
        offset += fragment.0[3];
        bench.release(partition(0));
    }
    assert_eq!(bench.call(partition(0), &[more, low, high, offset]).as_error(), invalid, "nothing is left");
}

#[test]
fn a_description_is_not_continued_after_the_memory_is_gone() {
    let (mut bench, sent) = long(SHARE);
    let request = sent.request(sent.handle).bytes(Version::V1_2);
    bench.write_tx(partition(0), &request);
    let len = request.len() as u64;
    let reply = bench.call(partition(0), &[u64::from(function::MEM_RETRIEVE_REQ_64), len, len]);
    bench.release(partition(0));
    bench.relinquish(partition(0), sent.handle, 0).unwrap();
    let more = [u64::from(function::MEM_FRAG_RX), sent.handle & 0xffff_ffff, sent.handle >> 32, reply.0[2]];
    assert_eq!(bench.call(partition(0), &more).as_error(), Some(Status::InvalidParameters));
}

#[test]
fn retrieving_needs_a_free_rx_buffer() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    let bytes = request.bytes(Version::V1_2);
    bench.write_tx(partition(0), &bytes);
    let call = [u64::from(function::MEM_RETRIEVE_REQ_32), bytes.len() as u64, bytes.len() as u64];
    assert_eq!(bench.call(partition(0), &call).function(), function::MEM_RETRIEVE_RESP);
    bench.relinquish(partition(0), request.handle, 0).unwrap();
    bench.write_tx(partition(0), &bytes);
    assert_eq!(bench.call(partition(0), &call).as_error(), Some(Status::Busy));
    bench.release(partition(0));
    assert_eq!(bench.call(partition(0), &call).function(), function::MEM_RETRIEVE_RESP);
}

#[test]
fn a_request_is_one_fragment_in_the_tx_buffer() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    let bytes = request.bytes(Version::V1_2);
    bench.write_tx(partition(0), &bytes);
    let (len, retrieve) = (bytes.len() as u64, u64::from(function::MEM_RETRIEVE_REQ_64));
    let wrong = [[len + 16, len, 0, 0], [len, len, PAGE, 0], [len, len, 0, 1], [len - 1, len - 1, 0, 0], [len + 1, len + 1, 0, 0], [PAGE + 8, PAGE + 8, 0, 0]];
    for [total, fragment, address, pages] in wrong {
        let call = [retrieve, total, fragment, address, pages];
        assert_eq!(bench.call(partition(0), &call).as_error(), Some(Status::InvalidParameters));
    }
    assert_eq!(bench.call(partition(0), &[retrieve, len, len]).function(), function::MEM_RETRIEVE_RESP);
}

#[test]
fn memory_that_the_borrower_has_already_is_denied() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    bench.world().give(Owner::Partition(0), page(NORMAL_WORLD, 3), 1, WRITE, false);
    assert_eq!(bench.retrieve(partition(0), &request), Err(Status::Denied));
    assert_eq!(holding_of(&bench, 0, page(NORMAL_WORLD, 2)), None);
}

#[test]
fn a_retrieval_that_needs_more_than_there_is_leaves_nothing_behind() {
    for function in [SHARE, DONATE] {
        let (mut bench, request) = sent(partition(1), function, &[id(0)]);
        let before = bench.world().holdings().clone();
        for changes in 0..2 {
            bench.world().changes_left = Some(changes);
            assert_eq!(bench.retrieve(partition(0), &request), Err(Status::NoMemory));
            assert_eq!(*bench.world().holdings(), before);
            bench.world().assert_flushed();
        }
        bench.world().changes_left = None;
        bench.retrieve(partition(0), &request).unwrap();
    }
}

#[test]
fn memory_that_cannot_be_parted_from_other_memory_stays_its_borrower_s() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0)]);
    bench.retrieve(partition(0), &request).unwrap();
    let before = bench.world().holdings().clone();
    for parts in 0..2 {
        bench.world().parts_left = Some(parts);
        assert_eq!(bench.relinquish(partition(0), request.handle, 0), Err(Status::NoMemory));
        assert_eq!(*bench.world().holdings(), before);
        assert_eq!(bench.reclaim(NORMAL_WORLD, request.handle, 0), Err(Status::Denied));
    }
    bench.world().parts_left = Some(2);
    bench.relinquish(partition(0), request.handle, 0).unwrap();
    bench.world().assert_flushed();
    bench.reclaim(NORMAL_WORLD, request.handle, 0).unwrap();
}

#[test]
fn a_description_that_the_bus_refuses_gives_no_access() {
    let (mut bench, request) = sent(NORMAL_WORLD, SHARE, &[id(0)]);
    bench.world().remove_memory(page(partition(0), 0), true);
    assert_eq!(bench.retrieve(partition(0), &request), Err(Status::Aborted));
    assert_eq!(holding_of(&bench, 0, page(NORMAL_WORLD, 2)), None);
}

#[test]
fn the_hypervisor_gets_a_description_and_no_access() {
    let (mut bench, sent) = long(SHARE);
    let mut request = sent.request(sent.handle).bytes(Version::V1_2);
    request.truncate(48);
    request[24..36].fill(0);
    let before = bench.world().holdings().clone();
    let answer = bench.retrieve_raw(NORMAL_WORLD, &request).unwrap();
    let expected = Descriptor { flags: 1 << 3, attributes: 0x2f | 1 << 6, access_size: 32, ..sent.clone() }.bytes(Version::V1_2);
    assert_eq!(answer, expected);
    assert_eq!(*bench.world().holdings(), before);
    bench.reclaim(NORMAL_WORLD, sent.handle, 0).unwrap();
    // A partition's transactions are none of its business, and the request none of a partition's.
    assert_eq!(bench.retrieve_raw(partition(0), &request), Err(Status::InvalidParameters));
    let handle = bench.send(partition(0), SHARE, &Descriptor::from(partition(0), &[id(1)], &pages_of(partition(0)))).unwrap();
    request[8..16].copy_from_slice(&handle.to_le_bytes());
    assert_eq!(bench.retrieve_raw(NORMAL_WORLD, &request), Err(Status::Denied));
    assert_eq!(bench.retrieve_raw(partition(1), &request), Err(Status::InvalidParameters));
}

#[test]
fn a_failed_borrower_loses_what_it_borrowed() {
    let (mut bench, request) = sent(NORMAL_WORLD, LEND, &[id(0), id(1)]);
    bench.fill(page(NORMAL_WORLD, 2), false, 0xa5);
    bench.retrieve(partition(0), &Descriptor { flags: 4, ..request.clone() }).unwrap();
    bench.fail(0);
    bench.world().assert_flushed();
    assert_eq!(holding_of(&bench, 0, page(NORMAL_WORLD, 2)), None);
    assert!(bench.holds(page(NORMAL_WORLD, 2), false, 0), "zeroes as it had asked");
    assert_eq!(bench.retrieve(partition(0), &request), Err(Status::Aborted));
    bench.retrieve(partition(1), &request).unwrap();
    bench.relinquish(partition(1), request.handle, 0).unwrap();
    bench.reclaim(NORMAL_WORLD, request.handle, 0).unwrap();
}

#[test]
fn what_a_failed_lender_lent_stays_with_its_borrowers_until_they_let_go() {
    let (mut bench, request) = sent(partition(0), LEND, &[id(1), id(2)]);
    bench.retrieve(partition(1), &request).unwrap();
    let other = Descriptor::from(partition(0), &[id(1)], &[(page(partition(0), 8), 1)]);
    let unused = bench.send(partition(0), SHARE, &other).unwrap();
    bench.fail(0);
    assert_eq!(holding_of(&bench, 1, page(partition(0), 2)), Some((PageState::Borrowed, WRITE)));
    assert_eq!(bench.retrieve(partition(2), &request), Err(Status::Denied), "nobody new");
    assert_eq!(bench.retrieve(partition(1), &other.request(unused)), Err(Status::InvalidParameters), "what nobody had is gone");
    bench.relinquish(partition(1), request.handle, 0).unwrap();
    assert_eq!(bench.state(partition(0), page(partition(0), 2)), Some(PageState::Owned));
    assert_eq!(bench.relinquish(partition(1), request.handle, 0), Err(Status::InvalidParameters), "the handle has ended");
}
