//! Commands: the first payload word of a direct request; arguments and results are the words after it.

use bulkhead_sdk::ffa::{EndpointId, Uuid};

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a test partition is asked to do. Unless told otherwise it answers with results from word 0 on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u64)]
        pub enum Command {
            /// Does nothing, and answers zeros.
            Nothing = 0x100,
            $($(#[$doc])* $name,)*
        }

        impl Command {
            /// The command with this number.
            #[must_use]
            pub const fn from_word(word: u64) -> Option<Self> {
                match word {
                    word if word == Self::Nothing as u64 => Some(Self::Nothing),
                    $(word if word == Self::$name as u64 => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

commands! {
    /// Answers with every word inverted (the low half of each for a 32-bit request).
    Echo,
    /// (x0 to x8): makes this call, answers with x0 to x13 of the reply (Take has the others).
    Call,
    /// (address): reads eight bytes, answers 1 and the value, or 0 after a fault that the partition saw itself.
    Read,
    /// (address, value): writes eight bytes, answers 1 or 0.
    Write,
    /// (address): calls the address, answers 1 or 0.
    Execute,
    /// (seed): fills every register that it may with a pattern.
    Fill,
    /// Answers the number of registers that changed since Fill, and the number of the first of them.
    Check,
    /// (count): gives up its cycles so often, then answers the count.
    Yield,
    /// (milliseconds, seed): computes for so long with patterns in its registers, or until a managed exit is asked for or a
    /// notification is pending; answers turns, registers that changed, and whether that was so.
    Spin,
    /// (endpoint): sends Echo to it, between the benchmark's markers; answers function, w2, and the payload of the reply.
    Nested,
    /// (handle, lender, tag, permissions, flags): answers 1, address, pages, ranges, fragments, attributes; or 0 and the status.
    Retrieve,
    /// (handle, flags): answers 1, or 0 and the status.
    Relinquish,
    /// (kind, borrower, address, flags): shares (0), lends (1) or donates (2) the page at the address, or one of its own if that
    /// is 0: answers 1, handle, address; or 0 and the status.
    Send,
    /// (handle): answers 1, or 0 and the status.
    Reclaim,
    /// Executes an undefined instruction.
    Undefined,
    /// Calls FFA_ABORT.
    Abort,
    /// Panics.
    Panic,
    /// Makes answers that are wrong in one way each; answers how many were refused, of how many, and the first that was not.
    AnswerNonsense,
    /// (status): answers with FFA_ERROR.
    Fail,
    /// Takes the secure UART's interrupt on this vCPU from now on.
    ListenUart,
    /// (milliseconds, up to 1000): prints a character on the secure UART, by its registers, which raises the interrupt, and stays for so
    /// long; answers 1 and the interrupts that this vCPU had taken then.
    TouchUart,
    /// Answers how many interrupts this vCPU took.
    Interrupts,
    /// Answers its RX buffer, TX buffer, the page that Send uses, its first byte, and the number of its vCPU.
    Places,
    /// (x0 to x8): as Call, but by SMC (S-EL1 only).
    CallBySmc,
    /// (handle, address, 0 or 1): reads the address, relinquishes, and at once reads (0) or writes (1) it, while the translation
    /// is still in this core's TLB unless it was taken out; answers 1 and the value, or 0.
    RelinquishAndReach,
    /// What FFA_MEM_PERM_SET and _GET did while this partition (at S-EL0) initialised: answers wrong calls refused, of how many,
    /// the first that was not; the permissions of code, of data, and of a page before and after it was made read-only.
    Permissions,
    /// (endpoint): sends a request back to whoever is blocked on this one; answers the status.
    CallBack,
    /// Does to the interrupt interface what would silence it, as far as that goes: masks every priority, turns secure interrupts
    /// off, acknowledges what is pending for nobody (S-EL1 only).
    SilenceInterrupts,
    /// (first, three words): remembers words for Loaded and CallLoaded, from the first on.
    Load,
    /// Does what the loaded words say: command and arguments.
    Loaded,
    /// Makes the call whose x0 to x17 were loaded, answers as Call.
    CallLoaded,
    /// (operation, arguments): what an interrupt driver does ([`Drive`]; S-EL0 has only TAKEN).
    Drive,
    /// (first): answers the results of the last command from the first on; of a call there are 18.
    Take,
    /// (count): answers this and the next 64-bit direct requests, so many in all, by as few instructions as can be, with what is in
    /// their x3 to x7; then one more as usual, with no results.
    Bounce,
    /// Answers what FFA_VERSION said before any other call, to each of [`crate::trials::ASKED`].
    Versions,
}

/// Operations of [`Command::Drive`].
pub enum Drive {}

impl Drive {
    /// (bits): from now on this vCPU drives the GICv3's interface, with EOImode and CBPR as in the bits: answers ICC_SRE_EL1.
    pub const BY_INTERFACE: u64 = 0;
    /// (0 virtual or 1 physical, milliseconds, milliseconds to compute afterwards or until an interrupt was taken): sets a timer.
    pub const TIMER: u64 = 1;
    /// Answers how many interrupts this vCPU took, the last one, when, and now, by the virtual counter.
    pub const TAKEN: u64 = 2;
    /// (value): writes ICC_SGI1R_EL1.
    pub const SEND: u64 = 3;
    /// (register): reads ICC_PMR_EL1 (0), _RPR (1), _HPPIR1 (2), _BPR1 (3), _CTLR (4), _IGRPEN1 (5).
    pub const READ: u64 = 4;
    /// (value): writes ICC_PMR_EL1.
    pub const MASK: u64 = 5;
    /// (endpoint, milliseconds): has it compute for so long; answers how often the request was interrupted for this
    /// partition, the function of the answer, and whether an interrupt was taken before it came.
    pub const FORWARD: u64 = 6;
    /// (address, 1 to write, value): a word of the GIC: answers 1 and the word, or 0.
    pub const WORD: u64 = 7;
    /// (milliseconds): computes for so long, or until an interrupt was taken.
    pub const COMPUTE: u64 = 8;
    /// (0 or 1): lets IRQs in, or not.
    pub const ADMIT: u64 = 9;
}

/// A test partition.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name in its manifest.
    pub name: &'static str,
    /// Endpoint.
    pub id: EndpointId,
    /// Service.
    pub uuid: Uuid,
    /// Where its package lies.
    pub load_address: u64,
    /// Whether it runs at S-EL0.
    pub s_el0: bool,
}

const fn uuid(last: u8) -> Uuid {
    Uuid([0xb0, 0x1c, 0x4e, 0xad, 0x7e, 0x57, 0x40, 0x11, 0x92, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, last])
}

/// The partition at S-EL1 that serves in all tests: one vCPU for each core.
pub const PROBE_EL1: Probe = Probe { name: "probe-el1", id: EndpointId(0x8001), uuid: uuid(1), load_address: 0x0e60_0000, s_el0: false };
/// The partition at S-EL0 that serves in all tests.
pub const PROBE_EL0: Probe = Probe { name: "probe-el0", id: EndpointId(0x8002), uuid: uuid(2), load_address: 0x0e20_0000, s_el0: true };
/// The partition at S-EL1 that is ended by its own doing: one vCPU.
pub const VICTIM_EL1: Probe = Probe { name: "victim-el1", id: EndpointId(0x8003), uuid: uuid(3), load_address: 0x0e80_0000, s_el0: false };
/// The partition at S-EL0 that is ended by its own doing.
pub const VICTIM_EL0: Probe = Probe { name: "victim-el0", id: EndpointId(0x8004), uuid: uuid(4), load_address: 0x0ea0_0000, s_el0: true };
/// What a system with eight partitions has beside those, with one vCPU each.
pub const FURTHER: [Probe; 4] = [
    Probe { name: "third-el1", id: EndpointId(0x8005), uuid: uuid(5), load_address: 0x0e40_0000, s_el0: false },
    Probe { name: "third-el0", id: EndpointId(0x8006), uuid: uuid(6), load_address: 0x0e50_0000, s_el0: true },
    Probe { name: "fourth-el1", id: EndpointId(0x8007), uuid: uuid(7), load_address: 0x0ec0_0000, s_el0: false },
    Probe { name: "fourth-el0", id: EndpointId(0x8008), uuid: uuid(8), load_address: 0x0ed0_0000, s_el0: true },
];
