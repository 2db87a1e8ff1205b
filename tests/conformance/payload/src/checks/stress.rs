//! Everything at once: messages and interrupts on all cores, memory that comes and goes, a core that goes off and on.

use super::prelude::*;
use crate::probes::{ask, resumed};
use crate::{cores, gic};
use bulkhead_sdk::memory::{self, Borrower, Kind, READ_WRITE, Range};
use bulkhead_sdk::{Line, Mailbox, PAGE, Pages};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1};

checks! { "stress":
    "4.1" cores_and_memory_do_not_disturb_each_other [Ns] ANY "nothing goes wrong on any core";
}

/// Cycles of memory transactions on the boot core.
const CYCLES: u64 = 120;
/// Cycles of messages on each other core.
const ROUNDS: u64 = 40;

static MAILBOX: Mailbox = Mailbox::new();
static PAGE_A: Pages<1> = Pages::new();

/// On another core: fills, computes and checks in this core's vCPU while the timer interrupts it; what went wrong.
fn exercise(seed: u64) -> u64 {
    gic::start_timer(900);
    let mut wrong = 0;
    for round in 0..ROUNDS {
        let fill = ask(&PROBE_EL1, Command::Fill, &[seed << 16 | round]);
        let echo = ask(&PROBE_EL1, Command::Echo, &[round]).map(|words| words[1] != !round);
        let spin = ask(&PROBE_EL1, Command::Spin, &[1, seed ^ round]).map(|words| words[1]);
        wrong += u64::from(fill.is_err()) + u64::from(echo != Ok(false)) + u64::from(spin != Ok(0));
        // Spin has changed the vector registers, so only the system registers are as they were filled.
        let check = ask(&PROBE_EL1, Command::Check, &[]);
        wrong += u64::from(!check.is_ok_and(|words| words[1] == u64::MAX));
    }
    gic::stop_timer();
    wrong
}

fn cores_and_memory_do_not_disturb_each_other(_: Instance) -> Outcome {
    MAILBOX.map().map_err(|status| Line::new(format_args!("map: {status:?}")))?;
    let before = resumed();
    let outcome = everything();
    let _ = MAILBOX.unmap();
    outcome?;
    pass!("3 cores with {ROUNDS} rounds, {CYCLES} transactions, {} interruptions", resumed() - before)
}

fn everything() -> Outcome {
    for core in 1..4 {
        ensure!(cores::start(core), "core {core} did not come");
        cores::ask(core, exercise, core as u64);
    }
    let mut transactions = Ok(());
    for cycle in 0..CYCLES {
        transactions = one_transaction(cycle);
        if transactions.is_err() {
            break;
        }
    }
    for core in 1..4 {
        let result = cores::result(core);
        ensure!(result == Some(0), "core {core}: {result:?} things went wrong");
    }
    transactions?;
    pass!("")
}

fn one_transaction(cycle: u64) -> Result<(), Line> {
    let kind = if cycle.is_multiple_of(2) { Kind::Share } else { Kind::Lend };
    let borrowers = [Borrower { id: PROBE_EL0.id, permissions: READ_WRITE }];
    let ranges = [Range { address: PAGE_A.address(), pages: 1 }];
    let text = |what: &str, status| Line::new(format_args!("cycle {cycle}: {what}: {status:?}"));
    let handle = memory::send(kind, &MAILBOX, &lender(&borrowers, &ranges).by(kind), PAGE).map_err(|s| text("send", s))?;
    let got = ask(&PROBE_EL0, Command::Retrieve, &[handle, 0, 0, u64::from(kind.read_write())])?;
    ensure!(got[0] == 1, "cycle {cycle}: retrieve {:#x}", got[1]);
    ask(&PROBE_EL0, Command::Write, &[got[1], cycle])?;
    let given = ask(&PROBE_EL0, Command::Relinquish, &[handle, 0])?;
    ensure!(given[0] == 1, "cycle {cycle}: relinquish {:#x}", given[1]);
    memory::reclaim(handle, 0).map_err(|s| text("reclaim", s))?;
    ensure!(PAGE_A.word(0) == cycle, "cycle {cycle}: the page holds {:#x}", PAGE_A.word(0));
    Ok(())
}
