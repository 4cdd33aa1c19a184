"use strict";
// Colours stand in the style sheet alone: a chart names them with an @ before, and asks again when the theme changes.

const theme = {
  start(changed) {
    const choice = document.getElementById("theme");
    choice.value = theme.remembered();
    theme.apply(choice.value);
    choice.addEventListener("change", () => { theme.apply(choice.value); theme.remember(choice.value); changed(); });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  },
  apply(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
  },
  // A page from file:// may be refused a memory.
  remembered() { try { return localStorage.getItem("lrsearch-theme") || "auto"; } catch { return "auto"; } },
  remember(name) { try { localStorage.setItem("lrsearch-theme", name); } catch { /* then not */ } },

  // A copy of what a chart is made of, with its colours looked up.
  coloured(value) {
    const style = getComputedStyle(document.documentElement), known = new Map();
    const look = (name) => {
      if (!known.has(name)) known.set(name, style.getPropertyValue(`--${name}`).trim());
      return known.get(name);
    };
    const walk = (v) => {
      if (typeof v === "string") return v.startsWith("@") ? look(v.slice(1)) : v;
      if (Array.isArray(v)) return typeof v[0] === "number" ? v : v.map(walk);
      if (v && typeof v === "object") return Object.fromEntries(Object.entries(v).map(([k, w]) => [k, walk(w)]));
      return v;
    };
    return walk(value);
  },
};
