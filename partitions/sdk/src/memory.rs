//! Memory transactions (DEN0140 v1.2), from both sides: share, lend and donate; retrieve and relinquish; reclaim.

use crate::pages::succeeded;
use crate::{Mailbox, PAGE, call};
use arrayvec::ArrayVec;
use bulkhead_ffa::descriptor::{access, composite, range, relinquish as relinquish_layout, transaction, transaction_v1_0};
use bulkhead_ffa::{EndpointId, Regs, Status, function};

/// Address ranges of a retrieved region that are kept; more are counted only.
pub const KEPT_RANGES: usize = 16;
/// Bytes of a whole descriptor at the most.
pub const MAX_DESCRIPTOR: usize = 8 * PAGE;
/// Attributes: normal write-back, inner shareable memory.
pub const NORMAL_MEMORY: u16 = 2 << 4 | 3 << 2 | 3;
/// Attributes of a retrieved region: it is the normal world's.
pub const NON_SECURE: u16 = 1 << 6;
/// Permissions: data may be read.
pub const READ_ONLY: u8 = 1;
/// Permissions: data may be read and written.
pub const READ_WRITE: u8 = 2;
/// Permissions: may be read and written, and never executed.
pub const READ_WRITE_NEVER_EXECUTE: u8 = 2 | 1 << 2;
/// Flags of a transaction: the memory is zeroed first.
pub const ZERO: u32 = 1;
/// Flags of a borrower's request: it names itself only, of several borrowers.
pub const ONLY_SELF: u32 = 1 << 10;

/// What is done with the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The lender keeps access.
    Share,
    /// The lender has no access meanwhile.
    Lend,
    /// The memory changes its owner.
    Donate,
}

impl Kind {
    /// What a single borrower asks for, to read and write: nobody executes shared memory, of other memory it has to say so.
    #[must_use]
    pub const fn read_write(self) -> u8 {
        if matches!(self, Self::Share) { READ_WRITE } else { READ_WRITE_NEVER_EXECUTE }
    }

    fn function(self) -> u32 {
        match self {
            Self::Share => function::MEM_SHARE_64,
            Self::Lend => function::MEM_LEND_64,
            Self::Donate => function::MEM_DONATE_64,
        }
    }
}

/// A run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Address of the first.
    pub address: u64,
    /// How many.
    pub pages: u32,
}

/// A borrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Borrower {
    /// Who.
    pub id: EndpointId,
    /// What it may do.
    pub permissions: u8,
}

/// A memory transaction descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// The lender.
    pub sender: EndpointId,
    /// Memory attributes; 0 when a borrower leaves them to the SPMC.
    pub attributes: u16,
    /// Flags.
    pub flags: u32,
    /// Handle; 0 from the lender.
    pub handle: u64,
    /// The lender's own number.
    pub tag: u64,
    /// Who borrows.
    pub borrowers: &'a [Borrower],
    /// The memory; none in a borrower's request.
    pub ranges: &'a [Range],
    /// Whether to use the layout of v1.0.
    pub v1_0: bool,
    /// Bytes of an endpoint memory access descriptor: 16, or 32 from v1.2 on.
    pub access_size: usize,
}

impl<'a> Description<'a> {
    /// What a lender sends: one borrower that may read and write normal memory.
    #[must_use]
    pub fn lender(sender: EndpointId, borrowers: &'a [Borrower], ranges: &'a [Range]) -> Self {
        Self { sender, attributes: NORMAL_MEMORY, flags: 0, handle: 0, tag: 0, borrowers, ranges, v1_0: false, access_size: access::SIZE_V1_1 }
    }

    /// The same with the attributes that a lender may give: a single borrower of lent memory, and a new owner, choose them.
    #[must_use]
    pub fn by(self, kind: Kind) -> Self {
        let borrower_chooses = kind != Kind::Share && self.borrowers.len() == 1;
        if borrower_chooses { Self { attributes: 0, ..self } } else { self }
    }

    /// What a borrower sends.
    #[must_use]
    pub fn borrower(sender: EndpointId, handle: u64, tag: u64, borrowers: &'a [Borrower]) -> Self {
        Self { attributes: 0, handle, tag, ..Self::lender(sender, borrowers, &[]) }
    }

    /// Bytes of the whole descriptor.
    #[must_use]
    pub fn size(&self) -> usize {
        let composite = if self.ranges.is_empty() { 0 } else { composite::SIZE + self.ranges.len() * range::SIZE };
        self.composite_offset() + composite
    }

    fn header_size(&self) -> usize {
        if self.v1_0 { transaction_v1_0::SIZE } else { transaction::SIZE }
    }

    fn composite_offset(&self) -> usize {
        self.header_size() + self.borrowers.len() * self.access_size
    }

    /// The byte at `offset` of the descriptor: it is never built as a whole, so that it may be longer than a stack.
    fn byte(&self, offset: usize) -> u8 {
        let header = self.header_size();
        if offset < header {
            return self.header()[offset];
        }
        let composite_offset = self.composite_offset();
        if offset < composite_offset {
            let n = (offset - header) / self.access_size;
            return self.access(n)[(offset - header) % self.access_size];
        }
        let at = offset - composite_offset;
        if at < composite::SIZE {
            let mut bytes = [0; composite::SIZE];
            let pages: u32 = self.ranges.iter().map(|r| r.pages).sum();
            bytes[composite::PAGE_COUNT..][..4].copy_from_slice(&pages.to_le_bytes());
            bytes[composite::RANGE_COUNT..][..4].copy_from_slice(&(self.ranges.len() as u32).to_le_bytes());
            return bytes[at];
        }
        let one = self.ranges[(at - composite::SIZE) / range::SIZE];
        let mut bytes = [0; range::SIZE];
        bytes[range::ADDRESS..][..8].copy_from_slice(&one.address.to_le_bytes());
        bytes[range::PAGE_COUNT..][..4].copy_from_slice(&one.pages.to_le_bytes());
        bytes[at % range::SIZE]
    }

    fn header(&self) -> [u8; transaction::SIZE] {
        let mut bytes = [0; transaction::SIZE];
        let count = (self.borrowers.len() as u32).to_le_bytes();
        bytes[transaction::SENDER..][..2].copy_from_slice(&self.sender.0.to_le_bytes());
        bytes[transaction::ATTRIBUTES..][..2].copy_from_slice(&self.attributes.to_le_bytes());
        bytes[transaction::FLAGS..][..4].copy_from_slice(&self.flags.to_le_bytes());
        bytes[transaction::HANDLE..][..8].copy_from_slice(&self.handle.to_le_bytes());
        bytes[transaction::TAG..][..8].copy_from_slice(&self.tag.to_le_bytes());
        if self.v1_0 {
            bytes[transaction_v1_0::ACCESS_COUNT..][..4].copy_from_slice(&count);
        } else {
            bytes[transaction::ACCESS_SIZE..][..4].copy_from_slice(&(self.access_size as u32).to_le_bytes());
            bytes[transaction::ACCESS_COUNT..][..4].copy_from_slice(&count);
            bytes[transaction::ACCESS_OFFSET..][..4].copy_from_slice(&(transaction::SIZE as u32).to_le_bytes());
        }
        bytes
    }

    fn access(&self, n: usize) -> [u8; access::SIZE_V1_2] {
        let mut bytes = [0; access::SIZE_V1_2];
        let borrower = self.borrowers[n];
        bytes[access::ENDPOINT..][..2].copy_from_slice(&borrower.id.0.to_le_bytes());
        bytes[access::PERMISSIONS] = borrower.permissions;
        let offset = if self.ranges.is_empty() { 0 } else { self.composite_offset() as u32 };
        bytes[access::COMPOSITE_OFFSET..][..4].copy_from_slice(&offset.to_le_bytes());
        bytes
    }

    /// Writes the bytes from `offset` on to the TX buffer, `length` of them.
    fn put(&self, mailbox: &Mailbox, offset: usize, length: usize) {
        for n in 0..length {
            mailbox.tx.write(n, &[self.byte(offset + n)]);
        }
    }
}

/// Shares, lends or donates memory: returns the handle. The descriptor goes out in fragments of `fragment` bytes.
///
/// # Errors
/// What the SPMC answered.
pub fn send(kind: Kind, mailbox: &Mailbox, description: &Description<'_>, fragment: usize) -> Result<u64, Status> {
    let total = description.size();
    let mut sent = total.min(fragment);
    description.put(mailbox, 0, sent);
    let mut reply = call(Regs::new(&[u64::from(kind.function()), total as u64, sent as u64]));
    loop {
        match reply.function() {
            function::SUCCESS_32 | function::SUCCESS_64 => return Ok(u64::from(reply.w(2)) | u64::from(reply.w(3)) << 32),
            // The next fragment is asked for: it must be the one that follows.
            function::MEM_FRAG_RX if reply.w(3) as usize == sent && sent < total => {
                let (low, high) = (reply.w(1), reply.w(2));
                let length = (total - sent).min(fragment);
                description.put(mailbox, sent, length);
                sent += length;
                reply = call(Regs::new(&[u64::from(function::MEM_FRAG_TX), low.into(), high.into(), length as u64]));
            }
            _ => return Err(reply.as_error().unwrap_or(Status::NotSupported)),
        }
    }
}

/// What a borrower got.
#[derive(Clone, Debug, Default)]
pub struct Retrieved {
    /// Attributes as the SPMC tells them.
    pub attributes: u16,
    /// Permissions as the SPMC tells them.
    pub permissions: u8,
    /// The first ranges.
    pub ranges: ArrayVec<(u64, u32), KEPT_RANGES>,
    /// Number of all ranges.
    pub range_count: u32,
    /// Number of all pages.
    pub page_count: u32,
    /// Fragments in which the description came.
    pub fragments: u32,
}

/// Retrieves memory that was shared with, lent or donated to this endpoint.
///
/// # Errors
/// What the SPMC answered; INVALID_PARAMETERS too when its answer makes no sense.
pub fn retrieve(mailbox: &Mailbox, description: &Description<'_>) -> Result<Retrieved, Status> {
    let size = description.size();
    description.put(mailbox, 0, size);
    let reply = call(Regs::new(&[u64::from(function::MEM_RETRIEVE_REQ_64), size as u64, size as u64]));
    if reply.function() != function::MEM_RETRIEVE_RESP {
        return Err(reply.as_error().unwrap_or(Status::NotSupported));
    }
    let (total, mut length) = (reply.w(1) as usize, reply.w(2) as usize);
    let mut retrieved = Retrieved { fragments: 1, ..Retrieved::default() };
    let word = |offset: usize| mailbox.rx.word(offset & !7) >> (8 * (offset & 4)) & 0xffff_ffff;
    let first = if description.v1_0 { transaction_v1_0::SIZE } else { word(transaction::ACCESS_OFFSET) as usize };
    retrieved.attributes = (word(transaction::SENDER) >> 16) as u16 & if description.v1_0 { 0xff } else { 0xffff };
    if first + access::SIZE_V1_1 > length || length > PAGE {
        return Err(Status::InvalidParameters);
    }
    retrieved.permissions = (word(first + access::ENDPOINT) >> 16) as u8;
    let composite_offset = word(first + access::COMPOSITE_OFFSET) as usize;
    if composite_offset + composite::SIZE > length {
        return Err(Status::InvalidParameters);
    }
    retrieved.page_count = word(composite_offset + composite::PAGE_COUNT) as u32;
    retrieved.range_count = word(composite_offset + composite::RANGE_COUNT) as u32;
    let mut received = 0;
    let mut next_range = composite_offset + composite::SIZE;
    let mut pages = 0u32;
    loop {
        while next_range + range::SIZE <= received + length {
            let at = next_range - received;
            let count = word(at + range::PAGE_COUNT) as u32;
            // What does not fit is counted only.
            let _ = retrieved.ranges.try_push((mailbox.rx.word(at + range::ADDRESS), count));
            pages += count;
            next_range += range::SIZE;
        }
        received += length;
        mailbox.release()?;
        if received >= total {
            break;
        }
        let handle = description.handle;
        let reply = call(Regs::new(&[u64::from(function::MEM_FRAG_RX), handle & 0xffff_ffff, handle >> 32, received as u64]));
        length = reply.w(3) as usize;
        if reply.function() != function::MEM_FRAG_TX || length == 0 || length > PAGE {
            return Err(reply.as_error().unwrap_or(Status::InvalidParameters));
        }
        retrieved.fragments += 1;
    }
    if pages == retrieved.page_count { Ok(retrieved) } else { Err(Status::InvalidParameters) }
}

/// Gives retrieved memory back.
///
/// # Errors
/// What the SPMC answered.
pub fn relinquish(mailbox: &Mailbox, handle: u64, flags: u32, endpoint: EndpointId) -> Result<(), Status> {
    mailbox.tx.write(relinquish_layout::HANDLE, &handle.to_le_bytes());
    mailbox.tx.write(relinquish_layout::FLAGS, &flags.to_le_bytes());
    mailbox.tx.write(relinquish_layout::ENDPOINT_COUNT, &1u32.to_le_bytes());
    mailbox.tx.write(relinquish_layout::ENDPOINTS, &endpoint.0.to_le_bytes());
    succeeded(&call(Regs::new(&[u64::from(function::MEM_RELINQUISH)])))
}

/// Takes back memory that nobody has retrieved any more.
///
/// # Errors
/// What the SPMC answered.
pub fn reclaim(handle: u64, flags: u32) -> Result<(), Status> {
    succeeded(&call(Regs::new(&[u64::from(function::MEM_RECLAIM), handle & 0xffff_ffff, handle >> 32, u64::from(flags)])))
}
