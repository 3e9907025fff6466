//! What is inside an exception: the exception it was made from, and those an aggregate collects.

use super::Session;
use crate::clr::gathered::Gathered;

/// Where an `AggregateException` keeps what it collected: an array since 6.0, a `ReadOnlyCollection` over one before
/// (dotnet/runtime `src/libraries/System.Private.CoreLib/src/System/AggregateException.cs`).
const COLLECTED: &[&str] = &["_innerExceptions", "m_innerExceptions"];

impl Session {
    /// The exceptions inside the one at `address`, in order: the inner exception, or all of an aggregate's.
    pub fn inner_exceptions(&self, address: u64) -> Gathered<u64> {
        let mut found = Gathered::default();
        let Some(e) = self.value(address) else { return found };
        let inner = e.pointer(&["_innerException"]).filter(|&p| p != 0);
        let list = e.object(COLLECTED);
        let list = list.and_then(|l| l.object(&["list", "_items"]).or(Some(l)));
        let elements = list.and_then(|l| l.elements()).filter(|e| e.are_references());
        for i in 0..elements.map_or(0, |e| e.count) {
            match elements.and_then(|e| e.object(i)) {
                Some(object) => found.items.push(object.address()),
                None => {
                    found.because(format!("exception {i} inside {address:x} is not in the dump"));
                    break;
                }
            }
        }
        match inner {
            Some(inner) if !found.items.contains(&inner) => found.items.insert(0, inner),
            _ => {}
        }
        found
    }
}
