//! What a file of objects holds: all live objects, or the top of the dominator tree with the rest summed up below it.
//!
//! What is left out changes no retained size: each object that stays gets the bytes of what hung below it as one node, and
//! a reference from what dominates it in place of ways through objects that are left out. What only several roots together
//! hold hangs below a kind of root of its own then.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::clr::Clr;
use crate::graph::{Adjacency, Chunk, ObjectIds, RankedBits, mark_bit as mark};
use crate::heap::retained::Retained;
use crate::heap::roots::{Root, RootKind};
use crate::heap::stat::Tally;
use crate::heap::walk::pointer_in;
use crate::heap::{Object, TypeInfo};
use crate::session::Session;
use crate::watch::Watch;

/// Numbers of the first nodes: all, the roots, then a node for each kind of root, then objects in the order of their
/// addresses, then what is summed up.
pub const FIRST_KIND: u32 = 2;

/// What stands for an id where the roots hold something together.
const ROOTS: u32 = u32::MAX;
/// The kind of root of what several of them hold only together.
const TOGETHER: &str = "(several roots)";

/// What is left out below one object.
#[derive(Debug, Clone, Copy)]
struct Rest {
    /// Its id, or [`ROOTS`].
    id: u32,
    tally: Tally,
}

/// A reference of an object in the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// The slot at this offset.
    Slot(u64),
    /// A dependent handle, or what keeps the assembly of a type loaded.
    Link,
    /// What dominates it refers to it through objects that are left out.
    Dominates,
    /// To what is summed up below it.
    Rest,
}

/// The picture.
pub struct Picture<'s> {
    /// Whose heap it is.
    pub session: &'s Session,
    /// Its runtime.
    pub clr: &'s Clr,
    ids: &'s ObjectIds,
    forward: &'s Adjacency,
    retained: &'s Retained,
    /// Ids of the objects in it, whose nodes are numbered in their order: bits, because references are looked up all over.
    chosen: RankedBits,
    /// Kinds of roots with the ids they hold, sorted.
    pub kinds: Vec<(String, Vec<u32>)>,
    /// What of it dominates what else of it, by number among the chosen. Empty where nothing is left out.
    dominated: Adjacency,
    /// In the order of their ids.
    rests: Vec<Rest>,
    /// Ids that have a rest.
    with_rest: RankedBits,
    /// What was left out.
    pub left_out: Tally,
    /// Objects that nothing reaches.
    pub dead: u64,
    /// Why it may not be whole.
    pub partial: Option<String>,
}

impl<'s> Picture<'s> {
    /// That of at most so many objects.
    pub fn of(session: &'s Session, most: u64) -> Result<Self> {
        let (retained, index) = (session.dominators()?, session.index()?);
        let (roots, graph) = (session.roots()?, session.graph()?);
        let mut picture = Self {
            session,
            clr: session.clr()?,
            ids: &index.ids,
            forward: &graph.forward,
            retained,
            chosen: RankedBits::default(),
            kinds: kinds(&roots.items, &index.ids),
            dominated: Adjacency::default(),
            rests: Vec::new(),
            with_rest: RankedBits::default(),
            left_out: Tally::default(),
            dead: u64::from(index.ids.len().saturating_sub(retained.tree.reached())),
            partial: roots.partial.clone().or(index.report.sentence()),
        };
        picture.choose(most)?;
        Ok(picture)
    }

    /// Marks what is in the picture: all, or the objects that retain most, each with all that dominate it.
    fn choose(&mut self, most: u64) -> Result<()> {
        let tree = &self.retained.tree;
        let whole = u64::from(tree.reached()) <= most;
        // What dominates an object retains no less and stands before it.
        let mut order: Vec<(u64, u32)> = Vec::new();
        let mut last = (0, u32::MAX);
        if !whole {
            order.extend((1..=tree.reached()).map(|p| (u64::MAX - self.retained.bytes(p), p)));
            let at = usize::try_from(most).unwrap_or(usize::MAX).clamp(1, order.len()) - 1;
            last = *order.select_nth_unstable(at).1;
        }
        drop(order);
        let (mut together, mut dominated) = (Vec::new(), Vec::new());
        let words = (self.ids.len() as usize).div_ceil(64);
        let (mut chosen, mut with_rest) = (vec![0u64; words], vec![0u64; words]);
        let stays = |p: u32| whole || (u64::MAX - self.retained.bytes(p), p) <= last;
        let mut position = 1;
        while position <= tree.reached() {
            if position.is_multiple_of(1 << 16) {
                self.session.watch.cancel.check()?;
            }
            let above = tree.parent(position).filter(|&a| a != 0).and_then(|a| tree.node(a));
            if stays(position) {
                if let Some(id) = tree.node(position) {
                    mark(&mut chosen, id as usize);
                    match above {
                        _ if whole => {}
                        Some(above) => dominated.push((above, id)),
                        None => together.push(id),
                    }
                }
                position += 1;
                continue;
            }
            let tally = Tally { count: self.retained.objects(position), bytes: self.retained.bytes(position) };
            self.left_out.merge(tally);
            above.iter().for_each(|&id| mark(&mut with_rest, id as usize));
            self.rests.push(Rest { id: above.unwrap_or(ROOTS), tally });
            position = tree.subtree(position).end.max(position + 1);
        }
        self.chosen = RankedBits::new(chosen);
        if !whole {
            together.sort_unstable();
            self.kinds.push((TOGETHER.to_owned(), together));
            self.dominated = dominates(&self.chosen, dominated, &self.session.watch)?;
        }
        self.with_rest = RankedBits::new(with_rest);
        self.rests.sort_by_key(|r| r.id);
        self.rests.dedup_by(|next, kept| {
            let same = next.id == kept.id;
            if same {
                kept.tally.merge(next.tally);
            }
            same
        });
        Ok(())
    }

    /// Objects in it.
    pub fn objects(&self) -> u64 {
        self.chosen.count().into()
    }

    /// Nodes in it.
    pub fn nodes(&self) -> u64 {
        u64::from(FIRST_KIND) + self.kinds.len() as u64 + self.objects() + self.rests.len() as u64
    }

    /// The number of the node of the object with this id.
    pub fn number_of(&self, id: u32) -> Option<u32> {
        Some(self.first_object() + self.chosen.number_of(id as usize)?)
    }

    /// The number of the node of the first object.
    fn first_object(&self) -> u32 {
        FIRST_KIND + self.kinds.len() as u32
    }

    fn has(&self, id: u32) -> bool {
        self.chosen.has(id as usize)
    }

    /// What is summed up, in the order of the nodes that follow the objects: bytes and objects.
    pub fn rests(&self) -> impl Iterator<Item = Tally> + '_ {
        self.rests.iter().map(|r| r.tally)
    }

    /// Calls `each` for the objects in it in their order, with their ids.
    pub fn each(&self, mut each: impl FnMut(u32, &Object<'_>) -> Result<()>) -> Result<()> {
        let (walker, index) = (self.session.walker()?, self.session.index()?);
        // Segments need not stand in the order of their addresses.
        let mut segments = walker.heap.segments.clone();
        segments.sort_by_key(|s| s.start);
        for segment in &segments {
            let mut id = index.first_id(segment).unwrap_or(u32::MAX);
            let mut failed = None;
            walker.segment(segment, (segment.start, segment.end), &mut |o| {
                if self.has(id) {
                    failed = each(id, &o).err();
                }
                id = id.saturating_add(1);
                failed.is_none()
            })?;
            if let Some(e) = failed {
                return Err(e);
            }
        }
        Ok(())
    }

    /// How many references an object has in it.
    pub fn degree(&self, id: u32) -> u32 {
        let kept = self.forward.of(id).iter().filter(|t| self.has(**t)).count() as u32;
        kept + self.below(id).len() as u32 + u32::from(self.rest(id).is_some())
    }

    /// What the object dominates, where some ways to it may be left out, by number among the chosen.
    fn below(&self, id: u32) -> &[u32] {
        self.chosen.number_of(id as usize).map_or(&[], |n| self.dominated.of(n))
    }

    /// Numbers of the nodes that a kind of root holds.
    pub fn held(&self, kind: usize) -> Vec<u32> {
        let Some((_, ids)) = self.kinds.get(kind) else { return Vec::new() };
        let last = kind + 1 == self.kinds.len();
        let rest = if last { self.rest(ROOTS) } else { None };
        ids.iter().filter_map(|&id| self.number_of(id)).chain(rest).collect()
    }

    /// The number of the node in which is summed up what hangs below an object.
    fn rest(&self, id: u32) -> Option<u32> {
        // That of the roots is the last.
        let at = match id {
            ROOTS => {
                self.rests.len().checked_sub(1).filter(|&at| self.rests.get(at).is_some_and(|r| r.id == ROOTS))? as u32
            }
            id => self.with_rest.number_of(id as usize)?,
        };
        Some(self.first_object() + self.chosen.count() + at)
    }

    /// Calls `each` with the references of an object, and the numbers of the nodes they lead to: as many as
    /// [`Picture::degree`] says.
    pub fn edges(&self, id: u32, o: &Object<'_>, mut each: impl FnMut(Edge, u32) -> Result<()>) -> Result<()> {
        let space = self.clr.space();
        let mut slots: Vec<(u32, u64)> = Vec::new();
        let mut last = 0;
        o.slots(space, |offset| {
            let target = pointer_in(space, o, offset).filter(|&t| t != 0);
            slots.extend(target.and_then(|t| self.ids.id_near(t, &mut last)).map(|t| (t, offset)));
        });
        // Those of slots come first, in their order.
        let mut slots = slots.into_iter().peekable();
        for &to in self.forward.of(id) {
            let slot = slots.next_if(|s| s.0 == to);
            if let Some(number) = self.number_of(to) {
                each(slot.map_or(Edge::Link, |s| Edge::Slot(s.1)), number)?;
            }
        }
        for &to in self.below(id) {
            each(Edge::Dominates, self.first_object() + to)?;
        }
        match self.rest(id) {
            Some(rest) => each(Edge::Rest, rest),
            None => Ok(()),
        }
    }

    /// Names of the slots of static variables in an array in which the runtime keeps them.
    pub fn statics(&self, o: &Object<'_>) -> Vec<(u64, std::sync::Arc<str>)> {
        if o.ty.mt.is_array() { self.session.statics_within(o.address, o.size) } else { Vec::new() }
    }

    /// The element of an array a slot is in; `None` of other objects.
    pub fn element(&self, ty: &TypeInfo, offset: u64) -> Option<u64> {
        let first = u64::from(ty.mt.base_size).saturating_sub(self.clr.header());
        let size = u64::from(ty.mt.component_size());
        offset.checked_sub(first).filter(|_| ty.mt.is_array())?.checked_div(size)
    }
}

/// Pairs of ids, of which the first dominates the second, as numbers among the chosen.
fn dominates(chosen: &RankedBits, pairs: Vec<(u32, u32)>, watch: &Watch) -> Result<Adjacency> {
    let number = |id: u32| chosen.number_of(id as usize);
    let pairs: Vec<(u32, u32)> =
        pairs.into_iter().filter_map(|(above, id)| Some((number(above)?, number(id)?))).collect();
    let none = Chunk { degrees: vec![0; chosen.count() as usize], ..Chunk::default() };
    Ok(Adjacency::build(chosen.count(), vec![none], &pairs, watch)?)
}

/// Kinds of roots in the order of their names, with the ids of the objects they hold, each once.
fn kinds(roots: &[Root], ids: &ObjectIds) -> Vec<(String, Vec<u32>)> {
    let mut kinds: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for root in roots {
        let kind = match &root.kind {
            RootKind::Handle(kind) => format!("({}s)", kind.words()),
            RootKind::Finalizer => "(finalizer queue)".to_owned(),
            RootKind::Frame { .. } | RootKind::Stack { .. } | RootKind::Register { .. } => "(stacks)".to_owned(),
            RootKind::ThreadStatic { .. } => "(thread statics)".to_owned(),
        };
        kinds.entry(kind).or_default().extend(ids.id_of(root.object));
    }
    let sorted = kinds.into_iter().map(|(kind, mut held)| {
        held.sort_unstable();
        held.dedup();
        (kind, held)
    });
    sorted.filter(|(_, held)| !held.is_empty()).collect()
}
