//! Where output gathers on its way to the sink.

use std::io::{self, Write};

/// Bytes gathered before the sink gets them. Someone may sit before a screen: it is not more than a page or two.
const ENOUGH: usize = 1 << 13;

/// A sink with bytes that wait before it.
pub struct Buffer {
    sink: Box<dyn Write + Send>,
    /// What waits. Append to it, then call [`Buffer::spill`].
    pub bytes: Vec<u8>,
}

impl Buffer {
    /// Gathers for `sink`.
    pub fn new(sink: Box<dyn Write + Send>) -> Self {
        Self { sink, bytes: Vec::with_capacity(2 * ENOUGH) }
    }

    /// Hands over what waits if it is enough.
    #[inline]
    pub fn spill(&mut self) -> io::Result<()> {
        if self.bytes.len() < ENOUGH { Ok(()) } else { self.hand_over() }
    }

    /// Appends `bytes`; many go through without a copy.
    pub fn pass(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() < ENOUGH {
            self.bytes.extend_from_slice(bytes);
            return self.spill();
        }
        self.hand_over()?;
        self.sink.write_all(bytes)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let written = self.sink.write_all(&self.bytes);
        // What could not be written is not tried again.
        self.bytes.clear();
        written
    }

    /// Hands over everything, down to the file or terminal.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.sink.flush()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Whoever wants to know of a failure flushes before.
        let _ = self.flush();
    }
}

/// What `of` appends, as text, for tests of those that append.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub fn written(of: impl Fn(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    of(&mut out);
    String::from_utf8(out).unwrap()
}
