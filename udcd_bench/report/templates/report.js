"use strict";
(() => {
  const root = document.documentElement;

  const theme = document.getElementById("theme");
  const prefers = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefers.matches);
  const tell = () => { theme.textContent = isDark() ? "Light" : "Dark"; };
  theme.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  prefers.addEventListener("change", tell);
  theme.hidden = false;
  tell();

  // a row, with what belongs below it, is a body; unsorted is the order of the paper
  for (const table of document.querySelectorAll("table.sortable")) {
    const laidOut = [...table.tBodies];
    const heads = [...table.querySelectorAll("th[data-column]")];
    const value = (body, column) => {
      const cell = body.rows[0].cells[column];
      const text = cell.dataset.value ?? cell.textContent.trim();
      return text === "" || text === "–" || Number.isNaN(Number(text)) ? text : Number(text);
    };
    const missing = (body, column) => {
      const cell = body.rows[0].cells[column];
      return !("value" in cell.dataset) && (cell.textContent.trim() === "–" || table.classList.contains("figures"));
    };
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const column = Number(head.dataset.column);
        const first = head.dataset.first ?? "ascending";
        const second = first === "ascending" ? "descending" : "ascending";
        const order = { none: first, [first]: second, [second]: "none" }[head.getAttribute("aria-sort")];
        for (const other of heads) other.setAttribute("aria-sort", other === head ? order : "none");
        table.toggleAttribute("data-sorted", order !== "none");
        const sign = order === "descending" ? -1 : 1;
        const bodies = order === "none" ? laidOut : [...laidOut].sort((one, other) => {
          const gone = missing(one, column) - missing(other, column);
          if (gone) return gone;
          const [a, b] = [value(one, column), value(other, column)];
          return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b)));
        });
        table.append(...bodies);
      });
    }
  }

  // the filter: every figure of the page stands in it as JSON
  const lines = JSON.parse(document.getElementById("lines").textContent);
  const selects = [...document.querySelectorAll("#find select")];
  const body = document.querySelector("#matching tbody");
  const show = (value, digits) => (typeof value === "number" && digits ? value.toFixed(digits) : (value ?? ""));
  const filter = () => {
    const wanted = selects.filter((select) => select.value).map((select) => [select.dataset.field, select.value]);
    const matching = wanted.length ? lines.filter((line) => wanted.every(([field, value]) => line[field] === value)) : [];
    const texts = (line) => [
      line.setting, line.data, line.row, line.metric, show(line.ours, 2), show(line.spread, 2), show(line.low, 2),
      show(line.high, 2), show(line.n), show(line.published, 2), show(line.verdict), (line.findings ?? []).join(", "),
    ];
    body.replaceChildren(...matching.map((line) => {
      const row = document.createElement("tr");
      row.append(...texts(line).map((text) => {
        const cell = document.createElement("td");
        cell.textContent = text;
        return cell;
      }));
      return row;
    }));
    document.getElementById("matching").hidden = matching.length === 0;
    document.getElementById("matches").textContent = wanted.length
      ? `${matching.length} of ${lines.length} figures` : `${lines.length} figures; choose one of these`;
  };
  for (const select of selects) {
    for (const value of [...new Set(lines.map((line) => line[select.dataset.field]))]) {
      select.append(new Option(value, value));
    }
    select.addEventListener("change", filter);
  }
  document.querySelector("#find .filters").hidden = false;
  filter();

  const copy = async (code) => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      window.getSelection().removeAllRanges();
      window.getSelection().addRange(range);
      document.execCommand("copy");
    }
  };
  for (const code of document.querySelectorAll("code.command")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "copy";
    button.setAttribute("aria-label", `copy ${code.textContent}`);
    button.addEventListener("click", async () => {
      await copy(code);
      button.textContent = "copied";
      setTimeout(() => { button.textContent = "copy"; }, 1500);
    });
    code.after(button);
  }

  let closed = [];
  window.addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const details of closed) details.open = false;
  });
})();
