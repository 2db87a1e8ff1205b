//! The answer of FFA_NOTIFICATION_INFO_GET (DEN0077A v1.2 section 16.7): who has something pending, packed into registers.
//!
//! Invariant: what is reported was not reported since it was set, and counts as reported from then on.

use super::Receiver;
use crate::MAX_CORES;
use bulkhead_ffa::{EndpointId, Message, function, message};

/// The answer of FFA_NOTIFICATION_INFO_GET: 16-bit identifiers packed from register 3 on, in lists of an endpoint and up
/// to three of its vCPUs. A list of the endpoint alone stands for a global notification.
pub(super) struct Lists {
    wide: bool,
    ids: [u16; Self::MOST_IDS],
    ids_used: usize,
    /// Identifiers of each list less one, two bits each.
    sizes: u64,
    /// Lists so far.
    pub count: u64,
}

impl Lists {
    /// x3 to x7 with four identifiers each.
    const MOST_IDS: usize = 20;
    const MOST_VCPUS: usize = 3;

    pub fn new(wide: bool) -> Self {
        Self { wide, ids: [0; Self::MOST_IDS], ids_used: 0, sizes: 0, count: 0 }
    }

    fn room(&self) -> usize {
        (if self.wide { Self::MOST_IDS } else { Self::MOST_IDS / 2 }) - self.ids_used
    }

    fn push(&mut self, id: EndpointId, vcpus: &[u16]) {
        self.sizes |= (vcpus.len() as u64) << (2 * self.count);
        self.count += 1;
        for id in core::iter::once(&id.0).chain(vcpus) {
            self.ids[self.ids_used] = *id;
            self.ids_used += 1;
        }
    }

    /// Reports what `receiver` has pending; whether there was room for all of it.
    pub fn add(&mut self, id: EndpointId, receiver: &mut Receiver) -> bool {
        if receiver.unreported_global() {
            if self.room() == 0 {
                return false;
            }
            self.push(id, &[]);
            receiver.report_global();
        }
        loop {
            let mut vcpus = [0u16; Self::MOST_VCPUS];
            let mut found = 0;
            for vcpu in (0..MAX_CORES).filter(|vcpu| receiver.unreported_vcpu(*vcpu)).take(Self::MOST_VCPUS) {
                vcpus[found] = vcpu as u16;
                found += 1;
            }
            if found == 0 {
                return true;
            }
            let fitting = found.min(self.room().saturating_sub(1));
            if fitting == 0 {
                return false;
            }
            self.push(id, &vcpus[..fitting]);
            for vcpu in &vcpus[..fitting] {
                receiver.report_vcpu(usize::from(*vcpu));
            }
        }
    }

    pub fn reply(&self, more: bool) -> Message {
        let function = if self.wide { function::SUCCESS_64 } else { function::SUCCESS_32 };
        let mut message = message::new(&[u64::from(function), 0, u64::from(more) | self.count << 7 | self.sizes << 12]);
        let per_register = if self.wide { 4 } else { 2 };
        for (n, id) in self.ids[..self.ids_used].iter().enumerate() {
            message[3 + n / per_register] |= u64::from(*id) << (16 * (n % per_register));
        }
        message
    }
}
