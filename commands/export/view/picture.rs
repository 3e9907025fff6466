//! What a file of objects holds: all live objects, or the top of the dominator tree with the rest summed up below it.
//!
//! What is left out changes no retained size: each object that stays gets the bytes of what hung below it as one node, and
//! a reference from what dominates it in place of ways through objects that are left out. What only several roots together
//! hold hangs below a kind of root of its own then.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::clr::Clr;
use crate::graph::{Adjacency, ids::ObjectIds};
use crate::heap::retained::Retained;
use crate::heap::roots::{Root, RootKind};
use crate::heap::stat::Tally;
use crate::heap::walk::pointer_in;
use crate::heap::{Object, TypeInfo};
use crate::session::Session;

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
    /// By id, the number of the node; 0 where there is none.
    numbers: Vec<u32>,
    /// Kinds of roots with the ids they hold, sorted.
    pub kinds: Vec<(String, Vec<u32>)>,
    /// Ids that something in the picture dominates, by what dominates them; sorted. Empty where nothing is left out.
    dominated: Vec<(u32, u32)>,
    rests: Vec<Rest>,
    included: u32,
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
            numbers: vec![0; index.ids.len() as usize],
            kinds: kinds(&roots.items, &index.ids),
            dominated: Vec::new(),
            rests: Vec::new(),
            included: 0,
            left_out: Tally::default(),
            dead: u64::from(index.ids.len().saturating_sub(retained.tree.reached())),
            partial: roots.partial.clone().or(index.report.sentence()),
        };
        picture.choose(most)?;
        picture.number();
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
        let mut together = Vec::new();
        let stays = |p: u32| whole || (u64::MAX - self.retained.bytes(p), p) <= last;
        let mut position = 1;
        while position <= tree.reached() {
            if position.is_multiple_of(1 << 16) {
                self.session.watch.cancel.check()?;
            }
            let above = tree.parent(position).filter(|&a| a != 0).and_then(|a| tree.node(a));
            if stays(position) {
                if let Some(id) = tree.node(position) {
                    if let Some(n) = self.numbers.get_mut(id as usize) {
                        *n = 1;
                    }
                    self.included += 1;
                    match above {
                        _ if whole => {}
                        Some(above) => self.dominated.push((above, id)),
                        None => together.push(id),
                    }
                }
                position += 1;
                continue;
            }
            let tally = Tally { count: self.retained.objects(position), bytes: self.retained.bytes(position) };
            self.left_out.merge(tally);
            self.rests.push(Rest { id: above.unwrap_or(ROOTS), tally });
            position = tree.subtree(position).end.max(position + 1);
        }
        if !whole {
            together.sort_unstable();
            self.kinds.push((TOGETHER.to_owned(), together));
        }
        self.dominated.sort_unstable();
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

    /// Gives the nodes their numbers.
    fn number(&mut self) {
        let first = FIRST_KIND + self.kinds.len() as u32;
        for (n, next) in self.numbers.iter_mut().filter(|n| **n != 0).zip(first..) {
            *n = next;
        }
    }

    /// Objects in it.
    pub fn objects(&self) -> u64 {
        self.included.into()
    }

    /// Nodes in it.
    pub fn nodes(&self) -> u64 {
        u64::from(FIRST_KIND) + self.kinds.len() as u64 + u64::from(self.included) + self.rests.len() as u64
    }

    /// The number of the node of the object with this id.
    pub fn number_of(&self, id: u32) -> Option<u32> {
        self.numbers.get(id as usize).copied().filter(|n| *n != 0)
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
                if self.number_of(id).is_some() {
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
        let kept = self.forward.of(id).iter().filter(|t| self.number_of(**t).is_some()).count() as u32;
        kept + self.below(id).len() as u32 + u32::from(self.rest(id).is_some())
    }

    /// Ids that the object dominates, where some ways to them may be left out.
    fn below(&self, id: u32) -> &[(u32, u32)] {
        let start = self.dominated.partition_point(|d| d.0 < id);
        let rest = self.dominated.get(start..).unwrap_or(&[]);
        rest.get(..rest.partition_point(|d| d.0 == id)).unwrap_or(&[])
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
        let at = self.rests.binary_search_by_key(&id, |r| r.id).ok()?;
        Some(FIRST_KIND + self.kinds.len() as u32 + self.included + at as u32)
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
        for (_, to) in self.below(id) {
            if let Some(number) = self.number_of(*to) {
                each(Edge::Dominates, number)?;
            }
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
