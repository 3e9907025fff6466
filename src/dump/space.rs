//! The readable memory of the process: sorted pieces of the mapped file, looked up without copying.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::bytes::little_endian;
use super::map::FileMap;

/// Bytes of memory that one worker looks through at once.
pub const PART: u64 = 1 << 20;

/// A run of readable bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Which source holds the bytes.
    source: u32,
    /// Offset of the first byte in that source.
    offset: u64,
}

/// Readable memory as sorted, disjoint pieces over memory-mapped files. Little-endian throughout.
///
/// Look-up is a binary search behind a cache of last hits; results borrow from the map.
#[derive(Debug, Default)]
pub struct AddressSpace {
    sources: Vec<FileMap>,
    pieces: Vec<Piece>,
    ptr_size: u8,
    meter: Meter,
}

/// The same memory, with a count of its own.
impl Clone for AddressSpace {
    fn clone(&self) -> Self {
        let (sources, pieces) = (self.sources.clone(), self.pieces.clone());
        Self { sources, pieces, ptr_size: self.ptr_size, meter: Meter::default() }
    }
}

/// Counts what is read of an address space while it is on: look-ups, and the bytes that scans go through. Off, it costs a
/// branch.
#[derive(Debug, Default)]
pub struct Meter {
    on: AtomicBool,
    lookups: AtomicU64,
    scanned: AtomicU64,
}

impl Meter {
    /// Switches it on or off; what was counted stays.
    pub fn switch(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Bytes read so far: a pointer for each look-up, and what was scanned.
    pub fn bytes(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed) * 8 + self.scanned.load(Ordering::Relaxed)
    }

    /// What that cost, in bytes of a scan: a look-up costs about as much as 64 of them.
    pub fn cost(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed) * 64 + self.scanned.load(Ordering::Relaxed)
    }

    #[inline]
    fn looked_up(&self) {
        if self.on.load(Ordering::Relaxed) {
            self.lookups.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts a scan over `bytes`.
    pub fn scan(&self, bytes: u64) {
        if self.on.load(Ordering::Relaxed) {
            self.scanned.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// Slots of the last-hit cache; a slot serves the addresses of every 64th MiB.
const SLOTS: usize = 64;

thread_local! {
    /// Piece last hit, by address. Each thread has its own: a shared one would bounce between processors. It serves
    /// every space, since a hit is checked against the piece.
    static HINTS: [Cell<u32>; SLOTS] = const { [const { Cell::new(0) }; SLOTS] };
}

/// Collects pieces in any order; see [`SpaceBuilder::add`] for how overlaps are resolved.
#[derive(Debug)]
pub struct SpaceBuilder {
    sources: Vec<FileMap>,
    pieces: Vec<(Piece, u32)>,
    ptr_size: u8,
}

impl SpaceBuilder {
    /// An empty space with pointers of `ptr_size` bytes (4 or 8).
    pub fn new(ptr_size: u8) -> Self {
        Self { sources: Vec::new(), pieces: Vec::new(), ptr_size }
    }

    /// Adds a file pieces can refer to and returns its number.
    pub fn source(&mut self, file: FileMap) -> u32 {
        self.sources.push(file);
        (self.sources.len() - 1) as u32
    }

    /// Adds `len` bytes at `offset` of `source` as address `start`. What lies outside the source or wraps the address
    /// space is cut; the number of bytes kept is returned. Where pieces overlap, the one added first wins.
    pub fn add(&mut self, start: u64, source: u32, offset: u64, len: u64) -> u64 {
        let size = self.sources.get(source as usize).map_or(0, |s| s.len() as u64);
        let kept = len.min(size.saturating_sub(offset)).min(u64::MAX - start);
        if kept > 0 {
            let rank = self.pieces.len() as u32;
            self.pieces.push((Piece { start, end: start + kept, source, offset }, rank));
        }
        kept
    }

    /// Sorts, resolves overlaps (first added wins), joins neighbours that are contiguous in memory and in the file.
    /// Returns the space and how many bytes were dropped because another piece already gave them.
    pub fn build(mut self) -> (AddressSpace, u64) {
        self.pieces.sort_by_key(|(p, rank)| (p.start, *rank));
        let overlapping = self.pieces.windows(2).any(|w| w[1].0.start < w[0].0.end);
        let (sorted, dropped) =
            if overlapping { resolve(&self.pieces) } else { (self.pieces.iter().map(|p| p.0).collect(), 0) };
        let mut pieces: Vec<Piece> = Vec::with_capacity(sorted.len());
        for p in sorted {
            match pieces.last_mut() {
                Some(l) if l.end == p.start && l.source == p.source && l.offset + (l.end - l.start) == p.offset => {
                    l.end = p.end
                }
                _ => pieces.push(p),
            }
        }
        pieces.shrink_to_fit();
        (AddressSpace { sources: self.sources, pieces, ptr_size: self.ptr_size, meter: Meter::default() }, dropped)
    }
}

/// Sweeps the start and end points; in each elementary interval the piece of the lowest rank is kept.
fn resolve(pieces: &[(Piece, u32)]) -> (Vec<Piece>, u64) {
    use std::collections::BTreeSet;
    let mut points: Vec<(u64, bool, usize)> = Vec::with_capacity(pieces.len() * 2);
    for (i, (p, _)) in pieces.iter().enumerate() {
        points.push((p.start, true, i));
        points.push((p.end, false, i));
    }
    points.sort_unstable();
    let (mut active, mut out, mut dropped) = (BTreeSet::new(), Vec::new(), 0u64);
    let mut at = 0u64;
    for (address, opens, i) in points {
        if let Some(&(_, best)) = active.first()
            && address > at
        {
            let p: Piece = pieces[best as usize].0;
            out.push(Piece { start: at, end: address, source: p.source, offset: p.offset + (at - p.start) });
            dropped = dropped.saturating_add((address - at).saturating_mul(active.len() as u64 - 1));
        }
        at = address;
        let key = (pieces[i].1, i as u32);
        if opens {
            active.insert(key)
        } else {
            active.remove(&key)
        };
    }
    (out, dropped)
}

impl AddressSpace {
    /// Bytes in a pointer of the process.
    #[inline]
    pub fn ptr_size(&self) -> u8 {
        self.ptr_size
    }

    /// What is read of it is counted here.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Takes the space apart, so that pieces of lower rank than all present can be added.
    pub fn into_builder(self) -> SpaceBuilder {
        let pieces = self.pieces.into_iter().enumerate().map(|(i, p)| (p, i as u32)).collect();
        SpaceBuilder { sources: self.sources, pieces, ptr_size: self.ptr_size }
    }

    /// The readable pieces, by address.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The bytes of one piece.
    pub fn piece_bytes(&self, piece: &Piece) -> &[u8] {
        let len = (piece.end - piece.start) as usize;
        self.sources.get(piece.source as usize).and_then(|s| s.get(piece.offset as usize..)?.get(..len)).unwrap_or(&[])
    }

    /// Total readable bytes.
    pub fn readable_bytes(&self) -> u64 {
        self.pieces.iter().map(|p| p.end - p.start).sum()
    }

    #[inline]
    fn find(&self, address: u64) -> Option<&Piece> {
        self.meter.looked_up();
        HINTS.with(|hints| {
            let hint = hints.get((address >> 20) as usize % SLOTS)?;
            if let Some(p) = self.pieces.get(hint.get() as usize)
                && p.start <= address
                && address < p.end
            {
                return Some(p);
            }
            self.search(address, hint)
        })
    }

    #[cold]
    fn search(&self, address: u64, hint: &Cell<u32>) -> Option<&Piece> {
        let i = self.pieces.partition_point(|p| p.start <= address).checked_sub(1)?;
        let p = self.pieces.get(i).filter(|p| address < p.end)?;
        hint.set(i as u32);
        Some(p)
    }

    /// Bytes from `address` to the end of its piece; `None` when it is not readable.
    #[inline]
    pub fn run(&self, address: u64) -> Option<&[u8]> {
        let p = self.find(address)?;
        self.piece_bytes(p).get((address - p.start) as usize..)
    }

    /// Exactly `len` bytes at `address`, when they lie in one piece.
    #[inline]
    pub fn slice(&self, address: u64, len: usize) -> Option<&[u8]> {
        self.run(address)?.get(..len)
    }

    /// Whether the byte at `address` is readable.
    #[inline]
    pub fn readable(&self, address: u64) -> bool {
        self.find(address).is_some()
    }

    /// Whether all of `length` bytes at `address` are readable.
    pub fn holds(&self, address: u64, length: u64) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        let mut at = address;
        while at < end {
            let Some(run) = self.run(at).filter(|r| !r.is_empty()) else { return false };
            at = at.saturating_add(run.len() as u64);
        }
        true
    }

    /// First readable address at or after `address`.
    pub fn next_readable(&self, address: u64) -> Option<u64> {
        let i = self.pieces.partition_point(|p| p.end <= address);
        self.pieces.get(i).map(|p| p.start.max(address))
    }

    /// The readable parts of `[start, end)` in ascending order, pieces that follow one another joined.
    pub fn runs(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = self.pieces.partition_point(|p| p.end <= start);
        let mut rest = self.pieces.iter().skip(first).take_while(move |p| p.start < end).peekable();
        std::iter::from_fn(move || {
            let p = rest.next()?;
            let mut last = p.end;
            while let Some(next) = rest.next_if(|n| n.start == last) {
                last = next.end;
            }
            Some((p.start.max(start), last.min(end)))
        })
    }

    /// As [`AddressSpace::runs`], for workers: no part is longer than [`PART`], and all but the first begin at its multiples, so
    /// that no word is cut.
    pub fn parts(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.runs(start, end).flat_map(|(start, end)| {
            std::iter::successors(Some((start, start)), move |&(_, at)| {
                (at < end).then(|| (at, (at / PART + 1).saturating_mul(PART).min(end)))
            })
            .skip(1)
        })
    }

    /// The words of `[start, end)` that are readable, each with its address, in ascending order. Words lie at multiples of
    /// the size of a pointer; what is not readable is passed over in one step.
    pub fn words(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let size = u64::from(self.ptr_size);
        let mut at = start.checked_next_multiple_of(size);
        // What follows the last word looked up, to the end of its piece.
        let (mut base, mut run): (u64, &[u8]) = (0, &[]);
        std::iter::from_fn(move || {
            loop {
                let here = at.filter(|&at| at < end)?;
                let from = usize::try_from(here.wrapping_sub(base)).unwrap_or(usize::MAX);
                if let Some(bytes) = run.get(from..from.saturating_add(size as usize)) {
                    at = here.checked_add(size);
                    return Some((here, little_endian(bytes)));
                }
                if let Some(next) = self.run(here).filter(|r| r.len() >= size as usize) {
                    (base, run) = (here, next);
                    self.meter.scan((end - here).min(next.len() as u64));
                    continue;
                }
                at = here.checked_add(size);
                if let Some(word) = self.ptr(here) {
                    return Some((here, word));
                }
                let readable = self.next_readable(here).and_then(|a| a.checked_next_multiple_of(size));
                // A piece may end inside the word: then the next one is looked at.
                at = at.zip(readable).map(|(next, readable)| next.max(readable));
            }
        })
    }

    /// Copies bytes at `address` into `buffer` across pieces; returns how many were readable before the first hole.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let mut done = 0;
        while done < buffer.len() {
            let Some(at) = address.checked_add(done as u64) else { break };
            let Some(run) = self.run(at) else { break };
            let n = run.len().min(buffer.len() - done);
            buffer[done..done + n].copy_from_slice(&run[..n]);
            done += n;
        }
        done
    }

    /// `len` bytes at `address` as an owned vector, across pieces. `len` above 1 GiB is refused.
    pub fn bytes(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        if len > 1 << 30 {
            return None;
        }
        if let Some(s) = self.slice(address, len) {
            return Some(s.to_vec());
        }
        // A hole is found before the buffer is allocated: a hostile length must not cost its size.
        let mut at = address;
        let end = address.checked_add(len as u64)?;
        while at < end {
            at = at.checked_add(self.run(at)?.len() as u64)?;
        }
        let mut v = vec![0; len];
        (self.read(address, &mut v) == len).then_some(v)
    }

    fn fixed<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        if let Some(s) = self.slice(address, N) {
            return s.try_into().ok();
        }
        let mut b = [0; N];
        (self.read(address, &mut b) == N).then_some(b)
    }

    /// The byte at `address`.
    #[inline]
    pub fn u8(&self, address: u64) -> Option<u8> {
        self.run(address)?.first().copied()
    }

    /// Little-endian 16 bits at `address`.
    #[inline]
    pub fn u16(&self, address: u64) -> Option<u16> {
        self.fixed(address).map(u16::from_le_bytes)
    }

    /// Little-endian 32 bits at `address`.
    #[inline]
    pub fn u32(&self, address: u64) -> Option<u32> {
        self.fixed(address).map(u32::from_le_bytes)
    }

    /// Little-endian 64 bits at `address`.
    #[inline]
    pub fn u64(&self, address: u64) -> Option<u64> {
        self.fixed(address).map(u64::from_le_bytes)
    }

    /// A pointer of the process's size at `address`.
    #[inline]
    pub fn ptr(&self, address: u64) -> Option<u64> {
        if self.ptr_size == 8 { self.u64(address) } else { self.u32(address).map(u64::from) }
    }

    /// The pointer at `base + offset`, when the sum does not wrap.
    #[inline]
    pub fn ptr_at(&self, base: u64, offset: u64) -> Option<u64> {
        self.ptr(base.checked_add(offset)?)
    }

    /// UTF-16 text up to a terminator or `max` units, unreadable memory ending it early.
    pub fn utf16z(&self, address: u64, max: usize) -> String {
        let units = (0..max as u64)
            .map_while(|i| self.u16(address.checked_add(i * 2)?).filter(|&u| u != 0))
            .collect::<Vec<_>>();
        String::from_utf16_lossy(&units)
    }

    /// Bytes up to a terminator or `max`, as lossy UTF-8.
    pub fn utf8z(&self, address: u64, max: usize) -> String {
        let bytes =
            (0..max as u64).map_while(|i| self.u8(address.checked_add(i)?).filter(|&b| b != 0)).collect::<Vec<_>>();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn space(parts: &[(u64, &[u8])]) -> (AddressSpace, u64) {
        let mut b = SpaceBuilder::new(8);
        for (start, bytes) in parts {
            let s = b.source(FileMap::owned(bytes.to_vec()));
            b.add(*start, s, 0, bytes.len() as u64);
        }
        b.build()
    }

    #[test]
    fn reads_cross_pieces_and_stop_at_holes() {
        let (s, dropped) = space(&[(0x1000, &[1, 2, 3, 4]), (0x1004, &[5, 6, 7, 8]), (0x2000, &[9])]);
        assert_eq!(dropped, 0);
        assert_eq!(s.u64(0x1000), Some(0x0807060504030201));
        assert_eq!(s.u64(0x1004), None);
        assert_eq!(s.next_readable(0x1008), Some(0x2000));
        assert_eq!(s.bytes(0x1000, 1 << 29), None);
    }

    #[test]
    fn words_stand_at_multiples_and_holes_are_passed_over() {
        let (s, _) = space(&[(0x1000, &[1; 20]), (0x2004, &[2; 20]), (u64::MAX - 15, &[3; 8])]);
        let word = |b: u8| u64::from_le_bytes([b; 8]);
        let all =
            [(0x1000, word(1)), (0x1008, word(1)), (0x2008, word(2)), (0x2010, word(2)), (u64::MAX - 15, word(3))];
        assert_eq!(s.words(0, u64::MAX).collect::<Vec<_>>(), all);
        assert_eq!(s.words(0x1001, 0x2010).collect::<Vec<_>>(), all[1..3]);
    }

    #[test]
    fn parts_end_at_multiples_and_where_memory_does() {
        let full = vec![0; 2 * PART as usize];
        let (s, _) = space(&[(0x1000, &[1; 20]), (3 * PART - 8, &full), (5 * PART - 8, &[2; 16])]);
        let ends = [(3 * PART - 4, 3 * PART), (3 * PART, 4 * PART), (4 * PART, 5 * PART), (5 * PART, 5 * PART + 8)];
        assert_eq!(s.parts(0x1014, u64::MAX).skip(1).collect::<Vec<_>>(), ends[1..]);
        assert_eq!(s.parts(3 * PART - 4, 5 * PART + 1).collect::<Vec<_>>()[..3], ends[..3]);
        assert_eq!(s.parts(0x1002, 0x2000).collect::<Vec<_>>(), [(0x1002, 0x1014)]);
        assert_eq!(s.parts(0x1014, 0x2000).count(), 0);
    }

    #[test]
    fn first_piece_wins_where_they_overlap() {
        let (s, dropped) = space(&[(0x1002, &[1, 1]), (0x1000, &[2; 6]), (0x1005, &[3, 3])]);
        assert_eq!(dropped, 3);
        assert_eq!(s.bytes(0x1000, 7).unwrap(), [2, 2, 1, 1, 2, 2, 3]);
    }

    #[test]
    fn pieces_are_cut_to_their_source() {
        let mut b = SpaceBuilder::new(8);
        let s = b.source(FileMap::owned(vec![7; 16]));
        assert_eq!(b.add(0x1000, s, 8, 100), 8);
        assert_eq!(b.add(0x9000, s, 99, 1), 0);
        assert_eq!(b.add(u64::MAX - 2, s, 0, 16), 2);
        let (space, _) = b.build();
        assert_eq!(space.readable_bytes(), 10);
    }
}
