//! `!heap -owners`: native memory by the managed type and field that holds it, and handles that native blocks name.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;

use crate::native::heaps::NativeHeaps;
use crate::session::nativeowners::{NativeHandle, Owner, Which};
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Outcome, Returns, Table, Type};

const OWNERS: Table = Table::new(
    "owners",
    &[
        Col::right("Bytes", "bytes", 14).of(Type::Bytes),
        Col::right("Blocks", "blocks", 9).of(Type::Count),
        Col::right("Alone", "alone_bytes", 14).of(Type::Bytes),
        Col::right("Objects", "objects", 9).of(Type::Count),
        Col::right("First", "object", 16).of(Type::Address),
        Col::left("Type and field", "owner", 0),
        Col::data("type", Type::TypeName).titled("type of the objects"),
        Col::data("field", Type::FieldPath).titled("field that holds the blocks"),
        Col::data("alone", Type::Count).titled("blocks that no other field holds"),
        Col::data("inside", Type::Count).titled("blocks held by a pointer into their middle"),
    ],
);

const HANDLES: Table = Table::new(
    "handles",
    &[
        Col::right("Handles", "handles", 9).of(Type::Count),
        Col::right("Words", "words", 9).of(Type::Count),
        Col::left("Kind", "kind", 18),
        Col::left("By", "by", 5),
        Col::right("First", "handle", 16).of(Type::Address),
        Col::right("Object", "object", 16).of(Type::Address),
        Col::left("Type", "type", 0).of(Type::TypeName),
    ],
);

/// What `!heap -owners` returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("owned_blocks", "different blocks that managed objects hold", Type::Count),
    Fact::new("owned_bytes", "usable bytes of those", Type::Bytes),
    Fact::new("of_blocks", "blocks in use", Type::Count),
    Fact::new("of_bytes", "usable bytes of those", Type::Bytes),
])
.and(&[&OWNERS, &HANDLES]);

/// Prints owners, the most bytes first.
pub fn show(ctx: &mut Ctx<'_>, heaps: &NativeHeaps, which: Which) -> Result<Outcome> {
    let session = ctx.session()?;
    let owners = session.native_owners(which)?;
    ctx.out.open(&OWNERS)?;
    for o in &owners {
        ctx.out.row(&row(o))?;
    }
    let (mut all, mut in_use) = ((0u64, 0u64), (0u64, 0u64));
    for b in heaps.blocks.list().iter().filter(|b| b.state() == crate::native::heaps::State::Used) {
        in_use = (in_use.0 + 1, in_use.1 + b.size());
    }
    for b in session.native_owned(which)?.iter().filter_map(|&b| heaps.blocks.get(b as usize)) {
        all = (all.0 + 1, all.1 + b.size());
    }
    let line = format!(
        "Managed objects hold {} blocks, {} bytes, of {} blocks, {} bytes in use",
        thousands(all.0),
        thousands(all.1),
        thousands(in_use.0),
        thousands(in_use.1)
    );
    let facts = [
        ("owned_blocks", Cell::Num(all.0)),
        ("owned_bytes", Cell::Num(all.1)),
        ("of_blocks", Cell::Num(in_use.0)),
        ("of_bytes", Cell::Num(in_use.1)),
    ];
    ctx.out.facts(&facts, line)?;
    handles(ctx)?;
    let partial = session.native_holds()?.partial.clone();
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if owners.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

fn row(o: &Owner) -> [Cell<'_>; 10] {
    [
        Cell::Sep(o.bytes),
        Cell::Sep(o.blocks),
        Cell::Sep(o.alone.1),
        Cell::Sep(o.objects),
        Cell::Addr(o.example),
        Cell::text(format!("{}.{}", o.ty, o.field)),
        Cell::text(&*o.ty),
        Cell::text(&*o.field),
        Cell::Num(o.alone.0),
        Cell::Num(o.inside),
    ]
}

/// Handles given to native code.
fn handles(ctx: &mut Ctx<'_>) -> Result<()> {
    let session = ctx.session()?;
    let found = session.handles_in_native()?;
    if found.is_empty() {
        return Ok(());
    }
    ctx.out.note("")?;
    ctx.out.note("Handles that native blocks name:")?;
    ctx.out.open(&HANDLES)?;
    // Kind, whether it is a delegate's thunk, and type of the object.
    type Key = (&'static str, bool, Arc<str>);
    let mut groups: BTreeMap<Key, (u64, u64, &NativeHandle)> = BTreeMap::new();
    for h in &found {
        let key = (h.handle.kind.name(), h.thunk, session.object_name(h.handle.object));
        let group = groups.entry(key).or_insert((0, 0, h));
        (group.0, group.1) = (group.0 + 1, group.1 + h.words);
    }
    for ((kind, thunk, name), (count, words, first)) in &groups {
        ctx.out.row(&[
            Cell::Sep(*count),
            Cell::Sep(*words),
            Cell::text(*kind),
            Cell::text(if *thunk { "thunk" } else { "slot" }),
            Cell::Addr(first.name),
            Cell::Addr(first.handle.object),
            Cell::text(&**name),
        ])?;
    }
    Ok(())
}
