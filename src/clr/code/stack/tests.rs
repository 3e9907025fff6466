#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;

use proptest::prelude::*;

use super::registers::{Context, LINK};
use super::x64::{Memory, Stop};
use super::{arm64, x64};
use crate::dump::Arch;

/// A stack, and bytes of code and tables by their address.
#[derive(Default)]
struct Fake {
    stack: HashMap<u64, u64>,
    tables: Vec<(u64, Vec<u8>)>,
}

impl Memory for Fake {
    fn pointer(&self, address: u64) -> Option<u64> {
        self.stack.get(&address).copied()
    }

    fn table(&self, address: u64, most: usize) -> Vec<u8> {
        let of = self.tables.iter().find(|(at, b)| (*at..at + b.len() as u64).contains(&address));
        let bytes = of.map(|(at, b)| &b[(address - at) as usize..]).unwrap_or(&[]);
        bytes[..most.min(bytes.len())].to_vec()
    }
}

const BASE: u64 = 0x1_0000;
const CODE: u64 = BASE + 0x100;
const INFO: u64 = BASE + 0x1000;
const SP: u64 = 0x7000;
const RETURN: u64 = 0xAAAA;
const RBX: usize = 3;
const RBP: usize = 5;

/// Prologue: push rbp (1 byte), push rbx (1), sub rsp, 0x20 (4); epilogue: add rsp, 0x20 (4), pop rbx, pop rbp, ret.
fn plain() -> Fake {
    let mut code = vec![0x55, 0x53, 0x48, 0x83, 0xEC, 0x20];
    code.extend([0x90; 10]);
    code.extend([0x48, 0x83, 0xC4, 0x20, 0x5B, 0x5D, 0xC3]);
    let info = vec![1, 6, 3, 0, 6, 0x32, 2, 0x30, 1, 0x50, 0, 0];
    let stack = [(SP + 0x20, 0xB), (SP + 0x28, 0xBB), (SP + 0x30, RETURN)];
    Fake { stack: stack.into(), tables: vec![(CODE, code), (INFO, info)] }
}

fn at(offset: u64, sp: u64) -> Context {
    let mut c = Context::new(Arch::X64, CODE + offset, sp);
    c.set(RBX, 1);
    c.set(RBP, 2);
    c
}

/// Unwinds the plain function; instruction and stack pointer of the caller, rbx, rbp.
fn plain_from(offset: u64, sp: u64, leaf: bool) -> (u64, u64, u64, u64) {
    let mut c = at(offset, sp);
    x64::unwind(&plain(), &mut c, CODE, INFO, BASE, leaf).unwrap();
    (c.ip, c.sp(), c.get(RBX).unwrap(), c.get(RBP).unwrap())
}

#[test]
fn a_call_undoes_the_whole_prologue() {
    assert_eq!(plain_from(10, SP, false), (RETURN, SP + 0x38, 0xB, 0xBB));
}

#[test]
fn a_leaf_in_the_prologue_undoes_what_was_executed() {
    assert_eq!(plain_from(0, SP + 0x30, true), (RETURN, SP + 0x38, 1, 2));
    assert_eq!(plain_from(1, SP + 0x28, true), (RETURN, SP + 0x38, 1, 0xBB));
    assert_eq!(plain_from(2, SP + 0x20, true), (RETURN, SP + 0x38, 0xB, 0xBB));
    assert_eq!(plain_from(6, SP, true), (RETURN, SP + 0x38, 0xB, 0xBB));
}

#[test]
fn a_leaf_in_the_epilogue_undoes_what_is_left() {
    assert_eq!(plain_from(16, SP, true), (RETURN, SP + 0x38, 0xB, 0xBB));
    assert_eq!(plain_from(20, SP + 0x20, true), (RETURN, SP + 0x38, 0xB, 0xBB));
    assert_eq!(plain_from(21, SP + 0x28, true), (RETURN, SP + 0x38, 1, 0xBB));
    assert_eq!(plain_from(22, SP + 0x30, true), (RETURN, SP + 0x38, 1, 2));
    // A return address in the same place is one of a call in front of it.
    assert_eq!(plain_from(16, SP, false), (RETURN, SP + 0x38, 0xB, 0xBB));
}

#[test]
fn a_frame_register_tells_the_frame_whatever_the_stack_pointer_is() {
    // push rbp; sub rsp, 0x40; lea rbp, [rsp + 0x40] by the large code of Unix: the stack has grown since.
    let info = vec![1, 13, 5, 5, 13, 11, 4, 0, 0, 0, 5, 0x72, 1, 0x50, 0, 0];
    let stack = [(SP + 0x40, 0xBB), (SP + 0x48, RETURN)];
    let fake = Fake { stack: stack.into(), tables: vec![(INFO, info)] };
    let mut c = at(40, SP - 0x200);
    c.set(RBP, SP + 0x40);
    x64::unwind(&fake, &mut c, CODE, INFO, BASE, false).unwrap();
    assert_eq!((c.ip, c.sp(), c.get(RBP)), (RETURN, SP + 0x50, Some(0xBB)));
    // Without the register nothing can be said.
    let mut lost = Context::new(Arch::X64, CODE + 40, SP);
    assert_eq!(x64::unwind(&fake, &mut lost, CODE, INFO, BASE, false), Err(Stop::NoRegister(5)));
}

#[test]
fn a_record_goes_on_with_its_parents() {
    // Saves rbx at SP + 8; the parent pushed rbp and made room of 0x20.
    let mut child = vec![0x21, 0, 2, 0, 0, 0x34, 1, 0];
    child.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0x10, 0, 0]);
    let parent = vec![1, 5, 2, 0, 5, 0x32, 1, 0x50];
    let stack = [(SP + 8, 0xB), (SP + 0x20, 0xBB), (SP + 0x28, RETURN)];
    let fake = Fake { stack: stack.into(), tables: vec![(INFO, child), (BASE + 0x1040, parent)] };
    let mut c = at(10, SP);
    x64::unwind(&fake, &mut c, CODE, INFO, BASE, false).unwrap();
    assert_eq!((c.ip, c.sp(), c.get(RBX), c.get(RBP)), (RETURN, SP + 0x30, Some(0xB), Some(0xBB)));
}

#[test]
fn a_record_that_is_its_own_parent_is_damaged() {
    let mut own = vec![0x21, 0, 0, 0];
    own.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0]);
    let fake = Fake { stack: HashMap::new(), tables: vec![(INFO, own)] };
    let mut c = at(10, SP);
    assert_eq!(x64::unwind(&fake, &mut c, CODE, INFO, BASE, false), Err(Stop::BadUnwindData(INFO)));
}

#[test]
fn what_is_cut_off_or_of_no_version_is_said() {
    let unwind = |info: Vec<u8>| {
        let fake = Fake { stack: HashMap::new(), tables: vec![(INFO, info)] };
        x64::unwind(&fake, &mut at(10, SP), CODE, INFO, BASE, false)
    };
    assert_eq!(unwind(vec![1, 6]), Err(Stop::NoUnwindData(INFO)));
    assert_eq!(unwind(vec![1, 6, 9, 0, 6, 0x32]), Err(Stop::NoUnwindData(INFO)));
    assert_eq!(unwind(vec![7, 6, 0, 0]), Err(Stop::BadUnwindData(INFO)));
    assert_eq!(unwind(vec![1, 6, 1, 0, 6, 0x3F]), Err(Stop::BadUnwindData(INFO)));
    assert_eq!(unwind(vec![1, 6, 0, 0]), Err(Stop::NoStack(SP)));
}

/// `stp fp, lr, [sp, #-32]!`, `mov fp, sp`, `str x19, [sp, #16]`; the same backwards at the end. Seven instructions.
fn arm() -> Fake {
    let (codes, words) = ([0xD0u8, 0x02, 0xE1, 0x83, 0xE4, 0xE3, 0xE3, 0xE3], 2u32);
    // One epilogue, that ends with the function and shares the codes.
    let head = 8 | 1 << 21 | words << 27;
    let mut info = head.to_le_bytes().to_vec();
    info.extend(codes);
    let stack = [(SP, 0xF), (SP + 8, RETURN), (SP + 16, 0x13)];
    Fake { stack: stack.into(), tables: vec![(INFO, info)] }
}

#[test]
fn arm64_frames_unwind_by_their_codes() {
    let unwind = |instruction: u64, leaf: bool| {
        let mut c = Context::new(Arch::Arm64, CODE + 4 * instruction, SP);
        c.set(29, SP);
        c.set(LINK, 0x77);
        c.set(19, 1);
        arm64::unwind(&arm(), &mut c, CODE, INFO, leaf).map(|()| (c.ip, c.sp(), c.get(29), c.get(19)))
    };
    assert_eq!(unwind(4, false), Ok((RETURN, SP + 32, Some(0xF), Some(0x13))));
    assert_eq!(unwind(4, true), Ok((RETURN, SP + 32, Some(0xF), Some(0x13))));
    // Before the first instruction the link register tells all.
    assert_eq!(unwind(0, true), Ok((0x77, SP, Some(SP), Some(1))));
    // Behind the first two x19 is not saved yet.
    assert_eq!(unwind(2, true), Ok((RETURN, SP + 32, Some(0xF), Some(1))));
    // In the epilogue x19 is back already.
    assert_eq!(unwind(5, true), Ok((RETURN, SP + 32, Some(0xF), Some(1))));
}

proptest! {
    #[test]
    fn any_bytes_as_unwind_data_end(
        info in proptest::collection::vec(any::<u8>(), 0..600),
        code in proptest::collection::vec(any::<u8>(), 0..64),
        offset in 0u64..64, leaf in any::<bool>(), word in any::<u64>(),
    ) {
        let stack = (0..64).map(|i| (SP + 8 * i, word.rotate_left(i as u32)));
        let fake = Fake { stack: stack.collect(), tables: vec![(CODE, code), (INFO, info)] };
        let _ = x64::unwind(&fake, &mut at(offset, SP), CODE, INFO, BASE, leaf);
        let mut c = Context::new(Arch::Arm64, CODE + offset, SP);
        c.set(29, SP);
        c.set(LINK, word);
        let _ = arm64::unwind(&fake, &mut c, CODE, INFO, leaf);
    }
}
