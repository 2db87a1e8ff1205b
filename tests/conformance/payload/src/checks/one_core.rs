//! A machine with one core: what other boots check on several.

use super::prelude::*;
use super::{memory, messages, preemption};

checks! { "one-core":
    "15.2" messages_pass_on_one_core [Ns] SINCE_1_2 "x3 to x7, or x4 to x17, unchanged in both directions" = messages::every_payload_register_arrives_and_returns;
    "15.2" partitions_request_from_each_other_on_one_core [SEl1 SEl0] ANY "the other's response" = messages::partitions_request_from_each_other;
    "9.2" interrupts_preempt_on_one_core [Ns] ANY "FFA_INTERRUPT that names the partition; FFA_RUN resumes it" = preemption::interrupt_returns_the_core_and_run_resumes;
    "DEN0140 2.3" memory_is_shared_on_one_core [Ns] ANY "both sides read what the other wrote" = memory::shared_page_is_seen_by_both_sides;
    "DEN0140 2.4" partitions_share_on_one_core [SEl1 SEl0] ANY "both sides read what the other wrote, the normal world nothing" = memory::partitions_share_with_each_other;
}
