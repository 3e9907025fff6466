//! `!dh` and `!lmi`: what the headers of an image say.

use anyhow::{Result, anyhow};

use super::{module_index, tick};
use crate::native::Opened;
use crate::native::headers::{Field, Headers, Part};
use crate::native::symbols;
use crate::shell::banner::utc;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

const FIELDS: Table = Table::new(
    "fields",
    &[
        Col::data("header", Type::Text).titled("the header it stands in"),
        Col::data("value", Type::Hex).titled("its value"),
        Col::data("field", Type::Text).titled("what it is"),
        Col::data("meaning", Type::Text).titled("names of its value or flags"),
        Col::data("time", Type::Time).titled("a time stamp as a moment"),
    ],
);

const PARTS: [Col; 6] = [
    Col::data("name", Type::Text).titled("its name"),
    Col::data("rva", Type::Hex).titled("where it begins, from the base"),
    Col::data("size", Type::Hex).titled("bytes in memory"),
    Col::data("file_offset", Type::Hex).titled("where it begins in the file"),
    Col::data("file_size", Type::Hex).titled("bytes in the file"),
    Col::data("flags", Type::Text).titled("names of its flags"),
];

const DIRECTORIES: Table = Table::new("directories", &PARTS);
const SECTIONS: Table = Table::new("sections", &PARTS);
const DEBUG: Table = Table::new("debug", &PARTS);

const MODULE: Arg =
    Arg::pos("MODULE", Kind::Text, "name of a module, or an address in it").completes_modules().required();

const OF_MODULE: [Fact; 3] = [
    Fact::new("module", "name of the module", Type::Text),
    Fact::new("base", "its base", Type::Address),
    Fact::new("format", "PE or ELF", Type::Text),
];

/// `!dh MODULE`.
pub const DH: Command = Command {
    help: "Shows the file header, the optional header with its data directories, the sections and the debug directory of a PE \
           image, or the header and the segments of an ELF image. They are read from the dump, else from the module's file \
           where one with its identity is at hand (-i, .exepath). Numbers are hexadecimal, addresses count from the \
           module's base. (PSSCOR's !dh is !dumpheap here.)",
    args: &[
        MODULE,
        Arg::flag("f", "the file headers alone"),
        Arg::flag("s", "the sections alone"),
        Arg::flag("a", "all, which is what is shown without options"),
    ],
    examples: &[
        Example { line: "!dh coreclr", what: "the headers of the runtime" },
        Example { line: "!dh -s coreclr", what: "its sections" },
    ],
    needs: Needs::Dump,
    returns: Returns::facts(&OF_MODULE).and(&[&FIELDS, &DIRECTORIES, &SECTIONS, &DEBUG]),
    run: headers,
    ..Command::bare("dh", Prefix::Bang, Group::Memory, "the headers of a module's image")
};

/// The headers of the module that the arguments name.
fn read<'a>(ctx: &mut Ctx<'a>, args: &Args) -> Result<(&'a Opened, Headers)> {
    let index = module_index(ctx, args.text("MODULE").unwrap_or(""))?;
    let (dump, native) = (ctx.session()?.dump(), ctx.session()?.native());
    let opened = native.image(index).ok_or_else(|| anyhow!("the module cannot be read"))?;
    let (name, base) = (&opened.image.name, opened.image.base);
    let headers = Headers::read(&opened.image, &dump.space).ok_or_else(|| {
        anyhow!("the headers of {name} at {base:x} are not in the dump; -i FOLDER or .exepath gives its file")
    })?;
    ctx.out.datum("module", &Cell::text(name));
    ctx.out.datum("base", &Cell::Addr(base));
    ctx.out.datum("format", &Cell::text(headers.format));
    Ok((opened, headers))
}

fn headers(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let (_, headers) = read(ctx, args)?;
    let all = args.has("a") || !(args.has("f") || args.has("s"));
    if all || args.has("f") {
        fields(ctx, &headers)?;
        for d in headers.directories.iter().filter(|d| d.rva != 0 || d.size != 0) {
            let line = format!("{:8X} [{:8X}] address [size] of {} Directory", d.rva, d.size, d.name);
            ctx.out.row_as(&DIRECTORIES, &cells(d), line)?;
        }
    }
    if all || args.has("s") {
        let title = if headers.format == "PE" { "SECTION HEADER" } else { "SEGMENT" };
        for (i, s) in headers.sections.iter().enumerate() {
            section(ctx, title, i + 1, s)?;
        }
    }
    if all && !headers.debug.is_empty() {
        ctx.out.note("")?;
        ctx.out.note("Debug Directories")?;
        ctx.out.note("        Size      RVA  Pointer  Type")?;
        for d in &headers.debug {
            let line = format!("    {:8X} {:8X} {:8X}  {}", d.size, d.rva, d.file_offset.unwrap_or(0), d.name);
            ctx.out.row_as(&DEBUG, &cells(d), line)?;
        }
    }
    Ok(Outcome::Complete)
}

fn cells(p: &Part) -> [Cell<'_>; 6] {
    let hex = |n: Option<u64>| n.map_or(Cell::None, Cell::Hex);
    let flags = Cell::maybe(Some(p.flags.as_str()).filter(|f| !f.is_empty()));
    [Cell::text(&p.name), Cell::Hex(p.rva), Cell::Hex(p.size), hex(p.file_offset), hex(p.file_size), flags]
}

/// A number of a header as a row.
fn row(f: &Field) -> [Cell<'_>; 5] {
    let time = if f.name == "time date stamp" { Cell::Time(f.value) } else { Cell::None };
    [Cell::text(f.header), Cell::Hex(f.value), Cell::text(f.name), Cell::maybe(f.means.as_deref()), time]
}

fn fields(ctx: &mut Ctx<'_>, headers: &Headers) -> Result<()> {
    ctx.out.facts(&[], format!("File Type: {}", headers.means("type").unwrap_or(headers.format)))?;
    let mut last = "";
    for f in &headers.fields {
        if f.header != last {
            last = f.header;
            ctx.out.note(match last {
                "file" => "FILE HEADER VALUES",
                _ => "OPTIONAL HEADER VALUES",
            })?;
        }
        // A version is two numbers: text has them as people say it.
        let version = f.means.as_deref().filter(|_| f.name.ends_with("version"));
        let means = match (&f.means, f.name) {
            _ if version.is_some() => String::new(),
            (Some(m), _) => format!(" ({m})"),
            (None, "time date stamp") => format!(" {}", utc(f.value)),
            (None, _) => String::new(),
        };
        let shown = version.map_or_else(|| format!("{:X}", f.value), str::to_owned);
        ctx.out.row_as(&FIELDS, &row(f), format!("{shown:>8} {}{means}", f.name))?;
    }
    Ok(())
}

fn section(ctx: &mut Ctx<'_>, title: &str, number: usize, s: &Part) -> Result<()> {
    ctx.out.note("")?;
    ctx.out.facts(&[], format!("{title} #{number:X}"))?;
    let mut text = format!("{:>8} name\n{:8X} virtual size\n{:8X} virtual address", s.name, s.size, s.rva);
    text.push_str(&match (s.file_size, s.file_offset) {
        (Some(size), Some(at)) => format!("\n{size:8X} size of raw data\n{at:8X} file pointer to raw data"),
        _ => String::new(),
    });
    for flag in s.flags.split(" | ").filter(|f| !f.is_empty()) {
        text.push_str("\n         ");
        text.push_str(flag);
    }
    Ok(ctx.out.row_as(&SECTIONS, &cells(s), text)?)
}

/// `!lmi MODULE`.
pub const LMI: Command = Command {
    help: "Shows what identifies the image of a module: processor, time stamp, size and checksum of a PE image, the build id of an \
           ELF image, its PDB with GUID and age, and which symbols are used.",
    args: &[MODULE],
    examples: &[Example { line: "!lmi coreclr", what: "the identity of the runtime" }],
    needs: Needs::Dump,
    returns: Returns::facts(&OF_MODULE).and(&[&FIELDS, &IDENTITY]),
    run: lmi,
    ..Command::bare("lmi", Prefix::Bang, Group::Memory, "what identifies the image of a module")
};

const IDENTITY: Table = Table::new(
    "identity",
    &[Col::data("what", Type::Text).titled("what it is"), Col::data("value", Type::Text).titled("its value")],
);

fn symbols_of(kind: symbols::Kind) -> &'static str {
    match kind {
        symbols::Kind::None => "none",
        symbols::Kind::Exports => "exports",
        symbols::Kind::Table => "symbol table",
        symbols::Kind::Pdb => "PDB",
    }
}

fn lmi(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let (opened, headers) = read(ctx, args)?;
    let (dump, native) = (ctx.session()?.dump(), ctx.session()?.native());
    let image = &opened.image;
    let pointer = dump.arch.pointer_size();
    ctx.out.facts(&[], format!("Loaded Module Info: [{}]", image.name))?;
    let mut rows = vec![("Base Address", tick(image.base, pointer))];
    if let Some(m) = dump.modules.get(image.index) {
        rows.push(("Image Name", m.path.clone()));
        rows.extend(m.build_id.as_deref().map(|id| ("Build Id", crate::dump::images::hex(id))));
    }
    let number = |name| headers.value(name);
    let both = |name| number(name).map(|n| format!("{n} ({})", headers.means(name).unwrap_or("?")));
    rows.extend(both("machine").map(|t| ("Machine Type", t)));
    rows.extend(number("time date stamp").map(|t| ("Time Stamp", format!("{t:x} {}", utc(t)))));
    rows.extend(number("size of image").map(|n| ("Size", format!("{n:x}"))));
    rows.extend(number("checksum").map(|n| ("CheckSum", format!("{n:x}"))));
    rows.extend(number("characteristics").map(|n| ("Characteristics", format!("{n:x}"))));
    if let Some(pdb) = native.pdb(opened) {
        rows.push(("PDB", pdb.file.clone()));
        rows.push(("GUID and Age", pdb.key()));
    }
    rows.push((
        "Image File",
        image.file.as_ref().map_or("none: read from the dump".into(), |f| f.path.display().to_string()),
    ));
    rows.push(("Symbol Type", symbols_of(native.symbols(opened).kind).into()));
    for (what, value) in rows {
        let line = format!("{what:>16}: {value}");
        ctx.out.row_as(&IDENTITY, &[Cell::text(what), Cell::text(value)], line)?;
    }
    if ctx.out.wants_data() {
        for f in &headers.fields {
            ctx.out.data_row(&FIELDS, &row(f))?;
        }
    }
    Ok(Outcome::Complete)
}
