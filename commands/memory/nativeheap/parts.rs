//! What ranges of memory hold, by kind: blocks of native heaps by state, stacks in use and not, files by name, and what stands
//! in memory that nobody claims. The parts of a kind add up to its ranges, byte for byte.

use std::borrow::Cow;

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::share::{Divider, Share};
use crate::commands::memory::usage::{Owner, UsageRange, word};
use crate::dump::{Dump, MapState, Os, Presence};
use crate::native::heaps::{Allocator, NativeHeaps};
use crate::session::Session;
use crate::session::ranges::ManagedRange;

/// A part of a range.
pub type Part = (Cow<'static, str>, u64);

/// `PAGE_GUARD`.
const GUARD: u32 = 0x100;
/// Bytes at the end of a thread's stack that its control block and its variables take: what is longer has neighbours.
const CONTROL: u64 = 0x4000;

/// Divides ranges, one after the other by address.
pub struct Parts<'a> {
    dump: &'a Dump,
    heaps: &'a NativeHeaps,
    divider: Divider<'a>,
    /// Ranges of the runtime with what they are, by start.
    managed: &'a [ManagedRange],
    /// Upper ends of stacks.
    tops: Vec<u64>,
}

impl<'a> Parts<'a> {
    /// Begins.
    pub fn new(session: &'a Session, managed: &'a [ManagedRange]) -> Result<Self> {
        let (dump, heaps) = (session.dump(), session.native_heaps()?);
        let divider = Divider::new(heaps, u64::from(dump.space.ptr_size()));
        let mut tops: Vec<u64> = dump.threads.iter().filter_map(|t| Some(t.stack?.1)).collect();
        tops.sort_unstable();
        Ok(Self { dump, heaps, divider, managed, tops })
    }

    /// The parts of `range`, which begins behind the one before; none where its kind says it all.
    pub fn of(&mut self, range: &UsageRange) -> Vec<Part> {
        let share = self.divider.divide(range.start, range.end);
        let Some(entry) = self.dump.map.get(range.entry) else { return Vec::new() };
        let mut parts = match range.usage {
            word::STACK => self.stack(range, entry.state, entry.protect),
            word::FILE => vec![(Cow::from(entry.file.clone().unwrap_or_else(|| "no name".into())), range.size())],
            word::HEAP | word::BRK => self.heap(&share, entry.state),
            word::UNKNOWN => {
                let what = self.content(range, entry.state, entry.presence);
                let mut parts = blocks(&share);
                parts.push((what.into(), share.rest()));
                parts
            }
            _ => Vec::new(),
        };
        parts.retain(|p| p.1 > 0);
        parts
    }

    fn heap(&self, share: &Share, state: MapState) -> Vec<Part> {
        let rest = match (&self.heaps.allocator, self.dump.os) {
            _ if state == MapState::Reserve => "reserved",
            (_, Os::Windows) | (Allocator::Other(_) | Allocator::None, _) => "not read",
            _ => "not the allocator's",
        };
        let mut parts = blocks(share);
        parts.push((rest.into(), share.rest()));
        parts
    }

    fn stack(&self, range: &UsageRange, state: MapState, protect: u32) -> Vec<Part> {
        if protect & GUARD != 0 {
            return vec![("guard".into(), range.size())];
        }
        if state == MapState::Reserve {
            let what = if self.dump.os == Os::Linux { "guard" } else { "reserved" };
            return vec![(what.into(), range.size())];
        }
        let Owner::Thread(thread) = range.owner else { return vec![("in use".into(), range.size())] };
        let thread = self.dump.threads.get(thread as usize);
        let Some(sp) = thread.and_then(|t| t.registers.as_ref()).map(|r| r.sp) else {
            return vec![("of a thread without registers".into(), range.size())];
        };
        let below = sp.clamp(range.start, range.end) - range.start;
        vec![("in use".into(), range.size() - below), ("below the stack pointer".into(), below)]
    }

    /// What stands in memory that nobody claims, as a sample of its words says.
    fn content(&self, range: &UsageRange, state: MapState, presence: Presence) -> &'static str {
        if state == MapState::Reserve {
            return "reserved";
        }
        if presence != Presence::Dumped {
            return "not in the dump";
        }
        if range.size() <= CONTROL && self.tops.binary_search(&range.start).is_ok() {
            return "control blocks of threads";
        }
        let mut tally = Tally::default();
        let pages = (range.size() >> 12).max(1);
        for page in (0..pages).step_by(pages.div_ceil(SAMPLE) as usize) {
            let start = range.start + (page << 12);
            for (_, word) in self.dump.space.words(start, range.end.min(start + (1 << 12))) {
                self.count(word, &mut tally);
            }
        }
        tally.verdict()
    }

    fn count(&self, word: u64, tally: &mut Tally) {
        tally.all += 1;
        if word == 0 {
            tally.zero += 1;
            return;
        }
        let i = self.managed.partition_point(|m| m.start <= word);
        let managed = i.checked_sub(1).and_then(|i| self.managed.get(i)).filter(|m| word < m.end);
        if let Some(m) = managed {
            let gc = m.what.starts_with("GCHeap");
            *if gc { &mut tally.objects } else { &mut tally.runtime } += 1;
        } else if self.dump.module_at(word).is_some() {
            tally.modules += 1;
        } else if self.heaps.blocks.holding(word).is_some() {
            tally.blocks += 1;
        } else if word.to_le_bytes().iter().filter(|c| (0x20..0x7F).contains(*c) || **c == 0).count() == 8 {
            tally.text += 1;
        }
    }
}

/// Pages looked at of a range that nobody claims, at most; they are spread over it.
const SAMPLE: u64 = 64;

/// Words of a sample by what they are.
#[derive(Default)]
struct Tally {
    all: u64,
    zero: u64,
    objects: u64,
    runtime: u64,
    modules: u64,
    blocks: u64,
    text: u64,
}

impl Tally {
    /// What is most of it. Pointers say more than the numbers between them: a tenth of them is enough.
    fn verdict(&self) -> &'static str {
        let said = self.all - self.zero;
        let kinds = [
            (self.runtime, "pointers into the runtime's heaps"),
            (self.objects, "pointers into the GC heap"),
            (self.blocks, "pointers to native blocks"),
            (self.modules, "pointers into modules"),
        ];
        let most = kinds.into_iter().max_by_key(|k| k.0).filter(|k| k.0 > 0 && k.0 * 10 >= said);
        match most {
            _ if self.zero == self.all => "zero",
            Some((_, what)) => what,
            None if self.text * 2 > said => "text",
            None => "numbers",
        }
    }
}

/// Blocks of native heaps by state.
fn blocks(share: &Share) -> Vec<Part> {
    vec![
        ("blocks in use".into(), share.in_use),
        ("free".into(), share.free),
        ("cached".into(), share.cached),
        ("top".into(), share.top),
        ("blocks with a mapping of their own".into(), share.mapped),
        ("headers, fences, not read".into(), share.other()),
    ]
}

/// Parts added up by kind and name: ranges and bytes.
#[derive(Default)]
pub struct Sums(FxHashMap<(String, Cow<'static, str>), (u64, u64)>);

impl Sums {
    /// Adds the parts of a range of that kind.
    pub fn add(&mut self, kind: &str, parts: &[Part]) {
        for (name, bytes) in parts {
            let sum = self.0.entry((kind.to_owned(), name.clone())).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes);
        }
    }

    /// By kind, the parts of each with the most bytes first.
    pub fn rows(self) -> Vec<(String, Cow<'static, str>, u64, u64)> {
        let mut rows: Vec<_> = self.0.into_iter().map(|((kind, name), (n, bytes))| (kind, name, n, bytes)).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0).then(b.3.cmp(&a.3)).then_with(|| a.1.cmp(&b.1)));
        rows
    }
}
