//! Where a request is being worked on: the thread whose stack holds it, or the async methods that do.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::heap::roots::RootKind;
use crate::session::Session;
use crate::session::tasks::{Node, Tasks};

/// Async methods on the way from what waits to the outermost one: chains that are longer run in circles or are cut.
const MAX_CHAIN: usize = 1 << 12;

/// Tasks, and threads, by the objects they hold.
pub struct Work<'s> {
    session: &'s Session,
    tasks: Tasks,
    /// What a method waits for, by number: the node that it continues.
    awaits: FxHashMap<u32, u32>,
    /// Methods that hold an object, by its address.
    methods: FxHashMap<u64, Vec<u32>>,
    /// Operating system ids of threads whose stacks hold an object.
    threads: FxHashMap<u64, u64>,
    /// Why something may be missing.
    pub partial: Option<String>,
}

impl<'s> Work<'s> {
    /// Reads all tasks and stacks for what holds the objects at `wanted`.
    pub fn read(session: &'s Session, wanted: &FxHashSet<u64>) -> Result<Self> {
        let tasks = Tasks::read(session, false)?;
        let mut awaits = FxHashMap::default();
        for (i, node) in tasks.nodes.iter().enumerate() {
            for &next in &node.next {
                awaits.entry(next).or_insert(i as u32);
            }
        }
        let (walker, clr) = (session.walker()?, session.clr()?);
        let mut methods: FxHashMap<u64, Vec<u32>> = FxHashMap::default();
        for (i, node) in tasks.nodes.iter().enumerate().filter(|(_, n)| n.is_method()) {
            session.watch.cancel.check()?;
            let Some(o) = walker.object_at(node.address) else { continue };
            o.slots(clr.space(), |offset| {
                if let Some(target) = clr.space().ptr_at(o.address, offset).filter(|t| wanted.contains(t)) {
                    methods.entry(target).or_default().push(i as u32);
                }
            });
        }
        let roots = session.roots()?;
        let mut threads = FxHashMap::default();
        for r in roots.items.iter().filter(|r| wanted.contains(&r.object)) {
            if let RootKind::Frame { os_id, .. } = r.kind {
                threads.entry(r.object).or_insert(os_id);
            }
        }
        let partial = tasks.partial.clone().or_else(|| roots.partial.clone());
        Ok(Self { session, tasks, awaits, methods, threads, partial })
    }

    /// The thread whose frames hold one of these objects.
    pub fn thread(&self, objects: &[u64]) -> Option<u64> {
        objects.iter().find_map(|o| self.threads.get(o)).copied()
    }

    /// The method that waits, of those that hold one of these objects or that such a one waits for.
    pub fn innermost(&self, objects: &[u64]) -> Option<u32> {
        let holders = objects.iter().filter_map(|o| self.methods.get(o)).flatten();
        // The one with most methods in front of what it waits for is the outermost.
        let (_, outermost) = holders.map(|&m| (self.way(m).count(), m)).max()?;
        self.way(outermost).filter(|n| self.node(*n).is_some_and(Node::is_method)).last()
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.tasks.nodes.get(number as usize)
    }

    /// From a node over what each waits for.
    fn way(&self, from: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(from), |n| self.awaits.get(n).copied()).take(MAX_CHAIN)
    }

    /// The methods from the one that waits to the outermost.
    pub fn chain(&self, innermost: Option<u32>) -> impl Iterator<Item = &Node> + '_ {
        let first = innermost.and_then(|i| self.node(i));
        let next = |n: &&Node| n.next.first().and_then(|i| self.node(*i));
        std::iter::successors(first, next).take(MAX_CHAIN).filter(|n| n.is_method())
    }

    /// Type of what the method that waits waits for, where that is known.
    pub fn awaited(&self, innermost: Option<u32>) -> Option<String> {
        use crate::session::tasks::Awaited;
        match self.tasks.awaited_by(self.session, innermost?)? {
            Awaited::Object(_, mt) => Some(self.session.clr().ok()?.type_name(mt).to_string()),
            Awaited::Words(words) => Some(words),
        }
    }

    /// Address and name of a method.
    pub fn method(&self, number: Option<u32>) -> Option<(u64, &str)> {
        self.node(number?).map(|n| (n.address, &*n.name))
    }
}
