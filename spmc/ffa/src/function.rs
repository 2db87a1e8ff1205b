//! Function identifiers, DEN0077A v1.2 chapter 12 onwards (values from table 13.x and SMCCC DEN0028).
//!
//! 32-bit identifiers start with 0x84, 64-bit ones with 0xC4. Bit 16 of an identifier is the SMCCC SVE hint.

/// Mask that removes the SVE hint (SMCCC v1.3, section 2.5.2) from a function identifier.
pub const SVE_HINT: u32 = 1 << 16;

macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)*) => {
        $($(#[$doc])* pub const $name: u32 = $value;)*

        /// The specification's name of `id`, for logs and traces; `None` for an identifier that FF-A does not define.
        #[must_use]
        pub const fn name(id: u32) -> Option<&'static str> {
            match id {
                $($value => Some(stringify!($name)),)*
                _ => None,
            }
        }
    };
}

functions! {
    /// FFA_ERROR.
    ERROR = 0x8400_0060;
    /// FFA_ERROR as a 64-bit call (v1.2).
    ERROR_64 = 0xC400_0060;
    /// FFA_SUCCESS, 32-bit results.
    SUCCESS_32 = 0x8400_0061;
    /// FFA_SUCCESS, 64-bit results.
    SUCCESS_64 = 0xC400_0061;
    /// FFA_INTERRUPT.
    INTERRUPT = 0x8400_0062;
    /// FFA_VERSION.
    VERSION = 0x8400_0063;
    /// FFA_FEATURES.
    FEATURES = 0x8400_0064;
    /// FFA_RX_RELEASE.
    RX_RELEASE = 0x8400_0065;
    /// FFA_RXTX_MAP with 32-bit addresses.
    RXTX_MAP_32 = 0x8400_0066;
    /// FFA_RXTX_MAP with 64-bit addresses.
    RXTX_MAP_64 = 0xC400_0066;
    /// FFA_RXTX_UNMAP.
    RXTX_UNMAP = 0x8400_0067;
    /// FFA_PARTITION_INFO_GET.
    PARTITION_INFO_GET = 0x8400_0068;
    /// FFA_ID_GET.
    ID_GET = 0x8400_0069;
    /// FFA_MSG_WAIT.
    MSG_WAIT = 0x8400_006B;
    /// FFA_YIELD.
    YIELD = 0x8400_006C;
    /// FFA_RUN.
    RUN = 0x8400_006D;
    /// FFA_MSG_SEND_DIRECT_REQ, 32-bit payload.
    MSG_SEND_DIRECT_REQ_32 = 0x8400_006F;
    /// FFA_MSG_SEND_DIRECT_REQ, 64-bit payload.
    MSG_SEND_DIRECT_REQ_64 = 0xC400_006F;
    /// FFA_MSG_SEND_DIRECT_RESP, 32-bit payload.
    MSG_SEND_DIRECT_RESP_32 = 0x8400_0070;
    /// FFA_MSG_SEND_DIRECT_RESP, 64-bit payload.
    MSG_SEND_DIRECT_RESP_64 = 0xC400_0070;
    /// FFA_MEM_DONATE, descriptor buffer named by a 32-bit address.
    MEM_DONATE_32 = 0x8400_0071;
    /// FFA_MEM_DONATE, descriptor buffer named by a 64-bit address.
    MEM_DONATE_64 = 0xC400_0071;
    /// FFA_MEM_LEND, 32-bit.
    MEM_LEND_32 = 0x8400_0072;
    /// FFA_MEM_LEND, 64-bit.
    MEM_LEND_64 = 0xC400_0072;
    /// FFA_MEM_SHARE, 32-bit.
    MEM_SHARE_32 = 0x8400_0073;
    /// FFA_MEM_SHARE, 64-bit.
    MEM_SHARE_64 = 0xC400_0073;
    /// FFA_MEM_RETRIEVE_REQ, 32-bit.
    MEM_RETRIEVE_REQ_32 = 0x8400_0074;
    /// FFA_MEM_RETRIEVE_REQ, 64-bit.
    MEM_RETRIEVE_REQ_64 = 0xC400_0074;
    /// FFA_MEM_RETRIEVE_RESP.
    MEM_RETRIEVE_RESP = 0x8400_0075;
    /// FFA_MEM_RELINQUISH.
    MEM_RELINQUISH = 0x8400_0076;
    /// FFA_MEM_RECLAIM.
    MEM_RECLAIM = 0x8400_0077;
    /// FFA_MEM_OP_PAUSE.
    MEM_OP_PAUSE = 0x8400_0078;
    /// FFA_MEM_OP_RESUME.
    MEM_OP_RESUME = 0x8400_0079;
    /// FFA_MEM_FRAG_RX.
    MEM_FRAG_RX = 0x8400_007A;
    /// FFA_MEM_FRAG_TX.
    MEM_FRAG_TX = 0x8400_007B;
    /// FFA_NORMAL_WORLD_RESUME.
    NORMAL_WORLD_RESUME = 0x8400_007C;
    /// FFA_NOTIFICATION_BITMAP_CREATE.
    NOTIFICATION_BITMAP_CREATE = 0x8400_007D;
    /// FFA_NOTIFICATION_BITMAP_DESTROY.
    NOTIFICATION_BITMAP_DESTROY = 0x8400_007E;
    /// FFA_NOTIFICATION_BIND.
    NOTIFICATION_BIND = 0x8400_007F;
    /// FFA_NOTIFICATION_UNBIND.
    NOTIFICATION_UNBIND = 0x8400_0080;
    /// FFA_NOTIFICATION_SET.
    NOTIFICATION_SET = 0x8400_0081;
    /// FFA_NOTIFICATION_GET.
    NOTIFICATION_GET = 0x8400_0082;
    /// FFA_NOTIFICATION_INFO_GET, 32-bit lists.
    NOTIFICATION_INFO_GET_32 = 0x8400_0083;
    /// FFA_NOTIFICATION_INFO_GET, 64-bit lists.
    NOTIFICATION_INFO_GET_64 = 0xC400_0083;
    /// FFA_RX_ACQUIRE.
    RX_ACQUIRE = 0x8400_0084;
    /// FFA_SPM_ID_GET.
    SPM_ID_GET = 0x8400_0085;
    /// FFA_MSG_SEND2.
    MSG_SEND2 = 0x8400_0086;
    /// FFA_SECONDARY_EP_REGISTER, 32-bit.
    SECONDARY_EP_REGISTER_32 = 0x8400_0087;
    /// FFA_SECONDARY_EP_REGISTER, 64-bit.
    SECONDARY_EP_REGISTER_64 = 0xC400_0087;
    /// FFA_MEM_PERM_GET, 32-bit.
    MEM_PERM_GET_32 = 0x8400_0088;
    /// FFA_MEM_PERM_GET, 64-bit.
    MEM_PERM_GET_64 = 0xC400_0088;
    /// FFA_MEM_PERM_SET, 32-bit.
    MEM_PERM_SET_32 = 0x8400_0089;
    /// FFA_MEM_PERM_SET, 64-bit.
    MEM_PERM_SET_64 = 0xC400_0089;
    /// FFA_CONSOLE_LOG, 32-bit characters registers.
    CONSOLE_LOG_32 = 0x8400_008A;
    /// FFA_CONSOLE_LOG, 64-bit character registers.
    CONSOLE_LOG_64 = 0xC400_008A;
    /// FFA_PARTITION_INFO_GET_REGS.
    PARTITION_INFO_GET_REGS = 0xC400_008B;
    /// FFA_EL3_INTR_HANDLE.
    EL3_INTR_HANDLE = 0x8400_008C;
    /// FFA_MSG_SEND_DIRECT_REQ2.
    MSG_SEND_DIRECT_REQ2 = 0xC400_008D;
    /// FFA_MSG_SEND_DIRECT_RESP2.
    MSG_SEND_DIRECT_RESP2 = 0xC400_008E;
    /// FFA_ABORT, 32-bit.
    ABORT_32 = 0x8400_0090;
    /// FFA_ABORT, 64-bit.
    ABORT_64 = 0xC400_0090;
}

/// Whether `id` (without the SVE hint) lies in the range that SMCCC reserves for FF-A (0x60 to 0xFF of the standard
/// secure service calls), implemented or not.
#[must_use]
pub const fn is_ffa(id: u32) -> bool {
    matches!(id & 0xFFFF_FF00, 0x8400_0000 | 0xC400_0000) && (id & 0xFF) >= 0x60
}

/// Whether `id` is a 64-bit (SMC64/HVC64) call.
#[must_use]
pub const fn is_64_bit(id: u32) -> bool {
    id & (1 << 30) != 0
}
