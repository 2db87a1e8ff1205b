//! Direct messages, as a partition receives and sends them.

use crate::call;
use bulkhead_ffa::{EndpointId, Regs, Status, Uuid, Version, function};

/// The three conventions of direct messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// FFA_MSG_SEND_DIRECT_REQ with 32-bit registers: w3 to w7.
    Direct32,
    /// FFA_MSG_SEND_DIRECT_REQ with 64-bit registers: x3 to x7.
    Direct64,
    /// FFA_MSG_SEND_DIRECT_REQ2: x4 to x17, for a service.
    Direct2,
}

impl Convention {
    /// The registers that carry the payload.
    #[must_use]
    pub const fn payload(self) -> core::ops::Range<usize> {
        match self {
            Self::Direct32 | Self::Direct64 => 3..8,
            Self::Direct2 => 4..18,
        }
    }

    const fn request(self) -> u32 {
        match self {
            Self::Direct32 => function::MSG_SEND_DIRECT_REQ_32,
            Self::Direct64 => function::MSG_SEND_DIRECT_REQ_64,
            Self::Direct2 => function::MSG_SEND_DIRECT_REQ2,
        }
    }

    const fn response(self) -> u32 {
        match self {
            Self::Direct32 => function::MSG_SEND_DIRECT_RESP_32,
            Self::Direct64 => function::MSG_SEND_DIRECT_RESP_64,
            Self::Direct2 => function::MSG_SEND_DIRECT_RESP2,
        }
    }
}

/// FFA_MSG_WAIT: returns the next message, or whatever else the SPMC has to say.
#[must_use]
pub fn wait() -> Regs {
    call(Regs::new(&[u64::from(function::MSG_WAIT)]))
}

/// FFA_VERSION: settles on 1.2 and returns what the SPMC speaks. The manifest's `ffa-version` must say 1.2 too.
///
/// # Errors
/// NOT_SUPPORTED when it does not speak major version 1, or another version is settled already.
pub fn negotiate() -> Result<Version, Status> {
    negotiate_version(Version::V1_2)
}

/// As [`negotiate`], for a program that speaks an older version.
///
/// # Errors
/// NOT_SUPPORTED when the SPMC does not speak major version 1, or another version is settled already.
pub fn negotiate_version(version: Version) -> Result<Version, Status> {
    let reply = call(Regs::new(&[u64::from(function::VERSION), u64::from(version.0)]));
    let theirs = Version(reply.w(0));
    if theirs.major() == 1 { Ok(theirs) } else { Err(Status::NotSupported) }
}

/// A request that this partition got.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// How it came, and how it must be answered.
    pub convention: Convention,
    /// Who sent it.
    pub sender: EndpointId,
    /// To whom: this partition.
    pub receiver: EndpointId,
    /// The service that REQ2 names.
    pub service: Uuid,
    /// The payload; 5 registers, or 14 for [`Convention::Direct2`]. The others are zero.
    pub payload: [u64; 14],
}

impl Request {
    /// The request in these registers, if they are one.
    #[must_use]
    pub fn decode(regs: &Regs) -> Option<Self> {
        let convention = match regs.function() {
            function::MSG_SEND_DIRECT_REQ_32 => Convention::Direct32,
            function::MSG_SEND_DIRECT_REQ_64 => Convention::Direct64,
            function::MSG_SEND_DIRECT_REQ2 => Convention::Direct2,
            _ => return None,
        };
        let mut payload = [0; 14];
        for (to, from) in payload.iter_mut().zip(&regs.0[convention.payload()]) {
            *to = *from;
        }
        let service = if convention == Convention::Direct2 { Uuid::from_doublewords(regs.0[2], regs.0[3]) } else { Uuid::NIL };
        Some(Self { convention, sender: EndpointId((regs.w(1) >> 16) as u16), receiver: EndpointId(regs.w(1) as u16), service, payload })
    }

    /// The registers of the answer with this payload.
    #[must_use]
    pub fn response(&self, payload: &[u64]) -> Regs {
        message(self.convention, self.convention.response(), self.receiver, self.sender, Uuid::NIL, payload)
    }

    /// Answers, and returns the next message.
    #[must_use]
    pub fn respond(&self, payload: &[u64]) -> Regs {
        call(self.response(payload))
    }
}

/// The registers of a request.
#[must_use]
pub fn request(convention: Convention, sender: EndpointId, receiver: EndpointId, service: Uuid, payload: &[u64]) -> Regs {
    message(convention, convention.request(), sender, receiver, service, payload)
}

/// The payload of a response in `convention`, if `reply` is one.
#[must_use]
pub fn response_payload(convention: Convention, reply: &Regs) -> Option<&[u64]> {
    (reply.function() == convention.response()).then_some(&reply.0[convention.payload()])
}

fn message(convention: Convention, function: u32, from: EndpointId, to: EndpointId, service: Uuid, payload: &[u64]) -> Regs {
    let mut regs = Regs::new(&[u64::from(function), u64::from(from.0) << 16 | u64::from(to.0)]);
    if convention == Convention::Direct2 {
        [regs.0[2], regs.0[3]] = service.doublewords();
    }
    for (register, word) in regs.0[convention.payload()].iter_mut().zip(payload) {
        *register = *word;
    }
    regs
}
