//! Each attempt ends the partition that makes it, alone. A partition that was ended stays so: the machine restarts after
//! each round, and the tally of earlier boots stays in memory that nothing clears.
//!
//! In a round the two victims and then the two other partitions fail, each by an attempt of its own, and after each
//! failure all that are left must serve. The SPMC's reports are announced to the host with `EXPECT`.

use crate::check::{Outcome, report};
use crate::probes::{SELF, ask, ask_for_error, send, serves};
use crate::{board, ensure, pass, say};
use bulkhead_sdk::ffa::Status;
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, READ_WRITE, Range};
use bulkhead_sdk::message::Convention;
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use bulkhead_testkit::{Command, PROBE_EL0, PROBE_EL1, Probe, VICTIM_EL0, VICTIM_EL1};
use core::sync::atomic::{AtomicU64, Ordering};

/// The group's word.
pub const GROUP: &str = "isolation";

/// What a partition tries.
#[derive(Clone, Copy)]
enum Attempt {
    /// To reach an address: how, whose it is.
    Reach(Command, u64, &'static str),
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

macro_rules! reach {
    ($($address:literal $whose:literal,)*) => {
        &[$(
            Attempt::Reach(Command::Read, $address, $whose),
            Attempt::Reach(Command::Write, $address, $whose),
            Attempt::Reach(Command::Execute, $address, $whose),
        )*]
    };
}

/// Addresses that are nobody's in the test systems, or another's: for every partition.
const REACH: &[Attempt] = reach! {
    0x0e09_0000 "TF-A",
    0x0e10_0000 "Bulkhead's code",
    0x0e1f_0000 "Bulkhead's RAM",
    0x0000_0000 "the secure flash",
    0x03f0_0000 "the variable store",
    0x6000_0000 "the normal world's RAM",
    0x0800_0000 "the GIC",
};

/// What else ends a partition.
const OTHERS: &[Attempt] = &[
    Attempt::AfterRelinquish(Command::Read),
    Attempt::AfterRelinquish(Command::Write),
    Attempt::AtOnceAfterRelinquish(Command::Read),
    Attempt::AtOnceAfterRelinquish(Command::Write),
    Attempt::WhileLent(Command::Read),
    Attempt::WhileLent(Command::Write),
    Attempt::AfterDonation(Command::Read),
    Attempt::AfterReclaim(Command::Read),
    Attempt::AfterReclaim(Command::Write),
    Attempt::Do(Command::Undefined, "an undefined instruction"),
    Attempt::Do(Command::Abort, "FFA_ABORT"),
    Attempt::Do(Command::Panic, "a panic"),
];

/// What only partitions at S-EL0 are kept from, and what those at S-EL1 try in its place.
const AT_S_EL0: [Attempt; 2] = [Attempt::WriteOwnCode, Attempt::ExecuteOwnData];
const AT_S_EL1: [Attempt; 2] =
    [Attempt::Reach(Command::Read, 0x090b_0000, "the secure GPIO"), Attempt::Reach(Command::Write, 0x0900_0000, "the normal world's UART")];

/// Attempts that each kind of partition makes: those above, and three on each of two other owners' memory.
const COUNT: usize = REACH.len() + OTHERS.len() + 6 + AT_S_EL0.len();
/// In a round a kind makes two attempts: the victim one, the probe another.
const ROUNDS: usize = COUNT.div_ceil(2);

fn attempt(s_el0: bool, number: usize) -> Attempt {
    let number = number % COUNT;
    let how = [Command::Read, Command::Write, Command::Execute];
    // A partition of the other kind, and secure memory that no manifest gives to anybody.
    let others = if s_el0 { [0x0e60_4000, 0x0ec0_0000] } else { [0x0e20_4000, 0x0ec0_0000] };
    match number {
        n if n < 6 => Attempt::Reach(how[n % 3], others[n / 3], if n < 3 { "the other kind's partition" } else { "secure memory of nobody's" }),
        n if n < 6 + OTHERS.len() => OTHERS[n - 6],
        n if n < 8 + OTHERS.len() => (if s_el0 { AT_S_EL0 } else { AT_S_EL1 })[n - 6 - OTHERS.len()],
        n => REACH[n - 8 - OTHERS.len()],
    }
}

/// Kept over a reset.
struct Tally {
    magic: AtomicU64,
    round: AtomicU64,
    passed: AtomicU64,
    failed: AtomicU64,
}

/// Where the normal world's RAM starts.
const NORMAL_WORLD_RAM: u64 = 0x4000_0000;

const MAGIC: u64 = 0x6275_6c6b_6865_6164;

#[expect(unsafe_code, reason = "names the section that the entry code does not clear")]
#[unsafe(link_section = ".keep")]
static TALLY: Tally = Tally { magic: AtomicU64::new(0), round: AtomicU64::new(0), passed: AtomicU64::new(0), failed: AtomicU64::new(0) };

static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

/// Passed and failed checks of the boots before this one.
pub fn tally_of_earlier_boots() -> (u32, u32) {
    if TALLY.magic.load(Ordering::Relaxed) != MAGIC {
        return (0, 0);
    }
    (TALLY.passed.load(Ordering::Relaxed) as u32, TALLY.failed.load(Ordering::Relaxed) as u32)
}

/// Whether an earlier boot began with this group: then nothing else is to be done again.
pub fn is_under_way() -> bool {
    TALLY.magic.load(Ordering::Relaxed) == MAGIC
}

/// One round; does not return unless it was the last.
pub fn run(passed: &mut u32, failed: &mut u32) {
    if !is_under_way() {
        TALLY.round.store(0, Ordering::Relaxed);
    }
    let round = TALLY.round.load(Ordering::Relaxed) as usize;
    let order = [VICTIM_EL0, VICTIM_EL1, PROBE_EL0, PROBE_EL1];
    for (n, offender) in order.iter().enumerate() {
        let number = if n < 2 { 2 * round } else { 2 * round + 1 };
        let (name, outcome) = one(offender, attempt(offender.s_el0, number), &order[n + 1..]);
        report(GROUP, name.as_str(), &outcome, passed, failed);
    }
    TALLY.passed.store(u64::from(*passed), Ordering::Relaxed);
    TALLY.failed.store(u64::from(*failed), Ordering::Relaxed);
    TALLY.round.store(round as u64 + 1, Ordering::Relaxed);
    TALLY.magic.store(MAGIC, Ordering::Relaxed);
    if round + 1 < ROUNDS {
        board::reset();
    }
    TALLY.magic.store(0, Ordering::Relaxed);
}

fn verb(command: Command) -> &'static str {
    match command {
        Command::Write => "write",
        Command::Execute => "instruction fetch",
        _ => "read",
    }
}

fn one(offender: &Probe, attempt: Attempt, others: &[Probe]) -> (Line, Outcome) {
    let name = match attempt {
        Attempt::Reach(how, address, _) => Line::new(format_args!("{}_cannot_{}_{address:#x}", offender.name, word(how))),
        Attempt::AfterRelinquish(how) => Line::new(format_args!("{}_cannot_{}_what_it_relinquished", offender.name, word(how))),
        Attempt::AtOnceAfterRelinquish(how) => Line::new(format_args!("{}_cannot_{}_at_once_what_it_relinquished", offender.name, word(how))),
        Attempt::WhileLent(how) => Line::new(format_args!("{}_cannot_{}_what_it_has_lent", offender.name, word(how))),
        Attempt::AfterDonation(how) => Line::new(format_args!("{}_cannot_{}_what_it_has_donated", offender.name, word(how))),
        Attempt::AfterReclaim(how) => Line::new(format_args!("{}_cannot_{}_what_was_reclaimed", offender.name, word(how))),
        Attempt::WriteOwnCode => Line::new(format_args!("{}_cannot_write_its_own_code", offender.name)),
        Attempt::ExecuteOwnData => Line::new(format_args!("{}_cannot_execute_its_own_data", offender.name)),
        Attempt::Do(what, _) => Line::new(format_args!("{}_is_ended_by_{what:?}", offender.name)),
    };
    (name, try_it(offender, attempt, others))
}

fn word(command: Command) -> &'static str {
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
        (Attempt::Do(what, name), _) => (name, what, [0; 3]),
        (Attempt::WriteOwnCode, _) => ("its code", Command::Write, [ask(offender, Command::Places, &[])?[3] & !7, 0xbad, 0]),
        (Attempt::ExecuteOwnData, _) => ("its data", Command::Execute, [ask(offender, Command::Places, &[])?[2], 0, 0]),
        (Attempt::AfterReclaim(how), Some(lender)) => ("a page of another partition", how, [borrowed_from(offender, lender)?, 0xbad, 0]),
        (Attempt::WhileLent(how), Some(borrower)) => ("a page that it lent", how, [sent(offender, 1, borrower)?.1, 0xbad, 0]),
        (Attempt::AfterDonation(how), Some(borrower)) => {
            let (handle, page) = sent(offender, 2, borrower)?;
            retrieve(borrower, handle, offender.id.0, 0)?;
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
        Attempt::Do(Command::Undefined, _) if offender.s_el0 => say!("EXPECT {} | undefined instruction", offender.name),
        // At S-EL1 it sees the exception itself, and gives up.
        Attempt::Do(..) => say!("EXPECT {} | FFA_ABORT", offender.name),
        _ => say!("EXPECT {} | {} | {address:#x}", offender.name, verb(how)),
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
    let handle = memory::send(Kind::Share, &MAILBOX, &Description::lender(SELF, &borrowers, &ranges), PAGE).map_err(|s| text("share", s));
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
    retrieve(borrower, handle, lender.id.0, u64::from(READ_WRITE))?;
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
