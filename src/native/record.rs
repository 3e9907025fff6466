//! Registers that lie in memory: `CONTEXT` records of Windows and of the runtime, which uses the same form everywhere, and
//! what the Linux kernel keeps of code that a signal interrupted.

use super::context::{Context, names};
use super::unwind::{MOST_FRAMES, Walk};
use super::{Native, Stepped};
use crate::dump::little_endian;
use crate::dump::{Arch, Dump, ExceptionInfo, Os, Registers, Thread};

/// Registers that stand for those of a thread.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Them; those that are not known are left out.
    pub registers: Registers,
    /// Whether the instruction pointer is where execution stands, not a return address.
    pub exact: bool,
}

/// A register in a record: its name, where it is and its bytes.
type Place = (&'static str, u64, u8);

/// `CONTEXT` (Windows SDK `winnt.h`; dotnet/runtime `src/coreclr/pal/inc/pal.h` has the same form on Unix).
const CONTEXT_X64: [Place; 24] = [
    ("rax", 0x78, 8),
    ("rbx", 0x90, 8),
    ("rcx", 0x80, 8),
    ("rdx", 0x88, 8),
    ("rsi", 0xA8, 8),
    ("rdi", 0xB0, 8),
    ("rip", 0xF8, 8),
    ("rsp", 0x98, 8),
    ("rbp", 0xA0, 8),
    ("r8", 0xB8, 8),
    ("r9", 0xC0, 8),
    ("r10", 0xC8, 8),
    ("r11", 0xD0, 8),
    ("r12", 0xD8, 8),
    ("r13", 0xE0, 8),
    ("r14", 0xE8, 8),
    ("r15", 0xF0, 8),
    ("cs", 0x38, 2),
    ("ss", 0x42, 2),
    ("ds", 0x3A, 2),
    ("es", 0x3C, 2),
    ("fs", 0x3E, 2),
    ("gs", 0x40, 2),
    ("efl", 0x44, 4),
];
const CONTEXT_X86: [Place; 16] = [
    ("eax", 0xB0, 4),
    ("ebx", 0xA4, 4),
    ("ecx", 0xAC, 4),
    ("edx", 0xA8, 4),
    ("esi", 0xA0, 4),
    ("edi", 0x9C, 4),
    ("eip", 0xB8, 4),
    ("esp", 0xC4, 4),
    ("ebp", 0xB4, 4),
    ("cs", 0xBC, 2),
    ("ss", 0xC8, 2),
    ("ds", 0x98, 2),
    ("es", 0x94, 2),
    ("fs", 0x90, 2),
    ("gs", 0x8C, 2),
    ("efl", 0xC0, 4),
];
/// `ucontext_t` as the kernel writes it (torvalds/linux 6.6 `arch/x86/include/uapi/asm/sigcontext.h`).
const UCONTEXT_X64: [Place; 22] = [
    ("rax", 144, 8),
    ("rbx", 128, 8),
    ("rcx", 152, 8),
    ("rdx", 136, 8),
    ("rsi", 112, 8),
    ("rdi", 104, 8),
    ("rip", 168, 8),
    ("rsp", 160, 8),
    ("rbp", 120, 8),
    ("r8", 40, 8),
    ("r9", 48, 8),
    ("r10", 56, 8),
    ("r11", 64, 8),
    ("r12", 72, 8),
    ("r13", 80, 8),
    ("r14", 88, 8),
    ("r15", 96, 8),
    ("cs", 184, 2),
    ("ss", 190, 2),
    ("fs", 188, 2),
    ("gs", 186, 2),
    ("efl", 176, 4),
];
/// Bytes of it with the kernel's signal mask; `siginfo_t` follows.
const UCONTEXT_SIZE_X64: u64 = 304;
const UCONTEXT_X86: [Place; 16] = [
    ("eax", 64, 4),
    ("ebx", 52, 4),
    ("ecx", 60, 4),
    ("edx", 56, 4),
    ("esi", 40, 4),
    ("edi", 36, 4),
    ("eip", 76, 4),
    ("esp", 48, 4),
    ("ebp", 44, 4),
    ("cs", 80, 2),
    ("ss", 92, 2),
    ("ds", 32, 2),
    ("es", 28, 2),
    ("fs", 24, 2),
    ("gs", 20, 2),
    ("efl", 84, 4),
];

/// Bits of `ContextFlags` that say whose registers they are, and where the flags lie.
fn flags(arch: Arch) -> (u64, u32) {
    match arch {
        Arch::X64 => (0x30, 0x0010_0000),
        Arch::X86 => (0, 0x0001_0000),
        Arch::Arm64 => (0, 0x0040_0000),
        Arch::Arm => (0, 0x0020_0000),
    }
}

/// Control and integer registers are in the record (`CONTEXT_CONTROL`, `CONTEXT_INTEGER`).
const CONTROL: u32 = 1;
const INTEGER: u32 = 2;

/// Registers by the processor's numbers, then pc and status, in a row from `first` on.
fn numbered(arch: Arch, first: u64, status: u64) -> Vec<Place> {
    let (step, pc) = (u64::from(arch.pointer_size()), if arch == Arch::Arm64 { Some("pc") } else { None });
    let all = names(arch).iter().copied().chain(pc).enumerate();
    let rows = all.map(|(i, name)| (name, first + i as u64 * step, arch.pointer_size()));
    rows.chain([("cpsr", status, 4)]).collect()
}

/// The registers at those places of the record at `at`.
fn read(dump: &Dump, at: u64, places: &[Place]) -> Option<Registers> {
    let mut general = Vec::with_capacity(places.len());
    for &(name, offset, size) in places {
        let bytes = dump.space.bytes(at.checked_add(offset)?, usize::from(size))?;
        general.push((name, little_endian(&bytes)));
    }
    from_general(dump.arch, general)
}

/// Registers of which the first ones of each kind are looked up by name.
fn from_general(arch: Arch, general: Vec<(&'static str, u64)>) -> Option<Registers> {
    let get = |name: &str| general.iter().find(|r| r.0 == name).map(|r| r.1);
    let [ip, sp, fp] = arch.pointers();
    Some(Registers { ip: get(ip)?, sp: get(sp)?, fp: get(fp).unwrap_or(0), tp: None, general })
}

/// Whether execution can stand there: the code may be of a module or made at run time.
fn stands(dump: &Dump, registers: &Registers) -> bool {
    const EXECUTABLE: u32 = 0xF0;
    let code = dump.map_at(registers.ip).map_or_else(
        || dump.module_at(registers.ip).is_some() || dump.space.u8(registers.ip).is_some(),
        |e| e.protect & EXECUTABLE != 0,
    );
    code && dump.space.u8(registers.sp).is_some()
}

/// Where `CONTEXT` has its registers, in the order of a debugger.
pub fn context_places(arch: Arch) -> Vec<Place> {
    match arch {
        Arch::X64 => CONTEXT_X64.to_vec(),
        Arch::X86 => CONTEXT_X86.to_vec(),
        Arch::Arm64 => numbered(arch, 8, 4),
        Arch::Arm => numbered(arch, 4, 0x44),
    }
}

/// Where `CONTEXT` has the instruction pointer, and each general register by its number.
pub fn in_context(arch: Arch) -> Option<(u64, Vec<u64>)> {
    let places = context_places(arch);
    let of = |name: &str| places.iter().find(|p| p.0 == name).map(|p| p.1);
    let [ip, ..] = arch.pointers();
    Some((of(ip)?, names(arch).iter().map(|n| of(n)).collect::<Option<_>>()?))
}

/// The registers in the `CONTEXT` at `at`, if there is one: its flags say so.
pub fn context_record(dump: &Dump, at: u64) -> Option<Registers> {
    let (place, mark) = flags(dump.arch);
    let found = dump.space.u32(at.checked_add(place)?)?;
    (found & mark != 0 && found & (CONTROL | INTEGER) == CONTROL | INTEGER).then_some(())?;
    read(dump, at, &context_places(dump.arch))
}

/// Most parameters of an exception (`EXCEPTION_MAXIMUM_PARAMETERS`).
const MOST_PARAMETERS: u64 = 15;

/// The `EXCEPTION_RECORD` at `at` (Windows SDK `winnt.h`), if it can be one. What it says of a thread is nothing.
pub fn exception_record(dump: &Dump, at: u64) -> Option<ExceptionInfo> {
    let pointer = u64::from(dump.arch.pointer_size());
    let word = |offset: u64| dump.space.ptr(at.checked_add(offset)?);
    let number = |offset: u64| dump.space.u32(at.checked_add(offset)?);
    // Code, flags, the next record, the address, the count; parameters aligned to a word.
    let count = u64::from(number(8 + 2 * pointer)?);
    let parameters = (0..count.min(MOST_PARAMETERS)).map(|i| word(8 + (3 + i) * pointer)).collect::<Option<_>>()?;
    let (code, flags, address) = (number(0)?, number(4)?, word(8 + pointer)?);
    (count <= MOST_PARAMETERS && code != 0).then_some(ExceptionInfo { thread_id: 0, code, address, flags, parameters })
}

/// The registers in the kernel's `ucontext_t` at `at`, if they can be those of code that runs.
pub fn user_context(dump: &Dump, at: u64) -> Option<Registers> {
    let found = match dump.arch {
        Arch::X64 => read(dump, at, &UCONTEXT_X64),
        Arch::X86 => read(dump, at, &UCONTEXT_X86),
        // fault_address, x0 to x30, sp, pc, pstate; aligned to 16 behind a signal mask of 128 bytes.
        Arch::Arm64 => read(dump, at, &numbered(Arch::Arm64, 184, 448)),
        Arch::Arm => read(dump, at, &numbered(Arch::Arm, 32, 96)),
    };
    found.filter(|r| stands(dump, r))
}

/// Most words of a stack looked through for what a signal left.
const MOST_WORDS: u64 = 1 << 17;

impl Native {
    /// The registers of what a signal interrupted on `thread`: those that the kernel kept for the handler which it runs, or
    /// ran before it went on with another stack. Nothing where no handler runs: the thread's registers are those then.
    pub fn interrupted(&self, thread: &Thread, event: &ExceptionInfo) -> Option<Registers> {
        if self.dump.os != Os::Linux {
            return None;
        }
        let unwound = self.by_unwinding(thread).map(|found| found.1);
        unwound.or_else(|| self.by_signal(thread, event))
    }

    /// Where a dump records no exception, as one that `createdump` of 3.1 writes: the thread that handles the signal of a fault
    /// or an abort, with the number of the signal and the registers of what it interrupted.
    pub fn signalled(&self) -> Option<(usize, u32, Registers)> {
        /// Illegal instruction, trap, abort, bus error, floating point, segment violation.
        const FATAL: [u32; 6] = [4, 5, 6, 7, 8, 11];
        (self.dump.os == Os::Linux).then_some(())?;
        self.dump.threads.iter().enumerate().find_map(|(i, thread)| {
            let (sp, registers) = self.by_unwinding(thread)?;
            let described = match self.dump.arch {
                Arch::X64 => sp.checked_add(UCONTEXT_SIZE_X64)?,
                Arch::Arm64 => sp,
                Arch::X86 | Arch::Arm => return None,
            };
            let signal = self.dump.space.u32(described).filter(|s| FATAL.contains(s))?;
            Some((i, signal, registers))
        })
    }

    /// Where the walk over native frames comes to code that was interrupted: the stack pointer of what the kernel returns to it
    /// by, and its registers.
    fn by_unwinding(&self, thread: &Thread) -> Option<(u64, Registers)> {
        let arch = self.dump.arch;
        let mut at =
            Stepped { context: Context::of_thread(arch, thread.registers.as_ref()?), exact: true, guessed: false };
        let mut walk = Walk::default();
        for _ in 0..MOST_FRAMES {
            let next = walk.next(self, &at).ok()?;
            if next.exact {
                let kept = self.kept_by_kernel(at.context.sp()).filter(|r| r.ip == next.context.ip);
                return Some((at.context.sp(), kept.or_else(|| registers_of(&next.context))?));
            }
            at = next;
        }
        None
    }

    /// What the kernel kept for a handler whose return (`__restore_rt`) has the stack pointer `sp`.
    fn kept_by_kernel(&self, sp: u64) -> Option<Registers> {
        let at = match self.dump.arch {
            Arch::X64 => sp,
            // Behind the number of the signal and a pointer to its description stands one to the registers.
            Arch::X86 => self.dump.space.u32(sp.checked_add(8)?).map(u64::from)?,
            // Behind `siginfo_t`.
            Arch::Arm64 | Arch::Arm => sp.checked_add(128)?,
        };
        user_context(&self.dump, at)
    }

    /// Without unwind data: registers on the thread's stack, or where a word of it points, beside a description of the same
    /// signal.
    fn by_signal(&self, thread: &Thread, event: &ExceptionInfo) -> Option<Registers> {
        let (dump, step) = (&self.dump, u64::from(self.dump.arch.pointer_size()));
        let sp = thread.registers.as_ref()?.sp;
        let top = thread.stack.map_or(u64::MAX, |s| s.1);
        let signal = |at: u64| {
            let word = |offset: u64| dump.space.u32(at.checked_add(offset)?);
            let address = || dump.space.ptr(at.checked_add(if step == 8 { 16 } else { 12 })?);
            word(0) == Some(event.code) && word(8) == Some(event.flags) && address() == Some(event.address)
        };
        let beside = |at: u64| match dump.arch {
            // Behind `ucontext_t` with the kernel's signal mask.
            Arch::X64 => at.checked_add(UCONTEXT_SIZE_X64).is_some_and(signal),
            Arch::X86 | Arch::Arm64 | Arch::Arm => at.checked_sub(128).is_some_and(signal),
        };
        let places = (0..MOST_WORDS).map_while(|i| sp.checked_add(i * step)).take_while(|&at| at < top);
        for at in places {
            let word = dump.space.ptr(at)?;
            if let Some(found) = [at, word].into_iter().filter(|&p| beside(p)).find_map(|p| user_context(dump, p)) {
                return Some(found);
            }
        }
        None
    }
}

/// The registers of a frame, as far as they are known, in the order of a debugger.
pub fn registers_of(context: &Context) -> Option<Registers> {
    let known = context_places(context.arch).into_iter().filter_map(|(name, ..)| Some((name, context.named(name)?)));
    from_general(context.arch, known.collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_their_places_by_number() {
        let wide = |first: u64, n: u64| (0..n).map(|i| first + 8 * i).collect::<Vec<_>>();
        assert_eq!(in_context(Arch::X64).unwrap(), (0xF8, wide(0x78, 16)));
        assert_eq!(in_context(Arch::Arm64).unwrap(), (0x108, wide(8, 32)));
        // eax, ecx, edx, ebx, esp, ebp, esi, edi.
        let x86 = vec![0xB0, 0xAC, 0xA8, 0xA4, 0xC4, 0xB4, 0xA0, 0x9C];
        assert_eq!(in_context(Arch::X86).unwrap(), (0xB8, x86));
        assert_eq!(in_context(Arch::Arm).unwrap(), (0x40, (0..16).map(|n| 4 + 4 * n).collect()));
    }
}
