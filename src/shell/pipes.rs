//! What a pipe behind a command does with its rows and lines.

/// One pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pipe {
    /// `| find TEXT`: only those that contain the text, whatever its case.
    Find(String),
    /// `| top N`: only the first.
    Top(u64),
}

/// Whether a line passes all of `pipes`; `passed` counts those before it that did.
pub fn pass(pipes: &[Pipe], passed: &mut u64, line: &str) -> bool {
    for p in pipes {
        match p {
            Pipe::Find(t) if !line.to_lowercase().contains(t) => return false,
            Pipe::Top(n) if *passed >= *n => return false,
            _ => {}
        }
    }
    *passed += 1;
    true
}
