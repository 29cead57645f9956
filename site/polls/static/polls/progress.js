// Follows a background task: asks for its state every second until it has ended.
(function () {
  "use strict";
  const box = document.getElementById("progress");
  const bar = box.querySelector("progress");
  const text = box.querySelector("[role=status]");

  async function follow() {
    try {
      const response = await fetch(box.dataset.url, { headers: { Accept: "application/json" } });
      if (!response.ok) {
        text.textContent = "The state of this task cannot be had any more.";
        return;
      }
      const now = await response.json();
      box.dataset.state = now.state;
      bar.max = now.total;
      bar.value = now.done;
      text.textContent = now.text;
      if (now.state === "done" || now.state === "failed") return;
    } catch (error) {
      text.textContent = "The site does not answer; trying again.";
    }
    setTimeout(follow, 1000);
  }

  follow();
})();
