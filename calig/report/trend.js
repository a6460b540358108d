/* The nights' values: a cursor through all charts, by pointer and by keyboard. After page.js. */

(() => {
  const data = JSON.parse(byId("data").textContent);
  const last = data.nights.length - 1;
  const state = { night: last, held: false };
  const views = [...document.querySelectorAll("figure.trend")].map((figure) => {
    const svg = figure.querySelector("svg[role]");
    const { left, slot, width } = svg.dataset;
    return {
      svg, left: Number(left), slot: Number(slot), width: Number(width), texts: data.charts[figure.dataset.chart],
      cursor: svg.querySelector(".cursor"), labels: [...figure.querySelectorAll("dt")].map((label) => label.textContent), values: [...figure.querySelectorAll("dd")],
    };
  });

  function show(night) {
    state.night = Math.min(last, Math.max(0, night));
    const { title, run, page, notes, state: [style, said], numbers } = data.nights[state.night];
    byId("night").textContent = title;
    byId("night").title = run;
    byId("night-state").className = `state ${style}`;
    byId("night-state").textContent = said;
    byId("night-notes").textContent = notes.join(", ");
    byId("night-numbers").textContent = numbers;
    byId("night-link").href = page;
    for (const view of views) {
      const x = view.left + view.slot * (state.night + 0.5);
      view.cursor.setAttribute("x1", x);
      view.cursor.setAttribute("x2", x);
      const texts = view.texts.map((row) => row[state.night]);
      view.values.forEach((value, place) => { value.textContent = texts[place]; });
      view.svg.setAttribute("aria-valuenow", state.night + 1);
      view.svg.setAttribute("aria-valuetext", `${title}: ${view.labels.map((label, place) => `${label} ${texts[place]}`).slice(0, 8).join(", ")}`);
    }
  }

  function pointed(view, event) {
    const box = view.svg.getBoundingClientRect();
    return Math.floor(((event.clientX - box.left) * view.width / box.width - view.left) / view.slot);
  }

  function hold(held) {
    state.held = held;
    byId("reading").classList.toggle("held", held);
  }

  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -7, PageUp: 7 };
  for (const view of views) {
    view.svg.addEventListener("pointermove", (event) => { if (!state.held) show(pointed(view, event)); });
    view.svg.addEventListener("click", (event) => {
      const night = pointed(view, event);
      hold(!(state.held && night === state.night));
      show(night);
    });
    view.svg.addEventListener("keydown", (event) => {
      if (event.key === "Enter") byId("night-link").click();
      else if (event.key === "Escape") hold(false);
      else if (event.key === "Home") show(0);
      else if (event.key === "End") show(last);
      else if (event.key in steps) show(state.night + steps[event.key]);
      else return;
      event.preventDefault();
    });
  }
  byId("reading").hidden = false;
  show(last);
})();
