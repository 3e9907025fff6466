//! Memory: what keeps it, what the collector says, what grew.

use anyhow::{Result, bail};

use super::{Analysis, Area, Finding, SMALL, Sure};
use crate::commands::graph::diff;
use crate::commands::graph::leaks::evidence::{Evidence, Item};
use crate::commands::graph::leaks::{Limits, Suspect, find as suspects};
use crate::dump::MapState;
use crate::heap::oom;
use crate::native::heaps::Allocator;
use crate::session::Session;
use crate::shell::out::thousands;

/// Elements of a holder, and percent of the live bytes it keeps, from which on it is the trouble.
const STRIKING_COUNT: u64 = 100;
const STRIKING_SHARE: f64 = 25.0;
/// Fewer bytes are worth a look only where somebody's own code keeps them.
const LEAST_BYTES: u64 = 64 * 1024;
/// Owners that grew.
const MOST_GROWN: usize = 3;

/// Adds what keeps memory, and why there was none.
pub fn find(session: &Session, all: &mut Analysis) -> Result<()> {
    let (clr, heap) = (session.clr()?, session.heap()?);
    for r in oom::records(clr, heap).items {
        let what = format!("the collector had no memory to give: {}, {} bytes were asked for", r.reason(), r.requested);
        let mut f = Finding::new(Area::Memory, 85, Sure::Certain, what).signed(format!("no memory: {}", r.reason()));
        f.address = r.address;
        f.bytes = Some(r.requested);
        f.next.push("!analyzeoom".into());
        all.findings.push(f);
    }
    if heap.in_gc {
        all.missing.push("what keeps memory: the dump was taken inside a garbage collection".into());
        return Ok(());
    }
    let found = suspects(session, &Limits::default())?;
    if found.nameless {
        all.missing.push("events, timers and state machines: types of the library have no names here".into());
    }
    // The finalizer is judged by what its thread waits for.
    let committed = committed(session);
    all.findings.extend(found.suspects.iter().filter(|s| s.kind != "finalizer").map(|s| finding(s, committed)));
    if let Allocator::Other(name) = session.native_heaps()?.allocator {
        all.missing.push(format!("native heaps: malloc is {name} here, whose blocks are not read"));
    }
    Ok(())
}

/// Bytes that are mapped and committed.
fn committed(session: &Session) -> u64 {
    session.dump().map.iter().filter(|e| e.state == MapState::Commit).map(|e| e.end - e.start).sum()
}

/// A suspect as a finding; native memory is measured by the `committed` bytes of the process.
fn finding(s: &Suspect, committed: u64) -> Finding {
    let counts = s.count >= STRIKING_COUNT && !s.is_waste();
    let native = s.kind == "native" && s.bytes as f64 * 100.0 >= committed as f64 * STRIKING_SHARE;
    let striking = counts && (s.share >= STRIKING_SHARE || native);
    // What the library keeps by itself is no news, and little is nothing to look at.
    let of_library = ["System.", "Microsoft.", "static System."].iter().any(|p| s.owner.starts_with(p));
    let weight = match striking {
        true => 60,
        false if s.is_waste() && s.bytes >= LEAST_BYTES => 24,
        false if s.is_waste() => SMALL,
        false if s.bytes >= LEAST_BYTES => 30,
        false if of_library => SMALL,
        false => 22,
    };
    let sure = if striking { Sure::Likely } else { Sure::Possible };
    let bytes = thousands(s.bytes);
    let what = match s.kind {
        "free" => format!("{bytes} bytes of free space between objects of {}", s.owner),
        "strings" => format!("{bytes} bytes are strings whose text another has"),
        "sparse" => format!("{bytes} bytes of {} are null or zero, in {}", s.element, s.owner),
        "copies" => format!("{bytes} bytes are byte arrays whose content another has"),
        "capacity" => format!("{bytes} bytes are room that {} {} do not use", thousands(s.count), s.element),
        "boxed" => format!("{bytes} bytes are values in boxes: {}", thousands(s.count)),
        "weak" => format!("{} {}, in {}", thousands(s.count), s.element, s.owner),
        "native" => {
            format!("{bytes} bytes of native memory are owned by {}: {} blocks", s.owner, thousands(s.count))
        }
        "cheap" => format!("the C heap holds {bytes} bytes free that it does not return"),
        "arenas" => format!("{} arenas of the C heap have little in use of {bytes} bytes", thousands(s.count)),
        _ => {
            let of = if s.count > 1 { format!("{} {}", thousands(s.count), s.element) } else { s.element.clone() };
            format!("{} keeps {} bytes ({:.1} %) alive: {of}", s.owner, thousands(s.bytes), s.share)
        }
    };
    let mut f = Finding::new(Area::Memory, weight, sure, format!("{} ({})", what, s.kind)).signed(signature(s));
    f.address = if s.holder != 0 { s.holder } else { s.example };
    f.count = Some(s.count);
    f.bytes = Some(s.bytes);
    f.share = Some(s.share);
    f.evidence = s.facts.clone();
    if !s.path.is_empty() {
        f.evidence.push(Evidence { text: s.path.replace(" -> ", ", then "), items: Vec::new() });
    }
    f.next = s.next.iter().take(2).cloned().collect();
    f
}

/// Adds what grew since an older dump, in front of everything of memory.
pub fn growth(session: &Session, older: &str, all: &mut Analysis) -> Result<()> {
    session.clr()?;
    let (older_side, new) = (diff::older(session, older)?, diff::own(session)?);
    let (old, missing) = &*older_side;
    if let Some(why) = missing {
        bail!("{why}");
    }
    let ways = diff::grow::Ways::new(old, &new);
    let mut owners = ways.owners();
    owners.sort_by_key(|(_, c)| std::cmp::Reverse(c.bytes()));
    let grown = owners.iter().filter(|(_, c)| c.bytes() > 0).take(MOST_GROWN);
    for (i, (owner, c)) in grown.enumerate() {
        let percent = c.percent().map_or_else(|| "new".into(), |p| format!("{p:.0} % more"));
        let bytes = c.bytes().unsigned_abs();
        let what = format!("{} holds {} bytes more than before ({percent})", owner.words, thousands(bytes));
        let mut f =
            Finding::new(Area::Memory, 68 - i as u8, Sure::Likely, what).signed(format!("{} grew", owner.words));
        f.bytes = Some(bytes);
        f.count = Some(c.count().unsigned_abs());
        let items = vec![Item::of("before").bytes(c.old.bytes), Item::of("now").bytes(c.new.bytes)];
        let text = format!("{} bytes before, {} now", thousands(c.old.bytes), thousands(c.new.bytes));
        f.evidence.push(Evidence::many(text, items));
        f.next.push(format!("!diff {older} -owners"));
        all.findings.push(f);
    }
    Ok(())
}

/// Kind, who holds it and what: names alone, of a stack no thread.
fn signature(s: &Suspect) -> String {
    let holder = s.place.variable.as_deref().unwrap_or(&s.place.holder_type);
    let parts = [Some(s.kind), Some(holder).filter(|h| !h.is_empty()), s.element_type(), s.place.generation];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    parts.join(", ")
}

/// Where the memory is, from the process down to live objects.
pub fn parts(session: &Session) -> Result<Vec<(&'static str, u64)>> {
    let mut parts = vec![("mapped and committed by the process", committed(session))];
    let Ok(heap) = session.heap() else { return Ok(parts) };
    let of_gc = heap.segments.iter().map(|s| s.committed.max(s.end).saturating_sub(s.start)).sum();
    parts.push(("committed for the GC heap", of_gc));
    let stat = session.stat()?;
    let (all, free) =
        stat.generations.iter().fold((0u64, 0u64), |(a, f), (_, all, free)| (a + all.bytes, f + free.bytes));
    parts.push(("objects in it", all.saturating_sub(free)));
    parts.push(("free between them", free));
    let native = session.native_heaps()?;
    if !native.blocks.is_empty() {
        let t = native.totals();
        parts.push(("of the C heap", t.system));
        parts.push(("in use in it", t.used.bytes));
    }
    Ok(parts)
}
