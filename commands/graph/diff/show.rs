//! What `!diff` prints and returns.

use std::sync::Arc;

use anyhow::Result;

use super::Show;
use super::grow::{self, Change, Sort, Ways};
use super::side::{Side, Wanted};
use crate::shell::out::thousands;
use crate::shell::{Cell, Col, Ctx, Fact, Returns, Table, Type};

/// What `!diff` returns.
pub const RETURNS: Returns = Returns::facts(&[
    Fact::new("live_objects_growth", "live objects more", Type::Number),
    Fact::new("live_bytes_growth", "live bytes more", Type::Number).unit("bytes"),
    Fact::new("dead_bytes_growth", "bytes of dead objects more", Type::Number).unit("bytes"),
    Fact::new("mapped_bytes_growth", "bytes of memory more", Type::Number).unit("bytes"),
    Fact::new("types_more", "types that grew and are not listed", Type::Count),
    Fact::new("types_shrunk", "types that shrank and are not listed", Type::Count),
    Fact::new("types_shrunk_bytes", "bytes by which they shrank", Type::Bytes),
    Fact::new("types_new", "types the older dump does not have", Type::Count),
    Fact::new("types_gone", "types the newer dump does not have", Type::Count),
    Fact::new("owners_more", "owners that grew and are not listed", Type::Count),
    Fact::new("owners_shrunk", "owners that shrank and are not listed", Type::Count),
    Fact::new("owners_shrunk_bytes", "bytes by which they shrank", Type::Bytes),
    Fact::new("paths_more", "paths that are not listed", Type::Count),
    Fact::new("regions_more", "uses of memory that grew and are not listed", Type::Count),
    Fact::new("regions_shrunk", "uses of memory that shrank and are not listed", Type::Count),
    Fact::new("regions_shrunk_bytes", "bytes by which they shrank", Type::Bytes),
    Fact::new("native_more", "parts of native heaps that grew and are not listed", Type::Count),
    Fact::new("native_shrunk", "parts of native heaps that shrank and are not listed", Type::Count),
    Fact::new("native_shrunk_bytes", "bytes by which they shrank", Type::Bytes),
    Fact::new("native_owners_more", "holders of native blocks that grew and are not listed", Type::Count),
    Fact::new("native_owners_shrunk", "holders of native blocks that shrank and are not listed", Type::Count),
    Fact::new("native_owners_shrunk_bytes", "bytes by which they shrank", Type::Bytes),
])
.and(&[&DUMPS, &TYPES, &NEW_AND_GONE, &OWNERS, &PATHS, &STEPS, &REGIONS, &NATIVE, &NATIVE_OWNERS]);

/// The two dumps.
const DUMPS: Table = Table::new(
    "dumps",
    &[
        Col::data("dump", Type::Text).titled("older or newer"),
        Col::data("file", Type::Text).titled("the file as given"),
        Col::data("time", Type::Time).titled("when it was written"),
        Col::data("pid", Type::Count).titled("process id"),
        Col::data("process", Type::Text).titled("name of the process"),
        Col::data("runtime", Type::Text).titled("the runtime"),
        Col::data("live_objects", Type::Count).titled("objects that roots reach"),
        Col::data("live_bytes", Type::Bytes).titled("their bytes"),
        Col::data("dead_objects", Type::Count).titled("objects no root reaches"),
        Col::data("dead_bytes", Type::Bytes).titled("their bytes"),
        Col::data("mapped_bytes", Type::Bytes).titled("bytes of memory of any use"),
    ],
);

const GROWTH_BYTES: Col = Col::right("+Bytes", "growth_bytes", 0).of(Type::Number).unit("bytes").growth();
const GROWTH_PERCENT: Col = Col::right("+%", "growth_percent", 0).of(Type::Share).growth();
const GROWTH_COUNT: Col = Col::right("+Count", "growth_count", 0).of(Type::Number).growth();
const OLD_BYTES: Col = Col::right("Bytes before", "old_bytes", 0).of(Type::Bytes);
const NEW_BYTES: Col = Col::right("Bytes now", "new_bytes", 0).of(Type::Bytes);
const OLD_COUNT: Col = Col::right("Count before", "old_count", 0).of(Type::Count);
const NEW_COUNT: Col = Col::right("Count now", "new_count", 0).of(Type::Count);
const STATE: Col = Col::left("State", "state", 0);

const VARIABLE: Col = Col::data("variable", Type::Text).titled("the static variable that is the root");

/// Columns of a list of what changed, by name.
const fn columns(name: Col) -> [Col; 9] {
    [GROWTH_BYTES, GROWTH_PERCENT, GROWTH_COUNT, OLD_BYTES, NEW_BYTES, OLD_COUNT, NEW_COUNT, STATE, name]
}

/// Objects by type.
const TYPES: Table = Table::new("types", &columns(Col::left("Name", "name", 0).of(Type::TypeName)));

/// Types of which one of the dumps has none.
const NEW_AND_GONE: Table = Table::new(
    "new_and_gone",
    &[
        Col::data("state", Type::Text).titled("new or gone"),
        Col::data("name", Type::TypeName).titled("the type"),
        Col::data("count", Type::Count).titled("its objects in the dump that has them"),
        Col::data("bytes", Type::Bytes).titled("their bytes"),
    ],
);

/// What roots hold.
const OWNERS: Table = Table::new(
    "owners",
    &[
        GROWTH_BYTES,
        GROWTH_PERCENT,
        GROWTH_COUNT,
        OLD_BYTES,
        NEW_BYTES,
        OLD_COUNT,
        NEW_COUNT,
        STATE,
        Col::left("Name", "root", 0),
        VARIABLE,
        Col::data("type", Type::TypeName)
            .titled("type of the objects the roots refer to, where no variable names them"),
    ],
);

/// Uses of memory.
const REGIONS: Table = Table::new("regions", &columns(Col::left("Name", "name", 0)));

/// Native heaps: what is in use and what is kept free.
const NATIVE: Table = Table::new("native", &columns(Col::left("Name", "name", 0)));

/// Native blocks by the type and field that holds them.
const NATIVE_OWNERS: Table = Table::new("native_owners", &columns(Col::left("Type and field", "owner", 0)));

/// Paths along which objects became more.
const PATHS: Table = Table::new(
    "paths",
    &[
        Col::data("path", Type::Count).titled("number of the path"),
        GROWTH_BYTES,
        GROWTH_COUNT,
        OLD_COUNT,
        NEW_COUNT,
        Col::right("Example", "example", 0).of(Type::Address),
        Col::left("Path", "root", 0).breaks(),
        VARIABLE,
        Col::data("length", Type::Count).titled("steps it has"),
    ],
);

/// Their steps.
const STEPS: Table = Table::new(
    "steps",
    &[
        Col::data("path", Type::Count).titled("number of the path"),
        Col::data("step", Type::Count).titled("number in the path; those in the middle of very long ones are left out"),
        Col::data("slot", Type::FieldPath).titled("field of the object before that holds it"),
        Col::data("type", Type::TypeName).titled("type of the object"),
    ],
)
.under("paths", "path");

/// Steps of a path that data has, counted from its end, and the first one.
const MOST_STEPS: usize = 256;

/// A root's kind and the static variable it is: `static variable Type.Field` says both.
fn root_cells(root: &str) -> (Cell<'static>, Cell<'static>) {
    match root.split_once("variable ") {
        Some((kind, field)) => (Cell::text(format!("{kind}variable")), Cell::text(field.to_owned())),
        None => (Cell::text(root.to_owned()), Cell::None),
    }
}

/// `+1,234` in text, a plain number elsewhere.
fn plus(n: i64) -> Cell<'static> {
    Cell::shown(signed(n), Cell::Int(n))
}

fn signed(n: i64) -> String {
    let sign = match n {
        0 => "",
        n if n < 0 => "-",
        _ => "+",
    };
    format!("{sign}{}", thousands(n.unsigned_abs()))
}

fn percent(c: Change) -> Cell<'static> {
    match c.percent() {
        Some(p) => Cell::shown(format!("{p:+.1}%"), Cell::Percent(p)),
        None => Cell::shown(c.word(), Cell::None),
    }
}

/// What both dumps are, and their sums.
pub fn header(ctx: &mut Ctx<'_>, old: &Side, new: &Side, wanted: Wanted) -> Result<()> {
    let mapped = |s: &Side| s.regions.values().fold(0u64, |sum, t| sum.saturating_add(t.bytes));
    // With each line the key and the value of its fact.
    type Line = (Option<(&'static str, i64)>, [String; 4]);
    let mut lines: Vec<Line> = vec![(None, ["", "Older", "Newer", "Growth"].map(str::to_owned))];
    for (what, of) in
        [("file", (|s| &s.file) as fn(&Side) -> &String), ("process", |s| &s.process), ("runtime", |s| &s.runtime)]
    {
        lines.push((None, [what.into(), of(old).clone(), of(new).clone(), String::new()]));
    }
    let mut number = |key: &'static str, what: &str, a: u64, b: u64| {
        let growth = grow::difference(a, b);
        lines.push((Some((key, growth)), [what.into(), thousands(a), thousands(b), signed(growth)]));
    };
    if wanted.live {
        number("live_objects_growth", "live objects", old.live.count, new.live.count);
        number("live_bytes_growth", "live bytes", old.live.bytes, new.live.bytes);
        number("dead_bytes_growth", "dead bytes", old.dead.bytes, new.dead.bytes);
    }
    if wanted.regions {
        number("mapped_bytes_growth", "memory mapped", mapped(old), mapped(new));
    }
    let width = |i: usize| lines.iter().map(|l| l.1[i].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    for (i, (fact, [what, older, newer, growth])) in lines.iter().enumerate() {
        let line = format!("{what:<a$} {older:<b$} {newer:<c$} {growth}", a = widths[0], b = widths[1], c = widths[2]);
        match fact {
            Some((key, growth)) => ctx.out.fact(key, Cell::Int(*growth), line)?,
            None if i == 0 => ctx.out.open_as(&DUMPS, &line)?,
            // What it says stands in the rows of the dumps.
            None => ctx.out.facts(&[], line)?,
        }
    }
    for (dump, side) in [("older", old), ("newer", new)] {
        let live = |n: u64| if wanted.live { Cell::Num(n) } else { Cell::None };
        let cells = [
            Cell::text(dump),
            Cell::text(&*side.file),
            side.time.map_or(Cell::None, Cell::Time),
            side.pid.map_or(Cell::None, Cell::Num),
            Cell::maybe(side.name.as_deref()),
            Cell::text(&*side.runtime),
            live(side.live.count),
            live(side.live.bytes),
            live(side.dead.count),
            live(side.dead.bytes),
            if wanted.regions { Cell::Num(mapped(side)) } else { Cell::None },
        ];
        ctx.out.data_row(&DUMPS, &cells)?;
    }
    if old.time.zip(new.time).is_some_and(|(o, n)| o > n) {
        ctx.out.note("The dump taken as the older one was written later: -newer turns the comparison around.")?;
    }
    Ok(())
}

/// The cells of a row of any list of names.
fn row<'a>(c: Change, name: Cell<'a>) -> Vec<Cell<'a>> {
    let state = match c.word() {
        "" => Cell::None,
        // The percent column says so.
        "new" => Cell::shown("", Cell::text("new")),
        word => Cell::text(word),
    };
    vec![
        plus(c.bytes()),
        percent(c),
        plus(c.count()),
        Cell::Sep(c.old.bytes),
        Cell::Sep(c.new.bytes),
        Cell::Sep(c.old.count),
        Cell::Sep(c.new.count),
        state,
        name,
    ]
}

/// A list of names: its title, its table, the keys of what is said below it.
struct List {
    title: &'static str,
    table: &'static Table,
    more: &'static str,
    shrunk: &'static str,
    shrunk_bytes: &'static str,
}

/// Prints what grew; returns whether something did. `cells` makes the cells behind the numbers of a row.
fn list<T>(
    ctx: &mut Ctx<'_>,
    show: &Show,
    list: &List,
    all: &mut [(T, Change)],
    name: impl Fn(&T) -> &str,
    cells: impl Fn(&T, Change) -> Vec<Cell<'_>>,
) -> Result<bool> {
    show.sort.apply(all, |r| (name(&r.0), r.1));
    let grew = |c: &Change| c.bytes() > 0 || c.bytes() == 0 && c.count() > 0;
    let (mut rows, mut count, mut shrunk) = (Vec::new(), 0usize, (0u64, 0u64));
    for (t, c) in all.iter() {
        if !grew(c) {
            shrunk = (shrunk.0 + 1, shrunk.1.saturating_add(c.bytes().unsigned_abs()));
        }
        if grew(c) || show.shrunk {
            count += 1;
            if rows.len() < show.top {
                rows.push(cells(t, *c));
            }
        }
    }
    ctx.out.note("")?;
    ctx.out.note(list.title)?;
    if !rows.is_empty() {
        ctx.out.fill(list.table, &rows)?;
    }
    let (more, (n, bytes)) = ((count - rows.len()) as u64, shrunk);
    if more > 0 {
        ctx.out.fact(list.more, Cell::Num(more), format!("{} more grew; -top 0 lists them", thousands(more)))?;
    }
    if n > 0 && !show.shrunk {
        let facts = [(list.shrunk, Cell::Num(n)), (list.shrunk_bytes, Cell::Num(bytes))];
        ctx.out.facts(&facts, format!("{} shrank, by {} bytes in all", thousands(n), thousands(bytes)))?;
    }
    if count == 0 && n == 0 {
        ctx.out.note("nothing changed")?;
    }
    Ok(count > 0 || n > 0)
}

/// Objects by type.
pub fn types(ctx: &mut Ctx<'_>, show: &Show, old: &Side, new: &Side, wanted: Wanted) -> Result<bool> {
    let mut all = grow::changes(&old.types, &new.types);
    all.retain(|t| show.passes(&t.0));
    let title = match wanted.all {
        true => "Types of all objects, dead ones too:",
        false => "Types of live objects:",
    };
    let of =
        List { title, table: &TYPES, more: "types_more", shrunk: "types_shrunk", shrunk_bytes: "types_shrunk_bytes" };
    let changed = list(ctx, show, &of, &mut all, |t| t, |t, c| row(c, Cell::text(&**t)))?;
    new_and_gone(ctx, &all)?;
    Ok(changed)
}

/// Says which types only one of the dumps has, the biggest first.
fn new_and_gone(ctx: &mut Ctx<'_>, all: &[(Arc<str>, Change)]) -> Result<()> {
    for (word, key) in [("new", "types_new"), ("gone", "types_gone")] {
        let of = |c: &Change| if word == "new" { c.new } else { c.old };
        let mut names: Vec<&(Arc<str>, Change)> = all.iter().filter(|t| t.1.word() == word).collect();
        names.sort_by_key(|t| (std::cmp::Reverse(of(&t.1).bytes), t.0.clone()));
        if names.is_empty() {
            continue;
        }
        let first: Vec<&str> = names.iter().take(3).map(|t| &*t.0).collect();
        let etc = if names.len() > first.len() { ", ..." } else { "" };
        let count = names.len() as u64;
        let line = format!("{} types are {word}: {}{etc}", thousands(count), first.join(", "));
        ctx.out.fact(key, Cell::Num(count), line)?;
        for (name, c) in names {
            let tally = of(c);
            let cells = [Cell::text(word), Cell::text(&**name), Cell::Num(tally.count), Cell::Num(tally.bytes)];
            ctx.out.data_row(&NEW_AND_GONE, &cells)?;
        }
    }
    Ok(())
}

/// What the roots hold.
pub fn owners(ctx: &mut Ctx<'_>, show: &Show, ways: &Ways) -> Result<bool> {
    let mut all = ways.owners();
    all.retain(|t| show.passes(&t.0.words));
    let of = List {
        title: "Owners, with all that is nearest to them:",
        table: &OWNERS,
        more: "owners_more",
        shrunk: "owners_shrunk",
        shrunk_bytes: "owners_shrunk_bytes",
    };
    list(
        ctx,
        show,
        &of,
        &mut all,
        |o| &o.words,
        |o, c| {
            let (root, variable) = root_cells(&o.root);
            let mut cells = row(c, Cell::shown(&*o.words, root));
            cells.push(variable);
            cells.push(Cell::maybe(o.ty.as_deref()));
            cells
        },
    )
}

/// Uses of memory.
pub fn regions(ctx: &mut Ctx<'_>, show: &Show, old: &Side, new: &Side) -> Result<bool> {
    let mut all = grow::changes(&old.regions, &new.regions);
    let of = List {
        title: "Uses of memory (count: regions):",
        table: &REGIONS,
        more: "regions_more",
        shrunk: "regions_shrunk",
        shrunk_bytes: "regions_shrunk_bytes",
    };
    list(ctx, show, &of, &mut all, |t| t, |t, c| row(c, Cell::text(t)))
}

/// Native heaps, and who holds their blocks.
pub fn native(ctx: &mut Ctx<'_>, show: &Show, old: &Side, new: &Side) -> Result<bool> {
    let mut parts = grow::changes(&old.native, &new.native);
    let of = List {
        title: "The C library's heap (count: blocks, chunks, arenas):",
        table: &NATIVE,
        more: "native_more",
        shrunk: "native_shrunk",
        shrunk_bytes: "native_shrunk_bytes",
    };
    let grew = list(ctx, show, &of, &mut parts, |t| t, |t, c| row(c, Cell::text(t)))?;
    let mut owners = grow::changes(&old.native_owners, &new.native_owners);
    owners.retain(|o| show.passes(&o.0));
    let of = List {
        title: "Native blocks that objects hold:",
        table: &NATIVE_OWNERS,
        more: "native_owners_more",
        shrunk: "native_owners_shrunk",
        shrunk_bytes: "native_owners_shrunk_bytes",
    };
    Ok(list(ctx, show, &of, &mut owners, |t| t, |t, c| row(c, Cell::text(t)))? || grew)
}

/// Paths along which objects became more.
pub fn paths(ctx: &mut Ctx<'_>, show: &Show, ways: &Ways) -> Result<bool> {
    let mut all = ways.grown();
    let line = |g: &(u32, Change)| ways.path(*g).line();
    all.retain(|g| show.filter.is_none() || show.passes(&line(g)));
    match show.sort {
        Sort::Name => all.sort_by_cached_key(line),
        sort => sort.apply(&mut all, |g| ("", g.1)),
    }
    ctx.out.note("")?;
    ctx.out.note("Paths along which objects became more:")?;
    if all.is_empty() || show.top == 0 {
        ctx.out.note("none")?;
        return Ok(false);
    }
    let shown = all.get(..show.top.min(all.len())).unwrap_or(&all);
    let rows = shown.iter().enumerate().map(|(i, g)| {
        let p = ways.path(*g);
        let (root, variable) = root_cells(&p.root);
        [
            Cell::Num(i as u64 + 1),
            plus(p.change.bytes()),
            plus(p.change.count()),
            Cell::Sep(p.change.old.count),
            Cell::Sep(p.change.new.count),
            Cell::at(p.example),
            Cell::shown(p.line(), root),
            variable,
            Cell::Num(ways.length(g.0) as u64),
        ]
    });
    ctx.out.fill(&PATHS, rows)?;
    if ctx.out.wants_data() {
        for (i, g) in shown.iter().enumerate() {
            for (step, (slot, name)) in ways.steps(g.0, MOST_STEPS) {
                let slot = Some(&*slot).filter(|s| !s.is_empty());
                let cells = [Cell::Num(i as u64 + 1), Cell::Num(step as u64), Cell::maybe(slot), Cell::text(&*name)];
                ctx.out.data_row(&STEPS, &cells)?;
            }
        }
    }
    if all.len() > shown.len() {
        let more = (all.len() - shown.len()) as u64;
        ctx.out.fact("paths_more", Cell::Num(more), format!("{} more; -top 0 lists them", thousands(more)))?;
    }
    Ok(true)
}
