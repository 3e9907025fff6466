//! `!dlls`: the loaded images with their entry points.

use anyhow::Result;

use super::{module_index, tick};
use crate::shell::expr::pseudo::entry;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

const IMAGES: Table = Table::new(
    "images",
    &[
        Col::data("base", Type::Address).titled("its base"),
        Col::data("entry_point", Type::Address).titled("its entry point, where its header is at hand and names one"),
        Col::data("size", Type::Hex).titled("bytes it takes in memory"),
        Col::data("version", Type::Text).titled("its file version"),
        Col::data("path", Type::Path).titled("its path"),
    ],
);

/// `!dlls`.
pub const DLLS: Command = Command {
    help: "Lists the images of the process with base, entry point and size, by address. The loader's own lists, with counts of \
           references and the order of initialisation, are not read.",
    args: &[
        Arg::opt("c", Kind::Text, "only the module of this name or with this address").completes_modules(),
        Arg::flag("v", "file versions too"),
    ],
    examples: &[
        Example { line: "!dlls", what: "all images" },
        Example { line: "!dlls -v -c coreclr", what: "the runtime alone" },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&IMAGES]),
    run,
    ..Command::bare("dlls", Prefix::Bang, Group::Memory, "the loaded images with their entry points")
};

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let only = args.text("c").map(|t| module_index(ctx, t)).transpose()?;
    let pointer = dump.arch.pointer_size();
    let chosen = dump.modules.iter().enumerate().filter(|(i, _)| only.is_none_or(|o| o == *i));
    for (_, m) in chosen {
        let entry = entry(dump, m.base).filter(|&e| e != m.base);
        let version = m.version_text();
        let at = entry.map_or_else(|| "?".into(), |e| tick(e, pointer));
        let mut text = format!("{}: {}\n", tick(m.base, pointer), m.path);
        text.push_str(&format!("      Base   {}  EntryPoint  {at}  Size        {:08x}", tick(m.base, pointer), m.size));
        if let Some(version) = version.as_deref().filter(|_| args.has("v")) {
            text.push_str(&format!("\n      Version  {version}"));
        }
        let entry = entry.map_or(Cell::None, Cell::Addr);
        let path = Cell::text(m.path.as_str());
        ctx.out.row_as(&IMAGES, &[Cell::Addr(m.base), entry, Cell::Hex(m.size), Cell::maybe(version), path], text)?;
    }
    Ok(if dump.modules.is_empty() { Outcome::Empty } else { Outcome::Complete })
}
