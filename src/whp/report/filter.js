const buttons = document.querySelectorAll("[data-filter]");
const items = document.querySelectorAll("[data-verdicts]");
for (const button of buttons) {
  button.addEventListener("click", () => {
    const wanted = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.filter;
    for (const b of buttons) b.setAttribute("aria-pressed", String(b.dataset.filter === wanted));
    for (const i of items) i.hidden = wanted !== "" && !i.dataset.verdicts.split(",").includes(wanted);
  });
}
