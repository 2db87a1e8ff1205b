//! The UEFI tables and protocols that the loader uses, as memory layouts (UEFI specification 2.10, chapters 4, 7, 8,
//! 9, 12 and 13). A field that is not used is a `Slot` so that the ones after it lie where the specification says.

use core::ffi::c_void;

/// A table entry that this program does not call.
pub type Slot = *const c_void;
/// EFI_HANDLE.
pub type Handle = *mut c_void;
/// EFI_STATUS as the firmware returns it; see [`crate::efi::Status`].
pub type RawStatus = usize;

/// EFI_GUID: the first three fields are little-endian numbers, the rest bytes.
#[repr(C, align(8))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub u32, pub u16, pub u16, pub [u8; 8]);

/// EFI_SYSTEM_TABLE.
#[repr(C)]
pub struct SystemTable {
    header: [u64; 3],
    vendor: Slot,
    revision: u64,
    console_in: [Slot; 2],
    console_out_handle: Slot,
    pub console_out: *mut TextOutput,
    std_err: [Slot; 2],
    pub runtime: *const RuntimeServices,
    pub boot: *const BootServices,
}

/// EFI_SIMPLE_TEXT_OUTPUT_PROTOCOL, its first members.
#[repr(C)]
pub struct TextOutput {
    reset: Slot,
    pub output_string: unsafe extern "efiapi" fn(*mut TextOutput, *const u16) -> RawStatus,
}

/// EFI_RUNTIME_SERVICES.
#[repr(C)]
pub struct RuntimeServices {
    header: [u64; 3],
    time: [Slot; 4],
    virtual_map: [Slot; 2],
    pub get_variable:
        unsafe extern "efiapi" fn(*const u16, *const Guid, *mut u32, *mut usize, *mut c_void) -> RawStatus,
    pub get_next_variable_name: unsafe extern "efiapi" fn(*mut usize, *mut u16, *mut Guid) -> RawStatus,
    pub set_variable: unsafe extern "efiapi" fn(*const u16, *const Guid, u32, usize, *const c_void) -> RawStatus,
    monotonic_count: Slot,
    pub reset_system: unsafe extern "efiapi" fn(u32, RawStatus, usize, *const c_void) -> !,
    capsule: [Slot; 2],
    pub query_variable_info: unsafe extern "efiapi" fn(u32, *mut u64, *mut u64, *mut u64) -> RawStatus,
}

/// EFI_BOOT_SERVICES.
#[repr(C)]
pub struct BootServices {
    header: [u64; 3],
    task_priority: [Slot; 2],
    pages: [Slot; 2],
    memory_map: Slot,
    pub allocate_pool: unsafe extern "efiapi" fn(u32, usize, *mut *mut c_void) -> RawStatus,
    pub free_pool: unsafe extern "efiapi" fn(*mut c_void) -> RawStatus,
    events: [Slot; 6],
    install_protocol: [Slot; 3],
    pub handle_protocol: unsafe extern "efiapi" fn(Handle, *const Guid, *mut *mut c_void) -> RawStatus,
    reserved: Slot,
    locate: [Slot; 4],
    pub load_image:
        unsafe extern "efiapi" fn(u8, Handle, *const u8, *const c_void, usize, *mut Handle) -> RawStatus,
    pub start_image: unsafe extern "efiapi" fn(Handle, *mut usize, *mut *mut u16) -> RawStatus,
    exit: Slot,
    pub unload_image: unsafe extern "efiapi" fn(Handle) -> RawStatus,
    exit_boot_services: Slot,
    misc: [Slot; 3],
    controllers: [Slot; 2],
    open_protocol: [Slot; 3],
    locate_many: [Slot; 2],
    pub locate_protocol: unsafe extern "efiapi" fn(*const Guid, *const c_void, *mut *mut c_void) -> RawStatus,
}

/// EFI_LOADED_IMAGE_PROTOCOL, its first members.
#[repr(C)]
pub struct LoadedImage {
    revision: u64,
    parent: Handle,
    system_table: *const SystemTable,
    pub device: Handle,
    file_path: *const u8,
    reserved: Slot,
    pub load_options_size: u32,
    pub load_options: *mut c_void,
}

/// EFI_SIMPLE_FILE_SYSTEM_PROTOCOL.
#[repr(C)]
pub struct FileSystem {
    revision: u64,
    pub open_volume: unsafe extern "efiapi" fn(*mut FileSystem, *mut *mut File) -> RawStatus,
}

/// EFI_FILE_PROTOCOL, its first members.
#[repr(C)]
pub struct File {
    revision: u64,
    pub open: unsafe extern "efiapi" fn(*mut File, *mut *mut File, *const u16, u64, u64) -> RawStatus,
    pub close: unsafe extern "efiapi" fn(*mut File) -> RawStatus,
    delete: Slot,
    pub read: unsafe extern "efiapi" fn(*mut File, *mut usize, *mut c_void) -> RawStatus,
}

/// EFI_LOADED_IMAGE_PROTOCOL_GUID.
pub const LOADED_IMAGE: Guid = Guid(0x5b1b_31a1, 0x9562, 0x11d2, [0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
/// EFI_DEVICE_PATH_PROTOCOL_GUID.
pub const DEVICE_PATH: Guid = Guid(0x0957_6e91, 0x6d3f, 0x11d2, [0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
/// EFI_SIMPLE_FILE_SYSTEM_PROTOCOL_GUID.
pub const FILE_SYSTEM: Guid = Guid(0x964e_5b22, 0x6459, 0x11d2, [0x8e, 0x39, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b]);
/// EFI_MM_COMMUNICATION2_PROTOCOL_GUID: installed by UEFI's driver once it has found StMM.
pub const MM_COMMUNICATION2: Guid =
    Guid(0x378d_aedc, 0xf06b, 0x4446, [0x83, 0x14, 0x40, 0xab, 0x93, 0x3c, 0x87, 0xa3]);

/// EFI_MM_COMMUNICATION2_PROTOCOL.
#[repr(C)]
pub struct MmCommunication2 {
    pub communicate: unsafe extern "efiapi" fn(*const MmCommunication2, *mut c_void, *mut c_void, *mut usize) -> RawStatus,
}
