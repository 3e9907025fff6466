//! The list of managed threads: how its links lead from one to the next.
//!
//! Through 10.0 the list's head and each link hold the address of the next thread's link (`SList` of dotnet/runtime
//! `src/coreclr/inc/slist.h`); in 11.0 they hold the next `Thread` itself, at unchanged places, and the text of the Thread
//! contract (`docs/design/datacontracts/Thread.md`) still subtracts the offset. So the threads decide: read the way under
//! which they are threads.

use rustc_hash::FxHashSet;

use super::Layout;
use crate::dump::Dump;

/// Bound on the list: no process has more threads.
pub const MAX_THREADS: usize = 1 << 17;
/// Threads looked at to tell one way from the other.
const SAMPLE: usize = 64;

/// How a list ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a null link.
    Closed,
    /// It leads back into itself, or is longer than any.
    Circle,
    /// The link of this thread is not in the dump.
    Absent(u64),
}

/// The threads of a list.
#[derive(Debug, Clone)]
pub struct List {
    /// Addresses of `Thread`, in the list's order.
    pub threads: Vec<u64>,
    /// How it ended.
    pub end: End,
    /// Whether links hold the next thread itself (11.0), not the address of its link.
    pub direct: bool,
}

/// Follows the list of the `ThreadStore` at `store`; `None` when its head is not in the dump or the layout lacks it.
pub fn follow(dump: &Dump, layout: &Layout, store: u64) -> Option<List> {
    let link = layout.try_offset("Thread", "LinkNext")?;
    let head = dump.space.ptr_at(store, layout.try_offset("ThreadStore", "FirstThreadLink")?)?;
    let way = |bias: u64, most: usize| walk(dump, head, link, bias, most);
    let (to_link, direct) = (way(link, SAMPLE), way(0, SAMPLE));
    // Of two alike the older way, which most runtimes have.
    let broken = matches!(direct.1, End::Absent(_));
    let is_direct = !broken && rank(dump, layout, &direct.0) > rank(dump, layout, &to_link.0);
    let (threads, end) = way(if is_direct { 0 } else { link }, MAX_THREADS);
    Some(List { threads, end, direct: is_direct })
}

/// The threads from `head` on, and how the list ended; `most` of them at most.
fn walk(dump: &Dump, head: u64, link: u64, bias: u64, most: usize) -> (Vec<u64>, End) {
    let (mut threads, mut seen) = (Vec::new(), FxHashSet::default());
    let mut value = head;
    while value != 0 {
        let thread = value.wrapping_sub(bias);
        if threads.len() >= most || !seen.insert(thread) {
            return (threads, End::Circle);
        }
        threads.push(thread);
        match thread.checked_add(link).and_then(|a| dump.space.ptr(a)) {
            Some(next) => value = next,
            None => return (threads, End::Absent(thread)),
        }
    }
    (threads, End::Closed)
}

/// How much the threads look like some: ids of the dump's threads, then small managed ids.
fn rank(dump: &Dump, layout: &Layout, threads: &[u64]) -> (usize, usize) {
    let word = |thread: u64, field| dump.space.u32(thread.checked_add(layout.try_offset("Thread", field)?)?);
    let known = |id: u32| dump.thread_number(u64::from(id)).is_some();
    let os = threads.iter().filter(|&&t| word(t, "OSId").is_some_and(known)).count();
    let managed: FxHashSet<u32> =
        threads.iter().filter_map(|&t| word(t, "Id")).filter(|id| (1..1 << 20).contains(id)).collect();
    (os, managed.len())
}
