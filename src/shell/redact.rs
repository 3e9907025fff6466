//! What leaves with `--redact`: of a text of the process its length and a hash, of a path its last part. What a column or a
//! fact holds is declared ([`Type`]), so one place decides.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;

use super::cell::Cell;
use super::returns::Type;

/// The option of commands that write files which may leave: they keep in themselves what must not.
pub const REDACT: &str = "redact";

/// A cell as it may leave; `None` when it may as it is.
pub fn cell(ty: Type, cell: &Cell<'_>) -> Option<Cell<'static>> {
    let hide = match ty {
        Type::Content | Type::Given => content,
        Type::Path => |text: &str| last(text).to_owned(),
        _ => return None,
    };
    match cell {
        Cell::Text(t) => Some(Cell::text(hide(t))),
        Cell::Units(t) => Some(Cell::text(hide(&String::from_utf16_lossy(t)))),
        Cell::Shown(_, value) => self::cell(ty, value),
        _ => None,
    }
}

/// A text as it may leave. Equal texts have equal hashes within one run; another run has others, so nobody can try words.
pub fn content(text: &str) -> String {
    static KEY: OnceLock<RandomState> = OnceLock::new();
    let hash = KEY.get_or_init(RandomState::new).hash_one(text) as u32;
    format!("[{} characters, {hash:08x}]", text.chars().count())
}

/// The last part of a path.
pub fn last(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or_default()
}

/// A sentence whose paths are cut to their last part, and what stands in quotes to its length.
pub fn prose(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (i, part) in text.split('"').enumerate() {
        match i % 2 {
            1 => out.push_str(&content(part)),
            _ => {
                for word in part.split_inclusive(char::is_whitespace) {
                    out.push_str(last(word));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_length_and_paths_their_last_part() {
        let text = cell(Type::Content, &Cell::text("secret")).map(|c| format!("{c:?}")).unwrap_or_default();
        assert!(text.contains("[6 characters, ") && !text.contains("secret"));
        assert_eq!(content("a"), content("a"));
        assert_ne!(content("a"), content("b"));
        for (path, name) in
            [("/home/joe/a.dll", "a.dll"), ("C:\\Users\\joe\\a.dll", "a.dll"), ("a.dll", "a.dll"), ("/joe/", "")]
        {
            assert_eq!(cell(Type::Path, &Cell::text(path)), Some(Cell::text(name)));
        }
        assert_eq!(cell(Type::Text, &Cell::text("x")), None);
        assert_eq!(cell(Type::Content, &Cell::Num(7)), None);
        let shown = Cell::shown("sec...", Cell::text("secret"));
        assert!(cell(Type::Given, &shown).is_some_and(|c| !format!("{c:?}").contains("sec")));
        assert_eq!(prose("no metadata of /home/joe/a.dll here"), "no metadata of a.dll here");
        assert!(!prose("thread 4 \"joe\" waits").contains("joe"));
    }
}
