//! Where a module of CLR 2.0 keeps its statics.
//!
//! Order: the shared source, `clr/src/vm/appdomain.hpp` (`DomainLocalModule`: its file, the table of dynamic classes and its length,
//! thunks, references, a byte for each class, the rest). A `Module` has its address, or, where domains share the module, a number
//! with the lowest bit set. Where it does is searched for.

use super::super::checks::Probe;
use super::super::search::Search;
use super::super::{Layout, Source};
use super::domains;
use crate::clr::types::dynamicstatics::local_module;
use crate::clr::types::fielddesc;
use crate::clr::types::methodtable::MtReader;
use crate::dump::AddressSpace;

/// Words of a `Module` looked through.
const MODULE_WORDS: u64 = 0x200;

/// Finds the place: the only one under which the statics of most modules are their own and of none another's, and those of
/// System.String hold the empty string.
pub fn complete(search: &Search<'_>, layout: &mut Layout) {
    let space = &search.dump.space;
    if layout.constant("InlineVtables").is_err() || layout.try_offset("Module", "DomainLocalModule").is_some() {
        return;
    }
    domains::complete(space, layout);
    let modules = Probe::new(search.dump, layout, search.gc, search.module, Source::Calibrated).modules();
    let ptr = u64::from(space.ptr_size());
    let mut trial = layout.clone();
    let mut proofs = |at: u64| {
        trial.set_field("Module", "DomainLocalModule", at, Source::Calibrated);
        let own: Option<Vec<bool>> = modules.iter().map(|&m| is_own(space, &trial, m)).collect();
        let own = own?.into_iter().filter(|&o| o).count();
        empty_string(space, &trial)?;
        Some((own, at))
    };
    let found: Vec<(usize, u64)> = (1..MODULE_WORDS).filter_map(|i| proofs(i * ptr)).collect();
    // Small odd words are in many places: where several are as good, none is believed.
    let most = found.iter().map(|f| f.0).max().unwrap_or(0);
    let best: Vec<u64> = found.iter().filter(|f| f.0 == most).map(|f| f.1).collect();
    if let &[only] = best.as_slice() {
        layout.set_field("Module", "DomainLocalModule", only, Source::Calibrated);
    }
}

/// Whether the statics of `module` belong to a file of its own, or it has none yet; `None` where they are another's.
fn is_own(space: &AddressSpace, layout: &Layout, module: u64) -> Option<bool> {
    let word = layout.try_offset("Module", "DomainLocalModule").and_then(|at| space.ptr_at(module, at))?;
    match local_module(space, layout, module) {
        Some(local) => {
            let file = space.ptr(local)?;
            let of_file = space.ptr_at(file, layout.try_offset("DomainAssembly", "Module")?)?;
            (of_file == module).then_some(true)
        }
        // A number whose slot is empty, or nothing.
        None => (word == 0 || word & 1 != 0 && Some(word >> 1) < slots(space, layout)).then_some(false),
    }
}

/// How many modules have a number in the domain.
fn slots(space: &AddressSpace, layout: &Layout) -> Option<u64> {
    let domain = space.ptr(layout.global("AppDomain").ok()?)?;
    space.ptr_at(domain, layout.try_offset("AppDomain", "ModuleSlotCount")?)
}

/// Finds a static of System.String that is the empty string.
fn empty_string(space: &AddressSpace, layout: &Layout) -> Option<()> {
    let mts = MtReader::new(layout).ok()?;
    let string = mts.read(space, space.ptr(layout.global("StringMethodTable").ok()?)?)?;
    let local = local_module(space, layout, string.module)?;
    let base = space.ptr_at(local, layout.try_offset("DomainLocalModule", "GCStatics")?).filter(|&b| b != 0)?;
    let fields = fielddesc::list(space, layout, &mts, &string).ok()?;
    let length = layout.try_offset("String", "Length")?;
    let is_empty = |field: &fielddesc::FieldDesc| {
        let object = space.ptr_at(base, u64::from(field.offset)).filter(|&o| o != 0)?;
        (space.ptr(object)? == string.address && space.u32(object.checked_add(length)?)? == 0).then_some(())
    };
    /// Every reference is a class in these records.
    const CLASS: u8 = 0x12;
    let mut references = fields.items.iter().filter(|f| f.is_static && !f.is_rva && f.element_type == CLASS);
    references.any(|f| is_empty(f).is_some()).then_some(())
}
