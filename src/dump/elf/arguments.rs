//! The command line and environment of a Linux process, from where the kernel put it: the top of the main thread's stack holds, from low
//! to high addresses, the argument count, pointers to arguments, zero, pointers to environment strings, zero, the
//! auxiliary vector (`create_elf_tables` in `fs/binfmt_elf.c`, torvalds/linux 6.6).

use crate::dump::AddressSpace;

const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
/// How far below the random bytes the auxiliary vector is looked for.
const REACH: u64 = 0x1000;
/// More environment strings and arguments than fit: Linux allows 6 MB of them with their pointers (`ARG_MAX`, three quarters
/// of the 8 MB of `_STK_LIM`).
const MOST: u64 = 6 << 17;
/// Longest command line kept, in bytes.
const LONGEST: usize = 32 << 10;

/// Most bytes of environment variables kept: what Linux allows.
const MOST_ENVIRONMENT: usize = 6 << 20;

/// What the kernel put at the top of the main thread's stack.
#[derive(Debug, Default)]
pub struct Start {
    /// The command line, arguments joined by blanks.
    pub command_line: Option<String>,
    /// Environment variables, `NAME=value`.
    pub environment: Vec<String>,
}

/// Reads it; empty when the stack's top is not in the dump.
pub fn read(space: &AddressSpace, auxv: &[(u64, u64)]) -> Start {
    places(space, auxv).map_or_else(Start::default, |(end, count, environment)| Start {
        command_line: command_line(space, end, count),
        environment: variables(space, end, environment),
    })
}

fn down(space: &AddressSpace, at: u64, n: u64) -> Option<u64> {
    at.checked_sub(n.checked_mul(u64::from(space.ptr_size()))?)
}

/// Address of the zero behind the arguments, how many arguments lie below it and how many variables above.
fn places(space: &AddressSpace, auxv: &[(u64, u64)]) -> Option<(u64, u64, u64)> {
    let step = u64::from(space.ptr_size());
    let vector = find(space, auxv, step)?;
    // Below the vector: a zero, then environment pointers down to the zero that ends the arguments.
    if space.ptr(down(space, vector, 1)?)? != 0 {
        return None;
    }
    let (end, n) = (2..MOST).find_map(|n| {
        let at = down(space, vector, n)?;
        (space.ptr(at)? == 0).then_some((at, n))
    })?;
    // Below those: argument pointers down to their own count.
    let count = (0..MOST).find(|&n| down(space, end, n + 1).and_then(|at| space.ptr(at)) == Some(n))?;
    Some((end, count, n.saturating_sub(2)))
}

fn command_line(space: &AddressSpace, end: u64, count: u64) -> Option<String> {
    let mut line = String::new();
    for n in (1..=count).rev() {
        let text = space.utf8z(space.ptr(down(space, end, n)?)?, 4096);
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&text);
        if line.len() > LONGEST {
            break;
        }
    }
    Some(line).filter(|l| !l.is_empty())
}

fn variables(space: &AddressSpace, end: u64, count: u64) -> Vec<String> {
    let step = u64::from(space.ptr_size());
    let mut bytes = 0;
    let texts = (1..=count).map_while(|n| space.ptr(end.checked_add(n.checked_mul(step)?)?));
    texts
        .map(|at| space.utf8z(at, LONGEST))
        .filter(|text| !text.is_empty())
        .take_while(|text| {
            bytes += text.len();
            bytes <= MOST_ENVIRONMENT
        })
        .collect()
}

/// Address of the auxiliary vector: its first two entries, somewhere below the random bytes or the program's name.
fn find(space: &AddressSpace, auxv: &[(u64, u64)], step: u64) -> Option<u64> {
    let (first, second) = (auxv.first()?, auxv.get(1)?);
    let value = |tag: u64| auxv.iter().find(|a| a.0 == tag).map(|a| a.1);
    let high = value(AT_RANDOM).or(value(AT_EXECFN))? & !(step - 1);
    (1..REACH / step).find_map(|n| {
        let at = high.checked_sub(n * step)?;
        let is = |k: u64, v: u64| at.checked_add(k * step).and_then(|a| space.ptr(a)) == Some(v);
        (is(0, first.0) && is(1, first.1) && is(2, second.0) && is(3, second.1)).then_some(at)
    })
}
