"use strict";
// Keyboard: j and k go through turns or list entries, n and p to the next and previous page of the same kind, / to
// the search. In a report they go through its parts, and through the turns of those that are open.
const folded = document.querySelector("details.page") !== null;
function steps() {
  const seen = (names) => [...document.querySelectorAll(names)].filter((each) => each.checkVisibility());
  const turns = seen(folded ? "details.page > summary, details.page .step" : ".step");
  return turns.length ? turns : seen(".item");
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "n" || event.key === "p") {
    const link = document.querySelector(`a[rel="${event.key === "n" ? "next" : "prev"}"]`);
    if (link) link.click();
  } else if (event.key === "/") {
    const field = document.querySelector("form[role=search] input");
    if (!field) return;
    field.focus();
    event.preventDefault();
  } else if (event.key === "j" || event.key === "k") {
    const all = steps();
    if (!all.length) return;
    const at = all.indexOf(document.activeElement);
    const next = event.key === "j" ? Math.min(at + 1, all.length - 1) : Math.max(at - 1, 0);
    all[next].focus();
    all[next].scrollIntoView({ block: "nearest" });
    const named = all[next].closest("[id]");
    if (named && named.id !== "main") history.replaceState(null, "", `#${named.id}`);
    event.preventDefault();
  }
});
// A click on a column's name sorts a list; figures by value, the rest by text, what is not known last.
document.addEventListener("click", (event) => {
  const head = event.target.closest(".sortable thead th");
  if (!head) return;
  const column = head.cellIndex, body = head.closest("table").tBodies[0];
  const up = head.getAttribute("aria-sort") !== "ascending";
  head.parentNode.querySelectorAll("th").forEach((each) => each.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const value = (row) => {
    const cell = row.cells[column];
    return cell ? cell.dataset.value || cell.textContent.trim() : "";
  };
  const known = (text) => text !== "" && text !== "–";
  const rows = [...body.rows].sort((a, b) => {
    const [x, y] = [value(a), value(b)], [u, v] = [parseFloat(x), parseFloat(y)];
    if (!known(x) || !known(y)) return known(y) - known(x);
    return (up ? 1 : -1) * (Number.isNaN(u) || Number.isNaN(v) ? x.localeCompare(y) : u - v);
  });
  body.append(...rows);
});
// The list of runs is narrowed to the rows that contain all words.
function narrowList(form) {
  const words = form.querySelector("input").value.toLowerCase().split(/\s+/);
  const rows = [...document.querySelectorAll("main .list tbody tr")];
  rows.forEach((row) => { row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word)); });
  const left = rows.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = left < rows.length ? `${left} of ${rows.length} runs` : "";
}
for (const kind of ["input", "submit"]) {
  document.addEventListener(kind, (event) => {
    const form = event.target.closest("form.narrow");
    if (!form) return;
    if (kind === "submit") event.preventDefault();
    narrowList(form);
  });
}
// Pages of runs that go on are brought up to date in place, so long as nobody types or has sorted.
const main = document.querySelector("main[data-live]");
if (main) {
  setInterval(async () => {
    if (document.hidden || main.querySelector("[aria-sort]") || main.contains(document.activeElement)) return;
    if ([...main.querySelectorAll("input")].some((field) => field.value)) return;
    try {
      const reply = await fetch(location.href);
      if (!reply.ok) return;
      const fresh = new DOMParser().parseFromString(await reply.text(), "text/html").querySelector("main");
      if (fresh && fresh.innerHTML !== main.innerHTML) main.innerHTML = fresh.innerHTML;
    } catch { /* the viewer has ended */ }
  }, 5000);
}
// In a report, a link to a part that is folded opens it.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let fold = target.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  const first = target.matches(".step") ? target : target.querySelector(":scope > summary");
  if (first) first.focus({ preventScroll: true });
  target.scrollIntoView();
}
if (folded) {
  addEventListener("hashchange", unfold);
  unfold();
}
