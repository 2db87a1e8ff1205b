//! Calls of two real partitions, made as their drivers make them: OP-TEE's API version (its FF-A interface, a 32-bit direct request),
//! and a UEFI variable of StMM, by EDK2's messages for the variable service in the communication buffer.
#![expect(unsafe_code, reason = "the communication buffer has an address of its own")]

use super::{Operations, counted, repeat};
use crate::check::Outcome;
use crate::instance::Instance;
use crate::probes::{SELF, describe, finish};
use crate::{ensure, pass};
use bulkhead_sdk::Line;
use bulkhead_sdk::call;
use bulkhead_sdk::ffa::{EndpointId, Regs, Uuid, function};
use bulkhead_sdk::message::{Convention, request, response_payload};

/// The operations.
pub const ALL: &Operations = &[("op_tee", op_tee), ("stmm", stmm)];

/// As manifests/spmc.dts numbers them.
const OP_TEE: EndpointId = EndpointId(0x8001);
const STMM: EndpointId = EndpointId(0x8002);

const OPTEE_FFA_GET_API_VERSION: u64 = 0;

fn op_tee(_: Instance) -> Outcome {
    let regs = request(Convention::Direct32, SELF, OP_TEE, Uuid::NIL, &[OPTEE_FFA_GET_API_VERSION]);
    repeat("direct request", "OP-TEE, get API version", || {
        let reply = counted(|| call(regs));
        let answer = (reply.function(), reply.w(3), reply.w(4));
        ensure!(answer == (function::MSG_SEND_DIRECT_RESP_32, 1, 0), "{}", describe(&reply));
        Ok(())
    });
    pass!("version 1.0")
}

/// The service of StMM: 378daedc-f06b-4446-8314-40ab933c87a3.
const MM_COMMUNICATION: Uuid =
    Uuid([0x37, 0x8d, 0xae, 0xdc, 0xf0, 0x6b, 0x44, 0x46, 0x83, 0x14, 0x40, 0xab, 0x93, 0x3c, 0x87, 0xa3]);
/// The non-secure region of StMM's manifest.
const BUFFER: u64 = 0x5ff0_0000;
/// gEfiSmmVariableProtocolGuid, ed32d533-99e6-4209-9cc0-2d72cdd998a7, in the order of memory.
const VARIABLE_SERVICE: [u8; 16] = [0x33, 0xd5, 0x32, 0xed, 0xe6, 0x99, 0x09, 0x42, 0x9c, 0xc0, 0x2d, 0x72, 0xcd, 0xd9, 0x98, 0xa7];
/// Whose variable it is: nobody else's.
const VENDOR: [u8; 16] = *b"Bulkhead's bench";
/// Its name in UCS-2, with its end.
const NAME: [u16; 6] = [b'b' as u16, b'e' as u16, b'n' as u16, b'c' as u16, b'h' as u16, 0];
/// Bytes of its value.
const VALUE: usize = 64;
const NON_VOLATILE_AND_ACCESS: u32 = 7;
const GET_VARIABLE: u64 = 1;
const SET_VARIABLE: u64 = 3;
/// What the service answers in place of the event when it is done.
const MM_EVENT_COMPLETE: u64 = 0xc400_0061;

/// Offsets in the message: service and length of the rest; function and status; vendor, sizes of value and name, attributes; name; value.
const LENGTH: usize = 16;
const FUNCTION: usize = LENGTH + 8;
const STATUS: usize = FUNCTION + 8;
const OWNER: usize = STATUS + 8;
const VALUE_SIZE: usize = OWNER + 16;
const NAME_SIZE: usize = VALUE_SIZE + 8;
const ATTRIBUTES: usize = NAME_SIZE + 8;
const TEXT: usize = ATTRIBUTES + 4;
const CONTENT: usize = TEXT + 2 * NAME.len();
const END: usize = CONTENT + VALUE;

/// One message to the variable service, sent by `send` as this kind of direct request; gives the value in the answer.
fn variable(convention: Convention, function_id: u64, value: &[u8; VALUE], send: fn(Regs) -> Regs) -> Result<[u8; VALUE], Line> {
    let mut message = [0; END];
    let mut put = |at: usize, bytes: &[u8]| message[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &VARIABLE_SERVICE);
    put(LENGTH, &((END - FUNCTION) as u64).to_le_bytes());
    put(FUNCTION, &function_id.to_le_bytes());
    put(OWNER, &VENDOR);
    put(VALUE_SIZE, &(VALUE as u64).to_le_bytes());
    put(NAME_SIZE, &(2 * NAME.len() as u64).to_le_bytes());
    put(ATTRIBUTES, &NON_VOLATILE_AND_ACCESS.to_le_bytes());
    for (n, letter) in NAME.iter().enumerate() {
        put(TEXT + 2 * n, &letter.to_le_bytes());
    }
    put(CONTENT, value);
    let buffer = BUFFER as *mut [u8; END];
    // SAFETY: RAM of the normal world in which nothing of this program lies (it is loaded above); StMM uses it only when it is asked to.
    unsafe { buffer.write_volatile(message) };
    let reply = send(request(convention, SELF, STMM, MM_COMMUNICATION, &[BUFFER]));
    // REQ2 is answered without a word.
    let word = if convention == Convention::Direct2 { 0 } else { MM_EVENT_COMPLETE };
    ensure!(response_payload(convention, &reply).is_some_and(|words| words[0] == word), "{}", describe(&reply));
    // SAFETY: as above.
    let answer = unsafe { buffer.read_volatile() };
    let status = &answer[STATUS..STATUS + 8];
    ensure!(status == [0; 8], "the variable service answers {status:x?}");
    let mut value = [0; VALUE];
    value.copy_from_slice(&answer[CONTENT..END]);
    Ok(value)
}

fn stmm(_: Instance) -> Outcome {
    let value: [u8; VALUE] = core::array::from_fn(|n| n as u8 ^ 0x5a);
    variable(Convention::Direct64, SET_VARIABLE, &value, |regs| finish(call(regs)))?;
    for (name, convention) in [("direct request", Convention::Direct64), ("direct request 2", Convention::Direct2)] {
        repeat(name, "StMM, read of a 64-byte variable", || {
            let found = variable(convention, GET_VARIABLE, &[0; VALUE], |regs| counted(|| call(regs)))?;
            ensure!(found == value, "the variable holds {:x?}", &found[..8]);
            Ok(())
        });
    }
    pass!("{VALUE} bytes")
}
