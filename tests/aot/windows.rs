//! Programs for Windows: the image of a dump of Linux with the head and the tables that one for Windows has. What the compiler
//! writes behind them is the same on both.

#[path = "../support/make_pdb.rs"]
mod make_pdb;

use std::ops::Range;

use clrscope::clr::Clr;
use clrscope::clr::ahead::CompiledCode;
use clrscope::clr::code::gcinfo::GcInfo;
use clrscope::dump::map::FileMap;
use clrscope::native::classes::MemberType;
use clrscope::native::pdb;
use clrscope::native::table::Table;
use make_pdb::Pdb;

use super::*;

/// Makes the head of the image that of one for Windows, with a table of exceptions and the record of a PDB.
fn as_pe(patch: &mut Patch, image: &Range<u64>, guid: [u8; 16], age: u32, exceptions: (u32, u32)) {
    let mut head = vec![0u8; 0x400];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3C, &[0x80]);
    put(0x80, b"PE\0\0\x64\x86");
    // Bytes of the optional header, whose directories begin at 0x108.
    put(0x94, &[240, 0, 0x22, 0]);
    put(0x98, &[0x0B, 2]);
    put(0xD0, &((image.end - image.start) as u32).to_le_bytes());
    put(0xD4, &0x400u32.to_le_bytes());
    put(0x104, &[16]);
    for (number, rva, size) in [(3, exceptions.0, exceptions.1), (6, 0x300, 28)] {
        put(0x108 + 8 * number, &[rva.to_le_bytes(), size.to_le_bytes()].concat());
    }
    // A record of CodeView, and where it lies.
    put(0x300 + 12, &[2]);
    put(0x300 + 20, &0x340u32.to_le_bytes());
    put(0x340, &[&b"RSDS"[..], &guid, &age.to_le_bytes(), b"D:\\zoo\\zoo.pdb\0"].concat());
    patch.write(image.start, &head);
}

#[test]
fn a_pdb_gives_fields_and_statics() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let (image, module) = image_of(&whole);
    let mut patch = Patch::open(&path);
    let types = whole.clr().unwrap().ahead().unwrap();
    let place = |name: &str| types.type_named(name).unwrap() - image.start;
    let cell = cell_of(&patch, &module, u64::from_str_radix(&fact("staticDelegate"), 16).unwrap());
    let guid = [7; 16];
    as_pe(&mut patch, &image, guid, 3, (0, 0));
    let windows = folder.path().join("windows.core");
    patch.save(&windows);

    let mut file = Pdb::default();
    let (object, string) = (file.declared("Object"), file.declared("String"));
    let (string, this) = (file.pointer(string, true), file.declared("Dyn_Dyn_Plain"));
    let (this, kind) = (file.pointer(this, true), file.enumeration("Dyn_Dyn_Kind", make_pdb::INT));
    let statics = file.structure("__type__NONGCSTATICSDyn_Dyn_Plain", 0, &[("Made", make_pdb::INT, Some(4))]);
    let delegate = file.declared("System_Func_2");
    let delegate = file.pointer(delegate, true);
    let kept = file.class("__type__GCSTATICSDyn_Dyn_Plain", 0, object, &[("Kept", delegate, Some(8))]);
    let kept = file.pointer(kept, false);
    // A struct that is never boxed.
    let both = file.structure("Dyn_Dyn_Both", 8, &[("Count", make_pdb::INT, Some(0)), ("Number", kind, Some(4))]);
    let members = [
        ("Both", both, Some(0x20)),
        ("Text", string, Some(8)),
        ("Next", this, Some(0x10)),
        ("Weight", make_pdb::DOUBLE, Some(0x18)),
        ("__NONGCSTATICS", statics, None),
        ("__GCSTATICS", kept, None),
    ];
    file.class("Dyn_Dyn_Plain", 0x28, object, &members);
    // A number where the MethodTable has a reference: of another build, whatever its identity says.
    file.class("Dyn_Dyn_Refl", 0x28, object, &[("Wrong", make_pdb::INT, Some(8))]);
    // As far away as offsets of two forms can say.
    file.class("Dyn_Dyn_Far", 0x2_0000, object, &[("Far", make_pdb::LONG, Some(0x9000))]);
    file.symbol("??_7Dyn_Dyn_Plain@@6B@", place("Dyn.Plain"));
    file.symbol("??_7Dyn_Dyn_Refl@@6B@", place("Dyn.Refl"));
    file.symbol("??_7String@@6B@", place("System.String"));
    // A class of the runtime, written in C++.
    file.symbol("??_7Dyn_Dyn_Far@@6B@", module.header.address - image.start);
    file.symbol("?__GCSTATICS@Dyn_Dyn_Plain@@", cell - image.start);
    // The number of sections that the header of the image has: two bytes of it are where the numbers of its lists begin.
    file.symbol("?__NONGCSTATICS@Dyn_Dyn_Plain@@", module.header.address - image.start);
    let file = file.finish(guid, 3);
    let at = folder.path().join("zoo.pdb");

    let commands = [("!do", "plain"), ("!do", "refl"), ("!gcroot", "staticDelegate")];
    let commands = commands.map(|(c, n)| format!("{c} {}", fact(n)));
    let bare = ask::ask(&windows, &commands);
    fs::write(&at, &file).unwrap();
    let said = ask::ask(&windows, &commands);
    let field = |name: &str| -> Vec<String> {
        let line = said[0].iter().find(|l| l.split_whitespace().last() == Some(name));
        line.unwrap_or_else(|| panic!("{name}: {said:?}")).split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(field("Text")[3..4], ["System.String"]);
    assert_eq!(field("Next")[2..4], ["10", "Dyn.Plain"]);
    let made = patch.read(module.header.address + 4, 4).unwrap();
    let made = u32::from_le_bytes(made.try_into().unwrap()).to_string();
    for (name, ty, value) in [
        ("Weight", "System.Double", "2.500000"),
        ("Both.Count", "System.Int32", "1"),
        ("Both.Number", "System.Int32", "9"),
        ("Made", "System.Int32", &made),
        ("Kept", "System_Func_2", &fact("staticDelegate")),
    ] {
        let row = field(name);
        let shown = row.iter().any(|c| c.trim_start_matches('0') == value);
        assert!(row.contains(&ty.to_owned()) && shown, "{row:?}");
    }
    assert!(!said[0].join("\n").contains("+0x"), "{said:?}");
    assert!(!said[1].join("\n").contains("Wrong") && said[1].join("\n").contains(" N"), "{said:?}");
    assert!(said[2].join("\n").contains("Dyn.Plain.Kept"), "{said:?}");

    // Of another build, of another link of it: as without.
    for (at_byte, what) in [(12, "guid"), (8, "age")] {
        let mut other = file.clone();
        let info = other.windows(4).position(|w| w == 20_000_404u32.to_le_bytes()).unwrap();
        other[info + at_byte] ^= 0x20;
        if what == "age" {
            let modules = other.windows(4).position(|w| w == 19_990_903u32.to_le_bytes()).unwrap();
            other[modules + 4] ^= 0x20;
        }
        fs::write(&at, &other).unwrap();
        assert_eq!(ask::ask(&windows, &commands), bare, "{what}");
    }

    let mut random = 0x9E37_79B9_97F4_A7C5_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    let used: Vec<usize> = (0..file.len()).filter(|&i| file[i] != 0).collect();
    for round in 0..2000 {
        let mut damaged = file.clone();
        for _ in 0..1 + next(8) {
            damaged[used[next(used.len())] + next(4)] = next(256) as u8;
        }
        damaged.truncate(if round % 8 == 0 { next(file.len()) } else { file.len() });
        let map = FileMap::owned(damaged);
        let _ = (pdb::identity(&map), pdb::classes(&map));
    }
}

#[test]
fn classes_and_symbols_of_a_pdb_that_a_linker_made() {
    let file = FileMap::owned(unpacked(&testdata("zoo", "pdb.zst")));
    let identity = pdb::identity(&file).unwrap();
    // As the image that was linked with it has them.
    assert_eq!(identity.guid[..8], [0x50, 0x12, 0x15, 0x63, 0x89, 0x3F, 0x79, 0xB6]);
    assert_eq!(identity.ages, (Some(1), 1));
    let classes = pdb::classes(&file).unwrap();
    let members = |name: &str| -> Vec<(String, u64, MemberType)> {
        classes[name].iter().map(|m| (m.name.to_string(), m.offset, m.ty.clone())).collect()
    };
    let int = || MemberType::Number(5, 4, "".into());
    let node = || MemberType::Reference("Zoo_Zoo_Node".into());
    let expected = [
        ("Next", 8, node()),
        ("Text", 16, MemberType::Reference("String".into())),
        ("Weight", 24, MemberType::Number(4, 8, "".into())),
        ("Colour", 32, int()),
        ("Place", 36, MemberType::Class("Zoo_Zoo_Point".into())),
    ];
    assert_eq!(members("Zoo_Zoo_Node"), expected.map(|(n, at, ty)| (n.to_owned(), at, ty)));
    assert_eq!(members("Zoo_Zoo_Point"), [("X".to_owned(), 0, int()), ("Y".to_owned(), 4, int())]);
    let all = MemberType::Reference("__Array<Zoo_Zoo_Node>".into());
    assert_eq!(members("__type__GCSTATICSZoo_Zoo_Node"), [("All".to_owned(), 8, all)]);
    let mut table = Table::default();
    pdb::add(&file, &mut table).unwrap();
    let table = table.finish();
    let symbols: Vec<(u64, &str)> = table.iter().map(|r| (r.rva, r.name)).collect();
    let expected = [
        (0x2040, "??_7Object@@6B@"),
        (0x2080, "??_7String@@6B@"),
        (0x2100, "??_7Zoo_Zoo_Node@@6B@"),
        (0x2180, "??_7Boxed_Zoo_Zoo_Point@@6B@"),
        (0x2200, "?__GCSTATICS@Zoo_Zoo_Node@@"),
    ];
    assert_eq!(symbols, expected);
}

/// Functions of the image with what lies behind the unwind information of each.
fn tables(entries: &[(u64, u64, Vec<u8>)], at: u32) -> (u32, Vec<u8>) {
    let size = 12 * entries.len() as u32;
    let (mut table, mut data): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    for (i, (begin, end, behind)) in entries.iter().enumerate() {
        let info = at + size + data.len() as u32;
        table.extend([*begin as u32, *end as u32, info].iter().flat_map(|w| w.to_le_bytes()));
        // Some allocations of the prologue; every third function has a handler, which lies at a multiple of four.
        let (codes, handler) = (i % 4, i % 3 == 0);
        data.extend([1 | u8::from(handler) << 3, 8, codes as u8, 0]);
        data.extend([4, 2].repeat(codes));
        if handler {
            data.resize(data.len().next_multiple_of(4) + 4, 0);
        }
        data.extend(behind);
        data.resize(data.len().next_multiple_of(4), 0);
    }
    table.extend(data);
    (size, table)
}

#[test]
fn gc_information_lies_behind_unwind_information() {
    let (folder, path) = whole_copy();
    let whole = session(&path);
    let (image, _) = image_of(&whole);
    let clr = whole.clr().unwrap();
    let (ahead, native) = (clr.ahead().unwrap(), clr.native());
    let starts = ahead.method_starts();
    // Main bodies, each with its funclets behind it.
    let mut functions: Vec<(u64, u64)> = Vec::new();
    for &start in &starts {
        let mut at = start;
        while let Some(code) = ahead.code_at(native, at).filter(|c| c.start == start) {
            functions.push(code.function);
            at = code.function.1;
        }
    }
    functions.sort_unstable();
    functions.dedup();
    let mut data: Vec<u64> = functions.iter().map(|f| native.language_data_at(f.0).unwrap()).collect();
    data.sort_unstable();
    let mut patch = Patch::open(&path);
    let entries: Vec<(u64, u64, Vec<u8>)> = functions
        .iter()
        .map(|&(begin, end)| {
            let at = native.language_data_at(begin).unwrap();
            let next = data[data.partition_point(|&d| d <= at)..].first().copied().unwrap_or(at + 64);
            // A funclet has its kind alone.
            let main = ahead.code_at(native, begin).unwrap().start == begin;
            let behind = patch.read(at, if main { (next - at) as usize } else { 1 }).unwrap();
            (begin - image.start, end - image.start, behind.to_vec())
        })
        .collect();
    // In the place of the native code.
    let at = 0x8000;
    let (size, bytes) = tables(&entries, at);
    assert!(image.start + u64::from(at) + (bytes.len() as u64) < ahead.code_ranges()[0].0);
    for (i, page) in bytes.chunks(0x1000).enumerate() {
        patch.write(image.start + u64::from(at) + 0x1000 * i as u64, page);
    }
    as_pe(&mut patch, &image, [7; 16], 1, (at, size));
    let windows = folder.path().join("windows.core");
    patch.save(&windows);

    let made = session(&windows);
    let other = made.clr().unwrap();
    let ours = other.ahead().unwrap();
    let mut funclets = 0;
    for &(begin, _) in &functions {
        let expected = ahead.code_at(native, begin).unwrap();
        let found = ours.code_at(other.native(), begin).unwrap();
        let alike = |c: &CompiledCode| (c.start, c.function, c.clauses, c.filter, c.image);
        assert_eq!(alike(&found), alike(&expected), "{begin:x}");
        funclets += usize::from(found.start != begin);
    }
    assert!(funclets > 100, "{funclets}");
    for &start in &starts {
        let info = |clr: &Clr| clr.code().gc_info(&clr.code().at(start).unwrap());
        let (expected, found) = (info(clr).unwrap(), info(other).unwrap());
        let lives = |g: &GcInfo| -> Vec<_> { g.safe_points.iter().map(|&p| g.live(p, Stop::Return)).collect() };
        let said = |g: &GcInfo| (g.header.clone(), g.safe_points.clone(), g.slots.clone(), lives(g));
        assert_eq!(said(&found), said(&expected), "{start:x}");
        assert_eq!(ours.code_length(other.native(), start), ahead.code_length(native, start), "{start:x}");
    }
}
