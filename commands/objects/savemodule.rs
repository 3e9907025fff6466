//! `!savemodule`: writes the image of a module to a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};

use crate::clr::image::pe::{Layout, PeInfo};
use crate::session::Session;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!savemodule ADDR FILE`.
pub const SAVEMODULE: Command = Command {
    name: "savemodule",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Objects,
    summary: "write the image of a module to a file",
    help: "ADDR is the base of a PE image (lm, !clrmodules), or a Module of the runtime. The file has headers and sections \
           where they lie in a file. What the process changed of them stays changed, and pages the dump lacks become zeros: \
           how many bytes that are is said. Dumps of the heap alone hold little of their images.",
    args: &[
        Arg::pos("ADDR", Kind::Address, "base of the image, or Module").required(),
        Arg::pos("FILE", Kind::File, "the file; replaced").required(),
    ],
    examples: &[Example { line: "!savemodule $MODULE saved.dll", what: "the image of a module" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("image_base", "base of the image", Type::Address),
        Fact::new("sections", "sections of the image", Type::Count),
        Fact::new("file", "the file", Type::Path),
        Fact::new("size", "bytes written", Type::Bytes),
        Fact::new("missing", "bytes of them that the dump lacks", Type::Bytes),
    ])
    .and(&[&SECTIONS]),
    run: savemodule,
};

/// Sections.
const SECTIONS: Table = Table::new(
    "sections",
    &[
        Col::data("section", Type::Number).titled("its number"),
        Col::data("rva", Type::Hex).titled("distance from the base in memory"),
        Col::data("virtual_size", Type::Hex).titled("bytes in memory"),
        Col::data("file_offset", Type::Hex).titled("where it lies in the file"),
        Col::data("file_size", Type::Hex).titled("bytes in the file"),
    ],
);

/// Largest file written, in bytes.
const MAX_FILE: u64 = 2 << 30;
/// Bytes read at once.
const STEP: usize = 1 << 16;

fn savemodule(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let given = args.number("ADDR").unwrap_or(0);
    let base = image_of(session, given);
    let image = PeInfo::in_memory(&session.dump().space, base);
    let image = image.map_err(|why| anyhow!("no image is saved from {given:x}: {why}"))?;
    let path = Path::new(args.text("FILE").unwrap_or(""));
    let parts = image.sections();
    let end = parts.iter().map(|p| u64::from(p.raw) + u64::from(p.raw_size)).max().unwrap_or(0);
    if end > MAX_FILE {
        bail!("the headers at {base:x} ask for a file of {end} bytes");
    }
    ctx.out.datum("image_base", &Cell::Addr(base));
    ctx.out.fact("sections", Cell::Num(parts.len() as u64), format!("{} sections in file", parts.len()))?;
    for (n, p) in parts.iter().enumerate() {
        let line = format!(
            "section {n} - VA={:x}, VASize={:x}, FileAddr={:x}, FileSize={:x}",
            p.rva, p.size, p.raw, p.raw_size
        );
        let hex = |v: u32| Cell::Hex(v.into());
        let cells = [Cell::Num(n as u64), hex(p.rva), hex(p.size), hex(p.raw), hex(p.raw_size)];
        ctx.out.row_as(&SECTIONS, &cells, line)?;
    }
    // Where each stretch of the file lies in memory: headers, then sections in order of the file.
    let mapped = image.layout == Layout::Mapped;
    let mut stretches = vec![(0u64, 0u64, u64::from(image.headers()))];
    stretches.extend(parts.iter().filter(|p| p.raw_size > 0).map(|p| {
        let from = if mapped { p.rva } else { p.raw };
        (u64::from(p.raw), u64::from(from), u64::from(p.raw_size))
    }));
    stretches.sort_unstable();
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    let (size, missing) = write(session, base, &stretches, &mut BufWriter::new(file))
        .with_context(|| format!("cannot write {}", path.display()))?;
    let shown = path.display().to_string();
    let facts = [("file", Cell::text(&shown)), ("size", Cell::Num(size)), ("missing", Cell::Num(missing))];
    ctx.out.facts(&facts, format!("Saved module to {shown}"))?;
    Ok(match missing {
        0 => Outcome::Complete,
        _ => Outcome::Partial(format!("{missing} of {size} bytes are not in the dump and are zeros in the file")),
    })
}

/// The base of the image that an address stands for: of a Module of the runtime, else the address itself.
fn image_of(session: &Session, address: u64) -> u64 {
    let Ok(clr) = session.clr() else { return address };
    let known = clr.assemblies().items.iter().any(|a| a.module == address);
    if known { clr.module(address).image_base } else { address }
}

/// Writes the stretches, zeros between them; how many bytes that were, and how many were not at hand.
fn write(session: &Session, base: u64, stretches: &[(u64, u64, u64)], out: &mut impl Write) -> Result<(u64, u64)> {
    let space = &session.dump().space;
    let (mut at, mut missing) = (0u64, 0u64);
    let mut buffer = vec![0u8; STEP];
    for &(start, from, length) in stretches {
        let mut pad = start.saturating_sub(at);
        while pad > 0 {
            let n = pad.min(STEP as u64) as usize;
            buffer.fill(0);
            out.write_all(buffer.get(..n).unwrap_or(&[]))?;
            (at, pad) = (at + n as u64, pad - n as u64);
        }
        // Damaged headers may have sections one over the other: what was written stays.
        let mut done = at.saturating_sub(start).min(length);
        while done < length {
            session.watch.cancel.check()?;
            let n = (length - done).min(STEP as u64) as usize;
            let part = buffer.get_mut(..n).unwrap_or(&mut []);
            part.fill(0);
            missing += fill(space, base.wrapping_add(from).wrapping_add(done), part);
            out.write_all(part)?;
            (at, done) = (at + n as u64, done + n as u64);
        }
    }
    out.flush()?;
    Ok((at, missing))
}

/// Reads what there is of memory; how many bytes there are not.
fn fill(space: &crate::dump::AddressSpace, start: u64, buffer: &mut [u8]) -> u64 {
    let (mut at, mut missing) = (0usize, 0u64);
    while at < buffer.len() {
        let here = start.wrapping_add(at as u64);
        let n = space.read(here, buffer.get_mut(at..).unwrap_or(&mut []));
        at += n;
        if at >= buffer.len() {
            break;
        }
        let here = start.wrapping_add(at as u64);
        let next = space.next_readable(here).filter(|&next| next > here).map_or(u64::MAX, |next| next - here);
        let gap = next.min((buffer.len() - at) as u64);
        (at, missing) = (at + gap as usize, missing + gap);
    }
    missing
}
