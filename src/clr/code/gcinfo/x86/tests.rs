//! Headers and tables written by hand.

#![allow(clippy::unwrap_used)]

use super::super::Stop;
use super::{FrameInfo, From, Header, Held};

fn decode(bytes: &[u8]) -> FrameInfo {
    FrameInfo::decode(bytes.to_vec()).unwrap()
}

fn slot(from: From, distance: i32) -> Held {
    Held { place: Err(from), distance, interior: false, pinned: false }
}

fn register(number: usize) -> Held {
    Held { place: Ok(number), distance: 0, interior: false, pinned: false }
}

#[test]
fn a_common_header_and_what_differs_from_it() {
    // 64 bytes; number 0x12: push esi, one epilogue at the end of two bytes.
    let info = decode(&[0x40, 0x12]);
    let h = Header { length: 0x40, prolog: 1, epilog: 2, saved: 0b0010, ..Header::default() };
    assert_eq!(info.header, h);
    assert!(info.in_prolog(0) && !info.in_prolog(1));
    // The first instruction of an epilogue has not run yet where it begins.
    assert!(!info.in_epilog(0x3E) && info.in_epilog(0x3F));
    // The same with two arguments, 17 words of locals and edi saved.
    let info = decode(&[0x40, 0x92, 0x8A, 0x81, 0xD1, 0x3B]);
    assert_eq!(info.header, Header { arguments: 8, locals: 68, saved: 0b0011, ..h });
    assert_eq!((info.header.frame_size(), info.header.popped()), (76, 8));
    // What the compiler never writes: handlers without a frame.
    assert!(FrameInfo::decode(vec![0x40, 0x92, 0x43]).is_none());
    // A code of the second set that is not known.
    assert!(FrameInfo::decode(vec![0x40, 0x92, 0xCF, 0x04]).is_none());
    assert!(FrameInfo::decode(vec![0x40, 0x92, 0xCF, 0x01]).is_some());
    assert!(FrameInfo::decode(vec![0x40, 0x92]).is_none());
}

#[test]
fn pushes_are_followed_to_a_call() {
    // ESP frame: push after 5 bytes, push after 2 more, a call of pattern 0 (10 bytes on, esi live, nothing popped), then one
    // that pops both.
    let info = decode(&[0x40, 0x12, 0x05, 0x02, 0x80, 0xE2, 0x02, 0x00, 0xFF]);
    assert_eq!(info.pushed(4), Some(0));
    assert_eq!(info.pushed(5), Some(4));
    assert_eq!(info.pushed(17), Some(0));
    let info = decode(&[0x40, 0x12, 0x05, 0x02, 0x80, 0xFF]);
    assert_eq!(info.pushed(17), Some(8));
    assert_eq!(info.live(17, Stop::Return), Some(vec![register(6)]));
    // A place without an entry is a call that needs none.
    assert_eq!(info.live(9, Stop::Return), Some(Vec::new()));
}

#[test]
fn calls_of_a_frame_with_ebp() {
    // Number 0x54 has ebp, edi and esi saved; tiny: esi live at 5, small: edi and the first pushed argument 0x20 further on.
    let info = decode(&[0x81, 0x00, 0x54, 0x25, 0xA0, 0x21, 0xFF]);
    assert!(info.header.frame);
    assert_eq!(info.header.length, 0x80);
    let saved = info.header.saved;
    assert_eq!(saved & 8, 8);
    // A place without a word of its own is a call that keeps nothing.
    assert_eq!(info.live(0x10, Stop::Return), Some(Vec::new()));
    assert_eq!(info.live(0x25, Stop::Return), Some(vec![register(7), slot(From::Sp, 0)]));
    // Who threw does not go on.
    assert_eq!(info.live(0x25, Stop::Thrown), Some(Vec::new()));
}

#[test]
fn steps_of_code_that_is_interrupted_anywhere() {
    // Number 0x1D: interruptible, edi and esi saved. ecx live at 3; a reference pushed at 5, another word at 6; ecx dead at 7;
    // both popped at 9.
    let info = decode(&[0x40, 0x1D, 0x3D, 0x4B, 0x82, 0xB1, 0x09, 0xD2, 0xFF]);
    assert!(info.header.interruptible && !info.header.frame);
    assert_eq!(info.live(4, Stop::Instruction), Some(vec![register(1)]));
    // A call keeps nothing there.
    assert_eq!(info.live(5, Stop::Return), Some(vec![slot(From::FirstPushed, 0)]));
    assert_eq!((info.pushed(5), info.pushed(6), info.pushed(8), info.pushed(9)), (Some(4), Some(8), Some(8), Some(0)));
}

#[test]
fn slots_of_the_frame() {
    // Number 0x12 with two slots that are always live (pinned at 8, interior at 4) and one that is from 3 to 13 (at 0).
    let info = decode(&[0x40, 0x92, 0xB9, 0x46, 0x01, 0x05, 0x4A, 0x05, 0x00, 0x03, 0x0A, 0xFF]);
    let always = [Held { pinned: true, ..slot(From::Base, 8) }, Held { interior: true, ..slot(From::Base, 4) }];
    // A return address belongs to the call in front of it.
    assert_eq!(info.live(3, Stop::Return), Some(always.to_vec()));
    assert_eq!(info.live(3, Stop::Instruction), Some([&always[..], &[slot(From::Base, 0)]].concat()));
    assert_eq!(info.live(13, Stop::Return), Some([&always[..], &[slot(From::Base, 0)]].concat()));
    assert_eq!(info.live(13, Stop::Faulted), Some(always.to_vec()));
}

#[test]
fn damaged_bytes_end_what_is_read() {
    for bytes in
        [&[][..], &[0x80], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80], &[0x40], &[0x40, 0xC7, 0x47, 0xFF, 0xFF, 0xFF]]
    {
        assert!(FrameInfo::decode(bytes.to_vec()).is_none(), "{bytes:x?}");
    }
    let info = decode(&[0x40, 0x12, 0x05]);
    assert_eq!(info.pushed(0x30), None);
}
