//! Cancellation and progress, handed to everything that may run long. Belongs to no layer.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

/// The error a long operation returns when the user pressed Ctrl-C.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// A flag shared by the signal handler and everything that runs long.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicU8>);

const GO_ON: u8 = 0;
const STOP: u8 = 1;
const ENOUGH: u8 = 2;

impl Cancel {
    /// Asks the running command to stop.
    pub fn set(&self) {
        self.0.store(STOP, Ordering::Relaxed);
    }

    /// Asks the running command to stop because its reader has seen enough: nothing went wrong.
    pub fn set_enough(&self) {
        self.0.store(ENOUGH, Ordering::Relaxed);
    }

    /// Forgets an earlier request.
    pub fn clear(&self) {
        self.0.store(GO_ON, Ordering::Relaxed);
    }

    /// Whether a stop was asked for.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != GO_ON
    }

    /// Whether the stop asked for is one of [`Cancel::set_enough`].
    pub fn is_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ENOUGH
    }

    /// `Err(Interrupted)` when a stop was asked for. Call it at least every few milliseconds of work.
    #[inline]
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.is_set() { Err(Interrupted) } else { Ok(()) }
    }
}

/// What stands where progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Screen {
    #[default]
    Free,
    Progress,
    Output,
}

/// How far a long operation has come; written by workers, read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
    what: std::sync::Mutex<&'static str>,
    screen: std::sync::Mutex<Screen>,
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

    /// A command begins: progress may be drawn until its output starts.
    pub fn show(&self) {
        *self.screen.lock().unwrap_or_else(PoisonError::into_inner) = Screen::Free;
    }

    /// Output starts: nothing is drawn from now on. Returns whether there is a drawing to remove.
    pub fn hide(&self) -> bool {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *screen, Screen::Output) == Screen::Progress
    }

    /// Draws unless output has started, and keeps output from starting meanwhile. Returns whether it drew.
    pub fn draw(&self, how: impl FnOnce()) -> bool {
        let mut screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        let free = *screen != Screen::Output;
        if free {
            how();
            *screen = Screen::Progress;
        }
        free
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
