//! Invariants of explicit frames: the records by which the runtime marks where managed code was left.
//!
//! Source: dotnet/runtime `src/coreclr/vm/frames.h`. Newer frames lie at lower addresses of the thread's own stack, the last
//! has all ones in place of the next; each begins with a vtable of the runtime (through 9.0) or a small number (since 10.0).

use super::{Found, Probe};

/// Most frames looked at of one thread.
const MOST: usize = 1 << 10;
/// First words below this are numbers.
const NUMBERS: u64 = 0x100;
/// The number of `InlinedCallFrame`, the first of all.
const INLINED_CALL: u64 = 1;
/// How far a frame may lie from the stack pointer of the call it stands for: it is part of the frame that made it.
const REACH: u64 = 1 << 20;

pub fn run(p: &mut Probe<'_>, threads: &[u64]) {
    let Some(all) = chains(p, threads) else { return };
    if p.layout.try_offset("InlinedCallFrame", "CallSiteSP").is_some() {
        calls(p, &all);
    }
}

/// Follows the chain of every thread; the frames of all, if they are chains.
fn chains(p: &mut Probe<'_>, threads: &[u64]) -> Option<Vec<u64>> {
    const FIELDS: &[&str] = &["Thread.Frame", "Frame.Next"];
    p.layout.try_offset("Thread", "Frame")?;
    let (mut all, mut wrong, mut absent, mut chains) = (Vec::new(), Vec::new(), 0, 0);
    for &thread in threads {
        let Some(id) = p.field(thread, "Thread", "OSId").map(|v| u64::from(v as u32)).filter(|&id| id != 0) else {
            continue;
        };
        let stack = p.dump.thread_of(id).and_then(|t| t.stack);
        match one(p, thread, stack) {
            Ok(frames) => {
                chains += usize::from(!frames.is_empty());
                all.extend(frames);
            }
            Err(None) => absent += 1,
            Err(Some(at)) => wrong.push(at),
        }
    }
    // A thread may have pushed or popped one while the dump was written, or stand on another stack.
    let found = match wrong.first() {
        Some(at) if wrong.len() * 4 > chains => Found::Bad(format!("no frame at {at:x}")),
        _ if all.is_empty() => Found::Absent(format!("no frame is in the dump, of {absent} threads it lacks them")),
        _ => Found::Good(format!("{} frames of {chains} threads, {} chains go wrong", all.len(), wrong.len())),
    };
    let good = matches!(found, Found::Good(_));
    p.record("explicit frames", FIELDS, "records on the thread's stack, the newest first", found);
    good.then_some(all)
}

/// The frames of one thread; the address of what is none, or nothing where the memory is not in the dump.
fn one(p: &Probe<'_>, thread: u64, stack: Option<(u64, u64)>) -> Result<Vec<u64>, Option<u64>> {
    let end = if p.ptr() == 8 { u64::MAX } else { u64::from(u32::MAX) };
    let next = p.layout.try_offset("Frame", "Next").unwrap_or(p.ptr());
    let mut at = p.field(thread, "Thread", "Frame").ok_or(None)?;
    let mut frames = Vec::new();
    while at != end && frames.len() < MOST {
        let ordered = frames.last().is_none_or(|&l| at > l);
        let inside = stack.is_none_or(|(low, high)| (low..high).contains(&at));
        if !p.plausible(at) || !ordered || !inside {
            return Err(Some(at));
        }
        let word = p.space().ptr(at).ok_or(None)?;
        if word >= NUMBERS && !p.module.holds(word) || word == 0 {
            return Err(Some(at));
        }
        frames.push(at);
        at = p.space().ptr_at(at, next).ok_or(None)?;
    }
    Ok(frames)
}

/// Calls of native code, where they can be told by their number: they return to the frame they are part of.
fn calls(p: &mut Probe<'_>, frames: &[u64]) {
    const FIELDS: &[&str] = &["InlinedCallFrame.CallSiteSP", "InlinedCallFrame.CallerReturnAddress"];
    let calls = frames.iter().copied().filter(|&f| p.space().ptr(f) == Some(INLINED_CALL));
    let read = |f: u64, name: &str| p.field(f, "InlinedCallFrame", name);
    let active: Vec<u64> = calls.filter(|&f| read(f, "CallerReturnAddress").is_some_and(|r| r != 0)).collect();
    let right = |f: &u64| {
        let near = read(*f, "CallSiteSP").is_some_and(|sp| sp.abs_diff(*f) < REACH && sp.is_multiple_of(p.ptr()));
        near && read(*f, "CallerReturnAddress").is_some_and(|ip| ip > 0xFFFF)
    };
    let found = match active.iter().find(|f| !right(f)) {
        Some(f) => Found::Bad(format!("the one at {f:x}")),
        None if active.is_empty() => Found::Absent("no call is known to be under way".into()),
        None => Found::Good(format!("{} under way", active.len())),
    };
    p.record("calls of native code", FIELDS, "a return address, and a stack pointer near by", found);
}
