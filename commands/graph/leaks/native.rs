//! Suspects outside the managed heap: native memory that objects hold, and what the C library's heap keeps without use.

use anyhow::Result;

use super::Suspect;
use super::evidence::{Evidence, Item};
use super::view::View;
use crate::native::heaps::Arena;
use crate::session::nativeowners::Which;
use crate::shell::out::thousands;

/// From when on native memory is worth a look; docs/native-memory.md has the same numbers.
mod least {
    /// Bytes of blocks that objects hold by one field.
    pub const OWNED: u64 = 1 << 20;
    /// Bytes that a heap keeps free, if they are that share of it too from which on free space of a generation is told.
    pub const KEPT: u64 = 16 << 20;
    /// Arenas of a megabyte or more with less than a quarter in use.
    pub const ARENAS: usize = 8;
    /// Bytes of such an arena.
    pub const ARENA: u64 = 1 << 20;
}

/// Types and fields that hold much native memory.
pub fn owners(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let heaps = view.session.native_heaps()?;
    if heaps.blocks.is_empty() {
        return Ok(());
    }
    let mut owners = view.session.native_owners(Which::All)?;
    owners.retain(|o| o.bytes >= least::OWNED && o.blocks >= view.limits.few);
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
    let free = t.free.bytes + t.cached.bytes + t.top;
    if free < least::KEPT || (free as f64) * 100.0 < t.system as f64 * view.limits.free {
        return Ok(());
    }
    let mut s = Suspect { kind: "cheap", bytes: free, count: t.free.count, ..Suspect::default() };
    s.element = "free chunks".into();
    s.owner = "the C library's heap".into();
    let text = format!("{} of {} bytes are in use", thousands(t.used.bytes), thousands(t.system));
    let items = vec![
        Item::of("bytes of the heap that are in use").bytes(t.used.bytes),
        Item::of("bytes of the heap").bytes(t.system),
    ];
    s.facts.push(Evidence::many(text, items));
    let text = format!("malloc_trim would give back {} bytes", thousands(t.trimmable));
    s.facts.push(Evidence::new(text, Item::of("bytes that malloc_trim would give back").bytes(t.trimmable)));
    s.next = vec!["!heap -s".into(), "!heap -stat -state free".into()];
    out.push(s);
    Ok(())
}

/// Arenas that threads made and of which little is in use.
pub fn arenas(view: &View<'_>, out: &mut Vec<Suspect>) -> Result<()> {
    let heaps = view.session.native_heaps()?;
    let unused = |a: &&Arena| !a.main && a.system >= least::ARENA && a.used.bytes.saturating_mul(4) < a.system;
    let idle: Vec<&Arena> = heaps.arenas.iter().filter(unused).collect();
    if idle.len() < least::ARENAS {
        return Ok(());
    }
    let (bytes, used) = idle.iter().fold((0u64, 0u64), |t, a| (t.0 + a.system, t.1 + a.used.bytes));
    let mut s = Suspect { kind: "arenas", bytes, count: idle.len() as u64, ..Suspect::default() };
    s.element = "arenas".into();
    s.owner = "the C library's heap".into();
    let text = format!(
        "{} of {} arenas have less than a quarter in use: {} of {} bytes",
        idle.len(),
        heaps.arenas.len(),
        thousands(used),
        thousands(bytes)
    );
    let items = vec![
        Item::of("bytes of theirs that are in use").bytes(used),
        Item::of("all arenas").count(heaps.arenas.len() as u64),
    ];
    s.facts.push(Evidence::many(text, items));
    let text = "MALLOC_ARENA_MAX in the environment limits them: each takes 64 MB of addresses or more";
    s.facts.push(Evidence { text: text.into(), items: Vec::new() });
    s.next = vec!["!heap -s".into()];
    out.push(s);
    Ok(())
}
