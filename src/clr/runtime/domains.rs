//! App domains and the assemblies loaded into them.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/appdomain.hpp` (`AppDomain`, its `ArrayList` of assemblies).

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::Missing;

/// Bound on assemblies, which says so.
const MAX_ASSEMBLIES: usize = 1 << 22;

/// An assembly of an app domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadedAssembly {
    /// The list's item: a `DomainAssembly`, since 11.0 the `Assembly` itself.
    pub item: u64,
    /// The `Assembly`, where the item points at one.
    pub assembly: u64,
    /// Its `Module`.
    pub module: u64,
}

/// The app domain's address.
pub fn app_domain(clr: &Clr) -> Option<u64> {
    clr.space().ptr(clr.layout().global("AppDomain").ok()?).filter(|&d| d != 0)
}

/// The system domain's address.
pub fn system_domain(clr: &Clr) -> Option<u64> {
    clr.space().ptr(clr.layout().global("SystemDomain").ok()?).filter(|&d| d != 0)
}

/// Assemblies of the app domain, in the order they were loaded.
pub fn assemblies(clr: &Clr) -> Result<Gathered<LoadedAssembly>, Missing> {
    let mut out = Gathered::default();
    let (space, l) = (clr.space(), clr.layout());
    let Some(domain) = app_domain(clr) else {
        out.because("the app domain is not in the dump, or failed its checks: see !runtimes -v");
        return Ok(out);
    };
    let list = domain.saturating_add(l.offset("AppDomain", "DomainAssemblyList")?);
    let (first, next) = (l.offset("ArrayListBase", "FirstBlock")?, l.offset("ArrayListBlock", "Next")?);
    let (size, start) = (l.offset("ArrayListBlock", "Size")?, l.offset("ArrayListBlock", "ArrayStart")?);
    let count = space.u32(list.saturating_add(l.offset("ArrayListBase", "Count")?)).unwrap_or(0) as usize;
    if count > MAX_ASSEMBLIES {
        out.because(format!("the list claims {count} assemblies, {MAX_ASSEMBLIES} at most are read"));
    }
    let count = count.min(MAX_ASSEMBLIES);
    let ptr = u64::from(clr.ptr_size());
    // The first block is part of the list itself.
    let mut block = list.saturating_add(first);
    let (mut read, mut seen) = (0, FxHashSet::default());
    while block != 0 && read < count && seen.insert(block) {
        let Some(slots) = space.u32(block.saturating_add(size)) else { break };
        for i in 0..u64::from(slots).min((count - read) as u64) {
            read += 1;
            let item = space.ptr_at(block.saturating_add(start), i * ptr).unwrap_or(0);
            if item != 0
                && let Some(a) = assembly(clr, item)?
            {
                out.items.push(a);
            }
        }
        block = space.ptr_at(block, next).unwrap_or(0);
    }
    if read < count {
        out.because(format!("{read} of {count} assemblies are in the dump"));
    }
    Ok(out)
}

/// The `Assembly` a `DomainAssembly` belongs to (`m_pAssembly`), found by its shape: the word of the record that leads to
/// something whose own first words hold the manifest's module.
fn own_assembly(clr: &Clr, item: u64, module: u64) -> Option<u64> {
    /// Words of the record looked at, and words of an `Assembly` the module is among.
    const WORDS: (u64, u64) = (20, 16);
    let (space, ptr) = (clr.space(), clr.header());
    let holds = |p: u64| (0..WORDS.1).any(|i| space.ptr_at(p, i * ptr) == Some(module));
    let word = |i: u64| space.ptr_at(item, i * ptr).filter(|&p| p != 0 && p != item && p != module);
    (0..WORDS.0).filter(|_| module != 0).filter_map(word).find(|&p| holds(p))
}

fn assembly(clr: &Clr, item: u64) -> Result<Option<LoadedAssembly>, Missing> {
    let (space, l) = (clr.space(), clr.layout());
    let (assembly, module) = match l.try_offset("DomainAssembly", "Module") {
        Some(o) => {
            let module = space.ptr_at(item, o);
            // Since 11.0 the list holds the assemblies themselves: the module leads back.
            let of_module = module.and_then(|m| space.ptr_at(m, l.try_offset("Module", "Assembly")?));
            let own = of_module.filter(|&a| a == item).or_else(|| own_assembly(clr, item, module.unwrap_or(0)));
            (own.unwrap_or(0), module)
        }
        None => {
            let assembly = space.ptr_at(item, l.offset("DomainAssembly", "Assembly")?);
            let module = l.offset("Assembly", "Module")?;
            (assembly.unwrap_or(0), assembly.and_then(|a| space.ptr_at(a, module)))
        }
    };
    Ok(module.filter(|&m| m != 0).map(|module| LoadedAssembly { item, assembly, module }))
}
