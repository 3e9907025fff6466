//! The walk: managed frames from a context until code that is not managed, then the next explicit frame that gives one.
//!
//! What lies between is native code of the runtime and of the system, which no walk over managed frames needs: it left an
//! explicit frame where it was entered (dotnet/runtime `src/coreclr/vm/stackwalk.cpp`, `StackFrameIterator`).

use super::contexts::{self, Given};
use super::frames::{Chain, Class};
use super::reader::Reader;
use super::registers::{self, Context, LINK};
use super::{Frame, FrameKind, Stack, arm64, behind, x86};
use crate::clr::Clr;
use crate::clr::code::lookup::CodeAt;
use crate::clr::runtime::threads::ClrThread;
use crate::dump::{Arch, Os};
use crate::native::x64;
use crate::native::x64::{Memory, Stop};

/// Most frames of a stack: an overflow of 8 MB has some 100,000.
const MAX_FRAMES: usize = 1 << 17;
/// Words of a `Thread` in which a hijacked return address is looked for.
const THREAD_WORDS: u64 = 0x80;
/// Words of an x86 stack looked through for a return address.
const MAX_SCAN: u64 = 1 << 12;

/// Walks the stack of `thread`: from its registers, or from those given, which are return addresses unless the second says that
/// execution stands there.
pub fn walk(clr: &Clr, thread: &ClrThread, from: Option<(Context, bool)>) -> Stack {
    let reader = Reader::new(clr);
    let os_thread = clr.dump.thread_of(thread.os_id);
    let mut out = Stack::default();
    if thread.os_id == 0 {
        return out;
    }
    let chain = Chain::read(clr, thread.frame);
    if clr.layout().try_offset("Thread", "Frame").is_none() {
        out.partial = Some("where explicit frames begin is not known: frames below native code are missing".into());
    }
    let why = chain.partial.clone().or_else(|| clr.frame_classes().partial.clone());
    out.partial = out.partial.or(why);
    let Some(os_thread) = os_thread else {
        out.partial = Some(format!("the dump has no thread {:x}", thread.os_id));
        return out;
    };
    let top = os_thread.stack.map_or(u64::MAX, |s| s.1);
    let own = os_thread.registers.as_ref().map(|r| (Context::of_thread(clr.dump.arch, r), true));
    let begin = from.or(own);
    let native = begin.map_or(0, |(c, _)| c.ip);
    let chain = &chain.frames;
    let mut walk = Walk { reader: &reader, thread: thread.address, chain, out, top, reached: 0, native };
    match begin {
        Some((context, exact)) => {
            // Frames below those registers are not theirs.
            walk.reached = from.map_or(0, |(c, _)| c.sp());
            walk.start(context, exact);
        }
        None => walk.partial(|| "the dump has no registers of the thread".into()),
    }
    for &frame in chain {
        // What lies below belongs to frames already shown.
        if frame >= walk.reached && !walk.full() {
            walk.explicit(frame);
        }
    }
    walk.out
}

struct Walk<'a> {
    reader: &'a Reader<'a>,
    /// Address of the `Thread`; 0 for none.
    thread: u64,
    /// Its explicit frames, the newest first.
    chain: &'a [u64],
    out: Stack,
    /// End of the thread's stack.
    top: u64,
    /// Stack pointer behind the last managed frame.
    reached: u64,
    /// Where the thread is in native code, or was when it entered the managed frames shown last.
    native: u64,
}

impl Walk<'_> {
    fn partial(&mut self, why: impl FnOnce() -> String) {
        if self.out.partial.is_none() {
            self.out.partial = Some(why());
        }
    }

    fn full(&mut self) -> bool {
        let full = self.out.frames.len() >= MAX_FRAMES;
        if full {
            self.partial(|| format!("frames behind the first {MAX_FRAMES} are left out"));
        }
        full
    }

    /// Begins where the thread stands, if that is managed code.
    fn start(&mut self, context: Context, exact: bool) {
        let reader = self.reader;
        if reader.is_method(context.ip) {
            self.managed(context, exact, false);
        } else if reader.code.is_managed(context.ip) {
            // A stub has no frame yet: what called it is where it returns to.
            let mut caller = context;
            let returns = match context.arch {
                Arch::Arm64 => context.get(LINK),
                Arch::Arm => context.get(14),
                Arch::X64 | Arch::X86 => {
                    caller.set_sp(context.sp().wrapping_add(reader.clr.header()));
                    reader.pointer(context.sp())
                }
            };
            if let Some(ip) = returns.filter(|&ip| reader.is_method(ip)) {
                caller.ip = ip;
                caller.forget_scratch(reader.clr.dump.os == Os::Windows);
                self.managed(caller, false, false);
            }
        }
    }

    /// Shows the explicit frame at `address`, and the managed code it gives.
    fn explicit(&mut self, address: u64) {
        if address >= self.top {
            // The registers are of another stack than the frames, as those of a signal handler.
            self.top = u64::MAX;
        }
        let explicit = self.reader.clr.frame_classes().at(self.reader.clr, address);
        let given = contexts::of(self.reader, &explicit, self.thread);
        if explicit.class == Class::InlinedCall && given == Given::Nothing {
            // No call is under way.
            return;
        }
        let (context, leaf) = match given {
            Given::Caller(c) | Given::Searched(c) => (Some(c), false),
            Given::Interrupted(c) => (Some(c), true),
            Given::Nothing | Given::Lost => (None, false),
        };
        self.out.frames.push(Frame {
            kind: FrameKind::Explicit,
            sp: address,
            ip: context.filter(|_| explicit.class == Class::InlinedCall).map_or(self.native, |c| c.ip),
            registers: context,
            code: None,
            explicit: Some(explicit),
            caller_sp: None,
            leaf,
            guessed: false,
            why: None,
        });
        match context {
            Some(c) if self.reader.is_method(c.ip) => self.managed(c, leaf, matches!(given, Given::Searched(_))),
            _ if given == Given::Lost => {
                self.gap(address, 0, format!("what the frame at {address:x} returns to is not in the dump"));
            }
            _ => {}
        }
    }

    fn gap(&mut self, sp: u64, ip: u64, why: String) {
        self.partial(|| why.clone());
        self.out.frames.push(Frame {
            kind: FrameKind::Gap,
            sp,
            ip,
            registers: None,
            code: None,
            explicit: None,
            caller_sp: None,
            leaf: false,
            guessed: false,
            why: Some(why),
        });
    }

    /// Walks managed frames from `context` on; `guessed` where the first was only searched for.
    fn managed(&mut self, mut context: Context, mut leaf: bool, mut guessed: bool) {
        let windows = self.reader.clr.dump.os == Os::Windows;
        if !leaf {
            context.forget_scratch(windows);
        }
        while !self.full() {
            let sp = context.sp();
            let Some(at) = self.reader.code_of(context.ip, leaf) else {
                let place = self.reader.place(context.ip);
                self.gap(sp, context.ip, format!("no tables of code for {place}: give the file with -i"));
                self.reached = sp;
                let Some(mut next) = self.beyond(&context) else { return };
                next.forget_scratch(windows);
                (context, leaf, guessed) = (next, false, true);
                continue;
            };
            let mut caller = context;
            let unwound = self.step(&mut caller, &at, leaf);
            caller.forget_scratch(windows);
            let grew = caller.sp() > sp && caller.sp() <= self.top;
            self.out.frames.push(Frame {
                kind: FrameKind::Managed,
                sp,
                ip: context.ip,
                registers: Some(context),
                code: Some(at),
                explicit: None,
                caller_sp: unwound.is_ok().then_some(caller.sp()).filter(|_| grew),
                leaf,
                guessed,
                why: None,
            });
            self.reached = sp.saturating_add(1);
            match unwound {
                Err(stop) => return self.stopped(stop, &context),
                // Nothing on the stack leads to an older managed frame.
                Ok(None) => return,
                Ok(_) if !grew => {
                    let why = format!("unwinding {} leads nowhere", self.reader.place(context.ip));
                    return self.gap(sp, context.ip, why);
                }
                Ok(Some(searched)) => guessed = searched,
            }
            if self.is_handler_above(&at, sp, caller.sp()) {
                return;
            }
            self.reached = caller.sp();
            if !self.reader.is_method(caller.ip) {
                match self.hijacked(&caller) {
                    Some(ip) => caller.ip = ip,
                    None => {
                        self.native = caller.ip;
                        return;
                    }
                }
            }
            (context, leaf) = (caller, false);
        }
    }

    /// Unwinds one managed frame; whether its caller was only searched for, nothing where the search found none.
    fn step(&self, context: &mut Context, at: &CodeAt, leaf: bool) -> Result<Option<bool>, Stop> {
        let function = || at.function.ok_or(Stop::NoUnwindData(context.ip));
        match context.arch {
            Arch::X64 => {
                let f = function()?;
                x64::unwind(self.reader, context, f.start, f.unwind, at.base, leaf).map(|_| Some(false))
            }
            Arch::Arm64 => {
                let f = function()?;
                arm64::unwind(self.reader, context, f.start, f.unwind, leaf).map(|()| Some(false))
            }
            Arch::X86 => {
                let info = self.reader.clr.kept_frame_info(at).ok_or(Stop::NoUnwindData(context.ip));
                let mut caller = *context;
                let place = (at.start, at.native);
                match info.and_then(|info| x86::unwind(self.reader, &info, &mut caller, place, leaf)) {
                    // What is no return address shows that the frame stands elsewhere.
                    Ok(()) if self.reader.may_be_return(caller.ip) => *context = caller,
                    _ => return self.search(context),
                }
                Ok(Some(false))
            }
            Arch::Arm => Err(Stop::NoUnwindData(context.ip)),
        }
    }

    /// On x86 handlers run on the frame of their method, whose caller is found from there; but the frames that the exception
    /// passed are still on the stack in between, and the explicit ones among them lead to them. Whether those follow.
    fn is_handler_above(&self, at: &CodeAt, sp: u64, caller: u64) -> bool {
        let clr = self.reader.clr;
        let handles = |at: &CodeAt| clr.kept_frame_info(at).is_some_and(|i| i.header.handlers);
        if clr.dump.arch != Arch::X86 || !handles(at) {
            return false;
        }
        self.chain.iter().filter(|&&f| sp < f && f < caller).any(|&f| {
            let explicit = clr.frame_classes().at(clr, f);
            match contexts::of(self.reader, &explicit, self.thread) {
                Given::Caller(c) | Given::Searched(c) | Given::Interrupted(c) => {
                    explicit.class != Class::InlinedCall && self.reader.is_method(c.ip)
                }
                Given::Nothing | Given::Lost => false,
            }
        })
    }

    /// On x86 a method whose tables are not at hand need not end the walk: the managed code that called it, in front of the next
    /// explicit frame.
    fn beyond(&self, context: &Context) -> Option<Context> {
        let sp = context.sp();
        let class = |f: u64| self.reader.clr.frame_classes().at(self.reader.clr, f).class;
        let next = self.chain.iter().copied().filter(|&f| f > sp).find(|&f| class(f) != Class::InlinedCall);
        let until = next.unwrap_or(self.top);
        let caller = || behind::caller(self.reader, sp..until, None, context.fp());
        (context.arch == Arch::X86).then(caller).flatten()
    }

    /// Where GC information is not at hand x86 code has no tables to unwind by: the frame pointer's chain, where it leads to
    /// managed code, else the next word of the stack that is a return address there.
    fn search(&self, context: &mut Context) -> Result<Option<bool>, Stop> {
        let (reader, sp) = (self.reader, context.sp());
        let number = registers::frame_pointer(context.arch);
        if let Some(fp) = context.fp().filter(|&fp| fp >= sp && fp < self.top)
            && let (Some(saved), Some(ip)) = (reader.pointer(fp), fp.checked_add(4).and_then(|at| reader.pointer(at)))
            && reader.is_return(ip)
        {
            context.ip = ip;
            context.set_sp(fp.wrapping_add(8));
            context.set(number, saved);
            return Ok(Some(false));
        }
        for at in (0..MAX_SCAN).map_while(|i| sp.checked_add(4 * i)).take_while(|&at| at < self.top) {
            let ip = reader.pointer(at).ok_or(Stop::NoStack(at))?;
            if reader.is_return(ip) {
                context.ip = ip;
                context.set_sp(at.wrapping_add(4));
                return Ok(Some(true));
            }
        }
        Ok(None)
    }

    /// Where a return address that the collector replaced leads in truth: the runtime keeps it in the `Thread`, in front of
    /// the address of the place it was taken from.
    fn hijacked(&self, caller: &Context) -> Option<u64> {
        let clr = self.reader.clr;
        let ptr = clr.header();
        clr.found.module.holds(caller.ip).then_some(())?;
        let word = |i: u64| clr.space().ptr_at(self.thread, i * ptr);
        let low = caller.sp().checked_sub(64 * ptr)?;
        let taken = |i: &u64| match caller.arch {
            Arch::X64 | Arch::X86 => word(*i) == caller.sp().checked_sub(ptr),
            // The link register's place is somewhere in the frame.
            _ => word(*i).is_some_and(|p| (low..caller.sp()).contains(&p)),
        };
        let pair = (1..THREAD_WORDS).find(|i| taken(i) && word(i - 1).is_some_and(|ip| self.reader.is_method(ip)));
        word(pair?.checked_sub(1)?)
    }

    fn stopped(&mut self, stop: Stop, context: &Context) {
        self.gap(context.sp(), context.ip, explain(self.reader, stop, context));
    }
}

/// What stopped unwinding, for people.
fn explain(reader: &Reader<'_>, stop: Stop, context: &Context) -> String {
    let place = reader.place(context.ip);
    match stop {
        Stop::NoUnwindData(_) => format!("no unwind data for {place}: give the file with -i"),
        Stop::BadUnwindData(at) => format!("unwind data of {place} at {at:x} is damaged"),
        Stop::NoStack(at) => format!("the stack at {at:x} is not in the dump"),
        Stop::NoRegister(n) => {
            let name = registers::names(context.arch).get(usize::from(n)).copied().unwrap_or("?");
            format!("{place} needs {name}, which is not known")
        }
    }
}

/// The caller of managed code with the registers `from`; `leaf` where it was interrupted rather than calling. By the `Thread` at
/// `thread`, 0 for none, return addresses that the collector replaced are told.
pub fn caller(clr: &Clr, thread: u64, from: &Context, leaf: bool) -> Result<Context, String> {
    let reader = Reader::new(clr);
    let walk =
        Walk { reader: &reader, thread, chain: &[], out: Stack::default(), top: u64::MAX, reached: 0, native: 0 };
    let missing = || format!("no tables of code for {}: give the file with -i", reader.place(from.ip));
    let at = reader.code_of(from.ip, leaf).ok_or_else(missing)?;
    let mut caller = *from;
    match walk.step(&mut caller, &at, leaf) {
        Ok(Some(_)) => {}
        Ok(None) => return Err("nothing on the stack leads to an older frame".into()),
        Err(stop) => return Err(explain(&reader, stop, from)),
    }
    caller.forget_scratch(clr.dump.os == Os::Windows);
    if let Some(ip) = walk.hijacked(&caller).filter(|_| thread != 0 && !reader.is_method(caller.ip)) {
        caller.ip = ip;
    }
    Ok(caller)
}

/// A frame of managed code that stands alone, with the registers `at`.
pub fn bare(clr: &Clr, at: &Context, leaf: bool) -> Frame {
    Frame {
        kind: FrameKind::Managed,
        sp: at.sp(),
        ip: at.ip,
        registers: Some(*at),
        code: Reader::new(clr).code_of(at.ip, leaf),
        explicit: None,
        caller_sp: None,
        leaf,
        guessed: false,
        why: None,
    }
}
