//! Where the image of a module lies, by whichever way the layout has.
//!
//! Layout: dotnet/runtime `src/coreclr/vm/peassembly.h`, `peimage.h`; through 2.2 and in .NET Framework an assembly has a
//! second `PEImage`, the one compiled ahead of time for this machine (dotnet/coreclr v1.0 `src/vm/pefile.h`,
//! `m_nativeImage`), and often that one alone is mapped.

use crate::clr::layout::Layout;
use crate::dump::AddressSpace;

/// Layouts of an image, the one that code runs from first.
const LAYOUTS: [&str; 2] = ["LoadedImageLayout", "FlatImageLayout"];

/// The `PEImage`s of a module: of its file, then of the image compiled of it.
pub fn images(space: &AddressSpace, l: &Layout, module: u64) -> [Option<u64>; 2] {
    let assembly = field(space, l, module, "Module", "PEAssembly");
    ["PEImage", "NativeImage"].map(|f| field(space, l, assembly?, "PEAssembly", f))
}

/// Where the image of `module` begins; `None` where it has none, or what leads there is not in the dump.
pub fn of_module(space: &AddressSpace, l: &Layout, module: u64) -> Option<u64> {
    let direct = field(space, l, module, "Module", "Base");
    direct.or_else(|| images(space, l, module).into_iter().flatten().find_map(|image| of_image(space, l, image)))
}

/// Where a `PEImage` is mapped.
fn of_image(space: &AddressSpace, l: &Layout, image: u64) -> Option<u64> {
    LAYOUTS.iter().find_map(|f| field(space, l, field(space, l, image, "PEImage", f)?, "PEImageLayout", "Base"))
}

/// The pointer in a field, null as none.
fn field(space: &AddressSpace, l: &Layout, base: u64, ty: &str, name: &str) -> Option<u64> {
    space.ptr_at(base, l.try_offset(ty, name)?).filter(|&p| p != 0)
}
