//! Callers and descriptors for the tests: every byte of a descriptor is written here, independently of the code under test.

use crate::calls::{Call, From};
use crate::fake::{self, Fake, NORMAL_MEMORY, PARTITION_MEMORY, SECURE_MEMORY, World};
use crate::machine::{Address, Machine};
use crate::memory::{PageState, PageTables};
use crate::spmc::Spmc;
use crate::tables::PAGE;
use crate::vcpu::VcpuId;
use bulkhead_ffa::{Regs, Status, Version, function};
use std::sync::{Arc, MutexGuard};
use std::vec;
use std::vec::Vec;

pub const NORMAL_WORLD: From = From::NormalWorld;
/// The first pages of each caller are its RX and TX buffer.
const RX: u64 = 0;
const TX: u64 = 1;

/// The caller that stands for partition `n`.
pub fn partition(n: u8) -> From {
    From::Partition(VcpuId { partition: n, index: 0 })
}

/// The id of partition `n`.
pub fn id(n: u8) -> u16 {
    0x8001 + u16::from(n)
}

/// Page `n` of a caller's memory.
pub fn page(of: From, n: u64) -> u64 {
    let base = match of {
        From::NormalWorld => NORMAL_MEMORY,
        From::Partition(vcpu) => SECURE_MEMORY + u64::from(vcpu.partition) * PARTITION_MEMORY,
    };
    base + n * PAGE
}

/// A caller that is told nothing but its status.
pub type Answer<T> = Result<T, Status>;

pub struct Bench {
    pub spmc: Arc<Spmc>,
    pub machine: Fake,
}

impl Bench {
    /// Three partitions and a normal world that speak v1.2 and have buffers.
    pub fn new() -> Self {
        Self::with_normal_world_at(Version::V1_2)
    }

    /// The same with a normal world of another version.
    pub fn with_normal_world_at(version: Version) -> Self {
        let mut bench = fake::Bench::new(version);
        for n in 0..3 {
            bench.add(fake::s_el1(id(n)), |_| ());
        }
        bench.map_buffers();
        let mut bench = Self { spmc: bench.spmc.clone(), machine: bench.machine.clone() };
        for n in 0..3 {
            let from = partition(n);
            bench.speak(from, Version::V1_2);
            let map = bench.call(from, &[u64::from(function::RXTX_MAP_64), page(from, TX), page(from, RX), 1]);
            assert_eq!(map, Regs::success(&[]));
        }
        bench
    }

    /// The same, with calls on core `core`.
    pub fn on(&self, core: usize) -> Self {
        Self { spmc: self.spmc.clone(), machine: self.machine.on(core) }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.machine.world()
    }

    /// Fills the page at `at`.
    pub fn fill(&mut self, at: u64, secure: bool, byte: u8) {
        self.machine.write(Address { pa: at, secure }, &[byte; PAGE as usize]).unwrap();
    }

    /// Whether all of the page at `at` is this byte.
    pub fn holds(&mut self, at: u64, secure: bool, byte: u8) -> bool {
        let mut bytes = [0; PAGE as usize];
        self.machine.read(Address { pa: at, secure }, &mut bytes).unwrap();
        bytes == [byte; PAGE as usize]
    }

    pub fn speak(&self, from: From, version: Version) {
        assert!(self.spmc.endpoint(from).spoken.agree(version));
    }

    pub fn call(&mut self, from: From, x: &[u64]) -> Regs {
        self.machine.begin();
        let answer = self.spmc.common_call(&mut self.machine, &Call { from, regs: &Regs::new(x) }).map_or_else(Regs::error, Regs::of);
        self.machine.end();
        answer
    }

    fn answer(&mut self, from: From, x: &[u64]) -> Answer<Regs> {
        let regs = self.call(from, x);
        assert!(regs.0[8..].iter().all(|x| *x == 0));
        regs.as_error().map_or(Ok(regs), Err)
    }

    pub fn write_tx(&mut self, from: From, bytes: &[u8]) {
        let tx = Address { pa: page(from, TX), secure: from != NORMAL_WORLD };
        self.machine.write(tx, bytes).unwrap();
    }

    pub fn read_rx(&mut self, from: From, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.machine.read(Address { pa: page(from, RX), secure: from != NORMAL_WORLD }, &mut bytes).unwrap();
        bytes
    }

    /// A list of so many ranges will be at work: four uses of the machine for each may be needed.
    fn allow(&self, ranges: usize) {
        let mut world = self.machine.world();
        world.more_work = world.more_work.max(4 * ranges);
    }

    /// Sends a descriptor in fragments of `pieces` bytes and then the rest; returns the handle.
    pub fn send_in(&mut self, from: From, function: u32, bytes: &[u8], pieces: &[usize]) -> Answer<u64> {
        self.allow(bytes.len() / 16);
        let mut rest = bytes;
        let mut pieces = pieces.iter().copied().chain(core::iter::repeat(PAGE as usize));
        let mut take = |rest: &mut &[u8]| {
            let (piece, left) = rest.split_at(pieces.next().unwrap().min(rest.len()));
            *rest = left;
            piece.to_vec()
        };
        let piece = take(&mut rest);
        self.write_tx(from, &piece);
        let mut reply = self.answer(from, &[u64::from(function), bytes.len() as u64, piece.len() as u64])?;
        while reply.function() == function::MEM_FRAG_RX {
            assert_eq!(reply.w(3) as usize, bytes.len() - rest.len());
            let piece = take(&mut rest);
            self.write_tx(from, &piece);
            reply = self.answer(from, &[u64::from(function::MEM_FRAG_TX), reply.0[1], reply.0[2], piece.len() as u64])?;
        }
        assert_eq!((reply.function(), rest.len()), (function::SUCCESS_32, 0));
        let handle = reply.0[2] | reply.0[3] << 32;
        assert!(handle != 0 && handle >> 63 == 0);
        Ok(handle)
    }

    pub fn send(&mut self, from: From, function: u32, descriptor: &Descriptor) -> Answer<u64> {
        let version = self.spmc.version(from);
        self.send_in(from, function, &descriptor.bytes(version), &[])
    }

    /// Retrieves, collects all fragments of the answer and releases the RX buffer.
    pub fn retrieve_raw(&mut self, from: From, request: &[u8]) -> Answer<Vec<u8>> {
        self.write_tx(from, request);
        let len = request.len() as u64;
        let reply = self.answer(from, &[u64::from(function::MEM_RETRIEVE_REQ_32), len, len])?;
        assert_eq!(reply.function(), function::MEM_RETRIEVE_RESP);
        let (total, mut bytes) = (reply.w(1) as usize, self.read_rx(from, reply.w(2) as usize));
        let handle = &request[8..16];
        let half = |at: usize| u64::from(u32::from_le_bytes(handle[at..at + 4].try_into().unwrap()));
        self.release(from);
        while bytes.len() < total {
            let more = self.answer(from, &[u64::from(function::MEM_FRAG_RX), half(0), half(4), bytes.len() as u64])?;
            assert_eq!((more.function(), more.0[1], more.0[2]), (function::MEM_FRAG_TX, half(0), half(4)));
            bytes.extend(self.read_rx(from, more.w(3) as usize));
            self.release(from);
        }
        assert_eq!(bytes.len(), total);
        Ok(bytes)
    }

    pub fn retrieve(&mut self, from: From, request: &Descriptor) -> Answer<Vec<u8>> {
        let version = self.spmc.version(from);
        self.retrieve_raw(from, &request.bytes(version))
    }

    pub fn release(&mut self, from: From) {
        assert_eq!(self.call(from, &[u64::from(function::RX_RELEASE)]).function(), function::SUCCESS_32);
    }

    pub fn relinquish(&mut self, from: From, handle: u64, flags: u32) -> Answer<()> {
        let From::Partition(vcpu) = from else { panic!("the normal world borrows nothing") };
        self.relinquish_as(from, handle, flags, &[id(vcpu.partition)])
    }

    pub fn relinquish_as(&mut self, from: From, handle: u64, flags: u32, endpoints: &[u16]) -> Answer<()> {
        let mut bytes = handle.to_le_bytes().to_vec();
        bytes.extend(flags.to_le_bytes());
        bytes.extend((endpoints.len() as u32).to_le_bytes());
        endpoints.iter().for_each(|e| bytes.extend(e.to_le_bytes()));
        self.write_tx(from, &bytes);
        self.answer(from, &[u64::from(function::MEM_RELINQUISH)]).map(|_| ())
    }

    pub fn reclaim(&mut self, from: From, handle: u64, flags: u32) -> Answer<()> {
        self.answer(from, &[u64::from(function::MEM_RECLAIM), handle & 0xffff_ffff, handle >> 32, u64::from(flags)]).map(|_| ())
    }

    /// Ends a partition as a fault would.
    pub fn fail(&mut self, n: u8) {
        assert!(self.spmc.partition(n).unwrap().0.fail());
        self.spmc.memory_after_failure(&mut self.machine, n);
    }

    pub fn state(&self, of: From, page: u64) -> Option<PageState> {
        self.machine.clone().holding(of.owner(), page).map(|h| h.state)
    }
}

/// A transaction descriptor, to be written in the layout of some version.
#[derive(Clone)]
pub struct Descriptor {
    pub sender: u16,
    pub attributes: u16,
    pub flags: u32,
    pub handle: u64,
    pub tag: u64,
    pub access_size: usize,
    /// Endpoint and permissions.
    pub access: Vec<(u16, u8)>,
    pub implementation_defined: u8,
    /// Address and page count; no composite descriptor when there are none.
    pub ranges: Vec<(u64, u32)>,
}

impl Descriptor {
    /// What a lender sends, for reading and writing by all `receivers`.
    pub fn from(sender: From, receivers: &[u16], ranges: &[(u64, u32)]) -> Self {
        let sender = match sender {
            From::NormalWorld => 0,
            From::Partition(vcpu) => id(vcpu.partition),
        };
        let access = receivers.iter().map(|r| (*r, 2)).collect();
        Self { sender, attributes: 0x2f, flags: 0, handle: 0, tag: 0, access_size: 16, access, implementation_defined: 0, ranges: ranges.to_vec() }
    }

    /// The same with the attributes that a call demands: one borrower of lent memory chooses them.
    pub fn by(self, function: u32) -> Self {
        let borrower_chooses = matches!(function, function::MEM_LEND_32 | function::MEM_LEND_64) && self.access.len() == 1;
        if borrower_chooses { Self { attributes: 0, ..self } } else { self }
    }

    /// One that gives all of it away.
    pub fn donation(sender: From, receiver: u16, ranges: &[(u64, u32)]) -> Self {
        Self { attributes: 0, access: vec![(receiver, 0)], ..Self::from(sender, &[], ranges) }
    }

    /// What a borrower sends to retrieve this as `handle`.
    pub fn request(&self, handle: u64) -> Self {
        // Who chooses the type says also that it does not execute.
        let never = if self.attributes == 0 { 1 << 2 } else { 0 };
        let access = self.access.iter().map(|(id, permissions)| (*id, permissions | never)).collect();
        Self { handle, ranges: Vec::new(), flags: 0, attributes: 0x2f, access, ..self.clone() }
    }

    /// Offset of the composite descriptor.
    pub fn composite(&self, version: Version) -> usize {
        let (header, size) = if version < Version::V1_1 { (32, 16) } else { (48, self.access_size) };
        header + size * self.access.len()
    }

    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let v1_0 = version < Version::V1_1;
        let composite = self.composite(version);
        let mut out = Vec::new();
        out.extend(self.sender.to_le_bytes());
        out.extend(self.attributes.to_le_bytes());
        out.extend(self.flags.to_le_bytes());
        out.extend(self.handle.to_le_bytes());
        out.extend(self.tag.to_le_bytes());
        out.extend(if v1_0 { 0 } else { self.access_size as u32 }.to_le_bytes());
        out.extend((self.access.len() as u32).to_le_bytes());
        if !v1_0 {
            out.extend(48u32.to_le_bytes());
            out.extend([0; 12]);
        }
        let size = if v1_0 { 16 } else { self.access_size };
        for (endpoint, permissions) in &self.access {
            out.extend(endpoint.to_le_bytes());
            out.extend([*permissions, 0]);
            out.extend(if self.ranges.is_empty() { 0 } else { composite as u32 }.to_le_bytes());
            if size == 32 {
                out.extend([self.implementation_defined; 16]);
            }
            out.extend([0; 8]);
        }
        if !self.ranges.is_empty() {
            assert_eq!(out.len(), composite);
            out.extend(self.ranges.iter().map(|r| r.1).sum::<u32>().to_le_bytes());
            out.extend((self.ranges.len() as u32).to_le_bytes());
            out.extend([0; 8]);
            for (address, pages) in &self.ranges {
                out.extend(address.to_le_bytes());
                out.extend(u64::from(*pages).to_le_bytes());
            }
        }
        out
    }
}
