//! MethodTables of an image without metadata or maps: found by what every one of them leads to, and named by their hash.

use rustc_hash::FxHashMap;

use crate::clr::layout::scan::{Span, each_word};

use super::metadata::FullName;
use super::types::{Types, is_string};

/// More virtual slots than a type has.
const MAX_SLOTS: u16 = 1 << 12;
/// MethodTables of a program: large ones have some 100,000.
const MAX_TYPES: usize = 1 << 20;

impl Types {
    /// Whether a module has metadata that can be read.
    pub fn have_metadata(&self) -> bool {
        (0..self.modules().len()).any(|i| self.names(i).is_some_and(|n| !n.metadata.is_empty()))
    }

    /// The name of the definition at `address` by its hash; the image has no metadata.
    pub fn name_by_hash(&self, address: u64) -> Option<FullName> {
        let name = self.by_hash().name(self.hash_of(address)?)?;
        Some(FullName { name: name.to_owned(), assembly: String::new() })
    }

    /// All MethodTables in the images, sorted, found by what every one of them leads to: no map names them.
    pub fn found(&self) -> Vec<u64> {
        let mut all = Vec::new();
        for span in self.spans() {
            each_word(self.space(), span, |address, head| {
                // Flags and size of an instance; most words of an image are neither.
                let size = head >> 32;
                if !(1..1 << 24).contains(&size) || all.len() >= MAX_TYPES {
                    return;
                }
                // A pointer looks like both: its upper half like a size.
                if self.space().readable(head) {
                    return;
                }
                let words = self.words(address).filter(|w| w.slots < MAX_SLOTS && w.interfaces < MAX_SLOTS);
                all.extend(words.filter(|w| self.is_type(w) && self.has_kind(w)).map(|w| w.address));
            });
        }
        all.sort_unstable();
        self.with_bases(all)
    }

    /// Of addresses that look like MethodTables those that are: the bases of a class lead to that of strings, which is
    /// `System.Object`.
    fn with_bases(&self, all: Vec<u64>) -> Vec<u64> {
        let Some(object) = all.iter().filter_map(|&mt| self.words(mt)).find(is_string).map(|w| w.related) else {
            return Vec::new();
        };
        let mut ends: FxHashMap<u64, bool> = FxHashMap::default();
        let mut kept = Vec::new();
        for &mt in &all {
            let (mut chain, mut at) = (Vec::new(), mt);
            // What leads in a circle, or out of those found, does not end there.
            let holds = loop {
                if let Some(&known) = ends.get(&at) {
                    break known;
                }
                let Some(w) = self.words(at).filter(|_| all.binary_search(&at).is_ok()) else { break false };
                chain.push(at);
                ends.insert(at, false);
                match self.has_base(&w) && at != object {
                    true => at = w.related,
                    // An interface has no base; what arrays and pointers are of is a type.
                    false => break at == object || self.is_interface(&w) || self.words(w.related).is_some(),
                }
            };
            ends.extend(chain.into_iter().map(|a| (a, holds)));
            kept.extend(holds.then_some(mt));
        }
        kept
    }

    /// The parts of the images that the program writes to, where it makes its MethodTables as it starts; the whole of one
    /// whose map is not known.
    fn spans(&self) -> Vec<Span> {
        let mut images: Vec<Span> = self.modules().iter().filter_map(|m| self.image(m.base)).map(Span::of).collect();
        images.sort_by_key(|s| s.base);
        images.dedup();
        let mut spans = Vec::new();
        for image in images {
            let written = self.writable(image);
            match written.is_empty() {
                true => spans.push(image),
                false => spans.extend(written),
            }
        }
        spans
    }
}
