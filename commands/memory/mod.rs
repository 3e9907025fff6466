//! Process memory and native state: the commands a native debugger has.

pub mod address;
pub mod context;
pub mod display;
pub mod dlls;
pub mod environment;
pub mod error;
pub mod format;
pub mod forms;
pub mod handles;
pub mod headers;
pub mod list;
pub mod lm;
pub mod maddress;
pub mod nativeheap;
pub mod pointers;
pub mod pointersin;
pub mod process;
pub mod protect;
pub mod range;
pub mod raw;
pub mod regions;
pub mod registers;
pub mod search;
pub mod summary;
pub mod symbols;
pub mod thing;
pub mod usage;
mod view;

use crate::dump::Dump;
use crate::shell::Ctx;
pub use crate::shell::expr::matches;
pub use crate::shell::expr::pseudo::module_name;
use crate::shell::expr::{Unevaluated, evaluate};
use crate::shell::opaque::show;

/// An address as the native debuggers print it: `00007f3a`1c000028`, or 8 digits in a 32-bit process.
pub fn tick(address: u64, pointer: u8) -> String {
    if pointer == 4 { format!("{address:08x}") } else { format!("{:08x}`{:08x}", address >> 32, address & 0xFFFF_FFFF) }
}

/// `       0`7ffe0000`: the upper half padded with blanks.
pub fn wide(address: u64) -> String {
    format!("{:8x}`{:08x}", address >> 32, address & 0xFFFF_FFFF)
}

/// `module+0x123`, when `address` lies in a module.
pub fn symbol(dump: &Dump, address: u64) -> Option<String> {
    let module = dump.module_at(address)?;
    Some(match address - module.base {
        0 => module_name(module),
        offset => format!("{}+0x{offset:x}", module_name(module)),
    })
}

/// The module that `text` names, by its place in [`Dump::modules`]: a name, else an address in it.
pub fn module_index(ctx: &Ctx<'_>, text: &str) -> anyhow::Result<usize> {
    let (modules, text) = (&ctx.session()?.dump().modules, show(text));
    let by_name = modules.iter().position(|m| lm::named(&text, m));
    let by_address = || {
        let address = value(ctx, &text).ok()?;
        modules.iter().position(|m| address >= m.base && address - m.base < m.size)
    };
    by_name
        .or_else(by_address)
        .ok_or_else(|| anyhow::anyhow!("no module is called {text} or holds that address; lm lists them"))
}

/// Evaluates an expression in the open dump and its current thread.
pub fn value(ctx: &Ctx<'_>, text: &str) -> anyhow::Result<u64> {
    let dump = ctx.session.map(|s| s.dump());
    evaluate(text, &ctx.settings.scope(dump)).map_err(|why| Unevaluated(why).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dump::Module;

    #[test]
    fn module_names() {
        let module = |path: &str| Module { path: path.into(), ..Module::default() };
        assert_eq!(module_name(&module(r"C:\x\System.Runtime.dll")), "System_Runtime");
        assert_eq!(module_name(&module("/lib/libc.so.6")), "libc_so");
        assert_eq!(module_name(&module("/usr/bin/dotnet")), "dotnet");
    }

    #[test]
    fn addresses() {
        assert_eq!(tick(0x7f3a_1c00_0028, 8), "00007f3a`1c000028");
        assert_eq!(tick(0x1c00_0028, 4), "1c000028");
        assert_eq!(wide(0x7ffe_0000), "       0`7ffe0000");
        assert_eq!(wide(u64::MAX), "ffffffff`ffffffff");
    }
}
