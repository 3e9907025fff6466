//! arm64: text by yaxpeax-arm; what an instruction refers to by its own bits (Arm Architecture Reference Manual, A64).

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::InstDecoder;

use super::{Flow, Instruction, Source, tick};

/// Columns of a name.
const NAME: usize = 12;
/// The stack pointer or zero register.
const ZERO: u32 = 31;
/// The place of a register that is none of the general ones, which nothing keeps.
const LINK: u32 = 30;

fn bits(word: u32, low: u32, count: u32) -> u32 {
    word >> low & ((1 << count) - 1)
}

/// `value`, of so many bits, with its sign.
fn signed(value: u32, count: u32) -> i64 {
    i64::from((value << (32 - count)) as i32 >> (32 - count))
}

/// The first instruction of `bytes`.
pub fn decode(bytes: &[u8], address: u64) -> Option<Instruction> {
    let Some(chunk) = bytes.first_chunk::<4>() else {
        return (!bytes.is_empty()).then(|| Instruction::bad(address, bytes.len()));
    };
    let word = u32::from_le_bytes(*chunk);
    let mut reader = U8Reader::new(chunk);
    let Ok(decoded) = InstDecoder::default().decode(&mut reader) else { return Some(Instruction::bad(address, 4)) };
    let parts = refers(word, address);
    Some(Instruction {
        address,
        length: 4,
        text: spelled(&decoded.to_string(), parts.relative),
        flow: parts.flow,
        target: parts.target,
        sets: parts.sets,
        spoils: spoils(word, parts.flow),
        mentions: parts.mentions,
    })
}

/// Name and operands in columns; what is relative to the instruction becomes an address.
fn spelled(text: &str, relative: Option<u64>) -> String {
    let (name, operands) = text.split_once(' ').unwrap_or((text, ""));
    let operands = match (operands.find('$'), relative) {
        (Some(at), Some(to)) => {
            let rest = operands.get(at..).unwrap_or("");
            let end = rest.find([',', ']', ' ']).unwrap_or(rest.len());
            let (front, behind) = (operands.get(..at).unwrap_or(""), rest.get(end..).unwrap_or(""));
            format!("{front}{}{behind}", tick(to, true))
        }
        _ => operands.to_owned(),
    };
    if operands.is_empty() { name.to_owned() } else { format!("{name:NAME$}{operands}") }
}

struct Parts {
    flow: Flow,
    target: Option<Source>,
    sets: Option<(u8, Option<Source>)>,
    mentions: Option<Source>,
    /// The address that is written relative to the instruction.
    relative: Option<u64>,
}

fn refers(word: u32, address: u64) -> Parts {
    let mut p = Parts { flow: Flow::Next, target: None, sets: None, mentions: None, relative: None };
    let near = |low, count| address.wrapping_add_signed(signed(bits(word, low, count), count) * 4);
    let goes = |p: &mut Parts, flow, to: u64| {
        (p.flow, p.target, p.relative) = (flow, Some(Source::Value(to)), Some(to));
    };
    let register = |n: u32| n as u8;
    match word >> 24 {
        // b, bl
        0x14..=0x17 => goes(&mut p, Flow::Jump, near(0, 26)),
        0x94..=0x97 => goes(&mut p, Flow::Call, near(0, 26)),
        // b.cond, cbz, cbnz
        0x54 | 0x34 | 0x35 | 0xB4 | 0xB5 => goes(&mut p, Flow::Branch, near(5, 19)),
        // tbz, tbnz
        0x36 | 0x37 | 0xB6 | 0xB7 => goes(&mut p, Flow::Branch, near(5, 14)),
        // br, blr, ret
        0xD6 => {
            p.flow = match bits(word, 21, 3) {
                0 => Flow::Jump,
                1 => Flow::Call,
                _ => Flow::End,
            };
            if p.flow != Flow::End {
                p.target = Some(Source::Register(register(bits(word, 5, 5)), 0));
            }
        }
        // brk
        0xD4 if bits(word, 21, 3) == 1 => p.flow = Flow::End,
        _ => data(word, address, &mut p),
    }
    p
}

/// Instructions that give a register a value that can be followed.
fn data(word: u32, address: u64, p: &mut Parts) {
    let (rd, rn) = (bits(word, 0, 5), bits(word, 5, 5));
    let to = |p: &mut Parts, source: Source| {
        if rd != ZERO {
            p.sets = Some((rd as u8, Some(source)));
        }
    };
    // adr, adrp
    if word & 0x1F00_0000 == 0x1000_0000 {
        let distance = signed(bits(word, 5, 19) << 2 | bits(word, 29, 2), 21);
        let at = match word >> 31 {
            0 => address.wrapping_add_signed(distance),
            _ => (address & !0xFFF).wrapping_add_signed(distance << 12),
        };
        p.relative = Some(at);
        p.mentions = Some(Source::Value(at)).filter(|_| word >> 31 == 0);
        return to(p, Source::Value(at));
    }
    match word & 0xFF80_0000 {
        // movz, movn, movk of 64 bits
        0xD280_0000 => to(p, Source::Value(u64::from(bits(word, 5, 16)) << (16 * bits(word, 21, 2)))),
        0x9280_0000 => to(p, Source::Value(!(u64::from(bits(word, 5, 16)) << (16 * bits(word, 21, 2))))),
        0xF280_0000 => {
            let part = Source::Insert(rd as u8, bits(word, 5, 16) as u16, 16 * bits(word, 21, 2));
            p.mentions = Some(part);
            to(p, part);
        }
        // movz of 32 bits
        0x5280_0000 => to(p, Source::Value(u64::from(bits(word, 5, 16)) << (16 * bits(word, 21, 2)))),
        // add of a number
        0x9100_0000 if rn != ZERO => {
            let number = i64::from(bits(word, 10, 12)) << (12 * bits(word, 22, 1));
            p.mentions = Some(Source::Register(rn as u8, number));
            to(p, Source::Register(rn as u8, number));
        }
        _ => loads(word, address, p),
    }
}

fn loads(word: u32, address: u64, p: &mut Parts) {
    let (rd, rn) = (bits(word, 0, 5), bits(word, 5, 5));
    // ldr of a pointer beside the code
    if word >> 24 == 0x58 {
        let at = address.wrapping_add_signed(signed(bits(word, 5, 19), 19) * 4);
        (p.relative, p.mentions) = (Some(at), Some(Source::Memory(at)));
        p.sets = (rd != ZERO).then_some((rd as u8, Some(Source::Memory(at))));
        return;
    }
    // ldr and str with an unsigned distance: of 64 bits, then of others for what they mention.
    if word & 0x3B00_0000 == 0x3900_0000 && rn != ZERO {
        let scale = word >> 30;
        let place = Source::At(rn as u8, i64::from(bits(word, 10, 12)) << scale);
        p.mentions = Some(place);
        if word >> 22 == 0x3E5 && rd != ZERO {
            p.sets = Some((rd as u8, Some(place)));
        }
    } else if word & 0xFFE0_FFE0 == 0xAA00_03E0 && rd != ZERO {
        // mov of a register
        let from = bits(word, 16, 5);
        p.sets = Some((rd as u8, (from != ZERO).then_some(Source::Register(from as u8, 0))));
    }
}

/// Registers that may hold something else afterwards: rather too many than too few.
fn spoils(word: u32, flow: Flow) -> u64 {
    let bit = |n: u32| if n == ZERO { 0 } else { 1u64 << n };
    if flow != Flow::Next {
        return if flow == Flow::Call { 1 << LINK } else { 0 };
    }
    let (first, second, base, status) = (bits(word, 0, 5), bits(word, 10, 5), bits(word, 5, 5), bits(word, 16, 5));
    // Loads and stores: op0 (bits 25 to 28) is x1x0.
    if bits(word, 25, 4) & 0b0101 != 0b0100 {
        return bit(first);
    }
    let pair = bits(word, 27, 3) == 0b101;
    let exclusive = bits(word, 24, 6) == 0b00_1000;
    let mut all = bit(first);
    if pair || exclusive {
        all |= bit(second);
    }
    if exclusive || bits(word, 21, 1) != 0 {
        all |= bit(status);
    }
    // Before or behind the access the base moves.
    let single = bits(word, 24, 2) == 0 && bits(word, 10, 1) != 0;
    if (pair && bits(word, 23, 1) != 0) || (!pair && single) {
        all |= bit(base);
    }
    all
}
