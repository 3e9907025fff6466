//! Seeds out of native code: unwind data, metadata of programs compiled ahead of time, native heaps.

use clrscope::aot::image::{Header, section};
use clrscope::native::image::{Format, Image};
use clrscope::session::Session;

use super::{EACH, MOST, Pieces, Seeds};

const PT_GNU_EH_FRAME: u32 = 0x6474_E550;
/// Length of the functions `fuzz_targets/unwind.rs` looks for.
const FUNCTION: u32 = 0x200;

/// Names, tables that no dump at hand holds.
pub fn made(seeds: &mut Seeds) {
    for name in ["N4llvm3fooEv", "NSt6vectorIiSaIiEE9push_backERKi", "?0Widget@ui@@QEAA@XZ", "$foo@H@@YAXH@Z"] {
        seeds.add("unwind", &[&[6], name.as_bytes()].concat());
    }
    // Unwinding codes of arm64: a header with its epilog, then stp, set_fp, alloc, end.
    let header = 0x20u32 | 1 << 21 | 2 << 27;
    let table: Vec<u8> = (0..6u32).flat_map(|i| [(i * 0x50).to_le_bytes(), 48u32.to_le_bytes()].concat()).collect();
    let codes = [0x81, 0xE1, 0x02, 0xE4, 0xE3, 0xE3, 0xE3, 0xE3];
    seeds.add("unwind", &[&[3], table.as_slice(), &header.to_le_bytes(), &codes].concat());
}

/// What the dump's images and heaps have.
pub fn of_session(seeds: &mut Seeds, session: &Session) {
    let images = (0..session.dump().modules.len()).filter_map(|i| session.native().image(i)).map(|o| &o.image);
    let mut described = 0;
    for image in images {
        match &image.format {
            Format::Elf(elf) if described < EACH => {
                let header = elf.segments.iter().find(|s| s.kind == PT_GNU_EH_FRAME);
                described += header.map_or(0, |h| frames(seeds, session, image, h.address.wrapping_sub(elf.low)));
            }
            Format::Pe(_) if described < EACH => described += functions(seeds, session, image),
            _ => (),
        }
        metadata(seeds, session, image);
    }
    heaps(seeds, session);
}

/// Call frame information by its header at `header`: an entry with what is common to it, moved to where the target looks.
fn frames(seeds: &mut Seeds, session: &Session, image: &Image, header: u64) -> usize {
    let space = &session.dump().space;
    let Some(distance) = image.u32(space, header + 4) else { return 0 };
    let start = (header + 4).wrapping_add_signed(i64::from(distance as i32));
    let bytes = image.section(space, start, 16 * MOST).bytes;
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| Some(u32::from_le_bytes(b.try_into().ok()?)));
    let (mut at, mut found) = (0, 0);
    while let (Some(length), Some(back)) = (word(at), word(at + 4)) {
        let end = at + 4 + length as usize;
        if length == 0 || end > bytes.len() || found >= 4 {
            break;
        }
        if let Some(common) = (at + 4).checked_sub(back as usize).filter(|_| back != 0) {
            let shared = &bytes[common..common + 4 + word(common).unwrap_or(0) as usize];
            let mut own = bytes[at..end].to_vec();
            let place = shared.len() as u32;
            own[4..8].copy_from_slice(&(place + 4).to_le_bytes());
            own[8..12].copy_from_slice(&0u32.wrapping_sub(place + 8).to_le_bytes());
            own[12..16].copy_from_slice(&FUNCTION.to_le_bytes());
            seeds.add("unwind", &[&[0], shared, own.as_slice(), &[0; 4]].concat());
            found += 1;
        }
        at = end;
    }
    found
}

/// Unwind information of x64, for each of four functions.
fn functions(seeds: &mut Seeds, session: &Session, image: &Image) -> usize {
    const EXCEPTIONS: usize = 3;
    let space = &session.dump().space;
    let Format::Pe(pe) = &image.format else { return 0 };
    let Some((table, size)) = pe.directory(EXCEPTIONS) else { return 0 };
    let wanted = 4.min(size / 12);
    for i in 0..wanted {
        let Some(info) = image.u32(space, u64::from(table + 12 * (size / 12 / 4) * i) + 8) else { continue };
        let bytes = image.section(space, u64::from(info), 64).bytes;
        let quarter = FUNCTION / 4;
        let entry = |n: u32| [n * quarter, (n + 1) * quarter, 48].map(u32::to_le_bytes).concat();
        let table: Vec<u8> = (0..4).flat_map(entry).collect();
        seeds.add("unwind", &[&[2], table.as_slice(), &bytes].concat());
    }
    wanted as usize
}

/// Metadata and maps of a program compiled ahead of time, in pieces.
fn metadata(seeds: &mut Seeds, session: &Session, image: &Image) {
    let space = &session.dump().space;
    let end = image.base + image.size;
    let headers = (image.base..end).step_by(8).filter(|&a| space.u32(a) == Some(u32::from_le_bytes(*b"RTR\0")));
    let Some(header) = headers.filter_map(|a| Header::read(space, a)).find(|h| h.section(section::METADATA).is_some())
    else {
        return;
    };
    for id in [section::METADATA, section::STACK_TRACE_MAP, section::INVOKE_MAP, section::TYPE_MAP] {
        let Some(blob) = header.blob(space, id) else { continue };
        for (n, part) in blob.bytes[4.min(blob.bytes.len())..].chunks(MOST / 4).take(EACH).enumerate() {
            seeds.add("native_metadata", &[&[n as u8], part].concat());
        }
    }
}

/// The beginning of each arena's own data and of its first memory.
fn heaps(seeds: &mut Seeds, session: &Session) {
    const ARENA: usize = 2400;
    let Ok(heaps) = session.native_heaps() else { return };
    let space = &session.dump().space;
    let secret = session.dump().auxv.iter().find(|e| e.0 == 25).map_or(0, |e| e.1);
    for arena in heaps.arenas.iter().take(4) {
        let mut p = Pieces::new(space, 2, secret);
        p.add(arena.address, ARENA);
        heaps.memory.iter().take(2).for_each(|m| p.add(m.start, 600));
        seeds.add("native_heaps", &p.1);
    }
}
