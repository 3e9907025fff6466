"use strict";
for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const value = (row, i) => { const c = row.cells[i]; return c.dataset.v === undefined ? c.textContent : Number(c.dataset.v); };
  table.querySelectorAll("th").forEach((th, i) => th.firstChild.addEventListener("click", () => {
    const down = th.getAttribute("aria-sort") !== "descending";
    table.querySelectorAll("th").forEach(o => o.removeAttribute("aria-sort"));
    th.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows];
    rows.sort((a, b) => { const x = value(a, i), y = value(b, i); const d = x < y ? -1 : x > y ? 1 : 0; return down ? -d : d; });
    rows.forEach(r => body.append(r));
  }));
  if (body.rows.length > 8) {
    const input = document.createElement("input");
    input.type = "search"; input.placeholder = "filter"; input.setAttribute("aria-label", "filter " + table.caption.textContent);
    input.addEventListener("input", () => {
      const wanted = input.value.toLowerCase();
      for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
    });
    table.parentNode.before(input);
  }
}
