//! References among the arguments of a call that has come to a stub: the registers its frame keeps, and the stack behind them.
//!
//! Source: dotnet/runtime release/8.0 `src/coreclr/vm/frames.cpp` (`TransitionFrame::PromoteCallerStack`), `vm/callingconvention.h`
//! (`ArgIterator`), `vm/amd64/cgencpu.h`, `vm/arm64/cgencpu.h` (`ArgumentRegisters`). What depends on the layout of structs or on
//! type arguments is not told here.

use super::contexts::{self, transition_block};
use super::frames::Explicit;
use crate::clr::Clr;
use crate::clr::image::metadata::sig::{self, MethodSig, TypeSig, element};
use crate::dump::{Arch, Os};

/// Bits of a calling convention (ECMA-335 II.23.2.1).
const HAS_THIS: u8 = 0x20;
const EXPLICIT_THIS: u8 = 0x40;
const GENERIC: u8 = 0x10;
const KIND: u8 = 0x0F;

/// A slot that holds a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Its address.
    pub address: u64,
    /// It may point into an object, or at something that is none.
    pub interior: bool,
}

/// What an argument is to the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Reference,
    Interior,
    Number,
    Float,
}

/// Where arguments lie.
struct Places {
    /// First slot of a register, and how many registers there are.
    registers: (u64, u64),
    /// Registers for floating-point numbers; none where those take the place of others.
    floats: Option<u64>,
    /// First slot on the stack.
    stack: u64,
}

impl Clr {
    /// Slots of references that the call at the stub's frame passes; `None` where its method or its arguments cannot be told.
    pub(super) fn passed_on(&self, frame: &Explicit) -> Option<Vec<Passed>> {
        let md = self.method_desc(self.method_of_frame(frame)?)?;
        let owner = self.method_table(md.owner)?;
        let module = self.module(self.defining_module(&owner)?);
        let signature = sig::method(module.metadata(self)?.method(md.rid)?.signature)?;
        let places = self.places(frame)?;
        let shared = !self.type_arguments(&owner).is_empty();
        let this = if owner.is_value_type() { What::Interior } else { What::Reference };
        let arguments = told(&signature, this, shared)?;
        let (mut out, mut taken, mut floats, mut on_stack) = (Vec::new(), 0, 0, 0);
        let ptr = self.header();
        for what in arguments {
            let register = match (what, places.floats) {
                (What::Float, Some(all)) if floats < all => {
                    floats += 1;
                    continue;
                }
                (What::Float, Some(_)) => None,
                _ => Some(taken).filter(|&n| n < places.registers.1),
            };
            let address = match register {
                Some(n) => {
                    taken += 1;
                    places.registers.0.checked_add(n * ptr)?
                }
                None => {
                    on_stack += 1;
                    places.stack.checked_add((on_stack - 1) * ptr)?
                }
            };
            if matches!(what, What::Reference | What::Interior) {
                out.push(Passed { address, interior: what == What::Interior });
            }
        }
        Some(out)
    }

    /// x86: bytes of arguments that the function the frame stands for takes off the stack when it returns; `None` where its
    /// method or its arguments cannot be told.
    pub(super) fn popped_by(&self, frame: &Explicit) -> Option<u64> {
        (self.dump.arch == Arch::X86).then_some(())?;
        let md = self.method_desc(self.method_of_frame(frame)?)?;
        let owner = self.method_table(md.owner)?;
        let module = self.module(self.defining_module(&owner)?);
        let signature = sig::method(module.metadata(self)?.method(md.rid)?.signature)?;
        on_stack_x86(&signature, !self.type_arguments(&owner).is_empty())
    }

    /// Where the arguments of a call lie that a stub's frame stands for.
    fn places(&self, frame: &Explicit) -> Option<Places> {
        let block = contexts::field(self, frame.address, ("FramedMethodFrame", "TransitionBlockPtr"), 2)?;
        let block = self.space().ptr(block)?;
        let end = block.checked_add(transition_block(self).2)?;
        let described = |own: Option<u64>| {
            let at = self.layout().try_offset("TransitionBlock", "ArgumentRegisters");
            at.map_or(own, |at| block.checked_add(at))
        };
        Some(match (self.dump.arch, self.dump.os) {
            // rdi rsi rdx rcx r8 r9 stand first in the block.
            (Arch::X64, Os::Linux) => Places { registers: (described(Some(block))?, 6), floats: Some(8), stack: end },
            // The stub has put rcx rdx r8 r9 where the caller left room for them, in front of the rest.
            (Arch::X64, Os::Windows) => Places { registers: (end, 4), floats: None, stack: end.checked_add(4 * 8)? },
            // x0 to x7 close the block.
            (Arch::Arm64, _) => {
                Places { registers: (described(end.checked_sub(8 * 8))?, 8), floats: Some(8), stack: end }
            }
            _ => return None,
        })
    }
}

/// The arguments in their order, `this` first; `None` where structs, type parameters or a variable number are among them, or
/// the result may need room that the caller passes. `shared`: the class has type arguments, which a call may pass too.
fn told(signature: &MethodSig, this: What, shared: bool) -> Option<Vec<What>> {
    const VARARG: u8 = 5;
    let convention = signature.convention;
    let plain =
        convention & (GENERIC | EXPLICIT_THIS) == 0 && convention & KIND != VARARG && signature.generic_count == 0;
    let has_this = convention & HAS_THIS != 0;
    let passes_types = shared && (!has_this || this == What::Interior);
    (plain && !passes_types).then_some(())?;
    what(&signature.result)?;
    let first = has_this.then_some(this).map(Some);
    first.into_iter().chain(signature.params.iter().map(what)).collect()
}

/// x86: bytes of the arguments that lie on the stack: all but the first two that are one word and no floating-point number
/// (dotnet/coreclr `src/vm/callingconvention.h`, `IsArgumentInRegister`).
fn on_stack_x86(signature: &MethodSig, shared: bool) -> Option<u64> {
    const REGISTERS: u32 = 2;
    let all = told(signature, What::Reference, shared)?;
    let has_this = all.len().checked_sub(signature.params.len())?;
    let (mut taken, mut bytes) = (has_this as u32, 0);
    for ty in &signature.params {
        match ty {
            TypeSig::Primitive(element::I8 | element::U8 | element::R8) => bytes += 8,
            TypeSig::Primitive(element::R4) => bytes += 4,
            _ if taken < REGISTERS => taken += 1,
            _ => bytes += 4,
        }
    }
    Some(bytes)
}

fn what(ty: &TypeSig) -> Option<What> {
    Some(match ty {
        TypeSig::Primitive(element::R4 | element::R8) => What::Float,
        TypeSig::Primitive(element::STRING | element::OBJECT) => What::Reference,
        TypeSig::Primitive(element::TYPEDBYREF) => return None,
        TypeSig::Primitive(_) | TypeSig::Ptr(_) | TypeSig::FnPtr(_) => What::Number,
        TypeSig::Class(_) | TypeSig::SzArray(_) | TypeSig::Array(..) | TypeSig::Generic { value_type: false, .. } => {
            What::Reference
        }
        TypeSig::ByRef(_) => What::Interior,
        TypeSig::ValueType(_) | TypeSig::Generic { .. } | TypeSig::Var(_) | TypeSig::MVar(_) | TypeSig::Internal(_) => {
            return None;
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn all(blob: &[u8], shared: bool) -> Option<Vec<What>> {
        told(&sig::method(blob)?, What::Reference, shared)
    }

    #[test]
    fn x86_passes_two_words_in_registers() {
        let bytes = |blob: &[u8]| on_stack_x86(&sig::method(blob).unwrap(), false);
        // void (object, int, double, ref string, object[]) of an instance: `this` and the object go in registers.
        assert_eq!(bytes(&[0x20, 5, 0x01, 0x1C, 0x08, 0x0D, 0x10, 0x0E, 0x1D, 0x1C]), Some(20));
        // bool (object, uint, bool, bool), static.
        assert_eq!(bytes(&[0x00, 4, 0x02, 0x1C, 0x09, 0x02, 0x02]), Some(8));
        // A long never does, what is behind it may.
        assert_eq!(bytes(&[0x00, 3, 0x01, 0x0A, 0x08, 0x08]), Some(8));
        assert_eq!(bytes(&[0x00, 1, 0x01, 0x11, 0x09]), None);
    }

    #[test]
    fn arguments_are_told_unless_their_size_or_kind_is_not_known() {
        use What::{Float, Interior, Number, Reference};
        // void (object, int, double, ref string, object[]) of an instance.
        let blob = [0x20, 5, 0x01, 0x1C, 0x08, 0x0D, 0x10, 0x0E, 0x1D, 0x1C];
        assert_eq!(all(&blob, false), Some(vec![Reference, Reference, Number, Float, Interior, Reference]));
        assert_eq!(all(&blob, true).map(|a| a.len()), Some(6));
        // The same without an instance: of a class with type arguments they may be passed too.
        let plain = [0x00, 1, 0x01, 0x1C];
        assert_eq!(all(&plain, false), Some(vec![Reference]));
        assert_eq!(all(&plain, true), None);
        // A struct, a type parameter, a result that is a struct, a generic method.
        assert_eq!(all(&[0x00, 1, 0x01, 0x11, 0x09], false), None);
        assert_eq!(all(&[0x00, 1, 0x01, 0x13, 0], false), None);
        assert_eq!(all(&[0x00, 0, 0x11, 0x09], false), None);
        assert_eq!(all(&[0x10, 1, 0, 0x01], false), None);
    }
}
