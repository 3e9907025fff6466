//! Names of columns as they were typed.

/// The name of a column, by key or by title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// As typed.
    pub text: String,
    /// Where it stands in the line.
    pub column: usize,
}
