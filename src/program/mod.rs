//! The program around the shell: its verbs and options, and what is made from their table (help, manual page, completion).

pub mod completion;
pub mod manual;
pub mod options;
