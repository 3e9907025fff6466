//! `.ecxr`, `.cxr`: the registers that commands work with.

use anyhow::{Result, anyhow};

use super::registers::{REGISTERS, all};
use super::tick;
use crate::dump::Os;
use crate::native::record::{Chosen, context_record, user_context};
use crate::shell::{Arg, Args, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// `.ecxr`.
pub const ECXR: Command = Command {
    name: "ecxr",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "work with the registers of the exception, and show them",
    help: "Makes the thread of the exception current, and its registers at the exception those that r, k, u, .frame, \
           !clrstack and expressions work with: on Windows those recorded with the exception, on Linux what the kernel kept \
           of the code that the signal interrupted. Where a signal is sent by a function that was called, as abort does, and \
           where the kernel wrote the core, these are the registers of the thread itself. A dump of .NET Core 3.1 records \
           no signal: there it is the thread that handles one. .cxr goes back to the thread, and \
           so does choosing a thread.",
    args: &[],
    examples: &[Example { line: ".ecxr", what: "where it happened" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new(
        "signal",
        "signal that a thread handles, where the dump records no exception",
        Type::Number,
    )])
    .with(&[&REGISTERS]),
    run: |ctx, _| {
        let session = ctx.session()?;
        let dump = session.dump();
        let Some(e) = &dump.exception else {
            let Some((index, signal, registers)) = session.native().signalled() else {
                ctx.out.note("the dump records no exception: it was taken of a running process")?;
                return Ok(Outcome::Empty);
            };
            let text = format!("the dump records no exception; thread {index} handles signal {signal}");
            ctx.out.fact("signal", Cell::Num(signal.into()), text)?;
            ctx.settings.thread = index;
            ctx.settings.choose(Some(Chosen { registers, exact: true }));
            return all(ctx);
        };
        let found = dump.threads.iter().enumerate().find(|(_, t)| t.os_id == e.thread_id);
        let (index, thread) = found.ok_or_else(|| anyhow!("the thread of the exception is not in the dump"))?;
        let interrupted = session.native().interrupted(thread, e);
        let registers = interrupted.or_else(|| thread.registers.clone());
        ctx.settings.thread = index;
        ctx.settings.choose(registers.map(|registers| Chosen { registers, exact: true }));
        all(ctx)
    },
};

/// `.cxr`.
pub const CXR: Command = Command {
    name: "cxr",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "work with the registers of a context record, and show them",
    help: "Registers of the CONTEXT at ADDR stand for those of the current thread from now on, in r, k, u, .frame, !clrstack \
           and expressions; on Linux the ucontext_t at ADDR too, which a signal handler has as its third argument. Without \
           ADDR, or with 0, they are those of the thread again. s -d and the frames of RtlDispatchException or of a signal \
           handler help to find one.",
    args: &[Arg::pos("ADDR", Kind::Address, "where the record is")],
    examples: &[Example { line: ".cxr", what: "back to the thread's own registers" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("record", "what lies at the address", Type::Text)]).with(&[&REGISTERS]),
    run: context,
};

fn context(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let dump = ctx.session()?.dump();
    let Some(at) = args.number("ADDR").filter(|&at| at != 0) else {
        ctx.settings.choose(None);
        ctx.out.note("Resetting default scope")?;
        return Ok(Outcome::Complete);
    };
    let kernels = || user_context(dump, at).filter(|_| dump.os == Os::Linux).map(|r| (r, "ucontext_t"));
    let found = context_record(dump, at).map(|r| (r, "CONTEXT")).or_else(kernels);
    let (registers, record) = found.ok_or_else(|| {
        let place = tick(at, dump.arch.pointer_size());
        match dump.space.u8(at) {
            None => anyhow!("the memory at {place} is not in the dump"),
            Some(_) => anyhow!("no context record of {} at {place}", dump.arch.name()),
        }
    })?;
    ctx.out.datum("record", &Cell::text(record));
    ctx.settings.choose(Some(Chosen { registers, exact: true }));
    all(ctx)
}
