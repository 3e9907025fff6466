//! All commands: one file each (a family may share one), grouped in folders as the help is grouped, listed in one table.

pub mod export;
pub mod heap;
pub mod objects;
pub mod runtime;
pub mod session;
pub mod threads;

use crate::shell::Command;

/// Every command; the order is the order of the help.
pub const ALL: &[&Command] = &[
    &heap::dumpheap::DUMPHEAP,
    &heap::gcroot::GCROOT,
    &heap::gcroot::PATHTO,
    &heap::objsize::OBJSIZE,
    &heap::gcwhere::GCWHERE,
    &heap::gcwhere::LISTNEAROBJ,
    &heap::eeheap::EEHEAP,
    &heap::heapstat::GCHEAPSTAT,
    &heap::finalizequeue::FINALIZEQUEUE,
    &heap::gchandles::GCHANDLES,
    &heap::verifyheap::VERIFYHEAP,
    &objects::dumpobj::DUMPOBJ,
    &objects::dumpvc::DUMPVC,
    &objects::dumparray::DUMPARRAY,
    &objects::dumpdelegate::DUMPDELEGATE,
    &objects::dumpmt::DUMPMT,
    &objects::dumpclass::DUMPCLASS,
    &objects::name2ee::NAME2EE,
    &objects::name2ee::TOKEN2EE,
    &objects::modules::CLRMODULES,
    &objects::modules::DUMPMODULE,
    &objects::modules::DUMPASSEMBLY,
    &objects::modules::DUMPDOMAIN,
    &threads::clrthreads::CLRTHREADS,
    &threads::clrthreads::THREADSTATE,
    &threads::dso::DSO,
    &runtime::versions::EEVERSION,
    &runtime::versions::RUNTIMES,
    &runtime::versions::SOSSTATUS,
    &threads::syncblk::SYNCBLK,
    &threads::threadpool::THREADPOOL,
    &threads::exceptions::PRINTEXCEPTION,
    &threads::exceptions::DUMPEXCEPTIONS,
    &export::EXPORT,
    &session::help::HELP,
    &session::misc::ECHO,
    &session::misc::EVALUATE,
    &session::misc::THREAD,
    &session::misc::VERTARGET,
    &session::misc::LASTEVENT,
    &session::misc::TIME,
    &session::misc::OPENDUMP,
    &session::misc::LOGOPEN,
    &session::misc::LOGAPPEND,
    &session::misc::LOGCLOSE,
    &session::paths::EXEPATH,
    &session::paths::SYMPATH,
    &session::paths::SYMFIX,
    &session::load::LOADBY,
    &session::load::LOAD,
    &session::load::UNLOAD,
    &session::load::CORDLL,
    &session::load::CHAIN,
    &session::load::RELOAD,
    &session::load::LINES,
    &session::load::DML,
    &session::load::SYM,
    &session::misc::CLS,
    &session::misc::QUIT,
];
