//! What a walk reads: the stack, tables of code, and which method an address is in.

use std::cell::RefCell;

use rustc_hash::FxHashMap;

use super::registers::Context;
use super::x86;
use crate::clr::Clr;
use crate::clr::code::lookup::{Code, CodeAt, CodeKind};
use crate::clr::code::ranges::RangeKind;
use crate::native::x64::Memory;

/// What a walk reads, with the code met so far.
pub struct Reader<'a> {
    pub clr: &'a Clr,
    pub code: Code<'a>,
    met: RefCell<FxHashMap<u64, Option<CodeAt>>>,
}

impl Memory for Reader<'_> {
    fn pointer(&self, address: u64) -> Option<u64> {
        self.clr.space().ptr(address)
    }

    fn table(&self, address: u64, most: usize) -> Vec<u8> {
        self.code.bytes(address, most)
    }
}

impl<'a> Reader<'a> {
    pub fn new(clr: &'a Clr) -> Self {
        Self { clr, code: clr.code(), met: RefCell::default() }
    }

    fn at(&self, ip: u64) -> Option<CodeAt> {
        if let Some(known) = self.met.borrow().get(&ip) {
            return *known;
        }
        let found = self.code.at(ip);
        self.met.borrow_mut().insert(ip, found);
        found
    }

    /// Whether `ip` is in a method, one that cannot be told among them; stubs are none.
    pub fn is_method(&self, ip: u64) -> bool {
        match self.at(ip) {
            Some(at) => !matches!(at.kind, CodeKind::Stub(_)),
            None => self.code.range_at(ip).is_some_and(|r| matches!(r.kind, RangeKind::Image(_) | RangeKind::Ahead)),
        }
    }

    /// The code that made the call whose return address is `ip`, or that `ip` is in.
    pub fn code_of(&self, ip: u64, leaf: bool) -> Option<CodeAt> {
        let at = self.at(ip);
        let starts = at.is_none_or(|a| a.native == 0 || a.function.is_some_and(|f| f.start == ip));
        if leaf || !starts {
            return at;
        }
        // A call that does not return may be a method's last instruction.
        let before = ip.checked_sub(1).and_then(|b| self.at(b));
        before.map(|b| b.behind()).or(at)
    }

    /// x86: the stack pointer of the method with the registers `context` when it has pushed no arguments.
    pub fn frame_base(&self, context: &Context) -> Option<u64> {
        let info = self.clr.kept_frame_info(&self.code_of(context.ip, false)?)?;
        if info.header.frame { x86::base_of(self, &info.header, context.fp()?) } else { None }
    }

    /// x86: whether nothing speaks against `ip` being a return address.
    pub fn may_be_return(&self, ip: u64) -> bool {
        let code = ip.checked_sub(1).is_some_and(|at| self.clr.space().readable(at));
        !code || !self.is_method(ip) || self.is_return(ip)
    }

    /// x86: whether `ip` is behind a call in a method.
    pub fn is_return(&self, ip: u64) -> bool {
        let calls = |back: u64, test: fn(&[u8]) -> bool| {
            let code = ip.checked_sub(back).and_then(|at| self.clr.space().bytes(at, back as usize));
            code.is_some_and(|c| test(&c))
        };
        // call rel32; call [m32]; call register or [register]; call [register + disp8].
        let is_call = || {
            calls(5, |c| c.first() == Some(&0xE8))
                || calls(6, |c| matches!(c, [0xFF, m, ..] if m & 0x38 == 0x10))
                || calls(2, |c| matches!(c, [0xFF, m] if m & 0x38 == 0x10))
                || calls(3, |c| matches!(c, [0xFF, m, _] if m & 0xF8 == 0x50))
        };
        self.is_method(ip) && is_call()
    }

    /// Where `address` is, for people.
    pub fn place(&self, address: u64) -> String {
        match self.clr.dump.module_at(address) {
            Some(m) => format!("{}+{:x}", m.file_name(), address - m.base),
            None => format!("{address:x}"),
        }
    }
}
