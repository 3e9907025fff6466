//! Any bytes taken for a signature: of a method, a field, local variables, a type, as metadata has them and as the runtime
//! makes them in memory.
#![no_main]

use clrscope::clr::image::metadata::Metadata;
use clrscope::clr::image::metadata::Token;
use clrscope::clr::image::metadata::rawsig::{self, Names};
use clrscope::clr::image::metadata::sig::{self, SigNames, TypeSig};
use clrscope::clr::types::typename::{ModuleNames, TypeName};
use libfuzzer_sys::fuzz_target;

/// Names of nothing.
struct Numbers;

impl SigNames for Numbers {
    fn token(&self, token: Token) -> String {
        format!("{token:x}")
    }
}

impl Names for Numbers {
    fn class(&self, token: Token) -> String {
        format!("{token:x}")
    }

    fn handle(&self, handle: u64) -> String {
        format!("{handle:x}")
    }
}

fn shown(ty: &TypeSig) {
    let mut out = String::new();
    ty.print(&mut out, &Numbers);
}

fuzz_target!(|data: &[u8]| {
    for size in [4, 8] {
        for found in
            [rawsig::signature(data, &Numbers, size), rawsig::one_type(data, &Numbers, size)].into_iter().flatten()
        {
            assert!(found.1 <= data.len());
        }
        if let Some(m) = sig::method_in_memory(data, size as u8) {
            m.print_params(&Numbers);
        }
    }
    [sig::field(data), sig::type_spec(data)].iter().flatten().for_each(shown);
    sig::locals(data).iter().flatten().for_each(shown);
    if let Some(m) = sig::method(data) {
        m.print_params(&Numbers);
        m.params.iter().for_each(shown);
    }
    // With metadata in front: the tokens in it have names.
    let Some((&cut, rest)) = data.split_first() else { return };
    let (front, back) = rest.split_at(rest.len().saturating_sub(usize::from(cut)));
    let Ok(m) = Metadata::parse(front.to_vec()) else { return };
    if let Some(t) = sig::type_spec(back) {
        let name = TypeName::from_sig(&t, &ModuleNames::new(&m, "fuzz".into(), &[]));
        let _ = (name.display(), name.reflection(), name.in_signature());
    }
});
