//! Cuts seeds for the fuzz targets out of dumps: small parts of what each target reads.
//!
//! `cargo run --example fuzz_seeds -- FOLDER DUMP...` writes `FOLDER/TARGET/seed-...`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../tests/support/make_core.rs"]
mod make_core;
#[path = "../tests/support/make_minidump.rs"]
mod make_minidump;
#[path = "seeds/native.rs"]
mod native;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use clrscope::clr::Clr;
use clrscope::clr::layout::descriptor;
use clrscope::clr::layout::scan::Span;
use clrscope::commands;
use clrscope::dump::{AddressSpace, Dump, OpenOptions};
use clrscope::graph::container::Writer;
use clrscope::graph::pack::{Coding, pack};
use clrscope::session::Session;
use clrscope::watch::{Cancel, Watch};

/// No seed is longer, so that inputs stay quick to run.
const MOST: usize = 4096;
/// Seeds of one kind from one dump.
const EACH: usize = 24;

struct Seeds {
    folder: PathBuf,
    count: usize,
}

impl Seeds {
    fn add(&mut self, target: &str, bytes: &[u8]) {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder).unwrap();
        self.count += 1;
        fs::write(folder.join(format!("seed-{:04}", self.count)), bytes).unwrap();
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("fuzz_seeds FOLDER DUMP...");
    let mut seeds = Seeds { folder: folder.into(), count: 0 };
    made(&mut seeds);
    native::made(&mut seeds);
    for path in args {
        of_dump(&mut seeds, Path::new(&path));
    }
    println!("{} seeds", seeds.count);
}

/// Seeds that no dump holds: command lines, an index file, choices of texts and lines, small dumps with everything.
fn made(seeds: &mut Seeds) {
    for command in commands::ALL {
        command.examples.iter().for_each(|e| seeds.add("command_line", e.line.as_bytes()));
    }
    for line in 0..64u8 {
        seeds.add("dump_text", &[line, line, line / 3, line / 5, line, 1, line.wrapping_mul(7), 3, 200, line]);
    }
    let go = Cancel::default();
    let mut writer = Writer::new(std::io::Cursor::new(Vec::new())).unwrap();
    for (number, coding) in [(2, Coding::Plain), (4, Coding::Delta), (5, Coding::Near)] {
        let values: Vec<u32> = (0..40).map(|i| i * 3 % 17).collect();
        writer.add(number, 40, &pack(&values, coding, &go).unwrap(), &go).unwrap();
    }
    seeds.add("index_file", &writer.finish([0, 0]).unwrap().into_inner());
    for i in 0..40u8 {
        seeds.add(
            "index_file",
            &[[i, 0, 3 * i, i].as_slice(), &[1; 60][..usize::from(i)], &[0, 2, 4, 1, 1, 3]].concat(),
        );
    }
    let mut core = make_core::everything();
    core.align = 16;
    core.segments.iter_mut().for_each(|s| s.3.truncate(0x60));
    seeds.add("elf_core", &core.finish());
    seeds.add("minidump", &small_minidump());
}

fn small_minidump() -> Vec<u8> {
    use make_minidump::{MiniModule, MiniThread, X64};
    let mut m = make_minidump::Mini::new();
    m.system(X64, 2);
    m.misc(4242, 1_699_999_000, 3, 1);
    let (base, timestamp) = (0x1_4000_0000, 0x6543_2100);
    m.modules(&[MiniModule { base, size: 0x2000, name: "a.exe", timestamp, version: [8, 0, 1, 2], pdb: "a.pdb" }]);
    m.unloaded(&[(0x7FF9_0000_0000, 0x1000, "gone.dll")]);
    m.threads(&[MiniThread { id: 101, stack_start: 0x3_0100, stack: vec![0xCC; 0x40], ..MiniThread::default() }]);
    m.thread_names(&[(101, "worker")]);
    m.thread_infos(&[(101, 133_444_736_000_000_000, 20_000_000, 10_000_000, 0x7FF8_0000_2000)]);
    m.exception(101, 0xE043_4352, 0x7FF8_0000_1500, &[0x8013_1500, 0, 0x1F00], &[]);
    m.handles(&[(0x44, "Event", "ready"), (0x48, "File", "")]);
    m.memory_info(&[(0x5000, 0x1000, 0x5000, 0x1000, 4, 0x2_0000), (base, 0x2000, base, 0x1000, 0x20, 0x100_0000)]);
    m.memory32(&[(0x10_0000, vec![0x11; 0x20])]);
    m.memory64(vec![(0x5000, vec![0; 0x40]), (base, vec![0x4D; 0x40])]);
    m.finish()
}

fn of_dump(seeds: &mut Seeds, path: &Path) {
    let dump = Dump::open(path, &OpenOptions::default(), &Watch::default()).unwrap();
    let file = fs::read(dump.unpacked.as_deref().unwrap_or(path)).unwrap();
    if file.starts_with(b"MDMP") {
        seeds.add("minidump", &cut_minidump(&file));
    } else {
        seeds.add("elf_core", &cut_core(&file));
    }
    let session = Session::new(dump, Watch::default());
    native::of_session(seeds, &session);
    let Ok(clr) = session.clr() else { return };
    if clr.ahead().is_some() {
        return;
    }
    session.stat().unwrap();
    handle_table(seeds, clr);
    types(seeds, &session, clr);
    modules(seeds, clr);
    code(seeds, clr);
    let image = Span { base: clr.found.module.base, end: clr.found.module.end };
    let contract = descriptor::find(clr.dump.as_ref(), image);
    if let Some(d) = contract.main {
        descriptors(seeds, clr, d.address);
    }
}

/// The program headers, one of many, and the notes, short.
fn cut_core(file: &[u8]) -> Vec<u8> {
    let mut out = file[..file.len().min(MOST)].to_vec();
    let u64_at = |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().unwrap());
    let table = u64_at(32) as usize;
    // As many headers as leave room for the beginning of the notes.
    let keep = 24u16;
    out.truncate(table + 56 * usize::from(keep));
    out[56..58].copy_from_slice(&keep.to_le_bytes());
    let (offset, size) = (u64_at(table + 8) as usize, (u64_at(table + 32) as usize).min(2500));
    let at = out.len() as u64;
    out.extend(&file[offset..offset + size]);
    out[table + 8..table + 16].copy_from_slice(&at.to_le_bytes());
    out[table + 32..table + 40].copy_from_slice(&(size as u64).to_le_bytes());
    out
}

/// The streams with few records each.
fn cut_minidump(file: &[u8]) -> Vec<u8> {
    let u32_at = |b: &[u8], at: usize| u32::from_le_bytes(b[at..at + 4].try_into().unwrap()) as usize;
    let (count, directory) = (u32_at(file, 8), u32_at(file, 12));
    let mut out = file[..32].to_vec();
    out[12..16].copy_from_slice(&32u32.to_le_bytes());
    out.extend(&file[directory..directory + 12 * count]);
    for i in 0..count {
        let entry = directory + 12 * i;
        let (kind, size, at) = (u32_at(file, entry), u32_at(file, entry + 4), u32_at(file, entry + 8));
        // Header, record and place of the count.
        let (header, record, number) = match kind {
            3 => (4, 48, 0),
            4 => (4, 108, 0),
            9 => (16, 16, 0),
            12 => (16, 32, 8),
            14 => (12, 24, 8),
            16 => (16, 48, 8),
            17 => (12, 64, 8),
            _ => (size.min(256), 0, usize::MAX),
        };
        let kept = size.min(header + 4 * record);
        let place = out.len();
        out.extend(&file[at..at + kept]);
        if number != usize::MAX {
            let records = ((kept - header) / record) as u32;
            out[place + number..place + number + 4].copy_from_slice(&records.to_le_bytes());
        }
        let own = 32 + 12 * i;
        out[own + 4..own + 8].copy_from_slice(&(kept as u32).to_le_bytes());
        out[own + 8..own + 12].copy_from_slice(&(place as u32).to_le_bytes());
    }
    out
}

/// Memory as `fuzz/pieces.rs` reads it.
struct Pieces<'a>(&'a AddressSpace, Vec<u8>, HashSet<u64>);

impl<'a> Pieces<'a> {
    fn new(space: &'a AddressSpace, flags: u8, root: u64) -> Self {
        let narrow = u8::from(space.ptr_size() == 4);
        Self(space, [&[flags | narrow][..], &root.to_le_bytes()].concat(), HashSet::new())
    }

    fn add(&mut self, address: u64, length: usize) {
        let mut bytes = vec![0; length];
        let n = self.0.read(address, &mut bytes);
        if self.2.insert(address) && n > 0 {
            self.1.extend(address.to_le_bytes());
            self.1.extend((n as u16).to_le_bytes());
            self.1.extend(&bytes[..n]);
        }
    }
}

/// The way from the map to the first segments, and a block of each.
fn handle_table(seeds: &mut Seeds, clr: &Clr) {
    let Some(map) = clr.found.gc.handle_table_map else { return };
    let (space, l, ptr) = (clr.space(), clr.layout(), u64::from(clr.ptr_size()));
    let o = |ty, field| l.offset(ty, field).unwrap();
    let at = |base: u64, offset: u64| space.ptr_at(base, offset).unwrap_or(0);
    let mut p = Pieces::new(clr.space(), if clr.found.gc.is_server() { 4 } else { 0 }, map);
    p.add(map, 48);
    let buckets = at(map, o("HandleTableMap", "Buckets"));
    p.add(buckets, 2 * ptr as usize);
    let bucket = at(buckets, 0);
    p.add(bucket, 32);
    let tables = at(bucket, o("HandleTableBucket", "Table"));
    p.add(tables, 2 * ptr as usize);
    let table = at(tables, 0);
    let list = o("HandleTable", "SegmentList");
    p.add(table + list, ptr as usize);
    let segment = at(table, list);
    p.add(segment + o("HandleSegment", "BlockType"), 0x200);
    for field in ["Next", "Owner"] {
        p.add(segment + o("HandleSegment", field), ptr as usize);
    }
    p.add(segment + o("HandleSegment", "UserData"), 0x100);
    p.add(segment + o("HandleSegment", "Handles"), 0x400);
    seeds.add("heap_tables", &p.1);
}

/// Names and GCDescs.
fn types(seeds: &mut Seeds, session: &Session, clr: &Clr) {
    let mut known = HashSet::new();
    for t in session.types().all() {
        let words = t.refs.words();
        if words > 0 && words < 64 && known.insert((words, t.mt.is_array())) && known.len() <= EACH {
            let mut p = Pieces::new(clr.space(), 2, t.mt.address);
            let before = (words + 2) * u64::from(clr.ptr_size());
            p.add(t.mt.address - before, before as usize + 64);
            seeds.add("heap_tables", &p.1);
        }
    }
    let mut names: Vec<String> =
        session.types().all().iter().map(|t| clr.type_name(t.mt.address).to_string()).collect();
    names.sort_by_key(|n| std::cmp::Reverse(n.matches(['<', '[', '+', '*', '&']).count()));
    for name in names.iter().filter(|n| n.len() < 400).take(EACH) {
        seeds.add("type_names", name.as_bytes());
        if let Some(read) = clrscope::clr::types::typename::TypeName::parse(name) {
            seeds.add("type_names", read.reflection().as_bytes());
        }
    }
}

/// The smallest metadata.
fn modules(seeds: &mut Seeds, clr: &Clr) {
    let modules = clr.assemblies().items.iter().map(|a| clr.module(a.module));
    let mut ranges: Vec<(u64, u64)> = modules.filter_map(|m| m.metadata_range(clr)).collect();
    ranges.sort_by_key(|r| r.1);
    for (at, length) in ranges.into_iter().filter(|r| r.1 < 4 * MOST as u64).take(4) {
        if let Some(bytes) = clr.space().bytes(at, length as usize) {
            seeds.add("metadata", &bytes);
            seeds.add("code", &bytes);
            seeds.add("il", &bytes);
            seeds.add("signature", &[&[8], bytes.as_slice(), &[0x15, 0x12, 5, 1, 0x08, 0, 0, 0]].concat());
        }
    }
}

/// Debug information of methods that run.
fn code(seeds: &mut Seeds, clr: &Clr) {
    let code = clr.code();
    let starts = code.starts();
    let step = (starts.len() / EACH).max(1);
    for start in starts.into_iter().step_by(step) {
        let Some(at) = code.at(start) else { continue };
        if let Some(info) = at.debug_info {
            seeds.add("code", &code.bytes(info, 300));
        }
        seeds.add("machine_code", &[start.to_le_bytes().as_slice(), &code.bytes(start, 200)].concat());
        let module = clr.module(at.module);
        let (Some(m), Some(token)) = (module.metadata(clr), at.token) else { continue };
        let row = token & 0x00FF_FFFF;
        if let Some(method) = m.method(row) {
            seeds.add("signature", method.signature);
        }
        let il = clr.il_of_row(&module, m, row).ok().and_then(|f| clr.space().bytes(f.address?, 400));
        il.iter().for_each(|bytes| seeds.add("il", bytes));
    }
}

/// The descriptor's text, a few types and globals of it at a time.
fn descriptors(seeds: &mut Seeds, clr: &Clr, address: u64) {
    let (space, ptr) = (clr.space(), u64::from(clr.ptr_size()));
    let length = space.u32(address + 12).unwrap_or(0) as usize;
    let text = space.ptr(address + 16).and_then(|t| space.bytes(t, length)).unwrap_or_default();
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(&text) else { return };
    let flags = u8::from(ptr == 4);
    for n in 0..EACH {
        let mut part = json.clone();
        for (_, section) in part.as_object_mut().unwrap() {
            if let Some(entries) = section.as_object_mut() {
                let mut i = 0;
                entries.retain(|_, _| {
                    i += 1;
                    i % EACH == n
                });
            }
        }
        let own = part.to_string();
        let bytes = [&[flags][..], own.as_bytes(), &[0], own.as_bytes()].concat();
        if bytes.len() <= 2 * MOST {
            seeds.add("descriptor", &bytes);
        }
    }
}
