//! Exception objects, by the names of their managed fields.

use crate::clr::Clr;
use crate::clr::types::methodtable::MethodTable;

/// Longest message printed, in UTF-16 units; how many follow is said behind it.
const MAX_MESSAGE: usize = 1 << 16;

/// `_xcode` of exceptions that code threw (`EXCEPTION_COMPLUS`).
const THROWN: u32 = 0xE043_4352;

/// HRESULTs of what the processor raises in managed code (dotnet/diagnostics `src/SOS/Strike/strike.cpp`, `AsyncHResultValues`):
/// arithmetic, overflow, division by zero, format, null reference and access violation, misaligned data.
const FAULTS: [u32; 6] = [0x8007_0216, 0x8013_1516, 0x8002_0012, 0x8013_1537, 0x8000_4003, 0x8013_1541];

/// What an exception object says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExceptionObject {
    /// `_HResult`.
    pub hresult: u32,
    /// Whether SOS takes it for one that the processor raised: by `_xcode`, which says so of few, and by HRESULT.
    pub fault: bool,
    /// `_message`; `None` when null or unreadable.
    pub message: Option<String>,
    /// Address of the message, 0 for none.
    pub message_at: u64,
    /// `_innerException`, 0 for none.
    pub inner: u64,
    /// `_stackTrace`: a byte array, or an array that holds it; 0 for none.
    pub stack_trace: u64,
    /// `_stackTraceString`; `None` when null or unreadable.
    pub stack_text: Option<String>,
    /// Address of that string, 0 for none.
    pub stack_text_at: u64,
}

impl Clr {
    /// Whether the type is `System.Exception` or derives from it.
    pub fn is_exception(&self, mt: &MethodTable) -> bool {
        let base = self.class_chain(mt.address).find(|m| m.parent == self.known.object);
        base.is_some_and(|m| &*self.type_name(m.address) == "System.Exception")
    }

    /// Reads the exception object at `address` of type `mt`.
    pub fn exception_at(&self, address: u64, mt: u64) -> ExceptionObject {
        let fields = self.fields(mt);
        let place = |name: &str| {
            let f = fields.instance.iter().find(|f| &*f.name == name)?;
            address.checked_add(self.header())?.checked_add(f.offset())
        };
        let pointer = |name| place(name).and_then(|a| self.space().ptr(a)).unwrap_or(0);
        let text = |name| match pointer(name) {
            0 => None,
            s => self.string_at(s, MAX_MESSAGE).map(|(units, mut text)| {
                if units as usize > MAX_MESSAGE {
                    text.push_str(&format!("... ({} more characters)", units as usize - MAX_MESSAGE));
                }
                text
            }),
        };
        // Without metadata fields have no names: where the code is was proved with the types.
        let hresult = place("_HResult").or_else(|| address.checked_add(self.known_types().hresult?));
        let code = place("_xcode").and_then(|a| self.space().u32(a));
        let hresult = hresult.and_then(|a| self.space().u32(a)).unwrap_or(0);
        ExceptionObject {
            fault: code.is_some_and(|c| c != 0 && c != THROWN) || FAULTS.contains(&hresult),
            hresult,
            message: text("_message"),
            message_at: pointer("_message"),
            inner: pointer("_innerException"),
            stack_trace: pointer(if self.ahead().is_some() { "_corDbgStackTrace" } else { "_stackTrace" }),
            stack_text: text("_stackTraceString"),
            stack_text_at: pointer("_stackTraceString"),
        }
    }
}
