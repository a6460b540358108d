/* The document explorer: filters, the slider through the depths, and a word's or patch's course.

   After page.js, and the file that makes a card's `body`, of texts or of images: `prepare(doc)`; `build(doc, data)`, which
   gives its `main` element, the `units` in it that carry relevance, `facts` for the foot, and perhaps `near`, what a
   course is shown beside, and `paint`; `walk(view, place, key)`; and the keys `deeper` and `shallower`. */

(() => {
  const explorer = byId("explorer");
  if (!explorer) return;
  const data = JSON.parse(byId("data").textContent);
  const FINAL = data.depths;
  const PAGE = 10;
  const state = { kind: "", label: "", search: "", word: null, depth: FINAL, limit: PAGE };
  const slider = byId("depth");
  const cards = byId("cards");
  const course = byId("course");
  const views = [];
  let active = null;

  function integers(text) {
    const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Array.from({ length: bytes.length / 2 }, (_, index) => view.getInt16(index * 2, true));
  }

  for (const [index, doc] of data.documents.entries()) {
    doc.index = index;
    body.prepare(doc);
  }

  function decoded(doc) {
    if (!doc.layers) {
      const flat = integers(doc.effects);
      const width = doc.units.length;
      doc.layers = Array.from({ length: data.depths }, (_, depth) =>
        flat.slice(depth * width, (depth + 1) * width).map((value) => value * doc.step));
      doc.final = integers(doc.scores).map((value) => value * doc.scoreStep);
    }
    return doc;
  }

  /* A unit's logit effect: its mean over the depths but the last. */
  function effect(doc, place) {
    const before = doc.layers.slice(0, -1);
    return before.reduce((sum, layer) => sum + layer[place], 0) / Math.max(1, before.length);
  }

  function depthName(depth) {
    if (depth === FINAL) return "Final score";
    if (depth === 0) return "0 · embeddings";
    return depth === FINAL - 1 ? `${depth} · last block` : `${depth} of ${FINAL - 1}`;
  }

  function called(doc) {
    const target = element("b");
    target.append(isolated(doc.target));
    if (data.head === "regression") return [target, ` = ${doc.value}`];
    const predicted = isolated(doc.predicted), share = `, p = ${doc.probability}`;
    if (data.head === "multi_label") return ["predicted ", predicted, "; explained ", target, share];
    return doc.predicted === doc.target ? ["predicted ", target, share] : ["predicted ", predicted, ", explained as ", target, share];
  }

  function build(doc) {
    decoded(doc);
    const card = element("article", "card");
    card.setAttribute("aria-label", `${data.document[0].toUpperCase()}${data.document.slice(1)} ${doc.id}`);
    const header = element("header");
    const call = element("span", "call");
    call.append(...called(doc));
    const heading = element("h3", "", doc.id);
    heading.dir = "auto";
    header.append(heading, call);
    if (data.head === "regression") {
      if (doc.missed !== null) header.append(element("span", "", `label ${doc.label}, error ${doc.missed}`));
    } else if (doc.label !== null) {
      const several = data.head === "multi_label";
      const label = element("span", doc.correct ? "" : "wrong");
      label.append(...(doc.correct ? [several ? "labels agree" : "label agrees"] : [`✕ label${several ? "s" : ""}: `, isolated(doc.label)]));
      header.append(label);
    }
    const tags = element("span", "tags");
    for (const reason of doc.reasons) {
      const group = data.groups.find((found) => found.kind === reason.kind);
      const tag = element("span", "", group.title + (reason.text ? ` · ${reason.text}` : ""));
      tag.title = group.note;
      tags.append(tag);
    }
    header.append(tags);

    const made = body.build(doc, data);
    const { main, units } = made;
    const first = units.findIndex((_, place) => !doc.special.includes(place));
    if (units.length) units[Math.max(0, first)].tabIndex = 0;

    const footer = element("footer");
    const scale = element("span", "scale");
    const low = element("span"), high = element("span"), sums = element("span");
    const ramp = element("span", "ramp");
    ramp.setAttribute("aria-hidden", "true");
    scale.append(low, ramp, high);
    footer.append(scale, sums);
    const facts = [`${doc.tokens} tokens`];
    facts.push(doc.settling === null ? "never settles" : `settles at depth ${doc.settling}`);
    const converged = doc.converged === null ? "" : doc.converged ? "converged, " : "not converged, ";
    facts.push(`${converged}error estimate ${doc.estimate}`);
    if (doc.truncated) facts.push("cut at the model's maximum length");
    facts.push(...made.facts);
    footer.append(element("span", "", facts.join(" · ")));
    card.append(header, main, footer);
    return { doc, card, main, units, near: made.near, paint: made.paint, low, high, sums };
  }

  function paint(view) {
    const { doc } = view;
    const last = state.depth === FINAL;
    const values = last ? doc.final : doc.layers[state.depth];
    const end = (last ? doc.scoreMax : doc.max) || 1;
    let content = 0, special = 0;
    view.units.forEach((unit, place) => {
      const value = values[place];
      unit.style.setProperty("--a", Math.min(1, Math.abs(value) / end).toFixed(3));
      unit.classList.toggle("neg", value < 0);
      if (doc.special.includes(place)) special += value; else content += value;
    });
    view.low.textContent = written(-end, end < 0.1 ? 4 : 2);
    view.high.textContent = written(end, end < 0.1 ? 4 : 2) + (last ? " score" : ` ${data.unit}`);
    view.sums.textContent = `${data.items} ${written(content)}, special tokens ${written(special)}`;
    if (view.paint) view.paint(view, { values, last, name: depthName(state.depth), unit: data.unit, effect: (place) => effect(doc, place) });
  }

  function mark(view) {
    const places = state.word === null ? [] : view.doc.words[state.word] || [];
    view.units.forEach((unit, place) => unit.classList.toggle("found", places.includes(place)));
  }

  function matching() {
    return data.documents.filter((doc) =>
      (!state.kind || doc.reasons.some((reason) => reason.kind === state.kind)) &&
      (!state.label || doc.target === state.label) &&
      (state.word === null || doc.words[state.word]) &&
      (!state.search || doc.haystack.includes(state.search)));
  }

  function show() {
    hideCourse();
    const found = matching();
    const drawnDocs = found.slice(0, state.limit);
    cards.replaceChildren(...drawnDocs.map((doc) => {
      views[doc.index] ??= build(doc);
      paint(views[doc.index]);
      mark(views[doc.index]);
      return views[doc.index].card;
    }));
    if (!found.length) cards.append(element("p", "empty", `No ${data.document} of the sample matches. Widen the filters above.`));
    byId("shown").textContent = `${found.length} of ${data.documents.length}`;
    byId("more").hidden = found.length <= drawnDocs.length;
    byId("more").textContent = `Show ${Math.min(PAGE, found.length - drawnDocs.length)} more`;
  }

  function repaint() {
    slider.value = state.depth;
    byId("depth-name").textContent = depthName(state.depth);
    slider.setAttribute("aria-valuetext", depthName(state.depth));
    for (const view of views) if (view && view.card.isConnected) paint(view);
    if (active) showCourse(active.view, active.place);
  }

  function refilter(change) {
    Object.assign(state, change, { limit: PAGE });
    show();
  }

  /* A word's course through the depths. */

  function showCourse(view, place) {
    active = { view, place };
    const { doc } = view;
    const values = doc.layers.map((layer) => layer[place]);
    const size = Math.max(...values.map(Math.abs)) || 1;
    const width = 300, height = 64;
    const x = (depth) => 5 + (width - 10) * (depth / Math.max(1, values.length - 1));
    const y = (value) => height / 2 - (height / 2 - 6) * (value / size);
    const heading = element("h4");
    const word = element("bdi", "", doc.units[place]);
    heading.append(word, element("span", "", state.depth === FINAL ? `score ${written(doc.final[place])}` : `${written(values[state.depth])} ${data.unit}`));
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    svg.append(drawn("line", { class: "zero", x1: 0, x2: width, y1: height / 2, y2: height / 2 }));
    svg.append(drawn("path", { class: "curve", d: "M" + values.map((value, depth) => `${x(depth).toFixed(1)} ${y(value).toFixed(1)}`).join("L") }));
    values.forEach((value, depth) => svg.append(drawn("circle", {
      class: (value < 0 ? "neg" : "pos") + (depth === state.depth ? " now" : ""), cx: x(depth).toFixed(1), cy: y(value).toFixed(1), r: depth === state.depth ? 4.5 : 3,
    })));
    const steps = element("div", "steps");
    values.forEach((value, depth) => {
      const step = element("span", depth === state.depth ? "now" : "");
      step.append(element("small", "", String(depth)), written(value));
      steps.append(step);
    });
    course.replaceChildren(heading, svg, steps, element("p", "",
      `Per depth, in ${data.unit}. Logit effect (mean of depths 0–${values.length - 2}) ${written(effect(doc, place))}; final score ${written(doc.final[place])}.`));
    course.hidden = false;
    const unit = view.units[place];
    const box = unit.getClientRects()[0] || unit.getBoundingClientRect();
    const edge = document.documentElement.clientWidth - course.offsetWidth - 12;
    let left = Math.min(Math.max(8, box.left), edge);
    let top = box.bottom + course.offsetHeight + 12 < window.innerHeight ? box.bottom + 8 : box.top - course.offsetHeight - 8;
    if (view.near && view.near.getBoundingClientRect().right + 12 < edge) {
      left = view.near.getBoundingClientRect().right + 12;
      top = view.near.getBoundingClientRect().top;
    }
    const frame = explorer.getBoundingClientRect();
    course.style.left = `${left - frame.left}px`;
    course.style.top = `${top - frame.top}px`;
  }

  function hideCourse() {
    active = null;
    course.hidden = true;
  }

  function located(target) {
    const unit = target instanceof Element ? target.closest(".u") : null;
    if (!unit) return null;
    const view = views.find((found) => found && found.main.contains(unit));
    return { view, place: Number(unit.dataset.place) };
  }

  function setDepth(depth) {
    state.depth = Math.min(FINAL, Math.max(0, depth));
    repaint();
  }

  for (const event of ["mouseover", "focusin"]) {
    cards.addEventListener(event, (happened) => {
      const found = located(happened.target);
      if (found) showCourse(found.view, found.place);
    });
  }
  cards.addEventListener("mouseout", () => {
    const focused = located(document.activeElement);
    if (focused) showCourse(focused.view, focused.place); else hideCourse();
  });
  cards.addEventListener("focusout", hideCourse);
  cards.addEventListener("keydown", (event) => {
    const found = located(event.target);
    if (!found) return;
    const { view, place } = found;
    const next = body.walk(view, place, event.key);
    if (event.key === body.deeper) setDepth(state.depth + 1);
    else if (event.key === body.shallower) setDepth(state.depth - 1);
    else if (event.key === "Escape") hideCourse();
    else if (next === null) return;
    event.preventDefault();
    if (next === null || !view.units[next]) return;
    view.units[place].tabIndex = -1;
    view.units[next].tabIndex = 0;
    view.units[next].focus();
  });

  /* Controls. */

  const opacity = byId("opacity"); // of images only
  if (opacity) {
    const cover = () => explorer.style.setProperty("--overlay", opacity.value / 100);
    opacity.addEventListener("input", cover);
    cover();
  }

  slider.addEventListener("input", () => { stop(); setDepth(Number(slider.value)); });

  let timer = null;
  function stop() {
    window.clearInterval(timer);
    timer = null;
    byId("play").textContent = "▶";
    byId("play").setAttribute("aria-label", "Play through the depths");
  }
  byId("play").addEventListener("click", () => {
    if (timer !== null) return stop();
    byId("play").textContent = "❚❚";
    byId("play").setAttribute("aria-label", "Pause");
    setDepth(state.depth === FINAL ? 0 : state.depth + 1);
    timer = window.setInterval(() => {
      setDepth(state.depth + 1);
      if (state.depth === FINAL) stop();
    }, 900);
  });

  byId("groups").addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const button of byId("groups").children) button.setAttribute("aria-pressed", String(button === chosen));
    const group = data.groups.find((found) => found.kind === chosen.dataset.kind);
    byId("group-note").textContent = group ? `${group.title}: ${group.note}.` : "";
    refilter({ kind: chosen.dataset.kind });
  });

  const labels = byId("class-filter");
  for (const label of data.classes) {
    const option = element("option", "", label);
    option.value = label;
    labels.append(option);
  }
  labels.hidden = data.classes.length < 2;
  labels.addEventListener("change", () => { clearWord(); refilter({ label: labels.value }); });
  byId("search").addEventListener("input", (event) => refilter({ search: event.target.value.trim().toLowerCase() }));
  byId("more").addEventListener("click", () => {
    const before = cards.children.length;
    state.limit += PAGE;
    show();
    const unit = cards.children[before]?.querySelector('.u[tabindex="0"]');
    if (unit) unit.focus({ preventScroll: true });
  });

  function clearWord() {
    state.word = null;
    byId("word-chip").hidden = true;
    byId("word-note").hidden = true;
    for (const button of document.querySelectorAll("button.word")) button.setAttribute("aria-pressed", "false");
  }

  function chooseWord(button) {
    const { word } = button.dataset;
    clearWord();
    button.setAttribute("aria-pressed", "true");
    byId("word-chip").hidden = false;
    byId("word-chip").textContent = `“${button.querySelector(".name").textContent}” ×`;
    byId("word-chip").setAttribute("aria-label", `Stop filtering by ${word}`);
    labels.value = data.classes.includes(button.dataset.class) ? button.dataset.class : "";
    byId("search").value = "";
    for (const group of byId("groups").children) group.setAttribute("aria-pressed", String(group.dataset.kind === ""));
    byId("group-note").textContent = "";
    refilter({ word: String(data.words.indexOf(word)), label: labels.value, kind: "", search: "" });
    const note = byId("word-note");
    note.hidden = false;
    byId("word-sql").textContent = data.ask.join(data.literals[data.words.indexOf(word)]);
    byId("documents").scrollIntoView();
    byId("word-chip").focus({ preventScroll: true });
  }

  for (const button of document.querySelectorAll("button.word")) {
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-pressed") === "true") { clearWord(); refilter({ label: labels.value }); } else chooseWord(button);
    });
  }
  /* Links to one document: those that show why a gate does not hold. */
  for (const link of document.querySelectorAll("a[data-document]")) {
    link.addEventListener("click", () => {
      clearWord();
      labels.value = "";
      byId("search").value = link.dataset.document;
      for (const group of byId("groups").children) group.setAttribute("aria-pressed", String(group.dataset.kind === ""));
      byId("group-note").textContent = "";
      refilter({ kind: "", label: "", search: link.dataset.document.trim().toLowerCase() });
    });
  }
  byId("word-chip").addEventListener("click", () => {
    const pressed = document.querySelector('.word[aria-pressed="true"]');
    clearWord();
    labels.value = "";
    refilter({ label: "" });
    if (pressed) pressed.focus({ preventScroll: true });
  });

  explorer.hidden = false;
  repaint();
  show();
})();
