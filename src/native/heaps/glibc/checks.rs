//! What the allocator counts itself, held against what was read.

use rayon::prelude::*;

use super::layout::{CACHES, SMALL_BINS};
use super::walk::End;
use super::{Cached, Part, Reader, lists};
use crate::native::heaps::{Check, NativeHeaps, State};
use crate::watch::Interrupted;

/// Blocks of threads that ended keep the word by which a cache knows its blocks: a few are no sign of a cache not found.
const LEFT_OVER: u64 = 8;

impl Reader<'_> {
    /// All checks.
    pub(super) fn check(&self, heaps: &mut NativeHeaps, parts: &[Part], cached: &Cached) -> Result<(), Interrupted> {
        let mut checks = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            self.check_arena(heaps, i as u16, part, &mut checks)?;
        }
        let mut say = |arena, what, holds, text: String| checks.push(Check { arena, what, holds, text });
        if let Some(whole) = self.found.ring {
            let text = format!("{} arenas in a ring", self.found.arenas.len());
            say(
                None,
                "the ring of arenas",
                whole,
                if whole { text } else { "it does not close over all arenas found".into() },
            );
        }
        if let Some(counted) = heaps.mapped_counted {
            let text = format!(
                "{} of {} bytes found, {} of {} counted",
                heaps.mapped.count, heaps.mapped.bytes, counted.count, counted.bytes
            );
            say(None, "mappings of their own", heaps.mapped.is(counted.count, counted.bytes), text);
        }
        for &(number, broken) in cached.torn.iter().filter(|t| t.1 > 0) {
            say(Some(number), "fast bins", false, format!("{broken} lists end at what is no chunk of their size"));
        }
        self.check_caches(heaps, cached, &mut checks);
        self.lacks(heaps, cached);
        heaps.checks = checks;
        Ok(())
    }

    fn check_arena(
        &self,
        heaps: &mut NativeHeaps,
        number: u16,
        part: &Part,
        checks: &mut Vec<Check>,
    ) -> Result<(), Interrupted> {
        let Some(a) = heaps.arenas.get(usize::from(number)) else { return Ok(()) };
        let mut say = |what, holds, text: String| checks.push(Check { arena: Some(number), what, holds, text });
        if !part.lost.is_empty() {
            let (n, at) = (part.lost.len(), part.lost.first().map_or(0, |l| l.0));
            say("the walk", false, format!("{} bytes in {n} places are no chunks, the first at {at:x}", a.lost));
        }
        let torn: u64 = part.done.iter().map(|d| d.walked.torn).sum();
        if torn > 0 {
            say("sizes behind free chunks", false, format!("{torn} do not say what the chunk does"));
        }
        let strange: u64 = part.done.iter().map(|d| d.walked.strange).sum();
        if strange > 0 {
            say("arenas of chunks", false, format!("{strange} chunks in use say that they belong to another"));
        }
        let found = self.found.arenas.iter().find(|f| f.address == a.address && a.address != 0);
        let Some(found) = found else { return Ok(()) };
        match lists::bins(self.space, self.layout, found, a.free.count + 16, self.watch)? {
            Some(bins) => {
                let text = format!(
                    "{} of {} bytes by flag, {} of {} in bins",
                    a.free.count, a.free.bytes, bins.count, bins.bytes
                );
                say("free chunks", a.free.is(bins.count, bins.bytes), text);
            }
            None => say("free chunks", false, "the lists of the bins are broken".into()),
        }
        let top = part.done.iter().any(|d| d.walked.end == End::Top);
        let unused = a.used.count == 0 && found.system == 0;
        if !top && !unused {
            say("the top", false, format!("no walk comes to it at {:x}", found.top));
        }
        // Pieces of the main arena that are mappings, and what others took of the break, are counted in ways of their own.
        if !a.main || part.pieces == 1 {
            say("system_mem", found.system == a.system, format!("{} bytes read, {} counted", a.system, found.system));
        }
        Ok(())
    }

    fn check_caches(&self, heaps: &NativeHeaps, cached: &Cached, checks: &mut Vec<Check>) {
        let caches = &cached.caches;
        let mut say = |what, holds, text: String| checks.push(Check { arena: None, what, holds, text });
        let torn: u64 = caches.caches.iter().map(|c| c.torn).sum();
        let Some(layout) = caches.layout else { return };
        let held: u64 = caches.caches.iter().map(|c| c.held.len() as u64).sum();
        let words = if cached.masked { "masked" } else { "plain" };
        let text = format!(
            "{} of {} (glibc {}), {held} blocks, links {words}",
            caches.caches.len(),
            layout.bins,
            layout.versions
        );
        let of = format!("{torn} lists do not hold what their counts say; {text}");
        say("caches of threads", torn == 0, if torn == 0 { text } else { of });
        // From 2.34 on every cached block has the same random word behind its link: one in use that has it is in a cache
        // that was not found.
        let w = self.layout.word;
        let key = |at: u64| self.space.ptr_at(at, w);
        let mut keys = caches.caches.iter().flat_map(|c| &c.held).map(|&b| key(b));
        let Some(Some(first)) = keys.next() else { return };
        if first == 0 || !keys.all(|k| k == Some(first)) {
            return;
        }
        let most = self.layout.least() + SMALL_BINS * self.layout.align();
        let small = |b: &&crate::native::heaps::Block| b.state() == State::Used && b.size() < most;
        let left =
            heaps.blocks.list().par_iter().filter(small).filter(|b| key(b.address()) == Some(first)).count() as u64;
        let text = format!("{left} blocks in use have the word of those in caches");
        say("blocks in caches not found", left <= LEFT_OVER.max(held / 16), text);
    }

    /// What is to be said where the main arena's fast bins are not in the dump. Where links are masked at most those blocks can
    /// be in them whose first word is such a link: to nothing, or to another small one of the same size.
    fn without_fast_bins(&self, heaps: &NativeHeaps, cached: &Cached) -> String {
        let text = "the main arena's own data are not in the dump: what its fast bins hold counts as used";
        let w = self.layout.word;
        let count = self.layout.fast.1;
        let most = if count == 0 { 0 } else { self.layout.fast_size(count - 1) };
        if !cached.masked || most == 0 {
            return text.into();
        }
        let linked = |b: &&crate::native::heaps::Block| {
            let link = self.space.ptr(b.address()).map(|l| l ^ b.address() >> 12);
            let same = |chunk: u64| {
                let next = heaps.blocks.at(chunk.wrapping_add(2 * w)).and_then(|i| heaps.blocks.get(i));
                next.is_some_and(|n| n.size() == b.size() && n.state() == State::Used)
            };
            link.is_some_and(|l| l == 0 || same(l))
        };
        let small =
            |b: &&crate::native::heaps::Block| b.arena() == 0 && b.state() == State::Used && b.size() + w <= most;
        let bytes: u64 = heaps.blocks.list().iter().filter(small).filter(linked).map(|b| b.size() + w).sum();
        format!("{text}, at most {bytes} bytes")
    }

    /// Whether a cache that holds nothing begins the main arena: what a thread gets first is its cache.
    fn has_empty_cache(&self, heaps: &NativeHeaps) -> bool {
        let Some(first) = heaps.blocks.list().iter().find(|b| b.arena() == 0) else { return false };
        let w = self.layout.word;
        let fits = CACHES.iter().any(|c| (c.size(w)..c.size(w) + 2 * self.layout.align()).contains(&first.size()));
        let (mut words, mut zero) = (0, true);
        for (_, word) in self.space.words(first.address(), first.end().saturating_sub(w)) {
            (words, zero) = (words + 1, zero && word == 0);
        }
        fits && zero && words > 0
    }

    /// What the dump lacks.
    fn lacks(&self, heaps: &mut NativeHeaps, cached: &Cached) {
        let main = self.found.arenas.first().is_some_and(|a| a.main);
        let mut missing = Vec::new();
        if !main {
            let read = heaps.arenas.first().is_some_and(|a| a.used.count > 0);
            missing.push(match read {
                true => self.without_fast_bins(heaps, cached),
                false => "the main arena's memory is not in the dump".to_owned(),
            });
        }
        let expected = self.layout.fast.0 != 0x08 || self.layout.bins != 0x68;
        let off = self
            .dump
            .process
            .environment
            .iter()
            .any(|e| e.starts_with("GLIBC_TUNABLES=") && e.contains("tcache_count=0"));
        let some = heaps.arenas.iter().any(|a| a.used.count > 0) && !self.has_empty_cache(heaps);
        if expected && cached.caches.layout.is_none() && !off && some {
            missing.push("no cache of a thread was found: blocks in caches would count as used".into());
        }
        heaps.missing = missing;
    }
}
