//! What finding the runtime costs, whatever the dump holds: bytes read for each readable byte, and time.
//!
//! `cargo bench --bench discovery` uses dumps of `testdata/`, `CLRSCOPE_DUMPS=FILE:FILE...` others. Each is looked at as it
//! is, with structure alone, and with a share of its words behind the headers overwritten: a little, half, all. The bound
//! is 20 bytes read a byte (a look-up counts 8, a scan what it goes through).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use clrscope::clr::layout::discover::{DiscoverOptions, Provider, discover};
use clrscope::dump::map::FileMap;
use clrscope::dump::{Dump, OpenOptions};
use clrscope::watch::Watch;

/// What stands in front of the memory of a core or a minidump is left whole.
const HEADERS: usize = 1 << 16;

/// The next of a fixed row of random numbers (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Overwrites `share` of 1000 words: with zeros, ones, small numbers, other words of the file.
fn damage(bytes: &mut [u8], share: u64) {
    let mut random = 0x9E37_79B9_7F4A_7C15;
    let words = bytes.len() / 8;
    for at in HEADERS / 8..words {
        let (dice, what) = (next(&mut random) % 1000, next(&mut random));
        if dice >= share {
            continue;
        }
        let value = match what % 5 {
            0 => 0,
            1 => u64::MAX,
            2 => what >> 52,
            3 => what >> 17,
            _ => {
                let from = (what >> 3) as usize % words * 8;
                u64::from_le_bytes(bytes[from..from + 8].try_into().unwrap())
            }
        };
        bytes[at * 8..at * 8 + 8].copy_from_slice(&value.to_le_bytes());
    }
}

fn unpacked(path: &Path) -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dumps");
    let options = OpenOptions { cache_dir: Some(cache), no_images: true, ..OpenOptions::default() };
    Dump::open(path, &options, &Watch::default()).unwrap().unpacked.unwrap_or_else(|| path.to_owned())
}

fn look(path: &Path, what: &str, bytes: Vec<u8>, off: &[Provider]) {
    let options = OpenOptions { no_images: true, ..OpenOptions::default() };
    let dump = match Dump::from_map(path, FileMap::owned(bytes), &options) {
        Ok(dump) => dump,
        Err(e) => return println!("  {what:<16} {e}"),
    };
    let options = DiscoverOptions { disabled: off.to_vec(), ..DiscoverOptions::default() };
    let start = Instant::now();
    let found = discover(&dump, &options);
    let time = start.elapsed();
    let (read, all) = (dump.space.meter().bytes(), dump.space.readable_bytes().max(1));
    let result = found.map_or_else(|e| e.to_string(), |f| f.table.unwrap_or_default());
    let result: String = result.chars().take(70).collect();
    println!(
        "  {what:<16} {:6.2} bytes a byte {:8.1} ms  {result}",
        read as f64 / all as f64,
        time.as_secs_f64() * 1e3
    );
}

fn main() {
    let given = std::env::var("CLRSCOPE_DUMPS").unwrap_or_default();
    let mut paths: Vec<PathBuf> = given.split(':').filter(|p| !p.is_empty()).map(PathBuf::from).collect();
    if paths.is_empty() {
        let names =
            ["linux-x64-3.1-wks-heap.core.zst", "linux-x64-10.0-leak-heap.core.zst", "win-x64-10.0-wks-full.dmp.zst"];
        paths = names.iter().map(|n| Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(n)).collect();
    }
    let tables: Vec<Provider> = Provider::ALL.iter().map(|p| p.1).filter(|p| *p != Provider::Structure).collect();
    for path in paths {
        let path = unpacked(&path);
        let bytes = std::fs::read(&path).unwrap();
        println!("{} ({} MB)", path.file_name().unwrap().to_string_lossy(), bytes.len() >> 20);
        look(&path, "as it is", bytes.clone(), &[]);
        look(&path, "structure alone", bytes.clone(), &tables);
        for (what, share) in [("0.1 % damaged", 1), ("10 % damaged", 100), ("half damaged", 500), ("nonsense", 1000)] {
            let mut damaged = bytes.clone();
            damage(&mut damaged, share);
            look(&path, what, damaged, &[]);
        }
    }
}
