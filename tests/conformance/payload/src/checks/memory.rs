//! Memory shared, lent and donated between the normal world and partitions, and between partitions.

use super::prelude::*;
use crate::instance::version_of;
use crate::probes::{SELF, ask, describe};
use bulkhead_sdk::ffa::descriptor::{transaction, transaction_v1_0};
use bulkhead_sdk::ffa::{EndpointId, Status, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, NON_SECURE, ONLY_SELF, READ_ONLY, READ_WRITE, Range};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe};

checks! { "memory":
    "DEN0140 2.3" shared_page_is_seen_by_both_sides [Ns] ANY "both sides read what the other wrote";
    "DEN0140 1.10" access_descriptors_of_both_sizes_are_taken [Ns] SINCE_1_1 "FFA_SUCCESS for 16 and 32 bytes";
    "DEN0140 2.2" page_is_lent_and_comes_back [Ns] ANY "the borrower's data, and INVALID_PARAMETERS for a second reclaim";
    "DEN0140 1.11" memory_is_zeroed_where_that_is_asked_for [Ns] ANY "zeros";
    "DEN0140 2.1" donated_page_cannot_be_reclaimed [Ns] ANY "an error, and DENIED for sharing it";
    "DEN0140 1.12" long_description_travels_in_fragments [Ns] ANY "every range, in several fragments both ways";
    "DEN0140 2.8" rest_of_a_description_is_asked_for_in_order [Ns] ANY "INVALID_PARAMETERS from any other offset";
    "DEN0140 2.4" two_borrowers_share_one_page [Ns] SINCE_1_2 "both retrieve; DENIED for a reclaim while one borrows";
    "DEN0140 2.7" memory_in_use_cannot_be_reclaimed [Ns] ANY "DENIED";
    "DEN0140 2.2" lent_page_cannot_be_lent_again [Ns] ANY "DENIED";
    "DEN0140 2.3" buffer_cannot_be_shared [Ns] ANY "DENIED";
    "DEN0140 2.3" secure_memory_is_not_the_normal_worlds_to_share [Ns] ANY "DENIED or INVALID_PARAMETERS";
    "DEN0140 2.3" wrong_descriptions_are_refused [Ns] SINCE_1_1 "INVALID_PARAMETERS or DENIED for each";
    "DEN0140 2.4" foreign_handle_is_refused [Ns] ANY "INVALID_PARAMETERS or DENIED";
    "DEN0140 2.4" partitions_share_with_each_other [SEl1 SEl0] ANY "both sides read what the other wrote, the normal world nothing";
    "DEN0140 2.4" many_transactions_live_at_a_time [SEl1 SEl0] SINCE_1_2 "1,024 of 64 KiB, each retrieved, with what its lender wrote";
    "DEN0140 2.3" greedy_lender_starves_only_itself [Ns] ANY "NO_MEMORY, and others share on";
}

const BOTH: [Probe; 2] = [PROBE_EL1, PROBE_EL0];
static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();
static PAGE_B: Pages<1> = Pages::new();
/// Every other page of these is a range of its own: more ranges than one fragment holds.
static MANY: Pages<MANY_PAGES> = Pages::new();
const MANY_PAGES: usize = 1100;
const TAG: u64 = 0x7a67;

fn failed(what: &str, status: Status) -> Line {
    Line::new(format_args!("{what}: {status:?}"))
}

/// Runs a check with RX/TX buffers mapped.
pub fn with_buffers(check: impl FnOnce() -> Outcome) -> Outcome {
    MAILBOX.map().map_err(|status| failed("RXTX_MAP", status))?;
    let outcome = check();
    let unmapped = MAILBOX.unmap();
    outcome.and_then(|line| unmapped.map(|()| line).map_err(|status| failed("RXTX_UNMAP", status).into()))
}

fn borrower(probe: &Probe, permissions: u8) -> Borrower {
    Borrower { id: probe.id, permissions }
}

/// Gives ranges to one partition.
pub fn give(kind: Kind, probe: &Probe, ranges: &[Range], fragment: usize) -> Result<u64, Status> {
    let borrowers = [borrower(probe, if kind == Kind::Donate { 0 } else { READ_WRITE })];
    let description = Description { tag: TAG, ..lender(&borrowers, ranges).by(kind) };
    memory::send(kind, &MAILBOX, &description, fragment)
}

fn one(page: &Pages<1>) -> [Range; 1] {
    [Range { address: page.address(), pages: 1 }]
}

/// The partition retrieves: address, pages, ranges, fragments, attributes.
pub fn retrieve_from(probe: &Probe, kind: Kind, handle: u64, lender: EndpointId, tag: u64) -> Result<[u64; 5], Line> {
    let words = ask(probe, Command::Retrieve, &[handle, u64::from(lender.0), tag, u64::from(kind.read_write())])?;
    if words[0] != 1 {
        fail!("{} cannot retrieve: {:?}", probe.name, Status::from_code(words[1] as u32));
    }
    Ok([words[1], words[2], words[3], words[4], words[5]])
}

/// A command whose answer is 1, or 0 and a status.
pub fn ask_for_status(probe: &Probe, command: Command, arguments: &[u64]) -> Result<Result<(), Status>, Line> {
    let words = ask(probe, command, arguments)?;
    Ok(if words[0] == 1 { Ok(()) } else { Err(Status::from_code(words[1] as u32).unwrap_or(Status::NotSupported)) })
}

pub fn shared_page_is_seen_by_both_sides(_: Instance) -> Outcome {
    with_buffers(|| {
        for probe in BOTH {
            PAGE_A.write(0, &0x1122_3344_5566_7788u64.to_le_bytes());
            let handle = give(Kind::Share, &probe, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_SHARE", s))?;
            let [address, pages, _, _, attributes] = retrieve_from(&probe, Kind::Share, handle, SELF, TAG)?;
            ensure!(address == PAGE_A.address() && pages == 1, "{}: {pages} pages at {address:#x}", probe.name);
            // The NS bit came with 1.1.
            let says = attributes & u64::from(NON_SECURE) != 0 || version_of(probe.id) < Version::V1_1;
            ensure!(says, "{}: attributes {attributes:#x} do not say non-secure", probe.name);
            let read = ask(&probe, Command::Read, &[address])?;
            ensure!(read[..2] == [1, 0x1122_3344_5566_7788], "{} reads {:#x}", probe.name, read[1]);
            ask(&probe, Command::Write, &[address + 8, 0xfeed])?;
            ensure!(PAGE_A.word(8) == 0xfeed, "the normal world reads {:#x}", PAGE_A.word(8));
            give_back(&probe, handle)?;
        }
        pass!("by both partitions")
    })
}

/// The partition relinquishes, and the memory is reclaimed.
pub fn give_back(probe: &Probe, handle: u64) -> Result<(), Line> {
    ask_for_status(probe, Command::Relinquish, &[handle, 0])?.map_err(|s| failed("RELINQUISH", s))?;
    memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))
}

fn access_descriptors_of_both_sizes_are_taken(_: Instance) -> Outcome {
    with_buffers(|| {
        for access_size in [16, 32] {
            let borrowers = [borrower(&PROBE_EL1, READ_WRITE)];
            let ranges = one(&PAGE_A);
            let description = Description { access_size, ..lender(&borrowers, &ranges) };
            let handle = memory::send(Kind::Share, &MAILBOX, &description, PAGE).map_err(|s| failed("MEM_SHARE", s))?;
            retrieve_from(&PROBE_EL1, Kind::Share, handle, SELF, 0)?;
            give_back(&PROBE_EL1, handle)?;
        }
        pass!("16 and 32 bytes")
    })
}

fn page_is_lent_and_comes_back(_: Instance) -> Outcome {
    with_buffers(|| {
        for probe in BOTH {
            let handle = give(Kind::Lend, &probe, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_LEND", s))?;
            let [address, ..] = retrieve_from(&probe, Kind::Lend, handle, SELF, TAG)?;
            ask(&probe, Command::Write, &[address, 0xcafe])?;
            give_back(&probe, handle)?;
            ensure!(PAGE_A.word(0) == 0xcafe, "the page holds {:#x}", PAGE_A.word(0));
            let again = memory::reclaim(handle, 0);
            ensure!(again == Err(Status::InvalidParameters), "a second reclaim gives {again:?}");
        }
        pass!("to both partitions")
    })
}

fn memory_is_zeroed_where_that_is_asked_for(_: Instance) -> Outcome {
    with_buffers(|| {
        let borrowers = [borrower(&PROBE_EL1, READ_WRITE)];
        let ranges = one(&PAGE_A);
        PAGE_A.write(0, &[0xff; 16]);
        let description = Description { flags: memory::ZERO, ..lender(&borrowers, &ranges).by(Kind::Lend) };
        let handle = memory::send(Kind::Lend, &MAILBOX, &description, PAGE).map_err(|s| failed("MEM_LEND", s))?;
        let [address, ..] = retrieve_from(&PROBE_EL1, Kind::Lend, handle, SELF, 0)?;
        let read = ask(&PROBE_EL1, Command::Read, &[address])?;
        ensure!(read[..2] == [1, 0], "before the loan: the borrower reads {:#x}", read[1]);
        ask(&PROBE_EL1, Command::Write, &[address, 0x5ec2e7])?;
        ask_for_status(&PROBE_EL1, Command::Relinquish, &[handle, u64::from(memory::ZERO)])?.map_err(|s| failed("RELINQUISH", s))?;
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        ensure!(PAGE_A.word(0) == 0, "after relinquishing: the page holds {:#x}", PAGE_A.word(0));
        PAGE_A.write(0, &[0xff; 16]);
        let handle = give(Kind::Lend, &PROBE_EL1, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_LEND", s))?;
        memory::reclaim(handle, memory::ZERO).map_err(|s| failed("RECLAIM", s))?;
        ensure!(PAGE_A.word(0) == 0, "after reclaiming: the page holds {:#x}", PAGE_A.word(0));
        pass!("before a loan, after one, and at reclaim")
    })
}

fn donated_page_cannot_be_reclaimed(_: Instance) -> Outcome {
    with_buffers(|| {
        let handle = give(Kind::Donate, &PROBE_EL1, &one(&PAGE_B), PAGE).map_err(|s| failed("MEM_DONATE", s))?;
        let words = ask(&PROBE_EL1, Command::Retrieve, &[handle, 0, TAG, u64::from(Kind::Donate.read_write())])?;
        ensure!(words[0] == 1, "cannot retrieve: {:?}", Status::from_code(words[1] as u32));
        ask(&PROBE_EL1, Command::Write, &[words[1], 1])?;
        let reclaim = memory::reclaim(handle, 0);
        ensure!(matches!(reclaim, Err(Status::Denied | Status::InvalidParameters)), "{reclaim:?}");
        let again = give(Kind::Share, &PROBE_EL1, &one(&PAGE_B), PAGE);
        ensure!(again == Err(Status::Denied), "sharing what was given away gives {again:?}");
        pass!("and not shared again")
    })
}

fn long_description_travels_in_fragments(_: Instance) -> Outcome {
    with_buffers(|| {
        let ranges: [Range; 300] = core::array::from_fn(|n| Range { address: MANY.address() + (2 * n * PAGE) as u64, pages: 1 });
        for (probe, fragment) in [(PROBE_EL1, PAGE), (PROBE_EL0, 1024), (PROBE_EL1, 160)] {
            MANY.write(2 * 299 * PAGE, &0x299u64.to_le_bytes());
            let handle = give(Kind::Share, &probe, &ranges, fragment).map_err(|s| failed("MEM_SHARE", s))?;
            let [_, pages, count, fragments, _] = retrieve_from(&probe, Kind::Share, handle, SELF, TAG)?;
            ensure!(pages == 300 && count == 300, "{pages} pages in {count} ranges");
            ensure!(fragments >= 2, "the answer came in {fragments} fragment");
            let last = ask(&probe, Command::Read, &[ranges[299].address])?;
            ensure!(last[..2] == [1, 0x299], "the last page holds {:#x}", last[1]);
            give_back(&probe, handle)?;
        }
        pass!("300 ranges, fragments of 4096, 1024 and 160 bytes")
    })
}

/// The normal world's hypervisor asks for what it sent, which takes two fragments.
fn rest_of_a_description_is_asked_for_in_order(at: Instance) -> Outcome {
    with_buffers(|| {
        let ranges: [Range; 300] = core::array::from_fn(|n| Range { address: MANY.address() + (2 * n * PAGE) as u64, pages: 1 });
        let handle = give(Kind::Share, &PROBE_EL1, &ranges, PAGE).map_err(|s| failed("MEM_SHARE", s))?;
        // A header that names only the handle, in the layout of either version.
        let length = if at.version() == Version::V1_0 { transaction_v1_0::SIZE } else { transaction::SIZE };
        MAILBOX.tx.write(0, &[0; transaction::SIZE]);
        MAILBOX.tx.write(transaction::HANDLE, &handle.to_le_bytes());
        let first = at.call(&[function::MEM_RETRIEVE_REQ_32.into(), length as u64, length as u64])?;
        let _ = MAILBOX.release();
        let sent = u64::from(first.w(2));
        let ask = |offset: u64| at.call(&[function::MEM_FRAG_RX.into(), handle & 0xffff_ffff, handle >> 32, offset]);
        let wrong = [ask(0)?, ask(sent.wrapping_sub(16))?, ask(sent + 16)?].map(|reply| reply.as_error());
        let rest = ask(sent)?;
        let _ = MAILBOX.release();
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        expect!(first.function(), function::MEM_RETRIEVE_RESP, "{}", describe(&first));
        expect!(wrong, [Some(Status::InvalidParameters); 3]);
        expect!(rest.function(), function::MEM_FRAG_TX, "{}", describe(&rest));
        pass!("after {sent} bytes of {}", first.w(1))
    })
}

fn two_borrowers_share_one_page(_: Instance) -> Outcome {
    with_buffers(|| {
        let borrowers = [borrower(&PROBE_EL1, READ_WRITE), borrower(&PROBE_EL0, READ_ONLY)];
        let ranges = one(&PAGE_A);
        let description = lender(&borrowers, &ranges);
        let handle = memory::send(Kind::Share, &MAILBOX, &description, PAGE).map_err(|s| failed("MEM_SHARE", s))?;
        // A borrower that names itself only says so; one that does not is taken to mean a transaction of its own.
        let alone = ask(&PROBE_EL1, Command::Retrieve, &[handle, 0, 0, u64::from(READ_WRITE)])?;
        ensure!(alone[0] == 0, "a list of one borrower was taken for two");
        let mut reads = [0; 2];
        for (n, probe) in BOTH.iter().enumerate() {
            let permissions = u64::from(borrowers[n].permissions);
            let words = ask(probe, Command::Retrieve, &[handle, 0, 0, permissions, u64::from(ONLY_SELF)])?;
            ensure!(words[0] == 1, "{}: {:?}", probe.name, Status::from_code(words[1] as u32));
            if n == 0 {
                ask(probe, Command::Write, &[words[1], 0x2b])?;
            }
            reads[n] = ask(probe, Command::Read, &[words[1]])?[1];
        }
        ensure!(reads == [0x2b, 0x2b], "they read {reads:x?}");
        ask_for_status(&PROBE_EL1, Command::Relinquish, &[handle, 0])?.map_err(|s| failed("RELINQUISH", s))?;
        let early = memory::reclaim(handle, 0);
        give_back(&PROBE_EL0, handle)?;
        ensure!(early == Err(Status::Denied), "reclaiming while one borrows gives {early:?}");
        pass!("one writes, both read")
    })
}

fn memory_in_use_cannot_be_reclaimed(_: Instance) -> Outcome {
    with_buffers(|| {
        for probe in BOTH {
            let handle = give(Kind::Share, &probe, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_SHARE", s))?;
            retrieve_from(&probe, Kind::Share, handle, SELF, TAG)?;
            let twice = ask_for_status(&probe, Command::Retrieve, &[handle, 0, TAG, u64::from(READ_WRITE)])?;
            let early = memory::reclaim(handle, 0);
            give_back(&probe, handle)?;
            ensure!(early == Err(Status::Denied), "{early:?}");
            ensure!(twice == Err(Status::Denied), "retrieving twice gives {twice:?}");
        }
        pass!("DENIED, and so is retrieving twice")
    })
}

fn lent_page_cannot_be_lent_again(_: Instance) -> Outcome {
    with_buffers(|| {
        let handle = give(Kind::Lend, &PROBE_EL1, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_LEND", s))?;
        let results = [Kind::Lend, Kind::Share, Kind::Donate].map(|kind| give(kind, &PROBE_EL0, &one(&PAGE_A), PAGE));
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        for result in results {
            ensure!(result == Err(Status::Denied), "{result:?}");
        }
        pass!("nor shared, nor donated")
    })
}

fn buffer_cannot_be_shared(_: Instance) -> Outcome {
    with_buffers(|| {
        for page in [&MAILBOX.rx, &MAILBOX.tx] {
            let result = give(Kind::Share, &PROBE_EL1, &one(page), PAGE);
            ensure!(result == Err(Status::Denied), "{result:?}");
        }
        pass!("neither RX nor TX")
    })
}

fn secure_memory_is_not_the_normal_worlds_to_share(_: Instance) -> Outcome {
    with_buffers(|| {
        for address in [0x0e00_0000, 0x0e10_0000, 0x0e20_4000, 0x0e60_4000, 0x0800_0000] {
            let result = give(Kind::Share, &PROBE_EL0, &[Range { address, pages: 1 }], PAGE);
            ensure!(matches!(result, Err(Status::Denied | Status::InvalidParameters)), "{address:#x} gives {result:?}");
        }
        pass!("5 addresses")
    })
}

fn wrong_descriptions_are_refused(_: Instance) -> Outcome {
    with_buffers(|| {
        let good_ranges = one(&PAGE_A);
        let to_el1 = [borrower(&PROBE_EL1, READ_WRITE)];
        let nobody = [Borrower { id: EndpointId(0x80ee), permissions: READ_WRITE }];
        let oneself = [Borrower { id: SELF, permissions: READ_WRITE }];
        let twice = [to_el1[0], to_el1[0]];
        let executable = [borrower(&PROBE_EL1, READ_WRITE | 2 << 2)];
        let unaligned = [Range { address: PAGE_A.address() + 8, pages: 1 }];
        let empty = [Range { address: PAGE_A.address(), pages: 0 }];
        let overlapping = [good_ranges[0], good_ranges[0]];
        let wrapping = [Range { address: 0xffff_ffff_ffff_f000, pages: 2 }];
        let good = lender(&to_el1, &good_ranges);
        let wrong = [
            Description { sender: PROBE_EL0.id, ..good },
            Description { handle: 5, ..good },
            Description { flags: memory::ZERO, ..good },
            Description { flags: 1 << 20, ..good },
            Description { attributes: 0, ..good },
            Description { attributes: good.attributes | NON_SECURE, ..good },
            Description { borrowers: &nobody, ..good },
            Description { borrowers: &oneself, ..good },
            Description { borrowers: &twice, ..good },
            Description { borrowers: &[], ..good },
            Description { borrowers: &executable, ..good },
            Description { ranges: &unaligned, ..good },
            Description { ranges: &empty, ..good },
            Description { ranges: &overlapping, ..good },
            Description { ranges: &wrapping, ..good },
        ];
        for (n, description) in wrong.iter().enumerate() {
            match memory::send(Kind::Share, &MAILBOX, description, PAGE) {
                Err(Status::InvalidParameters | Status::Denied) => {}
                Ok(handle) => {
                    let _ = memory::reclaim(handle, 0);
                    fail!("case {n} was taken");
                }
                Err(status) => fail!("case {n} gives {status:?}"),
            }
        }
        // The page is still whole.
        let handle = give(Kind::Lend, &PROBE_EL1, &good_ranges, PAGE).map_err(|s| failed("MEM_LEND afterwards", s))?;
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        pass!("{} cases", wrong.len())
    })
}

fn foreign_handle_is_refused(_: Instance) -> Outcome {
    with_buffers(|| {
        let handle = give(Kind::Share, &PROBE_EL1, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_SHARE", s))?;
        let other = ask_for_status(&PROBE_EL0, Command::Retrieve, &[handle, 0, TAG, u64::from(READ_WRITE)])?;
        let unknown = ask_for_status(&PROBE_EL1, Command::Retrieve, &[handle + 77, 0, TAG, u64::from(READ_WRITE)])?;
        let wrong_tag = ask_for_status(&PROBE_EL1, Command::Retrieve, &[handle, 0, TAG + 1, u64::from(READ_WRITE)])?;
        let not_held = ask_for_status(&PROBE_EL1, Command::Relinquish, &[handle, 0])?;
        let stolen = call_from(&PROBE_EL0, &[u64::from(function::MEM_RECLAIM), handle & 0xffff_ffff, handle >> 32, 0])?;
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        ensure!(matches!(other, Err(Status::Denied | Status::InvalidParameters)), "another's retrieve gives {other:?}");
        ensure!(unknown == Err(Status::InvalidParameters), "an unknown handle gives {unknown:?}");
        ensure!(wrong_tag == Err(Status::InvalidParameters), "a wrong tag gives {wrong_tag:?}");
        ensure!(not_held == Err(Status::Denied), "relinquishing what is not held gives {not_held:?}");
        ensure!(stolen.as_error().is_some(), "another's reclaim gives {}", describe(&stolen));
        pass!("5 ways")
    })
}

pub fn partitions_share_with_each_other(at: Instance) -> Outcome {
    let (lender, borrower) = (at.partition(), at.other());
    for kind in [0, 1] {
        let sent = ask(&lender, Command::Send, &[kind, u64::from(borrower.id.0)])?;
        ensure!(sent[0] == 1, "{} kind {kind}: {:?}", lender.name, Status::from_code(sent[1] as u32));
        let (handle, page) = (sent[1], sent[2]);
        let [address, _, _, _, attributes] = retrieve_from(&borrower, if kind == 0 { Kind::Share } else { Kind::Lend }, handle, lender.id, 0)?;
        ensure!(address == page, "{} got {address:#x}, not {page:#x}", borrower.name);
        ensure!(attributes & u64::from(NON_SECURE) == 0, "secure memory is called non-secure");
        ask(&borrower, Command::Write, &[address, 0x5eed + kind])?;
        ask_for_status(&borrower, Command::Relinquish, &[handle, 0])?.map_err(|s| failed("RELINQUISH", s))?;
        ask_for_status(&lender, Command::Reclaim, &[handle])?.map_err(|s| failed("RECLAIM", s))?;
        let read = ask(&lender, Command::Read, &[page])?;
        ensure!(read[..2] == [1, 0x5eed + kind], "{} reads {:#x}", lender.name, read[1]);
    }
    // The normal world may not retrieve what partitions share with each other.
    let sent = ask(&lender, Command::Send, &[0, u64::from(borrower.id.0)])?;
    let steal = with_buffers(|| {
        let own = [Borrower { id: SELF, permissions: READ_WRITE }];
        match memory::retrieve(&MAILBOX, &Description::borrower(lender.id, sent[1], 0, &own)) {
            Err(_) => pass!("refused"),
            Ok(_) => fail!("the normal world retrieved a secure page"),
        }
    });
    ask_for_status(&lender, Command::Reclaim, &[sent[1]])?.map_err(|s| failed("RECLAIM", s))?;
    steal?;
    pass!("shared and lent")
}

/// RAM of the normal world that nothing else uses at the time, and what each of many transactions has of it.
const UNUSED: u64 = 0x7000_0000;
const PIECE: u64 = 16 * PAGE as u64;

fn many_transactions_live_at_a_time(at: Instance) -> Outcome {
    let probe = at.partition();
    with_buffers(|| {
        let mut count = 0;
        let outcome = (|| {
            while count < AT_LEAST as u64 {
                let address = UNUSED + count * PIECE;
                let handle = give(Kind::Share, &probe, &[Range { address, pages: 16 }], PAGE).map_err(|s| failed("MEM_SHARE", s))?;
                // The lender keeps its access.
                Instance::Ns.write(address, handle)?;
                count += 1;
                retrieve_from(&probe, Kind::Share, handle, SELF, TAG)?;
            }
            for n in (0..count).step_by(37).chain([count - 1]) {
                let address = UNUSED + n * PIECE;
                expect!(at.read(address)?, Instance::Ns.read(address)?, "at {address:#x}");
            }
            pass!("{count}, 64 MiB in all")
        })();
        for n in 0..count {
            let handle = Instance::Ns.read(UNUSED + n * PIECE)?;
            let _ = ask_for_status(&probe, Command::Relinquish, &[handle, 0])?;
            memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        }
        outcome
    })
}

/// Transactions that the normal world may have at least.
const AT_LEAST: usize = 1024;

fn greedy_lender_starves_only_itself(_: Instance) -> Outcome {
    with_buffers(|| {
        let (mut count, mut refusal) = (0, None);
        while count < MANY_PAGES {
            let ranges = [Range { address: MANY.address() + (count * PAGE) as u64, pages: 1 }];
            match give(Kind::Share, &PROBE_EL1, &ranges, PAGE) {
                // The lender keeps its access, and each page the handle of its share.
                Ok(handle) => MANY.write(count * PAGE, &handle.to_le_bytes()),
                Err(status) => {
                    refusal = Some(status);
                    break;
                }
            }
            count += 1;
        }
        let others = partitions_share_with_each_other_once();
        for n in 0..count {
            memory::reclaim(MANY.word(n * PAGE), 0).map_err(|s| failed("RECLAIM", s))?;
        }
        others?;
        ensure!(refusal.is_none_or(|status| status == Status::NoMemory), "after {count}: {refusal:?}");
        ensure!(refusal.is_some() && count >= AT_LEAST, "{count} shares, then {refusal:?}");
        let handle = give(Kind::Share, &PROBE_EL1, &one(&PAGE_A), PAGE).map_err(|s| failed("MEM_SHARE afterwards", s))?;
        memory::reclaim(handle, 0).map_err(|s| failed("RECLAIM", s))?;
        pass!("NO_MEMORY after {count} shares")
    })
}

fn partitions_share_with_each_other_once() -> Result<(), Line> {
    let sent = ask(&PROBE_EL1, Command::Send, &[0, u64::from(PROBE_EL0.id.0)])?;
    ensure!(sent[0] == 1, "{} cannot share: {:?}", PROBE_EL1.name, Status::from_code(sent[1] as u32));
    retrieve_from(&PROBE_EL0, Kind::Share, sent[1], PROBE_EL1.id, 0)?;
    ask_for_status(&PROBE_EL0, Command::Relinquish, &[sent[1], 0])?.map_err(|s| failed("RELINQUISH", s))?;
    ask_for_status(&PROBE_EL1, Command::Reclaim, &[sent[1]])?.map_err(|s| failed("RECLAIM", s))
}
