//! Explicit frames: records on the stack by which the runtime marks where managed code was left, told apart and read.
//!
//! Source: dotnet/runtime `src/coreclr/vm/frames.h`. Through 9.0 a frame begins with its vtable, and the DAC table has those
//! of all classes in the order of `src/coreclr/inc/vptr_list.h`, which the layout keeps (`FrameClasses`); where they stand
//! there is known by the vtable of the heaps of jitted code, which closes the list. Since 10.0 a frame begins with a number
//! (`FrameNumbers`, and the descriptor's `...FrameIdentifier`).

use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::Clr;
use crate::clr::code::ranges::RangeKind;
use crate::clr::layout::scan::{Span, anchors_of};
use crate::clr::layout::tables::SHAPES;

/// What a class of frames tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A call of native code: where it returns to.
    InlinedCall,
    /// A function of the runtime that managed code called (through 9.0).
    Helper,
    /// An exception was thrown: the context of who threw it (since 10.0).
    SoftwareException,
    /// A processor fault: its context.
    FaultingException,
    /// The thread was stopped where it was: a pointer to its context.
    Stopped,
    /// The collector changed a return address.
    Hijack,
    /// A stub between managed code and the runtime: the registers it saved.
    Transition,
    /// A mark that leads nowhere.
    Mark,
}

/// Every class by the name that debuggers print.
const CLASSES: &[(&str, Class)] = &[
    ("InlinedCallFrame", Class::InlinedCall),
    ("HelperMethodFrame", Class::Helper),
    ("HelperMethodFrame_1OBJ", Class::Helper),
    ("HelperMethodFrame_2OBJ", Class::Helper),
    ("HelperMethodFrame_3OBJ", Class::Helper),
    ("HelperMethodFrame_PROTECTOBJ", Class::Helper),
    ("SoftwareExceptionFrame", Class::SoftwareException),
    ("FaultingExceptionFrame", Class::FaultingException),
    ("ResumableFrame", Class::Stopped),
    ("RedirectedThreadFrame", Class::Stopped),
    ("HijackFrame", Class::Hijack),
    ("PInvokeCalliFrame", Class::Transition),
    ("PrestubMethodFrame", Class::Transition),
    ("CallCountingHelperFrame", Class::Transition),
    ("StubDispatchFrame", Class::Transition),
    ("ResolveHelperFrame", Class::Transition),
    ("ExternalMethodFrame", Class::Transition),
    ("DynamicHelperFrame", Class::Transition),
    ("StubHelperFrame", Class::Transition),
    ("MulticastFrame", Class::Transition),
    ("SecureDelegateFrame", Class::Transition),
    ("ComPlusMethodFrame", Class::Transition),
    ("CLRToCOMMethodFrame", Class::Transition),
    ("ComMethodFrame", Class::Mark),
    ("ComPrestubMethodFrame", Class::Mark),
    ("InterpreterFrame", Class::Mark),
    ("ContextTransitionFrame", Class::Mark),
    ("FuncEvalFrame", Class::Mark),
    ("GCFrame", Class::Mark),
    ("ProtectByRefsFrame", Class::Mark),
    ("ProtectValueClassFrame", Class::Mark),
    ("DebuggerClassInitMarkFrame", Class::Mark),
    ("DebuggerSecurityCodeMarkFrame", Class::Mark),
    ("DebuggerExitFrame", Class::Mark),
    ("DebuggerU2MCatchHandlerFrame", Class::Mark),
    ("ExceptionFilterFrame", Class::Mark),
    ("TailCallFrame", Class::Mark),
    ("UMThkCallFrame", Class::Mark),
    // Through 2.0 and in .NET Framework.
    ("SecurityContextFrame", Class::Mark),
    ("TPMethodFrame", Class::Transition),
    ("GCSafeCollectionFrame", Class::Mark),
    ("LeaveRuntimeFrame", Class::Mark),
    ("ReverseEnterRuntimeFrame", Class::Mark),
];

/// The mark that stands at the bottom of the stack of nearly every thread the runtime started.
const BOTTOM: &str = "DebuggerU2MCatchHandlerFrame";
/// What a class list ends with: names of classes behind the last frame, up to the heaps of jitted code.
const BEHIND: [&str; 5] =
    ["Debugger", "EEDbgInterfaceImpl", "DebuggerController", "DebuggerMethodInfoTable", "DebuggerPatchTable"];
/// First words below this are numbers of classes.
const NUMBERS: u64 = 0x100;
/// Slots of the DAC table behind its anchor in which the vtables are looked for.
const MAX_SLOTS: i32 = 1 << 10;
/// Bytes within which the variables of one native function lie.
const NATIVE_FRAME: u64 = 0x400;
/// Most frames of one thread.
const MAX_CHAIN: usize = 1 << 16;

/// An explicit frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explicit {
    /// Its address on the stack.
    pub address: u64,
    /// Its class as debuggers print it; empty when it cannot be told.
    pub name: &'static str,
    /// What it tells.
    pub class: Class,
}

/// How frames are told apart.
#[derive(Debug, Default)]
pub struct Classes {
    /// Classes by the first word of a frame.
    by_word: FxHashMap<u64, (&'static str, Class)>,
    /// The word at which an `InlinedCallFrame` has the stack pointer of the call; where it returns to is the next.
    pub call_site: u64,
    /// Why they may not be told apart.
    pub partial: Option<String>,
}

/// The chain of a thread's explicit frames.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// Addresses, the newest first.
    pub frames: Vec<u64>,
    /// Why it may be cut short.
    pub partial: Option<String>,
}

impl Chain {
    /// Follows the chain from `head`. Newer frames lie at lower addresses, but for those that one native function has made: the
    /// compiler laid out its variables.
    pub fn read(clr: &Clr, head: u64) -> Self {
        let mut chain = Self::default();
        let next = clr.layout().try_offset("Frame", "Next").unwrap_or(clr.header());
        let end = if clr.ptr_size() == 8 { u64::MAX } else { u64::from(u32::MAX) };
        let (mut at, mut met) = (head, FxHashSet::default());
        while at != end && at != 0 {
            let strays = chain.frames.last().is_some_and(|&l| at.saturating_add(NATIVE_FRAME) <= l);
            if !at.is_multiple_of(clr.header()) || strays || !met.insert(at) {
                chain.partial = Some(format!("the chain of explicit frames goes wrong at {at:x}"));
                break;
            }
            if chain.frames.len() >= MAX_CHAIN {
                chain.partial = Some(format!("explicit frames behind the first {MAX_CHAIN} are left out"));
                break;
            }
            let Some(link) = clr.space().ptr_at(at, next) else {
                chain.partial = Some(format!("the explicit frame at {at:x} is not in the dump"));
                break;
            };
            chain.frames.push(at);
            at = link;
        }
        chain
    }
}

impl Classes {
    /// Finds how the frames of this runtime are told apart.
    pub fn read(clr: &Clr) -> Self {
        // What lay on the stack of a thread that has ended is another's now.
        let heads = clr.threads().items.iter().filter(|t| t.os_id != 0).map(|t| t.frame);
        let frames: Vec<Vec<u64>> = heads.map(|h| Chain::read(clr, h).frames).filter(|f| !f.is_empty()).collect();
        let words = |chain: &Vec<u64>| chain.iter().filter_map(|&f| clr.space().ptr(f)).collect::<Vec<u64>>();
        let chains: Vec<Vec<u64>> = frames.iter().map(words).collect();
        let used: FxHashSet<u64> = chains.iter().flatten().copied().collect();
        if used.is_empty() {
            return Self::default();
        }
        if clr.layout().constant("InlineVtables").is_ok() {
            // The shared source leaves out classes of the product, and no frame is known by another sign.
            let why =
                "of which kind explicit frames are is not told in CLR 2.0: the order of their classes is not known";
            return Self { partial: Some(why.into()), ..Self::default() };
        }
        let mut classes = match used.iter().all(|&w| w < NUMBERS) {
            true => numbered(clr),
            false => by_vtable(clr, &chains).unwrap_or_default(),
        };
        classes.call_site = call_site(clr, &classes, frames.iter().flatten());
        let unknown = used.iter().filter(|w| !classes.by_word.contains_key(w)).count();
        if unknown > 0 {
            classes.partial =
                Some(format!("{unknown} of {} kinds of explicit frames cannot be told apart", used.len()));
        }
        classes
    }

    /// The frame at `address`.
    pub fn at(&self, clr: &Clr, address: u64) -> Explicit {
        let known = clr.space().ptr(address).and_then(|w| self.by_word.get(&w));
        let (name, class) = known.copied().unwrap_or(("", Class::Mark));
        Explicit { address, name, class }
    }
}

/// The class of that name.
fn class(name: &str) -> Option<(&'static str, Class)> {
    CLASSES.iter().find(|c| c.0 == name).copied()
}

/// Numbers: those of the layout's list, then those the runtime's descriptor gives.
fn numbered(clr: &Clr) -> Classes {
    let mut by_word = FxHashMap::default();
    let list = clr.layout().text("FrameNumbers").unwrap_or("");
    for (i, name) in list.split_whitespace().enumerate() {
        by_word.extend(class(name).map(|c| (i as u64 + 1, c)));
    }
    let described = CLASSES.iter().filter_map(|&c| {
        let number = clr.layout().constant(&format!("{}Identifier", c.0)).ok()?;
        Some((number, c))
    });
    let described: Vec<_> = described.collect();
    if described.len() > 2 {
        by_word = FxHashMap::default();
    }
    by_word.extend(described);
    Classes { by_word, ..Classes::default() }
}

/// Where an `InlinedCallFrame` has its stack pointer: through 8.0 with pointers of eight bytes a word stands in front. The
/// right place is the one behind which most of them return to managed code.
fn call_site<'a>(clr: &Clr, classes: &Classes, frames: impl Iterator<Item = &'a u64>) -> u64 {
    let calls: Vec<u64> = frames.copied().filter(|&f| classes.at(clr, f).class == Class::InlinedCall).collect();
    let returns = |f: u64, word: u64| clr.space().ptr_at(f, (word + 1) * clr.header());
    let fits =
        |word: &u64| calls.iter().filter(|&&f| returns(f, *word).is_some_and(|ip| clr.code().is_managed(ip))).count();
    // Of several alike the first.
    [3, 4].into_iter().rev().max_by_key(fits).unwrap_or(3)
}

/// Vtables: the list of classes and its place in the DAC table under which most chains make sense.
fn by_vtable(clr: &Clr, chains: &[Vec<u64>]) -> Option<Classes> {
    let (space, ptr) = (clr.space(), clr.header());
    let heaps: FxHashSet<u64> = clr
        .code()
        .ranges()
        .iter()
        .filter_map(|r| match r.kind {
            RangeKind::Jit(node) => space.ptr(space.ptr_at(node, ptr)?),
            _ => None,
        })
        .collect();
    let gc = &clr.found.gc;
    let span = Span { base: clr.found.module.base, end: clr.found.module.end };
    let own = clr.layout().text("FrameClasses").map(str::to_owned);
    let others = SHAPES.iter().filter(|s| u64::from(s.pointer_size) == ptr);
    let others = others.filter_map(|s| s.layout().text("FrameClasses").map(str::to_owned));
    let mut lists: Vec<String> = own.into_iter().chain(others).collect();
    let mut seen = FxHashSet::default();
    lists.retain(|l| seen.insert(l.clone()));
    let mut best: Option<(i64, Classes)> = None;
    // Where no heap of jitted code is in the dump, the mark at the bottom of the stacks says where the list is.
    let bottoms: FxHashSet<u64> = chains.iter().filter_map(|c| c.last().copied()).collect();
    for anchor in anchors_of(space, span, gc) {
        // The heaps of programs' own methods come first, those of dynamic methods next: either may be the one that is used.
        let hits = (1..MAX_SLOTS).filter(|&i| anchor.get(space, i).is_some_and(|v| heaps.contains(&v)));
        let places: FxHashSet<i32> = hits.flat_map(|i| [i, i - 1]).collect();
        let marks = match places.is_empty() {
            true => (1..MAX_SLOTS).filter(|&i| anchor.get(space, i).is_some_and(|v| bottoms.contains(&v))).collect(),
            false => Vec::new(),
        };
        for list in &lists {
            let names: Vec<&str> = list.split_whitespace().chain(BEHIND).collect();
            let behind = names.iter().rev().position(|n| *n == BOTTOM).map_or(0, |i| i as i32 + 1);
            for place in places.iter().copied().chain(marks.iter().map(|i| i + behind)) {
                let slots = names.iter().rev().zip(1..).map(|(name, back)| (anchor.get(space, place - back), *name));
                let known = slots.filter_map(|(word, name)| Some((word?, class(name)?)));
                let by_word: FxHashMap<u64, _> = known.collect();
                let score = score(&by_word, chains);
                if score > 0 && best.as_ref().is_none_or(|b| score > b.0) {
                    best = Some((score, Classes { by_word, ..Classes::default() }));
                }
            }
        }
    }
    best.map(|b| b.1)
}

/// How well classes fit the chains: every frame is of some class, and the oldest is the mark at the bottom.
fn score(by_word: &FxHashMap<u64, (&'static str, Class)>, chains: &[Vec<u64>]) -> i64 {
    let name = |w: &u64| by_word.get(w).map(|c| c.0);
    let frames = chains.iter().flatten();
    let (known, unknown): (Vec<&u64>, Vec<&u64>) = frames.partition(|w| name(w).is_some());
    let bottoms = chains.iter().filter(|c| c.last().and_then(&name) == Some(BOTTOM)).count();
    // The mark is nowhere else, and native code is called from everywhere.
    let inside = chains.iter().flat_map(|c| c.iter().rev().skip(1)).filter(|w| name(w) == Some(BOTTOM)).count();
    known.len() as i64 + 4 * bottoms as i64 - 4 * unknown.len() as i64 - inside as i64
}
