//! Any text taken for a type name, in either spelling: reading and spelling end, and no spelling grows out of bounds.
#![no_main]

use clrscope::clr::types::typename::{TypeName, canonical, matches};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    assert!(matches(text, text) && canonical(text).len() <= 64 + 16 * text.len());
    let Some(name) = TypeName::parse(text) else { return };
    let (shown, long) = (name.display(), name.reflection());
    // Each name has a few characters of its own for each of the text; the spellings add no more than a few to each.
    assert!(shown.len().max(long.len()) <= 64 + 16 * text.len(), "{} of {}", shown.len(), text.len());
    let _ = (name.in_signature(), TypeName::parse(&shown), TypeName::parse(&long));
});
