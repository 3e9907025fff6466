//! The prompt: grammar, expressions, the registry, completion, history, scripts, output sinks. Knows no single command.

pub mod alias;
pub mod args;
pub mod banner;
pub mod buffer;
pub mod cell;
pub mod command;
pub mod complete;
pub mod control;
pub mod data;
pub mod expr;
pub mod flow;
pub mod format;
pub mod grammar;
pub mod known;
pub mod layout;
pub mod numbers;
pub mod out;
pub mod parse;
pub mod pipes;
pub mod quote;
pub mod recent;
pub mod repl;
pub mod returns;
pub mod run;
pub mod schema;
pub mod script;
pub mod style;
pub mod terminal;
pub mod words;

pub use args::Args;
pub use command::{Arg, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request};
pub use out::{Cell, Col, Format, Out, digits, narrow_digits};
pub use returns::{Fact, Returns, Table, Type};
