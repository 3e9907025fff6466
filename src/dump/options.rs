//! How a dump is opened.

use std::path::PathBuf;

/// How a dump is opened. The default asks for nothing special.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Folders searched for images (assemblies, runtime) the dump does not hold, in order.
    pub image_paths: Vec<PathBuf>,
    /// Symbol path in the debugger's spelling (`SRV*folder*url;cache*folder`): its local folders are searched for images.
    pub symbol_path: Option<String>,
    /// Folder for unpacked dumps; default `$CLRSCOPE_CACHE`, else `$XDG_CACHE_HOME/clrscope`, else `~/.cache/clrscope`.
    pub cache_dir: Option<PathBuf>,
    /// Bytes the cache folder may take in all; default 20 GiB. The newest unpacked dump is kept whatever its size.
    pub cache_limit: Option<u64>,
    /// Never looks for images outside the dump (the dump alone answers).
    pub no_images: bool,
}
