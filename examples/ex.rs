fn main() {
    use clrscope::*;
    let mut a: Vec<String> = std::env::args().skip(1).collect();
    let mut o = dump::OpenOptions::default();
    while a[0] == "-i" {
        o.image_paths.push(a[1].clone().into());
        a.drain(..2);
    }
    let d = dump::Dump::open(a[0].as_ref(), &o, &Default::default()).unwrap();
    let s = session::Session::new(d, Default::default());
    let line = a[2].clone();
    let mut out = shell::Out::new(Box::new(std::io::stdout()), Default::default());
    let mut set = Default::default();
    let mut ctx =
        shell::Ctx { session: Some(&s), out: &mut out, settings: &mut set, commands: commands::ALL, request: None };
    let mut args = shell::Args::default();
    args.push("DIR", shell::args::Value::Text(line.split(' ').nth(1).unwrap().into()));
    println!("{:?}", (commands::export::EXPORT.run)(&mut ctx, &args).unwrap());
}
