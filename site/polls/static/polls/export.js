// Follows an export: asks for its state every second until it has ended.
(function () {
  "use strict";
  const box = document.getElementById("export");
  const bar = box.querySelector("progress");
  const text = box.querySelector("[role=status]");
  const download = document.getElementById("download");
  const every = 1000; // milliseconds

  function show(now) {
    box.dataset.state = now.state;
    bar.max = now.total;
    bar.value = now.done;
    text.textContent = now.text;
    download.hidden = !now.download;
  }

  async function follow() {
    try {
      const response = await fetch(box.dataset.url);
      if (response.status === 404) {
        text.textContent = "This export no longer exists.";
        return;
      }
      if (response.ok) {
        const now = await response.json();
        show(now);
        if (now.state !== "waiting" && now.state !== "running") return;
      }
    } catch {
      text.textContent = "The site does not answer; trying again.";
    }
    setTimeout(follow, every);
  }

  follow();
})();
