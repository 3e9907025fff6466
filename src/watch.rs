//! Cancellation and progress, handed to everything that may run long. Belongs to no layer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The error a long operation returns when the user pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A flag shared by the signal handler and everything that runs long.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks the running command to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Forgets an earlier request.
    pub fn clear(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// `Err(Interrupted)` when a stop was asked for. Call it at least every few milliseconds of work.
    #[inline]
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_set() { Err(Interrupted) } else { Ok(()) }
    }
}

/// How far a long operation has come; written by workers, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    what: std::sync::Mutex<&'static str>,
}

impl Progress {
    /// Starts a phase of `total` units (0: unknown).
    pub fn start(&self, what: &'static str, total: u64) {
        if let Ok(mut w) = self.what.lock() {
            *w = what;
        }
        self.done.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    /// Adds finished units.
    pub fn add(&self, n: u64) {
        self.done.fetch_add(n, Ordering::Relaxed);
    }

    /// Ends the phase.
    pub fn finish(&self) {
        self.start("", 0);
    }

    /// Phase, units done, units in all; an empty phase means nothing is running.
    pub fn now(&self) -> (&'static str, u64, u64) {
        let what = self.what.lock().map(|w| *w).unwrap_or("");
        (what, self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }
}

/// Cancellation and progress, handed down to everything that may run long.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Set by Ctrl-C.
    pub cancel: Cancel,
    /// Shown after half a second.
    pub progress: Arc<Progress>,
}
