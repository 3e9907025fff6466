//! The prompt: grammar, expressions, the registry, completion, history, scripts, output sinks. Knows no single command.

pub mod alias;
pub mod args;
pub mod banner;
pub mod command;
pub mod complete;
pub mod control;
pub mod expr;
pub mod flow;
pub mod grammar;
pub mod known;
pub mod out;
pub mod parse;
pub mod repl;
pub mod run;
pub mod script;
pub mod style;
pub mod terminal;

pub use args::Args;
pub use command::{Arg, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request};
pub use out::{Cell, Col, Format, Out, digits, narrow_digits};
