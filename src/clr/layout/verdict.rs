//! One invariant of a layout and what became of it.

use super::Source;

/// Verdict of one invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Holds.
    Passed,
    /// Does not hold: the fields it vouches for are refused.
    Failed,
    /// The memory it needs is not in the dump.
    NotPossible(String),
}

/// One invariant, checked.
#[derive(Debug, Clone)]
pub struct Check {
    /// What is checked, in a few words.
    pub name: &'static str,
    /// The fields and globals it vouches for (`Thread.LinkNext`, `&ThreadStore`).
    pub fields: Vec<String>,
    /// The provider whose values were checked.
    pub source: Source,
    /// What was expected.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// The verdict.
    pub verdict: Verdict,
}
