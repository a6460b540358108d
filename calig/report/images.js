/* The body of an image's card: the picture, its patches over it, and what they say. Between page.js and explorer.js. */

const body = (() => {
  const LISTED = 4, SIDE = 232;
  const ACROSS = ["left", "", "right"], DOWN = ["top", "", "bottom"];
  const third = (place, count) => Math.floor(((place + 0.5) / count) * 3);
  const regionName = (down, across) => [DOWN[down], ACROSS[across]].filter(Boolean).join(" ") || "centre";

  function prepare(doc) {
    const [rows, columns] = doc.grid;
    const first = doc.units.length;
    doc.patches = Array.from({ length: rows * columns }, (_, index) => {
      const row = Math.floor(index / columns), column = index % columns;
      const down = third(row, rows), across = third(column, columns);
      const border = row === 0 || column === 0 || row === rows - 1 || column === columns - 1;
      return { place: first + index, row, column, region: 3 * down + across, border, name: `row ${row}, column ${column}`, short: `row ${row}, col ${column}` };
    });
    doc.units.push(...doc.patches.map((patch) => patch.name));
    doc.haystack = [doc.id, doc.label, doc.predicted, doc.target].join("\n").toLowerCase();
  }

  function unit(tag, className, place, label) {
    const made = element(tag, className);
    made.tabIndex = -1;
    made.dataset.place = place;
    made.setAttribute("aria-label", label);
    return made;
  }

  /* The picture in a frame of the grid's shape; a tiny one keeps its pixels. */
  function frame(doc, alt) {
    const [rows, columns] = doc.grid;
    const made = element("div", "frame");
    made.style.aspectRatio = `${columns} / ${rows}`;
    made.style.width = `${columns * Math.max(1, Math.floor(SIDE / Math.max(rows, columns)))}px`; // whole pixels a patch
    if (doc.picture) {
      const image = element("img");
      image.alt = alt;
      image.addEventListener("load", () => image.classList.toggle("tiny", image.naturalWidth < 100));
      image.src = doc.picture;
      made.append(image);
    }
    return made;
  }

  function cells(doc) {
    const [rows, columns] = doc.grid;
    const grid = element("div", "cells");
    grid.style.setProperty("--rows", rows);
    grid.style.setProperty("--columns", columns);
    grid.setAttribute("role", "grid");
    grid.setAttribute("aria-label", "Patches with their relevance. Arrow keys move between patches, Page Up and Page Down through the depths.");
    const made = doc.patches.map((patch) => unit("span", "u", patch.place, patch.name));
    for (let row = 0; row < rows; row += 1) {
      const line = element("div");
      line.setAttribute("role", "row");
      line.append(...made.slice(row * columns, (row + 1) * columns));
      grid.append(line);
    }
    for (const cell of made) cell.setAttribute("role", "gridcell");
    return [grid, made];
  }

  function figure(content, caption) {
    const made = element("figure");
    made.append(content, caption);
    return made;
  }

  function logits(doc, head) {
    const list = element("dl", "logits");
    const facts = [[head === "regression" ? "Output" : `Logit of ${doc.target}`, doc.value], ["Of the baseline", doc.baseline], ["Change Δ", doc.change === null ? "–" : written(doc.change)]];
    if (head !== "regression") facts.push(["Probability", doc.probability]);
    for (const [name, value] of facts) {
      const item = element("div");
      item.append(element("dt", "", name), element("dd", "", value));
      list.append(item);
    }
    return list;
  }

  function block(title, content) {
    const made = element("div", "block");
    const heading = element("h4");
    heading.append(element("span", "", title), element("small"));
    made.append(heading, content);
    return made;
  }

  function build(doc, data) {
    const main = element("div", "picture");
    const picture = frame(doc, `${doc.id}, as the model saw it`);
    const seen = figure(picture, element("figcaption", "", doc.picture ? "As the model saw it" : "No picture was kept"));
    const heat = frame(doc, "");
    heat.classList.add("heat");
    const [grid, patches] = cells(doc);
    heat.append(grid);
    const caption = element("figcaption");
    const specials = doc.special.map((place) => {
      const chip = unit("span", "u special", place, doc.units[place]);
      chip.append(doc.units[place], element("b"));
      return chip;
    });
    const lists = [element("ol"), element("ol")];
    const titles = data.head === "regression" ? ["Raise it most", "Lower it most"] : ["Most for", "Most against"];
    const map = element("div", "ninths");
    const ninths = Array.from({ length: 9 }, (_, index) => {
      const cell = element("span", "ninth");
      cell.title = regionName(Math.floor(index / 3), index % 3);
      cell.append(element("span", "hidden", cell.title), element("b"));
      return cell;
    });
    map.append(...ninths);
    const reading = element("div", "reading");
    const columns = element("div", "columns");
    const border = element("p", "small");
    columns.append(...titles.map((title, side) => block(title, lists[side])), block("By region", map));
    reading.append(logits(doc, data.head), columns, border);
    if (specials.length) {
      const chips = element("p", "specials", "Special tokens ");
      chips.append(...specials);
      reading.append(chips);
    }
    main.append(seen, figure(heat, caption), reading);
    const parts = { caption, specials, lists, ninths, border };
    return {
      main, units: [...specials, ...patches], facts: [`${doc.grid[0]} × ${doc.grid[1]} patches`], near: heat,
      paint: (view, shown) => paint(view, shown, parts),
    };
  }

  /* What follows the slider besides the colours: lists and outlines, regions, the border, special tokens. */
  function paint(view, shown, parts) {
    const { values, last } = shown;
    const { patches } = view.doc;
    parts.caption.textContent = last ? shown.name : `Depth ${shown.name}`;
    for (const chip of parts.specials) chip.querySelector("b").textContent = written(values[chip.dataset.place]);
    for (const found of view.units) found.classList.remove("listed");
    parts.lists.forEach((list, side) => {
      list.previousSibling.lastChild.textContent = last ? `score\u2002${shown.unit}` : shown.unit;
      const strength = (patch) => (side ? -1 : 1) * values[patch.place];
      const strongest = patches.filter((patch) => strength(patch) > 0).sort((one, other) => strength(other) - strength(one)).slice(0, LISTED);
      list.replaceChildren(...strongest.map((patch) => {
        view.units[patch.place].classList.add("listed");
        const item = element("li");
        item.append(element("span", "", patch.short), element("b", "", written(values[patch.place])));
        if (last) item.append(element("small", "", written(shown.effect(patch.place))));
        return item;
      }));
      if (!strongest.length) list.append(element("li", "", "none"));
    });
    const sums = new Array(9).fill(0);
    let gross = 0, border = 0, edge = 0;
    for (const patch of patches) {
      const size = Math.abs(values[patch.place]);
      sums[patch.region] += values[patch.place];
      gross += size;
      if (patch.border) { border += size; edge += 1; }
    }
    const end = Math.max(...sums.map(Math.abs)) || 1;
    parts.ninths.forEach((cell, index) => {
      cell.querySelector("b").textContent = written(sums[index]);
      cell.style.setProperty("--a", (Math.abs(sums[index]) / end).toFixed(3));
      cell.classList.toggle("neg", sums[index] < 0);
    });
    const lift = border / gross / (edge / patches.length);
    parts.border.textContent = gross ? `The border holds ${Math.round((100 * border) / gross)} % of the patches’ relevance, ${lift.toFixed(1)} × its area.` : "No patch holds relevance here.";
  }

  /* Where a key leads from a patch, row by row, and on to the special tokens below; or nowhere. */
  function walk(view, place, key) {
    const columns = view.doc.grid[1];
    const first = view.doc.special.length, last = view.units.length - 1;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (place < first) {
      if (step) return Math.min(first - 1, Math.max(0, place + step));
      return key === "ArrowUp" ? last - columns + 1 : null;
    }
    const column = (place - first) % columns;
    if (key === "Home") return place - column;
    if (key === "End") return place - column + columns - 1;
    if (step) return column + step < 0 || column + step >= columns ? place : place + step;
    if (key === "ArrowUp") return place - columns < first ? place : place - columns;
    if (key === "ArrowDown") return place + columns > last ? (first ? 0 : place) : place + columns;
    return null;
  }

  return { prepare, build, walk, frame, cells, deeper: "PageUp", shallower: "PageDown" };
})();
