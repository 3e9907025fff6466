//! The runtime in the dump: layout providers, MethodTables, modules and metadata, names, fields, threads, handles.

pub mod layout;
