//! IL: bodies of methods, their instructions, and names for the tokens in them.

pub mod body;
pub mod find;
pub mod names;
mod opcodes;
pub mod text;

pub use opcodes::Operand;

/// What an instruction works on.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    None,
    /// Number of a variable or argument.
    Var(u16),
    /// A whole number.
    Int(i64),
    /// A number with a fraction.
    Real(f64),
    /// Offset that is jumped to.
    Target(u32),
    /// Offsets that are jumped to by a number.
    Targets(Vec<u32>),
    /// A metadata token.
    Token(u32),
}

/// An instruction.
#[derive(Debug, Clone, PartialEq)]
pub struct Instruction {
    /// Its offset in the code.
    pub offset: u32,
    /// Offset of the next.
    pub next: u32,
    /// Its name; `illegal` with the byte as its value for a code that does not exist.
    pub name: &'static str,
    /// What it works on.
    pub value: Value,
}

/// Bytes from the front.
struct Reader<'a> {
    code: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.code.get(self.at..)?.first_chunk().copied()?;
        self.at += N;
        Some(bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.take().map(i32::from_le_bytes)
    }

    fn target(&self, distance: i32) -> u32 {
        (self.at as u32).wrapping_add_signed(distance)
    }

    fn value(&mut self, operand: Operand) -> Option<Value> {
        Some(match operand {
            Operand::None => Value::None,
            Operand::Var8 => Value::Var(u16::from(u8::from_le_bytes(self.take()?))),
            Operand::Var16 => Value::Var(u16::from_le_bytes(self.take()?)),
            Operand::Int8 => Value::Int(i64::from(i8::from_le_bytes(self.take()?))),
            Operand::Int32 => Value::Int(i64::from(self.i32()?)),
            Operand::Int64 => Value::Int(i64::from_le_bytes(self.take()?)),
            Operand::Real32 => Value::Real(f64::from(f32::from_le_bytes(self.take()?))),
            Operand::Real64 => Value::Real(f64::from_le_bytes(self.take()?)),
            Operand::Branch8 => {
                let distance = i32::from(i8::from_le_bytes(self.take()?));
                Value::Target(self.target(distance))
            }
            Operand::Branch32 => {
                let distance = self.i32()?;
                Value::Target(self.target(distance))
            }
            Operand::Switch => {
                let count = u32::from_le_bytes(self.take()?) as usize;
                // As many as there are bytes for.
                let left = self.code.len().saturating_sub(self.at) / 4;
                (count <= left).then_some(())?;
                let distances: Vec<i32> = (0..count).map_while(|_| self.i32()).collect();
                Value::Targets(distances.into_iter().map(|d| self.target(d)).collect())
            }
            Operand::Token => Value::Token(u32::from_le_bytes(self.take()?)),
        })
    }
}

/// The instruction at `offset` of `code`; `None` at its end, or where the code ends inside it.
pub fn decode(code: &[u8], offset: u32) -> Option<Instruction> {
    let mut r = Reader { code, at: offset as usize };
    let [first] = r.take()?;
    let second = if first == opcodes::PREFIX { Some(r.take::<1>()?[0]) } else { None };
    let (name, value) = match opcodes::named(first, second) {
        Some((name, operand)) => (name, r.value(operand)?),
        None => (
            "illegal",
            Value::Int(i64::from(second.map_or(u16::from(first), |s| u16::from(first) << 8 | u16::from(s)))),
        ),
    };
    Some(Instruction { offset, next: u32::try_from(r.at).ok()?, name, value })
}

/// The instructions of `code`, up to one that is cut off.
pub fn instructions(code: &[u8]) -> impl Iterator<Item = Instruction> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let i = decode(code, at)?;
        at = i.next;
        Some(i)
    })
}

#[cfg(test)]
mod tests;
