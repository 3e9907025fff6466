//! Static initializers of classes: which run, and on which thread.

use anyhow::Result;

use super::Session;
use crate::clr::types::methodtable::MethodTable;

/// How far the initializer of a class has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initializer {
    /// It is done, or the class has none.
    Done,
    /// It has not begun.
    NotRun,
    /// It runs on the thread whose `Thread` is at this address.
    Running(u64),
    /// It ended with an exception.
    Failed,
}

/// Longest name of a type compared, in UTF-16 units.
const MAX_NAME: usize = 1 << 10;

impl Session {
    /// The initializer of the class `mt`, which is not done: one that has begun is on the stack of a thread. `None` where
    /// the class's methods have no names.
    pub fn initializer(&self, mt: &MethodTable) -> Option<Initializer> {
        let clr = self.clr().ok()?;
        let methods = clr.methods(mt);
        let mut names = methods.items.iter().map(|m| (m, clr.method_simple_name(m)));
        let Some((md, _)) = names.find(|(_, n)| n.as_deref() == Some(".cctor")) else {
            // Nothing to run: all fields are what they were made with.
            return methods.partial.is_none().then_some(Initializer::Done);
        };
        let code = clr
            .native_code(md)
            .and_then(|c| clr.code().at(c))
            .and_then(|c| Some((c.start, c.start.checked_add(c.length?.into())?)));
        let Some(code) = code else { return Some(Initializer::NotRun) };
        // It runs, or a frame of the stack returns into it.
        let runs = |native| self.dump().held_by(native).any(|word| (code.0..code.1).contains(&word));
        let mut threads = clr.threads().items.iter();
        let found = threads.find(|t| self.dump().thread_of(t.os_id).is_some_and(runs)).map(|t| t.address);
        Some(found.map_or(Initializer::NotRun, Initializer::Running))
    }

    /// The `TypeInitializationException` that tells why the class `mt` could not be initialized.
    pub fn initialization_error(&self, mt: u64) -> Result<Option<u64>> {
        let (clr, walker) = (self.clr()?, self.walker()?);
        let class = self.loaded_types()?.named("System.TypeInitializationException").to_vec();
        let (found, _) = walker.parallel(
            &walker.heap.segments,
            |_| Vec::new(),
            |found: &mut Vec<u64>, _, o| {
                if class.contains(&o.ty.mt.address) {
                    found.push(o.address);
                }
            },
        )?;
        let (tree, name) = (clr.type_tree(mt), clr.type_name(mt));
        let names = [tree.reflection(), name.to_string()];
        let of_class = |e: &u64| {
            let text = self.value(*e).and_then(|v| v.pointer(&["_typeName"])).filter(|&t| t != 0);
            let text = text.filter(|&t| clr.object_type(t) == Some(clr.known.string));
            text.and_then(|t| clr.string_at(t, MAX_NAME)).is_some_and(|t| names.contains(&t.1))
        };
        Ok(found.into_iter().flatten().find(of_class))
    }
}
