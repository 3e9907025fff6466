//! `.formats`: one value in every notation.

use anyhow::Result;

use super::{tick, value};
use crate::shell::banner::utc;
use crate::shell::{Arg, Cell, Command, Ctx, Example, Fact, Group, Kind, Needs, Outcome, Prefix, Returns, Type};

/// `.formats`.
pub const FORMATS: Command = Command {
    name: "formats",
    prefix: Prefix::Dot,
    aliases: &[],
    group: Group::Memory,
    summary: "a value in hexadecimal, decimal, octal, binary, as characters, time and floating point",
    help: "Evaluates an expression (see .help ?) and prints its value in each notation.",
    args: &[Arg::pos("EXPRESSION", Kind::Rest, "what to evaluate")],
    examples: &[Example { line: ".formats 0x1c+4", what: "a number in every notation" }],
    needs: Needs::Nothing,
    returns: Returns::facts(&[
        Fact::new("hex", "the value", Type::Hex),
        Fact::new("decimal", "as a signed number", Type::Number),
        Fact::new("unsigned", "as an unsigned number", Type::Number),
        Fact::new("octal", "in octal digits", Type::Text),
        Fact::new("binary", "in binary digits", Type::Text),
        Fact::new("chars", "its bytes as characters, the highest first; dots for what is none", Type::Content),
        Fact::new("time", "as seconds since 1970, or units of 100 ns since 1601 when it is larger", Type::Time),
        Fact::new("float_low", "its lower half as a floating point number", Type::Number),
        Fact::new("float_high", "its upper half", Type::Number),
        Fact::new("double", "the whole as a floating point number", Type::Number),
    ]),
    run: |ctx, args| {
        let v = value(ctx, args.text("EXPRESSION").unwrap_or(""))?;
        formats(ctx, v)
    },
};

/// 100 ns units between 1601 and 1970.
const EPOCH: u64 = 116_444_736_000_000_000;

fn formats(ctx: &mut Ctx<'_>, v: u64) -> Result<Outcome> {
    let binary: Vec<String> = v.to_be_bytes().iter().map(|b| format!("{b:08b}")).collect();
    let chars: String =
        v.to_be_bytes().iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
    // Small numbers are seconds since 1970, large ones 100 ns units since 1601, as the native debuggers read them.
    let time = match v <= u64::from(u32::MAX) {
        true => Some(v),
        false => v.checked_sub(EPOCH).map(|t| t / 10_000_000),
    };
    let (low, high) = (f32::from_bits(v as u32), f32::from_bits((v >> 32) as u32));
    let double = f64::from_bits(v);
    ctx.out.note("Evaluate expression:")?;
    let mut line = |name: &str, facts: &[(&'static str, Cell<'_>)], text: String| {
        let gap = if name.len() > 9 { " " } else { "" };
        ctx.out.facts(facts, format!("  {name:<9}{gap}{text}"))
    };
    line("Hex:", &[("hex", Cell::Hex(v))], tick(v, 8))?;
    line("Decimal:", &[("decimal", Cell::Int(v as i64))], format!("{}", v as i64))?;
    line("Decimal (unsigned):", &[("unsigned", Cell::Num(v))], format!("{v}"))?;
    line("Octal:", &[("octal", Cell::text(format!("{v:022o}")))], format!("{v:022o}"))?;
    line("Binary:", &[("binary", Cell::text(format!("{v:064b}")))], binary.join(" "))?;
    line("Chars:", &[("chars", Cell::text(chars.as_str()))], chars.clone())?;
    let shown = time.map_or_else(|| "***** Invalid".into(), utc);
    line("Time:", &[("time", time.map_or(Cell::None, Cell::Time))], shown)?;
    let halves = [("float_low", Cell::Float(f64::from(low))), ("float_high", Cell::Float(f64::from(high)))];
    line("Float:", &halves, format!("low {low:e} high {high:e}"))?;
    line("Double:", &[("double", Cell::Float(double))], format!("{double:e}"))?;
    Ok(Outcome::Complete)
}
