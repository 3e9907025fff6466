//! Stack bounds of the threads of a Linux core.

use super::header::Segment;
use super::notes::Notes;
use crate::dump::memmap::Range;

/// The default size of a Linux thread's stack (8 MiB, `ulimit -s`): what lies further from its top than this, or further
/// above the stack pointer when the top is not known, is taken for a neighbour.
const MOST_STACK: u64 = 8 << 20;

/// Sets the stack of every thread: from the start of the mapping that holds its stack pointer to the thread control
/// block, which glibc and musl put at the top of a thread's own stack; to the end of the mapping for the main thread,
/// whose stack the kernel made. Neighbouring mappings appear as one in a core, so that the mapping's end says nothing of
/// other threads: heaps may follow a stack at once.
pub fn assign(notes: &mut Notes, loads: &[(Range, Segment)]) {
    let main = notes.pid.or_else(|| notes.threads.first().map(|t| t.os_id));
    let mut tops: Vec<u64> = notes.threads.iter().filter_map(|t| t.registers.as_ref()?.tp).collect();
    tops.sort_unstable();
    for t in &mut notes.threads {
        let Some(r) = &t.registers else { continue };
        let Some(&((start, end), _)) = at(loads, r.sp) else { continue };
        let is_main = Some(t.os_id) == main;
        let high = match r.tp {
            _ if is_main => end,
            Some(tp) if tp > r.sp && tp <= end => tp,
            _ => end.min(r.sp.saturating_add(MOST_STACK)),
        };
        // Another thread's control block below is the upper end of another stack in the same mapping.
        let below = tops.partition_point(|&tp| tp <= r.sp);
        let other = below.checked_sub(1).and_then(|i| tops.get(i)).copied().unwrap_or(0);
        let reach = high.saturating_sub(MOST_STACK).min(r.sp & !0xFFF);
        let low = if is_main { start } else { start.max(other).max(reach) };
        t.stack = Some((low, high));
    }
}

fn at(loads: &[(Range, Segment)], address: u64) -> Option<&(Range, Segment)> {
    let i = loads.partition_point(|(r, _)| r.0 <= address).checked_sub(1)?;
    loads.get(i).filter(|(r, _)| address < r.1)
}
