//! All instances of types merged by the path of types and slots that holds them.

use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::Session;
use crate::clr::Clr;
use crate::graph::paths::Holders;
use crate::heap::reader::Reader;
use crate::heap::roots::RootKind;
use crate::heap::walk::{Found, pointer_in};
use crate::heap::{TypeInfo, Walker};

/// Longest cycle of types that is told as one step that repeats.
const MAX_PERIOD: usize = 8;
/// Objects between two looks at the cancellation flag.
const CHECK: usize = 1 << 12;
/// Parents that one worker looks through at once.
const CHUNK: usize = 1 << 14;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Type of the object, or its method: a number for [`Session::group_name`].
    pub ty: u32,
    /// Slot of the object before through which it is held; empty for the object a root holds.
    pub slot: Arc<str>,
    /// Whether some of the objects are held over this step more than once: lists, trees.
    pub repeats: bool,
}

/// Instances held over the same path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldPath {
    /// The root in words.
    pub root: Arc<str>,
    /// Whether that is a stack or a register, found conservatively.
    pub by_stack: bool,
    /// From the object the root holds to the instances.
    pub steps: Vec<Step>,
    /// Instances.
    pub count: u64,
    /// Their own bytes.
    pub bytes: u64,
    /// The one with the lowest address.
    pub example: u64,
}

/// Instances by what holds them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Paths, the one that holds most bytes first.
    pub paths: Vec<HeldPath>,
    /// Count and bytes of the instances that no root reaches.
    pub dead: (u64, u64),
}

/// All paths as one tree: those that begin alike share their beginning, so it is never larger than the heap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldTree {
    /// Every node comes behind its parent.
    pub nodes: Vec<HeldNode>,
    /// Count and bytes of the instances that no root reaches.
    pub dead: (u64, u64),
}

/// The objects of one type that are held in one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNode {
    /// Index of what holds them; `None` for those a root holds.
    pub parent: Option<u32>,
    /// Type of the objects, or their method: a number for [`Session::group_name`].
    pub ty: u32,
    /// The root in words, or the slot of the parent through which they are held.
    pub slot: Arc<str>,
    /// Instances among them.
    pub count: u64,
    /// Their own bytes.
    pub bytes: u64,
    /// Address of the first instance; 0 without one.
    pub example: u64,
}

/// Which root holds each live object, on a shortest way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owners {
    /// The roots in words.
    roots: Vec<Arc<str>>,
    /// By object id: number of the root, [`NONE`] for what no root reaches.
    of: Vec<u32>,
}

impl Owners {
    /// The root in words, as [`HeldPath::root`] has it; `None` for what no root reaches.
    pub fn of(&self, id: u32) -> Option<&str> {
        let number = self.of.get(id as usize)?;
        self.roots.get(*number as usize).map(|r| &**r)
    }
}

/// A node of the tree of paths: what it adds to the path of its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    parent: u32,
    ty: u32,
    slot: u32,
}

/// An object of a type asked for.
struct Instance {
    id: u32,
    ty: u32,
    size: u64,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    key: Key,
    repeats: bool,
    count: u64,
    bytes: u64,
    /// Id of the first instance.
    example: u32,
}

/// An edge a dependent handle makes.
pub const DEPENDENT: &str = "(dependent handle)";
/// An edge from an object of a collectible type to what keeps its assembly loaded.
pub const COLLECTIBLE: &str = "(collectible type)";

/// How the label of a stack or its registers begins.
const STACK: &str = "stack of thread";
const NONE: u32 = u32::MAX;
/// What is known of the slot an object is held by.
const UNSEEN: u32 = 0;
const WANTED: u32 = 1;
const FIRST: u32 = 2;

struct Merger<'a> {
    session: &'a Session,
    clr: &'a Clr,
    walker: Walker<'a>,
    holders: &'a Holders,
    /// By object: `UNSEEN`, `WANTED`, or `FIRST` plus the number of the slot.
    slots: Vec<u32>,
    /// What holds something on the ways, sorted, with its type.
    parents: Vec<u32>,
    parent_types: Vec<u32>,
    /// By object: number of its node plus one.
    nodes: Vec<u32>,
    names: Vec<SlotName>,
    numbers: FxHashMap<(u32, u64), u32>,
    tree: Vec<Node>,
    places: FxHashMap<Key, u32>,
    roots: FxHashMap<u32, Arc<str>>,
    labels: Vec<Arc<str>>,
    label_numbers: FxHashMap<Arc<str>, u32>,
    /// By type number: whether objects of it may be continuations.
    continuations: Vec<bool>,
    /// Objects on the way from an instance up to what has a node already.
    way: Vec<u32>,
    /// The node asked for last: neighbours are alike.
    last: Option<(Key, u32)>,
}

/// What one worker found out about some of the parents.
#[derive(Default)]
struct Slots {
    /// Types of the parents.
    types: Vec<u32>,
    /// Objects that a parent holds, with the index of the slot's key.
    held: Vec<(u32, u32)>,
    /// Slots that have names of their own, each with an object that has it: its type, its address, the slot's offset.
    keys: Vec<(u32, u64, u64)>,
    numbers: FxHashMap<(u32, u64), u32>,
}

#[derive(Debug, Clone)]
struct SlotName {
    name: Arc<str>,
    /// The slot is a static field: the array it lies in says nothing.
    is_static: bool,
}

impl Session {
    /// Merges the instances of all types for which `wanted` says so by what holds them on a shortest way from a root.
    pub fn held(&self, wanted: impl Fn(&TypeInfo) -> bool + Sync) -> Result<Held> {
        let (merger, dead) = self.merge(wanted)?;
        Ok(Held { paths: merger.paths(), dead })
    }

    /// As [`Session::held`], with the paths left as the tree they make.
    pub fn held_tree(&self, wanted: impl Fn(&TypeInfo) -> bool + Sync) -> Result<HeldTree> {
        let (merger, dead) = self.merge(wanted)?;
        Ok(HeldTree { nodes: merger.nodes(), dead })
    }

    /// Which root holds each live object: 4 bytes an object, and those of [`Session::held_tree`] while it is made.
    pub fn owners(&self) -> Result<Owners> {
        let (merger, _) = self.merge(|t| !t.is_free)?;
        let Merger { tree, labels, nodes: mut of, .. } = merger;
        // A node comes behind its parent.
        let mut roots: Vec<u32> = Vec::with_capacity(tree.len());
        for node in &tree {
            let root = roots.get(node.key.parent as usize).copied();
            roots.push(root.unwrap_or(node.key.slot));
        }
        for place in &mut of {
            *place = place.checked_sub(1).and_then(|n| roots.get(n as usize)).copied().unwrap_or(NONE);
        }
        Ok(Owners { roots: labels, of })
    }

    fn merge(&self, wanted: impl Fn(&TypeInfo) -> bool + Sync) -> Result<(Merger<'_>, (u64, u64))> {
        let (walker, index, holders) = (self.walker()?, self.index()?, self.holders()?);
        self.watch.progress.start("looking for instances", walker.heap.allocated());
        let (found, _) = walker.parallel(
            &walker.heap.segments,
            |s| (index.first_id(s).unwrap_or(NONE), Vec::new()),
            |acc: &mut (u32, Vec<Instance>), _, o| {
                if wanted(o.ty) {
                    acc.1.push(Instance { id: acc.0, ty: o.ty.id, size: o.size });
                }
                acc.0 = acc.0.saturating_add(1);
            },
        )?;
        let mut merger = Merger::new(self, walker, holders)?;
        let instances = || found.iter().flat_map(|f| &f.1);
        self.watch.progress.start("merging paths", 0);
        merger.mark(instances().map(|i| i.id))?;
        merger.name_slots()?;
        let mut dead = (0, 0);
        for (n, i) in instances().enumerate() {
            if n.is_multiple_of(CHECK) {
                self.watch.cancel.check()?;
            }
            if !holders.is_reached(i.id) {
                dead = (dead.0 + 1, dead.1 + i.size);
                continue;
            }
            let at = merger.place(i.id, merger.group(i))?;
            if let Some(node) = merger.tree.get_mut(at as usize) {
                if node.count == 0 {
                    node.example = i.id;
                }
                node.count += 1;
                node.bytes = node.bytes.saturating_add(i.size);
            }
        }
        self.watch.progress.finish();
        Ok((merger, dead))
    }
}

impl<'a> Merger<'a> {
    fn new(session: &'a Session, walker: Walker<'a>, holders: &'a Holders) -> Result<Self> {
        let ids = &session.index()?.ids;
        let mut roots = FxHashMap::default();
        // As for the holders: what is certain comes first.
        let (stack, certain): (Vec<_>, Vec<_>) = session.roots()?.items.iter().partition(|r| r.is_conservative());
        for r in certain.into_iter().chain(stack) {
            if let Some(id) = ids.id_of(r.object) {
                roots.entry(id).or_insert_with(|| label(&r.kind));
            }
        }
        Ok(Self {
            session,
            clr: session.clr()?,
            walker,
            holders,
            slots: vec![UNSEEN; holders.nodes() as usize],
            parents: Vec::new(),
            parent_types: Vec::new(),
            nodes: vec![0; holders.nodes() as usize],
            names: Vec::new(),
            numbers: FxHashMap::default(),
            tree: Vec::new(),
            places: FxHashMap::default(),
            roots,
            labels: Vec::new(),
            label_numbers: FxHashMap::default(),
            continuations: continuations(session)?,
            way: Vec::new(),
            last: None,
        })
    }

    /// Marks everything on the ways to `instances` and lists what holds something there.
    fn mark(&mut self, instances: impl Iterator<Item = u32>) -> Result<()> {
        let mut parents = Vec::new();
        for (n, id) in instances.enumerate() {
            if n.is_multiple_of(CHECK) {
                self.session.watch.cancel.check()?;
            }
            let mut at = id;
            while let Some(s) = self.slots.get_mut(at as usize).filter(|s| **s == UNSEEN) {
                *s = WANTED;
                let Some(up) = self.holders.above(at) else { break };
                parents.push(up);
                if parents.len().is_multiple_of(CHECK) {
                    self.session.watch.cancel.check()?;
                }
                at = up;
            }
        }
        parents.par_sort_unstable();
        parents.dedup();
        self.parents = parents;
        Ok(())
    }

    /// What an instance is listed as.
    fn group(&self, i: &Instance) -> u32 {
        if !self.may_continue(i.ty) {
            return i.ty;
        }
        self.object(i.id).map_or(i.ty, |o| self.session.group_of(o.address, &o.ty))
    }

    /// Whether objects of the type may be continuations; a type met after they were listed may be.
    fn may_continue(&self, ty: u32) -> bool {
        self.continuations.get(ty as usize).copied().unwrap_or(true)
    }

    fn object(&self, id: u32) -> Option<Found<'a>> {
        self.walker.object_at(self.session.index().ok()?.ids.address_of(id)?)
    }

    /// Looks through each parent once for the slots that hold what is marked.
    fn name_slots(&mut self) -> Result<()> {
        let parents = std::mem::take(&mut self.parents);
        let slots = statics_slots(self.session)?;
        let found: Vec<Slots> =
            parents.par_chunks(CHUNK).map(|some| self.slots_of(some, &slots)).collect::<Result<_>>()?;
        self.parent_types.reserve(parents.len());
        for some in found {
            self.session.watch.cancel.check()?;
            let numbers: Vec<u32> = some.keys.iter().map(|k| self.number(*k)).collect();
            self.parent_types.extend(&some.types);
            for (id, key) in some.held {
                // The first slot that leads to an object names it.
                let wanted = self.slots.get_mut(id as usize).filter(|s| **s == WANTED);
                if let (Some(slot), Some(number)) = (wanted, numbers.get(key as usize)) {
                    *slot = FIRST + number;
                }
            }
        }
        self.parents = parents;
        Ok(())
    }

    /// The slots of some parents. `statics` are the addresses of slots of static fields, sorted.
    fn slots_of(&self, parents: &[u32], statics: &[u64]) -> Result<Slots> {
        let (ids, graph) = (&self.session.index()?.ids, self.session.graph()?);
        let (cancel, space) = (&self.session.watch.cancel, self.clr.space());
        let mut reader = Reader::new(self.walker, self.session.links()?);
        let mut found = Slots::default();
        for &parent in parents {
            cancel.check()?;
            let Some(o) = ids.address_of(parent).and_then(|a| reader.read(a)) else {
                found.types.push(NONE);
                continue;
            };
            let group = if self.may_continue(o.ty.id) { self.session.group_of(o.address, o.ty) } else { o.ty.id };
            found.types.push(group);
            let first = statics.partition_point(|s| *s < o.address);
            let has_statics = statics.get(first).is_some_and(|s| *s < o.address.saturating_add(o.size));
            // Where every reference hits an object, the targets of the edges are those of the slots, in order.
            let mut targets = graph.forward.of(parent).iter();
            let mut seen = 0usize;
            o.slots(space, |offset| {
                seen += 1;
                if seen.is_multiple_of(1 << 20) && cancel.is_set() {
                    return;
                }
                let Some(target) = pointer_in(space, &o, offset).filter(|&t| t != 0) else { return };
                let id = if graph.misses == 0 { targets.next().copied() } else { ids.id_of(target) };
                let Some(id) = id else { return };
                if self.slots.get(id as usize) == Some(&WANTED) && self.holders.above(id) == Some(parent) {
                    let key = match has_statics {
                        true => (NONE, o.address + offset),
                        false => (o.ty.id, self.session.slot_key(self.clr, o.ty, offset)),
                    };
                    let next = found.keys.len() as u32;
                    let number = *found.numbers.entry(key).or_insert(next);
                    if number == next {
                        found.keys.push((o.ty.id, if has_statics { o.address } else { 0 }, offset));
                    }
                    found.held.push((id, number));
                }
            });
        }
        cancel.check()?;
        found.numbers = FxHashMap::default();
        Ok(found)
    }

    /// Number of the slot at `offset` of an object of the type numbered `ty`, at `address` where it is one that holds static
    /// fields.
    fn number(&mut self, (ty, address, offset): (u32, u64, u64)) -> u32 {
        let info = self.session.types().by_id(ty);
        let of_type = || info.as_ref().map_or(offset, |t| self.session.slot_key(self.clr, t, offset));
        let key = if address != 0 { (NONE, address + offset) } else { (ty, of_type()) };
        if let Some(&n) = self.numbers.get(&key) {
            return n;
        }
        let own = || self.session.statics_within(address + offset, 1).into_iter().next();
        let name = match (own().filter(|_| address != 0), &info) {
            (Some((_, name)), _) => SlotName { name, is_static: true },
            (None, Some(ty)) => SlotName { name: self.session.slot_name(self.clr, ty, offset), is_static: false },
            (None, None) => SlotName { name: "?".into(), is_static: false },
        };
        let n = self.names.len() as u32;
        self.names.push(name);
        self.numbers.insert(key, n);
        n
    }

    /// Number of the node of an object of type `ty` that a root reaches; gives nodes to what holds it on the way.
    fn place(&mut self, id: u32, ty: u32) -> Result<u32> {
        let mut way = std::mem::take(&mut self.way);
        way.clear();
        let mut at = id;
        let mut node = loop {
            if let Some(n) = self.nodes.get(at as usize).and_then(|n| n.checked_sub(1)) {
                break Some(n);
            }
            way.push(at);
            if way.len().is_multiple_of(CHECK) {
                self.session.watch.cancel.check()?;
            }
            match self.holders.above(at) {
                Some(up) => at = up,
                None => break None,
            }
        };
        while let Some(next) = way.pop() {
            let own = match next == id {
                true => ty,
                false => self.parent_type(next),
            };
            let n = self.below(node, next, own);
            if let Some(place) = self.nodes.get_mut(next as usize) {
                *place = n + 1;
            }
            node = Some(n);
        }
        self.way = way;
        Ok(node.unwrap_or(0))
    }

    fn parent_type(&self, id: u32) -> u32 {
        let at = self.parents.binary_search(&id).ok();
        at.and_then(|i| self.parent_types.get(i)).copied().unwrap_or(NONE)
    }

    /// Node of `id`, of type `ty`, whose holder has the node `above`.
    fn below(&mut self, above: Option<u32>, id: u32, ty: u32) -> u32 {
        let slot = self.slots.get(id as usize).and_then(|s| s.checked_sub(FIRST));
        let Some(above) = above else {
            let label = self.roots.get(&id).cloned().unwrap_or_else(|| "root".into());
            return self.top(&label, ty);
        };
        let Some(slot) = slot else {
            // No slot of the holder leads here.
            let holder = self.holders.above(id).unwrap_or(NONE);
            let dependent = self.session.graph().is_ok_and(|g| g.is_dependent(holder, id));
            let slot = self.special(dependent);
            return self.child(above, ty, slot);
        };
        match self.names.get(slot as usize) {
            Some(s) if s.is_static => {
                let name = s.name.clone();
                self.top(&name, ty)
            }
            _ => self.child(above, ty, slot),
        }
    }

    /// Number of the slot that stands for an edge no slot makes.
    fn special(&mut self, dependent: bool) -> u32 {
        let key = (NONE, u64::from(dependent));
        if let Some(&n) = self.numbers.get(&key) {
            return n;
        }
        let name = if dependent { DEPENDENT } else { COLLECTIBLE };
        let n = self.names.len() as u32;
        self.names.push(SlotName { name: name.into(), is_static: false });
        self.numbers.insert(key, n);
        n
    }

    fn top(&mut self, label: &Arc<str>, ty: u32) -> u32 {
        let slot = match self.label_numbers.get(label) {
            Some(&n) => n,
            None => {
                let n = self.labels.len() as u32;
                self.labels.push(label.clone());
                self.label_numbers.insert(label.clone(), n);
                n
            }
        };
        self.node(Key { parent: NONE, ty, slot })
    }

    fn child(&mut self, above: u32, ty: u32, slot: u32) -> u32 {
        // A list goes on: whatever the slot, an object held by one of its own type takes that one's place.
        let mut at = above;
        for back in 0..MAX_PERIOD {
            let Some(node) = self.tree.get_mut(at as usize) else { break };
            let same = node.key.ty == ty && (back == 0 || node.key.slot == slot && node.key.parent != NONE);
            if same {
                node.repeats = true;
                return at;
            }
            at = node.key.parent;
        }
        self.node(Key { parent: above, ty, slot })
    }

    fn node(&mut self, key: Key) -> u32 {
        if let Some((_, node)) = self.last.filter(|l| l.0 == key) {
            return node;
        }
        let tree = &mut self.tree;
        let node = *self.places.entry(key).or_insert_with(|| {
            tree.push(Node { key, repeats: false, count: 0, bytes: 0, example: 0 });
            tree.len() as u32 - 1
        });
        self.last = Some((key, node));
        node
    }

    fn nodes(&self) -> Vec<HeldNode> {
        let ids = self.session.index().ok().map(|i| &i.ids);
        let node = |n: &Node| {
            let parent = (n.key.parent != NONE).then_some(n.key.parent);
            let slot = match parent {
                Some(_) => self.names.get(n.key.slot as usize).map(|s| s.name.clone()),
                None => self.labels.get(n.key.slot as usize).cloned(),
            };
            let example = ids.filter(|_| n.count > 0).and_then(|ids| ids.address_of(n.example)).unwrap_or(0);
            let slot = slot.unwrap_or_else(|| "?".into());
            HeldNode { parent, ty: n.key.ty, slot, count: n.count, bytes: n.bytes, example }
        };
        self.tree.iter().map(node).collect()
    }

    fn paths(&self) -> Vec<HeldPath> {
        let mut paths: Vec<HeldPath> = self.tree.iter().filter(|n| n.count > 0).map(|n| self.path(n)).collect();
        paths.sort_by_key(|p| (std::cmp::Reverse((p.bytes, p.count)), p.example));
        paths
    }

    fn path(&self, node: &Node) -> HeldPath {
        let mut steps = Vec::new();
        let mut at = *node;
        let root = loop {
            let Key { parent, ty, slot } = at.key;
            let above = self.tree.get(parent as usize);
            let slot_name = match above {
                Some(_) => self.names.get(slot as usize).map_or("".into(), |s| s.name.clone()),
                None => "".into(),
            };
            steps.push(Step { ty, slot: slot_name, repeats: at.repeats });
            match above {
                Some(up) => at = *up,
                None => break self.labels.get(slot as usize).cloned().unwrap_or_else(|| "root".into()),
            }
        };
        steps.reverse();
        let example = self.session.index().ok().and_then(|i| i.ids.address_of(node.example)).unwrap_or(0);
        let by_stack = root.starts_with(STACK);
        HeldPath { root, by_stack, steps, count: node.count, bytes: node.bytes, example }
    }
}

/// By type number: whether objects of it may be continuations.
fn continuations(session: &Session) -> Result<Vec<bool>> {
    let clr = session.clr()?;
    Ok(session.types().all().iter().map(|t| clr.may_be_continuation(t.mt.address)).collect())
}

/// Addresses of the slots of static fields and thread statics, sorted.
fn statics_slots(session: &Session) -> Result<Vec<u64>> {
    let lists = [session.static_slots()?, session.thread_static_slots()?];
    let mut all: Vec<u64> = lists.into_iter().flatten().map(|s| s.0).collect();
    all.sort_unstable();
    Ok(all)
}

/// A root in words, without what tells it from others of its kind.
fn label(kind: &RootKind) -> Arc<str> {
    match kind {
        RootKind::Handle(kind) => kind.words().into(),
        RootKind::Finalizer => "finalizer queue".into(),
        RootKind::Frame { os_id, .. } => format!("{STACK} {os_id:x}").into(),
        RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => {
            format!("{STACK} {os_id:x} (conservative)").into()
        }
        // The array of all of a thread's statics has no field's name.
        RootKind::ThreadStatic { name, .. } if !name.contains('.') => name.clone(),
        RootKind::ThreadStatic { name, .. } => format!("thread static variable {name}").into(),
    }
}
