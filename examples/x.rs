fn main() {
    use clrscope::*;
    let p = std::env::args().nth(1).unwrap();
    let t0 = std::time::Instant::now();
    let d = dump::Dump::open(p.as_ref(), &Default::default(), &Default::default()).unwrap();
    eprintln!(
        "open {:?} modules {} threads {} pieces {}",
        t0.elapsed(),
        d.modules.len(),
        d.threads.len(),
        d.space.pieces().len()
    );
    let s = session::Session::new(d, Default::default());
    let t0 = std::time::Instant::now();
    let clr = s.clr().unwrap();
    eprintln!("clr {:?} {:?}", t0.elapsed(), clr.found.table);
    let t0 = std::time::Instant::now();
    let h = s.heap().unwrap();
    eprintln!("heap {:?} {:?}", t0.elapsed(), h.problems);
    for g in &h.segments {
        eprintln!("  {:?} {:x} {:x}-{:x}", g.kind, g.record, g.start, g.end);
    }
    let t0 = std::time::Instant::now();
    let st = s.stat().unwrap();
    eprintln!("stat {:?} {:?} total {:?}", t0.elapsed(), st.report.sentence(), st.types.total());
    let mut rows: Vec<_> = st.types.iter().collect();
    rows.sort_by_key(|r| r.1.bytes);
    for (id, t) in rows.iter().rev().take(std::env::args().nth(2).and_then(|x| x.parse().ok()).unwrap_or(10)) {
        let ty = s.types().by_id(*id).unwrap();
        println!("{:x} {} {} {}", ty.mt.address, t.count, t.bytes, clr.type_name(ty.mt.address));
    }
}
