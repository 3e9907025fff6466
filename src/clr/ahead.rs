//! What is asked of a runtime whose programs are compiled ahead of time: the one interface behind which NativeAOT lives.
//!
//! The collector, its handles and queues are CoreCLR's and are read as such, by the layout. What CoreCLR keeps in EEClasses,
//! modules with metadata, sync blocks and maps of code such a program keeps otherwise, or not at all: [`super::Clr`] asks
//! for it here. Who implements it builds on this layer; nothing here knows it.

use std::sync::Arc;

use super::WellKnown;
use super::gathered::Gathered;
use super::runtime::syncblocks::SyncBlock;
use super::runtime::threads::ClrThread;
use super::types::fields::Fields;
use super::types::methodtable::MethodTable;
use super::types::typename::TypeName;
use crate::native::{Context, Native};

/// Code of such a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledCode {
    /// Where the method's main body begins.
    pub start: u64,
    /// First address of the function that holds the address, and one past its last: the main body or a funclet.
    pub function: (u64, u64),
    /// Base of the image.
    pub image: u64,
    /// Where the method's GC information begins.
    pub gc_info: Option<u64>,
    /// Whether the method has exception clauses, and so funclets.
    pub clauses: bool,
    /// Whether the function is a filter.
    pub filter: bool,
}

/// What the runtime keeps on the stack of an exception that a thread handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExceptionRecord {
    /// Where it lies: above the frames that handle it, below those that threw.
    pub address: u64,
    /// The slot that holds the exception.
    pub slot: u64,
    /// Whether the processor raised it.
    pub faulted: bool,
}

/// The slot of a thread static that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadSlot {
    /// Address of the `Thread`.
    pub thread: u64,
    /// Address of the slot.
    pub slot: u64,
    /// `Type.Field` or `Type+0x8`.
    pub name: Arc<str>,
}

/// A runtime of programs compiled ahead of time, in an open dump.
pub trait Ahead: std::fmt::Debug + Send + Sync {
    /// The well-known types; 0 for one that is not found.
    fn known(&self) -> WellKnown;

    /// Reads the MethodTable at `address` without judging it, its flags as CoreCLR spells them. `None` where it is not in
    /// the dump or misaligned.
    fn method_table(&self, address: u64) -> Option<MethodTable>;

    /// Whether it is one, or the shape of a static base.
    fn is_type(&self, mt: &MethodTable) -> bool;

    /// The name of the type at `address` as a tree.
    fn tree(&self, address: u64) -> TypeName;

    /// MethodTables of the generic arguments.
    fn arguments(&self, mt: &MethodTable) -> Vec<u64>;

    /// Element type (ECMA-335 II.23.1.16) of values of the type: of an enum, its underlying type.
    fn element_type(&self, mt: &MethodTable) -> u8;

    /// MethodTables that the image's maps name, sorted: types with a definition, their instantiations not among them.
    fn types(&self) -> Vec<u64>;

    /// Names of the definitions of the interfaces that the type implements, inherited ones included, as metadata spells them;
    /// those that the program never asks for were left out by the compiler.
    fn interfaces(&self, mt: u64) -> Vec<String>;

    /// The type of that full name, as metadata spells it.
    fn type_named(&self, name: &str) -> Option<u64>;

    /// Fields known of the type `mt`, inherited ones included.
    fn fields(&self, mt: u64) -> Fields;

    /// The managed threads.
    fn threads(&self, native: &Native) -> Gathered<ClrThread>;

    /// Bases of the statics of a thread: the address of the slot that holds each, and the object.
    fn thread_statics(&self, thread: u64) -> Vec<(u64, u64)>;

    /// Slots of references of thread statics whose owner can be told, by address.
    fn thread_static_slots(&self, native: &Native) -> &[ThreadSlot];

    /// Whose static references the object at `base` holds, where it is a base of them and the owner can be told.
    fn owner_of_statics(&self, native: &Native, base: u64) -> Option<Arc<str>>;

    /// Slots of static references whose owner can be told, sorted, with `Type.Field` or `Type+0x8`.
    fn static_slots(&self, native: &Native) -> Vec<(u64, Arc<str>)>;

    /// Sync blocks in use; `threads` are the managed ones, which hold monitors.
    fn sync_blocks(&self, threads: &[ClrThread]) -> Gathered<SyncBlock>;

    /// The stretches of managed code: first address and one past the last.
    fn code_ranges(&self) -> Vec<(u64, u64)>;

    /// The code at `ip`.
    fn code_at(&self, native: &Native, ip: u64) -> Option<CompiledCode>;

    /// Bytes of code of the method at `start`, funclets included.
    fn code_length(&self, native: &Native, start: u64) -> Option<u64>;

    /// First addresses of the methods that the image names.
    fn method_starts(&self) -> Vec<u64>;

    /// First address of the method of that full name, without parameters.
    fn method_named(&self, name: &str) -> Option<u64>;

    /// Full name of the method whose code begins at `start`, with its parameters.
    fn method_name(&self, start: u64) -> Option<String>;

    /// Records of the exceptions that the thread handles, the newest first: where each lies, the slot that holds the exception,
    /// and whether the processor raised it.
    fn exception_records(&self, thread: u64) -> Vec<ExceptionRecord>;

    /// Slots that native code registered for the collector: their addresses, and whether they may point into objects.
    fn registered_slots(&self, thread: u64) -> Vec<(u64, bool)>;

    /// The place on the thread's stack whose return address the collector replaced by one of its own, to stop the thread as it
    /// returns, and what stood there; `None` where it replaced none.
    fn hijacked(&self, thread: u64) -> Option<(u64, u64)>;

    /// The registers of the caller that the runtime noted when the thread left managed code, where it did.
    fn transition(&self, thread: u64) -> Option<Context>;
}
