//! `objects` with what each keeps alive and what keeps it.

use anyhow::{Result, bail};

use super::column::Field;
use super::heap::each_object;
use super::writer::Table;
use crate::graph::DominatorTree;
use crate::heap::index::ObjectIndex;
use crate::heap::retained::Retained;
use crate::session::Session;
use crate::session::held::Owners;

/// What is known of live objects: 12 bytes an object besides the dominator tree and its edges.
struct Holders<'a> {
    index: &'a ObjectIndex,
    retained: &'a Retained,
    /// By position in the tree.
    depths: Vec<u32>,
    owners: Owners,
}

impl<'a> Holders<'a> {
    fn of(session: &'a Session) -> Result<Self> {
        if session.heap()?.in_gc {
            bail!("what keeps objects is not known: the dump was taken inside a garbage collection");
        }
        let owners = session.owners()?;
        let retained = session.dominators()?;
        Ok(Self { index: session.index()?, retained, depths: depths(&retained.tree), owners })
    }

    /// Bytes that would be freed with it, the address of what dominates it, how many do, the root that holds it.
    fn fields(&self, address: u64) -> [Field<'_>; 4] {
        let (ids, tree) = (&self.index.ids, &self.retained.tree);
        let Some(id) = ids.id_of(address) else { return [Field::None; 4] };
        let owner = Field::maybe(self.owners.of(id), Field::Text);
        let Some(position) = tree.position(id) else { return [Field::None, Field::None, Field::None, owner] };
        let above = tree.parent(position).and_then(|p| ids.address_of(tree.node(p)?));
        [
            Field::Num(self.retained.bytes(position)),
            Field::maybe(above, Field::Hex),
            Field::maybe(self.depths.get(position as usize), |d| Field::Num((*d).into())),
            owner,
        ]
    }
}

/// How many objects dominate the one at each position, itself included. A position comes behind that of its dominator.
fn depths(tree: &DominatorTree) -> Vec<u32> {
    let mut depths = vec![0u32; tree.reached() as usize + 1];
    for position in 1..=tree.reached() {
        let above = tree.parent(position).and_then(|p| depths.get(p as usize)).copied().unwrap_or(0);
        if let Some(depth) = depths.get_mut(position as usize) {
            *depth = above.saturating_add(1);
        }
    }
    depths
}

/// `objects`, with four columns more; they are empty for dead ones and where nothing can be known, which is said.
pub fn objects(session: &Session, table: &mut Table) -> Result<Option<String>> {
    let holders = match Holders::of(session) {
        Err(why) if why.is::<crate::watch::Interrupted>() => return Err(why),
        other => other,
    };
    let partial = each_object(session, "writing objects", |o, generation| {
        let [retained, dominator, depth, owner] = holders.as_ref().map_or([Field::None; 4], |h| h.fields(o.address));
        let address = Field::Hex(o.address);
        let (ty, size, generation) = (Field::Hex(o.ty.mt.address), Field::Num(o.size), Field::Text(generation.name()));
        table.row(&[address, ty, size, generation, retained, dominator, depth, owner])
    })?;
    Ok(partial.or(holders.err().map(|why| format!("{why:#}"))))
}
