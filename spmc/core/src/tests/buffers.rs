//! RX/TX buffers, FFA_MEM_PERM_GET and _SET, FFA_CONSOLE_LOG.

use crate::fake::*;
use crate::machine::Permissions;
use crate::memory::{MemoryType, Owner, PageState};
use bulkhead_ffa::{Regs, Status, Version, function};

const MAP: u64 = function::RXTX_MAP_64 as u64;
const UNMAP: u64 = function::RXTX_UNMAP as u64;
const RELEASE: u64 = function::RX_RELEASE as u64;
const ACQUIRE: u64 = function::RX_ACQUIRE as u64;
const PERM_GET: u64 = function::MEM_PERM_GET_32 as u64;
const PERM_SET: u64 = function::MEM_PERM_SET_64 as u64;
const LOG_32: u64 = function::CONSOLE_LOG_32 as u64;
const LOG_64: u64 = function::CONSOLE_LOG_64 as u64;
const TX: u64 = NORMAL_MEMORY;
const RX: u64 = NORMAL_MEMORY + 0x1000;

#[test]
fn second_rxtx_map_is_denied() {
    let mut bench = Bench::new(Version::V1_2);
    assert_eq!(bench.call(&[MAP, TX, RX, 1]), ok());
    assert_eq!(bench.call(&[MAP, TX + 0x2000, RX + 0x2000, 1]), denied());
    assert_eq!(bench.call(&[UNMAP]), ok());
    assert_eq!(bench.call(&[UNMAP]), invalid());
    assert_eq!(bench.call(&[u64::from(function::RXTX_MAP_32), 0xf_0000_0000 | TX, RX, 1]), ok(), "32-bit addresses");
}

#[test]
fn wrong_buffers_are_refused() {
    let mut bench = Bench::new(Version::V1_2);
    let normal = Owner::NormalWorld;
    bench.world().change(normal, RX + 0x1000, |page| page.permissions.write = false);
    bench.world().change(normal, RX + 0x2000, |page| page.memory_type = MemoryType::Device);
    bench.world().change(normal, RX + 0x3000, |page| page.state = PageState::Shared);
    bench.world().change(normal, RX + 0x4000, |page| page.state = PageState::Lent);
    for (what, tx, rx, pages, status) in [
        ("unaligned", TX + 8, RX, 1, Status::InvalidParameters),
        ("unaligned", TX, RX + 0x800, 1, Status::InvalidParameters),
        ("the same page", TX, TX, 1, Status::InvalidParameters),
        ("no page", TX, RX, 0, Status::InvalidParameters),
        ("two pages", TX, RX, 2, Status::InvalidParameters),
        ("reserved bits", TX, RX, 0x41, Status::InvalidParameters),
        ("not RAM", TX, 0x1000, 1, Status::Denied),
        ("a partition's memory", TX, SECURE_MEMORY, 1, Status::Denied),
        ("a partition's memory", SECURE_MEMORY, RX, 1, Status::Denied),
        ("an impossible address", TX, !0xfff, 1, Status::Denied),
        ("read-only", RX + 0x1000, RX, 1, Status::InvalidParameters),
        ("device", RX + 0x2000, RX, 1, Status::InvalidParameters),
        ("shared", TX, RX + 0x3000, 1, Status::Denied),
        ("lent", TX, RX + 0x4000, 1, Status::Denied),
    ] {
        assert_eq!(bench.call(&[MAP, tx, rx, pages]), error(status), "{what}");
    }
    assert_eq!(bench.call(&[UNMAP]), invalid(), "none of them left anything behind");
    assert_eq!(bench.call(&[MAP, TX, RX + 0x1000, 1]), ok(), "a buffer that only the SPMC writes may be read-only");
}

#[test]
fn a_buffer_is_unmapped_by_its_endpoint_only() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[MAP, SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]), ok());
        assert_eq!(guest.call(&[UNMAP, 0x8002 << 16]), invalid());
        assert_eq!(guest.call(&[UNMAP, 0x8001 << 16]), ok());
        assert_eq!(guest.call(&[MAP, TX, RX, 1]), invalid(), "the normal world's memory");
    });
    assert_eq!(bench.boot(), 0);
    bench.call(&[MAP, TX, RX, 1]);
    assert_eq!(bench.call(&[UNMAP, 0x8001 << 16]), invalid());
}

#[test]
fn release_needs_a_full_buffer() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |_| {});
    bench.boot();
    assert_eq!(bench.call(&[RELEASE]), denied());
    bench.call(&[MAP, TX, RX, 1]);
    assert_eq!(bench.call(&[RELEASE]), denied());
    bench.call(&[u64::from(function::PARTITION_INFO_GET)]);
    assert_eq!(bench.call(&[RELEASE, 5]), invalid());
    assert_eq!(bench.call(&[ACQUIRE]), denied());
    assert_eq!(bench.call(&[RELEASE]), ok());
    assert_eq!(bench.call(&[RELEASE]), denied());
}

#[test]
fn a_partition_releases_its_own_buffer_only() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[MAP, SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]), ok());
        for named in [0, 0x8001] {
            guest.call(&[u64::from(function::PARTITION_INFO_GET)]);
            assert_eq!(guest.call(&[RELEASE, 0x8002]), invalid());
            assert_eq!(guest.call(&[RELEASE, named]), ok());
        }
    });
    assert_eq!(bench.boot(), 0);
}

#[test]
fn acquire_is_a_hypervisors_call() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[ACQUIRE]), error(Status::NotSupported));
    });
    bench.boot();
    assert_eq!(bench.call(&[ACQUIRE]), invalid(), "no buffers");
    bench.call(&[MAP, TX, RX, 1]);
    assert_eq!(bench.call(&[ACQUIRE, 3]), invalid());
    assert_eq!(bench.call(&[ACQUIRE]), ok());
    assert_eq!(bench.call(&[ACQUIRE]), denied(), "the hypervisor has it");
    assert_eq!(bench.call(&[u64::from(function::PARTITION_INFO_GET)]), error(Status::Busy), "so nobody else writes it");
    assert_eq!(bench.call(&[RELEASE]), ok());
    assert_eq!(bench.call(&[u64::from(function::PARTITION_INFO_GET)]).function(), function::SUCCESS_32);
}

#[test]
fn a_wait_releases_rx_unless_it_says_not_to() {
    let mut bench = Bench::new(Version::V1_2);
    let list = u64::from(function::PARTITION_INFO_GET);
    bench.add(s_el1(0x8001), move |guest| {
        guest.call(&[MAP, SECURE_MEMORY, SECURE_MEMORY + 0x1000, 1]);
        guest.call(&[list]);
        guest.wait();
        assert_eq!(guest.call(&[RELEASE]), denied(), "released");
        guest.call(&[list]);
        guest.call(&[u64::from(function::MSG_WAIT), 0, 1]);
        assert_eq!(guest.call(&[RELEASE]), ok(), "retained");
    });
    bench.boot();
    bench.resume(0x8001, 0);
    bench.resume(0x8001, 0);
}

#[test]
fn an_s_el0_partition_sets_permissions_while_it_initialises() {
    let mut bench = Bench::new(Version::V1_2);
    let index = bench.add(s_el0(0x8001), |guest| {
        let page = SECURE_MEMORY;
        assert_eq!(guest.call(&[PERM_GET, page]), Regs::success(&[1]), "writable and executable, as the fake gives it");
        assert_eq!(guest.call(&[PERM_SET, page, 2, 5]), ok());
        assert_eq!(guest.call(&[PERM_GET, page]), Regs::success(&[5]));
        assert_eq!(guest.call(&[PERM_SET, page + 0x2000, 1, 3]), ok());
        assert_eq!(guest.call(&[PERM_SET, page + 0x3000, 1, 7]), ok());
        assert_eq!(guest.call(&[PERM_SET, page + 0x4000, 1, 4]), ok());
        for (what, base, pages, bits) in [
            ("writable and executable", page, 1, 1),
            ("a reserved encoding", page, 1, 2),
            ("no access, executable", page, 1, 0),
            ("reserved bits", page, 1, 8),
            ("unaligned", page + 1, 1, 5),
            ("no page", page, 0, 5),
            ("beyond its memory", page, PAGES + 1, 5),
            ("the normal world's", NORMAL_MEMORY, 1, 5),
            ("overflow", !0xfff, 1, 5),
            ("too many", page, 0x4001, 5),
        ] {
            assert_eq!(guest.call(&[PERM_SET, base, pages, bits]), invalid(), "{what}");
        }
        assert_eq!(guest.call(&[PERM_GET, page + PAGES * 0x1000]), invalid());
        let device = page + 0x5000;
        guest.bench.world().change(Owner::Partition(0), device, |holding| holding.memory_type = MemoryType::Device);
        assert_eq!(guest.call(&[PERM_GET, device]), Regs::success(&[1]), "it may know what it has");
        assert_eq!(guest.call(&[PERM_SET, device, 1, 5]), invalid(), "a device's access is the manifest's");
        guest.bench.world().tables_spent = true;
        assert_eq!(guest.call(&[PERM_SET, page, 1, 3]), error(Status::NoMemory));
        guest.wait();
        assert_eq!(guest.call(&[PERM_SET, page, 1, 5]), denied(), "it is initialised");
        assert_eq!(guest.call(&[PERM_GET, page]), denied());
    });
    assert_eq!(bench.boot(), 0);
    bench.resume(0x8001, 0);
    let at = |n: u64| crate::Machine::permissions(&mut bench.machine.clone(), index, SECURE_MEMORY + n * 0x1000).unwrap();
    let rw = Permissions { read: true, write: true, execute: false };
    let ro = Permissions { write: false, ..rw };
    assert_eq!([0, 1, 2, 3, 4].map(at), [rw, rw, Permissions { execute: true, ..ro }, ro, Permissions { read: false, ..ro }]);
}

#[test]
fn permissions_are_not_for_others() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        assert_eq!(guest.call(&[PERM_GET, SECURE_MEMORY]), error(Status::NotSupported));
        assert_eq!(guest.call(&[PERM_SET, SECURE_MEMORY, 1, 5]), error(Status::NotSupported));
    });
    assert_eq!(bench.boot(), 0);
    assert_eq!(bench.call(&[PERM_GET, NORMAL_MEMORY]), error(Status::NotSupported));
}

fn text<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|n| u64::from_le_bytes(std::array::from_fn(|m| bytes.get(8 * n + m).copied().unwrap_or(0))))
}

#[test]
fn console_lines_are_printed_whole() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        let [a, b, c] = text(b"one\ntwo\r\nthr");
        assert_eq!(guest.call(&[LOG_64, 12, a, b, c]), ok());
        let [a] = text::<1>(b"ee\x07\n");
        assert_eq!(guest.call(&[LOG_32, 4, a]), ok());
        let long = [b'x'; 128];
        let mut regs = Regs::new(&[LOG_64, 128]);
        regs.0[2..].copy_from_slice(&text::<16>(&long));
        assert_eq!(guest.call(&regs.0).0[..8], ok().0[..8]);
        assert_eq!(guest.call(&regs.0).0[..8], ok().0[..8]);
        for (call, count) in [(LOG_64, 0), (LOG_64, 129), (LOG_32, 25)] {
            assert_eq!(guest.call(&[call, count]), invalid());
        }
        guest.crash();
    });
    bench.boot();
    let lines = bench.world().printed();
    let x = |n: usize| format!("0: {}", "x".repeat(n));
    assert_eq!(lines[..5], ["0: one", "0: two", "0: three?", &x(160), &x(96)], "the last one because the partition ended");
}

#[test]
fn older_versions_log_from_six_registers() {
    let mut bench = Bench::new(Version::V1_2);
    bench.add(s_el1(0x8001), |guest| {
        guest.call(&[u64::from(function::VERSION), 0x1_0001]);
        assert_eq!(guest.call(&[LOG_64, 49]), invalid());
        assert_eq!(guest.call(&[LOG_64, 48]), ok());
    });
    assert_eq!(bench.boot(), 0);
}
