//! `!syncblk`: monitors.

use anyhow::Result;

use super::clrthreads::dump_index;
use crate::clr::Clr;
use crate::clr::runtime::syncblocks::SyncBlock;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;
use crate::shell::{Arg, Args, Cell, Col, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, digits};

/// `!syncblk`.
pub const SYNCBLK: Command = Command {
    name: "syncblk",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "list the monitors that are held, and who holds them",
    help: "MonitorHeld is 1 for the owner and 2 for each thread that waits to enter. -all lists sync blocks nobody holds \
           too; a number (decimal) shows that one. Monitors nobody ever waited for are thin locks: !dumpobj shows them.",
    args: &[Arg::pos("INDEX", Kind::Count, "number of a sync block"), Arg::flag("all", "those that are not held too")],
    examples: &[Example { line: "!syncblk", what: "the monitors that are held" }],
    needs: Needs::Clr,
    run,
};

const COLUMNS: &[Col] = &[
    Col::right("Index", "index", 5),
    Col::right("SyncBlock", "syncBlock", 16),
    Col::right("MonitorHeld", "monitorHeld", 12),
    Col::right("Recursion", "recursion", 9),
    Col::left("Owning Thread Info", "owner", 16),
    Col::left("", "ownerThread", 0),
    Col::left("SyncBlock Owner", "object", 16),
    Col::left("", "type", 0),
];

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let clr = session.clr()?;
    let blocks = clr.sync_blocks();
    ctx.out.line("Index         SyncBlock MonitorHeld Recursion Owning Thread Info          SyncBlock Owner")?;
    ctx.out.table("syncBlocks", COLUMNS, false)?;
    let wanted = args.number("INDEX");
    for b in &blocks.items {
        let shown = match wanted {
            Some(n) => u64::from(b.index) == n,
            None => args.has("all") || b.monitor_held() != 0,
        };
        if shown {
            ctx.out.row(&row(session, clr, b))?;
        }
    }
    let total = blocks.items.iter().map(|b| b.index as usize).max().unwrap_or(0);
    ctx.out.line("-----------------------------")?;
    ctx.out.line(format!("Total           {total}"))?;
    ctx.out.line(format!("Free            {}", total.saturating_sub(blocks.items.len())))?;
    Ok(blocks.partial.clone().map_or(Outcome::Complete, Outcome::Partial))
}

/// The thread that holds a monitor: by address, or by managed id where the runtime stores ids.
fn owner<'a>(clr: &'a Clr, b: &SyncBlock) -> Option<&'a ClrThread> {
    let matches = |t: &&ClrThread| t.address == b.owner || (b.owner < 1 << 32 && u64::from(t.managed_id) == b.owner);
    clr.threads().items.iter().find(matches).filter(|_| b.held && b.owner != 0)
}

fn row<'a>(session: &Session, clr: &Clr, b: &SyncBlock) -> Vec<Cell<'a>> {
    let thread = owner(clr, b);
    let info = match thread {
        Some(t) => {
            let index = dump_index(session, t.os_id).map_or_else(|| "XXX".into(), |i| i.to_string());
            format!("{:4x} {index:>3}  ", t.os_id)
        }
        None => "    none   ".into(),
    };
    let ty = clr.object_type(b.object).map(|mt| clr.type_name_long(mt).to_string());
    vec![
        Cell::Num(u64::from(b.index)),
        Cell::text(format!("{:0w$X}", b.address, w = digits())),
        Cell::Num(u64::from(b.monitor_held())),
        Cell::Num(u64::from(b.recursion)),
        Cell::text(format!("{:0w$X}", thread.map_or(0, |t| t.address), w = digits())),
        Cell::text(info),
        Cell::AddrPad(b.object, 16),
        Cell::text(ty.unwrap_or_else(|| "<unknown>".into())),
    ]
}
