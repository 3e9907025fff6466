//! The runtime's version as text, for people: never used to choose offsets.

use super::scan::{Span, runs, words_equal};
use crate::dump::{Dump, Module};

/// The version text of `module`: the file version of the module list, the `@(#)Version` string of the image, or the
/// folder `Microsoft.NETCore.App/VERSION/` of its path. Of a single file the list has the program's own version.
pub fn text(dump: &Dump, module: &Module, single_file: bool) -> Option<String> {
    match module.version_text() {
        Some(version) if !single_file => Some(version),
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

/// The version as people know it (`8.0.15`): the folder of the runtime, else what its file version says. File versions
/// hold the number of the service release in hundreds since 5.0; those of 2.x and 3.x (`4.6.*`, `4.700.*`) do not tell it,
/// so there the layout's version stands in front.
pub fn product(version: &str, path: &str, era: (u16, u16)) -> String {
    let folder = from_path(path).filter(|f| f.split('.').count() >= 3);
    if let Some(folder) = folder {
        return folder;
    }
    let number = version.split_whitespace().next().unwrap_or("");
    let mut parts = number.split('.').map_while(|p| p.parse::<u32>().ok());
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        // .NET Framework is known by the number of its file.
        (Some(4), ..) if is_framework(path) => number.to_owned(),
        (Some(4), ..) => format!("{}.{} ({number})", era.0, era.1),
        (Some(major), Some(minor), Some(build), Some(_)) if major >= 5 => format!("{major}.{minor}.{}", build / 100),
        _ => version.to_owned(),
    }
}

/// Whether the file is the runtime of .NET Framework, which is numbered otherwise.
fn is_framework(path: &str) -> bool {
    let file = path.rsplit(['/', '\\']).next().unwrap_or_default();
    ["clr.dll", "mscorwks.dll"].iter().any(|n| file.eq_ignore_ascii_case(n))
}

#[cfg(test)]
mod tests {
    use super::product;

    #[test]
    fn the_banner_names_the_service_release() {
        let of = |version, path| product(version, path, (3, 1));
        assert_eq!(of("8.0.1525.16413 @Commit: 50c4", "/app/libcoreclr.so"), "8.0.15");
        assert_eq!(of("9.0.124.61010", "/app/libcoreclr.so"), "9.0.1");
        assert_eq!(of("8.0.23.53103", "/app/program"), "8.0.0");
        assert_eq!(of("4.700.22.55902 @Commit: c17d", "/app/libcoreclr.so"), "3.1 (4.700.22.55902)");
        assert_eq!(of("4.6.30411.01", "/usr/share/Microsoft.NETCore.App/2.1.30/libcoreclr.so"), "2.1.30");
        assert_eq!(of("10.0.14", "C:\\dotnet\\10.0.14\\coreclr.dll"), "10.0.14");
        assert_eq!(of("odd", "coreclr.dll"), "odd");
    }
}
