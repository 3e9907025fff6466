//! The method a continuation belongs to: by the address of its code.

use std::sync::{Arc, PoisonError};

use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::runtime::continuations::{Continuation, diagnostic_ip_offset};
use crate::heap::TypeInfo;
use crate::session::Session;

/// Methods remembered by their `ResumeInfo`: a program has a few thousand awaits, a hostile dump any number.
const MAX_KEPT: usize = 1 << 16;
/// What stands in front of the name of an object that is a suspended method.
pub const PREFIX: &str = "async ";

/// A method of runtime-async, at an await.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AsyncMethod {
    /// Address of the code it stands at; 0 when it is not known.
    pub ip: u64,
    /// Its MethodDesc, 0 when it is not known.
    pub method: u64,
    /// Name without parameters, as heap listings spell types; empty when it is not known.
    pub name: String,
    /// Full name as SOS prints it.
    pub long_name: String,
    /// IL offset of the await.
    pub il_offset: Option<u32>,
    /// Source file and line of it.
    pub line: Option<(Arc<str>, u32)>,
    /// What is missing.
    pub missing: Option<String>,
}

impl AsyncMethod {
    /// The name, or what there is instead of one.
    pub fn label(&self) -> Arc<str> {
        match (&self.missing, self.name.is_empty()) {
            (_, false) => Arc::from(self.name.as_str()),
            (Some(why), true) => Arc::from(format!("method not known: {why}")),
            (None, true) => Arc::from(format!("method at {:x}", self.ip)),
        }
    }
}

/// Methods found so far, by the address of their `ResumeInfo`; `None` for what stands for no method.
pub type Kept = std::sync::RwLock<rustc_hash::FxHashMap<u64, Option<Arc<AsyncMethod>>>>;

/// Names of methods that objects are listed under, and their numbers.
pub type Groups = std::sync::RwLock<(Vec<Arc<str>>, rustc_hash::FxHashMap<Arc<str>, u32>)>;
/// Numbers of methods begin here: there are never so many types.
const METHODS: u32 = 1 << 31;

impl Session {
    /// The method a continuation belongs to; `None` when it was made by hand and stands for none.
    pub fn suspended_method(&self, c: &Continuation) -> Option<Arc<AsyncMethod>> {
        let known = self.async_methods.read().unwrap_or_else(PoisonError::into_inner).get(&c.resume_info).cloned();
        if let Some(known) = known {
            return known;
        }
        let clr = self.clr().ok()?;
        let found = match resumes_at(clr, c) {
            Some(0) => None,
            Some(ip) => Some(self.async_method_at(ip)),
            None => {
                let of =
                    clr.dump.module_at(c.resume_info).map_or_else(String::new, |m| format!(" of {}", m.file_name()));
                let why = format!(
                    "its ResumeInfo at {:x}{of} is not in the dump; give the file's folder with .exepath or -i",
                    c.resume_info
                );
                Some(Arc::new(AsyncMethod { missing: Some(why), ..AsyncMethod::default() }))
            }
        };
        let mut kept = self.async_methods.write().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_KEPT {
            kept.insert(c.resume_info, found.clone());
        }
        found
    }

    /// The method whose code `ip` is in, with the await it stands at.
    pub fn async_method_at(&self, ip: u64) -> Arc<AsyncMethod> {
        let mut out = AsyncMethod { ip, ..AsyncMethod::default() };
        if let Ok(clr) = self.clr() {
            match clr.code().at(ip) {
                Some(at) => fill(clr, &at, &mut out),
                None => out.missing = Some(format!("the code at {ip:x} is of no method that can be told")),
            }
        }
        Arc::new(out)
    }

    /// Name of an object where one is listed: the type's, or of a suspended method its own behind `async`.
    pub fn object_name(&self, address: u64) -> Arc<str> {
        let Ok(clr) = self.clr() else { return Arc::from("?") };
        let owner = || clr.ahead()?.owner_of_statics(clr.native(), address);
        if let Some(owner) = owner() {
            return format!("static base of {owner}").into();
        }
        let mt = clr.object_type(address).unwrap_or(0);
        self.method_name_of(clr, address, mt).unwrap_or_else(|| clr.type_name(mt))
    }

    /// Whether every object whose MethodTable this is has the type's name in [`Session::object_name`].
    pub fn is_named_by_type(&self, mt: u64) -> bool {
        self.clr().is_ok_and(|clr| clr.ahead().is_none() && !clr.may_be_continuation(mt))
    }

    /// Number under which the object at `address`, of type `ty`, is listed with others like it: that of its type, or of
    /// its method, as continuations of one method have several types and share them with others.
    pub fn group_of(&self, address: u64, ty: &TypeInfo) -> u32 {
        let name = self.clr().ok().and_then(|clr| self.method_name_of(clr, address, ty.mt.address));
        let Some(name) = name else { return ty.id };
        let mut groups = self.method_groups.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&n) = groups.1.get(&name) {
            return n;
        }
        if groups.0.len() >= MAX_KEPT {
            return ty.id;
        }
        let n = METHODS + groups.0.len() as u32;
        groups.0.push(name.clone());
        groups.1.insert(name, n);
        n
    }

    /// What the number of a group stands for.
    pub fn group_name(&self, group: u32) -> Arc<str> {
        let unknown = || Arc::from("?");
        if let Some(n) = group.checked_sub(METHODS) {
            let groups = self.method_groups.read().unwrap_or_else(PoisonError::into_inner);
            return groups.0.get(n as usize).cloned().unwrap_or_else(unknown);
        }
        match (self.types().by_id(group), self.clr()) {
            (Some(ty), Ok(clr)) => clr.type_name(ty.mt.address),
            _ => unknown(),
        }
    }

    /// As [`Session::object_name`], of a continuation alone.
    fn method_name_of(&self, clr: &Clr, address: u64, mt: u64) -> Option<Arc<str>> {
        if !clr.may_be_continuation(mt) {
            return None;
        }
        let method = self.suspended_method(&clr.continuation(address)?)?;
        Some(Arc::from(format!("{PREFIX}{}", method.label())))
    }
}

/// Where the method continues: from the `ResumeInfo` in memory, or from the file of a precompiled image, whose pointers
/// count from the base it was linked for.
fn resumes_at(clr: &Clr, c: &Continuation) -> Option<u64> {
    if let Some(ip) = c.diagnostic_ip(clr) {
        return Some(ip);
    }
    let code = clr.code();
    let range = code.ranges().iter().find(|r| r.start <= c.resume_info && c.resume_info < r.end)?;
    let number = |bytes: Vec<u8>| bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
    // ECMA-335 II.25.2.3: ImageBase of the optional header, of a 64-bit image at 24.
    let header = code.bytes(range.start.checked_add(0x3C)?, 4);
    let header = u64::from(u32::from_le_bytes(*header.first_chunk::<4>()?));
    let base = number(code.bytes(range.start.checked_add(header)?.checked_add(24 + 24)?, 8))?;
    let value = number(code.bytes(c.resume_info.checked_add(diagnostic_ip_offset(clr))?, 8))?;
    if value == 0 {
        return Some(0);
    }
    let ip = range.start.checked_add(value.checked_sub(base)?)?;
    (ip < range.end).then_some(ip)
}

fn fill(clr: &Clr, at: &CodeAt, out: &mut AsyncMethod) {
    out.method = at.method.unwrap_or(0);
    out.long_name = clr.code().name(at).unwrap_or_default();
    out.il_offset = clr.code().il_of_suspension(at);
    let line = out.il_offset.and_then(|il| clr.code().line(at, il));
    out.line = line.map(|l| (Arc::from(&*l.document), l.line));
    let plain = out.long_name.split('(').next().unwrap_or_default();
    let md = at.method.and_then(|m| clr.method_desc(m)).filter(|m| !m.is_dynamic());
    out.name = match md.and_then(|m| Some(format!("{}.{}", clr.type_name(m.owner), clr.method_simple_name(&m)?))) {
        Some(name) => name,
        None => plain.to_owned(),
    };
    if out.long_name.is_empty() {
        out.name.clear();
        out.missing = Some(format!("the method at {:x} has no name in the dump", at.start));
    }
}
