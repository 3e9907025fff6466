//! `!dumprequests`: requests a server works on.
//!
//! Field names: dotnet/aspnetcore v8.0 and v10.0 `src/Http/Http/src/DefaultHttpContext.cs`, `src/Servers/Kestrel/Core/src/
//! Internal/Http/HttpProtocol.cs`, `.../Infrastructure/TimeoutControl.cs`, `src/Hosting/Hosting/src/Internal/
//! HostingApplication.cs`, `src/Extensions/Features/src/FeatureReferences.cs`; v3.1 where several are asked for. Of .NET
//! Framework: `System.Web.HttpContext` of the reference source 4.8.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::work::Work;
use super::{AGE, ASYNC, FRAMES, THREAD, frames, is_class, long, objects, string, text};
use crate::clr::types::fields::et;
use crate::dump::Os;
use crate::session::Session;
use crate::session::value::Value;
use crate::shell::out::thousands;
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Needs, Outcome, Prefix, Returns, Table, Type,
};

/// `!dumprequests`.
pub const DUMPREQUESTS: Command = Command {
    name: "dumprequests",
    prefix: Prefix::Bang,
    aliases: &["whttp", "aspxpages", "aspxpagesext", "dumphttpcontext", "dumprequesttable", "dumpaspnetrequesttable"],
    group: Group::Threads,
    summary: "requests of ASP.NET that are being served: method, URL, age, and where each waits",
    help: "Lists the requests of ASP.NET Core that have an HttpContext in use, those that Kestrel has read a line of and no \
           context was made for yet, and the HttpContexts of .NET Framework. Status is known once headers are on their way. \
           Age is to the last beat of the server's clock (once a second), where the server took the time when the request \
           came: it does where logging, metrics or tracing ask for it. Thread is the one whose stack holds the request, \
           Async the box of the async method that waits. -stacks lists the async methods, the one that waits first.\n\n\
           Names of fields are those of ASP.NET Core 3.1 to 10; what a release calls otherwise is left empty.",
    args: &[
        Arg::flag("stacks", "the async methods each request is in"),
        Arg::flag("all", "connections and streams of Kestrel that serve no request too"),
    ],
    examples: &[Example { line: "!dumprequests -stacks", what: "what the server is at, and where it waits" }],
    needs: Needs::Clr,
    returns: Returns::facts(&[
        Fact::new("requests", "requests that are served", Type::Count),
        Fact::new("idle", "connections and streams of Kestrel that serve none", Type::Count),
    ])
    .and(&[&REQUESTS, &FRAMES]),
    run,
};

const REQUESTS: Table = Table::new(
    "requests",
    &[
        Col::right("Address", "address", 16).of(Type::Address),
        Col::left("Method", "method", 7).of(Type::Given),
        Col::right("Status", "status", 6).of(Type::Number),
        Col::left("State", "state", 18),
        AGE,
        THREAD,
        ASYNC,
        Col::left("Scheme", "scheme", 6).of(Type::Given),
        Col::left("Url", "url", 0).of(Type::Content),
        Col::data("path", Type::Content).titled("path of the URL, as the program sees it"),
        Col::data("query", Type::Content).titled("query of the URL, with its question mark"),
        Col::data("host", Type::Content).titled("header Host"),
        Col::data("protocol", Type::Text).titled("HTTP/1.1, HTTP/2, ..."),
        Col::data("server", Type::Address)
            .titled("the server's object of the request: connection of HTTP/1, stream of HTTP/2"),
        Col::data("connection", Type::Given).titled("id of the connection"),
        Col::data("request_id", Type::Given).titled("id of the request, where something asked for it"),
        Col::data("aborted", Type::Bool).titled("the connection is gone"),
        Col::data("waits_in", Type::TypeName).titled("the async method that waits"),
        Col::data("awaits", Type::TypeName).titled("what it waits for, where that is no task"),
    ],
);

const CONTEXT: &str = "Microsoft.AspNetCore.Http.DefaultHttpContext";
const PROTOCOL: &str = "Microsoft.AspNetCore.Server.Kestrel.Core.Internal.Http.HttpProtocol";
const FRAMEWORK: &str = "System.Web.HttpContext";

/// `RequestProcessingStatus` of Kestrel.
const STATES: &[&str] = &[
    "RequestPending",
    "ParsingRequestLine",
    "ParsingHeaders",
    "AppStarted",
    "HeadersCommitted",
    "HeadersFlushed",
    "ResponseCompleted",
];
/// From this state on the status is on its way to the client.
const COMMITTED: i64 = 4;
/// `HttpMethod` of Kestrel.
const METHODS: &[&str] = &["GET", "PUT", "DELETE", "POST", "HEAD", "TRACE", "PATCH", "CONNECT", "OPTIONS"];
/// Its number for none.
const NO_METHOD: i64 = 255;
/// `HttpVersion` of Kestrel, from -1 on.
const VERSIONS: &[&str] = &["", "HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"];

/// One request.
#[derive(Debug, Default)]
struct Request {
    address: u64,
    method: Option<String>,
    status: Option<i64>,
    state: Option<&'static str>,
    /// Milliseconds.
    age: Option<u64>,
    thread: Option<u64>,
    scheme: Option<String>,
    path: Option<String>,
    query: Option<String>,
    host: Option<String>,
    protocol: Option<String>,
    server: u64,
    connection: Option<String>,
    request_id: Option<String>,
    aborted: Option<bool>,
    /// Objects by which what works on it is found.
    known_by: Vec<u64>,
}

impl Request {
    /// Whether something of it has come and not all is answered; what says nothing of that is taken to be served.
    fn is_served(&self) -> bool {
        !matches!(self.state, Some("RequestPending" | "ResponseCompleted")) || self.server != self.address
    }
}

struct Reader<'s> {
    session: &'s Session,
    /// Ticks a second of the clock that counts from the start of the machine.
    frequency: Option<u64>,
}

impl<'s> Reader<'s> {
    fn new(session: &'s Session) -> Self {
        Self { session, frequency: frequency(session) }
    }

    /// The request that a context of ASP.NET Core is of; `None` when it is of none any more.
    fn context(&self, context: &Value<'s>) -> Option<Request> {
        let features = context.inner(&["_features"])?.object(&["<Collection>k__BackingField"])?;
        let mut request = Request { address: context.address(), ..Request::default() };
        let kestrel = features.is_a(PROTOCOL);
        // What a middleware set in their place is asked first.
        let cached = |part: &str, names: &[&str]| {
            context.object(&[part])?.inner(&["_features"])?.inner(&["Cache"])?.object(names)
        };
        let asked = cached("_request", &["Request"]).unwrap_or(features);
        self.request(&asked, &mut request);
        if asked.address() != features.address() {
            self.request(&features, &mut request);
        }
        match kestrel {
            true => self.server(&features, &mut request),
            false => {
                let response = cached("_response", &["Response"]).unwrap_or(features);
                request.status = response.int(&["<StatusCode>k__BackingField", "_statusCode", "StatusCode"]);
            }
        }
        request.server = features.address();
        request.known_by.extend([context.address(), features.address()]);
        Some(request)
    }

    /// What an object that is the feature of a request says, where nothing is known yet.
    fn request(&self, v: &Value<'s>, r: &mut Request) {
        let text = |names: &[&str]| text(self.session, v, names).filter(|t| !t.is_empty());
        r.method = r.method.take().or_else(|| self.method(v));
        r.scheme = r.scheme.take().or_else(|| text(&["<Scheme>k__BackingField", "_scheme"]));
        let path = || {
            let (base, path) = (text(&["<PathBase>k__BackingField"]), text(&["<Path>k__BackingField", "_path"]));
            match (base, path) {
                (Some(base), Some(path)) => Some(base + &path),
                (base, path) => path.or(base),
            }
        };
        r.path = r.path.take().or_else(path).or_else(|| text(&["<RawTarget>k__BackingField"]));
        r.query = r.query.take().or_else(|| text(&["<QueryString>k__BackingField"]));
        r.protocol = r.protocol.take().or_else(|| text(&["<Protocol>k__BackingField"]));
    }

    fn method(&self, v: &Value<'s>) -> Option<String> {
        let names = &["<Method>k__BackingField", "_method"];
        let said = text(self.session, v, &["_methodText"]).or_else(|| text(self.session, v, names));
        // Of a request whose method nobody asked for the number alone is known.
        let number = || v.int(names).filter(|n| *n != NO_METHOD && v.field(names).is_some_and(|f| f.0.0 == et::U1));
        let by_number = || METHODS.get(usize::try_from(number()?).ok()?).map(|m| (*m).to_owned());
        said.filter(|m| !m.is_empty()).or_else(by_number)
    }

    /// What Kestrel knows.
    fn server(&self, p: &Value<'s>, r: &mut Request) {
        let text = |names: &[&str]| text(self.session, p, names).filter(|t| !t.is_empty());
        let state = p.int(&["_requestProcessingStatus"]);
        r.state = state.and_then(|s| STATES.get(usize::try_from(s).ok()?)).copied();
        r.status = p.int(&["_statusCode", "<StatusCode>k__BackingField"]).filter(|_| state >= Some(COMMITTED));
        let version = p.int(&["_httpVersion"]).and_then(|v| VERSIONS.get(usize::try_from(v + 1).ok()?));
        r.protocol = version.filter(|v| !v.is_empty()).map(|v| (*v).to_owned()).or(r.protocol.take());
        r.connection = text(&["<ConnectionIdFeature>k__BackingField"]);
        r.request_id = text(&["_requestId"]);
        r.aborted = p.int(&["_connectionAborted"]).map(|a| a != 0);
        r.host = self.host(p);
        r.age = self.age(p);
    }

    /// The header Host: one of those that have a field of their own, a text or a list of texts.
    fn host(&self, p: &Value<'s>) -> Option<String> {
        let headers = p.object(&["<HttpRequestHeaders>k__BackingField"])?;
        let host = headers.inner(&["_headers"])?.inner(&["_Host"])?.object(&["_values", "_value"])?;
        match host.elements() {
            Some(list) => string(self.session, list.object(0)?.address()),
            None => string(self.session, host.address()),
        }
    }

    /// Milliseconds from when the host took the time to the last beat of the connection's clock; or from the start of the
    /// activity it began.
    fn age(&self, p: &Value<'s>) -> Option<u64> {
        let host = self.host_context(p)?;
        let beat = p.object(&["_context"])?.object(&["<TimeoutControl>k__BackingField", "_timeoutControl"]);
        let beat = beat.and_then(|t| t.int(&["_lastTimestamp"])).and_then(|t| u64::try_from(t).ok())?;
        // Up to 7 the connection's clock shows ticks of the date, since then those of the machine.
        if beat > DATE {
            let began = host.object(&["<Activity>k__BackingField"])?;
            let began = began.inner(&["<StartTimeUtc>k__BackingField"])?.int(&["_dateData"])? as u64 & DATE_TICKS;
            return (began > DATE).then(|| beat.saturating_sub(began) / 10_000);
        }
        let began = host.int(&["<StartTimestamp>k__BackingField"]).and_then(|t| u64::try_from(t).ok())?;
        let ticks = beat.saturating_sub(began);
        let frequency = self.frequency.filter(|_| began > 0)?;
        u64::try_from(u128::from(ticks) * 1000 / u128::from(frequency)).ok()
    }

    /// What the host keeps of a request: in a field of the connection or stream, whose name differs.
    fn host_context(&self, p: &Value<'s>) -> Option<Value<'s>> {
        const OWN: &str = "Microsoft.AspNetCore.Hosting.HostingApplication+Context";
        let clr = self.session.clr().ok()?;
        let fields = clr.fields(p.mt);
        let held = fields.instance.iter().rev().filter(|f| f.element.is_reference());
        let mut objects = held.filter_map(|f| {
            let name = &*f.name;
            let at = p.data.checked_add(f.offset()).filter(|_| name == "_context" || name.contains("HostContext"))?;
            self.session.value(clr.space().ptr(at).filter(|o| *o != 0)?)
        });
        objects.find(|o| &*o.type_name() == OWN)
    }

    /// A request of .NET Framework.
    fn framework(&self, v: &Value<'s>) -> Option<Request> {
        let request = v.object(&["_request"])?;
        let said = |v: &Value<'_>, names: &[&str]| text(self.session, v, names).filter(|t| !t.is_empty());
        let url = request.object(&["_url"]).and_then(|u| said(&u, &["m_String"]));
        let path = request.object(&["_filePath", "_path"]).and_then(|p| said(&p, &["_virtualPath"]));
        let mut r = Request {
            address: v.address(),
            method: said(&request, &["_httpMethod"]),
            path: path.or_else(|| said(&request, &["_rawUrl"])).or(url),
            query: said(&request, &["_queryStringText"]).map(|q| format!("?{}", q.trim_start_matches('?'))),
            status: v.object(&["_response"]).and_then(|r| r.int(&["_statusCode"])),
            known_by: vec![v.address(), request.address()],
            ..Request::default()
        };
        let began = v.inner(&["_utcTimestamp"]).and_then(|t| t.int(&["dateData", "_dateData"]));
        let began = began.map(|t| t as u64 & DATE_TICKS).filter(|t| *t > DATE);
        let now = self.session.dump().process.dump_time.map(|t| t * 10_000_000 + UNIX_EPOCH);
        r.age = now.zip(began).map(|(now, began)| now.saturating_sub(began) / 10_000);
        let thread = v.pointer(&["_thread"]).filter(|t| *t != 0);
        let threads = &self.session.clr().ok()?.threads().items;
        r.thread = thread.and_then(|t| threads.iter().find(|c| c.exposed_object == t)).map(|c| c.os_id);
        Some(r)
    }
}

/// Ticks of a date in the year 1900: no machine has run so long.
const DATE: u64 = 599_266_080_000_000_000;
/// Bits of a `DateTime` that are its ticks.
const DATE_TICKS: u64 = 0x3FFF_FFFF_FFFF_FFFF;
/// Ticks of the first moment of 1970.
const UNIX_EPOCH: u64 = 621_355_968_000_000_000;

/// `Stopwatch.Frequency`: on Linux nanoseconds, elsewhere what the class says.
fn frequency(session: &Session) -> Option<u64> {
    if session.dump().os == Os::Linux {
        return Some(1_000_000_000);
    }
    let clr = session.clr().ok()?;
    let mt = *session.find_types("System.Diagnostics.Stopwatch").ok()?.first()?;
    let fields = clr.fields(mt);
    let field = fields.statics.iter().find(|f| &*f.name == "Frequency")?;
    clr.space().u64(session.static_address(mt, field)?).filter(|f| *f > 0)
}

fn run(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let (found, partial) = objects(session, |clr, mt| is_class(clr, mt, &[CONTEXT, PROTOCOL, FRAMEWORK]))?;
    let reader = Reader::new(session);
    let (mut requests, mut protocols): (Vec<Request>, Vec<Value<'_>>) = Default::default();
    for value in found.into_iter().filter_map(|a| session.value(a)) {
        session.watch.cancel.check()?;
        match &*value.type_name() {
            CONTEXT => requests.extend(reader.context(&value)),
            FRAMEWORK => requests.extend(reader.framework(&value)),
            _ => protocols.push(value),
        }
    }
    let served: FxHashSet<u64> = requests.iter().map(|r| r.server).collect();
    let mut idle = 0;
    for p in protocols.iter().filter(|p| p.is_a(PROTOCOL) && !served.contains(&p.address())) {
        let mut r =
            Request { address: p.address(), server: p.address(), known_by: vec![p.address()], ..Request::default() };
        reader.request(p, &mut r);
        reader.server(p, &mut r);
        idle += u64::from(!r.is_served());
        if r.is_served() || args.has("all") {
            requests.push(r);
        }
    }
    let known: FxHashSet<u64> = requests.iter().flat_map(|r| r.known_by.iter().copied()).collect();
    let work = if known.is_empty() { None } else { Some(Work::read(session, &known)?) };
    let innermost: FxHashMap<u64, Option<u32>> =
        requests.iter().map(|r| (r.address, work.as_ref().and_then(|w| w.innermost(&r.known_by)))).collect();
    ctx.out.open(&REQUESTS)?;
    for r in &requests {
        let thread = r.thread.or_else(|| work.as_ref().and_then(|w| w.thread(&r.known_by)));
        let waits = innermost.get(&r.address).copied().flatten();
        let method = work.as_ref().and_then(|w| w.method(waits));
        let awaited = work.as_ref().and_then(|w| w.awaited(waits));
        ctx.out.row(&cells(r, thread, method, awaited))?;
    }
    ctx.out.done(&REQUESTS)?;
    if let Some(work) = &work {
        let all = requests.iter().map(|r| (r.address, innermost.get(&r.address).copied().flatten()));
        frames(ctx.out, work, all, args.has("stacks"))?;
    }
    let count = requests.iter().filter(|r| r.is_served()).count() as u64;
    ctx.out.fact("requests", Cell::Num(count), format!("Found {} active requests", thousands(count)))?;
    if idle > 0 {
        let line = match idle {
            1 => "1 connection or stream serves none".to_owned(),
            n => format!("{} connections and streams serve none", thousands(n)),
        };
        ctx.out.fact("idle", Cell::Num(idle), line)?;
    }
    Ok(match partial.or_else(|| work.and_then(|w| w.partial)) {
        Some(why) => Outcome::Partial(why),
        None if count == 0 => Outcome::Empty,
        None => Outcome::Complete,
    })
}

fn cells<'r>(
    r: &'r Request,
    thread: Option<u64>,
    method: Option<(u64, &'r str)>,
    awaited: Option<String>,
) -> [Cell<'r>; 19] {
    let number = |n: Option<u64>| n.map_or(Cell::None, Cell::Num);
    let url = r.path.clone().map(|p| p + r.query.as_deref().unwrap_or(""));
    [
        Cell::Addr(r.address),
        Cell::maybe(r.method.as_deref()),
        r.status.map_or(Cell::None, Cell::Int),
        Cell::maybe(r.state),
        number(r.age),
        thread.map_or(Cell::None, Cell::Hex),
        Cell::at(method.map_or(0, |m| m.0)),
        Cell::maybe(r.scheme.as_deref()),
        long(url),
        Cell::maybe(r.path.as_deref()),
        Cell::maybe(r.query.as_deref()),
        Cell::maybe(r.host.as_deref()),
        Cell::maybe(r.protocol.as_deref()),
        Cell::at(r.server),
        Cell::maybe(r.connection.as_deref()),
        Cell::maybe(r.request_id.as_deref()),
        r.aborted.map_or(Cell::None, Cell::Bool),
        Cell::maybe(method.map(|m| m.1)),
        Cell::maybe(awaited),
    ]
}
