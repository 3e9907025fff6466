//! `|`: the process of the dump.

use crate::shell::{Cell, Command, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Type};

/// `|`.
pub const PROCESS: Command = Command {
    name: "|",
    prefix: Prefix::Plain,
    aliases: &[],
    group: Group::Memory,
    summary: "the process of the dump",
    help: "A dump has one process: its id and name.",
    args: &[],
    examples: &[Example { line: "|", what: "id and name" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[
        Fact::new("number", "number of the process: a dump has one", Type::Number),
        Fact::new("pid", "process id", Type::Number),
        Fact::new("name", "name of the process", Type::Text),
    ]),
    run: |ctx, _| {
        let p = &ctx.session()?.dump().process;
        let id = p.pid.map_or_else(|| "?".into(), |p| format!("{p:x}"));
        let line = format!(".  0    id: {id}    name: {}", p.name.as_deref().unwrap_or("?"));
        let pid = p.pid.map_or(Cell::None, Cell::Num);
        let number = ("number", Cell::Num(0));
        ctx.out.facts(&[number, ("pid", pid), ("name", Cell::maybe(p.name.as_deref()))], line)?;
        Ok(Outcome::Complete)
    },
};
