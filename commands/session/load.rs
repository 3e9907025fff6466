//! Commands scripts begin with in other debuggers: accepted, answered with what is in the dump.

use anyhow::Result;

use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// Whatever follows is not looked at.
const IGNORED: &[Arg] = &[Arg::pos("TEXT", Kind::Rest, "ignored")];

const RUNTIME: Returns = Returns::facts(&[Fact::new("runtime", "path of the .NET runtime in the dump", Type::Text)]);

const fn accepted(name: &'static str, summary: &'static str) -> Command {
    Command {
        name,
        prefix: Prefix::Dot,
        aliases: &[],
        group: Group::Session,
        summary,
        help: "Accepted so that scripts of other debuggers run: nothing has to be loaded here. The answer says which \
               runtime the dump holds.",
        args: IGNORED,
        examples: &[],
        needs: Needs::Nothing,
        returns: RUNTIME,
        run: |ctx, _| answer(ctx, ""),
    }
}

/// `.loadby`.
pub const LOADBY: Command = Command {
    args: &[Arg::pos("TEXT", Kind::Rest, "extension and module, as in `sos coreclr`")],
    examples: &[Example { line: ".loadby sos coreclr", what: "what scripts begin with" }],
    run: loadby,
    ..accepted("loadby", "accepted: nothing needs loading")
};
/// `.load`.
pub const LOAD: Command = accepted("load", "accepted: nothing needs loading");
/// `.unload`.
pub const UNLOAD: Command = accepted("unload", "accepted: nothing is loaded");
/// `.cordll`.
pub const CORDLL: Command = accepted("cordll", "accepted: no data access library is used");
/// `.chain`.
pub const CHAIN: Command = accepted("chain", "accepted: the commands are built in");
/// `.reload`.
pub const RELOAD: Command = accepted("reload", "accepted: no symbols are used");
/// `.lines`.
pub const LINES: Command = accepted("lines", "accepted: no symbols are used");
/// `.prefer_dml`.
pub const DML: Command = accepted("prefer_dml", "accepted: no links are printed");
/// `!sym`.
pub const SYM: Command = Command { prefix: Prefix::Bang, ..accepted("sym", "accepted: no symbols are used") };

fn answer(ctx: &mut Ctx<'_>, lead: &str) -> Result<Outcome> {
    let clr = ctx.session.map(|s| s.clr());
    let (path, what) = match &clr {
        Some(Ok(clr)) => {
            let path = clr.found.module.path.as_str();
            (Some(path), format!("this dump has {path}, read without it"))
        }
        Some(Err(why)) => (None, format!("{why}")),
        None => (None, "no dump is open".into()),
    };
    ctx.out.fact("runtime", Cell::maybe(path), format!("{lead}nothing to load; {what}"))?;
    Ok(Outcome::Complete)
}

/// The module named must be the runtime that is there: hands used to .NET Framework type `mscorwks` or `clr`.
fn loadby(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let text = args.text("TEXT").unwrap_or("");
    let wanted = text.split_whitespace().nth(1).unwrap_or("").to_lowercase();
    let here = ctx.session.and_then(|s| s.clr().ok()).map(|c| c.found.module.path.to_lowercase()).unwrap_or_default();
    let stem = wanted.trim_end_matches(".dll").trim_end_matches(".so");
    let file = here.rsplit(['/', '\\']).next().unwrap_or("");
    let fits =
        wanted.is_empty() || file.trim_start_matches("lib").split('.').next() == Some(stem.trim_start_matches("lib"));
    let lead =
        if fits || here.is_empty() { String::new() } else { format!("{wanted} is not in this dump: it has {file}; ") };
    answer(ctx, &lead)
}
