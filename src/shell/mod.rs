//! The prompt: grammar, expressions, the registry, completion, history, scripts, output sinks. Knows no single command.

pub mod args;
pub mod command;
pub mod out;

pub use args::Args;
pub use command::{Arg, Command, Ctx, Example, Group, Kind, Needs, Outcome, Prefix, Request};
pub use out::{Cell, Col, Out};
