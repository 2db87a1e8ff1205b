//! FFA_CONSOLE_LOG.

use super::prelude::*;
use bulkhead_sdk::ffa::{Status, Version, function};

checks! { "console":
    "13.12" no_characters_are_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.12" more_characters_than_registers_hold_are_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "13.12" as_many_characters_as_registers_hold_are_printed [SEl1 SEl0] ANY "FFA_SUCCESS";
    "13.12" one_character_is_printed [SEl1 SEl0] ANY "FFA_SUCCESS";
    "13.12" reply_has_no_results [SEl1 SEl0] ANY "x1 to x7 are zero";
    "13.12" characters_that_are_no_text_do_no_harm [SEl1 SEl0] ANY "FFA_SUCCESS";
}

const NARROW: u64 = function::CONSOLE_LOG_32 as u64;
const WIDE: u64 = function::CONSOLE_LOG_64 as u64;
/// Characters in w2 to w7.
const MOST_NARROW: u64 = 24;

/// Characters in x2 to x7, or from 1.2 on in x2 to x17.
fn most_wide(at: Instance) -> u64 {
    if at.version() < Version::V1_2 { 48 } else { 128 }
}

/// As many bytes in all registers, the last of `count` of them a line feed.
fn text(id: u64, count: u64, byte: u8) -> [u64; 18] {
    let mut regs = [0; 18];
    (regs[0], regs[1]) = (id, count);
    let per_register = if id == WIDE { 8 } else { 4 };
    for n in 0..count {
        let character = if n + 1 == count { b'\n' } else { byte };
        regs[2 + (n / per_register) as usize] |= u64::from(character) << (8 * (n % per_register));
    }
    regs
}

fn refused(at: Instance, cases: &[(u64, u64)]) -> Outcome {
    for (id, count) in cases {
        expect!(at.status(&[*id, *count, 0x41])?, Err(Status::InvalidParameters), "for {count} by {id:#x}");
    }
    pass!("INVALID_PARAMETERS")
}

fn no_characters_are_invalid(at: Instance) -> Outcome {
    refused(at, &[(NARROW, 0), (WIDE, 0)])
}

fn more_characters_than_registers_hold_are_invalid(at: Instance) -> Outcome {
    refused(at, &[(NARROW, MOST_NARROW + 1), (WIDE, most_wide(at) + 1), (NARROW, 0x8000_0000), (WIDE, 0xffff_ffff)])
}

fn printed(at: Instance, cases: &[(u64, u64, u8)]) -> Outcome {
    for (id, count, byte) in cases {
        let reply = at.status(&text(*id, *count, *byte))?.map(|_| ());
        expect!(reply, Ok(()), "for {count} by {id:#x}");
    }
    pass!("{} calls", cases.len())
}

fn as_many_characters_as_registers_hold_are_printed(at: Instance) -> Outcome {
    printed(at, &[(NARROW, MOST_NARROW, b'n'), (WIDE, most_wide(at), b'w')])
}

fn one_character_is_printed(at: Instance) -> Outcome {
    printed(at, &[(NARROW, 1, b'\n'), (WIDE, 1, b'\n')])
}

fn reply_has_no_results(at: Instance) -> Outcome {
    for id in [NARROW, WIDE] {
        let reply = at.status(&text(id, 4, b'r'))?;
        let Ok(reply) = reply else { fail!("{reply:?}") };
        expect!(reply.0[1..8], [0; 7], "for {id:#x}");
    }
    pass!("zeros")
}

fn characters_that_are_no_text_do_no_harm(at: Instance) -> Outcome {
    printed(at, &[(NARROW, 8, 0), (NARROW, 8, 0x1b), (WIDE, 8, 0xff), (WIDE, 8, 0x80)])
}
