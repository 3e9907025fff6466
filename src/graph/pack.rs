//! Arrays of numbers as bytes and back: small values, and such as lie near their neighbours, take one byte or two.
//!
//! Values are coded in blocks of 65,536 that are independent of one another, so that both directions run in parallel. Each
//! is a variable-length number of 7 bits a byte. Nothing read back is trusted: a wrong length or a value out of range makes
//! the whole array unreadable, and no more is allocated than the bytes can hold.

use rayon::prelude::*;

use crate::watch::{Cancel, Interrupted};

/// Values in a block.
const BLOCK: usize = 1 << 16;
/// Bytes of a piece that is summed at once.
const PIECE: usize = 1 << 24;
/// Bytes that say how long a block is.
const LENGTH: usize = 4;

/// What is written in place of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// The value.
    Plain,
    /// Its distance from the value before.
    Delta,
    /// Its distance from its own place in the array.
    Near,
}

/// A number that can be packed.
pub trait Word: Copy + Default + Send + Sync {
    /// As the widest number.
    fn wide(self) -> u64;
    /// Back again; `None` when it does not fit.
    fn narrow(value: u64) -> Option<Self>;
}

impl Word for u32 {
    #[inline]
    fn wide(self) -> u64 {
        u64::from(self)
    }
    #[inline]
    fn narrow(value: u64) -> Option<Self> {
        Self::try_from(value).ok()
    }
}

impl Word for u64 {
    #[inline]
    fn wide(self) -> u64 {
        self
    }
    #[inline]
    fn narrow(value: u64) -> Option<Self> {
        Some(value)
    }
}

/// A signed distance with its sign in the lowest bit.
#[inline]
fn fold(distance: i64) -> u64 {
    (distance << 1 ^ distance >> 63) as u64
}

#[inline]
fn unfold(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

impl Coding {
    #[inline]
    fn code(self, value: u64, before: u64, place: u64) -> u64 {
        match self {
            Coding::Plain => value,
            Coding::Delta => fold(value.wrapping_sub(before) as i64),
            Coding::Near => fold(value.wrapping_sub(place) as i64),
        }
    }

    #[inline]
    fn decode(self, coded: u64, before: u64, place: u64) -> u64 {
        match self {
            Coding::Plain => coded,
            Coding::Delta => before.wrapping_add(unfold(coded) as u64),
            Coding::Near => place.wrapping_add(unfold(coded) as u64),
        }
    }
}

/// Packs `values`: the length of each block, then the blocks.
pub fn pack<T: Word>(values: &[T], coding: Coding, cancel: &Cancel) -> Result<Vec<u8>, Interrupted> {
    let blocks: Vec<Vec<u8>> = values
        .par_chunks(BLOCK)
        .enumerate()
        .map(|(b, chunk)| {
            cancel.check()?;
            let mut bytes = Vec::with_capacity(chunk.len() * 2);
            let mut before = 0;
            for (i, v) in chunk.iter().enumerate() {
                let mut left = coding.code(v.wide(), before, (b * BLOCK + i) as u64);
                while left >= 0x80 {
                    bytes.push(left as u8 | 0x80);
                    left >>= 7;
                }
                bytes.push(left as u8);
                before = v.wide();
            }
            Ok(bytes)
        })
        .collect::<Result<_, Interrupted>>()?;
    let mut out = Vec::with_capacity(blocks.iter().map(|b| b.len() + LENGTH).sum());
    for b in &blocks {
        out.extend_from_slice(&(b.len() as u32).to_le_bytes());
    }
    blocks.iter().for_each(|b| out.extend_from_slice(b));
    Ok(out)
}

/// Unpacks `count` values; `None` unless the bytes are exactly so many, and after a stop.
pub fn unpack<T: Word>(bytes: &[u8], count: usize, coding: Coding, cancel: &Cancel) -> Option<Vec<T>> {
    // A value takes a byte at least.
    if count > bytes.len() {
        return None;
    }
    let (lengths, mut rest) = bytes.split_at_checked(count.div_ceil(BLOCK) * LENGTH)?;
    let mut blocks = Vec::with_capacity(lengths.len() / LENGTH);
    for length in lengths.chunks_exact(LENGTH) {
        let (block, more) = rest.split_at_checked(u32::from_le_bytes(length.try_into().ok()?) as usize)?;
        blocks.push(block);
        rest = more;
    }
    if !rest.is_empty() {
        return None;
    }
    let mut values = vec![T::default(); count];
    let read = |(b, (out, block)): (usize, (&mut [T], &&[u8]))| {
        if cancel.is_set() { None } else { unpack_block(out, block, b * BLOCK, coding) }
    };
    let whole = values.par_chunks_mut(BLOCK).zip(&blocks).enumerate().map(read).all(|r| r.is_some());
    whole.then_some(values)
}

fn unpack_block<T: Word>(out: &mut [T], block: &[u8], first: usize, coding: Coding) -> Option<()> {
    let (mut at, mut before) = (0, 0);
    for (i, place) in out.iter_mut().enumerate() {
        let mut byte = *block.get(at)?;
        at += 1;
        let mut coded = u64::from(byte & 0x7F);
        let mut shift = 7;
        while byte >= 0x80 {
            byte = *block.get(at)?;
            at += 1;
            if shift > 63 {
                return None;
            }
            coded |= u64::from(byte & 0x7F) << shift;
            shift += 7;
        }
        let value = coding.decode(coded, before, (first + i) as u64);
        *place = T::narrow(value)?;
        before = value;
    }
    (at == block.len()).then_some(())
}

/// As [`checksum`], of the checksums of pieces, in parallel; 0 after a stop.
pub fn checksum_of_pieces(bytes: &[u8], cancel: &Cancel) -> u64 {
    let of = |piece: &[u8]| if cancel.is_set() { 0 } else { checksum(piece) };
    let sums: Vec<u64> = bytes.par_chunks(PIECE).map(of).collect();
    checksum(&sums.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
}

/// A checksum of 64 bits against damage, the same in every build.
pub fn checksum(bytes: &[u8]) -> u64 {
    const ODD: [u64; 4] = [0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB, 0xD6E8_FEB8_6659_FD93];
    let word = |b: &[u8]| b.iter().rev().fold(0u64, |v, &b| v << 8 | u64::from(b));
    // Every step can be turned back, so two inputs that differ in one word never meet again in their lane.
    let step = |lane: u64, w: u64, odd: u64| (lane ^ w).wrapping_mul(odd).rotate_left(29);
    let mut lanes = ODD;
    let mut quads = bytes.chunks_exact(32);
    for quad in &mut quads {
        for ((lane, w), odd) in lanes.iter_mut().zip(quad.chunks_exact(8)).zip(ODD) {
            let w = w.try_into().map_or(0, u64::from_le_bytes);
            *lane = step(*lane, w, odd);
        }
    }
    for (i, w) in quads.remainder().chunks(8).enumerate() {
        lanes[i] = step(lanes[i], word(w), ODD[i]);
    }
    let mut sum = bytes.len() as u64;
    for (lane, odd) in lanes.into_iter().zip(ODD) {
        sum = step(sum, lane, odd);
        sum ^= sum >> 32;
    }
    sum
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn values_come_back_and_damage_is_noticed(
            values in proptest::collection::vec(proptest::prelude::any::<u64>(), 0..300),
            shift in 0u32..64,
            at in 0usize..5000,
            bit in 0u32..8,
        ) {
            let values: Vec<u64> = values.into_iter().map(|v| v >> shift).collect();
            for coding in [Coding::Plain, Coding::Delta, Coding::Near] {
                let go = Cancel::default();
                let mut packed = pack(&values, coding, &go).unwrap();
                assert_eq!(unpack::<u64>(&packed, values.len(), coding, &go).as_ref(), Some(&values));
                let small: Option<Vec<u32>> = values.iter().map(|&v| u32::try_from(v).ok()).collect();
                assert_eq!(unpack::<u32>(&packed, values.len(), coding, &go), small);
                assert!(unpack::<u64>(&packed, values.len() + 1, coding, &go).is_none());
                assert!(values.is_empty() || unpack::<u64>(&packed, values.len() - 1, coding, &go).is_none());
                assert!(unpack::<u64>(&packed, usize::MAX, coding, &go).is_none());
                let sum = checksum(&packed);
                let cut = packed.len() * at / 5000;
                assert!(packed.is_empty() || checksum(&packed[..cut]) != sum);
                if let Some(b) = packed.get_mut(at % 300) {
                    *b ^= 1 << bit;
                    assert_ne!(checksum(&packed), sum);
                    // Whatever it gives, it ends.
                    let _ = unpack::<u64>(&packed, values.len(), coding, &go);
                }
            }
        }
    }

    #[test]
    fn many_blocks_come_back() {
        let go = Cancel::default();
        let values: Vec<u32> = (0..200_000u32).map(|v| v.wrapping_mul(v)).collect();
        for coding in [Coding::Plain, Coding::Delta, Coding::Near] {
            let packed = pack(&values, coding, &go).unwrap();
            assert_eq!(unpack(&packed, values.len(), coding, &go), Some(values.clone()));
        }
        let near: Vec<u32> = (0..200_000).collect();
        let packed = pack(&near, Coding::Near, &go).unwrap();
        assert_eq!(packed.len(), 200_000 + 4 * 4);
        go.set();
        assert!(pack(&near, Coding::Near, &go).is_err());
        assert!(unpack::<u32>(&packed, near.len(), Coding::Near, &go).is_none());
    }
}
