//! `!dumphttp`: requests that the process sent by `HttpClient`.
//!
//! Field names: dotnet/runtime v8.0 `src/libraries/System.Net.Http/src/System/Net/Http/HttpRequestMessage.cs`,
//! `HttpResponseMessage.cs`, `SocketsHttpHandler/HttpConnection.cs`, `src/libraries/System.Private.Uri/src/System/Uri.cs`;
//! those of .NET Framework have no underscore.

use std::collections::BTreeMap;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::work::Work;
use super::{ASYNC, FRAMES, THREAD, frames, is_class, long, objects, text};
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumphttp`.
pub const DUMPHTTP: Command = Command {
    name: "dumphttp",
    prefix: Prefix::Bang,
    aliases: &[],
    group: Group::Threads,
    summary: "requests sent by HttpClient: method, status, URL, and where each waits",
    help: "Lists the HttpRequestMessages of the heap with the status of their HttpResponseMessage, where there is one, the \
           connection that is at them, and what waits for them: the thread whose stack holds the request, or the box of the \
           async method (-stacks lists the methods, the one that waits first). Requests that nothing refers to any more are \
           listed too, until a collection takes them: -pending keeps those without response, -completed those with one, \
           -uri those whose URL contains a text, -statuscode those with this status. -stats counts them by method, status \
           and host. When a request was sent is not kept by the library.",
    args: &[
        Arg::flag("stats", "count by method, status and host").or(&["stat"]),
        Arg::flag("pending", "only requests without response"),
        Arg::flag("completed", "only requests with a response"),
        Arg::opt("uri", Kind::Text, "only URLs that contain this"),
        Arg::opt("statuscode", Kind::Count, "only responses with this status"),
        Arg::flag("stacks", "the async methods that wait for each"),
    ],
    examples: &[
        Example { line: "!dumphttp -pending -stacks", what: "which answers are waited for, and by whom" },
        Example { line: "!dumphttp -stats", what: "how many requests to which host" },
    ],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("requests", "requests listed or counted", Type::Count),
        Fact::new("pending", "those without response", Type::Count),
    ])
    .and(&[&REQUESTS, &HOSTS, &FRAMES]),
    run,
};

const METHOD: Col = Col::left("Method", "method", 6).of(Type::Given);
const STATUS: Col = Col::right("StatusCode", "status", 10).of(Type::Number);

const REQUESTS: Table = Table::new(
    "requests",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::right("MethodTable", "method_table", 16).of(Type::Address),
        METHOD,
        STATUS,
        THREAD,
        ASYNC,
        Col::left("Uri", "uri", 0).of(Type::Content),
        Col::data("response", Type::Address).titled("the HttpResponseMessage"),
        Col::data("connection", Type::Address).titled("the connection that is at the request"),
        Col::data("waits_in", Type::TypeName).titled("the async method that waits"),
        Col::data("awaits", Type::TypeName).titled("what it waits for, where that is no task"),
    ],
);

const HOSTS: Table = Table::new(
    "hosts",
    &[Col::right("Count", "count", 8).of(Type::Count), METHOD, STATUS, Col::left("Host", "host", 0).of(Type::Content)],
);

const MESSAGE: &str = "System.Net.Http.HttpRequestMessage";
const RESPONSE: &str = "System.Net.Http.HttpResponseMessage";
const CONNECTION: &str = "System.Net.Http.HttpConnection";

/// One request that was sent.
#[derive(Debug)]
struct Sent {
    address: u64,
    mt: u64,
    method: Option<String>,
    uri: Option<String>,
    status: Option<i64>,
    response: u64,
    connection: u64,
}

impl Sent {
    fn read(session: &Session, v: &Value<'_>) -> Self {
        let method = v.object(&["_method", "method"]);
        let uri = v.object(&["_requestUri", "requestUri"]);
        Self {
            address: v.address(),
            mt: v.mt,
            method: method.and_then(|m| text(session, &m, &["_method", "method"])),
            uri: uri.and_then(|u| text(session, &u, &["_string", "m_String"])),
            status: None,
            response: 0,
            connection: 0,
        }
    }

    /// The part of the URL that names the server.
    fn host(&self) -> &str {
        let uri = self.uri.as_deref().unwrap_or("");
        let behind = uri.split_once("://").map_or("", |u| u.1);
        let authority = behind.split(['/', '?', '#']).next().unwrap_or("");
        authority.rsplit('@').next().unwrap_or("")
    }

    fn passes(&self, args: &Args) -> bool {
        let (pending, completed) = (args.has("pending"), args.has("completed"));
        let by_state = pending == completed || pending == (self.response == 0);
        let by_uri = args.text("uri").is_none_or(|u| self.uri.as_deref().is_some_and(|own| own.contains(u)));
        by_state && by_uri && args.number("statuscode").is_none_or(|s| self.status == i64::try_from(s).ok())
    }
}

/// All requests by address, each once, with its response and connection.
fn sent(session: &Session) -> Result<(Vec<Sent>, Option<String>)> {
    let (found, partial) = objects(session, |clr, mt| is_class(clr, mt, &[MESSAGE, RESPONSE, CONNECTION]))?;
    let mut all: BTreeMap<u64, Sent> = BTreeMap::new();
    let mut others: Vec<Value<'_>> = Vec::new();
    for value in found.into_iter().filter_map(|a| session.value(a)) {
        session.watch.cancel.check()?;
        if value.is_a(MESSAGE) {
            all.insert(value.address(), Sent::read(session, &value));
        } else {
            others.push(value);
        }
    }
    for v in others {
        let response = v.is_a(RESPONSE);
        let field = if response { &["_requestMessage", "requestMessage"][..] } else { &["_currentRequest"][..] };
        let Some(of) = v.pointer(field).and_then(|r| all.get_mut(&r)) else { continue };
        if response {
            of.response = v.address();
            of.status = v.int(&["_statusCode", "statusCode"]);
        } else {
            of.connection = v.address();
        }
    }
    Ok((all.into_values().collect(), partial))
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (mut all, mut partial) = sent(session)?;
    all.retain(|s| s.passes(args));
    if args.has("stats") {
        by_host(ctx, &all)?;
    } else {
        let why = list(ctx, session, &all, args.has("stacks"))?;
        partial = partial.or(why);
    }
    let (count, pending) = (all.len() as u64, all.iter().filter(|s| s.response == 0).count() as u64);
    let facts = [("requests", Cell::Num(count)), ("pending", Cell::Num(pending))];
    let line = format!("Total {} requests, {} without response", thousands(count), thousands(pending));
    ctx.out.facts(&facts, line)?;
    Ok(match partial {
        Some(why) => Outcome::Partial(why),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// Lists the requests; why what works on them may not be whole.
fn list(ctx: &mut Ctx<'_>, session: &Session, all: &[Sent], stacks: bool) -> Result<Option<String>> {
    let known: FxHashSet<u64> = all.iter().map(|s| s.address).collect();
    let work = if known.is_empty() { None } else { Some(Work::read(session, &known)?) };
    let mut innermost: FxHashMap<u64, Option<u32>> = FxHashMap::default();
    ctx.out.open(&REQUESTS)?;
    for s in all {
        let waits = work.as_ref().and_then(|w| w.innermost(&[s.address]));
        innermost.insert(s.address, waits);
        let method = work.as_ref().and_then(|w| w.method(waits));
        let cells = [
            Cell::Addr(s.address),
            Cell::Addr(s.mt),
            Cell::maybe(s.method.as_deref()),
            s.status.map_or(Cell::None, Cell::Int),
            work.as_ref().and_then(|w| w.thread(&[s.address])).map_or(Cell::None, Cell::Hex),
            Cell::at(method.map_or(0, |m| m.0)),
            long(s.uri.clone()),
            Cell::at(s.response),
            Cell::at(s.connection),
            Cell::maybe(method.map(|m| m.1)),
            Cell::maybe(work.as_ref().and_then(|w| w.awaited(waits))),
        ];
        ctx.out.row(&cells)?;
    }
    ctx.out.done(&REQUESTS)?;
    let Some(work) = work else { return Ok(None) };
    frames(ctx.out, &work, all.iter().map(|s| (s.address, innermost.get(&s.address).copied().flatten())), stacks)?;
    Ok(work.partial)
}

/// Counts by method, status and host, the most frequent first.
fn by_host(ctx: &mut Ctx<'_>, all: &[Sent]) -> Result<()> {
    let mut counts: BTreeMap<(&str, Option<i64>, &str), u64> = BTreeMap::new();
    for s in all {
        *counts.entry((s.method.as_deref().unwrap_or(""), s.status, s.host())).or_default() += 1;
    }
    let mut rows: Vec<_> = counts.into_iter().collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ctx.out.note("Statistics:")?;
    ctx.out.open(&HOSTS)?;
    for ((method, status, host), count) in &rows {
        let word = |t: &str| Cell::maybe(Some(t.to_owned()).filter(|t| !t.is_empty()));
        ctx.out.row(&[Cell::Sep(*count), word(method), status.map_or(Cell::None, Cell::Int), word(host)])?;
    }
    ctx.out.done(&HOSTS)?;
    Ok(())
}
