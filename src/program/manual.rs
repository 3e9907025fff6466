//! The manual page, in the macros of `man(7)`.

use super::options::{EXIT_CODES, OPTIONS, Opt, VERBS};
use crate::commands::ALL;
use crate::commands::session::help::CHAPTERS;
use crate::shell::parse::spelled;

/// The page of this program.
pub fn page() -> String {
    let mut page = format!(".TH CLRSCOPE 1 \"\" \"clrscope {}\" \"User Commands\"\n", env!("CARGO_PKG_VERSION"));
    page += ".SH NAME\nclrscope \\- a WinDbg/SOS\\-like shell for .NET memory dumps\n.SH SYNOPSIS\n";
    page += ".B clrscope\n.RI [ DUMP ]\n.RI [ options ]\n";
    for verb in VERBS {
        page += &format!(".br\n.B clrscope {}\n", verb.name);
        if !verb.takes.is_empty() {
            page += &format!("{}\n", escaped(verb.takes));
        }
    }
    page += ".SH DESCRIPTION\n";
    page += &escaped(
        "Opens a memory dump of a .NET process (Windows minidump or Linux core; .NET Core and .NET, NativeAOT, .NET Framework) \
         with nothing but the dump: no DAC, no symbols, no network. Commands are those of WinDbg and SOS. Without -c and -s \
         there is a prompt, where .help lists them and .help NAME explains one.",
    );
    page += "\n.SH OPTIONS\n";
    OPTIONS.iter().for_each(|o| option(&mut page, o));
    for verb in VERBS {
        page += &format!(".SS clrscope {}\n{}\n", escaped(&verb.heading()), escaped(verb.help));
        verb.options.iter().for_each(|o| option(&mut page, o));
    }
    page += ".SH COMMANDS\n";
    for (group, title) in CHAPTERS {
        page += &format!(".SS {}\n", escaped(title));
        for command in ALL.iter().filter(|c| c.group == *group) {
            let names: Vec<_> =
                std::iter::once(spelled(command)).chain(command.aliases.iter().map(|&a| a.into())).collect();
            page += &format!(".TP\n.B {}\n{}\n", escaped(&names.join(", ")), escaped(command.summary));
        }
    }
    page += &format!(".SH EXIT STATUS\n{}\n", escaped(EXIT_CODES));
    page += ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nno colours\n.TP\n.B PAGER\nthe program of \\-\\-pager\n";
    page + ".TP\n.B _NT_SYMBOL_PATH\nsymbol path, as of \\-y\n"
}

fn option(page: &mut String, option: &Opt) {
    page.push_str(&format!(".TP\n.B {}\n{}\n", escaped(&option.spelled()), escaped(option.help)));
}

/// Text in which nothing is a request or an escape.
fn escaped(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('^', "\\(ha")
        .replace('~', "\\(ti");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}
