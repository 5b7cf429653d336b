// In a report: parts are shown by what is chosen. A part fits where one of its episodes has all that is asked for.
const choose = document.getElementById("choose");
if (choose) {
  const parts = [...document.querySelectorAll("details.page[data-sides]")].map((element) => ({
    element, section: element.closest("section"), sides: JSON.parse(element.dataset.sides), text: null,
  }));
  const sections = [...new Set(parts.map((part) => part.section))];
  const fields = [...choose.querySelectorAll("select")], words = choose.querySelector("input");
  const told = choose.querySelector("output");
  // Line breaks of the file are no part of what was said.
  const plain = (text) => text.toLowerCase().replace(/\s+/g, " ").trim();
  const narrow = () => {
    const asked = fields.filter((field) => field.value), text = plain(words.value);
    const ofSides = asked.filter((field) => !(field.name in parts[0].element.dataset));
    const ofParts = asked.filter((field) => field.name in parts[0].element.dataset);
    let fitting = 0;
    for (const part of parts) {
      if (text && part.text === null) part.text = plain(part.element.textContent);
      const fits = ofParts.every((field) => part.element.dataset[field.name] === field.value)
        && part.sides.some((side) => ofSides.every((field) => side[field.name] === field.value))
        && (!text || part.text.includes(text));
      part.element.hidden = !fits;
      fitting += fits;
    }
    for (const section of sections) {
      const own = parts.filter((part) => part.section === section);
      const left = own.filter((part) => !part.element.hidden).length;
      section.querySelector("h2 small").textContent = left < own.length ? `${left} of ${own.length}` : `${own.length}`;
    }
    told.textContent = asked.length || text ? `${fitting} of ${parts.length} parts fit` : `${parts.length} parts`;
  };
  let waiting = 0;
  choose.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(narrow, 150); });
  choose.addEventListener("submit", (event) => { event.preventDefault(); narrow(); });
  choose.addEventListener("reset", () => setTimeout(narrow));
  // A link to a part that is hidden shows all parts again.
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.closest("[hidden]")) { choose.reset(); narrow(); unfold(); }
  });
  choose.hidden = false;
  narrow();
}
