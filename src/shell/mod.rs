//! The prompt: grammar, expressions, the registry, completion, history, scripts, output sinks. Knows no single command.

pub mod alias;
pub mod args;
pub mod banner;
pub mod book;
pub mod buffer;
pub mod cell;
pub mod command;
pub mod complete;
pub mod control;
pub mod cursor;
pub mod data;
pub mod expr;
pub mod fit;
pub mod flow;
pub mod grammar;
pub mod known;
pub mod layout;
pub mod mark;
pub mod numbers;
pub mod opaque;
pub mod opening;
pub mod out;
pub mod page;
pub mod pager;
pub mod parse;
pub mod pipes;
pub mod prose;
pub mod quote;
pub mod recent;
pub mod redact;
pub mod repl;
pub mod returns;
pub mod run;
pub mod schema;
pub mod screen;
pub mod script;
#[cfg(feature = "xlsx")]
pub mod sheets;
pub mod state;
pub mod style;
pub mod terminal;
pub mod words;

pub use args::Args;
pub use command::{Arg, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request, Suggestion};
pub use out::{Cell, Col, Format, Out, digits, narrow_digits};
pub use returns::{Fact, Returns, Table, Type};
