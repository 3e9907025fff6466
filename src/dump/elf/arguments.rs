//! The command line of a Linux process, from where the kernel put it: the top of the main thread's stack holds, from low
//! to high addresses, the argument count, pointers to arguments, zero, pointers to environment strings, zero, the
//! auxiliary vector (`create_elf_tables` in `fs/binfmt_elf.c`, torvalds/linux 6.6).

use crate::dump::AddressSpace;

const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
/// How far below the random bytes the auxiliary vector is looked for.
const REACH: u64 = 0x1000;
/// More environment strings and arguments than are worth reading.
const MOST: u64 = 4096;
/// Longest command line kept, in bytes.
const LONGEST: usize = 32 << 10;

/// The command line, arguments joined by blanks; `None` when the stack's top is not in the dump.
pub fn command_line(space: &AddressSpace, auxv: &[(u64, u64)]) -> Option<String> {
    let step = u64::from(space.ptr_size());
    let vector = find(space, auxv, step)?;
    let down = |at: u64, n: u64| at.checked_sub(n.checked_mul(step)?);
    // Below the vector: a zero, then environment pointers down to the zero that ends the arguments.
    if space.ptr(down(vector, 1)?)? != 0 {
        return None;
    }
    let end = (2..MOST).find_map(|n| {
        let at = down(vector, n)?;
        (space.ptr(at)? == 0).then_some(at)
    })?;
    // Below those: argument pointers down to their own count.
    let count = (0..MOST).find(|&n| down(end, n + 1).and_then(|at| space.ptr(at)) == Some(n))?;
    let mut line = String::new();
    for n in (1..=count).rev() {
        let text = space.utf8z(space.ptr(down(end, n)?)?, 4096);
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
