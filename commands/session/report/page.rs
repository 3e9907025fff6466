//! The page: everything escaped, nothing loaded.

use std::borrow::Cow;

use anyhow::{Result, bail};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value as Json;

use super::model::{self, at, list, text};
use crate::shell::out::thousands;
use crate::shell::quote::acts;

/// Bytes of a page.
const MOST_BYTES: usize = 2_000_000;
/// Rows of a table in the page and characters of a text in it, tried in turn until the page is small enough; the rest is
/// counted, and what is cut ends in three dots.
const MOST_ROWS: [(usize, usize); 6] = [(200, 2_000), (200, 500), (100, 500), (50, 300), (20, 200), (5, 100)];

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// What browsers are told the style and the script hash to: no other may run. A test hashes them anew.
const POLICY: &str = include_str!("page.policy");

/// Text of the dump: what acts on a terminal acts in a page too.
fn seen(text: &str) -> Cow<'_, str> {
    if text.contains(acts) { text.replace(acts, "\u{fffd}").into() } else { text.into() }
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

/// The page of a report: as much of it as fits.
pub fn write(model: &Json) -> Result<String> {
    for (rows, characters) in MOST_ROWS {
        let cut = model::cut(model, rows, characters);
        let page = html(&cut)?;
        if page.len() <= MOST_BYTES {
            return Ok(page);
        }
    }
    bail!("the page would have more than {MOST_BYTES} bytes; FILE.json has no such limit")
}

fn html(model: &Json) -> Result<String> {
    let sections = list(model, "sections");
    let file = model.pointer("/dump/file").and_then(Json::as_str).unwrap_or("dump");
    let data = inert(&serde_json::to_string(model)?);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY.trim());
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (seen(file)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (seen(file)) }
                    p.soft { (about(at(model, "dump"))) }
                    nav aria-label="sections" {
                        ul { @for (i, s) in sections.iter().enumerate() { li { a href={ "#s" (i) } { (seen(text(s, "title"))) } } } }
                    }
                }
                main { @for (i, s) in sections.iter().enumerate() { (section(i, s)) } }
                script type="application/json" id="model" { (PreEscaped(data)) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    Ok(page.into_string() + "\n")
}

/// What the dump is, in a line.
fn about(dump: &Json) -> String {
    let mut parts: Vec<String> = ["os", "arch"].iter().map(|k| text(dump, k).to_owned()).collect();
    if let Some(n) = at(dump, "pid").as_u64() {
        parts.push(format!("process {n} {}", text(dump, "process")));
    }
    parts.extend(Some(text(dump, "runtime")).filter(|r| !r.is_empty()).map(|r| format!(".NET {r}")));
    let times = ["time", "file_time"].map(|k| text(dump, k));
    parts.extend(times.into_iter().find(|t| !t.is_empty()).map(str::to_owned));
    parts.extend(at(dump, "size").as_u64().map(|n| format!("{} bytes", thousands(n))));
    seen(&parts.join(", ")).into_owned()
}

fn section(number: usize, s: &Json) -> Markup {
    let answer = at(s, "answer");
    let outcome = text(answer, "outcome");
    let facts = at(answer, "facts").as_object();
    let facts: Vec<_> = facts.into_iter().flatten().filter(|(_, v)| !v.is_null()).collect();
    let tables = list(answer, "tables");
    let findings = tables.iter().any(|t| text(t, "name") == "findings");
    let left_out = |name: &str| at(at(s, "left_out"), name).as_u64().unwrap_or(0);
    html! {
        section id={ "s" (number) } aria-labelledby={ "h" (number) } {
            h2 id={ "h" (number) } { (seen(text(s, "title"))) }
            @if outcome == "partial" || outcome == "failed" {
                p.partial { (seen(outcome)) ": " (seen(text(answer, "reason"))) }
            }
            @if findings { (verdict(answer)) }
            @for i in 0..list(s, "charts").len() { div.chart data-section=(number) data-chart=(i) {} }
            @if findings {
                details { summary { "As facts and tables" } (facts_list(&facts)) (all_tables(tables, left_out)) }
            } @else {
                (facts_list(&facts))
                (all_tables(tables, left_out))
            }
            @if tables.is_empty() && (outcome == "empty" || facts.is_empty()) && outcome != "failed" {
                p { "Nothing to list." }
            }
            p.repeat { "Repeat it: " code { (seen(text(s, "command"))) } }
        }
    }
}

fn facts_list(facts: &[(&String, &Json)]) -> Markup {
    html! {
        @if !facts.is_empty() {
            dl { @for (key, value) in facts { dt { (seen(&key.replace('_', " "))) } dd { (shown(key, value)) } } }
        }
    }
}

/// The findings of `!analyze`, each with what speaks for it and what to type next.
fn verdict(answer: &Json) -> Markup {
    let of = |table: &str| model::rows(answer, table);
    let own = |table: &str, rank: u64, key: &str| -> Vec<String> {
        let rows = of(table).into_iter().filter(move |r| at(r, "rank").as_u64() == Some(rank));
        rows.map(|r| text(&r, key).to_owned()).filter(|t| !t.is_empty()).collect()
    };
    html! {
        p.trouble { "Trouble: " (seen(text(at(answer, "facts"), "trouble"))) }
        @for f in of("findings") {
            @let rank = at(&f, "rank").as_u64().unwrap_or(0);
            article class={ "finding " (seen(text(&f, "sure"))) } {
                h3 { (seen(text(&f, "what"))) }
                p.soft { (seen(text(&f, "area"))) ", " (seen(text(&f, "sure"))) }
                @let said = own("evidence", rank, "text");
                @if !said.is_empty() { ul { @for line in said { li { (seen(&line)) } } } }
                @let next = own("next", rank, "command");
                @if !next.is_empty() { p { "Next: " @for line in next { code { (seen(&line)) } " " } } }
            }
        }
    }
}

fn all_tables(tables: &[Json], left_out: impl Fn(&str) -> u64) -> Markup {
    html! { @for t in tables { (table(t, left_out(text(t, "name")))) } }
}

fn table(t: &Json, more: u64) -> Markup {
    let columns: Vec<&str> = list(t, "columns").iter().filter_map(Json::as_str).collect();
    let rows = list(t, "rows");
    let cell = |row: &Json, i: usize| row.get(i).cloned().unwrap_or(Json::Null);
    // Columns that say nothing in any row are left out.
    let used: Vec<(usize, &str)> =
        columns.iter().copied().enumerate().filter(|(i, _)| rows.iter().any(|r| !cell(r, *i).is_null())).collect();
    let biggest = |i: usize| rows.iter().filter_map(|r| cell(r, i).as_f64()).fold(0.0f64, f64::max);
    let numeric = |i: usize| rows.iter().any(|r| cell(r, i).is_number());
    let bar = |(i, key): &(usize, &str)| if is_bytes(key) { biggest(*i) } else { 0.0 };
    let bars: Vec<f64> = used.iter().map(bar).collect();
    let trend: Vec<usize> = used
        .iter()
        .filter(|(_, k)| k.strip_prefix("bytes_").is_some_and(|n| n.parse::<u32>().is_ok()))
        .map(|u| u.0)
        .collect();
    if rows.is_empty() {
        return html! {};
    }
    html! {
        div.scroll tabindex="0" role="region" aria-label=(name(t)) {
            table {
                caption { (name(t)) }
                thead { tr {
                    @for (i, key) in &used { th.n[numeric(*i)] scope="col" { button type="button" { (seen(&key.replace('_', " "))) } } }
                    @if trend.len() > 1 { th scope="col" { button type="button" { "trend" } } }
                } }
                tbody { @for row in rows { tr {
                    @for (&(i, key), &bar) in used.iter().zip(&bars) { (value(key, &cell(row, i), bar)) }
                    @if trend.len() > 1 { (curve(&trend.iter().map(|&i| cell(row, i).as_f64().unwrap_or(0.0)).collect::<Vec<_>>())) }
                } } }
            }
        }
        @if more > 0 { p { (thousands(more)) " rows more: the line below lists them." } }
    }
}

fn name(t: &Json) -> String {
    seen(&text(t, "name").replace('_', " ")).into_owned()
}

fn value(key: &str, value: &Json, bar: f64) -> Markup {
    let says = shown(key, value);
    let is_long = says.len() > 24;
    html! {
        @if value.is_number() {
            td.n data-v=(value) {
                (says)
                @if let Some(v) = value.as_f64().filter(|v| bar > 0.0 && *v >= 0.0) { meter min="0" max=(bar) value=(v) aria-hidden="true" {} }
            }
        } @else if is_address(&says) {
            td.a { (says) }
        } @else if is_long {
            td.long { (says) }
        } @else {
            td { (says) }
        }
    }
}

/// How one thing went from dump to dump.
fn curve(values: &[f64]) -> Markup {
    let most = values.iter().copied().fold(1.0f64, f64::max);
    let step = 84.0 / values.len().saturating_sub(1).max(1) as f64;
    let point = |(i, v): (usize, &f64)| (3.0 + step * i as f64, 21.0 - 18.0 * v / most);
    let points: Vec<(f64, f64)> = values.iter().enumerate().map(point).collect();
    let line: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    let (from, to) = (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0));
    html! {
        td data-v=((to - from)) {
            svg.trend viewBox="0 0 90 24" role="img" aria-label={ "from " (from) " to " (to) " bytes" } {
                polyline points=(line.join(" ")) {}
                @if let Some((x, y)) = points.last() { circle cx=(x) cy=(y) r="2.2" {} }
            }
        }
    }
}

fn is_bytes(column: &str) -> bool {
    ["bytes", "size", "retained"].iter().any(|w| column.contains(w)) && !column.contains("growth")
}

fn is_address(text: &str) -> bool {
    text.strip_prefix("0x").is_some_and(|hex| hex.len() <= 16 && hex.chars().all(|c| c.is_ascii_hexdigit()))
}

/// A value as the page shows it.
fn shown(key: &str, value: &Json) -> String {
    match value {
        Json::Null => String::new(),
        Json::String(s) => seen(s).into_owned(),
        Json::Bool(b) => if *b { "yes" } else { "no" }.into(),
        Json::Number(n) => match (n.as_u64(), n.as_i64(), n.as_f64()) {
            (Some(n), ..) if key == "number" || key == "pid" || key.ends_with("id") => n.to_string(),
            (Some(n), ..) => thousands(n),
            (None, Some(n), _) => format!("-{}", thousands(n.unsigned_abs())),
            (None, None, Some(f)) => format!("{f:.2}"),
            _ => n.to_string(),
        },
        other => seen(&other.to_string()).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{MOST_BYTES, POLICY, SCRIPT, STYLE, write};

    #[test]
    fn names_of_the_dump_are_text() {
        let evil = "</script><img src=x onerror=alert(1)>\u{202e}\u{7}";
        let model = json!({"dump": {"file": evil, "process": evil, "pid": 1}, "sections": [
            {"title": evil, "command": evil, "left_out": {}, "charts": [{"kind": "treemap", "rows": [[evil]]}], "answer": {
            "outcome": "partial", "reason": evil, "facts": {evil: evil}, "tables": [
                {"name": evil, "columns": [evil, "bytes", "bytes_1", "bytes_2"], "rows": [[evil, 12345, 1, 2]]},
                {"name": "findings", "columns": ["rank", "what", "sure", "area"], "rows": [[1, evil, evil, evil]]},
                {"name": "next", "columns": ["rank", "command"], "rows": [[1, evil]]},
                {"name": "evidence", "columns": ["rank", "text"], "rows": [[1, evil]]}]}}]});
        let page = write(&model).unwrap_or_default();
        assert!(!page.contains("<img") && !page.contains('\u{202e}') && !page.contains('\u{7}'));
        assert_eq!(page.matches("</script>").count(), 2);
        assert!(page.contains("12,345") && page.contains("data-v=\"12345\""));
    }

    #[test]
    fn a_page_is_small_whatever_there_is_to_say() {
        let long = "x".repeat(5_000);
        let rows: Vec<_> = (0..5_000).map(|i| json!([long, i])).collect();
        let section = json!({"title": "t", "command": "!c", "left_out": {}, "charts": [], "answer": {
            "outcome": "complete", "facts": {}, "tables": [{"name": "all", "columns": ["text", "n"], "rows": rows}]}});
        let sections: Vec<_> = (0..15).map(|_| section.clone()).collect();
        let page = write(&json!({"dump": {}, "sections": sections})).unwrap_or_default();
        assert!(!page.is_empty() && page.len() <= MOST_BYTES);
        assert!(page.contains("rows more: the line below lists them."));
    }

    #[test]
    fn nothing_is_loaded() {
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        for word in ["http:", "https:", "url(", "@import", "fetch(", "import("] {
            let namespace = SCRIPT.replace("http://www.w3.org/2000/svg", "").replace("url(#arrow)", "");
            assert!(!STYLE.contains(word) && !namespace.contains(word), "{word}");
        }
    }
}
