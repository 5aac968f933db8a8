"use strict";
// What is chosen stands in the address, after #, so that it can be sent to somebody: #verdict=fail&sort=ulp&order=descending
const form = document.querySelector(".filters");
const heads = [...document.querySelectorAll("#cases thead th")];
const bodies = [...document.querySelectorAll("#cases tbody, #heat tbody")];
const rows = [...document.querySelectorAll("#cases tbody tr")];
const numeric = new Set(["verdict", "ulp", "ratio"]);

function chosen() {
  return Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
}

function choose(changes) {
  const now = { ...chosen(), ...changes };
  const kept = Object.entries(now).filter(([, value]) => value !== "");
  history.replaceState(null, "", "#" + new URLSearchParams(kept));
  show();
}

function matches(row, wanted) {
  const words = (wanted.text || "").toLowerCase().split(/\s+/);
  const facts = ["verdict", "dtype", "peer"].every((name) => !wanted[name] || row.dataset[name] === wanted[name]);
  return facts && words.every((word) => row.dataset.text.toLowerCase().includes(word));
}

function show() {
  const wanted = chosen();
  for (const field of form.elements) {
    if (field.name) field.value = wanted[field.name] || "";
  }
  const column = heads.findIndex((head) => head.dataset.key === wanted.sort);
  const sign = wanted.order === "descending" ? -1 : 1;
  const value = (row) => row.cells[column].dataset.value;
  const sorted = [...rows].sort((a, b) => {
    const before = Number(a.dataset.row) - Number(b.dataset.row);
    if (column < 0) return before;
    const difference = numeric.has(wanted.sort) ? Number(value(a)) - Number(value(b)) : value(a).localeCompare(value(b));
    return sign * difference || before;
  });
  heads.forEach((head, k) => head.setAttribute("aria-sort", k !== column ? "none" : sign < 0 ? "descending" : "ascending"));
  for (const body of bodies) {
    const own = new Map([...body.rows].map((row) => [row.dataset.row, row]));
    for (const row of sorted) {
      const one = own.get(row.dataset.row);
      one.hidden = !matches(row, wanted);
      body.append(one);
    }
  }
  const number = rows.filter((row) => !row.hidden).length;
  document.getElementById("shown").textContent = number === rows.length ? `${number} cases` : `${number} of ${rows.length} cases`;
}

form.addEventListener("input", (event) => choose({ [event.target.name]: event.target.value }));
heads.forEach((head) => head.firstElementChild.addEventListener("click", () => {
  const descending = head.getAttribute("aria-sort") === "ascending" || (head.getAttribute("aria-sort") === "none" && numeric.has(head.dataset.key));
  choose({ sort: head.dataset.key, order: descending ? "descending" : "ascending" });
}));
document.querySelectorAll("[name=side]").forEach((button) => button.addEventListener("change", () => {
  document.body.dataset.side = button.value;
}));
addEventListener("hashchange", show);
show();
