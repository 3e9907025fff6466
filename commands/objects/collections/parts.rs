//! What readers of collections share: items at places, arrays, rings, chains and trees of nodes.

use anyhow::Result;
use rustc_hash::FxHashSet;

use super::item::{As, Place};
use crate::clr::types::fields::{Element, et};
use crate::session::Session;
use crate::session::value::{Elements, Value};

/// One thing in a collection.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// An item.
    Item(Place),
    /// A key and its value.
    Pair(Place, Place),
}

/// Most items listed: their numbers are of 32 bits.
pub(super) const MAX_ITEMS: u64 = i32::MAX as u64;

/// Called for each entry.
pub(super) type Visit<'v> = &'v mut dyn FnMut(Entry) -> Result<()>;

pub(super) fn size(v: &Value<'_>, names: &[&str]) -> u64 {
    v.int(names).unwrap_or(0).clamp(0, MAX_ITEMS as i64) as u64
}

pub(super) fn array<'s>(v: &Value<'s>, names: &[&str]) -> Option<Elements<'s>> {
    v.object(names)?.elements()
}

/// Where element `i` is, with its type.
pub(super) fn element(a: &Elements<'_>, i: u64) -> Option<Place> {
    let element = a.element();
    Some(Place { element, mt: (!element.is_reference()).then_some(a.handle), at: a.place(i)?, as_is: As::Stored })
}

pub(super) fn place(v: &Value<'_>, names: &[&str]) -> Option<Place> {
    let (element, mt, at) = v.typed(names)?;
    Some(Place { element, mt, at, as_is: As::Stored })
}

pub(super) fn item<'n>(names: &'n [&'n str]) -> impl Fn(&Value<'_>) -> Option<Entry> + 'n {
    move |v| Some(Entry::Item(place(v, names)?))
}

pub(super) fn pair<'n>(keys: &'n [&'n str], values: &'n [&'n str]) -> impl Fn(&Value<'_>) -> Option<Entry> + 'n {
    move |v| Some(Entry::Pair(place(v, keys)?, place(v, values)?))
}

pub(super) fn items(a: Option<Elements<'_>>, start: u64, count: u64, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(a) = a else { return Ok(if count == 0 { Some(()) } else { None }) };
    for i in start..count.min(a.count) {
        let Some(p) = element(&a, i) else { return Ok(None) };
        visit(Entry::Item(p))?;
    }
    Ok(Some(()))
}

pub(super) fn backwards(a: Option<Elements<'_>>, count: u64, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(a) = a else { return Ok(if count == 0 { Some(()) } else { None }) };
    for i in (0..count.min(a.count)).rev() {
        let Some(p) = element(&a, i) else { return Ok(None) };
        visit(Entry::Item(p))?;
    }
    Ok(Some(()))
}

pub(super) fn ring(a: Option<Elements<'_>>, head: u64, count: u64, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(a) = a.filter(|a| a.count > 0) else { return Ok(if count == 0 { Some(()) } else { None }) };
    for i in 0..count.min(a.count) {
        let Some(p) = element(&a, head.wrapping_add(i) % a.count) else { return Ok(None) };
        visit(Entry::Item(p))?;
    }
    Ok(Some(()))
}

/// The structs of an array that are in use.
pub(super) fn entries(
    a: Option<Elements<'_>>,
    count: u64,
    used: impl Fn(&Value<'_>) -> bool,
    each: impl Fn(&Value<'_>) -> Option<Entry>,
    visit: Visit<'_>,
) -> Result<Option<()>> {
    // A collection that was never filled has no array.
    let Some(a) = a else { return Ok(if count == 0 { Some(()) } else { None }) };
    for i in 0..count.min(a.count) {
        let Some(e) = a.inner(i) else { return Ok(None) };
        if !used(&e) {
            continue;
        }
        let Some(entry) = each(&e) else { return Ok(None) };
        visit(entry)?;
    }
    Ok(Some(()))
}

/// Whether an entry with chains by index is in use: since 3.0 its next index tells, before its hash code, then signed.
pub(super) fn taken(e: &Value<'_>, next: &[&str], hash: &[&str]) -> bool {
    match e.field(hash) {
        Some((Element(et::I4), _)) if e.has(&["hashCode"]) => e.int(hash).is_some_and(|h| h >= 0),
        _ => e.int(next).is_some_and(|n| n >= -1),
    }
}

/// Linked nodes; the last may lead to the first.
pub(super) fn nodes(
    first: Option<Value<'_>>,
    next: &[&str],
    each: impl Fn(&Value<'_>) -> Option<Entry>,
    visit: Visit<'_>,
) -> Result<Option<()>> {
    let mut seen = FxHashSet::default();
    let mut at = first;
    while let Some(n) = at.filter(|n| seen.insert(n.address())) {
        let Some(entry) = each(&n) else { return Ok(None) };
        visit(entry)?;
        at = n.object(next);
    }
    Ok(Some(()))
}

/// A binary tree in order.
pub(super) fn tree(
    session: &Session,
    root: Option<Value<'_>>,
    left: &[&str],
    right: &[&str],
    each: impl Fn(&Value<'_>) -> Option<Entry>,
    visit: Visit<'_>,
) -> Result<Option<()>> {
    tree_nodes(session, root, left, right, &mut |n| match each(n) {
        Some(entry) => visit(entry).map(Some),
        None => Ok(None),
    })
}

/// The nodes of a binary tree in order; ends where `on` has no answer.
pub(super) fn tree_nodes(
    session: &Session,
    root: Option<Value<'_>>,
    left: &[&str],
    right: &[&str],
    on: &mut dyn FnMut(&Value<'_>) -> Result<Option<()>>,
) -> Result<Option<()>> {
    let mut seen = FxHashSet::default();
    let (mut stack, mut at) = (Vec::new(), root);
    loop {
        session.watch.cancel.check()?;
        while let Some(n) = at.filter(|n| seen.insert(n.address())) {
            at = n.object(left);
            stack.push(n);
        }
        let Some(n) = stack.pop() else { return Ok(Some(())) };
        // The empty node of an immutable tree stands for nothing.
        let stands = n.object(left).is_some() || n.object(right).is_some() || !n.has(&["_frozen"]);
        if stands && on(&n)?.is_none() {
            return Ok(None);
        }
        at = n.object(right);
    }
}
