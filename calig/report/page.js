"use strict";

/* Helpers, theme, copying, printing: what the whole page uses. */

const byId = (id) => document.getElementById(id);

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/* A name within a sentence: one from right to left moves no word around it. */
const isolated = (text) => element("bdi", "", text);

function drawn(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

function written(value, digits = 2) {
  const size = Math.abs(value);
  const text = size.toFixed(size >= 100 ? 0 : digits);
  return (Number(text) === 0 ? "" : value > 0 ? "+" : "−") + text;
}

const themes = ["auto", "light", "dark"];
let theme = "auto";
function setTheme(next) {
  theme = themes.includes(next) ? next : "auto";
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  byId("theme").setAttribute("aria-label", `Colour theme: ${theme === "auto" ? "follows the system" : theme}. Change.`);
}
function remembered(action) {
  try { return action(window.localStorage); } catch { return null; } // storage may be closed to local files
}
setTheme(remembered((store) => store.getItem("calig-theme")) || "auto");
byId("theme").addEventListener("click", () => {
  setTheme(themes[(themes.indexOf(theme) + 1) % themes.length]);
  remembered((store) => store.setItem("calig-theme", theme));
});

for (const box of document.querySelectorAll(".copy")) {
  const button = element("button", "", "Copy");
  button.type = "button";
  button.addEventListener("click", async () => {
    const code = box.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      window.getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    window.setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
  box.append(button);
}

/* What is wider than its place fades where more of it is; it may be scrolled there. */
for (const box of document.querySelectorAll(".scroll, .bar-top nav, .wide-charts .chart, .chart.wide")) {
  const fade = () => {
    const hidden = { left: box.scrollLeft, right: box.scrollWidth - box.clientWidth - box.scrollLeft, below: box.scrollHeight - box.clientHeight - box.scrollTop };
    box.dataset.more = Object.keys(hidden).filter((side) => hidden[side] > 1).join(" ");
  };
  box.addEventListener("scroll", fade, { passive: true });
  new ResizeObserver(fade).observe(box);
}

let unfolded = [];
window.addEventListener("beforeprint", () => {
  unfolded = [...document.querySelectorAll("details:not([open])")];
  for (const details of unfolded) details.open = true;
});
window.addEventListener("afterprint", () => { for (const details of unfolded) details.open = false; });
