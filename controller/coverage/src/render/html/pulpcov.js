// The report's pages work without this script; it sorts, filters, shows, hides and listens to keys.
"use strict";
(() => {
  const $ = (query, from = document) => from.querySelector(query);
  const all = (query, from = document) => Array.from(from.querySelectorAll(query));

  // A page opened from disk may have no storage: then nothing is remembered.
  const memory = {
    get(key) { try { return localStorage.getItem("pulpcov-" + key); } catch { return null; } },
    set(key, value) { try { localStorage.setItem("pulpcov-" + key, value); } catch { /* not remembered */ } },
  };

  function theme() {
    const button = $("#theme");
    const dark = () => (document.documentElement.dataset.theme
      || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
    const saved = memory.get("theme");
    if (saved === "dark" || saved === "light") document.documentElement.dataset.theme = saved;
    button.hidden = false;
    button.addEventListener("click", () => {
      const next = dark() ? "light" : "dark";
      document.documentElement.dataset.theme = next;
      memory.set("theme", next);
    });
  }

  // Keys: [key, what it does in words, the act].
  function keys(table) {
    const button = $("#help");
    const dialog = document.createElement("dialog");
    dialog.setAttribute("aria-label", "Keys");
    const list = document.createElement("dl");
    for (const [key, words] of table) {
      const term = document.createElement("dt");
      const meaning = document.createElement("dd");
      term.textContent = key;
      meaning.textContent = words;
      list.append(term, meaning);
    }
    const close = document.createElement("button");
    close.textContent = "Close";
    close.addEventListener("click", () => dialog.close());
    dialog.append(list, close);
    document.body.append(dialog);
    const help = () => (dialog.open ? dialog.close() : dialog.showModal());
    button.hidden = false;
    button.addEventListener("click", help);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
        if (event.key === "Escape") event.target.blur();
        return;
      }
      if (event.key === "?") { help(); event.preventDefault(); return; }
      const found = !dialog.open && table.find(([key]) => key === event.key);
      if (found) { found[2](); event.preventDefault(); }
    });
  }

  function list() {
    const table = $("#list");
    const body = table.tBodies[0];
    const rows = Array.from(body.rows);
    const heads = Array.from(table.tHead.rows[0].cells);
    const page = location.pathname.split("/").pop() || "index.html";
    const filter = $("#filter"), hide = $("#hide-covered"), by = $("#by"), shown = $("#shown");
    $("#tools").hidden = false;
    $("#tools").addEventListener("submit", (event) => event.preventDefault());

    const text = (row, column) => (row.cells[column] ? row.cells[column].textContent : "");
    const number = (row, column) => { const n = parseFloat(text(row, column)); return Number.isNaN(n) ? -1 : n; };
    const names = new Intl.Collator("en", { numeric: true });

    function sort(column, down) {
      const numeric = $("button", heads[column]).dataset.sort === "number";
      const value = rows.map((row) => (numeric ? number(row, column) : text(row, column)));
      const order = rows.map((_, i) => i).sort((a, b) => {
        const one = numeric ? value[a] - value[b] : names.compare(value[a], value[b]);
        return (down ? -one : one) || a - b;
      });
      body.append(...order.map((i) => rows[i]));
      heads.forEach((head, i) => {
        if (i === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
        else head.removeAttribute("aria-sort");
      });
      memory.set("sort-" + page, JSON.stringify([column, down]));
    }
    heads.forEach((head, column) => {
      const button = $("button", head);
      if (!button) return;
      button.addEventListener("click", () => {
        const now = head.getAttribute("aria-sort");
        const numeric = button.dataset.sort === "number";
        sort(column, now ? now === "ascending" : numeric);
      });
    });

    const whole = table.tFoot.rows[0];
    const totals = Array.from(whole.cells).map((cell) => cell.innerHTML);
    const column = (word) => heads.findIndex((head) => head.textContent.trim() === word);

    // Totals of what is shown. The heat columns are percentages and are left empty.
    function total(visible) {
      if (visible.length === rows.length) {
        totals.forEach((html, i) => { whole.cells[i].innerHTML = html; });
        return;
      }
      const sum = (head) => (column(head) < 0 ? 0 : visible.reduce((n, row) => n + Math.max(0, number(row, column(head))), 0));
      for (const cell of Array.from(whole.cells).slice(1)) cell.textContent = "";
      for (const head of ["Stmts", "Miss", "Excl", "Branch", "BrPart"]) {
        if (column(head) >= 0) whole.cells[column(head)].textContent = sum(head);
      }
    }

    function apply() {
      const words = filter.value.trim().toLowerCase();
      const pattern = new RegExp(words.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&")).join(".*"));
      const visible = rows.filter((row) => {
        const name = row.cells[0].textContent + " " + (row.cells[1].className === "name" ? row.cells[1].textContent : "");
        row.hidden = !pattern.test(name.toLowerCase()) || (hide.checked && row.classList.contains("whole"));
        return !row.hidden;
      });
      shown.textContent = visible.length === rows.length ? `${rows.length} shown` : `${visible.length} of ${rows.length} shown`;
      total(visible);
      memory.set("filter-" + page, JSON.stringify([filter.value, hide.checked]));
    }
    filter.addEventListener("input", apply);
    hide.addEventListener("change", apply);
    if (by) {
      const choose = () => { table.dataset.by = by.value; memory.set("by", by.value); };
      by.addEventListener("change", choose);
      const saved = memory.get("by");
      if (saved && $(`option[value="${CSS.escape(saved)}"]`, by)) { by.value = saved; choose(); }
    }
    try {
      const [words, hidden] = JSON.parse(memory.get("filter-" + page)) || ["", false];
      filter.value = words;
      hide.checked = hidden;
      const [column, down] = JSON.parse(memory.get("sort-" + page)) || [];
      if (heads[column] && $("button", heads[column])) sort(column, down);
    } catch { /* another version's memory */ }
    apply();

    const step = (by) => {
      const links = rows.map((row) => row).sort((a, b) => a.rowIndex - b.rowIndex).filter((row) => !row.hidden).map((row) => $("a", row));
      const now = links.indexOf(document.activeElement);
      const next = links[Math.max(0, Math.min(links.length - 1, now < 0 ? 0 : now + by))];
      if (next) next.focus();
    };
    // What a column is too narrow for.
    body.addEventListener("mouseover", (event) => {
      const cell = event.target.closest("th, td.name");
      if (cell && cell.scrollWidth > cell.clientWidth) cell.title = cell.textContent;
    });
    const table_keys = [
      ["/", "filter", () => filter.focus()],
      ["h", "hide or show what is covered whole", () => hide.click()],
      ["j", "next row", () => step(1)],
      ["k", "previous row", () => step(-1)],
    ];
    for (const head of heads) {
      const button = $("button[data-key]", head);
      if (button) table_keys.push([button.dataset.key, `sort by ${button.textContent.trim().toLowerCase()}`, () => button.click()]);
    }
    keys(table_keys);
  }

  function file() {
    const source = $("#source");
    const link = (rel) => () => { const a = $(`a[rel=${rel}]`); if (a) location.href = a.href; };
    const navigation = [
      ["[", "previous file", link("prev")],
      ["]", "next file", link("next")],
      ["u", "all files", link("up")],
    ];
    $("#tools").hidden = false;
    if (!source) { keys(navigation); return; }
    const rows = Array.from(source.tBodies[0].rows);
    const first = rows.map((row) => row.className);
    const toggles = all("[data-toggle]");
    const shown = $("#shown");

    const pressed = (button) => button.getAttribute("aria-pressed") === "true";
    function show() {
      source.className = toggles.filter(pressed).map((button) => "show-" + button.dataset.toggle).join(" ") || "show-nothing";
      memory.set("show", toggles.filter(pressed).map((button) => button.dataset.toggle).join(" "));
    }
    const saved = memory.get("show");
    for (const button of toggles) {
      if (saved !== null) button.setAttribute("aria-pressed", String(saved.split(" ").includes(button.dataset.toggle)));
      button.addEventListener("click", () => { button.setAttribute("aria-pressed", String(!pressed(button))); show(); });
    }
    show();

    const state = (row) => row.className.split(" ")[0];
    const isShown = (row) => state(row) && source.classList.contains("show-" + state(row));
    let at = -1;
    function go(index) {
      if (at >= 0) rows[at].classList.remove("at");
      at = index;
      rows[at].classList.add("at");
      rows[at].scrollIntoView({ block: "center" });
    }
    // A chunk is a run of shown lines of one state.
    const starts = () => rows.map((_, i) => i).filter((i) => isShown(rows[i]) && (i === 0 || state(rows[i - 1]) !== state(rows[i])));
    function chunk(step) {
      const places = starts();
      const next = step > 0 ? places.find((i) => i > at) : places.filter((i) => i < at).pop();
      if (next !== undefined) go(next);
    }
    const toggle = (name) => () => { const button = $(`[data-toggle=${name}]`); if (button) button.click(); };
    keys([
      ["j", "next chunk of what is marked", () => chunk(1)],
      ["k", "previous chunk", () => chunk(-1)],
      ["1", "first chunk", () => { const [one] = starts(); if (one !== undefined) go(one); }],
      ["0", "top of the page", () => scrollTo(0, 0)],
      ["r", "mark lines that ran, or not", toggle("run")],
      ["m", "mark missing lines, or not", toggle("mis")],
      ["p", "mark partial lines, or not", toggle("par")],
      ["x", "mark excluded lines, or not", toggle("exc")],
      ...navigation,
    ]);
    const block = $("#origins");
    if (block) origins(JSON.parse(block.textContent), rows, first, shown);
  }

  // Who ran each line; and the file as some hosts, groups, roles or labels ran it.
  function origins(data, rows, first, shown) {
    const sets = data.sets.map((text) => text.split(",").flatMap((part) => {
      const [from, to] = part.split("-").map(Number);
      return Array.from({ length: (to === undefined ? from : to) - from + 1 }, (_, i) => from + i);
    }));
    const place = Object.fromEntries(data.dimensions.map((name, i) => [name, i]));
    const host = place[data.host];
    const picks = all(".pick");

    // The origins that every dimension's checkboxes take.
    function taken() {
      const narrowed = picks.map((pick) => {
        const boxes = all("input", pick);
        const on = new Set(boxes.filter((box) => box.checked).map((box) => Number(box.value)));
        pick.toggleAttribute("data-narrowed", on.size < boxes.length);
        return on.size < boxes.length ? [place[pick.dataset.by], on] : null;
      }).filter(Boolean);
      return [narrowed.length > 0, data.origins.map((names) => narrowed.every(([i, on]) => names[i].some((name) => on.has(name))))];
    }

    function apply() {
      const [narrowed, on] = taken();
      const signs = { mis: "!", par: "~", exc: "x" };
      let ran = 0, statements = 0;
      const states = new Map();
      rows.forEach((row, i) => {
        const mark = row.classList.contains("at") ? " at" : "";
        const [state, more] = first[i].split(" ");
        if (row.dataset.s === undefined) {
          row.className = first[i] + mark;
          if (state === "mis" && !more) statements += 1;
          return;
        }
        const here = sets[row.dataset.s].filter((origin) => on[origin]);
        const hosts = new Set(here.flatMap((origin) => data.origins[origin][host]));
        row.className = (here.length ? state : "mis") + mark;
        states.set(i, here.length ? state : "mis");
        row.cells[1].textContent = signs[states.get(i)] || "";
        const who = row.querySelector(".who");
        if (who) who.textContent = hosts.size;
        statements += 1;
        if (here.length) ran += 1;
      });
      // The lines that a statement goes on over stand as it does.
      let last = "";
      rows.forEach((row, i) => {
        if (states.has(i)) last = states.get(i);
        else if (first[i].endsWith(" more") && last) row.className = last + " more";
        else last = first[i].split(" ")[0];
      });
      for (const button of all("[data-toggle]")) {
        const count = rows.filter((row) => row.classList.contains(button.dataset.toggle) && !row.classList.contains("more")).length;
        $("b", button).textContent = count;
      }
      shown.textContent = narrowed ? `${ran} of ${statements} statements ran there` : "";
    }
    for (const pick of picks) {
      pick.addEventListener("change", apply);
      for (const button of all("[data-pick]", pick)) {
        button.addEventListener("click", () => {
          for (const box of all("input", pick)) box.checked = button.dataset.pick === "all";
          apply();
        });
      }
    }
    document.addEventListener("click", (event) => {
      for (const pick of picks) if (pick.open && !pick.contains(event.target)) pick.open = false;
    });

    // `host: labels and roles`, for each host that ran a line.
    function who(set) {
      const [, on] = taken();
      const parts = new Map();
      for (const origin of sets[set].filter((origin) => on[origin])) {
        const name = (dimension) => data.origins[origin][place[dimension]].map((i) => data.names[dimension][i]).filter(Boolean);
        const [where] = name(data.host);
        const what = [...name("role"), ...name("label")].join("/");
        parts.set(where, [...(parts.get(where) || []), what].filter(Boolean));
      }
      return [...parts].map(([where, what]) => (what.length ? `${where} (${what.join(", ")})` : where));
    }
    document.addEventListener("mouseover", (event) => {
      const link = event.target.closest && event.target.closest("#source .who");
      if (link) link.title = who(link.closest("tr").dataset.s).slice(0, 40).join("\n");
    });
    document.addEventListener("click", (event) => {
      const link = event.target.closest && event.target.closest("#source .who");
      if (!link) return;
      event.preventDefault();
      const row = link.closest("tr");
      const open = row.nextElementSibling;
      if (open && open.className === "who-row") { open.remove(); link.removeAttribute("aria-expanded"); return; }
      const detail = document.createElement("tr");
      detail.className = "who-row";
      const cell = document.createElement("td");
      cell.colSpan = row.cells.length;
      cell.textContent = who(row.dataset.s).join(", ") || "nobody of those that are picked";
      detail.append(cell);
      row.after(detail);
      link.setAttribute("aria-expanded", "true");
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    theme();
    const page = document.body.dataset.page;
    if (page === "list") list();
    else if (page === "file") file();
    else keys([["u", "all files", () => { location.href = "index.html"; }]]);
  });
})();
