//! Memory transactions: lenders and borrowers on a core each, and partitions that fail meanwhile. The fake machine checks at
//! every change of a page that nobody gets it while another one's exclusive access to it is not gone on all cores.

use super::explore::{at_once, explore, explore_once};
use crate::calls::From;
use crate::memory::PageState;
use crate::memory::tests::bench::{Answer, Bench, Descriptor, NORMAL_WORLD, id, page, partition};
use bulkhead_ffa::{Status, Version, function};
use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec;
use std::vec::Vec;

/// A transaction that was sent: its descriptor and handle.
type Sent = (Descriptor, u64);
/// Where a lender tells its borrowers of them, as by a message.
type Board = Arc<Mutex<Vec<Sent>>>;
type Core = (Bench, Box<dyn FnOnce(Bench) + Send>);

/// Sends `pages` pages from the `first` of `from` on; tells the board.
fn send(bench: &mut Bench, board: &Board, from: From, call: u32, borrowers: &[u16], first: u64, pages: u32) -> Answer<u64> {
    let ranges = [(page(from, first), pages)];
    let descriptor = match call {
        function::MEM_DONATE_32 => Descriptor::donation(from, borrowers[0], &ranges),
        _ => Descriptor::from(from, borrowers, &ranges).by(call),
    };
    let handle = bench.send(from, call, &descriptor)?;
    board.lock().unwrap().push((descriptor, handle));
    Ok(handle)
}

/// What the board says now; another core may be just about to add something.
fn latest(board: &Board) -> Vec<Sent> {
    shuttle::thread::yield_now();
    board.lock().unwrap().clone()
}

fn retrieve(bench: &mut Bench, who: From, (descriptor, handle): &Sent) -> Answer<Vec<u8>> {
    let mut request = descriptor.request(*handle);
    let From::Partition(vcpu) = who else { panic!("it borrows nothing") };
    request.attributes = descriptor.attributes;
    // Who chooses the type says also that it does not execute.
    request.access = vec![(id(vcpu.partition), if descriptor.attributes == 0 { 1 << 2 } else { 0 })];
    request.flags = 1 << 10;
    bench.retrieve(who, &request)
}

/// Retrieves and gives back whatever it finds, a few times.
fn borrow_all(board: &Board, who: From) -> Box<dyn FnOnce(Bench) + Send> {
    let board = board.clone();
    Box::new(move |mut bench| {
        for _ in 0..3 {
            for sent in latest(&board) {
                match retrieve(&mut bench, who, &sent) {
                    Ok(_) if sent.0.access[0].1 == 0 => {}
                    Ok(_) => bench.relinquish(who, sent.1, 0).expect("what was retrieved can be given back"),
                    // Reclaimed, donated to somebody, or not for this one.
                    Err(status) => assert!(matches!(status, Status::InvalidParameters | Status::Denied), "{status:?}"),
                }
            }
        }
    })
}

#[test]
fn each_kind_can_be_retrieved_when_nobody_interferes() {
    explore_once(|| {
        let mut bench = Bench::new();
        let board = Board::default();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_SHARE_32, &[id(0), id(1)], 4, 1).unwrap();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_LEND_32, &[id(0)], 5, 1).unwrap();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_LEND_32, &[id(0), id(1)], 6, 2).unwrap();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_DONATE_32, &[id(0)], 8, 1).unwrap();
        send(&mut bench, &board, partition(1), function::MEM_LEND_32, &[id(0)], 4, 1).unwrap();
        for sent in latest(&board) {
            retrieve(&mut bench, partition(0), &sent).expect("so the refusals of the other tests are others' doing");
        }
    });
}

/// Every page is somebody's alone again, and can be used.
fn assert_settled(bench: &mut Bench, board: &Board) {
    for sent in board.lock().unwrap().clone() {
        match bench.reclaim(NORMAL_WORLD, sent.1, 0) {
            Ok(()) | Err(Status::InvalidParameters) => {}
            Err(status) => assert!(status == Status::Denied && sent.0.access[0].1 == 0, "only what was donated does not come back: {status:?}"),
        }
    }
    let world = bench.world();
    world.assert_flushed();
    assert!(world.holdings().values().all(|held| held.state == PageState::Owned));
}

#[test]
fn no_page_has_an_exclusive_owner_and_another_one() {
    explore(|| {
        let mut bench = Bench::new();
        let board = Board::default();
        let lender: Box<dyn FnOnce(Bench) + Send> = {
            let board = board.clone();
            Box::new(move |mut bench| {
                for (call, borrowers, first) in [
                    (function::MEM_SHARE_32, &[id(0), id(1)][..], 4),
                    (function::MEM_LEND_32, &[id(0)][..], 5),
                    (function::MEM_DONATE_32, &[id(1)][..], 6),
                    (function::MEM_LEND_32, &[id(1), id(0)][..], 4),
                ] {
                    let handle = match send(&mut bench, &board, NORMAL_WORLD, call, borrowers, first, 1) {
                        Ok(handle) => handle,
                        // Page 4 is shared still.
                        Err(status) => {
                            assert_eq!(status, Status::Denied);
                            continue;
                        }
                    };
                    let back = bench.reclaim(NORMAL_WORLD, handle, 0);
                    assert!(matches!(back, Ok(()) | Err(Status::Denied)), "{back:?}");
                    if back.is_ok() {
                        assert_eq!(bench.state(NORMAL_WORLD, page(NORMAL_WORLD, first)), Some(PageState::Owned));
                        let dead = latest(&board).pop().unwrap();
                        assert!(retrieve(&mut bench, partition(2), &dead).is_err());
                    }
                }
            })
        };
        let cores: Vec<Core> = vec![
            (bench.on(0), lender),
            (bench.on(1), borrow_all(&board, partition(0))),
            (bench.on(2), borrow_all(&board, partition(1))),
        ];
        at_once(cores);
        assert_settled(&mut bench, &board);
    });
}

#[test]
fn a_page_is_retrieved_or_reclaimed_but_not_both() {
    explore(|| {
        let mut bench = Bench::new();
        let board = Board::default();
        let handle = send(&mut bench, &board, NORMAL_WORLD, function::MEM_LEND_32, &[id(0)], 4, 2).unwrap();
        let sent = board.lock().unwrap()[0].clone();
        let borrows: (Bench, Box<dyn FnOnce(Bench) -> bool + Send>) =
            (bench.on(1), Box::new(move |mut bench| retrieve(&mut bench, partition(0), &sent).is_ok()));
        let reclaims: (Bench, Box<dyn FnOnce(Bench) -> bool + Send>) =
            (bench.on(0), Box::new(move |mut bench| bench.reclaim(NORMAL_WORLD, handle, 1).is_ok()));
        let [retrieved, reclaimed] = at_once(vec![borrows, reclaims])[..] else { panic!("two cores") };
        assert!(retrieved != reclaimed, "retrieved: {retrieved}, reclaimed: {reclaimed}");
        let expected = if retrieved { (PageState::Lent, Some(PageState::Borrowed)) } else { (PageState::Owned, None) };
        for n in [4, 5] {
            let at = page(NORMAL_WORLD, n);
            assert_eq!((bench.state(NORMAL_WORLD, at).unwrap(), bench.state(partition(0), at)), expected);
        }
        bench.world().assert_flushed();
    });
}

#[test]
fn a_page_is_given_away_once() {
    explore(|| {
        let bench = Bench::new();
        // Two cores of the normal world use one TX buffer: what is in it lends the same page, whoever comes first.
        let descriptor = Descriptor::from(NORMAL_WORLD, &[id(0), id(1)], &[(page(NORMAL_WORLD, 4), 1)]);
        bench.on(0).write_tx(NORMAL_WORLD, &descriptor.bytes(Version::V1_2));
        let length = descriptor.bytes(Version::V1_2).len() as u64;
        let core = |n: usize| -> (Bench, Box<dyn FnOnce(Bench) -> bool + Send>) {
            let call = [function::MEM_SHARE_32, function::MEM_LEND_32][n % 2];
            let lends = move |mut bench: Bench| {
                let answer = bench.call(NORMAL_WORLD, &[u64::from(call), length, length]);
                assert!(matches!(answer.as_error(), None | Some(Status::Denied)), "{answer:x?}");
                answer.as_error().is_none()
            };
            (bench.on(n), Box::new(lends))
        };
        let won = at_once(vec![core(0), core(1), core(2)]);
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    });
}

#[test]
fn descriptors_in_fragments_do_not_mix() {
    explore(|| {
        let mut bench = Bench::new();
        let board = Board::default();
        let sender = |from: From| -> Box<dyn FnOnce(Bench) + Send> {
            let board = board.clone();
            Box::new(move |mut bench: Bench| {
                let ranges = [3, 5, 7, 9].map(|n| (page(from, n), 1));
                let descriptor = Descriptor::from(from, &[id(2)], &ranges);
                let bytes = descriptor.bytes(Version::V1_2);
                let pieces = [bytes.len() - 48, 16, 16, 16];
                let handle = bench.send_in(from, function::MEM_SHARE_32, &bytes, &pieces).unwrap();
                board.lock().unwrap().push((descriptor, handle));
            })
        };
        let borrower: Box<dyn FnOnce(Bench) + Send> = {
            let board = board.clone();
            Box::new(move |mut bench| {
                let mut seen = 0;
                for _ in 0..4 {
                    for sent in latest(&board).drain(seen..) {
                        seen += 1;
                        let bytes = retrieve(&mut bench, partition(2), &sent).unwrap();
                        let ranges: Vec<u8> = sent.0.ranges.iter().flat_map(|(at, pages)| [*at, u64::from(*pages)]).flat_map(u64::to_le_bytes).collect();
                        assert!(bytes.ends_with(&ranges), "somebody else's ranges");
                    }
                }
            })
        };
        let cores: Vec<Core> = vec![(bench.on(0), sender(NORMAL_WORLD)), (bench.on(1), sender(partition(0))), (bench.on(2), borrower)];
        at_once(cores);
        for (from, sent) in board.lock().unwrap().iter().map(|sent| (if sent.0.sender == 0 { NORMAL_WORLD } else { partition(0) }, sent)) {
            let _ = bench.relinquish(partition(2), sent.1, 0);
            bench.reclaim(from, sent.1, 0).unwrap();
        }
        assert!(bench.world().holdings().values().all(|held| held.state == PageState::Owned));
    });
}

#[test]
fn a_partition_that_fails_leaves_no_page_behind() {
    explore(|| {
        let mut bench = Bench::new();
        let board = Board::default();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_LEND_32, &[id(0)], 4, 1).unwrap();
        send(&mut bench, &board, NORMAL_WORLD, function::MEM_SHARE_32, &[id(0), id(1)], 6, 1).unwrap();
        let own = Board::default();
        send(&mut bench, &own, partition(0), function::MEM_LEND_32, &[id(1)], 4, 1).unwrap();
        let from_failed = own.lock().unwrap()[0].clone();
        // It is at work on one core, and is ended by another.
        let works: Box<dyn FnOnce(Bench) + Send> = {
            let (board, own) = (board.clone(), own.clone());
            Box::new(move |mut bench| {
                for sent in latest(&board) {
                    if retrieve(&mut bench, partition(0), &sent).is_err() || bench.relinquish(partition(0), sent.1, 0).is_err() {
                        return;
                    }
                }
                let _ = send(&mut bench, &own, partition(0), function::MEM_LEND_32, &[id(1)], 7, 1);
            })
        };
        let ends: Box<dyn FnOnce(Bench) + Send> = Box::new(|mut bench| bench.fail(0));
        let borrows: Box<dyn FnOnce(Bench) + Send> = {
            let sent = from_failed.clone();
            Box::new(move |mut bench| {
                if retrieve(&mut bench, partition(1), &sent).is_ok() {
                    bench.relinquish(partition(1), sent.1, 0).expect("it has it");
                }
            })
        };
        let cores: Vec<Core> = vec![(bench.on(0), ends), (bench.on(1), works), (bench.on(2), borrows)];
        at_once(cores);
        for sent in board.lock().unwrap().iter() {
            bench.reclaim(NORMAL_WORLD, sent.1, 0).expect("the failed one has nothing any more");
        }
        for sent in own.lock().unwrap().iter() {
            assert!(retrieve(&mut bench, partition(1), sent).is_err());
        }
        bench.world().assert_flushed();
        assert!(bench.world().holdings().values().all(|held| held.state == PageState::Owned));
    });
}

