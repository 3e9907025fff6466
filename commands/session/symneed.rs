//! `.symneed`: files that would name more of the native stacks.

use anyhow::Result;
use rustc_hash::FxHashMap;

use crate::session::Session;
use crate::session::mixed::What;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Table, Type,
};

const NEEDED: Table = Table::new(
    "needed",
    &[
        Col::left("module", "module", 24),
        Col::left("missing", "missing", 8),
        Col::right("frames", "frames", 6).of(Type::Count),
        Col::left("path in a symbol store", "store_path", 0),
        Col::data("file", Type::Text).titled("name of the file"),
        Col::data("key", Type::Text)
            .titled("time stamp and size of a PE image, GUID and age of a PDB, build id of ELF"),
        Col::data("base", Type::Address).titled("where the module lies"),
    ],
);

const ADDRESSES: Table = Table::new(
    "addresses",
    &[
        Col::data("module", Type::Text).titled("the module"),
        Col::data("offset", Type::Hex).titled("an address on a stack that has no name, from the module's base"),
        Col::data("frames", Type::Count).titled("how many frames have it"),
    ],
);

/// `.symneed`.
pub const SYMNEED: Command = Command {
    name: "symneed",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "files that are missing to unwind and name native code",
    help: "Lists images and symbols (PDB, split debug files) that are not at hand for modules on the stacks of the threads, \
           with what identifies each and its path in a symbol store, and the addresses without a name, counted from the \
           module's base, so that a person can fetch or look them up elsewhere. Nothing is downloaded: files that were \
           fetched go into a folder of -i, .exepath or .sympath.",
    args: &[Arg::flag("all", "of all native modules, not only of those on stacks")],
    examples: &[Example { line: ".symneed", what: "what the stacks lack" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("modules", "modules on the stacks", Type::Count)]).and(&[&NEEDED, &ADDRESSES]),
    run,
};

/// What stands on the stacks: by module, by address how often; addresses behind a name apart.
#[derive(Default)]
struct OnStacks {
    frames: FxHashMap<usize, u64>,
    unnamed: FxHashMap<(usize, u64), u64>,
}

fn on_stacks(session: &Session) -> Result<OnStacks> {
    let (dump, native) = (session.dump(), session.native());
    let mut found = OnStacks::default();
    for thread in 0..dump.threads.len() {
        session.watch.cancel.check()?;
        // Behind a stretch that could not be unwound nothing is lost: the runtime's records lead on.
        for f in session.mixed_stack(thread).frames.iter().filter(|f| f.what == What::Native) {
            let Some(opened) = native.image_at(f.ip) else { continue };
            let index = opened.image.index;
            *found.frames.entry(index).or_default() += 1;
            let place = if f.exact { native.place(f.ip) } else { native.place_of_return(f.ip) };
            if place.is_none_or(|p| p.name.is_none()) {
                *found.unnamed.entry((index, f.ip - opened.image.base)).or_default() += 1;
            }
        }
    }
    Ok(found)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let native = session.native();
    let on = on_stacks(session)?;
    ctx.out.datum("modules", &Cell::Num(on.frames.len() as u64));
    let mut rows = Vec::new();
    for index in 0..session.dump().modules.len() {
        session.watch.cancel.check()?;
        let frames = on.frames.get(&index).copied().unwrap_or(0);
        if frames == 0 && !args.has("all") {
            continue;
        }
        let Some(opened) = native.image(index).filter(|o| !native.is_managed(o)) else { continue };
        rows.extend(native.missing(opened).into_iter().map(|m| (frames, &opened.image, m)));
    }
    let none = rows.is_empty();
    if none {
        ctx.out.note("nothing is missing of the modules on the stacks")?;
    } else {
        ctx.out.open(&NEEDED)?;
    }
    for (frames, image, m) in &rows {
        let unknown = || "its identity is not in the dump".to_owned();
        let path = m.store_path.clone();
        ctx.out.row(&[
            Cell::text(&image.name),
            Cell::text(m.what),
            Cell::Num(*frames),
            Cell::shown(path.clone().unwrap_or_else(unknown), Cell::maybe(path)),
            Cell::text(&m.file),
            Cell::maybe(m.key.clone()),
            Cell::Addr(image.base),
        ])?;
    }
    ctx.out.done(&NEEDED)?;
    addresses(ctx, session, &on)?;
    Ok(if none { Outcome::Empty } else { Outcome::Complete })
}

/// Addresses of a line.
const A_LINE: usize = 6;

fn addresses(ctx: &mut Ctx<'_>, session: &Session, on: &OnStacks) -> Result<()> {
    let mut all: Vec<((usize, u64), u64)> = on.unnamed.iter().map(|(k, n)| (*k, *n)).collect();
    all.sort_unstable();
    if !all.is_empty() {
        ctx.out.note("")?;
        ctx.out.note("Addresses on stacks without a name:")?;
    }
    let name = |index: usize| session.native().image(index).map_or("", |o| o.image.name.as_str());
    for ((index, offset), frames) in &all {
        ctx.out.data_row(&ADDRESSES, &[Cell::text(name(*index)), Cell::Hex(*offset), Cell::Num(*frames)])?;
    }
    for of_module in all.chunk_by(|a, b| a.0.0 == b.0.0) {
        for line in of_module.chunks(A_LINE) {
            let texts: Vec<String> = line.iter().map(|((i, o), _)| format!("{}+0x{o:x}", name(*i))).collect();
            ctx.out.facts(&[], format!("    {}", texts.join(" ")))?;
        }
    }
    Ok(())
}
