// Keeps the table of what runs up to date.
(function () {
  "use strict";
  const box = document.getElementById("stack");
  const trouble = document.getElementById("trouble");
  const every = 2000; // milliseconds

  async function follow() {
    if (!document.hidden) {
      try {
        const response = await fetch(box.dataset.url);
        trouble.hidden = response.ok;
        if (response.ok) box.innerHTML = await response.text();
      } catch {
        trouble.hidden = false;
      }
    }
    setTimeout(follow, every);
  }

  setTimeout(follow, every);
})();
