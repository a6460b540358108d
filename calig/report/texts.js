/* The body of a text's card: its words in their places. Between page.js and explorer.js. */

const body = (() => {
  /* The two texts of a pair, one below the other. */

  function opened(text, title) {
    const part = element("div", "part");
    part.dir = "auto";
    part.setAttribute("role", "group");
    part.setAttribute("aria-label", title);
    text.append(part);
    return part;
  }

  function next(text, part, doc) {
    part.append(doc.tail);
    return opened(text, "Second text");
  }

  function prepare(doc) {
    const words = doc.gaps.map((gap, place) =>
      (place === doc.second ? `${doc.tail}\n` : "") + gap + (doc.special.includes(place) ? "" : doc.units[place] || ""));
    doc.haystack = `${doc.id}\n${words.join("")}`.toLowerCase();
  }

  function build(doc) {
    const text = element("div", doc.second === null ? "text" : "text pair");
    text.dir = "auto";
    text.setAttribute("role", "group");
    text.setAttribute("aria-label", "Words with their relevance. Left and right arrows move between words, up and down through the depths.");
    const units = doc.units.map((word, place) => {
      const special = doc.special.includes(place);
      const unit = element(special ? "bdi" : "span", special ? "u special" : "u", word); // bdi: not for dir=auto
      unit.tabIndex = -1;
      unit.dataset.place = place;
      return unit;
    });
    let part = text;
    if (doc.second !== null) part = opened(text, "First text");
    units.forEach((unit, place) => {
      if (place === doc.second) part = next(text, part, doc);
      part.append(doc.gaps[place], unit);
    });
    if (doc.second === doc.units.length) part = next(text, part, doc);
    part.append(doc.gaps[doc.units.length]);
    const facts = doc.window ? [`words ${doc.window[0]}–${doc.window[1]} of ${doc.window[2]}, the stretch with most relevance`] : [];
    return { main: text, units, facts };
  }

  /* Where a key leads from a word: a place, or nowhere. */
  function walk(view, place, key) {
    const forward = getComputedStyle(view.units[place].parentElement).direction === "rtl" ? "ArrowLeft" : "ArrowRight";
    if (key === "ArrowRight" || key === "ArrowLeft") return place + (key === forward ? 1 : -1);
    if (key === "Home") return 0;
    return key === "End" ? view.units.length - 1 : null;
  }

  return { prepare, build, walk, deeper: "ArrowUp", shallower: "ArrowDown" };
})();
