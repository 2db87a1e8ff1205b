//! Memory transactions that a borrower may not make, from each side: one thing is wrong with a request that is right otherwise.

use super::lending::with_buffers;
use super::prelude::*;
use crate::draft::{Draft, Kind, reclaim, release, relinquish};
use bulkhead_sdk::ffa::descriptor::{access, transaction};
use bulkhead_sdk::ffa::{EndpointId, Status};
use conformance_testkit::{VICTIM_EL0, VICTIM_EL1};

const INVALID: &[Status] = &[Status::InvalidParameters];
const DENIED: &[Status] = &[Status::Denied];
const EITHER: &[Status] = &[Status::InvalidParameters, Status::Denied];

checks! { "borrowing":
    "DEN0140 2.4" right_request_is_taken [SEl1 SEl0] ANY "FFA_MEM_RETRIEVE_RESP, and FFA_SUCCESS for relinquishing" = |at| borrowed(at, |_| pass!("borrowed"));
    "DEN0140 2.4" unknown_handle_is_not_retrieved [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::HANDLE, 0x7777));
    "DEN0140 2.4" only_a_borrower_retrieves [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS";
    "DEN0140 2.4" lender_must_be_named [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| refused(at, Kind::Share, EITHER, |d| d.put(transaction::SENDER, &VICTIM_EL0.id.0.to_le_bytes()));
    "DEN0140 2.4" tag_must_be_the_lenders [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::TAG, 7));
    "DEN0140 2.4" borrower_must_be_the_caller [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| refused(at, Kind::Share, EITHER, |d| d.put(d.access(0) + access::ENDPOINT, &VICTIM_EL1.id.0.to_le_bytes()));
    "DEN0140 2.4" borrower_must_be_there [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::ACCESS_COUNT, 0));
    "DEN0140 1.11" reserved_flags_are_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::FLAGS, 1 << 20));
    "DEN0140 1.11" kind_in_the_flags_must_be_the_lenders [SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::FLAGS, 2 << 3));
    "DEN0140 1.11" shared_memory_is_not_zeroed [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::FLAGS, 1));
    "DEN0140 1.11" shared_memory_is_not_zeroed_afterwards [SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, INVALID, |d| d.put32(transaction::FLAGS, 4));
    "DEN0140 1.11" memory_that_was_not_zeroed_is_not_taken_for_zeroed [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS"
        = |at| refused(at, Kind::Lend, EITHER, |d| d.put32(transaction::FLAGS, 1));
    "DEN0140 1.8" more_access_than_granted_is_denied [SEl1 SEl0] ANY "DENIED";
    "DEN0140 1.8" reserved_data_access_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, INVALID, |d| d.put(d.access(0) + access::PERMISSIONS, &[3]));
    "DEN0140 1.8" shared_memory_is_not_executed [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| refused(at, Kind::Share, EITHER, |d| d.put(d.access(0) + access::PERMISSIONS, &[0xa]));
    "DEN0140 1.8" non_secure_memory_is_not_executed [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS"
        = |at| refused(at, Kind::Lend, EITHER, |d| d.put(d.access(0) + access::PERMISSIONS, &[0xa]));
    "DEN0140 1.9" memory_is_no_device [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS"
        = |at| refused(at, Kind::Lend, EITHER, |d| d.put(transaction::ATTRIBUTES, &[0x10]));
    "DEN0140 2.4" fragment_is_no_longer_than_the_whole [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| d.fragment = d.total + 16);
    "DEN0140 2.4" empty_request_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| refused(at, Kind::Share, INVALID, |d| (d.total, d.fragment) = (0, 0));
    "DEN0140 2.4" request_is_longer_than_its_header [SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, INVALID, |d| (d.total, d.fragment) = (24, 24));
    "DEN0140 2.4" memory_is_retrieved_once [SEl1 SEl0] ANY "DENIED for the second time";
    "DEN0140 2.4" description_waits_for_the_rx_buffer [SEl1 SEl0] ANY "BUSY until RX is released";
    "DEN0140 2.8" rest_of_a_description_that_is_whole_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "DEN0140 2.6" memory_is_relinquished_after_it_was_retrieved [SEl1 SEl0] ANY "DENIED before"
        = |at| relinquished(at, false, |h| (h, 0, 1, at.id()), DENIED);
    "DEN0140 2.6" unknown_handle_is_not_relinquished [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| relinquished(at, true, |_| (0x7777, 0, 1, at.id()), INVALID);
    "DEN0140 2.6" borrower_relinquishes_for_itself [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| relinquished(at, true, |h| (h, 0, 1, VICTIM_EL1.id), EITHER);
    "DEN0140 2.6" nobody_is_not_one [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| relinquished(at, true, |h| (h, 0, 0, at.id()), INVALID);
    "DEN0140 2.6" several_are_not_one [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| relinquished(at, true, |h| (h, 0, 2, at.id()), INVALID);
    "DEN0140 2.6" reserved_flags_of_relinquishing_are_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| relinquished(at, true, |h| (h, 1 << 8, 1, at.id()), INVALID);
    "DEN0140 2.6" shared_memory_is_not_zeroed_when_it_is_relinquished [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED"
        = |at| relinquished(at, true, |h| (h, 1, 1, at.id()), EITHER);
    "DEN0140 2.6" memory_is_relinquished_once [SEl1 SEl0] ANY "DENIED for the second time";
    "DEN0140 2.7" memory_in_use_is_not_reclaimed [SEl1 SEl0] ANY "DENIED" = |at| borrowed(at, |handle| {
        expect!(reclaim(Instance::Ns, handle, 0)?, Err(Status::Denied));
        pass!("DENIED")
    });
    "DEN0140 2.4" normal_world_borrows_nothing [Ns] ANY "DENIED or INVALID_PARAMETERS";
    "DEN0140 2.6" normal_world_relinquishes_nothing [Ns] ANY "an error" = |_| lent(Instance::SEl1, Kind::Share, |handle| {
        ensure!(relinquish(Instance::Ns, handle, 0, 1, EndpointId(0))?.is_err(), "relinquished");
        pass!("refused")
    });
}

/// Runs a check while the normal world's page is given to the partition `at`.
fn lent(at: Instance, kind: Kind, check: impl FnOnce(u64) -> Outcome) -> Outcome {
    let lender = Instance::Ns;
    with_buffers(lender, || {
        let sent = Draft::lender(lender, kind, &[at.id()], &[(lender.page()?, 1)]).send(lender, kind)?;
        let Ok(handle) = sent else { fail!("{kind:?} is refused with {:?}", sent.err()) };
        let outcome = check(handle);
        expect!(reclaim(lender, handle, 0)?, Ok(()), "when reclaiming");
        outcome
    })
}

/// What a borrower of shared memory sends, as it should be.
fn right(at: Instance, handle: u64) -> Draft {
    Draft::borrower(at, Instance::Ns.id(), handle)
}

/// What a borrower sends, as it should be: the only one of lent memory says that it does not execute it.
fn right_of(at: Instance, kind: Kind, handle: u64) -> Draft {
    let mut draft = right(at, handle);
    if kind != Kind::Share {
        draft.put(draft.access(0) + access::PERMISSIONS, &[2 | 1 << 2]);
    }
    draft
}

fn retrieve(at: Instance, kind: Kind, handle: u64) -> Result<(), Problem> {
    let retrieved = right_of(at, kind, handle).retrieve(at)?;
    ensure!(retrieved.is_ok(), "a right request is refused with {:?}", retrieved.err());
    expect!(release(at)?, Ok(()), "when releasing RX");
    Ok(())
}

/// Runs a check while the partition has retrieved the normal world's page.
fn borrowed(at: Instance, check: impl FnOnce(u64) -> Outcome) -> Outcome {
    lent(at, Kind::Share, |handle| {
        retrieve(at, Kind::Share, handle)?;
        let outcome = check(handle);
        expect!(relinquish(at, handle, 0, 1, at.id())?, Ok(()), "when relinquishing");
        outcome
    })
}

/// A mistake in a request; afterwards the right one is taken.
fn refused(at: Instance, kind: Kind, expected: &[Status], mistake: impl Fn(&mut Draft)) -> Outcome {
    lent(at, kind, |handle| {
        let mut draft = right_of(at, kind, handle);
        mistake(&mut draft);
        let found = not_retrieved(at, handle, &draft, expected)?;
        retrieve(at, kind, handle)?;
        expect!(relinquish(at, handle, 0, 1, at.id())?, Ok(()), "when relinquishing");
        Ok(found)
    })
}

/// A request that must be refused; gives back what is retrieved in spite of that.
fn not_retrieved(at: Instance, handle: u64, draft: &Draft, expected: &[Status]) -> Outcome {
    let result = draft.retrieve(at)?;
    if result.is_ok() {
        release(at)?.ok();
        relinquish(at, handle, 0, 1, at.id())?.ok();
        fail!("the request was taken");
    }
    let status = result.err();
    ensure!(expected.iter().any(|one| Some(*one) == status), "refused with {status:?}");
    pass!("{:?}", expected[0])
}

/// An FFA_MEM_RELINQUISH that must be refused; `retrieved`: the memory has been.
fn relinquished(at: Instance, retrieved: bool, wrong: impl Fn(u64) -> (u64, u32, u32, EndpointId), expected: &[Status]) -> Outcome {
    let check = |handle| {
        let (named, flags, count, endpoint) = wrong(handle);
        let status = relinquish(at, named, flags, count, endpoint)?.err();
        ensure!(expected.iter().any(|one| Some(*one) == status), "refused with {status:?}");
        pass!("{:?}", expected[0])
    };
    if retrieved { borrowed(at, check) } else { lent(at, Kind::Share, check) }
}

fn only_a_borrower_retrieves(at: Instance) -> Outcome {
    let borrower = if at == Instance::SEl1 { Instance::SEl0 } else { Instance::SEl1 };
    lent(borrower, Kind::Share, |handle| not_retrieved(at, handle, &right(at, handle), EITHER))
}

fn more_access_than_granted_is_denied(at: Instance) -> Outcome {
    let lender = Instance::Ns;
    with_buffers(lender, || {
        let mut draft = Draft::lender(lender, Kind::Share, &[at.id()], &[(lender.page()?, 1)]);
        draft.put(draft.access(0) + access::PERMISSIONS, &[1]);
        let sent = draft.send(lender, Kind::Share)?;
        let Ok(handle) = sent else { fail!("refused with {:?}", sent.err()) };
        let outcome = not_retrieved(at, handle, &right(at, handle), DENIED);
        expect!(reclaim(lender, handle, 0)?, Ok(()), "when reclaiming");
        outcome
    })
}

fn memory_is_retrieved_once(at: Instance) -> Outcome {
    borrowed(at, |handle| {
        let again = right(at, handle).retrieve(at)?;
        if again.is_ok() {
            release(at)?.ok();
        }
        expect!(again.err(), Some(Status::Denied));
        pass!("DENIED")
    })
}

fn description_waits_for_the_rx_buffer(at: Instance) -> Outcome {
    lent(at, Kind::Share, |handle| {
        // The list of partitions fills it.
        let list = at.status(&[bulkhead_sdk::ffa::function::PARTITION_INFO_GET.into()])?;
        ensure!(list.is_ok(), "the list of partitions is refused with {:?}", list.err());
        let busy = right(at, handle).retrieve(at)?;
        expect!(release(at)?, Ok(()), "when releasing RX");
        expect!(busy.err(), Some(Status::Busy));
        retrieve(at, Kind::Share, handle)?;
        expect!(relinquish(at, handle, 0, 1, at.id())?, Ok(()), "when relinquishing");
        pass!("BUSY")
    })
}

fn rest_of_a_description_that_is_whole_is_invalid(at: Instance) -> Outcome {
    borrowed(at, |handle| {
        for offset in [0, 0x60, 0xffff_fff0] {
            let reply = at.call(&[bulkhead_sdk::ffa::function::MEM_FRAG_RX.into(), handle & 0xffff_ffff, handle >> 32, offset])?;
            expect!(reply.as_error(), Some(Status::InvalidParameters), "from {offset:#x}");
        }
        pass!("INVALID_PARAMETERS")
    })
}

fn memory_is_relinquished_once(at: Instance) -> Outcome {
    lent(at, Kind::Share, |handle| {
        retrieve(at, Kind::Share, handle)?;
        expect!(relinquish(at, handle, 0, 1, at.id())?, Ok(()), "for the first time");
        expect!(relinquish(at, handle, 0, 1, at.id())?, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn normal_world_borrows_nothing(at: Instance) -> Outcome {
    lent(Instance::SEl1, Kind::Share, |handle| not_retrieved(at, handle, &right(at, handle), EITHER))
}
