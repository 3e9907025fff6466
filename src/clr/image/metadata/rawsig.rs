//! Signatures element by element, as SOS's `dumpsig` writes them: `[DEFAULT] [hasThis] Void (Class System.Uri,SZArray I4)`.
//!
//! Spelling: dotnet/diagnostics `src/SOS/Strike/metadata.cpp` (`MDInfo::GetFullNameForMD`, `GetOneElementType`); element
//! types: ECMA-335 II.23.1.16. A list of parameters has its opening parenthesis in SOS's place; the one SOS leaves out in
//! lists of local variables is written.

use super::sig::{compressed, compressed_signed, element};
use super::{Token, table, token};
use crate::dump::little_endian;

/// Deepest type followed.
const MAX_DEPTH: u32 = 64;
/// Longest text made, in bytes.
const MAX_TEXT: usize = 0x8000;

/// What a signature's tokens and handles are called.
pub trait Names {
    /// Name of a TypeDef or TypeRef.
    fn class(&self, token: Token) -> String;
    /// Name of the type with this runtime type handle.
    fn handle(&self, handle: u64) -> String;
}

/// Names by element type; what takes further parts is written by itself.
const ELEMENTS: [&str; 0x23] = [
    "End",
    "Void",
    "Boolean",
    "Char",
    "I1",
    "U1",
    "I2",
    "U2",
    "I4",
    "U4",
    "I8",
    "U8",
    "R4",
    "R8",
    "String",
    "Ptr",
    "ByRef",
    "ValueType",
    "Class",
    "Var",
    "MDArray",
    "GenericInst",
    "TypedByRef",
    "UNUSED",
    "IntPtr",
    "UIntPtr",
    "UNUSED",
    "FnPtr",
    "Object",
    "SZArray",
    "MVar",
    "CMOD_REQD",
    "CMOD_OPT",
    "INTERNAL",
    "CMOD_INTERNAL",
];

/// Names of calling conventions.
const CONVENTIONS: [&str; 16] = [
    "[DEFAULT]",
    "[C]",
    "[STDCALL]",
    "[THISCALL]",
    "[FASTCALL]",
    "[VARARG]",
    "[FIELD]",
    "[LOCALSIG]",
    "[PROPERTY]",
    "[UNMANAGED]",
    "[GENERICINST]",
    "[NATIVEVARARG]",
    "[UNKNOWN]",
    "[UNKNOWN]",
    "[UNKNOWN]",
    "[UNKNOWN]",
];

/// The signature at the start of `bytes`, and how many bytes it takes; `handle` is the size of a runtime type handle.
/// `None` when it is none, or goes on behind `bytes`.
pub fn signature(bytes: &[u8], names: &impl Names, handle: usize) -> Option<(String, usize)> {
    let mut w = Writer { rest: bytes, names, handle, out: String::new() };
    w.signature()?;
    let used = bytes.len() - w.rest.len();
    Some((w.out, used))
}

/// The type at the start of `bytes`, and how many bytes it takes.
pub fn one_type(bytes: &[u8], names: &impl Names, handle: usize) -> Option<(String, usize)> {
    let mut w = Writer { rest: bytes, names, handle, out: String::new() };
    w.ty(0)?;
    let used = bytes.len() - w.rest.len();
    Some((w.out, used))
}

struct Writer<'a, N> {
    rest: &'a [u8],
    names: &'a N,
    handle: usize,
    out: String,
}

impl<N: Names> Writer<'_, N> {
    fn push(&mut self, text: &str) {
        if self.out.len() < MAX_TEXT {
            self.out.push_str(text);
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&b, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(b)
    }

    fn number(&mut self) -> Option<u32> {
        compressed(&mut self.rest)
    }

    fn convention(&mut self, kind: u8) {
        self.push(CONVENTIONS.get(usize::from(kind & 0x0F)).copied().unwrap_or("[UNKNOWN]"));
    }

    fn signature(&mut self) -> Option<()> {
        const FIELD: u8 = 6;
        const LOCALS: u8 = 7;
        const INSTANTIATION: u8 = 10;
        let kind = self.byte()?;
        self.convention(kind);
        self.push(" ");
        if kind & 0x0F == FIELD {
            return self.ty(0);
        }
        if kind & 0x20 != 0 {
            self.push("[hasThis] ");
        }
        if kind & 0x40 != 0 {
            self.push("[explicit] ");
        }
        if kind & 0x10 != 0 {
            let n = self.number()?;
            self.push(&format!("[generic:{n}] "));
        }
        let count = self.number()?;
        if !matches!(kind & 0x0F, LOCALS | INSTANTIATION) {
            self.ty(0)?;
            self.push(" ");
        }
        self.push("(");
        self.list(count, 0)?;
        self.push(")");
        Some(())
    }

    fn list(&mut self, count: u32, depth: u32) -> Option<()> {
        // Every type takes at least a byte.
        (count as usize <= self.rest.len()).then_some(())?;
        for i in 0..count {
            if i > 0 {
                self.push(",");
            }
            self.ty(depth)?;
        }
        Some(())
    }

    fn coded(&mut self) -> Option<Token> {
        let n = self.number()?;
        let table = [table::TYPE_DEF, table::TYPE_REF, table::TYPE_SPEC].get((n & 3) as usize).copied()?;
        Some(token(table, n >> 2))
    }

    fn class(&mut self) -> Option<()> {
        let of = self.coded()?;
        let name = if of >> 24 == u32::from(table::TYPE_SPEC) { format!("{of:x}") } else { self.names.class(of) };
        self.push(&name);
        Some(())
    }

    fn pointer(&mut self) -> Option<()> {
        let (bytes, rest) = self.rest.split_at_checked(self.handle)?;
        self.rest = rest;
        let handle = little_endian(bytes);
        let name = self.names.handle(handle);
        self.push(&format!("MT {handle:x} {name}"));
        Some(())
    }

    fn ty(&mut self, depth: u32) -> Option<()> {
        (depth <= MAX_DEPTH).then_some(())?;
        let mut kind = self.byte()?;
        while matches!(kind, element::PTR | element::BYREF | element::SENTINEL | element::PINNED) {
            self.push(match kind {
                element::PTR => "Ptr ",
                element::BYREF => "ByRef ",
                element::SENTINEL => "<ELEMENT_TYPE_SENTINEL> ",
                _ => "PINNED ",
            });
            kind = self.byte()?;
        }
        match kind {
            element::VAR | element::MVAR => {
                let n = self.number()?;
                self.push(&format!("{}{n}", if kind == element::VAR { "!" } else { "!!" }));
            }
            element::GENERICINST => {
                self.ty(depth + 1)?;
                let count = self.number()?;
                self.push("<");
                self.list(count, depth + 1)?;
                self.push(">");
            }
            element::VALUETYPE | element::CLASS => {
                self.named(kind);
                self.class()?;
            }
            element::CMOD_REQD | element::CMOD_OPT => {
                self.named(kind);
                self.class()?;
                self.push(" ");
                self.ty(depth + 1)?;
            }
            element::SZARRAY => {
                self.named(kind);
                self.ty(depth + 1)?;
            }
            element::FNPTR => self.function(depth)?,
            element::INTERNAL => self.pointer()?,
            element::CMOD_INTERNAL => {
                let required = self.byte()? != 0;
                self.push(if required { "CMOD_REQD " } else { "CMOD_OPT " });
                self.pointer()?;
                self.push(" ");
                self.ty(depth + 1)?;
            }
            element::ARRAY => self.array(depth)?,
            _ if super::sig::primitive_name(kind).is_some() => self.push(ELEMENTS.get(usize::from(kind))?),
            _ => return None,
        }
        Some(())
    }

    fn named(&mut self, kind: u8) {
        self.push(ELEMENTS.get(usize::from(kind)).copied().unwrap_or("?"));
        self.push(" ");
    }

    fn function(&mut self, depth: u32) -> Option<()> {
        self.named(element::FNPTR);
        let kind = self.byte()?;
        if kind & 0x40 != 0 {
            self.push("[explicit] ");
        }
        if kind & 0x20 != 0 {
            self.push("[hasThis] ");
        }
        self.convention(kind);
        if kind & 0x10 != 0 {
            self.number()?;
        }
        let count = self.number()?;
        self.push(" ");
        self.ty(depth + 1)?;
        self.push("(");
        self.list(count, depth + 1)?;
        self.push(")");
        Some(())
    }

    /// The element's type, the rank, then count and values of sizes and of lower bounds.
    fn array(&mut self, depth: u32) -> Option<()> {
        self.named(element::ARRAY);
        self.push("{");
        self.ty(depth + 1)?;
        let rank = self.number()?;
        self.push(&format!(", {rank}"));
        let sizes = self.number()?;
        self.push(&format!(" {sizes} "));
        for _ in 0..sizes {
            let n = self.number()?;
            self.push(&format!("{n} "));
        }
        let bounds = self.number()?;
        self.push(&format!("{bounds} "));
        for _ in 0..bounds {
            let n = compressed_signed(&mut self.rest)?;
            self.push(&format!("{n} "));
        }
        self.push("}");
        Some(())
    }
}
