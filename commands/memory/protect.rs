//! Names of states, types and protections, as Windows has them.

use crate::dump::{MapEntry, MapState, MapType, Presence};
use crate::shell::Cell;

/// `PAGE_*` bits with their names; modifiers follow the protections.
const PAGES: &[(u32, &str)] = &[
    (0x01, "PAGE_NOACCESS"),
    (0x02, "PAGE_READONLY"),
    (0x04, "PAGE_READWRITE"),
    (0x08, "PAGE_WRITECOPY"),
    (0x10, "PAGE_EXECUTE"),
    (0x20, "PAGE_EXECUTE_READ"),
    (0x40, "PAGE_EXECUTE_READWRITE"),
    (0x80, "PAGE_EXECUTE_WRITECOPY"),
    (0x100, "PAGE_GUARD"),
    (0x200, "PAGE_NOCACHE"),
    (0x400, "PAGE_WRITECOMBINE"),
];

/// `PAGE_READWRITE|PAGE_GUARD`; empty for 0, unknown bits in hexadecimal.
pub fn name(protect: u32) -> String {
    let mut names: Vec<String> =
        PAGES.iter().filter(|(bit, _)| protect & bit != 0).map(|(_, n)| (*n).to_owned()).collect();
    let rest = PAGES.iter().fold(protect, |p, (bit, _)| p & !bit);
    if rest != 0 {
        names.push(format!("{rest:#x}"));
    }
    names.join("|")
}

/// The bit a `PAGE_*` name means, whatever its case.
pub fn bit(text: &str) -> Option<u32> {
    PAGES.iter().find(|(_, n)| n.eq_ignore_ascii_case(text)).map(|(b, _)| *b)
}

/// `MEM_COMMIT` and its number.
pub fn state(state: MapState) -> (u32, &'static str) {
    match state {
        MapState::Commit => (0x1000, "MEM_COMMIT"),
        MapState::Reserve => (0x2000, "MEM_RESERVE"),
        MapState::Free => (0x1_0000, "MEM_FREE"),
    }
}

/// `MEM_PRIVATE` and its number; 0 and nothing where the dump does not say.
pub fn kind(kind: MapType) -> (u32, &'static str) {
    match kind {
        MapType::Private => (0x2_0000, "MEM_PRIVATE"),
        MapType::Mapped => (0x4_0000, "MEM_MAPPED"),
        MapType::Image => (0x100_0000, "MEM_IMAGE"),
        MapType::Unknown => (0, ""),
    }
}

/// That name; nothing where the dump does not say.
pub fn kind_cell(kind: MapType) -> Cell<'static> {
    Cell::maybe(Some(self::kind(kind).1).filter(|n| !n.is_empty()))
}

/// Names of protections; nothing where there are none.
pub fn cell(names: String) -> Cell<'static> {
    Cell::maybe(Some(names).filter(|n| !n.is_empty()))
}

/// Protection of a range; free memory has none that counts.
pub fn of(entry: &MapEntry) -> String {
    match entry.state {
        MapState::Free => "PAGE_NOACCESS".into(),
        _ => name(entry.protect),
    }
}

/// `dumped`, `mapped` or `unknown`: what the dump holds of a range.
pub fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Dumped => "dumped",
        Presence::MappedOnly => "mapped",
        Presence::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(name(0x104), "PAGE_READWRITE|PAGE_GUARD");
        assert_eq!(name(0), "");
        assert_eq!(name(0x8000_0002), "PAGE_READONLY|0x80000000");
        assert_eq!(bit("page_guard"), Some(0x100));
    }
}
