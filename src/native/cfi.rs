//! Unwinding by call frame information: `.eh_frame`, found through `.eh_frame_hdr`.
//!
//! Formats: Linux Standard Base, "Exception Frames"; DWARF 5 section 6.4; the processor supplements of the System V ABI name
//! the registers. `gimli` reads the tables; what is evaluated here restores every register, not only the frame's.

use std::sync::OnceLock;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, Evaluation, EvaluationResult, FrameDescriptionEntry,
    LittleEndian, Location, Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, Value, Vendor,
};

use super::context::{Context, MOST, stack_pointer};
use super::image::{Format, Image, Section};
use super::step::{End, Stepped};
use crate::dump::{AddressSpace, Arch};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = FrameDescriptionEntry<Slice<'a>>;

const PT_LOAD: u32 = 1;
const PT_GNU_EH_FRAME: u32 = 0x6474_E550;
/// Largest section read: that of the largest libraries is some 20 MB.
const MOST_BYTES: u64 = 1 << 28;
/// Longest entry run: the longest known ones are some 10 KB.
const MOST_ENTRY: usize = 1 << 20;
/// Most operations of an expression: real ones have a dozen.
const MOST_OPERATIONS: u32 = 1000;
/// Most entries of an index that is built because the image has none.
const MOST_INDEXED: usize = 1 << 22;
/// Column of the return address on x64 and x86; arm64 has it in x30.
const X64_RETURN: u16 = 16;
const X86_RETURN: u16 = 8;

/// Number of the register in [`Context`] by its number in x64 DWARF: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15.
const OF_X64: [usize; 16] = [0, 2, 1, 3, 6, 7, 5, 4, 8, 9, 10, 11, 12, 13, 14, 15];

fn number(arch: Arch, register: Register) -> Option<usize> {
    match arch {
        Arch::X64 => OF_X64.get(usize::from(register.0)).copied(),
        Arch::X86 => (register.0 < 8).then_some(usize::from(register.0)),
        Arch::Arm64 => (register.0 < 32).then_some(usize::from(register.0)),
        Arch::Arm => None,
    }
}

fn register(arch: Arch, number: usize) -> Option<Register> {
    let of_x64 = || OF_X64.iter().position(|&n| n == number).map(|r| r as u16);
    let dwarf = if arch == Arch::X64 { of_x64()? } else { number as u16 };
    Some(Register(dwarf))
}

/// The call frame information of an image.
#[derive(Debug)]
pub struct Cfi {
    arch: Arch,
    header: Option<Section>,
    frames: Section,
    bases: BaseAddresses,
    /// First address and place of every entry, where the image's own index is not at hand.
    index: OnceLock<Vec<(u64, usize)>>,
}

impl Cfi {
    /// That of `image`, if it has any and it is at hand.
    pub fn find(space: &AddressSpace, arch: Arch, image: &Image) -> Option<Self> {
        let Format::Elf(elf) = &image.format else { return None };
        let rva = |address: u64| address.wrapping_sub(elf.low);
        let of_header = elf.segments.iter().find(|s| s.kind == PT_GNU_EH_FRAME).and_then(|s| {
            let header = image.section(space, rva(s.address), s.memory_size.min(MOST_BYTES) as usize);
            let at = header_points_to(&header, image, arch)?;
            // How long the section is does not stand there: to the end of the segment, or to a terminator.
            let load = elf.segments.iter().find(|l| l.kind == PT_LOAD && at.wrapping_sub(l.address) < l.file_size)?;
            let len = load.file_size - (at - load.address);
            Some((Some(header), rva(at), len))
        });
        let (header, start, len) = match of_header {
            Some(found) => found,
            None => section_named(image, b".eh_frame").map(|(at, len)| (None, rva(at), len))?,
        };
        let frames = image.section(space, start, len.min(MOST_BYTES) as usize);
        let bases = BaseAddresses::default().set_eh_frame(frames.address);
        let bases = match &header {
            Some(h) => bases.set_eh_frame_hdr(h.address),
            None => bases,
        };
        Some(Self { arch, header: header.filter(holds_its_table), frames, bases, index: OnceLock::new() })
    }

    /// Call frame information in the given sections, for tests of what is damaged.
    pub fn of_sections(arch: Arch, header: Option<Section>, frames: Section) -> Self {
        let mut bases = BaseAddresses::default().set_eh_frame(frames.address);
        if let Some(h) = &header {
            bases = bases.set_eh_frame_hdr(h.address);
        }
        Self { arch, header: header.filter(holds_its_table), frames, bases, index: OnceLock::new() }
    }

    fn section(&self) -> EhFrame<Slice<'_>> {
        let mut section = EhFrame::new(&self.frames.bytes, LittleEndian);
        section.set_address_size(self.arch.pointer_size());
        if self.arch == Arch::Arm64 {
            section.set_vendor(Vendor::AArch64);
        }
        section
    }

    /// The entry of the function that holds `address`.
    fn entry<'a>(&'a self, section: &EhFrame<Slice<'a>>, address: u64) -> Option<Entry<'a>> {
        let by_header = || {
            let header = EhFrameHdr::new(&self.header.as_ref()?.bytes, LittleEndian);
            let header = header.parse(&self.bases, self.arch.pointer_size()).ok()?;
            let table = header.table()?;
            let pointer = table.lookup(address, &self.bases).ok()?;
            // The reader counts from the start of the section, wherever the pointer leads.
            (pointer.direct().ok()? >= header.eh_frame_ptr().direct().ok()?).then_some(())?;
            let offset = table.pointer_to_offset(pointer).ok()?;
            self.at(section, offset.0).filter(|e| e.contains(address))
        };
        by_header().or_else(|| {
            // A whole table that does not name the address is right: nothing covers it.
            let whole = self.header.as_ref().is_some_and(|h| !h.has_holes());
            if whole {
                return None;
            }
            let index = self.index.get_or_init(|| self.build_index(section));
            let i = index.partition_point(|e| e.0 <= address).checked_sub(1)?;
            self.at(section, index.get(i)?.1).filter(|e| e.contains(address))
        })
    }

    /// The entry at `offset`, if all of it and of what it refers to is in the dump.
    fn at<'a>(&'a self, section: &EhFrame<Slice<'a>>, offset: usize) -> Option<Entry<'a>> {
        let entry = section.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        let whole = |start: usize, len: usize| {
            start.checked_add(len)?.checked_add(12).filter(|_| len <= MOST_ENTRY)?;
            let end = (start + len + 12).min(self.frames.bytes.len());
            self.frames.has(start, end).then_some(())
        };
        whole(entry.offset(), entry.entry_len())?;
        whole(entry.cie().offset(), entry.cie().entry_len())?;
        Some(entry)
    }

    fn build_index(&self, section: &EhFrame<Slice<'_>>) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        let mut entries = section.entries(&self.bases);
        while let Ok(Some(entry)) = entries.next() {
            if let gimli::CieOrFde::Fde(partial) = entry
                && let Ok(fde) = partial.parse(EhFrame::cie_from_offset)
            {
                found.push((fde.initial_address(), fde.offset()));
            }
            if found.len() >= MOST_INDEXED {
                break;
            }
        }
        found.sort_unstable();
        found
    }

    /// Where the function that holds `address` begins and ends.
    pub fn function(&self, address: u64) -> Option<(u64, u64)> {
        self.entry(&self.section(), address).map(|e| (e.initial_address(), e.end_address()))
    }

    /// Where the data for its language lies (LSDA) of the function that holds `address`.
    pub fn language_data(&self, address: u64) -> Option<u64> {
        match self.entry(&self.section(), address)?.lsda()? {
            gimli::Pointer::Direct(at) | gimli::Pointer::Indirect(at) => Some(at),
        }
    }

    /// The caller's registers, if an entry covers `lookup` (an address inside the instruction that called).
    pub fn step(&self, from: &Context, lookup: u64, read: &dyn Fn(u64) -> Option<u64>) -> Option<Result<Stepped, End>> {
        let section = self.section();
        let entry = self.entry(&section, lookup)?;
        let mut context = UnwindContext::new();
        let row = entry.unwind_info_for_address(&section, &self.bases, &mut context, lookup).ok()?;
        let eval = Eval { section: &section, entry: &entry, from, read };
        Some(eval.caller(row))
    }
}

/// Where the header says that `.eh_frame` begins, as an address of the image's own numbering.
fn header_points_to(header: &Section, image: &Image, arch: Arch) -> Option<u64> {
    let Format::Elf(elf) = &image.format else { return None };
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = EhFrameHdr::new(&header.bytes, LittleEndian).parse(&bases, arch.pointer_size()).ok()?;
    let at = parsed.eh_frame_ptr().direct().ok()?;
    Some(at.wrapping_sub(image.base).wrapping_add(elf.low))
}

/// Whether the table of a header is as linkers write it, and no longer than the header: the reader multiplies the number of
/// rows that stands there. Format: Linux Standard Base 5.0, "Exception Frames" (`.eh_frame_hdr`, pointer encodings).
fn holds_its_table(header: &Section) -> bool {
    const U32: u8 = 3;
    const I32: u8 = 0xB;
    const ROWS: usize = 12;
    let &[_, to_frames, count, table, .., a, b, c, d] = header.bytes.get(..ROWS).unwrap_or(&[]) else { return false };
    let rows = u64::from(u32::from_le_bytes([a, b, c, d]));
    let narrow = |encoding: u8| matches!(encoding & 0xF, U32 | I32);
    let room = (header.bytes.len() - ROWS) as u64;
    narrow(to_frames) && count == U32 && narrow(table) && rows * 8 <= room
}

/// Address and size of a section of the image's file.
fn section_named(image: &Image, name: &[u8]) -> Option<(u64, u64)> {
    use object::{Object, ObjectSection};
    let file = object::File::parse(&image.file.as_ref()?.file[..]).ok()?;
    let section = file.section_by_name_bytes(name)?;
    Some((section.address(), section.size()))
}

/// Evaluates a row of the table of a function.
struct Eval<'a, 'b> {
    section: &'b EhFrame<Slice<'a>>,
    entry: &'b Entry<'a>,
    from: &'b Context,
    read: &'b dyn Fn(u64) -> Option<u64>,
}

impl Eval<'_, '_> {
    fn get(&self, register: Register) -> Option<u64> {
        let arch = self.from.arch;
        let is_return =
            (arch == Arch::X64 && register.0 == X64_RETURN) || (arch == Arch::X86 && register.0 == X86_RETURN);
        if is_return { Some(self.from.ip) } else { self.from.get(number(arch, register)?) }
    }

    fn caller(&self, row: &gimli::UnwindTableRow<usize>) -> Result<Stepped, End> {
        let arch = self.from.arch;
        let frame = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                self.get(*register).map(|v| v.wrapping_add_signed(*offset)).ok_or(End::Register)?
            }
            CfaRule::Expression(e) => self.evaluate(e, None).ok_or(End::Register)?,
        };
        let returns = self.entry.cie().return_address_register();
        let signal = self.entry.is_signal_trampoline();
        let ip = match row.register(returns) {
            Some(RegisterRule::Undefined) => return Err(End::Bottom),
            // On arm64 the address may still be in its register.
            None | Some(RegisterRule::SameValue) if arch == Arch::Arm64 => self.get(returns).ok_or(End::Register)?,
            None => self.word(frame.wrapping_sub(u64::from(arch.pointer_size())))?,
            Some(rule) => self.value(&rule, returns, frame)?.ok_or(End::Register)?,
        };
        let mut to = Context::new(arch, Context::plain_address(arch, ip), frame);
        for n in 0..MOST {
            let Some(dwarf) = register(arch, n) else { continue };
            match row.register(dwarf) {
                // What cannot be read is unknown: the frame itself is known without it.
                Some(rule) => to.put(n, self.value(&rule, dwarf, frame).ok().flatten()),
                None if Context::survives(arch, false, n) => to.put(n, self.from.get(n)),
                None => {}
            }
        }
        if to.get(stack_pointer(arch)).is_none() {
            to.set_sp(frame);
        }
        Ok(Stepped { context: to, exact: signal, guessed: false })
    }

    fn word(&self, address: u64) -> Result<u64, End> {
        (self.read)(address).ok_or(End::Memory(address))
    }

    /// The caller's value of a register; `None` when it is lost.
    fn value(&self, rule: &RegisterRule<usize>, own: Register, frame: u64) -> Result<Option<u64>, End> {
        Ok(match rule {
            RegisterRule::SameValue => self.get(own),
            RegisterRule::Offset(n) => Some(self.word(frame.wrapping_add_signed(*n))?),
            RegisterRule::ValOffset(n) => Some(frame.wrapping_add_signed(*n)),
            RegisterRule::Register(r) => self.get(*r),
            RegisterRule::Expression(e) => {
                let at = self.evaluate(e, Some(frame)).ok_or(End::Register)?;
                Some(self.word(at)?)
            }
            RegisterRule::ValExpression(e) => self.evaluate(e, Some(frame)),
            RegisterRule::Constant(v) => Some(*v),
            _ => None,
        })
    }

    fn evaluate(&self, expression: &UnwindExpression<usize>, initial: Option<u64>) -> Option<u64> {
        let expression = expression.get(self.section).ok()?;
        let mut evaluation = Evaluation::new(expression.0, self.entry.cie().encoding());
        evaluation.set_max_iterations(MOST_OPERATIONS);
        if let Some(v) = initial {
            evaluation.set_initial_value(v);
        }
        let mut state = evaluation.evaluate().ok()?;
        for _ in 0..MOST_OPERATIONS {
            state = match state {
                EvaluationResult::Complete => {
                    let Location::Address { address } = evaluation.as_result().last()?.location else { return None };
                    return Some(address);
                }
                EvaluationResult::RequiresRegister { register, .. } => {
                    evaluation.resume_with_register(Value::Generic(self.get(register)?)).ok()?
                }
                EvaluationResult::RequiresMemory { address, size, .. } => {
                    let word = (self.read)(address)?;
                    let bits = u32::from(size).checked_mul(8).filter(|&b| (1..=64).contains(&b))?;
                    evaluation.resume_with_memory(Value::Generic(word & (u64::MAX >> (64 - bits)))).ok()?
                }
                _ => return None,
            };
        }
        None
    }
}
