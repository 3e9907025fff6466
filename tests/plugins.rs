//! Assemblies that can be unloaded, and those made at run time: `linux-x64-10.0-plugins-heap`, whose program is
//! `testdata/plugins.cs` with the plug-in `testdata/plugin.cs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DUMP: &str = "linux-x64-10.0-plugins-heap";

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

fn run(command: &str) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_clrscope"))
        .arg(testdata().join(format!("{DUMP}.core.zst")))
        .args(["-c", command])
        .env("CLRSCOPE_CACHE", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("dumps"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// What the program said of itself: all values of a name.
fn facts(name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(testdata().join(format!("{DUMP}.facts.tsv"))).unwrap();
    text.lines().filter_map(|l| l.split_once('\t')).filter(|l| l.0 == name).map(|l| l.1.to_owned()).collect()
}

fn fact(name: &str) -> String {
    facts(name).pop().unwrap()
}

/// The word behind `title` in the first line that begins with it.
fn after(said: &str, title: &str) -> String {
    let line = said.lines().find_map(|l| l.strip_prefix(title)).unwrap_or_else(|| panic!("no {title}: {said}"));
    line.split_whitespace().next().unwrap_or_default().to_owned()
}

/// Value of the field `name` in a table of fields.
fn value(said: &str, name: &str) -> String {
    // What the value says in words stands behind the name.
    let named = |l: &&str| l.split(" = ").next().is_some_and(|l| l.ends_with(&format!(" {name}")));
    let row = said.lines().find(named).unwrap_or_else(|| panic!("no {name}: {said}"));
    row.split(" = ").next().unwrap().split_whitespace().rev().nth(1).unwrap().to_owned()
}

fn loader_allocator_of_the_leak() -> String {
    after(&run(&format!("!dumpalc {}", fact("leaked:Billing"))), "LoaderAllocator:")
}

#[test]
fn load_contexts_are_those_the_program_knows() {
    let said = run("!dumpalc");
    let row = |address: &str| {
        let line = said.lines().find(|l| l.trim_start().starts_with(address)).unwrap_or_else(|| panic!("{said}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row(&fact("context:Reports")), "true Alive 1 Host.PluginContext \"Reports\"");
    assert_eq!(row(&fact("leaked:Billing")), "true Unloading 1 Host.PluginContext \"Billing\"");
    let default = facts("assembly:Default").len();
    let wanted = format!("false Alive {default} System.Runtime.Loader.DefaultAssemblyLoadContext \"Default\"");
    assert_eq!(row(&fact("context:Default")), wanted);
    assert!(!said.contains("without a managed instance") && !said.contains("\"Gone\""), "{said}");
}

#[test]
fn a_context_and_the_objects_of_its_types_name_its_assembly() {
    for address in [fact("leaked:Billing"), loader_allocator_of_the_leak()] {
        let said = run(&format!("!dumpalc {address}"));
        assert!(said.contains("/opt/app/plugins/Billing.dll"), "{said}");
    }
    let said = run(&format!("!dumpalc {}", fact("keep:Reports.Table`1[Reports.Row]")));
    assert!(said.contains("PluginContext \"Reports\"") && said.contains("/opt/app/plugins/Reports.dll"), "{said}");
}

#[test]
fn assemblies_and_domain_list_the_plugins_and_the_dynamic_ones() {
    let said = run("!assemblies");
    for name in ["/opt/app/plugins.dll", "/opt/app/plugins/Reports.dll", "/opt/app/plugins/Billing.dll"] {
        assert_eq!(said.lines().filter(|l| l.ends_with(name)).count(), 1, "{said}");
    }
    assert_eq!(said.lines().filter(|l| l.contains("(Dynamic)")).count(), 2, "{said}");
    let domain = run("!dumpdomain");
    let blocks: Vec<&str> = domain.split("Assembly:").skip(1).collect();
    assert_eq!(blocks.len(), 10, "{domain}");
    assert_eq!(blocks.iter().filter(|b| b.contains("(Dynamic)")).count(), 2, "{domain}");
    let billing = blocks.iter().find(|b| b.contains("Billing.dll")).unwrap();
    let address = billing.split_whitespace().next().unwrap();
    let assembly = run(&format!("!dumpassembly {address}"));
    assert_eq!(after(&assembly, "Name:"), "/opt/app/plugins/Billing.dll");
}

#[test]
fn types_made_at_run_time_have_their_names_and_fields() {
    for name in ["Made", "Passing"] {
        let said = run(&format!("!dumpobj {}", fact(&format!("keep:{name}.Thing"))));
        assert_eq!(after(&said, "Name:"), format!("{name}.Thing"));
        assert_eq!(after(&said, "File:"), name);
        assert_eq!(value(&said, "Colour"), "2");
        assert!(said.lines().any(|l| l.contains(&format!("{name}.Colour"))), "{said}");
        assert!(run(&format!("!dumpobj {}", value(&said, "Text"))).contains(&format!("text of {name}")), "{said}");
        let kept = |what: &str| run(&format!("!dumpobj {}", fact(&format!("keep:{what}"))));
        assert!(
            kept(&format!("{name}.Box`1[{name}.Thing]"))
                .contains(&format!("Name:        {name}.Box`1[[{name}.Thing, {name}]]"))
        );
        assert!(kept(&format!("{name}.Point[]")).contains(&format!("Name:        {name}.Point[]")));
        let list = kept(&format!("System.Collections.Generic.List`1[{name}.Thing]"));
        assert!(list.contains(&format!("List`1[[{name}.Thing, {name}]]")), "{list}");
    }
    let said = run("!name2ee * Passing.Thing");
    let passing = run(&format!("!dumpmt {}", after(&said, "MethodTable:")));
    assert_eq!(after(&passing, "Name:"), "Passing.Thing");
    let allocator = after(&passing, "LoaderAllocator:");
    assert!(
        run(&format!("!dumpobj {allocator}")).contains("Name:        System.Reflection.LoaderAllocator"),
        "{passing}"
    );
    // One that cannot be unloaded has none.
    let made = run(&format!("!dumpmt {}", after(&run("!name2ee * Made.Thing"), "MethodTable:")));
    assert!(made.contains("Made.Thing") && !made.contains("LoaderAllocator:"), "{made}");
}

#[test]
fn statics_of_plugins_and_of_dynamic_types_have_the_values_they_were_given() {
    for name in ["Made", "Passing"] {
        let said = run(&format!("!dumpobj {}", fact(&format!("keep:{name}.Thing"))));
        assert_eq!(value(&said, "Count"), "4711");
        assert!(run(&format!("!dumpobj {}", value(&said, "Shared"))).contains(&format!("shared of {name}")), "{said}");
    }
    for name in ["Reports", "Billing"] {
        let mt = after(&run(&format!("!name2ee * {name}.Entry")), "MethodTable:");
        let said = run(&format!("!dumpclass {mt}"));
        assert_eq!(value(&said, "Number"), "7");
        assert!(run(&format!("!dumpobj {}", value(&said, "Title"))).contains(&format!("title of {name}")), "{said}");
        let best = run(&format!("!dumpobj {}", value(&said, "Best")));
        assert_eq!((value(&best, "Row"), value(&best, "Value").parse()), ("5".into(), Ok(1.25)), "{best}");
    }
    // Each instantiation has its own: rows and a count of 20, and of the other 3.
    let rows = run(&format!("!dumpobj {}", fact("keep:Reports.Table`1[Reports.Row]")));
    assert_eq!(value(&rows, "Made"), "20");
    assert_eq!(value(&run(&format!("!dumpobj {}", value(&rows, "Last"))), "Number"), "19");
}

#[test]
fn thread_statics_of_a_plugin_are_those_of_its_threads() {
    let mt = after(&run("!name2ee * Reports.Entry"), "MethodTable:");
    let said = run(&format!("!dumpclass {mt}"));
    let of = |field: &str| -> Vec<String> {
        let lines = said.lines().skip_while(|l| !l.ends_with(&format!(" {field}"))).skip(2);
        lines.take_while(|l| !l.is_empty()).filter_map(|l| l.split_whitespace().nth(1)).map(str::to_owned).collect()
    };
    assert_eq!(of("depth"), ["1", "7"], "{said}");
    let titles: Vec<String> = of("current")
        .iter()
        .map(|row| {
            let row = run(&format!("!dumpobj {row}"));
            run(&format!("!dumpobj {}", value(&row, "Title")))
        })
        .collect();
    assert!(titles.len() == 2 && titles[0].contains("current of Reports 1"), "{titles:?}");
    assert!(titles[1].contains("current of Reports 7"), "{titles:?}");
}

/// The thread statics of the plug-in are its own: they do not keep it. What does is the handler in the program's menu.
#[test]
fn what_keeps_an_unloading_context_is_told() {
    let said = run(&format!("!gcroot {}", loader_allocator_of_the_leak()));
    let chain: Vec<&str> = said.lines().filter_map(|l| l.trim().strip_prefix("-> ")).collect();
    let at = |what: &str| chain.iter().position(|l| l.contains(what)).unwrap_or_else(|| panic!("no {what}: {said}"));
    let menu = at("Host.Menu (static variable: Host.Program.Menu)");
    assert!(chain[menu].starts_with(&fact("address:Menu")), "{said}");
    let rest = ["System.EventHandler", "Billing.Entry+<>c__DisplayClass", "System.Reflection.LoaderAllocator"];
    let places: Vec<usize> = rest.iter().map(|w| at(w)).collect();
    assert_eq!(places, [menu + 1, menu + 2, menu + 3], "{said}");
    assert!(!said.contains(" statics:"), "{said}");
    // One that is alive is held by its context.
    let alive = after(&run(&format!("!dumpalc {}", fact("context:Reports"))), "LoaderAllocator:");
    assert!(run(&format!("!gcroot {alive}")).contains("strong handle"));
}

#[test]
fn every_object_of_a_collectible_type_leads_to_its_loader_allocator() {
    let said = run(&format!("!refs {}", loader_allocator_of_the_leak()));
    let edges =
        |ty: &str| said.lines().filter(|l| l.contains("(collectible type)") && l.ends_with(&format!(" {ty}"))).count();
    let instances = |ty: &str| run(&format!("!dumpheap -short -type {ty}")).lines().count();
    assert_eq!(edges("Billing.Row"), 21, "{said}");
    assert_eq!(edges("Billing.Cell[]"), 20, "{said}");
    assert_eq!(edges("Billing.Row[]"), 2, "{said}");
    // Instantiations of the core library's types over them go with them.
    assert_eq!(edges("System.Collections.Generic.Dictionary<System.String, Billing.Row>"), 1, "{said}");
    assert_eq!(edges("System.Collections.Generic.List<Billing.Row>"), 0, "dead ones are gone: {said}");
    let all = said.lines().filter(|l| l.contains("(collectible type)")).count();
    assert_eq!(all, instances("Billing"), "{said}");
}

#[test]
fn loader_heaps_tell_the_memory_of_each_plugin_and_of_dynamic_methods() {
    let said = run("!eeheap -loader");
    for name in ["/opt/app/plugins/Reports.dll", "/opt/app/plugins/Billing.dll", "Passing"] {
        let block: Vec<&str> = said
            .lines()
            .skip_while(|l| !l.contains(&format!("collectible: {name} ")))
            .take_while(|l| !l.starts_with("---"))
            .collect();
        for kind in ["HighFrequencyHeap:", "FixupPrecodeHeap:"] {
            assert_eq!(block.iter().filter(|l| l.starts_with(kind)).count(), 1, "{name}: {said}");
        }
    }
    assert_eq!(said.matches("LoaderAllocator:      ").count(), 5, "{said}");
    assert_eq!(said.matches("HostCodeHeap:").count(), 1, "{said}");
    assert_eq!(said.matches("LoaderCodeHeap:").count(), 4, "{said}");
}
