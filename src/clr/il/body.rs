//! Bodies of methods: header, code, exception clauses (ECMA-335 II.25.4).

/// Longest code read, in bytes.
const MAX_CODE: u32 = 1 << 24;
/// Most sections behind the code.
const MAX_SECTIONS: usize = 16;
/// Most clauses of one method.
const MAX_CLAUSES: usize = 1 << 14;

/// What a clause does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClauseKind {
    /// Catches exceptions of the type with this token.
    Catch(u32),
    /// Asks the filter at this offset.
    Filter(u32),
    /// Runs at the end in any case.
    Finally,
    /// Runs at the end after an exception.
    Fault,
}

/// An exception clause: offsets in the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// What it does.
    pub kind: ClauseKind,
    /// First offset of the block that is guarded, and the one behind it.
    pub guarded: (u32, u32),
    /// First offset of its handler, and the one behind it.
    pub handler: (u32, u32),
}

/// The body of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Most values on the evaluation stack.
    pub max_stack: u16,
    /// Token of the signature of its local variables; 0 without any.
    pub locals: u32,
    /// Whether locals begin as zeros.
    pub init_locals: bool,
    /// Bytes of the header.
    pub header: u32,
    /// The code.
    pub code: Vec<u8>,
    /// Its exception clauses, inner ones first.
    pub clauses: Vec<Clause>,
    /// Why clauses may be missing.
    pub partial: Option<&'static str>,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Its first byte is of neither form.
    #[error("no body of a method begins there: its header is of no known form")]
    NoHeader,
    /// Header or code are not at hand.
    #[error("the bytes of the body are not in the dump")]
    Missing,
    /// The header asks for more than any method has.
    #[error("the header of the body asks for {0} bytes of code")]
    TooLong(u32),
}

/// Reads the body of a method; `bytes` gives so many bytes at an offset from its start.
pub fn read(bytes: impl Fn(u32, usize) -> Option<Vec<u8>>) -> Result<Body, BodyError> {
    const FORMAT: u8 = 3;
    const TINY: u8 = 2;
    const FAT: u8 = 3;
    const MORE_SECTIONS: u16 = 0x8;
    const INIT_LOCALS: u16 = 0x10;
    let first = bytes(0, 1).and_then(|b| b.first().copied()).ok_or(BodyError::Missing)?;
    let mut body = Body {
        max_stack: 8,
        locals: 0,
        init_locals: false,
        header: 1,
        code: Vec::new(),
        clauses: Vec::new(),
        partial: None,
    };
    if first & FORMAT == TINY {
        body.code = bytes(1, usize::from(first >> 2)).ok_or(BodyError::Missing)?;
        return Ok(body);
    }
    (first & FORMAT == FAT).then_some(()).ok_or(BodyError::NoHeader)?;
    let header = bytes(0, 12).ok_or(BodyError::Missing)?;
    let u16_at = |at: usize| header.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u16::from_le_bytes(*b));
    let u32_at = |at: usize| header.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b));
    let flags = u16_at(0);
    body.header = u32::from(flags >> 12) * 4;
    (body.header >= 12).then_some(()).ok_or(BodyError::NoHeader)?;
    (body.max_stack, body.locals, body.init_locals) = (u16_at(2), u32_at(8), flags & INIT_LOCALS != 0);
    let size = u32_at(4);
    (size <= MAX_CODE).then_some(()).ok_or(BodyError::TooLong(size))?;
    body.code = bytes(body.header, size as usize).ok_or(BodyError::Missing)?;
    if flags & MORE_SECTIONS != 0 && sections(&mut body, &bytes).is_none() {
        body.partial = Some("its exception clauses are not all in the dump");
    }
    Ok(body)
}

/// Reads the sections behind the code; `None` when one is not at hand or none.
fn sections(body: &mut Body, bytes: &impl Fn(u32, usize) -> Option<Vec<u8>>) -> Option<()> {
    const EXCEPTIONS: u8 = 1;
    const KIND: u8 = 0x3F;
    const FAT: u8 = 0x40;
    const MORE: u8 = 0x80;
    let mut at = (body.header + body.code.len() as u32).next_multiple_of(4);
    for _ in 0..MAX_SECTIONS {
        let head = bytes(at, 4)?;
        let word = u32::from_le_bytes(*head.first_chunk()?);
        let kind = (word & 0xFF) as u8;
        let (entry, size) = if kind & FAT != 0 { (24, word >> 8) } else { (12, word >> 8 & 0xFF) };
        if kind & KIND == EXCEPTIONS {
            // Some compilers count the header into the size and some do not: only whole entries count.
            let count = (size.saturating_sub(4) / entry) as usize;
            let table = bytes(at.checked_add(4)?, count.min(MAX_CLAUSES) * entry as usize)?;
            let clause = |e: &[u8]| if entry == 24 { fat_clause(e) } else { small_clause(e) };
            let room = MAX_CLAUSES.saturating_sub(body.clauses.len());
            body.clauses.extend(table.chunks_exact(entry as usize).take(room).filter_map(clause));
            (count <= room).then_some(())?;
        }
        if kind & MORE == 0 {
            return Some(());
        }
        at = at.checked_add(size.max(4))?.checked_next_multiple_of(4)?;
    }
    None
}

fn clause(flags: u32, guarded: (u32, u32), handler: (u32, u32), extra: u32) -> Option<Clause> {
    let end = |(start, length): (u32, u32)| Some((start, start.checked_add(length)?));
    let kind = match flags & 7 {
        1 => ClauseKind::Filter(extra),
        2 => ClauseKind::Finally,
        4 => ClauseKind::Fault,
        _ => ClauseKind::Catch(extra),
    };
    Some(Clause { kind, guarded: end(guarded)?, handler: end(handler)? })
}

fn fat_clause(e: &[u8]) -> Option<Clause> {
    let word = |i: usize| Some(u32::from_le_bytes(*e.get(4 * i..)?.first_chunk()?));
    clause(word(0)?, (word(1)?, word(2)?), (word(3)?, word(4)?), word(5)?)
}

fn small_clause(e: &[u8]) -> Option<Clause> {
    let half = |i: usize| Some(u32::from(u16::from_le_bytes(*e.get(i..)?.first_chunk()?)));
    let byte = |i: usize| Some(u32::from(*e.get(i)?));
    clause(half(0)?, (half(2)?, byte(4)?), (half(5)?, byte(7)?), half(8)? | half(10)? << 16)
}

/// What begins or ends in front of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// A block with this word begins.
    Begin(Block),
    /// The block with this word ends.
    End(Block),
}

/// A block of an exception clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Block {
    /// The guarded one.
    Try,
    /// A filter.
    Filter,
    /// A handler, with the clause it is of.
    Handler(ClauseKind),
}

impl Body {
    /// Where the blocks of the clauses begin and end, sorted by offset: at one offset inner ones end first and outer ones
    /// begin first. What several clauses guard together is one block.
    pub fn edges(&self) -> Vec<(u32, Edge)> {
        let mut blocks: Vec<(u32, u32, Block)> = Vec::new();
        for c in &self.clauses {
            blocks.push((c.guarded.0, c.guarded.1, Block::Try));
            if let ClauseKind::Filter(at) = c.kind {
                blocks.push((at, c.handler.0, Block::Filter));
            }
            blocks.push((c.handler.0, c.handler.1, Block::Handler(c.kind)));
        }
        blocks.retain(|b| b.0 < b.1);
        // Outer ones first.
        blocks.sort_by_key(|b| (b.0, std::cmp::Reverse(b.1)));
        blocks.dedup_by_key(|b| (b.0, b.1, b.2 == Block::Try));
        let begins = blocks.iter().map(|b| ((b.0, 1, 0), Edge::Begin(b.2)));
        // Of those that end together the one that begins last.
        let ends = blocks.iter().map(|b| ((b.1, 0, u32::MAX - b.0), Edge::End(b.2)));
        let mut all: Vec<_> = ends.chain(begins).collect();
        all.sort_by_key(|e| e.0);
        all.into_iter().map(|(key, edge)| (key.0, edge)).collect()
    }
}
