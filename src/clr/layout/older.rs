//! Runtimes before `GcDacVars`: the collector's variables stand in the DAC table themselves.
//!
//! Source: dotnet/coreclr v1.0 `src/inc/dacvars.h` (`WKS::gc_heap`, `SVR::gc_heap`, `generation_table`,
//! `g_HandleTableMap`), the same in .NET Framework until it took the struct over.

use super::choose::bind;
use super::gcdac::{GcDacVars, GcSource};
use super::provider::{DiscoverOptions, Provider};
use super::scan::{AnchorKind, Span, free_anchors};
use super::tables::TABLES;
use super::{Layout, scan::Anchor};
use crate::dump::Dump;

/// The collector's variables by every table of the dump's system whose slots are counted from the type of free blocks.
pub fn find(dump: &Dump, image: Span, options: &DiscoverOptions) -> Vec<GcDacVars> {
    if !options.allows(Provider::DacTable) || !options.allows(Provider::Tables) {
        return Vec::new();
    }
    let here = Some((dump.os, dump.arch));
    let mut found: Vec<GcDacVars> = Vec::new();
    let anchors = free_anchors(&dump.space, image);
    for table in TABLES.iter().filter(|t| t.platform == here) {
        let layout = options.layout(table);
        if AnchorKind::of(&layout) != AnchorKind::FreeObject {
            continue;
        }
        for gc in anchors.iter().filter_map(|a| at(dump, image, layout.clone(), a)) {
            let known = found.iter().any(|f| f.generation_table == gc.generation_table && f.g_heaps == gc.g_heaps);
            if !known {
                found.push(gc);
            }
        }
    }
    found
}

/// The variables that `layout` names from `anchor`, if the well-known types stand where it says.
fn at(dump: &Dump, image: Span, mut layout: Layout, anchor: &Anchor) -> Option<GcDacVars> {
    let space = &dump.space;
    bind(dump, &mut layout, anchor);
    let value = |name: &str| layout.global(name).ok().filter(|&c| image.contains(c)).and_then(|c| space.ptr(c));
    // System.Object has no parent and is the parent of System.String, whose components are of two bytes.
    let (object, string) = (value("ObjectMethodTable")?, value("StringMethodTable")?);
    let parent = |mt: u64| space.ptr_at(mt, layout.try_offset("MethodTable", "ParentMethodTable")?);
    let components = space.u16(string)?;
    if components != 2 || parent(string)? != object || parent(object)? != 0 {
        return None;
    }
    let mut gc = GcDacVars::described(&layout, space)?;
    gc.source = GcSource::DacTable;
    // Both flavours have their variables in one image: the heap's type says which are in use.
    const WORKSTATION: u32 = 1;
    const SERVER: u32 = 2;
    let heap_type = layout.global("HeapType").ok().and_then(|a| space.u32(a))?;
    if heap_type != WORKSTATION && heap_type != SERVER {
        return None;
    }
    if heap_type == SERVER {
        (gc.generation_table, gc.ephemeral_heap_segment) = (None, None);
        (gc.alloc_allocated, gc.finalize_queue, gc.oom_info) = (None, None, None);
    } else {
        (gc.n_heaps, gc.g_heaps) = (None, None);
    }
    has_heap(dump, &layout, &gc).then_some(gc)
}

/// Whether generation 2 begins with a segment: the well-known types stand alike in tables whose other slots differ. What is
/// not in the dump (one without the heap) is not held against it.
fn has_heap(dump: &Dump, layout: &Layout, gc: &GcDacVars) -> bool {
    const PAGE: u64 = 0x1000;
    let space = &dump.space;
    let table = || match gc.generation_table {
        Some(table) => Some(table),
        None => {
            let heap = space.ptr(space.ptr(gc.g_heaps?)?)?;
            heap.checked_add(layout.try_offset("GCHeap", "GenerationTable")?)
        }
    };
    let Some(generation) = table().and_then(|t| t.checked_add(2 * gc.generation_size)) else { return false };
    let start = gc.generation_field_offsets[1].max(0) as u64;
    let Some(segment) = space.ptr_at(generation, start) else { return !space.readable(generation) };
    if segment == 0 || !segment.is_multiple_of(PAGE) {
        return false;
    }
    let field = |name| space.ptr_at(segment, layout.try_offset("HeapSegment", name)?);
    match (field("Mem"), field("Allocated"), field("Committed"), field("Reserved")) {
        (Some(mem), Some(allocated), Some(committed), Some(reserved)) => {
            segment < mem && mem <= allocated && allocated <= committed && committed <= reserved
        }
        _ => !space.readable(segment),
    }
}
