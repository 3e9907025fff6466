//! The renderings there are.

/// How results are rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// WinDbg-like text.
    #[default]
    Text,
    /// JSON, one object a command.
    Json,
    /// CSV, one block a table.
    Csv,
}
