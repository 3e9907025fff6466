//! Builds Linux ELF cores byte by byte (System V gABI; `elfcore.h` and `ptrace.h` of Linux).
#![allow(dead_code, reason = "each test uses its own part")]

/// `EM_*`.
pub const X86: u16 = 3;
pub const ARM: u16 = 40;
pub const X64: u16 = 62;
pub const ARM64: u16 = 183;

/// A core under construction.
#[derive(Clone)]
pub struct Core {
    pub wide: bool,
    pub machine: u16,
    pub os_abi: u8,
    pub notes: Vec<u8>,
    /// Address, bytes in memory, flags, bytes in the file.
    pub segments: Vec<(u64, u64, u32, Vec<u8>)>,
    pub notes_at_end: bool,
    /// Alignment of segment contents in the file.
    pub align: usize,
}

/// Little-endian word of the core's size.
pub fn word(out: &mut Vec<u8>, v: u64, wide: bool) {
    let bytes = v.to_le_bytes();
    out.extend(if wide { &bytes[..] } else { &bytes[..4] });
}

/// Writes `v` at `at`.
pub fn put(out: &mut [u8], at: usize, v: u64, size: usize) {
    out[at..at + size].copy_from_slice(&v.to_le_bytes()[..size]);
}

impl Core {
    pub fn new(machine: u16) -> Self {
        let wide = machine == X64 || machine == ARM64;
        Self { wide, machine, os_abi: 0, notes: Vec::new(), segments: Vec::new(), notes_at_end: false, align: 0x1000 }
    }

    pub fn note(&mut self, owner: &str, kind: u32, desc: &[u8]) -> &mut Self {
        let n = &mut self.notes;
        for v in [owner.len() as u32 + 1, desc.len() as u32, kind] {
            n.extend(v.to_le_bytes());
        }
        n.extend(owner.as_bytes());
        n.push(0);
        n.resize(n.len().next_multiple_of(4), 0);
        n.extend(desc);
        n.resize(n.len().next_multiple_of(4), 0);
        self
    }

    /// `NT_PRSTATUS` with registers by their number in the kernel's order.
    pub fn thread(&mut self, tid: u32, signal: u16, registers: &[(usize, u64)]) -> &mut Self {
        let (size, pid, regs, step) = match self.machine {
            X64 => (336, 32, 112, 8),
            ARM64 => (392, 32, 112, 8),
            X86 => (144, 24, 72, 4),
            _ => (148, 24, 72, 4),
        };
        let mut d = vec![0; size];
        put(&mut d, 12, u64::from(signal), 2);
        put(&mut d, pid, u64::from(tid), 4);
        for (i, v) in registers {
            put(&mut d, regs + i * step, *v, step);
        }
        self.note("CORE", 1, &d)
    }

    pub fn process(&mut self, pid: u32, name: &str, arguments: &str) -> &mut Self {
        let (size, at, name_at, arguments_at) = if self.wide { (136, 24, 40, 56) } else { (124, 12, 28, 44) };
        let mut d = vec![0; size];
        put(&mut d, at, u64::from(pid), 4);
        d[name_at..name_at + name.len()].copy_from_slice(name.as_bytes());
        d[arguments_at..arguments_at + arguments.len()].copy_from_slice(arguments.as_bytes());
        self.note("CORE", 3, &d)
    }

    pub fn siginfo(&mut self, signal: u32, code: u32, address: u64) -> &mut Self {
        let mut d = vec![0; 128];
        put(&mut d, 0, u64::from(signal), 4);
        put(&mut d, 8, u64::from(code), 4);
        let (at, size) = if self.wide { (16, 8) } else { (12, 4) };
        put(&mut d, at, address, size);
        self.note("CORE", 0x5349_4749, &d)
    }

    pub fn auxv(&mut self, list: &[(u64, u64)]) -> &mut Self {
        let mut d = Vec::new();
        for (tag, value) in list.iter().chain(&[(0, 0)]) {
            word(&mut d, *tag, self.wide);
            word(&mut d, *value, self.wide);
        }
        self.note("CORE", 6, &d)
    }

    /// `NT_FILE`: start, end, offset in bytes, path.
    pub fn files(&mut self, list: &[(u64, u64, u64, &str)]) -> &mut Self {
        let mut d = Vec::new();
        word(&mut d, list.len() as u64, self.wide);
        word(&mut d, 0x1000, self.wide);
        for (start, end, offset, _) in list {
            for v in [*start, *end, *offset / 0x1000] {
                word(&mut d, v, self.wide);
            }
        }
        for (_, _, _, path) in list {
            d.extend(path.as_bytes());
            d.push(0);
        }
        self.note("CORE", 0x4649_4C45, &d)
    }

    /// A `PT_LOAD` whose bytes are all in the file.
    pub fn load(&mut self, address: u64, flags: u32, bytes: Vec<u8>) -> &mut Self {
        self.partial(address, bytes.len() as u64, flags, bytes)
    }

    /// A `PT_LOAD` of which only `bytes` are in the file.
    pub fn partial(&mut self, address: u64, memory: u64, flags: u32, bytes: Vec<u8>) -> &mut Self {
        self.segments.push((address, memory, flags, bytes));
        self
    }

    fn program_header(&self, out: &mut Vec<u8>, kind: u32, flags: u32, v: [u64; 4]) {
        let [offset, address, file, memory] = v;
        out.extend(kind.to_le_bytes());
        if self.wide {
            out.extend(flags.to_le_bytes());
        }
        for v in [offset, address, 0, file, memory] {
            word(out, v, self.wide);
        }
        if !self.wide {
            out.extend(flags.to_le_bytes());
        }
        word(out, self.align as u64, self.wide);
    }

    /// The file. With 65,535 program headers or more the count goes to a section header, which is put at the end.
    pub fn finish(&self) -> Vec<u8> {
        let (head, entry, section) = if self.wide { (64, 56, 64) } else { (52, 32, 40) };
        let count = self.segments.len() + 1;
        let table_end = head + entry * count;
        let contents: usize = self.segments.iter().map(|s| s.3.len().next_multiple_of(self.align)).sum();
        let first = (table_end + if self.notes_at_end { 0 } else { self.notes.len() }).next_multiple_of(self.align);
        let notes_at = if self.notes_at_end { first + contents } else { table_end };
        let sections_at = (first + contents).max(notes_at + self.notes.len()).next_multiple_of(8);
        let many = count >= 0xFFFF;
        let mut out = vec![0x7F, b'E', b'L', b'F', if self.wide { 2 } else { 1 }, 1, 1, self.os_abi];
        out.resize(16, 0);
        out.extend(4u16.to_le_bytes());
        out.extend(self.machine.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        word(&mut out, 0, self.wide);
        word(&mut out, head as u64, self.wide);
        word(&mut out, if many { sections_at as u64 } else { 0 }, self.wide);
        out.extend(0u32.to_le_bytes());
        for v in [head, entry, if many { 0xFFFF } else { count }, section, usize::from(many), 0] {
            out.extend((v as u16).to_le_bytes());
        }
        self.program_header(&mut out, 4, 0, [notes_at as u64, 0, self.notes.len() as u64, 0]);
        let mut at = first;
        for (address, memory, flags, bytes) in &self.segments {
            self.program_header(&mut out, 1, *flags, [at as u64, *address, bytes.len() as u64, *memory]);
            at += bytes.len().next_multiple_of(self.align);
        }
        if !self.notes_at_end {
            out.extend(&self.notes);
        }
        out.resize(first, 0);
        for (_, _, _, bytes) in &self.segments {
            out.extend(bytes);
            out.resize((out.len() - first).next_multiple_of(self.align) + first, 0);
        }
        if self.notes_at_end {
            out.extend(&self.notes);
        }
        if many {
            out.resize(sections_at, 0);
            let mut s = vec![0; section];
            put(&mut s, if self.wide { 44 } else { 28 }, count as u64, 4);
            out.extend(s);
        }
        out
    }
}

/// A 64-bit ELF shared object of three pages: headers and a build id note in the first (read-only), "text" in the
/// second (executable, filled with `fill`), and writable data with `.bss` up to `bss_end`.
pub fn image(build_id: &[u8], fill: u8, bss_end: u64) -> Vec<u8> {
    let mut out = vec![0x7F, b'E', b'L', b'F', 2, 1, 1, 0];
    out.resize(0x3000, 0);
    for (at, v, size) in [(16, 3, 2), (18, 62, 2), (20, 1, 4), (32, 64, 8), (52, 64, 2), (54, 56, 2), (56, 5, 2)] {
        put(&mut out, at, v, size);
    }
    let note = 0x400u64;
    let headers: [(u64, u64, [u64; 4]); 5] = [
        (1, 4, [0, 0, 0x1000, 0x1000]),
        (1, 5, [0x1000, 0x1000, 0x1000, 0x1000]),
        (1, 6, [0x2000, 0x2000, 0x1000, bss_end - 0x2000]),
        (4, 4, [note, note, 16 + build_id.len() as u64, 16 + build_id.len() as u64]),
        (2, 6, [0x2000, 0x2000, 0x100, 0x100]),
    ];
    for (i, (kind, flags, [offset, address, file, memory])) in headers.into_iter().enumerate() {
        let at = 64 + i * 56;
        put(&mut out, at, kind, 4);
        put(&mut out, at + 4, flags, 4);
        for (k, v) in [offset, address, address, file, memory, 0x1000].into_iter().enumerate() {
            put(&mut out, at + 8 + k * 8, v, 8);
        }
    }
    put(&mut out, 0x400, 4, 4);
    put(&mut out, 0x404, build_id.len() as u64, 4);
    put(&mut out, 0x408, 3, 4);
    out[0x40C..0x410].copy_from_slice(b"GNU\0");
    out[0x410..0x410 + build_id.len()].copy_from_slice(build_id);
    out[0x1000..0x2000].fill(fill);
    out
}

/// The headers of a PE file (64-bit layout) in one page.
pub fn pe(timestamp: u32, size_of_image: u32) -> Vec<u8> {
    let mut out = vec![0; 0x1000];
    out[..2].copy_from_slice(b"MZ");
    for (at, v, size) in [
        (0x3C, 0x80, 4),
        (0x80, 0x4550, 4),
        (0x84, 0x8664, 2),
        (0x88, u64::from(timestamp), 4),
        (0x98, 0x20B, 2),
        (0x80 + 0x50, u64::from(size_of_image), 4),
        (0x80 + 0x54, 0x400, 4),
    ] {
        put(&mut out, at, v, size);
    }
    out
}

/// Register numbers of `NT_PRSTATUS` on x64.
pub const RBP: usize = 4;
pub const RIP: usize = 16;
pub const RSP: usize = 19;
pub const FS_BASE: usize = 21;

/// A process of the kind createdump writes: a program, a library with missing pages, a heap, a main and a second
/// thread.
pub fn everything() -> Core {
    let mut c = Core::new(X64);
    c.os_abi = 3;
    c.process(500, "shop", "shop --port 80");
    c.auxv(&[(3, 0x40_0040), (6, 0x1000), (31, 0x7FFC_0000_0F00)]);
    c.files(&[
        (0x40_0000, 0x40_1000, 0, "/app/shop"),
        (0x40_1000, 0x40_2000, 0x1000, "/app/shop"),
        (0x40_2000, 0x40_3000, 0x2000, "/app/shop"),
        (0x7F00_0000_0000, 0x7F00_0000_1000, 0, "/usr/lib/libcoreclr.so"),
        (0x7F00_0000_1000, 0x7F00_0000_2000, 0x1000, "/usr/lib/libcoreclr.so"),
        (0x7F00_0000_2000, 0x7F00_0000_3000, 0x2000, "/usr/lib/libcoreclr.so"),
    ]);
    c.thread(
        500,
        0,
        &[(RIP, 0x40_1010), (RSP, 0x7FFC_0000_0800), (RBP, 0x7FFC_0000_0900), (FS_BASE, 0x7F10_0000_0740)],
    );
    c.thread(501, 0, &[(RIP, 0x7F00_0000_1010), (RSP, 0x7F20_0000_0F00), (FS_BASE, 0x7F20_0000_16C0)]);
    let (program, library) = (image(&[1; 20], 0x90, 0x4800), image(&[2; 20], 0xC3, 0x3000));
    c.load(0x40_0000, 4, program[..0x1000].to_vec());
    c.load(0x40_1000, 5, program[0x1000..0x2000].to_vec());
    c.load(0x40_2000, 6, [&program[0x2000..], &[0; 0x2000]].concat());
    c.load(0x7F00_0000_0000, 4, library[..0x1000].to_vec());
    c.partial(0x7F00_0000_1000, 0x1000, 5, Vec::new());
    c.load(0x7F00_0000_2000, 6, library[0x2000..].to_vec());
    c.partial(0x7F10_0000_0000, 0x3000, 6, vec![0x55; 0x1000]);
    // The second thread's stack with a heap right behind it in the same mapping.
    c.load(0x7F20_0000_0000, 6, vec![0x66; 0x4000]);
    c.load(0x7FFC_0000_0000, 6, vec![0x77; 0x1000]);
    c
}
