//! What a suspended method of runtime-async keeps (since 11.0): `Continuation` objects, one a method, innermost first.
//!
//! Layout: dotnet/runtime `System.Private.CoreLib/src/System/Runtime/CompilerServices/AsyncHelpers.CoreCLR.cs`
//! (`Continuation`, `ResumeInfo`), `src/coreclr/vm/asynccontinuations.cpp` (their types), as read in 11.0.0. The data of
//! the method stand behind the fields of `Continuation`; the flags say where in the data the contexts are.

use crate::clr::Clr;
use crate::clr::types::gcdesc::RefMap;
use crate::clr::types::methodtable::MethodTable;

/// Full name of the class.
pub const CLASS: &str = "System.Runtime.CompilerServices.Continuation";
/// Deepest class hierarchy followed: types made for suspended methods derive from `Continuation` itself, its other heirs in
/// the library from each other at most once.
const MAX_PARENTS: usize = 8;
/// Runs of references spelled in a name: no real method has more.
const MAX_RUNS: usize = 256;

/// One continuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuation {
    /// The object.
    pub address: u64,
    /// Its MethodTable.
    pub mt: u64,
    /// That of the method that awaits this one; 0 for the outermost.
    pub next: u64,
    /// Address of the `ResumeInfo`; 0 for a sentinel.
    pub resume_info: u64,
    /// What is kept and where, see [`Contexts`].
    pub flags: u32,
    /// Number of the await the method stands at, by its debug information.
    pub state: u32,
    /// Address of the method's data.
    pub data: u64,
}

/// What else a continuation keeps, by its flags: references in the data, 0 for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contexts {
    /// `ExecutionContext`.
    pub execution: u64,
    /// `SynchronizationContext` or `TaskScheduler` the method continues on.
    pub continuation: u64,
    /// Where an exception of the awaited method is put.
    pub exception: u64,
    /// Where its result is put: an address, not what is there.
    pub result_at: u64,
}

/// `ContinuationFlags` of 11.0.0, lowest bits.
pub mod flags {
    /// The method continues on the thread pool.
    pub const ON_THREAD_POOL: u32 = 1;
    /// It continues on the captured `SynchronizationContext`.
    pub const ON_SYNCHRONIZATION_CONTEXT: u32 = 2;
    /// It continues on the captured `TaskScheduler`.
    pub const ON_TASK_SCHEDULER: u32 = 4;
}

impl Continuation {
    /// The contexts and slots its flags name: numbers from 1 in units of a pointer, 0 for none.
    pub fn contexts(&self, clr: &Clr) -> Contexts {
        let (space, ptr) = (clr.space(), clr.header());
        let slot = |shift: u32, bits: u32| {
            let number = u64::from(self.flags >> shift & ((1 << bits) - 1));
            number.checked_sub(1).and_then(|n| self.data.checked_add(n.checked_mul(ptr)?)).unwrap_or(0)
        };
        let held = |at: u64| if at == 0 { 0 } else { space.ptr(at).unwrap_or(0) };
        Contexts {
            execution: held(slot(4, 2)),
            continuation: held(slot(6, 2)),
            exception: held(slot(8, 3)),
            result_at: slot(11, 21),
        }
    }

    /// Address of the code the method stands at, from the `ResumeInfo` in memory: `None` when that is not in the dump, 0
    /// for one made by hand, which stands for no method.
    pub fn diagnostic_ip(&self, clr: &Clr) -> Option<u64> {
        if self.resume_info == 0 {
            return Some(0);
        }
        clr.space().ptr_at(self.resume_info, diagnostic_ip_offset(clr))
    }
}

/// Offset of the code's address in a `ResumeInfo`: behind the stub that resumes it.
pub fn diagnostic_ip_offset(clr: &Clr) -> u64 {
    clr.layout().try_offset("AsyncResumeInfo", "DiagnosticIP").unwrap_or(clr.header())
}

impl Clr {
    /// Whether instances of `mt` are continuations.
    pub fn is_continuation(&self, mt: &MethodTable) -> bool {
        let base = self.continuation_base();
        let mut at = *mt;
        for _ in 0..MAX_PARENTS {
            if at.has_component_size() {
                return false;
            }
            let is_base = if base != 0 { at.address == base } else { &*self.type_name(at.address) == CLASS };
            if is_base {
                return true;
            }
            match self.method_table(at.parent) {
                Some(parent) if at.parent != 0 => at = parent,
                _ => return false,
            }
        }
        false
    }

    /// MethodTable of the class itself, where the runtime names it: null until a method was suspended.
    pub fn continuation_base(&self) -> u64 {
        self.layout().global("ContinuationMethodTable").ok().and_then(|cell| self.space().ptr(cell)).unwrap_or(0)
    }

    /// Whether instances of `mt` may be continuations: a cheap question, asked of every object that is named.
    pub fn may_be_continuation(&self, mt: u64) -> bool {
        let Some(table) = self.method_table(mt).filter(|t| !t.has_component_size()) else { return false };
        let base = self.continuation_base();
        match self.layout().global("ContinuationMethodTable") {
            Ok(_) => base != 0 && (table.parent == base || mt == base),
            Err(_) => self.mts().shares_class(self.space(), &table),
        }
    }

    /// The continuation at `address`; `None` when the object there is none.
    pub fn continuation(&self, address: u64) -> Option<Continuation> {
        let (space, ptr) = (self.space(), self.header());
        let mt = self.valid_method_table(self.object_type(address)?)?;
        if !self.is_continuation(&mt) {
            return None;
        }
        let base = self.continuation_class(&mt)?;
        let fields = self.fields(mt.address);
        let at = |name: &str, known: u64| {
            let field = fields.instance.iter().find(|f| &*f.name == name);
            field.map_or(known, |f| ptr + f.offset())
        };
        // Without metadata the order of the fields stands: two pointers, then two numbers.
        let word = |name, known| space.u32(address.checked_add(at(name, known))?);
        Some(Continuation {
            address,
            mt: mt.address,
            next: space.ptr_at(address, at("Next", ptr))?,
            resume_info: space.ptr_at(address, at("ResumeInfo", 2 * ptr))?,
            flags: word("Flags", 3 * ptr)?,
            state: word("State", 3 * ptr + 4)?,
            data: address.checked_add(u64::from(base.base_size).checked_sub(ptr)?)?,
        })
    }

    /// The class `Continuation` itself among a type and what it inherits from.
    fn continuation_class(&self, mt: &MethodTable) -> Option<MethodTable> {
        let mut at = *mt;
        for _ in 0..MAX_PARENTS {
            // Made types inherit directly; classes of the library from it, and it from Object.
            let parent = self.method_table(at.parent)?;
            if parent.address == self.known.object || parent.parent == 0 {
                return Some(at);
            }
            at = parent;
        }
        None
    }

    /// Name of a type made for a layout of data, as the runtime builds it: bytes of the data, then for each run of
    /// references its offset in them and its length.
    pub(in crate::clr) fn continuation_type_name(&self, mt: &MethodTable) -> Option<String> {
        if !self.mts().shares_class(self.space(), mt) {
            return None;
        }
        let (ptr, size) = (self.header(), u64::from(mt.base_size));
        let base = u64::from(self.method_table(mt.parent)?.base_size);
        let mut name = format!("Continuation_{}", size.checked_sub(base)?);
        let first = base.checked_sub(ptr)?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        RefMap::read(self.space(), mt).slots(size, ptr, |at| {
            let Some(at) = at.checked_sub(first) else { return };
            let room = runs.len() < MAX_RUNS;
            match runs.last_mut() {
                Some((start, count)) if *start + *count * ptr == at => *count += 1,
                _ if room => runs.push((at, 1)),
                _ => {}
            }
        });
        for (start, count) in runs {
            name.push_str(&format!("_{start}_{count}"));
        }
        Some(name)
    }
}
