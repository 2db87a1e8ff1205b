//! Each attempt ends the partition that makes it, alone: after it all that are left must serve. A partition that was ended
//! stays so; when none of the kind is left, the check asks for a machine that has just started.

use super::prelude::*;
use crate::probes::{SELF, ask, ask_for_error, send, serves};
use crate::say;
use bulkhead_sdk::ffa::Status;
use bulkhead_sdk::memory::{self, Borrower, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::Convention;
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};

checks! { "isolation":
    "8.1" memory_of_another_partition_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Other(Command::Read));
    "8.1" memory_of_another_partition_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Other(Command::Write));
    "8.1" memory_of_another_partition_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Other(Command::Execute));
    "8.1" secure_memory_of_nobody_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0ec0_0000, "nobody's secure memory"));
    "8.1" secure_memory_of_nobody_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0ec0_0000, "nobody's secure memory"));
    "8.1" secure_memory_of_nobody_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0ec0_0000, "nobody's secure memory"));
    "8.1" relinquished_memory_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AfterRelinquish(Command::Read));
    "8.1" relinquished_memory_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AfterRelinquish(Command::Write));
    "8.1" relinquished_memory_cannot_be_read_at_once [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AtOnceAfterRelinquish(Command::Read));
    "8.1" relinquished_memory_cannot_be_written_at_once [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AtOnceAfterRelinquish(Command::Write));
    "8.1" lent_memory_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::WhileLent(Command::Read));
    "8.1" lent_memory_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::WhileLent(Command::Write));
    "8.1" donated_memory_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AfterDonation(Command::Read));
    "8.1" reclaimed_memory_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AfterReclaim(Command::Read));
    "8.1" reclaimed_memory_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::AfterReclaim(Command::Write));
    "8.1" undefined_instruction_ends_the_partition [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Do(Command::Undefined, "an undefined instruction"));
    "8.1" abort_ends_the_partition [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Do(Command::Abort, "FFA_ABORT"));
    "8.1" panic_ends_the_partition [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Do(Command::Panic, "a panic"));
    "8.1" own_code_cannot_be_written [SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::WriteOwnCode);
    "8.1" own_data_cannot_be_executed [SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::ExecuteOwnData);
    "8.1" secure_device_of_nobody_cannot_be_read [SEl1] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x090b_0000, "the secure GPIO"));
    "8.1" device_of_the_normal_world_cannot_be_written [SEl1] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0900_0000, "the normal world's UART"));
    "8.1" memory_of_el3_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0e09_0000, "EL3's memory"));
    "8.1" memory_of_el3_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0e09_0000, "EL3's memory"));
    "8.1" memory_of_el3_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0e09_0000, "EL3's memory"));
    "8.1" code_of_the_spmc_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0e10_0000, "the SPMC's code"));
    "8.1" code_of_the_spmc_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0e10_0000, "the SPMC's code"));
    "8.1" code_of_the_spmc_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0e10_0000, "the SPMC's code"));
    "8.1" data_of_the_spmc_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0e1f_0000, "the SPMC's memory"));
    "8.1" data_of_the_spmc_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0e1f_0000, "the SPMC's memory"));
    "8.1" data_of_the_spmc_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0e1f_0000, "the SPMC's memory"));
    "8.1" secure_flash_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0000_0000, "the secure flash"));
    "8.1" secure_flash_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0000_0000, "the secure flash"));
    "8.1" secure_flash_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0000_0000, "the secure flash"));
    "8.1" variable_store_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x03f0_0000, "the end of the secure flash"));
    "8.1" variable_store_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x03f0_0000, "the end of the secure flash"));
    "8.1" variable_store_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x03f0_0000, "the end of the secure flash"));
    "8.1" memory_of_the_normal_world_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x6000_0000, "the normal world's RAM"));
    "8.1" memory_of_the_normal_world_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x6000_0000, "the normal world's RAM"));
    "8.1" memory_of_the_normal_world_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x6000_0000, "the normal world's RAM"));
    "8.1" interrupt_controller_cannot_be_read [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Read, 0x0800_0000, "the GIC"));
    "8.1" interrupt_controller_cannot_be_written [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Write, 0x0800_0000, "the GIC"));
    "8.1" interrupt_controller_cannot_be_executed [SEl1 SEl0] ANY "ABORTED for the caller, and all others serve" = |at| attempt(at, Attempt::Reach(Command::Execute, 0x0800_0000, "the GIC"));
}

/// What a partition tries.
#[derive(Clone, Copy)]
enum Attempt {
    /// To reach an address: how, whose it is.
    Reach(Command, u64, &'static str),
    /// To reach memory of a partition of the other kind.
    Other(Command),
    /// To reach a page of the normal world that it has relinquished.
    AfterRelinquish(Command),
    /// The same in the instruction after it relinquished the page.
    AtOnceAfterRelinquish(Command),
    /// To reach a page of its own that it has lent to another partition.
    WhileLent(Command),
    /// To reach a page that it has donated to another partition.
    AfterDonation(Command),
    /// To reach a page of another partition's that was lent to it and that its owner has reclaimed.
    AfterReclaim(Command),
    /// To write its own code, at S-EL0.
    WriteOwnCode,
    /// To execute its own data, at S-EL0.
    ExecuteOwnData,
    /// Something else that ends it.
    Do(Command, &'static str),
}

/// Where the normal world's RAM starts.
const NORMAL_WORLD_RAM: u64 = 0x4000_0000;

static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

/// Who fails, in this order.
const ORDER: [Probe; 4] = [VICTIM_EL0, VICTIM_EL1, PROBE_EL0, PROBE_EL1];

/// The first partition of the instance's kind that is left tries.
fn attempt(at: Instance, attempt: Attempt) -> Outcome {
    let alive = ORDER.map(|probe| serves(&probe).is_ok());
    let Some(offender) = (0..ORDER.len()).find(|n| alive[*n] && ORDER[*n].s_el0 == (at == Instance::SEl0)) else { return Err(Problem::Again) };
    let mut others = [PROBE_EL1; ORDER.len()];
    let mut count = 0;
    for n in (0..ORDER.len()).filter(|n| alive[*n] && *n != offender) {
        others[count] = ORDER[n];
        count += 1;
    }
    try_it(&ORDER[offender], attempt, &others[..count])
}

/// An address in the memory of a partition of the other kind.
fn foreign(offender: &Probe) -> u64 {
    if offender.s_el0 { 0x0e60_4000 } else { 0x0e20_4000 }
}

fn verb(command: Command) -> &'static str {
    match command {
        Command::Write => "write",
        Command::Execute => "execute",
        _ => "read",
    }
}

fn try_it(offender: &Probe, attempt: Attempt, others: &[Probe]) -> Outcome {
    serves(offender)?;
    // The other partition in attempts that need one: the one that fails last.
    let (what, command, arguments) = match (attempt, others.last()) {
        (Attempt::Reach(how, address, whose), _) => (whose, how, [address, 0xbad, 0]),
        (Attempt::Other(how), _) => ("another partition", how, [foreign(offender), 0xbad, 0]),
        (Attempt::Do(what, name), _) => (name, what, [0; 3]),
        (Attempt::WriteOwnCode, _) => ("its code", Command::Write, [ask(offender, Command::Places, &[])?[3] & !7, 0xbad, 0]),
        (Attempt::ExecuteOwnData, _) => ("its data", Command::Execute, [ask(offender, Command::Places, &[])?[2], 0, 0]),
        (Attempt::AfterReclaim(how), Some(lender)) => ("a page of another partition", how, [borrowed_from(offender, lender)?, 0xbad, 0]),
        (Attempt::WhileLent(how), Some(borrower)) => ("a page that it lent", how, [sent(offender, 1, borrower)?.1, 0xbad, 0]),
        (Attempt::AfterDonation(how), Some(borrower)) => {
            let (handle, page) = sent(offender, 2, borrower)?;
            retrieve(borrower, handle, offender.id.0, u64::from(Kind::Donate.read_write()))?;
            ("a page that it donated", how, [page, 0xbad, 0])
        }
        (Attempt::AtOnceAfterRelinquish(how), _) => {
            let (handle, page) = borrow_from_normal_world(offender)?;
            ("a page of the normal world", Command::RelinquishAndReach, [handle, page, u64::from(how == Command::Write)])
        }
        // The last partition has only the normal world to borrow from, and nobody to lend to.
        (Attempt::AfterRelinquish(how) | Attempt::AfterReclaim(how) | Attempt::WhileLent(how) | Attempt::AfterDonation(how), _) => {
            let (handle, page) = borrow_from_normal_world(offender)?;
            give_back(offender, handle)?;
            reclaim(handle)?;
            ("a page of the normal world", how, [page, 0xbad, 0])
        }
    };
    let (how, address) = match attempt {
        Attempt::AtOnceAfterRelinquish(how) => (how, arguments[1]),
        _ => (command, arguments[0]),
    };
    if command == Command::Execute && address >= NORMAL_WORLD_RAM && !offender.s_el0 {
        // The CPU itself refuses: EL3 forbids the secure state to execute non-secure memory (SCR_EL3.SIF), which is a fault of
        // the partition's own translation.
        let words = ask(offender, command, &arguments)?;
        ensure!(words[0] == 0, "{what}: executed");
        return pass!("{what}: the CPU refuses the fetch");
    }
    let status = ask_for_error(offender, command, &arguments)?;
    ensure!(status == Status::Aborted, "{what}: answered {status:?}");
    match attempt {
        Attempt::Do(Command::Undefined, _) if offender.s_el0 => say!("ENDED {} | undefined", offender.name),
        // At S-EL1 it sees the exception itself, and gives up.
        Attempt::Do(..) => say!("ENDED {} | abort", offender.name),
        _ => say!("ENDED {} | {} | {address:#x}", offender.name, verb(how)),
    }
    let later = send(offender, Convention::Direct64, &[Command::Echo as u64]);
    ensure!(later.as_error() == Some(Status::Aborted), "a later request gives {:?}", later.as_error());
    if let Attempt::AtOnceAfterRelinquish(_) = attempt {
        reclaim(arguments[0])?;
    }
    for other in others {
        serves(other)?;
    }
    pass!("{what}: ABORTED, {} others serve", others.len())
}

/// A page of the normal world's that the partition has borrowed and used: handle and address.
fn borrow_from_normal_world(borrower: &Probe) -> Result<(u64, u64), Line> {
    let text = |what: &str, status: Status| Line::new(format_args!("{what}: {status:?}"));
    MAILBOX.map().map_err(|s| text("map", s))?;
    let borrowers = [Borrower { id: borrower.id, permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let handle = memory::send(Kind::Share, &MAILBOX, &lender(&borrowers, &ranges), PAGE).map_err(|s| text("share", s));
    let _ = MAILBOX.unmap();
    let handle = handle?;
    Ok((handle, retrieve(borrower, handle, SELF.0, u64::from(READ_WRITE))?))
}

fn reclaim(handle: u64) -> Result<(), Line> {
    memory::reclaim(handle, 0).map_err(|status| Line::new(format_args!("reclaim: {status:?}")))
}

/// A page of its own that a partition lends (1) or donates (2) to another: handle and address.
fn sent(lender: &Probe, kind: u64, borrower: &Probe) -> Result<(u64, u64), Line> {
    let words = ask(lender, Command::Send, &[kind, u64::from(borrower.id.0)])?;
    ensure!(words[0] == 1, "{} cannot send: {:?}", lender.name, Status::from_code(words[1] as u32));
    Ok((words[1], words[2]))
}

/// An address of another partition's that the partition had, and gave back.
fn borrowed_from(borrower: &Probe, lender: &Probe) -> Result<u64, Line> {
    let (handle, page) = sent(lender, 1, borrower)?;
    retrieve(borrower, handle, lender.id.0, u64::from(Kind::Lend.read_write()))?;
    give_back(borrower, handle)?;
    let reclaimed = ask(lender, Command::Reclaim, &[handle])?;
    ensure!(reclaimed[0] == 1, "{} cannot reclaim: {:?}", lender.name, Status::from_code(reclaimed[1] as u32));
    Ok(page)
}

/// The partition retrieves a page, writes and reads it, so that the translation is in the TLB: its address.
fn retrieve(borrower: &Probe, handle: u64, lender: u16, permissions: u64) -> Result<u64, Line> {
    let got = ask(borrower, Command::Retrieve, &[handle, u64::from(lender), 0, permissions])?;
    ensure!(got[0] == 1, "{} cannot retrieve: {:?}", borrower.name, Status::from_code(got[1] as u32));
    let written = ask(borrower, Command::Write, &[got[1], 0x600d])?;
    let read = ask(borrower, Command::Read, &[got[1]])?;
    ensure!(written[0] == 1 && read[..2] == [1, 0x600d], "{} reads {:#x} while it borrows", borrower.name, read[1]);
    Ok(got[1])
}

fn give_back(borrower: &Probe, handle: u64) -> Result<(), Line> {
    let given = ask(borrower, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "{} cannot relinquish: {:?}", borrower.name, Status::from_code(given[1] as u32));
    Ok(())
}
