//! Safe functions over the firmware's tables: console, variables, files, images, pool memory. The only module that
//! calls the firmware; everything above it is ordinary Rust.
#![expect(unsafe_code, reason = "calls through the firmware's function tables")]

use alloc::{format, string::String, vec, vec::Vec};
use core::alloc::{GlobalAlloc, Layout};
use core::ffi::c_void;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::tables::{
    BootServices, DEVICE_PATH, FILE_SYSTEM, File, FileSystem, Guid, Handle, LOADED_IMAGE, LoadedImage, MM_COMMUNICATION2,
    MmCommunication2, RawStatus, RuntimeServices, SystemTable,
};

static SYSTEM_TABLE: AtomicPtr<SystemTable> = AtomicPtr::new(ptr::null_mut());
static IMAGE: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// A status other than success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Status(RawStatus);

impl Status {
    const ERROR: usize = 1 << 63;
    /// EFI_INVALID_PARAMETER.
    pub const INVALID_PARAMETER: Self = Self(Self::ERROR | 2);
    /// EFI_BAD_BUFFER_SIZE.
    pub const BAD_BUFFER_SIZE: Self = Self(Self::ERROR | 4);
    /// EFI_BUFFER_TOO_SMALL.
    pub const BUFFER_TOO_SMALL: Self = Self(Self::ERROR | 5);
    /// EFI_OUT_OF_RESOURCES.
    pub const OUT_OF_RESOURCES: Self = Self(Self::ERROR | 9);
    /// EFI_NOT_FOUND.
    pub const NOT_FOUND: Self = Self(Self::ERROR | 14);
    /// EFI_ACCESS_DENIED.
    pub const ACCESS_DENIED: Self = Self(Self::ERROR | 15);
    /// EFI_ABORTED.
    pub const ABORTED: Self = Self(Self::ERROR | 21);
    /// EFI_INCOMPATIBLE_VERSION.
    pub const INCOMPATIBLE_VERSION: Self = Self(Self::ERROR | 25);
    /// EFI_SECURITY_VIOLATION.
    pub const SECURITY_VIOLATION: Self = Self(Self::ERROR | 26);

    /// The number to give back to the firmware.
    pub fn raw(self) -> RawStatus {
        self.0
    }

    fn check(raw: RawStatus) -> Result<(), Self> {
        if raw & Self::ERROR == 0 { Ok(()) } else { Err(Self(raw)) }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 & !Self::ERROR {
            1 => "load error",
            2 => "invalid parameter",
            3 => "unsupported",
            4 => "bad buffer size",
            5 => "buffer too small",
            6 => "not ready",
            7 => "device error",
            8 => "write protected",
            9 => "out of resources",
            14 => "not found",
            15 => "access denied",
            21 => "aborted",
            25 => "incompatible version",
            26 => "security violation",
            other => return write!(f, "EFI status {other}"),
        };
        f.write_str(name)
    }
}

/// The entry point that the PE header names.
#[unsafe(no_mangle)]
extern "efiapi" fn efi_main(image: Handle, table: *mut SystemTable) -> RawStatus {
    IMAGE.store(image, Ordering::Relaxed);
    SYSTEM_TABLE.store(table, Ordering::Relaxed);
    match crate::run() {
        Ok(()) => 0,
        Err(status) => status.raw(),
    }
}

fn system() -> &'static SystemTable {
    // SAFETY: efi_main stored the table before anything else ran; the firmware keeps it for the life of the image.
    unsafe { &*SYSTEM_TABLE.load(Ordering::Relaxed) }
}

fn boot() -> &'static BootServices {
    // SAFETY: the loader never calls ExitBootServices itself, so boot services are there whenever it runs.
    unsafe { &*system().boot }
}

fn runtime() -> &'static RuntimeServices {
    // SAFETY: as for `system`.
    unsafe { &*system().runtime }
}

fn image() -> Handle {
    IMAGE.load(Ordering::Relaxed)
}

fn utf16(text: &str) -> Vec<u16> {
    text.encode_utf16().chain([0]).collect()
}

/// Prints on the firmware's console; `\n` becomes CR LF.
pub fn print(text: &str) {
    let text = utf16(&text.replace('\n', "\r\n"));
    let console = system().console_out;
    if !console.is_null() {
        // SAFETY: the protocol instance comes from the system table, the string is NUL-terminated.
        unsafe { ((*console).output_string)(console, text.as_ptr()) };
    }
}

/// Powers the machine off.
pub fn power_off() -> ! {
    const SHUTDOWN: u32 = 2;
    // SAFETY: a runtime service without memory arguments.
    unsafe { (runtime().reset_system)(SHUTDOWN, 0, 0, ptr::null()) }
}

/// Attributes and content of a variable.
pub fn get_variable(name: &str, vendor: &Guid) -> Result<(u32, Vec<u8>), Status> {
    let name = utf16(name);
    let mut size = 4096;
    loop {
        let mut data = vec![0u8; size];
        let mut attributes = 0;
        // SAFETY: name is NUL-terminated, data has `size` bytes, the other pointers are to locals.
        let raw = unsafe {
            (runtime().get_variable)(name.as_ptr(), vendor, &mut attributes, &mut size, data.as_mut_ptr().cast())
        };
        match Status::check(raw) {
            Ok(()) => {
                data.truncate(size);
                return Ok((attributes, data));
            }
            Err(Status::BUFFER_TOO_SMALL) if size > data.len() => {}
            Err(status) => return Err(status),
        }
    }
}

/// Reads a variable into a buffer of `size` bytes; that, or an error, and the size that the firmware says the variable has.
pub fn get_variable_into(name: &str, vendor: &Guid, mut size: usize) -> (Result<(), Status>, usize) {
    let name = utf16(name);
    let mut data = vec![0u8; size];
    // SAFETY: name is NUL-terminated, data has `size` bytes, the size is a local.
    let raw = unsafe { (runtime().get_variable)(name.as_ptr(), vendor, ptr::null_mut(), &mut size, data.as_mut_ptr().cast()) };
    (Status::check(raw), size)
}

/// Writes a variable; no data deletes it (without the append attribute).
pub fn set_variable(name: &str, vendor: &Guid, attributes: u32, data: &[u8]) -> Result<(), Status> {
    let name = utf16(name);
    // SAFETY: name is NUL-terminated, data is read for the length given.
    Status::check(unsafe {
        (runtime().set_variable)(name.as_ptr(), vendor, attributes, data.len(), data.as_ptr().cast())
    })
}

/// Goes from one variable to the next; an empty name stands before the first.
pub fn next_variable(name: &mut String, vendor: &mut Guid) -> Result<(), Status> {
    let mut units = utf16(name);
    units.resize(units.len().max(512), 0);
    loop {
        let mut size = units.len() * 2;
        // SAFETY: the name has `size` bytes and holds the previous answer, vendor is the caller's.
        let raw = unsafe { (runtime().get_next_variable_name)(&mut size, units.as_mut_ptr(), vendor) };
        match Status::check(raw) {
            Ok(()) => {
                let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
                *name = String::from_utf16_lossy(&units[..end]);
                return Ok(());
            }
            Err(Status::BUFFER_TOO_SMALL) => units.resize(size / 2 + 1, 0),
            Err(status) => return Err(status),
        }
    }
}

/// The names of all variables of one vendor.
pub fn variable_names(wanted: &Guid) -> Result<Vec<String>, Status> {
    let mut names = Vec::new();
    let (mut name, mut vendor) = (String::new(), Guid(0, 0, 0, [0; 8]));
    loop {
        match next_variable(&mut name, &mut vendor) {
            Ok(()) if vendor == *wanted => names.push(name.clone()),
            Ok(()) => {}
            Err(Status::NOT_FOUND) => return Ok(names),
            Err(status) => return Err(status),
        }
    }
}

/// Total size, free size and largest variable of the store for these attributes.
pub fn variable_store(attributes: u32) -> Result<(u64, u64, u64), Status> {
    let (mut total, mut free, mut largest) = (0, 0, 0);
    // SAFETY: pointers to locals.
    Status::check(unsafe { (runtime().query_variable_info)(attributes, &mut total, &mut free, &mut largest) })?;
    Ok((total, free, largest))
}

/// Whether some driver has installed this protocol.
pub fn protocol_exists(guid: &Guid) -> bool {
    let mut interface = ptr::null_mut();
    // SAFETY: pointers to locals.
    Status::check(unsafe { (boot().locate_protocol)(guid, ptr::null(), &mut interface) }).is_ok()
}

/// Sends a message to StMM and puts its answer into the same place.
pub fn communicate(message: &mut [u8]) -> Result<(), Status> {
    let mut interface = ptr::null_mut();
    // SAFETY: pointers to locals.
    Status::check(unsafe { (boot().locate_protocol)(&MM_COMMUNICATION2, ptr::null(), &mut interface) })?;
    let interface = interface.cast::<MmCommunication2>();
    let mut size = message.len();
    let buffer = message.as_mut_ptr().cast();
    // SAFETY: the firmware installed this protocol under its GUID; it reads and writes `size` bytes of the message, whose
    // header says the same. Memory is mapped identically, so both addresses of the buffer are the same.
    Status::check(unsafe { ((*interface).communicate)(interface, buffer, buffer, &mut size) })
}

fn protocol<T>(handle: Handle, guid: &Guid) -> Result<*mut T, Status> {
    let mut interface = ptr::null_mut();
    // SAFETY: pointers to locals; the caller names the type that belongs to the GUID.
    Status::check(unsafe { (boot().handle_protocol)(handle, guid, &mut interface) })?;
    Ok(interface.cast())
}

fn loaded_image(handle: Handle) -> Result<&'static mut LoadedImage, Status> {
    // SAFETY: the firmware installed the protocol on this image, which outlives the borrow's use.
    Ok(unsafe { &mut *protocol::<LoadedImage>(handle, &LOADED_IMAGE)? })
}

/// The load options of this image as text.
pub fn load_options() -> Result<String, Status> {
    let image = loaded_image(image())?;
    if image.load_options.is_null() {
        return Ok(String::new());
    }
    // SAFETY: pointer and size come from the firmware; UCS-2 text is copied bytewise, so alignment does not matter.
    let bytes =
        unsafe { core::slice::from_raw_parts(image.load_options.cast::<u8>(), image.load_options_size as usize) };
    let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    Ok(String::from_utf16_lossy(&units).trim_end_matches('\0').into())
}

/// A file of the disk that this image came from, whole.
pub fn read_file(path: &str) -> Result<Vec<u8>, Status> {
    const READ: u64 = 1;
    let path = utf16(path);
    let volume = protocol::<FileSystem>(loaded_image(image())?.device, &FILE_SYSTEM)?;
    let (mut root, mut file) = (ptr::null_mut::<File>(), ptr::null_mut::<File>());
    // SAFETY: the protocol instance is the firmware's, the path NUL-terminated, the others locals.
    unsafe {
        Status::check(((*volume).open_volume)(volume, &mut root))?;
        let opened = Status::check(((*root).open)(root, &mut file, path.as_ptr(), READ, 0));
        ((*root).close)(root);
        opened?;
    }
    let mut content = Vec::new();
    let mut chunk = [0u8; 4096];
    let outcome = loop {
        let mut size = chunk.len();
        // SAFETY: the file is open, chunk has `size` bytes.
        match Status::check(unsafe { ((*file).read)(file, &mut size, chunk.as_mut_ptr().cast()) }) {
            Ok(()) if size == 0 => break Ok(content),
            Ok(()) => content.extend_from_slice(&chunk[..size]),
            Err(status) => break Err(status),
        }
    };
    // SAFETY: the file is open and not used after this.
    unsafe { ((*file).close)(file) };
    outcome
}

/// An image that the firmware has loaded (and, with secure boot on, verified).
pub struct Image(Handle);

/// Device path of `path` on the disk that this image came from: that disk's own path, then a file path node.
fn device_path_of(path: &str) -> Result<Vec<u8>, Status> {
    const END: u8 = 0x7f;
    const FILE_PATH: [u8; 2] = [4, 4];
    let disk = protocol::<u8>(loaded_image(image())?.device, &DEVICE_PATH)?;
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len();
        // SAFETY: a device path is a sequence of nodes, each with type, subtype and its length, closed by an end node,
        // so the header at `at` is there as long as no end node has been seen.
        let node = unsafe { core::slice::from_raw_parts(disk.add(at), 4) };
        if node[0] == END {
            break;
        }
        let length = usize::from(u16::from_le_bytes([node[2], node[3]]));
        if length < 4 {
            return Err(Status::INVALID_PARAMETER);
        }
        // SAFETY: as above: the node's own length.
        bytes.extend_from_slice(unsafe { core::slice::from_raw_parts(disk.add(at), length) });
    }
    let name = utf16(path);
    let length = u16::try_from(4 + 2 * name.len()).map_err(|_| Status::INVALID_PARAMETER)?;
    bytes.extend_from_slice(&FILE_PATH);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend(name.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend_from_slice(&[END, 0xff, 4, 0]);
    Ok(bytes)
}

impl Image {
    /// Asks the firmware to load a file of our disk. An image that secure boot refuses is an error here; the
    /// specification lets the firmware load it without permission to start, so that is undone.
    pub fn load(path: &str) -> Result<Self, Status> {
        let device_path = device_path_of(path)?;
        let mut handle = ptr::null_mut();
        // SAFETY: the device path is closed by an end node, the handle is a local; the source is read from the disk.
        let raw =
            unsafe { (boot().load_image)(0, image(), device_path.as_ptr(), ptr::null(), 0, &mut handle) };
        let loaded = Status::check(raw);
        if loaded.is_err() && !handle.is_null() {
            // SAFETY: the handle was made by load_image above and never started.
            unsafe { (boot().unload_image)(handle) };
        }
        loaded.map(|()| Self(handle))
    }

    /// Starts it with these load options; comes back when it returns.
    pub fn start(self, options: &str) -> Result<(), Status> {
        let mut options = utf16(options);
        let loaded = loaded_image(self.0)?;
        loaded.load_options_size =
            u32::try_from(options.len() * 2).map_err(|_| Status::INVALID_PARAMETER)?;
        loaded.load_options = options.as_mut_ptr().cast();
        // SAFETY: the handle is a loaded image; `options` lives until start_image returns.
        Status::check(unsafe { (boot().start_image)(self.0, ptr::null_mut(), ptr::null_mut()) })
    }
}

/// The first `length` bytes of QEMU's fw_cfg item `key` (QEMU virt: DT node fw-cfg@9020000).
pub fn fw_cfg_read(key: u16, length: usize) -> Vec<u8> {
    const DATA: *const u8 = 0x0902_0000 as *const u8;
    const SELECTOR: *mut u16 = 0x0902_0008 as *mut u16;
    // SAFETY: the device is at this address on the machine that this disk is made for, and UEFI maps the device range;
    // each byte read advances the device's own offset.
    unsafe {
        SELECTOR.write_volatile(key.to_be());
        (0..length).map(|_| DATA.read_volatile()).collect()
    }
}

struct Pool;

#[global_allocator]
static POOL: Pool = Pool;

// SAFETY: AllocatePool returns distinct blocks aligned to 8 bytes; larger alignments are refused.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        const LOADER_DATA: u32 = 2;
        let mut block = ptr::null_mut();
        // SAFETY: the pointer is to a local.
        let raw = unsafe { (boot().allocate_pool)(LOADER_DATA, layout.size(), &mut block) };
        if raw == 0 && layout.align() <= 8 { block.cast() } else { ptr::null_mut() }
    }

    unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
        // SAFETY: the block came from allocate_pool.
        unsafe { (boot().free_pool)(block.cast()) };
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    print(&format!("\nloader: {info}\n"));
    power_off()
}
