//! C++ expressions, as far as they need no symbols: arithmetic, registers, `@$t0`, casts between base types and pointers to
//! them, what such pointers point to, `sizeof`. Decimal unless `0x` or a leading 0 says otherwise.

use super::Scope;
use super::pseudo::named;
use crate::dump::Os;

/// A base type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// No value.
    Void,
    /// True or false.
    Bool,
    /// A number of that many bytes, with a sign or without.
    Int(u8, bool),
    /// A floating-point number of that many bytes.
    Float(u8),
}

/// A base type, or a pointer to one, or a pointer to such a pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Type {
    base: Base,
    stars: u8,
}

const INT: Type = Type { base: Base::Int(4, true), stars: 0 };
const DOUBLE: Type = Type { base: Base::Float(8), stars: 0 };

impl Type {
    fn int(size: u8, signed: bool) -> Self {
        Self { base: Base::Int(size, signed), stars: 0 }
    }

    fn is_pointer(self) -> bool {
        self.stars > 0
    }

    fn is_float(self) -> bool {
        self.stars == 0 && matches!(self.base, Base::Float(_))
    }

    fn is_signed(self) -> bool {
        self.stars == 0 && matches!(self.base, Base::Int(_, true) | Base::Float(_))
    }

    fn size(self, pointer: u8) -> u8 {
        match self.base {
            _ if self.stars > 0 => pointer,
            Base::Void => 0,
            Base::Bool => 1,
            Base::Int(size, _) | Base::Float(size) => size,
        }
    }

    fn pointee(self) -> Self {
        Self { stars: self.stars.saturating_sub(1), ..self }
    }

    fn name(self) -> String {
        let base = match self.base {
            Base::Void => "void",
            Base::Bool => "bool",
            Base::Int(1, true) => "char",
            Base::Int(1, false) => "unsigned char",
            Base::Int(2, true) => "short",
            Base::Int(2, false) => "unsigned short",
            Base::Int(4, true) => "int",
            Base::Int(4, false) => "unsigned int",
            Base::Int(_, true) => "int64",
            Base::Int(_, false) => "unsigned int64",
            Base::Float(4) => "float",
            Base::Float(_) => "double",
        };
        if self.stars == 0 { base.to_owned() } else { format!("{base} {}", "*".repeat(usize::from(self.stars))) }
    }
}

/// A value and its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    /// A float as a `double`, all else widened to 64 bits by its sign.
    raw: u64,
    ty: Type,
    pointer: u8,
}

impl Value {
    /// The value as MASM takes it: a floating-point number is cut to a whole one.
    pub fn bits(self) -> u64 {
        if self.ty.is_float() { f64::from_bits(self.raw) as i64 as u64 } else { self.raw }
    }

    /// As `??` prints it.
    pub fn shown(self) -> String {
        let name = self.ty.name();
        match self.ty.base {
            _ if self.ty.is_pointer() => {
                format!("{name} 0x{:0width$x}", self.raw, width = usize::from(self.pointer) * 2)
            }
            Base::Void => name,
            Base::Bool => format!("{name} {}", self.raw != 0),
            Base::Float(_) => format!("{name} {}", f64::from_bits(self.raw)),
            Base::Int(1, _) => {
                let c = char::from_u32((self.raw & 0xFF) as u32).filter(|c| c.is_ascii_graphic() || *c == ' ');
                let number = if self.ty.is_signed() {
                    format!("0n{}", self.raw as i64)
                } else {
                    format!("0x{:02x}", self.raw & 0xFF)
                };
                format!("{name} {number} '{}'", c.map_or(String::new(), String::from))
            }
            Base::Int(_, true) => format!("{name} 0n{}", self.raw as i64),
            Base::Int(_, false) => format!("{name} 0x{:x}", self.raw),
        }
    }

    fn truth(self) -> bool {
        if self.ty.is_float() { f64::from_bits(self.raw) != 0.0 } else { self.raw != 0 }
    }

    fn float(self) -> f64 {
        match (self.ty.is_float(), self.ty.is_signed()) {
            (true, _) => f64::from_bits(self.raw),
            (_, true) => self.raw as i64 as f64,
            _ => self.raw as f64,
        }
    }
}

/// Most brackets, signs and casts: a bound on recursion.
const MAX_DEPTH: u32 = 64;

/// Evaluates a C++ expression.
pub fn evaluate(text: &str, scope: &Scope<'_>) -> Result<Value, String> {
    if text.len() > 4096 {
        return Err("the expression is too long".into());
    }
    let pointer = scope.dump.map_or(8, |d| d.arch.pointer_size());
    let mut r = Reader { rest: text.trim(), scope, pointer, depth: 0, skip: false };
    let value = r.ternary()?;
    r.blanks();
    if r.rest.is_empty() { Ok(value) } else { Err(r.expected("an operator or the end")) }
}

struct Reader<'a> {
    rest: &'a str,
    scope: &'a Scope<'a>,
    pointer: u8,
    depth: u32,
    /// Nothing is read from memory: the value is not needed.
    skip: bool,
}

type Read = Result<Value, String>;

/// Operators of two values by how tight they bind, the loosest first; of those that begin alike the longer first.
const BINARY: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

impl<'a> Reader<'a> {
    fn blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn expected(&self, what: &str) -> String {
        if self.rest.is_empty() {
            format!("expected {what}, but the C++ expression ends")
        } else {
            format!("expected {what}, not `{}`", self.rest)
        }
    }

    fn take(&mut self, mark: &str) -> bool {
        self.blanks();
        match self.rest.strip_prefix(mark) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.blanks();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn deeper(&mut self, read: impl FnOnce(&mut Self) -> Read) -> Read {
        if self.depth >= MAX_DEPTH {
            return Err("the expression is too deep".into());
        }
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    /// Reads what is needed only if `needed`.
    fn maybe(&mut self, needed: bool, read: impl FnOnce(&mut Self) -> Read) -> Read {
        let before = self.skip;
        self.skip |= !needed;
        let value = read(self);
        self.skip = before;
        value
    }

    fn make(&self, raw: u64, ty: Type) -> Value {
        let raw = match ty.size(self.pointer) {
            _ if ty.is_float() => raw,
            size @ (1 | 2 | 4) => {
                let bits = 64 - u32::from(size) * 8;
                if ty.is_signed() { ((raw << bits) as i64 >> bits) as u64 } else { raw << bits >> bits }
            }
            _ => raw,
        };
        Value { raw, ty, pointer: self.pointer }
    }

    fn ternary(&mut self) -> Read {
        let condition = self.binary(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        self.deeper(|r| {
            let holds = condition.truth();
            let yes = r.maybe(holds, Self::ternary)?;
            if !r.take(":") {
                return Err(r.expected("`:`"));
            }
            let no = r.maybe(!holds, Self::ternary)?;
            Ok(if holds { yes } else { no })
        })
    }

    fn binary(&mut self, level: usize) -> Read {
        let Some(operators) = BINARY.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        loop {
            self.blanks();
            // `&` is no half of `&&`, `<` none of `<<`.
            let whole = |op: &&&str| {
                let after = self.rest.strip_prefix(**op);
                after.is_some_and(|a| !(matches!(**op, "&" | "|" | "<" | ">") && a.starts_with(**op)))
            };
            let Some(op) = operators.iter().find(whole).copied() else { return Ok(left) };
            self.rest = &self.rest[op.len()..];
            let needed = match op {
                "&&" => left.truth(),
                "||" => !left.truth(),
                _ => true,
            };
            let right = self.maybe(needed, |r| r.binary(level + 1))?;
            left = self.apply(op, left, right)?;
        }
    }

    /// The type both sides are made: the wider, without sign when one of them has none.
    fn common(&self, a: Value, b: Value) -> Type {
        if a.ty.is_float() || b.ty.is_float() {
            return DOUBLE;
        }
        let size = a.ty.size(self.pointer).max(b.ty.size(self.pointer)).max(4);
        let unsigned = |v: Value| v.ty.size(self.pointer) == size && !v.ty.is_signed() && v.ty.base != Base::Bool;
        Type::int(size, !unsigned(a) && !unsigned(b))
    }

    fn apply(&self, op: &str, a: Value, b: Value) -> Read {
        let truth =
            |t: bool| Ok(Value { raw: u64::from(t), ty: Type { base: Base::Bool, stars: 0 }, pointer: self.pointer });
        match op {
            "&&" => return truth(a.truth() && b.truth()),
            "||" => return truth(a.truth() || b.truth()),
            _ => {}
        }
        if let Some(moved) = self.pointers(op, a, b)? {
            return Ok(moved);
        }
        let ty = self.common(a, b);
        if ty.is_float() {
            let (x, y) = (a.float(), b.float());
            let result = match op {
                "+" => x + y,
                "-" => x - y,
                "*" => x * y,
                "/" => x / y,
                "==" => return truth(x == y),
                "!=" => return truth(x != y),
                "<" => return truth(x < y),
                ">" => return truth(x > y),
                "<=" => return truth(x <= y),
                ">=" => return truth(x >= y),
                _ => return Err(format!("{op} takes no floating-point numbers")),
            };
            return Ok(self.make(result.to_bits(), DOUBLE));
        }
        let (x, y) = (self.make(a.raw, ty).raw, self.make(b.raw, ty).raw);
        let signed = ty.is_signed();
        let order = if signed { (x as i64).cmp(&(y as i64)) } else { x.cmp(&y) };
        let zero = || Err("division by zero".to_owned());
        let result = match op {
            "+" => x.wrapping_add(y),
            "-" => x.wrapping_sub(y),
            "*" => x.wrapping_mul(y),
            "/" | "%" if y == 0 => return if self.skip { Ok(self.make(0, ty)) } else { zero() },
            "/" if signed => (x as i64).wrapping_div(y as i64) as u64,
            "/" => x / y,
            "%" if signed => (x as i64).wrapping_rem(y as i64) as u64,
            "%" => x % y,
            "&" => x & y,
            "|" => x | y,
            "^" => x ^ y,
            "<<" | ">>" => return Ok(self.shift(op, a, b)),
            "==" => return truth(x == y),
            "!=" => return truth(x != y),
            "<" => return truth(order.is_lt()),
            ">" => return truth(order.is_gt()),
            "<=" => return truth(order.is_le()),
            _ => return truth(order.is_ge()),
        };
        Ok(self.make(result, ty))
    }

    /// A shift keeps the type of what is shifted.
    fn shift(&self, op: &str, a: Value, b: Value) -> Value {
        let ty = if a.ty.size(self.pointer) < 4 { INT } else { a.ty };
        let by = b.raw.min(64) as u32;
        let raw = match op {
            "<<" => a.raw.checked_shl(by).unwrap_or(0),
            _ if ty.is_signed() => (a.raw as i64 >> by.min(63)) as u64,
            _ => a.raw.checked_shr(by).unwrap_or(0),
        };
        self.make(raw, ty)
    }

    /// Pointers move by the size of what they point to.
    fn pointers(&self, op: &str, a: Value, b: Value) -> Result<Option<Value>, String> {
        let step = |v: Value| u64::from(v.ty.pointee().size(self.pointer).max(1));
        Ok(match (op, a.ty.is_pointer(), b.ty.is_pointer()) {
            ("-", true, true) => {
                let distance = (a.raw.wrapping_sub(b.raw) as i64).wrapping_div(step(a) as i64);
                Some(self.make(distance as u64, Type::int(8, true)))
            }
            ("+", true, false) => Some(self.make(a.raw.wrapping_add(b.raw.wrapping_mul(step(a))), a.ty)),
            ("-", true, false) => Some(self.make(a.raw.wrapping_sub(b.raw.wrapping_mul(step(a))), a.ty)),
            ("+", false, true) => Some(self.make(b.raw.wrapping_add(a.raw.wrapping_mul(step(b))), b.ty)),
            ("*" | "/" | "%" | "<<" | ">>" | "+", true, _) | ("*" | "/" | "%", _, true) => {
                return Err(format!("{op} takes no pointers"));
            }
            _ => None,
        })
    }

    fn unary(&mut self) -> Read {
        self.deeper(|r| {
            r.blanks();
            if r.take("sizeof") {
                return r.size_of();
            }
            let Some(c) = r.rest.chars().next() else { return Err(r.expected("a value")) };
            match c {
                '-' | '+' | '~' | '!' | '*' => {
                    r.rest = &r.rest[1..];
                    let value = r.unary()?;
                    r.signed(c, value)
                }
                '&' => Err("addresses of names need symbols; none are read here".into()),
                '(' => {
                    let before = r.rest;
                    r.rest = &r.rest[1..];
                    if let Some(ty) = r.type_name()
                        && r.take(")")
                    {
                        let value = r.unary()?;
                        return r.cast(value, ty);
                    }
                    r.rest = &before[1..];
                    let value = r.ternary()?;
                    if !r.take(")") {
                        return Err(r.expected("`)`"));
                    }
                    r.behind(value)
                }
                _ => {
                    let value = r.primary()?;
                    r.behind(value)
                }
            }
        })
    }

    fn size_of(&mut self) -> Read {
        if !self.take("(") {
            return Err(self.expected("`(` behind sizeof"));
        }
        let before = self.rest;
        let ty = match self.type_name() {
            Some(ty) => ty,
            None => {
                self.rest = before;
                self.maybe(false, Self::ternary)?.ty
            }
        };
        if !self.take(")") {
            return Err(self.expected("a base type and `)`: other types need symbols"));
        }
        Ok(self.make(u64::from(ty.size(self.pointer)), Type::int(self.pointer, false)))
    }

    fn signed(&mut self, c: char, v: Value) -> Read {
        let wide = if v.ty.size(self.pointer) < 4 && !v.ty.is_float() { INT } else { v.ty };
        Ok(match c {
            '!' => Value { raw: u64::from(!v.truth()), ty: Type { base: Base::Bool, stars: 0 }, ..v },
            '*' => return self.pointed(v),
            '+' => self.make(v.raw, wide),
            _ if v.ty.is_pointer() => return Err(format!("{c} takes no pointers")),
            '-' if v.ty.is_float() => self.make((-f64::from_bits(v.raw)).to_bits(), v.ty),
            '-' => self.make(v.raw.wrapping_neg(), wide),
            _ if v.ty.is_float() => return Err("~ takes no floating-point numbers".into()),
            _ => self.make(!v.raw, wide),
        })
    }

    /// What a pointer points to.
    fn pointed(&self, v: Value) -> Read {
        let ty = v.ty.pointee();
        if !v.ty.is_pointer() || ty.size(self.pointer) == 0 {
            return Err(format!("{} points to nothing that can be read; cast it: *(int *)...", v.ty.name()));
        }
        if self.skip {
            return Ok(self.make(0, ty));
        }
        let space = &self.scope.dump.ok_or("no dump is open")?.space;
        let at = v.raw;
        let raw = match ty.size(self.pointer) {
            1 => space.u8(at).map(u64::from),
            2 => space.u16(at).map(u64::from),
            4 => space.u32(at).map(u64::from),
            _ => space.u64(at),
        };
        let raw = raw.ok_or_else(|| format!("*{at:x}: the memory is not in the dump"))?;
        let float = ty.is_float() && ty.size(self.pointer) == 4;
        Ok(self.make(if float { f64::from(f32::from_bits(raw as u32)).to_bits() } else { raw }, ty))
    }

    fn cast(&self, v: Value, ty: Type) -> Read {
        Ok(match (v.ty.is_float(), ty.is_float()) {
            (_, true) => {
                let x = v.float();
                let x = if ty.size(self.pointer) == 4 { f64::from(x as f32) } else { x };
                self.make(x.to_bits(), ty)
            }
            (true, false) => self.make(f64::from_bits(v.raw) as i64 as u64, ty),
            _ if ty.base == Base::Bool && !ty.is_pointer() => self.make(u64::from(v.raw != 0), ty),
            _ => self.make(v.raw, ty),
        })
    }

    /// `[N]` behind a value; members need symbols.
    fn behind(&mut self, mut value: Value) -> Read {
        while self.take("[") {
            let index = self.ternary()?;
            if !self.take("]") {
                return Err(self.expected("`]`"));
            }
            let at = self.apply("+", value, index)?;
            value = self.pointed(at)?;
        }
        if self.rest.starts_with("->") || self.rest.starts_with('.') {
            return Err("members need the symbols of their type; none are read here".into());
        }
        Ok(value)
    }

    fn primary(&mut self) -> Read {
        if self.take("@") {
            let dollar = if self.take("$") { "$" } else { "" };
            let name = format!("@{dollar}{}", self.word());
            let v = if self.skip { 0 } else { named(&name, self.scope)? };
            return Ok(self.make(v, Type::int(8, false)));
        }
        if self.take("'") {
            let mut chars = self.rest.chars();
            let (Some(c), Some('\'')) = (chars.next(), chars.next()) else {
                return Err("expected one character in single quotes".into());
            };
            self.rest = chars.as_str();
            return Ok(self.make(u64::from(u32::from(c)), Type::int(1, true)));
        }
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            return self.number();
        }
        let name = self.word();
        match name {
            "" => Err(self.expected("a value")),
            "true" | "false" => Ok(self.make(u64::from(name == "true"), Type { base: Base::Bool, stars: 0 })),
            _ => {
                Err(format!("`{name}` needs symbols; C++ expressions have registers (@rax, @$t0) and base types here"))
            }
        }
    }

    fn number(&mut self) -> Read {
        let mut word = self.word();
        if self.rest.starts_with('.') && word.bytes().all(|b| b.is_ascii_digit()) {
            let all_from = word;
            self.rest = &self.rest[1..];
            let digits = self.word();
            let text = format!("{all_from}.{digits}");
            let x: f64 = text.trim_end_matches(['f', 'F']).parse().map_err(|_| format!("`{text}` is no number"))?;
            return Ok(self.make(x.to_bits(), DOUBLE));
        }
        let whole = word;
        let lower = word.to_ascii_lowercase();
        let (mut wide, mut unsigned) = (false, false);
        for (suffix, w, u) in [
            ("ui64", true, true),
            ("i64", true, false),
            ("ull", true, true),
            ("llu", true, true),
            ("ll", true, false),
            ("ul", false, true),
            ("lu", false, true),
            ("u", false, true),
            ("l", false, false),
        ] {
            if lower.ends_with(suffix) && lower.len() > suffix.len() {
                (wide, unsigned) = (w, u);
                word = &word[..word.len() - suffix.len()];
                break;
            }
        }
        let lower = word.to_ascii_lowercase();
        let (digits, radix) = match lower.as_str() {
            w if w.starts_with("0x") => (&w[2..], 16),
            // As MASM has it: people mix the two.
            w if w.starts_with("0n") => (&w[2..], 10),
            w if w.len() > 1 && w.starts_with('0') => (&w[1..], 8),
            w => (w, 10),
        };
        let n = u64::from_str_radix(digits, radix).map_err(|_| format!("`{whole}` is no number"))?;
        // The first type that holds it.
        let fits = |bits: u32| n >> bits == 0;
        let ty = match (wide || !fits(32), unsigned) {
            (false, false) if fits(31) => INT,
            (false, false) if radix != 10 => Type::int(4, false),
            (false, true) => Type::int(4, false),
            (_, false) if fits(63) => Type::int(8, true),
            _ => Type::int(8, false),
        };
        Ok(self.make(n, ty))
    }

    /// A base type with the stars behind it. Nothing is taken when there is none.
    fn type_name(&mut self) -> Option<Type> {
        let mut words: Vec<&str> = Vec::new();
        loop {
            let before = self.rest;
            let word = self.word();
            if word.is_empty() || !(KEYWORDS.contains(&word) || NAMED.iter().any(|n| n.0 == word)) || words.len() > 4 {
                self.rest = before;
                break;
            }
            words.push(word);
        }
        words.retain(|w| !matches!(*w, "const" | "volatile"));
        let linux = self.scope.dump.is_some_and(|d| d.os == Os::Linux);
        let long = if linux { self.pointer } else { 4 };
        let base = base(&words, long, self.pointer)?;
        let mut stars = 0u8;
        while self.take("*") {
            stars = stars.saturating_add(1);
        }
        Some(Type { base, stars })
    }
}

/// Words that types are made of.
const KEYWORDS: &[&str] =
    &["const", "volatile", "unsigned", "signed", "void", "bool", "char", "short", "int", "long", "float", "double"];

/// Types of one word: size (0: that of a pointer) and sign.
const NAMED: &[(&str, u8, bool)] = &[
    ("__int64", 8, true),
    ("__int32", 4, true),
    ("__int16", 2, true),
    ("__int8", 1, true),
    ("int8_t", 1, true),
    ("uint8_t", 1, false),
    ("int16_t", 2, true),
    ("uint16_t", 2, false),
    ("int32_t", 4, true),
    ("uint32_t", 4, false),
    ("int64_t", 8, true),
    ("uint64_t", 8, false),
    ("wchar_t", 2, false),
    ("size_t", 0, false),
    ("intptr_t", 0, true),
    ("uintptr_t", 0, false),
    ("BYTE", 1, false),
    ("UCHAR", 1, false),
    ("WORD", 2, false),
    ("USHORT", 2, false),
    ("WCHAR", 2, false),
    ("DWORD", 4, false),
    ("ULONG", 4, false),
    ("LONG", 4, true),
    ("UINT", 4, false),
    ("INT", 4, true),
    ("BOOL", 4, true),
    ("DWORD64", 8, false),
    ("ULONG64", 8, false),
    ("ULONGLONG", 8, false),
    ("LONG64", 8, true),
    ("ULONG_PTR", 0, false),
    ("DWORD_PTR", 0, false),
    ("LONG_PTR", 0, true),
];

fn base(words: &[&str], long: u8, pointer: u8) -> Option<Base> {
    let (mut signed, mut size, mut longs) = (None, None, 0u8);
    for word in words {
        match *word {
            "unsigned" => signed = Some(false),
            "signed" => signed = Some(true),
            "void" => return Some(Base::Void),
            "bool" => return Some(Base::Bool),
            "float" => return Some(Base::Float(4)),
            "double" => return Some(Base::Float(8)),
            "char" => size = Some(1),
            "short" => size = Some(2),
            "int" => size = size.or(Some(4)),
            "long" => longs += 1,
            name => {
                let (_, bytes, sign) = NAMED.iter().find(|n| n.0 == name)?;
                size = Some(if *bytes == 0 { pointer } else { *bytes });
                signed = signed.or(Some(*sign));
            }
        }
    }
    let size = match longs {
        0 => size.or(signed.map(|_| 4))?,
        1 => long,
        _ => 8,
    };
    Some(Base::Int(size, signed.unwrap_or(true)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Values;
    use super::*;

    fn eval(text: &str) -> Result<String, String> {
        let mut values = Values::default();
        values.user[1] = 0x1234;
        evaluate(text, &Scope { dump: None, thread: 0, values: &values, context: None }).map(Value::shown)
    }

    #[test]
    fn values_and_their_types() {
        for (text, want) in [
            ("5", "int 0n5"),
            ("010 + 0x10 + 10", "int 0n34"),
            ("0xffffffff", "unsigned int 0xffffffff"),
            ("-1", "int 0n-1"),
            ("1 << 31", "int 0n-2147483648"),
            ("10 - 5 - 2", "int 0n3"),
            ("1 + 2 * 3 == 7 && !0", "bool true"),
            ("5 & 3 == 3", "int 0n1"),
            ("@$t1 >> 4", "unsigned int64 0x123"),
            ("(unsigned char)@$t1", "unsigned char 0x34 '4'"),
            ("(char)0xff", "char 0n-1 ''"),
            ("'A'", "char 0n65 'A'"),
            ("(int *)@$t1 + 2", "int * 0x000000000000123c"),
            ("(void *)@$t1", "void * 0x0000000000001234"),
            ("(char *)8 - (char *)6", "int64 0n2"),
            ("sizeof(int) + sizeof(unsigned long long)", "unsigned int64 0xc"),
            ("sizeof(double *)", "unsigned int64 0x8"),
            ("1.5 * 2", "double 3"),
            ("(int)2.9", "int 0n2"),
            ("7 / 2 + 7 % 4", "int 0n6"),
            ("1 ? 2 : 3", "int 0n2"),
            ("0 && *(int *)0", "bool false"),
            ("0n16", "int 0n16"),
            ("5ui64", "unsigned int64 0x5"),
            ("(0xFFFFFFFFFFFFFFFF)", "unsigned int64 0xffffffffffffffff"),
        ] {
            assert_eq!(eval(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_needs_symbols_is_refused() {
        for (text, word) in [
            ("zoo", "symbols"),
            ("&zoo", "symbols"),
            ("(@$t1).x", "symbols"),
            ("sizeof(Zoo)", "symbols"),
            ("*5", "cast"),
            ("1 / 0", "zero"),
            ("1 +", "ends"),
            ("(1", "`)`"),
            ("09", "number"),
            ("1 2", "operator"),
            ("*(int *)4", "no dump"),
        ] {
            assert!(eval(text).unwrap_err().contains(word), "{text}: {:?}", eval(text));
        }
        assert!(eval(&"(".repeat(4000)).is_err());
        assert!(eval(&"-".repeat(4000)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9a-fx+*/()~@$t \\[\\]<>=!?:&|.'-]{0,40}|((int \\*)|\\(char\\)|-|1|sizeof|\\(|\\)|<<|9){0,30}") {
            let _ = eval(&text);
        }
    }
}
