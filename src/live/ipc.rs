//! The protocol of the runtime's diagnostics server: one request and one answer a connection.
//!
//! Source: `dotnet/diagnostics`, `documentation/design-docs/ipc-protocol.md` (MIT). A message is a header of 20 bytes (magic,
//! size of it all in 16 bits, command set, command, reserved) and a payload; numbers are little-endian, texts UTF-16 behind
//! their length, the zero at their end included.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::watch::Cancel;

const MAGIC: &[u8; 14] = b"DOTNET_IPC_V1\0";
const HEADER: usize = 20;
/// How often a wait looks whether it is to end.
const TICK: Duration = Duration::from_millis(50);

/// A command: its set and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command(pub u8, pub u8);

impl Command {
    /// `CreateCoreDump`, .NET Core 3.0.
    pub const DUMP: Command = Command(1, 1);
    /// The same with flags, .NET 6.
    pub const DUMP_2: Command = Command(1, 2);
    /// The same, which says why it failed, .NET 7.
    pub const DUMP_3: Command = Command(1, 3);
    /// `ProcessInfo`, .NET 5.
    pub const INFO: Command = Command(4, 0);
    /// `ProcessInfo2`, .NET 6.
    pub const INFO_2: Command = Command(4, 4);
    /// `ProcessInfo3`, .NET 8.
    pub const INFO_3: Command = Command(4, 8);
    const OK: Command = Command(0xFF, 0);
    const ERROR: Command = Command(0xFF, 0xFF);
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Nobody listens: the process has gone or ends.
    #[error("nobody answers on its diagnostics port; the process has ended, or is ending")]
    Gone,
    /// The port belongs to somebody else.
    #[error("no right to use its diagnostics port; run as the user of the process, or as root")]
    Rights,
    /// No answer within the time.
    #[error("no answer within {} s; it may be stopped, or suspended at its start", .0.as_secs())]
    Silent(Duration),
    /// Something else listens there.
    #[error("what it answers is not the diagnostic protocol: {0}")]
    Foreign(&'static str),
    /// The runtime says no.
    #[error("{}", code(*.0, .1))]
    Code(u32, String),
    /// Ctrl-C.
    #[error("interrupted; the runtime goes on with what it was asked for")]
    Interrupted,
    /// Anything else of the operating system.
    #[error("the connection broke: {0}")]
    Broken(io::Error),
}

/// `DS_IPC_E_UNKNOWN_COMMAND`.
const UNKNOWN: u32 = 0x8013_1385;

impl Refused {
    /// Whether the runtime is too old for the command.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Refused::Code(UNKNOWN, _))
    }
}

/// An error of the server in words: those of the protocol, and its own, if it sent some.
fn code(code: u32, said: &str) -> String {
    let words = match code {
        UNKNOWN => "the runtime does not know the command",
        0x8013_1384 => "the runtime could not read the request",
        0x8013_1386 => "the runtime speaks another version of the protocol",
        0x8013_1515 => "the runtime does not support it",
        0x8013_135B | 0x8013_1371 => "the runtime has not started yet",
        0x8007_0057 => "the runtime refused an argument",
        0x8007_000E => "the runtime has no memory left",
        0x8007_0005 => "the runtime has no right to do it",
        _ => "the runtime failed",
    };
    let said = if said.is_empty() { String::new() } else { format!(": {said}") };
    format!("{words} (0x{code:08x}){said}")
}

/// A payload being written.
#[derive(Debug, Default)]
pub struct Payload(Vec<u8>);

impl Payload {
    /// Adds a number.
    pub fn number(mut self, n: u32) -> Self {
        self.0.extend_from_slice(&n.to_le_bytes());
        self
    }

    /// Adds a text.
    pub fn text(self, text: &str) -> Self {
        let units: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut all = self.number(u32::try_from(units.len()).unwrap_or(u32::MAX));
        all.0.extend(units.iter().flat_map(|u| u.to_le_bytes()));
        all
    }
}

#[cfg(test)]
impl Payload {
    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A payload being read; `None` where it ends too early.
#[derive(Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    /// The next number.
    pub fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    /// The next text.
    pub fn text(&mut self) -> Option<String> {
        let units = usize::try_from(self.number()?).ok()?;
        let bytes = self.bytes(units.checked_mul(2)?)?;
        let units: Vec<u16> = bytes.as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
        let end = units.iter().position(|&u| u == 0).unwrap_or(units.len());
        Some(String::from_utf16_lossy(&units[..end]))
    }
}

/// Asks at a port and gives the payload of the answer. `patience`: how long it may take; `None` where it takes as long as it
/// takes.
pub fn ask(
    port: &Path,
    command: Command,
    payload: Payload,
    patience: Option<Duration>,
    cancel: &Cancel,
) -> Result<Vec<u8>, Refused> {
    let request = message(command, &payload.0)?;
    let (send, receive) = channel();
    let port = port.to_owned();
    // Connecting may block, and reading from a pipe of Windows knows no time: who waits is a thread of its own. One that is
    // given up ends with its connection.
    std::thread::spawn(move || drop(send.send(exchange(&port, &request))));
    let begun = Instant::now();
    loop {
        match receive.recv_timeout(TICK) {
            Ok(answer) => return answer,
            Err(RecvTimeoutError::Disconnected) => return Err(Refused::Foreign("its thread ended")),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if cancel.is_set() {
            return Err(Refused::Interrupted);
        }
        if let Some(most) = patience.filter(|p| begun.elapsed() >= *p) {
            return Err(Refused::Silent(most));
        }
    }
}

fn message(command: Command, payload: &[u8]) -> Result<Vec<u8>, Refused> {
    let long = || Refused::Broken(io::Error::other("the request is longer than the protocol allows"));
    let size = u16::try_from(HEADER + payload.len()).map_err(|_| long())?;
    let mut all = MAGIC.to_vec();
    all.extend_from_slice(&size.to_le_bytes());
    all.extend_from_slice(&[command.0, command.1, 0, 0]);
    all.extend_from_slice(payload);
    Ok(all)
}

fn exchange(port: &Path, request: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut stream = connect(port).map_err(refused)?;
    stream.write_all(request).map_err(refused)?;
    stream.flush().map_err(refused)?;
    read(&mut stream)
}

/// Reads one answer. Its size has 16 bits: more is never read.
fn read(from: &mut impl Read) -> Result<Vec<u8>, Refused> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header).map_err(refused)?;
    if !header.starts_with(MAGIC) {
        return Err(Refused::Foreign("it begins with other letters"));
    }
    let size = usize::from(u16::from_le_bytes([header[14], header[15]]));
    let rest = size.checked_sub(HEADER).ok_or(Refused::Foreign("a message shorter than its head"))?;
    let mut payload = vec![0; rest];
    from.read_exact(&mut payload).map_err(refused)?;
    match Command(header[16], header[17]) {
        Command::OK => Ok(payload),
        Command::ERROR => {
            let mut fields = Fields(&payload);
            let code = fields.number().ok_or(Refused::Foreign("an error without a number"))?;
            Err(Refused::Code(code, fields.text().unwrap_or_default().trim().to_owned()))
        }
        _ => Err(Refused::Foreign("an answer that is neither one nor an error")),
    }
}

fn refused(e: io::Error) -> Refused {
    match e.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Refused::Gone,
        io::ErrorKind::PermissionDenied => Refused::Rights,
        _ => Refused::Broken(e),
    }
}

#[cfg(unix)]
fn connect(port: &Path) -> io::Result<impl Read + Write> {
    std::os::unix::net::UnixStream::connect(port)
}

#[cfg(windows)]
fn connect(port: &Path) -> io::Result<impl Read + Write> {
    /// `ERROR_PIPE_BUSY`: all instances have a client; the server makes a new one for the next.
    const BUSY: i32 = 231;
    for _ in 0..40 {
        match std::fs::OpenOptions::new().read(true).write(true).open(port) {
            Err(e) if e.raw_os_error() == Some(BUSY) => std::thread::sleep(TICK),
            other => return other,
        }
    }
    Err(io::Error::from_raw_os_error(BUSY))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(command: Command, payload: &[u8]) -> Vec<u8> {
        message(command, payload).unwrap()
    }

    #[test]
    fn messages_are_those_of_the_specification() {
        let sent = message(Command::DUMP, &Payload::default().text("a").number(2).number(1).0).unwrap();
        let mut want = b"DOTNET_IPC_V1\0".to_vec();
        want.extend_from_slice(&[36, 0, 1, 1, 0, 0, 2, 0, 0, 0, b'a', 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(sent, want);
        assert!(message(Command::DUMP, &[0; 0x1_0000]).is_err());
    }

    #[test]
    fn answers_are_bounded_and_checked() {
        let fine = answer(Command::OK, &[1, 2]);
        assert_eq!(read(&mut &fine[..]).unwrap(), [1, 2]);
        for cut in 0..fine.len() {
            assert!(matches!(read(&mut &fine[..cut]), Err(Refused::Gone)), "{cut}");
        }
        let mut short = fine.clone();
        short[14] = 19;
        assert!(matches!(read(&mut &short[..]), Err(Refused::Foreign(_))));
        let mut other = fine;
        other[0] = b'X';
        assert!(matches!(read(&mut &other[..]), Err(Refused::Foreign(_))));
        assert!(matches!(read(&mut &answer(Command(9, 9), &[])[..]), Err(Refused::Foreign(_))));
        assert!(matches!(read(&mut &answer(Command::ERROR, &[1])[..]), Err(Refused::Foreign(_))));
        let error = Payload::default().number(UNKNOWN).text("why").0;
        let error = read(&mut &answer(Command::ERROR, &error)[..]).unwrap_err();
        assert!(error.is_unknown());
        assert_eq!(error.to_string(), "the runtime does not know the command (0x80131385): why");
    }

    #[test]
    fn texts_that_lie_about_their_length_are_none() {
        let text = Payload::default().text("ab\u{1F600}").0;
        assert_eq!(Fields(&text).text().unwrap(), "ab\u{1F600}");
        assert_eq!(Fields(&[0; 4]).text().unwrap(), "");
        for n in [u32::MAX, 0x8000_0000, 2] {
            let lie = Payload::default().number(n).0;
            assert_eq!(Fields(&lie).text(), None);
        }
    }
}
