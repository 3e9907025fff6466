//! Invariants of MethodTables, classes, fields, modules, statics.

use super::{Found, Probe};
use crate::clr::image::metadata::Metadata;
use crate::clr::image::pe::PeInfo;
use crate::clr::image::place;
use crate::clr::types::dynamicstatics::local_module;
use crate::clr::types::fielddesc;
use crate::clr::types::lookupmap::LookupMap;
use crate::clr::types::methodtable::MethodTable;

pub fn run(p: &mut Probe<'_>) {
    well_known(p);
    let (object, string) = (p.variable("ObjectMethodTable"), p.variable("StringMethodTable"));
    let (Some(object), Some(string)) = (object.and_then(|a| p.mt(a)), string.and_then(|a| p.mt(a))) else {
        return;
    };
    round_trip(p, &object, &string);
    let inline = p.layout.constant("InlineVtables").is_ok();
    module_of(p, &object, &string);
    fields(p, &string, if inline { &[0, 4, 8] } else { &[0, 4] });
    // Where CLR 2.0 keeps its statics is found or not told.
    if !inline || p.layout.try_offset("Module", "DomainLocalModule").is_some() {
        statics(p, &string);
    }
}

/// Judges a well-known MethodTable: memory that is not in the dump proves nothing.
fn judge(p: &Probe<'_>, name: &str, mt: Option<MethodTable>, ok: bool) -> Found {
    if let Ok(cell) = p.layout.global(name)
        && p.module.holds(cell)
        && !p.space().readable(cell)
    {
        return Found::Absent(format!("the variable at {cell:x} is not in the dump"));
    }
    match p.variable(name) {
        Some(a) if a != 0 && mt.is_none() && !p.space().readable(a) && p.plausible(a) => {
            Found::Absent(format!("the MethodTable at {a:x} is not in the dump"))
        }
        _ => Found::when(ok, shape(mt)),
    }
}

fn shape(mt: Option<MethodTable>) -> String {
    mt.map_or("nothing readable".into(), |m| {
        format!("flags {:x}, base size {}, parent {:x}", m.flags, m.base_size, m.parent)
    })
}

fn well_known(p: &mut Probe<'_>) {
    let ptr = p.ptr() as u32;
    let get = |p: &Probe<'_>, name| p.variable(name).and_then(|a| p.mt(a));
    let free = get(p, "FreeObjectMethodTable");
    let ok = free.is_some_and(|m| m.component_size() == 1 && m.base_size == 3 * ptr && m.parent == 0);
    let found = judge(p, "FreeObjectMethodTable", free, ok);
    p.record(
        "the type of free blocks",
        &["&FreeObjectMethodTable", "MethodTable.MTFlags", "MethodTable.BaseSize", "MethodTable.ParentMethodTable"],
        format!("component size 1, base size {}, no parent", 3 * ptr),
        found,
    );
    let object = get(p, "ObjectMethodTable");
    let ok = object.is_some_and(|m| !m.has_component_size() && m.base_size == 3 * ptr && m.parent == 0);
    let found = judge(p, "ObjectMethodTable", object, ok);
    p.record(
        "System.Object",
        &["&ObjectMethodTable"],
        format!("no components, base size {}, no parent", 3 * ptr),
        found,
    );
    let string = get(p, "StringMethodTable");
    let parent = object.map_or(0, |m| m.address);
    let sizes = super::string_sizes(p.ptr());
    let ok = string.is_some_and(|m| m.component_size() == 2 && sizes.contains(&m.base_size) && m.parent == parent);
    let found = judge(p, "StringMethodTable", string, ok);
    p.record(
        "System.String",
        &["&StringMethodTable"],
        format!("component size 2, base size {}, parent System.Object at {parent:x}", sizes[0]),
        found,
    );
    let runtime_type = get(p, "RuntimeTypeMethodTable");
    let ok = runtime_type.is_some_and(|m| {
        m.parent != 0 && m.parent != parent && m.module == object.map_or(0, |o| o.module) && p.round_trip(&m)
    });
    let found = match p.layout.global("RuntimeTypeMethodTable") {
        Ok(_) => judge(p, "RuntimeTypeMethodTable", runtime_type, ok),
        Err(_) => Found::Absent("no provider names the variable".into()),
    };
    p.record(
        "System.RuntimeType",
        &["&RuntimeTypeMethodTable"],
        "a class of the core library below System.Object",
        found,
    );
}

impl Probe<'_> {
    fn round_trip(&self, mt: &MethodTable) -> bool {
        self.mts.as_ref().is_some_and(|r| r.round_trips(self.space(), mt))
    }
}

fn round_trip(p: &mut Probe<'_>, object: &MethodTable, string: &MethodTable) {
    let ok = p.round_trip(object) && p.round_trip(string);
    let seen = format!("classes {:x} and {:x}", object.class_or_canonical, string.class_or_canonical);
    p.record(
        "MethodTable and EEClass point at each other",
        &["MethodTable.EEClassOrCanonMT", "EEClass.MethodTable"],
        "EEClass.MethodTable of Object and String lead back",
        if ok { Found::Good(seen) } else { p.unreadable(seen) },
    );
    let element = |mt: &MethodTable| {
        let class = p.mts.as_ref()?.eeclass(p.space(), mt)?;
        p.space().u8(class.checked_add(p.layout.try_offset("EEClass", "InternalCorElementType")?)?)
    };
    let found = match (element(object), element(string)) {
        (Some(a), Some(b)) => Found::when(a == 0x12 && b == 0x12, format!("{a:#x} and {b:#x}")),
        _ => Found::Absent("the classes are not in the dump".into()),
    };
    p.record("element type of classes", &["EEClass.InternalCorElementType"], "0x12 for Object and String", found);
}

fn module_of(p: &mut Probe<'_>, object: &MethodTable, string: &MethodTable) {
    let module = object.module;
    let ok = module != 0 && module == string.module && p.space().readable(module);
    p.record(
        "Object and String share their module",
        &["MethodTable.Module"],
        "the same readable module",
        Found::when(ok, format!("{:x} and {:x}", object.module, string.module)),
    );
    if !ok {
        return;
    }
    let metadata = images(p, module);
    tokens(p, object, string, metadata.as_ref());
    let slot = |mt: &MethodTable| {
        let map = module.checked_add(p.layout.try_offset("Module", "TypeDefToMethodTableMap")?)?;
        let map = LookupMap::at(p.space(), p.layout, map)?;
        // A map that does not know its count says the greatest number.
        let counts = map.count() == u32::MAX || (mt.rid..1 << 24).contains(&map.count());
        Some((map.get(p.space(), mt.rid)?, counts))
    };
    let found = match (slot(object), slot(string)) {
        (Some((a, x)), Some((b, y))) => {
            let seen = if x && y { "" } else { ", but as many entries as no map has" };
            Found::when(a == object.address && b == string.address && x && y, format!("{a:x} and {b:x}{seen}"))
        }
        _ => Found::Bad("no readable table".into()),
    };
    p.record(
        "map from TypeDef rows to MethodTables",
        &["Module.TypeDefToMethodTableMap", "ModuleLookupMap.TableData", "ModuleLookupMap.Count"],
        format!("{:x} and {:x}", object.address, string.address),
        found,
    );
}

fn judge_image(p: &Probe<'_>, base: Option<u64>) -> Found {
    match base {
        None => Found::Bad("no readable pointer".into()),
        // The kernel leaves pages of files out; a bundled image begins anywhere in the program's mapping.
        Some(b) if b != 0 && !p.space().readable(b) && (b.is_multiple_of(0x1000) || p.dump.map_at(b).is_some()) => {
            Found::Absent(format!("the image's header at {b:x} is not in the dump"))
        }
        Some(b) => Found::when(p.space().u16(b) == Some(0x5A4D), format!("{b:x}")),
    }
}

/// The path is an `SString`: size and allocation, 32 bits each, then flags, then the buffer `Path` is the offset of.
/// Source: dotnet/runtime `src/coreclr/inc/sstring.h`, `sbuffer.h`.
fn path(p: &Probe<'_>, image: u64) -> Option<Found> {
    let at = image.checked_add(p.layout.try_offset("PEImage", "Path")?)?;
    let header = if p.ptr() == 8 { 16 } else { 12 };
    let (size, flags) = (p.space().u32(at.checked_sub(header)?)?, p.space().u32(at - p.ptr())?);
    let buffer = p.space().ptr(at)?;
    let text = p.space().utf16z(buffer, 0x8000);
    let seen = format!("size {size}, flags {flags:x}, `{text}`");
    // A bundled assembly of a single-file program has no path of its own; a heap dump may lack the text.
    let shaped = size % 2 == 0 && size < 0x1_0000 && flags < 0x1_0000 && buffer > 0xFFFF && buffer % 2 == 0;
    Some(match (text.is_empty(), shaped) {
        (true, true) => Found::Absent("the path is empty or not in the dump".into()),
        (false, true) => Found::when(size as usize == 2 * (text.encode_utf16().count() + 1), seen),
        (_, false) => Found::Bad(seen),
    })
}

/// Since 9.0 each MethodDesc has a pointer to its code's data, null before it is needed.
fn code_data(p: &mut Probe<'_>, module: u64) {
    let Some(offset) = p.layout.try_offset("MethodDesc", "CodeData") else { return };
    let Some(string) = p.variable("StringMethodTable").and_then(|s| p.mt(s)).filter(|m| m.module == module) else {
        return;
    };
    // Bytes of a chunk before its first method: two pointers, then size, count and flags.
    let header = p.layout.try_offset("MethodDescChunk", "!").unwrap_or(3 * p.ptr());
    let class = p.mts.as_ref().and_then(|r| r.eeclass(p.space(), &string));
    let chunk = class.and_then(|c| p.field(c, "EEClass", "MethodDescChunk")).filter(|&c| c != 0);
    let found = match chunk.and_then(|c| Some((p.space().ptr(c)?, p.space().ptr_at(c, header.checked_add(offset)?)?))) {
        Some((owner, data)) => {
            let ok = owner == string.address && (data == 0 || p.plausible(data));
            Found::when(ok, format!("{data:x}"))
        }
        None => Found::Absent("the methods of String are not in the dump".into()),
    };
    p.record("code data of a method", &["MethodDesc.CodeData"], "null or a pointer", found);
}

/// Follows the ways from the core library's Module to its image; returns its metadata when it is in the dump.
fn images(p: &mut Probe<'_>, module: u64) -> Option<Metadata> {
    let direct = p.field(module, "Module", "Base");
    let [image, native] = place::images(p.space(), p.layout, module);
    let by_layout = |image: u64, f: &str| {
        let layout = p.field(image, "PEImage", f).filter(|&l| l != 0)?;
        p.field(layout, "PEImageLayout", "Base")
    };
    let ways = [image, native].into_iter().flatten().flat_map(|i| [(i, "LoadedImageLayout"), (i, "FlatImageLayout")]);
    let bases: Vec<Option<u64>> = ways.map(|(i, f)| by_layout(i, f)).collect();
    if p.layout.try_offset("Module", "Base").is_some() {
        let found = judge_image(p, direct);
        p.record("Module.Base is an image", &["Module.Base"], "an MZ header", found);
    }
    let best = bases.iter().flatten().copied().find(|&b| b != 0);
    let found = judge_image(p, best);
    p.record(
        "Module leads to its image",
        &["Module.PEAssembly", "PEAssembly.PEImage", "PEImage.LoadedImageLayout", "PEImageLayout.Base"],
        "an MZ header",
        found,
    );
    if let Some(found) = image.and_then(|i| path(p, i)) {
        p.record("path of an image", &["PEImage.Path"], "a string's buffer, its size and flags before it", found);
    }
    code_data(p, module);
    let base = direct.filter(|&b| b != 0).or(best).filter(|_| p.metadata)?;
    let bytes = PeInfo::in_memory(p.space(), base).ok()?.metadata_bytes(p.space()).ok()?;
    Metadata::parse(bytes).ok()
}

impl Probe<'_> {
    /// MethodTable of a type of the core library by its full name, when metadata and map are in the dump.
    pub fn core_type(&self, name: &str) -> Option<u64> {
        let module = self.variable("ObjectMethodTable").and_then(|a| self.mt(a))?.module;
        let base = place::of_module(self.space(), self.layout, module);
        let bytes = base.and_then(|b| PeInfo::in_memory(self.space(), b).ok());
        let metadata = Metadata::parse(bytes?.metadata_bytes(self.space()).ok()?).ok()?;
        let rid = metadata.typedef_by_name(name)?;
        let map = module.checked_add(self.layout.try_offset("Module", "TypeDefToMethodTableMap")?)?;
        LookupMap::at(self.space(), self.layout, map)?.get(self.space(), rid).filter(|&m| m != 0)
    }
}

impl Probe<'_> {
    /// Where the core library's image lies, header to end.
    pub fn core_image(&self) -> Option<(u64, u64)> {
        let module = self.variable("ObjectMethodTable").and_then(|a| self.mt(a))?.module;
        let base = place::of_module(self.space(), self.layout, module)?;
        let size = PeInfo::in_memory(self.space(), base).ok()?.size();
        Some((base, base.checked_add(size)?))
    }
}

fn tokens(p: &mut Probe<'_>, object: &MethodTable, string: &MethodTable, metadata: Option<&Metadata>) {
    const FIELDS: &[&str] = &["MethodTable.Token", "MethodTable.MTFlags2"];
    let Some(m) = metadata else {
        let sane =
            (1..0x1_0000).contains(&object.rid) && (1..0x1_0000).contains(&string.rid) && object.rid != string.rid;
        let found = match sane {
            true => Found::Absent("the core library's metadata is not in the dump".into()),
            false => Found::Bad(format!("rows {} and {}", object.rid, string.rid)),
        };
        p.record("TypeDef rows", FIELDS, "rows of Object and String", found);
        return;
    };
    let (a, b) = (m.full_name(object.rid), m.full_name(string.rid));
    let found = Found::when(a == "System.Object" && b == "System.String", format!("{a} and {b}"));
    p.record("TypeDef rows", FIELDS, "System.Object and System.String", found);
    let flags = |mt: &MethodTable| {
        let class = p.mts.as_ref()?.eeclass(p.space(), mt)?;
        Some((p.word(class, "EEClass", "CorTypeAttr")?, m.typedef(mt.rid)?.flags))
    };
    // The runtime adds bits of its own to some classes; visibility and layout stay.
    const KEPT: u32 = 0x3F;
    if let (Some(x), Some(y)) = (flags(object), flags(string)) {
        let ok = x.0 & KEPT == x.1 & KEPT && y.0 & KEPT == y.1 & KEPT && x.0 >> 24 == 0;
        let seen = format!("{:x} and {:x}", x.0, y.0);
        p.record(
            "class attributes",
            &["EEClass.CorTypeAttr"],
            format!("{:x} and {:x}", x.1, y.1),
            Found::when(ok, seen),
        );
    }
}

/// `places` are those of String's fields: its length and first character, in CLR 2.0 its capacity in front of them.
fn fields(p: &mut Probe<'_>, string: &MethodTable, places: &[u32]) {
    const FIELDS: &[&str] = &[
        "EEClass.FieldDescList",
        "EEClass.NumInstanceFields",
        "EEClass.NumStaticFields",
        "EEClass.FixedSize",
        "EEClass.Packed",
    ];
    let Some(r) = &p.mts else { return };
    let list = fielddesc::list(p.space(), p.layout, r, string);
    let found = match list {
        Ok(list) => {
            let own = list.items.iter().filter(|f| !f.is_static).count();
            let owned = list.items.iter().all(|f| f.owner == string.address);
            let first: Vec<u32> = list.items.iter().filter(|f| !f.is_static).map(|f| f.offset).collect();
            // A further record of String's, with the next token, would mean that the count is too small.
            let further = list.items.last().is_some_and(|last| {
                fielddesc::Records::of(p.layout)
                    .ok()
                    .and_then(|r| r.read(p.space(), last.address + p.ptr() + 8))
                    .is_some_and(|f| f.owner == string.address && f.rid == last.rid + 1)
            });
            let ends = !further;
            let ok = own == places.len() && owned && first == places && ends && list.partial.is_none();
            let seen = format!("{} fields, {own} of instances at {first:?}, owners right: {owned}", list.items.len());
            if list.items.is_empty() && !ok { p.unreadable(seen) } else { Found::when(ok, seen) }
        }
        Err(m) => Found::Bad(m.to_string()),
    };
    let expected = format!("instance fields at {places:?}, every record String's own");
    p.record("fields of String", FIELDS, expected, found);
}

fn statics(p: &mut Probe<'_>, string: &MethodTable) {
    let module = string.module;
    match p.layout.text("StaticsKind") {
        Some("DynamicStaticsInfo") => {
            let back = p.layout.try_offset("DynamicStaticsInfo", "!").and_then(|size| {
                let info = string.aux.checked_sub(size)?;
                Some((
                    p.field(info, "DynamicStaticsInfo", "MethodTable")?,
                    p.field(info, "DynamicStaticsInfo", "GCStatics")?,
                ))
            });
            let found = match back {
                Some((mt, gc)) => {
                    let slot = gc & !1;
                    let object = p.space().ptr(slot).unwrap_or(0);
                    let ok = mt == string.address && (object == 0 || p.is_object(object));
                    Found::when(ok, format!("{mt:x}, first static {object:x}"))
                }
                None => p.unreadable("not readable".into()),
            };
            p.record(
                "statics of String",
                &[
                    "MethodTable.AuxiliaryData",
                    "DynamicStaticsInfo.!",
                    "DynamicStaticsInfo.MethodTable",
                    "DynamicStaticsInfo.GCStatics",
                ],
                format!("{:x}, then String's first static, an object", string.address),
                found,
            );
            super::tails::static_bases(p, module);
            super::tails::thread_indexes(p, module);
        }
        _ => {
            let local = local_module(p.space(), p.layout, module).unwrap_or(0);
            let found = domain_local(p, local, module);
            p.record(
                "statics of the core library",
                &["Module.DomainLocalModule", "DomainLocalModule.GCStatics"],
                format!("storage of {module:x}, the first reference statics objects or null"),
                found,
            );
            super::tails::class_flags(p, module);
        }
    }
}

/// Judges the statics of the core library through .NET 8: the storage begins with the core library's `DomainAssembly`,
/// and the first slots of references are objects or null.
fn domain_local(p: &Probe<'_>, local: u64, module: u64) -> Found {
    // In 2.1 on Windows the first sixteen are null.
    const SLOTS: u64 = 128;
    let owner = p.space().ptr(local).and_then(|d| super::threads::module_of(p, d)).unwrap_or(0);
    let Some(base) = p.field(local, "DomainLocalModule", "GCStatics").filter(|&b| b != 0 && p.plausible(local)) else {
        return p.unreadable(format!("storage at {local:x} is not readable"));
    };
    let slots: Vec<u64> = (0..SLOTS).map_while(|i| p.space().ptr_at(base, i * p.ptr())).collect();
    let objects = slots.iter().filter(|&&o| o != 0 && p.is_object(o)).count();
    let strangers = slots.iter().filter(|&&o| o != 0).count() - objects;
    let seen = format!("storage of {owner:x}, {objects} objects and {strangers} others in {} slots", slots.len());
    if slots.is_empty() {
        return p.unreadable(seen);
    }
    Found::when(owner == module && objects > 0 && strangers == 0, seen)
}
