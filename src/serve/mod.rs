//! `clrscope mcp`: what the commands know, for programs that speak the Model Context Protocol, over standard input and output.
//!
//! Six tools, all of them read-only. The protocol is that of `rmcp`; its asynchronous side (`server`) only passes on what is
//! asked. One thread (`engine`) owns the dumps and runs the commands, one after another, under `--safe`.

mod allowed;
mod answer;
mod engine;
mod params;
mod schema;
mod server;
mod tools;

use std::path::PathBuf;

use anyhow::Result;

use crate::dump::OpenOptions;
use crate::shell::command::Settings;

/// What the server was told at its start.
#[derive(Debug, Default)]
pub struct Options {
    /// Dumps that are known from the beginning.
    pub dumps: Vec<PathBuf>,
    /// Folders that dumps may be opened from; those of the dumps where none is named.
    pub allow: Vec<PathBuf>,
    /// How dumps are opened.
    pub open: OpenOptions,
    /// Settings of the command line.
    pub settings: Settings,
}

/// Serves until the other side closes its end.
pub fn run(options: Options) -> Result<()> {
    let allowed = allowed::Allowed::new(&options.allow, &options.dumps)?;
    let engine = engine::Engine::start(options, allowed)?;
    server::serve(engine)
}
