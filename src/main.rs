//! The clrscope program: arguments, terminal, exit codes.

fn main() {}
