//! Thread statics: where the references of `[ThreadStatic]` fields lie, and whose they are.
//!
//! Source: dotnet/runtime `src/coreclr/tools/aot/ILCompiler.Compiler/Compiler/DependencyAnalysis/ThreadStaticsNode.cs`,
//! `src/coreclr/jit/helperexpansion.cpp` (`fgExpandThreadLocalAccessForCallNativeAOT`). All thread statics of a module that
//! are no generic ones lie in one object a thread, class by class, in the order in which the compiler sorts classes and their
//! code. Code finds the object by a variable of the thread's own memory, always at the same distance from the thread
//! pointer, and its fields by their offsets. So an offset that the code of one class alone refers to is of that class, where
//! the order of classes agrees; of others it is the one class that refers to it and may lie there. Where two could be
//! meant, none is.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::clr::ahead::ThreadSlot;
use crate::clr::code::disasm::{Flow, Instruction, LONGEST, Machine, Source};
use crate::dump::Arch;
use crate::native::Native;

use super::Aot;
use super::owners::{Class, in_order};

/// The thread pointer, then the address of the variable at a distance that follows: `mov rax, fs:[0]`, `lea rax, [rax+...]`.
const ACCESS: [u8; 12] = [0x64, 0x48, 0x8B, 0x04, 0x25, 0, 0, 0, 0, 0x48, 0x8D, 0x80];
/// Register that has the variable's address then.
const RAX: u8 = 0;
/// Instructions behind it that are followed.
const MOST_STEPS: usize = 64;
/// Places in code that are followed; real programs have some thousands.
const MOST_PLACES: usize = 1 << 16;
/// Code that is looked through, in bytes.
const MOST_CODE: u64 = 1 << 30;
/// Threads whose values are looked at.
const MOST_THREADS: usize = 64;
/// Times that what was learnt is used for the rest.
const ROUNDS: usize = 8;
/// Offsets that code uses: no object of thread statics has more words.
const MOST_OFFSETS: usize = 1 << 16;

/// Owners of stretches of the object.
#[derive(Debug, Default)]
struct Owners {
    /// Where the statics of each class begin; empty where it is not told, and owners are those of single offsets.
    starts: Vec<u64>,
    /// By where their statics begin.
    owners: BTreeMap<u64, Class>,
}

impl Owners {
    /// The owner of what lies at `offset`.
    fn at(&self, offset: u64) -> Option<&Class> {
        let start = if self.starts.is_empty() { offset } else { start_of(&self.starts, offset)? };
        self.owners.get(&start)
    }
}

/// The last of `starts` that is not behind `offset`.
fn start_of(starts: &[u64], offset: u64) -> Option<u64> {
    starts.get(starts.partition_point(|&s| s <= offset).checked_sub(1)?).copied()
}

/// Classes that refer to each offset.
type Users = BTreeMap<u64, FxHashSet<Class>>;

impl Aot {
    /// Slots of thread statics that have a name, by address.
    pub fn thread_slots(&self, native: &Native) -> &[ThreadSlot] {
        self.thread_slots.get_or_init(|| {
            let mut slots = Vec::new();
            for number in 0..self.types.modules().len() {
                slots.append(&mut self.slots_of_module(native, number));
            }
            for b in self.indexed_bases(native) {
                let slot = |offset: u64| {
                    let name = format!("{}+{offset:#x}", b.owner).into();
                    Some(ThreadSlot { thread: b.thread, slot: b.base.checked_add(offset)?, name })
                };
                let references = self.references(self.object_type(b.base).unwrap_or(0));
                slots.extend(references.into_iter().filter_map(slot));
            }
            slots.sort_unstable_by_key(|s| s.slot);
            slots.dedup_by_key(|s| s.slot);
            slots
        })
    }

    fn slots_of_module(&self, native: &Native, number: usize) -> Vec<ThreadSlot> {
        let threads: Vec<u64> = self.read_threads().items.iter().map(|t| t.address).collect();
        let base = |&thread: &u64| Some((thread, self.inlined_of(thread, number)?.1));
        let bases: Vec<(u64, u64)> = threads.iter().filter_map(base).collect();
        let Some(mt) = bases.first().and_then(|b| self.object_type(b.1)) else { return Vec::new() };
        let owners = self.owners_of_offsets(native, number, &bases);
        let mut slots = Vec::new();
        for offset in self.references(mt) {
            let Some(owner) = owners.at(offset) else { continue };
            let name: Arc<str> = format!("{}+{offset:#x}", owner.name()).into();
            let own = bases.iter().filter(|b| self.object_type(b.1) == Some(mt));
            let slot = |&(thread, base): &(u64, u64)| {
                Some(ThreadSlot { thread, slot: base.checked_add(offset)?, name: name.clone() })
            };
            slots.extend(own.filter_map(slot));
        }
        slots
    }

    /// Owners of what the object has at each offset. `bases`: threads and their objects.
    fn owners_of_offsets(&self, native: &Native, number: usize, bases: &[(u64, u64)]) -> Owners {
        let Some(distance) = self.distance_of_variable(number) else { return Owners::default() };
        let order = self.order_of_classes(number);
        let users = self.users_of_offsets(native, distance);
        let value = |offset: u64| {
            let objects = bases.iter().take(MOST_THREADS).filter_map(|b| self.dump.space.ptr_at(b.1, offset));
            let class = objects.filter_map(|o| self.object_type(o)).find_map(|mt| self.types.full_name(mt))?;
            Some(Class::new(class.name))
        };
        let stretch = |(&offset, by): (&u64, &FxHashSet<Class>)| {
            let users = by.iter().map(Class::outer).collect();
            (offset, Stretch { users, values: value(offset).into_iter().collect() })
        };
        let offsets: BTreeMap<u64, Stretch> = users.iter().map(stretch).collect();
        let (starts, owners) = (self.starts_of_classes(number), assign(&offsets, &order));
        let owners = if starts.is_empty() { owners } else { assign_classes(&starts, offsets, owners, &order) };
        Owners { starts, owners }
    }

    /// The record of a thread's inlined statics of a module: its address, which is the variable's, and the object.
    fn inlined_of(&self, thread: u64, number: usize) -> Option<(u64, u64)> {
        let manager = self.types.modules().get(number)?.manager;
        let offset = |name| self.layout.try_offset("InlinedThreadStatics", name);
        let (base, of_module) = (offset("Base")?, offset("TypeManager")?);
        let mut records = self.inlined_statics(thread).into_iter();
        records.find_map(|(slot, object)| {
            let at = slot.checked_sub(base)?;
            (self.dump.space.ptr_at(at, of_module)? == manager).then_some((at, object))
        })
    }

    /// How far the variable lies from the thread pointer; `None` where threads do not agree.
    fn distance_of_variable(&self, number: usize) -> Option<i32> {
        (self.dump.arch == Arch::X64).then_some(())?;
        let distance = |thread: u64, os_id: u64| {
            let registers = self.dump.thread_of(os_id)?.registers.as_ref()?;
            let at = self.inlined_of(thread, number)?.0;
            i32::try_from(at.wrapping_sub(registers.tp?) as i64).ok()
        };
        let threads = self.read_threads().items;
        let mut all: Vec<i32> = threads.iter().filter_map(|t| distance(t.address, t.os_id)).collect();
        all.sort_unstable();
        all.dedup();
        if let [one] = all[..] { Some(one) } else { None }
    }

    /// Offsets in the object that code uses, each with the classes whose methods do.
    fn users_of_offsets(&self, native: &Native, distance: i32) -> Users {
        let mut users = Users::new();
        let mut of_function: FxHashMap<u64, Option<Class>> = FxHashMap::default();
        let Some(machine) = Machine::new(self.dump.arch, self.dump.os) else { return users };
        for at in self.accesses(distance) {
            let Some((start, end)) = native.function_at(at) else { continue };
            let class = of_function.entry(start).or_insert_with(|| {
                let body = self.compiled_code(native, at).map_or(start, |c| c.start);
                Some(Class::new(self.class_of_method(body)?.0))
            });
            let Some(class) = class else { continue };
            for offset in self.offsets_used(&machine, at, end) {
                if users.len() < MOST_OFFSETS || users.contains_key(&offset) {
                    users.entry(offset).or_default().insert(class.clone());
                }
            }
        }
        users
    }

    /// Where managed code has the address of the variable: behind the instructions that make it.
    fn accesses(&self, distance: i32) -> Vec<u64> {
        let wanted: Vec<u8> = ACCESS.into_iter().chain(distance.to_le_bytes()).collect();
        let space = &self.dump.space;
        let mut found = Vec::new();
        for (start, end) in self.managed_code() {
            let end = end.min(start.saturating_add(MOST_CODE));
            for (from, to) in space.runs(start, end) {
                let Some(code) = space.run(from) else { continue };
                let code = code.get(..(to - from) as usize).unwrap_or(code);
                let places = code.windows(wanted.len()).enumerate().filter(|w| w.1 == wanted).map(|w| w.0);
                found.extend(places.take(MOST_PLACES - found.len()).map(|at| from + (at + wanted.len()) as u64));
            }
        }
        found
    }

    /// Offsets that the code from `at` on uses in the object whose variable's address is in `rax` there.
    fn offsets_used(&self, machine: &Machine, mut at: u64, end: u64) -> Vec<u64> {
        let (mut found, mut follow) = (Vec::new(), Follow::default());
        for _ in 0..MOST_STEPS {
            let left = end.saturating_sub(at).min(LONGEST as u64) as usize;
            let Some(i) = self.dump.space.bytes(at, left).and_then(|bytes| machine.decode(&bytes, at)) else { break };
            found.extend(follow.used(&i));
            at = match follow.step(&i) {
                Some(next) if next > at && next < end => next,
                _ => break,
            };
        }
        found
    }
}

/// Which registers have the object while code is followed.
#[derive(Debug, Default)]
struct Follow {
    registers: u64,
    /// Whether the variable was read, and not yet asked whether it is null.
    fresh: bool,
}

impl Follow {
    fn has(&self, register: u8) -> bool {
        self.registers.checked_shr(register.into()).is_some_and(|r| r & 1 != 0)
    }

    /// Offsets of the object that the instruction uses.
    fn used(&self, i: &Instruction) -> Option<u64> {
        let place = match (i.mentions, i.sets) {
            (Some(Source::At(r, o)), _) | (_, Some((_, Some(Source::At(r, o) | Source::Register(r, o))))) => (r, o),
            _ => return None,
        };
        // A plain copy of the register uses nothing, nor does the word with the type.
        let offset = u64::try_from(place.1).ok().filter(|&o| o >= 8)?;
        self.has(place.0).then_some(offset)
    }

    /// Goes on behind the instruction: where to, if anywhere.
    fn step(&mut self, i: &Instruction) -> Option<u64> {
        let reads = matches!(i.sets, Some((_, Some(Source::At(RAX, 0)))));
        if self.registers == 0 && !self.fresh {
            // The first instruction reads the variable.
            let (register, _) = i.sets.filter(|_| reads)?;
            (self.registers, self.fresh) = (1 << register, true);
            return Some(i.next());
        }
        let copies = match i.sets {
            Some((to, Some(Source::Register(from, 0)))) if self.has(from) => 1u64 << to,
            _ => 0,
        };
        let calls = if i.flow == Flow::Call { SCRATCH } else { 0 };
        self.registers = self.registers & !(i.spoils | calls) | copies;
        let asked = self.fresh;
        self.fresh = asked && i.flow == Flow::Next;
        match (i.flow, i.target) {
            // Where the variable is null the object is made first.
            (Flow::Branch, Some(Source::Value(target))) if asked && i.text.starts_with("jne") => Some(target),
            (Flow::Jump | Flow::End, _) => None,
            _ => (self.registers != 0).then(|| i.next()),
        }
    }
}

/// Registers that a call may change (System V): rax, rcx, rdx, rsi, rdi, r8 to r11.
const SCRATCH: u64 = 0x0FC7;

/// What is known of a stretch of the object.
#[derive(Debug, Default)]
struct Stretch {
    /// Classes that refer to it, those that others were made for in their place.
    users: FxHashSet<Class>,
    /// Classes of objects that its slots hold.
    values: FxHashSet<Class>,
}

impl Stretch {
    /// The only class that refers to it of those that `may`.
    fn sole(&self, may: impl Fn(&Class) -> bool) -> Option<Class> {
        let mut of = self.users.iter().filter(|c| may(c));
        if let (Some(class), None) = (of.next(), of.next()) { Some(class.clone()) } else { None }
    }

    /// Whether `class` is believed. It may be the only one to use what another that may lie here keeps of itself.
    fn takes(&self, class: &Class, may: impl Fn(&Class) -> bool) -> bool {
        self.values.iter().all(|v| v == class || !may(v))
    }
}

/// Places in the order of classes before and behind the number `i`, as far as owners are told.
fn between(owners: &BTreeMap<usize, Class>, order: &FxHashMap<Class, u64>, i: usize) -> (u64, u64) {
    let key = |o: Option<(&usize, &Class)>| o.and_then(|(_, c)| order.get(c)).copied();
    let (before, behind) = (owners.range(..i).next_back(), owners.range(i + 1..).next());
    (key(before).unwrap_or(0), key(behind).unwrap_or(u64::MAX))
}

/// The owners of offsets, of which a class may have several in a row.
fn assign(stretches: &BTreeMap<u64, Stretch>, order: &FxHashMap<Class, u64>) -> BTreeMap<u64, Class> {
    let all: Vec<(u64, &Stretch)> = stretches.iter().map(|(o, s)| (*o, s)).collect();
    let alone = all.iter().enumerate().filter_map(|(i, (_, s))| Some((i, s.sole(|_| true)?)));
    let anchors = in_order(alone.filter(|(_, c)| order.contains_key(c)).collect(), order, true);
    let last = anchors.keys().next_back().copied();
    let mut owners = BTreeMap::new();
    for (i, (offset, stretch)) in all.iter().enumerate() {
        let (low, high) = between(&anchors, order, i);
        let within = |c: &Class| order.get(c).is_some_and(|&k| low <= k && k <= high);
        let one = match anchors.get(&i) {
            Some(class) => Some(class.clone()),
            // Those of instantiations come last.
            None if last.is_none_or(|l| i > l) => stretch.sole(|_| true).filter(|c| !order.contains_key(c)),
            None => stretch.sole(within),
        };
        owners.extend(one.filter(|c| stretch.takes(c, within)).map(|c| (*offset, c)));
    }
    owners
}

/// The owners of stretches, of which each class has one, by those of single offsets: where two of a stretch contradict each
/// other none is believed, nor one that would have two. What is known then tells more of the rest.
fn assign_classes(
    starts: &[u64],
    offsets: BTreeMap<u64, Stretch>,
    single: BTreeMap<u64, Class>,
    order: &FxHashMap<Class, u64>,
) -> BTreeMap<u64, Class> {
    let mut told: BTreeMap<u64, FxHashSet<Class>> = BTreeMap::new();
    for (offset, class) in single {
        told.entry(start_of(starts, offset).unwrap_or(offset)).or_default().insert(class);
    }
    let mut stretches: BTreeMap<u64, Stretch> = BTreeMap::new();
    for (offset, of) in offsets {
        let stretch = stretches.entry(start_of(starts, offset).unwrap_or(offset)).or_default();
        stretch.users.extend(of.users);
        stretch.values.extend(of.values);
    }
    let all: Vec<(u64, &Stretch)> = stretches.iter().map(|(o, s)| (*o, s)).collect();
    let sole = |(i, (start, _)): (usize, &(u64, &Stretch))| {
        let mut of = told.get(start)?.iter();
        if let (Some(class), None) = (of.next(), of.next()) { Some((i, class.clone())) } else { None }
    };
    let known: Vec<(usize, Class)> = all.iter().enumerate().filter_map(sole).collect();
    let (plain, instantiations): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, c)| order.contains_key(c));
    let mut owners = in_order(with_one(plain), order, false);
    for _ in 0..ROUNDS {
        let taken: FxHashSet<Class> = owners.values().cloned().collect();
        let mut found = Vec::new();
        for (i, (_, stretch)) in all.iter().enumerate().filter(|(i, _)| !owners.contains_key(i)) {
            let (low, high) = between(&owners, order, i);
            let may = |c: &Class| !taken.contains(c) && order.get(c).is_some_and(|&k| low < k && k < high);
            found.extend(stretch.sole(may).filter(|c| stretch.takes(c, may)).map(|c| (i, c)));
        }
        let more = in_order(with_one(found), order, false);
        if more.is_empty() {
            break;
        }
        owners.extend(more);
    }
    for (i, class) in instantiations {
        owners.entry(i).or_insert(class);
    }
    owners.into_iter().filter_map(|(i, c)| Some((all.get(i)?.0, c))).collect()
}

/// Of the classes those that occur once.
fn with_one(found: Vec<(usize, Class)>) -> Vec<(usize, Class)> {
    let mut count: FxHashMap<Class, usize> = FxHashMap::default();
    for (_, class) in &found {
        *count.entry(class.clone()).or_default() += 1;
    }
    found.into_iter().filter(|(_, c)| count.get(c) == Some(&1)).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::dump::Os;

    /// Offsets that the code uses, which begins behind the two instructions that find the variable.
    fn used(code: &[u8]) -> Vec<u64> {
        let machine = Machine::new(Arch::X64, Os::Linux).unwrap();
        let (mut found, mut follow, mut at) = (Vec::new(), Follow::default(), 0u64);
        while let Some(i) = code.get(at as usize..).and_then(|c| machine.decode(c, at)) {
            found.extend(follow.used(&i));
            match follow.step(&i) {
                Some(next) if next > at => at = next,
                _ => break,
            }
        }
        found
    }

    #[test]
    fn offsets_are_those_used_by_the_registers_that_have_the_object() {
        // mov rcx, [rax]; test rcx, rcx; je +0x20; mov rax, rcx; mov [rbp-50h], rax; mov rcx, [rax+18h]; lea rdi, [rax+28h];
        // mov rdx, [rcx+40h]; ret
        let straight = [
            0x48, 0x8B, 0x08, 0x48, 0x85, 0xC9, 0x74, 0x20, 0x48, 0x8B, 0xC1, 0x48, 0x89, 0x45, 0xB0, 0x48, 0x8B, 0x48,
            0x18, 0x48, 0x8D, 0x78, 0x28, 0x48, 0x8B, 0x51, 0x40, 0xC3,
        ];
        assert_eq!(used(&straight), [0x18, 0x28]);
        // mov rcx, [rax]; test rcx, rcx; jne +5; call +0 (makes the object); mov ecx, [rcx+10h]; ret
        let made_first = [
            0x48, 0x8B, 0x08, 0x48, 0x85, 0xC9, 0x75, 0x05, 0xE8, 0, 0, 0, 0, 0x8B, 0x49, 0x10, 0x8B, 0x49, 0x20, 0xC3,
        ];
        assert_eq!(used(&made_first), [0x10]);
        // A call may change the register: mov rcx, [rax]; test rcx, rcx; je +0x20; call +0; mov eax, [rcx+10h]; ret
        let lost = [0x48, 0x8B, 0x08, 0x48, 0x85, 0xC9, 0x74, 0x20, 0xE8, 0, 0, 0, 0, 0x8B, 0x41, 0x10, 0xC3];
        assert!(used(&lost).is_empty());
        // What is not read first is none of it.
        assert!(used(&[0x48, 0x85, 0xC9, 0x8B, 0x41, 0x10, 0xC3]).is_empty());
    }

    fn class(name: &str) -> Class {
        Class::new(name.to_owned())
    }

    /// Stretches by where they begin, with their users and what they hold; classes in the order of their code.
    fn stretches(users: &[(u64, &[&str])], values: &[(u64, &str)]) -> BTreeMap<u64, Stretch> {
        let held = |o: u64| values.iter().filter(|v| v.0 == o).map(|v| class(v.1)).collect();
        let of = |by: &[&str]| by.iter().map(|c| class(c).outer()).collect();
        users.iter().map(|(o, by)| (*o, Stretch { users: of(by), values: held(*o) })).collect()
    }

    fn in_code(order: &[&str]) -> FxHashMap<Class, u64> {
        order.iter().enumerate().map(|(i, c)| (class(c), 16 * (1 + i as u64))).collect()
    }

    fn names(found: BTreeMap<u64, Class>) -> Vec<(u64, String)> {
        found.into_iter().map(|(o, c)| (o, c.name().to_owned())).collect()
    }

    fn owners(users: &[(u64, &[&str])], order: &[&str], values: &[(u64, &str)]) -> Vec<(u64, String)> {
        names(assign(&stretches(users, values), &in_code(order)))
    }

    #[test]
    fn each_class_has_one_stretch() {
        let order = in_code(&["A", "B", "C", "D", "E"]);
        let users: &[(u64, &[&str])] = &[
            (0x8, &["A"]),
            // Of those that use it A and E have theirs.
            (0x10, &["A", "B", "E"]),
            // Told once B is, and the next once this is; F has no code.
            (0x20, &["B", "C"]),
            (0x28, &["C", "D", "F"]),
            (0x30, &["E"]),
            // Of the same class, whoever uses it.
            (0x34, &["A", "B", "C", "D"]),
            (0x38, &["Pool`1"]),
            (0x40, &["Pool`1"]),
        ];
        let owners = |users: &[(u64, &[&str])], values: &[(u64, &str)], starts: &[u64]| {
            let offsets = stretches(users, values);
            let single = assign(&offsets, &order);
            names(assign_classes(starts, offsets, single, &order))
        };
        let found = owners(users, &[], &[0x8, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38, 0x40]);
        let found: Vec<(u64, &str)> = found.iter().map(|(o, c)| (*o, &**c)).collect();
        let expected =
            [(0x8, "A"), (0x10, "B"), (0x20, "C"), (0x28, "D"), (0x30, "E"), (0x38, "Pool`1"), (0x40, "Pool`1")];
        assert_eq!(found, expected);
        // Two of a stretch contradict each other, and what D has two stretches of is nobody's.
        let users: &[(u64, &[&str])] = &[(0x8, &["A"]), (0xC, &["B"]), (0x10, &["D"]), (0x18, &["D"]), (0x20, &["E"])];
        assert_eq!(owners(users, &[], &[0x8, 0x10, 0x18, 0x20]), [(0x20, "E".to_owned())]);
    }

    #[test]
    fn owners_are_classes_in_order() {
        let order = ["A", "B", "C", "D", "D+<>c", "E"];
        let users: &[(u64, &[&str])] = &[
            (0x8, &["A"]),
            (0x10, &["A"]),
            // Of those that use it one may lie here.
            (0x18, &["B", "E"]),
            (0x20, &["C"]),
            (0x24, &["C"]),
            // Out of order.
            (0x28, &["A"]),
            // A lambda works for its class.
            (0x30, &["D+<>c"]),
            // Instantiations come last.
            (0x38, &["Pool`1"]),
        ];
        let found = owners(users, &order, &[]);
        let found: Vec<(u64, &str)> = found.iter().map(|(o, c)| (*o, &**c)).collect();
        let expected = [(0x8, "A"), (0x10, "A"), (0x18, "B"), (0x20, "C"), (0x24, "C"), (0x30, "D"), (0x38, "Pool`1")];
        assert_eq!(found, expected);
        // What holds an object of a class that may lie here too could be of that class.
        let users: &[(u64, &[&str])] = &[(0x8, &["A"]), (0x10, &["C"]), (0x18, &["D"])];
        let found = owners(users, &order, &[(0x8, "B"), (0x10, "E")]);
        assert_eq!(found, [(0x10, "C".to_owned()), (0x18, "D".to_owned())]);
    }
}
