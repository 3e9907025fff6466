//! How roots are named: the section they stand in, the frame they belong to, the place itself.

use crate::clr::code::stack::{Frame, FrameKind};
use crate::heap::roots::{Root, RootKind};
use crate::session::Session;
use crate::shell::digits;

/// The heading of the section a root belongs to.
pub fn title(root: &Root) -> String {
    match &root.kind {
        RootKind::Handle(_) => "HandleTable:".into(),
        RootKind::Finalizer => "Finalizer Queue:".into(),
        RootKind::Frame { os_id, .. } => format!("Thread {os_id:x}:"),
        RootKind::Stack { os_id, .. } | RootKind::Register { os_id, .. } => format!("Thread {os_id:x}: (conservative)"),
        RootKind::ThreadStatic { os_id, .. } => format!("Thread {os_id:x} statics:"),
    }
}

/// The frame of a root: stack and instruction pointer, and its method or class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameName {
    /// Index of the frame in its stack.
    pub index: u32,
    /// Stack pointer.
    pub sp: u64,
    /// Instruction pointer.
    pub ip: u64,
    /// The method, or the class of an explicit frame in brackets.
    pub name: String,
}

/// Name of a frame as SOS prints it: its method, or the class of an explicit one in brackets.
pub fn name_of(session: &Session, frame: &Frame) -> String {
    match (frame.kind, frame.explicit, &frame.code) {
        (FrameKind::Managed, _, Some(_)) => {
            session.frame_name(frame, true).unwrap_or_else(|| format!("{:x}", frame.ip))
        }
        (FrameKind::Explicit, Some(e), _) => format!("[{}]", e.name),
        _ => frame.why.clone().unwrap_or_default(),
    }
}

/// The frame a root belongs to; `None` for roots of none.
pub fn frame(session: &Session, root: &Root) -> Option<FrameName> {
    let RootKind::Frame { thread, frame: index, .. } = root.kind else { return None };
    let clr = session.clr().ok()?;
    let thread = clr.threads().items.iter().find(|t| t.address == thread)?;
    let stack = clr.stack(thread);
    let frame = stack.frames.get(index as usize)?;
    Some(FrameName { index, sp: frame.sp, ip: frame.ip, name: name_of(session, frame) })
}

/// The register or stack slot: `rbp-8`; empty where none is named.
pub fn place_of(register: Option<&str>, offset: Option<i32>) -> String {
    match (register, offset) {
        (Some(register), Some(offset)) if offset < 0 => format!("{register}-{:x}", offset.unsigned_abs()),
        (Some(register), Some(offset)) if offset > 0 => format!("{register}+{offset:x}"),
        (Some(register), _) => register.to_owned(),
        (None, _) => String::new(),
    }
}

/// The register or stack slot of a root: `rbp-8`; empty where none is named.
pub fn place(root: &Root) -> String {
    let RootKind::Frame { register, offset, .. } = root.kind else { return String::new() };
    place_of(register, offset)
}

/// The line of a root of a frame: `        rbp-8: 00007ffe71d1be58`.
pub fn in_frame(root: &Root) -> String {
    let place = place(root);
    let colon = if place.is_empty() { "" } else { ":" };
    let slot = if root.slot == 0 { String::new() } else { format!(" {:0w$x}", root.slot, w = digits()) };
    let pinned = matches!(root.kind, RootKind::Frame { pinned: true, .. });
    let flags = [(root.interior, " (interior)"), (pinned, " (pinned)")];
    let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
    format!("        {place}{colon}{slot}{flags}")
}

/// What was printed last of the places roots stand in.
#[derive(Debug, Default)]
pub struct Headings {
    section: String,
    frame: Option<(u64, u32)>,
}

impl Headings {
    /// The lines to print in front of a root: its section, and its frame, where they are others than those of the root
    /// before.
    pub fn before(&mut self, root: &Root, frame: Option<&FrameName>) -> Vec<String> {
        let mut lines = Vec::new();
        let title = title(root);
        if title != self.section {
            lines.push(title.clone());
            (self.section, self.frame) = (title, None);
        }
        if let (Some(f), RootKind::Frame { thread, .. }) = (frame, &root.kind)
            && self.frame != Some((*thread, f.index))
        {
            lines.push(format!("    {:x} {:x} {}", f.sp, f.ip, f.name));
            self.frame = Some((*thread, f.index));
        }
        lines
    }
}
