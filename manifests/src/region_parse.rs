//! Reads `memory-regions`, `device-regions` and the RX/TX buffers of a partition manifest.

use crate::error::{Expected, Found, Name, Refused};
use crate::partition::{
    DeviceRegion, Interrupt, InterruptKind, MAX_DEVICE_REGIONS, MAX_INTERRUPTS, MAX_MEMORY_REGIONS, MAX_STREAMS, MemoryRegion, PartitionManifest,
    RegionAttributes, RegionBase, RxTx, Stream, Tolerated, Trigger,
};
use crate::range::AddressRange;
use crate::tree::{Cells, Node};
use arrayvec::ArrayVec;
use bulkhead_ffa::EndpointId;

/// Interrupt ids of the extended SPI range.
const EXTENDED_SPIS: core::ops::RangeInclusive<u32> = 4096..=5119;

impl PartitionManifest {
    /// Devices first: memory regions refer to their stream ids.
    pub(crate) fn parse_regions(&mut self, root: Node<'_>) -> Result<(), Refused> {
        if let Some(node) = root.child("device-regions") {
            node.require_compatible("arm,ffa-manifest-device-regions")?;
            self.parse_device_regions(node)?;
        }
        let memory = root.child("memory-regions");
        if let Some(node) = memory {
            node.require_compatible("arm,ffa-manifest-memory-regions")?;
            self.parse_memory_regions(node)?;
        }
        // The binding's text calls it rx-tx-buffer; Hafnium reads, and integrators write, rx_tx-info.
        match root.child("rx_tx-info").or_else(|| root.child("rx-tx-buffer")) {
            Some(node) => self.parse_rx_tx(node, memory),
            None => Ok(()),
        }
    }

    fn parse_memory_regions(&mut self, regions: Node<'_>) -> Result<(), Refused> {
        for node in regions.children() {
            let index = self.memory_regions.len();
            let full = |_| node.too_many("", Found::Present, MAX_MEMORY_REGIONS, "memory regions");
            let attributes = self.attributes(node, "1 (read), 3 (read, write) or 5 (read, execute), with 8 where it is the normal world's", &[1, 3, 5, 9, 11])?;
            let shared_with = shared_with(node, attributes)?;
            let region = MemoryRegion { name: Name::new(node.name()), base: self.region_base(node)?, size: self.region_size(node)?, attributes, shared_with };
            if let RegionBase::Absolute(base) = region.base
                && AddressRange::new(base, region.size).is_none()
            {
                return Err(node.not_number("pages-count", region.size / self.granule.bytes(), "an end inside 64 bits of address"));
            }
            self.memory_regions.try_push(region).map_err(full)?;
            self.parse_memory_streams(node, index, attributes)?;
        }
        not_empty(regions, self.memory_regions.len())
    }

    fn parse_memory_streams(&mut self, node: Node<'_>, region: usize, default: RegionAttributes) -> Result<(), Refused> {
        const ACCESS: &str = "stream-ids-access-permissions";
        let access = node.cells(ACCESS)?;
        let first = self.memory_streams.len();
        push_streams(&mut self.memory_streams, node, region, default)?;
        let (_, added) = self.memory_streams.split_at_mut(first);
        if let Some(access) = access {
            if access.len() != added.len() {
                return Err(node.error(ACCESS, Found::Reason("has a number of cells other than that of stream-ids"), Expected::Exactly(added.len() as u64, "one for each stream id")));
            }
            for (stream, bits) in added.iter_mut().zip(access.iter()) {
                if bits == 0 || bits > 0xF {
                    return Err(node.not_hex(ACCESS, bits.into(), "permissions as in attributes, 0x1 to 0xf"));
                }
                stream.access = RegionAttributes(bits as u8);
            }
        }
        for stream in added.iter() {
            let owners = self.device_streams.iter().filter(|s| s.id == stream.id && s.smmu == stream.smmu).count();
            if owners != 1 {
                return Err(node.not_number("stream-ids", stream.id.into(), "ids that exactly one device region of this partition has, too"));
            }
        }
        Ok(())
    }

    fn parse_device_regions(&mut self, regions: Node<'_>) -> Result<(), Refused> {
        for node in regions.children() {
            let index = self.device_regions.len();
            let full = |_| node.too_many("", Found::Present, MAX_DEVICE_REGIONS, "device regions");
            let base = node.required_number("base-address", "the physical address of the device's registers")?;
            let attributes = self.attributes(node, "1 (read) or 3 (read, write), with 8 where it is the normal world's", &[1, 3, 9, 11])?;
            self.aligned(node, "base-address", base)?;
            let size = self.region_size(node)?;
            let Some(range) = AddressRange::new(base, size) else {
                return Err(node.not_number("pages-count", size / self.granule.bytes(), "an end inside 64 bits of address"));
            };
            let region = DeviceRegion {
                name: Name::new(node.name()),
                range,
                attributes,
                exclusive: node.flag("exclusive-access")?,
                smmu: node.number32("smmu-id")?,
            };
            self.device_regions.try_push(region).map_err(full)?;
            self.parse_interrupts(node, index)?;
            self.parse_interrupt_targets(node, index)?;
            let first = self.device_streams.len();
            push_streams(&mut self.device_streams, node, index, attributes)?;
            let (before, added) = self.device_streams.split_at(first);
            for (i, stream) in added.iter().enumerate() {
                if before.iter().chain(added.iter().take(i)).any(|s| s.id == stream.id && s.smmu == stream.smmu) {
                    return Err(node.not_number("stream-ids", stream.id.into(), "each id once among all devices of the partition"));
                }
            }
        }
        not_empty(regions, self.device_regions.len())
    }

    fn parse_interrupts(&mut self, node: Node<'_>, device: usize) -> Result<(), Refused> {
        const NAME: &str = "interrupts";
        let Some(cells) = node.groups(NAME, 2, "<id attributes> pairs")? else { return Ok(()) };
        for pair in cells.chunks(2) {
            let (id, bits) = (pair.get(0), pair.get(1));
            if EXTENDED_SPIS.contains(&id) {
                self.tolerated.note(Tolerated::EXTENDED_SPIS);
                continue;
            }
            if bits & !0xFFF != 0 {
                return Err(node.not_hex(NAME, bits.into(), "attributes of 12 bits: priority 7..0, secure 8, level 9, type 11..10"));
            }
            let (kind, ids, what) = match bits >> 10 {
                0 => (InterruptKind::Sgi, 0..=15, "an SGI's id, 0 to 15, as the type in its attributes (bits 11..10) says"),
                1 => (InterruptKind::Ppi, 16..=31, "a PPI's id, 16 to 31, as the type in its attributes (bits 11..10) says"),
                2 => (InterruptKind::Spi, 32..=1019, "an SPI's id, 32 to 1019, as the type in its attributes (bits 11..10) says"),
                _ => return Err(node.not_hex(NAME, bits.into(), "a type in bits 11..10 that is 0 (SGI), 1 (PPI) or 2 (SPI)")),
            };
            if !ids.contains(&id) {
                return Err(node.not_number(NAME, id.into(), what));
            }
            if self.interrupts.iter().any(|i| i.id == id) {
                return Err(node.not_number(NAME, id.into(), "each id once in the manifest"));
            }
            let interrupt = Interrupt {
                device: device as u8,
                id,
                priority: bits as u8,
                secure: bits & 1 << 8 != 0,
                trigger: if bits & 1 << 9 == 0 { Trigger::Edge } else { Trigger::Level },
                kind,
                target: None,
            };
            let full = |_| node.too_many(NAME, Found::Number(id.into()), MAX_INTERRUPTS, "interrupts over all devices");
            self.interrupts.try_push(interrupt).map_err(full)?;
        }
        Ok(())
    }

    fn parse_interrupt_targets(&mut self, node: Node<'_>, device: usize) -> Result<(), Refused> {
        const NAME: &str = "interrupts-target";
        let Some(cells) = node.groups(NAME, 3, "<id mpidr-high mpidr-low> triples")? else { return Ok(()) };
        for triple in cells.chunks(3) {
            let id = triple.get(0);
            if EXTENDED_SPIS.contains(&id) {
                continue;
            }
            let Some(interrupt) = self.interrupts.iter_mut().find(|i| i.id == id && usize::from(i.device) == device) else {
                return Err(node.not_number(NAME, id.into(), "an id of this node's interrupts"));
            };
            interrupt.target = Some(triple.number(1, 2));
        }
        Ok(())
    }

    /// The regions whose phandles `rx-buffer` and `tx-buffer` are.
    fn parse_rx_tx(&mut self, node: Node<'_>, memory: Option<Node<'_>>) -> Result<(), Refused> {
        node.require_compatible("arm,ffa-manifest-rx_tx-buffer")?;
        let find = |property: &'static str| -> Result<usize, Refused> {
            let phandle = node.required_number(property, "the phandle of a memory region")?;
            for (index, region) in memory.iter().flat_map(Node::children).enumerate() {
                if region.number("phandle")? == Some(phandle) {
                    return Ok(index);
                }
            }
            Err(node.not_hex(property, phandle, "the phandle of a node of memory-regions"))
        };
        let (rx, tx) = (find("rx-buffer")?, find("tx-buffer")?);
        let size = |index: usize| self.memory_regions.get(index).map_or(0, |r| r.size);
        if rx == tx {
            return Err(node.error("tx-buffer", Found::Reason("is the same region as rx-buffer"), Expected::Text("two regions")));
        }
        if size(rx) != size(tx) {
            return Err(node.error("tx-buffer", Found::Hex(size(tx)), Expected::HexExactly(size(rx), "the bytes of rx-buffer: both have the same size")));
        }
        self.rx_tx = Some(RxTx { rx: rx as u8, tx: tx as u8 });
        Ok(())
    }

    fn region_base(&self, node: Node<'_>) -> Result<RegionBase, Refused> {
        const RELATIVE: &str = "load-address-relative-offset";
        let (relative_name, relative) = match node.number(RELATIVE)? {
            Some(offset) => (RELATIVE, Some(offset)),
            None => ("relative-address", node.number("relative-address")?),
        };
        match (node.number("base-address")?, relative) {
            (Some(base), None) => self.aligned(node, "base-address", base).map(|()| RegionBase::Absolute(base)),
            (None, Some(offset)) => self.aligned(node, relative_name, offset).map(|()| RegionBase::LoadRelative(offset)),
            (None, None) => Ok(RegionBase::Unplaced),
            (Some(_), Some(offset)) => Err(node.not_hex(relative_name, offset, "either this or base-address, not both")),
        }
    }

    fn aligned(&self, node: Node<'_>, property: &'static str, address: u64) -> Result<(), Refused> {
        if address.is_multiple_of(self.granule.bytes()) {
            Ok(())
        } else {
            Err(node.error(property, Found::Hex(address), Expected::AlignedTo(self.granule.bytes())))
        }
    }

    fn region_size(&self, node: Node<'_>) -> Result<u64, Refused> {
        const NAME: &str = "pages-count";
        match node.required_number(NAME, "1 or more pages")? {
            0 => Err(node.not_number(NAME, 0, "1 or more pages")),
            n if n > u32::MAX.into() => Err(node.error(NAME, Found::Number(n), Expected::AtMost(u32::MAX.into(), "pages"))),
            // 32 bits of pages of at most 64 KiB fit.
            n => Ok(n * self.granule.bytes()),
        }
    }

    fn attributes(&self, node: Node<'_>, what: &'static str, legal: &[u64]) -> Result<RegionAttributes, Refused> {
        match node.required_number("attributes", what)? {
            // Bits above are of later versions of the binding, and say nothing that access depends on.
            n if legal.contains(&(n & 0xF)) => Ok(RegionAttributes(n as u8 & 0xF)),
            n => Err(node.not_hex("attributes", n, what)),
        }
    }
}

/// The partition that has the same region. Two, and not more: who answers in a buffer has to know who asked.
fn shared_with(node: Node<'_>, attributes: RegionAttributes) -> Result<Option<EndpointId>, Refused> {
    const NAME: &str = "bulkhead,shared-with";
    match node.number(NAME)? {
        None => Ok(None),
        Some(id @ 0x8001..=0xFFFE) if !attributes.non_secure() && !attributes.executable() => Ok(Some(EndpointId(id as u16))),
        Some(id @ 0x8001..=0xFFFE) => Err(node.not_hex(NAME, id, "this only of secure memory that nobody executes")),
        Some(id) => Err(node.not_hex(NAME, id, "the endpoint id of a partition, 0x8001 or more")),
    }
}

/// `stream-ids` and `smmu-id` of one region.
fn push_streams(streams: &mut ArrayVec<Stream, MAX_STREAMS>, node: Node<'_>, region: usize, access: RegionAttributes) -> Result<(), Refused> {
    const NAME: &str = "stream-ids";
    let Some(cells) = node.cells(NAME)?.filter(|cells: &Cells<'_>| cells.len() != 0) else { return Ok(()) };
    let Some(smmu) = node.number32("smmu-id")? else {
        return Err(node.missing("smmu-id", "the SMMU that the stream-ids go through"));
    };
    for id in cells.iter() {
        let full = |_| node.too_many(NAME, Found::Number(id.into()), MAX_STREAMS, "stream ids over all regions");
        streams.try_push(Stream { region: region as u8, id, smmu, access }).map_err(full)?;
    }
    Ok(())
}

fn not_empty(regions: Node<'_>, count: usize) -> Result<(), Refused> {
    if count == 0 { Err(regions.error("", Found::Reason("has no region"), Expected::Text("at least one"))) } else { Ok(()) }
}
