// Keeps the bars of a poll up to date while votes come in.
(function () {
  "use strict";
  const table = document.getElementById("results");
  const every = 2000; // milliseconds

  function show(now) {
    document.getElementById("total").textContent = now.total;
    document.getElementById("plural").textContent = now.total === 1 ? "" : "s";
    for (const bar of now.bars) {
      const row = table.querySelector(`[data-choice="${bar.pk}"]`);
      if (!row) continue;
      row.querySelector("rect").setAttribute("width", `${bar.percent}%`);
      row.querySelector(".percent").textContent = bar.percent;
      row.querySelector(".votes").textContent = bar.votes;
    }
  }

  async function follow() {
    if (!document.hidden) {
      try {
        const response = await fetch(table.dataset.url);
        if (response.ok) show(await response.json());
      } catch {
        // The site does not answer at the moment: keep showing the last numbers.
      }
    }
    setTimeout(follow, every);
  }

  setTimeout(follow, every);
})();
