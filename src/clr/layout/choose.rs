//! Choosing a layout: tables and shapes are tried, the descriptor and structure complete them, the checks decide.

use std::cell::OnceCell;

use super::calibrate;
use super::checks::Probe;
use super::descriptor::{self, Descriptor};
use super::effort::Effort;
use super::gcdac::{GcDacVars, GcSource, context_size};
use super::provider::{DiscoverOptions, Provider};
use super::report::RuntimeModule;
use super::scan::{Anchor, AnchorKind, Span};
use super::search::{self, Search};
use super::tables::{SHAPES, TABLES, Table};
use super::verdict::{Check, Verdict};
use super::{Layout, Source};
use crate::dump::Dump;

/// A table tried on an anchor.
struct Attempt {
    table: &'static Table,
    /// Whether the descriptor's word was laid over it.
    described: bool,
    anchor: Option<Anchor>,
    layout: Layout,
    checks: Vec<Check>,
}

/// An attempt completed by the other providers.
pub struct Settled {
    /// The table or shape it started from.
    pub table: &'static Table,
    /// Whether the descriptor carries it, the table only what no descriptor names.
    pub described: bool,
    /// The layout.
    pub layout: Layout,
    /// What the checks said of the table, and of it against the descriptor.
    pub checks: Vec<Check>,
    /// What they say of the completed layout.
    pub again: Vec<Check>,
    /// One line a provider that had a part in it.
    pub notes: Vec<(String, String)>,
}

impl Settled {
    /// Whether every check of the completed layout holds, and nothing is missing from it that the table itself names.
    fn is_sound(&self) -> bool {
        let missing = super::gaps::of_layout(&self.layout);
        if failed(&self.again) > 0 || missing.is_empty() {
            return failed(&self.again) == 0;
        }
        // What a table never had (fields; no table has the addresses of variables) structure was asked for already.
        let never = super::gaps::of_layout(&self.table.layout());
        self.table.platform.is_some() && missing.iter().all(|m| !m.contains('&') && never.contains(m))
    }
}

/// The one whose checks hold better; of two alike the first.
fn sounder(a: Option<Settled>, b: Option<Settled>) -> Option<Settled> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if score(&b.again) > score(&a.again) { b } else { a }),
        (a, b) => a.or(b),
    }
}

impl Attempt {
    fn score(&self) -> i64 {
        score(&self.checks)
    }

    /// Whether so many checks hold, and none fails, that no other table can be meant.
    fn fits_throughout(&self) -> bool {
        failed(&self.checks) == 0 && passed(&self.checks) >= PROOF
    }
}

/// The one that fits better; of two that fit alike the first.
fn better(a: Option<Attempt>, b: Option<Attempt>) -> Option<Attempt> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.score() > a.score() { b } else { a }),
        (a, b) => a.or(b),
    }
}

/// Tries tables and shapes.
pub struct Chooser<'a> {
    /// The dump.
    pub dump: &'a Dump,
    /// The runtime's image.
    pub span: Span,
    /// The collector's variables.
    pub gc: &'a GcDacVars,
    /// The runtime's module.
    pub runtime: &'a RuntimeModule,
    /// Where the DAC table may be anchored.
    pub anchors: &'a [Anchor],
    /// The runtime's own description.
    pub descriptor: Option<&'a Descriptor>,
    /// Why other descriptors were refused.
    pub refused: &'a [String],
    /// What may be asked.
    pub options: &'a DiscoverOptions,
    /// What it may cost.
    pub effort: &'a Effort<'a>,
    /// Words of the image that may be variables, where no DAC table leads to them.
    pub words: OnceCell<Vec<u64>>,
}

impl Chooser<'_> {
    /// The table that fits best, or, where none fits throughout, the shape that fits better.
    pub fn best(&self) -> Option<Settled> {
        let mut best: Option<Attempt> = None;
        if self.options.allows(Provider::Tables) {
            for table in self.tables() {
                if best.as_ref().is_some_and(Attempt::fits_throughout) || self.effort.is_over() {
                    break;
                }
                for anchor in self.anchors.iter().take_while(|_| !self.effort.is_over()) {
                    best = better(best, self.table(table, Some(anchor)));
                }
                if self.anchors.is_empty() && self.options.allows(Provider::Structure) {
                    best = better(best, self.table(table, None));
                }
            }
        }
        let mut table = best.map(|b| self.complete(b));
        if !table.as_ref().is_some_and(Settled::is_sound) {
            table = sounder(table, self.described().map(|d| self.complete(d)));
        }
        if table.as_ref().is_some_and(Settled::is_sound) || !self.options.allows(Provider::Structure) {
            return table;
        }
        // Every word of the image is asked only where the DAC table leads nowhere.
        let shape = self.shapes(self.anchors.iter().map(Some)).or_else(|| self.shapes([None].into_iter()));
        sounder(table, shape.map(|s| self.complete(s)))
    }

    /// The tables of the dump's system, newest first. Where no DAC table leads to variables, those that fit best without them
    /// first: what a search may cost is spent on them.
    fn tables(&self) -> Vec<&'static Table> {
        let here = Some((self.dump.os, self.dump.arch));
        let own = TABLES.iter().filter(|t| t.platform == here);
        if !self.anchors.is_empty() || !self.options.allows(Provider::Structure) {
            return own.collect();
        }
        let mut all: Vec<(i64, &Table)> = own.filter_map(|t| Some((self.likeness(t, None)?, t))).collect();
        all.sort_by_key(|a| std::cmp::Reverse(a.0));
        all.into_iter().map(|a| a.1).collect()
    }

    /// The shape that fits best under what the descriptor says. Each variable it does not name is taken from the DAC table,
    /// each field from structure, where those may be asked.
    fn described(&self) -> Option<Attempt> {
        let descriptor = self.descriptor.filter(|d| d.layout().describes("MethodTable"))?;
        let mut best = None;
        // Descriptors came with the statics of 9.0.
        let pointer = self.dump.arch.pointer_size();
        let dynamic = |s: &&Table| s.layout().text("StaticsKind") == Some("DynamicStaticsInfo");
        for shape in SHAPES.iter().filter(|s| s.pointer_size == pointer).filter(dynamic) {
            let anchors = self.anchors.iter().map(Some).chain(std::iter::once(None));
            for anchor in anchors.take(self.anchors.len().max(1)).take_while(|_| !self.effort.is_over()) {
                let mut layout = self.options.layout(shape);
                if let Some(anchor) = anchor {
                    bind(self.dump, &mut layout, anchor);
                }
                descriptor.over(&mut layout);
                if self.options.allows(Provider::Structure) {
                    self.search(anchor, |s| s.rest(&mut layout));
                }
                if layout.global("StringMethodTable").is_ok() {
                    let checks = self.checks(&layout, Source::Descriptor(descriptor.address));
                    let anchor = anchor.copied();
                    best = better(best, Some(Attempt { table: shape, described: true, anchor, layout, checks }));
                }
            }
        }
        best
    }

    /// Where the table and the descriptor do not say the same, the runtime knows its own layout best, unless the checks
    /// hold against it.
    fn prefer(&self, descriptor: &Descriptor, layout: &mut Layout, source: &Source) -> bool {
        let mut trial = layout.clone();
        descriptor.over(&mut trial);
        let (before, after) = (self.checks(layout, source.clone()), self.checks(&trial, source.clone()));
        // What vouched for a field that the descriptor says is no more has nothing to vouch for.
        let idle = before.iter().filter(|c| c.fields.iter().any(|f| descriptor.replaces(f)));
        let better = failed(&after) <= failed(&before) && passed(&after) + idle.count() >= passed(&before);
        if better {
            *layout = trial;
        }
        better
    }

    /// Takes what the checks refuse out of a layout and asks the descriptor and structure for it.
    fn complete(&self, attempt: Attempt) -> Settled {
        let Attempt { table, described, anchor, mut layout, mut checks } = attempt;
        let verdict = format!("{}: {} checks passed, {} failed", table.name, passed(&checks), failed(&checks));
        let mut notes = vec![match (described, table.platform) {
            (true, _) => ("contract descriptor".to_owned(), format!("over {verdict}")),
            (false, Some(_)) => ("built-in table".into(), verdict),
            (false, None) => ("structure".into(), verdict),
        }];
        let before = layout.clone();
        refuse(&mut layout, &checks);
        if let Some(d) = self.descriptor.filter(|_| !described) {
            let unlike = descriptor::witness(&layout, d);
            if (!unlike.is_empty() || d.replaces_any()) && self.prefer(d, &mut layout, &Source::Descriptor(d.address)) {
                let what = format!("preferred to {} in {} facts they do not agree on", table.name, unlike.len());
                notes.push(("contract descriptor".into(), what));
            }
            checks.extend(unlike);
            let filled = descriptor::fill(&mut layout, d);
            notes.push(("contract descriptor".into(), format!("filled {filled} facts the table lacks or had refused")));
        }
        let mut again = Vec::new();
        for _ in 0..ROUNDS {
            if self.options.allows(Provider::Structure) {
                let found = self.search(anchor.as_ref(), |s| calibrate::missing(s, &mut layout));
                if !found.is_empty() {
                    notes.push(("calibration".into(), format!("found {}", found.join(", "))));
                }
            }
            // What the later providers set is held to the same invariants.
            again = self.checks(&layout, Source::Calibrated);
            refuse(&mut layout, &again);
            if failed(&again) == 0 || !self.options.allows(Provider::Structure) || self.effort.is_over() {
                break;
            }
        }
        let doubtful = doubtful(&before, &mut layout, &again);
        if !doubtful.is_empty() {
            let what = format!("not believed beside fields that moved: {}", doubtful.join(", "));
            notes.push(("calibration".into(), what));
        }
        Settled { table, described, layout, checks, again, notes }
    }

    /// The shape that fits best from any of the anchors.
    fn shapes<'b>(&self, anchors: impl Iterator<Item = Option<&'b Anchor>> + Clone) -> Option<Attempt> {
        let mut best: Option<Attempt> = None;
        let pointer = self.dump.arch.pointer_size();
        let mut all: Vec<(i64, &'static Table, Option<&'b Anchor>)> = Vec::new();
        for shape in SHAPES.iter().filter(|s| s.pointer_size == pointer) {
            all.extend(anchors.clone().filter_map(|a| Some((self.likeness(shape, a)?, shape, a))));
        }
        // The likelier first: what a search may cost is spent on them. Of those alike the newest.
        all.sort_by_key(|a| std::cmp::Reverse(a.0));
        for (_, shape, anchor) in all.into_iter().take_while(|_| !self.effort.is_over()) {
            best = better(best, self.shape(shape, anchor));
            if best.as_ref().is_some_and(Attempt::fits_throughout) {
                break;
            }
        }
        best
    }

    /// Whether the table of generations that structure found is one of the runtimes `layout` is of: those that have their
    /// collector's variables in the DAC table know where a generation begins, and that place has moved since.
    fn agrees(&self, layout: &Layout) -> bool {
        let found = self.gc.generation_field_offsets.get(1).copied().and_then(|o| u64::try_from(o).ok());
        let ptr = self.dump.space.ptr_size().into();
        let own = layout.try_offset("Generation", "StartSegment").unwrap_or(context_size(ptr));
        self.gc.source != GcSource::Structure || found == Some(own)
    }

    /// How well a table or shape fits before anything but the well-known types is searched for; `None` where those are not found.
    fn likeness(&self, table: &'static Table, anchor: Option<&Anchor>) -> Option<i64> {
        let mut layout = self.options.layout(table);
        if let Some(anchor) = anchor {
            (AnchorKind::of(&layout) == anchor.kind).then_some(())?;
            bind(self.dump, &mut layout, anchor);
        }
        self.agrees(&layout).then_some(())?;
        self.search(anchor, |s| s.well_known(&mut layout));
        layout.global("StringMethodTable").ok()?;
        Some(score(&self.checks(&layout, Source::Table(table.name.to_owned()))))
    }

    /// Binds `table` to the DAC table at `anchor` and checks everything.
    fn table(&self, table: &'static Table, anchor: Option<&Anchor>) -> Option<Attempt> {
        let mut layout = self.options.layout(table);
        if let Some(anchor) = anchor {
            if layout.constant("DacSlotSize") != Ok(anchor.slot_size) || AnchorKind::of(&layout) != anchor.kind {
                return None;
            }
            bind(self.dump, &mut layout, anchor);
            if self.options.allows(Provider::Structure) {
                calibrate::well_known(self.dump, &mut layout, anchor, self.gc, self.runtime);
            }
        } else {
            self.search(None, |s| s.run(&mut layout));
        }
        let checks = self.checks(&layout, Source::Table(table.name.to_owned()));
        Some(Attempt { table, described: false, anchor: anchor.copied(), layout, checks })
    }

    /// Completes `shape` by searching, from the DAC table at `anchor` or from every word of the image.
    fn shape(&self, shape: &'static Table, anchor: Option<&Anchor>) -> Option<Attempt> {
        let mut layout = self.options.layout(shape);
        if let Some(anchor) = anchor {
            if AnchorKind::of(&layout) != anchor.kind {
                return None;
            }
            bind(self.dump, &mut layout, anchor);
        }
        self.search(anchor, |s| s.run(&mut layout));
        if layout.global("StringMethodTable").is_err() {
            return None;
        }
        let checks = self.checks(&layout, Source::Table(shape.name.to_owned()));
        Some(Attempt { table: shape, described: false, anchor: anchor.copied(), layout, checks })
    }

    fn search<T>(&self, anchor: Option<&Anchor>, run: impl FnOnce(&Search<'_>) -> T) -> T {
        let of_table = anchor.map(|a| search::slots(self.dump, self.span, a));
        let cells = of_table.as_ref().unwrap_or_else(|| self.words.get_or_init(|| search::words(self.dump, self.span)));
        let (slots, effort) = (anchor.is_some(), self.effort);
        run(&Search { dump: self.dump, gc: self.gc, module: self.runtime, cells, slots, effort })
    }

    fn checks(&self, layout: &Layout, source: Source) -> Vec<Check> {
        Probe::run(self.dump, layout, self.gc, self.runtime, source)
    }
}

/// Gives the variables that `layout` has slots for their addresses.
pub(super) fn bind(dump: &Dump, layout: &mut Layout, anchor: &Anchor) {
    let slots: Vec<(String, i32)> = layout.dac_slots.iter().map(|(n, &i)| (n.clone(), i)).collect();
    for (name, index) in slots {
        if let Some(cell) = anchor.get(&dump.space, index) {
            layout.set_global(&name, cell, Source::DacTable(index));
        }
    }
    super::inline::complete(dump, layout, anchor);
    calibrate::domain_of_thread(dump, layout);
}

/// How many hold.
pub fn passed(checks: &[Check]) -> usize {
    checks.iter().filter(|c| c.verdict == Verdict::Passed).count()
}

/// Checks that must hold: without them nothing can be read.
pub const CORE: &[&str] =
    &["the type of free blocks", "System.Object", "System.String", "MethodTable and EEClass point at each other"];

/// More passed, fewer failed is better; a failure weighs more than a pass, and one of what nothing can be read without more
/// than all others: a table that has little to check would be taken for one of which something has moved.
fn score(checks: &[Check]) -> i64 {
    const WITHOUT_CORE: i64 = 100;
    let core = checks.iter().any(|c| CORE.contains(&c.name) && c.verdict == Verdict::Failed);
    passed(checks) as i64 - 2 * failed(checks) as i64 - if core { WITHOUT_CORE } else { 0 }
}

/// How many do not.
pub fn failed(checks: &[Check]) -> usize {
    checks.iter().filter(|c| c.verdict == Verdict::Failed).count()
}

/// Checks that hold of a table that is the right one in a dump with its heap: 35 to 41. Those of its neighbours hold in 20
/// to 30 checks, and some of theirs fail.
const PROOF: usize = 35;

/// How often what the checks refuse is looked for: a field found may show that another is not where it should be.
const ROUNDS: usize = 2;

/// Takes out what nothing vouches for in a type of which another field was found elsewhere than the table has it: the
/// same member may have moved both. Fields before one that is where it should be did not move.
fn doubtful(before: &Layout, layout: &mut Layout, checks: &[Check]) -> Vec<String> {
    let vouched =
        |name: &str| checks.iter().any(|c| c.verdict == Verdict::Passed && c.fields.iter().any(|f| f == name));
    let facts: Vec<(String, u64, bool)> =
        layout.facts().into_iter().map(|(n, v, s)| (n, v, matches!(s, Source::Table(_)))).collect();
    let moved = |(name, value, _): &&(String, u64, bool)| {
        let (ty, field) = name.split_once('.')?;
        before.try_offset(ty, field).filter(|b| b != value).map(|_| ty.to_owned())
    };
    let types: Vec<String> = facts.iter().filter_map(|f| moved(&f)).collect();
    let mut out = Vec::new();
    for (name, value, _) in facts.iter().filter(|f| f.2 && !vouched(&f.0)) {
        let Some((ty, field)) = name.split_once('.').filter(|(ty, _)| types.iter().any(|t| t == ty)) else { continue };
        let mut behind = facts.iter().filter(|(n, v, _)| v > value && n.split_once('.').is_some_and(|(t, _)| t == ty));
        if !behind.any(|f| moved(&f).is_none() && vouched(&f.0)) {
            layout.drop_field(ty, field);
            out.push(name.clone());
        }
    }
    out
}

/// Takes the fields of failed checks out of the layout, unless another check that passed vouches for them too.
fn refuse(layout: &mut Layout, checks: &[Check]) {
    let vouched: Vec<&String> =
        checks.iter().filter(|c| c.verdict == Verdict::Passed).flat_map(|c| &c.fields).collect();
    for check in checks.iter().filter(|c| c.verdict == Verdict::Failed) {
        for field in check.fields.iter().filter(|f| !vouched.contains(f)) {
            match field.split_once('.') {
                Some((ty, name)) => {
                    let at = layout.try_offset(ty, name);
                    layout.drop_field(ty, name);
                    // What only follows it is as wrong as it is.
                    for (follower, offset) in at.map(|a| layout.followers(ty, name, a)).unwrap_or_default() {
                        let vouched = vouched.iter().any(|v| **v == format!("{ty}.{follower}"));
                        if !vouched && layout.try_offset(ty, &follower) == Some(offset) {
                            layout.drop_field(ty, &follower);
                        }
                    }
                }
                None => layout.drop_global(field.trim_start_matches('&')),
            }
        }
    }
    layout.follow();
}
