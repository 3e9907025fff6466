//! `!taskstate`: the state of a task in a word.

use anyhow::{Result, bail};

use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// `!taskstate ADDR`.
pub const TASKSTATE: Command = Command {
    name: "taskstate",
    prefix: Prefix::Bang,
    aliases: &["tks"],
    group: Group::Threads,
    summary: "the state of a task in a word",
    help: "What Task.Status would say of the task at ADDR: Created, WaitingForActivation, WaitingToRun, Running, \
           WaitingForChildrenToComplete, RanToCompletion, Canceled or Faulted. -v takes the value of the field \
           m_stateFlags instead, in decimal.",
    args: &[
        Arg::pos("ADDR", Kind::Object, "address of the task"),
        Arg::opt("value", Kind::Count, "the value of m_stateFlags").or(&["v"]),
    ],
    examples: &[Example { line: "!taskstate -v 33555456", what: "a value seen in !dumpobj" }],
    needs: Needs::Nothing,
    returns: Returns::facts(&[
        Fact::new("task", "address of the task", Type::Address),
        Fact::new("status", "its state in a word, as Task.Status", Type::Text),
        Fact::new("state_flags", "value of the field m_stateFlags", Type::Hex),
    ]),
    run,
};

/// `Task.Status` as the class library computes it from the flags (dotnet/runtime v8.0 `System/Threading/Tasks/Task.cs`).
pub fn status(flags: u64) -> &'static str {
    /// Flags in the order they are asked for.
    const ORDER: &[(u64, &str)] = &[
        (0x20_0000, "Faulted"),
        (0x40_0000, "Canceled"),
        (0x100_0000, "RanToCompletion"),
        (0x80_0000, "WaitingForChildrenToComplete"),
        (0x2_0000, "Running"),
        (0x1_0000, "WaitingToRun"),
        (0x200_0000, "WaitingForActivation"),
    ];
    ORDER.iter().find(|(bit, _)| flags & bit != 0).map_or("Created", |s| s.1)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let flags = match (args.number("ADDR"), args.number("value")) {
        (_, Some(value)) => value,
        (Some(address), None) => {
            let session = ctx.session()?;
            let task = session.value(address);
            let Some(task) = task.filter(|t| t.is_a("System.Threading.Tasks.Task")) else {
                bail!("{address:x} is not a task")
            };
            match task.int(&["m_stateFlags"]) {
                Some(flags) => flags as u64,
                None => return Ok(Outcome::Partial("the name of the field with the state is not known".into())),
            }
        }
        (None, None) => bail!("give the address of a task, or -v and a value"),
    };
    if let (Some(address), None) = (args.number("ADDR"), args.number("value")) {
        ctx.out.datum("task", &Cell::Addr(address));
    }
    ctx.out.datum("state_flags", &Cell::Hex(flags));
    ctx.out.fact("status", Cell::text(status(flags)), status(flags))?;
    Ok(Outcome::Complete)
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn completion_goes_before_what_led_to_it() {
        assert_eq!(status(0x0200_0400), "WaitingForActivation");
        assert_eq!(status(0x0103_0000), "RanToCompletion");
        assert_eq!(status(0x0021_0000), "Faulted");
        assert_eq!(status(0x400), "Created");
    }
}
