//! The invariants of a layout of a program compiled ahead of time: what must hold in its dump if the values are right. What
//! fails is dropped and said.

use std::sync::Arc;

use crate::clr::layout::gcdac::GcDacVars;
use crate::clr::layout::scan::Span;
use crate::clr::layout::verdict::{Check, Verdict};
use crate::clr::layout::{Layout, Source};
use crate::clr::runtime::handles::Tables;
use crate::clr::types::gcdesc::RefMap;
use crate::dump::Dump;

use super::image::{AotModule, section};
use super::tables::Table;
use super::types::{Types, Words};

/// MethodTables looked at.
const SAMPLE: usize = 512;
/// Threads, segments and cells looked at.
const MOST: usize = 256;
/// Classes in a row that are followed.
const MAX_PARENTS: usize = 256;

/// What was checked and what is left of the layout.
#[derive(Debug)]
pub struct Checked {
    /// The layout without what failed.
    pub layout: Layout,
    /// The modules.
    pub modules: Vec<AotModule>,
    /// The type of free blocks.
    pub free: u64,
    /// Every check.
    pub checks: Vec<Check>,
    /// Names of those without which nothing can be read.
    pub needed: &'static [&'static str],
    /// Fields taken out.
    pub dropped: Vec<String>,
}

const FREE: &str = "the type of free blocks";
const STRING: &str = "System.String";
const ROUND: &str = "MethodTables lead to the TypeManager";
const BASES: &str = "base types end with System.Object";
const NEEDED: &[&str] = &[FREE, STRING, ROUND, BASES];

struct Probe<'a> {
    dump: &'a Arc<Dump>,
    layout: &'a Layout,
    source: Source,
    checks: Vec<Check>,
}

impl Probe<'_> {
    fn note(&mut self, name: &'static str, fields: &[&str], expected: &str, found: String, holds: Option<bool>) {
        let verdict = match holds {
            Some(true) => Verdict::Passed,
            Some(false) => Verdict::Failed,
            None => Verdict::NotPossible("the memory it needs is not in the dump, or there is no case".into()),
        };
        // A field of another source than the table is vouched for as well.
        let source = fields
            .first()
            .and_then(|f| f.split_once('.'))
            .and_then(|(ty, field)| self.layout.field(ty, field))
            .map_or(self.source.clone(), |f| f.source.clone());
        self.checks.push(Check {
            name,
            fields: fields.iter().map(|f| (*f).to_owned()).collect(),
            source,
            expected: expected.to_owned(),
            found,
            verdict,
        });
    }

    /// Notes how many of how many hold: all of them must.
    fn all(&mut self, name: &'static str, fields: &[&str], (held, of): (usize, usize)) {
        self.note(name, fields, "all", format!("{held} of {of}"), (of > 0).then_some(held == of));
    }
}

/// Checks `layout` with everything it leads to.
pub fn check(
    dump: &Arc<Dump>,
    layout: Layout,
    modules: Vec<AotModule>,
    gc: &GcDacVars,
    span: Span,
    table: &Table,
) -> Checked {
    let mut p = Probe { dump, layout: &layout, source: Source::Table(table.name.to_owned()), checks: Vec::new() };
    let expected = layout.constant("ReadyToRunMajor").unwrap_or(0);
    let major = modules.first().map_or(0, |m| m.header.major);
    let near = "the version of the ReadyToRun header";
    let fields = ["RuntimeInstance.TypeManagerList", "TypeManagerEntry.TypeManager", "TypeManager.Header"];
    p.note(near, &fields, &format!("{expected} or near it"), format!("{major}"), Some(true));
    let free = free_type(&mut p, span);
    if let Ok(types) = Types::new(dump.clone(), &layout, modules.clone(), free) {
        of_types(&mut p, &types);
    }
    threads(&mut p);
    segments(&mut p, gc);
    handles(&mut p, gc);
    statics(&mut p, &modules);
    let checks = p.checks;
    let mut dropped = Vec::new();
    let mut layout = layout;
    let failed = |c: &&Check| c.verdict == Verdict::Failed && !NEEDED.contains(&c.name);
    for name in checks.iter().filter(failed).flat_map(|c| &c.fields) {
        if let Some((ty, field)) = name.split_once('.') {
            layout.drop_field(ty, field);
            dropped.push(name.clone());
        }
    }
    Checked { layout, modules, free, checks, needed: NEEDED, dropped }
}

/// Free blocks have components of one byte; their MethodTable lies in the image.
fn free_type(p: &mut Probe<'_>, span: Span) -> u64 {
    let space = &p.dump.space;
    let named = p.layout.global("FreeObjectMethodTable").unwrap_or(0);
    let word = |field| space.u32(named.checked_add(p.layout.try_offset("MethodTable", field)?)?);
    let (flags, size) = (word("Flags"), word("BaseSize"));
    let holds = flags.is_some_and(|f| f & 0x8000_FFFF == 0x8000_0001) && size == Some(24) && span.contains(named);
    let found = format!("{named:x}: flags {:x}, {} bytes", flags.unwrap_or(0), size.unwrap_or(0));
    let fields = ["MethodTable.Flags", "MethodTable.BaseSize"];
    p.note(FREE, &fields, "components of one byte, 24 bytes", found, (named != 0 && flags.is_some()).then_some(holds));
    named
}

fn of_types(p: &mut Probe<'_>, types: &Types) {
    let sample: Vec<Words> = types.all().into_iter().take(SAMPLE).filter_map(|mt| types.words(mt)).collect();
    // Definitions of generic types have no instances and no words behind them.
    let real: Vec<&Words> = sample.iter().filter(|w| types.has_instances(w)).collect();
    let fields = ["MethodTable.NumVtableSlots", "MethodTable.NumInterfaces", "MethodTable.VTable"];
    let round = real.iter().filter(|w| types.module_of(w).is_some()).count();
    p.all(ROUND, &fields, (round, real.len()));
    let object = types.known().object;
    let ends = |w: &&&Words| {
        let mut at = ***w;
        for _ in 0..MAX_PARENTS {
            if at.related == 0 {
                return at.address == object;
            }
            match types.words(at.related) {
                Some(next) => at = next,
                None => return false,
            }
        }
        false
    };
    let classes: Vec<&Words> = real.iter().copied().filter(|w| types.has_base(w)).collect();
    let held = classes.iter().filter(ends).count();
    p.all(BASES, &["MethodTable.RelatedType"], (held, classes.len()));
    let string = types.known().string;
    let found = format!("{string:x}");
    p.note(STRING, &["MethodTable.BaseSize"], "components of two bytes, 22 bytes", found, Some(string != 0));
    let holding = real.iter().filter_map(|w| types.method_table(w.address)).filter(|m| m.contains_pointers());
    let maps: Vec<bool> = holding.map(|m| RefMap::read(&p.dump.space, &m) != RefMap::Unreadable).collect();
    let counts = (maps.iter().filter(|h| **h).count(), maps.len());
    p.all("types with references have a GCDesc", &["ContainsReferencesFlag"], counts);
    // Without metadata some have names by their hash.
    if !types.have_metadata() {
        return;
    }
    let named: Vec<bool> = sample.iter().map(|w| types.full_name(w.address).is_some()).collect();
    let counts = (named.iter().filter(|h| **h).count(), named.len());
    p.all("metadata names the types of the type map", &["MetadataTokenBits", "MetadataHandleBits"], counts);
}

fn threads(p: &mut Probe<'_>) {
    let (space, l) = (&p.dump.space, p.layout);
    let field = |of: u64, name| space.ptr_at(of, l.try_offset("Thread", name)?);
    let store = l
        .global("ThreadStore")
        .ok()
        .or_else(|| space.ptr_at(l.global("RuntimeInstance").ok()?, l.try_offset("RuntimeInstance", "ThreadStore")?));
    let mut at = store.and_then(|s| space.ptr_at(s, l.try_offset("ThreadStore", "FirstThreadLink")?)).unwrap_or(0);
    let (mut known, mut stacks, mut all, mut of_stacks, mut contexts) = (0, 0, 0, 0, 0);
    let mut seen = Vec::new();
    while at != 0 && all < MOST && !seen.contains(&at) {
        seen.push(at);
        all += 1;
        let native = field(at, "OSId").and_then(|id| p.dump.thread_of(id));
        known += usize::from(native.is_some());
        if let Some(sp) = native.and_then(|n| n.registers.as_ref()).map(|r| r.sp) {
            of_stacks += 1;
            let (low, high) = (field(at, "CachedStackLimit").unwrap_or(0), field(at, "CachedStackBase").unwrap_or(0));
            stacks += usize::from((low..high).contains(&sp));
        }
        let (pointer, limit) = (field(at, "AllocPointer").unwrap_or(1), field(at, "AllocLimit").unwrap_or(0));
        contexts += usize::from(pointer <= limit && (pointer == 0 || space.readable(pointer)));
        at = field(at, "LinkNext").unwrap_or(0);
    }
    p.all("threads of the list are threads of the dump", &["Thread.LinkNext", "Thread.OSId"], (known, all));
    p.all(
        "stack pointers lie in the threads' stacks",
        &["Thread.CachedStackLimit", "Thread.CachedStackBase"],
        (stacks, of_stacks),
    );
    p.all("allocation contexts are in order", &["Thread.AllocPointer", "Thread.AllocLimit"], (contexts, all));
}

/// The records of generation 0 of a workstation collector.
fn segments(p: &mut Probe<'_>, gc: &GcDacVars) {
    let (space, l) = (&p.dump.space, p.layout);
    let field = |of: u64, name| space.ptr_at(of, l.try_offset("HeapSegment", name)?);
    let table = match gc.generation_table {
        Some(table) => Some(table),
        None => {
            let first = gc.g_heaps.and_then(|a| space.ptr(a)).and_then(|a| space.ptr(a));
            let offset = gc.gc_heap_field_offsets.get(18).copied().filter(|&o| o >= 0);
            first.zip(offset).and_then(|(heap, o)| heap.checked_add(o as u64))
        }
    };
    let start = gc.generation_field_offsets[1].max(0) as u64;
    let (mut held, mut all) = (0, 0);
    for generation in 0..u64::from(gc.generation_count.min(5)) {
        let record = table.and_then(|t| t.checked_add(generation * gc.generation_size));
        let mut at = record.and_then(|r| space.ptr_at(r, start)).unwrap_or(0);
        for _ in 0..MOST {
            let Some(mem) = field(at, "Mem").filter(|_| at != 0) else { break };
            let [allocated, committed, reserved] =
                ["Allocated", "Committed", "Reserved"].map(|f| field(at, f).unwrap_or(0));
            all += 1;
            // Frozen segments are read as they were made: committed may be short of them.
            let frozen = field(at, "Flags").is_some_and(|f| f & 1 != 0);
            held += usize::from(mem <= allocated && (frozen || allocated <= committed) && committed <= reserved);
            at = field(at, "Next").unwrap_or(0);
        }
    }
    let fields = ["HeapSegment.Mem", "HeapSegment.Allocated", "HeapSegment.Committed", "HeapSegment.Reserved"];
    p.all("segments lie in order", &fields, (held, all));
}

fn handles(p: &mut Probe<'_>, gc: &GcDacVars) {
    let map = gc.handle_table_map.unwrap_or(0);
    let tables = Tables { space: &p.dump.space, layout: p.layout, map, server: gc.is_server() };
    let fields = ["HandleTable.SegmentList", "HandleSegment.Next", "HandleSegment.Owner"];
    let name = "handle segments lead back to their tables";
    match tables.read() {
        Ok(h) => {
            let found = h.partial.clone().unwrap_or_else(|| format!("{} handles", h.items.len()));
            p.note(name, &fields, "tables and segments that are whole", found, Some(h.partial.is_none()));
        }
        Err(missing) => p.note(name, &fields, "their layout", missing.to_string(), None),
    }
}

/// Cells of static bases hold an object, or what tells the runtime to make it (bit 0).
fn statics(p: &mut Probe<'_>, modules: &[AotModule]) {
    let space = &p.dump.space;
    let (mut held, mut all) = (0, 0);
    for m in modules {
        let Some((start, end)) = m.header.section(section::GC_STATICS) else { continue };
        for i in 0..((end - start) / 4).min(MOST as u64) {
            let at = start + 4 * i;
            let Some(distance) = space.u32(at) else { continue };
            let cell = at.wrapping_add_signed(i64::from(distance as i32));
            let Some(value) = space.ptr(cell) else { continue };
            all += 1;
            let mt = || space.ptr(value).map(|mt| mt & !7).filter(|&mt| mt != 0 && space.readable(mt));
            held += usize::from(value & 1 != 0 || value == 0 || mt().is_some());
        }
    }
    p.all("cells of static bases hold objects", &["TypeManager.Header"], (held, all));
}
