//! Completion of the program's arguments for the shells people use.

use super::options::{Hint, OPTIONS, Opt, VERBS};

/// The completion for `shell`, one of [`SHELLS`](super::options::SHELLS).
pub fn script(shell: &str) -> Option<String> {
    match shell {
        "bash" => Some(bash()),
        "zsh" => Some(zsh()),
        "fish" => Some(fish()),
        "powershell" => Some(powershell()),
        _ => None,
    }
}

/// Names of an option as they are typed.
fn names(option: &Opt) -> Vec<String> {
    option.short.map(|c| format!("-{c}")).into_iter().chain([format!("--{}", option.long)]).collect()
}

/// All options, each with the verb it belongs to, if it belongs to one.
fn all() -> impl Iterator<Item = (Option<&'static str>, &'static Opt)> {
    let own = VERBS.iter().flat_map(|v| v.options.iter().map(|o| (Some(v.name), o)));
    OPTIONS.iter().map(|o| (None, o)).chain(own)
}

fn spelled<'a>(options: impl IntoIterator<Item = &'a Opt>) -> String {
    options.into_iter().flat_map(names).collect::<Vec<_>>().join(" ")
}

fn verbs() -> String {
    VERBS.iter().map(|v| v.name).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut values = String::new();
    for (hint, reply) in [(Hint::File, "-f"), (Hint::Folder, "-d")] {
        let of: Vec<_> =
            all().filter(|(_, o)| o.value.is_some_and(|v| v.hint == hint)).flat_map(|(_, o)| names(o)).collect();
        values += &format!(
            "        {})\n            COMPREPLY=($(compgen {reply} -- \"$cur\"))\n            return\n            ;;\n",
            of.join("|")
        );
    }
    for (_, option) in all() {
        match option.value.map(|v| v.hint) {
            Some(Hint::Words(words)) => {
                values += &format!(
                    "        {})\n            COMPREPLY=($(compgen -W '{}' -- \"$cur\"))\n            return\n            ;;\n",
                    names(option).join("|"),
                    words.join(" ")
                );
            }
            Some(Hint::Any) => {
                values += &format!("        {})\n            return\n            ;;\n", names(option).join("|"))
            }
            _ => {}
        }
    }
    let own: String = VERBS
        .iter()
        .map(|v| format!("        {})\n            options+=' {}'\n            ;;\n", v.name, spelled(v.options)))
        .collect();
    format!(
        "# Completion of clrscope for bash.\n_clrscope() {{\n    local cur=${{COMP_WORDS[COMP_CWORD]}} \
         prev=${{COMP_WORDS[COMP_CWORD - 1]}}\n    local options='{}'\n    COMPREPLY=()\n    compopt -o filenames 2>/dev/null\n    \
         case $prev in\n{values}    esac\n    case ${{COMP_WORDS[1]}} in\n{own}    esac\n    if [[ $cur == -* ]]; then\n        \
         COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))\n    elif ((COMP_CWORD == 1)); then\n        \
         COMPREPLY=($(compgen -W '{}' -- \"$cur\") $(compgen -f -- \"$cur\"))\n    else\n        \
         COMPREPLY=($(compgen -f -- \"$cur\"))\n    fi\n}}\ncomplete -F _clrscope clrscope\n",
        spelled(OPTIONS),
        verbs(),
    )
}

/// Text in single quotes of a POSIX shell, without what `_arguments` reads as structure.
fn zsh_text(text: &str) -> String {
    text.replace('\'', "'\\''").replace('[', "(").replace(']', ")").replace(':', "\\:")
}

fn zsh_option(option: &Opt) -> String {
    let value = option.value.map_or(String::new(), |v| {
        let action = match v.hint {
            Hint::File => "_files".to_owned(),
            Hint::Folder => "_files -/".to_owned(),
            Hint::Words(words) => format!("({})", words.join(" ")),
            Hint::Any => " ".to_owned(),
        };
        format!(":{}:{action}", zsh_text(v.name))
    });
    let star = if option.many { "*" } else { "" };
    let lines =
        names(option).into_iter().map(|n| format!("        '{star}{n}[{}]{value}' \\\n", zsh_text(option.help)));
    lines.collect()
}

fn zsh() -> String {
    let program: String = OPTIONS.iter().map(zsh_option).collect();
    let own: String = VERBS
        .iter()
        .map(|v| {
            let options: String = v.options.iter().map(zsh_option).collect();
            format!("    {})\n        args+=(\\\n{options}        )\n        ;;\n", v.name)
        })
        .collect();
    format!(
        "#compdef clrscope\n# Completion of clrscope for zsh.\n_clrscope_first() {{\n    _alternative 'verbs:verb:({})' \
         'dumps:dump:_files'\n}}\nlocal -a args\nargs=(\\\n{program}        '1:dump:_clrscope_first' \\\n        \
         '*:dump:_files')\ncase ${{words[2]}} in\n{own}esac\n_arguments -s $args\n",
        verbs(),
    )
}

fn fish() -> String {
    let mut text = String::from("# Completion of clrscope for fish.\n");
    let quoted = |t: &str| t.replace('\\', "\\\\").replace('\'', "\\'");
    for verb in VERBS {
        text += &format!("complete -c clrscope -n __fish_use_subcommand -a {} -d '{}'\n", verb.name, quoted(verb.help));
    }
    for (verb, option) in all() {
        text += "complete -c clrscope";
        if let Some(verb) = verb {
            text += &format!(" -n '__fish_seen_subcommand_from {verb}'");
        }
        if let Some(c) = option.short {
            text += &format!(" -s {c}");
        }
        text += &format!(" -l {}", option.long);
        text += &match option.value.map(|v| v.hint) {
            Some(Hint::Words(words)) => format!(" -x -a '{}'", words.join(" ")),
            Some(Hint::File | Hint::Folder) => " -r -F".to_owned(),
            Some(Hint::Any) => " -x".to_owned(),
            None => String::new(),
        };
        text += &format!(" -d '{}'\n", quoted(option.help));
    }
    text
}

fn powershell() -> String {
    let quoted = |t: &str| t.replace('\'', "''");
    let mut rows = String::new();
    for (verb, option) in all() {
        for name in names(option) {
            rows += &format!("        @('{}', '{name}', '{}')\n", verb.unwrap_or(""), quoted(option.help));
        }
    }
    for verb in VERBS {
        rows += &format!("        @('*', '{}', '{}')\n", verb.name, quoted(verb.help));
    }
    format!(
        "# Completion of clrscope for PowerShell.\nRegister-ArgumentCompleter -Native -CommandName clrscope -ScriptBlock {{\n    \
         param($word, $ast, $position)\n    $words = @($ast.CommandElements | ForEach-Object {{ $_.ToString() }})\n    $verb = if \
         ($words.Count -gt 1) {{ $words[1] }} else {{ '' }}\n    $first = $words.Count -lt 2 -or ($words.Count -eq 2 -and $word -ne \
         '')\n    $rows = @(\n{rows}    )\n    $rows | Where-Object {{\n        $_[1] -like \"$word*\" -and\n        ($_[0] -eq '' \
         -or $_[0] -eq $verb -or ($_[0] -eq '*' -and $first))\n    }} | ForEach-Object {{\n        \
         [System.Management.Automation.CompletionResult]::new($_[1], $_[1], 'ParameterName', $_[2])\n    }}\n}}\n"
    )
}
