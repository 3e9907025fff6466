//! The runtime's version as text, for people: never used to choose offsets.

use super::scan::{Span, runs};
use crate::dump::{Dump, Module};

/// The version text of `module`: the `@(#)Version` string of the image, the file version of the module list, or the
/// folder `Microsoft.NETCore.App/VERSION/` of its path.
pub fn text(dump: &Dump, module: &Module) -> Option<String> {
    if let Some([a, b, c, d]) = module.version {
        return Some(format!("{a}.{b}.{c}.{d}"));
    }
    embedded(dump, module).or_else(|| from_path(&module.path))
}

fn embedded(dump: &Dump, module: &Module) -> Option<String> {
    const MARK: &[u8] = b"@(#)Version ";
    let mut found = None;
    runs(&dump.space, Span::of(module), |_, bytes| {
        if found.is_none()
            && let Some(at) = find(bytes, MARK)
        {
            let rest = &bytes[at + MARK.len()..];
            let end = rest.iter().take(160).position(|&b| b == 0 || b == b'\n').unwrap_or(0);
            let text = String::from_utf8_lossy(&rest[..end]).trim().to_owned();
            found = Some(text).filter(|t| t.starts_with(|c: char| c.is_ascii_digit()));
        }
    });
    found
}

/// First position of `needle`, by its first byte.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut at = 0;
    while let Some(i) = bytes.get(at..)?.iter().position(|&b| b == first) {
        if bytes[at + i..].starts_with(needle) {
            return Some(at + i);
        }
        at += i + 1;
    }
    None
}

fn from_path(path: &str) -> Option<String> {
    let folder = path.rsplit(['/', '\\']).nth(1)?;
    folder.starts_with(|c: char| c.is_ascii_digit()).then(|| folder.to_owned())
}
