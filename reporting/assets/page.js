"use strict";
// Sorting: each head of a data table becomes a button; numbers by data-value, empty cells last in both directions.
document.querySelectorAll("table.data").forEach((table) => {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => {
        const cell = row.cells[column];
        if (!cell.classList.contains("number")) return cell.textContent;
        return cell.dataset.value === "" ? null : Number(cell.dataset.value);
      };
      const empty = (value) => value === null || value === "";
      const compare = (a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
      const rows = [...body.rows].map((row) => ({ row, value: key(row) }));
      rows.sort((a, b) => {
        if (empty(a.value) || empty(b.value)) return empty(a.value) - empty(b.value);
        return down ? compare(b.value, a.value) : compare(a.value, b.value);
      });
      body.replaceChildren(...rows.map((r) => r.row));
    });
  });
});

// Theme: automatic, light, dark in turn.
const theme = document.getElementById("theme");
const names = { auto: "automatic", light: "light", dark: "dark" };
let chosen = "auto";
theme.hidden = false;
theme.addEventListener("click", () => {
  const order = Object.keys(names);
  chosen = order[(order.indexOf(chosen) + 1) % order.length];
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  theme.textContent = `Theme: ${names[chosen]}`;
});

// Printing opens what is folded.
window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
