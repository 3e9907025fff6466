//! `frames` and `ilmap`: the managed stacks of all threads, and which IL the code of their methods stands for.

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};

use super::column::Field;
use super::writer::Table;
use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::code::stack::{Frame, FrameKind};
use crate::session::Session;

/// `frames`.
pub fn frames(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let (mut partial, mut known) = (clr.threads().partial.clone(), Names::default());
    for thread in &clr.threads().items {
        session.watch.cancel.check()?;
        let stack = clr.stack(thread);
        for (i, frame) in stack.frames.iter().enumerate() {
            row(clr, table, &mut known, thread.os_id, i, frame)?;
        }
        if let Some(why) = stack.partial.as_ref().filter(|_| partial.is_none()) {
            partial = Some(format!("thread {:x}: {why}", thread.os_id));
        }
    }
    Ok(partial)
}

/// Names and IL offsets by address of the code: threads of a pool stand in the same places.
#[derive(Default)]
struct Names {
    names: FxHashMap<(u64, u64), String>,
    offsets: FxHashMap<(u64, bool), Option<u32>>,
    modules: FxHashMap<u64, String>,
}

fn row(clr: &Clr, table: &mut Table, known: &mut Names, os_id: u64, index: usize, frame: &Frame) -> Result<()> {
    let code = clr.code();
    let (mut signature, mut method, mut module) = (String::new(), 0, String::new());
    let (mut il, mut native, mut token) = (Field::None, Field::None, Field::None);
    if let Some(at) = &frame.code {
        let told = clr.exact_instantiation(frame);
        let name = known.names.entry(told.map_or((at.start, at.method.unwrap_or(0)), |e| (e.owner, e.method)));
        let exact = || told.and_then(|e| Some(clr.method_name_in(&clr.method_desc(e.method)?, e.owner)));
        signature = name.or_insert_with(|| exact().or_else(|| code.name(at)).unwrap_or_default()).clone();
        let offset = known.offsets.entry((frame.ip, frame.leaf));
        il = Field::maybe(*offset.or_insert_with(|| frame.il_offset(code)), |o| Field::Int(o.into()));
        (native, method) = (Field::Hex(at.native.into()), at.method.unwrap_or(0));
        token = Field::maybe(at.token, |t| Field::Hex(t.into()));
        module = module_name(clr, known, at);
    }
    if let Some(why) = &frame.why {
        signature = format!("[{why}]");
    }
    table.row(&[
        Field::Hex(os_id),
        Field::Num(index as u64),
        Field::Text(match frame.kind {
            // As the lists of such frames that others make have it.
            FrameKind::Managed if clr.ahead().is_some() => "ManagedMethod",
            FrameKind::Managed => "managed",
            FrameKind::Explicit => "explicit",
            FrameKind::Gap => "native",
        }),
        Field::Text(frame.explicit.map_or("", |e| e.name)),
        Field::Hex(frame.sp),
        Field::Hex(frame.ip),
        Field::Hex(method),
        token,
        Field::Text(&module),
        native,
        il,
        Field::Text(&signature),
    ])?;
    Ok(())
}

fn module_name(clr: &Clr, known: &mut Names, at: &CodeAt) -> String {
    if at.module == 0 {
        return String::new();
    }
    known.modules.entry(at.module).or_insert_with(|| clr.module(at.module).file_name().to_owned()).clone()
}

/// `ilmap`: of each method that is on a stack.
pub fn il_map(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let clr = session.clr()?;
    let mut seen = FxHashSet::default();
    for thread in &clr.threads().items {
        session.watch.cancel.check()?;
        for at in clr.stack(thread).managed().filter_map(|f| f.code) {
            if !seen.insert(at.start) {
                continue;
            }
            for bound in clr.code().debug_info(&at).unwrap_or_default().bounds {
                table.row(&[
                    Field::Hex(at.method.unwrap_or(0)),
                    Field::Int(bound.il.into()),
                    Field::Hex(at.start.saturating_add(u64::from(bound.native))),
                ])?;
            }
        }
    }
    Ok(None)
}
