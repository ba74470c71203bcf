// Time travel redraws its parts with each event. Who has one of their buttons under the keyboard keeps it, and the
// current line stays in sight.
(() => {
  let focused = null;
  document.addEventListener("focusin", (event) => {
    focused = event.target.closest?.("[data-focus]")?.dataset.focus ?? null;
  });
  const settle = () => {
    if (focused && (document.activeElement === document.body || !document.activeElement)) {
      const found = document.querySelector(`[data-focus="${CSS.escape(focused)}"]`);
      if (found) found.focus({ preventScroll: true });
    }
    for (const box of document.querySelectorAll(".pd-tt-scroll")) {
      const line = box.querySelector("[aria-current]");
      if (!line) continue;
      const place = line.getBoundingClientRect(), around = box.getBoundingClientRect();
      const room = Math.min(64, around.height / 4);
      if (place.top < around.top + room) box.scrollTop += place.top - around.top - room;
      else if (place.bottom > around.bottom - room) box.scrollTop += place.bottom - around.bottom + room;
    }
  };
  let asked = false;
  new MutationObserver((changes) => {
    if (asked || !changes.some((change) => change.target.closest?.(".pd-tt-part"))) return;
    asked = true;
    requestAnimationFrame(() => { asked = false; settle(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
