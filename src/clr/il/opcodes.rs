//! The instructions of IL by their code: ECMA-335 partition III, 6th edition, with the augments of dotnet/runtime (`no.`).

/// What follows the code of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operand {
    /// Nothing.
    None,
    /// Number of a variable or argument in one byte.
    Var8,
    /// The same in two.
    Var16,
    /// A signed byte.
    Int8,
    /// Four bytes, signed.
    Int32,
    /// Eight bytes, signed.
    Int64,
    /// A float of four bytes.
    Real32,
    /// A float of eight bytes.
    Real64,
    /// Distance from the next instruction in a signed byte.
    Branch8,
    /// The same in four.
    Branch32,
    /// A count, and so many distances of four bytes.
    Switch,
    /// A metadata token.
    Token,
}

/// Instructions of one byte, `name` or `name operand`, by their code; an empty one does not exist.
#[rustfmt::skip]
const ONE: [&str; 256] = [
    // 00
    "nop", "break", "ldarg.0", "ldarg.1", "ldarg.2", "ldarg.3", "ldloc.0", "ldloc.1",
    "ldloc.2", "ldloc.3", "stloc.0", "stloc.1", "stloc.2", "stloc.3", "ldarg.s v", "ldarga.s v",
    // 10
    "starg.s v", "ldloc.s v", "ldloca.s v", "stloc.s v", "ldnull", "ldc.i4.m1", "ldc.i4.0", "ldc.i4.1",
    "ldc.i4.2", "ldc.i4.3", "ldc.i4.4", "ldc.i4.5", "ldc.i4.6", "ldc.i4.7", "ldc.i4.8", "ldc.i4.s b",
    // 20
    "ldc.i4 i", "ldc.i8 l", "ldc.r4 f", "ldc.r8 d", "", "dup", "pop", "jmp t",
    "call t", "calli t", "ret", "br.s j", "brfalse.s j", "brtrue.s j", "beq.s j", "bge.s j",
    // 30
    "bgt.s j", "ble.s j", "blt.s j", "bne.un.s j", "bge.un.s j", "bgt.un.s j", "ble.un.s j", "blt.un.s j",
    "br J", "brfalse J", "brtrue J", "beq J", "bge J", "bgt J", "ble J", "blt J",
    // 40
    "bne.un J", "bge.un J", "bgt.un J", "ble.un J", "blt.un J", "switch s", "ldind.i1", "ldind.u1",
    "ldind.i2", "ldind.u2", "ldind.i4", "ldind.u4", "ldind.i8", "ldind.i", "ldind.r4", "ldind.r8",
    // 50
    "ldind.ref", "stind.ref", "stind.i1", "stind.i2", "stind.i4", "stind.i8", "stind.r4", "stind.r8",
    "add", "sub", "mul", "div", "div.un", "rem", "rem.un", "and",
    // 60
    "or", "xor", "shl", "shr", "shr.un", "neg", "not", "conv.i1",
    "conv.i2", "conv.i4", "conv.i8", "conv.r4", "conv.r8", "conv.u4", "conv.u8", "callvirt t",
    // 70
    "cpobj t", "ldobj t", "ldstr t", "newobj t", "castclass t", "isinst t", "conv.r.un", "",
    "", "unbox t", "throw", "ldfld t", "ldflda t", "stfld t", "ldsfld t", "ldsflda t",
    // 80
    "stsfld t", "stobj t", "conv.ovf.i1.un", "conv.ovf.i2.un", "conv.ovf.i4.un", "conv.ovf.i8.un", "conv.ovf.u1.un", "conv.ovf.u2.un",
    "conv.ovf.u4.un", "conv.ovf.u8.un", "conv.ovf.i.un", "conv.ovf.u.un", "box t", "newarr t", "ldlen", "ldelema t",
    // 90
    "ldelem.i1", "ldelem.u1", "ldelem.i2", "ldelem.u2", "ldelem.i4", "ldelem.u4", "ldelem.i8", "ldelem.i",
    "ldelem.r4", "ldelem.r8", "ldelem.ref", "stelem.i", "stelem.i1", "stelem.i2", "stelem.i4", "stelem.i8",
    // A0
    "stelem.r4", "stelem.r8", "stelem.ref", "ldelem t", "stelem t", "unbox.any t", "", "",
    "", "", "", "", "", "", "", "",
    // B0
    "", "", "", "conv.ovf.i1", "conv.ovf.u1", "conv.ovf.i2", "conv.ovf.u2", "conv.ovf.i4",
    "conv.ovf.u4", "conv.ovf.i8", "conv.ovf.u8", "", "", "", "", "",
    // C0
    "", "", "refanyval t", "ckfinite", "", "", "mkrefany t", "",
    "", "", "", "", "", "", "", "",
    // D0
    "ldtoken t", "conv.u2", "conv.u1", "conv.i", "conv.ovf.i", "conv.ovf.u", "add.ovf", "add.ovf.un",
    "mul.ovf", "mul.ovf.un", "sub.ovf", "sub.ovf.un", "endfinally", "leave J", "leave.s j", "stind.i",
    // E0
    "conv.u", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
    // F0
    "", "", "", "", "", "", "", "", "", "", "", "", "", "", "", "",
];

/// Instructions behind the byte [`PREFIX`].
#[rustfmt::skip]
const TWO: [&str; 0x1F] = [
    // 00
    "arglist", "ceq", "cgt", "cgt.un", "clt", "clt.un", "ldftn t", "ldvirtftn t",
    "", "ldarg V", "ldarga V", "starg V", "ldloc V", "ldloca V", "stloc V", "localloc",
    // 10
    "", "endfilter", "unaligned. b", "volatile.", "tail.", "initobj t", "constrained. t", "cpblk",
    "initblk", "no. b", "rethrow", "", "sizeof t", "refanytype", "readonly.",
];

/// The byte in front of instructions of two bytes.
pub const PREFIX: u8 = 0xFE;

/// Name of an instruction and what follows it; `second` is its second byte where the first is [`PREFIX`].
pub fn named(first: u8, second: Option<u8>) -> Option<(&'static str, Operand)> {
    let text = match second {
        Some(s) if first == PREFIX => TWO.get(usize::from(s)),
        _ => ONE.get(usize::from(first)),
    };
    let text = text.copied().filter(|t| !t.is_empty())?;
    let (name, letter) = text.split_once(' ').unwrap_or((text, ""));
    let operand = match letter {
        "v" => Operand::Var8,
        "V" => Operand::Var16,
        "b" => Operand::Int8,
        "i" => Operand::Int32,
        "l" => Operand::Int64,
        "f" => Operand::Real32,
        "d" => Operand::Real64,
        "j" => Operand::Branch8,
        "J" => Operand::Branch32,
        "s" => Operand::Switch,
        "t" => Operand::Token,
        _ => Operand::None,
    };
    Some((name, operand))
}
