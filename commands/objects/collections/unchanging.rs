//! Collections that do not change: immutable and frozen ones.
//!
//! Field names: dotnet/runtime v8.0 `src/libraries/System.Collections.Immutable/src/System/Collections`.

use anyhow::Result;
use rustc_hash::FxHashSet;

use super::parts::{Entry, Visit, array, element, item, items, pair, place, tree, tree_nodes};
use crate::session::Session;
use crate::session::value::Value;

const LEFT: &[&str] = &["_left"];
const RIGHT: &[&str] = &["_right"];
/// What a node keeps.
const KEPT: &[&str] = &["_key"];

/// The pair that is a struct in a field.
fn inner_pair(v: &Value<'_>, field: &[&str]) -> Option<Entry> {
    pair(&["key"], &["value"])(&v.inner(field)?)
}

/// A tree of pairs.
pub(super) fn sorted_dictionary(session: &Session, v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    tree(session, v.object(&["_root"]), LEFT, RIGHT, pair(KEPT, &["_value"]), visit)
}

/// A tree of buckets by hash code, each with its first value, or pair, and a tree of those with the same code.
pub(super) fn buckets(session: &Session, v: &Value<'_>, pairs: bool, visit: Visit<'_>) -> Result<Option<()>> {
    let entry = |v: &Value<'_>, field: &[&str]| match pairs {
        true => inner_pair(v, field),
        false => item(field)(v),
    };
    tree_nodes(session, v.object(&["_root"]), LEFT, RIGHT, &mut |node| {
        let Some(bucket) = node.inner(&["_value"]) else { return Ok(None) };
        let Some(first) = entry(&bucket, &["_firstValue"]) else { return Ok(None) };
        visit(first)?;
        tree(session, bucket.object(&["_additionalElements"]), LEFT, RIGHT, |n| entry(n, KEPT), &mut *visit)
    })
}

/// What was put in first stands in one stack, what came later in another one, the last on top.
pub(super) fn queue(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    if stack(v.object(&["_forwards"]), &mut *visit)?.is_none() {
        return Ok(None);
    }
    let mut last = Vec::new();
    let whole = stack(v.object(&["_backwards"]), &mut |e| {
        last.push(e);
        Ok(())
    })?;
    for entry in last.into_iter().rev() {
        visit(entry)?;
    }
    Ok(whole)
}

/// Linked nodes; the empty stack, which has no next one, ends them.
pub(super) fn stack(first: Option<Value<'_>>, visit: Visit<'_>) -> Result<Option<()>> {
    let mut seen = FxHashSet::default();
    let mut at = first;
    while let Some(n) = at.filter(|n| seen.insert(n.address())) {
        let Some(next) = n.object(&["_tail"]) else { return Ok(Some(())) };
        let Some(top) = place(&n, &["_head"]) else { return Ok(None) };
        visit(Entry::Item(top))?;
        at = Some(next);
    }
    Ok(None)
}

/// Keys and values in two arrays, or keys as the hash codes they are.
pub(super) fn frozen_dictionary(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let (keys, values) = (array(v, &["_keys"]).or_else(|| codes(v)), array(v, &["_values"]));
    let (Some(keys), Some(values)) = (keys, values) else {
        // The empty one keeps nothing.
        return Ok((!v.has(&["_keys", "_values", "_hashTable"])).then_some(()));
    };
    if keys.count != values.count {
        return Ok(None);
    }
    for i in 0..keys.count {
        let (Some(k), Some(x)) = (element(&keys, i), element(&values, i)) else { return Ok(None) };
        visit(Entry::Pair(k, x))?;
    }
    Ok(Some(()))
}

/// Items in an array, or as the hash codes they are.
pub(super) fn frozen_set(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    match array(v, &["_items"]).or_else(|| codes(v)) {
        None => Ok((!v.has(&["_items", "_hashTable"])).then_some(())),
        some => items(some, 0, u64::MAX, visit),
    }
}

/// Hash codes of a frozen hash table: numbers that are keys are their own codes.
fn codes<'s>(v: &Value<'s>) -> Option<crate::session::value::Elements<'s>> {
    let table = v.object(&["_hashTable"])?;
    array(&table, &["<HashCodes>k__BackingField", "HashCodes", "_hashCodes"])
}
