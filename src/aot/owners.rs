//! Whose a static base is, by the code that refers to its cell.
//!
//! The compiler sorts cells and methods alike: by assembly and place in its metadata, instantiations last (dotnet/runtime
//! `src/coreclr/tools/Common/TypeSystem/Sorting`). So the classes that own cells stand in the order of their code. A cell
//! that one static constructor alone refers to, which refers to no other of that kind, is of its class; of these the
//! longest series in order is believed. Of any other cell it is the one class that refers to it and whose code lies
//! between that of the owners before and behind. Where two could be meant, none is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::dump::Arch;
use crate::native::Native;

use super::Aot;
use super::statics::Cell;

/// Times that what was learnt is used for the rest.
const ROUNDS: usize = 8;
/// Cells that code refers to are looked for in so much of it, in bytes; programs have some 10 MB.
const MOST_CODE: u64 = 1 << 30;
/// As many places in code are asked about; each class has a few of its cell.
const MOST_PLACES: usize = 1 << 22;
/// The static constructor.
const STATIC_CONSTRUCTOR: &str = ".cctor";
/// Classes that the compiler of C# makes for lambdas and method groups, which have statics and whose users do the work.
const CACHES: [&str; 2] = ["<>c", "<>O"];

/// A class that refers to a cell.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Class(Arc<str>);

impl Class {
    /// That of this name.
    pub fn new(name: String) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The class itself, or of state machines, closures and caches of lambdas the one they were made for.
    pub fn outer(&self) -> Self {
        let mut name = &*self.0;
        while let Some((outer, last)) = name.rsplit_once('+')
            && last.starts_with('<')
        {
            name = outer;
        }
        Self(name.into())
    }

    /// Whether it can have static fields: state machines and closures have none.
    fn may_own(&self) -> bool {
        let last = self.0.rsplit(['+', '.']).next().unwrap_or(&self.0);
        !last.starts_with('<') || CACHES.contains(&last)
    }
}

/// What is known of a cell.
#[derive(Debug, Default)]
struct Referred {
    /// Classes of methods that refer to it.
    by: FxHashSet<Class>,
    /// Those of them whose static constructor does.
    constructors: FxHashSet<Class>,
}

impl Aot {
    /// Owners of cells of the module of that number; `named` are those known.
    pub fn owners_by_code(
        &self,
        native: &Native,
        number: usize,
        cells: &[Cell],
        named: &FxHashMap<u64, Arc<str>>,
    ) -> Vec<(u64, Arc<str>)> {
        // The code is looked through for distances as x64 writes them.
        if self.dump.arch != Arch::X64 || cells.is_empty() {
            return Vec::new();
        }
        let order = self.order_of_classes(number);
        let wanted: FxHashMap<u64, usize> = cells.iter().enumerate().map(|(i, c)| (c.address, i)).collect();
        let mut referred: Vec<Referred> = cells.iter().map(|_| Referred::default()).collect();
        let mut of_function: FxHashMap<u64, Option<(Class, bool)>> = FxHashMap::default();
        self.references_in_code(&wanted, |cell, ip| {
            let Some((start, _)) = native.function_at(ip) else { return };
            let method = of_function.entry(start).or_insert_with(|| {
                let body = self.compiled_code(native, ip).map_or(start, |c| c.start);
                let (class, name) = self.class_of_method(body)?;
                Some((Class::new(class), name == STATIC_CONSTRUCTOR))
            });
            let (Some((class, constructor)), Some(r)) = (method, referred.get_mut(cell)) else { return };
            r.by.insert(class.clone());
            if *constructor {
                r.constructors.insert(class.clone());
            }
        });
        let known = |c: &Cell| named.get(&c.address).map(|n| Class(n.clone()));
        let known: Vec<Option<Class>> = cells.iter().map(known).collect();
        let owners = assign(&referred, &order, &known);
        owners.into_iter().filter_map(|(i, class)| Some((cells.get(i)?.address, class.0))).collect()
    }

    /// Classes that are no instantiations, with the place of their first code.
    pub fn order_of_classes(&self, number: usize) -> FxHashMap<Class, u64> {
        let mut order: FxHashMap<Class, u64> = FxHashMap::default();
        for (start, class) in self.classes_of_methods(number) {
            // Behind a backtick: code of an instantiation, which lies elsewhere.
            if !class.contains('`') {
                order.entry(Class(class)).and_modify(|s| *s = start.min(*s)).or_insert(start);
            }
        }
        order
    }

    /// Instructions of managed code that address one of the cells, by its number.
    fn references_in_code(&self, cells: &FxHashMap<u64, usize>, mut each: impl FnMut(usize, u64)) {
        let space = &self.dump.space;
        let (Some(low), Some(high)) = (cells.keys().min().copied(), cells.keys().max().copied()) else { return };
        let mut places = 0;
        for (start, end) in self.managed_code() {
            let end = end.min(start.saturating_add(MOST_CODE));
            for (from, to) in space.runs(start, end) {
                let Some(code) = space.run(from) else { continue };
                let code = code.get(..(to - from) as usize).unwrap_or(code);
                // ModRM of an address relative to the next instruction, then the distance.
                for (i, bytes) in code.windows(5).enumerate() {
                    let [mode, distance @ ..] = bytes else { continue };
                    if mode & 0xC7 != 5 {
                        continue;
                    }
                    let Ok(distance) = <[u8; 4]>::try_from(distance) else { continue };
                    let ip = from + i as u64;
                    let target = ip.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes(distance)));
                    if (low..=high).contains(&target)
                        && let Some(&cell) = cells.get(&target)
                        && places < MOST_PLACES
                    {
                        places += 1;
                        each(cell, ip);
                    }
                }
            }
        }
    }
}

/// The owners of cells, by number.
fn assign(cells: &[Referred], order: &FxHashMap<Class, u64>, known: &[Option<Class>]) -> BTreeMap<usize, Class> {
    let anchors = anchors(cells, order, known);
    let Some(&last) = anchors.keys().next_back() else { return anchors };
    let mut owners = anchors;
    for _ in 0..ROUNDS {
        let mut found: FxHashMap<Class, Vec<usize>> = FxHashMap::default();
        let taken: FxHashSet<&Class> = owners.values().collect();
        for (i, cell) in cells.iter().enumerate().take(last) {
            if owners.contains_key(&i) {
                continue;
            }
            let key = |o: Option<(&usize, &Class)>| o.and_then(|(_, c)| order.get(c)).copied();
            let low = key(owners.range(..i).next_back()).unwrap_or(0);
            let high = key(owners.range(i..).next()).unwrap_or(u64::MAX);
            let within = |c: &&Class| order.get(*c).is_some_and(|&k| low < k && k < high) && !taken.contains(*c);
            let all = with_caches(&cell.by);
            let mut fit = all.iter().filter(|c| c.may_own()).filter(within);
            if let (Some(one), None) = (fit.next(), fit.next()) {
                found.entry(one.clone()).or_default().push(i);
            }
        }
        // A class has one cell.
        let single: Vec<(usize, Class)> =
            found.into_iter().filter_map(|(c, at)| if let [i] = at[..] { Some((i, c)) } else { None }).collect();
        let more = in_order(single, order, false);
        if more.is_empty() {
            break;
        }
        owners.extend(more);
    }
    owners
}

/// Cells whose owner one static constructor tells, as far as they are in order.
fn anchors(cells: &[Referred], order: &FxHashMap<Class, u64>, known: &[Option<Class>]) -> BTreeMap<usize, Class> {
    let mut alone: FxHashMap<&Class, Vec<usize>> = FxHashMap::default();
    for (i, cell) in cells.iter().enumerate() {
        let mut of = cell.constructors.iter();
        if let (Some(class), None) = (of.next(), of.next()) {
            alone.entry(class).or_default().push(i);
        }
    }
    let told = known.iter().enumerate().filter_map(|(i, c)| Some((i, c.clone()?)));
    let told: BTreeMap<usize, Class> = told.filter(|(_, c)| order.contains_key(c)).collect();
    let owning: FxHashSet<&Class> = told.values().collect();
    let mut single: Vec<(usize, Class)> = Vec::new();
    for (class, at) in alone {
        if let [i] = at[..]
            && order.contains_key(class)
            && !known.get(i).is_some_and(Option::is_some)
            && !owning.contains(class)
        {
            single.push((i, class.clone()));
        }
    }
    single.extend(told.iter().map(|(i, c)| (*i, c.clone())));
    in_order(single, order, false)
}

/// The longest series whose classes are in the order of their code; `again` where one may occur more than once.
pub fn in_order(mut found: Vec<(usize, Class)>, order: &FxHashMap<Class, u64>, again: bool) -> BTreeMap<usize, Class> {
    found.sort();
    let keys: Vec<u64> = found.iter().map(|(_, c)| order.get(c).copied().unwrap_or(0)).collect();
    // For each length the series that ends lowest, and of each member the one before it.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
    for (i, &key) in keys.iter().enumerate() {
        let length = ends.partition_point(|&e| keys.get(e).is_some_and(|&k| k < key || again && k == key));
        before.push(length.checked_sub(1).and_then(|l| ends.get(l)).copied());
        match ends.get_mut(length) {
            Some(end) => *end = i,
            None => ends.push(i),
        }
    }
    let mut kept = BTreeMap::new();
    let mut at = ends.last().copied();
    while let Some((i, class)) = at.and_then(|a| found.get(a)) {
        kept.insert(*i, class.clone());
        at = at.and_then(|a| before.get(a)).copied().flatten();
    }
    kept
}

/// The classes, and those the compiler of C# nests in them and their outer classes for lambdas and method groups.
fn with_caches(by: &FxHashSet<Class>) -> FxHashSet<Class> {
    let mut all = by.clone();
    for class in by {
        let mut outer = Some(&*class.0);
        while let Some(name) = outer {
            all.extend(CACHES.map(|c| Class(format!("{name}+{c}").into())));
            outer = name.rsplit_once('+').map(|(o, _)| o);
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn class(name: &str) -> Class {
        Class(name.into())
    }

    fn referred(by: &[&str], constructors: &[&str]) -> Referred {
        let set = |names: &[&str]| names.iter().map(|n| class(n)).collect();
        Referred { by: by.iter().chain(constructors).map(|n| class(n)).collect(), constructors: set(constructors) }
    }

    fn owners(cells: &[Referred], classes: &[&str]) -> Vec<Option<String>> {
        let order = classes.iter().enumerate().map(|(i, c)| (class(c), 16 * (1 + i as u64))).collect();
        let found = assign(cells, &order, &vec![None; cells.len()]);
        (0..cells.len()).map(|i| found.get(&i).map(|c| c.0.to_string())).collect()
    }

    #[test]
    fn constructors_and_order_tell_owners() {
        let cells = [
            referred(&["B"], &["A"]),
            // No constructor: of those that refer to it one lies between.
            referred(&["B", "E"], &[]),
            // Two could be meant; the state machine has no statics.
            referred(&["B+<M>d__1", "C", "G"], &[]),
            // Its constructor refers to another cell as well: the order tells.
            referred(&["D"], &["D"]),
            referred(&["E"], &["D"]),
            referred(&[], &["F"]),
        ];
        let found = owners(&cells, &["A", "B", "B+<M>d__1", "C", "G", "D", "E", "F"]);
        let found: Vec<&str> = found.iter().map(|f| f.as_deref().unwrap_or("-")).collect();
        assert_eq!(found, ["A", "B", "-", "D", "E", "F"]);
    }

    #[test]
    fn what_is_out_of_order_is_not_believed() {
        let cells = [referred(&[], &["A"]), referred(&[], &["Z"]), referred(&[], &["B"]), referred(&[], &["C"])];
        let found = owners(&cells, &["A", "B", "C", "Z"]);
        let found: Vec<&str> = found.iter().map(|f| f.as_deref().unwrap_or("-")).collect();
        assert_eq!(found, ["A", "-", "B", "C"]);
    }

    #[test]
    fn lambdas_have_a_class_of_their_own() {
        let cells = [referred(&[], &["A"]), referred(&["B"], &[]), referred(&["A"], &[]), referred(&[], &["Z"])];
        let found = owners(&cells, &["A", "B", "A+<>c", "A+<M>d__0", "Z"]);
        let found: Vec<&str> = found.iter().map(|f| f.as_deref().unwrap_or("-")).collect();
        assert_eq!(found, ["A", "B", "A+<>c", "Z"]);
    }
}
