// SPDX-License-Identifier: LGPL-2.1-or-later
"use strict";
(() => {
  const PAGE_SIZE = 4096;
  const ROWS = 100;
  const SEARCHED = ["hstate", "node", "state", "flag_optimized", "verdict", "layout", "mapped_by"];

  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("data").textContent);
  const count = data.count;
  const traits = data.traits;

  // The folios, a column for each thing that is their own: see listing.py.
  const unpack = (packed) => {
    const column = new Float64Array(count);
    let value = 0, row = 0;
    for (let index = 0; index < packed.length; index += 2) {
      for (let times = packed[index + 1]; times > 0; times--) column[row++] = value += packed[index];
    }
    return column;
  };
  const columns = {
    pfn: unpack(data.pfns),
    reuse_frame: unpack(data.reuse_frames),
    findings: unpack(data.findings),
  };
  const numbers = unpack(data.numbers);
  const end = (row) => columns.pfn[row] + traits[numbers[row]].pages;
  const hex = (value) => "0x" + value.toString(16);
  const valueOf = (row, key) => key in columns ? columns[key][row] : traits[numbers[row]][key];

  const textOf = (row, key) => {
    const value = valueOf(row, key);
    if (key === "pfn" || (key === "reuse_frame" && value >= 0)) return hex(value);
    return key === "reuse_frame" || (key === "findings" && !value) ? "-" : String(value);
  };

  const size = (bytes) => {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    for (; bytes >= 1024 && unit < units.length - 1; unit++) bytes /= 1024;
    return `${Number.isInteger(bytes) ? bytes : bytes.toFixed(1)} ${units[unit]}`;
  };

  // The table.

  const table = at("table");
  const headers = [...table.querySelectorAll("th[data-key]")];
  let sorted = { key: "pfn", sign: 1 };
  let shown = Uint32Array.from({ length: count }, (_, row) => row);
  let first = 0;

  const searchable = traits.map((trait) =>
    SEARCHED.map((key) => (key === "node" ? `node${trait.node}` : String(trait[key])).toLowerCase()));

  // What a word asks of a folio: that one of its texts begins with it, or that a PFN is its own.
  const asks = (word) => {
    const wanted = searchable.map((texts) => texts.some((text) => text.startsWith(word)));
    const pfns = word.match(/^(0x[0-9a-f]+|[0-9]+)(?:-(0x[0-9a-f]+|[0-9]+))?$/);
    if (pfns === null) return (row) => wanted[numbers[row]];
    const from = Number(pfns[1]), to = Number(pfns[2] ?? pfns[1]);
    const reuse = pfns[2] === undefined ? from : NaN;
    return (row) => wanted[numbers[row]] || (columns.pfn[row] <= to && end(row) > from) || columns.reuse_frame[row] === reuse;
  };

  const sortValues = (key) => {
    if (key in columns) return columns[key];
    const compare = (a, b) => typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1;
    const distinct = [...new Set(traits.map((trait) => trait[key]))].sort(compare);
    const ranks = traits.map((trait) => distinct.indexOf(trait[key]));
    return Float64Array.from(numbers, (number) => ranks[number]);
  };

  const select = () => {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean).map(asks);
    const rows = [];
    for (let row = 0; row < count; row++) if (words.every((fits) => fits(row))) rows.push(row);
    shown = Uint32Array.from(rows);
    const values = sortValues(sorted.key);
    shown.sort((a, b) => sorted.sign * (values[a] - values[b]) || a - b);
    first = 0;
    fill();
  };

  const fill = () => {
    const body = document.createElement("tbody");
    for (const row of shown.subarray(first, first + ROWS)) {
      const line = body.insertRow();
      for (const header of headers) {
        const cell = line.insertCell();
        const key = header.dataset.key;
        cell.textContent = textOf(row, key);
        cell.className = key === "verdict" ? valueOf(row, key) : header.className;
      }
    }
    table.tBodies[0].replaceWith(body);
    for (const header of headers) {
      if (header.dataset.key !== sorted.key) header.removeAttribute("aria-sort");
      else header.setAttribute("aria-sort", sorted.sign > 0 ? "ascending" : "descending");
    }
    const last = Math.min(first + ROWS, shown.length);
    const [from, to, some, all] = [first + 1, last, shown.length, count].map((n) => n.toLocaleString("en"));
    if (count === 0) at("status").textContent = "0 folios.";
    else if (shown.length === 0) at("status").textContent = `No folio matches, of ${all}.`;
    else at("status").textContent = `Folios ${from} to ${to} of ${some}${some === all ? "" : ` that match, of ${all}`}.`;
    for (const button of at("pager").children) {
      button.disabled = ["first", "previous"].includes(button.dataset.step) ? first === 0 : last >= shown.length;
    }
  };

  const search = (text) => {
    at("search").value = text;
    select();
  };

  for (const header of headers) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = header.textContent;
    button.addEventListener("click", () => {
      const key = header.dataset.key;
      sorted = { key, sign: key === sorted.key ? -sorted.sign : 1 };
      select();
    });
    header.replaceChildren(button);
  }
  let waiting = 0;
  at("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(select, 150);
  });
  at("pager").addEventListener("click", (event) => {
    const lastPage = Math.max(0, Math.ceil(shown.length / ROWS) - 1) * ROWS;
    const steps = { first: 0, previous: first - ROWS, next: first + ROWS, last: lastPage };
    if (!(event.target.dataset.step in steps)) return;
    first = Math.min(Math.max(steps[event.target.dataset.step], 0), lastPage);
    fill();
  });
  document.addEventListener("click", (event) => {
    const link = event.target.closest("[data-search]");
    if (link) search(link.dataset.search);
  });
  at("controls").hidden = false;
  at("pager").hidden = count <= ROWS;
  fill();

  // The map: the whole of it is in the page; rows of it are drawn here.

  const svg = at("map-picture");
  if (svg === null) return;
  const LEFT = 150, WIDTH = 896;
  const picture = svg.querySelector("g");
  const frame = at("map-frame");
  const tooltip = at("tooltip");
  const views = [{
    span: Number(svg.dataset.span),
    columns: data.columns,
    box: svg.getAttribute("viewBox"),
    nodes: [...picture.childNodes],
  }];
  let cells = [];
  let current = -1;

  const element = (name, attributes, text = "") => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key in attributes) made.setAttribute(key, attributes[key]);
    made.textContent = text;
    return made;
  };
  const cursor = element("rect", { class: "cursor" });

  // As in map.py: the cells that some memory is in, and what is in them.
  const cellsOf = (from, to, span, width) => {
    const gather = (cells, start, stop, verdict, findings, trait) => {
      const last = Math.min(stop, to);
      for (let row = Math.floor(Math.max(start, from) / width) * width; row < last; row += width) {
        const begin = Math.floor(Math.max(start, row) / span) * span;
        const behind = Math.ceil(Math.min(stop, row + width) / span) * span;
        if (!cells.has(begin)) cells.set(begin, { begin, behind, pages: 0, findings: 0, verdicts: new Map() });
        const cell = cells.get(begin);
        cell.trait = trait;
        cell.pages += Math.min(stop, cell.behind) - Math.max(start, cell.begin);
        cell.findings += findings;
        cell.verdicts.set(verdict, (cell.verdicts.get(verdict) ?? 0) + 1);
      }
      return cells;
    };
    const others = new Map(), folios = new Map();
    for (const [kind, start, stop] of data.others) gather(others, start, stop, kind, 0);
    for (let row = firstIn(from); row < count && columns.pfn[row] < to; row++) {
      const trait = traits[numbers[row]];
      gather(folios, columns.pfn[row], columns.pfn[row] + trait.pages, trait.verdict, columns.findings[row], trait);
    }
    return [...others.values(), ...folios.values()];
  };

  // The first folio with pages from a PFN on.
  const firstIn = (pfn) => {
    let low = 0, high = count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (end(middle) > pfn) high = middle;
      else low = middle + 1;
    }
    return low;
  };

  const lookOf = (cell) => {
    const worst = ["inconsistent", "unreadable"].find((verdict) => cell.verdicts.has(verdict));
    return worst ?? (cell.verdicts.size > 1 ? "mixed" : cell.verdicts.keys().next().value);
  };

  const told = (cell) => {
    let parts = [...cell.verdicts].map(([verdict, times]) => `${times} ${verdict}`);
    if (cell.trait === undefined) parts = [...cell.verdicts.keys()];
    else if (parts.length === 1 && parts[0].startsWith("1 ")) {
      const { hstate, node, state, verdict, layout } = cell.trait;
      parts = [hstate, `node ${node}`, state, verdict, `layout ${layout}`];
    }
    if (cell.findings) parts.push(`findings: ${cell.findings}`);
    return `PFN ${hex(cell.begin)} to ${hex(cell.behind - 1)}, ${size((cell.behind - cell.begin) * PAGE_SIZE)}: ${parts.join(", ")}`;
  };

  const drawn = (from, to) => {
    let span = data.unit;
    while ((to - from) / span > 4096) span *= 2;
    const wide = (to - from) / span <= data.columns;
    const across = wide ? data.columns / 4 : data.columns;
    // Where there is room, each cell has its PFN below it.
    const pitch = WIDTH / across, height = wide ? 42 : 15, inner = wide ? 26 : 13;
    const nodes = [];
    for (let row = from; row < to; row += span * across) {
      const y = 2 + (row - from) / (span * across) * height;
      nodes.push(element("text", { x: LEFT - 8, y: y + inner / 2 + 3, class: "label" }, `${hex(row)} · ${size(row * PAGE_SIZE)}`));
      nodes.push(element("rect", { x: LEFT, y, width: WIDTH - 1, height: inner, class: "track" }));
    }
    for (const cell of cellsOf(from, to, span, span * across)) {
      const row = Math.floor((cell.begin - from) / (span * across));
      const x = LEFT + ((cell.begin - from) / span - row * across) * pitch;
      const filled = Math.max(3, inner * Math.min(1, cell.pages / (cell.behind - cell.begin)));
      const width = (cell.behind - cell.begin) / span * pitch - 1;
      const y = 2 + row * height;
      const found = cell.findings ? " found" : "";
      const rect = element("rect", { x, y: y + inner - filled, width, height: filled, class: `cell ${lookOf(cell)}${found}`, "data-pfn": cell.begin });
      rect.append(element("title", {}, told(cell)));
      nodes.push(rect);
      if (wide) nodes.push(element("text", { x: x + width / 2, y: y + inner + 10, class: "name" }, hex(cell.begin)));
    }
    const box = `0 0 ${svg.viewBox.baseVal.width} ${4 + Math.ceil((to - from) / (span * across)) * height}`;
    const what = `PFN ${hex(from)} to ${hex(to - 1)}, ${size((to - from) * PAGE_SIZE)}`;
    return { span, columns: across, box, nodes, what };
  };

  const look = () => {
    const view = views[views.length - 1];
    svg.setAttribute("viewBox", view.box);
    picture.replaceChildren(...view.nodes);
    cells = [...picture.querySelectorAll(".cell")];
    current = -1;
    tooltip.hidden = true;
    for (const cell of cells) {
      // The browser would show it beside our own.
      const title = cell.querySelector("title");
      if (title === null) continue;
      cell.dataset.told = title.textContent;
      title.remove();
    }
    at("map-output").textContent = "";
    at("map-view").textContent = views.length === 1 ? "This is the whole map."
      : `This is a part of it: ${view.what}; a cell is ${size(view.span * PAGE_SIZE)}.`;
    for (const button of at("map-controls").querySelectorAll("button")) {
      button.disabled = button.dataset.zoom !== "in" && views.length === 1;
    }
  };

  const point = (index) => {
    const cell = cells[index];
    if (cell === undefined) return;
    current = index;
    for (const key of ["x", "y", "width", "height"]) cursor.setAttribute(key, cell.getAttribute(key));
    picture.append(cursor);
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
    at("map-output").textContent = cell.dataset.told;
    const box = cell.getBoundingClientRect();
    tell(cell, box.left + window.scrollX, box.bottom + window.scrollY);
  };

  const tell = (cell, x, y) => {
    tooltip.textContent = cell.dataset.told;
    tooltip.hidden = false;
    const right = document.documentElement.clientWidth - tooltip.offsetWidth - 8;
    tooltip.style.left = `${Math.max(0, Math.min(x + 12, right))}px`;
    tooltip.style.top = `${y + 14}px`;
  };

  const zoomIn = (cell) => {
    if (cell === undefined) return;
    const view = views[views.length - 1];
    const pfn = Number(cell.dataset.pfn);
    if (view.columns < data.columns) {
      tooltip.hidden = true;
      search(hex(pfn));
      at("search").focus();
      return;
    }
    const row = view.span * view.columns;
    const from = Math.floor(pfn / row) * row;
    views.push(drawn(from, from + row));
    look();
    point(Math.max(0, cells.findIndex((inner) => Number(inner.dataset.pfn) >= pfn)));
  };

  const zoomOut = (to) => {
    views.length = Math.max(1, to);
    look();
  };

  // The nearest cell in the next row up or down.
  const beside = (step) => {
    const place = (cell) => ({ x: cell.x.baseVal.value, y: cell.y.baseVal.value + cell.height.baseVal.value });
    const from = place(cells[current]);
    let best = current, least = Infinity;
    cells.forEach((cell, index) => {
      const to = place(cell);
      const distance = (to.y - from.y) * step * 10000 + Math.abs(to.x - from.x);
      if ((to.y - from.y) * step > 1 && distance < least) [best, least] = [index, distance];
    });
    return best;
  };

  const keys = {
    ArrowLeft: () => point(Math.max(0, current - 1)),
    ArrowRight: () => point(Math.min(cells.length - 1, current + 1)),
    ArrowUp: () => point(current < 0 ? 0 : beside(-1)),
    ArrowDown: () => point(current < 0 ? 0 : beside(1)),
    Enter: () => zoomIn(cells[Math.max(0, current)]),
    Escape: () => zoomOut(views.length - 1),
  };
  frame.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    keys[event.key]();
  });
  frame.addEventListener("blur", () => { tooltip.hidden = true; });
  svg.addEventListener("pointermove", (event) => {
    const cell = event.target.closest(".cell");
    if (cell) tell(cell, event.pageX, event.pageY);
    else tooltip.hidden = true;
  });
  svg.addEventListener("pointerleave", () => { tooltip.hidden = true; });
  svg.addEventListener("click", (event) => zoomIn(event.target.closest(".cell") ?? undefined));
  at("map-controls").addEventListener("click", (event) => {
    const steps = { in: () => zoomIn(cells[Math.max(0, current)]), out: () => zoomOut(views.length - 1), whole: () => zoomOut(1) };
    steps[event.target.dataset.zoom]?.();
  });
  at("map-controls").hidden = false;
  look();
})();
