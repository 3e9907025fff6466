//! Registers of a frame, and where the runtime's own `CONTEXT` has them: as Windows does, on Unix too (dotnet/runtime
//! `src/coreclr/pal/inc/pal.h`).

pub use crate::native::context::{Context, LINK, frame_pointer, names, stack_pointer};
pub use crate::native::record::in_context;
