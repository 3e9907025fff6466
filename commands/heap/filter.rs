//! Which objects a heap command looks at: ranges, types, sizes, generations, live or dead.

use anyhow::{Result, anyhow, bail};

use crate::clr::types::typename::canonical;
use crate::heap::{Generation, Object, Segment, TypeInfo};
use crate::session::Session;
use crate::shell::{Arg, Args, Kind};

/// A filter made from a command's arguments.
#[derive(Debug, Default)]
pub struct Filter {
    /// Addresses `[start, end)`.
    pub range: Option<(u64, u64)>,
    /// Exact MethodTable.
    pub mt: Option<u64>,
    /// Type names: exact, or substring.
    pub name: Option<NameMatch>,
    /// Bytes.
    pub min: Option<u64>,
    /// Bytes.
    pub max: Option<u64>,
    /// Number of the heap.
    pub heap: Option<u32>,
    /// The segment that holds this address, or whose record it is.
    pub segment: Option<u64>,
    /// Generation.
    pub generation: Option<Generation>,
    /// Live objects only (`true`), dead ones only (`false`).
    pub live: Option<bool>,
}

/// How a type name is matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameMatch {
    /// The whole name, in either spelling.
    Exact(String),
    /// Part of the name, case-sensitive, as `-type` does.
    Part(String),
}

/// Arguments that [`Filter::new`] reads, by what they ask of an object. A command has those of them that suit it.
impl Filter {
    /// Its MethodTable.
    pub const MT: Arg = Arg::opt("mt", Kind::MethodTable, "only this MethodTable");
    /// Part of its type's name.
    pub const TYPE: Arg = Arg::opt("type", Kind::TypeName, "only types whose name contains this (case matters)");
    /// Its least size.
    pub const SMALLEST: Arg = Arg::opt("min", Kind::Count, "only objects of at least so many bytes");
    /// Its largest size.
    pub const LARGEST: Arg = Arg::opt("max", Kind::Count, "only objects of at most so many bytes");
    /// Reached from the roots.
    pub const LIVE: Arg = Arg::flag("live", "only objects that the roots reach");
    /// Not reached.
    pub const DEAD: Arg = Arg::flag("dead", "only objects that nothing reaches");
    /// Its generation.
    pub const GEN: Arg = Arg::opt("gen", Kind::Text, "only gen0, gen1, gen2, loh, poh or foh").words(Generation::WORDS);
    /// Its heap.
    pub const HEAP: Arg = Arg::opt("heap", Kind::Count, "only this heap of server GC");
    /// Its segment.
    pub const SEGMENT: Arg = Arg::opt("segment", Kind::Address, "only the segment at or around this address");
}

impl Filter {
    /// Reads the options all heap commands share. What has no option in a command is simply not given.
    pub fn new(args: &Args) -> Result<Self> {
        let generation = match args.text("gen") {
            None => None,
            Some(g) => Some(Generation::parse(g).ok_or_else(|| {
                anyhow!("no generation `{g}`; there are gen0, gen1, gen2, loh (large), poh (pinned), foh (frozen)")
            })?),
        };
        let (live, dead) = (args.has("live"), args.has("dead"));
        Ok(Self {
            range: None,
            mt: args.number("mt"),
            name: args.text("type").map(|t| NameMatch::Part(t.to_owned())),
            min: args.number("min"),
            max: args.number("max"),
            heap: args.number("heap").map(|h| u32::try_from(h).unwrap_or(u32::MAX)),
            segment: args.number("segment"),
            generation,
            live: if live == dead { None } else { Some(live) },
        })
    }

    /// Whether everything passes.
    pub fn is_everything(&self) -> bool {
        self.range.is_none()
            && self.mt.is_none()
            && self.name.is_none()
            && self.min.is_none()
            && self.max.is_none()
            && self.heap.is_none()
            && self.segment.is_none()
            && self.generation.is_none()
            && self.live.is_none()
    }

    /// Why types may be missing from those whose name holds what was asked for: those without a name. To be asked when the heap was walked.
    pub fn nameless(&self, session: &Session) -> Option<String> {
        let Some(NameMatch::Part(_)) = self.name else { return None };
        let clr = session.clr().ok()?;
        let unnamed = session.types().all().iter().filter(|t| clr.is_unnamed(t.mt.address)).count();
        let missing = (unnamed > 0).then(|| session.missing_metadata()).flatten()?;
        Some(format!("{unnamed} types have no name to compare: not in the dump: {missing}"))
    }

    /// Segments that can hold matching objects.
    pub fn segments(&self, session: &Session) -> Result<Vec<Segment>> {
        let heap = session.heap()?;
        if let Some(h) = self.heap
            && !heap.heaps.iter().any(|s| s.index == h)
        {
            bail!("no heap {h}; there are {}", heap.heaps.len());
        }
        let wanted = |s: &&Segment| {
            self.heap.is_none_or(|h| s.heap == h)
                && self.segment.is_none_or(|a| s.record == a || (s.base()..s.reserved).contains(&a))
                && self.range.is_none_or(|r| r.0 < s.end && s.start < r.1)
                && self.generation.is_none_or(|g| {
                    let part = s.part(g);
                    part.0 < part.1
                })
        };
        let found: Vec<Segment> = heap.segments.iter().filter(wanted).copied().collect();
        if let Some(a) = self.segment.filter(|_| found.is_empty()) {
            bail!("{a:x} is no segment and lies in none; !eeheap -gc lists them");
        }
        Ok(found)
    }

    /// Decides once per type what can be decided there.
    pub fn types(&self, session: &Session) -> Result<TypeFilter> {
        let exact = match &self.name {
            Some(NameMatch::Exact(n)) => Some(canonical(n).into_owned()),
            _ => None,
        };
        let part = match &self.name {
            Some(NameMatch::Part(p)) => Some(p.clone()),
            _ => None,
        };
        let live = match self.live {
            Some(_) => Some(session.live()?),
            None => None,
        };
        let _ = live;
        Ok(TypeFilter { mt: self.mt, exact, part, verdicts: Vec::new() })
    }

    /// Whether an object whose type passes does too.
    #[inline]
    pub fn passes(&self, session: &Session, segment: &Segment, o: &Object<'_>) -> bool {
        self.range.is_none_or(|r| (r.0..r.1).contains(&o.address))
            && self.min.is_none_or(|m| o.size >= m)
            && self.max.is_none_or(|m| o.size <= m)
            && self.generation.is_none_or(|g| segment.generation(o.address) == g)
            && self.live.is_none_or(|want| is_live(session, o) == want)
    }
}

/// Whether a type's name contains `part`; blanks behind commas do not matter.
pub fn holds(name: &str, part: &str) -> bool {
    name.contains(part) || part.contains(',') && name.replace(", ", ",").contains(&part.replace(", ", ","))
}

/// Whether the roots reach the object. The marking was made by [`Filter::types`].
fn is_live(session: &Session, o: &Object<'_>) -> bool {
    session.live().is_ok_and(|live| live.has(o.address))
}

/// Verdicts by type; each worker has its own copy.
#[derive(Debug, Clone)]
pub struct TypeFilter {
    mt: Option<u64>,
    exact: Option<String>,
    part: Option<String>,
    verdicts: Vec<Option<bool>>,
}

impl TypeFilter {
    /// Whether objects of the type can pass; names are built once a type.
    #[inline]
    pub fn passes(&mut self, session: &Session, ty: &TypeInfo) -> bool {
        if let Some(mt) = self.mt
            && ty.mt.address != mt
        {
            return false;
        }
        if self.exact.is_none() && self.part.is_none() {
            return true;
        }
        let i = ty.id as usize;
        if let Some(Some(v)) = self.verdicts.get(i) {
            return *v;
        }
        self.decide(session, ty)
    }

    #[cold]
    fn decide(&mut self, session: &Session, ty: &TypeInfo) -> bool {
        let Ok(clr) = session.clr() else { return false };
        let names = clr.type_names(ty.mt.address);
        let verdict = match (&self.exact, &self.part) {
            (Some(e), _) => *canonical(&names.short) == **e,
            (_, Some(p)) => holds(&names.short, p) || holds(&names.long, p),
            _ => true,
        };
        let i = ty.id as usize;
        if i >= self.verdicts.len() {
            self.verdicts.resize(i + 1, None);
        }
        self.verdicts[i] = Some(verdict);
        verdict
    }
}
