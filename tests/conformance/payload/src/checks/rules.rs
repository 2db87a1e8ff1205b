//! What holds for every call (chapter 11): identifiers, conventions, registers, and whose call is whose.

use super::prelude::*;
use bulkhead_sdk::ffa::{Regs, Status, function};
use conformance_testkit::registers::pattern;

checks! { "rules":
    "12.1" unknown_functions_are_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "11.1" functions_of_the_other_convention_are_not_supported [Ns SEl1 SEl0] ANY "NOT_SUPPORTED";
    "11.2" errors_leave_other_registers_zero [Ns SEl1 SEl0] ANY "w1 and w3 to w7 are zero";
    "11.2" success_leaves_other_registers_zero [Ns SEl1 SEl0] ANY "registers that the reply does not define are zero";
    "11.2" upper_halves_do_not_count_in_32_bit_calls [Ns SEl1 SEl0] ANY "the same answer";
    "11.2" upper_half_of_the_function_id_does_not_count [Ns SEl1 SEl0] ANY "the same answer";
    "11.2" results_of_32_bit_calls_have_no_upper_halves [Ns SEl1 SEl0] ANY "zeros in the upper halves of x0 to x7";
    "11.2" sve_hint_does_not_count [Ns SEl1 SEl0] ANY "the same answer";
    "11.2" further_registers_survive_32_bit_calls [Ns SEl1 SEl0] SINCE_1_2 "x8 to x17 as they were";
    "14.1" waiting_is_not_the_normal_worlds_call [Ns] ANY "NOT_SUPPORTED";
    "14.2" yielding_is_not_the_normal_worlds_call [Ns] ANY "NOT_SUPPORTED";
    "14.4" resuming_the_normal_world_is_not_its_own_call [Ns] ANY "NOT_SUPPORTED or DENIED";
    "DEN0140 2.8" permission_calls_are_not_the_normal_worlds [Ns] ANY "NOT_SUPPORTED";
    "18.3" secondary_entry_is_not_the_normal_worlds_call [Ns] ANY "NOT_SUPPORTED";
    "15.3" answers_are_not_the_normal_worlds_to_give [Ns] ANY "an error";
    "14.4" resuming_the_normal_world_is_not_a_partitions_call [SEl1 SEl0] ANY "NOT_SUPPORTED";
    "12.1" status_replies_are_no_calls_of_the_normal_world [Ns] ANY "NOT_SUPPORTED";
    "DEN0140 2.8" permission_calls_are_not_for_s_el1 [SEl1] ANY "NOT_SUPPORTED";
    "16.1" bitmaps_are_not_a_partitions_to_make [SEl1 SEl0] SINCE_1_1 "NOT_SUPPORTED or DENIED";
}

fn not_supported(at: Instance, calls: &[&[u64]]) -> Outcome {
    for regs in calls {
        expect!(at.call(regs)?.as_error(), Some(Status::NotSupported), "for {:#x}", regs[0]);
    }
    pass!("{} calls", calls.len())
}

/// What EL3 does not know as FF-A's, it answers itself in the normal world, in SMCCC's way.
fn unknown_functions_are_not_supported(at: Instance) -> Outcome {
    not_supported(at, &[&[0x8400_006a], &[0xc400_006a, 1, 2, 3]])?;
    if at != Instance::Ns {
        not_supported(at, &[&[0x8400_00f0], &[0x8400_00ff], &[0xc400_00ff], &[0xc400_00f1, 1, 2, 3]])?;
    }
    pass!("NOT_SUPPORTED")
}

/// Functions that there are in one convention only, called in the other.
fn functions_of_the_other_convention_are_not_supported(at: Instance) -> Outcome {
    not_supported(at, &[&[0xc400_0064, 0x8400_0063], &[0xc400_0065], &[0xc400_0068], &[0xc400_0069], &[0x8400_008b], &[0x8400_008d, 0, 0, 0]])
}

fn errors_leave_other_registers_zero(at: Instance) -> Outcome {
    for regs in [[0x8400_006a, 1, 2, 3, 4, 5, 6, 7], [function::FEATURES.into(), 0xffff_ffff, 0, 3, 4, 5, 6, 7], [function::RXTX_UNMAP.into(), 0x7777_0000, 2, 3, 4, 5, 6, 7]] {
        let reply = at.call(&regs)?;
        ensure!(reply.as_error().is_some(), "{:#x} succeeds", regs[0]);
        expect!((reply.0[1], &reply.0[3..8]), (0, &[0u64; 5][..]), "for {:#x}", regs[0]);
    }
    pass!("3 errors")
}

fn success_leaves_other_registers_zero(at: Instance) -> Outcome {
    let calls: [(&[u64], usize); 3] = [
        (&[function::ID_GET.into(), 1, 2, 3, 4, 5, 6, 7], 3),
        (&[function::FEATURES.into(), function::MEM_SHARE_64.into(), 0, 3, 4, 5, 6, 7], 2),
        (&[function::FEATURES.into(), function::RXTX_MAP_64.into(), 0, 3, 4, 5, 6, 7], 3),
    ];
    for (regs, defined) in calls {
        let reply = at.status(regs)?;
        let Ok(reply) = reply else { fail!("{:#x}: {reply:?}", regs[0]) };
        expect!(reply.0[1], 0, "in x1 for {:#x}", regs[0]);
        ensure!(reply.0[defined..8].iter().all(|word| *word == 0), "{:#x}: {:x?}", regs[0], &reply.0[..8]);
    }
    pass!("3 calls")
}

const NOISE: u64 = 0xdead_beef << 32;

/// Calls without side effects.
const HARMLESS: [[u64; 3]; 4] = [
    [function::ID_GET as u64, 0, 0],
    [function::FEATURES as u64, function::MEM_SHARE_64 as u64, 0],
    [function::FEATURES as u64, function::RXTX_MAP_64 as u64, 0],
    [function::FEATURES as u64, 0x8400_00f0, 0],
];

fn same_answer(at: Instance, edit: fn(&mut [u64; 3])) -> Outcome {
    for plain in HARMLESS {
        let mut edited = plain;
        edit(&mut edited);
        expect!(at.call(&edited)?.0[..8], at.call(&plain)?.0[..8], "for {:#x} {:#x}", edited[0], edited[1]);
    }
    pass!("{} calls", HARMLESS.len())
}

fn upper_halves_do_not_count_in_32_bit_calls(at: Instance) -> Outcome {
    same_answer(at, |regs| regs[1..].iter_mut().for_each(|word| *word |= NOISE))
}

fn upper_half_of_the_function_id_does_not_count(at: Instance) -> Outcome {
    same_answer(at, |regs| regs[0] |= NOISE)
}

fn results_of_32_bit_calls_have_no_upper_halves(at: Instance) -> Outcome {
    for plain in HARMLESS {
        let noisy = [plain[0], plain[1] | NOISE, plain[2] | NOISE, NOISE, NOISE, NOISE, NOISE, NOISE];
        let reply = at.call(&noisy)?;
        ensure!(reply.0[..8].iter().all(|word| word >> 32 == 0), "{:#x}: {:x?}", plain[0], &reply.0[..8]);
    }
    pass!("{} calls", HARMLESS.len())
}

fn sve_hint_does_not_count(at: Instance) -> Outcome {
    same_answer(at, |regs| regs[0] |= 1 << 16)
}

fn further_registers_survive_32_bit_calls(at: Instance) -> Outcome {
    for plain in HARMLESS {
        let mut regs = Regs::new(&plain);
        for n in 8..18 {
            regs.0[n] = pattern(plain[0], n as u64);
        }
        expect!(at.call(&regs.0)?.0[8..], regs.0[8..], "after {:#x}", plain[0]);
    }
    pass!("{} calls", HARMLESS.len())
}

fn waiting_is_not_the_normal_worlds_call(at: Instance) -> Outcome {
    not_supported(at, &[&[function::MSG_WAIT.into()]])
}

fn yielding_is_not_the_normal_worlds_call(at: Instance) -> Outcome {
    not_supported(at, &[&[function::YIELD.into()]])
}

fn resuming_the_normal_world_is_not_its_own_call(at: Instance) -> Outcome {
    // EL3 answers it, and TF-A says DENIED when nothing is to be resumed.
    let status = at.call(&[function::NORMAL_WORLD_RESUME.into()])?.as_error();
    ensure!(matches!(status, Some(Status::NotSupported | Status::Denied)), "{status:?}");
    pass!("{status:?}")
}

fn permission_calls_are_not_the_normal_worlds(at: Instance) -> Outcome {
    let page = at.page()?;
    let set = [function::MEM_PERM_SET_32, function::MEM_PERM_SET_64].map(|id| [u64::from(id), page, 1, 3]);
    let get = [function::MEM_PERM_GET_32, function::MEM_PERM_GET_64].map(|id| [u64::from(id), page, 1, 0]);
    not_supported(at, &[&set[0], &set[1], &get[0], &get[1]])
}

fn permission_calls_are_not_for_s_el1(at: Instance) -> Outcome {
    permission_calls_are_not_the_normal_worlds(at)
}

fn secondary_entry_is_not_the_normal_worlds_call(at: Instance) -> Outcome {
    not_supported(at, &[&[function::SECONDARY_EP_REGISTER_64.into(), at.page()?]])
}

fn answers_are_not_the_normal_worlds_to_give(at: Instance) -> Outcome {
    for id in [function::MSG_SEND_DIRECT_RESP_32, function::MSG_SEND_DIRECT_RESP_64] {
        let reply = at.call(&[id.into(), u64::from(at.other().id.0), 0, 1])?;
        ensure!(reply.as_error().is_some(), "{id:#x} is answered by {:#x}", reply.0[0]);
    }
    pass!("refused")
}

fn resuming_the_normal_world_is_not_a_partitions_call(at: Instance) -> Outcome {
    not_supported(at, &[&[function::NORMAL_WORLD_RESUME.into()]])
}

fn status_replies_are_no_calls_of_the_normal_world(at: Instance) -> Outcome {
    not_supported(at, &[&[function::SUCCESS_32.into()], &[function::SUCCESS_64.into()]])
}

fn bitmaps_are_not_a_partitions_to_make(at: Instance) -> Outcome {
    for id in [function::NOTIFICATION_BITMAP_CREATE, function::NOTIFICATION_BITMAP_DESTROY] {
        let status = at.call(&[id.into(), 5, 4])?.as_error();
        ensure!(matches!(status, Some(Status::NotSupported | Status::Denied)), "{id:#x}: {status:?}");
    }
    pass!("refused")
}
