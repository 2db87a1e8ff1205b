//! Calls that partitions make: what they may, and what they try to reach others by.

use super::prelude::*;
use super::memory::ask_for_status;
use crate::probes::{ask, describe, serves};
use bulkhead_sdk::ffa::{Regs, Status, function};
use conformance_testkit::{Command, PROBE_EL0, PROBE_EL1};

checks! { "partition-calls":
    "13.10" partition_knows_its_id_and_the_spmc [SEl1 SEl0] SINCE_1_1 "its own id, and the SPMC's";
    "11.2" hvc_and_smc_are_the_same [SEl1] ANY "the same registers by both conduits";
    "12.1" unknown_calls_are_refused [SEl1 SEl0] ANY "NOT_SUPPORTED, and -1 for what is not FF-A's";
    "13.6" foreign_memory_is_no_buffer [SEl1 SEl0] ANY "an error";
    "DEN0140 2.3" foreign_memory_is_not_a_partitions_to_share [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS";
    "DEN0140 2.9" permissions_change_within_rules_during_initialisation [SEl0] ANY "INVALID_PARAMETERS for wrong calls, and the permissions asked for";
    "DEN0140 2.9" permissions_are_settled_after_initialisation [SEl0] ANY "DENIED";
    "13.2" version_is_settled_after_initialisation [SEl1 SEl0] SINCE_1_2 "NOT_SUPPORTED for another, and the same again accepted";
    "13.12" wrong_console_calls_are_invalid [SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "11.1" calls_of_the_normal_world_are_refused [SEl1 SEl0] ANY "NOT_SUPPORTED or DENIED";
}

/// EL3, the SPMC, the other partitions, the secure flash, a device, nobody's.
const FOREIGN: [u64; 8] = [0x0e09_0000, 0x0e10_0000, 0x0e1f_0000, 0x0e80_4000, 0x0ea0_4000, 0x03f0_0000, 0x0800_0000, 0x0ec0_0000];

fn partition_knows_its_id_and_the_spmc(at: Instance) -> Outcome {
    let probe = at.partition();
    let own = call_from(&probe, &[u64::from(function::ID_GET)])?;
    let spmc = call_from(&probe, &[u64::from(function::SPM_ID_GET)])?;
    ensure!(own.function() == function::SUCCESS_32 && own.w(2) == u32::from(probe.id.0), "{}: {}", probe.name, describe(&own));
    ensure!(spmc.function() == function::SUCCESS_32 && spmc.w(2) == 0x8000, "{}: {}", probe.name, describe(&spmc));
    pass!("{}", probe.name)
}

fn hvc_and_smc_are_the_same(_: Instance) -> Outcome {
    let calls: [&[u64]; 4] = [
        &[u64::from(function::ID_GET)],
        &[u64::from(function::FEATURES), u64::from(function::MEM_SHARE_64)],
        &[u64::from(function::FEATURES), 0x8400_00f1],
        &[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001_8001],
    ];
    for regs in calls {
        let by_hvc = call_from(&PROBE_EL1, regs)?;
        let mut arguments = [0; 9];
        arguments[..regs.len()].copy_from_slice(regs);
        let by_smc = Regs::new(&ask(&PROBE_EL1, Command::CallBySmc, &arguments)?);
        ensure!(by_hvc == by_smc, "{:#x}: {} by HVC, {} by SMC", regs[0], describe(&by_hvc), describe(&by_smc));
    }
    pass!("{} calls", calls.len())
}

fn unknown_calls_are_refused(at: Instance) -> Outcome {
    let probe = at.partition();
    for id in [0x8400_00f0u64, 0xc400_00ff, 0x8400_006a] {
        let reply = call_from(&probe, &[id])?;
        ensure!(reply.as_error() == Some(Status::NotSupported), "{} {id:#x}: {}", probe.name, describe(&reply));
    }
    // Not FF-A's: PSCI CPU_OFF, PSCI SYSTEM_OFF, a trusted OS's call.
    for id in [0x8400_0002u64, 0x8400_0008, 0xb200_0001] {
        let reply = call_from(&probe, &[id])?;
        ensure!(reply.w(0) == u32::MAX, "{} {id:#x}: {}", probe.name, describe(&reply));
    }
    pass!("6 ids")
}

fn foreign_memory_is_no_buffer(at: Instance) -> Outcome {
    let probe = at.partition();
    let places = ask(&probe, Command::Places, &[])?;
    let unmap = call_from(&probe, &[u64::from(function::RXTX_UNMAP)])?;
    let mut taken = None;
    for address in FOREIGN {
        for (tx, rx) in [(address, places[0]), (places[1], address)] {
            let reply = call_from(&probe, &[u64::from(function::RXTX_MAP_64), tx, rx, 1])?;
            if reply.as_error().is_none() {
                taken = Some(address);
                let _ = call_from(&probe, &[u64::from(function::RXTX_UNMAP)])?;
            }
        }
    }
    let again = call_from(&probe, &[u64::from(function::RXTX_MAP_64), places[1], places[0], 1])?;
    ensure!(unmap.as_error().is_none() && again.as_error().is_none(), "{}: {} {}", probe.name, describe(&unmap), describe(&again));
    ensure!(taken.is_none(), "{}: {:#x} was taken", probe.name, taken.unwrap_or(0));
    pass!("{} addresses, as RX and as TX", FOREIGN.len())
}

fn foreign_memory_is_not_a_partitions_to_share(at: Instance) -> Outcome {
    let (probe, other) = (at.partition(), at.other());
    for address in FOREIGN {
        for kind in 0..3 {
            let result = ask_for_status(&probe, Command::Send, &[kind, u64::from(other.id.0), address])?;
            let refused = matches!(result, Err(Status::Denied | Status::InvalidParameters));
            ensure!(refused, "{} kind {kind} at {address:#x}: {result:?}", probe.name);
        }
    }
    serves(&probe)?;
    pass!("{} addresses, shared, lent and donated", FOREIGN.len())
}

fn permissions_change_within_rules_during_initialisation(_: Instance) -> Outcome {
    let words = ask(&PROBE_EL0, Command::Permissions, &[])?;
    ensure!(words[0] == words[1], "{} of {} wrong calls refused, first taken: number {}", words[0], words[1], words[2]);
    // Read and execute; read and write; the same; read only. Bit 2: never executed.
    ensure!(words[3..7] == [3, 5, 5, 7], "permissions {:x?}", &words[3..7]);
    pass!("{} wrong calls refused", words[1])
}

fn permissions_are_settled_after_initialisation(_: Instance) -> Outcome {
    let page = ask(&PROBE_EL0, Command::Places, &[])?[2];
    let set = call_from(&PROBE_EL0, &[u64::from(function::MEM_PERM_SET_64), page, 1, 3])?;
    let get = call_from(&PROBE_EL0, &[u64::from(function::MEM_PERM_GET_64), page])?;
    ensure!(set.as_error() == Some(Status::Denied), "setting gives {}", describe(&set));
    ensure!(get.as_error() == Some(Status::Denied), "getting gives {}", describe(&get));
    let foreign = call_from(&PROBE_EL1, &[u64::from(function::MEM_PERM_SET_64), page, 1, 3])?;
    ensure!(foreign.as_error() == Some(Status::NotSupported), "at S-EL1: {}", describe(&foreign));
    pass!("DENIED at S-EL0, NOT_SUPPORTED at S-EL1")
}

fn version_is_settled_after_initialisation(at: Instance) -> Outcome {
    let probe = at.partition();
    let other = call_from(&probe, &[u64::from(function::VERSION), 0x1_0001])?;
    let same = call_from(&probe, &[u64::from(function::VERSION), 0x1_0002])?;
    ensure!(u64::from(other.w(0)) == Status::NotSupported.code(), "{}: 1.1 gives {:#x}", probe.name, other.0[0]);
    ensure!(same.w(0) == 0x1_0002, "{}: 1.2 gives {:#x}", probe.name, same.0[0]);
    pass!("1.1 refused, 1.2 again accepted")
}

fn wrong_console_calls_are_invalid(at: Instance) -> Outcome {
    let probe = at.partition();
    let (narrow, wide) = (function::CONSOLE_LOG_32, function::CONSOLE_LOG_64);
    for (id, count) in [(narrow, 0u64), (narrow, 25), (wide, 0), (wide, 129)] {
        let reply = call_from(&probe, &[u64::from(id), count, 0x41])?;
        ensure!(reply.as_error() == Some(Status::InvalidParameters), "{} {id:#x} of {count}: {}", probe.name, describe(&reply));
    }
    pass!("4 counts")
}

fn calls_of_the_normal_world_are_refused(at: Instance) -> Outcome {
    let probe = at.partition();
    let ids = [
        function::NOTIFICATION_BITMAP_CREATE,
        function::NOTIFICATION_BITMAP_DESTROY,
        function::NOTIFICATION_INFO_GET_64,
        function::RX_ACQUIRE,
        function::NORMAL_WORLD_RESUME,
    ];
    for id in ids {
        let reply = call_from(&probe, &[u64::from(id), 0, 1])?;
        ensure!(matches!(reply.as_error(), Some(Status::NotSupported | Status::Denied)), "{} {id:#x}: {}", probe.name, describe(&reply));
    }
    pass!("{} ids", ids.len())
}
