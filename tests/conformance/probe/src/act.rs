//! What each command does.
#![expect(unsafe_code, reason = "does what it is told, forbidden things above all")]

use crate::place::{FILLED, Level, MAILBOX, OWN_PAGE, id, level, vcpu, version, version_answers};
use crate::interrupt;
use bulkhead_sdk::ffa::{EndpointId, Regs, Status, Uuid, Version, function};
use bulkhead_sdk::memory::{self, Borrower, Description, Kind, Range};
use bulkhead_sdk::message::{self, Convention, Request, response_payload};
use bulkhead_sdk::{PAGE, call, call_by_smc};
use conformance_testkit::Command;
use conformance_testkit::marked::marked;
use conformance_testkit::registers::{OwnEl0, OwnEl1};
use conformance_testkit::spin::spin;
use conformance_testkit::vectors::{check_simd, fill_simd};
use core::sync::atomic::{AtomicU64, Ordering};

/// The seed of the last Fill, for each vCPU.
static SEEDS: [AtomicU64; crate::place::MAX_VCPUS] = [const { AtomicU64::new(0) }; crate::place::MAX_VCPUS];
/// Bytes of [`FILLED`] for each vCPU.
const FILLED_BYTES: usize = 1024;

/// Words that came by Load, and the results of the last command, for each vCPU.
static LOADED: [[AtomicU64; WORDS]; crate::place::MAX_VCPUS] = [const { [const { AtomicU64::new(0) }; WORDS] }; crate::place::MAX_VCPUS];
static RESULTS: [[AtomicU64; WORDS]; crate::place::MAX_VCPUS] = [const { [const { AtomicU64::new(0) }; WORDS] }; crate::place::MAX_VCPUS];
const WORDS: usize = 18;

fn loaded() -> [u64; WORDS] {
    LOADED[vcpu()].each_ref().map(|word| word.load(Ordering::Relaxed))
}

/// The answer with these results, which [`Command::Take`] tells again.
fn answer(request: &Request, results: &[u64]) -> Regs {
    for (n, word) in RESULTS[vcpu()].iter().enumerate() {
        word.store(results.get(n).copied().unwrap_or(0), Ordering::Relaxed);
    }
    request.response(results)
}

/// Serves one request: returns the registers of the call that answers it.
pub fn act(request: &Request) -> Regs {
    let p = &request.payload;
    let Some(command) = Command::from_word(p[0]) else {
        return answer(request, &[u64::MAX]);
    };
    match command {
        Command::Nothing => answer(request, &[]),
        Command::Echo => {
            let narrow = request.convention == Convention::Direct32;
            answer(request, &p.map(|word| if narrow { u64::from(!(word as u32)) } else { !word }))
        }
        Command::Call => {
            let reply = call(Regs::new(&p[1..10]));
            answer(request, &reply.0)
        }
        Command::CallBySmc => {
            let reply = if level() == Level::SEl1 { call_by_smc(Regs::new(&p[1..10])) } else { Regs::default() };
            answer(request, &reply.0)
        }
        // SAFETY: what the payload asks for; this partition's memory is safe from it as long as the tests pass.
        Command::Read => answer(request, &unsafe { bulkhead_sdk::read(p[1]) }.map_or([0, 0], |value| [1, value])),
        // SAFETY: as above.
        Command::Write => answer(request, &[u64::from(unsafe { bulkhead_sdk::write(p[1], p[2]) }.is_some())]),
        Command::Execute => {
            if level() == Level::SEl1 {
                bulkhead_sdk::allow_execution_everywhere();
            }
            // SAFETY: as above.
            answer(request, &[u64::from(unsafe { bulkhead_sdk::execute(p[1]) }.is_some())])
        }
        Command::Fill => {
            fill(p[1]);
            answer(request, &[1])
        }
        Command::Check => {
            let (changed, first) = check();
            answer(request, &[changed, first])
        }
        Command::Yield => {
            for _ in 0..p[1] {
                let _ = call(Regs::new(&[u64::from(function::YIELD)]));
            }
            answer(request, &[p[1]])
        }
        Command::Spin => {
            fill_simd(p[2]);
            let (turns, wrong) = spin(p[1], p[2], interrupt::exit_is_requested);
            answer(request, &[turns, wrong + check_simd(p[2]) as u64, u64::from(interrupt::exit_is_requested())])
        }
        Command::Nested => answer(request, &nested(EndpointId(p[1] as u16), p[2])),
        Command::CallBack => {
            let reply = call(message::request(Convention::Direct64, id(), EndpointId(p[1] as u16), Uuid::NIL, &[Command::Echo as u64]));
            answer(request, &[u64::from(reply.function()), u64::from(reply.w(2))])
        }
        Command::Retrieve => answer(request, &retrieve(p)),
        Command::Relinquish => answer(request, &outcome(memory::relinquish(&MAILBOX, p[1], p[2] as u32, id()))),
        Command::RelinquishAndReach => {
            // SAFETY: as above.
            let _ = unsafe { bulkhead_sdk::read(p[2]) };
            let _ = memory::relinquish(&MAILBOX, p[1], 0, id());
            // SAFETY: as above.
            let got = unsafe { if p[3] == 0 { bulkhead_sdk::read(p[2]) } else { bulkhead_sdk::write(p[2], 0xbad).map(|()| 0) } };
            answer(request, &got.map_or([0, 0], |value| [1, value]))
        }
        Command::Send => answer(request, &send(p[1], EndpointId(p[2] as u16), p[3], p[4] as u32)),
        Command::Reclaim => answer(request, &outcome(memory::reclaim(p[1], 0))),
        Command::Undefined => {
            // SAFETY: ends this partition.
            unsafe { core::arch::asm!("udf #0xdead", options(nomem, nostack)) };
            answer(request, &[0])
        }
        Command::Abort => {
            let _ = call(Regs::new(&[u64::from(function::ABORT_64)]));
            answer(request, &[0])
        }
        Command::Panic => panic!("asked to"),
        Command::AnswerNonsense => answer(request, &answer_nonsense(request)),
        Command::Fail => Regs::new(&[u64::from(function::ERROR), 0, p[1] & 0xffff_ffff]),
        Command::Drive => answer(request, &if level() == Level::SEl1 { crate::drive::drive(p) } else { crate::drive::log_of_this_vcpu() }),
        Command::ListenUart => answer(request, &[u64::from(if level() == Level::SEl1 { interrupt::listen() } else { interrupt::expect_messages() })]),
        Command::TouchUart => {
            interrupt::touch();
            conformance_testkit::spin::delay(p[1].min(1000));
            answer(request, &[1, interrupt::taken()])
        }
        Command::Interrupts => answer(request, &[interrupt::taken()]),
        Command::SilenceInterrupts => {
            if level() == Level::SEl1 {
                interrupt::silence();
            }
            answer(request, &[1])
        }
        Command::Load => {
            for (word, value) in LOADED[vcpu()].iter().skip(p[1] as usize).zip(&p[2..5]) {
                word.store(*value, Ordering::Relaxed);
            }
            request.response(&[1])
        }
        Command::Loaded => {
            let words = loaded();
            let mut payload = [0; 14];
            payload.copy_from_slice(&words[..14]);
            if payload[0] == Command::Loaded as u64 {
                return answer(request, &[u64::MAX]);
            }
            act(&Request { payload, ..*request })
        }
        Command::CallLoaded => answer(request, &call(Regs(loaded())).0),
        Command::Take => {
            let results = RESULTS[vcpu()].each_ref().map(|word| word.load(Ordering::Relaxed));
            request.response(results.get(p[1] as usize..).unwrap_or(&[]))
        }
        Command::Bounce => {
            let regs = request.response(&[]);
            bounce(&regs, p[1]);
            regs
        }
        Command::Versions => answer(request, &version_answers()),
        Command::Permissions => answer(request, &crate::permissions::results()),
        Command::Places => {
            let first_code = act as *const () as u64;
            answer(request, &[MAILBOX.rx.address(), MAILBOX.tx.address(), OWN_PAGE.address(), first_code, vcpu() as u64])
        }
    }
}

/// Makes the call in x0 and x1 of `regs` so often, with x3 to x7 as the last one left them.
fn bounce(regs: &Regs, count: u64) {
    macro_rules! calls {
        ($instruction:literal) => {
            // SAFETY: what the calls may change is named; x20 to x22 are kept.
            unsafe {
                core::arch::asm!(
                    "2: mov x0, x20",
                    "mov x1, x21",
                    "mov x2, xzr",
                    $instruction,
                    "subs x22, x22, #1",
                    "b.ne 2b",
                    in("x20") regs.0[0], in("x21") regs.0[1], inout("x22") count.max(1) => _,
                    out("x0") _, out("x1") _, out("x2") _, inout("x3") 0u64 => _, inout("x4") 0u64 => _, inout("x5") 0u64 => _,
                    inout("x6") 0u64 => _, inout("x7") 0u64 => _, out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _,
                    out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
                    options(nostack)
                );
            }
        };
    }
    match level() {
        Level::SEl1 => calls!("hvc #0"),
        Level::SEl0 => calls!("svc #0"),
    }
}

fn fill(seed: u64) {
    SEEDS[vcpu()].store(seed, Ordering::Relaxed);
    fill_simd(seed);
    let start = vcpu() * FILLED_BYTES;
    let keep = |number: usize, value: u64| FILLED.write(start + 8 * number, &value.to_le_bytes());
    match level() {
        Level::SEl1 => {
            OwnEl1::fill(seed);
            OwnEl1::read(keep);
        }
        Level::SEl0 => {
            OwnEl0::fill(seed);
            OwnEl0::read(keep);
        }
    }
}

/// Changed registers, and the number of the first system register among them (or u64::MAX).
fn check() -> (u64, u64) {
    let start = vcpu() * FILLED_BYTES;
    let (mut changed, mut first) = (0, u64::MAX);
    let compare = |number: usize, value: u64| {
        if FILLED.word(start + 8 * number) != value {
            changed += 1;
            first = first.min(number as u64);
        }
    };
    match level() {
        Level::SEl1 => OwnEl1::read(compare),
        Level::SEl0 => OwnEl0::read(compare),
    }
    (changed + check_simd(SEEDS[vcpu()].load(Ordering::Relaxed)) as u64, first)
}

fn nested(target: EndpointId, word: u64) -> [u64; 8] {
    let sent = [Command::Echo as u64, word, 3, 4, 5];
    let regs = message::request(Convention::Direct64, id(), target, Uuid::NIL, &sent);
    let mut reply = marked(|| call(regs));
    // A callee that yields or is interrupted goes on by FFA_RUN.
    while matches!(reply.function(), function::YIELD | function::INTERRUPT) {
        reply = call(Regs::new(&[u64::from(function::RUN), u64::from(reply.w(1))]));
    }
    let mut words = [u64::from(reply.function()), u64::from(reply.w(2)), 0, 0, 0, 0, 0, 0];
    if let Some(payload) = response_payload(Convention::Direct64, &reply) {
        words[2..7].copy_from_slice(payload);
    }
    words
}

fn outcome(result: Result<(), Status>) -> [u64; 2] {
    match result {
        Ok(()) => [1, 0],
        Err(status) => [0, status.code()],
    }
}

fn speaks_v1_0() -> bool {
    version() < Version::V1_1
}

fn retrieve(p: &[u64; 14]) -> [u64; 6] {
    let own = [Borrower { id: id(), permissions: p[4] as u8 }];
    let plain = Description::borrower(EndpointId(p[2] as u16), p[1], p[3], &own);
    let description = Description { flags: p[5] as u32, v1_0: speaks_v1_0(), ..plain };
    match memory::retrieve(&MAILBOX, &description) {
        Ok(got) => {
            let first = got.ranges.first().map_or(0, |range| range.0);
            [1, first, got.page_count.into(), got.range_count.into(), got.fragments.into(), got.attributes.into()]
        }
        Err(status) => [0, status.code(), 0, 0, 0, 0],
    }
}

fn send(kind: u64, borrower: EndpointId, address: u64, flags: u32) -> [u64; 3] {
    let address = if address == 0 { OWN_PAGE.address() } else { address };
    let (kind, permissions) = match kind {
        0 => (Kind::Share, memory::READ_WRITE),
        1 => (Kind::Lend, memory::READ_WRITE),
        _ => (Kind::Donate, 0),
    };
    let borrowers = [Borrower { id: borrower, permissions }];
    let ranges = [Range { address, pages: 1 }];
    let description = Description { flags, v1_0: speaks_v1_0(), ..Description::lender(id(), &borrowers, &ranges).by(kind) };
    match memory::send(kind, &MAILBOX, &description, PAGE) {
        Ok(handle) => [1, handle, address],
        Err(status) => [0, status.code(), 0],
    }
}

/// Wrong answers to the request that is being served: refused ones, all of them, and the first that was not refused.
fn answer_nonsense(request: &Request) -> [u64; 3] {
    let good = request.response(&[1]);
    let edit = |n: usize, value: u64| {
        let mut regs = good;
        regs.0[n] = value;
        regs
    };
    let (own, requester) = (u64::from(request.receiver.0), u64::from(request.sender.0));
    let other_convention = match request.convention {
        Convention::Direct2 => function::MSG_SEND_DIRECT_RESP_64,
        _ => function::MSG_SEND_DIRECT_RESP2,
    };
    let wrong = [
        // In the name of another; to another; to itself.
        edit(1, (own ^ 0xf) << 16 | requester),
        edit(1, own << 16 | (requester ^ 0xf)),
        edit(1, own << 16 | own),
        // By another convention, and by the 32-bit one.
        edit(0, u64::from(other_convention)),
        edit(0, u64::from(function::MSG_SEND_DIRECT_RESP_32)),
        // Reserved bits.
        edit(2, 0x10),
        // Not answering at all.
        Regs::new(&[u64::from(function::MSG_WAIT)]),
        // Calls that are not a partition's.
        Regs::new(&[u64::from(function::NORMAL_WORLD_RESUME)]),
        Regs::new(&[u64::from(function::RUN), own << 16]),
        Regs::new(&[0x8400_00ff]),
        Regs::new(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), own << 16]),
    ];
    let mut refused = 0;
    let mut first = u64::MAX;
    for (n, regs) in wrong.iter().enumerate() {
        if call(*regs).as_error().is_some() {
            refused += 1;
        } else {
            first = first.min(n as u64);
        }
    }
    [refused, wrong.len() as u64, first]
}
