//! RX/TX buffers (DEN0077A v1.2 sections 7.2, 13.5 to 13.8 and 15.5) of the normal world, a partition at S-EL1 and one at S-EL0:
//! who owns which RX buffer, what lies in it, and that nobody writes it before it is released. And the version that is spoken
//! (section 13.2), which the first other call fixes.

use super::{Wrong, cases};
use crate::PartitionConfig;
use crate::fake::{Actor, Bench, NORMAL_MEMORY, PARTITION_MEMORY, SECURE_MEMORY, s_el1};
use crate::machine::{Address, Machine};
use crate::partition::Methods;
use crate::tables::PAGE;
use bulkhead_ffa::{Regs, Status, Version, function};
use proptest::prelude::*;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

/// Endpoints by number; the first is the normal world.
const IDS: [u16; 3] = [0, 0x8001, 0x8002];
/// Takes no indirect messages, and has no buffers.
const DEAF: u16 = 0x8003;

/// What may be wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    Sender,
    Size,
    Offset,
    Reserved,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// TX and RX by page: those from 4 on are no memory, somebody else's, and unaligned.
    Map { who: usize, tx: u64, rx: u64, pages: u64, wide: bool },
    Unmap { who: usize },
    Release { who: usize },
    Acquire { who: usize },
    Info { who: usize, count_only: bool },
    Send { who: usize, to: u16, flaw: Flaw, payload: u8, size: u32 },
    Wait { who: usize, retain: bool },
    /// FFA_NOTIFICATION_GET of the framework's.
    Told { who: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..IDS.len();
    let page = || prop_oneof![12 => 0u64..4, 1 => 4u64..7];
    let pages = prop_oneof![12 => Just(1u64), 1 => Just(0), 1 => Just(2), 1 => Just(64)];
    let to = prop_oneof![10 => (0..IDS.len()).prop_map(|n| IDS[n]), 1 => Just(DEAF), 1 => Just(0x8009)];
    let flaw = prop_oneof![12 => Just(Flaw::None), 1 => Just(Flaw::Sender), 1 => Just(Flaw::Size), 1 => Just(Flaw::Offset), 1 => Just(Flaw::Reserved)];
    let size = prop_oneof![3 => 0u32..64, 1 => 0u32..4056];
    prop_oneof![
        6 => (who(), page(), page(), pages, any::<bool>()).prop_map(|(who, tx, rx, pages, wide)| Step::Map { who, tx, rx, pages, wide }),
        1 => who().prop_map(|who| Step::Unmap { who }),
        5 => who().prop_map(|who| Step::Release { who }),
        1 => who().prop_map(|who| Step::Acquire { who }),
        3 => (who(), any::<bool>()).prop_map(|(who, count_only)| Step::Info { who, count_only }),
        10 => (who(), to, flaw, any::<u8>(), size).prop_map(|(who, to, flaw, payload, size)| Step::Send { who, to, flaw, payload, size }),
        2 => (1..IDS.len(), any::<bool>()).prop_map(|(who, retain)| Step::Wait { who, retain }),
        2 => (1..IDS.len()).prop_map(|who| Step::Told { who }),
    ]
}

fn address(who: usize, page: u64) -> Address {
    let base = if who == 0 { NORMAL_MEMORY } else { SECURE_MEMORY + (who as u64 - 1) * PARTITION_MEMORY };
    let pa = match page {
        4 => 0xdead_0000,
        // The page after the normal world's, or the next one's.
        5 => SECURE_MEMORY + who as u64 * PARTITION_MEMORY,
        6 => base + 0x800,
        page => base + page * PAGE,
    };
    Address { pa, secure: who != 0 }
}

/// One endpoint: its buffers, and what it owns in RX.
#[derive(Default)]
struct Endpoint {
    /// TX and RX.
    mapped: Option<(u64, u64)>,
    full: bool,
    /// The message in RX, while it is owned.
    holds: Vec<u8>,
    /// The framework's notification of it, from a partition and from the normal world.
    told: [bool; 2],
}

/// A partition that makes the calls that it is told to, one whenever it is run.
#[derive(Clone, Default)]
struct Puppet(Arc<Mutex<Regs>>);

impl Puppet {
    async fn play(self, mut actor: Actor) {
        actor.wait().await;
        loop {
            let call = *self.0.lock().expect("nobody panics with it");
            let answer = actor.call(&call.0).await;
            if call.function() == function::MSG_WAIT && answer.function() == function::RUN {
                continue;
            }
            *self.0.lock().expect("nobody panics with it") = answer;
            actor.call(&[u64::from(function::YIELD)]).await;
        }
    }
}

struct Model {
    bench: Bench,
    endpoints: [Endpoint; IDS.len()],
    puppets: [Puppet; IDS.len()],
}

impl Model {
    fn new() -> Self {
        let puppets: [Puppet; IDS.len()] = Default::default();
        let mut bench = Bench::new(Version::V1_2);
        let methods = Methods(s_el1(0).methods.0 | Methods::INDIRECT);
        for n in 1..IDS.len() {
            let puppet = puppets[n].clone();
            bench.cast(PartitionConfig { methods, s_el0: n == 2, ..s_el1(IDS[n]) }, |actor| puppet.play(actor));
        }
        bench.cast(s_el1(DEAF), |_| async {});
        assert_eq!(bench.boot(), 0);
        Self { bench, endpoints: Default::default(), puppets }
    }

    fn call(&mut self, who: usize, x: &[u64]) -> Regs {
        if who == 0 {
            return self.bench.call(x);
        }
        *self.puppets[who].0.lock().expect("nobody panics with it") = Regs::new(x);
        let end = self.bench.resume(IDS[who], 0);
        if end.function() == function::MSG_WAIT {
            return Regs::success(&[]);
        }
        assert_eq!(end.function(), function::YIELD);
        *self.puppets[who].0.lock().expect("nobody panics with it")
    }

    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        let mut wrong = Wrong::default();
        match step {
            Step::Map { who, tx, rx, pages, wide } => {
                wrong.when(pages != 1 || tx == rx || tx > 3 || rx > 3, Status::InvalidParameters);
                // What is not the caller's memory may be denied as well.
                wrong.when(self.endpoints[who].mapped.is_some() || [tx, rx].iter().any(|page| matches!(page, 4 | 5)), Status::Denied);
                let id = if wide { function::RXTX_MAP_64 } else { function::RXTX_MAP_32 };
                let answer = self.call(who, &[u64::from(id), address(who, tx).pa, address(who, rx).pa, pages]);
                if wrong.judge(&answer, step)? {
                    self.endpoints[who].mapped = Some((tx, rx));
                }
            }
            Step::Unmap { who } => {
                wrong.when(self.endpoints[who].mapped.is_none(), Status::InvalidParameters);
                let answer = self.call(who, &[u64::from(function::RXTX_UNMAP)]);
                if wrong.judge(&answer, step)? {
                    self.endpoints[who].mapped = None;
                    self.release(who);
                }
            }
            Step::Release { who } => {
                wrong.when(!self.endpoints[who].full, Status::Denied);
                let answer = self.call(who, &[u64::from(function::RX_RELEASE)]);
                if wrong.judge(&answer, step)? {
                    self.release(who);
                }
            }
            Step::Acquire { who } => {
                wrong.when(who != 0, Status::NotSupported).when(self.endpoints[who].mapped.is_none(), Status::InvalidParameters);
                wrong.when(self.endpoints[who].full, Status::Denied);
                let answer = self.call(who, &[u64::from(function::RX_ACQUIRE)]);
                if wrong.judge(&answer, step)? {
                    self.endpoints[who].full = true;
                }
            }
            Step::Info { who, count_only } => {
                let own = &self.endpoints[who];
                wrong.when(!count_only && (own.full || own.mapped.is_none()), Status::Busy);
                let answer = self.call(who, &[u64::from(function::PARTITION_INFO_GET), 0, 0, 0, 0, u64::from(count_only)]);
                if wrong.judge(&answer, step)? {
                    prop_assert_eq!(answer.0[2], 3);
                    if !count_only {
                        self.endpoints[who].full = true;
                        prop_assert_eq!(self.rx(who, 2), 0x8001u16.to_le_bytes());
                    }
                }
            }
            Step::Send { who, to, flaw, payload, size } => self.send(who, to, flaw, payload, size)?,
            Step::Wait { who, retain } => {
                let answer = self.call(who, &[u64::from(function::MSG_WAIT), 0, u64::from(retain)]);
                if wrong.judge(&answer, step)? && !retain {
                    self.release(who);
                }
            }
            Step::Told { who } => {
                let answer = self.call(who, &[u64::from(function::NOTIFICATION_GET), u64::from(IDS[who]), 0xc]);
                if wrong.judge(&answer, step)? {
                    let told = core::mem::take(&mut self.endpoints[who].told);
                    prop_assert_eq!(&answer.0[2..8], &[0, 0, 0, 0, u64::from(told[0]), u64::from(told[1])]);
                }
            }
        }
        self.check()
    }

    fn send(&mut self, who: usize, to: u16, flaw: Flaw, payload: u8, size: u32) -> Result<(), TestCaseError> {
        let from = if flaw == Flaw::Sender { 0x8007 } else { IDS[who] };
        // Flags, reserved, offset, ends, size, reserved, service: 40 bytes from v1.2 on.
        let offset = if flaw == Flaw::Offset { 32 } else { 40 };
        let length = if flaw == Flaw::Size { 4096 } else { size };
        let words = [u32::from(flaw == Flaw::Reserved), 0, offset, u32::from(from) << 16 | u32::from(to), length];
        let mut message: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        message.resize(40, 0);
        message.extend(vec![payload; size as usize]);
        if let Some((tx, _)) = self.endpoints[who].mapped {
            self.bench.machine.write(address(who, tx), &message).unwrap();
        }
        let mut wrong = Wrong::default();
        wrong.when(self.endpoints[who].mapped.is_none(), Status::Denied);
        wrong.when(flaw != Flaw::None || to == IDS[who] || to == 0x8009, Status::InvalidParameters).when(to == DEAF, Status::Denied);
        let receiver = IDS.iter().position(|id| *id == to);
        let busy = |receiver: usize| self.endpoints[receiver].full || self.endpoints[receiver].mapped.is_none();
        wrong.when(receiver.is_some_and(busy), Status::Busy);
        let answer = self.call(who, &[u64::from(function::MSG_SEND2)]);
        if wrong.judge(&answer, (who, to, flaw))? {
            let receiver = &mut self.endpoints[receiver.expect("it exists")];
            (receiver.full, receiver.holds) = (true, message);
            receiver.told[usize::from(who == 0)] = true;
        }
        Ok(())
    }

    fn release(&mut self, who: usize) {
        self.endpoints[who].full = false;
        self.endpoints[who].holds.clear();
    }

    fn rx(&mut self, who: usize, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        if let Some((_, rx)) = self.endpoints[who].mapped {
            self.bench.machine.read(address(who, rx), &mut bytes).unwrap();
        }
        bytes
    }

    /// Every message that was not released is what it was.
    fn check(&mut self) -> Result<(), TestCaseError> {
        for (who, id) in IDS.into_iter().enumerate() {
            let found = self.rx(who, self.endpoints[who].holds.len());
            prop_assert_eq!(&found, &self.endpoints[who].holds, "RX of {:#x}", id);
        }
        Ok(())
    }
}

/// A call in a conversation about versions: FFA_VERSION, or one that makes use of what was agreed.
#[derive(Clone, Copy, Debug)]
enum Talk {
    Version(u32),
    Other,
}

fn talk() -> impl Strategy<Value = Talk> {
    let asked = prop_oneof![8 => 0x1_0000u32..0x1_0005, 1 => Just(0x2_0000), 1 => Just(2), 1 => Just(0x8001_0001), 1 => any::<u32>()];
    prop_oneof![6 => asked.prop_map(Talk::Version), 1 => Just(Talk::Other)]
}

/// What the endpoint has agreed to: what it asked for, if anything, and whether that is fixed.
struct Agreed {
    asked: u32,
    fixed: bool,
}

impl Agreed {
    /// What FFA_VERSION has to answer.
    fn answer(&mut self, asked: u32) -> u64 {
        let spoken = self.asked.min(0x1_0002);
        if asked >> 31 != 0 || asked >> 16 != 1 || self.fixed && asked != self.asked && asked != spoken {
            return 0xffff_ffff;
        }
        if !self.fixed {
            self.asked = asked;
        }
        0x1_0002
    }

    /// FFA_SPM_ID_GET came with v1.1.
    fn judge(&mut self, answer: &Regs) {
        self.fixed = true;
        let known = self.asked > 0x1_0000;
        assert_eq!(answer.as_error(), (!known).then_some(Status::NotSupported), "spoken: {:#x}", self.asked);
    }
}

/// FFA_SPM_ID_GET came with v1.1.
const USES_THE_VERSION: [u64; 1] = [function::SPM_ID_GET as u64];

proptest! {
    #![proptest_config(cases(300))]
    #[test]
    fn buffers_agree_with_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let mut model = Model::new();
        for who in 0..IDS.len() {
            model.run(Step::Map { who, tx: 0, rx: 1, pages: 1, wide: true })?;
        }
        for step in steps {
            model.run(step)?;
        }
    }

    #[test]
    fn versions_agree_with_the_model(talks in proptest::collection::vec(talk(), 1..12), s_el0 in any::<bool>(), manifest in 0x1_0000u32..0x1_0003) {
        let mut bench = Bench::new(Version::V1_2);
        let theirs = talks.clone();
        bench.cast(PartitionConfig { s_el0, version: Version(manifest), ..s_el1(0x8001) }, move |mut actor| async move {
            let mut agreed = Agreed { asked: manifest, fixed: false };
            for talk in theirs {
                match talk {
                    Talk::Version(version) => {
                        let answer = actor.call(&[u64::from(function::VERSION), u64::from(version)]).await;
                        assert_eq!(answer.w(0), agreed.answer(version) as u32, "{version:#x}");
                        assert!(answer.0[1..8].iter().all(|x| *x == 0));
                    }
                    Talk::Other => agreed.judge(&actor.call(&USES_THE_VERSION).await),
                }
            }
        });
        assert_eq!(bench.boot(), 0);
        let mut agreed = Agreed { asked: 0x1_0002, fixed: false };
        for talk in talks {
            match talk {
                Talk::Version(version) => {
                    let answer = bench.call(&[u64::from(function::VERSION), u64::from(version)]);
                    prop_assert_eq!(answer.w(0), agreed.answer(version) as u32, "{:#x}", version);
                }
                Talk::Other => agreed.judge(&bench.call(&USES_THE_VERSION)),
            }
        }
    }
}
