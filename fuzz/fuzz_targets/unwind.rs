//! Unwind data of native images, symbol files and decorated names from arbitrary bytes. The first byte chooses which.
#![no_main]

use clrscope::dump::Arch;
use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;
use clrscope::native::cfi::Cfi;
use clrscope::native::image::{Format, Image, Pe, Section};
use clrscope::native::table::Table;
use clrscope::native::{Context, demangle, minidebug, pdb, unwindinfo, xdata};
use libfuzzer_sys::fuzz_target;

const BASE: u64 = 0x40_0000;

fn context(arch: Arch, ip: u64) -> Context {
    let mut context = Context::new(arch, ip, BASE + 0x80);
    (0..31).for_each(|n| context.set(n, BASE + n as u64 * 8));
    context.set_sp(BASE + 0x80);
    context
}

fuzz_target!(|data: &[u8]| {
    let [choice, data @ ..] = data else { return };
    if choice & 6 == 6 {
        return files(data);
    }
    let arch = if choice & 1 == 0 { Arch::X64 } else { Arch::Arm64 };
    let mut builder = SpaceBuilder::new(8);
    let source = builder.source(FileMap::owned(data.to_vec()));
    builder.add(BASE, source, 0, data.len() as u64);
    let space = builder.build().0;
    let read = |a: u64| space.u64(a);
    let (head, rest) = data.split_at(data.len().min(64));
    if choice & 2 == 0 {
        let whole = Cfi::of_sections(arch, None, Section::whole(BASE, data.to_vec()));
        let header = Some(Section::whole(BASE, head.to_vec()));
        let split = Cfi::of_sections(arch, header, Section::whole(BASE + 64, rest.to_vec()));
        for at in (BASE..BASE + 0x200).step_by(29) {
            for cfi in [&whole, &split] {
                let _ = (cfi.step(&context(arch, at), at, &read), cfi.function(at));
            }
        }
        return;
    }
    let (index, base, size, name) = (0, BASE, data.len() as u64, "a".into());
    let image = Image { index, base, size, name, format: Format::Pe(Pe::default()), file: None };
    let code = xdata::Code { space: &space, image: &image, table: (0, 48), read: &read };
    for at in (BASE..BASE + 0x200).step_by(13) {
        for exact in [false, true] {
            let _ = match arch {
                Arch::X64 => unwindinfo::step(&code, &context(arch, at), at, exact),
                _ => xdata::step(&code, &context(arch, at), at, exact),
            };
        }
    }
});

/// Symbols of an image, a symbol file, a decorated name.
fn files(data: &[u8]) {
    let _ = minidebug::unpack(data);
    let file = FileMap::owned(data.to_vec());
    if pdb::identity(&file).is_ok() {
        let _ = pdb::add(&file, &mut Table::default());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        for prefix in ["_Z", "?"] {
            let _ = demangle::plain(&format!("{prefix}{text}"));
        }
    }
}
