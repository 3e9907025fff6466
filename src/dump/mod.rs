//! File formats turned into one [`Dump`]: address space, memory map, modules, threads, process facts, problems.
//!
//! Nothing here knows of .NET. Every byte comes from a hostile file: no size, count or offset is used unchecked.

pub(crate) mod bytes;
pub mod cache;
pub mod elf;
pub mod images;
mod initial;
pub mod map;
mod memmap;
mod minidump;
pub mod open;
mod options;
mod overlay;
mod sniff;
pub mod space;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustc_hash::FxHashMap;

pub use self::bytes::little_endian;
pub use images::ImageStore;
pub use options::OpenOptions;
pub use space::AddressSpace;

/// Which kind of file the dump came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpKind {
    /// Windows minidump; `flags` is the `MINIDUMP_TYPE` of the header.
    Minidump {
        /// `MINIDUMP_TYPE` bits as written by `MiniDumpWriteDump`.
        flags: u64,
    },
    /// Linux ELF core file.
    ElfCore {
        /// Who seems to have written it.
        writer: CoreWriter,
    },
}

/// Who wrote an ELF core, as far as its contents tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreWriter {
    /// The runtime's own `createdump`.
    CreateDump,
    /// gdb's `gcore`.
    Gcore,
    /// The Linux kernel.
    Kernel,
    /// Not told apart (for example qemu-user).
    Unknown,
}

/// Operating system of the dumped process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Os {
    /// Any Windows.
    Windows,
    /// Any Linux.
    Linux,
}

/// Processor architecture of the dumped process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X64,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Arm64,
    /// 32-bit ARM.
    Arm,
}

impl Arch {
    /// Bytes in a pointer.
    pub const fn pointer_size(self) -> u8 {
        match self {
            Arch::X64 | Arch::Arm64 => 8,
            Arch::X86 | Arch::Arm => 4,
        }
    }

    /// Names of the registers that are instruction, stack and frame pointer.
    pub const fn pointers(self) -> [&'static str; 3] {
        match self {
            Arch::X64 => ["rip", "rsp", "rbp"],
            Arch::X86 => ["eip", "esp", "ebp"],
            Arch::Arm64 => ["pc", "sp", "fp"],
            Arch::Arm => ["pc", "sp", "r11"],
        }
    }

    /// The name users know it by.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X64 => "x64",
            Arch::X86 => "x86",
            Arch::Arm64 => "arm64",
            Arch::Arm => "arm",
        }
    }
}

/// Facts about the process and the moment of the dump; what the file lacks is `None`.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Process id.
    pub pid: Option<u64>,
    /// Executable name or path.
    pub name: Option<String>,
    /// Command line, when recorded.
    pub command_line: Option<String>,
    /// Environment variables (`NAME=value`) of a Linux process, where its main stack holds them.
    pub environment: Vec<String>,
    /// When the dump was written, seconds since 1970 UTC.
    pub dump_time: Option<u64>,
    /// When the process started, seconds since 1970 UTC.
    pub start_time: Option<u64>,
    /// User and kernel CPU seconds.
    pub cpu_seconds: Option<(u64, u64)>,
    /// Operating system version text, e.g. `10.0.19045`.
    pub os_version: Option<String>,
    /// Logical processors of the machine.
    pub processors: Option<u32>,
    /// Page size in bytes.
    pub page_size: u64,
}

/// A module (mapped executable image or other named file mapping with code) of the process.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// Lowest mapped address.
    pub base: u64,
    /// Bytes from base to end, `.bss` included where known.
    pub size: u64,
    /// Path as the dump records it.
    pub path: String,
    /// PE timestamp (Windows), for identity.
    pub timestamp: Option<u32>,
    /// PE `SizeOfImage` (Windows), for identity.
    pub image_size: Option<u32>,
    /// File version `a.b.c.d`, when recorded.
    pub version: Option<[u16; 4]>,
    /// ELF build id, when its bytes are in the dump.
    pub build_id: Option<Vec<u8>>,
    /// CodeView PDB path, when recorded.
    pub pdb: Option<String>,
    /// GUID as stored and age of that PDB, when recorded.
    pub pdb_id: Option<([u8; 16], u32)>,
}

impl Module {
    /// Last component of the path, whichever slash it uses.
    pub fn file_name(&self) -> &str {
        self.path.rsplit(['/', '\\']).next().unwrap_or(&self.path)
    }

    /// The file name without its last extension: what expressions call the module.
    pub fn stem(&self) -> &str {
        self.file_name().rsplit_once('.').map_or(self.file_name(), |s| s.0)
    }

    /// The file version as text, where it is recorded.
    pub fn version_text(&self) -> Option<String> {
        self.version.map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d}"))
    }

    /// What symbol stores find its image by: the build id, else time stamp and size of a PE image.
    pub fn index(&self) -> Option<String> {
        match &self.build_id {
            Some(id) => Some(images::hex(id)),
            None => Some(format!("{:x}{:x}", self.timestamp?, self.image_size?)),
        }
    }

    /// The name a native debugger gives it in symbols: [`stem`](Self::stem) with other characters than letters, digits and
    /// `_` replaced by `_`.
    pub fn symbol_name(&self) -> String {
        self.stem().chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect()
    }
}

/// A module that was unloaded before the dump was written (Windows only).
#[derive(Debug, Clone)]
pub struct UnloadedModule {
    /// Former base address.
    pub base: u64,
    /// Former size.
    pub size: u64,
    /// Name as recorded.
    pub name: String,
}

/// A thread with its registers.
#[derive(Debug, Clone, Default)]
pub struct Thread {
    /// Operating system thread id.
    pub os_id: u64,
    /// Name, when recorded.
    pub name: Option<String>,
    /// Thread environment block (Windows).
    pub teb: Option<u64>,
    /// General registers, instruction pointer and stack pointer.
    pub registers: Option<Registers>,
    /// Stack range `[low, high)` by TEB, thread bounds or the memory map; `high` is never past the thread's own stack.
    pub stack: Option<(u64, u64)>,
    /// Suspend count and priority class where the dump records them.
    pub suspend_count: u32,
    /// Start and times, when the dump records them.
    pub info: Option<ThreadInfo>,
}

/// What a minidump's `ThreadInfoList` says of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadInfo {
    /// Address of its start routine.
    pub start_address: u64,
    /// When it was created, seconds since 1970 UTC.
    pub create_time: Option<u64>,
    /// Kernel time in units of 100 ns.
    pub kernel_time: u64,
    /// User time in units of 100 ns.
    pub user_time: u64,
}

/// Longest part of a stack looked through for a value, in bytes.
const MOST_STACK: u64 = 64 << 20;

/// Registers of one thread.
#[derive(Debug, Clone, Default)]
pub struct Registers {
    /// Instruction pointer.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Thread pointer: `fs_base` on x64 Linux, `tpidr_el0` on arm64 where recorded.
    pub tp: Option<u64>,
    /// General registers by name in the debugger's order (`rax`, `rbx`, ...), `ip` and `sp` included.
    pub general: Vec<(&'static str, u64)>,
}

impl Registers {
    /// The register of that name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.general.iter().find(|r| r.0 == name).map(|r| r.1)
    }
}

/// The event that caused the dump.
#[derive(Debug, Clone)]
pub struct ExceptionInfo {
    /// Thread it happened on.
    pub thread_id: u64,
    /// Windows exception code or Linux signal number.
    pub code: u32,
    /// Faulting or raising address.
    pub address: u64,
    /// Exception flags (Windows) or `si_code` (Linux).
    pub flags: u32,
    /// Parameters as recorded.
    pub parameters: Vec<u64>,
}

/// One operating system handle (Windows handle data stream).
#[derive(Debug, Clone)]
pub struct OsHandle {
    /// Handle value.
    pub value: u64,
    /// Object type name, e.g. `Event`.
    pub type_name: String,
    /// Object name, when it has one.
    pub object_name: Option<String>,
}

/// State of a range of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapState {
    /// `MEM_COMMIT`.
    Commit,
    /// `MEM_RESERVE`.
    Reserve,
    /// `MEM_FREE`.
    Free,
}

/// Type of a range of the address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MapType {
    /// `MEM_PRIVATE`, or an anonymous mapping.
    Private,
    /// `MEM_MAPPED`, or a mapped data file.
    Mapped,
    /// `MEM_IMAGE`, or a mapped executable image.
    Image,
    /// The dump does not say.
    Unknown,
}

/// How much of a range's content the dump holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Presence {
    /// Its bytes are in the dump.
    Dumped,
    /// Known to be mapped (a PT_LOAD without bytes, an NT_FILE entry, a MemoryInfo entry), bytes not in the dump.
    MappedOnly,
    /// Nothing is known of it.
    Unknown,
}

/// One range of the address space as the dump describes it. Ranges are sorted, do not overlap and are maximal runs of
/// equal attributes of one allocation.
#[derive(Debug, Clone)]
pub struct MapEntry {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Commit, reserve or free.
    pub state: MapState,
    /// Private, mapped or image.
    pub kind: MapType,
    /// Windows `PAGE_*` bits (ELF flags are translated: r-- 0x02, rw- 0x04, r-x 0x20, rwx 0x40, --- 0x01).
    pub protect: u32,
    /// Base of the allocation it belongs to (Windows), else `start`.
    pub allocation_base: u64,
    /// Protection at allocation (Windows), else `protect`.
    pub allocation_protect: u32,
    /// Whether the bytes are in the dump.
    pub presence: Presence,
    /// Index into [`Dump::modules`] when it belongs to one.
    pub module: Option<u32>,
    /// Path of the mapped file, when known.
    pub file: Option<String>,
    /// Where in that file the range begins, in bytes; 0 when not known.
    pub file_offset: u64,
}

/// Something odd in the file, found while opening; the dump is usable all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stream, note or segment it was found in.
    pub place: String,
    /// File offset, when it has one.
    pub offset: Option<u64>,
    /// What is wrong and what was done about it.
    pub what: String,
}

/// Why a file cannot be opened as a dump. The text is the one line the user sees.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot open {path}: {source}")]
    Io {
        /// File asked for.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Recognised, but not a user-mode dump this program reads; says what it is and what to do.
    #[error("{path}: {what}")]
    Unsupported {
        /// File asked for.
        path: PathBuf,
        /// What it is and what to do.
        what: String,
    },
    /// A dump of a known format, damaged beyond use.
    #[error("{path}: {what}")]
    Damaged {
        /// File asked for.
        path: PathBuf,
        /// What is broken, with the place.
        what: String,
    },
    /// The user interrupted.
    #[error("interrupted")]
    Interrupted,
}

/// A dump, opened.
#[derive(Debug, Clone)]
pub struct Dump {
    /// The file the user named.
    pub path: PathBuf,
    /// Bytes of the dump file (uncompressed).
    pub file_size: u64,
    /// Format and writer.
    pub kind: DumpKind,
    /// Operating system of the process.
    pub os: Os,
    /// Architecture of the process.
    pub arch: Arch,
    /// Process facts.
    pub process: Process,
    /// Loaded modules, by base address.
    pub modules: Vec<Module>,
    /// Unloaded modules.
    pub unloaded: Vec<UnloadedModule>,
    /// Threads in the dump's order.
    pub threads: Vec<Thread>,
    /// Crash or break event.
    pub exception: Option<ExceptionInfo>,
    /// Operating system handles.
    pub handles: Vec<OsHandle>,
    /// The memory map.
    pub map: Vec<MapEntry>,
    /// The readable bytes: those of the dump, then those of image files proven to be what was mapped (they appear in
    /// [`Dump::map`] as not dumped).
    pub space: AddressSpace,
    /// What was odd.
    pub problems: Vec<Problem>,
    /// Auxiliary vector of the process (Linux): tag and value.
    pub auxv: Vec<(u64, u64)>,
    /// When the file named was last written, seconds since 1970 UTC: for cores, which do not record their time.
    pub file_time: Option<u64>,
    /// Where the file was unpacked to, when it was compressed.
    pub unpacked: Option<PathBuf>,
    /// Finds images that the dump does not hold.
    pub images: Arc<ImageStore>,
    /// How the dump was opened.
    pub options: OpenOptions,
    /// Places in [`Dump::threads`] by operating system id, made at first need.
    thread_numbers: OnceLock<FxHashMap<u64, usize>>,
}

impl Dump {
    /// A dump of which nothing but its format and memory is known yet.
    pub fn empty(path: &Path, file_size: u64, kind: DumpKind, os: Os, arch: Arch, space: AddressSpace) -> Self {
        Dump {
            path: path.to_owned(),
            file_size,
            kind,
            os,
            arch,
            process: Process { page_size: 0x1000, ..Process::default() },
            modules: Vec::new(),
            unloaded: Vec::new(),
            threads: Vec::new(),
            exception: None,
            handles: Vec::new(),
            map: Vec::new(),
            space,
            problems: Vec::new(),
            auxv: Vec::new(),
            file_time: None,
            unpacked: None,
            images: Arc::default(),
            options: OpenOptions::default(),
            thread_numbers: OnceLock::new(),
        }
    }

    /// Last step of opening, the same for every format.
    fn finish(&mut self, options: &OpenOptions) {
        self.options = options.clone();
        self.images = Arc::new(ImageStore::new(&self.path, options));
        if !options.no_images {
            overlay::add(self);
        }
    }

    /// Looks again for images whose read-only pages the dump lacks, after the folders searched have changed.
    pub fn reload_images(&mut self) {
        overlay::add(self);
    }

    /// Number of the thread with this operating system id, the first if there are several; `None` for 0, which is no id.
    pub fn thread_number(&self, os_id: u64) -> Option<usize> {
        let numbers = self.thread_numbers.get_or_init(|| {
            let mut numbers = FxHashMap::default();
            for (i, t) in self.threads.iter().enumerate().filter(|(_, t)| t.os_id != 0) {
                numbers.entry(t.os_id).or_insert(i);
            }
            numbers
        });
        numbers.get(&os_id).copied()
    }

    /// The thread with this operating system id.
    pub fn thread_of(&self, os_id: u64) -> Option<&Thread> {
        self.threads.get(self.thread_number(os_id)?)
    }

    /// What a thread works with: its general registers, then the words of the part of its stack that is in use, of which
    /// 64 MB are looked at. Nothing of one without registers.
    pub fn held_by<'a>(&'a self, thread: &'a Thread) -> impl Iterator<Item = u64> + 'a {
        let registers = thread.registers.as_ref();
        let used = registers.zip(thread.stack).map_or((0, 0), |(r, (low, high))| {
            let from = r.sp.max(low);
            (from, high.min(from.saturating_add(MOST_STACK)))
        });
        let general = registers.into_iter().flat_map(|r| r.general.iter().map(|g| g.1));
        general.chain(self.space.words(used.0, used.1).map(|w| w.1))
    }

    /// The module whose range holds `address`.
    pub fn module_at(&self, address: u64) -> Option<&Module> {
        let i = self.modules.partition_point(|m| m.base <= address);
        let m = self.modules.get(i.checked_sub(1)?)?;
        (address - m.base < m.size).then_some(m)
    }

    /// The range of the allocation that holds `address`: entries that follow one another and have one base.
    pub fn allocation(&self, address: u64) -> Option<(u64, u64)> {
        memmap::allocation(&self.map, address)
    }

    /// The map entry that holds `address`.
    pub fn map_at(&self, address: u64) -> Option<&MapEntry> {
        let i = self.map.partition_point(|m| m.start <= address);
        let m = self.map.get(i.checked_sub(1)?)?;
        (address < m.end).then_some(m)
    }
}
