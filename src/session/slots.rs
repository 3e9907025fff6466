//! Names of the slots through which objects refer to one another.

use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Result;
use rustc_hash::FxHashMap;

use super::Session;
use crate::clr::Clr;
use crate::clr::runtime::threads::ClrThread;
use crate::clr::types::fields::et;
use crate::clr::types::statics;
use crate::heap::TypeInfo;

/// Structs in structs followed; the name of one deeper inside is that of the struct around it.
const MAX_DEPTH: u32 = 64;
/// Names kept: further ones are made anew each time.
const MAX_NAMES: usize = 1 << 20;

/// Names of slots met so far, by type number and offset.
#[derive(Debug, Default)]
pub(super) struct SlotNames(RwLock<FxHashMap<(u32, u64), Arc<str>>>);

impl Session {
    /// What the slot at `offset` of objects of type `ty` is called: `field`, `field.inner` in a struct, `[]` in an array,
    /// `[].field` in an array of structs; `+0x18` when the fields are not known.
    pub fn slot_name(&self, clr: &Clr, ty: &TypeInfo, offset: u64) -> Arc<str> {
        let key = (ty.id, self.slot_key(clr, ty, offset));
        if let Some(n) = self.slot_names.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return n.clone();
        }
        let name: Arc<str> = self.read_name(clr, ty, key.1).unwrap_or_else(|| format!("+0x{offset:x}")).into();
        let mut names = self.slot_names.0.write().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MAX_NAMES {
            names.insert(key, name.clone());
        }
        name
    }

    /// Slots of a type with the same key have the same name: the offset as it is in the first element of an array.
    pub fn slot_key(&self, clr: &Clr, ty: &TypeInfo, offset: u64) -> u64 {
        let (first, size) = (first_element(clr, ty), u64::from(ty.mt.component_size()));
        match offset.checked_sub(first) {
            Some(inside) if ty.mt.is_array() && size > 0 => first + inside % size,
            _ => offset,
        }
    }

    /// Slots of static fields in the object of `size` bytes at `address`, sorted, with `static variable Type.Field` or
    /// `thread static variable Type.Field`; empty unless it is an array in which the runtime keeps static fields.
    pub fn statics_within(&self, address: u64, size: u64) -> Vec<(u64, Arc<str>)> {
        let end = address.saturating_add(size);
        let mut found = Vec::new();
        let lists = [("static variable", self.static_slots()), ("thread static variable", self.thread_static_slots())];
        for (words, list) in lists {
            let Ok(list) = list else { continue };
            let from = list.partition_point(|s| s.0 < address);
            let inside = list.get(from..).unwrap_or(&[]).iter().take_while(|s| s.0 < end);
            found.extend(inside.map(|(at, name)| (*at, format!("{words} {name}").into())));
        }
        found.sort_unstable();
        found
    }

    /// Names of thread statics by the address of their slot, sorted.
    pub fn thread_static_slots(&self) -> Result<&Vec<(u64, Arc<str>)>> {
        self.thread_statics.get(|| {
            let clr = self.clr()?;
            if let Some(ahead) = clr.ahead() {
                let slots = ahead.thread_static_slots(clr.native()).iter();
                return Ok(slots.map(|s| (s.slot, s.name.clone())).collect());
            }
            let mut slots = Vec::new();
            let indexed = clr.layout().text("StaticsKind") == Some("DynamicStaticsInfo");
            let threads: Vec<u64> = clr.threads().items.iter().map(|t| t.address).collect();
            let closed = self.closed_types()?.into_iter();
            for table in closed.chain(clr.defined_types()) {
                self.watch.cancel.check()?;
                if indexed && !statics::has_thread_statics(clr, &table) {
                    continue;
                }
                for f in clr.fields(table.address).statics.iter().filter(|f| f.desc.is_thread_static) {
                    if !statics::in_reference_storage(f.element) {
                        continue;
                    }
                    let places = threads.iter().filter_map(|&t| statics::thread_place(clr, t, &table, &f.desc, true));
                    let name: Arc<str> = format!("{}.{}", clr.type_name(table.address), f.name).into();
                    slots.extend(places.map(|at| (at, name.clone())));
                }
            }
            slots.sort_unstable();
            slots.dedup_by_key(|s: &mut (u64, Arc<str>)| s.0);
            Ok(slots)
        })
    }

    /// Where each thread keeps the thread static `field` of the class `class` of the core library, as far as it has used
    /// it.
    pub fn thread_static_cells(&self, class: &str, field: &str) -> Vec<(&ClrThread, u64)> {
        let Ok(clr) = self.clr() else { return Vec::new() };
        let Some(&mt) = self.find_types(class).ok().as_ref().and_then(|t| t.first()) else { return Vec::new() };
        let (Some(table), fields) = (clr.valid_type(mt), clr.fields(mt)) else { return Vec::new() };
        let Some(f) = fields.statics.iter().find(|f| f.desc.is_thread_static && &*f.name == field) else {
            return Vec::new();
        };
        let reference = statics::in_reference_storage(f.element);
        let place = |t: &ClrThread| statics::thread_place(clr, t.address, &table, &f.desc, reference);
        clr.threads().items.iter().filter_map(|t| Some((t, place(t)?))).collect()
    }

    fn read_name(&self, clr: &Clr, ty: &TypeInfo, offset: u64) -> Option<String> {
        if !ty.mt.is_array() {
            return self.field_path(clr, ty.mt.address, offset.checked_sub(clr.header())?, 0);
        }
        let inside = offset.checked_sub(first_element(clr, ty))?;
        let element = clr.method_table(ty.mt.per_inst);
        match element.filter(|e| e.is_value_type()) {
            Some(e) => Some(format!("[].{}", self.field_path(clr, e.address, inside, 0)?)),
            None => Some("[]".into()),
        }
    }

    /// The field of `mt` that covers the slot `at` bytes behind the first field, and those inside it.
    fn field_path(&self, clr: &Clr, mt: u64, at: u64, depth: u32) -> Option<String> {
        let fields = clr.fields(mt);
        let field = fields.instance.iter().filter(|f| f.offset() <= at).max_by_key(|f| f.offset())?;
        let inside = at - field.offset();
        if field.element.0 != et::STRUCT {
            return match inside {
                0 => Some(field.name.to_string()),
                // An inline array declares its first element only.
                _ if fields.instance.len() == 1 => Some(format!("{}[{}]", field.name, inside / clr.header())),
                _ => None,
            };
        }
        let inner = (depth < MAX_DEPTH).then(|| self.field_type(field)).flatten();
        // An inline array of structs declares its first element only: the others lie behind it.
        let size = |mt: u64| clr.value_size(&clr.method_table(mt)?);
        if fields.instance.len() == 1
            && let (Some(element), Some(all)) = (inner.and_then(size), size(mt))
            && all > element
        {
            let (index, inside) = (inside / element, inside % element);
            let rest = self.field_path(clr, inner?, inside, depth + 1);
            return Some(format!("{}[{index}]{}", field.name, rest.map_or_else(String::new, |r| format!(".{r}"))));
        }
        match inner.and_then(|t| self.field_path(clr, t, inside, depth + 1)) {
            Some(rest) => Some(format!("{}.{rest}", field.name)),
            None => Some(field.name.to_string()),
        }
    }
}

/// Offset of the first element of an array: the base size counts the header word in front of the object.
fn first_element(clr: &Clr, ty: &TypeInfo) -> u64 {
    u64::from(ty.mt.base_size).saturating_sub(clr.header())
}
