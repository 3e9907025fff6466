//! Mistakes in pipes, found before the command runs.

use super::super::command::Command;
use super::super::expr::Scope;
use super::super::parse::spelled;
use super::super::words::SyntaxError;
use super::columns::View;
use super::kept::Budget;
use super::pipe::Pipe;
use super::stages::{Chain, Misfit};
use super::tables::{COUNTS, before_count, why};

/// Reads the values that stand for something in this dump, and finds mistakes before the command runs: what it declares
/// says which columns there are. `column` is where its pipes begin in the line.
pub fn check(pipes: &mut [Pipe], command: &Command, column: usize, scope: &Scope<'_>) -> Result<(), SyntaxError> {
    for pipe in pipes.iter_mut() {
        if let Pipe::Where(condition) = pipe {
            condition.evaluate(scope);
        }
    }
    if pipes.iter().all(Pipe::takes_lines) {
        return Ok(());
    }
    let (before, mut counted) = before_count(pipes);
    let budget = Budget::of(0);
    while let Some(behind) = counted {
        let (pipes, again) = before_count(behind);
        let chain = Chain::over(View::of(COUNTS.columns, true), false, pipes, &budget);
        chain.map_err(|m| why(&[(COUNTS.name, &m)], "| count"))?;
        counted = again;
    }
    let tables = command.returns.all_tables();
    if tables.is_empty() {
        let what = format!("{} returns no table: behind it stand find, top and last alone", spelled(command));
        return Err(SyntaxError { column, what });
    }
    // What columns it has is known when the command has read what is asked for: it looks before it goes on.
    if tables.iter().any(|t| t.varies.is_some()) {
        return Ok(());
    }
    let mut misfits = Vec::new();
    for t in tables {
        match Chain::over(View::of(t.columns, true), t.rising.is_some(), before, &budget) {
            Ok(_) => return Ok(()),
            Err(m) => misfits.push((t.name, m)),
        }
    }
    let misfits: Vec<(&str, &Misfit)> = misfits.iter().map(|(n, m)| (*n, m)).collect();
    Err(why(&misfits, &spelled(command)))
}
