//! Instructions as SOS's `dumpil` writes them.
//!
//! Spelling: dotnet/diagnostics `src/SOS/Strike/sildasm.cpp`. Two of its slips are not followed: short branches backwards
//! lead to where they go, and small constants have their sign.

use super::body::{Block, Body, ClauseKind, Edge};
use super::{Instruction, Value};
use crate::clr::image::metadata::Token;

/// Most characters of a string in a line of text.
const SHOWN_STRING: usize = 79;

/// A line of a listing.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// What begins or ends there.
    Block(String),
    /// An instruction.
    Instruction {
        /// Blanks in front of it.
        indent: usize,
        /// The instruction.
        instruction: Instruction,
        /// What it works on, whole.
        operand: String,
    },
}

impl Line {
    /// As text has it.
    pub fn text(&self) -> String {
        match self {
            Line::Block(text) => text.clone(),
            Line::Instruction { indent, instruction: i, operand } => {
                let shown = shown(operand);
                format!("{:indent$}IL_{:04x}: {} {shown}", "", i.offset, i.name)
            }
        }
    }
}

/// A string is cut in text.
fn shown(operand: &str) -> std::borrow::Cow<'_, str> {
    match operand.strip_prefix('"').and_then(|s| s.char_indices().nth(SHOWN_STRING)) {
        Some((end, _)) if operand.len() > end + 2 => format!("{}...\"", operand.get(..=end).unwrap_or(operand)).into(),
        _ => operand.into(),
    }
}

/// What an instruction works on, as text; `name` names tokens.
pub fn operand(value: &Value, name: &impl Fn(Token) -> String) -> String {
    match value {
        Value::None => String::new(),
        Value::Var(n) => format!("VAR OR ARG {n}"),
        Value::Int(n) => n.to_string(),
        Value::Real(x) => format!("{x:.6}"),
        Value::Target(to) => format!("IL_{to:04x}"),
        Value::Targets(all) => {
            let each: Vec<String> = all.iter().map(|to| format!("IL_{to:04x}")).collect();
            format!("({})", each.join(", "))
        }
        Value::Token(token) => name(*token),
    }
}

fn block_name(block: Block) -> &'static str {
    match block {
        Block::Try => "try",
        Block::Filter => "filter",
        Block::Handler(ClauseKind::Finally) => "finally",
        Block::Handler(ClauseKind::Fault) => "fault",
        Block::Handler(ClauseKind::Catch(_) | ClauseKind::Filter(_)) => "catch",
    }
}

/// The lines of a body. `class` names the class of a catch clause.
pub fn lines(body: &Body, name: &impl Fn(Token) -> String, class: &impl Fn(Token) -> String) -> Vec<Line> {
    let mut out = Vec::new();
    let mut edges = body.edges().into_iter().peekable();
    let mut indent = 0usize;
    for instruction in super::instructions(&body.code) {
        while let Some((_, edge)) = edges.next_if(|e| e.0 <= instruction.offset) {
            edge_lines(edge, &mut indent, class, &mut out);
        }
        let operand = operand(&instruction.value, name);
        out.push(Line::Instruction { indent, instruction, operand });
    }
    // A handler may be the end of the method.
    let end = body.code.len() as u32;
    for (_, edge) in edges.filter(|e| e.0 <= end) {
        edge_lines(edge, &mut indent, class, &mut out);
    }
    out
}

fn edge_lines(edge: Edge, indent: &mut usize, class: &impl Fn(Token) -> String, out: &mut Vec<Line>) {
    match edge {
        Edge::Begin(block) => {
            let of = match block {
                Block::Handler(ClauseKind::Catch(token)) => format!(" {}", class(token)),
                _ => String::new(),
            };
            let at = *indent;
            out.push(Line::Block(format!("{:at$}.{}{of}", "", block_name(block))));
            out.push(Line::Block(format!("{:at$}{{", "")));
            *indent += 2;
        }
        Edge::End(block) => {
            *indent = indent.saturating_sub(2);
            let at = *indent;
            out.push(Line::Block(format!("{:at$}}} // end .{}", "", block_name(block))));
        }
    }
}
