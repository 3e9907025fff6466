//! `|`: the process of the dump.

use crate::shell::{Command, Example, Group, Needs, Outcome, Prefix, Returns};

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
    returns: Returns::NOTHING,
    run: |ctx, _| {
        let p = &ctx.session()?.dump().process;
        let id = p.pid.map_or_else(|| "?".into(), |p| format!("{p:x}"));
        ctx.out.line(format!(".  0    id: {id}    name: {}", p.name.as_deref().unwrap_or("?")))?;
        Ok(Outcome::Complete)
    },
};
