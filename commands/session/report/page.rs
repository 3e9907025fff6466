//! The page: everything escaped, nothing loaded.

use std::fmt::Write as _;

use anyhow::Result;
use serde_json::Value as Json;

use crate::shell::out::thousands;
use crate::shell::quote::acts;

/// Rows of a table in the page; the rest is counted.
const MOST_ROWS: usize = 200;
/// Characters of the data behind the page; more of it is left to `.report FILE.json`.
const MOST_DATA: usize = 1 << 20;

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What browsers are told the style and the script hash to: no other may run. Whoever changes one of the two files hashes it anew.
const POLICY: &str = include_str!("page.policy");

/// Appends text so that nothing in it is markup.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // What acts on a terminal acts in a page too.
            c if acts(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
}

/// Data as JSON that is no markup: in an element of data only its own end tag is, and no character of it acts.
fn inert(data: &str) -> String {
    let mut out = String::with_capacity(data.len());
    for c in data.chars() {
        match c == '<' || acts(c) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    escape(&mut out, text);
    out
}

/// The page of a report.
pub fn write(model: &Json) -> Result<String> {
    let sections = model.get("sections").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let file = model.pointer("/dump/file").and_then(Json::as_str).unwrap_or("dump");
    let mut page = String::new();
    write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{}</title><style>{STYLE}</style></head><body>",
        POLICY.trim(),
        escaped(file)
    )?;
    write!(page, "<h1>{}</h1><nav aria-label=\"sections\"><ul>", escaped(file))?;
    for (i, s) in sections.iter().enumerate() {
        write!(page, "<li><a href=\"#s{i}\">{}</a></li>", escaped(text(s, "title")))?;
    }
    page.push_str("</ul></nav><main>");
    for (i, s) in sections.iter().enumerate() {
        section(&mut page, i, s)?;
    }
    page.push_str("</main>");
    let data = serde_json::to_string(model)?;
    if data.len() <= MOST_DATA {
        write!(page, "<script type=\"application/json\" id=\"model\">{}</script>", inert(&data))?;
    } else {
        page.push_str("<p>The data behind this page is too much for it: .report FILE.json writes it.</p>");
    }
    write!(page, "<script>{SCRIPT}</script></body></html>")?;
    page.push('\n');
    Ok(page)
}

fn text<'a>(of: &'a Json, key: &str) -> &'a str {
    of.get(key).and_then(Json::as_str).unwrap_or_default()
}

fn section(page: &mut String, number: usize, s: &Json) -> Result<()> {
    let answer = s.get("answer").unwrap_or(&Json::Null);
    write!(
        page,
        "<section id=\"s{number}\" aria-labelledby=\"h{number}\"><h2 id=\"h{number}\">{}</h2>",
        escaped(text(s, "title"))
    )?;
    let outcome = text(answer, "outcome");
    if outcome == "partial" || outcome == "failed" {
        write!(page, "<p class=\"partial\">{}: {}</p>", escaped(outcome), escaped(text(answer, "reason")))?;
    }
    let facts = answer.get("facts").and_then(Json::as_object);
    let facts: Vec<_> = facts.into_iter().flatten().filter(|(_, v)| !v.is_null()).collect();
    if !facts.is_empty() {
        page.push_str("<dl>");
        for (key, value) in facts {
            write!(page, "<dt>{}</dt><dd>{}</dd>", escaped(&key.replace('_', " ")), escaped(&shown(key, value)))?;
        }
        page.push_str("</dl>");
    }
    let tables = answer.get("tables").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    for t in tables {
        table(page, t)?;
    }
    if tables.is_empty() && outcome == "empty" {
        page.push_str("<p>Nothing to list.</p>");
    }
    write!(page, "<p class=\"repeat\">Repeat it: <code>{}</code></p></section>", escaped(text(s, "command")))?;
    Ok(())
}

fn table(page: &mut String, t: &Json) -> Result<()> {
    let columns: Vec<&str> =
        t.get("columns").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect();
    let rows = t.get("rows").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    if rows.is_empty() {
        return Ok(());
    }
    // Columns that say nothing in any row are left out.
    let cell = |row: &Json, i: usize| row.get(i).cloned().unwrap_or(Json::Null);
    let used: Vec<usize> = (0..columns.len()).filter(|&i| rows.iter().any(|r| !cell(r, i).is_null())).collect();
    let biggest = |i: usize| rows.iter().filter_map(|r| cell(r, i).as_f64()).fold(0.0f64, f64::max);
    let bars: Vec<f64> =
        used.iter().map(|&i| if is_bytes(columns.get(i).copied()) { biggest(i) } else { 0.0 }).collect();
    let name = text(t, "name").replace('_', " ");
    write!(page, "<div class=\"scroll\"><table><caption>{}</caption><thead><tr>", escaped(&name))?;
    for &i in &used {
        let title = columns.get(i).copied().unwrap_or("");
        write!(page, "<th scope=\"col\"><button type=\"button\">{}</button></th>", escaped(&title.replace('_', " ")))?;
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows.iter().take(MOST_ROWS) {
        page.push_str("<tr>");
        for (&i, &bar) in used.iter().zip(&bars) {
            let value = cell(row, i);
            let key = columns.get(i).copied().unwrap_or("");
            if value.is_number() {
                write!(page, "<td class=\"n\" data-v=\"{value}\">{}", escaped(&shown(key, &value)))?;
                if let Some(v) = value.as_f64().filter(|_| bar > 0.0) {
                    write!(page, "<meter min=\"0\" max=\"{bar}\" value=\"{v}\"></meter>")?;
                }
                page.push_str("</td>");
            } else {
                write!(page, "<td>{}</td>", escaped(&shown(key, &value)))?;
            }
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
    if rows.len() > MOST_ROWS {
        write!(page, "<p>{} rows more: the line below lists them.</p>", thousands((rows.len() - MOST_ROWS) as u64))?;
    }
    Ok(())
}

fn is_bytes(column: Option<&str>) -> bool {
    column.is_some_and(|c| ["bytes", "size"].iter().any(|w| c.contains(w)))
}

/// A value as the page shows it.
fn shown(key: &str, value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(s) => s.clone(),
        Json::Number(n) => match (n.as_u64(), n.as_f64()) {
            (Some(n), _) if !key.contains("id") => thousands(n),
            (Some(n), _) => n.to_string(),
            (None, Some(f)) => format!("{f:.2}"),
            _ => n.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{POLICY, SCRIPT, STYLE, write};

    #[test]
    fn names_of_the_dump_are_text() {
        let evil = "</script><img src=x onerror=alert(1)>\u{202e}\u{7}";
        let model = json!({"dump": {"file": evil}, "sections": [{"title": evil, "command": evil, "answer": {
            "outcome": "partial", "reason": evil, "facts": {"a": evil},
            "tables": [{"name": evil, "columns": [evil, "bytes"], "rows": [[evil, 12345]]}]}}]});
        let page = write(&model).unwrap_or_default();
        assert!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains('\u{7}'));
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("12,345") && page.contains("data-v=\"12345\""));
    }

    #[test]
    fn nothing_is_loaded() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        for word in ["http:", "https:", "url(", "@import", "fetch(", "import("] {
            assert!(!STYLE.contains(word) && !SCRIPT.contains(word), "{word}");
        }
    }
}
