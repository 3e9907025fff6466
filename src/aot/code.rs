//! Managed code of a program compiled ahead of time: where it lies, which function an address is in, which method that
//! function belongs to.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/unix/UnixNativeCodeManager.cpp` (the data behind a function's unwind
//! information), `inc/rhbinder.h` (`PInvokeTransitionFrame`).

use crate::clr::ahead::CompiledCode;
use crate::native::context::names;
use crate::native::{Context, Native};

use super::Aot;

/// Kinds of functions in the first byte of their data: 0 is a method's main body.
const FUNCTION_KIND: u8 = 3;
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
        let image = native.image_at(ip)?.image.base;
        Some(CompiledCode { start: self.main_body(native, function.0).unwrap_or(function.0), function, image })
    }

    /// Start of the method that the funclet at `start` belongs to; `None` where it is no funclet.
    fn main_body(&self, native: &Native, start: u64) -> Option<u64> {
        let (space, data) = (&self.dump.space, native.language_data_at(start)?);
        if space.u8(data)? & FUNCTION_KIND == 0 {
            return None;
        }
        let distance = space.u32(data.checked_add(METHOD_AT)?)?;
        Some(start.wrapping_sub(i64::from(distance as i32) as u64))
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

    fn is_code(&self, ip: u64) -> bool {
        self.managed_code().iter().any(|r| (r.0..r.1).contains(&ip))
    }
}
