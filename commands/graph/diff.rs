//! `!diff`: what grew from one dump to another.

pub mod grow;
mod show;
pub mod side;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use self::grow::{Sort, Ways};
use self::side::{Side, Wanted};
use crate::dump::Dump;
use crate::session::Session;
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix};

/// `!diff OTHER`.
pub const DIFF: Command = Command {
    name: "diff",
    prefix: Prefix::Bang,
    aliases: &["compare"],
    group: Group::Heap,
    summary: "what grew from an older dump to this one: types, owners, paths, memory",
    help: "Compares the open dump with OTHER, which is taken to be the older of the two (-newer: OTHER is the newer one). Both \
           may be compressed, of any runtime and system: types, roots and uses of memory are matched by name.\n\n\
           Five lists, each with what grew most first; options choose among them:\n\n\
           -stat     live objects by type, and which types are new or gone; with -all dead objects count too\n\
           -owners   what each root holds: static fields by name, handles and stacks by the type they hold. Each live object \
           counts for the root nearest to it\n\
           -paths    from a root down to the first type of which there are more than before, with one of the objects; bytes \
           are those of everything held through them\n\
           -regions  the uses of memory as !address -summary has them: growth outside the GC heap shows here alone\n\
           -native   the C library's heap: blocks in use and what it keeps free; and native blocks by the type and field of \
           managed objects that point to them\n\n\
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
        Arg::flag("native", "native heaps and who holds their blocks"),
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
        Example { line: "!diff older.core.zst -native", what: "what grew in native heaps, and who holds it" },
    ],
    needs: Needs::Dump,
    returns: show::RETURNS,
    run,
};

/// What is printed and how.
pub struct Show {
    stat: bool,
    owners: bool,
    paths: bool,
    regions: bool,
    native: bool,
    filter: Option<String>,
    sort: Sort,
    top: usize,
    /// What shrank is listed too.
    shrunk: bool,
}

impl Show {
    fn new(args: &Args) -> Self {
        let has = |n| args.has(n);
        let any = ["stat", "owners", "paths", "regions", "native", "all"].iter().any(|n| has(n));
        let top = args.number("top");
        Self {
            stat: !any || has("stat") || has("all"),
            owners: !any || has("owners"),
            paths: !any || has("paths"),
            regions: !any || has("regions"),
            native: !any || has("native"),
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
    if managed.is_err() && !show.regions && !show.native {
        managed?;
        return Ok(Outcome::Empty);
    }
    let all = args.has("all");
    let live = show.owners || show.paths || show.stat && !all;
    let mut wanted = Wanted { live, all, regions: show.regions, native: show.native };
    let (other, missing) = measure_other(session, args.text("OTHER").unwrap_or(""), &mut wanted, managed.is_err())?;
    let this = Side::measure(session, wanted)?;
    let (old, new) = if args.has("newer") { (this, other) } else { (other, this) };
    show::header(ctx, &old, &new, wanted)?;
    let mut grew = false;
    if show.stat && (wanted.live || wanted.all) {
        grew |= show::types(ctx, &show, &old, &new, wanted)?;
    }
    if wanted.live {
        let ways = Ways::new(&old, &new);
        if show.owners {
            grew |= show::owners(ctx, &show, &ways)?;
        }
        if show.paths {
            grew |= show::paths(ctx, &show, &ways)?;
        }
    }
    if show.regions {
        grew |= show::regions(ctx, &show, &old, &new)?;
    }
    if show.native {
        grew |= show::native(ctx, &show, &old, &new)?;
    }
    let why = missing.or(old.partial).or(new.partial);
    Ok(match why {
        Some(why) => Outcome::Partial(why),
        None if !grew => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// Live objects and uses of memory of an older dump, and why the objects are missing where they are.
pub type Older = (Side, Option<String>);

const COMPARED: Wanted = Wanted { live: true, all: false, regions: true, native: false };

/// The older dump in `file`, measured once however many ask.
pub fn older(session: &Session, file: &str) -> Result<Arc<Older>> {
    session.once(&format!("older {file}"), || measure(session, file))
}

/// As [`older`], anew.
pub fn measure(session: &Session, file: &str) -> Result<Older> {
    let mut wanted = COMPARED;
    measure_other(session, file, &mut wanted, session.clr().is_err())
}

/// This dump, measured as older ones are.
pub fn own(session: &Session) -> Result<Arc<Side>> {
    session.once("own side", || Side::measure(session, Wanted { live: session.clr().is_ok(), ..COMPARED }))
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
        if !wanted.regions && !wanted.native {
            other.clr()?;
        }
        (wanted.live, wanted.all) = (false, false);
        let which = if unmanaged { "this dump" } else { file };
        missing = Some(format!("no runtime can be read in {which}: only the uses of memory are compared"));
    }
    Ok((Side::measure(&other, *wanted)?, missing))
}
