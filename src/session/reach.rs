//! Who refers to one object, what one object reaches, what is alive: answered at the cost of the answer, without the graph
//! of the whole heap unless that is there already, or pays.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Lazy, Session};
use crate::graph::ObjectIds;
use crate::graph::mark::Marked;
use crate::graph::paths::{self, WaysTo};
use crate::graph::rounds::Rounds;
use crate::heap::closure::{closure, onward};
use crate::heap::links::Links;
use crate::heap::reader::Reader;
use crate::heap::starts::Starts;
use crate::heap::summary::{Summary, View};

/// What one question may read at most before the graph is built: the heap by so much. What is near is found with far less,
/// and what is not would have paid for it twice.
const PART_A_QUESTION: u64 = 2;
/// What all questions of a session may, before the graph pays.
const HEAPS_A_SESSION: u64 = 8;
/// So much is never too dear.
const SMALL: u64 = 1 << 22;

/// What is kept between questions.
#[derive(Debug, Default)]
pub(super) struct Kept {
    links: Lazy<Links>,
    summary: Lazy<Summary>,
    live: Lazy<Marked>,
    starts: Lazy<Starts>,
    /// Bytes read for questions about single objects.
    spent: AtomicU64,
}

/// Shortest ways to one object.
#[derive(Debug)]
pub enum Ways<'a> {
    /// Found round by round.
    Near(Rounds),
    /// Found over the graph.
    Whole(&'a ObjectIds, WaysTo),
}

impl Ways<'_> {
    /// Whether the object at `address` leads there; it must be one of those asked for.
    pub fn reaches(&self, address: u64) -> bool {
        match self {
            Self::Near(ways) => ways.reaches(address),
            Self::Whole(ids, ways) => ids.id_of(address).is_some_and(|id| ways.reaches(id)),
        }
    }

    /// Addresses on a shortest way from the object at `address`, both ends included; empty when there is none.
    pub fn path(&self, address: u64) -> Vec<u64> {
        match self {
            Self::Near(ways) => ways.path(address),
            Self::Whole(ids, ways) => {
                let path = ids.id_of(address).map(|id| ways.path(id)).unwrap_or_default();
                path.into_iter().filter_map(|id| ids.address_of(id)).collect()
            }
        }
    }
}

/// The objects the roots reach.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    ids: &'a ObjectIds,
    marked: &'a Marked,
}

impl Live<'_> {
    /// Whether the roots reach the object that starts at `address`.
    #[inline]
    pub fn has(&self, address: u64) -> bool {
        self.marked.has(self.ids, address)
    }

    /// How many they reach.
    pub fn count(&self) -> u64 {
        self.marked.count()
    }
}

/// The static field that holds the queues of timers; one queue before 3.0.
const TIMER_QUEUES: [&str; 2] = ["<Instances>k__BackingField", "s_queue"];

impl Session {
    /// References that stand in no field.
    pub fn links(&self) -> Result<&Links> {
        self.reach.links.get(|| Ok(Links::new(self.clr()?)))
    }

    /// Whether objects can only be read in a walk: inside a collection some are written over.
    fn only_walks(&self) -> Result<bool> {
        Ok(self.heap()?.in_gc)
    }

    /// Where the heap refers to. Made in the same walk as the index when that is not there.
    fn summary(&self) -> Result<&Summary> {
        self.reach.summary.get(|| {
            let (walker, links) = (self.walker()?, self.links()?);
            let mut both = None;
            let index = self.index.get(|| match self.saved_index() {
                Some(index) => Ok(index),
                None => {
                    let (index, summary) = Summary::with_index(&walker, links)?;
                    both = Some(summary);
                    Ok(self.computed(index))
                }
            })?;
            match both {
                Some(summary) => Ok(summary),
                None => Ok(Summary::build(&walker, index, links)?),
            }
        })
    }

    /// Whether who refers to whom is known for the whole heap already.
    pub fn has_reverse(&self) -> bool {
        self.reverse.value.get().is_some()
    }

    /// What may be read for one question; `None` when the graph is there or has to be made anyway.
    fn budget(&self) -> Result<Option<u64>> {
        if self.has_reverse() || self.only_walks()? {
            return Ok(None);
        }
        let heap = self.heap()?.allocated().max(SMALL);
        let spent = self.reach.spent.load(Ordering::Relaxed);
        Ok((spent < heap.saturating_mul(HEAPS_A_SESSION)).then_some((heap / PART_A_QUESTION).max(SMALL)))
    }

    /// Asks `near` with what it may read; `None` when the graph has to answer.
    fn within<T>(&self, near: impl FnOnce(&View<'_>, &mut u64) -> Result<Option<T>>) -> Result<Option<T>> {
        let Some(budget) = self.budget()? else { return Ok(None) };
        let summary = self.summary()?;
        let view = View { walker: self.walker()?, index: self.index()?, links: self.links()?, summary };
        let mut left = budget;
        let found = near(&view, &mut left)?;
        self.reach.spent.fetch_add(budget - left, Ordering::Relaxed);
        Ok(found)
    }

    /// To be called before anything that needs the index, when ways or referrers are going to be asked for: one walk does
    /// for both.
    pub fn expect_ways(&self) -> Result<()> {
        if self.budget()?.is_some() {
            self.summary()?;
        }
        Ok(())
    }

    /// What says least of why something is held: that a timer will come. Another holder as near is preferred.
    pub fn late_holders(&self) -> Vec<u64> {
        let queues = || {
            let clr = self.clr().ok()?;
            let mt = clr.core_type("System.Threading.TimerQueue")?;
            let fields = clr.fields(mt);
            let field = TIMER_QUEUES.iter().find_map(|n| fields.statics.iter().find(|f| &*f.name == *n))?;
            clr.space().ptr(self.static_address(mt, field)?).filter(|&q| q != 0)
        };
        queues().into_iter().collect()
    }

    /// Shortest ways to the object at `target` from every object, over the graph.
    pub fn all_ways_to(&self, target: u64) -> Result<Ways<'_>> {
        let reverse = self.reverse()?;
        let ids = &self.index()?.ids;
        let late: Vec<u32> = self.late_holders().into_iter().filter_map(|a| ids.id_of(a)).collect();
        Ok(Ways::Whole(ids, WaysTo::new(reverse, ids.id_of(target).unwrap_or(u32::MAX), &late, &self.watch)?))
    }

    /// Ways from the object at `source`, the shortest first, until `show` has enough: see [`WaysTo::all_from`]. `ways` must
    /// be those over the graph.
    pub fn further_ways(
        &self,
        ways: &Ways<'_>,
        source: u64,
        mut show: impl FnMut(&[u64]) -> Result<bool>,
    ) -> Result<()> {
        let Ways::Whole(ids, ways) = ways else { return Ok(()) };
        let Some(source) = ids.id_of(source) else { return Ok(()) };
        let mut failed = Ok(());
        ways.all_from(&self.graph()?.forward, self.reverse()?, source, &self.watch, |path| {
            let path: Vec<u64> = path.iter().filter_map(|&id| ids.address_of(id)).collect();
            show(&path).unwrap_or_else(|e| {
                failed = Err(e);
                false
            })
        })?;
        failed
    }

    /// Shortest ways to the object at `target` from those of `sources` that lead there.
    pub fn ways_to(&self, target: u64, sources: impl Iterator<Item = u64>) -> Result<Ways<'_>> {
        let near = self.within(|view, left| {
            let wanted: FxHashSet<u64> = sources.filter(|&s| view.index.ids.bit_of(s).is_some()).collect();
            Ok(Rounds::search(target, &wanted, &self.late_holders(), |sought| view.referrers(sought, left))?)
        })?;
        match near {
            Some(ways) => Ok(Ways::Near(ways)),
            None => self.all_ways_to(target),
        }
    }

    /// A shortest way from the object at `source` to the one at `target`, both included; empty when there is none. Asks what
    /// `source` reaches first, which mostly is little; the way is that of [`Session::ways_to`] all the same: every object on
    /// a shortest way is among those met, in the same order.
    pub fn way_between(&self, source: u64, target: u64) -> Result<Vec<u64>> {
        if !self.has_reverse() && !self.only_walks()? {
            let (known, ends) = (self.index.value.get(), (source, target));
            if let Some(found) = onward(self.walker()?, self.links()?, ends, self.starts()?, known)? {
                let wanted = FxHashSet::from_iter([source]);
                let ways = Rounds::search(target, &wanted, &self.late_holders(), |sought| {
                    Ok::<_, anyhow::Error>(Some(found.referrers(sought)))
                })?;
                return Ok(ways.map(|w| w.path(source)).unwrap_or_default());
            }
        }
        Ok(self.ways_to(target, std::iter::once(source))?.path(source))
    }

    /// Addresses of the objects that refer to the one at `target`, ascending, each once.
    pub fn referrers(&self, target: u64) -> Result<Vec<u64>> {
        let sought = FxHashMap::from_iter([(target, 0)]);
        if let Some(found) = self.within(|view, left| Ok(view.referrers(&sought, left)?))? {
            return Ok(found.into_iter().map(|f| f.1).collect());
        }
        let reverse = self.reverse()?;
        let ids = &self.index()?.ids;
        let mut from: Vec<u32> = ids.id_of(target).map(|id| reverse.of(id).to_vec()).unwrap_or_default();
        from.sort_unstable();
        from.dedup();
        Ok(from.into_iter().filter_map(|id| ids.address_of(id)).collect())
    }

    fn starts(&self) -> Result<&Starts> {
        self.reach.starts.get(|| Ok(Starts::new(&self.walker()?)))
    }

    /// Whether an object starts at `address`.
    pub fn is_object(&self, address: u64) -> Result<bool> {
        match self.index.value.get() {
            Some(index) => Ok(index.ids.bit_of(address).is_some()),
            None => Ok(self.starts()?.has(&self.walker()?, address)?),
        }
    }

    /// Everything the object at `source` reaches, itself first, in the order of a breadth-first search.
    pub fn closure_of(&self, source: u64) -> Result<Vec<u64>> {
        if self.only_walks()? {
            let (ids, graph) = (&self.index()?.ids, self.graph()?);
            let Some(id) = ids.id_of(source) else { return Ok(vec![source]) };
            let all = paths::closure(&graph.forward, id, &self.watch)?;
            return Ok(all.into_iter().filter_map(|id| ids.address_of(id)).collect());
        }
        let known = self.index.value.get();
        closure(self.walker()?, self.links()?, source, self.starts()?, known, || self.index())
    }

    /// What the objects at `sources` reach, themselves included.
    pub fn marked_from(&self, sources: impl IntoIterator<Item = u64>) -> Result<Marked> {
        let index = self.index()?;
        if self.only_walks()? {
            let sources: Vec<u32> = sources.into_iter().filter_map(|s| index.ids.id_of(s)).collect();
            let reached = paths::reachable(&self.graph()?.forward, sources, &self.watch)?;
            return Ok(Marked::from_ids(&index.ids, &reached));
        }
        let (walker, links) = (self.walker()?, self.links()?);
        Ok(Marked::from_sources(&index.ids, sources, || Reader::new(walker, links), &self.watch)?)
    }

    /// What the roots reach.
    pub fn live(&self) -> Result<Live<'_>> {
        let marked = self.reach.live.get(|| self.marked_from(self.roots()?.items.iter().map(|r| r.object)))?;
        Ok(Live { ids: &self.index()?.ids, marked })
    }
}
