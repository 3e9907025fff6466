//! What the search for suspects looks at, and how it names things.

use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use rustc_hash::FxHashMap;

use super::evidence::{Place, Step};
use super::{Limits, Suspect};
use crate::clr::Clr;
use crate::commands::heap::gcroot::static_between;
use crate::commands::objects::collections::room::bare as bare_name;
use crate::graph::Adjacency;
use crate::graph::paths::Holders;
use crate::heap::graph::ObjectGraph;
use crate::heap::index::ObjectIndex;
use crate::heap::retained::Retained;
use crate::heap::roots::{Root, RootKind};
use crate::heap::{TypeInfo, Walker};
use crate::session::Session;

/// No type, or no object.
pub const NONE: u32 = u32::MAX;
/// Objects between two looks at the cancellation flag.
const CHECK: usize = 1 << 14;
/// Objects of a path that are printed; of longer ones the middle is left out.
const PATH: usize = 8;
/// Objects that one worker looks at in a row.
const CHUNK: usize = 1 << 16;
/// Arrays in arrays that are passed over on the way to what holds them.
const MAX_ARRAYS: usize = 8;
/// Bound on the length of a path: objects are numbered with 32 bits, and none is on it twice.
const MAX_PATH: usize = u32::MAX as usize;

/// The heap as the search sees it: 8 bytes an object on top of the dominator tree.
pub struct View<'a> {
    pub session: &'a Session,
    pub clr: &'a Clr,
    pub walker: Walker<'a>,
    pub index: &'a ObjectIndex,
    pub graph: &'a ObjectGraph,
    pub reverse: &'a Adjacency,
    pub retained: &'a Retained,
    pub limits: Limits,
    /// Type numbers by position in the tree.
    pub types: &'a [u32],
    /// All types, by number.
    pub all: Vec<Arc<TypeInfo>>,
    /// What holds each live object on a shortest way from a root.
    holders: &'a Holders,
    /// For every object that is a root, which.
    roots: FxHashMap<u32, &'a Root>,
}

impl<'a> View<'a> {
    pub fn new(session: &'a Session, limits: Limits) -> Result<Self> {
        let (walker, index) = (session.walker()?, session.index()?);
        let retained = session.dominators()?;
        let types = session.live_types()?;
        // Both directions are read from an index at once, when there is one.
        session.reverse()?;
        // As for the holders: what is certain comes first, a stack may hold by chance.
        let (stack, certain): (Vec<&Root>, Vec<&Root>) =
            session.roots()?.items.iter().partition(|r| r.is_conservative());
        let mut roots = FxHashMap::default();
        for root in certain.into_iter().chain(stack) {
            if let Some(id) = index.ids.id_of(root.object) {
                roots.entry(id).or_insert(root);
            }
        }
        Ok(Self {
            session,
            clr: session.clr()?,
            walker,
            index,
            graph: session.graph()?,
            reverse: session.reverse()?,
            retained,
            limits,
            types,
            all: session.types().all(),
            holders: session.holders()?,
            roots,
        })
    }

    /// Looks at the cancellation flag now and then.
    pub fn check(&self, step: usize) -> Result<()> {
        if step.is_multiple_of(CHECK) {
            self.session.watch.cancel.check()?;
        }
        Ok(())
    }

    /// Bytes of all live objects.
    pub fn live_bytes(&self) -> u64 {
        self.retained.bytes(0)
    }

    /// Least bytes of a suspect that is judged by its share.
    pub fn threshold(&self) -> u64 {
        ((self.live_bytes() as f64 * self.limits.share / 100.0) as u64).max(1)
    }

    /// Percent of the live bytes.
    pub fn share_of(&self, bytes: u64) -> f64 {
        if self.live_bytes() == 0 { 0.0 } else { bytes as f64 * 100.0 / self.live_bytes() as f64 }
    }

    pub fn address(&self, position: u32) -> Option<u64> {
        self.index.ids.address_of(self.retained.tree.node(position)?)
    }

    pub fn position_of(&self, address: u64) -> Option<u32> {
        self.retained.tree.position(self.index.ids.id_of(address)?)
    }

    /// Type number of the object at a position.
    pub fn type_at(&self, position: u32) -> u32 {
        self.types.get(position as usize).copied().unwrap_or(NONE)
    }

    pub fn info(&self, ty: u32) -> Option<&Arc<TypeInfo>> {
        self.all.get(ty as usize)
    }

    pub fn type_name(&self, ty: u32) -> Arc<str> {
        self.info(ty).map_or_else(|| "?".into(), |t| self.clr.type_name(t.mt.address))
    }

    /// Numbers of the types for which `test` of the name holds, as flags by number.
    pub fn types_where(&self, test: impl Fn(&str) -> bool) -> Vec<bool> {
        self.all.iter().map(|t| !t.is_free && test(&self.clr.type_name(t.mt.address))).collect()
    }

    /// Positions of live objects of the flagged types.
    pub fn positions<'b>(&'b self, wanted: &'b [bool]) -> impl Iterator<Item = u32> + 'b {
        let is = |t: &u32| wanted.get(*t as usize).copied().unwrap_or(false);
        self.types.iter().enumerate().filter(move |(_, t)| is(t)).map(|(p, _)| p as u32)
    }

    /// Adds up over the live objects of the flagged types, in parallel and in the order of positions: one sum for each
    /// stretch of positions that has some.
    pub fn gather<A: Default + Send>(&self, wanted: &[bool], visit: impl Fn(&mut A, u32) + Sync) -> Result<Vec<A>> {
        let is = |t: &u32| wanted.get(*t as usize).copied().unwrap_or(false);
        let one = |(n, types): (usize, &[u32])| {
            self.session.watch.cancel.check()?;
            let mut sum = None;
            for (i, _) in types.iter().enumerate().filter(|(_, t)| is(t)) {
                visit(sum.get_or_insert_with(A::default), (n * CHUNK + i) as u32);
            }
            Ok(sum)
        };
        let sums: Vec<Option<A>> = self.types.par_chunks(CHUNK).enumerate().map(one).collect::<Result<_>>()?;
        Ok(sums.into_iter().flatten().collect())
    }

    /// Flags for types whose class, or one it inherits from, has one of these names without type arguments.
    pub fn types_of_class(&self, classes: &[&str]) -> Vec<bool> {
        let is =
            |mt: u64| self.clr.class_chain(mt).any(|c| classes.contains(&&*bare_name(&self.clr.type_name(c.address))));
        self.all.iter().map(|t| !t.is_free && !t.mt.is_array() && is(t.mt.address)).collect()
    }

    /// What holds the object at a position on a shortest way from a root; arrays are passed over, for they are somebody's.
    /// `None` where a root or a static variable does.
    pub fn owner_of(&self, position: u32) -> Option<u32> {
        let mut id = self.retained.tree.node(position)?;
        for _ in 0..MAX_ARRAYS {
            id = self.holders.above(id)?;
            let at = self.retained.tree.position(id)?;
            if !self.info(self.type_at(at)).is_some_and(|t| t.mt.is_array()) {
                return Some(at);
            }
        }
        None
    }

    /// The type of [`View::owner_of`]; `u32::MAX` for none.
    pub fn owner_type(&self, position: u32) -> u32 {
        self.owner_of(position).map_or(NONE, |p| self.type_at(p))
    }

    /// Length of the array at `address` and bytes of an element, as the walk found them; `None` when no live one starts there.
    pub fn array(&self, address: u64) -> Option<(u64, u64)> {
        let position = self.position_of(address)?;
        let mt = &self.info(self.type_at(position)).filter(|t| t.mt.is_array())?.mt;
        let unit = u64::from(mt.component_size()).max(1);
        Some((self.retained.weights.own(position).saturating_sub(u64::from(mt.base_size)) / unit, unit))
    }

    /// Whether types of the class library have their names: delegates, timers and state machines are told by them.
    pub fn has_names(&self) -> bool {
        let named = |class: u64| &*self.clr.type_name(class) == "System.MulticastDelegate";
        self.clr.delegate_shape().is_ok_and(|s| named(s.class))
    }

    /// A pointer-sized field, the first of these names the type has.
    pub fn pointer(&self, address: u64, names: &[&str]) -> Option<u64> {
        self.clr.space().ptr(self.field(address, names)?)
    }

    /// A field of four bytes.
    pub fn word(&self, address: u64, names: &[&str]) -> Option<u32> {
        self.clr.space().u32(self.field(address, names)?)
    }

    fn field(&self, address: u64, names: &[&str]) -> Option<u64> {
        let fields = self.clr.fields(self.clr.object_type(address)?);
        let f = fields.instance.iter().find(|f| names.contains(&&*f.name))?;
        address.checked_add(self.clr.header())?.checked_add(f.offset())
    }

    /// Name of the type of the object at `address`.
    pub fn name_at(&self, address: u64) -> Arc<str> {
        self.session.object_name(address)
    }

    /// Fills in who holds the object `id`: owner, holder (where none is known yet) and the path.
    pub fn place(&self, suspect: &mut Suspect, id: u32) {
        let path = self.way(id);
        let steps: Vec<Step> = self.steps(&path);
        let named = steps.iter().rev().find_map(|s| s.field.clone());
        let by = path.first().and_then(|r| self.roots.get(r)).copied();
        let root = by.map_or_else(String::new, root_words);
        if suspect.holder == 0 {
            let like = (suspect.count > 1).then_some(suspect.element.as_str());
            suspect.holder = whole(&steps, like).map_or(0, |s| s.address);
        }
        suspect.owner = match &named {
            Some(field) => format!("{field}, {}", self.name_at(suspect.holder)),
            None => format!("{}, {root}", self.name_at(suspect.holder)),
        };
        suspect.path = path_line(&root, &steps);
        let (kind, thread, variable) = by.map_or_else(Default::default, root_values);
        suspect.place = Place {
            holder_type: self.name_at(suspect.holder).to_string(),
            variable: named.or(variable),
            root: kind,
            thread,
            length: length(path.len(), &steps),
            steps,
            generation: None,
        };
    }

    /// Objects on the way from a root to `id`, both included.
    fn way(&self, id: u32) -> Vec<u32> {
        let mut path = vec![id];
        let mut at = id;
        while let Some(b) = self.holders.above(at) {
            if path.len() > MAX_PATH {
                break;
            }
            path.push(b);
            at = b;
        }
        path.reverse();
        path
    }

    /// Whether `id` is held by something else than a stack, over objects none of whose types has one of these in its name.
    pub fn lives_long(&self, id: u32, at_work: &[&str]) -> bool {
        let path = self.way(id);
        let root = path.first().and_then(|r| self.roots.get(r));
        let works = |id: &u32| {
            let name = self.retained.tree.position(*id).map(|p| self.type_name(self.type_at(p)));
            name.is_none_or(|n| at_work.iter().any(|w| n.contains(w)))
        };
        root.is_some_and(|r| !r.is_stack()) && !path.iter().any(works)
    }

    fn steps(&self, path: &[u32]) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::with_capacity(path.len().min(2 * PATH));
        // Arrays of statics so far.
        let mut arrays = 0;
        // Only the ends of a long way are printed, and only there are fields looked up.
        for (i, &id) in path.iter().enumerate() {
            let Some(address) = self.index.ids.address_of(id) else { continue };
            if i >= PATH && i + PATH < path.len() {
                continue;
            }
            let from = i.checked_sub(1).and_then(|b| self.index.ids.address_of(*path.get(b)?));
            let field = from.and_then(|f| static_between(self.session, self.clr, f, address));
            let mut slot = None;
            match &field {
                // The array in which the runtime keeps statics says nothing.
                Some(_) => {
                    steps.pop();
                }
                None => slot = from.and_then(|f| self.slot_between(f, address)),
            }
            let array = self.walker.object_at(address).is_some_and(|o| o.ty.mt.is_array());
            arrays += usize::from(field.is_some());
            steps.push(Step { number: i - arrays, address, name: self.name_at(address), field, slot, array });
        }
        steps
    }

    /// Name of the field of the object at `from` that refers to `to`; `None` in an array.
    pub fn slot_between(&self, from: u64, to: u64) -> Option<Arc<str>> {
        let o = self.walker.object_at(from).filter(|o| !o.ty.mt.is_array())?;
        let mut found = None;
        o.slots(self.clr.space(), |offset| {
            if found.is_none() && self.clr.space().ptr_at(from, offset) == Some(to) {
                found = Some(offset);
            }
        });
        found.map(|offset| self.session.slot_name(self.clr, &o.ty, offset))
    }

    /// The object that holds `id` on a shortest way from a root.
    pub fn above(&self, id: u32) -> Option<u64> {
        self.index.ids.address_of(self.holders.above(id)?)
    }

    /// Bytes kept by the objects at `positions`, in ascending order, each byte once.
    pub fn kept_by(&self, positions: &[u32]) -> u64 {
        let (mut bytes, mut covered) = (0u64, 0);
        for &p in positions.iter().filter(|p| self.retained.tree.parent(**p).is_some()) {
            if p >= covered {
                covered = self.retained.tree.subtree(p).end;
                bytes = bytes.saturating_add(self.retained.bytes(p));
            }
        }
        bytes
    }
}

/// The step that holds the others as a whole: the arrays, the nodes and the inner classes of a collection are its own
/// affair. `like` is the type of the elements.
fn whole<'s>(steps: &'s [Step], like: Option<&str>) -> Option<&'s Step> {
    let inner = |i: usize, s: &Step| {
        let outer = outer_type(&s.name).map(bare);
        outer.is_some_and(|o| steps.iter().take(i).any(|e| bare(&e.name) == o))
    };
    let is_whole = |(i, s): &(usize, &Step)| !s.array && like != Some(&*s.name) && !inner(*i, s);
    let last = steps.iter().enumerate().rev().find(is_whole).map(|s| s.1);
    last.or_else(|| steps.iter().rev().find(|s| !s.array)).or(steps.last())
}

/// A type's name without its type arguments.
fn bare(name: &str) -> &str {
    name.split('<').next().unwrap_or(name)
}

/// The class in which a nested one is declared.
fn outer_type(name: &str) -> Option<&str> {
    let mut depth = 0i32;
    let mut at = None;
    for (i, c) in name.char_indices() {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            '+' if depth == 0 => at = Some(i),
            _ => {}
        }
    }
    name.get(..at?)
}

/// Objects on a way of so many without the arrays of statics.
fn length(all: usize, steps: &[Step]) -> usize {
    all - steps.iter().filter(|s| s.field.is_some()).count().min(all)
}

fn path_line(root: &str, steps: &[Step]) -> String {
    let mut line = root.to_owned();
    let skip = steps.len().saturating_sub(PATH);
    for (i, s) in steps.iter().enumerate() {
        if i >= 2 && i < 2 + skip {
            if i == 2 {
                line.push_str(" -> ...");
            }
            continue;
        }
        line.push_str(" -> ");
        if let Some(field) = &s.field {
            line.push_str(&format!("static {field}: "));
        }
        if let Some(slot) = &s.slot {
            line.push_str(&format!("{slot}: "));
        }
        line.push_str(&format!("{} {:x}", s.name, s.address));
    }
    line
}

/// What a root is, of which thread, and the variable it is.
fn root_values(root: &Root) -> (String, Option<u64>, Option<String>) {
    match &root.kind {
        RootKind::Handle(kind) => (kind.words().into(), None, None),
        RootKind::Finalizer => ("finalizer queue".into(), None, None),
        RootKind::Frame { os_id, .. } | RootKind::Stack { os_id, .. } => ("stack".into(), Some(*os_id), None),
        RootKind::Register { os_id, name, .. } => (format!("register {name}"), Some(*os_id), None),
        RootKind::ThreadStatic { os_id, name } if name.contains('.') => {
            ("thread static".into(), Some(*os_id), Some(name.to_string()))
        }
        RootKind::ThreadStatic { os_id, name } => (name.to_string(), Some(*os_id), None),
    }
}

fn root_words(root: &Root) -> String {
    match &root.kind {
        RootKind::Handle(kind) => kind.words().into(),
        RootKind::Finalizer => "finalizer queue".into(),
        RootKind::Frame { os_id, .. } => format!("stack of thread {os_id:x}"),
        RootKind::Stack { os_id, .. } => format!("stack of thread {os_id:x} (conservative)"),
        RootKind::Register { os_id, name, .. } => format!("register {name} of thread {os_id:x} (conservative)"),
        RootKind::ThreadStatic { os_id, name } if name.contains('.') => {
            format!("thread static {name} of thread {os_id:x}")
        }
        RootKind::ThreadStatic { os_id, name } => format!("{name} of thread {os_id:x}"),
    }
}
