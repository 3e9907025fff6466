//! Where files the dump lacks are looked for: `.exepath`, `.sympath`, `.symfix`.

use std::path::PathBuf;

use anyhow::Result;

use super::misc::plain;
use crate::dump::images::{FoundBy, Refusal};
use crate::session::Session;
use crate::shell::opaque::show;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Kind, Out, Outcome, Prefix, Request, Returns, Table, Type,
};

/// Image files taken.
const USED: Table = Table::new(
    "images_used",
    &[
        Col::data("path", Type::Path).titled("the file"),
        Col::data("proved", Type::Bool).titled("its identity is proved; else it has the name only"),
    ],
);

/// Image files that are other builds.
const REFUSED: Table = Table::new(
    "images_refused",
    &[Col::data("path", Type::Path).titled("the file"), Col::data("why", Type::Text).titled("what differs")],
);

/// What [`images`] returns.
pub const IMAGES: Returns = Returns::tables(&[&USED, &REFUSED]);

fn used_row((path, how): &(PathBuf, FoundBy)) -> [Cell<'static>; 2] {
    [Cell::text(path.display().to_string()), Cell::Bool(*how == FoundBy::Identity)]
}

fn refused_row(r: &Refusal) -> [Cell<'_>; 2] {
    [Cell::text(r.path.display().to_string()), Cell::text(r.why.as_str())]
}

/// The image files that were taken and refused so far, for data alone.
pub fn images(session: &Session, out: &mut Out) -> std::io::Result<()> {
    let images = &session.dump().images;
    images.used().iter().try_for_each(|u| out.data_row(&USED, &used_row(u)))?;
    images.refused().iter().try_for_each(|r| out.data_row(&REFUSED, &refused_row(r)))
}

/// Folders searched.
const FOLDERS: Table = Table::new(
    "folders",
    &[
        Col::data("path", Type::Path).titled("the folder"),
        Col::data("exists", Type::Bool).titled("there is such a folder"),
    ],
);

const SYMBOL_PATH: Returns = Returns::facts(&[Fact::new("symbol_path", "the symbol path", Type::Path)]);

/// `.exepath`.
pub const EXEPATH: Command = Command {
    help: "Shows or sets the folders (separated by ;) that are searched, besides the dump's own folder and the recorded \
           paths, for images that are not in the dump. Files are taken when their identity matches (timestamp and size, \
           MVID, build id); others are refused, and said so. .exepath+ FOLDER adds one. The dump is read anew.",
    args: &[Arg::pos("FOLDERS", Kind::Rest, "folders; + in front adds").outside().completes_files()],
    examples: &[Example { line: ".exepath+ /opt/app", what: "look there too" }],
    returns: Returns::tables(&[&FOLDERS]).with(&[&IMAGES]),
    run: exepath,
    ..plain("exepath", Prefix::Dot, "folders with assemblies and runtimes the dump lacks")
};

/// `.sympath`.
pub const SYMPATH: Command = Command {
    help: "Shows or sets the symbol path. Its local folders (FOLDER, SRV*FOLDER*URL, cache*FOLDER) are searched for \
           images the dump lacks, for PDBs and split debug files, plainly by name or as symbol stores file them. Without \
           -y it is what _NT_SYMBOL_PATH says. Nothing is ever downloaded.",
    args: &[Arg::pos("PATH", Kind::Rest, "the path; + in front adds").outside().completes_files()],
    examples: &[Example { line: ".sympath SRV*c:\\symbols*https://example", what: "use a local cache" }],
    returns: SYMBOL_PATH,
    run: sympath,
    ..plain("sympath", Prefix::Dot, "symbol path whose local folders are searched for images and symbols")
};

/// `.symfix`.
pub const SYMFIX: Command = Command {
    help: "With a folder, that folder is added to the symbol path; no server is asked.",
    args: &[Arg::pos("FOLDER", Kind::Rest, "local cache").outside().completes_files()],
    returns: SYMBOL_PATH,
    run: |ctx, args| {
        let folder = show(args.text("FOLDER").unwrap_or("")).trim_start_matches('+').trim().to_owned();
        if !folder.is_empty() {
            ctx.settings.symbol_path = join(&ctx.settings.symbol_path, &folder, true);
            ctx.request = ctx.session.map(|_| Request::Reopen);
        }
        ctx.out.datum("symbol_path", &Cell::text(&ctx.settings.symbol_path));
        ctx.out.note("no symbol server is asked; local folders of .sympath are searched")?;
        Ok(Outcome::Complete)
    },
    ..plain("symfix", Prefix::Dot, "accepted: nothing is downloaded")
};

fn join(old: &str, new: &str, add: bool) -> String {
    if add && !old.is_empty() { format!("{old};{new}") } else { new.to_owned() }
}

fn exepath(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = show(args.text("FOLDERS").unwrap_or("").trim());
    if !text.is_empty() {
        let (add, list) = text.strip_prefix('+').map_or((false, &*text), |r| (true, r.trim()));
        let folders = list.split(';').map(str::trim).filter(|f| !f.is_empty()).map(PathBuf::from);
        if !add {
            ctx.settings.image_paths.clear();
        }
        ctx.settings.image_paths.extend(folders);
        ctx.request = ctx.session.map(|_| Request::Reopen);
    }
    let shown: Vec<String> = ctx.settings.image_paths.iter().map(|p| p.display().to_string()).collect();
    ctx.out.note(format!("Executable image search path is: {}", shown.join(";")))?;
    for (path, folder) in ctx.settings.image_paths.iter().zip(&shown) {
        let row = [Cell::text(folder), Cell::Bool(path.exists())];
        match path.exists() {
            true => ctx.out.data_row(&FOLDERS, &row)?,
            false => ctx.out.row_as(&FOLDERS, &row, format!("  {folder}: there is no such folder"))?,
        }
    }
    if let Some(s) = ctx.session {
        for u in s.dump().images.used() {
            let line = format!("  used {} ({})", u.0.display(), how_text(u.1));
            ctx.out.row_as(&USED, &used_row(&u), line)?;
        }
        for r in s.dump().images.refused() {
            let line = format!("  refused {}: {}", r.path.display(), r.why);
            ctx.out.row_as(&REFUSED, &refused_row(&r), line)?;
        }
    }
    Ok(Outcome::Complete)
}

fn how_text(how: FoundBy) -> &'static str {
    match how {
        FoundBy::Identity => "identity proved",
        FoundBy::NameOnly => "by name only",
    }
}

fn sympath(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = show(args.text("PATH").unwrap_or("").trim());
    if !text.is_empty() {
        let (add, path) = text.strip_prefix('+').map_or((false, &*text), |r| (true, r.trim()));
        ctx.settings.symbol_path = join(&ctx.settings.symbol_path, path, add);
        ctx.request = ctx.session.map(|_| Request::Reopen);
    }
    let path = &ctx.settings.symbol_path;
    ctx.out.fact("symbol_path", Cell::text(path), format!("Symbol search path is: {path}"))?;
    Ok(Outcome::Complete)
}
