//! Memory transactions that a lender may not make, from each side: one thing is wrong with a description that is right
//! otherwise.

use super::prelude::*;
use crate::draft::{Draft, Kind, PAGE_BYTES, reclaim};
use bulkhead_sdk::ffa::descriptor::{access, composite, range, transaction};
use bulkhead_sdk::ffa::{EndpointId, Status};
use conformance_testkit::{VICTIM_EL0, VICTIM_EL1};

const INVALID: &[Status] = &[Status::InvalidParameters];
const DENIED: &[Status] = &[Status::Denied];
const EITHER: &[Status] = &[Status::InvalidParameters, Status::Denied];

checks! { "lending":
    "DEN0140 2.3" right_description_is_taken [Ns SEl1 SEl0] ANY "FFA_SUCCESS with a handle, to share and to lend";
    "DEN0140 1.10" lender_must_be_the_caller [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| each(at, EITHER, |_, d| d.put(transaction::SENDER, &VICTIM_EL1.id.0.to_le_bytes()));
    "DEN0140 1.10" handle_must_be_zero [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| d.put32(transaction::HANDLE, 1));
    "DEN0140 1.10" borrower_must_be_there [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| d.put32(transaction::ACCESS_COUNT, 0));
    "DEN0140 1.10" more_borrowers_than_the_length_allows_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(transaction::ACCESS_COUNT, 0x1000_0001));
    "DEN0140 1.10" lender_is_no_borrower [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| each(at, EITHER, |_, d| d.put(d.access(0) + access::ENDPOINT, &at.id().0.to_le_bytes()));
    "DEN0140 1.10" borrower_must_be_known [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put(d.access(0) + access::ENDPOINT, &0x80eeu16.to_le_bytes()));
    "DEN0140 2.3" borrower_is_named_once [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| several(at, Kind::Share, &[at.other().id; 2]);
    "DEN0140 2.1" new_owner_is_one [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| several(at, Kind::Donate, &[at.other().id, VICTIM_EL0.id]);
    "DEN0140 1.11" reserved_flags_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| d.put32(transaction::FLAGS, 1 << 20));
    "DEN0140 1.11" kind_in_the_flags_must_be_the_calls [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |kind, d| d.put32(transaction::FLAGS, if kind == Kind::Share { 2 << 3 } else { 1 << 3 }));
    "DEN0140 1.11" shared_memory_is_not_zeroed [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| one(at, Kind::Share, INVALID, |d| d.put32(transaction::FLAGS, 1));
    "DEN0140 1.11" memory_for_reading_is_not_zeroed [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| one(at, Kind::Lend, INVALID, |d| {
            d.put32(transaction::FLAGS, 1);
            d.put(d.access(0) + access::PERMISSIONS, &[1]);
        });
    "DEN0140 1.9" reserved_attributes_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| attributes(at, 0xaf, INVALID);
    "DEN0140 1.9" lender_does_not_set_the_ns_bit [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| attributes(at, 0x6f, INVALID);
    "DEN0140 1.9" shared_memory_has_a_type [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| attributes(at, 0, INVALID);
    "DEN0140 1.9" reserved_type_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| attributes(at, 0x3f, INVALID);
    "DEN0140 1.9" memory_is_no_device [Ns SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS" = |at| attributes(at, 0x10, EITHER);
    "DEN0140 1.9" single_borrower_chooses_the_type [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| one(at, Kind::Lend, INVALID, |d| d.put(transaction::ATTRIBUTES, &0x2fu16.to_le_bytes()));
    "DEN0140 1.8" data_access_must_be_given [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| permissions(at, &[Kind::Share, Kind::Lend], 0);
    "DEN0140 1.8" reserved_data_access_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| permissions(at, &[Kind::Share, Kind::Lend], 3);
    "DEN0140 1.8" reserved_permissions_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| permissions(at, &[Kind::Share, Kind::Lend], 0x12);
    "DEN0140 1.8" shared_memory_is_not_executed [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| permissions(at, &[Kind::Share], 0xa);
    "DEN0140 1.8" donor_leaves_permissions_open [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| permissions(at, &[Kind::Donate], 2);
    "DEN0140 1.10" composite_must_lie_inside [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(d.access(0) + access::COMPOSITE_OFFSET, 0x8000));
    "DEN0140 1.10" composite_must_not_lie_over_the_header [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(d.access(0) + access::COMPOSITE_OFFSET, 8));
    "DEN0140 1.10" composite_offset_does_not_wrap [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(d.access(0) + access::COMPOSITE_OFFSET, 0xffff_fff0));
    "DEN0140 1.10" access_descriptors_have_a_known_size [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(transaction::ACCESS_SIZE, 8));
    "DEN0140 1.10" access_descriptors_lie_behind_the_header [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(transaction::ACCESS_OFFSET, 16));
    "DEN0140 1.10" access_descriptors_lie_inside [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(transaction::ACCESS_OFFSET, 0xffff_fff0));
    "DEN0140 1.10" page_count_is_the_ranges_sum [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS, for more and for less";
    "DEN0140 1.10" ranges_must_be_there [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(d.composite + composite::RANGE_COUNT, 0));
    "DEN0140 1.10" range_count_is_the_lengths [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| d.put32(d.composite + composite::RANGE_COUNT, 0x1000_0001));
    "DEN0140 1.10" range_must_be_aligned [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| range_is(at, |address| (address + 8, 1), INVALID);
    "DEN0140 1.10" range_must_not_be_empty [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| range_is(at, |address| (address, 0), INVALID);
    "DEN0140 1.10" range_must_not_wrap [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED" = |at| range_is(at, |_| (0xffff_ffff_ffff_f000, 2), EITHER);
    "DEN0140 1.10" ranges_do_not_overlap [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "DEN0140 2.3" memory_of_nobody_is_not_given [Ns SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS" = |at| range_is(at, |_| (0xff_0000_0000, 1), EITHER);
    "DEN0140 2.3" memory_of_others_is_not_given [Ns SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS" = |at| range_is(at, |_| (VICTIM_EL1.load_address + PAGE_BYTES, 1), EITHER);
    "DEN0140 2.3" lent_memory_is_not_given_again [Ns SEl1 SEl0] ANY "DENIED, in every way" = |at| given_again(at, Kind::Lend);
    "DEN0140 2.3" shared_memory_is_not_given_again [Ns SEl1 SEl0] ANY "DENIED, in every way" = |at| given_again(at, Kind::Share);
    "DEN0140 2.3" fragment_is_no_longer_than_the_whole [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| d.fragment = d.total + 16);
    "DEN0140 2.3" empty_description_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| (d.total, d.fragment) = (0, 0));
    "DEN0140 2.3" description_is_longer_than_its_header [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| (d.total, d.fragment) = (24, 24));
    "DEN0140 2.3" description_ends_with_its_ranges [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| each(at, INVALID, |_, d| (d.total, d.fragment) = (d.total + 16, d.total + 16));
    "DEN0140 2.3" fragment_fits_the_buffer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| each(at, INVALID, |_, d| (d.total, d.fragment) = (0x2000, 0x2000));
    "DEN0140 2.7" unknown_handle_is_not_reclaimed [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "DEN0140 2.7" reserved_flags_of_a_reclaim_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS, and the handle lives on";
    "DEN0140 2.7" memory_of_another_lender_is_not_reclaimed [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "DEN0140 2.7" memory_is_reclaimed_once [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS for the second time";
}

/// Runs a check with the instance's buffers mapped: a partition's are, from its initialisation on.
pub fn with_buffers(at: Instance, check: impl FnOnce() -> Outcome) -> Outcome {
    if at != Instance::Ns {
        return check();
    }
    at.map()?;
    let outcome = check();
    at.unmap()?;
    outcome
}

/// A description of the instance's own page, for another partition.
fn right(at: Instance, kind: Kind) -> Result<Draft, Problem> {
    Ok(Draft::lender(at, kind, &[at.other().id], &[(at.page()?, 1)]))
}

/// Sends a description that must be refused; takes back what is given in spite of that.
fn refused(at: Instance, kind: Kind, draft: &Draft, expected: &[Status]) -> Outcome {
    let result = draft.send(at, kind)?;
    if let Ok(handle) = result {
        reclaim(at, handle, 0)?.ok();
        fail!("{kind:?} was taken");
    }
    let status = result.err();
    ensure!(expected.iter().any(|one| Some(*one) == status), "{kind:?} is refused with {status:?}");
    pass!("{:?}", expected[0])
}

/// A mistake in one kind of call; afterwards the right description is taken.
fn one(at: Instance, kind: Kind, expected: &[Status], mistake: impl Fn(&mut Draft)) -> Outcome {
    with_buffers(at, || {
        let mut draft = right(at, kind)?;
        mistake(&mut draft);
        let found = refused(at, kind, &draft, expected)?;
        let handle = right(at, Kind::Share)?.send(at, Kind::Share)?;
        let Ok(handle) = handle else { fail!("afterwards a right description is refused with {:?}", handle.err()) };
        expect!(reclaim(at, handle, 0)?, Ok(()), "when reclaiming");
        Ok(found)
    })
}

/// A mistake in all three calls.
fn each(at: Instance, expected: &[Status], mistake: impl Fn(Kind, &mut Draft)) -> Outcome {
    for kind in [Kind::Share, Kind::Lend, Kind::Donate] {
        one(at, kind, expected, |draft| mistake(kind, draft))?;
    }
    pass!("{:?} for all three calls", expected[0])
}

fn several(at: Instance, kind: Kind, borrowers: &[EndpointId]) -> Outcome {
    with_buffers(at, || refused(at, kind, &Draft::lender(at, kind, borrowers, &[(at.page()?, 1)]), INVALID))
}

fn attributes(at: Instance, attributes: u16, expected: &[Status]) -> Outcome {
    one(at, Kind::Share, expected, |draft| draft.put(transaction::ATTRIBUTES, &attributes.to_le_bytes()))
}

fn permissions(at: Instance, kinds: &[Kind], permissions: u8) -> Outcome {
    for kind in kinds {
        one(at, *kind, INVALID, |draft| draft.put(draft.access(0) + access::PERMISSIONS, &[permissions]))?;
    }
    pass!("INVALID_PARAMETERS")
}

fn range_is(at: Instance, wrong: impl Fn(u64) -> (u64, u32), expected: &[Status]) -> Outcome {
    let (address, pages) = wrong(at.page()?);
    each(at, expected, |_, draft| {
        draft.put(draft.range(0) + range::ADDRESS, &address.to_le_bytes());
        draft.put32(draft.range(0) + range::PAGE_COUNT, pages);
        draft.put32(draft.composite + composite::PAGE_COUNT, pages);
    })
}

fn right_description_is_taken(at: Instance) -> Outcome {
    with_buffers(at, || {
        for kind in [Kind::Share, Kind::Lend] {
            let sent = right(at, kind)?.send(at, kind)?;
            let Ok(handle) = sent else { fail!("{kind:?} is refused with {:?}", sent.err()) };
            expect!(reclaim(at, handle, 0)?, Ok(()), "when reclaiming");
        }
        pass!("shared and lent")
    })
}

fn page_count_is_the_ranges_sum(at: Instance) -> Outcome {
    for pages in [0, 2, 100] {
        each(at, INVALID, |_, draft| draft.put32(draft.composite + composite::PAGE_COUNT, pages))?;
    }
    pass!("INVALID_PARAMETERS")
}

fn ranges_do_not_overlap(at: Instance) -> Outcome {
    with_buffers(at, || {
        let page = at.page()?;
        for kind in [Kind::Share, Kind::Lend, Kind::Donate] {
            let draft = Draft::lender(at, kind, &[at.other().id], &[(page, 1), (page, 1)]);
            refused(at, kind, &draft, EITHER)?;
        }
        pass!("refused")
    })
}

fn given_again(at: Instance, first: Kind) -> Outcome {
    with_buffers(at, || {
        let sent = right(at, first)?.send(at, first)?;
        let Ok(handle) = sent else { fail!("{first:?} is refused with {:?}", sent.err()) };
        let mut outcome = pass!("DENIED");
        for kind in [Kind::Share, Kind::Lend, Kind::Donate] {
            // What is shared may be shared with others, where an implementation supports that.
            if (first, kind) != (Kind::Share, Kind::Share) {
                outcome = outcome.and(refused(at, kind, &right(at, kind)?, DENIED));
            }
        }
        expect!(reclaim(at, handle, 0)?, Ok(()), "when reclaiming");
        outcome
    })
}

fn unknown_handle_is_not_reclaimed(at: Instance) -> Outcome {
    for handle in [0, 0x7777_7777, u64::MAX] {
        expect!(reclaim(at, handle, 0)?, Err(Status::InvalidParameters), "for {handle:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

/// Runs a check while the instance's page is shared.
fn while_shared(at: Instance, check: impl FnOnce(u64) -> Outcome) -> Outcome {
    with_buffers(at, || {
        let sent = right(at, Kind::Share)?.send(at, Kind::Share)?;
        let Ok(handle) = sent else { fail!("refused with {:?}", sent.err()) };
        let outcome = check(handle);
        expect!(reclaim(at, handle, 0)?, Ok(()), "when reclaiming");
        outcome
    })
}

fn reserved_flags_of_a_reclaim_are_invalid(at: Instance) -> Outcome {
    while_shared(at, |handle| {
        for flags in [4, 0x8000_0000] {
            expect!(reclaim(at, handle, flags)?, Err(Status::InvalidParameters), "for {flags:#x}");
        }
        pass!("INVALID_PARAMETERS")
    })
}

fn memory_of_another_lender_is_not_reclaimed(at: Instance) -> Outcome {
    while_shared(Instance::Ns, |handle| {
        let result = reclaim(at, handle, 0)?;
        ensure!(matches!(result, Err(Status::InvalidParameters | Status::Denied)), "{result:?}");
        pass!("refused")
    })
}

fn memory_is_reclaimed_once(at: Instance) -> Outcome {
    let mut last = 0;
    while_shared(at, |handle| {
        last = handle;
        pass!("shared")
    })?;
    expect!(reclaim(at, last, 0)?, Err(Status::InvalidParameters));
    pass!("INVALID_PARAMETERS")
}
