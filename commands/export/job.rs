//! What a table is filled from.

use crate::session::Session;

/// What a table is filled from.
pub struct Job<'a> {
    /// The dump.
    pub session: &'a Session,
    /// What the dump is called among others.
    pub id: &'a str,
    /// What was missing for the tables written so far.
    pub missing: &'a [String],
}
