//! Any bytes taken for machine code, at any address, with what registers hold followed along.
#![no_main]

use clrscope::clr::code::disasm::{LONGEST, Machine, Registers};
use clrscope::dump::{Arch, Os};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((address, code)) = data.split_first_chunk::<8>() else { return };
    let address = u64::from_le_bytes(*address);
    for (arch, os) in
        [(Arch::X64, Os::Linux), (Arch::X64, Os::Windows), (Arch::X86, Os::Windows), (Arch::Arm64, Os::Linux)]
    {
        let Some(machine) = Machine::new(arch, os) else { continue };
        let (mut registers, mut total) = (Registers::default(), 0);
        for i in machine.instructions(code, address) {
            assert!(i.length > 0 && usize::from(i.length) <= LONGEST && !i.text.is_empty());
            total += usize::from(i.length);
            let _ = i.target.and_then(|t| registers.place(t));
            registers.step(&machine, &i, &|at| Some(at ^ address));
        }
        assert_eq!(total, code.len());
    }
});
