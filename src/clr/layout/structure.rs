//! Structural discovery: variables and fields that no table names, found by the shape of what they lead to.
//!
//! It starts from the cells of the DAC table, or from every word of the runtime's image where that table may not be
//! asked. Shapes: dotnet/runtime `src/coreclr/vm/methodtable.h` (MethodTables of Object, String, the free type),
//! `src/coreclr/inc/slist.h` and `vm/threads.h` (thread store: first link, sentinel, last link, count).

use rustc_hash::FxHashSet;

use super::checks::Probe;
use super::search::Search;
use super::{Layout, Source, checks, threadlist};
use crate::clr::types::methodtable::{MethodTable, MtReader};

/// Bytes of a `ThreadStore` looked through for the head of its list.
const STORE_REACH: u64 = 0x200;
/// Bytes on either side of a thread's link looked through for its other fields.
const THREAD_REACH: i64 = 0x800;
const MAX_THREADS: usize = 1 << 17;

/// A list of threads that was found.
struct ThreadsFound {
    threads: Vec<u64>,
    /// Offset of the link and of the operating system id in a `Thread`.
    link: u64,
    os_id: u64,
}

impl Search<'_> {
    /// The MethodTables every runtime has: String by its two-byte components, Object as its parent, the free type by
    /// its one-byte components and no class.
    pub fn well_known(&self, layout: &mut Layout) {
        let Ok(reader) = MtReader::new(layout) else { return };
        let space = &self.dump.space;
        let small = 3 * self.ptr() as u32;
        let all: Vec<(u64, MethodTable)> =
            self.values().filter_map(|(c, v)| Some((c, reader.read(space, v)?))).collect();
        let is_object = |mt: &MethodTable| {
            mt.parent == 0 && mt.base_size == small && !mt.has_component_size() && reader.round_trips(space, mt)
        };
        let is_string = |mt: &MethodTable| {
            mt.component_size() == 2
                && !mt.is_array()
                && checks::string_sizes(self.ptr()).contains(&mt.base_size)
                && reader.read(space, mt.parent).is_some_and(|p| is_object(&p))
                && reader.round_trips(space, mt)
        };
        let is_free = |mt: &MethodTable| {
            mt.component_size() == 1 && mt.base_size == small && mt.parent == 0 && mt.class_or_canonical == 0
        };
        let mut set = |name: &str, cell: Option<u64>| {
            if let Some(cell) = cell {
                layout.set_global(name, cell, Source::Calibrated);
            }
        };
        let string = all.iter().find(|(_, mt)| is_string(mt));
        let object = string.and_then(|(_, s)| all.iter().find(|(_, mt)| mt.address == s.parent));
        set("StringMethodTable", string.map(|s| s.0));
        set("ObjectMethodTable", object.map(|o| o.0));
        set("FreeObjectMethodTable", all.iter().find(|(_, mt)| is_free(mt)).map(|f| f.0));
    }

    /// `System.RuntimeType` by its name; without metadata by its slot, which is next to Object's in every version.
    pub fn runtime_type(&self, layout: &mut Layout) {
        if layout.global("RuntimeTypeMethodTable").is_ok() {
            return;
        }
        let probe = Probe::new(self.dump, layout, self.gc, self.module, Source::Calibrated);
        let named = probe.core_type("System.RuntimeType");
        let next = || {
            let object = layout.global("ObjectMethodTable").ok()?;
            self.cells.get(self.cells.iter().position(|&c| c == object)? + 1).copied()
        };
        let cell = match named {
            Some(mt) => self.values().find(|&(_, v)| v == mt).map(|f| f.0),
            None if self.slots => next(),
            None => None,
        };
        if let Some(cell) = cell {
            layout.set_global("RuntimeTypeMethodTable", cell, Source::Calibrated);
        }
    }

    /// The app domain and its list of assemblies, whose first one is the core library.
    pub fn domain(&self, layout: &mut Layout) {
        const DOMAIN_REACH: u64 = 0x1800;
        let known = layout.global("AppDomain").ok();
        let cells: Vec<u64> = known.map_or_else(|| self.cells.to_vec(), |c| vec![c]);
        let mut hits = Vec::new();
        if !self.has_core(layout) {
            return;
        }
        let mut trial = layout.clone();
        for cell in cells {
            trial.set_global("AppDomain", cell, Source::Calibrated);
            let Some(domain) = self.dump.space.ptr(cell) else { continue };
            for offset in (0..DOMAIN_REACH).step_by(self.ptr() as usize) {
                if self.effort.is_over() {
                    break;
                }
                let at = domain.checked_add(offset);
                let count = at.and_then(|a| self.dump.space.u32(a)).unwrap_or(0);
                if !(1..1 << 16).contains(&count) {
                    continue;
                }
                trial.set_field("AppDomain", "DomainAssemblyList", offset, Source::Calibrated);
                let probe = Probe::new(self.dump, &trial, self.gc, self.module, Source::Calibrated);
                if let Some(modules) = probe.assembly_list() {
                    hits.push((std::cmp::Reverse(modules), offset, cell));
                }
            }
        }
        // Other lists of this form are short; what lies in front of the domain sees its list too, but further away.
        if let Some(&(_, offset, cell)) = hits.iter().min() {
            if known.is_none() {
                layout.set_global("AppDomain", cell, Source::Calibrated);
            }
            layout.place("AppDomain", "DomainAssemblyList", offset, &Source::Calibrated);
        }
    }

    /// Whether the core library's module is known: what is proved by it cannot be found without.
    pub fn has_core(&self, layout: &Layout) -> bool {
        Probe::new(self.dump, layout, self.gc, self.module, Source::Calibrated).core_module() != 0
    }

    pub fn sync_table(&self, layout: &mut Layout) {
        if layout.global("SyncTableEntries").is_ok() {
            return;
        }
        let probe = Probe::new(self.dump, layout, self.gc, self.module, Source::Calibrated);
        let found = self.values().find(|&(_, table)| probe.is_sync_table(table)).map(|f| f.0);
        if let Some(cell) = found {
            layout.set_global("SyncTableEntries", cell, Source::Calibrated);
        }
    }

    /// The thread store by its list, whose length and last node it knows; then the fields of a thread.
    pub fn threads(&self, layout: &mut Layout) {
        let Ok(reader) = MtReader::new(layout) else { return };
        let known: FxHashSet<u64> = self.dump.threads.iter().map(|t| t.os_id).collect();
        // A list of links is proved by its last one: it is looked for everywhere before the other.
        let linked = self.store(|store, head| self.linked(layout, &reader, store, head, &known));
        let found = linked.or_else(|| self.store(|store, head| self.direct(layout, store, head, &known)));
        if let Some((cell, head, found)) = found {
            layout.set_global("ThreadStore", cell, Source::Calibrated);
            layout.place("ThreadStore", "FirstThreadLink", head, &Source::Calibrated);
            layout.place("Thread", "LinkNext", found.link, &Source::Calibrated);
            layout.place("Thread", "OSId", found.os_id, &Source::Calibrated);
            self.finalizer(layout, &found.threads);
        }
    }

    /// The variable that leads to the thread store, and where the list's head stands in it, by what `list` finds there.
    fn store(&self, list: impl Fn(u64, u64) -> Option<ThreadsFound>) -> Option<(u64, u64, ThreadsFound)> {
        let open = |_: &u64| !self.effort.is_over();
        let heads = || (self.ptr()..STORE_REACH).step_by(self.ptr() as usize).take_while(open);
        self.values().find_map(|(cell, store)| heads().find_map(|head| Some((cell, head, list(store, head)?))))
    }

    /// Through 10.0: links that lead to links.
    fn linked(
        &self,
        layout: &Layout,
        reader: &MtReader,
        store: u64,
        head: u64,
        known: &FxHashSet<u64>,
    ) -> Option<ThreadsFound> {
        let nodes = self.list(store, head)?;
        let ids = self.ids(layout, &nodes, known, -THREAD_REACH)?;
        let link = self.link(layout, reader, &nodes, ids)?;
        let threads = nodes.iter().map(|n| n.wrapping_sub(link)).collect();
        Some(ThreadsFound { threads, link, os_id: link.checked_add_signed(ids)? })
    }

    /// Since 11.0: links that lead to the next thread itself, and the count behind the head.
    fn direct(&self, layout: &Layout, store: u64, head: u64, known: &FxHashSet<u64>) -> Option<ThreadsFound> {
        let (space, ptr) = (&self.dump.space, self.ptr());
        let at = store.checked_add(head)?;
        let first = space.ptr(at).filter(|&t| t != 0 && t.is_multiple_of(ptr) && !self.module.holds(t))?;
        let counts: Vec<u32> = (0..5).map_while(|i| space.u32(at.checked_add(ptr + 4 * i)?)).collect();
        // All threads, then those not started, in the background, starting, ended.
        let (count, parts) = counts.split_first().filter(|(_, parts)| parts.len() == 4)?;
        let count = *count as usize;
        if !(2..=MAX_THREADS).contains(&count) || parts.iter().any(|&p| p as usize > count) || !space.readable(first) {
            return None;
        }
        (ptr..THREAD_REACH as u64).step_by(ptr as usize).find_map(|link| {
            let (mut threads, mut next) = (Vec::new(), first);
            while next != 0 && next.is_multiple_of(ptr) && threads.len() <= count && !self.effort.is_over() {
                threads.push(next);
                next = space.ptr_at(next, link)?;
            }
            let whole = next == 0 && threads.len() == count;
            let managed: FxHashSet<u32> = threads
                .iter()
                .filter_map(|&t| space.u32(t.checked_add(layout.try_offset("Thread", "Id")?)?))
                .filter(|id| (1..1 << 20).contains(id))
                .collect();
            let os_id = (whole && managed.len() == count).then(|| self.ids(layout, &threads, known, 0)).flatten()?;
            Some(ThreadsFound { threads, link, os_id: u64::try_from(os_id).ok()? })
        })
    }

    /// Whether threads begin elsewhere than the place of their link says: the variable of the finalizer thread leads into one of
    /// them, and not to its start. A link and an operating system id that moved alike look right otherwise.
    pub fn starts_elsewhere(&self, layout: &Layout) -> bool {
        let value = |name| layout.global(name).ok().and_then(|c| self.dump.space.ptr(c)).filter(|&v| v != 0);
        let threads = value("ThreadStore").and_then(|store| threadlist::follow(self.dump, layout, store));
        let (Some(finalizer), Some(list)) = (value("FinalizerThread"), threads) else { return false };
        list.end == threadlist::End::Closed && checks::is_inside(finalizer, &list.threads)
    }

    /// The finalizer thread, where no slot names it: the one thread that variables of the runtime hold.
    fn finalizer(&self, layout: &mut Layout, threads: &[u64]) {
        if layout.global("FinalizerThread").is_ok() {
            return;
        }
        let held: Vec<(u64, u64)> = self.values().filter(|(_, v)| threads.contains(v)).collect();
        if let Some(&(cell, thread)) = held.first()
            && held.iter().all(|h| h.1 == thread)
        {
            layout.set_global("FinalizerThread", cell, Source::Calibrated);
        }
    }

    /// Links of the list whose head is at `head` in the store: as many as its count, the last one its last link.
    fn list(&self, store: u64, head: u64) -> Option<Vec<u64>> {
        let (space, ptr) = (&self.dump.space, self.ptr());
        let at = store.checked_add(head)?;
        let count = space.u32(at.checked_add(3 * ptr)?)? as usize;
        let mut node = space.ptr(at)?;
        if !(1..=MAX_THREADS).contains(&count) || node == 0 {
            return None;
        }
        let last = space.ptr_at(at, 2 * ptr)?;
        let mut nodes = Vec::new();
        while node != 0 {
            nodes.push(node);
            if nodes.len() > count || self.effort.is_over() {
                return None;
            }
            node = space.ptr(node)?;
        }
        (nodes.len() == count && nodes.last() == Some(&last)).then_some(nodes)
    }

    /// Distance from a thread's link to its operating system id, from `least` on: the one place where all hold an id of
    /// the dump's, each another, or zero.
    fn ids(&self, layout: &Layout, nodes: &[u64], known: &FxHashSet<u64>, least: i64) -> Option<i64> {
        let space = &self.dump.space;
        // `m_OSThreadId` was a `DWORD` through 2.2, then a `SIZE_T`.
        let narrow = layout.constant("OSIdSize").is_ok_and(|n| n == 4);
        let mut found = None;
        for distance in (least..THREAD_REACH).step_by(if narrow { 4 } else { self.ptr() as usize }) {
            let mut ids = FxHashSet::default();
            let fits = nodes.iter().all(|n| {
                let at = n.checked_add_signed(distance);
                let id = at.and_then(|a| if narrow { space.u32(a).map(u64::from) } else { space.ptr(a) });
                id.is_some_and(|id| id == 0 || known.contains(&id) && ids.insert(id))
            });
            if fits && !ids.is_empty() && ids.len() * 2 >= nodes.len().min(known.len()) {
                if found.is_some() {
                    return None;
                }
                found = Some(distance);
            }
        }
        found
    }

    /// Distance from the start of a `Thread` to its link: its managed object, behind the handle next to the operating
    /// system id, holds the start. Without the heap the finalizer thread's variable tells it.
    fn link(&self, layout: &Layout, reader: &MtReader, nodes: &[u64], ids: i64) -> Option<u64> {
        let (space, ptr) = (&self.dump.space, self.ptr());
        let near = |node: u64, start: u64| node.checked_sub(start).filter(|&d| d > 0 && d < THREAD_REACH as u64);
        let mut votes: Vec<(u64, usize)> = Vec::new();
        for &node in nodes {
            let behind = layout.constant("OSIdSize").unwrap_or(ptr) as i64;
            let handle = node.checked_add_signed(ids + behind).and_then(|a| space.ptr(a)).unwrap_or(0);
            let Some(object) = space.ptr(handle).filter(|&o| o != 0) else { continue };
            let Some(mt) = space.ptr(object).and_then(|m| reader.read(space, m & !(ptr - 1))) else { continue };
            let words = u64::from(mt.base_size).min(0x400) / ptr;
            let starts = (1..words).filter_map(|i| near(node, space.ptr_at(object, i * ptr)?));
            for distance in starts {
                match votes.iter_mut().find(|v| v.0 == distance) {
                    Some(v) => v.1 += 1,
                    None => votes.push((distance, 1)),
                }
            }
        }
        if let Some(best) = votes.iter().max_by_key(|v| v.1) {
            return Some(best.0);
        }
        let finalizer = layout.global("FinalizerThread").ok().and_then(|c| space.ptr(c))?;
        nodes.iter().filter_map(|&n| near(n, finalizer)).min()
    }
}
