//! Names of closed types in the two spellings SOS has, and reading either back.
//!
//! * [`TypeName::display`]: `System.Collections.Generic.Dictionary<System.String, System.Object>+Entry[]`, as heap
//!   listings and chains print it: every nesting level takes its own arguments, backticks go.
//! * [`TypeName::reflection`]: ``System.Collections.Generic.List`1[[System.String, System.Private.CoreLib]]``, as object
//!   and MethodTable dumps print it (the runtime's `TypeString`, dotnet/runtime src/coreclr/vm/typestring.cpp, v8.0.0).
//!
//! All of it is pure: trees come from MethodTables or signatures and are told apart nowhere here.

mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use crate::clr::image::metadata::sig::{self, SigNames, TypeSig, primitive_name};
use crate::clr::image::metadata::{Metadata, Token, table};

pub use parse::{canonical, matches};

/// Deepest tree printed or read; what lies deeper prints as `...`.
pub const MAX_DEPTH: usize = 40;
/// Longest name printed, in bytes; the rest is left out.
const MAX_TEXT: usize = 0x4000;

/// A type, as far as its name goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TypeName {
    /// A class, struct or enum with its type arguments.
    Named(Named),
    /// `T[]`.
    SzArray(Box<TypeName>),
    /// An array of this many dimensions; of one: `T[*]`, an array with its own lower bound.
    MdArray(Box<TypeName>, u32),
    /// `T*`.
    Pointer(Box<TypeName>),
    /// `T&`.
    ByRef(Box<TypeName>),
    /// A function pointer; the runtime prints no more of it than `(fnptr)`.
    FnPtr,
    /// A type parameter by name.
    Param(Cow<'static, str>),
    /// A type parameter by number, of a type (`!0`) or method (`!!0`).
    Var {
        /// Number from 0.
        number: u32,
        /// Of a method.
        method: bool,
    },
    /// A type whose metadata is not at hand.
    Missing {
        /// Simple or file name of its module.
        module: Arc<str>,
        /// TypeDef token.
        token: Token,
    },
    /// A free block.
    Free,
    /// Nothing is known.
    Unknown,
}

/// A named type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Full name as metadata has it: namespace, `+` between nesting levels, backticks kept, e.g.
    /// ``System.Collections.Generic.Dictionary`2+Entry`` ([`Metadata::full_name`]).
    pub name: String,
    /// Arguments of all nesting levels, outermost first; empty for an open or plain type.
    pub args: Vec<TypeName>,
    /// Simple name of its assembly; empty when unknown.
    pub assembly: Arc<str>,
}

/// Name of one nesting level and how many arguments its backtick asks for.
fn arity(segment: &str) -> (&str, usize) {
    let plain = (segment, 0);
    let Some((name, digits)) = segment.rsplit_once('`') else { return plain };
    match digits.parse() {
        Ok(n) if !name.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => (name, n),
        _ => plain,
    }
}

impl TypeName {
    /// A plain type of an assembly.
    pub fn plain(name: impl Into<String>, assembly: impl Into<Arc<str>>) -> Self {
        Self::Named(Named { name: name.into(), args: Vec::new(), assembly: assembly.into() })
    }

    /// The spelling of heap listings, e.g. `Zoo.Node<System.Int32>+Inner<System.String>[]`.
    pub fn display(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, Spelling::Display, 0);
        out
    }

    /// The spelling of object dumps, e.g. ``Zoo.Node`1+Inner`1[[System.Int32, System.Private.CoreLib],[...]][]``.
    pub fn reflection(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, Spelling::Reflection, 0);
        out
    }

    /// The spelling of parameter lists, e.g. `Int32`, `System.String`, ``System.ValueTuple`2<Int32,System.__Canon>``:
    /// primitives without namespace, nested types by their own name alone (see [`TypeSig::print`]).
    pub fn in_signature(&self) -> String {
        let mut out = String::new();
        self.print(&mut out, Spelling::Signature, 0);
        out
    }

    /// Simple name of the assembly that goes with the name: that of the element for arrays and pointers.
    pub fn assembly(&self) -> Option<&str> {
        let mut at = self;
        for _ in 0..MAX_DEPTH {
            match at {
                Self::Named(n) => return Some(&*n.assembly).filter(|a| !a.is_empty()),
                Self::SzArray(of) | Self::MdArray(of, _) | Self::Pointer(of) | Self::ByRef(of) => at = of,
                _ => break,
            }
        }
        None
    }

    /// Whether the metadata of some part of it is not at hand.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Named(n) => n.args.iter().any(Self::is_missing),
            Self::SzArray(of) | Self::MdArray(of, _) | Self::Pointer(of) | Self::ByRef(of) => of.is_missing(),
            _ => false,
        }
    }

    fn print(&self, out: &mut String, spelling: Spelling, depth: usize) {
        if depth > MAX_DEPTH || out.len() > MAX_TEXT {
            out.push_str("...");
            return;
        }
        match self {
            Self::Named(n) => match spelling {
                Spelling::Display => n.display(out, depth),
                Spelling::Reflection => n.reflection(out, depth),
                Spelling::Signature => n.in_signature(out, depth),
            },
            Self::SzArray(of) | Self::MdArray(of, _) | Self::Pointer(of) | Self::ByRef(of) => {
                of.print(out, spelling, depth + 1);
                self.print_suffix(out, spelling);
            }
            Self::FnPtr => out.push_str("(fnptr)"),
            Self::Param(name) => out.push_str(name),
            Self::Var { number, method } => {
                let _ = write!(out, "{}{number}", if *method { "!!" } else { "!" });
            }
            Self::Missing { module, token } => {
                let _ = write!(out, "{module}!{token:#010x}");
            }
            Self::Free => out.push_str("Free"),
            Self::Unknown => out.push_str("<unknown>"),
        }
    }

    fn print_suffix(&self, out: &mut String, spelling: Spelling) {
        match self {
            Self::SzArray(_) => out.push_str("[]"),
            Self::MdArray(_, 0 | 1) => out.push_str("[*]"),
            Self::MdArray(_, rank) => {
                out.push('[');
                out.extend(std::iter::repeat_n(',', (*rank).min(32) as usize - 1));
                out.push(']');
            }
            Self::Pointer(_) => out.push('*'),
            Self::ByRef(_) if spelling == Spelling::Signature => out.push_str(" ByRef"),
            Self::ByRef(_) => out.push('&'),
            _ => {}
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Display,
    Reflection,
    Signature,
}

impl Named {
    fn display(&self, out: &mut String, depth: usize) {
        let mut args = self.args.as_slice();
        let mut segments = self.name.split('+').peekable();
        let mut first = true;
        while let Some(segment) = segments.next() {
            if !first {
                out.push('+');
            }
            first = false;
            let (bare, wanted) = arity(segment);
            // Whatever the backticks do not account for goes to the innermost level, so that nothing is lost.
            let take = if segments.peek().is_none() { args.len() } else { wanted.min(args.len()) };
            let (own, rest) = args.split_at(take);
            args = rest;
            out.push_str(if own.is_empty() { segment } else { bare });
            if !own.is_empty() {
                out.push('<');
                for (i, arg) in own.iter().enumerate() {
                    if i > 0 {
                        out.push_str(", ");
                    }
                    arg.print(out, Spelling::Display, depth + 1);
                }
                out.push('>');
            }
        }
    }

    fn reflection(&self, out: &mut String, depth: usize) {
        out.push_str(&self.name);
        if self.args.is_empty() {
            return;
        }
        out.push('[');
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            match arg.assembly() {
                Some(assembly) => {
                    out.push('[');
                    arg.print(out, Spelling::Reflection, depth + 1);
                    let _ = write!(out, ", {assembly}]");
                }
                // The runtime puts brackets only around arguments that carry an assembly.
                None => arg.print(out, Spelling::Reflection, depth + 1),
            }
        }
        out.push(']');
    }
}

impl Named {
    fn in_signature(&self, out: &mut String, depth: usize) {
        let own = self.name.rsplit('+').next().unwrap_or(&self.name);
        out.push_str(sig::short_primitive(own).unwrap_or(own));
        if self.args.is_empty() {
            return;
        }
        out.push('<');
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            arg.print(out, Spelling::Signature, depth + 1);
        }
        out.push('>');
    }
}

/// A module's names for the signatures of a method of an instantiated type.
#[derive(Debug, Clone, Copy)]
pub struct Instantiated<'a> {
    /// The module that defines the method.
    pub metadata: &'a Metadata,
    /// Arguments for `!n`.
    pub vars: &'a [TypeName],
    /// Arguments for `!!n`.
    pub mvars: &'a [TypeName],
}

impl SigNames for Instantiated<'_> {
    fn token(&self, token: Token) -> String {
        SigNames::token(self.metadata, token)
    }
    fn var(&self, number: u32) -> Option<String> {
        self.vars.get(number as usize).map(TypeName::in_signature)
    }
    fn mvar(&self, number: u32) -> Option<String> {
        self.mvars.get(number as usize).map(TypeName::in_signature)
    }
}

/// Turns the tokens and type parameters of a signature into names.
pub trait Resolve {
    /// The plain or open type behind a TypeDef, TypeRef or TypeSpec token.
    fn token(&self, token: Token) -> TypeName;
    /// Argument for type parameter `number`.
    fn var(&self, number: u32) -> TypeName {
        TypeName::Var { number, method: false }
    }
    /// Argument for method type parameter `number`.
    fn mvar(&self, number: u32) -> TypeName {
        TypeName::Var { number, method: true }
    }
    /// The type behind a runtime type handle.
    fn handle(&self, _handle: u64) -> TypeName {
        TypeName::Unknown
    }
    /// Simple name of the assembly of the primitive types.
    fn core(&self) -> Arc<str> {
        Arc::from("System.Private.CoreLib")
    }
}

impl TypeName {
    /// The type a signature spells. Signature trees are bounded where they are parsed, and so is this one.
    pub fn from_sig(sig: &TypeSig, names: &impl Resolve) -> Self {
        let boxed = |of: &TypeSig| Box::new(Self::from_sig(of, names));
        match sig {
            TypeSig::Primitive(e) => primitive_name(*e).map_or(Self::Unknown, |n| Self::plain(n, names.core())),
            TypeSig::Class(t) | TypeSig::ValueType(t) => names.token(*t),
            TypeSig::Ptr(of) => Self::Pointer(boxed(of)),
            TypeSig::ByRef(of) => Self::ByRef(boxed(of)),
            TypeSig::SzArray(of) => Self::SzArray(boxed(of)),
            TypeSig::Array(of, rank) => Self::MdArray(boxed(of), *rank),
            TypeSig::Generic { token, args, .. } => {
                let args = args.iter().map(|a| Self::from_sig(a, names)).collect();
                match names.token(*token) {
                    Self::Named(open) => Self::Named(Named { args, ..open }),
                    other => other,
                }
            }
            TypeSig::Var(n) => names.var(*n),
            TypeSig::MVar(n) => names.mvar(*n),
            TypeSig::FnPtr(_) => Self::FnPtr,
            TypeSig::Internal(handle) => names.handle(*handle),
        }
    }
}

/// Names tokens by one module's metadata alone, with the type arguments of the type at hand.
///
/// A TypeRef carries the assembly it refers to, which may only forward the type; the display spelling shows none.
#[derive(Debug, Clone)]
pub struct ModuleNames<'a> {
    /// The module.
    pub metadata: &'a Metadata,
    /// Simple name of its assembly.
    pub assembly: Arc<str>,
    /// Arguments for `!n`.
    pub args: &'a [TypeName],
    /// TypeSpecs followed to get here.
    depth: usize,
}

impl<'a> ModuleNames<'a> {
    /// Names for `metadata`; `args` stand for its `!n`.
    pub fn new(metadata: &'a Metadata, assembly: Arc<str>, args: &'a [TypeName]) -> Self {
        Self { metadata, assembly, args, depth: 0 }
    }

    fn type_ref(&self, rid: u32) -> TypeName {
        let md = self.metadata;
        let assembly = match md.typeref_scope(rid) {
            Some(s) if s >> 24 == u32::from(table::ASSEMBLY_REF) => {
                md.assemblyref(s & 0x00FF_FFFF).map_or(Arc::from(""), |a| Arc::from(a.name))
            }
            _ => self.assembly.clone(),
        };
        TypeName::plain(md.typeref_full_name(rid), assembly)
    }
}

impl Resolve for ModuleNames<'_> {
    fn token(&self, token: Token) -> TypeName {
        let rid = token & 0x00FF_FFFF;
        match (token >> 24) as u8 {
            table::TYPE_DEF if self.metadata.typedef(rid).is_some() => {
                TypeName::plain(self.metadata.full_name(rid), self.assembly.clone())
            }
            table::TYPE_REF if self.metadata.typeref(rid).is_some() => self.type_ref(rid),
            // A TypeSpec may name a TypeSpec; real ones do so once or twice.
            table::TYPE_SPEC if self.depth < 4 => {
                let spec = self.metadata.typespec(rid).and_then(sig::type_spec);
                let deeper = Self { depth: self.depth + 1, ..self.clone() };
                spec.map_or(TypeName::Unknown, |s| TypeName::from_sig(&s, &deeper))
            }
            _ => TypeName::Missing { module: self.assembly.clone(), token },
        }
    }

    fn var(&self, number: u32) -> TypeName {
        self.args.get(number as usize).cloned().unwrap_or(TypeName::Var { number, method: false })
    }
}
