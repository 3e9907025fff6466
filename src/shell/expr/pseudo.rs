//! Names in expressions: registers, the pseudo registers of the debuggers, modules.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Scope, USER};
use crate::dump::{Dump, ExceptionInfo, Module, Registers, Thread};

/// A pseudo register: its name without the `$`, what it stands for, and what is said where it has no value.
pub struct Pseudo {
    /// Its name.
    pub name: &'static str,
    of: fn(&Here<'_>) -> Option<u64>,
    why: &'static str,
}

/// Where a name is asked for.
struct Here<'a> {
    dump: &'a Dump,
    thread: Option<&'a Thread>,
    scope: &'a Scope<'a>,
}

impl Here<'_> {
    fn register(&self, names: &[&str]) -> Option<u64> {
        let registers = self.registers()?;
        names.iter().find_map(|n| registers.get(n))
    }

    fn ip(&self) -> Option<u64> {
        self.registers().map(|r| r.ip)
    }

    fn registers(&self) -> Option<&Registers> {
        self.scope.context.or_else(|| self.thread?.registers.as_ref())
    }

    fn peb(&self) -> Option<u64> {
        let at = if self.dump.arch.pointer_size() == 8 { 0x60 } else { 0x30 };
        self.dump.space.ptr_at(self.thread?.teb?, at)
    }

    fn exception(&self) -> Option<&ExceptionInfo> {
        self.dump.exception.as_ref()
    }
}

const NO_REGISTERS: &str = "the dump has no registers of this thread";
const NO_EXCEPTION: &str = "the dump records no exception: it was taken of a running process";
const NO_TEB: &str = "the dump has no TEB of this thread";
const NO_KERNEL: &str = "it has a value in kernel dumps alone";

const fn pseudo(name: &'static str, of: fn(&Here<'_>) -> Option<u64>, why: &'static str) -> Pseudo {
    Pseudo { name, of, why }
}

/// Pseudo registers with a fixed name.
pub const PSEUDO: &[Pseudo] = &[
    pseudo("ptrsize", |h| Some(u64::from(h.dump.arch.pointer_size())), ""),
    pseudo("pagesize", |h| Some(h.dump.process.page_size), ""),
    pseudo("tpid", |h| h.dump.process.pid, "the dump does not record the number of its process"),
    pseudo("tid", |h| h.thread.map(|t| t.os_id), "the dump has no threads"),
    pseudo("dtid", |h| Some(h.scope.thread as u64), ""),
    pseudo("dpid", |_| Some(0), ""),
    pseudo("teb", |h| h.thread?.teb, NO_TEB),
    pseudo("thread", |h| h.thread?.teb, NO_TEB),
    pseudo("peb", |h| h.peb(), NO_TEB),
    pseudo("proc", |h| h.peb(), NO_TEB),
    pseudo("ip", |h| h.ip(), NO_REGISTERS),
    pseudo("scopeip", |h| h.ip(), NO_REGISTERS),
    pseudo("eventip", event_ip, NO_REGISTERS),
    pseudo("csp", |h| h.registers().map(|r| r.sp), NO_REGISTERS),
    pseudo("retreg", |h| h.register(&["rax", "eax", "x0", "r0"]), NO_REGISTERS),
    pseudo(
        "retreg64",
        |h| match h.register(&["rax", "x0"]) {
            None => Some(h.register(&["edx"])? << 32 | h.register(&["eax"])?),
            whole => whole,
        },
        NO_REGISTERS,
    ),
    pseudo("exentry", |h| entry(h.dump, main_module(h.dump)?.base), "the dump lacks the header of the program"),
    pseudo("exp", |h| Some(h.scope.values.exp), ""),
    pseudo("p", |h| h.scope.values.shown, "no memory has been displayed yet"),
    pseudo("frame", |_| Some(0), ""),
    pseudo("dbgtime", |_| now(), "this machine has no clock"),
    pseudo("exr_code", |h| h.exception().map(|e| u64::from(e.code)), NO_EXCEPTION),
    pseudo("exr_chance", |_| None, "dumps do not record whether it was the first chance or the second"),
    pseudo("exr_numparams", |h| h.exception().map(|e| e.parameters.len() as u64), NO_EXCEPTION),
    pseudo("ra", |_| None, "k shows the return addresses of the stack"),
    pseudo("lastclrex", |_| None, "!pe shows the exception of the current thread"),
    pseudo("ea", |_| None, "no instruction has run: a dump stands still"),
    pseudo("ea2", |_| None, "no instruction has run: a dump stands still"),
    pseudo("previp", |_| None, "a dump has one event and none before it"),
    pseudo("relip", |_| None, "no branches are traced in a dump"),
    pseudo("callret", |_| None, "no function is called in a dump"),
    pseudo("bug_code", |_| None, NO_KERNEL),
    pseudo("pcr", |_| None, NO_KERNEL),
    pseudo("pcrb", |_| None, NO_KERNEL),
];

/// The instruction pointer of the thread of the event.
fn event_ip(here: &Here<'_>) -> Option<u64> {
    let of = here.exception().and_then(|e| here.dump.thread_of(e.thread_id));
    of.or(here.thread)?.registers.as_ref().map(|r| r.ip)
}

/// Seconds as Windows counts them: units of 100 ns since 1601.
fn now() -> Option<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos() / 100).ok()?.checked_add(116_444_736_000_000_000)
}

/// The program itself: of Windows the one module that is called so, else the one that comes first in memory.
fn main_module(dump: &Dump) -> Option<&Module> {
    let program = |m: &&Module| m.file_name().to_ascii_lowercase().ends_with(".exe");
    dump.modules.iter().find(program).or_else(|| dump.modules.first())
}

/// The entry point of the image at `base`, by its header (PE or ELF).
pub fn entry(dump: &Dump, base: u64) -> Option<u64> {
    let space = &dump.space;
    let at = |offset: u64| base.checked_add(offset);
    if space.u32(base)? == u32::from_le_bytes(*b"\x7fELF") {
        let entry = match space.u8(at(4)?)? {
            1 => u64::from(space.u32(at(0x18)?)?),
            _ => space.u64(at(0x18)?)?,
        };
        // ET_EXEC names the address itself.
        return if space.u16(at(0x10)?)? == 2 { Some(entry) } else { base.checked_add(entry) };
    }
    let header = at(u64::from(space.u32(at(0x3C)?)?))?;
    let signed = space.u16(base)? == u16::from_le_bytes(*b"MZ") && space.u32(header)? == u32::from_le_bytes(*b"PE\0\0");
    let rva = space.u32(header.checked_add(0x28)?)?;
    base.checked_add(u64::from(rva)).filter(|_| signed)
}

/// The checksum in the header of a PE image.
pub fn checksum(dump: &Dump, base: u64) -> Option<u32> {
    let header = base.checked_add(u64::from(dump.space.u32(base.checked_add(0x3C)?)?))?;
    let signed = dump.space.u32(header)? == u32::from_le_bytes(*b"PE\0\0");
    dump.space.u32(header.checked_add(0x58)?).filter(|_| signed)
}

/// The name the native debuggers give a module.
pub fn module_name(module: &Module) -> String {
    module.symbol_name()
}

/// The names of all modules in their order. A second one of the same name has its base behind it.
pub fn module_names(dump: &Dump) -> Vec<String> {
    let mut taken = rustc_hash::FxHashSet::default();
    let named = dump.modules.iter().map(|m| {
        let name = module_name(m);
        if taken.insert(name.to_lowercase()) { name } else { format!("{name}_{:x}", m.base) }
    });
    named.collect()
}

/// The module an expression means by `name`, in lower case: by its name, else by that of its file or its stem.
fn module(dump: &Dump, name: &str) -> Option<u64> {
    let name = name.trim_start_matches('@');
    let by = |of: &dyn Fn(&Module) -> bool| dump.modules.iter().find(|m| of(m)).map(|m| m.base);
    let same = |own: &str| own.eq_ignore_ascii_case(name);
    by(&|m| same(&module_name(m)))
        .or_else(|| by(&|m| same(m.file_name()) || same(m.stem())))
        // `zoo_7f3a1c000000`: the base tells modules of one name apart.
        .or_else(|| {
            let (stem, base) = name.rsplit_once('_')?;
            let base = u64::from_str_radix(base, 16).ok()?;
            by(&|m| m.base == base && module_name(m).eq_ignore_ascii_case(stem))
        })
}

/// What a name stands for.
pub fn named(name: &str, scope: &Scope<'_>) -> Result<u64, String> {
    let bare = name.trim_start_matches('@').to_lowercase();
    if let Some(n) = bare.strip_prefix("$t").and_then(|n| n.parse::<usize>().ok()).filter(|&n| n < USER) {
        return Ok(scope.values.user[n]);
    }
    let dump = scope.dump.ok_or_else(|| format!("`{name}` is not a number, and no dump is open"))?;
    let here = Here { dump, thread: dump.threads.get(scope.thread), scope };
    let plain = if bare == "." { "ip" } else { bare.trim_start_matches('$') };
    let dollar = bare.starts_with('$') || bare == ".";
    let pseudo = PSEUDO.iter().find(|p| p.name == plain);
    if dollar && let Some(p) = pseudo {
        return (p.of)(&here).ok_or_else(|| format!("`{name}`: {}", p.why));
    }
    if dollar && let Some(answer) = numbered(plain, &here) {
        return answer.map_err(|why| format!("`{name}`: {why}"));
    }
    let registers = here.registers();
    let at = name.starts_with('@');
    let found = registers.and_then(|r| r.get(plain)).or_else(|| module(dump, &bare));
    // `@ip` is taken for `@$ip`.
    let found = found.or_else(|| (pseudo.filter(|_| at)?.of)(&here));
    found.ok_or_else(|| match registers.is_none() && at {
        true => format!("`{name}`: {NO_REGISTERS}"),
        false => format!("`{name}` is no number, register or module"),
    })
}

/// `$exr_param3`, `$bp2`, `$bug_param1`.
fn numbered(name: &str, here: &Here<'_>) -> Option<Result<u64, &'static str>> {
    let number = |prefix: &str| name.strip_prefix(prefix)?.parse::<usize>().ok();
    if let Some(n) = number("exr_param") {
        let of = here.exception().map(|e| e.parameters.get(n).copied());
        return Some(of.map_or(Err(NO_EXCEPTION), |p| p.ok_or("the exception has fewer parameters")));
    }
    // There are no breakpoints.
    number("bp").map(|_| Ok(0)).or_else(|| number("bug_param").map(|_| Err(NO_KERNEL)))
}
