//! Metadata, signatures, PE headers and type names from arbitrary bytes.
#![no_main]

use clrscope::clr::image::metadata::{Metadata, sig, table, token};
use clrscope::clr::image::pe::PeInfo;
use clrscope::clr::types::typename::{ModuleNames, TypeName, canonical};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        canonical(text);
    }
    let image = PeInfo::in_file(data).and_then(|pe| pe.metadata());
    let bytes = image.ok().and_then(|r| data.get(r.start as usize..r.end as usize)).unwrap_or(data);
    let Ok(m) = Metadata::parse(bytes.to_vec()) else { return };
    let names = ModuleNames::new(&m, "fuzz".into(), &[]);
    for rid in 0..=m.typedef_count().min(64) + 1 {
        m.typedef_by_name(&m.full_name(rid));
        for f in m.fields_of(rid).take(64) {
            m.field_owner(f);
            if let Some(t) = m.field(f).and_then(|f| sig::field(f.signature)) {
                let name = TypeName::from_sig(&t, &names);
                let _ = (name.display(), name.reflection(), name.in_signature());
            }
        }
        for x in m.methods_of(rid).take(64) {
            let _ = (m.method_owner(x), m.params(x));
            if let Some(s) = m.method(x).and_then(|x| sig::method(x.signature)) {
                s.print_params(&m);
            }
        }
        let _ = (m.generic_params(token(table::TYPE_DEF, rid)), m.interfaces(rid).count(), m.class_layout(rid));
        let _ = (m.typeref_full_name(rid), m.typeref_scope(rid), m.memberref(rid), m.exported_type(rid));
    }
    let _ = (m.assembly(), m.assemblyref(1), m.mvid(), m.module_name(), m.moduleref(1));
});
