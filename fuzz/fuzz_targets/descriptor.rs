//! Contract descriptors from arbitrary JSON: the texts, separated by zeros, are those of a descriptor and of what it may
//! lead to; the pointer data are cells with the addresses of all of them.
#![no_main]

use std::path::Path;

use clrscope::clr::layout::{Layout, descriptor};
use clrscope::dump::map::FileMap;
use clrscope::dump::space::SpaceBuilder;
use clrscope::dump::{Arch, Dump, DumpKind, Os};
use libfuzzer_sys::fuzz_target;

const BASE: u64 = 0x1_0000;

fuzz_target!(|data: &[u8]| {
    let Some((&flags, rest)) = data.split_first() else { return };
    let arch = if flags & 1 == 0 { Arch::X64 } else { Arch::X86 };
    let ptr = usize::from(arch.pointer_size());
    let texts: Vec<&[u8]> = rest.splitn(4, |&b| b == 0).collect();
    // Cells, pointers to them, headers, texts.
    let (pointers, headers) = (ptr * texts.len(), 2 * ptr * texts.len());
    let header_size = 16 + 4 * ptr;
    let mut text_at = headers + header_size * texts.len();
    let mut memory = Vec::with_capacity(text_at + rest.len());
    let word = |memory: &mut Vec<u8>, v: usize| memory.extend_from_slice(&(BASE + v as u64).to_le_bytes()[..ptr]);
    (0..texts.len()).for_each(|i| word(&mut memory, headers + header_size * i));
    (0..texts.len()).for_each(|i| word(&mut memory, ptr * i));
    for text in &texts {
        memory.extend_from_slice(b"DNCCDAC\0");
        memory.extend_from_slice(&(if ptr == 4 { 3u32 } else { 1 }).to_le_bytes());
        memory.extend_from_slice(&(text.len() as u32).to_le_bytes());
        word(&mut memory, text_at);
        memory.extend_from_slice(&(texts.len() as u32).to_le_bytes());
        memory.extend_from_slice(&[0; 4]);
        word(&mut memory, pointers);
        memory.resize(memory.len().next_multiple_of(header_size).max(headers), 0);
        text_at += text.len();
    }
    memory.resize(headers + header_size * texts.len(), 0);
    texts.iter().for_each(|t| memory.extend_from_slice(t));
    let mut space = SpaceBuilder::new(arch.pointer_size());
    let source = space.source(FileMap::owned(memory));
    space.add(BASE, source, 0, u64::MAX - BASE);
    let kind = DumpKind::Minidump { flags: 0 };
    let dump = Dump::empty(Path::new("fuzz"), 0, kind, Os::Windows, arch, space.build().0);
    if let Ok(read) = descriptor::read(&dump, BASE + headers as u64) {
        assert!(read.parts.len() <= 32);
        let mut layout = Layout::default();
        let _ = (descriptor::witness(&layout, &read).len(), descriptor::fill(&mut layout, &read));
    }
});
