//! `k` and its kin: native and managed frames of a thread. `.frame`: one of them.

use anyhow::{Result, anyhow, bail};

use crate::commands::memory::{tick, value};
use crate::dump::Arch;
use crate::native::context::{Context, names};
use crate::native::record::{Chosen, registers_of};
use crate::session::Session;
use crate::session::mixed::{Mixed, MixedStack, What};
use crate::shell::{
    Arg, Args, Cell, Col, Command, Ctx, Example, Fact, Group, Kind, Needs, Out, Outcome, Prefix, Returns, Table, Type,
};

/// Frames shown when no number is given.
const DEFAULT: usize = 256;

const FRAMES: Table = Table::new(
    "frames",
    &[
        Col::data("frame", Type::Number).titled("number of the frame, the newest is 0"),
        Col::data("sp", Type::Address).titled("stack pointer in the frame"),
        Col::data("return_address", Type::Address).titled("where the frame returns to"),
        Col::data("call_site", Type::Text).titled("the function with the distance from its beginning"),
        Col::data("ip", Type::Address).titled("where execution goes on in the frame"),
        Col::data("kind", Type::Text).titled("native, managed, explicit, or gap for what could not be unwound"),
        Col::data("module", Type::Text).titled("the module"),
        Col::data("method_desc", Type::Address).titled("the method of a managed frame"),
        Col::data("source_file", Type::Path).titled("source file, where symbols are at hand"),
        Col::data("source_line", Type::Number).titled("line in it"),
        Col::data("guessed", Type::Bool).titled("found by the frame pointer alone: frames above may be missing"),
        Col::data("arg0", Type::Hex).titled("first word where Windows x64 keeps arguments of the call"),
        Col::data("arg1", Type::Hex).titled("second word there"),
        Col::data("arg2", Type::Hex).titled("third word there"),
        Col::data("arg3", Type::Hex).titled("fourth word there"),
    ],
);

/// Which columns text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `k`, `kn`, `kp`, `kL`: stack pointer, return address, function.
    Plain,
    /// `kb`: with the words where arguments may be.
    Words,
    /// `kc`: functions alone.
    Clean,
    /// `kf`: with the distance to the next frame.
    Distance,
}

const COUNT: &[Arg] = &[Arg::pos("COUNT", Kind::Rest, "so many frames")];

const fn k(name: &'static str, summary: &'static str, run: fn(&mut Ctx<'_>, &Args) -> Result<Outcome>) -> Command {
    Command {
        name,
        prefix: Prefix::Plain,
        aliases: &[],
        group: Group::Threads,
        summary,
        help: "Native frames are unwound by .pdata and .eh_frame and named by exports, symbol tables, PDBs and debug files, as \
               far as they are at hand; managed frames stand in between with their methods. What could not be unwound is said \
               in its place; behind it the stack goes on with the next record that the runtime left. ~*k does it for every \
               thread, ~Nk for one; k COUNT shows so many frames (hexadecimal); .symneed says which files would tell more.",
        args: COUNT,
        examples: &[],
        needs: Needs::Dump,
        returns: Returns::tables(&[&FRAMES]),
        run,
    }
}

/// `k`.
pub const K: Command = Command {
    aliases: &["kn", "kp"],
    examples: &[Example { line: "k", what: "the stack of the current thread" }],
    ..k("k", "native and managed frames of the current thread", |ctx, args| show(ctx, args, Form::Plain, true))
};

/// `kL`.
pub const KL: Command = k("kl", "as k, without source lines", |ctx, args| show(ctx, args, Form::Plain, false));

/// `kb`, `kv`.
pub const KB: Command = Command {
    aliases: &["kv"],
    ..k("kb", "as k, with the words where arguments may be", |ctx, args| show(ctx, args, Form::Words, true))
};

/// `kc`.
pub const KC: Command = k("kc", "as k, functions alone", |ctx, args| show(ctx, args, Form::Clean, false));

/// `kf`.
pub const KF: Command =
    k("kf", "as k, with the bytes of each frame", |ctx, args| show(ctx, args, Form::Distance, true));

/// `.frame`.
pub const FRAME: Command = Command {
    name: "frame",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Threads,
    summary: "one frame of the current thread",
    help: "Shows frame N (hexadecimal, as k numbers them) of the current thread; with /r its registers, as far as they are \
           known: a call keeps only some of them. Other commands go on working with the newest frame, but with /c from now on with \
           this one, until .cxr or another thread is chosen.",
    args: &[
        Arg::flag("r", "its registers"),
        Arg::flag("c", "r, k, u, !clrstack and expressions work with it"),
        Arg::pos("N", Kind::Address, "number of the frame"),
    ],
    examples: &[Example { line: ".frame /r 1", what: "the caller of the newest frame, with registers" }],
    needs: Needs::Dump,
    returns: Returns::facts(&[Fact::new("frame", "number of the frame", Type::Number)]).and(&[&FRAMES, &REGISTERS]),
    run: frame,
};

const REGISTERS: Table = Table::new(
    "registers",
    &[
        Col::data("register", Type::Text).titled("name"),
        Col::data("value", Type::Hex).titled("value; a register that was not kept has none"),
    ],
);

/// How many frames are wanted.
fn count(ctx: &Ctx<'_>, args: &Args) -> Result<usize> {
    let text = args.text("COUNT").unwrap_or("").trim().trim_start_matches('L').trim();
    match text {
        "" => Ok(DEFAULT),
        _ if text.starts_with('=') => {
            bail!("stacks are walked from the registers of a thread; ~Ns and .cxr choose them")
        }
        // As everywhere in the debuggers numbers are hexadecimal.
        _ => Ok(usize::try_from(value(ctx, text)?).unwrap_or(usize::MAX)),
    }
}

fn show(ctx: &mut Ctx<'_>, args: &Args, form: Form, lines: bool) -> Result<Outcome> {
    let session = ctx.session()?;
    let most = count(ctx, args)?;
    let stack = session.mixed_stack_from(ctx.settings.thread, ctx.settings.context.as_ref());
    head(ctx.out, session, form)?;
    for number in 0..stack.frames.len().min(most) {
        session.watch.cancel.check()?;
        row(session, ctx.out, &stack, number, form, lines)?;
    }
    Ok(match stack.partial {
        Some(why) => Outcome::Partial(why),
        None if stack.frames.is_empty() => Outcome::Empty,
        None => Outcome::Complete,
    })
}

/// The names of the columns as WinDbg prints them.
fn head(out: &mut Out, session: &Session, form: Form) -> Result<()> {
    let wide = session.dump().arch.pointer_size() == 8;
    let line = match (form, wide) {
        (Form::Clean, _) => " # Call Site".to_owned(),
        (Form::Plain, true) => format!(" # {:<17} {:<21} Call Site", "Child-SP", "RetAddr"),
        (Form::Plain, false) => format!(" # {:<8} {:<8}  ", "ChildEBP", "RetAddr"),
        (Form::Distance, true) => format!(" #   Memory {:<17} {:<21} Call Site", "Child-SP", "RetAddr"),
        (Form::Distance, false) => format!(" #   Memory {:<8} {:<8}  ", "ChildEBP", "RetAddr"),
        (Form::Words, true) => {
            format!(" # {:<17} {:<21} : {:<71} : Call Site", "Child-SP", "RetAddr", "Args to Child")
        }
        (Form::Words, false) => format!(" # {:<8} {:<8} Args to Child", "ChildEBP", "RetAddr"),
    };
    Ok(out.note(line)?)
}

/// What a frame is called.
struct Named {
    site: String,
    module: String,
    method: Option<u64>,
    kind: &'static str,
    line: Option<(String, u32)>,
}

fn named(session: &Session, f: &Mixed) -> Named {
    let mut new = Named { site: String::new(), module: String::new(), method: None, kind: "native", line: None };
    match &f.what {
        What::Native => {
            let native = session.native();
            let place = if f.exact { native.place(f.ip) } else { native.place_of_return(f.ip) };
            new.module = place.as_ref().map(|p| p.module.clone()).unwrap_or_default();
            new.site = place.map_or_else(|| format!("0x{:x}", f.ip), |p| p.to_string());
            let at = if f.exact { f.ip } else { f.ip.wrapping_sub(1) };
            new.line = native.line_at(at).map(|l| (l.file, l.line));
        }
        What::Managed(frame) => {
            new.kind = "managed";
            let code = frame.code.as_ref();
            new.method = code.and_then(|c| c.method);
            if let (Some(at), Ok(clr)) = (code.filter(|c| c.module != 0), session.clr()) {
                let module = clr.module(at.module);
                let file = module.file_name();
                new.module = file.strip_suffix(".dll").unwrap_or(file).to_owned();
            }
            let name = session.frame_name(frame, true);
            new.site = match (name, code) {
                (Some(name), Some(at)) if new.module.is_empty() => format!("{name}+0x{:x}", at.native),
                (Some(name), Some(at)) => format!("{}!{name}+0x{:x}", new.module, at.native),
                _ => session.native().place(f.ip).map_or_else(|| format!("0x{:x}", f.ip), |p| p.to_string()),
            };
            new.line = session.frame_line(frame).map(|l| (l.document.to_string(), l.line));
        }
        What::Explicit(frame) => {
            new.kind = "explicit";
            if let (Some(e), Ok(clr)) = (&frame.explicit, session.clr()) {
                new.method = clr.method_of_frame(e);
                let method = new.method.and_then(|m| clr.method_desc(m)).map(|m| clr.method_name(&m));
                let name = if e.name.is_empty() { "Frame" } else { e.name };
                new.site = format!("[{name}: {:016x}] {}", e.address, method.unwrap_or_default()).trim_end().to_owned();
            }
        }
        What::Gap(why) => {
            new.kind = "gap";
            new.site = format!("[{why}]");
        }
    }
    new
}

/// The next frame that is one of code: where this one returns to.
fn caller(stack: &MixedStack, number: usize) -> Option<&Mixed> {
    let next = stack.frames.get(number + 1)?;
    matches!(next.what, What::Native | What::Managed(_)).then_some(next)
}

fn row(session: &Session, out: &mut Out, stack: &MixedStack, number: usize, form: Form, lines: bool) -> Result<()> {
    let Some(f) = stack.frames.get(number) else { return Ok(()) };
    let dump = session.dump();
    let (pointer, name) = (dump.arch.pointer_size(), named(session, f));
    let next = caller(stack, number);
    let code = matches!(f.what, What::Native | What::Managed(_));
    let returns = next.map(|n| n.ip).filter(|_| code);
    // Arguments that registers hold are kept, if at all, above the return address.
    let word = |i: u64| {
        let at = next?.sp.checked_add(i * u64::from(pointer))?;
        dump.space.ptr(at)
    };
    let words: [Option<u64>; 4] = if code { std::array::from_fn(|i| word(i as u64)) } else { [None; 4] };
    let shown = |v: Option<u64>| tick(v.unwrap_or(0), pointer);
    let source = name.line.as_ref().filter(|_| lines).map(|(file, line)| format!(" [{file} @ {line}]"));
    let site = format!("{}{}", name.site, source.unwrap_or_default());
    let distance = || match number.checked_sub(1).and_then(|n| stack.frames.get(n)) {
        Some(newer) => format!("{:>8x}", f.sp.wrapping_sub(newer.sp)),
        None => " ".repeat(8),
    };
    let (sp, ret) = (tick(f.sp, pointer), shown(returns));
    let line = match form {
        Form::Clean => format!("{number:02x} {site}"),
        _ if name.kind == "gap" => format!("{number:02x} {site}"),
        Form::Plain => format!("{number:02x} {sp} {ret}     {site}"),
        Form::Distance => format!("{number:02x} {} {sp} {ret}     {site}", distance()),
        Form::Words => {
            let words: Vec<String> =
                words.iter().map(|w| w.map_or_else(|| "????????`????????".into(), |w| tick(w, pointer))).collect();
            format!("{number:02x} {sp} {ret}     : {} : {site}", words.join(" "))
        }
    };
    let known = |v: Option<u64>| v.map_or(Cell::None, Cell::Hex);
    let [a, b, c, d] = words;
    let cells = [
        Cell::Num(number as u64),
        Cell::Addr(f.sp),
        returns.map_or(Cell::None, Cell::Addr),
        Cell::text(&*name.site),
        Cell::Addr(f.ip),
        Cell::text(name.kind),
        Cell::maybe(Some(name.module.as_str()).filter(|m| !m.is_empty())),
        name.method.map_or(Cell::None, Cell::Addr),
        Cell::maybe(name.line.as_ref().map(|l| l.0.as_str())),
        name.line.as_ref().map_or(Cell::None, |l| Cell::Num(u64::from(l.1))),
        Cell::Bool(f.guessed),
        known(a),
        known(b),
        known(c),
        known(d),
    ];
    Ok(out.row_as(&FRAMES, &cells, line)?)
}

fn frame(ctx: &mut Ctx<'_>, args: &Args) -> Result<Outcome> {
    let session = ctx.session()?;
    let stack = session.mixed_stack_from(ctx.settings.thread, ctx.settings.context.as_ref());
    let number = usize::try_from(args.number("N").unwrap_or(0)).unwrap_or(usize::MAX);
    let found = stack.frames.get(number);
    let f = found.ok_or_else(|| anyhow!("the stack has {} frames; k lists them", stack.frames.len()))?;
    ctx.out.datum("frame", &Cell::Num(number as u64));
    row(session, ctx.out, &stack, number, Form::Plain, true)?;
    if let Some(context) = f.registers.filter(|_| args.has("r")) {
        registers(ctx.out, &context, session.dump().arch)?;
    }
    if args.has("c") {
        let registers = f.registers.as_ref().and_then(registers_of);
        let registers = registers.ok_or_else(|| anyhow!("the registers of this frame are not known"))?;
        ctx.settings.choose(Some(Chosen { registers, exact: f.exact }));
    }
    Ok(Outcome::Complete)
}

/// Registers as `r` prints them; what is not known has question marks.
fn registers(out: &mut Out, context: &Context, arch: Arch) -> Result<()> {
    let digits = usize::from(arch.pointer_size()) * 2;
    let [ip, ..] = arch.pointers();
    let numbered = names(arch).iter().enumerate();
    let all: Vec<(&str, Option<u64>)> =
        numbered.map(|(n, name)| (*name, context.get(n))).chain([(ip, Some(context.ip))]).collect();
    for (name, v) in &all {
        out.data_row(&REGISTERS, &[Cell::text(*name), v.map_or(Cell::None, Cell::Hex)])?;
    }
    let text = |(name, v): &(&str, Option<u64>)| match v {
        Some(v) => format!("{name:>3}={v:0digits$x}"),
        None => format!("{name:>3}={}", "?".repeat(digits)),
    };
    for line in all.chunks(3) {
        out.facts(&[], line.iter().map(text).collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}
