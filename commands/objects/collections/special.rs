//! Collections with a way of their own: old ones of the library, weak tables, dynamic objects, look-ups, bits.
//!
//! Field names: dotnet/runtime v8.0 `src/libraries/System.Collections.Specialized`, `System.Private.CoreLib`,
//! `System.Linq` and `System.Linq.Expressions`.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::item::{As, Place};
use super::parts::{Entry, Visit, array, element, pair, place, size};
use crate::clr::types::fields::{Element, et};
use crate::session::Session;
use crate::session::value::{Elements, Value};

/// The elements of an `ArrayList` in use.
fn list<'s>(v: &Value<'s>) -> Option<(Elements<'s>, u64)> {
    let items = array(v, &["_items"])?;
    Some((items, size(v, &["_size"]).min(items.count)))
}

/// A list of boxed pairs.
pub(super) fn old_ordered(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(entries) = v.object(&["_objectsArray"]) else { return Ok(Some(())) };
    let Some((items, count)) = list(&entries) else { return Ok(None) };
    for i in 0..count {
        let Some(entry) = items.object(i).and_then(|e| pair(&["_key"], &["_value"])(&e)) else { return Ok(None) };
        visit(entry)?;
    }
    Ok(Some(()))
}

/// Entries with a name and a list of what was added under it; what is no list is the value.
pub(super) fn name_value(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some((entries, count)) = v.object(&["_entriesArray"]).as_ref().and_then(list) else { return Ok(None) };
    for i in 0..count {
        let Some(entry) = entries.object(i) else { return Ok(None) };
        let (Some(key), Some(value)) = (place(&entry, &["Key"]), place(&entry, &["Value"])) else { return Ok(None) };
        let added = entry.object(&["Value"]).filter(|l| l.is_a("System.Collections.ArrayList"));
        let Some((values, count)) = added.as_ref().and_then(list) else {
            visit(Entry::Pair(key, value))?;
            continue;
        };
        for j in 0..count {
            let Some(value) = element(&values, j) else { return Ok(None) };
            visit(Entry::Pair(key, value))?;
        }
    }
    Ok(Some(()))
}

/// Bits of the numbers of an array, the lowest first.
pub(super) fn bits(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let count = size(v, &["_bitLength", "m_length", "_length"]);
    let Some(numbers) = array(v, &["_array", "m_array"]) else { return Ok((count == 0).then_some(())) };
    let Some(first) = numbers.place(0) else { return Ok((count == 0).then_some(())) };
    for i in 0..count {
        let Some(at) = first.checked_add(i / 8) else { return Ok(None) };
        visit(Entry::Item(Place { element: Element(et::BOOLEAN), mt: None, at, as_is: As::Bit((i % 8) as u8) }))?;
    }
    Ok(Some(()))
}

/// Keys and what is attached to them: the two ends of dependent handles.
pub(super) fn weak_table(session: &Session, v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let clr = session.clr()?;
    let Some(container) = v.object(&["_container"]) else { return Ok(None) };
    let Some(entries) = array(&container, &["_entries"]) else { return Ok(None) };
    let attached: FxHashMap<u64, u64> =
        clr.handles().items.iter().filter(|h| h.dependent != 0).map(|h| (h.address, h.dependent)).collect();
    for i in 0..size(&container, &["_firstFreeEntry"]).min(entries.count) {
        let handle = entries.inner(i).and_then(|e| e.inner(&["depHnd"])).and_then(|h| h.pointer(&["_handle"]));
        let Some(handle) = handle else { return Ok(None) };
        // A removed entry, and one whose key was collected, has no object.
        let handle = handle & !1;
        let Some(&value) = attached.get(&handle).filter(|_| clr.space().ptr(handle).is_some_and(|k| k != 0)) else {
            continue;
        };
        let value = Place { as_is: As::Object(value), ..Place::reference(handle) };
        visit(Entry::Pair(Place::reference(handle), value))?;
    }
    Ok(Some(()))
}

/// Names are the class's, values the object's; what was never set is an object without a type of its own.
pub(super) fn expando(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(data) = v.object(&["_data"]) else { return Ok(None) };
    let class = data.object(&["Class", "<Class>k__BackingField"]);
    let names = class.and_then(|c| array(&c, &["_keys"]));
    let (Some(names), Some(values)) = (names, array(&data, &["_dataArray"])) else { return Ok(None) };
    for i in 0..names.count.min(values.count) {
        let (Some(name), Some(value)) = (element(&names, i), element(&values, i)) else { return Ok(None) };
        if values.object(i).is_none_or(|o| &*o.type_name() != "System.Object") {
            visit(Entry::Pair(name, value))?;
        }
    }
    Ok(Some(()))
}

/// Groups in a ring that is entered at its last one; each element with the key of its group.
pub(super) fn lookup(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(last) = v.object(&["_lastGrouping"]) else { return Ok(Some(())) };
    let mut seen = FxHashSet::default();
    let mut at = last.object(&["_next"]);
    while let Some(group) = at.filter(|g| seen.insert(g.address())) {
        let (Some(key), Some(elements)) = (place(&group, &["_key"]), array(&group, &["_elements"])) else {
            return Ok(None);
        };
        for i in 0..size(&group, &["_count"]).min(elements.count) {
            let Some(value) = element(&elements, i) else { return Ok(None) };
            visit(Entry::Pair(key, value))?;
        }
        if group.address() == last.address() {
            return Ok(Some(()));
        }
        at = group.object(&["_next"]);
    }
    Ok(None)
}

/// Linked rings, each with where its reader and its writer are.
pub(super) fn one_to_one(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let mut seen = FxHashSet::default();
    let mut at = v.object(&["_head", "m_head"]);
    while let Some(segment) = at.filter(|s| seen.insert(s.address())) {
        let (items, state) = (array(&segment, &["_array", "m_array"]), segment.inner(&["_state", "m_state"]));
        let (Some(items), Some(state)) = (items.filter(|a| a.count > 0), state) else { return Ok(None) };
        let end = |names: &[&str]| state.int(names).and_then(|n| u64::try_from(n).ok()).filter(|n| *n < items.count);
        let (Some(first), Some(last)) = (end(&["_first", "m_first"]), end(&["_last", "m_last"])) else {
            return Ok(None);
        };
        let mut i = first;
        while i != last {
            let Some(p) = element(&items, i) else { return Ok(None) };
            visit(Entry::Item(p))?;
            i = (i + 1) % items.count;
        }
        at = segment.object(&["_next", "m_next"]);
    }
    Ok(Some(()))
}
