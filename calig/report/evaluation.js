/* The page of an evaluation: sorting, groups of columns, lit-up lines, and two methods side by side.

   After page.js, and texts.js or images.js, which draw a document (`body`). */

/* The table. */

(() => {
  const table = byId("table"), rows = table.tBodies[0], heads = [...table.tHead.rows[0].cells];

  function sort(head) {
    const place = heads.indexOf(head);
    const best = head.dataset.better === "1" ? "descending" : "ascending";
    const order = head.getAttribute("aria-sort") === best ? (best === "ascending" ? "descending" : "ascending") : best;
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const value = (row) => row.cells[place].dataset.value;
    const compare = place === 0 ? (one, other) => one.localeCompare(other) : (one, other) => Number(one) - Number(other);
    const missing = (row) => Number(value(row) === "");
    rows.append(...[...rows.rows].sort((one, other) => missing(one) - missing(other) || (missing(one) ? 0 : sign * compare(value(one), value(other)))));
  }
  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));

  const groups = byId("column-groups");
  function choose(group) {
    for (const button of groups.children) button.setAttribute("aria-pressed", String(button.dataset.group === group));
    for (const cell of table.querySelectorAll("[data-group]")) cell.hidden = cell.dataset.group !== group;
  }
  if (groups.children.length > 1) {
    groups.hidden = false;
    choose(groups.children[0].dataset.group);
    for (const button of groups.children) button.addEventListener("click", () => choose(button.dataset.group));
  }
})();

/* A method's line in every chart lights up with its name, and the other way round. */

(() => {
  const keyed = [...document.querySelectorAll("[data-key]")];
  const buttons = keyed.filter((one) => one.tagName === "BUTTON");
  const kept = new Set();

  function light(key, on) {
    for (const one of keyed) {
      if (one.dataset.key !== key) continue;
      one.classList.toggle("lit", on);
      if (on && one.tagName !== "BUTTON") one.parentNode.append(one); // on top of the others
    }
  }
  for (const one of keyed) {
    const { key } = one.dataset;
    for (const event of ["mouseenter", "focus"]) one.addEventListener(event, () => light(key, true));
    for (const event of ["mouseleave", "blur"]) one.addEventListener(event, () => light(key, kept.has(key)));
  }
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const { key } = button.dataset;
      if (!kept.delete(key)) kept.add(key);
      button.setAttribute("aria-pressed", String(kept.has(key)));
      light(key, true);
    });
  }
})();

/* CA-LIG beside another method. */

(() => {
  const root = byId("disagreement");
  if (!root) return;
  const data = JSON.parse(byId("data").textContent);
  const title = (name) => data.methods.find((method) => method.name === name)?.title ?? name;
  const select = byId("other"), reading = byId("reading");
  let chosen = data.chosen;

  for (const method of data.methods) {
    if (method.name === data.subject) continue;
    const option = element("option", "", method.title);
    option.value = method.name;
    select.append(option);
  }
  byId("subject-name").textContent = title(data.subject);
  select.value = chosen;

  function values(doc, method) {
    const found = doc.scores[method];
    if (!found) return null;
    if (!found.decoded) {
      const view = new DataView(Uint8Array.from(atob(found.values), (character) => character.charCodeAt(0)).buffer);
      found.decoded = Array.from({ length: view.byteLength / 2 }, (_, index) => view.getInt16(index * 2, true) * found.step);
    }
    return found.decoded;
  }

  /* One method's half of a card: its name, and the document in its colours. */
  function side(doc) {
    const figure = element("figure"), caption = element("figcaption");
    let main, units;
    if (doc.grid) {
      main = body.frame(doc, "");
      main.classList.add("heat");
      const [grid, cells] = body.cells(doc);
      grid.setAttribute("aria-label", "Patches with their scores. Arrow keys move between patches.");
      main.append(grid);
      units = cells;
    } else {
      ({ main, units } = body.build(doc, data));
      main.setAttribute("aria-label", "Words with their scores. Left and right arrows move between words.");
      for (const place of doc.rationale ?? []) {
        units[place].classList.add("reason");
        units[place].setAttribute("aria-description", "marked by people");
      }
    }
    if (units.length) units[0].tabIndex = 0;
    figure.append(caption, main);
    return { doc, figure, caption, main, units };
  }

  function paint(half, method) {
    const found = values(half.doc, method);
    const end = found ? Math.max(...found.map(Math.abs)) || 1 : 1;
    half.method = method;
    half.units.forEach((unit, place) => {
      const value = found ? found[place] : 0;
      unit.style.setProperty("--a", (Math.abs(value) / end).toFixed(3));
      unit.classList.toggle("neg", value < 0);
    });
    const agreement = half.doc.scores[method]?.agreement;
    const note = !found ? " did not apply to it" : method === data.subject || agreement === null ? "" : ` · ρ ${written(agreement)} with ${title(data.subject)}`;
    half.caption.replaceChildren(element("b", "", title(method)), note);
  }

  function card(doc) {
    const made = element("article", "card"), header = element("header"), heading = element("h3", "", doc.id);
    made.setAttribute("aria-label", `${data.document} ${doc.id}`);
    heading.dir = "auto";
    const call = element("span", "call");
    const explained = element("b");
    explained.append(isolated(doc.target));
    call.append("explained: ", explained, doc.probability === null ? "" : `, p = ${doc.probability}`);
    header.append(heading, call);
    const named = (kind, text, name) => {
      const one = element("span", kind, text);
      one.append(isolated(name));
      header.append(one);
    };
    if (doc.predicted && doc.predicted !== doc.target) named("", "predicted ", doc.predicted);
    if (doc.label !== null) named(doc.label === doc.predicted || !doc.predicted ? "" : "wrong", "label: ", doc.label);
    const tags = element("span", "tags");
    tags.append(element("span", "", `disagreement ${doc.disagreement}`));
    header.append(tags);
    const beside = element("div", doc.grid ? "beside pictures" : "beside");
    if (doc.grid) {
      const seen = element("figure");
      seen.append(element("figcaption", "", doc.picture ? "As the model saw it" : "No picture was kept"), body.frame(doc, `${doc.id}, as the model saw it`));
      beside.append(seen);
    }
    const halves = [side(doc), side(doc)];
    beside.append(...halves.map((half) => half.figure));
    const footer = element("footer"), scale = element("span", "scale"), ramp = element("span", "ramp");
    ramp.setAttribute("aria-hidden", "true");
    scale.append("against", ramp, "for");
    footer.append(scale);
    if (doc.rationale) footer.append(element("span", "", `${doc.rationale.length} of ${doc.units.length} words marked by people`));
    if (doc.window) footer.append(element("span", "", `words ${doc.window[0]}–${doc.window[1]} of ${doc.window[2]}`));
    made.append(header, beside, footer);
    return { doc, made, halves };
  }

  for (const doc of data.documents) body.prepare(doc);
  const views = data.documents.map(card);
  byId("cards").append(...views.map((view) => view.made));

  function repaint() {
    for (const { halves } of views) {
      paint(halves[0], data.subject);
      paint(halves[1], chosen);
    }
  }
  select.addEventListener("change", () => {
    chosen = select.value;
    repaint();
  });

  function located(target) {
    const unit = target instanceof Element ? target.closest(".u") : null;
    if (!unit) return null;
    const view = views.find((found) => found.made.contains(unit));
    const own = view.halves.findIndex((half) => half.main.contains(unit));
    return { view, own, place: view.halves[own].units.indexOf(unit) };
  }

  function read(found) {
    for (const unit of root.querySelectorAll(".twin")) unit.classList.remove("twin");
    if (!found) { reading.textContent = ""; return; }
    const { view, own, place } = found;
    view.halves[1 - own].units[place].classList.add("twin");
    const said = view.halves.map((half) => {
      const score = values(view.doc, half.method)?.[place];
      return `${title(half.method)} ${score === undefined ? "–" : written(score, Math.abs(score) < 0.1 ? 4 : 2)}`;
    });
    reading.replaceChildren("“", isolated(view.doc.units[place]), `” ${said.join(" · ")}`);
  }
  for (const event of ["mouseover", "focusin"]) root.addEventListener(event, (happened) => { const found = located(happened.target); if (found) read(found); });
  root.addEventListener("mouseout", () => read(located(document.activeElement)));
  root.addEventListener("focusout", () => read(null));
  root.addEventListener("keydown", (event) => {
    const found = located(event.target);
    if (!found) return;
    const half = found.view.halves[found.own];
    const next = body.walk(half, found.place, event.key);
    if (next === null) return;
    event.preventDefault();
    if (!half.units[next]) return;
    half.units[found.place].tabIndex = -1;
    half.units[next].tabIndex = 0;
    half.units[next].focus();
  });

  repaint();
  root.hidden = false;
})();
