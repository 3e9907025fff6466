//! What to do next where a runtime cannot be read: the line that asks for builds nobody has seen, what to collect instead of a dump
//! that lacks the memory, which providers to ask.

use super::provider::Provider;
use super::report::RuntimeModule;
use crate::dump::{Dump, MapEntry, Os, Presence};

/// Asks for what is missing: which build it is, and what of it would help.
pub fn asks(dump: &Dump, module: &RuntimeModule) -> String {
    let file = module.path.rsplit(['/', '\\']).next().unwrap_or_default();
    let version = module.version.as_deref().and_then(|v| v.split(' ').next()).unwrap_or("of unknown version");
    let index =
        dump.module_at(module.base).and_then(|m| m.index()).map_or_else(String::new, |i| format!(", index {i}"));
    let place = match env!("CARGO_PKG_REPOSITORY") {
        "" => "whoever gave you this program",
        url => url,
    };
    format!(
        "this build is asked for: {file} {version} ({}, {}{index}); a report with what !runtimes -v prints, which holds \
         nothing of the program's data, to {place} helps",
        if dump.os == Os::Windows { "Windows" } else { "Linux" },
        dump.arch.name()
    )
}

/// What to do where a runtime is in the dump and not read: it is the build that nobody knows, unless `disabled` providers were
/// not asked.
pub fn next(dump: &Dump, module: &RuntimeModule, disabled: &[Provider]) -> String {
    match disabled {
        [] => asks(dump, module),
        _ => "ask all providers: some are switched off".to_owned(),
    }
}

/// What to collect where the dump lacks the memory: no report would tell more.
pub fn collect(dump: &Dump) -> &'static str {
    match dump.os {
        Os::Windows => "take a heap or full dump (clrscope collect -t heap, procdump -ma)",
        _ => "take a heap or full dump (clrscope collect -t heap, gcore)",
    }
}

/// Whether the runtime's variables are in the dump, as they are in each but the smallest: memory of its image that can be
/// written, or, where the dump does not tell, most of the image.
pub fn holds_data(dump: &Dump, module: &RuntimeModule) -> bool {
    /// `PAGE_READWRITE`, `PAGE_WRITECOPY`, the same with `EXECUTE`.
    const WRITABLE: u32 = 0x04 | 0x08 | 0x40 | 0x80;
    let inside = |e: &&MapEntry| e.start < module.end && e.end > module.base && e.presence == Presence::Dumped;
    let (mut present, mut told) = (0, false);
    for entry in dump.map.iter().filter(inside) {
        if entry.protect & WRITABLE != 0 {
            return true;
        }
        told |= entry.protect != 0;
        present += entry.end.min(module.end) - entry.start.max(module.base);
    }
    !told && present > (module.end - module.base) / 2
}
