//! Managed threads and their stacks.

use super::Partial;
use crate::clr::code::stack::FrameKind;
use crate::clr::runtime::threads::ClrThread;
use crate::session::Session;

/// A managed thread.
#[derive(Debug, Clone, Copy)]
pub struct Thread<'d> {
    session: &'d Session,
    thread: &'d ClrThread,
}

/// A frame of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Stack pointer.
    pub sp: u64,
    /// Instruction pointer; of a record of the runtime where its caller goes on.
    pub ip: u64,
    /// The method as SOS prints it; `[Name: address]` for a record of the runtime; why, where the stack could not be walked.
    pub name: String,
    /// Whether it is a managed method's.
    pub is_managed: bool,
    /// File and line, where a PDB is at hand.
    pub source: Option<(String, u32)>,
}

impl<'d> Thread<'d> {
    pub(super) fn new(session: &'d Session, thread: &'d ClrThread) -> Self {
        Self { session, thread }
    }

    /// Id the operating system gave it; `None` when it has ended.
    pub fn os_id(&self) -> Option<u64> {
        Some(self.thread.os_id).filter(|&id| id != 0)
    }

    /// Id the runtime gave it.
    pub fn managed_id(&self) -> u32 {
        self.thread.managed_id
    }

    /// Its name, empty when it has none.
    pub fn name(&self) -> String {
        self.session.thread_name(self.thread)
    }

    /// Address of the exception last thrown on it.
    pub fn exception(&self) -> Option<u64> {
        Some(self.thread.exception).filter(|&e| e != 0)
    }

    /// Managed frames and records of the runtime, the newest first.
    ///
    /// ```
    /// # fn main() -> Result<(), clrscope::api::Error> {
    /// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/linux-x64-10.0-leak-heap.core.zst");
    /// let dump = clrscope::api::Dump::open(path)?;
    /// let threads = dump.threads()?.items;
    /// let names: Vec<_> = threads.iter().flat_map(|t| t.stack().items).map(|f| f.name).collect();
    /// assert!(names.iter().any(|n| n.starts_with("Zoo.Zoo.Main(")), "{names:?}");
    /// # Ok(())
    /// # }
    /// ```
    pub fn stack(&self) -> Partial<Frame> {
        let Ok(clr) = self.session.clr() else { return Partial { items: Vec::new(), missing: None } };
        let stack = clr.stack(self.thread);
        let one = |f: &crate::clr::code::stack::Frame| {
            let name = match (f.kind, f.explicit) {
                (FrameKind::Managed, _) => self.session.frame_name(f, true).unwrap_or_else(|| format!("{:x}", f.ip)),
                (FrameKind::Explicit, Some(e)) => format!("[{}: {:016x}]", e.name, e.address),
                _ => f.why.clone().unwrap_or_default(),
            };
            let source = self.session.frame_line(f).map(|l| (l.document, l.line));
            Frame { sp: f.sp, ip: f.ip, name, is_managed: f.kind == FrameKind::Managed, source }
        };
        Partial { items: stack.frames.iter().map(one).collect(), missing: stack.partial.clone() }
    }
}
