//! Signatures: types as small trees (ECMA-335 II.23.2) and the runtime's way to print a method with its parameters.

use super::{Metadata, Token, table};

/// Deepest tree parsed; deeper signatures are refused.
const MAX_DEPTH: usize = 48;
/// Bytes of a blob that are looked at: a tree must not outgrow what real code has.
const MAX_BLOB: usize = 0x2000;

/// Element types that stand for themselves, numbered as in ECMA-335 II.23.1.16.
#[allow(missing_docs, reason = "the names are those of ECMA-335")]
pub mod element {
    pub const VOID: u8 = 0x01;
    pub const BOOLEAN: u8 = 0x02;
    pub const CHAR: u8 = 0x03;
    pub const I1: u8 = 0x04;
    pub const U1: u8 = 0x05;
    pub const I2: u8 = 0x06;
    pub const U2: u8 = 0x07;
    pub const I4: u8 = 0x08;
    pub const U4: u8 = 0x09;
    pub const I8: u8 = 0x0A;
    pub const U8: u8 = 0x0B;
    pub const R4: u8 = 0x0C;
    pub const R8: u8 = 0x0D;
    pub const STRING: u8 = 0x0E;
    pub const PTR: u8 = 0x0F;
    pub const BYREF: u8 = 0x10;
    pub const VALUETYPE: u8 = 0x11;
    pub const CLASS: u8 = 0x12;
    pub const VAR: u8 = 0x13;
    pub const ARRAY: u8 = 0x14;
    pub const GENERICINST: u8 = 0x15;
    pub const TYPEDBYREF: u8 = 0x16;
    pub const I: u8 = 0x18;
    pub const U: u8 = 0x19;
    pub const FNPTR: u8 = 0x1B;
    pub const OBJECT: u8 = 0x1C;
    pub const SZARRAY: u8 = 0x1D;
    pub const MVAR: u8 = 0x1E;
    pub const CMOD_REQD: u8 = 0x1F;
    pub const CMOD_OPT: u8 = 0x20;
    pub const INTERNAL: u8 = 0x21;
    pub const CMOD_INTERNAL: u8 = 0x22;
    pub const SENTINEL: u8 = 0x41;
    pub const PINNED: u8 = 0x45;
}
use crate::dump::little_endian;
use element::*;

/// Full name of the class behind a primitive element type, e.g. `System.Int32` for [`element::I4`].
pub fn primitive_name(element: u8) -> Option<&'static str> {
    Some(match element {
        VOID => "System.Void",
        BOOLEAN => "System.Boolean",
        CHAR => "System.Char",
        I1 => "System.SByte",
        U1 => "System.Byte",
        I2 => "System.Int16",
        U2 => "System.UInt16",
        I4 => "System.Int32",
        U4 => "System.UInt32",
        I8 => "System.Int64",
        U8 => "System.UInt64",
        R4 => "System.Single",
        R8 => "System.Double",
        STRING => "System.String",
        TYPEDBYREF => "System.TypedReference",
        I => "System.IntPtr",
        U => "System.UIntPtr",
        OBJECT => "System.Object",
        _ => return None,
    })
}

/// The name signatures print for a primitive by its full name: `Int32` for `System.Int32`; `None` for other types,
/// string and object among them.
pub fn short_primitive(full_name: &str) -> Option<&str> {
    let element = (VOID..=OBJECT).find(|&e| primitive_name(e) == Some(full_name))?;
    if matches!(element, STRING | OBJECT) { None } else { full_name.get(7..) }
}

/// A type as a signature spells it. Custom modifiers and `pinned` are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeSig {
    /// An element type that stands for itself; [`primitive_name`] names it.
    Primitive(u8),
    /// A reference type by token.
    Class(Token),
    /// A value type by token.
    ValueType(Token),
    /// `T*`.
    Ptr(Box<TypeSig>),
    /// `ref T`.
    ByRef(Box<TypeSig>),
    /// `T[]`.
    SzArray(Box<TypeSig>),
    /// An array of `rank` dimensions, or of one with a lower bound (`T[*]`).
    Array(Box<TypeSig>, u32),
    /// A generic type (token) with its arguments; whether it is a value type.
    Generic {
        /// The open type.
        token: Token,
        /// Value type or class.
        value_type: bool,
        /// Arguments, those of enclosing types first.
        args: Vec<TypeSig>,
    },
    /// Type parameter by number.
    Var(u32),
    /// Method type parameter by number.
    MVar(u32),
    /// Function pointer.
    FnPtr(Box<MethodSig>),
    /// A runtime type handle in signatures the runtime makes itself in memory.
    Internal(u64),
}

/// A method signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MethodSig {
    /// Calling convention byte (0x20 has this, 0x10 generic).
    pub convention: u8,
    /// Number of method type parameters.
    pub generic_count: u32,
    /// Return type.
    pub result: TypeSig,
    /// Parameters.
    pub params: Vec<TypeSig>,
}

/// Takes a compressed unsigned integer off the front (ECMA-335 II.23.2).
pub fn compressed(bytes: &mut &[u8]) -> Option<u32> {
    let (&first, rest) = bytes.split_first()?;
    let extra = match first {
        0..0x80 => {
            *bytes = rest;
            return Some(u32::from(first));
        }
        0x80..0xC0 => 1,
        0xC0..0xE0 => 3,
        _ => return None,
    };
    let mut value = u32::from(first & if extra == 1 { 0x3F } else { 0x1F });
    for &b in rest.get(..extra)? {
        value = value << 8 | u32::from(b);
    }
    *bytes = rest.get(extra..)?;
    Some(value)
}

/// A signed compressed number: the sign is rotated to the lowest bit (ECMA-335 II.23.2).
pub fn compressed_signed(bytes: &mut &[u8]) -> Option<i32> {
    let before = bytes.len();
    let raw = compressed(bytes)?;
    let half = match before - bytes.len() {
        1 => 1 << 6,
        2 => 1 << 13,
        _ => 1 << 28,
    };
    let value = (raw >> 1) as i32;
    Some(if raw & 1 != 0 { value - half } else { value })
}

/// The type of a field signature.
pub fn field(blob: &[u8]) -> Option<TypeSig> {
    let (&kind, rest) = blob.split_first()?;
    (kind & 0x0F == 0x06).then(|| Parser::new(rest).ty(0))?
}

/// A method signature. Generic instantiations of methods and local variables are other things and answer `None`.
pub fn method(blob: &[u8]) -> Option<MethodSig> {
    Parser::new(blob).method(0)
}

/// Types of a method's local variables, from a signature of them (ECMA-335 II.23.2.6).
pub fn locals(blob: &[u8]) -> Option<Vec<TypeSig>> {
    const LOCAL_SIG: u8 = 7;
    let mut p = Parser::new(blob);
    (p.byte()? == LOCAL_SIG).then_some(())?;
    p.types(0)
}

/// As [`method`], of a signature the runtime made itself in memory: type handles in it have `handle` bytes.
pub fn method_in_memory(blob: &[u8], handle: u8) -> Option<MethodSig> {
    Parser { handle: usize::from(handle), ..Parser::new(blob) }.method(0)
}

/// The type of a TypeSpec blob.
pub fn type_spec(blob: &[u8]) -> Option<TypeSig> {
    Parser::new(blob).ty(0)
}

/// An integral constant or boolean, char included, widened to 64 bits; `None` for other element types.
pub fn integer(element: u8, bytes: &[u8]) -> Option<i64> {
    fn le<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
        bytes.first_chunk().copied()
    }
    Some(match element {
        BOOLEAN | U1 => i64::from(u8::from_le_bytes(le(bytes)?)),
        I1 => i64::from(i8::from_le_bytes(le(bytes)?)),
        CHAR | U2 => i64::from(u16::from_le_bytes(le(bytes)?)),
        I2 => i64::from(i16::from_le_bytes(le(bytes)?)),
        U4 => i64::from(u32::from_le_bytes(le(bytes)?)),
        I4 => i64::from(i32::from_le_bytes(le(bytes)?)),
        I8 | U8 => i64::from_le_bytes(le(bytes)?),
        _ => return None,
    })
}

struct Parser<'a> {
    rest: &'a [u8],
    /// Bytes of a runtime type handle.
    handle: usize,
}

impl<'a> Parser<'a> {
    fn new(blob: &'a [u8]) -> Self {
        Self { rest: blob.get(..MAX_BLOB).unwrap_or(blob), handle: 8 }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&b, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(b)
    }

    fn number(&mut self) -> Option<u32> {
        compressed(&mut self.rest)
    }

    /// TypeDefOrRefEncoded.
    fn token(&mut self) -> Option<Token> {
        let n = self.number()?;
        let table = [table::TYPE_DEF, table::TYPE_REF, table::TYPE_SPEC].get((n & 3) as usize).copied()?;
        Some(super::token(table, n >> 2))
    }

    /// One type. Every node takes at least one byte, so that the tree is no larger than the blob.
    fn ty(&mut self, depth: usize) -> Option<TypeSig> {
        if depth > MAX_DEPTH {
            return None;
        }
        let boxed = |p: &mut Self| p.ty(depth + 1).map(Box::new);
        loop {
            return Some(match self.byte()? {
                CMOD_REQD | CMOD_OPT => {
                    self.number()?;
                    continue;
                }
                // A modifier by handle: whether it is required, then the type.
                CMOD_INTERNAL => {
                    self.byte()?;
                    self.internal()?;
                    continue;
                }
                PINNED | SENTINEL => continue,
                PTR => TypeSig::Ptr(boxed(self)?),
                BYREF => TypeSig::ByRef(boxed(self)?),
                SZARRAY => TypeSig::SzArray(boxed(self)?),
                VALUETYPE => TypeSig::ValueType(self.token()?),
                CLASS => TypeSig::Class(self.token()?),
                VAR => TypeSig::Var(self.number()?),
                MVAR => TypeSig::MVar(self.number()?),
                ARRAY => self.array(depth)?,
                GENERICINST => self.generic(depth)?,
                FNPTR => TypeSig::FnPtr(Box::new(self.method(depth + 1)?)),
                INTERNAL => self.internal()?,
                other => TypeSig::Primitive(primitive_name(other).map(|_| other)?),
            });
        }
    }

    fn array(&mut self, depth: usize) -> Option<TypeSig> {
        let element = Box::new(self.ty(depth + 1)?);
        let rank = self.number()?;
        // Sizes, then lower bounds: each list has its own count. They do not show in names.
        for _ in 0..2 {
            for _ in 0..self.number()? {
                self.number()?;
            }
        }
        Some(TypeSig::Array(element, rank.clamp(1, 32)))
    }

    fn generic(&mut self, depth: usize) -> Option<TypeSig> {
        let value_type = self.byte()? == VALUETYPE;
        let token = self.token()?;
        let args = self.types(depth)?;
        Some(TypeSig::Generic { token, value_type, args })
    }

    fn types(&mut self, depth: usize) -> Option<Vec<TypeSig>> {
        let count = self.number()? as usize;
        (count <= self.rest.len()).then_some(())?;
        (0..count).map(|_| self.ty(depth + 1)).collect()
    }

    fn internal(&mut self) -> Option<TypeSig> {
        let (handle, rest) = self.rest.split_at_checked(self.handle)?;
        self.rest = rest;
        Some(TypeSig::Internal(little_endian(handle)))
    }

    fn method(&mut self, depth: usize) -> Option<MethodSig> {
        let convention = self.byte()?;
        // 6 field, 7 local variables, 8 property, 10 generic method instantiation.
        (!matches!(convention & 0x0F, 6 | 7 | 8 | 10)).then_some(())?;
        let generic_count = if convention & 0x10 != 0 { self.number()? } else { 0 };
        let count = self.number()? as usize;
        (count <= self.rest.len()).then_some(())?;
        let result = self.ty(depth + 1)?;
        let params = (0..count).map(|_| self.ty(depth + 1)).collect::<Option<_>>()?;
        Some(MethodSig { convention, generic_count, result, params })
    }
}

/// Names for the tokens and type parameters of a signature.
pub trait SigNames {
    /// Name of a TypeDef, TypeRef or TypeSpec.
    fn token(&self, token: Token) -> String;
    /// Argument for a type parameter, already spelled; `None` prints `!n`.
    fn var(&self, _number: u32) -> Option<String> {
        None
    }
    /// Argument for a method type parameter, already spelled; `None` prints `!!n`.
    fn mvar(&self, _number: u32) -> Option<String> {
        None
    }
    /// Name for a runtime type handle.
    fn handle(&self, handle: u64) -> String {
        format!("{handle:#x}")
    }
}

/// The names of one module; type parameters stay `!n`. Nested types give their own name alone, as the runtime prints
/// them in parameter lists (dotnet/runtime src/coreclr/vm/sigformat.cpp, v8.0.0).
impl SigNames for Metadata {
    fn token(&self, token: Token) -> String {
        let rid = token & 0x00FF_FFFF;
        let (namespace, name) = match (token >> 24) as u8 {
            table::TYPE_DEF => self.typedef(rid).map(|t| (t.namespace, t.name)),
            table::TYPE_REF => self.typeref(rid).map(|t| (t.namespace, t.name)),
            _ => None,
        }
        .unwrap_or(("", ""));
        match (namespace.is_empty(), name.is_empty()) {
            (_, true) => format!("{token:#010x}"),
            (true, _) => name.to_owned(),
            (false, _) => format!("{namespace}.{name}"),
        }
    }
}

/// Longest text a signature is printed to; the rest is left out.
const MAX_TEXT: usize = 0x4000;

impl TypeSig {
    /// Appends the type as SOS prints parameters: primitives without `System.`, `ref` as ` ByRef`, generic arguments
    /// in angle brackets without blanks.
    pub fn print(&self, out: &mut String, names: &impl SigNames) {
        if out.len() > MAX_TEXT {
            return;
        }
        match self {
            TypeSig::Primitive(e @ (STRING | OBJECT)) => out.push_str(primitive_name(*e).unwrap_or("?")),
            TypeSig::Primitive(e) => out.push_str(primitive_name(*e).and_then(|n| n.get(7..)).unwrap_or("?")),
            TypeSig::Class(t) | TypeSig::ValueType(t) => out.push_str(&names.token(*t)),
            TypeSig::Ptr(of) => suffixed(of, "*", out, names),
            TypeSig::ByRef(of) => suffixed(of, " ByRef", out, names),
            TypeSig::SzArray(of) => suffixed(of, "[]", out, names),
            TypeSig::Array(of, 1) => suffixed(of, "[*]", out, names),
            TypeSig::Array(of, rank) => {
                let commas = ",".repeat((*rank as usize).saturating_sub(1));
                suffixed(of, &format!("[{commas}]"), out, names);
            }
            TypeSig::Generic { token, args, .. } => {
                out.push_str(&names.token(*token));
                out.push('<');
                list(args, ",", out, names);
                out.push('>');
            }
            TypeSig::Var(n) => out.push_str(&names.var(*n).unwrap_or_else(|| format!("!{n}"))),
            TypeSig::MVar(n) => out.push_str(&names.mvar(*n).unwrap_or_else(|| format!("!!{n}"))),
            TypeSig::FnPtr(method) => {
                method.result.print(out, names);
                out.push_str(" (");
                list(&method.params, ", ", out, names);
                out.push(')');
            }
            TypeSig::Internal(handle) => out.push_str(&names.handle(*handle)),
        }
    }
}

fn suffixed(of: &TypeSig, suffix: &str, out: &mut String, names: &impl SigNames) {
    of.print(out, names);
    out.push_str(suffix);
}

fn list(types: &[TypeSig], separator: &str, out: &mut String, names: &impl SigNames) {
    for (i, t) in types.iter().enumerate() {
        if out.len() > MAX_TEXT {
            return;
        }
        if i > 0 {
            out.push_str(separator);
        }
        t.print(out, names);
    }
}

impl MethodSig {
    /// The parameter list as SOS prints it behind a method's name: `(Int32, System.String, Boolean ByRef)`.
    pub fn print_params(&self, names: &impl SigNames) -> String {
        let mut out = String::from("(");
        list(&self.params, ", ", &mut out, names);
        out.push(')');
        out
    }
}
