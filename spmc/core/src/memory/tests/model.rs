//! Random histories of memory calls against a model that knows nothing of tables or descriptors.
//!
//! After every step the whole ledger must be the model's, translations must not outlive it, and no page may have an
//! exclusive holder and another one.

use super::bench::{Answer, Bench, Descriptor, NORMAL_WORLD, id, page, partition};
use crate::calls::From;
use crate::memory::{Kind, PageState};
use crate::tables::PAGE;
use bulkhead_ffa::{Status, Version, function};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

/// Pages of each endpoint that take part; those before them are its buffers.
const FIRST: u64 = 2;
const LAST: u64 = 9;
/// Partitions.
const PARTITIONS: u8 = 3;

/// A share, lend or donation.
#[derive(Clone, Debug)]
struct Send {
    sender: u8,
    kind: u8,
    /// One bit for each partition.
    receivers: u8,
    /// Whose pages (which need not be the sender's), first page and length.
    ranges: Vec<(u8, u64, u32)>,
    /// Ranges that come in a second fragment, if there are as many.
    later: usize,
    /// Changes of tables after which one fails.
    table_limit: Option<u64>,
}

#[derive(Clone, Debug)]
enum Step {
    Send(Send),
    /// Which transaction, who, for reading only, and how many changes of tables are left.
    Retrieve { which: usize, who: u8, read_only: bool, table_limit: Option<u64> },
    Relinquish { which: usize, who: u8 },
    Reclaim { which: usize, who: u8 },
    Fail { who: u8 },
}

/// Callers by number: the normal world is the last.
fn caller(n: u8) -> From {
    if n < PARTITIONS { partition(n) } else { NORMAL_WORLD }
}

fn key(n: u8) -> u8 {
    if n < PARTITIONS { n } else { u8::MAX }
}

fn step() -> impl Strategy<Value = Step> {
    let range = (0..=PARTITIONS, FIRST..LAST, 1u32..4);
    let limit = prop_oneof![4 => Just(None), 1 => (0u64..4).prop_map(Some)];
    let send = (0..=PARTITIONS, 0u8..3, 1u8..8, proptest::collection::vec(range, 1..4), 0usize..3, limit.clone());
    prop_oneof![
        6 => send.prop_map(|(sender, kind, receivers, ranges, later, table_limit)| Step::Send(Send { sender, kind, receivers, ranges, later, table_limit })),
        8 => (any::<usize>(), 0..PARTITIONS, any::<bool>(), limit)
            .prop_map(|(which, who, read_only, table_limit)| Step::Retrieve { which, who, read_only, table_limit }),
        5 => (any::<usize>(), 0..PARTITIONS).prop_map(|(which, who)| Step::Relinquish { which, who }),
        5 => (any::<usize>(), 0..=PARTITIONS).prop_map(|(which, who)| Step::Reclaim { which, who }),
        1 => (0..PARTITIONS).prop_map(|who| Step::Fail { who }),
    ]
}

struct Transaction {
    sender: u8,
    kind: Kind,
    receivers: Vec<u8>,
    pages: Vec<u64>,
    sent: Descriptor,
    handle: u64,
    holders: BTreeSet<u8>,
    alive: bool,
    orphaned: bool,
}

/// What each holder has at each page: state, and whether it may write.
type Ledger = BTreeMap<(u8, u64), (PageState, bool)>;

struct Model {
    ledger: Ledger,
    transactions: Vec<Transaction>,
    failed: BTreeSet<u8>,
}

impl Model {
    /// Whether a step that the model refuses was refused, and nothing more is to be done.
    fn agree<T>(expected: bool, answer: &Answer<T>, limited: bool) -> Result<bool, TestCaseError> {
        match answer {
            Ok(_) => prop_assert!(expected, "a wrong step succeeded"),
            // The tables ran out as they were told to.
            Err(Status::NoMemory) if limited => {}
            Err(status) => prop_assert!(!expected, "a right step ended in {status:?}"),
        }
        Ok(answer.is_ok())
    }

    fn set(&mut self, who: u8, pages: &[u64], state: PageState) {
        for page in pages {
            self.ledger.get_mut(&(key(who), *page)).expect("the lender has an entry").0 = state;
        }
    }

    fn let_go(&mut self, which: usize, who: u8) {
        let pages = self.transactions[which].pages.clone();
        self.ledger.retain(|at, _| at.0 != key(who) || !pages.contains(&at.1));
        self.transactions[which].holders.remove(&who);
        if self.transactions[which].orphaned && self.transactions[which].holders.is_empty() {
            self.end(which);
        }
    }

    fn end(&mut self, which: usize) {
        let (sender, pages) = (self.transactions[which].sender, self.transactions[which].pages.clone());
        self.set(sender, &pages, PageState::Owned);
        self.transactions[which].alive = false;
    }

    fn send(&mut self, bench: &mut Bench, step: &Send) -> Result<(), TestCaseError> {
        let (sender, limit) = (step.sender, step.table_limit);
        let kind = [Kind::Share, Kind::Lend, Kind::Donate][usize::from(step.kind)];
        let mut receivers: Vec<u8> = (0..PARTITIONS).filter(|n| step.receivers & 1 << n != 0).collect();
        if kind == Kind::Donate {
            receivers.truncate(1);
        }
        let ranges: Vec<_> = step.ranges.iter().map(|(of, first, pages)| (page(caller(*of), *first), *pages)).collect();
        let pages_of = |(start, pages): &(u64, u32)| (0..u64::from(*pages)).map(|n| start + n * PAGE).collect::<Vec<_>>();
        let pages: Vec<u64> = ranges.iter().flat_map(pages_of).collect();
        let ids: Vec<_> = receivers.iter().map(|n| id(*n)).collect();
        let secure = |at: &u64| *at < page(NORMAL_WORLD, 0);
        let owned = |held: Option<&(PageState, bool)>| matches!(held, Some((PageState::Owned, write)) if *write || kind == Kind::Donate);
        let expected = pages.iter().all(|p| owned(self.ledger.get(&(key(sender), *p))))
            && pages.iter().collect::<BTreeSet<_>>().len() == pages.len()
            && pages.iter().all(|p| secure(p) == secure(&pages[0]))
            && !receivers.contains(&sender)
            && !receivers.iter().any(|r| self.failed.contains(r))
            && !self.failed.contains(&sender)
            && self.transactions.iter().filter(|t| t.alive && t.sender == sender && t.kind != Kind::Donate).count() < 32;
        let call = match kind {
            Kind::Share => function::MEM_SHARE_32,
            Kind::Lend => function::MEM_LEND_32,
            Kind::Donate => function::MEM_DONATE_32,
        };
        let sent = match kind {
            Kind::Donate => Descriptor::donation(caller(sender), ids[0], &ranges),
            _ => Descriptor::from(caller(sender), &ids, &ranges).by(call),
        };
        let bytes = sent.bytes(Version::V1_2);
        let first = bytes.len() - (step.later * 16).min(16 * (ranges.len() - 1));
        bench.world().changes_left = limit;
        let answer = bench.send_in(caller(sender), call, &bytes, &[first]);
        bench.world().changes_left = None;
        if Self::agree(expected, &answer, limit.is_some())? {
            self.set(sender, &pages, if kind == Kind::Share { PageState::Shared } else { PageState::Lent });
            let handle = answer.expect("it succeeded");
            self.transactions.push(Transaction { sender, kind, receivers, pages, sent, handle, holders: BTreeSet::new(), alive: true, orphaned: false });
        }
        Ok(())
    }

    fn retrieve(&mut self, bench: &mut Bench, which: usize, who: u8, read_only: bool, limit: Option<u64>) -> Result<(), TestCaseError> {
        let transaction = &self.transactions[which];
        let lender = key(transaction.sender);
        let write = !read_only && transaction.pages.iter().all(|p| self.ledger.get(&(lender, *p)).is_some_and(|held| held.1));
        let expected = transaction.alive
            && !transaction.orphaned
            && transaction.receivers.contains(&who)
            && !transaction.holders.contains(&who)
            && !self.failed.contains(&who)
            && transaction.pages.iter().all(|p| !self.ledger.contains_key(&(key(who), *p)));
        let mut request = transaction.sent.request(transaction.handle);
        request.attributes = transaction.sent.attributes;
        let never = if transaction.sent.attributes == 0 { 1 << 2 } else { 0 };
        request.access = [(id(who), u8::from(read_only) | never)].to_vec();
        request.flags = 1 << 10;
        bench.world().changes_left = limit;
        let answer = bench.retrieve(partition(who), &request);
        bench.world().changes_left = None;
        if Self::agree(expected, &answer, limit.is_some())? {
            let state = if transaction.kind == Kind::Donate { PageState::Owned } else { PageState::Borrowed };
            for page in &transaction.pages {
                self.ledger.insert((key(who), *page), (state, write));
                if transaction.kind == Kind::Donate {
                    self.ledger.remove(&(key(transaction.sender), *page));
                }
            }
            let transaction = &mut self.transactions[which];
            transaction.alive = transaction.kind != Kind::Donate;
            transaction.holders.insert(who);
        }
        Ok(())
    }

    fn fail(&mut self, bench: &mut Bench, who: u8) {
        if !self.failed.insert(who) {
            return;
        }
        bench.fail(who);
        for which in 0..self.transactions.len() {
            if !self.transactions[which].alive {
                continue;
            }
            if self.transactions[which].holders.contains(&who) {
                self.let_go(which, who);
            }
            let transaction = &mut self.transactions[which];
            if transaction.alive && transaction.sender == who {
                transaction.orphaned = true;
                if transaction.holders.is_empty() {
                    self.end(which);
                }
            }
        }
    }

    fn run(&mut self, bench: &mut Bench, step: &Step) -> Result<(), TestCaseError> {
        let count = self.transactions.len();
        match *step {
            Step::Send(ref send) => self.send(bench, send),
            Step::Fail { who } => {
                self.fail(bench, who);
                Ok(())
            }
            _ if count == 0 => Ok(()),
            Step::Retrieve { which, who, read_only, table_limit } => self.retrieve(bench, which % count, who, read_only, table_limit),
            Step::Relinquish { which, who } => {
                let transaction = &self.transactions[which % count];
                let expected = transaction.alive && transaction.holders.contains(&who);
                let answer = bench.relinquish(partition(who), transaction.handle, 0);
                if Self::agree(expected, &answer, false)? {
                    self.let_go(which % count, who);
                }
                Ok(())
            }
            Step::Reclaim { which, who } => {
                let transaction = &self.transactions[which % count];
                let idle = transaction.alive && !transaction.orphaned && transaction.holders.is_empty();
                let expected = idle && transaction.sender == who && !self.failed.contains(&who);
                let answer = bench.reclaim(caller(who), transaction.handle, 0);
                if Self::agree(expected, &answer, false)? {
                    self.end(which % count);
                }
                Ok(())
            }
        }
    }
}

fn ledger_of(bench: &Bench) -> Ledger {
    bench.world().holdings().iter().map(|(at, holding)| (*at, (holding.state, holding.permissions.write))).collect()
}

/// No page has an exclusive holder and another one with access.
fn assert_exclusive(ledger: &Ledger) -> Result<(), TestCaseError> {
    let mut holders: BTreeMap<u64, Vec<PageState>> = BTreeMap::new();
    for ((_, page), (state, _)) in ledger {
        holders.entry(*page).or_default().push(*state);
    }
    for (page, states) in holders {
        prop_assert!(states.iter().filter(|s| **s != PageState::Borrowed).count() == 1, "{page:#x} has one owner: {states:?}");
        prop_assert!(!states.contains(&PageState::Owned) || states.len() == 1, "{page:#x} is exclusive: {states:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::models::cases(400))]

    #[test]
    fn random_histories_agree_with_the_model(steps in proptest::collection::vec(step(), 1..80)) {
        let mut bench = Bench::new();
        let mut model = Model { ledger: ledger_of(&bench), transactions: Vec::new(), failed: BTreeSet::new() };
        let first = model.ledger.clone();
        for step in &steps {
            model.run(&mut bench, step)?;
            prop_assert_eq!(&ledger_of(&bench), &model.ledger);
            assert_exclusive(&model.ledger)?;
            bench.world().assert_flushed();
        }
        // When everyone lets go and every lender reclaims, only what was donated is not where it was.
        for which in 0..model.transactions.len() {
            for who in 0..PARTITIONS {
                model.run(&mut bench, &Step::Relinquish { which, who })?;
            }
            let who = model.transactions[which].sender;
            model.run(&mut bench, &Step::Reclaim { which, who })?;
        }
        let donated = model.transactions.iter().filter(|t| t.kind == Kind::Donate && !t.holders.is_empty());
        let moved: BTreeSet<u64> = donated.flat_map(|t| t.pages.clone()).collect();
        for (at, held) in ledger_of(&bench) {
            prop_assert!(moved.contains(&at.1) || first.get(&at) == Some(&held), "{at:x?}: {held:?}");
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..4) {
        let function = [function::MEM_SHARE_32, function::MEM_LEND_64, function::MEM_RETRIEVE_REQ_32, function::MEM_RELINQUISH][which];
        let mut bench = Bench::new();
        let before = ledger_of(&bench);
        bench.write_tx(partition(0), &bytes);
        let len = bytes.len() as u64;
        let reply = bench.call(partition(0), &[u64::from(function), len, len]);
        prop_assert!(reply.as_error().is_some());
        prop_assert_eq!(ledger_of(&bench), before);
    }

    #[test]
    fn damaged_descriptors_do_no_damage(
        damage in proptest::collection::vec((0usize..128, any::<u8>()), 1..4),
        kind in 0usize..3,
        fragment in 0u64..140,
    ) {
        let mut bench = Bench::new();
        let ranges = [2, 6].map(|n| (page(partition(0), n), 2));
        let mut bytes = Descriptor::from(partition(0), &[id(1), id(2)], &ranges).bytes(Version::V1_2);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bench.write_tx(partition(0), &bytes);
        let function = [function::MEM_SHARE_32, function::MEM_LEND_32, function::MEM_DONATE_32][kind];
        let before = ledger_of(&bench);
        let reply = bench.call(partition(0), &[u64::from(function), bytes.len() as u64, fragment]);
        match reply.function() {
            function::ERROR | function::MEM_FRAG_RX => prop_assert_eq!(ledger_of(&bench), before),
            _ => assert_exclusive(&ledger_of(&bench))?,
        }
    }
}
