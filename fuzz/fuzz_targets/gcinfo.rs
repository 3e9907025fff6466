//! GC information of methods from arbitrary bytes: all versions, both architectures.
#![no_main]

use clrscope::clr::code::gcinfo::{Encoding, GcInfo, Stop, code_length};
use clrscope::dump::Arch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let arch = if choice & 8 != 0 { Arch::Arm64 } else { Arch::X64 };
    let version = u32::from(choice & 7) % 5 + 1;
    code_length(bytes, version, arch);
    let Some(info) = Encoding::new(version, arch).and_then(|e| GcInfo::decode(bytes.to_vec(), e)) else { return };
    let _ = (info.fits(None), info.transitions());
    for at in [0, 1, 63, 64, 65, 4096, u32::MAX, u32::from(choice)] {
        for stop in [Stop::Return, Stop::Instruction, Stop::Thrown, Stop::Faulted] {
            if let Some(live) = info.live(at, stop) {
                assert!(live.tracked.iter().all(|&i| i < info.tracked));
            }
        }
    }
});
