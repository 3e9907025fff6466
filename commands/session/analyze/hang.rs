//! Hangs: the verdicts of `!waits`.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;

use super::{Analysis, Area, Finding, Sure};
use crate::commands::graph::leaks::evidence::Evidence;
use crate::commands::threads::waits::show::View;
use crate::commands::threads::waits::verdicts::{Step, Trouble, Verdict, judge};
use crate::session::Session;
use crate::session::waits::Waits;

/// Adds what hangs.
pub fn find(session: &Session, all: &mut Analysis) -> Result<()> {
    let (waits, judged) = (session.all_waits()?, judge(session)?);
    let view = View::new(session, waits, &judged)?;
    for verdict in &judged.verdicts {
        let (weight, sure) = weigh(verdict);
        let mut f =
            Finding::new(Area::Hang, weight, sure, view.sentence(verdict)).signed(signature(session, waits, verdict));
        f.address = verdict.object;
        f.count = Some(verdict.threads as u64);
        let texts = verdict.steps.iter().filter_map(|s| view.step_text(s));
        f.evidence = texts.map(|text| Evidence { text, items: Vec::new() }).collect();
        f.next.push("!waits".into());
        if verdict.trouble == Trouble::Starvation {
            f.next.push("!threadpoolqueue".into());
        }
        if verdict.trouble == Trouble::Finalizer {
            f.next.push("!finalizequeue".into());
        }
        all.findings.push(f);
    }
    all.missing.extend(judged.partial.map(|why| format!("some waits: {why}")));
    Ok(())
}

/// The kind of trouble, and the types of what is waited for.
fn signature(session: &Session, waits: &Waits, v: &Verdict) -> String {
    let of = |s: &Step| waits.waiting.get(s.wait).map(|w| w.objects.iter().map(|&o| session.object_name(o)));
    let types: BTreeSet<Arc<str>> = v.steps.iter().filter_map(of).flatten().collect();
    let mut signature = v.trouble.name().to_owned();
    for (i, name) in types.iter().enumerate() {
        signature += if i == 0 { " over " } else { ", " };
        signature += name;
    }
    signature
}

fn weigh(v: &Verdict) -> (u8, Sure) {
    match v.trouble {
        Trouble::Deadlock => (90, Sure::Certain),
        Trouble::Context => (88, Sure::Likely),
        Trouble::Starvation => (80, Sure::Likely),
        Trouble::Finalizer if v.pending > 0 => (56, Sure::Likely),
        Trouble::Finalizer => (40, Sure::Likely),
        Trouble::Convoy => (70, Sure::Likely),
    }
}
