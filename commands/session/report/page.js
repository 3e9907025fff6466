"use strict";
const model = JSON.parse(document.getElementById("model").textContent);
const make = (name, attributes, ...inside) => {
  const e = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) if (v !== null) e.setAttribute(k, v);
  e.append(...inside);
  return e;
};
const number = n => n.toLocaleString("en-US");
const size = n => {
  let unit = 0;
  for (; n >= 1000 && unit < 5; unit++) n /= 1000;
  return unit ? n.toPrecision(3) + " " + "kMGTP"[unit - 1] + "B" : n + " B";
};

// Tables: sort by a click on a title, filter by what a row says.
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0], titles = [...table.tHead.rows[0].cells];
  const value = (row, i) => { const c = row.cells[i]; return c.dataset.v === undefined ? c.textContent : Number(c.dataset.v); };
  titles.forEach((th, i) => th.firstChild.addEventListener("click", () => {
    const first = body.rows.length && typeof value(body.rows[0], i) === "number" ? "descending" : "ascending";
    const other = first === "ascending" ? "descending" : "ascending";
    const order = th.getAttribute("aria-sort") === first ? other : first;
    titles.forEach(t => t.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].map(r => [value(r, i), r]);
    rows.sort(([a], [b]) => sign * (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1));
    body.append(...rows.map(r => r[1]));
  }));
  if (body.rows.length > 8) {
    const name = table.caption.textContent;
    const input = make("input", { type: "search", placeholder: "filter", "aria-label": "filter " + name });
    const shown = make("span", { role: "status", class: "soft" });
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      let n = 0;
      for (const row of body.rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        n += !row.hidden;
      }
      shown.textContent = wanted ? " " + n + " of " + body.rows.length + " rows" : "";
    });
    table.parentNode.before(make("p", { class: "filter" }, input, shown));
  }
}

// Charts: parts that lie in others. A click or Enter on one goes into it, Escape out again.
const short = type => type.replace(/(?<![+>\p{L}\p{N}_$])[\p{L}_$][\p{L}\p{N}_$]*\./gu, "");
const hue = type => {
  const space = type.split(/[<`[+]/)[0].split(".").slice(0, 2).join(".");
  let h = 7;
  for (let i = 0; i < space.length; i++) h = (h * 31 + space.charCodeAt(i)) % 360;
  return h;
};
const parts = chart => {
  const all = chart.rows.map(([parent, kind, address, type, name, count, objects, bytes]) =>
    ({ parent, kind, address, type: type || "", name: name || "", count, objects, bytes, inside: [] }));
  for (const part of all) {
    part.above = part.parent === null ? null : all[part.parent];
    part.deep = part.above ? part.above.deep + 1 : 0;
    if (part.above) part.above.inside.push(part);
  }
  return all;
};
const label = p => ({
  heap: "live objects",
  object: p.name ? short(p.name) + ": " + short(p.type) : short(p.type),
  group: (p.name && p.kind === "group" ? short(p.name) + ": " : "") + (p.count > 1 ? number(p.count) + " × " : "") + short(p.type),
  own: "itself",
  others: number(p.count) + " smaller",
})[p.kind];
const whole = (p, all) => {
  const words = [label(p), number(p.bytes) + " bytes", (100 * p.bytes / (all || 1)).toFixed(2) + " % of the live bytes"];
  if (p.objects > 1) words.push(number(p.objects) + " objects");
  if (p.name) words.push("held by " + p.name);
  if (p.type && p.type !== label(p)) words.push(p.type);
  if (p.kind === "own") words.push("of " + label(p.above));
  return words.join(", ");
};
const command = p => !p.address ? "" : "!gcroot " + p.address.slice(2) + "; !retained " + p.address.slice(2);

// Squarified: rows of parts as near to squares as they get (Bruls, Huizing, van Wijk 2000).
function squares(inside, x, y, w, h, put) {
  let rest = inside.filter(p => p.bytes > 0), left = rest.reduce((s, p) => s + p.bytes, 0);
  while (rest.length) {
    const side = Math.max(Math.min(w, h), 1e-9), scale = w * h / left;
    let row = 0, sum = 0, worst = Infinity;
    while (row < rest.length) {
      const next = sum + rest[row].bytes * scale, thick = next / side;
      const most = Math.max(rest[0].bytes * scale / thick / thick, thick * thick / (rest[row].bytes * scale));
      if (row && most > worst) break;
      worst = most; sum = next; row++;
    }
    const thick = sum / side, across = w >= h;
    let at = 0;
    for (const p of rest.slice(0, row)) {
      const long = thick ? p.bytes * scale / thick : 0;
      if (across) put(p, x, y + at, thick, long); else put(p, x + at, y, long, thick);
      at += long;
    }
    if (across) { x += thick; w = Math.max(w - thick, 0); } else { y += thick; h = Math.max(h - thick, 0); }
    left -= rest.slice(0, row).reduce((s, p) => s + p.bytes, 0);
    rest = rest.slice(row);
  }
}
const layouts = {
  treemap(top, width, put) {
    const height = Math.max(260, Math.min(560, width * 0.6)), head = 15;
    const go = (p, x, y, w, h) => {
      put(p, x, y, w, h, !p.inside.length);
      if (!p.inside.length) return;
      const title = h > 2.4 * head && w > 40 ? head : 0, edge = w > 12 && h > 12 ? 1 : 0;
      squares(p.inside, x + edge, y + title + edge, Math.max(w - 2 * edge, 0), Math.max(h - title - 2 * edge, 0), go);
    };
    go(top, 0, 0, width, height);
    return height;
  },
  icicle(top, width, put) {
    const high = 22, most = 18;
    let deepest = 0;
    const go = (p, x, w, deep) => {
      if (deep >= most) return;
      deepest = Math.max(deepest, deep);
      put(p, x, deep * high, w, high - 1, !p.inside.length);
      for (const q of p.inside) {
        const wide = p.bytes ? w * q.bytes / p.bytes : 0;
        go(q, x, wide, deep + 1);
        x += wide;
      }
    };
    go(top, 0, width, 0);
    return (deepest + 1) * high;
  },
};
function draw(chart, place) {
  const all = parts(chart), layout = layouts[chart.kind];
  const trail = make("p", { class: "trail" }), said = make("p", { class: "said", role: "status" });
  const words = { treemap: "Treemap of what keeps what alive", icicle: "What roots hold, field by field" }[chart.kind];
  const keys = "arrow keys move, Enter goes into a part, Escape out of it";
  const field = make("div", { class: "field " + chart.kind, role: "tree", "aria-label": words + "; " + keys });
  place.append(trail, field, said);
  let top = all[0], tiles = new Map(), current = null;
  const say = p => said.replaceChildren(whole(p, all[0].bytes), ...(command(p) ? [make("code", {}, command(p))] : []));
  const point = (p, focus) => {
    if (tiles.get(current)) tiles.get(current).tabIndex = -1;
    current = p;
    const e = tiles.get(p);
    if (!e) return;
    e.tabIndex = 0;
    if (focus) e.focus({ preventScroll: true });
    say(p);
  };
  const show = (p, focus) => {
    top = p;
    tiles = new Map();
    field.replaceChildren();
    const width = field.clientWidth || 800, put = [];
    const height = layout(top, width, (...a) => put.push(a));
    field.style.height = height + "px";
    for (const [p, x, y, w, h, leaf] of put) {
      const e = make("div", { role: "treeitem", class: "part " + p.kind, "aria-label": whole(p, all[0].bytes), tabindex: -1, title: whole(p, all[0].bytes) });
      e.setAttribute("aria-level", p.deep - top.deep + 1);
      if (p.inside.length) e.setAttribute("aria-expanded", "true");
      if (leaf) e.dataset.leaf = "";
      e.dataset.bytes = p.bytes;
      e.style.left = 100 * x / width + "%";
      e.style.top = 100 * y / height + "%";
      e.style.width = 100 * w / width + "%";
      e.style.height = 100 * h / height + "%";
      e.style.setProperty("--hue", hue(p.type));
      e.style.setProperty("--deep", Math.min(p.deep - top.deep, 8));
      if (w > 34 && h > 13) e.append(make("span", {}, label(p) + " ", make("small", {}, size(p.bytes))));
      tiles.set(p, e);
      e.piece = p;
      field.append(e);
    }
    const up = [];
    for (let q = top; q; q = q.above) up.unshift(q);
    trail.replaceChildren(...up.flatMap((q, i) => {
      const b = make("button", { type: "button", "aria-current": q === top ? "true" : null }, label(q) + " " + size(q.bytes));
      b.addEventListener("click", () => show(q, true));
      return i ? [" › ", b] : [b];
    }));
    point(top, focus);
  };
  const into = p => { const to = p.inside.length ? p : p.above; if (to && to !== top) show(to, true); };
  field.addEventListener("click", e => { const t = e.target.closest(".part"); if (t) into(t.piece); });
  field.addEventListener("mouseover", e => { const t = e.target.closest(".part"); if (t) say(t.piece); });
  field.addEventListener("focusin", e => { if (e.target.piece) say(e.target.piece); });
  field.addEventListener("keydown", e => {
    const p = e.target.piece;
    if (!p) return;
    const beside = p === top || !p.above ? [p] : p.above.inside, i = beside.indexOf(p);
    const to = { ArrowRight: beside[i + 1], ArrowLeft: beside[i - 1], ArrowDown: p.inside[0], ArrowUp: p === top ? null : p.above,
      Home: beside[0], End: beside[beside.length - 1] }[e.key];
    if (e.key === "Enter" || e.key === " ") into(p);
    else if (e.key === "Escape" || e.key === "Backspace") { if (top.above) { const was = top; show(top.above); point(was, true); } }
    else if (!to) return;
    else point(to, true);
    e.preventDefault();
  });
  show(top);
  let wide = field.clientWidth;
  addEventListener("resize", () => { if (field.clientWidth !== wide) { wide = field.clientWidth; show(top); } });
}

// The graph of waits: a column a step, what waits to the left of what it waits for.
const svg = (name, attributes, ...inside) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [k, v] of Object.entries(attributes)) e.setAttribute(k, v);
  e.append(...inside);
  return e;
};
function graph(chart, place) {
  const nodes = chart.nodes.map(([kind, name, about, stuck], i) => ({ i, kind, name, about, stuck, to: [], column: 0, seen: 0 }));
  for (const [a, b, what] of chart.edges) nodes[a].to.push([nodes[b], what]);
  // Columns by the longest way; a step back closes a ring.
  const order = [];
  for (const start of nodes) {
    const stack = start.seen ? [] : [[start, 0]];
    if (stack.length) start.seen = 1;
    while (stack.length) {
      const last = stack[stack.length - 1], next = last[0].to[last[1]++];
      if (!next) { last[0].seen = 2; order.unshift(last[0]); stack.pop(); }
      else if (!next[0].seen) { next[0].seen = 1; stack.push([next[0], 0]); }
      else if (next[0].seen === 1) next[2] = true;
    }
  }
  for (const n of order) for (const [m, , back] of n.to) if (!back) m.column = Math.max(m.column, n.column + 1);
  // What hangs together stands together, rings first.
  const group = nodes.map((_, i) => i);
  const find = i => { while (group[i] !== i) i = group[i] = group[group[i]]; return i; };
  for (const n of nodes) for (const [m] of n.to) group[find(n.i)] = find(m.i);
  const blocks = new Map();
  for (const n of order) {
    const at = find(n.i);
    if (!blocks.has(at)) blocks.set(at, { columns: [], stuck: false });
    const block = blocks.get(at);
    block.stuck ||= n.stuck;
    (block.columns[n.column] ||= []).push(n);
  }
  const wide = 190, high = 40, gapX = 70, gapY = 14;
  let h = 10, w = 0;
  for (const { columns } of [...blocks.values()].sort((a, b) => b.stuck - a.stuck)) {
    const rows = Math.max(...columns.map(c => c ? c.length : 0));
    columns.forEach((c, x) => c && c.forEach((n, y) => {
      n.x = 20 + x * (wide + gapX);
      n.y = h + y * (high + gapY) + (rows - c.length) * (high + gapY) / 2;
    }));
    w = Math.max(w, columns.length * (wide + gapX) - gapX + 40);
    h += rows * (high + gapY) + (columns.length > 1 ? 22 : 8);
  }
  const cut = (t, n) => t.length > n ? t.slice(0, n - 1) + "…" : t;
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" },
    svg("path", { d: "M0 0 8 4 0 8z", class: "tip" }));
  const all = svg("svg", { viewBox: `0 0 ${w} ${h}`, width: w, height: h, role: "img",
    "aria-label": `graph of waits: ${nodes.length} threads and objects, ${chart.edges.length} lines; the tables below have them in words` }, svg("defs", {}, arrow));
  for (const n of nodes) for (const [m, what] of n.to) {
    const forth = m.x > n.x, x1 = n.x + (forth ? wide : wide / 2), x2 = m.x + (forth ? 0 : wide / 2);
    const y1 = n.y + (forth ? high / 2 : high), y2 = m.y + (forth ? high / 2 : high), low = Math.max(y1, y2) + 26, mid = (x1 + x2) / 2;
    const d = forth ? `M${x1} ${y1}C${mid} ${y1} ${mid} ${y2} ${x2} ${y2}` : `M${x1} ${y1}C${x1} ${low} ${x2} ${low} ${x2} ${y2}`;
    const stuck = n.stuck && m.stuck;
    all.append(svg("path", { d, class: "edge" + (what === "held by" ? " held" : "") + (stuck ? " stuck" : ""), "marker-end": "url(#arrow)" }, svg("title", {}, what)));
  }
  for (const n of nodes) {
    const g = svg("g", { class: "node " + n.kind + (n.stuck ? " stuck" : ""), transform: `translate(${n.x} ${n.y})` }, svg("title", {}, n.name + "\n" + n.about));
    g.append(svg("rect", { width: wide, height: high, rx: n.kind === "object" ? 4 : 18 }),
      svg("text", { x: 12, y: n.about ? 17 : 24 }, cut(n.name, 27)));
    if (n.about) g.append(svg("text", { x: 12, y: 32, class: "about" }, cut(short(n.about), 30)));
    all.append(g);
  }
  place.append(make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "graph of waits" }, all),
    make("p", { class: "soft" }, "Solid: waits for. Dashed: held by." + (chart.left_out ? ` ${chart.left_out} more are in the table alone.` : "")));
}
for (const place of document.querySelectorAll(".chart")) {
  const chart = model.sections[place.dataset.section].charts[place.dataset.chart];
  if (chart.kind === "waits") graph(chart, place); else draw(chart, place);
}
