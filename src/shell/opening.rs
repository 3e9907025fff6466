//! How dumps are opened, for the shell and for commands that look at others than the open one.

use std::path::Path;

use crate::dump::{Dump, OpenError, OpenOptions};
use crate::session::{Provider, Session};
use crate::watch::Watch;

/// How dumps are opened.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// Where what a dump lacks is looked for, and where it is unpacked to.
    pub options: OpenOptions,
    /// Layout providers that are not asked.
    pub providers_off: Vec<Provider>,
    /// Cancellation and progress.
    pub watch: Watch,
}

impl Opening {
    /// A session of its own over the dump at `path`. It keeps no index.
    pub fn open(&self, path: &Path) -> Result<Session, OpenError> {
        let dump = Dump::open(path, &self.options, &self.watch)?;
        Ok(Session::new(dump, self.watch.clone()).without(self.providers_off.clone()))
    }
}
