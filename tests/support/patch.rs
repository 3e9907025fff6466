//! A copy of a dump whose memory is changed: an ELF core or a Windows minidump with full memory, read here without the
//! reader under test.
#![allow(clippy::unwrap_used, dead_code)]

use std::fs;
use std::ops::Range;
use std::path::Path;

/// A run of memory that the file holds: first address, length, offset in the file.
struct Run {
    start: u64,
    length: u64,
    offset: u64,
}

/// The bytes of a dump file, and where in it memory lies.
pub struct Patch {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    /// Next address of zeros that is not given away yet, for each image asked about.
    given: Vec<(Range<u64>, u64)>,
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().unwrap())
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

/// Where a minidump's stream of `kind` lies.
fn stream(b: &[u8], kind: u32) -> Option<usize> {
    let (count, directory) = (u32_at(b, 8) as usize, u32_at(b, 12) as usize);
    let mut entries = (0..count).map(|i| directory + 12 * i);
    entries.find(|&e| u32_at(b, e) == kind).map(|e| u32_at(b, e + 8) as usize)
}

const MODULE_LIST: u32 = 4;
const MEMORY_64: u32 = 9;

impl Patch {
    /// Reads the (unpacked) dump at `path`.
    pub fn open(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let runs = if bytes.starts_with(b"MDMP") { minidump_runs(&bytes) } else { core_runs(&bytes) };
        Self { bytes, runs, given: Vec::new() }
    }

    /// Writes the copy.
    pub fn save(&self, path: &Path) {
        fs::write(path, &self.bytes).unwrap();
    }

    /// Leaves of the run of a core that begins at `start` the bytes between `kept`, as if the rest were not in the dump.
    pub fn limit(&mut self, start: u64, kept: Range<u64>) {
        let (table, size, count) =
            (u64_at(&self.bytes, 32) as usize, u16_at(&self.bytes, 54) as usize, u16_at(&self.bytes, 56));
        let mut headers = (0..count as usize).map(|i| table + size * i);
        let header = headers.find(|&h| u64_at(&self.bytes, h + 16) == start).unwrap();
        let offset = u64_at(&self.bytes, header + 8) + (kept.start - start);
        let length = kept.end - kept.start;
        for (field, value) in [(8, offset), (16, kept.start), (32, length), (40, length)] {
            self.bytes[header + field..header + field + 8].copy_from_slice(&value.to_le_bytes());
        }
        let run = self.runs.iter_mut().find(|r| r.start == start).unwrap();
        *run = Run { start: kept.start, length, offset };
    }

    /// First address and length of every run inside the addresses.
    pub fn runs(&self, image: &Range<u64>) -> Vec<(u64, u64)> {
        self.runs.iter().filter(|r| image.contains(&r.start)).map(|r| (r.start, r.length)).collect()
    }

    fn place(&self, address: u64, length: usize) -> Option<usize> {
        let inside = |r: &&Run| r.start <= address && address + length as u64 <= r.start + r.length;
        let run = self.runs.iter().find(inside)?;
        Some((run.offset + (address - run.start)) as usize)
    }

    /// Memory at `address`.
    pub fn read(&self, address: u64, length: usize) -> Option<&[u8]> {
        self.place(address, length).map(|at| &self.bytes[at..at + length])
    }

    /// The pointer at `address`.
    pub fn ptr(&self, address: u64) -> Option<u64> {
        self.read(address, 8).map(|b| u64_at(b, 0))
    }

    /// Overwrites memory.
    pub fn write(&mut self, address: u64, what: &[u8]) {
        let at = self.place(address, what.len()).unwrap();
        self.bytes[at..at + what.len()].copy_from_slice(what);
    }

    /// Writes `what` where the image has nothing but zeros, and returns its address. Such places are not used twice.
    pub fn put(&mut self, image: &Range<u64>, what: &[u8]) -> u64 {
        let length = what.len().next_multiple_of(16) as u64 + 16;
        let from = self.given.iter().find(|g| g.0 == *image).map_or(image.start, |g| g.1);
        let address = self.zeros(from..image.end, length).expect("no zeros in the image") + 16;
        self.given.retain(|g| g.0 != *image);
        self.given.push((image.clone(), address + length));
        self.write(address, what);
        address
    }

    /// First run of `length` zeros, aligned, between the addresses.
    fn zeros(&self, range: Range<u64>, length: u64) -> Option<u64> {
        let mut runs: Vec<&Run> = self.runs.iter().collect();
        runs.sort_by_key(|r| r.start);
        for r in runs {
            let (first, last) = (r.start.max(range.start), (r.start + r.length).min(range.end));
            let mut zero = first.next_multiple_of(16);
            let mut at = zero;
            while at + 16 <= last {
                let clean = self.read(at, 16).is_some_and(|b| b.iter().all(|&x| x == 0));
                at += 16;
                if !clean {
                    zero = at;
                } else if at - zero >= length {
                    return Some(zero);
                }
            }
        }
        None
    }

    /// Replaces text of the same length in the memory of an image; returns how often.
    pub fn replace(&mut self, image: &Range<u64>, from: &[u8], to: &[u8]) -> usize {
        assert_eq!(from.len(), to.len());
        let mut count = 0;
        for r in &self.runs {
            let (first, last) = (r.start.max(image.start), (r.start + r.length).min(image.end));
            if first >= last {
                continue;
            }
            let at = (r.offset + (first - r.start)) as usize;
            let bytes = &mut self.bytes[at..at + (last - first) as usize];
            let mut i = 0;
            while let Some(n) = bytes[i..].windows(from.len()).position(|w| w == from) {
                bytes[i + n..i + n + to.len()].copy_from_slice(to);
                (i, count) = (i + n + to.len(), count + 1);
            }
        }
        count
    }

    /// Gives the module at `base` another major version in a minidump's list of modules.
    pub fn set_major_version(&mut self, base: u64, major: u16) {
        let Some(list) = self.bytes.starts_with(b"MDMP").then(|| stream(&self.bytes, MODULE_LIST)).flatten() else {
            return;
        };
        for i in 0..u32_at(&self.bytes, list) as usize {
            let record = list + 4 + 108 * i;
            if u64_at(&self.bytes, record) == base {
                // `VS_FIXEDFILEINFO`: file and product version, the major number in the upper half.
                for at in [record + 34, record + 42] {
                    self.bytes[at..at + 2].copy_from_slice(&major.to_le_bytes());
                }
            }
        }
    }
}

fn core_runs(b: &[u8]) -> Vec<Run> {
    const PT_LOAD: u32 = 1;
    let (table, size, count) = (u64_at(b, 32) as usize, u16_at(b, 54) as usize, u16_at(b, 56));
    // More headers than fit 16 bits: their number is in the first section header.
    let count = if count == 0xFFFF { u32_at(b, u64_at(b, 40) as usize + 44) as usize } else { count as usize };
    let headers = (0..count).map(|i| table + size * i).filter(|&h| u32_at(b, h) == PT_LOAD);
    headers
        .map(|h| Run { start: u64_at(b, h + 16), length: u64_at(b, h + 32), offset: u64_at(b, h + 8) })
        .filter(|r| r.offset + r.length <= b.len() as u64)
        .collect()
}

fn minidump_runs(b: &[u8]) -> Vec<Run> {
    let list = stream(b, MEMORY_64).unwrap();
    let mut offset = u64_at(b, list + 8);
    let mut runs = Vec::new();
    for i in 0..u64_at(b, list) as usize {
        let (start, length) = (u64_at(b, list + 16 + 16 * i), u64_at(b, list + 24 + 16 * i));
        runs.push(Run { start, length, offset });
        offset += length;
    }
    runs
}
