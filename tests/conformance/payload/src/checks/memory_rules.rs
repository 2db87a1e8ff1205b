//! The rules of memory transactions, one by one, from every side that each binds. Descriptors are written byte by byte, in the
//! layout that the caller speaks, with one thing wrong at a time.

use super::prelude::*;
use crate::probes::SELF;
use bulkhead_sdk::ffa::descriptor::{access, composite, range, relinquish, transaction, transaction_v1_0};
use bulkhead_sdk::ffa::{EndpointId, Status, Version, function};
use bulkhead_sdk::memory::{Kind, NON_SECURE, NORMAL_MEMORY, READ_ONLY, READ_WRITE, ZERO};
use bulkhead_sdk::{Line, PAGE, Pages};

checks! { "memory-rules":
    "DEN0140 1.10" sender_must_be_the_caller [Ns SEl1 SEl0] ANY "DENIED"
        = |at| refused(at, Kind::Share, Status::Denied, &[("another", |d, at| d.sender = at.other().id.0)]);
    "DEN0140 1.10" lender_names_no_handle [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Lend, Status::InvalidParameters, &[("1", |d, _| d.handle = 1), ("bit 63", |d, _| d.handle = 1 << 63)]);
    "DEN0140 1.10" receivers_must_be_others_and_exist [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("nobody", |d, _| d.borrowers = 0),
            ("the sender", |d, at| d.access[0].0 = at.id().0),
            ("an unknown endpoint", |d, _| d.access[0].0 = 0x80ee),
            ("one twice", |d, _| (d.borrowers, d.access[1]) = (2, d.access[0])),
        ])
    };
    "DEN0140 2.1" donation_has_one_receiver [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Donate, Status::InvalidParameters, &[
            ("two", |d, _| (d.borrowers, d.access[1]) = (2, (0x8003, 0, 0))),
            ("two, with a type", |d, _| (d.borrowers, d.access[1], d.attributes) = (2, (0x8003, 0, 0), NORMAL_MEMORY)),
        ])
    };
    "DEN0140 2.3" secure_memory_is_not_given_to_the_normal_world [SEl1 SEl0] ANY "DENIED" = |at| {
        refused(at, Kind::Share, Status::Denied, &[("share", |d, _| d.access[0].0 = 0)])?;
        refused(at, Kind::Lend, Status::Denied, &[("lend", |d, _| d.access[0].0 = 0)])
    };
    "DEN0140 1.9" share_specifies_data_access_and_no_execution [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("no data access", |d, _| d.access[0].1 = 0),
            ("reserved data access", |d, _| d.access[0].1 = 3),
            ("never executable", |d, _| d.access[0].1 = READ_WRITE | 1 << 2),
            ("executable", |d, _| d.access[0].1 = READ_WRITE | 2 << 2),
            ("reserved execution", |d, _| d.access[0].1 = READ_WRITE | 3 << 2),
            ("reserved bits", |d, _| d.access[0].1 = READ_WRITE | 1 << 4),
        ])
    };
    "DEN0140 1.9" lend_specifies_data_access [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Lend, Status::InvalidParameters, &[("none", |d, _| d.access[0].1 = 0), ("reserved", |d, _| d.access[0].1 = 3)])
    };
    "DEN0140 1.9" donation_leaves_access_open [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Donate, Status::InvalidParameters, &[("read", |d, _| d.access[0].1 = READ_ONLY), ("write", |d, _| d.access[0].1 = READ_WRITE)])
    };
    "DEN0140 1.10" access_flags_are_reserved [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, Status::InvalidParameters, &[("bit 1", |d, _| d.access[0].2 = 2), ("bit 7", |d, _| d.access[0].2 = 0x80)]);
    "DEN0140 1.10" non_secure_bit_is_not_the_senders [Ns SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[("share", |d, _| d.attributes |= NON_SECURE)])?;
        refused(at, Kind::Lend, Status::InvalidParameters, &[("lend", |d, _| d.attributes |= NON_SECURE)])?;
        refused(at, Kind::Donate, Status::InvalidParameters, &[("donate", |d, _| d.attributes |= NON_SECURE)])
    };
    "DEN0140 1.10" shared_memory_has_a_type [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, Status::InvalidParameters, &[("none", |d, _| d.attributes = 0), ("reserved", |d, _| d.attributes |= 3 << 4)]);
    "DEN0140 1.10" reserved_attributes_are_invalid [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, Status::InvalidParameters, &[("bit 7", |d, _| d.attributes |= 1 << 7)]);
    "DEN0140 1.10" ordinary_memory_is_no_device [Ns SEl1 SEl0] ANY "DENIED"
        = |at| refused(at, Kind::Share, Status::Denied, &[("nGnRnE", |d, _| d.attributes = 1 << 4), ("GRE", |d, _| d.attributes = 1 << 4 | 3 << 2)]);
    "DEN0140 1.10" single_borrower_chooses_the_type [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Lend, Status::InvalidParameters, &[("normal", |d, _| d.attributes = NORMAL_MEMORY), ("device", |d, _| d.attributes = 1 << 4)])?;
        refused(at, Kind::Donate, Status::InvalidParameters, &[("normal", |d, _| d.attributes = NORMAL_MEMORY)])
    };
    "DEN0140 1.11" flags_are_checked [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("zeroes for shared memory", |d, _| d.flags = ZERO),
            ("reserved, bit 2", |d, _| d.flags = 1 << 2),
            ("reserved, bit 31", |d, _| d.flags = 1 << 31),
            ("another kind", |d, _| d.flags = 2 << 3),
        ])
    };
    "DEN0140 1.11" zeroes_need_a_writer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Lend, Status::InvalidParameters, &[("read only", |d, _| (d.flags, d.access[0].1) = (ZERO, READ_ONLY))]);
    "DEN0140 1.10" ranges_are_whole_pages [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("unaligned", |d, _| d.ranges[0].0 += 0x800),
            ("empty", |d, _| (d.ranges[0].1, d.pages) = (0, 0)),
            ("none", |d, _| (d.count, d.pages) = (0, 0)),
            ("beyond the end of addresses", |d, _| (d.ranges[0], d.pages) = ((0xffff_ffff_ffff_f000, 2), 2)),
            ("fewer than promised", |d, _| d.pages = 2),
            ("more than promised", |d, _| (d.ranges[0].1, d.pages) = (2, 1)),
        ])
    };
    "DEN0140 1.10" ranges_do_not_overlap [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, Status::InvalidParameters, &[("one page twice", |d, _| (d.count, d.pages, d.ranges[1]) = (2, 2, d.ranges[0]))]);
    "DEN0140 1.10" composite_descriptor_lies_inside [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("in the header", |d, _| d.composite = Some(16)),
            ("nowhere", |d, _| d.composite = Some(0)),
            ("unaligned", |d, _| d.composite = Some(68)),
            ("beyond the end", |d, _| d.composite = Some(0x1000)),
            ("far beyond it", |d, _| d.composite = Some(u32::MAX - 7)),
        ])
    };
    "DEN0140 2.3" lengths_agree [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused(at, Kind::Share, Status::InvalidParameters, &[
            ("the fragment longer than the whole", |d, _| d.longer[1] = 16),
            ("the whole longer than its parts", |d, _| d.longer = [16, 16]),
            ("the whole shorter than its parts", |d, _| d.longer = [-16, -16]),
            ("no bytes", |d, _| d.longer = [-4096, -4096]),
            ("shorter than the header", |d, _| d.longer = [-80, -80]),
        ])
    };
    "DEN0140 2.3" descriptors_are_in_the_tx_buffer [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS"
        = |at| refused(at, Kind::Share, Status::InvalidParameters, &[("an address", |d, _| d.buffer = [0x4000_0000, 0]), ("pages", |d, _| d.buffer = [0, 1])]);
    "DEN0140 1.5" only_owners_give_memory [Ns SEl1 SEl0] ANY "DENIED" = |at| {
        let wrong: &[(&str, Change)] = &[
            ("EL3's", |d, _| d.ranges[0].0 = 0x0e09_0000),
            ("the SPMC's", |d, _| d.ranges[0].0 = 0x0e10_0000),
            ("a secure device", |d, _| d.ranges[0].0 = 0x0904_0000),
            ("nobody's", |d, _| d.ranges[0].0 = 0x8800_8000_1000),
        ];
        refused(at, Kind::Share, Status::Denied, wrong)?;
        refused(at, Kind::Lend, Status::Denied, wrong)?;
        refused(at, Kind::Donate, Status::Denied, wrong)
    };
    "DEN0140 1.5" what_is_given_is_not_given_again [Ns SEl1 SEl0] ANY "DENIED";
    "DEN0140 2.9" fragments_follow_each_other [Ns SEl1 SEl0] ANY "FFA_MEM_FRAG_RX, errors for wrong pieces, then FFA_SUCCESS";
    "DEN0140 2.7" unfinished_transaction_is_given_up [Ns SEl1 SEl0] ANY "the memory is the lender's again, and the handle unknown";
    "DEN0140 2.9" senders_take_turns_with_fragments [SEl1 SEl0] ANY "FFA_SUCCESS for both";
    "DEN0140 2.4" request_matches_what_was_sent [SEl1 SEl0] ANY "INVALID_PARAMETERS" = |at| {
        refused_request(at, Kind::Share, Status::InvalidParameters, &[
            ("an unknown handle", |d, _| d.handle += 1 << 20),
            ("no handle", |d, _| d.handle = 0),
            ("another tag", |d, _| d.tag += 1),
            ("another kind", |d, _| d.flags = 2 << 3),
            ("reserved flags", |d, _| d.flags = 1 << 11),
            ("an alignment that is not valid", |d, _| d.flags = 1 << 5),
            ("zeroes before, of shared memory", |d, _| d.flags = ZERO),
            ("zeroes after, of shared memory", |d, _| d.flags = 1 << 2),
            ("nobody", |d, _| d.borrowers = 0),
            ("another borrower, too", |d, at| (d.borrowers, d.access[1]) = (2, (at.other().id.0, READ_WRITE, 0))),
            ("execution of shared memory", |d, _| d.access[0].1 |= 1 << 2),
            ("reserved access", |d, _| d.access[0].1 = 3),
        ])
    };
    "DEN0140 2.4" request_names_its_sender [SEl1 SEl0] ANY "DENIED"
        = |at| refused_request(at, Kind::Share, Status::Denied, &[("another", |d, at| d.sender = at.other().id.0)]);
    "DEN0140 2.4" borrower_gets_no_more_than_the_lender_had [SEl1 SEl0] ANY "DENIED" = |at| {
        refused_request(at, Kind::Lend, Status::Denied, &[("execution of the normal world's memory", |d, _| d.access[0].1 = READ_WRITE | 2 << 2)])?;
        refused_request(at, Kind::Lend, Status::Denied, &[("zeroes that the lender did not ask for", |d, _| d.flags = ZERO)])
    };
    "DEN0140 2.4" borrower_gets_no_more_than_it_was_granted [SEl1 SEl0] ANY "DENIED";
    "DEN0140 1.9" single_borrower_says_whether_it_executes [SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS"
        = |at| refused_request(at, Kind::Lend, Status::InvalidParameters, &[("no word of it", |d, _| d.access[0].1 = READ_WRITE)]);
    "DEN0140 1.10" borrower_sets_no_non_secure_bit [SEl1 SEl0] SINCE_1_1 "INVALID_PARAMETERS"
        = |at| refused_request(at, Kind::Share, Status::InvalidParameters, &[("share", |d, _| d.attributes |= NON_SECURE)]);
    "DEN0140 2.5" answer_has_the_borrowers_layout [SEl1 SEl0] ANY "the descriptor of the version that the borrower speaks";
    "DEN0140 2.4" borrower_retrieves_again_after_relinquishing [SEl1 SEl0] ANY "DENIED while it has it, then FFA_MEM_RETRIEVE_RESP";
    "DEN0140 2.4" stranger_retrieves_nothing [SEl1 SEl0] ANY "DENIED or INVALID_PARAMETERS";
    "DEN0140 2.6" relinquish_is_for_oneself_and_once [SEl1 SEl0] ANY "INVALID_PARAMETERS, and DENIED where nothing is borrowed";
    "DEN0140 2.7" reclaim_is_the_lenders [Ns SEl1 SEl0] ANY "INVALID_PARAMETERS";
    "DEN0140 2.4" hypervisor_reads_what_was_sent [Ns] ANY "the description as sent, and nobody's access";
    "DEN0140 1.5" memory_changes_hands_twice [SEl1 SEl0] ANY "the new owner gives it on";
    "DEN0140 2.3" sixty_four_mebibytes_are_shared_at_a_time [SEl1 SEl0] ANY "the partition reads the first and the last page of each";
}

/// A change that makes a good descriptor a bad one.
type Change = fn(&mut Draft, Instance);

/// A descriptor in the making, and the registers that go with it.
#[derive(Clone, Copy)]
struct Draft {
    kind: Kind,
    sender: u16,
    attributes: u16,
    flags: u32,
    handle: u64,
    tag: u64,
    /// Endpoint, permissions, flags.
    access: [(u16, u8, u8); 2],
    borrowers: usize,
    /// Offset of the composite descriptor, where it is not the right one.
    composite: Option<u32>,
    /// Address and pages.
    ranges: [(u64, u32); 2],
    count: usize,
    /// Pages in all.
    pages: u32,
    /// Added to the lengths of the whole and of the fragment, which do not become negative.
    longer: [i64; 2],
    /// w3 and w4.
    buffer: [u64; 2],
}

const TAG: u64 = 0x0123_4567_89ab_cdef;
const LONGEST: usize = 48 + 2 * 16 + 16 + 2 * 16;

impl Draft {
    /// A page of the caller's for another endpoint.
    fn lender(at: Instance, kind: Kind) -> Result<Self, Line> {
        Ok(Self {
            kind,
            sender: at.id().0,
            attributes: if kind == Kind::Share { NORMAL_MEMORY } else { 0 },
            flags: 0,
            handle: 0,
            tag: TAG,
            access: [(at.other().id.0, if kind == Kind::Donate { 0 } else { READ_WRITE }, 0); 2],
            borrowers: 1,
            composite: None,
            ranges: [(at.page()?, 1); 2],
            count: 1,
            pages: 1,
            longer: [0; 2],
            buffer: [0; 2],
        })
    }

    /// What a borrower asks for of what was sent so.
    fn request(self, borrower: EndpointId, handle: u64) -> Self {
        Self { handle, flags: 0, attributes: NORMAL_MEMORY, access: [(borrower.0, self.kind.read_write(), 0); 2], borrowers: 1, count: 0, composite: Some(0), ..self }
    }

    fn composite_offset(&self, version: Version) -> usize {
        header_size(version) + self.borrowers * access::SIZE_V1_1
    }

    fn bytes(&self, version: Version) -> ([u8; LONGEST], usize) {
        let mut out = [0; LONGEST];
        let header = header_size(version);
        let composite_at = self.composite_offset(version);
        put(&mut out, transaction::SENDER, &self.sender.to_le_bytes());
        put(&mut out, transaction::ATTRIBUTES, &self.attributes.to_le_bytes());
        put(&mut out, transaction::FLAGS, &self.flags.to_le_bytes());
        put(&mut out, transaction::HANDLE, &self.handle.to_le_bytes());
        put(&mut out, transaction::TAG, &self.tag.to_le_bytes());
        put(&mut out, transaction::ACCESS_COUNT, &(self.borrowers as u32).to_le_bytes());
        if version > Version::V1_0 {
            put(&mut out, transaction::ACCESS_SIZE, &(access::SIZE_V1_1 as u32).to_le_bytes());
            put(&mut out, transaction::ACCESS_OFFSET, &(header as u32).to_le_bytes());
        }
        for (n, (endpoint, permissions, flags)) in self.access[..self.borrowers].iter().enumerate() {
            let at = header + n * access::SIZE_V1_1;
            put(&mut out, at + access::ENDPOINT, &endpoint.to_le_bytes());
            put(&mut out, at + access::PERMISSIONS, &[*permissions, *flags]);
            put(&mut out, at + access::COMPOSITE_OFFSET, &self.composite.unwrap_or(composite_at as u32).to_le_bytes());
        }
        if self.handle != 0 && self.count == 0 || self.composite == Some(0) && self.count == 0 {
            return (out, composite_at);
        }
        put(&mut out, composite_at + composite::PAGE_COUNT, &self.pages.to_le_bytes());
        put(&mut out, composite_at + composite::RANGE_COUNT, &(self.count as u32).to_le_bytes());
        for (n, (address, pages)) in self.ranges[..self.count].iter().enumerate() {
            let at = composite_at + composite::SIZE + n * range::SIZE;
            put(&mut out, at + range::ADDRESS, &address.to_le_bytes());
            put(&mut out, at + range::PAGE_COUNT, &pages.to_le_bytes());
        }
        (out, composite_at + composite::SIZE + self.count * range::SIZE)
    }

    /// Sends it: the handle.
    fn send(&self, at: Instance) -> Result<Result<u64, Status>, Line> {
        let (bytes, length) = self.bytes(at.version());
        put_tx(at, &bytes[..length])?;
        let [total, fragment] = self.longer.map(|more| (length as i64 + more).max(0) as u64);
        Ok(at.status(&[self.function().into(), total, fragment, self.buffer[0], self.buffer[1]])?.map(|reply| handle_in(&reply.0[2..4])))
    }

    fn function(&self) -> u32 {
        match self.kind {
            Kind::Share => function::MEM_SHARE_32,
            Kind::Lend => function::MEM_LEND_32,
            Kind::Donate => function::MEM_DONATE_32,
        }
    }

    /// Retrieves by it: total and fragment length.
    fn retrieve(&self, at: Instance) -> Result<Result<[u64; 2], Status>, Line> {
        let (bytes, length) = self.bytes(at.version());
        put_tx(at, &bytes[..length])?;
        let reply = at.call(&[function::MEM_RETRIEVE_REQ_32.into(), length as u64, length as u64])?;
        match (reply.as_error(), reply.function()) {
            (Some(status), _) => Ok(Err(status)),
            (None, function::MEM_RETRIEVE_RESP) => Ok(Ok([reply.0[1], reply.0[2]])),
            _ => Err(Line::new(format_args!("FFA_MEM_RETRIEVE_REQ is answered by {:#x}", reply.0[0]))),
        }
    }
}

fn header_size(version: Version) -> usize {
    if version == Version::V1_0 { transaction_v1_0::SIZE } else { transaction::SIZE }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

fn handle_in(words: &[u64]) -> u64 {
    words[0] & 0xffff_ffff | words[1] << 32
}

/// Writes the start of the instance's TX buffer.
fn put_tx(at: Instance, bytes: &[u8]) -> Result<(), Line> {
    let (_, tx) = at.buffers()?;
    for (n, chunk) in bytes.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        at.write(tx + 8 * n as u64, u64::from_le_bytes(word))?;
    }
    Ok(())
}

/// Four bytes of the instance's RX buffer.
fn rx_word(at: Instance, offset: usize) -> Result<u32, Line> {
    let (rx, _) = at.buffers()?;
    Ok((at.read(rx + (offset & !7) as u64)? >> (8 * (offset & 4))) as u32)
}

/// Runs a check with the normal world's buffers mapped; a partition's are, from its initialisation on.
fn with_buffers(check: impl FnOnce() -> Outcome) -> Outcome {
    Instance::Ns.map()?;
    let outcome = check();
    Instance::Ns.unmap()?;
    outcome
}

fn done(what: &str, result: Result<(), Status>) -> Result<(), Line> {
    result.map_err(|status| Line::new(format_args!("{what}: {status:?}")))
}

fn reclaim_with(at: Instance, handle: u64, flags: u64) -> Result<Result<(), Status>, Line> {
    Ok(at.status(&[function::MEM_RECLAIM.into(), handle & 0xffff_ffff, handle >> 32, flags])?.map(|_| ()))
}

fn reclaim(at: Instance, handle: u64) -> Result<(), Line> {
    done("FFA_MEM_RECLAIM", reclaim_with(at, handle, 0)?)
}

fn release(at: Instance) -> Result<(), Line> {
    done("FFA_RX_RELEASE", at.status(&[function::RX_RELEASE.into()])?.map(|_| ()))
}

fn relinquish_for(at: Instance, handle: u64, flags: u32, endpoints: &[u16]) -> Result<Result<(), Status>, Line> {
    let mut bytes = [0; relinquish::ENDPOINTS + 4];
    put(&mut bytes, relinquish::HANDLE, &handle.to_le_bytes());
    put(&mut bytes, relinquish::FLAGS, &flags.to_le_bytes());
    put(&mut bytes, relinquish::ENDPOINT_COUNT, &(endpoints.len() as u32).to_le_bytes());
    for (n, endpoint) in endpoints.iter().enumerate() {
        put(&mut bytes, relinquish::ENDPOINTS + 2 * n, &endpoint.to_le_bytes());
    }
    put_tx(at, &bytes)?;
    Ok(at.status(&[function::MEM_RELINQUISH.into()])?.map(|_| ()))
}

fn let_go(at: Instance, handle: u64) -> Result<(), Line> {
    done("FFA_MEM_RELINQUISH", relinquish_for(at, handle, 0, &[at.id().0])?)
}

/// A descriptor that is right but for one thing is refused with this status, and the right one is taken.
fn refused(at: Instance, kind: Kind, status: Status, wrong: &[(&str, Change)]) -> Outcome {
    with_buffers(|| {
        let good = Draft::lender(at, kind)?;
        for (what, change) in wrong {
            let mut draft = good;
            change(&mut draft, at);
            let answer = draft.send(at)?;
            if let Ok(handle) = answer {
                reclaim(at, handle)?;
            }
            expect!(answer.map(|_| ()), Err(status), "for {what}");
        }
        let answer = good.send(at)?;
        if let Ok(handle) = answer {
            reclaim(at, handle)?;
        }
        expect!(answer.map(|_| ()), Ok(()), "for the right one");
        pass!("{} ways", wrong.len())
    })
}

/// The normal world's page is sent to the instance. What is done with the handle gets the draft, too; then it is reclaimed.
fn lent_to(at: Instance, kind: Kind, then: impl FnOnce(&Draft, u64) -> Outcome) -> Outcome {
    with_buffers(|| {
        let mut sent = Draft::lender(Instance::Ns, kind)?;
        sent.access = [(at.id().0, sent.access[0].1, 0); 2];
        let handle = sent.send(Instance::Ns)?.map_err(|status| Line::new(format_args!("send: {status:?}")))?;
        let outcome = then(&sent, handle);
        let reclaimed = reclaim(Instance::Ns, handle);
        outcome.and_then(|found| Ok(reclaimed.map(|()| found)?))
    })
}

/// A request that is right but for one thing is refused with this status, and the right one is taken.
fn refused_request(at: Instance, kind: Kind, status: Status, wrong: &[(&str, Change)]) -> Outcome {
    lent_to(at, kind, |sent, handle| {
        let good = sent.request(at.id(), handle);
        for (what, change) in wrong {
            let mut request = good;
            change(&mut request, at);
            let answer = request.retrieve(at)?;
            if answer.is_ok() {
                release(at)?;
                let_go(at, handle)?;
            }
            expect!(answer.map(|_| ()), Err(status), "for {what}");
        }
        let answer = good.retrieve(at)?;
        if answer.is_ok() {
            release(at)?;
            let_go(at, handle)?;
        }
        expect!(answer.map(|_| ()), Ok(()), "for the right one");
        pass!("{} ways", wrong.len())
    })
}

fn borrower_gets_no_more_than_it_was_granted(at: Instance) -> Outcome {
    with_buffers(|| {
        let mut draft = Draft::lender(Instance::Ns, Kind::Share)?;
        draft.access[0] = (at.id().0, READ_ONLY, 0);
        let handle = draft.send(Instance::Ns)?.map_err(|status| Line::new(format_args!("for reading: {status:?}")))?;
        let answer = draft.request(at.id(), handle).retrieve(at)?;
        if answer.is_ok() {
            release(at)?;
            let_go(at, handle)?;
        }
        expect!(reclaim_with(Instance::Ns, handle, 0)?, Ok(()), "when reclaiming");
        expect!(answer.map(|_| ()), Err(Status::Denied), "for writing");
        pass!("DENIED")
    })
}

fn what_is_given_is_not_given_again(at: Instance) -> Outcome {
    with_buffers(|| {
        for first in [Kind::Share, Kind::Lend, Kind::Donate] {
            let handle = Draft::lender(at, first)?.send(at)?.map_err(|status| Line::new(format_args!("{first:?}: {status:?}")))?;
            for second in [Kind::Share, Kind::Lend, Kind::Donate] {
                let answer = Draft::lender(at, second)?.send(at)?;
                if answer.is_err() || first == second {
                    expect!(answer.map(|_| ()), Err(Status::Denied), "{second:?} after {first:?}");
                } else {
                    reclaim(at, answer.unwrap_or_default())?;
                    fail!("{second:?} after {first:?}: FFA_SUCCESS");
                }
            }
            reclaim(at, handle)?;
        }
        pass!("9 pairs")
    })
}

/// The first fragment, without the ranges: the answer's handle, and how much was sent of how much.
fn begin_fragments(at: Instance, draft: &Draft) -> Result<(u64, usize, usize), Line> {
    let (bytes, length) = draft.bytes(at.version());
    let first = length - draft.count * range::SIZE;
    put_tx(at, &bytes[..first])?;
    let reply = at.call(&[draft.function().into(), length as u64, first as u64])?;
    if reply.function() != function::MEM_FRAG_RX || reply.w(3) as usize != first {
        return Err(Line::new(format_args!("the first fragment is answered by {:#x}, {:#x}", reply.0[0], reply.0[3])));
    }
    Ok((handle_in(&reply.0[1..3]), first, length))
}

/// A further fragment.
fn go_on(at: Instance, draft: &Draft, handle: u64, from: usize, length: usize) -> Result<Result<u64, Status>, Line> {
    let (bytes, all) = draft.bytes(at.version());
    put_tx(at, &bytes[from..all])?;
    let reply = at.status(&[function::MEM_FRAG_TX.into(), handle & 0xffff_ffff, handle >> 32, length as u64])?;
    Ok(reply.map(|regs| handle_in(&regs.0[2..4])))
}

fn fragments_follow_each_other(at: Instance) -> Outcome {
    with_buffers(|| {
        let draft = Draft::lender(at, Kind::Lend)?;
        let (handle, first, length) = begin_fragments(at, &draft)?;
        // A handle that nobody has, which costs the transaction nothing.
        expect!(go_on(at, &draft, handle + (1 << 20), first, length - first)?, Err(Status::InvalidParameters), "for an unknown handle");
        let thief = if at == Instance::SEl1 { Instance::SEl0 } else { Instance::SEl1 };
        expect!(go_on(thief, &draft, handle, first, length - first)?, Err(Status::InvalidParameters), "for another's handle");
        // Until the last fragment the memory is the lender's: it can write it.
        at.write(draft.ranges[0].0, 0x1e4d)?;
        expect!(go_on(at, &draft, handle, first, length - first)?, Ok(handle), "for the rest");
        expect!(go_on(at, &draft, handle, first, length - first)?, Err(Status::InvalidParameters), "after the last one");
        reclaim(at, handle)?;
        pass!("3 wrong pieces, and the right one")
    })
}

fn unfinished_transaction_is_given_up(at: Instance) -> Outcome {
    with_buffers(|| {
        let draft = Draft::lender(at, Kind::Lend)?;
        // A piece that is no whole range ends it.
        let (handle, first, length) = begin_fragments(at, &draft)?;
        expect!(go_on(at, &draft, handle, first, 8)?, Err(Status::InvalidParameters), "for half a range");
        expect!(go_on(at, &draft, handle, first, length - first)?, Err(Status::InvalidParameters), "after that");
        let again = draft.send(at)?.map_err(|status| Line::new(format_args!("the memory is not the lender's: {status:?}")))?;
        reclaim(at, again)?;
        pass!("and the memory given anew")
    })
}

fn senders_take_turns_with_fragments(at: Instance) -> Outcome {
    with_buffers(|| {
        let other = Instance::Ns;
        let (mine, theirs) = (Draft::lender(at, Kind::Share)?, Draft::lender(other, Kind::Share)?);
        let (one, first, length) = begin_fragments(at, &mine)?;
        let (two, start, end) = begin_fragments(other, &theirs)?;
        ensure!(one != two, "both have the handle {one:#x}");
        expect!(go_on(at, &mine, one, first, length - first)?, Ok(one), "for the first sender");
        expect!(go_on(other, &theirs, two, start, end - start)?, Ok(two), "for the second sender");
        reclaim(at, one)?;
        reclaim(other, two)?;
        pass!("handles {one:#x} and {two:#x}")
    })
}

fn answer_has_the_borrowers_layout(at: Instance) -> Outcome {
    lent_to(at, Kind::Share, |sent, handle| {
        let lengths = sent.request(at.id(), handle).retrieve(at)?.map_err(|status| Line::new(format_args!("{status:?}")))?;
        let header = header_size(at.version());
        let word = |offset: usize| rx_word(at, offset);
        let outcome = (|| {
            expect!(word(transaction::SENDER)? & 0xffff, u32::from(SELF.0), "sender");
            let non_secure = if at.version() == Version::V1_0 { 0 } else { NON_SECURE };
            expect!(word(transaction::SENDER)? >> 16, u32::from(NORMAL_MEMORY | non_secure), "attributes");
            expect!(word(transaction::FLAGS)?, 1 << 3, "flags");
            expect!(u64::from(word(transaction::HANDLE)?) | u64::from(word(transaction::HANDLE + 4)?) << 32, handle, "handle");
            expect!(u64::from(word(transaction::TAG)?) | u64::from(word(transaction::TAG + 4)?) << 32, TAG, "tag");
            expect!(word(transaction::ACCESS_COUNT)?, 1, "access descriptors");
            if at.version() > Version::V1_0 {
                expect!(word(transaction::ACCESS_SIZE)?, access::SIZE_V1_1 as u32, "their size, as in the request");
                expect!(word(transaction::ACCESS_OFFSET)?, header as u32, "their place");
            }
            expect!(word(header)?, u32::from(at.id().0) | u32::from(READ_WRITE | 1 << 2) << 16, "borrower and permissions");
            let composite_at = word(header + access::COMPOSITE_OFFSET)? as usize;
            expect!(composite_at, header + access::SIZE_V1_1, "offset of the composite descriptor");
            expect!((word(composite_at)?, word(composite_at + composite::RANGE_COUNT)?), (1, 1), "pages and ranges");
            let at_range = composite_at + composite::SIZE;
            let address = u64::from(word(at_range)?) | u64::from(word(at_range + 4)?) << 32;
            expect!((address, word(at_range + range::PAGE_COUNT)?), sent.ranges[0], "the range");
            expect!(lengths, [(at_range + range::SIZE) as u64; 2], "lengths");
            pass!("{} bytes", lengths[0])
        })();
        release(at)?;
        let_go(at, handle)?;
        outcome
    })
}

fn borrower_retrieves_again_after_relinquishing(at: Instance) -> Outcome {
    lent_to(at, Kind::Lend, |sent, handle| {
        let request = sent.request(at.id(), handle);
        for time in 0..3 {
            let first = request.retrieve(at)?;
            ensure!(first.is_ok(), "time {time}: {first:?}");
            release(at)?;
            let twice = request.retrieve(at)?;
            let_go(at, handle)?;
            expect!(twice, Err(Status::Denied), "while it has the memory");
        }
        pass!("3 times")
    })
}

fn stranger_retrieves_nothing(at: Instance) -> Outcome {
    let stranger = if at == Instance::SEl1 { Instance::SEl0 } else { Instance::SEl1 };
    lent_to(stranger, Kind::Share, |sent, handle| {
        for request in [sent.request(at.id(), handle), sent.request(stranger.id(), handle)] {
            let answer = request.retrieve(at)?;
            ensure!(matches!(answer, Err(Status::Denied | Status::InvalidParameters)), "{answer:?}");
        }
        pass!("in its own name and in the borrower's")
    })
}

fn relinquish_is_for_oneself_and_once(at: Instance) -> Outcome {
    let (own, other) = (at.id().0, at.other().id.0);
    lent_to(at, Kind::Share, |sent, handle| {
        expect!(relinquish_for(at, handle, 0, &[own])?, Err(Status::Denied), "before it is retrieved");
        let got = sent.request(at.id(), handle).retrieve(at)?;
        ensure!(got.is_ok(), "{got:?}");
        release(at)?;
        let invalid = Err(Status::InvalidParameters);
        expect!(relinquish_for(at, handle + (1 << 20), 0, &[own])?, invalid, "for an unknown handle");
        expect!(relinquish_for(at, handle, 0, &[])?, invalid, "for nobody");
        expect!(relinquish_for(at, handle, 0, &[other])?, invalid, "for another");
        expect!(relinquish_for(at, handle, 0, &[own, other])?, invalid, "for two");
        expect!(relinquish_for(at, handle, 1 << 2, &[own])?, invalid, "with reserved flags");
        expect!(relinquish_for(at, handle, ZERO, &[own])?, invalid, "with zeroes for shared memory");
        expect!(relinquish_for(at, handle, 0, &[own])?, Ok(()), "as it should be");
        expect!(relinquish_for(at, handle, 0, &[own])?, Err(Status::Denied), "a second time");
        pass!("8 wrong ways")
    })
}

fn reclaim_is_the_lenders(at: Instance) -> Outcome {
    with_buffers(|| {
        let handle = Draft::lender(at, Kind::Share)?.send(at)?.map_err(|status| Line::new(format_args!("{status:?}")))?;
        let thief = if at == Instance::SEl1 { Instance::SEl0 } else { Instance::SEl1 };
        let invalid = Err(Status::InvalidParameters);
        expect!(reclaim_with(thief, handle, 0)?, invalid, "by another");
        expect!(reclaim_with(at, handle + (1 << 20), 0)?, invalid, "of an unknown handle");
        expect!(reclaim_with(at, 0, 0)?, invalid, "of no handle");
        expect!(reclaim_with(at, handle, 1 << 2)?, invalid, "with reserved flags");
        expect!(reclaim_with(at, handle, 0)?, Ok(()), "as it should be");
        expect!(reclaim_with(at, handle, 0)?, invalid, "a second time");
        pass!("5 wrong ways")
    })
}

fn hypervisor_reads_what_was_sent(at: Instance) -> Outcome {
    let borrower = Instance::SEl1;
    for kind in [Kind::Share, Kind::Lend, Kind::Donate] {
        lent_to(borrower, kind, |sent, handle| {
            let request = Draft { sender: 0, attributes: 0, tag: 0, borrowers: 0, ..sent.request(borrower.id(), handle) };
            let answer = request.retrieve(at)?;
            ensure!(answer.is_ok(), "{kind:?}: {answer:?}");
            let header = header_size(at.version());
            let non_secure = if at.version() == Version::V1_0 { 0 } else { NON_SECURE };
            let found = (rx_word(at, 0)?, rx_word(at, transaction::FLAGS)?, rx_word(at, transaction::ACCESS_COUNT)?, rx_word(at, header)?);
            release(at)?;
            let access = u32::from(borrower.id().0) | u32::from(sent.access[0].1) << 16;
            let flags = match kind {
                Kind::Share => 1 << 3,
                Kind::Lend => 2 << 3,
                Kind::Donate => 3 << 3,
            };
            expect!(found, (u32::from(sent.attributes | non_secure) << 16, flags, 1, access), "for {kind:?}");
            pass!("")
        })?;
    }
    pass!("of a share, a loan and a donation")
}

fn memory_changes_hands_twice(at: Instance) -> Outcome {
    let next = if at == Instance::SEl1 { Instance::SEl0 } else { Instance::SEl1 };
    static GIVEN: [Pages<1>; 2] = [const { Pages::new() }; 2];
    let page = GIVEN[usize::from(at == Instance::SEl1)].address();
    with_buffers(|| {
        let mut first = Draft::lender(Instance::Ns, Kind::Donate)?;
        (first.access[0].0, first.ranges[0].0) = (at.id().0, page);
        let handle = first.send(Instance::Ns)?.map_err(|status| Line::new(format_args!("the first donation: {status:?}")))?;
        let got = first.request(at.id(), handle).retrieve(at)?;
        ensure!(got.is_ok(), "{got:?}");
        release(at)?;
        let back = reclaim_with(Instance::Ns, handle, 0)?;
        ensure!(back.is_err(), "what was donated is reclaimed");
        let mut second = Draft::lender(at, Kind::Donate)?;
        (second.access[0].0, second.ranges[0].0) = (next.id().0, page);
        let handle = second.send(at)?.map_err(|status| Line::new(format_args!("the second donation: {status:?}")))?;
        let got = second.request(next.id(), handle).retrieve(next)?;
        ensure!(got.is_ok(), "{got:?}");
        release(next)?;
        next.write(page, 0xd0)?;
        expect!(next.read(page)?, 0xd0);
        pass!("from the normal world to {} and on to {}", at.name(), next.name())
    })
}

/// RAM of the normal world that nothing uses: 64 MiB, aligned to 2 MiB but for a page.
const LARGE: u64 = 0x7000_0000;
const PIECE: u32 = 0x1000;
const PIECES: u64 = 4;

fn sixty_four_mebibytes_are_shared_at_a_time(at: Instance) -> Outcome {
    with_buffers(|| {
        let mut handles = [0; PIECES as usize];
        let mut outcome = Ok(());
        for (n, handle) in handles.iter_mut().enumerate() {
            // Every other piece is out of step with blocks of 2 MiB.
            let start = LARGE + (n as u64) * (u64::from(PIECE) + 1) * PAGE as u64;
            let mut sent = Draft::lender(Instance::Ns, Kind::Share)?;
            (sent.access[0].0, sent.ranges[0], sent.pages) = (at.id().0, (start, PIECE), PIECE);
            outcome = (|| {
                let what = |what: &str, status: Status| Line::new(format_args!("piece {n}: {what}: {status:?}"));
                *handle = sent.send(Instance::Ns)?.map_err(|status| what("share", status))?;
                sent.request(at.id(), *handle).retrieve(at)?.map_err(|status| what("retrieve", status))?;
                release(at)?;
                for page in [start, start + u64::from(PIECE - 1) * PAGE as u64] {
                    Instance::Ns.write(page, page ^ 0x5a)?;
                    let seen = at.read(page)?;
                    ensure!(seen == page ^ 0x5a, "piece {n}: {page:#x} holds {seen:#x}");
                }
                Ok::<_, Line>(())
            })();
            if outcome.is_err() {
                break;
            }
        }
        for handle in handles.into_iter().filter(|handle| *handle != 0) {
            let _ = let_go(at, handle);
            reclaim(Instance::Ns, handle)?;
        }
        outcome?;
        pass!("{} pieces of {} MiB", PIECES, u64::from(PIECE) * PAGE as u64 >> 20)
    })
}
