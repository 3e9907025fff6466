//! Methods without metadata: those a program makes with `DynamicMethod`, and the stubs the runtime writes in IL.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/method.hpp` (`StoredSigMethodDesc`: signature, its length in 32 bits, on 64 bits
//! the extended flags beside it; `DynamicMethodDesc`: name, resolver, on 32 bits the extended flags in front or behind),
//! `dynamicmethod.h` and `ilstubresolver.h`: both kinds of resolver keep the method they resolve. That is the proof.

use std::sync::Arc;

use crate::clr::Clr;
use crate::clr::image::metadata::sig::{self, SigNames};
use crate::clr::image::metadata::{Metadata, Token};
use crate::clr::layout::relative_pointer;

use super::methods::MethodDesc;

/// Words of a resolver in which the method it resolves is looked for.
const RESOLVER_WORDS: u64 = 24;
/// Longest name read, in bytes.
const MAX_NAME: usize = 0x400;
/// Longest signature read, in bytes.
const MAX_SIGNATURE: u32 = 0x1000;
/// `FlagIsLCGMethod` and `FlagIsILStub` since 7.0; both clear before, where the lower half held method attributes.
const KIND_BITS: u32 = 0xC000;
const IS_LCG: u32 = 0x4000;
/// `nomdLCGMethod` through 6.0.
const WAS_LCG: u32 = 0x2_0000;

/// Where a method without metadata keeps what others have there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts {
    /// Where the pointer to its signature lies; a word further on, the bytes of it.
    signature: u64,
    /// Where the pointer to its name lies.
    name: u64,
    /// Where its extended flags lie.
    flags: u64,
    /// Whether its resolver leads back to it.
    proved: bool,
}

impl Clr {
    /// Whether `md` is a method without metadata, proved by its resolver.
    pub(super) fn is_proved_dynamic(&self, md: &MethodDesc) -> bool {
        md.rid == 0 && self.dynamic_parts(md).is_some_and(|p| p.proved)
    }

    fn dynamic_parts(&self, md: &MethodDesc) -> Option<Parts> {
        let (space, ptr) = (self.space(), self.header());
        let base = md.address.checked_add(self.method_base()).filter(|_| md.is_dynamic())?;
        let leads_back = |resolver: u64| {
            let mut words = (0..RESOLVER_WORDS).map_while(|i| space.ptr_at(resolver, i * ptr));
            resolver != 0 && words.any(|w| w == md.address)
        };
        // On 32 bits a word with the flags may stand in front of the name.
        let last = if ptr == 4 { 3 } else { 2 };
        let found = (2..=last).find(|i| space.ptr_at(base, (i + 1) * ptr).is_some_and(leads_back));
        let at = found.unwrap_or(2);
        let flags = match (ptr, at) {
            (8, _) => 12,
            (_, 2) => 4 * ptr,
            _ => 2 * ptr,
        };
        let place = |offset: u64| base.checked_add(offset);
        Some(Parts { signature: base, name: place(at * ptr)?, flags: place(flags)?, proved: found.is_some() })
    }

    /// The managed resolver of a method a program made with `DynamicMethod`: a `DynamicResolver` that its resolver keeps by
    /// a handle. Its type is the proof, so that no offset is needed.
    pub fn managed_resolver(&self, md: &MethodDesc) -> Option<u64> {
        let (space, ptr) = (self.space(), self.header());
        let parts = self.dynamic_parts(md).filter(|p| p.proved)?;
        let resolver = space.ptr_at(parts.name, ptr)?;
        let words = (0..RESOLVER_WORDS).map_while(|i| space.ptr_at(resolver, i * ptr));
        let object = |handle: u64| {
            let object = space.ptr(handle).filter(|&o| o != 0 && o.is_multiple_of(ptr))?;
            let mt = self.object_type(object).and_then(|mt| self.valid_method_table(mt))?;
            (&*self.type_name(mt.address) == "System.Reflection.Emit.DynamicResolver").then_some(object)
        };
        words.filter(|&w| w != 0 && w.is_multiple_of(ptr)).find_map(object)
    }

    /// Full name of a method without metadata as SOS prints it: `DynamicClass.Name(Int32)`,
    /// `ILStubClass.IL_STUB_PInvoke()`. `None` for all others.
    pub(super) fn dynamic_method_name(&self, md: &MethodDesc) -> Option<String> {
        let parts = self.dynamic_parts(md)?;
        let flags = self.space().u32(parts.flags)?;
        let made = if flags & KIND_BITS != 0 { flags & IS_LCG != 0 } else { flags & WAS_LCG != 0 };
        let class = if made { "DynamicClass" } else { "ILStubClass" };
        let name = self.either_pointer(parts.name, |at| self.text_at(at));
        let name = name.unwrap_or_else(|| format!("MethodDesc_{:x}", md.address));
        let length = self.space().u32(parts.signature.checked_add(self.header())?).filter(|&n| n <= MAX_SIGNATURE);
        let parse = |at| sig::method_in_memory(&self.space().bytes(at, length? as usize)?, self.ptr_size());
        let module = self.method_table(md.owner).and_then(|mt| self.defining_module(&mt)).map(|m| self.module(m));
        let names = InMemory { clr: self, metadata: module.as_ref().and_then(|m| m.metadata(self)) };
        let params = self.either_pointer(parts.signature, parse).map(|s| s.print_params(&names));
        Some(format!("{class}.{name}{}", params.as_deref().unwrap_or("(?)")))
    }

    /// Reads through the pointer at `at`, which is a distance in some builds of 2.1 and 2.2.
    fn either_pointer<T>(&self, at: u64, read: impl Fn(u64) -> Option<T>) -> Option<T> {
        let plain = self.space().ptr(at).filter(|&p| p != 0).and_then(&read);
        plain.or_else(|| read(relative_pointer(self.space(), at).filter(|&p| p != 0)?))
    }

    /// The UTF-8 text that ends with a zero at `at`; `None` when what is there is no text.
    fn text_at(&self, at: u64) -> Option<String> {
        let run = self.space().run(at)?;
        let length = run.iter().take(MAX_NAME).position(|&b| b == 0)?;
        let text = std::str::from_utf8(run.get(..length)?).ok()?;
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    }
}

/// Signatures made in memory name types by handle, and by token where they are those of a module.
struct InMemory<'a> {
    clr: &'a Clr,
    metadata: Option<&'a Arc<Metadata>>,
}

impl SigNames for InMemory<'_> {
    fn token(&self, token: Token) -> String {
        self.metadata.map_or_else(|| format!("{token:#010x}"), |m| SigNames::token(&**m, token))
    }

    fn handle(&self, handle: u64) -> String {
        self.clr.handle_tree(handle).in_signature()
    }
}
