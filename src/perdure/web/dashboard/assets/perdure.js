// Keys: an element with data-key="x" is pressed (or, if it takes text, focused) by x; one with data-go="x" by g and x.
// j and k walk over the links of a page's first table, x selects the row that one is in. Nothing happens while somebody
// writes. Pages that keep what they show in their address hear of the browser's own buttons by "pd-address".
(() => {
  let went = -Infinity;
  const writes = (node) =>
    node && (node.isContentEditable || (["INPUT", "TEXTAREA", "SELECT"].includes(node.tagName) && node.type !== "checkbox"));
  const use = (node) => {
    const field = node.matches("input, textarea") ? node : node.querySelector("input, textarea");
    if (field) { field.focus(); field.select(); } else node.click();
  };
  const walk = (by) => {
    const links = [...document.querySelectorAll("main table tbody a.pd-link")];
    if (!links.length) return;
    const here = document.activeElement;
    const at = links.findIndex((link) => link === here || (here && link.closest("tr") === here.closest("tr")));
    const to = at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1);
    links[to].focus();
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || writes(event.target)) return;
    const key = CSS.escape(event.key);
    const wanted = event.timeStamp - went < 1500 ? `[data-go="${key}"]` : `[data-key="${key}"]`;
    went = -Infinity;
    if (event.key === "g") { went = event.timeStamp; return; }
    if (event.key === "j" || event.key === "k") { walk(event.key === "j" ? 1 : -1); return; }
    if (event.key === "x") { document.activeElement?.closest("main tbody tr")?.querySelector("input[type=checkbox]")?.click(); return; }
    const found = document.querySelector(wanted);
    if (found) { event.preventDefault(); use(found); }
  });
  window.addEventListener("popstate", () => window.emitEvent?.("pd-address", location.search));
})();

// What was in the page's own HTML goes when the page has been drawn.
(() => {
  const early = document.getElementById("pd-early");
  const app = document.getElementById("app");
  if (!early || !app) return;
  const watch = new MutationObserver(() => {
    if (!app.querySelector(".pd-main")) return;
    watch.disconnect();
    early.remove();
  });
  watch.observe(app, { childList: true, subtree: true });
})();
