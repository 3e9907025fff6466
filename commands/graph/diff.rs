//! `!diff`: what grew from one dump to another.

pub mod grow;
pub mod side;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::grow::{Change, Sort, Ways};
use self::side::{Side, Wanted};
use crate::dump::Dump;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Format, Group, Kind, Needs, Outcome, Prefix, Returns};

/// `!diff OTHER`.
pub const DIFF: Command = Command {
    name: "diff",
    prefix: Prefix::Bang,
    aliases: &["compare"],
    group: Group::Heap,
    summary: "what grew from an older dump to this one: types, owners, paths, memory",
    help: "Compares the open dump with OTHER, which is taken to be the older of the two (-newer: OTHER is the newer one). Both \
           may be compressed, of any runtime and system: types, roots and uses of memory are matched by name.\n\n\
           Four lists, each with what grew most first; options choose among them:\n\n\
           -stat     live objects by type, and which types are new or gone; with -all dead objects count too\n\
           -owners   what each root holds: static fields by name, handles and stacks by the type they hold. Each live object \
           counts for the root nearest to it\n\
           -paths    from a root down to the first type of which there are more than before, with one of the objects; bytes \
           are those of everything held through them\n\
           -regions  the uses of memory as !address -summary has them: growth outside the GC heap shows here alone\n\n\
           What is listed under +Bytes is the growth; what shrank is counted below the list and listed with -top 0. \
           Examples are addresses in the newer dump where the path is in it. Two dumps show that something grew between \
           them, not that it would never shrink: compare dumps taken at times of like load, after a full collection if you can.",
    args: &[
        Arg::pos("OTHER", Kind::File, "the other dump, the older one").required(),
        Arg::flag("newer", "OTHER is the newer dump"),
        Arg::flag("stat", "types").or(&["types"]),
        Arg::flag("owners", "what the roots hold"),
        Arg::flag("paths", "paths that grew").or(&["roots"]),
        Arg::flag("regions", "uses of memory").or(&["address"]),
        Arg::flag("all", "types of dead objects too; quick, because nothing is traced"),
        Arg::opt("type", Kind::TypeName, "only types, owners and paths whose text contains this"),
        Arg::opt("sort", Kind::OneOf(&["bytes", "count", "percent", "name"]), "order; without it by growth in bytes"),
        Arg::opt("top", Kind::Count, "so many rows a list, 10 without this option; 0 for all, what shrank too"),
    ],
    examples: &[
        Example { line: "!diff older.core.zst", what: "everything that grew since" },
        Example { line: "!diff older.core.zst -owners -top 5", what: "which static fields hold more than before" },
        Example { line: "!diff older.core.zst -stat -all", what: "a quick look at the types" },
        Example { line: "!diff older.core.zst -regions", what: "whether the memory that grew is managed at all" },
    ],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run,
};

/// What is printed and how.
struct Show {
    stat: bool,
    owners: bool,
    paths: bool,
    regions: bool,
    filter: Option<String>,
    sort: Sort,
    top: usize,
    /// What shrank is listed too.
    shrunk: bool,
}

impl Show {
    fn new(args: &Args) -> Self {
        let has = |n| args.has(n);
        let any = ["stat", "owners", "paths", "regions", "all"].iter().any(|n| has(n));
        let top = args.number("top");
        Self {
            stat: !any || has("stat") || has("all"),
            owners: !any || has("owners"),
            paths: !any || has("paths"),
            regions: !any || has("regions"),
            filter: args.text("type").map(str::to_lowercase),
            sort: match args.text("sort").map(str::to_lowercase).as_deref() {
                Some("count") => Sort::Count,
                Some("percent") => Sort::Percent,
                Some("name") => Sort::Name,
                _ => Sort::Bytes,
            },
            top: match top {
                None => 10,
                Some(0) => usize::MAX,
                Some(n) => usize::try_from(n).unwrap_or(usize::MAX),
            },
            shrunk: top == Some(0),
        }
    }

    fn passes(&self, text: &str) -> bool {
        self.filter.as_ref().is_none_or(|f| text.to_lowercase().contains(f.as_str()))
    }
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let show = Show::new(args);
    let managed = session.clr().map(|_| ());
    if managed.is_err() && !show.regions {
        managed?;
        return Ok(Outcome::Empty);
    }
    let all = args.has("all");
    let live = show.owners || show.paths || show.stat && !all;
    let mut wanted = Wanted { live, all, regions: show.regions };
    let (other, missing) = measure_other(session, args.text("OTHER").unwrap_or(""), &mut wanted, managed.is_err())?;
    let this = Side::measure(session, wanted)?;
    let (old, new) = if args.has("newer") { (this, other) } else { (other, this) };
    header(ctx, &old, &new, wanted)?;
    let mut grew = false;
    if show.stat && (wanted.live || wanted.all) {
        grew |= types(ctx, &show, &old, &new, wanted)?;
    }
    if wanted.live {
        let ways = Ways::new(&old, &new);
        if show.owners {
            grew |= owners(ctx, &show, &ways)?;
        }
        if show.paths {
            grew |= paths(ctx, &show, &ways)?;
        }
    }
    if show.regions {
        grew |= regions(ctx, &show, &old, &new)?;
    }
    let why = missing.or(old.partial).or(new.partial);
    Ok(match why {
        Some(why) => Outcome::Partial(why),
        None if !grew => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// Opens the other dump, measures it and closes it before anything of this one is read: only one graph is in memory more
/// than was. Where one of the two has no runtime, the memory alone is compared.
fn measure_other(
    session: &Session,
    file: &str,
    wanted: &mut Wanted,
    unmanaged: bool,
) -> Result<(Side, Option<String>)> {
    let dump = Dump::open(Path::new(file), &session.dump().options, &session.watch)
        .with_context(|| format!("the other dump, {file}"))?;
    let other = Session::new(dump, session.watch.clone());
    let failed = other.clr().err();
    let mut missing = None;
    if unmanaged || failed.is_some() {
        if !wanted.regions {
            other.clr()?;
        }
        (wanted.live, wanted.all) = (false, false);
        let which = if unmanaged { "this dump" } else { file };
        missing = Some(format!("no runtime can be read in {which}: only the uses of memory are compared"));
    }
    Ok((Side::measure(&other, *wanted)?, missing))
}

/// `+1,234` in text, a plain number elsewhere.
fn plus(format: Format, n: i64) -> Cell<'static> {
    if format == Format::Text { Cell::text(signed(n)) } else { Cell::Int(n) }
}

fn signed(n: i64) -> String {
    let sign = match n {
        0 => "",
        n if n < 0 => "-",
        _ => "+",
    };
    format!("{sign}{}", thousands(n.unsigned_abs()))
}

fn percent(format: Format, c: Change) -> Cell<'static> {
    match (format, c.percent()) {
        (Format::Text, Some(p)) => Cell::text(format!("{p:+.1}%")),
        (_, Some(p)) => Cell::Percent(p),
        (Format::Text, None) => Cell::text(c.word()),
        (_, None) => Cell::None,
    }
}

fn header(ctx: &mut Ctx<'_>, old: &Side, new: &Side, wanted: Wanted) -> Result<()> {
    const COLUMNS: &[Col] = &[
        Col::left("", "what", 0),
        Col::left("Older", "older", 0),
        Col::left("Newer", "newer", 0),
        Col::left("Growth", "growth", 0).growth(),
    ];
    let mut rows: Vec<Vec<Cell<'_>>> = Vec::new();
    for (what, of) in
        [("file", (|s| &s.file) as fn(&Side) -> &String), ("process", |s| &s.process), ("runtime", |s| &s.runtime)]
    {
        rows.push(vec![Cell::text(what), Cell::text(of(old).as_str()), Cell::text(of(new).as_str()), Cell::None]);
    }
    let mut number = |what: &'static str, a: u64, b: u64| {
        let change = Change {
            old: crate::heap::stat::Tally { count: 0, bytes: a },
            new: crate::heap::stat::Tally { count: 0, bytes: b },
        };
        rows.push(vec![Cell::text(what), Cell::Sep(a), Cell::Sep(b), plus(ctx.out.format(), change.bytes())]);
    };
    if wanted.live {
        number("live objects", old.live.count, new.live.count);
        number("live bytes", old.live.bytes, new.live.bytes);
        number("dead bytes", old.dead.bytes, new.dead.bytes);
    }
    if wanted.regions {
        let sum = |s: &Side| s.regions.values().fold(0u64, |sum, t| sum.saturating_add(t.bytes));
        number("memory mapped", sum(old), sum(new));
    }
    ctx.out.rows("dumps", COLUMNS, true, &rows)?;
    if old.time.zip(new.time).is_some_and(|(o, n)| o > n) {
        ctx.out.line("The dump taken as the older one was written later: -newer turns the comparison around.")?;
    }
    Ok(())
}

/// Columns of every list of names.
const LIST: &[Col] = &[
    Col::right("+Bytes", "growth_bytes", 0).growth(),
    Col::right("+%", "growth_percent", 0).growth(),
    Col::right("+Count", "growth_count", 0).growth(),
    Col::right("Bytes before", "old_bytes", 0),
    Col::right("Bytes now", "new_bytes", 0),
    Col::right("Count before", "old_count", 0),
    Col::right("Count now", "new_count", 0),
    Col::left("State", "state", 0),
    Col::left("Name", "name", 0),
];

fn row<'a>(format: Format, c: Change, name: &'a str) -> Vec<Cell<'a>> {
    let state = match format {
        Format::Text if c.word() == "new" => "",
        _ => c.word(),
    };
    vec![
        plus(format, c.bytes()),
        percent(format, c),
        plus(format, c.count()),
        Cell::Sep(c.old.bytes),
        Cell::Sep(c.new.bytes),
        Cell::Sep(c.old.count),
        Cell::Sep(c.new.count),
        Cell::text(state),
        Cell::text(name),
    ]
}

/// Prints what grew; returns whether something did.
fn list(
    ctx: &mut Ctx<'_>,
    show: &Show,
    table: &'static str,
    title: &str,
    all: &mut [(Arc<str>, Change)],
) -> Result<bool> {
    show.sort.apply(all, |r| (&r.0, r.1));
    let grew = |c: &Change| c.bytes() > 0 || c.bytes() == 0 && c.count() > 0;
    let (mut rows, mut count, mut shrunk) = (Vec::new(), 0usize, (0u64, 0u64));
    for (name, c) in all.iter() {
        if !grew(c) {
            shrunk = (shrunk.0 + 1, shrunk.1.saturating_add(c.bytes().unsigned_abs()));
        }
        if grew(c) || show.shrunk {
            count += 1;
            if rows.len() < show.top {
                rows.push(row(ctx.out.format(), *c, name));
            }
        }
    }
    ctx.out.line("")?;
    ctx.out.line(title)?;
    if !rows.is_empty() {
        ctx.out.rows(table, LIST, true, &rows)?;
    }
    let (more, (n, bytes)) = (thousands((count - rows.len()) as u64), shrunk);
    if count > rows.len() {
        ctx.out.line(format!("{more} more grew; -top 0 lists them"))?;
    }
    if n > 0 && !show.shrunk {
        ctx.out.line(format!("{} shrank, by {} bytes in all", thousands(n), thousands(bytes)))?;
    }
    if count == 0 && n == 0 {
        ctx.out.line("nothing changed")?;
    }
    Ok(count > 0 || n > 0)
}

fn types(ctx: &mut Ctx<'_>, show: &Show, old: &Side, new: &Side, wanted: Wanted) -> Result<bool> {
    let mut all = grow::changes(&old.types, &new.types);
    all.retain(|t| show.passes(&t.0));
    let title = match wanted.all {
        true => "Types of all objects, dead ones too:",
        false => "Types of live objects:",
    };
    let changed = list(ctx, show, "types", title, &mut all)?;
    for (word, of) in [("new", (|c: &Change| c.new.bytes) as fn(&Change) -> u64), ("gone", |c| c.old.bytes)] {
        let mut names: Vec<&(Arc<str>, Change)> = all.iter().filter(|t| t.1.word() == word).collect();
        names.sort_by_key(|t| (std::cmp::Reverse(of(&t.1)), t.0.clone()));
        if names.is_empty() {
            continue;
        }
        let first: Vec<&str> = names.iter().take(3).map(|t| &*t.0).collect();
        let etc = if names.len() > first.len() { ", ..." } else { "" };
        ctx.out.line(format!("{} types are {word}: {}{etc}", thousands(names.len() as u64), first.join(", ")))?;
    }
    Ok(changed)
}

fn owners(ctx: &mut Ctx<'_>, show: &Show, ways: &Ways) -> Result<bool> {
    let mut all = ways.owners();
    all.retain(|t| show.passes(&t.0));
    list(ctx, show, "owners", "Owners, with all that is nearest to them:", &mut all)
}

fn regions(ctx: &mut Ctx<'_>, show: &Show, old: &Side, new: &Side) -> Result<bool> {
    let all = grow::changes(&old.regions, &new.regions);
    let mut all: Vec<(Arc<str>, Change)> = all.into_iter().map(|(n, c)| (n.into(), c)).collect();
    list(ctx, show, "regions", "Uses of memory (count: regions):", &mut all)
}

fn paths(ctx: &mut Ctx<'_>, show: &Show, ways: &Ways) -> Result<bool> {
    const COLUMNS: &[Col] = &[
        Col::right("+Bytes", "growth_bytes", 0).growth(),
        Col::right("+Count", "growth_count", 0).growth(),
        Col::right("Count before", "old_count", 0),
        Col::right("Count now", "new_count", 0),
        Col::right("Example", "example", 0),
        Col::left("Path", "path", 0).breaks(),
    ];
    let mut all = ways.grown();
    let line = |g: &(u32, Change)| ways.path(*g).line();
    all.retain(|g| show.filter.is_none() || show.passes(&line(g)));
    match show.sort {
        Sort::Name => all.sort_by_cached_key(line),
        sort => sort.apply(&mut all, |g| ("", g.1)),
    }
    ctx.out.line("")?;
    ctx.out.line("Paths along which objects became more:")?;
    let format = ctx.out.format();
    let rows: Vec<Vec<Cell<'_>>> = all
        .iter()
        .take(show.top)
        .map(|g| {
            let p = ways.path(*g);
            vec![
                plus(format, p.change.bytes()),
                plus(format, p.change.count()),
                Cell::Sep(p.change.old.count),
                Cell::Sep(p.change.new.count),
                if p.example == 0 { Cell::None } else { Cell::Addr(p.example) },
                Cell::text(p.line()),
            ]
        })
        .collect();
    if rows.is_empty() {
        ctx.out.line("none")?;
        return Ok(false);
    }
    ctx.out.rows("paths", COLUMNS, true, &rows)?;
    if all.len() > rows.len() {
        ctx.out.line(format!("{} more; -top 0 lists them", thousands((all.len() - rows.len()) as u64)))?;
    }
    Ok(true)
}
