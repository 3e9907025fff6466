//! Names for tokens as ILDASM and SOS's `dumpil` spell them: `void [System.Console]System.Console::WriteLine(string)`.
//!
//! Spelling: ECMA-335 II.7.1 and dotnet/diagnostics `src/SOS/Strike/sildasm.cpp`: types of the module itself are marked
//! `[*]`, nested ones are joined by `/`. Two things go further: a method instantiation and a TypeSpec are spelled out, where
//! SOS says that it does not know the kind of token, and no name is cut.

use std::cell::Cell;

use crate::clr::image::metadata::sig::{self, compressed, element};
use crate::clr::image::metadata::{Metadata, Token, table, token};

/// Deepest type followed.
const MAX_DEPTH: u32 = 40;
/// Longest name made, in bytes; what goes further ends in dots.
const MAX_NAME: usize = 0x4000;
/// Longest text of a string token, in UTF-16 units.
const MAX_STRING: usize = 0x4000;
/// Most types written for one token.
const MAX_TYPES: u32 = 0x1000;
/// Table number of tokens of user strings.
pub const USER_STRING: u8 = 0x70;

/// What a token names.
pub fn of_token(m: &Metadata, of: Token) -> String {
    let left = Cell::new(MAX_TYPES);
    let mut p = Printer { m, out: String::new(), left: &left };
    p.token(of);
    p.out
}

/// The types in a signature of local variables.
pub fn locals(m: &Metadata, blob: &[u8]) -> Option<Vec<String>> {
    const LOCAL_SIG: u8 = 7;
    let (&kind, mut rest) = blob.split_first()?;
    (kind == LOCAL_SIG).then_some(())?;
    let count = compressed(&mut rest)?;
    let mut all = Vec::new();
    for _ in 0..count.min(0x1_0000) {
        let left = Cell::new(MAX_TYPES);
        let mut p = Printer { m, out: String::new(), left: &left };
        p.ty(&mut rest, 0)?;
        all.push(p.out);
    }
    Some(all)
}

/// A type as C# debuggers print the class of a clause: namespace and name, nested ones joined by `+`.
pub fn plain_type(m: &Metadata, of: Token) -> String {
    let rid = of & 0x00FF_FFFF;
    match (of >> 24) as u8 {
        table::TYPE_DEF => m.full_name(rid),
        table::TYPE_REF => m.typeref_full_name(rid),
        _ => of_token(m, of),
    }
}

struct Printer<'a> {
    m: &'a Metadata,
    out: String,
    /// Types that may still be written: a TypeSpec can name others any number of times.
    left: &'a Cell<u32>,
}

impl<'a> Printer<'a> {
    fn push(&mut self, text: &str) {
        if self.out.len() <= MAX_NAME {
            self.out.push_str(text);
        } else if !self.out.ends_with("...") {
            self.out.push_str("...");
        }
    }

    fn token(&mut self, of: Token) {
        let (m, rid) = (self.m, of & 0x00FF_FFFF);
        match (of >> 24) as u8 {
            table::TYPE_DEF | table::TYPE_REF => {
                let name = self.own_name(of);
                self.push(&name);
            }
            table::TYPE_SPEC => self.spec(of, 0),
            table::FIELD => match m.field(rid) {
                Some(f) => {
                    let owner =
                        m.field_owner(rid).map_or_else(String::new, |o| self.own_name(token(table::TYPE_DEF, o)));
                    self.push(&format!("{owner}::{}", f.name));
                }
                None => self.push("<unknown field def>"),
            },
            table::METHOD_DEF => self.method(rid, None),
            table::MEMBER_REF => self.member(rid, None),
            table::METHOD_SPEC => match m.methodspec(rid) {
                Some((method, arguments)) => {
                    let row = method & 0x00FF_FFFF;
                    match (method >> 24) as u8 {
                        table::METHOD_DEF => self.method(row, Some(arguments)),
                        _ => self.member(row, Some(arguments)),
                    }
                }
                None => self.push("<unknown method spec>"),
            },
            table::STAND_ALONE_SIG => match m.standalone_sig(rid) {
                Some(blob) => {
                    let parts = self.signature(blob);
                    let (result, params) = parts.unwrap_or_default();
                    self.push(&format!("{result}{params}"));
                }
                None => self.push("<unknown signature>"),
            },
            USER_STRING => match m.user_string(rid) {
                Some(units) => {
                    let text = String::from_utf16_lossy(units.get(..MAX_STRING).unwrap_or(&units));
                    self.push(&format!("\"{text}\""));
                }
                None => self.push(&format!("STRING {of:x}")),
            },
            _ => self.push(&format!("<unknown token type {:08x}>", of & 0xFF00_0000)),
        }
    }

    /// Namespace and name of a type, without what encloses it.
    fn own_name(&self, of: Token) -> String {
        let rid = of & 0x00FF_FFFF;
        let (found, missing) = match (of >> 24) as u8 {
            table::TYPE_DEF => (self.m.typedef(rid).map(|t| (t.namespace, t.name)), "<unknown type def>"),
            _ => (self.m.typeref(rid).map(|t| (t.namespace, t.name)), "<unknown type ref>"),
        };
        match found {
            Some(("", name)) => name.to_owned(),
            Some((namespace, name)) => format!("{namespace}.{name}"),
            None => missing.to_owned(),
        }
    }

    fn method(&mut self, rid: u32, arguments: Option<&'a [u8]>) {
        let m = self.m;
        let Some(row) = m.method(rid) else { return self.push("<unknown method def>") };
        let owner = m.method_owner(rid).map_or_else(String::new, |o| self.own_name(token(table::TYPE_DEF, o)));
        self.called(&owner, row.name, row.signature, arguments);
    }

    fn member(&mut self, rid: u32, arguments: Option<&'a [u8]>) {
        let m = self.m;
        let Some(row) = m.memberref(rid) else { return self.push("<unknown member ref>") };
        let owner = match row.parent.map(|p| ((p >> 24) as u8, p)) {
            Some((table::TYPE_DEF | table::TYPE_REF, p)) => self.own_name(p),
            Some((table::TYPE_SPEC, p)) => {
                let mut inner = Printer { m, out: String::new(), left: self.left };
                inner.spec(p, 0);
                inner.out
            }
            Some((table::METHOD_DEF, p)) => {
                let owner = m.method_owner(p & 0x00FF_FFFF);
                owner.map_or_else(String::new, |o| self.own_name(token(table::TYPE_DEF, o)))
            }
            _ => "<unknown type token>".to_owned(),
        };
        self.called(&owner, row.name, row.signature, arguments);
    }

    /// `RESULT Owner::Name<arguments>(parameters)`; of a field owner and name alone.
    fn called(&mut self, owner: &str, name: &str, signature: &[u8], arguments: Option<&[u8]>) {
        let (result, params) = self.signature(signature).unwrap_or_default();
        let result = if result.is_empty() { result } else { result + " " };
        let generic = arguments.and_then(|a| self.arguments(a)).unwrap_or_default();
        self.push(&format!("{result}{owner}::{name}{generic}{params}"));
    }

    /// The arguments of a method instantiation (ECMA-335 II.23.2.15).
    fn arguments(&self, blob: &[u8]) -> Option<String> {
        const GENERIC_INST: u8 = 0x0A;
        let (&kind, mut rest) = blob.split_first()?;
        (kind == GENERIC_INST).then_some(())?;
        let count = compressed(&mut rest)?;
        let mut inner = Printer { m: self.m, out: String::from("<"), left: self.left };
        for i in 0..count.min(0x1_0000) {
            if i > 0 {
                inner.push(",");
            }
            inner.ty(&mut rest, 0)?;
        }
        inner.push(">");
        Some(inner.out)
    }

    /// Result and parameters of a method's signature; of a field's nothing, as SOS prints fields by their name alone.
    fn signature(&self, blob: &[u8]) -> Option<(String, String)> {
        let mut rest = blob;
        let mut inner = Printer { m: self.m, out: String::new(), left: self.left };
        let count = inner.head(&mut rest)?;
        let Some(count) = count else { return Some(Default::default()) };
        inner.ty(&mut rest, 0)?;
        let result = std::mem::take(&mut inner.out);
        inner.push("(");
        for i in 0..count {
            if i > 0 {
                inner.push(",");
            }
            inner.ty(&mut rest, 0)?;
        }
        inner.push(")");
        Some((result, inner.out))
    }

    /// Reads what stands in front of the types of a signature; the number of parameters of a method.
    fn head(&mut self, rest: &mut &[u8]) -> Option<Option<u32>> {
        let (&convention, tail) = rest.split_first()?;
        *rest = tail;
        if convention & 0x0F == 6 {
            return Some(None);
        }
        if convention & 0x10 != 0 {
            compressed(rest)?;
        }
        let count = compressed(rest)?;
        Some(Some(count).filter(|&c| c as usize <= rest.len()))
    }

    /// Appends the name of a TypeSpec.
    fn spec(&mut self, of: Token, depth: u32) {
        let blob = self.m.typespec(of & 0x00FF_FFFF);
        let written = blob.and_then(|mut b| self.ty(&mut b, depth + 1));
        if written.is_none() {
            self.push("<Invalid record>");
        }
    }

    /// A class with its scope: `[System.Runtime]System.Uri`, `[*]Zoo.Box/Inner`.
    fn class(&mut self, of: Token, depth: u32) {
        if depth > MAX_DEPTH {
            return self.push("...");
        }
        let (m, rid) = (self.m, of & 0x00FF_FFFF);
        let kind = (of >> 24) as u8;
        match kind {
            table::TYPE_SPEC => return self.spec(of, depth),
            table::TYPE_DEF => match m.enclosing(rid) {
                Some(outer) => {
                    self.class(token(table::TYPE_DEF, outer), depth + 1);
                    self.push("/");
                }
                None => self.push("[*]"),
            },
            table::TYPE_REF => match m.typeref(rid).and_then(|t| t.scope).map(|s| ((s >> 24) as u8, s & 0x00FF_FFFF)) {
                Some((table::TYPE_REF, outer)) => {
                    self.class(token(table::TYPE_REF, outer), depth + 1);
                    self.push("/");
                }
                Some((table::ASSEMBLY_REF, a)) => {
                    let name = m.assemblyref(a).map_or("?", |a| a.name);
                    self.push(&format!("[{name}]"));
                }
                Some((table::MODULE_REF, r)) => self.push(&format!("[.module {}]", m.moduleref(r).unwrap_or("?"))),
                _ => {}
            },
            _ => return self.push(&format!(" [ERROR: INVALID TOKEN TYPE 0x{of:08X}] ")),
        }
        let name = self.own_name(of);
        self.push(&name);
    }

    fn coded(&self, rest: &mut &[u8]) -> Option<Token> {
        let n = compressed(rest)?;
        let table = [table::TYPE_DEF, table::TYPE_REF, table::TYPE_SPEC].get((n & 3) as usize).copied()?;
        Some(token(table, n >> 2))
    }

    /// Appends the type at the front of a signature.
    fn ty(&mut self, rest: &mut &[u8], depth: u32) -> Option<()> {
        let left = self.left.get().checked_sub(1).filter(|_| depth <= MAX_DEPTH)?;
        self.left.set(left);
        let mut behind = Vec::new();
        loop {
            let (&kind, tail) = rest.split_first()?;
            *rest = tail;
            match kind {
                // What stands in front of a type is written behind it, the last first.
                element::SZARRAY => behind.push("[]"),
                element::PTR => behind.push("*"),
                element::BYREF => behind.push("&"),
                element::PINNED => behind.push(" pinned"),
                element::SENTINEL => self.push("..., "),
                element::CMOD_REQD | element::CMOD_OPT => {
                    self.push(if kind == element::CMOD_REQD { " mod req " } else { " mod opt " });
                    let of = self.coded(rest)?;
                    self.class(of, depth + 1);
                }
                _ => {
                    self.single(kind, rest, depth)?;
                    break;
                }
            }
        }
        for text in behind.iter().rev() {
            self.push(text);
        }
        Some(())
    }

    fn single(&mut self, kind: u8, rest: &mut &[u8], depth: u32) -> Option<()> {
        match kind {
            element::VALUETYPE | element::CLASS => {
                self.push(if kind == element::CLASS { "class " } else { "valuetype " });
                let of = self.coded(rest)?;
                self.class(of, depth + 1);
            }
            element::VAR | element::MVAR => {
                let n = compressed(rest)?;
                self.push(&format!("{}{n}", if kind == element::VAR { "!" } else { "!!" }));
            }
            element::GENERICINST => {
                self.ty(rest, depth + 1)?;
                let count = compressed(rest)?;
                self.push("<");
                for i in 0..count.min(0x1_0000) {
                    if i > 0 {
                        self.push(",");
                    }
                    self.ty(rest, depth + 1)?;
                }
                self.push(">");
            }
            element::ARRAY => {
                self.ty(rest, depth + 1)?;
                self.shape(rest)?;
            }
            element::FNPTR => {
                let mut inner = Printer { m: self.m, out: String::new(), left: self.left };
                let count = inner.head(rest)??;
                self.push("method ");
                self.ty(rest, depth + 1)?;
                self.push(" *(");
                for i in 0..count {
                    if i > 0 {
                        self.push(",");
                    }
                    self.ty(rest, depth + 1)?;
                }
                self.push(")");
            }
            other => self.push(primitive(other)?),
        }
        Some(())
    }

    /// Dimensions of an array with their bounds, as ILDASM writes them: `[0...,0...]`.
    fn shape(&mut self, rest: &mut &[u8]) -> Option<()> {
        let rank = compressed(rest)?;
        (1..=64).contains(&rank).then_some(())?;
        let sizes: Vec<u32> = (0..compressed(rest)?.min(64)).map_while(|_| compressed(rest)).collect();
        let bounds: Vec<i32> = (0..compressed(rest)?.min(64)).map_while(|_| sig::compressed_signed(rest)).collect();
        let one = |i: usize| match (bounds.get(i).copied().unwrap_or(0), sizes.get(i)) {
            (0, Some(size)) => size.to_string(),
            (low, Some(&size)) => format!("{low}...{}", i64::from(low) + i64::from(size) - 1),
            (low, None) if i < bounds.len() => format!("{low}..."),
            _ => String::new(),
        };
        let each: Vec<String> = (0..rank as usize).map(one).collect();
        let text = if rank == 1 && sizes.is_empty() && bounds.is_empty() { "...".into() } else { each.join(",") };
        self.push(&format!("[{text}]"));
        Some(())
    }
}

/// ILDASM's name of an element type that stands for itself.
fn primitive(kind: u8) -> Option<&'static str> {
    Some(match kind {
        element::VOID => "void",
        element::BOOLEAN => "bool",
        element::CHAR => "char",
        element::I1 => "int8",
        element::U1 => "uint8",
        element::I2 => "int16",
        element::U2 => "uint16",
        element::I4 => "int32",
        element::U4 => "uint32",
        element::I8 => "int64",
        element::U8 => "uint64",
        element::R4 => "float32",
        element::R8 => "float64",
        element::U => "native uint",
        element::I => "native int",
        element::OBJECT => "object",
        element::STRING => "string",
        element::TYPEDBYREF => "typedref",
        _ => return None,
    })
}
