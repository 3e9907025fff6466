//! `!analyzeoom`: why the collector could not give memory.

use anyhow::Result;

use crate::heap::oom;
use crate::session::Session;
use crate::shell::{
    Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// `!analyzeoom`.
pub const ANALYZEOOM: Command = Command {
    name: "analyzeoom",
    prefix: Prefix::Bang,
    aliases: &["ao"],
    group: Group::Heap,
    summary: "why the garbage collector could not give memory, as it recorded it",
    help: "The collector keeps a record of the last time it threw an OutOfMemoryException: the reason, how many bytes were \
           asked for, after which collection, and what failed. Below stands what limits the heap, as far as the process's \
           environment says so (DOTNET_GCHeapHardLimit and its relatives; numbers there are hexadecimal); a limit of a \
           container or of runtimeconfig.json is not in it.",
    args: &[],
    examples: &[Example { line: "!analyzeoom", what: "did the heap run out of memory, and why" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[Fact::new("failures", "heaps that ran out of memory", Type::Count)])
        .and(&[&RECORDS, &LIMITS]),
    run,
};

/// Text has lines of it.
const RECORDS: Table = Table::new(
    "records",
    &[
        Col::data("heap", Type::Count).titled("number of the heap"),
        Col::data("record", Type::Address).titled("address of the record"),
        Col::data("reason", Type::Text).titled("why there was no memory"),
        Col::data("requested", Type::Bytes).titled("bytes that were asked for"),
        Col::data("collection", Type::Number).titled("number of the collection before"),
        Col::data("failure", Type::Text).titled("what failed"),
        Col::data("failed_size", Type::Bytes).titled("bytes that could not be had"),
        Col::data("available", Type::Number).unit("MB").titled("available commit space when the collection began"),
        Col::data("large_objects", Type::Bool).titled("it was for large objects"),
    ],
);

const LIMITS: Table = Table::new(
    "limits",
    &[
        Col::data("setting", Type::Text).titled("variable of the environment"),
        Col::data("value", Type::Number).titled("its value"),
    ],
);

fn run(ctx: &mut Ctx<'_>, _args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let records = oom::records(session.clr()?, session.heap()?);
    for r in &records.items {
        let cells = [
            Cell::Num(r.heap.into()),
            Cell::Addr(r.address),
            Cell::text(r.reason()),
            Cell::Num(r.requested),
            Cell::Num(r.collection),
            Cell::maybe(r.failure()),
            if r.failure == 0 { Cell::None } else { Cell::Num(r.size) },
            if r.available_mb == 0 { Cell::None } else { Cell::Num(r.available_mb) },
            Cell::Bool(r.large),
        ];
        let mut line = r.reason().to_owned();
        if let Some(failure) = r.failure() {
            let objects = if r.large { "LOH" } else { "SOH" };
            line += &format!("\nDetails: {objects} {failure} {} bytes", r.size);
            if r.available_mb > 0 {
                line += &format!("\n - on GC entry available commit space was {} MB", r.available_mb);
            }
        }
        line += &format!("\nHeap {} after GC {}, {} bytes were asked for", r.heap, r.collection, r.requested);
        ctx.out.row_as(&RECORDS, &cells, line)?;
    }
    let count = Cell::Num(records.items.len() as u64);
    match records.items.is_empty() && records.partial.is_none() {
        true => ctx.out.fact("failures", count, "There was no managed OOM due to allocations on the GC heap")?,
        false => ctx.out.datum("failures", &count),
    }
    limits(session, ctx.out)?;
    Ok(records.partial.map_or(Outcome::Complete, Outcome::Partial))
}

/// Prints the variables of the environment that limit the heap.
fn limits(session: &Session, out: &mut Out) -> Result<()> {
    for variable in &session.dump().process.environment {
        let Some((name, value)) = variable.split_once('=') else { continue };
        let setting = ["DOTNET_GC", "COMPlus_GC"].iter().find_map(|p| name.strip_prefix(p));
        let limits = |s: &str| s.starts_with("HeapHardLimit") || s == "TotalPhysicalMemory";
        let digits = value.trim_start_matches("0x");
        if let Some(number) = setting.filter(|s| limits(s)).and_then(|_| u64::from_str_radix(digits, 16).ok()) {
            out.row_as(&LIMITS, &[Cell::text(name), Cell::Num(number)], format!("Limit: {name} = {number}"))?;
        }
    }
    Ok(())
}
