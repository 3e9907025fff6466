//! The line that asks for builds nobody has seen.

use super::report::RuntimeModule;
use crate::dump::{Dump, Os};

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
