//! Which form debug information of this runtime or image has: found by trying.

use super::debuginfo::{DebugInfo, Form};
use crate::dump::Arch;

/// The form of `forms` under which most of `samples` decode to their last byte. Of several alike the first; without samples
/// too, which then decide nothing.
pub fn choose(forms: &[Form], samples: &[Vec<u8>], arch: Arch) -> Form {
    let fits =
        |form: Form| samples.iter().filter(|s| DebugInfo::decode(s, form, arch).is_some_and(|d| d.fits(None))).count();
    let scored = forms.iter().map(|&f| (fits(f), f));
    let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map_or(super::debuginfo::PLAIN, |b| b.1)
}
