//! Reads the properties of a partition manifest's root node; the regions are `region_parse`'s.

use crate::error::{Expected, Found, ManifestError, Name, Refused, Subject};
use crate::partition::{
    BootInfoRequest, ExceptionLevel, Granule, MAX_UUIDS, Messaging, NsInterruptAction, OtherSecureInterruptAction, PartitionManifest,
    PowerMessages, Service, Tolerated, VmMessages,
};
use crate::load_table::{UUID_FORM, parse_uuid};
use crate::range::PAGE_SIZE;
use crate::spmc::MAX_CPUS;
use crate::tree::{Node, read_tree};
use bulkhead_ffa::{EndpointId, Uuid, Version};

const METHOD: &str = "messaging-method";
const METHODS: &str = "bit 0 receives and bit 1 sends direct requests, 2 indirect, 9 and 10 REQ2";

/// `boot-order` that means "no order": Hafnium's default, which several partitions may have.
const BOOT_ORDER_NONE: u64 = 0xFFFF;

impl PartitionManifest {
    /// Fills this manifest from the device tree that `dtb` begins with; `subject` is whose it is, for messages. What it
    /// held before is gone, also on an error.
    pub fn parse_into(&mut self, dtb: &[u8], subject: Subject) -> Result<(), ManifestError> {
        self.clear();
        read_tree(dtb, subject, &mut |root| self.parse(root))
    }

    fn parse(&mut self, root: Node<'_>) -> Result<(), Refused> {
        require_binding(root)?;
        self.description = Name::new(root.string("description")?.unwrap_or(""));
        self.ffa_version = self.parse_version(root)?;
        self.parse_services(root)?;
        self.parse_identity(root)?;
        self.parse_execution(root)?;
        self.parse_image(root)?;
        self.parse_interrupt_actions(root)?;
        self.parse_subscriptions(root)?;
        self.parse_regions(root)
    }

    /// `ffa-version`: of one that is newer than ours, ours is spoken, as FFA_VERSION would have it.
    fn parse_version(&mut self, root: Node<'_>) -> Result<Version, Refused> {
        let known = "0x10000 (1.0), 0x10001 (1.1) or 0x10002 (1.2)";
        match root.required_number("ffa-version", known)? {
            n @ 0x1_0000..=0x1_0002 => Ok(Version(n as u32)),
            0x1_0003..=0x1_FFFF => {
                self.tolerated.note(Tolerated::NEWER_VERSION);
                Ok(Version::V1_2)
            }
            n => Err(root.not_hex("ffa-version", n, known)),
        }
    }

    /// `uuid` and `messaging-method`.
    fn parse_services(&mut self, root: Node<'_>) -> Result<(), Refused> {
        if let Some(services) = root.child("services") {
            return self.parse_service_nodes(services);
        }
        if let Some(texts) = root.uuid_texts() {
            let count = texts.clone().count();
            let methods = self.messaging_methods(root, count)?;
            for (text, messaging) in texts.zip(methods) {
                self.add_service(root, uuid_of(root, text)?, messaging)?;
            }
            return Ok(());
        }
        let four = "four cells for each UUID, the words of the registers: <0x33221100 ...> for 00112233-...";
        let Some(cells) = root.groups("uuid", 4, four)?.filter(|cells| cells.len() != 0) else {
            return Err(root.missing("uuid", four));
        };
        let methods = self.messaging_methods(root, cells.len() / 4)?;
        for (chunk, messaging) in cells.chunks(4).zip(methods) {
            self.add_service(root, Uuid::from_words(core::array::from_fn(|i| chunk.get(i))), messaging)?;
        }
        Ok(())
    }

    /// `services`, as newer manifests have it: a node for each service, with its `uuid` as text and its `messaging-method`.
    fn parse_service_nodes(&mut self, services: Node<'_>) -> Result<(), Refused> {
        services.require_compatible("arm,ffa-manifest-services")?;
        for node in services.children() {
            let text = node.string("uuid")?.unwrap_or("");
            let method = node.required_number(METHOD, METHODS)?;
            let messaging = self.messaging_method(node, method)?;
            self.add_service(node, uuid_of(node, text)?, messaging)?;
        }
        if self.services.is_empty() {
            return Err(services.error("", Found::Reason("has no service"), Expected::Text("at least one")));
        }
        Ok(())
    }

    fn add_service(&mut self, node: Node<'_>, uuid: Uuid, messaging: Messaging) -> Result<(), Refused> {
        if uuid == Uuid::NIL {
            return Err(node.error("uuid", Found::Uuid(uuid), Expected::Text("a UUID other than nil")));
        }
        if self.services.iter().any(|s| s.uuid == uuid) {
            return Err(node.error("uuid", Found::Uuid(uuid), Expected::Text("each UUID once")));
        }
        if self.services.try_push(Service { uuid, messaging }).is_err() {
            return Err(node.too_many("uuid", Found::Number(MAX_UUIDS as u64 + 1), MAX_UUIDS, "UUIDs"));
        }
        self.messaging = Messaging(self.messaging.0 | messaging.0);
        Ok(())
    }

    /// One number for all UUIDs, or a cell for each (as newer Hafnium has it).
    fn messaging_methods(&self, root: Node<'_>, uuids: usize) -> Result<[Messaging; MAX_UUIDS], Refused> {
        if uuids > MAX_UUIDS {
            return Err(root.too_many("uuid", Found::Number(uuids as u64), MAX_UUIDS, "UUIDs"));
        }
        let mut methods = [Messaging(0); MAX_UUIDS];
        match root.cells(METHOD).ok().flatten() {
            Some(cells) if uuids > 1 && cells.len() > 1 => {
                if cells.len() != uuids {
                    let found = Found::Reason("has a number of cells other than that of UUIDs");
                    return Err(root.error(METHOD, found, Expected::Exactly(uuids as u64, "one for each UUID, or one for all")));
                }
                for (method, cell) in methods.iter_mut().zip(cells.iter()) {
                    *method = self.messaging_method(root, cell.into())?;
                }
            }
            _ => {
                let all = root.required_number(METHOD, METHODS)?;
                methods = [self.messaging_method(root, all)?; MAX_UUIDS];
            }
        }
        Ok(methods)
    }

    fn messaging_method(&self, root: Node<'_>, bits: u64) -> Result<Messaging, Refused> {
        let error = |expected| Err(root.not_hex(METHOD, bits, expected));
        if bits & !u64::from(Messaging::ALL.0) != 0 {
            return error("no bits besides 0, 1, 2, 9 and 10");
        }
        let method = Messaging(bits as u32);
        if self.ffa_version < Version::V1_2 && method.intersects(Messaging(Messaging::DIRECT2_RECV.0 | Messaging::DIRECT2_SEND.0)) {
            return error("bits 9 and 10 clear: ffa-version is below 1.2, which brought FFA_MSG_SEND_DIRECT_REQ2");
        }
        Ok(method)
    }

    fn parse_identity(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let id = |property| match root.number(property)? {
            Some(n) if n > 0xFFFF => Err(root.error(property, Found::Hex(n), Expected::HexAtMost(0xFFFF, "an endpoint id has 16 bits"))),
            n => Ok(n.map(|n| n as u16)),
        };
        self.id = id("id")?.map(u32::from);
        self.auxiliary_id = id("auxiliary-id")?.map(EndpointId);
        if root.has("has-primary-scheduler") {
            let expected = Expected::Text("no such property: only a normal-world partition can hold the primary scheduler");
            return Err(root.error("has-primary-scheduler", Found::Present, expected));
        }
        Ok(())
    }

    fn parse_execution(&mut self, root: Node<'_>) -> Result<(), Refused> {
        self.exception_level = match root.required_number("exception-level", "1 (S-EL0) or 2 (S-EL1)")? {
            1 => ExceptionLevel::SEl0,
            2 => ExceptionLevel::SEl1,
            0 => {
                self.tolerated.note(Tolerated::LEVEL_OF_A_VM);
                ExceptionLevel::SEl1
            }
            n => return Err(root.not_number("exception-level", n, "1 (S-EL0) or 2 (S-EL1)")),
        };
        match root.required_number("execution-state", "0 (AArch64)")? {
            0 => {}
            n => return Err(root.error("execution-state", Found::Number(n), Expected::Exactly(0, "AArch64; AArch32 partitions are not supported"))),
        }
        let contexts = root.required_number("execution-ctx-count", "1, or the number of cores")?;
        if contexts == 0 || contexts > MAX_CPUS as u64 {
            return Err(root.not_number("execution-ctx-count", contexts, "1, or the number of cores (up to 8)"));
        }
        if self.exception_level == ExceptionLevel::SEl0 && contexts != 1 {
            return Err(root.error("execution-ctx-count", Found::Number(contexts), Expected::Exactly(1, "a partition at S-EL0 has one")));
        }
        self.execution_contexts = contexts as u16;
        self.granule = match root.number("xlat-granule")? {
            None | Some(0) => Granule::Size4K,
            Some(1) => Granule::Size16K,
            Some(2) => Granule::Size64K,
            Some(n) => return Err(root.not_number("xlat-granule", n, "0 (4 KiB), 1 (16 KiB) or 2 (64 KiB)")),
        };
        self.run_time_model = match root.number32("run-time-model")? {
            None => root.number32("runtime-model")?,
            model => model,
        };
        self.no_memory_time_slicing = root.flag("time-slice-mem")?;
        Ok(())
    }

    fn parse_image(&mut self, root: Node<'_>) -> Result<(), Refused> {
        self.load_address = root.number("load-address")?;
        if let Some(address) = self.load_address
            && !address.is_multiple_of(self.granule.bytes())
        {
            return Err(root.error("load-address", Found::Hex(address), Expected::AlignedTo(self.granule.bytes())));
        }
        self.mem_size = root.number("mem-size")?;
        if let Some(size) = self.mem_size
            && (size == 0 || !size.is_multiple_of(PAGE_SIZE))
        {
            return Err(root.not_hex("mem-size", size, "a multiple of 0x1000, not 0"));
        }
        self.entrypoint_offset = root.number("entrypoint-offset")?;
        if let Some(offset) = self.entrypoint_offset
            && !offset.is_multiple_of(4)
        {
            return Err(root.error("entrypoint-offset", Found::Hex(offset), Expected::AlignedTo(4)));
        }
        self.boot_order = match root.number_up_to("boot-order", BOOT_ORDER_NONE, "(0xffff says: no order)")? {
            None | Some(BOOT_ORDER_NONE) => None,
            Some(order) => Some(order as u16),
        };
        self.gp_register = root.number_up_to("gp-register-num", 3, "(x0 to x3)")?.map(|n| n as u8);
        if let Some(node) = root.child("boot-info") {
            node.require_compatible("arm,ffa-manifest-boot-info")?;
            self.boot_info = BootInfoRequest { manifest: node.flag("ffa_manifest")?, hob_list: node.flag("hob_list")? };
            if self.gp_register.is_none() {
                self.tolerated.note(Tolerated::NO_BOOT_REGISTER);
                self.boot_info = BootInfoRequest::default();
            }
        }
        Ok(())
    }

    fn parse_interrupt_actions(&mut self, root: Node<'_>) -> Result<(), Refused> {
        const NS: &str = "ns-interrupts-action";
        const OTHER: &str = "other-s-interrupts-action";
        let managed_exit = root.flag("managed-exit")?;
        self.ns_interrupts = match (root.number(NS)?, managed_exit) {
            (None, false) | (Some(2), false) => NsInterruptAction::Signaled,
            (Some(0), false) => NsInterruptAction::Queued,
            (Some(1), _) | (None, true) => NsInterruptAction::ManagedExit,
            (Some(n @ (0 | 2)), true) => return Err(root.error(NS, Found::Number(n), Expected::Exactly(1, "as managed-exit says, or no managed-exit"))),
            (Some(n), _) => return Err(root.not_number(NS, n, "0 (queued), 1 (managed exit) or 2 (signaled)")),
        };
        if self.ns_interrupts == NsInterruptAction::ManagedExit && self.exception_level == ExceptionLevel::SEl0 {
            let (property, found) = if root.has(NS) { (NS, Found::Number(1)) } else { ("managed-exit", Found::Present) };
            return Err(root.error(property, found, Expected::Text("another action: a partition at S-EL0 takes no interrupts, so it cannot make a managed exit")));
        }
        self.managed_exit_virq = root.flag("managed-exit-virq")? && self.ns_interrupts == NsInterruptAction::ManagedExit;
        self.other_secure_interrupts = match root.number(OTHER)? {
            None | Some(1) => OtherSecureInterruptAction::Signaled,
            Some(0) if self.ns_interrupts == NsInterruptAction::Queued => OtherSecureInterruptAction::Queued,
            Some(0) => {
                let expected = Expected::Exactly(1, "queueing other secure interrupts needs ns-interrupts-action = 0, too");
                return Err(root.error(OTHER, Found::Number(0), expected));
            }
            Some(n) => return Err(root.not_number(OTHER, n, "0 (queued) or 1 (signaled)")),
        };
        Ok(())
    }

    fn parse_subscriptions(&mut self, root: Node<'_>) -> Result<(), Refused> {
        let power = root.number32("power-management-messages")?;
        if power.is_some_and(|bits| bits & !PowerMessages::ALL.0 != 0) {
            self.tolerated.note(Tolerated::POWER_BITS);
        }
        self.power_messages = power.map(|bits| PowerMessages(bits & PowerMessages::ALL.0));
        for (property, bit) in [
            ("abort-action", Tolerated::LIFECYCLE),
            ("lifecycle-support", Tolerated::LIFECYCLE),
            ("sri-interrupts-policy", Tolerated::SRI_POLICY),
        ] {
            if root.has(property) {
                self.tolerated.note(bit);
            }
        }
        let availability = "no bits besides 0 (VM created) and 1 (VM destroyed)";
        self.vm_messages = VmMessages(root.bits("vm-availability-messages", VmMessages::ALL.0, availability)?.unwrap_or(0));
        self.notifications = root.flag("notification-support")?;
        if self.notifications && self.ffa_version < Version::V1_1 {
            return Err(root.error("notification-support", Found::Present, Expected::Text("ffa-version 1.1 or later, which brought notifications")));
        }
        Ok(())
    }
}

/// `compatible`: major version 1 of the binding, any minor.
fn require_binding(root: Node<'_>) -> Result<(), Refused> {
    root.require_compatible_or("arm,ffa-manifest-1.0", is_later_minor)
}

fn is_later_minor(text: &[u8]) -> bool {
    text.strip_prefix(b"arm,ffa-manifest-1.").is_some_and(|minor| !minor.is_empty() && minor.iter().all(u8::is_ascii_digit))
}

/// The UUID of `text`, the node's `uuid`.
fn uuid_of(node: Node<'_>, text: &str) -> Result<Uuid, Refused> {
    parse_uuid(text).ok_or_else(|| node.error("uuid", Found::Text(Name::new(text)), Expected::Text(UUID_FORM)))
}
