//! App domains and the assemblies loaded into them.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/appdomain.hpp` (`AppDomain`, its `ArrayList` of assemblies).

use rustc_hash::FxHashSet;

use crate::clr::Clr;
use crate::clr::gathered::Gathered;
use crate::clr::layout::{Missing, arraylist};

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
    /// The app domain whose list it is in.
    pub domain: u64,
}

/// The app domain's address.
pub fn app_domain(clr: &Clr) -> Option<u64> {
    clr.space().ptr(clr.layout().global("AppDomain").ok()?).filter(|&d| d != 0)
}

/// The system domain's address.
pub fn system_domain(clr: &Clr) -> Option<u64> {
    clr.space().ptr(clr.layout().global("SystemDomain").ok()?).filter(|&d| d != 0)
}

/// The shared domain's address: through 2.2 and in .NET Framework, the home of what all app domains share.
pub fn shared_domain(clr: &Clr) -> Option<u64> {
    clr.space().ptr(clr.layout().global("SharedDomain").ok()?).filter(|&d| d != 0)
}

/// An app domain of the process. There is one since .NET Core; .NET Framework has as many as the program makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDomain {
    /// Its address.
    pub address: u64,
    /// Its number, from 1.
    pub id: u32,
    /// The name the host or program gave it, where the layout knows its place.
    pub name: Option<String>,
}

/// Bound on app domains, which says so: an object's header has 11 bits for their number.
const MAX_DOMAINS: usize = 1 << 11;

/// The app domains, by number: those of the runtime's list; where no provider names it, the one there is and those that
/// threads run in.
pub fn app_domains(clr: &Clr) -> Gathered<AppDomain> {
    let mut out = Gathered::default();
    if clr.ahead().is_some() {
        // All is compiled into one image: there are none.
        return out;
    }
    let listed = clr.layout().global("AppDomainIndexList").ok().and_then(|list| items(clr, list, MAX_DOMAINS));
    let mut all: Vec<(u64, u32)> = match listed {
        Some(list) => {
            if let Some(why) = list.partial {
                out.because(why);
            }
            list.items.iter().zip(1..).filter(|(d, _)| **d != 0).map(|(&d, id)| (d, id)).collect()
        }
        None => app_domain(clr).into_iter().zip(1..).collect(),
    };
    if all.is_empty() {
        all.extend(app_domain(clr).into_iter().zip(1..));
    }
    let known: FxHashSet<u64> = all.iter().map(|d| d.0).collect();
    let (system, shared) = (system_domain(clr), shared_domain(clr));
    let mut others: Vec<u64> = clr.threads().items.iter().map(|t| t.domain).filter(|d| *d != 0).collect();
    others.sort_unstable();
    others.dedup();
    others.retain(|&d| !known.contains(&d) && Some(d) != system && Some(d) != shared);
    let next = all.iter().map(|d| d.1).max().unwrap_or(0) + 1;
    all.extend(others.into_iter().zip(next..));
    let own_id = |d: u64| clr.space().u32(d.checked_add(clr.layout().try_offset("AppDomain", "Id")?)?);
    for (domain, id) in &mut all {
        *id = own_id(*domain).filter(|i| (1..=MAX_DOMAINS as u32).contains(i)).unwrap_or(*id);
    }
    out.items =
        all.into_iter().map(|(address, id)| AppDomain { address, id, name: friendly_name(clr, address) }).collect();
    if out.items.is_empty() {
        out.because("the app domain is not in the dump, or failed its checks: see !runtimes -v");
    }
    out
}

/// The domain's name as its creator spelled it.
fn friendly_name(clr: &Clr, domain: u64) -> Option<String> {
    const MOST: usize = 1 << 10;
    let text = clr.space().ptr_at(domain, clr.layout().try_offset("AppDomain", "FriendlyName")?)?;
    Some(clr.space().utf16z(text, MOST)).filter(|t| !t.is_empty())
}

/// The items of the list at `list`.
fn items(clr: &Clr, list: u64, most: usize) -> Option<Gathered<u64>> {
    arraylist::items(clr.space(), clr.layout(), list, most)
}

/// Assemblies of all app domains, in the order they were loaded; one that several domains share is of the first.
pub fn assemblies(clr: &Clr) -> Result<Gathered<LoadedAssembly>, Missing> {
    let mut out = Gathered::default();
    if clr.ahead().is_some() {
        // All assemblies are compiled into one image, which stands for them.
        out.items.push(LoadedAssembly { item: 0, assembly: 0, module: clr.found.module.base, domain: 0 });
        return Ok(out);
    }
    let domains = app_domains(clr);
    if let Some(why) = domains.partial {
        out.because(why);
    }
    let mut seen = FxHashSet::default();
    for domain in &domains.items {
        let of = assemblies_of(clr, domain.address)?;
        if let Some(why) = of.partial {
            out.because(why);
        }
        out.items.extend(of.items.into_iter().filter(|a| seen.insert(a.module)));
    }
    Ok(out)
}

/// Assemblies of the app domain at `domain`, in the order they were loaded.
pub fn assemblies_of(clr: &Clr, domain: u64) -> Result<Gathered<LoadedAssembly>, Missing> {
    let mut out = Gathered::default();
    let l = clr.layout();
    let list = domain.saturating_add(l.offset("AppDomain", "DomainAssemblyList")?);
    for (ty, field) in [
        ("ArrayListBase", "Count"),
        ("ArrayListBase", "FirstBlock"),
        ("ArrayListBlock", "Next"),
        ("ArrayListBlock", "Size"),
        ("ArrayListBlock", "ArrayStart"),
    ] {
        l.offset(ty, field)?;
    }
    let Some(list) = items(clr, list, MAX_ASSEMBLIES) else {
        out.because("the list of assemblies is not in the dump");
        return Ok(out);
    };
    if let Some(why) = list.partial {
        out.because(format!("assemblies: {why}"));
    }
    for item in list.items.into_iter().filter(|&i| i != 0) {
        if let Some(mut a) = assembly(clr, item)? {
            a.domain = domain;
            out.items.push(a);
        }
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
    Ok(module.filter(|&m| m != 0).map(|module| LoadedAssembly { item, assembly, module, domain: 0 }))
}
