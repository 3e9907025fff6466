//! App domains of CLR 2.0: which a thread runs in, their numbers and names, and the table of statics of modules they share.
//!
//! Order: the shared source, `clr/src/vm/appdomain.hpp` (`AppDomain`: friendly name, index, id, `DomainLocalBlock`) and
//! `domainfile.h` (`DomainFile`: its domain first). How large what lies in between is it does not tell: places are searched.

use rustc_hash::{FxHashMap, FxHashSet};

use super::super::search::Search;
use super::super::threadlist;
use super::super::{Layout, Source, arraylist};
use super::modules::{text, text_header};
use crate::dump::AddressSpace;

/// Bytes of a `Thread` looked through.
const THREAD_REACH: u64 = 0x800;
/// Words of an `AppDomain` looked through.
const DOMAIN_WORDS: u64 = 0x400;
/// More app domains than an object's header has numbers for.
const MOST_DOMAINS: usize = 1 << 11;
/// More modules than app domains share.
const MOST_SLOTS: u64 = 1 << 16;

/// Finds the app domain of a thread: the first place that holds, in all threads, one of the runtime's list.
pub fn domain_of_threads(search: &Search<'_>, layout: &mut Layout) {
    if layout.constant("InlineVtables").is_err() || layout.try_offset("Thread", "AppDomain").is_some() {
        return;
    }
    let space = &search.dump.space;
    let domains: FxHashSet<u64> = domains(space, layout).into_keys().collect();
    let threads = threads(search, layout);
    if domains.is_empty() || threads.is_empty() {
        return;
    }
    let fits = |o: &u64| threads.iter().all(|&t| space.ptr_at(t, *o).is_some_and(|d| domains.contains(&d)));
    if let Some(at) = (0..THREAD_REACH).step_by(usize::from(space.ptr_size())).find(fits) {
        layout.set_field("Thread", "AppDomain", at, Source::Calibrated);
    }
}

/// The threads of the runtime's list.
pub fn threads(search: &Search<'_>, layout: &Layout) -> Vec<u64> {
    let store = layout.global("ThreadStore").ok().and_then(|c| search.dump.space.ptr(c));
    store.and_then(|s| threadlist::follow(search.dump, layout, s)).map(|l| l.threads).unwrap_or_default()
}

/// The app domains of the runtime's list, with their places in it, from 1.
pub fn domains(space: &AddressSpace, layout: &Layout) -> FxHashMap<u64, u32> {
    let list = layout.global("AppDomainIndexList").ok();
    let listed = list.and_then(|l| arraylist::items(space, layout, l, MOST_DOMAINS)).unwrap_or_default();
    listed.items.into_iter().zip(1..).filter(|d| d.0 != 0).collect()
}

/// A domain's table of the statics of modules that domains share, where it begins in a domain: the domain itself, the slots, how
/// many they are.
#[derive(Debug, Clone, Copy)]
pub struct Slots {
    pub first: u64,
    pub count: u64,
}

/// The table of `domain` at `at`, if it is one: each slot in use leads to a module's file in this domain.
pub fn slots(space: &AddressSpace, domain: u64, at: u64) -> Option<Slots> {
    const LOOKED_AT: u64 = 64;
    let ptr = u64::from(space.ptr_size());
    let word = |i: u64| space.ptr_at(domain, at + i * ptr);
    let slots = (word(0)? == domain).then_some(Slots { first: word(1)?, count: word(2)? })?;
    if slots.count > MOST_SLOTS || (slots.first == 0) != (slots.count == 0) {
        return None;
    }
    let used = (0..slots.count.min(LOOKED_AT)).map(|i| space.ptr_at(slots.first, i * ptr));
    // The statics' first word is the file, whose second the domain.
    let right = |local: u64| local == 0 || space.ptr(local).and_then(|f| space.ptr_at(f, ptr)) == Some(domain);
    used.into_iter().all(|local| local.is_some_and(right)).then_some(slots)
}

/// Finds numbers and names of app domains and the table of statics in them: each where it stands in all domains alike.
pub fn complete(space: &AddressSpace, layout: &mut Layout) {
    let ptr = u64::from(space.ptr_size());
    let domains = domains(space, layout);
    let fits = |at: &u64| {
        let all: Option<Vec<Slots>> = domains.keys().map(|&d| slots(space, d, *at)).collect();
        all.is_some_and(|all| all.iter().any(|s| s.count > 0))
    };
    let found: Vec<u64> = (1..DOMAIN_WORDS).map(|i| i * ptr).filter(fits).collect();
    let &[block] = found.as_slice() else { return };
    layout.set_field("AppDomain", "ModuleSlots", block + ptr, Source::Calibrated);
    layout.set_field("AppDomain", "ModuleSlotCount", block + 2 * ptr, Source::Calibrated);
    // In front of the table: the place in the list, the number that is given once, and how often was collected, 32 bits each.
    let index = block - if ptr == 8 { 16 } else { 12 };
    let half = |domain: u64, at: u64| domain.checked_add(at).and_then(|a| space.u32(a));
    let ids: FxHashSet<u32> =
        domains.keys().filter_map(|&d| half(d, index + 4)).filter(|&i| i > 0 && (i as usize) < MOST_DOMAINS).collect();
    if domains.iter().all(|(&d, &n)| half(d, index) == Some(n)) && ids.len() == domains.len() {
        layout.set_field("AppDomain", "Id", index + 4, Source::Calibrated);
    }
    // The name is the last text in front of that.
    let named = |at: &u64| domains.keys().all(|&d| text(space, d, *at).is_some_and(|t| !t.contains(char::is_control)));
    if let Some(at) = (text_header(ptr) / ptr + 1..index / ptr).rev().map(|i| i * ptr).find(named) {
        layout.set_field("AppDomain", "FriendlyName", at, Source::Calibrated);
    }
}
