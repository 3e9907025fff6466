//! Objects in the order of their addresses, read ahead by several workers: what prints each of them waits for no walk, and
//! what makes text of them does it on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, channel, sync_channel};

use super::{Object, Segment, WalkReport, Walker};
use crate::watch::Interrupted;

/// Objects between two questions whether a block is full.
const BLOCK: usize = 4096;
/// Blocks of one segment that wait to be taken: with their rows and text some hundred kilobytes each.
const WAITING: usize = 16;
/// Segments for each worker that are walked before the first of them is taken whole: regions are small, and all their blocks
/// would wait where each segment has room for its own.
pub const AHEAD: usize = 4;

/// What is made of objects on the way: `S` is a worker's own, `B` a block of what was found, handed on in order.
pub trait Make: Sync {
    /// A worker's own.
    type State: Send;
    /// What is handed on.
    type Block: Send;

    /// A worker begins.
    fn begin(&self) -> Self::State;

    /// Looks at an object.
    fn visit(&self, state: &mut Self::State, segment: &Segment, object: Object<'_>);

    /// Takes what was found out of the state: all of it when `last`, else if it is enough for a block.
    fn take(&self, state: &mut Self::State, last: bool) -> Option<Self::Block>;
}

/// Where blocks of a segment go, until a worker takes the segment.
type Way<B> = Mutex<Option<SyncSender<B>>>;

/// How the walk of each segment went, until it is known.
type Ended = Mutex<Option<Result<WalkReport, Interrupted>>>;

impl Walker<'_> {
    /// Walks the objects of `segments` whose address lies in `range`; `each` gets the blocks in the order of the segments and
    /// of the objects in them. Workers are at most [`AHEAD`] segments ahead, each with [`WAITING`] blocks. Gives the states
    /// of the workers and how the walk went; an error of `each` ends it.
    pub fn ordered<M: Make>(
        &self,
        segments: &[Segment],
        range: (u64, u64),
        make: &M,
        mut each: impl FnMut(M::Block) -> std::io::Result<()>,
    ) -> anyhow::Result<(Vec<M::State>, WalkReport)> {
        let (ways, takers): (Vec<Way<M::Block>>, Vec<_>) = segments
            .iter()
            .map(|_| {
                let (way, taker) = sync_channel(WAITING);
                (Mutex::new(Some(way)), taker)
            })
            .unzip();
        let ended: Vec<Ended> = segments.iter().map(|_| Mutex::new(None)).collect();
        let (give, next) = channel::<usize>();
        let (next, stop) = (Mutex::new(next), AtomicBool::new(false));
        let work = || {
            let mut state = make.begin();
            loop {
                let Ok(i) = lock(&next).recv() else { return state };
                let Some(((segment, way), end)) = segments.get(i).zip(ways.get(i)).zip(ended.get(i)) else { continue };
                // Taken in any case: who waits for the segment's blocks learns that none come.
                let Some(way) = lock(way).take() else { continue };
                if stop.load(Ordering::Relaxed) {
                    continue;
                }
                let report = self.one(segment, range, make, &mut state, &way);
                if report.is_err() {
                    stop.store(true, Ordering::Relaxed);
                }
                *lock(end) = Some(report);
            }
        };
        let mut failed = None;
        let states = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..rayon::current_num_threads()).map(|_| scope.spawn(work)).collect();
            let ahead = AHEAD * workers.len();
            // The receiver outlives the workers: nothing sent is lost.
            for i in 0..ahead {
                let _ = give.send(i);
            }
            'all: for (i, taker) in takers.into_iter().enumerate() {
                for block in taker {
                    if let Err(e) = each(block) {
                        failed = Some(e);
                        stop.store(true, Ordering::Relaxed);
                        break 'all;
                    }
                }
                let _ = give.send(i + ahead);
            }
            drop(give);
            let join = |w: std::thread::ScopedJoinHandle<'_, M::State>| match w.join() {
                Ok(state) => state,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            workers.into_iter().map(join).collect()
        });
        if let Some(e) = failed {
            return Err(e.into());
        }
        let mut report = WalkReport { shape: self.heap.problems.first().cloned(), ..WalkReport::default() };
        for end in ended {
            if let Some(of_segment) = end.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
                report.merge(of_segment?);
            }
        }
        Ok((states, report))
    }

    fn one<M: Make>(
        &self,
        segment: &Segment,
        range: (u64, u64),
        make: &M,
        state: &mut M::State,
        way: &SyncSender<M::Block>,
    ) -> Result<WalkReport, Interrupted> {
        let (mut seen, mut goes_on) = (0usize, true);
        let report = self.segment(segment, (range.0.max(segment.start), range.1.min(segment.end)), &mut |o| {
            make.visit(state, segment, o);
            seen += 1;
            if seen.is_multiple_of(BLOCK)
                && let Some(block) = make.take(state, false)
            {
                goes_on = way.send(block).is_ok();
            }
            goes_on
        })?;
        if goes_on && let Some(block) = make.take(state, true) {
            // Nobody takes it any more: the walk was ended.
            let _ = way.send(block);
        }
        Ok(report)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
