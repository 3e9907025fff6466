//! `!leaks`: what keeps much alive, with the evidence and what to type next.

mod content;
mod copies;
pub mod evidence;
mod held;
mod holders;
mod library;
mod loads;
mod native;
mod runtime;
mod show;
mod space;
mod view;

use std::cmp::Reverse;
use std::sync::Arc;

use anyhow::{Result, bail};

use self::evidence::{Evidence, Place};
use self::view::View;
use crate::session::Session;
use crate::shell::out::thousands;
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix};

/// `!leaks`.
pub const LEAKS: Command = Command {
    name: "leaks",
    prefix: Prefix::Bang,
    aliases: &["suspects"],
    group: Group::Heap,
    summary: "suspects worth a look: who keeps much alive, with evidence and what to type next",
    help: "Lists what stands out in the heap, what keeps most bytes first, and behind it what wastes most:\n\n\
           collection  an object that holds many elements of one type, or several big ones\n\
           linked      a chain or tree of objects of one type\n\
           object      an object with much below it that is neither\n\
           event       a delegate with many handlers; what is subscribed lives as long as the event\n\
           timers      many timers with the same callback and state\n\
           delegates   many delegates of one type whose targets are of one type\n\
           async       many state machines of one async method that wait\n\
           handles     many handles to objects of one type\n\
           thread      a thread static that holds much on several threads together\n\
           finalizer   many objects ready for finalization, and what the finalizer thread waits for\n\
           context     an AssemblyLoadContext that was told to unload and did not\n\
           native      native memory (malloc) that objects hold by one field, live and dead ones\n\
           cheap       a C heap that keeps much free and does not give it back\n\
           arenas      many arenas of a C heap with little in use\n\
           free        free space between objects of one generation, and what stands behind it: pinned objects or others\n\
           sparse      arrays of one type most of whose elements are null or zero\n\
           strings     the same texts many times\n\
           copies      byte arrays with the same content, those of zeros left out\n\
           capacity    collections and builders with room for far more than they hold: less than 40% of it is used\n\
           boxed       values (numbers, structs) in boxes, but for those in which the runtime keeps static variables\n\
           weak        weak references whose target is gone, more of them than of others with the same holder\n\
           clients     HttpClients with handlers of their own, held by objects of one type\n\
           registrations  callbacks registered with one source of cancellation and not taken back\n\
           tracker     an old context of entities (EF) that tracks many and is held by no work under way\n\n\
           Bytes are those that would be freed with the holder; of collections, linked and single objects no byte counts \
           for two of them, other kinds may overlap with these. Of copies, capacity and boxed less than 64 KB is not told. Shares are of all live bytes, of `free` of the whole heap; \
           native memory has none. \
           One dump shows what is held, never that it grows: a cache that is full looks the same. Compare with a dump \
           taken later.",
    args: &[
        Arg::opt("share", Kind::Text, "least percent of the live bytes (free: of the heap) where bytes decide: 2"),
        Arg::opt(
            "min-count",
            Kind::Count,
            "least number of like elements, delegates, state machines, handles, ready objects, boxes, registrations: 100",
        ),
        Arg::opt(
            "few",
            Kind::Count,
            "least number of handlers of an event, timers of one kind, clients of one holder: 10",
        ),
        Arg::opt("free", Kind::Text, "least percent of free space in a generation: 25"),
        Arg::opt("empty", Kind::Text, "least percent of null or zero elements of an array: 80"),
        Arg::opt("top", Kind::Count, "so many suspects, 20 without this option; 0 for all"),
    ],
    examples: &[
        Example { line: "!leaks", what: "where to begin" },
        Example { line: "!leaks -share 0.5 -min-count 50", what: "smaller suspects too" },
    ],
    needs: Needs::Clr,
    returns: show::RETURNS,
    run,
};

/// From when on something is a suspect.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Percent of the live bytes, in (0, 100].
    pub share: f64,
    /// Like elements of a collection, state machines of a method, objects ready for finalization.
    pub min_count: u64,
    /// Handlers of one event, timers of one kind.
    pub few: u64,
    /// Percent of a generation that is free.
    pub free: f64,
    /// Percent of an array's elements that are zero.
    pub empty: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { share: 2.0, min_count: 100, few: 10, free: 25.0, empty: 80.0 }
    }
}

/// Fewer bytes that could be saved are not worth changing a program for, whatever their share.
const LEAST: u64 = 64 << 10;

/// Smallest share taken, in percent: it bounds the number of suspects.
const LEAST_SHARE: f64 = 0.01;

/// One suspect with its evidence.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Suspect {
    /// One of the kinds the help lists.
    pub kind: &'static str,
    /// Bytes kept alive (free or to be saved, where the kind says so).
    pub bytes: u64,
    /// Percent of the live bytes; of free space, of the whole heap.
    pub share: f64,
    /// Elements.
    pub count: u64,
    /// Type of the elements.
    pub element: String,
    /// Address of one element; 0 without one.
    pub example: u64,
    /// Who holds it: static field, else the type at the root.
    pub owner: String,
    /// Address of the holder; 0 without one.
    pub holder: u64,
    /// Root path in one line; empty without one.
    pub path: String,
    /// Both as values.
    pub place: Place,
    /// Further facts, a sentence each.
    pub facts: Vec<Evidence>,
    /// Commands to type next.
    pub next: Vec<String>,
}

impl Suspect {
    /// Whether its bytes are space that could be saved, held by nothing or by others.
    pub fn is_waste(&self) -> bool {
        matches!(
            self.kind,
            "free" | "strings" | "copies" | "sparse" | "capacity" | "boxed" | "weak" | "cheap" | "arenas"
        )
    }

    /// Type of the elements, where they are of one.
    pub fn element_type(&self) -> Option<&str> {
        match self.kind {
            "event" => self.element.strip_prefix(HANDLERS),
            "strings" => Some("System.String"),
            "copies" => Some("System.Byte[]"),
            "free" | "finalizer" | "native" | "cheap" | "arenas" => None,
            "capacity" | "boxed" | "weak" | "registrations" | "tracker" => None,
            _ => Some(&self.element),
        }
    }
}

/// What stands before the type of an event's handlers.
const HANDLERS: &str = "handlers on ";

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// The suspects, those that keep most first, then those that waste most.
    pub suspects: Vec<Suspect>,
    /// Whether types had no names, so that the kinds told by names are left out.
    pub nameless: bool,
}

/// All suspects, those that keep most first, then those that waste most. The search is made once for the same limits.
pub fn find(session: &Session, limits: &Limits) -> Result<Arc<Found>> {
    session.once(&format!("{limits:?}"), || search(session, limits))
}

fn search(session: &Session, limits: &Limits) -> Result<Found> {
    let view = View::new(session, *limits)?;
    let mut all = Vec::new();
    let mut told = rustc_hash::FxHashSet::default();
    loads::events(&view, &mut all, &mut told)?;
    loads::timers(&view, &mut all)?;
    loads::state_machines(&view, &mut all)?;
    library::registrations(&view, &mut all, &mut told)?;
    loads::delegates(&view, &told, &mut all)?;
    loads::roots(&view, &mut all, &mut told)?;
    held::find(&view, &told, &mut all)?;
    loads::join_state_machines(&mut all);
    runtime::finalizer(&view, &mut all)?;
    native::owners(&view, &mut all)?;
    native::kept(&view, &mut all)?;
    native::arenas(&view, &mut all)?;
    space::fragmented(&view, &mut all)?;
    let mut roomy = rustc_hash::FxHashSet::default();
    content::capacity(&view, &mut all, &mut roomy)?;
    space::sparse(&view, &roomy, &mut all)?;
    copies::strings(&view, &mut all)?;
    copies::buffers(&view, &mut all)?;
    content::boxed(&view, &mut all)?;
    library::weak(&view, &mut all)?;
    library::clients(&view, &mut all)?;
    library::trackers(&view, &mut all)?;
    runtime::contexts(&view, &mut all)?;
    for s in all.iter_mut().filter(|s| !matches!(s.kind, "free" | "native" | "cheap" | "arenas")) {
        s.share = view.share_of(s.bytes);
    }
    all.sort_by_key(|s| (s.is_waste(), Reverse(s.bytes), s.example));
    Ok(Found { suspects: all, nameless: !view.has_names() })
}

/// Types without names leave suspects out.
const NAMELESS: &str = "the metadata of the class library is not in the dump: events, timers, state machines and load \
                        contexts cannot be told; give the folder of its files with -i or .exepath";

fn limits(args: &Args) -> Result<Limits> {
    let mut limits = Limits::default();
    for (name, limit) in [("share", &mut limits.share), ("free", &mut limits.free), ("empty", &mut limits.empty)] {
        let Some(text) = args.text(name) else { continue };
        *limit = match text.trim_end_matches('%').parse::<f64>() {
            Ok(s) if (LEAST_SHARE..=100.0).contains(&s) => s,
            _ => bail!("-{name} takes percent from {LEAST_SHARE} to 100, not `{text}`"),
        };
    }
    limits.min_count = args.number("min-count").unwrap_or(limits.min_count).max(2);
    limits.few = args.number("few").unwrap_or(limits.few).max(1);
    Ok(limits)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let limits = limits(args)?;
    let found = find(session, &limits)?;
    let (all, nameless) = (&found.suspects, found.nameless);
    if all.is_empty() {
        ctx.out.note("Nothing stands out. Lower thresholds show more: !leaks -share 0.5 -min-count 50 -few 5")?;
        return super::empty(session);
    }
    let top = match args.number("top") {
        None => 20,
        Some(0) => usize::MAX,
        Some(n) => usize::try_from(n).unwrap_or(usize::MAX),
    };
    let shown = all.get(..top.min(all.len())).unwrap_or(all);
    show::summary(ctx.out, shown)?;
    for (i, s) in shown.iter().enumerate() {
        show::evidence(session.clr()?, ctx.out, i + 1, s)?;
    }
    if all.len() > shown.len() {
        let more = (all.len() - shown.len()) as u64;
        ctx.out.fact("more", Cell::Num(more), format!("{} more; -top 0 lists them", thousands(more)))?;
    }
    ctx.out.note("")?;
    ctx.out.note("One dump shows what is held, not whether it grows: compare with a dump taken later.")?;
    Ok(match super::outcome(session)? {
        Outcome::Complete if nameless => Outcome::Partial(NAMELESS.into()),
        other => other,
    })
}
