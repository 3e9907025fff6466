//! What a program says of its own runtime: the debug header of 8.0 to 10.0, the contract descriptor since 11.0.
//!
//! Source: dotnet/runtime `src/coreclr/nativeaot/Runtime/DebugHeader.cpp` (v8.0 to v10.0): `DNDH`, version, flags, then the
//! addresses of two arrays that the program fills in as it starts: fields with their offsets, and variables. Names change
//! with the versions (`FIELDS`); what they stand for does not.

use crate::clr::layout::scan::{Span, runs, words_equal};
use crate::clr::layout::{Layout, Source, descriptor, exports};
use crate::dump::{Dump, Module};

use super::image;
use super::tables::TABLES;

/// The export that names the debug header, where an image has exports.
const EXPORT: &str = "DotNetRuntimeDebugHeader";
/// What a contract descriptor begins with.
const MAGIC: [u8; 8] = *b"DNCCDAC\0";
/// `DNDH`.
const COOKIE: u32 = u32::from_le_bytes(*b"DNDH");
/// Major versions whose arrays are known; a new one is a new form.
const MAJORS: std::ops::RangeInclusive<u16> = 1..=16;
/// Entries of an array: real ones have 6 to 94.
const MAX_ENTRIES: u64 = 4096;
/// Longest name of an entry.
const MAX_NAME: usize = 128;
/// Places with the cookie that are looked at.
const MAX_PLACES: usize = 64;

/// Bytes of an entry of either array: two texts, a value and what is left of its word; a text and a value.
const FIELD_ENTRY: u64 = 24;
const VARIABLE_ENTRY: u64 = 16;
/// A name each array has in every version.
const A_FIELD: &str = "m_uFlags";
const A_VARIABLE: &str = "g_pTheRuntimeInstance";

/// Fields by their names in the header: its type and field, ours.
const FIELDS: &[(&str, &str, &str, &str)] = &[
    ("MethodTable", "m_uFlags", "MethodTable", "Flags"),
    ("MethodTable", "m_uBaseSize", "MethodTable", "BaseSize"),
    ("MethodTable", "m_pRelatedParameterType", "MethodTable", "RelatedType"),
    ("MethodTable", "m_VTable", "MethodTable", "VTable"),
    ("ThreadStore", "m_ThreadList", "ThreadStore", "FirstThreadLink"),
    ("ThreadBuffer", "m_pNext", "Thread", "LinkNext"),
    ("ThreadBuffer", "m_threadId", "Thread", "OSId"),
    ("ThreadBuffer", "m_pExInfoStackHead", "Thread", "ExceptionTracker"),
    ("RuntimeThreadLocals", "m_pNext", "Thread", "LinkNext"),
    ("RuntimeThreadLocals", "m_threadId", "Thread", "OSId"),
    ("RuntimeThreadLocals", "m_pExInfoStackHead", "Thread", "ExceptionTracker"),
    ("ExInfo", "m_pPrevExInfo", "ExInfo", "PreviousNestedInfo"),
    ("ExInfo", "m_exception", "ExInfo", "ThrownObject"),
    ("dac_heap_segment", "allocated", "HeapSegment", "Allocated"),
    ("dac_heap_segment", "committed", "HeapSegment", "Committed"),
    ("dac_heap_segment", "reserved", "HeapSegment", "Reserved"),
    ("dac_heap_segment", "used", "HeapSegment", "Used"),
    ("dac_heap_segment", "mem", "HeapSegment", "Mem"),
    ("dac_heap_segment", "flags", "HeapSegment", "Flags"),
    ("dac_heap_segment", "next", "HeapSegment", "Next"),
    ("dac_heap_segment", "heap", "HeapSegment", "Heap"),
    ("RuntimeInstance", "m_pThreadStore", "RuntimeInstance", "ThreadStore"),
];

/// Variables in the same way. Their value is the thing itself, not the address of a cell that holds its address.
const VARIABLES: &[(&str, &str)] = &[
    ("g_pTheRuntimeInstance", "RuntimeInstance"),
    ("g_pFreeObjectEEType", "FreeObjectMethodTable"),
    ("g_gcDacGlobals", "GcDacVars"),
    ("g_CrashInfoBuffer", "CrashInfoBuffer"),
    ("g_stressLog", "StressLog"),
];

/// What was found of a program's runtime.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Fields and variables named; a variable's global is the thing itself.
    pub layout: Layout,
    /// One line for people: which of the two, where, what version.
    pub what: String,
    /// Whether it is the contract descriptor.
    pub descriptor: bool,
    /// Why nothing of it can be used.
    pub refused: Option<String>,
    /// Version text, where it says one.
    pub version: Option<String>,
    /// Variables whose names are not in the dump: what they are has to be told by their shape.
    pub unnamed: Vec<u64>,
}

/// Looks for the runtime of a program compiled ahead of time in `module`; `None` where it holds none.
pub fn find(dump: &Dump, module: &Module) -> Option<Found> {
    let span = Span::of(module);
    debug_header(dump, span).or_else(|| described(dump, span)).or_else(|| bare_descriptor(dump, span))
}

/// Whether the module holds one, as far as its header or descriptor tell.
pub fn is_in(dump: &Dump, module: &Module) -> bool {
    find(dump, module).is_some()
}

fn is_header(dump: &Dump, at: u64) -> Option<()> {
    let word = |o: u64| dump.space.u32(at.checked_add(o)?);
    let major = dump.space.u16(at.checked_add(4)?)?;
    // Bit 0: pointers of eight bytes; bit 1: big endian.
    let sane = word(0)? == COOKIE && MAJORS.contains(&major) && word(8)? & !1 == 0 && word(12)? == 0;
    let wide = word(8)? & 1 == 1;
    (sane && wide == (dump.space.ptr_size() == 8)).then_some(())
}

fn debug_header(dump: &Dump, span: Span) -> Option<Found> {
    let exported = exports::find(dump, span, EXPORT).filter(|&a| is_header(dump, a).is_some());
    let scanned = || {
        let places = words_equal(&dump.space, span, 4, COOKIE.into());
        places.into_iter().filter(|a| a.is_multiple_of(8)).take(MAX_PLACES).find(|&a| is_header(dump, a).is_some())
    };
    let at = exported.or_else(scanned)?;
    let space = &dump.space;
    let (major, minor) = (space.u16(at.checked_add(4)?)?, space.u16(at.checked_add(6)?)?);
    let mut found = Found { what: format!("at {at:x}, version {major}.{minor}"), ..Found::default() };
    let (mut types, mut globals) = (space.ptr_at(at, 16).unwrap_or(0), space.ptr_at(at, 24).unwrap_or(0));
    if types == 0 || globals == 0 {
        // As in the file: the program writes the addresses as it starts, and a heap dump lacks what it wrote.
        let array = |name, size, offset| array_with(dump, span, name, (size, offset)).unwrap_or(0);
        (types, globals) = (array(A_FIELD, FIELD_ENTRY, 8), array(A_VARIABLE, VARIABLE_ENTRY, 0));
        found.what.push_str(", its arrays found by their texts");
    }
    if globals == 0 {
        found.refused = Some(
            "the arrays of its debug header are not in the dump, or null as before the program starts; give the program's \
             file with -i FOLDER"
                .into(),
        );
        return Some(found);
    }
    let source = Source::DebugHeader(at);
    let text = |a: u64| space.utf8z(a, MAX_NAME);
    let mut count = 0;
    for i in 0..MAX_ENTRIES {
        let Some(entry) = types.checked_add(FIELD_ENTRY * i).filter(|_| types != 0) else { break };
        let Some(ty) = space.ptr(entry).filter(|&p| p != 0).map(text) else { break };
        let (Some(field), Some(value)) = (space.ptr_at(entry, 8).map(text), space.u32(entry.saturating_add(16))) else {
            break;
        };
        count += 1;
        if let Some((.., to, name)) = FIELDS.iter().find(|f| f.0 == ty && f.1 == field) {
            found.layout.set_field(to, name, value.into(), source.clone());
        }
    }
    for i in 0..MAX_ENTRIES {
        let Some(entry) = globals.checked_add(VARIABLE_ENTRY * i) else { break };
        let Some(name) = space.ptr(entry).filter(|&p| p != 0).map(text) else { break };
        let Some(value) = space.ptr_at(entry, 8).filter(|&v| v != 0) else { continue };
        if name.is_empty() {
            found.unnamed.push(value);
        }
        if let Some((_, ours)) = VARIABLES.iter().find(|v| v.0 == name) {
            found.layout.set_global(ours, value, source.clone());
        }
    }
    found.what.push_str(&match found.unnamed.is_empty() {
        true => format!(", {count} fields"),
        false => format!(", {count} fields, their names not in the dump: built-in tables stand for them"),
    });
    if found.unnamed.is_empty() && (count == 0 || found.layout.global("RuntimeInstance").is_err()) {
        found.refused =
            Some("the arrays of its debug header are not in the dump; give the program's file with -i FOLDER".into());
    }
    Some(found)
}

/// The array of `size` bytes an entry of which has the address of the text `name` at `offset`: the first entry before it
/// with a text in its place.
fn array_with(dump: &Dump, span: Span, name: &str, (size, offset): (u64, u64)) -> Option<u64> {
    let space = &dump.space;
    let named = |entry: u64| {
        let text = space.ptr_at(entry, offset).filter(|&p| span.contains(p)).map(|p| space.utf8z(p, MAX_NAME))?;
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then_some(())
    };
    for text in texts(dump, span, name) {
        for place in words_equal(space, span, 8, text).into_iter().take(MAX_PLACES) {
            let mut at = place.checked_sub(offset)?;
            for _ in 0..MAX_ENTRIES {
                let Some(before) = at.checked_sub(size).filter(|&b| named(b).is_some()) else { break };
                at = before;
            }
            // More than one entry: a lone pointer to the text is none.
            if named(at.checked_add(size)?).is_some() {
                return Some(at);
            }
        }
    }
    None
}

/// Places of `name`, closed by a zero, in the image.
fn texts(dump: &Dump, span: Span, name: &str) -> Vec<u64> {
    let wanted: Vec<u8> = name.bytes().chain([0]).collect();
    let mut found = Vec::new();
    runs(&dump.space, span, |start, bytes| {
        let mut at = 0;
        while let Some(i) = bytes.get(at..).and_then(|b| b.windows(wanted.len()).position(|w| w == wanted)) {
            if found.len() < MAX_PLACES {
                found.push(start + (at + i) as u64);
            }
            at += i + wanted.len();
        }
    });
    found
}

/// The contract descriptor, where its flavour is NativeAOT.
fn described(dump: &Dump, span: Span) -> Option<Found> {
    let parts = descriptor::find(dump, span);
    let main = parts.main.as_ref()?;
    if main.layout().text("RuntimeFlavor") != Some("NativeAot") {
        return None;
    }
    let mut layout = main.layout().clone();
    // What it names are cells that hold the address of the thing.
    let source = Source::Descriptor(main.address);
    for name in ["RuntimeInstance", "ThreadStore", "FreeObjectMethodTable"] {
        match layout.global(name).ok().and_then(|cell| dump.space.ptr(cell)) {
            Some(value) if value != 0 => layout.set_global(name, value, source.clone()),
            _ => layout.drop_global(name),
        }
    }
    let version = layout.text("RuntimeProductVersionString").map(str::to_owned);
    Some(Found { layout, what: parts.describe(), descriptor: true, version, ..Found::default() })
}

/// A contract descriptor whose text is not in the dump: what its pointers lead to, where the program's instance is among it.
fn bare_descriptor(dump: &Dump, span: Span) -> Option<Found> {
    let space = &dump.space;
    let low = u64::from(u32::from_le_bytes([MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3]]));
    let places = words_equal(space, span, 4, low).into_iter().filter(|a| a.is_multiple_of(8)).take(MAX_PLACES);
    for at in places {
        // Flags and size of the text, its address, the number of pointers, their address.
        let (text, count, pointers) = (space.ptr_at(at, 16), space.u32(at.saturating_add(24)), space.ptr_at(at, 32));
        let (Some(text), Some(count), Some(pointers)) = (text, count, pointers) else { continue };
        let magic = space.u64(at) == Some(u64::from_le_bytes(MAGIC));
        if !magic || space.readable(text) || !span.contains(text) || u64::from(count) > MAX_ENTRIES {
            continue;
        }
        let cell = |i: u64| space.ptr_at(pointers, 8 * i).and_then(|cell| space.ptr(cell)).filter(|&v| v != 0);
        let unnamed: Vec<u64> = (0..u64::from(count)).filter_map(cell).collect();
        let instance = |v: &u64| TABLES.iter().any(|t| !image::modules(space, &t.layout(), *v).is_empty());
        if unnamed.iter().any(instance) {
            let what = format!("at {at:x}, its text not in the dump: built-in tables stand for it");
            return Some(Found { what, descriptor: true, unnamed, ..Found::default() });
        }
    }
    None
}
