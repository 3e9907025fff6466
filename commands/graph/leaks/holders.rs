//! Who holds many objects of a kind, by type.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::evidence::{Evidence, Item};
use super::view::{NONE, View};
use crate::heap::stat::Tally;
use crate::shell::out::thousands;

/// Types named in text; data has all.
const NAMED: usize = 3;

/// What is said of holders that no object stands for.
const ROOTS: &str = "static variables and roots";

/// Objects and bytes by the type that holds them.
#[derive(Default)]
pub struct Holders(FxHashMap<u32, Tally>);

impl Holders {
    /// Adds an object of so many bytes held by the type numbered `holder`.
    pub fn add(&mut self, holder: u32, bytes: u64) {
        self.add_all(holder, Tally { count: 1, bytes });
    }

    /// Adds so many objects.
    pub fn add_all(&mut self, holder: u32, tally: Tally) {
        self.0.entry(holder).or_default().merge(tally);
    }

    /// Adds another's.
    pub fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(ty, tally)| self.add_all(ty, tally));
    }

    /// The holders, those of most bytes first.
    fn sorted(&self) -> Vec<(u32, Tally)> {
        let mut all: Vec<(u32, Tally)> = self.0.iter().map(|(ty, t)| (*ty, *t)).collect();
        all.sort_unstable_by_key(|(ty, t)| (Reverse(t.bytes), Reverse(t.count), *ty));
        all
    }

    /// A sentence with the first of them; `what` says what the rows of data are. `None` when nothing is held.
    pub fn evidence(&self, view: &View<'_>, what: &'static str) -> Option<Evidence> {
        let all = self.sorted();
        let part = |(ty, t): &(u32, Tally)| {
            let name = if *ty == NONE { ROOTS.into() } else { view.type_name(*ty) };
            format!("{name} ({}: {} bytes)", thousands(t.count), thousands(t.bytes))
        };
        let item = |(ty, t): &(u32, Tally)| {
            let item = Item::of(what).count(t.count).bytes(t.bytes);
            if *ty == NONE { item.name(ROOTS) } else { item.ty(view.type_name(*ty)) }
        };
        let parts: Vec<String> = all.iter().take(NAMED).map(part).collect();
        let text = format!("held by {}", parts.join(", "));
        (!all.is_empty()).then(|| Evidence::many(text, all.iter().map(item).collect()))
    }
}
