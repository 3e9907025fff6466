//! What it costs to read native heaps: the walk, looking up words, reachability.
//!
//! `cargo bench --bench nativeheaps [BLOCKS]` makes a program of `testdata/native/many.c` with the machine's `cc`, dumps it with
//! `gcore` (package gdb) and measures; a million blocks unless a number says otherwise. `CLRSCOPE_BIG=CORE` takes a core that
//! is there. Without compiler or gcore it says that it skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/timing.rs"]
mod timing;

use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clrscope::dump::{Dump, OpenOptions};
use clrscope::native::heaps::{self, Block, Lookups, NativeHeaps, State, reach};
use clrscope::watch::Watch;
use timing::median;

const ROUNDS: usize = 5;
const WORDS: usize = 16 << 20;

/// A core of the program with so many blocks, or why there is none.
fn made(blocks: &str, folder: &Path) -> Result<PathBuf, &'static str> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/native/many.c");
    let program = folder.join("many");
    let built = Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status();
    built.ok().filter(|s| s.success()).ok_or("cc is not there")?;
    let mut child = Command::new(&program).arg(blocks).stdout(Stdio::piped()).spawn().map_err(|_| "it does not run")?;
    let mut ready = [0; 6];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let prefix = folder.join("many.core");
    let pid = child.id().to_string();
    let dumped =
        Command::new("gcore").arg("-o").arg(&prefix).arg(&pid).stdout(Stdio::null()).stderr(Stdio::null()).status();
    child.kill().ok();
    child.wait().ok();
    dumped.ok().filter(|s| s.success()).ok_or("gcore is not there")?;
    Ok(folder.join(format!("many.core.{pid}")))
}

fn main() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let blocks = std::env::args().nth(1).filter(|a| a.bytes().all(|b| b.is_ascii_digit())).unwrap_or("1000000".into());
    let core = match std::env::var_os("CLRSCOPE_BIG") {
        Some(file) => PathBuf::from(file),
        None => match made(&blocks, folder.path()) {
            Ok(core) => core,
            Err(why) => return println!("skipped: {why}"),
        },
    };
    let watch = Watch::default();
    let dump = Dump::open(&core, &OpenOptions::default(), &watch).expect("the core opens");
    let read = || heaps::read(&dump, &[], &watch).expect("nobody interrupts");
    let heaps = read();
    println!("{} blocks, {} bytes, {}", heaps.blocks.len(), heaps.totals().system, heaps.partial().unwrap_or_default());
    let time = median(ROUNDS, || {
        black_box(read());
    });
    println!("read            {:8.1} ms  {:6.1} ns a chunk", time * 1e3, time * 1e9 / heaps.blocks.len() as f64);
    println!("table           {:8.1} bytes a block", heaps.blocks.memory() as f64 / heaps.blocks.len() as f64);
    lookups(&heaps);
    let roots = reach::roots(&dump, &heaps, &[]);
    let mut reached = 0;
    let time = median(ROUNDS, || {
        let all = reach::reached(&dump, &heaps, &roots, reach::registers(&dump), &watch).expect("nobody interrupts");
        reached = all.iter().filter(|r| **r).count();
    });
    println!("reachability    {:8.1} ms  {reached} blocks reached", time * 1e3);
}

/// Words of which every eighth points to a block, in no order.
fn lookups(heaps: &NativeHeaps) {
    let used: Vec<u64> = heaps.blocks.list().iter().filter(|b| b.state() == State::Used).map(Block::address).collect();
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 20
    };
    let words: Vec<u64> =
        (0..WORDS).map(|i| if i % 8 == 0 { used[next() as usize % used.len()] } else { next() }).collect();
    let time = median(ROUNDS, || {
        black_box(words.iter().filter(|w| heaps.blocks.holding(**w).is_some()).count());
    });
    println!("look-ups        {:8.1} ns a word, an eighth of them hits", time * 1e9 / WORDS as f64);
    let mut found = Vec::with_capacity(WORDS);
    let time = median(ROUNDS, || {
        found.clear();
        let mut lookups = Lookups::new(&heaps.blocks);
        words.iter().for_each(|w| lookups.push(*w, &mut found));
        lookups.finish(&mut found);
        black_box(found.len());
    });
    println!("                {:8.1} ns a word, the same as scans ask: many at once", time * 1e9 / WORDS as f64);
    let hits: Vec<u64> = words.iter().copied().step_by(8).collect();
    let time = median(ROUNDS, || {
        black_box(hits.iter().filter(|w| heaps.blocks.holding(**w).is_some()).count());
    });
    println!("                {:8.1} ns a word, all of them hits", time * 1e9 / hits.len() as f64);
}
