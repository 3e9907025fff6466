//! How the class library's collections keep their items.
//!
//! Field names: dotnet/runtime v8.0 `src/libraries/System.Private.CoreLib/src/System/Collections`,
//! `src/libraries/System.Collections*`; several names where 2.1 or 3.1 had others.

use anyhow::Result;
use rustc_hash::FxHashSet;

use super::parts::{
    Entry, MAX_ITEMS, Visit, array, backwards, element, entries, item, items, nodes, pair, place, ring, size, taken,
    tree,
};
use super::{special, unchanging};
use crate::session::Session;
use crate::session::value::Value;

/// How a collection keeps its items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The elements of an array.
    Array,
    /// `_items` and `_size`.
    List,
    /// A ring: `_array`, `_head`, `_size`.
    Queue,
    /// `_array` and `_size`, the last one on top.
    Stack,
    /// `_entries` with chains by index.
    Dictionary,
    /// As a dictionary, of values alone.
    HashSet,
    /// Nodes linked by `next`, the last leads to the first.
    LinkedList,
    /// A tree of nodes with `Item`, `Left`, `Right`.
    SortedSet,
    /// A wrapper around [`Shape::SortedSet`] of pairs.
    SortedDictionary,
    /// Two arrays, keys and values.
    SortedList,
    /// An array of elements with their priorities.
    PriorityQueue,
    /// Buckets of linked nodes.
    ConcurrentDictionary,
    /// Linked segments, each a ring.
    ConcurrentQueue,
    /// Linked nodes.
    ConcurrentStack,
    /// Rings, one a thread.
    ConcurrentBag,
    /// An array of buckets with keys and values as objects.
    Hashtable,
    /// Linked nodes with `key` and `value`.
    ListDictionary,
    /// A tree of nodes with `_key`, `_left`, `_right`.
    ImmutableList,
    /// A tree of buckets by hash code.
    ImmutableDictionary,
    /// The same, of values alone.
    ImmutableHashSet,
    /// A tree of pairs.
    ImmutableSortedDictionary,
    /// Two immutable stacks: what is taken first, and what was added last.
    ImmutableQueue,
    /// Linked nodes, the last without a next one.
    ImmutableStack,
    /// `_keys` and `_values`; keys that are numbers stand in the table of hash codes.
    FrozenDictionary,
    /// `_items`, or numbers in the table of hash codes.
    FrozenSet,
    /// `_entries` in order.
    Ordered,
    /// A list of boxed pairs.
    OldOrdered,
    /// Entries, each with the list of what was added under its key.
    NameValue,
    /// Bits of an array.
    Bits,
    /// Dependent handles.
    WeakTable,
    /// Names of a class, values of an array.
    Expando,
    /// A ring of groups.
    Lookup,
    /// Keys of another collection.
    Keys,
    /// Values of another collection.
    Values,
    /// A part of an array.
    Segment,
    /// Linked segments of a queue for one reader and one writer.
    OneToOne,
    /// Another collection in one of these fields.
    Wrapper(&'static [&'static str]),
}

/// Classes by name without type arguments.
const KNOWN: &[(&str, Shape)] = &[
    ("System.Collections.Generic.List", Shape::List),
    ("System.Collections.ArrayList", Shape::List),
    ("System.Collections.Generic.Queue", Shape::Queue),
    ("System.Collections.Queue", Shape::Queue),
    ("System.Collections.Generic.Stack", Shape::Stack),
    ("System.Collections.Stack", Shape::Stack),
    ("System.Collections.Generic.Dictionary", Shape::Dictionary),
    ("System.Collections.Generic.HashSet", Shape::HashSet),
    ("System.Collections.Generic.LinkedList", Shape::LinkedList),
    ("System.Collections.Generic.SortedSet", Shape::SortedSet),
    ("System.Collections.Generic.SortedDictionary", Shape::SortedDictionary),
    ("System.Collections.Generic.SortedList", Shape::SortedList),
    ("System.Collections.SortedList", Shape::SortedList),
    ("System.Collections.Generic.PriorityQueue", Shape::PriorityQueue),
    ("System.Collections.Concurrent.ConcurrentDictionary", Shape::ConcurrentDictionary),
    ("System.Collections.Concurrent.ConcurrentQueue", Shape::ConcurrentQueue),
    ("System.Collections.Concurrent.ConcurrentStack", Shape::ConcurrentStack),
    ("System.Collections.Concurrent.ConcurrentBag", Shape::ConcurrentBag),
    ("System.Collections.Hashtable", Shape::Hashtable),
    ("System.Collections.Specialized.ListDictionary", Shape::ListDictionary),
    ("System.Collections.ListDictionaryInternal", Shape::ListDictionary),
    ("System.Collections.Immutable.ImmutableList", Shape::ImmutableList),
    ("System.Collections.Immutable.ImmutableDictionary", Shape::ImmutableDictionary),
    ("System.Collections.Immutable.ImmutableHashSet", Shape::ImmutableHashSet),
    ("System.Collections.Immutable.ImmutableSortedDictionary", Shape::ImmutableSortedDictionary),
    ("System.Collections.Immutable.ImmutableSortedSet", Shape::ImmutableList),
    ("System.Collections.Immutable.ImmutableQueue", Shape::ImmutableQueue),
    ("System.Collections.Immutable.ImmutableStack", Shape::ImmutableStack),
    ("System.Collections.Immutable.ImmutableArray", Shape::Wrapper(&["array"])),
    ("System.Collections.Frozen.FrozenDictionary", Shape::FrozenDictionary),
    ("System.Collections.Frozen.FrozenSet", Shape::FrozenSet),
    ("System.Collections.Generic.OrderedDictionary", Shape::Ordered),
    ("System.Collections.Specialized.OrderedDictionary", Shape::OldOrdered),
    ("System.Collections.Specialized.NameObjectCollectionBase", Shape::NameValue),
    ("System.Collections.BitArray", Shape::Bits),
    ("System.Runtime.CompilerServices.ConditionalWeakTable", Shape::WeakTable),
    ("System.Dynamic.ExpandoObject", Shape::Expando),
    ("System.Linq.Lookup", Shape::Lookup),
    ("System.ArraySegment", Shape::Segment),
    ("System.Collections.Generic.Deque", Shape::Queue),
    ("System.Collections.Concurrent.SingleProducerSingleConsumerQueue", Shape::OneToOne),
    ("System.Threading.Channels.BoundedChannel", Shape::Wrapper(&["_items"])),
    ("System.Threading.Channels.UnboundedChannel", Shape::Wrapper(&["_items"])),
    ("System.Threading.Channels.SingleConsumerUnboundedChannel", Shape::Wrapper(&["_items"])),
    ("System.Threading.Channels.UnboundedPrioritizedChannel", Shape::Wrapper(&["_items"])),
    ("System.Threading.Channels.UnboundedPriorityChannel", Shape::Wrapper(&["_items"])),
    ("System.Collections.ObjectModel.Collection", Shape::Wrapper(&["items"])),
    ("System.Collections.ObjectModel.ReadOnlyCollection", Shape::Wrapper(&["list"])),
    ("System.Collections.ObjectModel.ReadOnlyDictionary", Shape::Wrapper(&["m_dictionary", "_dictionary"])),
    ("System.Collections.Specialized.HybridDictionary", Shape::Wrapper(&["hashtable", "list"])),
    ("System.Collections.Specialized.StringCollection", Shape::Wrapper(&["data", "_data"])),
    ("System.Collections.Specialized.StringDictionary", Shape::Wrapper(&["contents", "_contents"])),
    ("System.Collections.Concurrent.BlockingCollection", Shape::Wrapper(&["_collection", "m_collection"])),
    ("System.Collections.CollectionBase", Shape::Wrapper(&["_list", "list"])),
    ("System.Collections.DictionaryBase", Shape::Wrapper(&["_hashtable", "hashtable"])),
];

/// Wrappers around wrappers followed; deeper ones say so.
const MAX_WRAPPERS: usize = 8;
/// Items between two looks at Ctrl-C.
const CHECK_EVERY: u64 = 1024;

/// The node of a sorted set: properties with fields the compiler named, plain fields before.
const ITEM: &[&str] = &["<Item>k__BackingField", "Item"];
const LEFT: &[&str] = &["<Left>k__BackingField", "Left"];
const RIGHT: &[&str] = &["<Right>k__BackingField", "Right"];

impl Shape {
    /// The shape of a collection, by its class or the one it inherits from.
    pub fn of(value: &Value<'_>) -> Option<Self> {
        if value.elements().is_some() {
            return Some(Self::Array);
        }
        // Views of a dictionary's keys and values are classes inside it.
        let own = value.type_name();
        let viewed = ["_dictionary", "_collection"].iter().any(|f| value.has(&[f]));
        match own.rsplit('>').next() {
            Some("+KeyCollection") if viewed => return Some(Self::Keys),
            Some("+ValueCollection") if viewed => return Some(Self::Values),
            _ => {}
        }
        value.classes().iter().find_map(|name| {
            let plain = name.split('<').next()?;
            // Nested classes are the collections' helpers, not collections.
            let own = !name.rsplit('>').next().unwrap_or("").contains('+');
            KNOWN.iter().find(|k| k.0 == plain && own).map(|k| k.1)
        })
    }

    /// Whether entries are pairs.
    pub fn has_pairs(self) -> bool {
        matches!(
            self,
            Self::Dictionary
                | Self::SortedDictionary
                | Self::SortedList
                | Self::PriorityQueue
                | Self::ConcurrentDictionary
                | Self::Hashtable
                | Self::ListDictionary
                | Self::ImmutableDictionary
                | Self::ImmutableSortedDictionary
                | Self::FrozenDictionary
                | Self::Ordered
                | Self::OldOrdered
                | Self::NameValue
                | Self::WeakTable
                | Self::Expando
                | Self::Lookup
                | Self::Wrapper(["m_dictionary" | "_hashtable" | "hashtable" | "contents", ..])
        )
    }

    /// Calls `visit` for each entry in the collection's own order. What is returned says why the list is not whole.
    pub fn each(self, session: &Session, value: &Value<'_>, visit: Visit<'_>) -> Result<Option<String>> {
        let mut count = 0u64;
        let mut counted = |e: Entry| {
            count += 1;
            if count.is_multiple_of(CHECK_EVERY) {
                session.watch.cancel.check()?;
            }
            visit(e)
        };
        let done = self.walk(session, value, &mut counted, 0)?;
        Ok(match done {
            Some(()) => None,
            None => {
                Some("the collection is not whole in the dump, or its fields have other names in this release".into())
            }
        })
    }

    fn walk(self, session: &Session, v: &Value<'_>, visit: Visit<'_>, depth: usize) -> Result<Option<()>> {
        match self {
            Self::Array => items(v.elements(), 0, u64::MAX, visit),
            Self::List => items(array(v, &["_items"]), 0, size(v, &["_size"]), visit),
            Self::Stack => backwards(array(v, &["_array"]), size(v, &["_size"]), visit),
            Self::Queue => {
                let head = v.int(&["_head"]).unwrap_or(0).max(0) as u64;
                ring(array(v, &["_array"]), head, size(v, &["_size"]), visit)
            }
            Self::Dictionary => {
                let used = |e: &Value<'_>| taken(e, &["next"], &["hashCode"]);
                entries(array(v, &["_entries"]), size(v, &["_count"]), used, pair(&["key"], &["value"]), visit)
            }
            Self::HashSet => {
                let used = |e: &Value<'_>| taken(e, &["Next", "next"], &["HashCode", "hashCode"]);
                let count = size(v, &["_count", "_lastIndex"]).max(size(v, &["_lastIndex"]));
                entries(array(v, &["_entries", "_slots"]), count, used, item(&["Value", "value"]), visit)
            }
            Self::PriorityQueue => {
                let each = pair(&["Item2"], &["Item1"]);
                entries(array(v, &["_nodes"]), size(v, &["_size"]), |_| true, each, visit)
            }
            Self::SortedList => {
                let (keys, values) = (array(v, &["keys"]), array(v, &["values"]));
                let (Some(keys), Some(values)) = (keys, values) else { return Ok(None) };
                for i in 0..size(v, &["_size"]).min(keys.count).min(values.count) {
                    let (Some(k), Some(x)) = (element(&keys, i), element(&values, i)) else { return Ok(None) };
                    visit(Entry::Pair(k, x))?;
                }
                Ok(Some(()))
            }
            Self::LinkedList => nodes(v.object(&["head"]), &["next"], item(&["item"]), visit),
            Self::ConcurrentStack => nodes(v.object(&["_head"]), &["_next"], item(&["_value"]), visit),
            Self::ListDictionary => nodes(v.object(&["head"]), &["next"], pair(&["key"], &["value"]), visit),
            Self::SortedSet => tree(session, v.object(&["root"]), LEFT, RIGHT, item(ITEM), visit),
            Self::ImmutableList => {
                let root = v.object(&["_root"]);
                tree(session, root, &["_left"], &["_right"], item(&["_key"]), visit)
            }
            Self::SortedDictionary => {
                let root = v.object(&["_set"]).and_then(|s| s.object(&["root"]));
                let each = |n: &Value<'_>| pair(&["key"], &["value"])(&n.inner(ITEM)?);
                tree(session, root, LEFT, RIGHT, each, visit)
            }
            Self::Hashtable => {
                let used = |e: &Value<'_>| {
                    // A removed entry has the array of buckets as its key.
                    let key = e.pointer(&["key"]).unwrap_or(0);
                    key != 0 && Some(key) != v.pointer(&["_buckets", "buckets"])
                };
                entries(array(v, &["_buckets", "buckets"]), u64::MAX, used, pair(&["key"], &["val"]), visit)
            }
            Self::ConcurrentDictionary => concurrent_dictionary(v, visit),
            Self::ConcurrentQueue => concurrent_queue(v, visit),
            Self::ImmutableDictionary => unchanging::buckets(session, v, true, visit),
            Self::ImmutableHashSet => unchanging::buckets(session, v, false, visit),
            Self::ImmutableSortedDictionary => unchanging::sorted_dictionary(session, v, visit),
            Self::ImmutableQueue => unchanging::queue(v, visit),
            Self::ImmutableStack => unchanging::stack(Some(*v), visit),
            Self::FrozenDictionary => unchanging::frozen_dictionary(v, visit),
            Self::FrozenSet => unchanging::frozen_set(v, visit),
            Self::Ordered => {
                entries(array(v, &["_entries"]), size(v, &["_count"]), |_| true, pair(&["Key"], &["Value"]), visit)
            }
            Self::OldOrdered => special::old_ordered(v, visit),
            Self::NameValue => special::name_value(v, visit),
            Self::Bits => special::bits(v, visit),
            Self::WeakTable => special::weak_table(session, v, visit),
            Self::Expando => special::expando(v, visit),
            Self::Lookup => special::lookup(v, visit),
            Self::OneToOne => special::one_to_one(v, visit),
            Self::Segment => {
                let start = size(v, &["_offset"]);
                items(array(v, &["_array"]), start, start.saturating_add(size(v, &["_count"])), visit)
            }
            Self::Keys | Self::Values => {
                let Some(inner) = v.object(&["_dictionary", "_collection"]) else { return Ok(None) };
                let Some(shape) = Self::of(&inner).filter(|_| depth < MAX_WRAPPERS) else { return Ok(None) };
                let mut half = |e: Entry| match e {
                    Entry::Pair(k, x) => visit(Entry::Item(if self == Self::Keys { k } else { x })),
                    item => visit(item),
                };
                shape.walk(session, &inner, &mut half, depth + 1)
            }
            Self::ConcurrentBag => bag(v, visit),
            Self::Wrapper(names) => {
                let Some(inner) = names.iter().find_map(|n| v.object(&[n])) else { return Ok(None) };
                match Self::of(&inner).filter(|_| depth < MAX_WRAPPERS) {
                    Some(shape) => shape.walk(session, &inner, visit, depth + 1),
                    None => Ok(None),
                }
            }
        }
    }
}

fn concurrent_dictionary(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(buckets) = v.object(&["_tables", "m_tables"]).and_then(|t| array(&t, &["_buckets", "m_buckets"])) else {
        return Ok(None);
    };
    let each = pair(&["_key", "m_key"], &["_value", "m_value"]);
    for i in 0..buckets.count {
        // Since 8.0 a bucket is a struct around the node.
        let first = match buckets.are_references() {
            true => buckets.object(i),
            false => buckets.inner(i).and_then(|b| b.object(&["_node"])),
        };
        if nodes(first, &["_next", "m_next"], &each, visit)?.is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

fn concurrent_queue(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let Some(mut segment) = v.object(&["_head", "m_head"]) else { return Ok(None) };
    let mut seen = FxHashSet::default();
    while seen.insert(segment.address()) {
        let (Some(slots), Some(ends)) = (array(&segment, &["_slots"]), segment.inner(&["_headAndTail"])) else {
            return Ok(None);
        };
        let number = |names: &[&str]| ends.int(names).unwrap_or(0) as u32;
        let (head, mut tail) = (number(&["Head"]), number(&["Tail"]));
        let length = slots.count as u32;
        if !length.is_power_of_two() {
            return Ok(None);
        }
        if segment.int(&["_frozenForEnqueues"]) == Some(1) {
            // Closing a segment moves its tail by twice its length.
            tail = tail.wrapping_sub(length.wrapping_mul(2));
        }
        for i in 0..tail.wrapping_sub(head).min(length) {
            let number = head.wrapping_add(i);
            let Some(slot) = slots.inner(u64::from(number & (length - 1))) else { return Ok(None) };
            // An item that is just being written or was just taken has another number.
            let there = slot.int(&["SequenceNumber"]).is_none_or(|n| n as u32 == number.wrapping_add(1));
            if let Some(p) = place(&slot, &["Item"]).filter(|_| there) {
                visit(Entry::Item(p))?;
            }
        }
        match segment.object(&["_nextSegment"]) {
            Some(next) => segment = next,
            None => break,
        }
    }
    Ok(Some(()))
}

fn bag(v: &Value<'_>, visit: Visit<'_>) -> Result<Option<()>> {
    let mut seen = FxHashSet::default();
    let mut at = v.object(&["_workStealingQueues"]);
    while let Some(q) = at.filter(|q| seen.insert(q.address())) {
        let (head, tail) = (q.int(&["_headIndex"]).unwrap_or(0), q.int(&["_tailIndex"]).unwrap_or(0));
        let count = tail.wrapping_sub(head).clamp(0, MAX_ITEMS as i64) as u64;
        let start = (head as u32 & q.int(&["_mask"]).unwrap_or(0) as u32).into();
        if ring(array(&q, &["_array"]), start, count, visit)?.is_none() {
            return Ok(None);
        }
        at = q.object(&["_nextQueue"]);
    }
    Ok(Some(()))
}
