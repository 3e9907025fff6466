//! x86 and x64.

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Formatter, Instruction as Iced, InstructionInfoFactory, MasmFormatter,
    Mnemonic, OpAccess, OpKind, Register, SymbolResolver, SymbolResult,
};

use super::{Flow, Instruction, Source, tick};

/// Writes addresses of code and of what lies beside it as debuggers do.
struct Addresses {
    wide: bool,
}

impl SymbolResolver for Addresses {
    fn symbol(
        &mut self,
        i: &Iced,
        _operand: u32,
        instruction_operand: Option<u32>,
        address: u64,
        _size: u32,
    ) -> Option<SymbolResult<'_>> {
        let kind = i.op_kind(instruction_operand?);
        let memory = kind == OpKind::Memory && i.is_ip_rel_memory_operand();
        (is_branch(kind) || memory).then(|| SymbolResult::with_string(address, tick(address, self.wide)))
    }
}

fn is_branch(kind: OpKind) -> bool {
    matches!(kind, OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// The first instruction of `bytes`.
pub fn decode(bytes: &[u8], address: u64, wide: bool) -> Option<Instruction> {
    if bytes.is_empty() {
        return None;
    }
    let mut decoder = Decoder::with_ip(if wide { 64 } else { 32 }, bytes, address, DecoderOptions::NONE);
    let i = decoder.decode();
    if i.is_invalid() {
        return Some(Instruction::bad(address, 1));
    }
    let mut formatter = MasmFormatter::with_options(Some(Box::new(Addresses { wide })), None);
    let options = formatter.options_mut();
    options.set_first_operand_char_index(8);
    options.set_show_branch_size(false);
    let mut text = String::new();
    formatter.format(&i, &mut text);
    let flow = match i.flow_control() {
        FlowControl::Call | FlowControl::IndirectCall => Flow::Call,
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => Flow::Jump,
        FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => Flow::Branch,
        FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => Flow::End,
        FlowControl::Next => Flow::Next,
    };
    let goes = !matches!(flow, Flow::Next | Flow::End);
    Some(Instruction {
        address,
        length: i.len() as u8,
        text,
        flow,
        target: if goes { source(&i, 0, wide) } else { None },
        sets: sets(&i, wide),
        spoils: spoils(&i),
        mentions: if goes { None } else { mentions(&i, wide) },
    })
}

/// Number of a register that holds a pointer; `None` for all others.
fn number(register: Register) -> Option<u8> {
    let full = register.full_register();
    (Register::RAX..=Register::R15).contains(&full).then(|| (full as u32 - Register::RAX as u32) as u8)
}

/// What an operand is, if it can be followed.
fn source(i: &Iced, operand: u32, wide: bool) -> Option<Source> {
    let kind = i.op_kind(operand);
    if is_branch(kind) {
        return Some(Source::Value(i.near_branch_target()));
    }
    match kind {
        OpKind::Register => Some(Source::Register(number(i.op_register(operand))?, 0)),
        OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate32to64
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64 => {
            let value = i.immediate(operand);
            Some(Source::Value(if wide { value } else { value & 0xFFFF_FFFF }))
        }
        OpKind::Memory => memory(i),
        _ => None,
    }
}

/// A memory operand whose place is known or lies behind one register.
fn memory(i: &Iced) -> Option<Source> {
    let plain = i.memory_index() == Register::None && i.segment_prefix() == Register::None;
    plain.then_some(())?;
    if i.is_ip_rel_memory_operand() {
        return Some(Source::Memory(i.ip_rel_memory_address()));
    }
    match i.memory_base() {
        Register::None => Some(Source::Memory(i.memory_displacement64())),
        base => Some(Source::At(number(base)?, i.memory_displacement64() as i64)),
    }
}

/// The register the first operand is, whole: 64 bits, or 32 of which the rest become zeros.
fn whole(i: &Iced, wide: bool) -> Option<u8> {
    let register = (i.op_count() > 0 && i.op_kind(0) == OpKind::Register).then(|| i.op_register(0))?;
    let size = register.size();
    (size == 8 || size == 4).then(|| number(register)).flatten().filter(|_| wide || size == 4)
}

fn sets(i: &Iced, wide: bool) -> Option<(u8, Option<Source>)> {
    let register = whole(i, wide)?;
    let narrow = wide && i.op_register(0).size() == 4;
    let value = match i.mnemonic() {
        Mnemonic::Mov => match source(i, 1, wide) {
            // Of what is read or copied only the lower half arrives.
            Some(Source::Value(v)) if narrow => Some(Source::Value(v & 0xFFFF_FFFF)),
            Some(_) if narrow => None,
            other => other,
        },
        Mnemonic::Lea if !narrow => match memory(i) {
            Some(Source::Memory(at)) => Some(Source::Value(at)),
            Some(Source::At(r, distance)) => Some(Source::Register(r, distance)),
            _ => None,
        },
        _ => return None,
    };
    Some((register, value))
}

/// Registers the instruction writes.
fn spoils(i: &Iced) -> u64 {
    let mut factory = InstructionInfoFactory::new();
    let written = |a: OpAccess| {
        matches!(a, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
    };
    let used = factory.info(i).used_registers().iter();
    let numbers = used.filter(|u| written(u.access())).filter_map(|u| number(u.register()));
    numbers.fold(0, |bits, n| bits | 1 << n)
}

/// An address or number among the operands, of an instruction that goes nowhere.
fn mentions(i: &Iced, wide: bool) -> Option<Source> {
    let memory_operand = (0..i.op_count()).any(|n| i.op_kind(n) == OpKind::Memory);
    if i.mnemonic() == Mnemonic::Lea {
        return match memory(i)? {
            Source::Memory(at) => Some(Source::Value(at)),
            _ => None,
        };
    }
    let immediate = (0..i.op_count()).find_map(|n| match source(i, n, wide) {
        Some(Source::Value(v)) => Some(Source::Value(v)),
        _ => None,
    });
    let of_memory = || memory_operand.then(|| memory(i)).flatten();
    immediate.filter(|v| matches!(v, Source::Value(v) if *v > 0xFFFF)).or_else(of_memory)
}
