//! FFA_RXTX_MAP, FFA_RXTX_UNMAP, FFA_RX_RELEASE, FFA_RX_ACQUIRE.

use super::prelude::*;
use crate::probes::ask;
use bulkhead_sdk::Line;
use bulkhead_sdk::ffa::{Status, Version, function};
use bulkhead_sdk::memory::READ_WRITE;
use conformance_testkit::Command;

checks! { "buffers":
    "13.6" unaligned_buffer_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.6" no_pages_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.6" too_many_pages_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or NO_MEMORY";
    "13.6" reserved_bits_of_the_page_count_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.6" one_page_for_both_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.6" address_beyond_all_memory_is_no_buffer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" device_is_no_buffer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" memory_of_others_is_no_buffer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" code_is_no_buffer_to_write_from [SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" lent_page_is_no_buffer [SEl1 SEl0] ANY "INVALID_PARAMETERS or DENIED";
    "13.6" refused_mapping_changes_nothing [Ns SEl1 SEl0] ANY "FFA_SUCCESS for a right one afterwards";
    "13.6" buffers_are_mapped_by_the_32_bit_call [Ns SEl1 SEl0] ANY "FFA_SUCCESS";
    "13.6" second_map_is_denied [Ns SEl1 SEl0] ANY "DENIED";
    "13.7" unmapped_buffers_can_be_mapped_again [Ns SEl1 SEl0] ANY "FFA_SUCCESS, each time";
    "13.7" unmap_without_buffers_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.7" unmap_for_another_is_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.7" unmapped_buffers_can_be_lent [SEl1 SEl0] ANY "FFA_SUCCESS";
    "13.5" release_of_an_empty_buffer_is_denied [Ns SEl1 SEl0] ANY "DENIED";
    "13.5" release_for_another_is_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.4" acquired_buffer_is_not_written [Ns] SINCE_1_1 "FFA_SUCCESS, then BUSY for who would fill RX, until it is released";
    "13.4" full_buffer_is_not_acquired [Ns] SINCE_1_1 "DENIED";
    "13.4" acquired_buffer_is_not_acquired_again [Ns] SINCE_1_1 "DENIED";
    "13.4" acquire_without_buffers_is_refused [Ns] SINCE_1_1 "INVALID_PARAMETERS or DENIED";
    "13.4" acquire_is_not_a_partitions_call [SEl1 SEl0] ANY "NOT_SUPPORTED";
    "DEN0140 2.3" buffers_cannot_be_given_away [SEl1 SEl0] ANY "DENIED";
}

/// An attempt to map: what comes of it. What should not have been mapped is unmapped at once.
fn map(at: Instance, id: u32, tx: u64, rx: u64, pages: u64) -> Result<Result<(), Status>, Line> {
    let result = at.status(&[id.into(), tx, rx, pages])?.map(|_| ());
    if result.is_ok() {
        at.unmap()?;
    }
    Ok(result)
}

/// Each of these is refused with one of the codes.
fn refused(at: Instance, cases: &[(u64, u64, u64)], codes: &[Status]) -> Outcome {
    at.without_buffers(|| {
        for (n, (tx, rx, pages)) in cases.iter().enumerate() {
            let result = map(at, function::RXTX_MAP_64, *tx, *rx, *pages)?;
            let as_expected = result.is_err_and(|status| codes.contains(&status));
            ensure!(as_expected, "case {n}, TX {tx:#x}, RX {rx:#x}, {pages:#x} pages: {result:x?}");
        }
        pass!("{} cases", cases.len())
    })
}

const INVALID: &[Status] = &[Status::InvalidParameters];
const FOREIGN: &[Status] = &[Status::InvalidParameters, Status::Denied];

fn unaligned_buffer_is_invalid(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    refused(at, &[(tx + 8, rx, 1), (tx, rx + 0x10, 1), (tx + 0x800, rx + 0x800, 1), (tx | 1, rx, 1)], INVALID)
}

fn no_pages_are_invalid(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    refused(at, &[(tx, rx, 0)], INVALID)
}

fn too_many_pages_are_invalid(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    refused(at, &[(tx, rx, 0x3f)], &[Status::InvalidParameters, Status::NoMemory])
}

fn reserved_bits_of_the_page_count_are_invalid(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    refused(at, &[(tx, rx, 1 << 6 | 1), (tx, rx, 1 << 31 | 1)], INVALID)
}

fn one_page_for_both_is_invalid(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    refused(at, &[(tx, tx, 1), (rx, rx, 1)], INVALID)
}

fn address_beyond_all_memory_is_no_buffer(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    let cases = [0xffff_ffff_ffff_f000, 1 << 48, 1 << 52].map(|end| [(end, rx, 1), (tx, end, 1)]);
    refused(at, cases.as_flattened(), FOREIGN)
}

/// The interrupt controller, the normal world's UART, and the secure GPIO.
fn device_is_no_buffer(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    let cases = [0x0800_0000, 0x0900_0000, 0x090b_0000].map(|device| [(device, rx, 1), (tx, device, 1)]);
    refused(at, cases.as_flattened(), FOREIGN)
}

/// EL3's memory, the SPMC's, the other partitions'.
fn memory_of_others_is_no_buffer(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    let cases = [0x0e00_0000, 0x0e09_0000, 0x0e10_0000, 0x0e80_4000, 0x0ea0_4000].map(|page| [(page, rx, 1), (tx, page, 1)]);
    refused(at, cases.as_flattened(), FOREIGN)
}

fn code_is_no_buffer_to_write_from(at: Instance) -> Outcome {
    let rx = at.buffers()?.0;
    let code = ask(&at.partition(), Command::Places, &[])?[3] & !0xfff;
    refused(at, &[(code, rx, 1)], FOREIGN)
}

/// Lends its own page to the other partition while `work` is done.
fn while_lent<T>(at: Instance, work: impl FnOnce(u64) -> Result<T, Problem>) -> Result<T, Problem> {
    let sent = ask(&at.partition(), Command::Send, &[1, at.other().id.0.into()])?;
    ensure!(sent[0] == 1, "lending gives {:?}", Status::from_code(sent[1] as u32));
    let result = work(sent[2]);
    let reclaimed = ask(&at.partition(), Command::Reclaim, &[sent[1]])?;
    ensure!(reclaimed[0] == 1, "reclaiming gives {:?}", Status::from_code(reclaimed[1] as u32));
    result
}

fn lent_page_is_no_buffer(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    while_lent(at, |page| refused(at, &[(page, rx, 1), (tx, page, 1)], FOREIGN))
}

fn refused_mapping_changes_nothing(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    at.without_buffers(|| {
        for (tx, rx, pages) in [(tx, 1 << 48, 1), (1 << 48, rx, 1), (tx, rx, 0)] {
            let wrong = map(at, function::RXTX_MAP_64, tx, rx, pages)?;
            ensure!(wrong.is_err(), "a wrong mapping was taken");
        }
        expect!(at.status(&[function::RXTX_UNMAP.into()])?, Err(Status::InvalidParameters), "for unmapping what was refused");
        expect!(map(at, function::RXTX_MAP_64, tx, rx, 1)?, Ok(()));
        pass!("a right one is taken afterwards")
    })
}

/// Everything lies below 4 GiB here. What is in the upper halves does not count.
fn buffers_are_mapped_by_the_32_bit_call(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    at.without_buffers(|| {
        expect!(map(at, function::RXTX_MAP_32, tx, rx, 1)?, Ok(()));
        let noise = 0xdead_beef << 32;
        expect!(map(at, function::RXTX_MAP_32, tx | noise, rx | noise, 1 | noise)?, Ok(()), "with upper halves");
        pass!("FFA_SUCCESS")
    })
}

fn second_map_is_denied(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let (page, (rx, tx)) = (at.page()?, at.buffers()?);
        for (tx, rx) in [(page, rx), (tx, page), (tx, rx)] {
            expect!(at.status(&[function::RXTX_MAP_64.into(), tx, rx, 1])?, Err(Status::Denied));
        }
        pass!("DENIED")
    })
}

fn unmapped_buffers_can_be_mapped_again(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    at.without_buffers(|| {
        for turn in 0..3 {
            // They are the owner's again, to read and to write.
            for page in [rx, tx] {
                at.write(page, turn)?;
                expect!(at.read(page)?, turn);
            }
            at.map()?;
            at.unmap()?;
        }
        pass!("3 times")
    })
}

fn unmap_without_buffers_is_invalid(at: Instance) -> Outcome {
    at.without_buffers(|| {
        expect!(at.status(&[function::RXTX_UNMAP.into()])?, Err(Status::InvalidParameters));
        pass!("INVALID_PARAMETERS")
    })
}

fn unmap_for_another_is_invalid(at: Instance) -> Outcome {
    at.with_buffers(|| {
        for id in [u64::from(at.other().id.0), 0x7777, 0xffff] {
            expect!(at.status(&[function::RXTX_UNMAP.into(), id << 16])?, Err(Status::InvalidParameters), "for {id:#x}");
        }
        pass!("INVALID_PARAMETERS")
    })
}

/// Lends one page by a description that is written into the TX buffer at `tx` word by word: the handle.
fn lend_by(at: Instance, tx: u64, page: u64) -> Result<Result<u64, Status>, Line> {
    let v1_0 = at.version() < Version::V1_1;
    // A single borrower chooses the memory's type.
    let sender = u64::from(at.id().0);
    let header: &[u64] = if v1_0 { &[sender, 0, 0, 1 << 32] } else { &[sender, 0, 0, 16 | 1 << 32, 48, 0] };
    let composite = 8 * header.len() as u64 + 16;
    let access = u64::from(at.other().id.0) | u64::from(READ_WRITE) << 16 | composite << 32;
    let rest = [access, 0, 1 | 1 << 32, 0, page, 1];
    let mut length = 0;
    for word in header.iter().chain(&rest) {
        at.write(tx + length, *word)?;
        length += 8;
    }
    let sent = at.status(&[function::MEM_LEND_64.into(), length, length])?;
    Ok(sent.map(|regs| u64::from(regs.w(2)) | u64::from(regs.w(3)) << 32))
}

fn unmapped_buffers_can_be_lent(at: Instance) -> Outcome {
    let ((rx, tx), page) = (at.buffers()?, at.page()?);
    at.without_buffers(|| {
        for (buffer, other) in [(rx, tx), (tx, rx)] {
            let mapped = at.status(&[function::RXTX_MAP_64.into(), page, other, 1])?;
            ensure!(mapped.is_ok(), "mapping another page: {mapped:?}");
            let lent = lend_by(at, page, buffer);
            let reclaimed = match lent {
                Ok(Ok(handle)) => at.status(&[function::MEM_RECLAIM.into(), handle & 0xffff_ffff, handle >> 32])?.map(|_| ()),
                _ => Ok(()),
            };
            at.unmap()?;
            let lent = lent?;
            ensure!(lent.is_ok() && reclaimed.is_ok(), "lending what was a buffer: {lent:?}, reclaiming it: {reclaimed:?}");
        }
        pass!("both")
    })
}

fn release_of_an_empty_buffer_is_denied(at: Instance) -> Outcome {
    at.with_buffers(|| {
        expect!(at.status(&[function::RX_RELEASE.into()])?, Err(Status::Denied));
        pass!("DENIED")
    })
}

fn release_for_another_is_invalid(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let filled = at.status(&[function::PARTITION_INFO_GET.into()])?;
        ensure!(filled.is_ok(), "{filled:?}");
        let other = at.status(&[function::RX_RELEASE.into(), at.other().id.0.into()])?;
        let own = at.status(&[function::RX_RELEASE.into()])?;
        expect!(other.map(|_| ()), Err(Status::InvalidParameters));
        ensure!(own.is_ok(), "its own: {own:?}");
        pass!("INVALID_PARAMETERS")
    })
}

fn acquire(at: Instance) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::RX_ACQUIRE.into(), at.id().0.into()])?.map(|_| ()))
}

fn release(at: Instance) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::RX_RELEASE.into()])?.map(|_| ()))
}

fn list(at: Instance) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::PARTITION_INFO_GET.into()])?.map(|_| ()))
}

fn acquired_buffer_is_not_written(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let acquired = acquire(at)?;
        let meanwhile = list(at)?;
        let released = release(at)?;
        let later = list(at)?;
        let released_again = release(at)?;
        expect!((acquired, meanwhile, released, later, released_again), (Ok(()), Err(Status::Busy), Ok(()), Ok(()), Ok(())));
        pass!("BUSY meanwhile")
    })
}

fn full_buffer_is_not_acquired(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let (filled, acquired, released) = (list(at)?, acquire(at)?, release(at)?);
        expect!((filled, acquired, released), (Ok(()), Err(Status::Denied), Ok(())));
        pass!("DENIED")
    })
}

fn acquired_buffer_is_not_acquired_again(at: Instance) -> Outcome {
    at.with_buffers(|| {
        let (first, second, released) = (acquire(at)?, acquire(at)?, release(at)?);
        expect!((first, second, released), (Ok(()), Err(Status::Denied), Ok(())));
        pass!("DENIED")
    })
}

fn acquire_without_buffers_is_refused(at: Instance) -> Outcome {
    at.without_buffers(|| {
        let acquired = acquire(at)?;
        ensure!(matches!(acquired, Err(Status::InvalidParameters | Status::Denied)), "{acquired:?}");
        pass!("{acquired:?}")
    })
}

fn acquire_is_not_a_partitions_call(at: Instance) -> Outcome {
    expect!(at.status(&[function::RX_ACQUIRE.into(), at.id().0.into()])?, Err(Status::NotSupported));
    pass!("NOT_SUPPORTED")
}

fn buffers_cannot_be_given_away(at: Instance) -> Outcome {
    let (rx, tx) = at.buffers()?;
    for page in [rx, tx] {
        for kind in 0..3 {
            let sent = ask(&at.partition(), Command::Send, &[kind, at.other().id.0.into(), page])?;
            expect!((sent[0], Status::from_code(sent[1] as u32)), (0, Some(Status::Denied)), "for kind {kind}");
        }
    }
    pass!("neither shared, lent nor donated")
}
