//! Builds Windows minidumps byte by byte (`minidumpapiset.h` of the Windows SDK).
#![allow(dead_code, reason = "each test uses its own part")]

/// `PROCESSOR_ARCHITECTURE_*`.
pub const X86: u16 = 0;
pub const X64: u16 = 9;
pub const ARM64: u16 = 12;

/// A minidump under construction. Blobs and streams are appended as they come, the directory and the 64-bit memory
/// list's bytes at the end.
pub struct Mini {
    bytes: Vec<u8>,
    directory: Vec<(u32, u32, u32)>,
    memory64: Option<Vec<(u64, Vec<u8>)>>,
    /// Flags of the header.
    pub flags: u64,
}

/// Little-endian fields put one after another.
#[derive(Default, Clone)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn u8(mut self, v: u8) -> Self {
        self.0.push(v);
        self
    }
    pub fn u16(mut self, v: u16) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    pub fn u32(mut self, v: u32) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    pub fn u64(mut self, v: u64) -> Self {
        self.0.extend(v.to_le_bytes());
        self
    }
    pub fn zeros(mut self, n: usize) -> Self {
        self.0.resize(self.0.len() + n, 0);
        self
    }
    pub fn bytes(mut self, b: &[u8]) -> Self {
        self.0.extend(b);
        self
    }
}

/// Shorthand for an empty field list.
pub fn fields() -> Fields {
    Fields::default()
}

/// A thread to put in.
#[derive(Default, Clone)]
pub struct MiniThread {
    pub id: u32,
    pub suspend: u32,
    pub teb: u64,
    pub stack_start: u64,
    pub stack: Vec<u8>,
    pub context: Vec<u8>,
}

/// A module to put in.
#[derive(Clone)]
pub struct MiniModule<'a> {
    pub base: u64,
    pub size: u32,
    pub name: &'a str,
    pub timestamp: u32,
    pub version: [u16; 4],
    pub pdb: &'a str,
}

impl Default for Mini {
    fn default() -> Self {
        Self::new()
    }
}

impl Mini {
    pub fn new() -> Self {
        Self { bytes: vec![0; 32], directory: Vec::new(), memory64: None, flags: 0x1826 }
    }

    /// Appends bytes and returns their file offset.
    pub fn blob(&mut self, bytes: &[u8]) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = self.bytes.len() as u32;
        self.bytes.extend(bytes);
        at
    }

    /// Appends a counted UTF-16 string.
    pub fn string(&mut self, text: &str) -> u32 {
        let units: Vec<u16> = text.encode_utf16().collect();
        let mut f = fields().u32(units.len() as u32 * 2);
        for u in units {
            f = f.u16(u);
        }
        self.blob(&f.u16(0).0)
    }

    /// Appends a stream.
    pub fn stream(&mut self, kind: u32, bytes: &[u8]) {
        let at = self.blob(bytes);
        self.directory.push((kind, bytes.len() as u32, at));
    }

    /// A stream of any kind, size and place: for lies.
    pub fn raw_stream(&mut self, kind: u32, size: u32, at: u32) {
        self.directory.push((kind, size, at));
    }

    /// `SystemInfo`: Windows 10.0.19045, 8 processors.
    pub fn system(&mut self, arch: u16, platform: u32) {
        let csd = self.string("");
        let f = fields().u16(arch).u16(6).u16(0).u8(8).u8(1).u32(10).u32(0).u32(19045).u32(platform).u32(csd);
        self.stream(7, &f.u32(0).zeros(24).0);
    }

    /// `MiscInfo` with process id, creation time, user and kernel seconds.
    pub fn misc(&mut self, pid: u32, created: u32, user: u32, kernel: u32) {
        self.stream(15, &fields().u32(24).u32(3).u32(pid).u32(created).u32(user).u32(kernel).0);
    }

    pub fn modules(&mut self, list: &[MiniModule<'_>]) {
        let mut f = fields().u32(list.len() as u32);
        for m in list {
            let name = self.string(m.name);
            let cv = fields().bytes(b"RSDS").zeros(16).u32(1).bytes(m.pdb.as_bytes()).u8(0).0;
            let cv_at = self.blob(&cv);
            let [a, b, c, d] = m.version.map(u32::from);
            f = f.u64(m.base).u32(m.size).u32(0).u32(m.timestamp).u32(name);
            f = f.u32(0xFEEF_04BD).u32(0x10000).u32(a << 16 | b).u32(c << 16 | d).zeros(36);
            f = f.u32(cv.len() as u32).u32(cv_at).zeros(8 + 16);
        }
        self.stream(4, &f.0);
    }

    pub fn unloaded(&mut self, list: &[(u64, u32, &str)]) {
        let mut f = fields().u32(12).u32(24).u32(list.len() as u32);
        for (base, size, name) in list {
            let name = self.string(name);
            f = f.u64(*base).u32(*size).u32(0).u32(0).u32(name);
        }
        self.stream(14, &f.0);
    }

    pub fn threads(&mut self, list: &[MiniThread]) {
        let mut f = fields().u32(list.len() as u32);
        for t in list {
            let context = self.blob(&t.context);
            let stack = if t.stack.is_empty() { 0 } else { self.blob(&t.stack) };
            f = f.u32(t.id).u32(t.suspend).u32(32).u32(0).u64(t.teb).u64(t.stack_start);
            f = f.u32(t.stack.len() as u32).u32(stack).u32(t.context.len() as u32).u32(context);
        }
        self.stream(3, &f.0);
    }

    pub fn thread_names(&mut self, list: &[(u32, &str)]) {
        let mut f = fields().u32(list.len() as u32);
        for (id, name) in list {
            let at = self.string(name);
            f = f.u32(*id).u64(u64::from(at));
        }
        self.stream(24, &f.0);
    }

    /// `ThreadInfoList`: id, creation (100 ns since 1601), kernel and user time, start address.
    pub fn thread_infos(&mut self, list: &[(u32, u64, u64, u64, u64)]) {
        let mut f = fields().u32(12).u32(64).u32(list.len() as u32);
        for (id, created, kernel, user, start) in list {
            f = f.u32(*id).u32(0).u32(0).u32(0x103).u64(*created).u64(0).u64(*kernel).u64(*user).u64(*start).u64(0xFF);
        }
        self.stream(17, &f.0);
    }

    pub fn exception(&mut self, thread: u32, code: u32, address: u64, parameters: &[u64], context: &[u8]) {
        let at = self.blob(context);
        let mut f = fields().u32(thread).u32(0).u32(code).u32(1).u64(0).u64(address);
        f = f.u32(parameters.len() as u32).u32(0);
        for i in 0..15 {
            f = f.u64(parameters.get(i).copied().unwrap_or(0));
        }
        self.stream(6, &f.u32(context.len() as u32).u32(at).0);
    }

    pub fn handles(&mut self, list: &[(u64, &str, &str)]) {
        let mut f = fields().u32(16).u32(32).u32(list.len() as u32).u32(0);
        for (value, kind, name) in list {
            let kind = self.string(kind);
            let name = if name.is_empty() { 0 } else { self.string(name) };
            f = f.u64(*value).u32(kind).u32(name).u32(0).u32(0x1F_0003).u32(1).u32(1);
        }
        self.stream(12, &f.0);
    }

    /// `MemoryInfoList`: start, size, allocation base, state, protection, type.
    pub fn memory_info(&mut self, list: &[(u64, u64, u64, u32, u32, u32)]) {
        let mut f = fields().u32(16).u32(48).u64(list.len() as u64);
        for (start, size, allocation, state, protect, kind) in list {
            f = f.u64(*start).u64(*allocation).u32(*protect).u32(0).u64(*size);
            f = f.u32(*state).u32(*protect).u32(*kind).u32(0);
        }
        self.stream(16, &f.0);
    }

    pub fn memory32(&mut self, list: &[(u64, Vec<u8>)]) {
        let mut f = fields().u32(list.len() as u32);
        for (start, bytes) in list {
            let at = self.blob(bytes);
            f = f.u64(*start).u32(bytes.len() as u32).u32(at);
        }
        self.stream(5, &f.0);
    }

    pub fn memory64(&mut self, list: Vec<(u64, Vec<u8>)>) {
        self.memory64 = Some(list);
    }

    /// The file.
    pub fn finish(mut self) -> Vec<u8> {
        let memory = self.memory64.take();
        let mut list_at = 0;
        if let Some(list) = &memory {
            let mut f = fields().u64(list.len() as u64).u64(0);
            for (start, bytes) in list {
                f = f.u64(*start).u64(bytes.len() as u64);
            }
            self.stream(9, &f.0);
            list_at = self.directory.last().unwrap().2 as usize;
        }
        let mut f = fields();
        for (kind, size, at) in &self.directory {
            f = f.u32(*kind).u32(*size).u32(*at);
        }
        let directory = self.blob(&f.0);
        let count = self.directory.len() as u32;
        let head = fields().bytes(b"MDMP").u32(0xA793).u32(count).u32(directory).u32(0).u32(1_700_000_000);
        self.bytes[..32].copy_from_slice(&head.u64(self.flags).0);
        if let Some(list) = memory {
            let base = self.bytes.len() as u64;
            self.bytes[list_at + 8..list_at + 16].copy_from_slice(&base.to_le_bytes());
            for (_, bytes) in list {
                self.bytes.extend(bytes);
            }
        }
        self.bytes
    }
}

/// A `CONTEXT` of x64: every general register is its number + 0x100, but `rip` and `rsp`.
pub fn context_x64(rip: u64, rsp: u64) -> Vec<u8> {
    let mut c = vec![0; 1232];
    c[0x30..0x34].copy_from_slice(&0x10_001F_u32.to_le_bytes());
    for i in 0..16usize {
        c[0x78 + i * 8..0x80 + i * 8].copy_from_slice(&(0x100 + i as u64).to_le_bytes());
    }
    c[0x98..0xA0].copy_from_slice(&rsp.to_le_bytes());
    c[0xF8..0x100].copy_from_slice(&rip.to_le_bytes());
    c
}

/// A `CONTEXT` of x86.
pub fn context_x86(eip: u32, esp: u32) -> Vec<u8> {
    let mut c = vec![0; 716];
    c[..4].copy_from_slice(&0x1_0007_u32.to_le_bytes());
    c[0xB0..0xB4].copy_from_slice(&0xEA_u32.to_le_bytes());
    c[0xB4..0xB8].copy_from_slice(&0xEB_u32.to_le_bytes());
    c[0xB8..0xBC].copy_from_slice(&eip.to_le_bytes());
    c[0xC4..0xC8].copy_from_slice(&esp.to_le_bytes());
    c
}

/// A `CONTEXT` of arm64: `x0`.. are their number + 0x100.
pub fn context_arm64(pc: u64, sp: u64) -> Vec<u8> {
    let mut c = vec![0; 912];
    c[..4].copy_from_slice(&0x40_0007_u32.to_le_bytes());
    for i in 0..31usize {
        c[8 + i * 8..16 + i * 8].copy_from_slice(&(0x100 + i as u64).to_le_bytes());
    }
    c[0x100..0x108].copy_from_slice(&sp.to_le_bytes());
    c[0x108..0x110].copy_from_slice(&pc.to_le_bytes());
    c
}

/// The first bytes of a thread environment block: exception list, stack base, stack limit.
pub fn teb(base: u64, limit: u64, wide: bool) -> Vec<u8> {
    if wide {
        fields().u64(0).u64(base).u64(limit).zeros(0x40).0
    } else {
        fields().u32(0).u32(base as u32).u32(limit as u32).zeros(0x40).0
    }
}

/// A small process with every stream: two modules, two threads, heap, event, handles.
pub fn everything() -> Vec<u8> {
    let mut m = Mini::new();
    m.system(X64, 2);
    m.misc(4242, 1_699_999_000, 3, 1);
    m.modules(&[
        MiniModule {
            base: 0x7FF8_0000_0000,
            size: 0x3000,
            name: r"C:\dotnet\coreclr.dll",
            timestamp: 0x6543_2100,
            version: [8, 0, 123, 4],
            pdb: r"D:\a\coreclr.pdb",
        },
        MiniModule {
            base: 0x1_4000_0000,
            size: 0x2000,
            name: r"C:\app\shop.exe",
            timestamp: 0x6543_0000,
            version: [1, 2, 3, 4],
            pdb: "shop.pdb",
        },
    ]);
    m.unloaded(&[(0x7FF9_0000_0000, 0x1000, "gone.dll")]);
    m.threads(&[
        MiniThread {
            id: 100,
            teb: 0x5000,
            stack_start: 0x2_0800,
            context: context_x64(0x7FF8_0000_1234, 0x2_0800),
            ..MiniThread::default()
        },
        MiniThread {
            id: 101,
            suspend: 1,
            teb: 0x9_9000,
            stack_start: 0x3_0100,
            stack: vec![0xCC; 0xF00],
            context: context_x64(0x1_4000_1000, 0x3_0100),
        },
    ]);
    m.thread_names(&[(101, "worker \u{2603}")]);
    m.thread_infos(&[(101, 133_444_736_000_000_000, 20_000_000, 10_000_000, 0x7FF8_0000_2000)]);
    m.exception(
        100,
        0xE043_4352,
        0x7FF8_0000_1500,
        &[0x8013_1500, 0, 0x1F00],
        &context_x64(0x7FF8_0000_1500, 0x2_0700),
    );
    m.handles(&[(0x44, "Event", r"\BaseNamedObjects\ready"), (0x48, "File", "")]);
    m.memory_info(&[
        (0, 0x5000, 0, 0x10000, 1, 0),
        (0x5000, 0x1000, 0x5000, 0x1000, 4, 0x2_0000),
        (0x2_0000, 0x1000, 0x1_0000, 0x1000, 4, 0x2_0000),
        (0x10_0000, 0x4000, 0x10_0000, 0x1000, 4, 0x2_0000),
        (0x10_4000, 0xC000, 0x10_0000, 0x2000, 0, 0x2_0000),
        (0x1_4000_0000, 0x2000, 0x1_4000_0000, 0x1000, 0x20, 0x100_0000),
        (0x7FF8_0000_0000, 0x3000, 0x7FF8_0000_0000, 0x1000, 0x20, 0x100_0000),
    ]);
    m.memory64(vec![
        (0x5000, [teb(0x2_1000, 0x2_0000, true), vec![0; 0x1000 - 0x58]].concat()),
        (0x2_0000, vec![0xAB; 0x1000]),
        (0x10_0000, vec![0x11; 0x1000]),
        (0x10_2000, vec![0x22; 0x1000]),
        (0x1_4000_0000, vec![0x4D; 0x1000]),
    ]);
    m.finish()
}
