//! Where files the dump lacks are looked for: `.exepath`, `.sympath`, `.symfix`.

use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns};

const BASE: Command = Command {
    name: "",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Session,
    summary: "",
    help: "",
    args: &[],
    examples: &[],
    needs: Needs::Nothing,
    returns: Returns::NOTHING,
    run: |_, _| Ok(Outcome::Complete),
};

/// `.exepath`.
pub const EXEPATH: Command = Command {
    name: "exepath",
    summary: "folders with assemblies and runtimes the dump lacks",
    help: "Shows or sets the folders (separated by ;) that are searched, besides the dump's own folder and the recorded \
           paths, for images that are not in the dump. Files are taken when their identity matches (timestamp and size, \
           MVID, build id); others are refused, and said so. .exepath+ FOLDER adds one. The dump is read anew.",
    args: &[Arg::pos("FOLDERS", Kind::Rest, "folders; + in front adds").completes_files()],
    examples: &[Example { line: ".exepath+ /opt/app", what: "look there too" }],
    run: exepath,
    ..BASE
};

/// `.sympath`.
pub const SYMPATH: Command = Command {
    name: "sympath",
    summary: "symbol path whose local folders are searched for images",
    help: "Shows or sets the symbol path. Its local folders (FOLDER, SRV*FOLDER*URL, cache*FOLDER) are searched for \
           images the dump lacks. Nothing is ever downloaded.",
    args: &[Arg::pos("PATH", Kind::Rest, "the path; + in front adds").completes_files()],
    examples: &[Example { line: ".sympath SRV*c:\\symbols*https://example", what: "use a local cache" }],
    run: sympath,
    ..BASE
};

/// `.symfix`.
pub const SYMFIX: Command = Command {
    name: "symfix",
    summary: "accepted: symbols are not used, nothing is downloaded",
    help: "With a folder, that folder is added to the symbol path; no server is asked.",
    args: &[Arg::pos("FOLDER", Kind::Rest, "local cache").completes_files()],
    run: |ctx, args| {
        let folder = args.text("FOLDER").unwrap_or("").trim_start_matches('+').trim().to_owned();
        if !folder.is_empty() {
            ctx.settings.symbol_path = join(&ctx.settings.symbol_path, &folder, true);
            ctx.request = ctx.session.map(|_| Request::Reopen);
        }
        ctx.out.line("no symbol server is asked; local folders of .sympath are searched for images")?;
        Ok(Outcome::Complete)
    },
    ..BASE
};

fn join(old: &str, new: &str, add: bool) -> String {
    if add && !old.is_empty() { format!("{old};{new}") } else { new.to_owned() }
}

fn exepath(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text("FOLDERS").unwrap_or("").trim();
    if !text.is_empty() {
        let (add, list) = text.strip_prefix('+').map_or((false, text), |r| (true, r.trim()));
        let folders = list.split(';').map(str::trim).filter(|f| !f.is_empty()).map(PathBuf::from);
        if !add {
            ctx.settings.image_paths.clear();
        }
        ctx.settings.image_paths.extend(folders);
        ctx.request = ctx.session.map(|_| Request::Reopen);
    }
    let shown: Vec<String> = ctx.settings.image_paths.iter().map(|p| p.display().to_string()).collect();
    ctx.out.line(format!("Executable image search path is: {}", shown.join(";")))?;
    for missing in ctx.settings.image_paths.clone().iter().filter(|p| !p.exists()) {
        ctx.out.line(format!("  {}: there is no such folder", missing.display()))?;
    }
    if let Some(s) = ctx.session {
        for (path, how) in s.dump().images.used() {
            ctx.out.line(format!("  used {} ({})", path.display(), how_text(how)))?;
        }
        for r in s.dump().images.refused() {
            ctx.out.line(format!("  refused {}: {}", r.path.display(), r.why))?;
        }
    }
    Ok(Outcome::Complete)
}

fn how_text(how: crate::dump::images::FoundBy) -> &'static str {
    match how {
        crate::dump::images::FoundBy::Identity => "identity proved",
        crate::dump::images::FoundBy::NameOnly => "by name only",
    }
}

fn sympath(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text("PATH").unwrap_or("").trim();
    if !text.is_empty() {
        let (add, path) = text.strip_prefix('+').map_or((false, text), |r| (true, r.trim()));
        ctx.settings.symbol_path = join(&ctx.settings.symbol_path, path, add);
        ctx.request = ctx.session.map(|_| Request::Reopen);
    }
    ctx.out.line(format!("Symbol search path is: {}", ctx.settings.symbol_path))?;
    Ok(Outcome::Complete)
}
