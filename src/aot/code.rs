//! Managed code of a program compiled ahead of time: where it lies, which function an address is in, which method that
//! function belongs to.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/unix/UnixNativeCodeManager.cpp` (the data behind a function's unwind
//! information), `windows/CoffNativeCodeManager.cpp` (the same, directly behind it), `inc/rhbinder.h`
//! (`PInvokeTransitionFrame`). Data of a method's main body: a byte of flags, the distances of its own data and of its
//! exception clauses, where it has such, GC information. Of a funclet: flags, the distance to the data of the method, its own
//! distance from the method's start; on Windows flags alone: its method is the first before it in the table that is a main body.

use crate::clr::ahead::CompiledCode;
use crate::native::context::names;
use crate::native::image::Format;
use crate::native::{Context, Native};

use super::Aot;

/// Kinds of functions in the first byte of their data: 0 is a method's main body.
const FUNCTION_KIND: u8 = 3;
const FILTER: u8 = 2;
/// Flags in the same byte: a distance follows.
const HAS_CLAUSES: u8 = 4;
const HAS_DATA: u8 = 0x10;
/// Funclets of one method.
const MOST_FUNCLETS: usize = 1 << 12;
/// Where a funclet's distance from its method stands in its data: behind the kind and the distance to the method's data.
const METHOD_AT: u64 = 5;
/// Registers that a transition frame keeps, by bit, in the order they lie in it; the names are those of `Context`.
const SAVED: [(u32, &str); 9] = [
    (0x1, "rbx"),
    (0x2, "rsi"),
    (0x4, "rdi"),
    (0x8, "rbp"),
    (0x10, "r12"),
    (0x20, "r13"),
    (0x40, "r14"),
    (0x80, "r15"),
    (0x8000, "rsp"),
];

impl Aot {
    /// The stretches of managed code.
    pub fn managed_code(&self) -> Vec<(u64, u64)> {
        let field = |name| {
            let instance = self.layout.global("RuntimeInstance").ok()?;
            self.dump.space.ptr_at(instance, self.layout.try_offset("RuntimeInstance", name)?)
        };
        let range = field("ManagedCodeStartRange").zip(field("ManagedCodeRangeSize"));
        let whole = range.and_then(|(start, size)| Some((start, start.checked_add(size)?)));
        whole.filter(|r| r.0 != 0 && r.1 > r.0).into_iter().collect()
    }

    /// The code at `ip`.
    pub fn compiled_code(&self, native: &Native, ip: u64) -> Option<CompiledCode> {
        let function = native.function_at(ip)?;
        let image = &native.image_at(ip)?.image;
        let windows = matches!(image.format, Format::Pe(_));
        let bare = CompiledCode {
            start: function.0,
            function,
            image: image.base,
            gc_info: None,
            clauses: false,
            filter: false,
        };
        let told = || {
            let data = native.language_data_at(function.0)?;
            let kind = self.dump.space.u8(data)? & FUNCTION_KIND;
            let (start, data) = match kind {
                0 => (function.0, data),
                _ if windows => self.main_before(native, function.0)?,
                _ => self.main_body(function.0, data)?,
            };
            let flags = self.dump.space.u8(data)?;
            let distances = 4 * (u64::from(flags & HAS_DATA != 0) + u64::from(flags & HAS_CLAUSES != 0));
            let gc_info = data.checked_add(1 + distances);
            Some(CompiledCode { start, gc_info, clauses: flags & HAS_CLAUSES != 0, filter: kind == FILTER, ..bare })
        };
        Some(told().unwrap_or(bare))
    }

    /// Start and data of the method that the funclet at `start` belongs to, by the funclet's own data.
    fn main_body(&self, start: u64, data: u64) -> Option<(u64, u64)> {
        let distance = |at: u64| Some(i64::from(self.dump.space.u32(at)? as i32));
        let of_method = data.checked_add(1)?;
        let main = of_method.wrapping_add_signed(distance(of_method)?);
        Some((start.wrapping_sub(distance(data.checked_add(METHOD_AT)?)? as u64), main))
    }

    /// The same of a funclet in an image for Windows, by the order of the table.
    fn main_before(&self, native: &Native, mut start: u64) -> Option<(u64, u64)> {
        for _ in 0..MOST_FUNCLETS {
            start = native.function_before(start)?.0;
            let data = native.language_data_at(start)?;
            if self.dump.space.u8(data)? & FUNCTION_KIND == 0 {
                return Some((start, data));
            }
        }
        None
    }

    /// Bytes of code of the method at `start`, funclets included: they follow its main body.
    pub fn length_of(&self, native: &Native, start: u64) -> Option<u64> {
        let mut end = native.function_at(start)?.1;
        for _ in 0..MOST_FUNCLETS {
            match self.compiled_code(native, end) {
                Some(next) if next.start == start && next.function.1 > end => end = next.function.1,
                _ => break,
            }
        }
        end.checked_sub(start)
    }

    /// What the runtime noted as the thread left managed code.
    pub fn noted(&self, thread: u64) -> Option<Context> {
        let (space, l) = (&self.dump.space, &self.layout);
        let at = space.ptr_at(thread, l.try_offset("Thread", "TransitionFrame")?)?;
        // Small negative numbers stand for the top of the stack and for a thread that was interrupted.
        if !(0x1_0000..=u64::MAX - 0x1_0000).contains(&at) {
            return None;
        }
        let place = |name| at.checked_add(l.try_offset("TransitionFrame", name)?);
        let flags = space.u32(place("Flags")?)?;
        let (mut slot, mut sp, mut saved) = (place("Registers")?, None, Vec::new());
        for (bit, name) in SAVED.into_iter().filter(|s| flags & s.0 != 0) {
            let value = space.ptr(slot)?;
            match bit {
                0x8000 => sp = Some(value),
                _ => saved.push((name, value)),
            }
            slot = slot.checked_add(8)?;
        }
        // The instruction pointer stored lies before the call; where it returns to is the word below the stack pointer.
        let sp = sp?;
        let ip = space.ptr(sp.checked_sub(8)?)?;
        let ip = if self.is_code(ip) { ip } else { space.ptr(place("IP")?)? };
        let mut context = Context::new(self.dump.arch, ip, sp);
        for (name, value) in saved {
            let number = names(self.dump.arch).iter().position(|n| *n == name);
            context.put(number.unwrap_or(usize::MAX), Some(value));
        }
        context.set_fp(space.ptr(place("FramePointer")?));
        Some(context)
    }

    /// Whether managed code is there.
    pub fn is_code(&self, ip: u64) -> bool {
        self.managed_code().iter().any(|r| (r.0..r.1).contains(&ip))
    }
}
