//! The runtime's version as text, for people: never used to choose offsets.

use super::scan::{Span, runs, words_equal};
use crate::dump::{Dump, Module};

/// The version text of `module`: the file version of the module list, the `@(#)Version` string of the image, or the
/// folder `Microsoft.NETCore.App/VERSION/` of its path. Of a single file the list has the program's own version.
pub fn text(dump: &Dump, module: &Module, single_file: bool) -> Option<String> {
    match module.version {
        Some([a, b, c, d]) if !single_file => Some(format!("{a}.{b}.{c}.{d}")),
        _ => embedded(dump, module).or_else(|| from_path(&module.path)),
    }
}

/// The file version in the version resource of the image at `span`: of the core library, it is the runtime's.
pub fn of_image(dump: &Dump, span: Span) -> Option<String> {
    /// `VS_FIXEDFILEINFO`: signature, version of the structure, then the file version.
    const SIGNATURE: u64 = 0xFEEF_04BD;
    const STRUCTURE: u32 = 0x1_0000;
    let word = |at: u64, i: u64| dump.space.u32(at.checked_add(4 * i)?);
    words_equal(&dump.space, span, 4, SIGNATURE).into_iter().find_map(|at| {
        let (high, low) = (word(at, 2)?, word(at, 3)?);
        let right = word(at, 1) == Some(STRUCTURE) && high != 0;
        right.then(|| format!("{}.{}.{}.{}", high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF))
    })
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

/// Major and minor version in a version text.
pub fn number(text: &str) -> Option<(u16, u16)> {
    let mut parts = text.split('.').map(|p| p.parse().ok());
    Some((parts.next()??, parts.next()??))
}
