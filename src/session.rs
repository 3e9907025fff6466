//! The one shared dump session: opens lazily and caches between commands. Never prints.

use std::sync::Arc;

use crate::dump::Dump;
use crate::watch::Watch;

/// One open dump and everything computed from it so far.
#[derive(Debug)]
pub struct Session {
    dump: Arc<Dump>,
    /// Cancellation and progress of this session.
    pub watch: Watch,
}

impl Session {
    /// A session over an opened dump.
    pub fn new(dump: Dump, watch: Watch) -> Self {
        Self { dump: Arc::new(dump), watch }
    }

    /// The dump.
    pub fn dump(&self) -> &Dump {
        &self.dump
    }
}
