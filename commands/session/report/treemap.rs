//! The dominator tree cut down to as many rectangles as a page can show: the biggest are opened first, and each byte that is
//! alive lies in one of them.

use std::collections::BinaryHeap;
use std::sync::Arc;

use anyhow::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::Value as Json;

use super::chart::{self, Kind, Row};
use crate::commands::graph::dominators::statics_arrays;
use crate::commands::heap::gcroot::static_between;
use crate::heap::retained::Retained;
use crate::session::Session;

/// Rectangles of a page, those that hold others among them.
const MOST_RECTANGLES: usize = 2_000;
/// Rectangles directly in one: what is smaller is added up.
const MOST_INSIDE: usize = 100;
/// One object is shown by itself when it keeps more than one part of so many of the live bytes, or is the only one of its type.
const ALONE: u64 = 500;
/// What is less than one part of so many of the live bytes is not opened: nobody could see what is in it.
const SMALLEST: u64 = 4_000;
/// Objects between two looks at the cancellation flag.
const CHECK: usize = 1 << 14;

/// A rectangle: objects of one type that hang below the same rectangle.
struct Area {
    parent: usize,
    kind: Kind,
    /// Positions of its topmost objects, until it is opened.
    tops: Vec<u32>,
    /// The first of them.
    first: u32,
    ty: u32,
    /// Objects at the top, and all that go with them.
    count: u64,
    objects: u64,
    bytes: u64,
}

impl Area {
    /// Nothing, in another.
    fn of(parent: usize) -> Self {
        let (tops, first, ty) = (Vec::new(), 0, u32::MAX);
        Self { parent, kind: Kind::Others, tops, first, ty, count: 0, objects: 0, bytes: 0 }
    }
}

struct Cut<'a> {
    session: &'a Session,
    retained: &'a Retained,
    types: &'a [u32],
    /// The arrays in which the runtime keeps static fields: what the fields hold stands at the top.
    statics: FxHashSet<u32>,
    live: u64,
    areas: Vec<Area>,
}

/// The chart, made once.
pub fn chart(session: &Session) -> Result<Arc<Json>> {
    session.once("treemap", || build(session))
}

/// The chart: a row for each rectangle, behind the one it lies in.
fn build(session: &Session) -> Result<Json> {
    let retained = session.dominators()?;
    let types = session.live_types()?;
    let statics = statics_arrays(session, retained)?;
    let live = retained.bytes(0);
    let mut cut = Cut { session, retained, types, statics, live, areas: Vec::new() };
    cut.run()?;
    let rows: Vec<Row> = (0..cut.areas.len()).filter_map(|i| cut.row(i)).collect();
    Ok(chart::json("treemap", live, &rows))
}

impl Cut<'_> {
    fn run(&mut self) -> Result<()> {
        let all = self.retained.tree.reached().into();
        let heap = Area { kind: Kind::Heap, tops: vec![0], count: all, objects: all, bytes: self.live, ..Area::of(0) };
        self.areas.push(heap);
        let mut wanted = BinaryHeap::from([(self.live, 0)]);
        while let Some((bytes, at)) = wanted.pop() {
            let room = MOST_RECTANGLES.saturating_sub(self.areas.len());
            // Its own bytes, and what is added up.
            if room < 3 || bytes < self.live / SMALLEST {
                break;
            }
            let first = self.areas.len();
            self.open(at, room)?;
            let inside = self.areas.iter().enumerate().skip(first);
            wanted.extend(inside.filter(|(_, a)| !a.tops.is_empty()).map(|(i, a)| (a.bytes, i)));
        }
        Ok(())
    }

    /// Puts what lies in an area into areas of its own, `room` at most. A list goes on: what hangs below an object of its own
    /// type counts as beside it.
    fn open(&mut self, at: usize, room: usize) -> Result<()> {
        let Some(area) = self.areas.get_mut(at) else { return Ok(()) };
        let (ty, mut tops) = (area.ty, std::mem::take(&mut area.tops));
        let (mut own, mut seen, mut like) = (0u64, 0usize, 0u64);
        let mut groups: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
        while let Some(p) = tops.pop() {
            (own, like) = (own + self.retained.weights.own(p), like + 1);
            for child in self.retained.tree.children(p) {
                seen += 1;
                if seen.is_multiple_of(CHECK) {
                    self.session.watch.cancel.check()?;
                }
                let of = self.types.get(child as usize).copied().unwrap_or(u32::MAX);
                let joins = if at == 0 { self.statics.contains(&child) } else { of == ty };
                if joins { tops.push(child) } else { groups.entry(of).or_default().push(child) }
            }
        }
        if let Some(area) = self.areas.get_mut(at).filter(|_| at > 0) {
            area.count = like;
        }
        if groups.is_empty() {
            return Ok(());
        }
        let mut inside = Vec::new();
        for (ty, group) in groups {
            self.split(at, ty, group, &mut inside);
        }
        // Numbers of types differ from run to run, places in the tree do not.
        inside.sort_by_key(|a| (std::cmp::Reverse(a.bytes), a.first, a.ty));
        let rest = inside.split_off(inside.len().min(MOST_INSIDE).min(room.saturating_sub(2)));
        self.areas.append(&mut inside);
        if own > 0 {
            self.areas.push(Area { kind: Kind::Own, bytes: own, ..Area::of(at) });
        }
        let mut others = Area { kind: Kind::Others, ..Area::of(at) };
        for a in rest {
            others.count += a.count;
            others.objects += a.objects;
            others.bytes = others.bytes.saturating_add(a.bytes);
        }
        if others.count > 0 {
            self.areas.push(others);
        }
        Ok(())
    }

    /// Objects of one type: the big ones alone, the others together.
    fn split(&self, parent: usize, ty: u32, mut group: Vec<u32>, inside: &mut Vec<Area>) {
        let big = |p: &u32| self.retained.bytes(*p) > self.live / ALONE;
        let only = group.len() == 1;
        let alone: Vec<u32> = group.iter().copied().filter(|p| only || big(p)).collect();
        group.retain(|p| !only && !big(p));
        let area = |kind, tops: Vec<u32>| {
            let sum = |of: &dyn Fn(u32) -> u64| tops.iter().fold(0u64, |all, &p| all.saturating_add(of(p)));
            let (bytes, objects) = (sum(&|p| self.retained.bytes(p)), sum(&|p| self.retained.objects(p)));
            let (first, count) = (tops.first().copied().unwrap_or(0), tops.len() as u64);
            Area { parent, kind, ty, count, objects, bytes, first, tops }
        };
        inside.extend(alone.into_iter().map(|p| area(Kind::Object, vec![p])));
        if !group.is_empty() {
            inside.push(area(Kind::Group, group));
        }
    }

    fn row(&self, at: usize) -> Option<Row> {
        let area = self.areas.get(at)?;
        let (clr, ids) = (self.session.clr().ok()?, &self.session.index().ok()?.ids);
        let address = |p: u32| self.retained.tree.node(p).and_then(|id| ids.address_of(id));
        let mut row = Row { parent: (at > 0).then_some(area.parent), kind: area.kind, ..Row::default() };
        (row.count, row.objects, row.bytes) = (area.count, area.objects, area.bytes);
        let Some(first) = address(area.first).filter(|_| area.first != 0) else { return Some(row) };
        row.address = first;
        let info = self.session.types().by_id(area.ty);
        row.ty = match area.kind {
            Kind::Object => self.session.object_name(first).to_string(),
            _ => info.map_or_else(String::new, |t| clr.type_name(t.mt.address).to_string()),
        };
        let above = self.retained.tree.parent(area.first).filter(|p| self.statics.contains(p)).and_then(address);
        row.name = above.and_then(|a| static_between(self.session, clr, a, first)).unwrap_or_default();
        Some(row)
    }
}
