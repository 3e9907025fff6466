//! The invariants: what must hold in a dump if the values of a provider are right. Each names the fields it vouches for;
//! a failing one takes them out of the layout.

mod frames;
mod heap;
mod locks;
mod tails;
mod threads;
mod types;

pub use threads::is_inside;

use super::gcdac::GcDacVars;
use super::report::RuntimeModule;
use super::verdict::{Check, Verdict};
use super::{Layout, Source};
use crate::clr::types::methodtable::{MethodTable, MtReader};
use crate::dump::{AddressSpace, Dump};

/// What a check looks at.
pub struct Probe<'a> {
    /// The dump.
    pub dump: &'a Dump,
    /// The values under test.
    pub layout: &'a Layout,
    /// The collector's variables.
    pub gc: &'a GcDacVars,
    /// The runtime's module.
    pub module: &'a RuntimeModule,
    /// Where the values come from.
    pub source: Source,
    /// MethodTable offsets, when the layout has them all.
    pub mts: Option<MtReader>,
    /// Whether the dump lacks the heap: a mini or triage dump, with pages of threads and modules alone. Then memory that
    /// is not readable says nothing of the offsets that lead there.
    pub mini: bool,
    /// Whether to read the core library's metadata, which takes longer than all other checks together.
    pub metadata: bool,
    /// Verdicts so far.
    pub checks: Vec<Check>,
}

/// Checks that are made together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// MethodTables, modules, images, fields, statics.
    Types,
    /// The collector's structures, handles, sync blocks.
    Heap,
    /// Threads and app domain.
    Threads,
}

/// Fields that follow another keep their distance: what names them says where the other is, too.
fn distances(p: &mut Probe<'_>) {
    for (field, expected, is) in p.layout.strays() {
        p.checks.push(Check {
            name: "distance from its neighbour",
            fields: vec![field],
            source: p.source.clone(),
            expected: expected.to_string(),
            found: is.to_string(),
            verdict: Verdict::Failed,
        });
    }
}

/// Base sizes of `System.String` for pointers of `ptr` bytes: header, MethodTable, length, terminator; through 2.2 the
/// padding was counted too, four more bytes.
pub fn string_sizes(ptr: u64) -> [u32; 3] {
    [2 * ptr as u32 + 6, 2 * ptr as u32 + 10, 2 * ptr as u32 + 8]
}

/// What a check found.
pub enum Found {
    /// It holds; what was seen.
    Good(String),
    /// It does not hold; what was seen instead.
    Bad(String),
    /// The memory needed is not in the dump.
    Absent(String),
}

impl Found {
    fn when(holds: bool, seen: impl Into<String>) -> Self {
        if holds { Found::Good(seen.into()) } else { Found::Bad(seen.into()) }
    }
}

impl<'a> Probe<'a> {
    /// Runs every check on `layout`.
    pub fn run(
        dump: &'a Dump,
        layout: &'a Layout,
        gc: &'a GcDacVars,
        module: &'a RuntimeModule,
        source: Source,
    ) -> Vec<Check> {
        let mut probe = Probe::new(dump, layout, gc, module, source);
        types::run(&mut probe);
        heap::run(&mut probe);
        threads::run(&mut probe);
        distances(&mut probe);
        probe.checks
    }

    /// Nothing checked yet.
    pub fn new(
        dump: &'a Dump,
        layout: &'a Layout,
        gc: &'a GcDacVars,
        module: &'a RuntimeModule,
        source: Source,
    ) -> Self {
        let mts = MtReader::new(layout).ok();
        let mut probe =
            Probe { dump, layout, gc, module, source, mts, mini: false, metadata: true, checks: Vec::new() };
        probe.mini = heap::is_missing(&probe);
        probe
    }

    /// Runs the checks of one part.
    pub fn part(mut self, part: Part) -> Vec<Check> {
        match part {
            Part::Types => types::run(&mut self),
            Part::Heap => heap::run(&mut self),
            Part::Threads => threads::run(&mut self),
        }
        self.checks
    }

    /// Whether `table` is the sync table: entries of it lead back.
    pub fn is_sync_table(&self, table: u64) -> bool {
        matches!(heap::sync_table_at(self, table, || false), Found::Good(_))
    }

    fn space(&self) -> &'a AddressSpace {
        &self.dump.space
    }

    fn ptr(&self) -> u64 {
        u64::from(self.dump.space.ptr_size())
    }

    /// Whether `address` can be one of user memory: aligned, outside the first pages and below the kernel's half.
    fn plausible(&self, address: u64) -> bool {
        address.is_multiple_of(self.ptr()) && (0x1_0000..1 << 56).contains(&address)
    }

    /// Address of the first heap's generation table and finalize queue, 0 where that is not known.
    fn first_heap(&self) -> Option<(u64, u64)> {
        let space = self.space();
        if let Some(table) = self.gc.generation_table {
            return Some((table, self.gc.finalize_queue.and_then(|c| space.ptr(c)).unwrap_or(0)));
        }
        let heap = space.ptr(space.ptr(self.gc.g_heaps?)?)?;
        let offset = |i: usize, f: &str| match self.gc.gc_heap_field_offsets.get(i) {
            Some(&o) if o >= 0 => Some(o as u64),
            _ => self.layout.try_offset("GCHeap", f),
        };
        let table = heap.checked_add(offset(18, "GenerationTable")?)?;
        let queue = offset(2, "FinalizeQueue").and_then(|o| space.ptr_at(heap, o));
        Some((table, queue.unwrap_or(0)))
    }

    /// The map of handle tables: the collector's own variable, through 2.0 the runtime's.
    fn handle_table_map(&self) -> Option<u64> {
        self.gc.handle_table_map.or_else(|| self.layout.global("HandleTableMap").ok())
    }

    /// The record of generation 2's first segment.
    fn first_segment(&self) -> Option<u64> {
        let generation = self.first_heap()?.0.checked_add(2 * self.gc.generation_size)?;
        self.space().ptr_at(generation, self.gc.generation_field_offsets[1].max(0) as u64)
    }

    /// The value of the runtime variable `name`.
    fn variable(&self, name: &str) -> Option<u64> {
        self.space().ptr(self.layout.global(name).ok()?)
    }

    /// The pointer in field `ty.field` of the structure at `base`.
    fn field(&self, base: u64, ty: &str, field: &str) -> Option<u64> {
        self.layout.pointer(self.space(), base, ty, field)
    }

    /// The 32-bit word in field `ty.field` of the structure at `base`.
    fn word(&self, base: u64, ty: &str, field: &str) -> Option<u32> {
        self.space().u32(base.checked_add(self.layout.try_offset(ty, field)?)?)
    }

    fn mt(&self, address: u64) -> Option<MethodTable> {
        self.mts.as_ref()?.read(self.space(), address)
    }

    /// Whether a collection was running: references may lead to where objects are still to be moved.
    fn collecting(&self) -> bool {
        self.gc.gc_structures_invalid_cnt.and_then(|a| self.space().u32(a)).is_some_and(|n| n as i32 > 0)
    }

    /// What to make of memory that could not be read.
    fn unreadable(&self, seen: String) -> Found {
        if self.mini { Found::Absent(seen) } else { Found::Bad(seen) }
    }

    /// Whether `address` is an object: its MethodTable's class points back at it.
    fn is_object(&self, address: u64) -> bool {
        let mt = self.space().ptr(address).map(|m| m & !(self.ptr() - 1)).and_then(|m| self.mt(m));
        match (mt, &self.mts) {
            (Some(mt), Some(r)) => r.round_trips(self.space(), &mt),
            _ => false,
        }
    }

    fn record(&mut self, name: &'static str, fields: &[&str], expected: impl Into<String>, found: Found) {
        let (found, verdict) = match found {
            Found::Good(s) => (s, Verdict::Passed),
            Found::Bad(s) => (s, Verdict::Failed),
            Found::Absent(s) => (String::new(), Verdict::NotPossible(s)),
        };
        // Only what the layout has can be vouched for or refused.
        let known = |f: &&&str| match f.split_once('.') {
            Some((t, field)) => self.layout.field(t, field).is_some(),
            None => f.strip_prefix('&').is_none_or(|g| self.layout.global(g).is_ok()),
        };
        let fields = fields.iter().filter(known).map(|f| (*f).to_owned()).collect();
        self.checks.push(Check {
            name,
            fields,
            source: self.source.clone(),
            expected: expected.into(),
            found,
            verdict,
        });
    }
}
