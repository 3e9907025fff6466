//! What addresses and values in machine code stand for: methods behind stubs and cells, types, objects, statics, native
//! functions.

use std::sync::Arc;

use super::Session;
use crate::clr::code::disasm::{Flow, LONGEST, Machine, Registers, Source};
use crate::clr::code::imports::Import;
use crate::clr::code::lookup::{CodeAt, CodeKind};

/// Longest text of a string shown, in UTF-16 units.
const MAX_STRING: usize = 0x1000;
/// Most jumps of a chain of stubs followed.
const MAX_HOPS: usize = 4;
/// Most instructions of a stub.
const MAX_STUB: usize = 8;
/// Below lies nothing: numbers so small are numbers.
const LOWEST: u64 = 0x1_0000;

/// What a place in code leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Called {
    /// A managed method.
    Method {
        /// Its full name.
        name: String,
        /// Its MethodDef token; 0 without one.
        token: u32,
        /// Bytes behind its first instruction.
        offset: u32,
    },
    /// A helper of the runtime.
    Helper(&'static str),
    /// Code the runtime makes or looks up for a type: what it is for.
    For(String),
    /// A native function, or a place in a module.
    Native(String),
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// The MethodTable of the type of this name.
    MethodTable(Arc<str>),
    /// A string with this text.
    Text(String),
    /// An object of the type of this name.
    Object(Arc<str>),
    /// The MethodDesc of the method of this name.
    MethodDesc(String),
    /// The slot of the static field of this name.
    Static(Arc<str>),
    /// Code.
    Code(Called),
}

impl Session {
    /// How code of this dump is read; `None` where its instructions are not known.
    pub fn machine(&self) -> Option<Machine> {
        Machine::new(self.dump().arch, self.dump().os)
    }

    /// Up to `most` bytes of code at `address`: from the dump, else from the file of the image it lies in.
    pub fn code_bytes(&self, address: u64, most: usize) -> Vec<u8> {
        if let Ok(clr) = self.clr()
            && clr.code().is_managed(address)
        {
            return clr.code().bytes(address, most);
        }
        let mut bytes = vec![0; most];
        let n = match self.native().image_at(address) {
            Some(opened) => opened.image.read(&self.dump().space, address - opened.image.base, &mut bytes),
            None => self.dump().space.read(address, &mut bytes),
        };
        bytes.truncate(n);
        bytes
    }

    /// The name of a native address: the one place where native code gets names.
    pub fn native_name(&self, address: u64) -> Option<String> {
        self.native().place(address).map(|place| place.to_string())
    }

    /// What lies at an address that code calls or jumps to.
    pub fn called(&self, address: u64) -> Option<Called> {
        self.called_through(address, MAX_HOPS)
    }

    fn called_through(&self, address: u64, hops: usize) -> Option<Called> {
        if address < LOWEST {
            return None;
        }
        if let Ok(clr) = self.clr() {
            let at = clr.code().at(address);
            if let Some(at) = at.filter(|a| !matches!(a.kind, CodeKind::Stub(_))) {
                return clr.code().name(&at).map(|name| of_method(name, &at));
            }
            if let Some(md) = clr.method_of_stub(address) {
                let token = if md.is_dynamic() { 0 } else { md.token() };
                return Some(Called::Method { name: clr.method_name(&md), token, offset: 0 });
            }
        }
        let through = hops.checked_sub(1).and_then(|hops| self.called_through(self.leads_to(address)?, hops));
        match through {
            Some(method @ Called::Method { .. }) => Some(method),
            // A native function that begins like a stub is still itself.
            other => self.native_name(address).map(Called::Native).or(other),
        }
    }

    /// What the code at an address belongs to: jumps are not followed.
    pub fn place_of_code(&self, address: u64) -> Option<Called> {
        self.called_through(address, 0)
    }

    /// Where the stub at `address` jumps to, if it is one: a few instructions that run into a jump. One that counts calls
    /// branches where the count is used up; what it is for lies straight on.
    fn leads_to(&self, address: u64) -> Option<u64> {
        let machine = self.machine()?;
        let bytes = self.code_bytes(address, MAX_STUB * LONGEST);
        let read = |at: u64| self.dump().space.ptr(at);
        let mut registers = Registers::default();
        for i in machine.instructions(&bytes, address).take(MAX_STUB) {
            match i.flow {
                Flow::Jump => return registers.value(i.target?, &read).filter(|&to| to != address),
                Flow::Next | Flow::Branch => registers.step(&machine, &i, &read),
                _ => return None,
            }
        }
        None
    }

    /// What a number in code stands for.
    pub fn meaning(&self, value: u64) -> Option<Meaning> {
        let clr = self.clr().ok()?;
        if value < LOWEST {
            return None;
        }
        if value.is_multiple_of(clr.header()) {
            if clr.valid_type(value).is_some() {
                return Some(Meaning::MethodTable(clr.type_name(value)));
            }
            if let Some(meaning) = self.object_meaning(value) {
                return Some(meaning);
            }
            if let Some(md) = clr.valid_method_desc(value) {
                return Some(Meaning::MethodDesc(clr.method_name(&md)));
            }
            if let Some(name) = self.static_at(value) {
                return Some(Meaning::Static(name));
            }
        }
        let at = clr.code().at(value).filter(|a| !matches!(a.kind, CodeKind::Stub(_)));
        at.and_then(|at| Some(Meaning::Code(of_method(clr.code().name(&at)?, &at))))
    }

    fn object_meaning(&self, value: u64) -> Option<Meaning> {
        let clr = self.clr().ok()?;
        self.heap().ok()?.segment_at(value)?;
        let object = self.walker().ok()?.object_at(value)?;
        let mt = object.ty.mt.address;
        if mt == clr.known.string {
            return clr.string_at(value, MAX_STRING).map(|s| Meaning::Text(s.1));
        }
        // Free blocks are no objects that code knows.
        (mt != clr.known.free).then(|| Meaning::Object(clr.type_name(mt)))
    }

    /// What a place in memory that code reads or writes stands for: a static field, else what the pointer there is.
    pub fn cell_meaning(&self, at: u64) -> Option<Meaning> {
        if let Some(name) = self.static_at(at) {
            return Some(Meaning::Static(name));
        }
        let now = self.dump().space.ptr(at).and_then(|v| self.meaning(v));
        now.or_else(|| match self.clr().ok()?.code().import(at)? {
            Import::Method(name, token) => Some(Meaning::Code(Called::Method { name, token, offset: 0 })),
            Import::Helper(name) => Some(Meaning::Code(Called::Helper(name))),
            Import::Text(text) => Some(Meaning::Text(text)),
            Import::Type(name) => Some(Meaning::MethodTable(name.into())),
            Import::OfType(what, name) => Some(Meaning::Code(Called::For(format!("{what} {name}")))),
        })
    }

    /// What a cell of a precompiled image is for, where it does not lead to a managed method yet.
    fn imported(&self, cell: u64) -> Option<Called> {
        Some(match self.clr().ok()?.code().import(cell)? {
            Import::Method(name, token) => Called::Method { name, token, offset: 0 },
            Import::Helper(name) => Called::Helper(name),
            Import::OfType(what, name) => Called::For(format!("{what} {name}")),
            Import::Text(_) | Import::Type(_) => return None,
        })
    }

    /// What a call or jump leads to, by the place it names and what registers hold.
    pub fn destination(&self, target: Source, registers: &Registers) -> Option<(Option<u64>, Option<Called>)> {
        let read = |at: u64| self.clr().ok().and_then(|c| c.code().pointer(at)).or_else(|| self.dump().space.ptr(at));
        let to = registers.value(target, &read);
        let known = to.and_then(|to| self.called(to));
        if matches!(known, Some(Called::Method { .. })) {
            return Some((to, known));
        }
        let cell = match registers.place(target)? {
            Source::Memory(cell) => Some(cell),
            _ => None,
        };
        Some((to, cell.and_then(|cell| self.imported(cell)).or(known)))
    }
}

fn of_method(name: String, at: &CodeAt) -> Called {
    Called::Method { name, token: at.token.unwrap_or(0), offset: at.native }
}

impl Called {
    /// As SOS writes it behind a call.
    pub fn text(&self, width: usize) -> String {
        match self {
            Called::Method { name, token: 0, offset: 0 } => name.clone(),
            Called::Method { name, token, offset: 0 } => format!("{name}, mdToken: {token:0width$x}"),
            Called::Method { name, offset, .. } => format!("{name}+0x{offset:x}"),
            Called::Helper(name) => format!("JitHelp: {name}"),
            Called::For(what) | Called::Native(what) => what.clone(),
        }
    }
}
