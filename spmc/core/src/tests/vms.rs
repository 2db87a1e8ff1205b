//! Virtual machines behind the normal world's hypervisor: their buffers, their messages, and the messages about them.

use crate::PartitionConfig;
use crate::fake::*;
use crate::machine::{Address, Machine};
use crate::memory::{MemoryType, Owner, PageState};
use crate::partition::{Methods, VmMessages};
use bulkhead_ffa::{Regs, Status, Version, function};
use std::vec::Vec;

const MAP: u64 = function::RXTX_MAP_64 as u64;
const UNMAP: u64 = function::RXTX_UNMAP as u64;
const RELEASE: u64 = function::RX_RELEASE as u64;
const ACQUIRE: u64 = function::RX_ACQUIRE as u64;
const SEND: u64 = function::MSG_SEND2 as u64;
const GET: u64 = function::NOTIFICATION_GET as u64;
const CREATE: u64 = function::NOTIFICATION_BITMAP_CREATE as u64;
const REQ: u64 = function::MSG_SEND_DIRECT_REQ_32 as u64;
const RESP: u64 = function::MSG_SEND_DIRECT_RESP_32 as u64;
const MESSAGE: u64 = 1 << 31;
const CREATED: u64 = 4;
const DESTROYED: u64 = 6;
/// As [`Bench::map_buffers`] places the hypervisor's own.
const TX: u64 = NORMAL_MEMORY + 0x1000;

/// A page of the normal world's memory.
fn page(n: u64) -> u64 {
    NORMAL_MEMORY + n * 0x1000
}

/// Writes an Endpoint RX/TX descriptor; `composites` are page count, range count, address and pages of RX and TX.
fn describe(bench: &mut Bench, id: u32, offsets: [u32; 2], composites: [(u32, u32, u64, u32); 2]) {
    let mut bytes: Vec<u8> = [id, offsets[0], offsets[1], 0].into_iter().flat_map(u32::to_le_bytes).collect();
    for (pages, ranges, address, count) in composites {
        bytes.extend([pages, ranges, 0, 0].into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(address.to_le_bytes());
        bytes.extend([count, 0].into_iter().flat_map(u32::to_le_bytes));
    }
    bench.machine.write(Address { pa: TX, secure: false }, &bytes).unwrap();
}

fn map(bench: &mut Bench, id: u32, rx: u64, tx: u64) -> Regs {
    describe(bench, id, [16, 48], [(1, 1, rx, 1), (1, 1, tx, 1)]);
    bench.call(&[MAP])
}

fn hypervisor() -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.map_buffers();
    bench
}

/// Section 13.6: no address in the registers, a descriptor in the hypervisor's TX buffer.
#[test]
fn a_hypervisor_maps_the_buffers_of_its_vms() {
    let mut bench = Bench::new(Version::V1_2);
    assert_eq!(bench.call(&[MAP]), invalid(), "it has none itself");
    bench.map_buffers();
    assert_eq!(map(&mut bench, 1, page(2), page(3)), ok());
    assert_eq!(map(&mut bench, 2, page(4), page(5)), ok());
    assert_eq!(map(&mut bench, 1, page(6), page(7)), denied(), "it has buffers");
    assert_eq!(bench.call(&[UNMAP, 3 << 16]), invalid(), "it has none");
    assert_eq!(bench.call(&[UNMAP, 1 << 16]), ok());
    assert_eq!(bench.call(&[UNMAP, 1 << 16]), invalid());
    assert_eq!(map(&mut bench, 3, page(2), page(3)), ok(), "the pages are free again");
    assert_eq!(bench.call(&[UNMAP]), ok(), "the hypervisor's own");
    assert_eq!(bench.call(&[UNMAP, 2 << 16]), ok());
    assert_eq!(bench.call(&[UNMAP, 3 << 16]), ok());
}

#[test]
fn places_for_vms_run_out_and_come_back() {
    let mut bench = hypervisor();
    let most = crate::vms::MAX_VMS as u32;
    for n in 1..=most {
        assert_eq!(map(&mut bench, n, page(u64::from(2 * n)), page(u64::from(2 * n + 1))), ok());
    }
    assert_eq!(map(&mut bench, 9, page(14), page(15)), error(Status::NoMemory));
    assert_eq!(bench.call(&[UNMAP, 2 << 16]), ok());
    assert_eq!(map(&mut bench, 9, page(14), page(15)), ok());
}

#[test]
fn wrong_descriptions_of_a_vms_buffers_are_refused() {
    let mut bench = hypervisor();
    let normal = Owner::NormalWorld;
    bench.world().change(normal, page(8), |page| page.permissions.write = false);
    bench.world().change(normal, page(9), |page| page.memory_type = MemoryType::Device);
    bench.world().change(normal, page(10), |page| page.state = PageState::Shared);
    assert_eq!(map(&mut bench, 7, page(6), page(7)), ok());
    let right = (1, 1, page(2), 1);
    for (what, id, offsets, tx, status) in [
        ("a partition's", 0x8001, [16, 48], right, Status::InvalidParameters),
        ("the hypervisor's own", 0, [16, 48], right, Status::InvalidParameters),
        ("an unaligned offset", 1, [16, 52], right, Status::InvalidParameters),
        ("an offset beyond the buffer", 1, [16, 4096 - 24], right, Status::InvalidParameters),
        ("an offset that overflows", 1, [16, u32::MAX - 7], right, Status::InvalidParameters),
        ("two pages", 1, [16, 48], (2, 1, page(2), 2), Status::InvalidParameters),
        ("no page", 1, [16, 48], (0, 1, page(2), 0), Status::InvalidParameters),
        ("two ranges", 1, [16, 48], (1, 2, page(2), 1), Status::InvalidParameters),
        ("the sum of pages is wrong", 1, [16, 48], (1, 1, page(2), 2), Status::InvalidParameters),
        ("unaligned", 1, [16, 48], (1, 1, page(2) + 8, 1), Status::InvalidParameters),
        ("the same page", 1, [16, 48], (1, 1, page(3), 1), Status::InvalidParameters),
        ("secure memory", 1, [16, 48], (1, 1, SECURE_MEMORY, 1), Status::Denied),
        ("no memory", 1, [16, 48], (1, 1, !0xfff, 1), Status::Denied),
        ("read-only", 1, [16, 48], (1, 1, page(8), 1), Status::InvalidParameters),
        ("a device", 1, [16, 48], (1, 1, page(9), 1), Status::InvalidParameters),
        ("shared", 1, [16, 48], (1, 1, page(10), 1), Status::Denied),
        ("the hypervisor's buffer", 1, [16, 48], (1, 1, TX, 1), Status::Denied),
        ("another VM's buffer", 1, [16, 48], (1, 1, page(6), 1), Status::Denied),
    ] {
        describe(&mut bench, id, offsets, [(1, 1, page(3), 1), tx]);
        assert_eq!(bench.call(&[MAP]), error(status), "{what}");
    }
    assert_eq!(bench.call(&[UNMAP, 1 << 16]), invalid(), "none of them left anything behind");
    assert_eq!(map(&mut bench, 1, page(2), page(3)), ok());
    assert_eq!(bench.call(&[UNMAP]), ok());
    assert_eq!(bench.call(&[MAP, page(2), page(11), 1]), denied(), "a VM's buffer is not the hypervisor's");
}

#[test]
fn a_vms_buffers_cannot_be_given_away() {
    let mut bench = hypervisor();
    bench.add(s_el1(0x8001), |_| {});
    bench.boot();
    assert_eq!(map(&mut bench, 1, page(2), page(3)), ok());
    for (n, status) in [(2, Some(Status::Denied)), (3, Some(Status::Denied)), (4, None)] {
        // A transaction descriptor of v1.1 with one borrower of 16 bytes and one page.
        let mut words = std::vec![0x2f_0000u32, 0, 0, 0, 0, 0, 16, 1, 48, 0, 0, 0, 0x0602_8001 & 0xffff_ffff, 64, 0, 0, 1, 1, 0, 0];
        words[12] = 0x8001 | 2 << 16;
        words.extend([page(n) as u32, 0, 1, 0]);
        let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        bench.machine.write(Address { pa: TX, secure: false }, &bytes).unwrap();
        let answer = bench.call(&[u64::from(function::MEM_SHARE_64), bytes.len() as u64, bytes.len() as u64]);
        assert_eq!(answer.as_error(), status, "page {n}");
    }
    assert_eq!(bench.call(&[UNMAP, 1 << 16]), ok());
}

/// Sections 13.7 and 13.11: the hypervisor acts for its VMs.
#[test]
fn a_vms_rx_buffer_is_acquired_and_released_by_its_hypervisor() {
    let mut bench = hypervisor();
    assert_eq!(bench.call(&[ACQUIRE, 1]), invalid());
    assert_eq!(bench.call(&[RELEASE, 1]), invalid());
    map(&mut bench, 1, page(2), page(3));
    assert_eq!(bench.call(&[RELEASE, 1]), denied());
    assert_eq!(bench.call(&[ACQUIRE, 1]), ok());
    assert_eq!(bench.call(&[ACQUIRE, 1]), denied());
    assert_eq!(bench.call(&[ACQUIRE]), ok(), "its own is another one");
    assert_eq!(bench.call(&[RELEASE, 1]), ok());
    assert_eq!(bench.call(&[RELEASE, 1]), denied());
    assert_eq!(bench.call(&[RELEASE, 0x8001]), invalid());
}

fn talker(id: u16) -> PartitionConfig {
    let methods = Methods(s_el1(id).methods.0 | Methods::INDIRECT);
    PartitionConfig { methods, ..s_el1(id) }
}

fn put(machine: &mut Fake, at: Address, ends: u32, payload: &[u8]) {
    let mut bytes: Vec<u8> = [0, 0, 40, ends, payload.len() as u32].into_iter().flat_map(u32::to_le_bytes).collect();
    bytes.resize(40, 0);
    bytes.extend(payload);
    machine.write(at, &bytes).unwrap();
}

/// Section 15.5: VM to partition and back, with the framework's notification for each.
#[test]
fn vms_and_partitions_send_messages_to_each_other() {
    let mut bench = hypervisor();
    let secure = |pa| Address { pa, secure: true };
    bench.add(talker(0x8001), move |guest| {
        guest.call(&[MAP, SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]);
        let request = guest.wait();
        let mut text = [0; 5];
        guest.bench.machine.read(secure(SECURE_MEMORY + 0x1000 + 40), &mut text).unwrap();
        assert_eq!(&text, b"hello");
        put(&mut guest.bench.machine, secure(SECURE_MEMORY), 0x8001_0003, b"nobody");
        assert_eq!(guest.call(&[SEND]), invalid(), "a VM without buffers");
        put(&mut guest.bench.machine, secure(SECURE_MEMORY), 0x8001_0001, b"back");
        assert_eq!(guest.call(&[SEND]), ok());
        assert_eq!(guest.call(&[SEND]), error(Status::Busy));
        guest.respond(&request, &[]);
    });
    assert_eq!(bench.boot(), 0);
    map(&mut bench, 1, page(2), page(3));
    map(&mut bench, 2, page(4), page(5));
    assert_eq!(bench.call(&[CREATE, 1, 2]), ok());
    let tx = |n| Address { pa: page(n), secure: false };
    put(&mut bench.machine, tx(3), 0x0001_8001, b"hello");
    put(&mut bench.machine, tx(5), 0x0001_8001, b"forged");
    assert_eq!(bench.call(&[SEND, 3 << 16]), denied(), "it has no buffers");
    assert_eq!(bench.call(&[SEND, 2 << 16]), invalid(), "in another's name");
    put(&mut bench.machine, tx(5), 0x0002_0001, b"VM to VM");
    assert_eq!(bench.call(&[SEND, 2 << 16]), invalid(), "that is the hypervisor's");
    assert_eq!(bench.call(&[SEND, 1 << 16]), ok());
    assert_eq!(bench.call(&[REQ, 0x0002_8001]).0[..2], [RESP, 0x8001_0002]);
    let mut text = [0; 4];
    bench.machine.read(Address { pa: page(2) + 40, secure: false }, &mut text).unwrap();
    assert_eq!(&text, b"back");
    assert_eq!(bench.call(&[GET, 1, 4]), Regs::success(&[0, 0, 0, 0, 1]));
    assert_eq!(bench.call(&[RELEASE, 1]), ok());
    assert_eq!(bench.call(&[RELEASE]), denied(), "the hypervisor's own stayed empty");
}

/// A partition that counts: the answer to a message about VM n is status n.
fn listener(vm_messages: VmMessages, script: impl FnOnce(&mut Guest) + Send + 'static) -> Bench {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vm_messages, ..s_el1(0x8001) }, script);
    assert_eq!(bench.boot(), 0);
    bench
}

/// Section 18.3: relayed as they are, both ways, and processed as a direct request is.
#[test]
fn messages_about_vms_reach_who_asked_for_them() {
    let mut bench = listener(VmMessages { created: true, destroyed: true }, |guest| {
        let message = guest.wait();
        assert_eq!(message, Regs::new(&[REQ, 0x8001, MESSAGE | CREATED, 0x11, 0x22, 3]));
        assert_eq!(guest.wait(), denied(), "it is to be answered");
        assert_eq!(guest.call(&[RESP, 0x8001_0000, 0, 0]), denied(), "by a framework message");
        assert_eq!(guest.call(&[RESP, 0x8001_0001, MESSAGE | CREATED + 1, 0]), denied(), "to who sent it");
        assert_eq!(guest.call(&[u64::from(function::MSG_SEND_DIRECT_RESP_64), 0x8001_0000, MESSAGE | CREATED + 1]), denied());
        let message = guest.call(&[RESP, 0x8001_0000, MESSAGE | CREATED + 1, 0]);
        assert_eq!(message.0[..3], [REQ, 0x0005_8001, MESSAGE | DESTROYED]);
        guest.stop(crate::machine::Exit::NormalWorldInterrupt);
        let message = guest.call(&[RESP, 0x8001_0005, MESSAGE | DESTROYED + 1, Status::Retry.code()]);
        assert_eq!(message.0[2], MESSAGE | DESTROYED);
        let request = guest.call(&[u64::from(function::ERROR), 0, Status::NoMemory.code()]);
        guest.respond(&request, &[8]);
    });
    let answer = bench.call(&[REQ, 0x8001, MESSAGE | CREATED, 0x11, 0x22, 3]);
    assert_eq!(answer, Regs::new(&[RESP, 0x8001_0000, MESSAGE | CREATED + 1, 0]));
    let interrupted = bench.call(&[REQ, 0x0005_8001, MESSAGE | DESTROYED, 0, 0, 3]);
    assert_eq!(interrupted, Regs::new(&[u64::from(function::INTERRUPT), 0x8001_0000]));
    assert_eq!(bench.call(&[REQ, 0x8001, MESSAGE | CREATED]), error(Status::Busy));
    assert_eq!(bench.resume(0x8001, 0), Regs::new(&[RESP, 0x8001_0005, MESSAGE | DESTROYED + 1, Status::Retry.code()]));
    assert_eq!(bench.call(&[REQ, 0x8001, MESSAGE | DESTROYED]), error(Status::NoMemory));
    assert_eq!(bench.request(0x8001, &[]).0[3], 8);
}

#[test]
fn messages_about_vms_do_not_reach_others() {
    for (created, destroyed) in [(false, false), (true, false), (false, true)] {
        let mut bench = listener(VmMessages { created, destroyed }, |guest| {
            let mut request = guest.wait();
            loop {
                request = guest.call(&[RESP, u64::from(guest.id.0) << 16, MESSAGE | request.0[2], 0]);
            }
        });
        for (kind, wanted) in [(CREATED, created), (DESTROYED, destroyed)] {
            let answer = bench.call(&[REQ, 0x8001, MESSAGE | kind, 0, 0, 1]);
            assert_eq!(answer.0[0] == RESP, wanted, "{kind}: {answer:x?}");
            if !wanted {
                assert_eq!(answer, invalid());
            }
        }
        for w2 in [CREATED, MESSAGE, MESSAGE | 2, MESSAGE | 5, MESSAGE | 7, MESSAGE | 8, MESSAGE | 0x100 | CREATED] {
            assert_eq!(bench.call(&[REQ, 0x8001, w2]), invalid(), "{w2:#x}");
        }
        assert_eq!(bench.call(&[u64::from(function::MSG_SEND_DIRECT_REQ_64), 0x8001, MESSAGE | CREATED]), invalid());
    }
}

#[test]
fn partitions_send_no_framework_messages() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(PartitionConfig { vm_messages: VmMessages { created: true, destroyed: true }, ..s_el1(0x8001) }, |_| {});
    bench.add(s_el1(0x8002), |guest| {
        for receiver in [0x8001, 0] {
            for kind in [0, CREATED, DESTROYED] {
                assert_eq!(guest.call(&[REQ, 0x8002_0000 | receiver, MESSAGE | kind, 0, 0, 1]), invalid(), "{receiver:#x} {kind}");
            }
        }
    });
    assert_eq!(bench.boot(), 0);
}
