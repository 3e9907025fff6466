//! Thread statics that are found by an index: those of instantiations, and where those of each plain class begin.
//!
//! Source: dotnet/runtime `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/DependencyAnalysis/TypeThreadStaticIndexNode.cs`,
//! `EETypeNode.cs` and `GenericDictionaryNode.cs` (a class has its dictionary in the vtable, behind what it inherits),
//! `src/coreclr/nativeaot/System.Private.CoreLib/src/Internal/Runtime/ThreadStatics.cs`. Each class with thread statics has
//! an index in the image: the cell of the `TypeManager`, and a number. Of plain classes, whose statics lie in one object, it
//! is negative: how far into it they begin. Of others it is the place of their base in an array, which the thread has of
//! the module. Whose an index is the table of statics of instantiations says, where the program has one; else the
//! dictionary of generic code that it stands in, if that is the dictionary of one class alone.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::layout::scan::{Span, each_word, words_equal};
use crate::native::Native;

use super::Aot;
use super::image::section;

/// Largest index, and largest offset: no program has as many thread statics.
const MAX_INDEX: u64 = 1 << 20;
/// Bytes of a dictionary: the largest have some hundred entries.
const MAX_DICTIONARY: u64 = 1 << 12;
/// Virtual slots in front of that of a dictionary, and behind it.
const MAX_SLOTS: u64 = 1 << 9;
/// Words that may lead to a dictionary; of each there are those of a class and of what derives from it.
const MOST_WORDS: usize = 1 << 16;
/// Classes in a row that are followed.
const MAX_PARENTS: usize = 256;

/// A base of thread statics whose owner is told.
#[derive(Debug, Clone)]
pub struct IndexedBase {
    /// Address of the `Thread`.
    pub thread: u64,
    /// The object.
    pub base: u64,
    /// Whose statics it has.
    pub owner: Arc<str>,
}

impl Aot {
    /// Bases of thread statics that are found by an index and have an owner, ascending.
    pub fn indexed_bases(&self, native: &Native) -> &[IndexedBase] {
        self.indexed.get_or_init(|| {
            let space = &self.dump.space;
            let array = |t: u64| space.ptr_at(t, self.layout.try_offset("Thread", "ThreadStatics")?);
            let threads = self.read_threads().items;
            let arrays: Vec<(u64, u64)> =
                threads.iter().filter_map(|t| Some((t.address, array(t.address).filter(|&a| a != 0)?))).collect();
            let mut found = Vec::new();
            for number in 0..self.types.modules().len() {
                let Some(place) = self.place_of_module(number) else { continue };
                let of_module =
                    |&(thread, all): &(u64, u64)| Some((thread, self.item(all, place).filter(|&a| a != 0)?));
                let of_module: Vec<(u64, u64)> = arrays.iter().filter_map(of_module).collect();
                if of_module.is_empty() {
                    continue;
                }
                for (index, owner) in self.owners_of_indexes(native, number) {
                    let base = |&(thread, all): &(u64, u64)| {
                        let base = self.item(all, index).filter(|&b| b != 0 && self.is_object(b))?;
                        Some(IndexedBase { thread, base, owner: owner.clone() })
                    };
                    found.extend(of_module.iter().filter_map(base));
                }
            }
            found.sort_unstable_by_key(|b: &IndexedBase| b.base);
            found
        })
    }

    /// The number of the module among those of the process, behind the pointer that its cell holds.
    fn place_of_module(&self, number: usize) -> Option<u64> {
        let cell = self.types.modules().get(number)?.header.start(section::TYPE_MANAGER)?;
        self.dump.space.u32(cell.checked_add(8)?).map(u64::from)
    }

    /// The reference at `index` of the array at `array`.
    fn item(&self, array: u64, index: u64) -> Option<u64> {
        let length = self.dump.space.u32(array.checked_add(8)?)?;
        self.dump.space.ptr(array.checked_add(16 + 8 * Some(index).filter(|&i| i < length.into())?)?)
    }

    /// Where the statics of each plain class begin in the object that has all of them, ascending; empty where it is not told.
    pub fn starts_of_classes(&self, number: usize) -> Vec<u64> {
        let mut starts: Vec<u64> =
            self.indexes(number).iter().filter(|i| i.1 < 0).map(|i| i.1.unsigned_abs()).collect();
        starts.sort_unstable();
        starts
    }

    /// Indexes of the module: address and number.
    fn indexes(&self, number: usize) -> Vec<(u64, i64)> {
        let Some(module) = self.types.modules().get(number) else { return Vec::new() };
        let (Some(cell), Some(image)) = (module.header.start(section::TYPE_MANAGER), self.types.image(module.base))
        else {
            return Vec::new();
        };
        let value = |at: u64| {
            let value = self.dump.space.u64(at.checked_add(8)?)? as i64;
            (1..=MAX_INDEX).contains(&value.unsigned_abs()).then_some((at, value))
        };
        words_equal(&self.dump.space, Span::of(image), 8, cell).into_iter().filter_map(value).collect()
    }

    /// Owners of the places in threads' arrays of the module.
    fn owners_of_indexes(&self, native: &Native, number: usize) -> FxHashMap<u64, Arc<str>> {
        let mut places: FxHashMap<u64, u64> = FxHashMap::default();
        places.extend(self.indexes(number).iter().filter(|i| i.1 > 0).map(|i| (i.0, i.1.unsigned_abs())));
        let mut owners: FxHashMap<u64, u64> = FxHashMap::default();
        for (mt, index) in self.by_dictionary(native, number, &places) {
            owners.insert(index, mt);
        }
        for (mt, at) in self.thread_instantiations(number) {
            owners.extend(places.get(&at).map(|&index| (index, mt)));
        }
        owners.into_iter().map(|(index, mt)| (index, self.types.tree(mt, 0).display().into())).collect()
    }

    /// Classes whose dictionary alone refers to an index; `places`: the numbers of indexes by address.
    fn by_dictionary(&self, native: &Native, number: usize, places: &FxHashMap<u64, u64>) -> Vec<(u64, u64)> {
        let (space, Some(module)) = (&self.dump.space, self.types.modules().get(number)) else { return Vec::new() };
        let Some(image) = self.types.image(module.base).filter(|_| !places.is_empty()).map(Span::of) else {
            return Vec::new();
        };
        // Words of the image that hold an index, then those that lead to where such a word may lie.
        let mut entries: Vec<(u64, u64)> = Vec::new();
        each_word(space, image, |at, word| {
            let known = places.get(&word).filter(|_| entries.len() < MOST_WORDS);
            entries.extend(known.map(|&index| (at, index)));
        });
        entries.sort_unstable();
        let mut leading: Vec<(u64, u64)> = Vec::new();
        each_word(space, image, |at, word| {
            let next = entries.get(entries.partition_point(|e| e.0 < word));
            if next.is_some_and(|e| e.0 - word < MAX_DICTIONARY) && leading.len() < MOST_WORDS {
                leading.push((word, at));
            }
        });
        // Dictionaries, each with the classes whose own it is.
        let class = |&(start, slot): &(u64, u64)| Some((start, self.class_with_dictionary(native, slot)?));
        let mut classes: Vec<(u64, u64)> = leading.iter().filter_map(class).collect();
        classes.sort_unstable();
        let alike = classes.chunk_by(|a, b| a.0 == b.0).filter_map(|all| Some((all.first()?.0, self.base_of_all(all))));
        let dictionaries: Vec<(u64, Option<u64>)> = alike.collect();
        let mut owners: FxHashMap<u64, FxHashSet<Option<u64>>> = FxHashMap::default();
        for &(at, index) in &entries {
            owners.entry(index).or_default().insert(owner_of_dictionary(&dictionaries, at));
        }
        let single = |(index, of): (u64, FxHashSet<Option<u64>>)| {
            let mut of = of.into_iter();
            if let (Some(Some(mt)), None) = (of.next(), of.next()) { Some((mt, index)) } else { None }
        };
        owners.into_iter().filter_map(single).collect()
    }

    /// The class whose vtable has its own dictionary at `slot`: the last of those there, behind inherited ones.
    fn class_with_dictionary(&self, native: &Native, slot: u64) -> Option<u64> {
        let contains = |back: u64| {
            let w = self.types.words(slot.checked_sub(self.types.vtable_offset().checked_add(8 * back)?)?)?;
            (u64::from(w.slots) > back && self.types.is_type(&w)).then_some((w, back))
        };
        let (w, place) = (0..MAX_SLOTS).find_map(contains)?;
        let later = (1..(u64::from(w.slots) - place).min(MAX_SLOTS))
            .filter_map(|i| self.dump.space.ptr(slot.checked_add(8 * i)?));
        let mut dictionaries = later.filter(|&p| p != 0 && !native.is_code(p));
        (self.types.is_instantiation(&w) && dictionaries.next().is_none()).then_some(w.address)
    }

    /// That of the classes, which share a dictionary, from which all others derive.
    fn base_of_all(&self, all: &[(u64, u64)]) -> Option<u64> {
        let set: FxHashSet<u64> = all.iter().map(|c| c.1).collect();
        let parent = |at: &u64| self.types.words(*at).filter(|w| self.types.has_base(w)).map(|w| w.related);
        let chain = |mt: u64| std::iter::successors(Some(mt), parent).take(MAX_PARENTS);
        let base = chain(all.first()?.1).filter(|at| set.contains(at)).last()?;
        set.iter().all(|&mt| chain(mt).any(|at| at == base)).then_some(base)
    }
}

/// The class whose dictionary the word at `at` lies in; `dictionaries`: where they begin, sorted, and whose they are.
fn owner_of_dictionary(dictionaries: &[(u64, Option<u64>)], at: u64) -> Option<u64> {
    let (start, owner) = *dictionaries.get(dictionaries.partition_point(|d| d.0 <= at).checked_sub(1)?)?;
    owner.filter(|_| at - start < MAX_DICTIONARY)
}
