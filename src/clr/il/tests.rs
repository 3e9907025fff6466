#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::body::{self, Block, Body, BodyError, Clause, ClauseKind, Edge};
use super::{Instruction, Value, decode, instructions};

fn read(bytes: &[u8]) -> Result<Body, BodyError> {
    body::read(|at, len| bytes.get(at as usize..(at as usize).checked_add(len)?).map(<[u8]>::to_vec))
}

#[test]
fn operands_are_read_as_the_standard_has_them() {
    let at = |code: &[u8]| decode(code, 0).map(|i| (i.name, i.next, i.value));
    assert_eq!(at(&[0x2A]), Some(("ret", 1, Value::None)));
    assert_eq!(at(&[0x1F, 0xFE]), Some(("ldc.i4.s", 2, Value::Int(-2))));
    assert_eq!(at(&[0x2B, 0xFC]), Some(("br.s", 2, Value::Target(0xFFFF_FFFE))));
    assert_eq!(at(&[0x38, 5, 0, 0, 0]), Some(("br", 5, Value::Target(10))));
    assert_eq!(
        at(&[0x45, 2, 0, 0, 0, 1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]),
        Some(("switch", 13, Value::Targets(vec![14, 12])))
    );
    assert_eq!(at(&[0x72, 1, 0, 0, 0x70]), Some(("ldstr", 5, Value::Token(0x7000_0001))));
    assert_eq!(at(&[0xFE, 0x09, 0x34, 0x12]), Some(("ldarg", 4, Value::Var(0x1234))));
    assert_eq!(at(&[0x21, 0, 0, 0, 0, 0, 0, 0, 0x80]), Some(("ldc.i8", 9, Value::Int(i64::MIN))));
    assert_eq!(at(&[0x23, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F]), Some(("ldc.r8", 9, Value::Real(1.0))));
    assert_eq!(at(&[0xFE, 0x16, 2, 0, 0, 0x1B]), Some(("constrained.", 6, Value::Token(0x1B00_0002))));
    assert_eq!(at(&[0x24]), Some(("illegal", 1, Value::Int(0x24))));
    assert_eq!(at(&[0xFE, 0x99]), Some(("illegal", 2, Value::Int(0xFE99))));
    // Cut off, and a switch that asks for more than there is.
    assert_eq!(at(&[0x20, 1, 2]), None);
    assert_eq!(at(&[0xFE]), None);
    assert_eq!(at(&[0x45, 0xFF, 0xFF, 0xFF, 0xFF, 0]), None);
}

#[test]
fn tiny_and_fat_bodies() {
    let tiny = read(&[2 | 3 << 2, 0x00, 0x00, 0x2A]).unwrap();
    assert_eq!((tiny.header, tiny.max_stack, tiny.code), (1, 8, vec![0, 0, 0x2A]));
    let mut fat = vec![0x1B, 0x30, 4, 0, 5, 0, 0, 0, 7, 0, 0, 0x11, 0, 0, 0, 0, 0x2A, 0, 0, 0];
    // Small clauses: two, in a section that counts its header.
    fat.extend([1, 4 + 24, 0, 0]);
    fat.extend([0, 0, 0, 0, 2, 2, 0, 1, 9, 0, 0, 1]);
    fat.extend([2, 0, 0, 0, 3, 3, 0, 2, 0, 0, 0, 0]);
    let body = read(&fat).unwrap();
    assert_eq!((body.header, body.max_stack, body.locals, body.init_locals), (12, 4, 0x1100_0007, true));
    assert_eq!(
        body.clauses,
        [
            Clause { kind: ClauseKind::Catch(0x0100_0009), guarded: (0, 2), handler: (2, 3) },
            Clause { kind: ClauseKind::Finally, guarded: (0, 3), handler: (3, 5) }
        ]
    );
    let (catch, finally) = (Block::Handler(ClauseKind::Catch(0x0100_0009)), Block::Handler(ClauseKind::Finally));
    assert_eq!(
        body.edges(),
        [
            (0, Edge::Begin(Block::Try)),
            (0, Edge::Begin(Block::Try)),
            (2, Edge::End(Block::Try)),
            (2, Edge::Begin(catch)),
            (3, Edge::End(catch)),
            (3, Edge::End(Block::Try)),
            (3, Edge::Begin(finally)),
            (5, Edge::End(finally)),
        ]
    );
    fat.truncate(30);
    let cut = read(&fat).unwrap();
    assert!(cut.partial.is_some() && cut.clauses.is_empty());
    fat.truncate(14);
    assert_eq!(read(&fat), Err(BodyError::Missing));
    assert_eq!(read(&[0]), Err(BodyError::NoHeader));
    assert_eq!(read(&[0x03, 0x30, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0]), Err(BodyError::TooLong(u32::MAX)));
}

#[test]
fn fat_clauses_with_filters_share_their_try() {
    let mut bytes = vec![0x0B, 0x30, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2A];
    bytes.extend([0x41, 4 + 48, 0, 0]);
    for word in [1u32, 0, 1, 2, 1, 1, 0, 0, 1, 3, 1, 0x0200_0003] {
        bytes.extend(word.to_le_bytes());
    }
    let body = read(&bytes).unwrap();
    let begins = body.edges().iter().filter(|e| e.1 == Edge::Begin(Block::Try)).count();
    assert_eq!((body.clauses.len(), begins), (2, 1));
    assert_eq!(body.clauses[0].kind, ClauseKind::Filter(1));
    assert!(body.edges().contains(&(2, Edge::End(Block::Filter))));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let all: Vec<Instruction> = instructions(&bytes).collect();
        prop_assert!(all.windows(2).all(|w| w[0].next == w[1].offset && w[0].offset < w[0].next));
        if let Ok(body) = read(&bytes) {
            let edges = body.edges();
            prop_assert!(edges.len() <= 6 * body.clauses.len());
        }
    }

    #[test]
    fn any_section_ends(tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = vec![0x0B, 0x30, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x2A];
        bytes.extend(tail);
        prop_assert!(read(&bytes).is_ok());
    }
}
