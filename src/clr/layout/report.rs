//! What the providers answered: shown by `!runtimes -v`.

use super::Layout;
use super::gcdac::GcDacVars;
use super::standing::Standing;
use super::verdict::{Check, Verdict};

/// The runtime's module in the process.
#[derive(Debug, Clone, Default)]
pub struct RuntimeModule {
    /// Image base.
    pub base: u64,
    /// One past the image's end, `.bss` included.
    pub end: u64,
    /// Path as recorded.
    pub path: String,
    /// Product version text when known (`10.0.14`, `10.0.1426.x @Commit: ...`), from the version resource, the version
    /// string in the image or the path; only shown, never used to choose offsets.
    pub version: Option<String>,
    /// Whether the runtime is linked into the program (single-file).
    pub single_file: bool,
    /// Standalone GC module (`clrgc`) in use, when there is one: base and end of its image.
    pub gc_module: Option<(u64, u64)>,
}

impl RuntimeModule {
    /// Whether `address` lies in the image.
    pub fn holds(&self, address: u64) -> bool {
        (self.base..self.end).contains(&address)
    }
}

/// Everything discovery found.
#[derive(Debug, Clone)]
pub struct Discovered {
    /// The runtime's module.
    pub module: RuntimeModule,
    /// The garbage collector's variables.
    pub gc: GcDacVars,
    /// The layout, refused facts removed.
    pub layout: Layout,
    /// Name of what the layout is based on: a built-in table, a shape, the descriptor over a shape.
    pub table: Option<String>,
    /// One line a provider: asked, answered, why not.
    pub providers: Vec<(String, String)>,
    /// Invariants checked.
    pub checks: Vec<Check>,
    /// Major and minor version the layout stands for (from the table, e.g. 10.0), for display and rule choice.
    pub era: (u16, u16),
    /// What cannot be answered because no provider knows it, with the facts that are missing.
    pub gaps: Vec<String>,
    /// Providers that are in the dump and were refused, with the reason.
    pub warnings: Vec<String>,
    /// What stands behind the layout.
    pub standing: Standing,
}

impl Discovered {
    /// Whether it is .NET Framework: its core library has another name.
    pub fn is_framework(&self) -> bool {
        self.layout.text("CoreLibrary").is_some()
    }

    /// Fields and globals that a check refused and no other provider gave: what cannot be read for their sake.
    pub fn lost(&self) -> Vec<&str> {
        let has = |name: &str| match name.split_once('.') {
            Some((ty, field)) => self.layout.field(ty, field).is_some(),
            None => self.layout.global(name.trim_start_matches('&')).is_ok(),
        };
        let failed = self.checks.iter().filter(|c| c.verdict == Verdict::Failed);
        let mut lost: Vec<&str> = failed.flat_map(|c| &c.fields).map(String::as_str).filter(|n| !has(n)).collect();
        lost.sort_unstable();
        lost.dedup();
        lost
    }
}

/// Why a dump has no readable runtime. The text says what was looked for and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRuntime {
    /// No .NET runtime module and no trace of its GC.
    #[error("no .NET runtime in this dump: {0}")]
    NotFound(String),
    /// A runtime is there, but nothing describes it reliably.
    #[error("the .NET runtime in this dump cannot be read: {0}")]
    Refused(String),
    /// The runtime of a program compiled ahead of time (NativeAOT) in that module, which is not read here.
    #[error("this is a NativeAOT program: {0}")]
    NativeAot(String),
    /// The user stopped the search.
    #[error("interrupted")]
    Interrupted,
}
