//! Where the IL of a method lies: in its module's image in the dump, or in the file of the image.

use super::body::{self, Body, BodyError};
use crate::clr::Clr;
use crate::clr::image::metadata::Metadata;
use crate::clr::image::modules::Module;
use crate::clr::image::pe::PeInfo;

/// IL of a method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Address of the body's header in the process; `None` when only the file of the image is at hand.
    pub address: Option<u64>,
    /// Path of the file the bytes came from; `None` when from the dump.
    pub file: Option<String>,
    /// The body.
    pub body: Body,
}

impl Clr {
    /// The IL of MethodDef row `rid` of `module`, or why there is none.
    pub fn il_of_row(&self, module: &Module, metadata: &Metadata, rid: u32) -> Result<Found, String> {
        let row = metadata.method(rid).ok_or_else(|| format!("the module has no method {rid:x}"))?;
        if row.rva == 0 {
            return Err("the method has no IL body: it is abstract, native, or the runtime makes its code".into());
        }
        if module.dynamic {
            return Err("the IL of modules made at run time lies in memory that is not followed".into());
        }
        let address = self.address_of_rva(module, row.rva);
        let in_dump = match address.map(|a| self.il_at(a)) {
            Some(Ok(body)) => return Ok(Found { address, file: None, body }),
            Some(Err(why)) => why,
            None => BodyError::Missing,
        };
        if in_dump != BodyError::Missing {
            return Err(in_dump.to_string());
        }
        let file = module.image_file(self).map_err(|why| format!("{in_dump}; the image's file: {why}"))?;
        let start = file.at(row.rva).ok_or("the image's file ends in front of the method")?;
        let read = body::read(|at, len| start.get(at as usize..(at as usize).checked_add(len)?).map(<[u8]>::to_vec));
        let body = read.map_err(|why| why.to_string())?;
        Ok(Found { address, file: Some(file.path.clone()), body })
    }

    /// Where `rva` of the module's image lies in the process.
    pub fn address_of_rva(&self, module: &Module, rva: u32) -> Option<u64> {
        let image = PeInfo::in_memory(self.space(), module.image_base).ok()?;
        module.image_base.checked_add(image.offset_of(rva)?)
    }

    /// The IL body whose header begins at `address`.
    pub fn il_at(&self, address: u64) -> Result<Body, BodyError> {
        body::read(|at, len| self.space().bytes(address.checked_add(u64::from(at))?, len))
    }
}
