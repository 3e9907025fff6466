//! `!list`: commands once for each element of a linked list in memory.

use anyhow::{Result, bail};

use crate::commands::memory::list::{End, follow};
use crate::shell::{Arg, Args, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Returns};

/// Longest list gone through; the answer says when there is more.
const MOST: u64 = 100_000;

/// `!list`.
pub const LIST: Command = Command {
    name: "list",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Scripts,
    summary: "run commands once for each element of a linked list in memory",
    help: "Goes from the element at ADDR to the next one, whose address stands in it, until the list comes back to an element \
           it had, or ends at 0. For each the commands of -x run, several in quotation marks: @$extret in them is the \
           element's address; without it the address is put behind the command, and the text of -a behind that.\n\n\
           -t says where in an element the next one's address stands: a number, or a field as the debuggers write it. As there are no \
           symbols, of a field only the name is looked at: Blink, Prev and Previous are the second pointer, all others the \
           first.",
    args: &[
        Arg::pos("ADDR", Kind::Address, "the first element").required(),
        Arg::opt("t", Kind::Text, "TYPE.FIELD or a number: where the link stands"),
        Arg::opt("x", Kind::Text, "commands for each element; dp without this option"),
        Arg::opt("a", Kind::Text, "text behind the commands"),
        Arg::flag("e", "print the commands too"),
        Arg::opt("m", Kind::Count, "so many elements at most"),
    ],
    examples: &[
        Example { line: "!list -x \"dp\" -a \"L2\" -m 2 @$csp", what: "what a pointer refers to, and so on" },
        Example { line: "!list -m 1 -x \"? @$extret; ? poi(@$extret)\" @$csp", what: "several commands for each" },
    ],
    needs: Needs::Dump,
    returns: Returns::NOTHING,
    run,
};

/// How far the link stands behind the start of an element.
fn offset(field: Option<&str>, pointer: u64) -> Result<u64> {
    let Some(field) = field else { return Ok(0) };
    if !field.contains('.') {
        let digits = field.strip_prefix("0x").unwrap_or(field);
        if let Ok(n) = u64::from_str_radix(digits, 16) {
            return Ok(n);
        }
        bail!("expected a number or TYPE.FIELD: -t {field}");
    }
    let name = field.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
    Ok(if ["blink", "prev", "previous"].contains(&name.as_str()) { pointer } else { 0 })
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let space = &ctx.session()?.dump().space;
    let pointer = u64::from(space.ptr_size());
    let offset = offset(args.text("t"), pointer)?;
    let most = args.number("m").unwrap_or(MOST).min(MOST);
    let (commands, behind) = (args.text("x").unwrap_or("dp"), args.text("a").unwrap_or(""));
    let mut lines = Vec::new();
    let end = follow(space, args.number("ADDR").unwrap_or(0), offset, most, |at| {
        lines.push(filled(commands, at, behind));
        Ok(())
    })?;
    let why = match end {
        End::Missing(at) => Some(format!("the list goes on at {at:x}, whose memory is not in the dump")),
        End::More(at) if most == MOST => {
            Some(format!("the list goes on at {at:x}: these are the first {MOST} elements"))
        }
        _ => None,
    };
    if args.has("e") {
        for line in &lines {
            ctx.out.note(line)?;
        }
    }
    let empty = lines.is_empty();
    ctx.request = Some(Request::Lines(lines));
    Ok(match why {
        Some(why) => Outcome::Partial(why),
        None if empty => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The commands for the element at `at`.
fn filled(commands: &str, at: u64, behind: &str) -> String {
    let address = format!("0x{at:x}");
    let named = commands.replace("@$extret", &address).replace("$extret", &address);
    match (named == commands, behind) {
        (false, "") => named,
        (false, behind) => format!("{named} {behind}"),
        (true, "") => format!("{commands} {address}"),
        (true, behind) => format!("{commands} {address} {behind}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn commands_for_an_element() {
        assert_eq!(filled("dd", 0x10, "l2"), "dd 0x10 l2");
        assert_eq!(filled("dd @$extret l4; ? @$extret", 0x10, ""), "dd 0x10 l4; ? 0x10");
        assert_eq!(filled("dp", 0x10, ""), "dp 0x10");
    }

    #[test]
    fn where_the_link_stands() {
        assert_eq!(offset(None, 8).unwrap(), 0);
        assert_eq!(offset(Some("nt!_LIST_ENTRY.Flink"), 8).unwrap(), 0);
        assert_eq!(offset(Some("_LIST_ENTRY.Blink"), 4).unwrap(), 4);
        assert_eq!(offset(Some("18"), 8).unwrap(), 0x18);
        assert!(offset(Some("MYTYPE"), 8).is_err());
    }
}
