//! The exact type arguments of code that instantiations share: what its generic context says.
//!
//! Source: dotnet/runtime `src/coreclr/vm/eetwain.cpp` (`GetGenericContext`), `inc/gcinfotypes.h`. The context is a MethodTable,
//! a MethodDesc or the object itself; its slot is counted from the frame register since version 4 of GC information, from
//! the caller's stack pointer before: of a funclet that of its method's caller.

use super::Frame;
use super::reader::Reader;
use crate::clr::Clr;
use crate::clr::code::gcinfo::Generics;
use crate::clr::code::lookup::CodeAt;
use crate::clr::types::methodtable::MethodTable;
use crate::dump::Arch;
use crate::native::x64;

/// Deepest class hierarchy followed.
const MAX_PARENTS: usize = 256;
/// Since this version of GC information slots count from the frame register.
const BY_FRAME_REGISTER: u32 = 4;

/// The instantiation a frame runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    /// MethodTable of the class.
    pub owner: u64,
    /// MethodDesc with the method's own arguments.
    pub method: u64,
}

impl Clr {
    /// The exact instantiation of the method of `frame`; `None` where its code is not shared, or the frame does not tell.
    pub fn exact_instantiation(&self, frame: &Frame) -> Option<Exact> {
        let at = frame.code.as_ref()?;
        let md = self.method_desc(at.method?)?;
        let owner = self.method_table(md.owner)?;
        // Code that is not generic has no context to look for.
        (owner.is_generic() || md.is_generic()).then_some(())?;
        let info = self.code().gc_info(at)?;
        let (slot, kind) = info.header.generics?;
        // The prologue stores it.
        (at.in_funclet() || at.native >= info.header.prolog).then_some(())?;
        let base = if info.encoding.version >= BY_FRAME_REGISTER {
            frame.registers?.get(info.header.frame_register? as usize)?
        } else {
            match at.in_funclet() {
                true => self.caller_of_method(frame, at, info.header.psp_sym)?,
                false => frame.caller_sp?,
            }
        };
        let context = self.space().ptr(base.checked_add_signed(i64::from(slot))?).filter(|&c| c != 0)?;
        match kind {
            Generics::MethodTable => self.declaring(context, &owner).map(|owner| Exact { owner, method: md.address }),
            Generics::This => {
                let mt = self.object_type(context)?;
                self.declaring(mt, &owner).map(|owner| Exact { owner, method: md.address })
            }
            Generics::MethodDesc => {
                let exact = self.valid_method_desc(context)?;
                let same = exact.rid == md.rid && self.is_same_class(exact.owner, &owner);
                same.then_some(Exact { owner: exact.owner, method: exact.address })
            }
        }
    }

    /// Stack pointer of the caller of the method whose funclet runs in `frame`, by unwinding the method's main body. Main body
    /// and funclet have the same frame register; `psp_sym` is the slot, the same in both, where the main body's stack pointer
    /// lies, counted on x64 from that of the funclet (`PSPSym`, through 9.0).
    fn caller_of_method(&self, frame: &Frame, at: &CodeAt, psp_sym: Option<i32>) -> Option<u64> {
        let (main, mut context) = (at.main?, frame.registers.filter(|r| r.arch == Arch::X64)?);
        let kept = psp_sym.and_then(|slot| self.space().ptr(frame.sp.checked_add_signed(i64::from(slot))?));
        // Main bodies stand above their funclets. Where nothing else tells, that of a body with a frame register in its unwind
        // data does, and where that says nothing of the stack pointer, nothing is read.
        context.set_sp(kept.filter(|&sp| sp > frame.sp).unwrap_or(0));
        context.ip = main.start;
        x64::unwind(&Reader::new(self), &mut context, main.start, main.unwind, at.base, false).ok()?;
        Some(context.sp())
    }

    /// The class among `mt` and its parents that is an instantiation of `owner`'s definition.
    fn declaring(&self, mt: u64, owner: &MethodTable) -> Option<u64> {
        let mut at = self.valid_type(mt)?;
        for _ in 0..MAX_PARENTS {
            if self.is_same_class(at.address, owner) {
                return Some(at.address);
            }
            at = self.method_table(at.parent).filter(|_| at.parent != 0)?;
        }
        None
    }

    fn is_same_class(&self, mt: u64, owner: &MethodTable) -> bool {
        let canonical = |mt: &MethodTable| self.mts().canonical(mt);
        self.method_table(mt).is_some_and(|m| canonical(&m) == canonical(owner))
    }
}
