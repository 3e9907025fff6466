//! Scripts and lines as people type them in the native debuggers: what goes on after a failure, aliases, arguments of
//! scripts, expressions, forms of commands. What is expected was computed from the dumps' truth tables and bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "support/captured.rs"]
mod captured;

use std::path::Path;
use std::sync::{Arc, Mutex};

use captured::{Captured, open};
use clrscope::shell::opaque::hide;
use clrscope::shell::script::run_file;
use clrscope::shell::state::{Ended, Shell};
use proptest::prelude::*;

const WINDOWS: &str = "win-x64-10.0-wks-full.dmp.zst";
const NARROW: &str = "win-x86-3.1-small.dmp.zst";

struct Typed {
    shell: Shell,
    out: Captured,
    errors: Arc<Mutex<Vec<String>>>,
}

impl Typed {
    fn on(dump: &str) -> Self {
        let (mut shell, out) = open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump));
        let errors = Arc::<Mutex<Vec<String>>>::default();
        shell.state.errors = Some(errors.clone());
        Self { shell, out, errors }
    }

    fn said(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.out.0.lock().unwrap())).unwrap()
    }

    fn line(&mut self, line: &str) -> (Ended, String) {
        self.errors.lock().unwrap().clear();
        let ended = self.shell.line(line);
        (ended, self.said())
    }

    /// What a line prints when all of it runs.
    fn well(&mut self, line: &str) -> String {
        let (ended, out) = self.line(line);
        assert_eq!(ended, Ended::Well, "{line}: {:?}", self.errors.lock().unwrap());
        out
    }

    fn script(&mut self, text: &str) -> (Ended, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let ended = run_file(&mut self.shell, file.path().to_str().unwrap(), &[]);
        (ended, self.said())
    }

    fn error(&self) -> String {
        self.errors.lock().unwrap().join("\n")
    }
}

/// Each line of `wanted` is one of `said`.
fn has(said: &str, wanted: &[&str]) {
    for line in wanted {
        assert!(said.lines().any(|l| l.trim_end() == *line), "no line `{line}` in:\n{said}");
    }
}

#[test]
fn what_fails_ends_nothing_else() {
    let mut t = Typed::on(WINDOWS);
    let (ended, said) = t.script(
        ".foreach (o {.echo 10 6821da48 20}) { !do o; .echo after o }\n.echo script goes on\n!nosuchextension\n.echo still here\n",
    );
    assert_eq!(ended, Ended::Failed);
    has(&said, &["after 10", "after 6821da48", "after 20", "script goes on", "still here"]);
    // A line, a block, a loop.
    for line in
        ["!do 10; .echo on", ".block { !nosuch; .echo on }", ".for (r $t0=0; @$t0<1; r $t0=@$t0+1) {!do 10; .echo on}"]
    {
        let (ended, said) = t.line(line);
        assert_eq!((ended, said.as_str()), (Ended::Failed, "on\n"), "{line}");
    }
    // What a source printed before and behind a failure is gone through.
    let (ended, said) = t.line(".foreach (v {.echo a; !do 10; .echo b}) {.echo got v}");
    assert_eq!((ended, said.as_str()), (Ended::Failed, "got a\ngot b\n"));
}

#[test]
fn an_expression_without_a_value_ends_its_line_or_block() {
    let mut t = Typed::on(WINDOWS);
    for line in [
        "r $t0 = poi(10); .echo no",
        ".if (poi(10)) {.echo no}; .echo no",
        "? 1 +; .echo no",
        ".printf \"%d\", poi(10); .echo no",
    ] {
        let (ended, said) = t.line(line);
        assert_eq!((ended, said.as_str()), (Ended::Failed, ""), "{line}");
    }
    let (ended, said) = t.line(".block { ? poi(10); .echo no }; .echo yes");
    assert_eq!((ended, said.as_str()), (Ended::Failed, "yes\n"));
    let (ended, said) = t.line(".foreach (v {.echo 10 20}) { r $t0 = poi(v); .echo no }; .echo yes");
    assert_eq!((ended, said.as_str()), (Ended::Failed, "yes\n"));
    // A loop whose step cannot run any more would run for ever.
    let (ended, said) = t.line("r $t1 = 0; .while (1) { r $t1 = poi(@$t1 + 10) }; .echo yes");
    assert_eq!((ended, said.as_str()), (Ended::Failed, "yes\n"));
    // An extension fails as any other command.
    let (ended, said) = t.line("!do poi(10); .echo yes");
    assert_eq!((ended, said.as_str()), (Ended::Failed, "yes\n"));
    assert_eq!(t.well(".catch { ? poi(10); .echo no }; .echo yes"), "yes\n");
}

#[test]
fn strict_stops_at_the_first_failure() {
    let mut t = Typed::on(WINDOWS);
    t.shell.settings.strict = true;
    let (ended, said) = t.script(".echo one\n.foreach (o {.echo 10 20}) { !do o; .echo no }\n.echo no\n");
    assert_eq!((ended, said.as_str()), (Ended::Halt, "one\n"));
    assert_eq!(t.well(".catch { !do 10; .echo no }; .echo yes"), "yes\n");
}

#[test]
fn switches_of_the_debuggers_are_taken() {
    let mut t = Typed::on(WINDOWS);
    let (ended, said) = t.script(
        ".symfix\n.sympath+ c:\\symbols\n.symopt+0x40\n.symopt-40\n.expr /s masm\n.enable_unicode 1\n.lines -e\n.asm no_code_bytes\n\
         .prefer_dml 0\n.loadby sos coreclr\n.load sosex\n.extmatch *\nsxe clr\n.srcfix\n.outmask /l 0\n.unloadall\n\
         r $t0 = 0\n.foreach (o {!sos.dumpheap -mt 6821da48 -short}) { r $t0 = @$t0 + 1 }\n.printf \"ready %d\\n\", @$t0\n",
    );
    assert_eq!(ended, Ended::Well, "{}", t.error());
    has(&said, &["ready 2001"]);
}

#[test]
fn arguments_of_scripts() {
    let mut t = Typed::on(WINDOWS);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        ".echo [${$arg1}]\n.if (${/d:$arg2}) { .echo label ${$arg2} } .else { .echo none ${$arg2} }\n",
    )
    .unwrap();
    let path = file.path().display();
    assert_eq!(t.well(&format!("$$>a<{path} one")), "[one]\nnone ${$arg2}\n");
    assert_eq!(t.well(&format!("$$>a< {path} 1 \"two words, one\"; .echo next")), "[1]\nlabel two words, one\nnext\n");
    assert_eq!(t.well(&format!("$$><{path}; .echo next")), "[${$arg1}]\nnone ${$arg2}\nnext\n");
}

#[test]
fn aliases() {
    let mut t = Typed::on(WINDOWS);
    // A loop makes one anew each time: blocks are read when they run.
    let said = t.well(".foreach (value {.echo 10 20}) { as /x ${/v:my} value + 1 ; .block {.echo value my} }");
    assert_eq!(said, "10 0x11\n20 0x21\n");
    let said = t.well(".foreach (value {.echo 10 20})\n{\n   as /x ${/v:my} value + 1\n   .block{.echo value my}\n}\n");
    assert_eq!(said, "10 0x11\n20 0x21\n");
    t.well("ad *; as who Zoo");
    assert_eq!(
        t.well(".echo ${/v:who} ${/n:who} ${/f:who} ${/d:who} ${/d:none} [${/f:none}] ${/n:none} ${none} x${who}y"),
        "${/v:who} who Zoo 1 0 [] ${/n:none} ${none} xZooy\n"
    );
    assert_eq!(t.well(".if ($scmp(\"who\", \"Zoo\") == 0) { .echo \"who\" WHO }"), "\"Zoo\" WHO\n");
    t.well("ad *; r $t0 = 5");
    t.well(".foreach /pS 2 /ps 2 (Token {?@$t0}) {as literal Token}");
    t.well(".foreach /pS 2 /ps 2 (Token {?@$t0}) {;as semicolon Token}");
    t.well(".foreach /pS 2 /ps 2 (Token {?@$t0}) { as blank Token}");
    let said = t.well("al");
    let rows: Vec<Vec<&str>> = said.lines().skip(1).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(rows, [["literal", "Token"], ["semicolon", "5"], ["blank", "5"]]);
    t.well("ad *");
    // What a text may hold, and where it ends.
    t.well("aS text \"semicolon;kept\"; as /x sum 1 + 2; .echo x");
    assert_eq!(t.well(".printf \"${text} ${sum}\\n\""), "semicolon;kept 0x3\n");
    t.well("r $.u7=? 1; .echo both");
    assert_eq!(t.well("$u7").lines().count(), 2);
    t.well("r $.u2=2\n r $.u4=7b");
    t.well("r $.u1=1+$u2");
    t.well("r $.u2=6");
    assert_eq!(t.well(".printf \"%d %x\\n\", $u1, $u46"), "3 7b6\n");
}

#[test]
fn expressions() {
    let mut t = Typed::on(WINDOWS);
    let said = t.well(".printf \"%d %d %d\\n\", $vvalid(@rsp, 10), $vvalid(10, 8), $vvalid(@rsp, ffffffffffff)");
    assert_eq!(said, "1 0 0\n");
    // The entry points as the images' headers have them.
    assert_eq!(t.well(".printf \"%x %x\\n\", $iment(coreclr), @$exentry"), "1786390 140011ad0\n");
    assert_eq!(t.well(".printf \"%d\\n\", (. == @$ip)"), "1\n");
    t.well("? 8f");
    assert_eq!(t.well(".printf \"%x\\n\", @$exp"), "8f\n");
    let word = t.well("dq coreclr L1").split_whitespace().last().unwrap().replace('`', "");
    assert_eq!(t.well(".printf \"%p\\n\", @$p"), format!("{word}\n"));
    assert_eq!(t.well(".printf \"%x\\n\", wo coreclr + 1"), "5a4e\n");
    t.well("n 10");
    assert_eq!(t.well(".printf \"%d %d %d\\n\", 10, 0x10, 10h"), "10 16 16\n");
    t.well("n 8");
    assert_eq!(t.well(".printf \"%d\\n\", 10"), "8\n");
    t.well("n 16");
    for (name, why) in
        [("@$exr_code", "no exception"), ("@$bug_code", "kernel"), ("@$ra", "k shows"), ("@$callret", "dump")]
    {
        assert_eq!(t.line(&format!("? {name}")).0, Ended::Failed);
        assert!(t.error().contains(why), "{name}: {}", t.error());
    }
}

#[test]
fn cplus_expressions() {
    let mut t = Typed::on(WINDOWS);
    t.well("r $t1 = coreclr");
    assert_eq!(t.well("?? *(unsigned short *)@$t1"), "unsigned short 0x5a4d\n");
    assert_eq!(t.well("?? ((char *)@$t1)[1]"), "char 0n90 'Z'\n");
    assert_eq!(
        t.well("? @@c++(*(unsigned short *)@$t1 + 010) + 10").as_str(),
        "Evaluate expression: 23141 = 00000000`00005a65\n"
    );
    t.well(".expr /s c++");
    assert_eq!(t.well(".printf \"%d %d\\n\", 10 + 010, @@masm(10)"), "18 16\n");
    t.well(".expr /s masm");
}

#[test]
fn narrow_dumps() {
    let mut t = Typed::on(NARROW);
    assert_eq!(t.well("? -1"), "Evaluate expression: -1 = ffffffff\n");
    assert_eq!(t.well(".printf \"%x %p %d\\n\", -1, -1, -1"), "ffffffff ffffffff -1\n");
    assert_eq!(t.well("? 100000000"), "Evaluate expression: 4294967296 = 00000001`00000000\n");
}

#[test]
fn printed_fields() {
    let mut t = Typed::on(WINDOWS);
    let line = ".printf \"[%#x][%+d][%5d][%-5d][%05d][%c][%%]\\n\", 1f, 5, 7, 7, 7, 41";
    assert_eq!(t.well(line), "[0x1f][+5][    7][7    ][00007][A][%]\n");
    let line = ".printf /D /ow \"see <link cmd=\\\"!dumpheap -stat\\\">details</link> end\\n\"";
    assert_eq!(t.well(line), "see details end\n");
    assert_eq!(t.well(".printf \"%f %.2f\\n\", 3fc00000, 40490fdb"), "1.500000 3.14\n");
}

#[test]
fn a_command_for_each_module() {
    let mut t = Typed::on(WINDOWS);
    has(&t.well("!for_each_module .echo module @#ModuleName ends"), &["module coreclr ends", "module clrjit ends"]);
    let said = t.well("!for_each_module .if ( $spat(\"${@#ModuleName}\", \"*clr*\") ) { .echo clr ${@#ModuleName} }");
    has(&said, &["clr coreclr", "clr clrjit"]);
    t.well("r $t0 = 0");
    t.well("!for_each_module \".if ( @#Base == coreclr ) { r $t0 = @$t0 + 1 }; .echo x\"");
    assert_eq!(t.well(".printf \"%d\\n\", @$t0"), "1\n");
}

#[test]
fn forms_of_the_module_list() {
    let mut t = Typed::on(WINDOWS);
    for line in [
        "lm mcoreclr",
        "lmDvmcoreclr",
        "lm sm",
        "lm o",
        "lm 1m mcoreclr",
        "lmt m core[a-c]lr",
        "lmam coreclr",
        "lmf M *\\\\coreclr.dll",
        "lm a coreclr+10",
    ] {
        let said = t.well(line);
        assert!(said.split_whitespace().any(|w| w == "coreclr"), "{line}: {said}");
    }
    assert!(t.well("lmf mcoreclr").contains("coreclr.dll"));
    let named: Vec<String> = t.well("lm 1m sm").lines().map(str::to_lowercase).collect();
    assert!(named.is_sorted() && named.len() > 20);
    for wrong in ["lm coreclr", "lm m", "lmx"] {
        assert_eq!(t.line(wrong).0, Ended::Failed, "{wrong}");
    }
}

#[test]
fn lines_pasted_from_logs() {
    let mut t = Typed::on(WINDOWS);
    assert!(t.well("!DumpMT /d 6821da48").contains("Zoo.Session"));
    assert!(t.well("!DumpClass /d 6821da48").contains("Zoo.Session"));
    let address = t.well("!dumpheap -mt 6821da48 -short").lines().next().unwrap().to_owned();
    for command in ["!DumpObj /d", "!GCRoot /d", "!ObjSize /d"] {
        t.well(&format!("{command} {address}"));
    }
}

#[test]
fn quoted_text_in_a_command_for_each_region() {
    let mut t = Typed::on(WINDOWS);
    let said = t.well("!address -f:Image -c:\"s -a %1 %2 \\\"This program cannot\\\"\"");
    assert!(said.contains("54 68 69 73 20 70 72 6f"), "{said:.400}");
    let said = t.well("!address -f:Stack -c:\".echo stack %1 %3\"");
    assert!(said.lines().any(|l| l.starts_with("stack 0x")), "{said:.400}");
}

#[test]
fn an_alias_that_holds_itself_ends() {
    let mut t = Typed::on(NARROW);
    for alias in [
        "as s ~*e ${s}",
        "as s .block { ${s} }",
        "as s .foreach (v {${s}}) {.echo v}",
        "as s !for_each_module ${s}",
        "as s .if (1) { ${s} }",
        "as s .catch { ${s} }; .catch { ${s} }",
        "as s !grep x ${s}",
        "as s !head ${s}",
        "as s !fe (v {${s}}) {${s}}",
    ] {
        t.well(alias);
        for line in ["${s}", ".foreach (v {.echo 1 2}) { ${s} }", ".catch { ${s} }"] {
            assert_eq!(t.line(line).0, Ended::Halt, "{alias}: {line}");
            assert_eq!(t.error().matches("does an alias hold itself?").count(), 1, "{alias}: {line}");
        }
        assert_eq!(t.well(".echo well"), "well\n");
    }
}

#[test]
fn names_of_other_extensions() {
    let mut t = Typed::on(WINDOWS);
    let address = t.well("!dumpheap -mt 6821da48 -short").lines().next().unwrap().to_owned();
    for (theirs, ours) in [
        (format!("!mroot {address}"), format!("!gcroot {address}")),
        (format!("!mdt {address}"), format!("!dumpobj {address}")),
        (format!("!wdo {address}"), format!("!do {address}")),
        ("!gch -stat".to_owned(), "!gchandles -stat".to_owned()),
        ("!mk".to_owned(), "!clrstack".to_owned()),
        ("!wheap -stat -type Zoo".to_owned(), "!dumpheap -stat -type Zoo".to_owned()),
        ("!mex.dae".to_owned(), "!dumpexceptions".to_owned()),
        ("!fe (x {.echo a b}) {.echo x}".to_owned(), ".foreach (x {.echo a b}) {.echo x}".to_owned()),
        ("!mex.grep \"zoo.s\" !dumpheap -stat".to_owned(), "!dumpheap -stat | find \"zoo.s\"".to_owned()),
        ("!head -n 3 !dumpheap -short".to_owned(), "!dumpheap -short | top 3".to_owned()),
        ("!tail -2 !dumpheap -short".to_owned(), "!dumpheap -short | last 2".to_owned()),
        ("!count \"!dumpheap -short\"".to_owned(), "!dumpheap -short | count".to_owned()),
        (format!("!refs {address} -source"), format!("!refs {address} -out")),
        ("!dumpgen 2 -stat".to_owned(), "!dumpgen gen2".to_owned()),
        ("!t /d".to_owned(), "!clrthreads".to_owned()),
        ("!help /d pe".to_owned(), "!help pe".to_owned()),
    ] {
        assert_eq!(t.well(&theirs), t.well(&ours), "{theirs}");
    }
    let all = t.well("!strings -short");
    let some = t.well("!strings /m:*zoo* /n:5 /x:40 -short");
    assert!(!some.is_empty() && some.lines().count() < all.lines().count());
    assert_eq!(some, t.well("!strings zoo -minlength 5 -maxlength 40 -short"));
    for (line, why) in [
        ("!strings /y:user6", "no option /y:user6"),
        ("!mfrag", "!dumpheap -stat -type Free"),
        ("!wow64exts.info", "!wow64exts.info is not here"),
        ("!nosuch.thing", "no command !nosuch.thing"),
        ("t", "a dump stands still"),
        ("!ip2md @rip", "in the image ntdll.dll, native code"),
    ] {
        assert_eq!(t.line(line).0, Ended::Failed, "{line}");
        assert!(t.error().contains(why), "{line}: {}", t.error());
    }
    assert!(t.well("!dumpheap -stat -type zoo.session").contains("case matters in -type: there is "));
}

#[test]
fn commands_for_each_element_of_a_list() {
    let dump = "linux-x64-10.0-collections-heap.core.zst";
    let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(dump.replace(".core.zst", ".facts.tsv"));
    let facts = std::fs::read_to_string(facts).unwrap();
    let list = facts.lines().find_map(|l| l.strip_prefix("address:linked\t")).unwrap();
    let mut t = Typed::on(dump);
    // Two nodes in a ring; a node has its list, the next one, the one before, and the text.
    let first = format!("poi({list}+8)");
    let node = |t: &mut Typed, e: &str| t.well(&format!("? {e}"));
    let (one, two) = (node(&mut t, &first), node(&mut t, &format!("poi({first}+10)")));
    assert_eq!(t.well(&format!("!list -t 10 -x \"? @$extret\" {first}")), format!("{one}{two}"));
    assert_eq!(t.well(&format!("!list -t 18 -x \"? @$extret\" poi({first}+10)")), format!("{two}{one}"));
    let said = t.well(&format!("!list -t 10 -x \"!do -nofields poi(@$extret+20); .echo next\" {first}"));
    has(&said, &["String:      l1", "String:      l2", "next"]);
    // The address stands behind a command that does not name it, more text behind that.
    let said = t.well(&format!("!list -t 10 -m 1 -e -x dq -a L1 {first}"));
    assert!(said.starts_with("dq 0x") && said.lines().count() == 2, "{said}");
    // A text of the dump is no command, however it gets here.
    t.well(&format!("as /ma made {list}"));
    t.line(&format!("!list -x \".echo\" -m 1 -a \"${{made}}\" {first}"));
    assert!(t.well("!list 0").is_empty());
    assert_eq!(t.line("!list -t MYTYPE 10").0, Ended::Failed);
}

/// Scripts that call themselves with more and more arguments, or as often as they can.
#[test]
fn a_script_that_calls_itself_ends() {
    let mut t = Typed::on(NARROW);
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    for body in [
        format!("$$>a<{path} ${{$arg1}}${{$arg1}}"),
        format!("$$>a<{path} ${{$arg1}} \"${{$arg1}} ${{$arg1}}\""),
        format!("$$>a<{path} \"${{$arg1}}\"; $$>a<{path} x"),
        format!("as /x a${{$arg1}} 1; .foreach (v {{.echo ${{$arg1}}}}) {{$$>a<{path} v${{$arg1}}}}"),
        format!(".catch {{$$><{path}}}; .catch {{$$><{path}}}"),
        format!("$$<{path}"),
    ] {
        std::fs::write(file.path(), &body).unwrap();
        let begun = std::time::Instant::now();
        let (ended, _) = t.line(&format!("$$>a<{path} ab"));
        assert_eq!(ended, Ended::Halt, "{body}");
        assert_eq!(t.error().matches("does it run itself?").count(), 1, "{body}");
        assert!(t.error().len() < 1 << 16, "{body}: {} bytes of errors", t.error().len());
        assert!(begun.elapsed().as_secs() < 20, "{body}: {:?}", begun.elapsed());
        t.well("ad *");
        assert_eq!(t.well(".echo well"), "well\n");
    }
}

const LINUX: &str = "linux-x64-10.0-leak-heap.core.zst";

/// The headers agree with what the dump records of its modules beside them.
#[test]
fn headers_of_an_image() {
    let mut on = Typed::on(WINDOWS);
    let session = on.shell.session.clone().unwrap();
    let m = session.dump().modules.iter().find(|m| m.file_name() == "coreclr.dll").unwrap();
    let (text, identity) = (on.well("!dh coreclr"), on.well("!lmi coreclr"));
    assert!(text.contains("    8664 machine (IMAGE_FILE_MACHINE_AMD64)\n"), "{text}");
    assert!(text.contains(&format!("{:8X} size of image\n", m.image_size.unwrap())), "{text}");
    assert!(text.contains(&format!("{:X} time date stamp", m.timestamp.unwrap())), "{text}");
    let sections = text.matches("SECTION HEADER #").count();
    assert!(text.contains(&format!("{sections:8X} number of sections\n")), "{text}");
    assert_eq!(on.well(&format!("!dh {:x}", m.base + 0x1234)), text, "by an address in it");
    let key = identity.lines().find_map(|l| l.trim().strip_prefix("GUID and Age: ")).unwrap();
    assert!(key.len() == 33 && key.ends_with('1') && key.bytes().all(|b| b.is_ascii_hexdigit()), "{identity}");
    assert!(identity.contains("PDB: coreclr.pdb\n"), "{identity}");
    let entry = on.well("!dlls -c coreclr");
    let rva = text.lines().find(|l| l.ends_with(" address of entry point")).unwrap();
    let rva = u64::from_str_radix(rva.split_whitespace().next().unwrap(), 16).unwrap();
    let at = m.base + rva;
    assert!(entry.contains(&format!("EntryPoint  {:08x}`{:08x}", at >> 32, at & 0xFFFF_FFFF)), "{entry}");

    let mut on = Typed::on(LINUX);
    let session = on.shell.session.clone().unwrap();
    let m = session.dump().modules.iter().find(|m| m.file_name() == "libcoreclr.so").unwrap();
    let id: String = m.build_id.as_ref().unwrap().iter().map(|b| format!("{b:02x}")).collect();
    assert!(on.well("!lmi coreclr").contains(&id));
    assert!(on.well("!dh -s coreclr").contains("PT_DYNAMIC name"));
    on.line("!dh nothing");
    assert!(on.error().contains("no module is called nothing"), "{}", on.error());
}

#[test]
fn numbers_of_errors() {
    let mut on = Typed::on(WINDOWS);
    assert_eq!(on.well("!error 5"), "Error code: (Win32) 0x5 (5) - ERROR_ACCESS_DENIED\n");
    assert!(on.well("!error c0000005").contains("(NTSTATUS) 0xc0000005 (3221225477) - STATUS_ACCESS_VIOLATION"));
    assert!(on.well("!error 0xc0000005 1").starts_with("Error code: (NTSTATUS)"));
    let managed = on.well("!error ffffffff80131509");
    assert!(managed.contains("COR_E_INVALIDOPERATION (System.InvalidOperationException)"), "{managed}");
    assert!(on.well("!error e0434352").contains("CLR exception"));
    assert!(on.well("!error deadbeef").contains("no name is known"));
}

/// A question of the data model is answered as the line it stands for.
#[test]
fn questions_of_the_data_model() {
    let mut on = Typed::on(LINUX);
    for question in [
        "@$heap.Types.OrderByDescending(t => t.Bytes).Take(5)",
        "@$heap.Types.Where(t => t.Name.Contains(\"String\") || t.Count == 1).Count()",
        "@$curprocess.Modules.Where(m => !m.Name.Contains(\"clr\")).Select(m => new { m.Name, m.Size })",
        "@$curprocess.Threads[1].Name",
        "@$curthread.Id",
    ] {
        let line = on.well(&format!("dx -n {question}"));
        let (asked, plain) = (on.well(&format!("dx -g {question}")), on.well(line.trim()));
        assert!(asked == plain && asked.lines().count() > 1, "{question}: {line}: {asked}");
    }
    assert_eq!(on.well("dx 6*7"), on.well("?? 6*7"));
    on.line("dx @$heap.Nothing");
    assert!(on.error().contains("@$heap.Types"), "{}", on.error());
}

#[test]
fn layouts_and_values_of_types() {
    let mut on = Typed::on(LINUX);
    let class = on.well("dt System.String");
    assert!(class.contains("_stringLength"), "{class}");
    assert_eq!(on.well("dt -v coreclr!System.String"), class);
    let string = on.well("!dumpheap -type System.String -short | top 1");
    let string = string.trim();
    assert_eq!(on.well(&format!("dt System.String {string}")), on.well(&format!("!do {string}")));
    assert!(on.well("dt _CONTEXT").contains("+0x0f8 rip"));
    let mut on = Typed::on(WINDOWS);
    assert_eq!(on.well("dt ntdll!_TEB"), on.well("!teb"));
    on.line("dt nt!_EPROCESS");
    assert!(on.error().contains("need symbols of types"), "{}", on.error());
}

/// Names and texts of aliases that make each other grow.
fn aliases_that_grow() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![Just("a"), Just("b"), Just("$u1"), Just("$u2")].prop_map(str::to_owned);
    let text = prop::collection::vec(
        prop_oneof![
            Just("a"),
            Just(" b "),
            Just("${a}"),
            Just("$u1"),
            Just("$u2$u2"),
            Just(";as a b;"),
            Just("{ a }"),
            Just("\""),
            Just("x")
        ],
        0..6,
    );
    prop::collection::vec((name, text.prop_map(|t| t.concat())), 0..4)
}

proptest! {
    /// No alias, argument or token makes the parser loop or a line grow without bound.
    #[test]
    fn nothing_grows_without_bound(
        names in aliases_that_grow(),
        line in "(a|b|\\$u1|\\$u2| |;|\\{|\\}|\"|\\$\\{a\\}|\\.echo |as a |\\.block|~){0,30}",
        hidden in "[;a{}$ ]{0,8}",
    ) {
        use clrscope::shell::alias::{expand, expand_within};
        let mut names = names;
        names.push(("h".into(), hide(&hidden)));
        for text in [expand(&line, &names), expand_within(&line, &names)].into_iter().flatten() {
            prop_assert!(text.len() <= (1 << 20) + 4096);
        }
    }
}
