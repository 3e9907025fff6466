//! Suspects outside the managed heap: native memory that objects hold, and what the C library's heap keeps without use.

use anyhow::Result;

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::view::View;
use crate::native::heaps::Arena;
use crate::session::nativeowners::Which;
use crate::shell::out::thousands;

/// Native bytes from which on an owner, or what a heap keeps free, is worth a look.
const LEAST: u64 = 1 << 20;
/// Arenas with little in use from which on they are worth a look.
const ARENAS: usize = 8;

/// Types and fields that hold much native memory.
pub fn owners(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let heaps = view.session.native_heaps()?;
    if heaps.blocks.is_empty() {
        return Ok(());
    }
    let mut owners = view.session.native_owners(Which::All)?;
    owners.retain(|o| o.bytes >= LEAST && o.blocks >= view.limits.few);
    if owners.is_empty() {
        return Ok(());
    }
    let dead = view.session.native_owners(Which::Dead)?;
    for o in &owners {
        let mut s = Suspect { kind: "native", bytes: o.bytes, count: o.blocks, ..Suspect::default() };
        s.element = "native blocks".into();
        s.owner = format!("{}.{}", o.ty, o.field);
        (s.holder, s.place.holder_type) = (o.example, o.ty.to_string());
        let item = Item::of("objects that hold native blocks").ty(&o.ty).count(o.objects).name(&*o.field);
        s.facts.push(Evidence::new(format!("{} objects hold them", thousands(o.objects)), item));
        if let Some(d) = dead.iter().find(|d| (&d.ty, &d.field) == (&o.ty, &o.field)) {
            let text = format!("{} of them nothing reaches: {} native bytes", thousands(d.objects), thousands(d.bytes));
            let item = Item::of("objects among them that nothing reaches").ty(&o.ty).count(d.objects).bytes(d.bytes);
            s.facts.push(Evidence::new(text, item));
        }
        s.next = vec!["!heap -owners".into(), format!("!gcroot {:x}", o.example)];
        out.push(s);
    }
    Ok(())
}

/// The C library's heap, where much of it is free.
pub fn kept(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let heaps = view.session.native_heaps()?;
    let t = heaps.totals();
    let unused = |a: &&Arena| a.system >= LEAST && a.used.bytes.saturating_mul(4) < a.system;
    let idle: Vec<&Arena> = heaps.arenas.iter().filter(unused).collect();
    let many = idle.len() >= ARENAS;
    let free = t.free.bytes + t.cached.bytes + t.top;
    let enough = free >= LEAST * 16 && free as f64 * 100.0 >= t.system as f64 * view.limits.free;
    if !many && !enough {
        return Ok(());
    }
    let mut s = Suspect { kind: "cheap", bytes: free, count: t.free.count, ..Suspect::default() };
    s.element = "free chunks".into();
    s.owner = "the C library's heap".into();
    let text = format!("{} of {} bytes are in use", thousands(t.used.bytes), thousands(t.system));
    s.facts.push(Evidence::new(text, Item::of("bytes of the heap that are in use").bytes(t.used.bytes)));
    let text = format!("malloc_trim would give back {} bytes", thousands(t.trimmable));
    s.facts.push(Evidence::new(text, Item::of("bytes that malloc_trim would give back").bytes(t.trimmable)));
    if many {
        let bytes = idle.iter().map(|a| a.system).sum();
        let text = format!(
            "{} of {} arenas have less than a quarter in use, of {} bytes: MALLOC_ARENA_MAX limits them",
            idle.len(),
            heaps.arenas.len(),
            thousands(bytes)
        );
        let item = Item::of("arenas with less than a quarter in use").count(idle.len() as u64).bytes(bytes);
        s.facts.push(Evidence::new(text, item));
    }
    s.next = vec!["!heap -s".into()];
    out.push(s);
    Ok(())
}
