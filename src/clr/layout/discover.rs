//! Finding the runtime and choosing its layout.

use super::report::{Discovered, NoRuntime};
use crate::dump::Dump;

/// What discovery may use.
#[derive(Debug, Clone, Default)]
pub struct DiscoverOptions {}

/// Finds the runtime of `dump` and everything needed to read it.
pub fn discover(_dump: &Dump, _options: &DiscoverOptions) -> Result<Discovered, NoRuntime> {
    Err(NoRuntime::NotFound("not looked for yet".into()))
}
