//! A file of debug information as the compiler of NativeAOT programs writes it and `objcopy --only-keep-debug` leaves it:
//! one unit with classes, their members and symbols of data.
#![allow(clippy::unwrap_used, dead_code)]

/// A type that members refer to, by its place in the unit.
pub type At = u32;

/// The file being made.
pub struct DebugFile {
    info: Vec<u8>,
    symbols: Vec<(String, u64)>,
}

const COMPILE_UNIT: u8 = 1;
const CLASS: u8 = 2;
const INHERITANCE: u8 = 3;
const MEMBER: u8 = 4;
const BASE_TYPE: u8 = 5;
const REFERENCE: u8 = 6;
const DECLARATION: u8 = 7;
const STATIC_MEMBER: u8 = 8;

/// Code, tag, whether it has children; attributes and forms.
type Abbreviation = (u8, u8, u8, &'static [(u8, u8)]);

const ABBREVIATIONS: &[Abbreviation] = &[
    (COMPILE_UNIT, 0x11, 1, &[(0x03, 0x08)]),
    (CLASS, 0x02, 1, &[(0x03, 0x08), (0x0b, 0x06)]),
    (INHERITANCE, 0x1c, 0, &[(0x49, 0x13), (0x38, 0x0b)]),
    (MEMBER, 0x0d, 0, &[(0x03, 0x08), (0x49, 0x13), (0x38, 0x06)]),
    (BASE_TYPE, 0x24, 0, &[(0x03, 0x08), (0x3e, 0x0b), (0x0b, 0x0b)]),
    (REFERENCE, 0x10, 0, &[(0x49, 0x13), (0x0b, 0x0b)]),
    (DECLARATION, 0x02, 0, &[(0x03, 0x08), (0x3c, 0x19)]),
    (STATIC_MEMBER, 0x0d, 0, &[(0x03, 0x08), (0x49, 0x13), (0x3f, 0x19), (0x3c, 0x19)]),
];

/// Name, kind, content, link, info, bytes of an entry.
type Section = (&'static str, u32, Vec<u8>, u32, u32, u64);

impl DebugFile {
    /// An empty unit.
    pub fn new() -> Self {
        // Length, version, abbreviations, bytes of an address.
        let mut info = vec![0; 4];
        info.extend(4u16.to_le_bytes());
        info.extend(0u32.to_le_bytes());
        info.push(8);
        let mut file = Self { info, symbols: Vec::new() };
        file.entry(COMPILE_UNIT);
        file.text("il.cpp");
        file
    }

    fn entry(&mut self, code: u8) -> At {
        let at = self.info.len() as At;
        self.info.push(code);
        at
    }

    fn text(&mut self, text: &str) {
        self.info.extend(text.bytes().chain([0]));
    }

    fn word(&mut self, value: u32) {
        self.info.extend(value.to_le_bytes());
    }

    /// A number: name, encoding, bytes.
    pub fn number(&mut self, name: &str, encoding: u8, size: u8) -> At {
        let at = self.entry(BASE_TYPE);
        self.text(name);
        self.info.extend([encoding, size]);
        at
    }

    /// A class that is described elsewhere or nowhere.
    pub fn declared(&mut self, name: &str) -> At {
        let at = self.entry(DECLARATION);
        self.text(name);
        at
    }

    /// A reference to an object of a class.
    pub fn reference(&mut self, class: At) -> At {
        let at = self.entry(REFERENCE);
        self.word(class);
        self.info.push(8);
        at
    }

    /// A class below another with members: name, type, offset, `None` of a static one.
    pub fn class(&mut self, name: &str, size: u32, base: At, members: &[(&str, At, Option<u32>)]) -> At {
        let at = self.entry(CLASS);
        self.text(name);
        self.word(size);
        self.entry(INHERITANCE);
        self.word(base);
        self.info.push(0);
        for (name, ty, offset) in members {
            self.entry(if offset.is_some() { MEMBER } else { STATIC_MEMBER });
            self.text(name);
            self.word(*ty);
            offset.iter().for_each(|o| self.word(*o));
        }
        self.info.push(0);
        at
    }

    /// A symbol of data at an address of the file.
    pub fn symbol(&mut self, name: &str, address: u64) {
        self.symbols.push((name.to_owned(), address));
    }

    /// The bytes of the file.
    pub fn finish(mut self, build_id: &[u8]) -> Vec<u8> {
        self.info.push(0);
        let length = self.info.len() as u32 - 4;
        self.info[..4].copy_from_slice(&length.to_le_bytes());
        let mut abbreviations = Vec::new();
        for (code, tag, children, attributes) in ABBREVIATIONS {
            abbreviations.extend([*code, *tag, *children]);
            attributes.iter().for_each(|(name, form)| abbreviations.extend([*name, *form]));
            abbreviations.extend([0, 0]);
        }
        abbreviations.push(0);
        let mut note: Vec<u8> = [4u32, build_id.len() as u32, 3].iter().flat_map(|w| w.to_le_bytes()).collect();
        note.extend(b"GNU\0");
        note.extend(build_id);
        let (mut names, mut symbols) = (vec![0u8], vec![0u8; 24]);
        for (name, address) in &self.symbols {
            symbols.extend((names.len() as u32).to_le_bytes());
            // A local object of the third section.
            symbols.extend([1, 0, 2, 0]);
            symbols.extend(address.to_le_bytes());
            symbols.extend(8u64.to_le_bytes());
            names.extend(name.bytes().chain([0]));
        }
        let locals = symbols.len() as u32 / 24;
        let sections: [Section; 5] = [
            (".note.gnu.build-id", 7, note, 0, 0, 0),
            (".debug_abbrev", 1, abbreviations, 0, 0, 0),
            (".debug_info", 1, self.info, 0, 0, 0),
            (".symtab", 2, symbols, 5, locals, 24),
            (".strtab", 3, names, 0, 0, 0),
        ];
        let mut file = vec![0u8; 64 + 56];
        let (mut table, mut titles) = (vec![0u8; 64], vec![0u8]);
        let mut add =
            |name: &str, kind: u32, content: &[u8], link: u32, info: u32, entry: u64, titles: &mut Vec<u8>| {
                table.extend((titles.len() as u32).to_le_bytes());
                table.extend(kind.to_le_bytes());
                titles.extend(name.bytes().chain([0]));
                for value in [0, 0, file.len() as u64, content.len() as u64] {
                    table.extend(value.to_le_bytes());
                }
                table.extend(link.to_le_bytes());
                table.extend(info.to_le_bytes());
                table.extend(1u64.to_le_bytes());
                table.extend(entry.to_le_bytes());
                file.extend(content);
            };
        for (name, kind, content, link, info, entry) in &sections {
            add(name, *kind, content, *link, *info, *entry, &mut titles);
        }
        let content: Vec<u8> = titles.iter().copied().chain(*b".shstrtab\0").collect();
        add(".shstrtab", 3, &content, 0, 0, 0, &mut titles);
        let at = file.len() as u64;
        file.extend(&table);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01\x01");
        put(16, &[3, 0, 62, 0, 1]);
        put(32, &64u64.to_le_bytes());
        put(40, &at.to_le_bytes());
        // Sizes and numbers of headers; the section of names.
        for (i, value) in [64u16, 56, 1, 64, 7, 6].iter().enumerate() {
            put(52 + 2 * i, &value.to_le_bytes());
        }
        // One loaded segment, of which the file has nothing.
        put(64, &[1, 0, 0, 0, 4]);
        put(64 + 40, &0x1000u64.to_le_bytes());
        file
    }
}
