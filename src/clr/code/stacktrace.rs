//! The stack trace an exception object carries.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/object.h` (`StackTraceArray::ArrayHeader`: element count and thread, a pointer
//! each; since 9.0 the count shares its word with a count of objects kept alive) and `clrex.h` (`StackTraceElement`: ip,
//! sp, MethodDesc, flags). Since 9.0 the field may hold an `Object[]` whose first element is that array.

use crate::clr::Clr;
use crate::clr::gathered::Gathered;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceFrame {
    /// Return address, or the faulting instruction.
    pub ip: u64,
    /// Stack pointer.
    pub sp: u64,
    /// MethodDesc address; 0 for none.
    pub method: u64,
}

impl Clr {
    /// Frames of the trace in the `_stackTrace` array at `array` (0 for none), innermost first.
    pub fn stack_trace(&self, array: u64) -> Gathered<TraceFrame> {
        let mut out = Gathered::default();
        if array != 0 && self.read_trace(array, u64::MAX, &mut out).is_none() {
            out.because(format!("the stack trace at {array:x} is not in the dump"));
        }
        out
    }

    /// The innermost frame of that trace: what of many exceptions is asked for must not cost their whole traces, which they
    /// may share.
    pub fn innermost_frame(&self, array: u64) -> Option<TraceFrame> {
        let mut out = Gathered::default();
        self.read_trace(array, 1, &mut out);
        out.items.pop()
    }

    /// Reads at most so many frames. An array has as many as are in the dump.
    fn read_trace(&self, array: u64, most: u64, out: &mut Gathered<TraceFrame>) -> Option<()> {
        let (space, ptr) = (self.space(), self.header());
        if self.ahead().is_some() {
            return self.read_addresses(array, most, out);
        }
        let mt = self.method_table(self.object_type(array)?)?;
        let bytes = if mt.component_size() == 1 { array } else { space.ptr(array.checked_add(2 * ptr)?)? };
        if bytes == 0 {
            return Some(());
        }
        let length = u64::from(self.component_count(bytes)?);
        let data = bytes.checked_add(2 * ptr)?;
        let count = u64::from(space.u32(data)?);
        let room = length.saturating_sub(2 * ptr) / (4 * ptr);
        if count > room {
            out.because(format!("the stack trace counts {count} frames and has room for {room}"));
        }
        for i in 0..count.min(room).min(most) {
            let at = data.checked_add((2 + 4 * i) * ptr)?;
            out.items.push(TraceFrame {
                ip: space.ptr(at)?,
                sp: space.ptr_at(at, ptr)?,
                method: space.ptr_at(at, 2 * ptr)?,
            });
        }
        Some(())
    }

    /// NativeAOT keeps instruction pointers alone; the rest of the array is zeros, 1 stands between stacks of an exception
    /// that was thrown again (dotnet/runtime `src/coreclr/nativeaot/System.Private.CoreLib/src/System/Exception.NativeAot.cs`).
    fn read_addresses(&self, array: u64, most: u64, out: &mut Gathered<TraceFrame>) -> Option<()> {
        const BETWEEN: u64 = 1;
        let (space, ptr) = (self.space(), self.header());
        let data = array.checked_add(2 * ptr)?;
        for i in 0..u64::from(self.component_count(array)?) {
            let ip = space.ptr_at(data, i * ptr)?;
            if ip == 0 || out.items.len() as u64 >= most {
                break;
            }
            if ip != BETWEEN {
                out.items.push(TraceFrame { ip, sp: 0, method: 0 });
            }
        }
        Some(())
    }
}
