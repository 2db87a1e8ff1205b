//! The mutants: each is one place in the SPMC that behaves wrongly, with the group of checks that has to notice.

/// One deliberately wrong behaviour.
#[derive(Clone, Copy, Debug)]
pub struct Mutant {
    /// What is wrong.
    pub name: &'static str,
    /// The group of checks that has to notice.
    pub group: &'static str,
    /// File below `spmc/`.
    pub file: &'static str,
    /// An expression that stands exactly once in the file. Where more text is needed to find it, the expression is between « and ».
    pub original: &'static str,
    /// The expression that takes its place while the mutant is chosen.
    pub wrong: &'static str,
}

macro_rules! mutants {
    ($($group:literal: $name:literal in $file:literal: $original:literal => $wrong:literal,)*) => {
        /// All of them.
        pub const MUTANTS: &[Mutant] = &[$(Mutant { name: $name, group: $group, file: $file, original: $original, wrong: $wrong },)*];
    };
}

mutants! {
    // Discovery.
    "versions": "another major version is served" in "core/src/discovery.rs":
        "version.major() != OUR_VERSION.major()" => "false",
    "versions": "bit 31 of a version is ignored" in "core/src/discovery.rs":
        "asked & 1 << 31 != 0" => "false",
    "discovery": "input properties of FFA_FEATURES are ignored" in "core/src/discovery.rs":
        "properties & !(if retrieve { NS_BIT } else { 0 }) != 0" => "false",
    "discovery": "every function is a feature" in "core/src/discovery.rs":
        "if supported { Ok(message::success(&[])) } else { Err(UNKNOWN) }" => "Ok(message::success(&[]))",
    "discovery": "FFA_ID_GET names the SPMC" in "core/src/discovery.rs":
        "self.id(call.from).0" => "EndpointId::SPMC.0",
    "discovery": "reserved flags of FFA_PARTITION_INFO_GET are ignored" in "core/src/discovery.rs":
        "flags & !COUNT_ONLY != 0" => "false",
    "discovery": "a service is selected by nobody's UUID" in "core/src/discovery.rs":
        "s.uuid == uuid" => "true",
    "discovery": "partition information does not give the RX buffer away" in "core/src/discovery.rs":
        "mailbox.give()" => "()",
    "discovery": "a stale tag is taken" in "core/src/discovery.rs":
        "tag != (if start == 0 { 0 } else { current })" => "false",
    "discovery": "a start index beyond the last is taken" in "core/src/discovery.rs":
        "start >= count" => "false",

    // RX and TX buffers.
    "buffers": "buffers are mapped twice" in "core/src/mailbox.rs":
        "if «mailbox.mapped» {" => "false",
    "buffers": "RX and TX may be the same page" in "core/src/mailbox.rs":
        "tx == rx" => "false",
    "buffers": "any number of pages is taken for one" in "core/src/mailbox.rs":
        "if «pages != 1» ||" => "false",
    "buffers": "shared memory may be a buffer" in "core/src/mailbox.rs":
        "!holding.is_exclusive()" => "false",
    "buffers": "a buffer that the caller does not own is released" in "core/src/mailbox.rs":
        "!mailbox.full" => "false",
    "buffers": "unmapping nothing succeeds" in "core/src/mailbox.rs":
        "if «self.mailbox_of(call.from, id)?.unmap()» {" => "{ self.mailbox_of(call.from, id)?.unmap(); true }",

    // Direct messages.
    "requests": "reserved bits of a request are ignored" in "core/src/messaging.rs":
        "«call.regs.w(2) != 0» && !is_wanted" => "false",
    "requests": "a partition sends in another's name" in "core/src/messaging.rs":
        "sender != config.id" => "false",
    "requests": "any service is taken for the receiver's" in "core/src/messaging.rs":
        "s.uuid == service" => "true",
    "mixed": "the receiver's manifest does not say what it takes" in "core/src/messaging.rs":
        "Methods::DIRECT_RECEIVE };\n        if !«config.methods.has(method)» ||" => "true",
    "messages": "an answer goes to anybody" in "core/src/messaging.rs":
        "receiver != requester" => "false",
    "messages": "an answer may have another convention" in "core/src/messaging.rs":
        "expected != model" => "false",
    "messages": "FFA_RUN takes any vCPU" in "core/src/messaging.rs":
        "vcpu.0 >= u16::from(config.vcpus)" => "false",
    "messages": "FFA_MSG_WAIT ends a request" in "core/src/messaging.rs":
        "state.model().is_direct()" => "false",
    "requests": "the upper halves of a 32-bit message pass" in "core/src/messaging.rs":
        "!function::is_64_bit(function)" => "false",
    "messages": "x7 of a message is lost" in "core/src/chain.rs":
        "regs.0[..8].copy_from_slice(&reply.0[..8])" => "regs.0[..7].copy_from_slice(&reply.0[..7])",
    "messages": "every vCPU is the first" in "core/src/messaging.rs":
        "core as u8" => "0",

    // Memory.
    "memory": "handle of a new transaction is not checked" in "core/src/memory/send.rs":
        "header.handle != 0" => "false",
    "memory": "several new owners" in "core/src/memory/send.rs":
        "call.kind == Kind::Donate && header.access_count != 1" => "false",
    "memory": "shared memory may be zeroed" in "core/src/memory/send.rs":
        "zero && call.kind == Kind::Share" => "false",
    "memory": "device attributes are taken" in "core/src/memory/send.rs":
        "attributes == NORMAL_MEMORY" => "true",
    "memory": "the page count need not be the ranges'" in "core/src/memory/send.rs":
        "transaction.pages != transaction.pages_promised" => "false",
    "memory": "ranges need not be aligned" in "core/src/memory/send.rs":
        "start % PAGE != 0" => "false",
    "memory": "memory is not zeroed" in "core/src/memory/send.rs":
        "zero && ledger::zero(machine, self.runs(slot), terms.secure).is_err()" => "false",
    "memory": "a lender speaks for another" in "core/src/memory/send.rs":
        "header.sender == call.sender.id" => "true",
    "memory": "the tag is not compared" in "core/src/memory/retrieve.rs":
        "header.tag != transaction.tag" => "false",
    "memory": "a borrower gets more than was granted" in "core/src/memory/retrieve.rs":
        "wanted <= limit" => "true",
    "memory": "non-secure memory is not called so" in "core/src/memory/retrieve.rs":
        "!transaction.traits.has(Traits::SECURE)" => "false",
    "memory": "fragments of a description may be asked for anywhere" in "core/src/memory/retrieve.rs":
        "offset != transfer.offset()" => "false",
    "memory": "memory is relinquished before it was retrieved" in "core/src/memory.rs":
        "!borrower.retrieved" => "false",
    "memory": "memory in use is reclaimed" in "core/src/memory.rs":
        "if «transaction.retrieved != 0» || zero" => "false",
    "memory": "anybody's handle is reclaimed" in "core/src/memory.rs":
        "lender_of(*slot) == lender" => "true",
    "memory": "lent memory is lent again" in "core/src/memory/ledger.rs":
        "held.is_exclusive()" => "true",
    "isolation": "relinquished memory stays reachable" in "core/src/memory/ledger.rs":
        "holder.clear(run.start, run.pages, secure)" => "_ = (&mut *holder, run, secure)",

    "memory-rules": "execution of shared memory is the lender's to say" in "core/src/memory/send.rs":
        "!specified_rightly || «executes» {" => "false",
    "memory-rules": "a lender chooses the type for one borrower" in "core/src/memory/send.rs":
        "(true, _) => «Err(Status::InvalidParameters)»," => "Ok(())",
    "memory-rules": "memory that nobody may write is zeroed" in "core/src/memory/send.rs":
        "zero && nobody_writes" => "false",
    "memory-rules": "a partition lends to itself" in "core/src/memory/send.rs":
        "id == sender" => "false",
    "memory-rules": "half a range is a fragment" in "core/src/memory/staging.rs":
        "«bytes.is_multiple_of(range::SIZE)» && from" => "true",
    "memory-rules": "a request names any sender" in "core/src/memory/retrieve.rs":
        "header.sender != transaction.sender" => "false",
    "memory-rules": "one borrower need not say whether it executes" in "core/src/memory/retrieve.rs":
        "(_, instruction::UNSPECIFIED) => «return Err(Status::InvalidParameters)»," => "false",
    "memory-rules": "any alignment hint will do" in "core/src/memory/retrieve.rs":
        "if hint == 0 { Ok(()) } else { Err(Status::InvalidParameters) }" => "Ok(())",
    "memory": "the list of borrowers may be any" in "core/src/memory/retrieve.rs":
        "header.access_count != expected" => "false",
    "memory-rules": "a hypervisor is told no flags" in "core/src/memory/retrieve.rs":
        "flags: «transaction.kind.flags()» | if" => "0",
    "memory-rules": "one endpoint relinquishes for another" in "core/src/memory.rs":
        "request.endpoint == caller.id" => "true",
    "memory-rules": "reserved flags of FFA_MEM_RECLAIM are ignored" in "core/src/memory.rs":
        "if «flags & !(FLAG_ZERO | FLAG_TIME_SLICE) != 0» {" => "false",
    "memory-rules": "reserved access flags are ignored" in "core/src/memory/layout.rs":
        "flags & !NON_RETRIEVAL != 0" => "false",

    // Notifications.
    "notifications": "a bitmap is created twice" in "core/src/notifications.rs":
        "notifications.vm(id).is_some()" => "false",
    "bindings": "a bitmap with something bound is destroyed" in "core/src/notifications.rs":
        "vm.receiver.from_partitions.bound | vm.receiver.framework.bits != 0" => "false",
    "bindings": "a bound bit is bound again" in "core/src/notifications.rs":
        "bitmap.bound & bits != 0" => "false",
    "bindings": "anybody sets a bound bit" in "core/src/notifications.rs":
        "self.senders[n] == sender" => "true",
    "bindings": "global and per-vCPU bits are not told apart" in "core/src/notifications.rs":
        "bits & !kind != 0" => "false",
    "notifications": "FFA_NOTIFICATION_GET does not clear" in "core/src/notifications.rs":
        "core::mem::replace(self, Self::NONE).bits" => "self.bits",
    "bindings": "a vCPU out of range is read" in "core/src/notifications.rs":
        "vcpu.0 >= u16::from(vcpus)" => "false",
    "bindings": "what is pending is reported again and again" in "core/src/notifications.rs":
        "self.bits & !self.reported != 0" => "self.bits != 0",
    "bindings": "no bits are bound" in "core/src/notifications.rs":
        "bits == 0" => "false",
    "bindings": "nothing pending is an empty list" in "core/src/notifications.rs":
        "lists.count == 0" => "false",

    // Indirect messages.
    "indirect": "a message may lie over its header" in "core/src/indirect.rs":
        "offset < length" => "false",
    "indirect": "a message may reach beyond the buffer" in "core/src/indirect.rs":
        "end > BUFFER_SIZE" => "false",
    "indirect": "a message may be sent in another's name" in "core/src/indirect.rs":
        "header.sender() != own" => "false",
    "indirect": "the receiver's manifest does not say that it takes messages" in "core/src/indirect.rs":
        "!partition.methods(config.methods).has(Methods::INDIRECT)" => "false",

    // Interrupts, the partitions' own calls, and failures.
    "interrupts": "an interrupt reaches nobody" in "core/src/interrupts.rs":
        "self.enter_for_interrupt(machine, vcpu, Caller::InterruptedNormalWorld)" => "false",
    "interrupts": "an interrupt waits for the other partition" in "core/src/interrupts.rs":
        "self.enter_for_interrupt(machine, vcpu, Caller::Interrupted(current))" => "false",
    "interrupts": "a blocked partition waits for its answer first" in "core/src/interrupts.rs":
        "self.unblock_for_interrupt(machine, vcpu, current)" => "false",
    "interrupts": "a timer is never due" in "core/src/timer.rs":
        "self.due().is_some_and(|due| due <= now)" => "false",
    "interrupts": "a vCPU that does not exist is interrupted" in "core/src/paravirtual.rs":
        "target < u32::from(config.vcpus)" => "true",
    "interrupts": "an interrupt cannot be disabled" in "core/src/paravirtual.rs":
        "self.enable_interrupt(machine, vcpu, slot, «value == 1»)" => "true",
    "interrupt-messages": "an interrupt of S-EL0 stays active" in "core/src/virtual_interrupts.rs":
        "active == 0 || self.deactivates.load(Ordering::Relaxed)" => "true",
    "interrupt-messages": "others' interrupts preempt a partition that holds them back" in "core/src/interrupts.rs":
        "self.config_of(current).is_some_and(|config| config.holds_other_secure)" => "false",
    "interface": "the priority mask masks nothing" in "core/src/interface.rs":
        "priority < control & PRIORITY_MASK" => "true",
    "interface": "a priority stays active" in "core/src/interface.rs":
        "active & active.wrapping_sub(1)" => "active",
    "interface": "every software interrupt is number 0" in "core/src/interface.rs":
        "value >> 24 & 0xf" => "0",
    "interface": "interrupts of others look enabled" in "core/src/distributor.rs":
        "*bit < 32 && slot_of(config, interrupt) == Some(slot)" => "true",
    "interrupt-messages": "FFA_INTERRUPT names no interrupt" in "core/src/interrupts.rs":
        "u64::from(interrupt_in(config, slot))" => "0",
    "interrupt-messages": "an interrupt that a partition left is forgotten" in "core/src/interrupts.rs":
        "model != Model::SecureInterrupt && self.interrupts(vcpu).wants_core()" => "false",
    "partition-calls": "no characters to print" in "core/src/console.rs":
        "count == 0" => "false",
    "partition-calls": "more characters than there are" in "core/src/console.rs":
        "count > registers * per_register" => "false",
    "partition-calls": "permissions change after initialisation" in "core/src/permissions.rs":
        "state.model() == Model::Init" => "true",
    "failure": "a partition that failed is entered again" in "core/src/partition.rs":
        "self.failed.load(Ordering::Acquire)" => "false",
}
