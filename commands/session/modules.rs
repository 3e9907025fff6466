//! `!for_each_module`: commands once for each module of the process.

use anyhow::Result;

use crate::dump::{Dump, Module};
use crate::shell::expr::pseudo::{checksum, module_names};
use crate::shell::opaque::hide;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns, Table, Type,
};

/// `!for_each_module`.
pub const FOR_EACH_MODULE: Command = Command {
    name: "for_each_module",
    prefix: Prefix::Bang,
    aliases: &["fem", "foreachmodule"],
    group: Group::Scripts,
    summary: "run commands once for each module",
    help: "Runs COMMANDS once for each module, several in quotation marks. In them @#ModuleName stands for its name where \
           blanks stand around it, ${@#ModuleName} anywhere; so do @#ImageName @#LoadedImageName @#MappedImageName \
           @#SymbolFileName @#Base @#End @#Size @#ModuleIndex @#FileVersion @#ProductVersion @#TimeDateStamp @#Checksum \
           @#Flags @#SymbolType. Names of a dump are text: they hold no commands. Without COMMANDS it lists the modules.",
    args: &[Arg::pos("COMMANDS", Kind::Blocks, "what to run")],
    examples: &[
        Example { line: "!for_each_module ? @#Size", what: "how big each is" },
        Example {
            line: "!for_each_module .if ($spat(\"${@#ModuleName}\", \"*clr*\")) {? @#Base}",
            what: "where modules of the runtime are",
        },
    ],
    needs: Needs::Dump,
    returns: Returns::tables(&[&MODULES]),
    run,
};

const MODULES: Table = Table::new(
    "modules",
    &[
        Col::right("Index", "index", 5).of(Type::Number),
        Col::right("Base", "base", 16).of(Type::Address),
        Col::right("End", "end", 16).of(Type::Address),
        Col::left("Module", "module", 0),
    ],
);

/// Numbers of a module are typed text, names are not.
fn fields(dump: &Dump, index: usize, m: &Module, name: &str) -> Vec<(&'static str, String)> {
    let hex = |v: u64| format!("0x{v:x}");
    let version = m.version_text().unwrap_or_default();
    let stamp = m.timestamp.map_or(0, u64::from);
    vec![
        ("@#ModuleName", hide(name)),
        ("@#ImageName", hide(&m.path)),
        ("@#LoadedImageName", hide(&m.path)),
        ("@#MappedImageName", hide(&m.path)),
        ("@#SymbolFileName", hide(m.pdb.as_deref().unwrap_or(&m.path))),
        ("@#Base", hex(m.base)),
        ("@#End", hex(m.base.saturating_add(m.size))),
        ("@#Size", hex(m.size)),
        ("@#ModuleIndex", format!("0n{index}")),
        ("@#FileVersion", version.clone()),
        ("@#ProductVersion", version),
        ("@#TimeDateStamp", hex(stamp)),
        ("@#Checksum", hex(checksum(dump, m.base).map_or(0, u64::from))),
        ("@#Flags", "0x0".to_owned()),
        ("@#SymbolType", "0x0".to_owned()),
    ]
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let text = args.text("COMMANDS").unwrap_or("").trim();
    let names = module_names(dump);
    if text.is_empty() {
        return list(ctx, dump, &names);
    }
    let line = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    let each = dump.modules.iter().zip(&names).enumerate();
    ctx.request = Some(Request::Lines(each.map(|(i, (m, name))| filled(line, &fields(dump, i, m, name))).collect()));
    Ok(Outcome::Complete)
}

fn list(ctx: &mut Ctx<'_>, dump: &Dump, names: &[String]) -> Result<Outcome> {
    let rows = dump.modules.iter().zip(names).enumerate().map(|(i, (m, name))| {
        [Cell::Num(i as u64), Cell::Addr(m.base), Cell::Addr(m.base.saturating_add(m.size)), Cell::text(name)]
    });
    ctx.out.fill(&MODULES, rows)?;
    Ok(if names.is_empty() { Outcome::Empty } else { Outcome::Complete })
}

/// `line` with the fields in their places: between blanks, and in `${...}` anywhere.
fn filled(line: &str, fields: &[(&'static str, String)]) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("@#") {
        let braces = rest[..at].ends_with("${");
        let (before, behind) = rest.split_at(at);
        let end = behind[2..].find(|c: char| !c.is_alphanumeric()).map_or(behind.len(), |e| e + 2);
        let (word, after) = behind.split_at(end);
        let value = fields.iter().find(|f| f.0.eq_ignore_ascii_case(word)).map(|f| f.1.as_str());
        let opens =
            before.is_empty() && out.is_empty() || before.ends_with(|c: char| c.is_whitespace() || "({[,".contains(c));
        let closes = after.is_empty() || after.starts_with(|c: char| c.is_whitespace() || ";)}],".contains(c));
        match value {
            Some(value) if braces && after.starts_with('}') => {
                out.push_str(&before[..before.len() - 2]);
                out.push_str(value);
                rest = &after[1..];
            }
            Some(value) if opens && closes => {
                out.push_str(before);
                out.push_str(value);
                rest = after;
            }
            _ => {
                out.push_str(before);
                out.push_str(word);
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_their_places() {
        let fields = [("@#Base", "0x10".to_owned()), ("@#ModuleName", "clr".to_owned())];
        for (line, want) in [
            (".echo module @#ModuleName ends", ".echo module clr ends"),
            ("@#base", "0x10"),
            ("x@#Base @#Basement ${@#Base}y ${@#No}", "x@#Base @#Basement 0x10y ${@#No}"),
            (".if ( @#Base == coreclr ) { ? @#Base; }", ".if ( 0x10 == coreclr ) { ? 0x10; }"),
            ("(\"${@#ModuleName}\")@#", "(\"clr\")@#"),
        ] {
            assert_eq!(filled(line, &fields), want);
        }
    }
}
