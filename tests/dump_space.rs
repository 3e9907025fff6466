//! The address space against a map of single bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;

use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Where pieces overlap the one added first wins; everything else is read as added, holes end a read.
    #[test]
    fn overlaps_are_resolved_as_stated(parts in proptest::collection::vec((0u64..200, 0u64..80, 0u64..60, 0usize..3), 0..20)) {
        let mut builder = SpaceBuilder::new(8);
        let files: Vec<Vec<u8>> = (0..3u8).map(|k| (0..64u8).map(|i| i.wrapping_mul(3) ^ (k << 6)).collect()).collect();
        let sources: Vec<u32> = files.iter().map(|f| builder.source(FileMap::owned(f.clone()))).collect();
        let mut naive = BTreeMap::new();
        let mut added = 0;
        for &(start, offset, len, source) in &parts {
            let kept = builder.add(start, sources[source], offset, len);
            let expected = (offset..offset + len).filter(|&o| o < 64).count() as u64;
            prop_assert_eq!(kept, expected);
            added += kept;
            for i in 0..kept {
                naive.entry(start + i).or_insert(files[source][(offset + i) as usize]);
            }
        }
        let (space, dropped) = builder.build();
        prop_assert_eq!(space.readable_bytes(), naive.len() as u64);
        prop_assert_eq!(dropped, added - naive.len() as u64);
        prop_assert!(space.pieces().windows(2).all(|w| w[0].end <= w[1].start));
        for at in 0..300 {
            prop_assert_eq!(space.u8(at), naive.get(&at).copied());
            prop_assert_eq!(space.next_readable(at), naive.range(at..).next().map(|e| *e.0));
            let mut buffer = [0; 16];
            let run = (at..at + 16).map_while(|a| naive.get(&a).copied()).collect::<Vec<_>>();
            let n = space.read(at, &mut buffer);
            prop_assert_eq!(&buffer[..n], &run[..]);
            prop_assert_eq!(space.u64(at), run.get(..8).map(|b| u64::from_le_bytes(b.try_into().unwrap())));
        }
    }

    /// Taking a space apart and adding below all present changes nothing that was readable.
    #[test]
    fn later_additions_never_win(first in proptest::collection::vec((0u64..100, 1u64..40), 1..8), start in 0u64..100) {
        let build = |overlay: bool| {
            let mut b = SpaceBuilder::new(8);
            let s = b.source(FileMap::owned((0..64).collect()));
            for &(at, len) in &first {
                b.add(at, s, 0, len);
            }
            let space = b.build().0;
            if !overlay {
                return space;
            }
            let mut b = space.into_builder();
            let s = b.source(FileMap::owned(vec![0xEE; 64]));
            b.add(start, s, 0, 64);
            b.build().0
        };
        let (plain, over) = (build(false), build(true));
        for at in 0..200 {
            let below = (start..start + 64).contains(&at).then_some(0xEE);
            prop_assert_eq!(over.u8(at), plain.u8(at).or(below));
        }
    }
}
