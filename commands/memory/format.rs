//! `.formats`: one value in every notation.

use anyhow::Result;

use super::{tick, value};
use crate::shell::banner::utc;
use crate::shell::{Arg, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Returns};

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
    returns: Returns::NOTHING,
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
    let time = if v <= u64::from(u32::MAX) {
        utc(v)
    } else {
        v.checked_sub(EPOCH).map_or_else(|| "***** Invalid".into(), |t| utc(t / 10_000_000))
    };
    let (low, high) = (f32::from_bits(v as u32), f32::from_bits((v >> 32) as u32));
    ctx.out.line("Evaluate expression:")?;
    for (name, text) in [
        ("Hex:", tick(v, 8)),
        ("Decimal:", format!("{}", v as i64)),
        ("Decimal (unsigned):", format!("{v}")),
        ("Octal:", format!("{v:022o}")),
        ("Binary:", binary.join(" ")),
        ("Chars:", chars),
        ("Time:", time),
        ("Float:", format!("low {low:e} high {high:e}")),
        ("Double:", format!("{:e}", f64::from_bits(v))),
    ] {
        let gap = if name.len() > 9 { " " } else { "" };
        ctx.out.line(format!("  {name:<9}{gap}{text}"))?;
    }
    Ok(Outcome::Complete)
}
